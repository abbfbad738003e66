"""`l2 warehouse`: the one process that owns the embedded engine and serves it over HTTP on the loopback address.

Lease, engine, HTTP front, heartbeat; SIGTERM finishes what is running and closes the engine; what was acknowledged is on disk
anyway. With `--idle-exit S` it ends S seconds after its last request. A managed warehouse takes the place of one that ends by
itself. What does not belong here: requests (front), statements (engine).
"""

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import uvicorn

from l2_platform.clock import Clock, SystemClock
from l2_platform.errors import L2Error, LeaseHeld, WarehouseError
from l2_platform.monitoring.bounds import bounds_record
from l2_platform.monitoring.heartbeat import Heartbeat, Lease, process_start_ticks
from l2_platform.monitoring.logs import configure_logging, get_logger
from l2_platform.settings import Settings, load_settings
from l2_platform.warehouse.engine import Engine
from l2_platform.warehouse.front import Front
from l2_platform.warehouse.start import (
    HOST,
    WarehouseRecord,
    read_record,
    record_path,
    warehouse_password,
    write_record,
)

WORKER: Final = "warehouse"
IDLE_LOOK_S: Final = 0.25
BACKLOG: Final = 512


def serve(settings: Settings, *, idle_exit_s: float | None = None, wait: bool = False, clock: Clock | None = None) -> None:
    """Run until SIGTERM, SIGINT, or the idle time is over; with `wait` a running one is waited for, else LeaseHeld is raised."""
    clock = clock or SystemClock()
    lease = Lease(settings.run_dir / "leases" / WORKER)
    if idle_exit_s is None:
        _take_over(settings, lease, clock, wait=wait)
    else:
        lease.acquire(wait=False)
    try:
        listener = _listen(0 if idle_exit_s is not None else settings.clickhouse.port or settings.ports.warehouse)
        engine = Engine(settings.warehouse_dir, settings.warehouse)
        engine.open()
        try:
            asyncio.run(_Warehouse(settings, engine, listener, idle_exit_s, clock).run())
        finally:
            engine.close()
    finally:
        lease.release()


class _HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: those end the process by the signal itself, before the engine is closed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT ask for a graceful end, nothing more."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask_to_end)
        yield

    def _ask_to_end(self) -> None:
        self.should_exit = True


class _Warehouse:
    """The HTTP server, its record and its heartbeat."""

    def __init__(
        self, settings: Settings, engine: Engine, listener: socket.socket, idle_exit_s: float | None, clock: Clock
    ) -> None:
        self._settings, self._listener, self._idle_exit_s, self._clock = settings, listener, idle_exit_s, clock
        self._front = Front(engine, settings.warehouse, settings.clickhouse.user, warehouse_password(settings), clock)
        self._heartbeat = Heartbeat(settings.run_dir / "heartbeats" / f"{WORKER}.json", WORKER, clock)
        self._log = get_logger(WORKER)
        config = uvicorn.Config(
            self._front.application(self._started, self._stopped),
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            timeout_keep_alive=int(settings.warehouse.keep_alive_s),
            timeout_graceful_shutdown=int(settings.supervision.stop_s),
            backlog=BACKLOG,
            limit_concurrency=settings.warehouse.connections_max,
            server_header=False,
        )
        self._server = _HttpServer(config)

    async def run(self) -> None:
        """Serve; the heartbeat and the idle clock run beside."""
        beats = asyncio.ensure_future(self._beat())
        idle = asyncio.ensure_future(self._watch_idle())
        try:
            await self._server.serve(sockets=[self._listener])
        finally:
            for task in (beats, idle):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    def _started(self) -> None:
        pid = os.getpid()
        port = self._listener.getsockname()[1]
        idle = self._idle_exit_s is not None
        write_record(
            record_path(self._settings), WarehouseRecord(pid, process_start_ticks(pid) or 0, port, self._clock.now_ns(), idle)
        )
        self._log.info("warehouse_started", port=port, idle=idle, directory=str(self._settings.warehouse_dir))

    def _stopped(self) -> None:
        record_path(self._settings).unlink(missing_ok=True)
        self._heartbeat.beat("stopped", requests=self._front.activity.requests)
        self._log.info("warehouse_stopped", requests=self._front.activity.requests, failed=self._front.activity.failed)

    async def _beat(self) -> None:
        while True:
            activity = self._front.activity
            self._heartbeat.beat(
                "live", running=activity.running, waiting=activity.waiting, requests=activity.requests, failed=activity.failed,
                rows_written=activity.rows_written, bounds=bounds_record(self._front.bounds),
            )  # fmt: skip
            await asyncio.sleep(self._settings.supervision.heartbeat_s)

    async def _watch_idle(self) -> None:
        while self._idle_exit_s is not None:
            await asyncio.sleep(min(IDLE_LOOK_S, self._idle_exit_s))
            activity = self._front.activity
            quiet_s = (self._clock.monotonic_ns() - activity.last_ns) / 1e9
            if not activity.running and quiet_s >= self._idle_exit_s:
                # Gone from the record first: whoever looks from now on starts a new one, which waits for our lease to end.
                record_path(self._settings).unlink(missing_ok=True)
                self._server.should_exit = True
                return


def _take_over(settings: Settings, lease: Lease, clock: Clock, *, wait: bool) -> None:
    """Get the lease; a warehouse that would end by itself is asked to end now, any other keeps its place."""
    deadline = clock.monotonic_ns() + int(settings.supervision.stop_s * 1e9)
    while True:
        try:
            lease.acquire(wait=False)
        except LeaseHeld:
            record = read_record(record_path(settings))
            if record is not None and record.idle:
                with suppress(ProcessLookupError):
                    os.kill(record.pid, signal.SIGTERM)
            elif not wait and (record is not None or clock.monotonic_ns() > deadline):
                raise
            clock.sleep(IDLE_LOOK_S)
        else:
            return


def _listen(port: int) -> socket.socket:
    """A listening socket on the loopback address; bound before the engine opens, so that a taken port is told at once."""
    # with the protocol named: asyncio sets TCP_NODELAY only then, and without it every answer waits 40 ms
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise WarehouseError(
            f"port {port} on {HOST} is taken ({error.strerror}); set L2_PORTS__BASE to move every port, or L2_CLICKHOUSE__PORT"
        ) from None
    return listener


def main(arguments: list[str] | None = None) -> int:
    """`python -m l2_platform.warehouse.server [--idle-exit S]`; the exit code."""
    parser = argparse.ArgumentParser(description="Serve the embedded warehouse.")
    parser.add_argument("--idle-exit", type=float, default=None, metavar="S", help="end S seconds after the last request")
    given = parser.parse_args(arguments)
    try:
        settings = load_settings()
        configure_logging(WORKER, settings.log)
        # Started by a process manager, which starts it again at once: waiting for the lease is the calm way.
        serve(settings, idle_exit_s=given.idle_exit, wait=True)
    except L2Error as error:
        sys.stderr.write(f"{error.message}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

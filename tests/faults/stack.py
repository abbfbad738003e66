"""The processes of one home: simulated market, collectors, warehouse, deliveries, each real, each started and killed by the test.

What belongs here: starting, signalling, waiting, heartbeats, what a process uses. What does not: what is right (`checkers`).
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from l2_platform.clock import SystemClock
from l2_platform.feeds.iqfeed.simulator.control import ask
from l2_platform.monitoring.heartbeat import HeartbeatRecord, read_heartbeat
from l2_platform.warehouse.client import connect
from l2_platform.warehouse.start import warehouse_password
from tests.faults.proxy import FaultProxy
from tests.integration.homes import L2, Home
from tests.integration.ports import free_base

DEPTH, LEVEL1 = "iqfeed-depth-0", "iqfeed-level1-0"
DEPTH_COLLECTOR, LEVEL1_COLLECTOR = f"collector-{DEPTH}", f"collector-{LEVEL1}"
COLLECTORS = (DEPTH_COLLECTOR, LEVEL1_COLLECTOR)
DELIVERIES = ("deliver-clickhouse", "deliver-jsonl")
DAY_S = 86_400
_MODULE = [sys.executable, "-m"]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process holds at one moment."""

    rss_bytes: int
    descriptors: int
    threads: int


class Stack:
    """The processes of one home; `kill` is SIGKILL and an immediate restart, as the process manager does it."""

    def __init__(self, home: Home, market: "Stack | None" = None) -> None:
        """`market`: the stack whose simulated market this one uses; None when it runs its own."""
        self.home = home
        self.ledger = (market or self).home.path / "simulator" / "ledger"
        self.since_ns = SystemClock().now_ns()
        """Connections that the ledger tells of from here on are this stack's."""
        self.commands: dict[str, list[str]] = {
            "simulator": [str(L2), "simulate"],
            "warehouse": [*_MODULE, "l2_platform.warehouse.server"],
            DEPTH_COLLECTOR: [*_MODULE, "l2_platform.collectors", DEPTH, "--wait"],
            LEVEL1_COLLECTOR: [*_MODULE, "l2_platform.collectors", LEVEL1, "--wait"],
            "deliver-clickhouse": [*_MODULE, "l2_platform.delivery", "clickhouse", "--wait"],
            "deliver-jsonl": [*_MODULE, "l2_platform.delivery", "jsonl", "--wait"],
        }
        self.environments: dict[str, dict[str, str]] = {}
        """Variables of one process only, e.g. a feed address that leads through a proxy."""
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str) -> None:
        """Start these, in this order."""
        for name in names:
            with (self.home.path / f"{name}.out").open("ab") as file:
                self.processes[name] = subprocess.Popen(
                    self.commands[name], env=self.home.environment | self.environments.get(name, {}), stdout=file,
                    stderr=file, cwd=self.home.path,
                )  # fmt: skip

    def signal(self, name: str, number: int) -> None:
        """Send a signal to it."""
        self.processes[name].send_signal(number)

    def end(self, name: str) -> None:
        """SIGKILL, without a restart."""
        process = self.processes.pop(name)
        process.kill()
        process.wait(30)

    def kill(self, name: str) -> None:
        """SIGKILL and start again."""
        self.end(name)
        self.start(name)

    def beat(self, name: str) -> HeartbeatRecord | None:
        """The heartbeat of the present process, None while it has none."""
        record = read_heartbeat(self.home.path / "run" / "heartbeats" / f"{name}.json")
        return record if record and record.pid == self.processes[name].pid else None

    def number(self, name: str, key: str) -> Any:
        """One number of its heartbeat, None while it is not told."""
        record = self.beat(name)
        return None if record is None else record.numbers.get(key)

    def output(self, name: str) -> str:
        """What it printed and logged to its standard streams, over all its starts."""
        return (self.home.path / f"{name}.out").read_text(errors="replace")

    def until(self, what: str, reached: Callable[[], Any], seconds: float = 180) -> Any:
        """The first true answer of `reached`; fails after `seconds`, or when one of the processes ends meanwhile."""
        deadline = time.monotonic() + seconds
        while not (found := reached()):
            for name, process in self.processes.items():
                assert process.poll() is None, f"{name} ended:\n{self.output(name)[-3000:]}"
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
            time.sleep(0.05)
        return found

    def live(self, *names: str, seconds: float = 180) -> None:
        """Wait until each of these says that it is live."""

        def all_live() -> bool:
            return all((beat := self.beat(name)) is not None and beat.state == "live" for name in names)

        self.until(f"{', '.join(names)} live", all_live, seconds)

    def state(self, name: str, state: str, seconds: float = 60) -> HeartbeatRecord:
        """Wait until it says that it is in this state; what it said."""

        def reached() -> HeartbeatRecord | None:
            beat = self.beat(name)
            return beat if beat is not None and beat.state == state else None

        found: HeartbeatRecord = self.until(f"{name} {state}", reached, seconds)
        return found

    def stop(self, name: str) -> None:
        """SIGTERM; it must end by itself with exit code 0."""
        process = self.processes.pop(name)
        process.terminate()
        assert process.wait(60) == 0, f"{name}:\n{self.output(name)[-3000:]}"

    def usage(self, name: str) -> Usage:
        """What the present process uses."""
        process = psutil.Process(self.processes[name].pid)
        return Usage(process.memory_info().rss, process.num_fds(), process.num_threads())

    def market(self, cmd: str, **fields: Any) -> dict[str, Any]:
        """Tell the simulated market to do something; it must say ok."""
        answer = ask(self.home.settings.ports.simulator_control, {"cmd": cmd, **fields})
        assert answer["ok"], answer
        return answer

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Rows of a query of its warehouse, by this process: what waits may ask often."""
        settings = self.home.settings
        client = connect(settings)
        try:
            client.database = settings.clickhouse.database
            return list(client.query(query).named_results())
        finally:
            client.close()

    def close_links(self) -> None:
        """End every link of the market that is left, so that the ledger tells all of it."""
        for channel in ("depth", "level1", "admin"):
            self.market("drop", channel=channel)
        self.until("every link of the market ended", lambda: not self.market("status")["clients"], 30)

    def symbols(self, names: Sequence[str]) -> None:
        """Write the symbols file: one group with these."""
        text = f"version = 1\n\n[groups.demo]\nenabled = true\nsymbols = {json.dumps(list(names))}\n"
        file = self.home.settings.symbols_file
        file.with_suffix(".new").write_text(text)
        file.with_suffix(".new").rename(file)

    def close(self) -> None:
        """End everything that still runs, stopped processes too."""
        for process in self.processes.values():
            process.kill()
            process.wait()


def simulated(count: int, of: int = 1000) -> list[str]:
    """The first `count` names of a simulated market of `of` symbols: a larger market's names are wider."""
    width = max(3, len(str(max(count, of) - 1)))
    return [f"SYM{number:0{width}d}" for number in range(count)]


def short_waits() -> dict[str, str]:
    """Settings that make a test short: silences noticed and written positions kept within seconds."""
    last_hour = time.gmtime().tm_hour == 23
    return {
        "L2_SIMULATOR__LEDGER_BYTES_MAX": str(1 << 34), "L2_DELIVERY__CHECKPOINT_S": "1", "L2_JSONL__SYNC_S": "0.3",
        "L2_JSONL__L2_INTERVAL_MS": "0", "L2_FEED__SILENCE_S": "4", "L2_FEED__SUSPECT_S": "2",
        "L2_DISK__RESERVE_BYTES": str(1 << 20),
        # No session may end while a test runs: the simulated market's rolls at 00:00 UTC, New York's an hour or more later.
        "L2_SESSION__CALENDAR": "XNYS" if last_hour else "always_open",
    }  # fmt: skip


def before_midnight(seconds: float) -> None:
    """Wait until midnight UTC has passed when fewer seconds are left: for tests that need a market which is open, and no roll."""
    left = DAY_S - SystemClock().now_ns() / 1e9 % DAY_S
    if left < seconds:
        time.sleep(left + 1)


@contextmanager
def stack_of(folder: Path, numba_cache: Path, market: Stack | None = None, **settings: Any) -> Iterator[Stack]:
    """A stack in a home of its own; settings as `simulator__rate=1200`. Everything is ended when the block ends.

    With `market` it has that one's ports and simulated market, which goes on afterwards.
    """
    chosen = {f"L2_{name.upper()}": str(value) for name, value in settings.items()}
    base = market.home.base if market is not None else free_base()
    found = Stack(Home(folder, numba_cache, short_waits() | chosen, base), market)
    try:
        yield found
    finally:
        found.close()


def proxied(stack: Stack, name: str, *, recording: bool = False) -> FaultProxy:
    """A proxy (a context manager) between a worker and what it talks to: the feed, or the warehouse. Before the worker is started."""
    settings = stack.home.settings
    ports = settings.ports
    if name == "deliver-clickhouse":
        proxy = FaultProxy(ports.warehouse, recording=recording)
        stack.environments[name] = {
            "L2_CLICKHOUSE__EMBEDDED": "false", "L2_CLICKHOUSE__PORT": str(proxy.port),
            "L2_CLICKHOUSE__PASSWORD": warehouse_password(settings),
        }  # fmt: skip
        return proxy
    target = {DEPTH_COLLECTOR: ports.level2, LEVEL1_COLLECTOR: ports.level1}[name]
    base = free_base()
    stack.environments[name] = {"L2_PORTS__BASE": str(base)}
    return FaultProxy(target, port=base + target - stack.home.base, recording=recording)


def stopped(pid: int) -> bool:
    """The process is stopped by a signal now."""
    return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)


def freeze(stack: Stack, name: str) -> int:
    """SIGSTOP it and wait until the kernel has stopped it; its pid."""
    pid = stack.processes[name].pid
    os.kill(pid, signal.SIGSTOP)
    stack.until(f"{name} stopped by the kernel", lambda: stopped(pid), 10)
    return pid

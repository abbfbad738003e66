"""The platform's real processes in a throw-away home, for figures about the whole path: start, watch, count, stop.

What does not belong here: what is measured (path.py, latency.py, memory.py, startup.py).
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from benchmarks.figure import NotMeasurable
from l2_platform.clock import SystemClock
from l2_platform.feeds.iqfeed.simulator.control import ask
from l2_platform.market.sessions import load_calendar
from l2_platform.monitoring.heartbeat import HeartbeatRecord, read_heartbeat
from l2_platform.settings import Settings, load_settings
from l2_platform.warehouse.http import PlainClient
from l2_platform.warehouse.start import warehouse_password

DEPTH: Final = "iqfeed-depth-0"
LEVEL1: Final = "iqfeed-level1-0"
STREAMS: Final = (DEPTH, LEVEL1)
COLLECTORS: Final = tuple(f"collector-{stream}" for stream in STREAMS)
DELIVERIES: Final = ("deliver-clickhouse", "deliver-jsonl")
SYMBOLS_FILE: Final = "version = 1\n\n[groups.all]\nenabled = true\nsymbols = {names}\n"
START_S: Final = 600.0
EVENING: Final = 21
"""Hour of the day, UTC."""
HOUR_NS: Final = 3600 * 10**9
STILL: Final = 0.001
"""Messages a second of a market that stands still."""
STILL_BEHIND_MS: Final = 50.0
STILL_S: Final = 0.2
TRACE: Final = "BENCH_TRACE"
"""Variable that names the file into which a traced process writes its times (traced.py)."""


class Stack:
    """One home with a simulated market, two collectors, the warehouse and two deliveries; use it in a `with`."""

    def __init__(
        self, home: Path, *, symbols: int, rate: float, variables: Mapping[str, str] | None = None, traced: bool = False,
        sinks: tuple[str, ...] = ("clickhouse", "jsonl"),
    ) -> None:  # fmt: skip
        """`rate`: messages a second of both services together; `traced`: collectors and deliveries note their times."""
        self.home = home
        self.symbols = symbols
        self.traced = traced
        self.variables = {
            "L2_HOME": str(home), "L2_PORTS__BASE": str(free_base()), "L2_SIMULATOR__SYMBOLS": str(symbols),
            "L2_SIMULATOR__RATE": f"{rate:g}", "L2_SYMBOLS__LIMIT": "10000", "L2_SESSION__CALENDAR": calendar_of_the_hour(),
            "L2_STREAMS": ",".join(STREAMS), "L2_DISK__RESERVE_BYTES": str(1 << 30), **(variables or {}),
        }  # fmt: skip
        home.mkdir(parents=True, exist_ok=True)
        self.settings = self._load()
        self.deliveries = tuple(f"deliver-{sink}" for sink in sinks)
        python = [sys.executable, "-m"]
        run = [*python, "benchmarks.traced"] if traced else python
        self.commands = {
            "simulator": [str(Path(sys.executable).parent / "l2"), "simulate", "--flat"],
            "warehouse": [*python, "l2_platform.warehouse.server"],
            **{f"collector-{name}": [*run, "l2_platform.collectors", name, "--wait"] for name in STREAMS},
            **{f"deliver-{name}": [*run, "l2_platform.delivery", name, "--wait"] for name in sinks},
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Stack":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    def _load(self) -> Settings:
        before = dict(os.environ)
        try:
            os.environ.update(self.variables)
            return load_settings()
        finally:
            os.environ.clear()
            os.environ.update(before)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of its processes."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("L2_")}
        root = str(Path(__file__).resolve().parents[1])
        return inherited | self.variables | {"PYTHONPATH": root}

    def compile(self) -> None:
        """Fill the kernel cache, so that no start compiles."""
        for name in ("depth", "level1", "simulator"):
            command = [sys.executable, "-m", "l2_platform.operations.kernels", name]
            subprocess.run(command, env=self.environment, check=True, timeout=START_S)

    def start_all(self) -> None:
        """Market and warehouse first, then the workers; returns when all are live and every symbol is watched."""
        self.write_symbols()
        self.start("simulator", "warehouse")
        self.until_live("simulator", "warehouse")
        self.start(*self.deliveries)
        self.until_live(*self.deliveries)
        self.start(*COLLECTORS)
        self.until(
            "every symbol watched",
            lambda: all(self.numbers(name).get("watched", 0) >= self.symbols for name in COLLECTORS),
        )
        # what the collectors sent may still wait in a socket: the market makes messages of symbols that nobody asked for yet
        self.until("every watch taken by the market", self._all_taken)

    def _all_taken(self) -> bool:
        taken = {client["channel"]: int(client["watched"]) for client in self.market()["clients"]}
        return all(taken.get(stream.split("-")[1], 0) >= self.symbols for stream in (DEPTH, LEVEL1))

    def write_symbols(self) -> None:
        """The symbols file: every symbol of the market."""
        width = max(3, len(str(self.symbols - 1)))
        names = [f"SYM{number:0{width}d}" for number in range(self.symbols)]
        self.settings.symbols_file.write_text(SYMBOLS_FILE.format(names=json.dumps(names)))

    def start(self, *names: str) -> None:
        """Start processes; their output goes to files in the home."""
        for name in names:
            environment = self.environment | ({TRACE: str(self.trace_file(name))} if self.traced else {})
            with (self.home / f"{name}.out").open("ab") as out:
                self.processes[name] = subprocess.Popen(
                    self.commands[name], env=environment, stdout=out, stderr=out, cwd=self.home
                )

    def stop(self, *names: str) -> None:
        """SIGTERM, one after the other; NotMeasurable when one does not end well."""
        for name in names:
            process = self.processes.pop(name)
            process.terminate()
            try:
                code = process.wait(90)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                code = -9
            if code:
                raise NotMeasurable(f"{name} ended with {code}: {self.tail(name)}")

    def kill(self, name: str) -> None:
        """SIGKILL."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop_all(self) -> None:
        """Collectors, then deliveries (they drain), then the rest."""
        for group in (COLLECTORS, self.deliveries, ("warehouse", "simulator")):
            self.stop(*(name for name in group if name in self.processes))

    def trace_file(self, name: str) -> Path:
        """Where a traced process writes its times."""
        return self.home / f"{name}.trace.npz"

    def tail(self, name: str) -> str:
        """The end of a process's output."""
        path = self.home / f"{name}.out"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    def beat(self, name: str) -> HeartbeatRecord | None:
        """The heartbeat of the present process."""
        record = read_heartbeat(self.settings.run_dir / "heartbeats" / f"{name}.json")
        process = self.processes.get(name)
        return record if record is not None and process is not None and record.pid == process.pid else None

    def numbers(self, name: str) -> Mapping[str, Any]:
        """The numbers of the heartbeat; empty while there is none."""
        beat = self.beat(name)
        return beat.numbers if beat is not None else {}

    def until(self, what: str, reached: Callable[[], Any], seconds: float = START_S) -> float:
        """Wait until it holds; seconds waited. NotMeasurable when it does not, or when a process ended."""
        started = time.monotonic()
        while not reached():
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise NotMeasurable(f"{name} ended while waiting for {what}: {self.tail(name)}")
            if time.monotonic() - started > seconds:
                raise NotMeasurable(f"not within {seconds:g} s: {what}")
            time.sleep(0.02)
        return time.monotonic() - started

    def until_live(self, *names: str) -> float:
        """Wait until the processes say that they are live."""
        return self.until(
            f"{', '.join(names)} live",
            lambda: all((beat := self.beat(name)) and beat.state == "live" for name in names),
        )

    def delivered(self, name: str) -> int:
        """Lines of both streams that a delivery says are in its sink."""
        streams = self.numbers(name).get("streams", {})
        return sum(int(streams.get(stream, {}).get("seq", 0)) for stream in STREAMS)

    def received(self) -> int:
        """Lines that the collectors say are journaled."""
        return sum(int(self.numbers(name).get("last_seq", 0)) for name in COLLECTORS)

    def until_drained(self, seconds: float) -> float:
        """Wait until both deliveries have all that the collectors took; they must have stopped before."""
        wanted = {stream: self._last_seq(stream) for stream in STREAMS}

        def reached() -> bool:
            return all(
                self.numbers(name).get("streams", {}).get(stream, {}).get("seq", 0) >= seq
                for name in self.deliveries for stream, seq in wanted.items()
            )  # fmt: skip

        return self.until("deliveries at the journal's end", reached, seconds)

    def _last_seq(self, stream: str) -> int:
        from l2_platform.journal.reader import read_durable

        durable = read_durable(self.settings.run_dir / "durable" / stream)
        return durable.seq if durable is not None else 0

    def set_rate(self, rate: float) -> None:
        """Messages a second from now on."""
        ask(self.settings.ports.simulator_control, {"cmd": "rate", "rate": rate, "flat": True})

    def made(self) -> dict[str, int]:
        """Messages of each stream that the market made so far."""
        market = self.market()
        return {DEPTH: int(market["depth_messages"]), LEVEL1: int(market["level1_messages"])}

    def until_still(self) -> None:
        """Let the market stand still, and wait until all that it made has reached the collectors."""
        self.set_rate(STILL)
        self.until("the market on time", lambda: float(self.market()["behind_ms"]) < STILL_BEHIND_MS)
        made = self.made()
        time.sleep(STILL_S)
        self.until("the market still", lambda: self.made() == made)
        sent: dict[str, Any] = {}

        def arrived() -> bool:
            return all(
                int(self.numbers(f"collector-{stream}").get("bytes", 0)) >= sent[stream.split("-")[1]]["bytes_out"]
                for stream in STREAMS
            )  # fmt: skip

        self.until("nothing queued", lambda: not any(client["queued"] for client in self.market()["clients"]))
        sent = {client["channel"]: client for client in self.market()["clients"]}
        self.until("all bytes with the collectors", arrived)

    def market(self) -> dict[str, Any]:
        """What the simulated market says of itself."""
        return ask(self.settings.ports.simulator_control, {"cmd": "status"})

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds of each process so far."""
        found = {}
        for name, process in self.processes.items():
            times = psutil.Process(process.pid).cpu_times()
            found[name] = times.user + times.system
        return found

    def rss_mb(self) -> dict[str, float]:
        """Resident memory of each process, MB."""
        return {name: psutil.Process(process.pid).memory_info().rss / 1e6 for name, process in self.processes.items()}

    def client(self) -> PlainClient:
        """A client of the warehouse; close it."""
        settings = self.settings
        port = settings.clickhouse.port or settings.ports.warehouse
        return PlainClient("127.0.0.1", port, settings.clickhouse.user, warehouse_password(settings), timeout_s=600)

    def rows(self, sql: str) -> list[list[str]]:
        """A small result as text."""
        client = self.client()
        try:
            return client.query(sql)
        finally:
            client.close()

    def columns(self, sql: str, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """A large result of fixed-width columns (`FORMAT RowBinary`) as a structured array."""
        client = self.client()
        try:
            return np.frombuffer(client.post(sql.encode(), {"default_format": "RowBinary"}), dtype)
        finally:
            client.close()


def calendar_of_the_hour() -> str:
    """A calendar that is open for another hour: in the evening, when the dates of `always_open` soon end, New York's if it trades."""
    now_ns, calendar = SystemClock().now_ns(), load_calendar("XNYS")
    windows = calendar.windows(calendar.session_date_of(now_ns))
    trades = windows[0].start <= now_ns < windows[-1].end - HOUR_NS
    return "XNYS" if time.gmtime().tm_hour >= EVENING and trades else "always_open"


def free_base() -> int:
    """A port base below the range of outgoing connections with the ports of an instance free."""
    for base in range(16_000 + os.getpid() % 60 * 50, 20_000, 50):
        if all(_is_free(base + offset) for offset in (0, 1, 2, 9, 10, 20, 30, 39)):
            return base
    raise NotMeasurable("no free ports between 16000 and 20000")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

"""Small stored days whose lines are known, written as a recorder writes them, and plain clients of whoever serves them."""

import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from l2_platform.clock import SystemClock
from l2_platform.feeds.iqfeed.simulator.control import ask
from l2_platform.journal.writer import JournalWriter
from l2_platform.replay.serving import Order, Outcome, serve
from l2_platform.replay.warm import warm
from l2_platform.settings import Settings
from tests.integration.ports import free_base

START = 1_753_452_000_000_000_000
"""2025-07-25 10:00:00 in New York."""
DATE = 20250725
DEPTH, LEVEL1 = "iqfeed-depth-0", "iqfeed-level1-0"
MS = 1_000_000
FIELDS = ("Most Recent Trade", "Bid", "Ask", "Message Contents")
Step = tuple[int, bytes | dict[str, Any]]
"""ms after START, and lines or a control (`event` and its fields)."""


def settings_in(home: Path, **sections: Any) -> Settings:
    """Settings of a home with ports of its own; waits are short."""
    replay = {"settle_s": 0.2, "stall_s": 3, "report_s": 0.2} | sections.pop("replay", {})
    return Settings(home=home, ports={"base": free_base()}, replay=replay, **sections)


def write_stream(settings: Settings, stream: str, steps: Iterable[Step]) -> None:
    """One closed stream of DATE."""
    durable = settings.run_dir / "durable" / stream
    durable.parent.mkdir(parents=True, exist_ok=True)
    writer = JournalWriter(
        settings.journal_dir, stream, settings.journal, SystemClock(), calendar="always_open", durable_path=durable
    )
    writer.open(DATE)
    writer.control("session", START, 0, session_date=DATE, reset=True)
    conn = 1
    for after_ms, step in steps:
        ts = START + after_ms * MS
        if isinstance(step, bytes):
            writer.append(step, step.count(b"\n"), ts, conn, 0)
        else:
            conn += step["event"] == "connect"
            writer.control(step["event"], ts, conn, **{key: value for key, value in step.items() if key != "event"})
    writer.close()


def order(number: int, symbol: str = "AAA", letter: str = "3") -> bytes:
    """A depth line; the order id is the number."""
    second, rest = divmod(number, 100)
    at = f"10:{second // 60 % 60:02d}:{second % 60:02d}.{rest:02d}0000,2025-07-25,"
    return f"{letter},{symbol},{number},,{'AB'[number % 2]},{100 + number % 7}.2500,{number % 90 + 1},{number},4,{at}\r\n".encode()


def quote(number: int, symbol: str = "AAA", contents: str = "ba") -> bytes:
    """A Level 1 line in the columns FIELDS."""
    return f"Q,{symbol},{100 + number % 7}.5,{number}.25,{number}.75,{contents},\r\n".encode()


TALK = b"S,KEY,777\r\nS,SERVER CONNECTED\r\nS,CUST,real_time,1.2.3.4,60002,x,6.2,,NYSE,,500,,,\r\nS,CURRENT PROTOCOL,6.2\r\n"
ACK = b"S,CURRENT UPDATE FIELDNAMES,Symbol," + ",".join(FIELDS).encode() + b",\r\n"


def depth_day(count: int = 400, every_ms: int = 10) -> list[Step]:
    """Orders of AAA and BBB in turn, each `every_ms`; a clock line each second; the link's talk at the beginning."""
    steps: list[Step] = [(0, {"event": "connect"}), (0, TALK)]
    for number in range(1, count + 1):
        at = number * every_ms
        if at % 1000 == 0:
            steps.append((at, f"T,20250725 10:00:{at // 1000 % 60:02d}\r\n".encode()))
        steps.append((at, order(number, ("AAA", "BBB")[number // 2 % 2])))
    return steps


def level1_day(count: int = 200, every_ms: int = 20) -> list[Step]:
    """Quotes of AAA and BBB in turn, every tenth a trade."""
    steps: list[Step] = [(0, {"event": "connect"}), (0, TALK + ACK), (1, b"F,AAA,fundamental,\r\nF,BBB,fundamental,\r\n")]
    for number in range(1, count + 1):
        steps.append((number * every_ms, quote(number, ("AAA", "BBB")[number % 2], "Cba" if number % 10 == 0 else "ba")))
    return steps


def lines_of(steps: Iterable[Step], start: bytes) -> list[bytes]:
    """Stored lines that begin so, in order."""
    found = (line for _, step in steps if isinstance(step, bytes) for line in step.splitlines(keepends=True))
    return [line for line in found if line.startswith(start)]


class Client:
    """Reads everything in a thread, when it is told to; sends commands."""

    def __init__(self, port: int, *commands: str, reads: bool = True) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.data = bytearray()
        self._thread = threading.Thread(target=self._read)
        self.send("S,SET PROTOCOL,6.2", *commands)
        if reads:
            self._thread.start()

    def send(self, *commands: str) -> None:
        """Lines to the server."""
        self.socket.sendall("".join(f"{command}\r\n" for command in commands).encode())

    def lines(self) -> list[bytes]:
        """Whole lines so far."""
        return bytes(self.data).splitlines(keepends=True)

    def of(self, letters: bytes) -> list[bytes]:
        """Lines that begin with one of the letters."""
        return [line for line in self.lines() if line[:1] in [bytes([letter]) for letter in letters] and line[1:2] == b","]

    def until(self, what: str, reached: Callable[[], Any], seconds: float = 60) -> None:
        """Wait for something."""
        end = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < end, f"not seen: {what}; last {self.lines()[-3:]}"
            time.sleep(0.01)

    def finish(self) -> "Client":
        """Read to the end of the connection."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self

    def _read(self) -> None:
        try:
            while data := self.socket.recv(1 << 16):
                self.data += data
        except OSError:
            return


@dataclass
class Serving:
    """`serve` in a thread."""

    settings: Settings
    order: Order
    outcome: list[Outcome] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)

    def __enter__(self) -> "Serving":
        # kernels that are not in the cache take minutes on a busy machine: not a part of any wait
        warm()
        self._stop = threading.Event()
        opened = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(opened,))
        self._thread.start()
        assert opened.wait(240)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        for client in self.clients:
            client.socket.close()

    def _run(self, opened: threading.Event) -> None:
        self.outcome.append(serve(self.settings, self.order, stop=self._stop, opened=opened.set))

    def client(self, channel: str, *commands: str, reads: bool = True) -> Client:
        """A client of `depth` or `level1`."""
        ports = self.settings.ports
        self.clients.append(Client(ports.level2 if channel == "depth" else ports.level1, *commands, reads=reads))
        return self.clients[-1]

    def ask(self, cmd: str, **fields: Any) -> dict[str, Any]:
        """A command that must succeed."""
        answer = ask(self.settings.ports.simulator_control, {"cmd": cmd, **fields})
        assert answer["ok"], answer
        return answer

    def end(self) -> Outcome:
        """Wait for its end."""
        self._thread.join(120)
        assert not self._thread.is_alive()
        return self.outcome[0]

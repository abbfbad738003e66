"""The feed and the network between: a market that goes on whether or not anybody listens, over connections that break.

The market numbers every message (`order_id`), keeps the ledger of what it made and of the bytes that each connection handed to the
collector. What does not belong here: judging (oracle), when faults happen (world).
"""

import errno
import random
from collections import deque
from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

from l2_platform.feeds.iqfeed.connection import ConnectionOptions, Network, Socket
from tests.simulation.schedule import NS, Schedule, SimClock, Task

MS = 1_000_000
CALM_MS = (25, 200)
"""Time between two batches of messages."""
SYMBOLS = ("SYM000", "SYM001", "SYM002", "SYM003")
NEW_YORK = ZoneInfo("America/New_York")


class Message:
    """One message of the market, whoever heard it."""

    __slots__ = ("at", "due", "number", "symbol", "wall")

    def __init__(self, number: int, symbol: str, at: int, wall: int) -> None:
        self.number, self.symbol, self.at, self.wall = number, symbol, at, wall
        self.due = wall
        """When it would have arrived, had it not been lost: a network may hold it."""


class Wire:
    """One connection as both ends see it."""

    def __init__(self, market: "Market", owner: str, number: int) -> None:
        self.market = market
        self.owner = owner
        self.number = number
        self.inbound: deque[tuple[int, bytes]] = deque()
        self.last_at = 0
        self.end: tuple[int, str] | None = None
        self.silent = False
        """Half-open: nothing arrives any more, and nobody says so."""
        self.held_until = 0
        self.watched: set[str] = set()
        self.received = bytearray()
        """What `recv` returned: the obligation."""
        self.reads: list[tuple[int, int]] = []
        """(when, length so far) of each read."""
        self.closed = False
        self.timeout = 0.0
        self.waiting: Task | None = None
        self.commands = b""

    def push(self, data: bytes, rng: random.Random) -> None:
        """Bytes leave the feed, in pieces that arrive one after the other."""
        if self.end is not None or self.silent:
            return
        now = self.market.schedule.now
        at = max(self.last_at, now + rng.randint(10_000, 2 * MS), self.held_until)
        begin = 0
        while begin < len(data):
            size = len(data) - begin if rng.random() < 0.7 else rng.randint(1, len(data) - begin)
            self.inbound.append((at, data[begin : begin + size]))
            begin += size
            at += rng.randint(0, MS)
        self.last_at = at
        self._arrived()

    def cut(self, how: str, rng: random.Random) -> None:
        """The connection ends; of what is under way a part is lost."""
        if self.end is not None:
            return
        keep = rng.choice((len(self.inbound), rng.randint(0, len(self.inbound))))
        while len(self.inbound) > keep:
            self.inbound.pop()
        if self.inbound and rng.random() < 0.5:
            at, data = self.inbound.pop()
            self.inbound.append((at, data[: rng.randint(1, len(data))]))
        self.end = max(self.last_at, self.market.schedule.now), how
        self._arrived()

    def _arrived(self) -> None:
        if self.waiting is not None:
            self.market.schedule.wake(self.waiting)


class SimSocket:
    """The collector's end."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def fileno(self) -> int:
        return -1

    def recv_into(self, buffer: memoryview, /) -> int:
        wire, schedule = self._wire, self._wire.market.schedule
        schedule.sleep(2_000)
        deadline = schedule.now + int(wire.timeout * NS)
        while True:
            if not wire.silent and wire.inbound and wire.inbound[0][0] <= schedule.now:
                return self._take(buffer)
            if not wire.silent and not wire.inbound and wire.end is not None and wire.end[0] <= schedule.now:
                if wire.end[1] == "rst":
                    raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
                return 0
            if schedule.now >= deadline:
                raise TimeoutError("timed out")
            due = [deadline]
            if not wire.silent:
                due += [wire.inbound[0][0]] if wire.inbound else []
                due += [wire.end[0]] if wire.end is not None and not wire.inbound else []
            wire.waiting = schedule.current
            schedule.block(max(min(due), schedule.now + 1))
            wire.waiting = None

    def _take(self, buffer: memoryview) -> int:
        wire = self._wire
        taken = 0
        while wire.inbound and wire.inbound[0][0] <= wire.market.schedule.now and taken < len(buffer):
            at, data = wire.inbound.popleft()
            part = data[: len(buffer) - taken]
            if len(part) < len(data):
                wire.inbound.appendleft((at, data[len(part) :]))
            buffer[taken : taken + len(part)] = part
            taken += len(part)
        wire.received += buffer[:taken]
        wire.reads.append((wire.market.schedule.now, len(wire.received)))
        wire.market.trace("recv", wire.number, taken)
        return taken

    def send(self, data: bytes, /) -> int:
        self._wire.market.schedule.sleep(2_000)
        if self._wire.end is not None and self._wire.end[1] == "rst":
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        if not self._wire.silent and self._wire.end is None:
            self._wire.market.commanded(self._wire, data)
        return len(data)

    def settimeout(self, value: float, /) -> None:
        self._wire.timeout = value

    def close(self) -> None:
        self._wire.closed = True


class SimNetwork(Network):
    """What one process reaches."""

    def __init__(self, market: "Market", owner: str) -> None:
        self._market = market
        self._owner = owner

    def connect(self, host: str, port: int, options: ConnectionOptions) -> Socket:
        return self._market.connected(self._owner, options.connect_timeout_s)

    def writable(self, sock: Socket) -> bool:
        return True


class Market:
    """Makes messages from `open` to `close`, and answers commands."""

    def __init__(self, schedule: Schedule, clock: SimClock, rng: random.Random, trace: Callable[..., None]) -> None:
        self.schedule, self.clock, self.rng, self.trace = schedule, clock, rng, trace
        self.messages: list[Message] = []
        self.wires: list[Wire] = []
        self.attempts: list[int] = []
        """When somebody tried to connect, ns."""
        self.listening = True
        self.black_hole = False
        self.upstream = True
        self.garbage = False
        self.repeats = False
        self.running = True
        self.pace_ms = CALM_MS
        self._clock_at = 0

    def run(self) -> None:
        """The feed's own task."""
        rng = self.rng
        while self.running:
            self.schedule.sleep(rng.randint(*self.pace_ms) * MS)
            if not self.upstream:
                self._tick()
                continue
            batch = [self._make(rng.choice(SYMBOLS)) for _ in range(rng.choice((1, 1, 2, 3, 8)))]
            for wire in self._live():
                lines = [self.line_of(message) for message in batch if message.symbol in wire.watched]
                if lines and self.repeats and rng.random() < 0.3:
                    lines.append(rng.choice(lines))
                if lines and self.garbage and rng.random() < 0.3:
                    lines.insert(rng.randint(0, len(lines)), self._garbage())
                if lines:
                    wire.push(b"".join(lines), rng)
            self._tick()

    def _make(self, symbol: str) -> Message:
        message = Message(len(self.messages) + 1, symbol, self.schedule.now, self.clock.true_ns())
        for wire in self.wires:
            if not wire.closed:
                message.due = max(message.due, self.clock.wall_of(max(wire.held_until, wire.last_at, wire.end[0] if wire.end else 0)))
        self.messages.append(message)
        return message

    def line_of(self, message: Message) -> bytes:
        wall = datetime.fromtimestamp(message.wall / NS, NEW_YORK)
        side = "AB"[message.number % 2]
        price = 100 + message.number % 7 * 0.25
        return (
            f"3,{message.symbol},{message.number},,{side},{price},{message.number % 90 + 1},{message.number},2,"
            f"{wall:%H:%M:%S.%f},{wall:%Y-%m-%d},\r\n"
        ).encode()

    def _garbage(self) -> bytes:
        rng = self.rng
        what = rng.random()
        if what < 0.3:
            return bytes(rng.randrange(256) for _ in range(30)).replace(b"\n", b"?") + b"\r\n"
        if what < 0.6:
            return b"3,SYM000,\xff\xfe\x00,,B,1,1,1,2,bad,\r\n"
        if what < 0.8:
            return b"S,\xc3\x28 not utf-8 \x80\r\n"
        return b"4,SYM001," + b"9" * rng.randint(1000, 3000) + b"\r\n"

    def _tick(self) -> None:
        """The feed's clock, once a second."""
        now = self.schedule.now
        if now < self._clock_at:
            return
        self._clock_at = now + NS
        text = datetime.fromtimestamp(self.clock.true_ns() / NS, NEW_YORK)
        for wire in self._live():
            wire.push(f"T,{text:%Y%m%d %H:%M:%S},\r\n".encode(), self.rng)

    def _live(self) -> list[Wire]:
        return [wire for wire in self.wires if wire.end is None and not wire.closed]

    def connected(self, owner: str, timeout_s: float) -> SimSocket:
        self.schedule.sleep(self.rng.randint(50_000, 3 * MS))
        self.attempts.append(self.schedule.now)
        if self.black_hole:
            self.schedule.sleep(int(timeout_s * NS))
            raise TimeoutError(errno.ETIMEDOUT, "timed out")
        if not self.listening:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        wire = Wire(self, owner, len(self.wires) + 1)
        self.wires.append(wire)
        wire.push(f"S,KEY,{wire.number}\r\n".encode(), self.rng)
        if self.upstream:
            wire.push(b"S,SERVER CONNECTED\r\n", self.rng)
        self.trace("connect", wire.number)
        return SimSocket(wire)

    def commanded(self, wire: Wire, data: bytes) -> None:
        wire.commands += data
        *lines, wire.commands = wire.commands.split(b"\r\n")
        for line in lines:
            if line.startswith(b"S,SET PROTOCOL,"):
                wire.push(b"S,CURRENT PROTOCOL," + line[15:] + b"\r\n", self.rng)
            elif line.startswith(b"WOR,"):
                wire.watched.add(line[4:].decode())

    def set_upstream(self, up: bool) -> None:
        """The feed's own source goes away, or comes back."""
        self.upstream = up
        for wire in self._live():
            wire.push(b"S,SERVER CONNECTED\r\n" if up else b"S,SERVER DISCONNECTED\r\n", self.rng)

    def trouble(self, what: str) -> None:
        """Break every open connection in one way."""
        for wire in self._live():
            if what in {"fin", "rst"}:
                message = self._make(self.rng.choice(SYMBOLS))
                if message.symbol in wire.watched:
                    wire.push(self.line_of(message), self.rng)  # what is under way when it ends, often cut in a line
                wire.cut(what, self.rng)
            elif what == "half_open":
                wire.silent = True
            else:
                wire.held_until = self.schedule.now + self.rng.randint(500, 3500) * MS

"""What Level 1 and Level 2 have in common: start-up lines, protocol, clock lines, watches with an account limit, publishing.

What does not belong here: the commands and lines of either service (`level1`, `level2`).
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from l2_platform.feeds.iqfeed.simulator.layouts import Layout, default_layout
from l2_platform.feeds.iqfeed.simulator.line_kernels import UInt8
from l2_platform.feeds.iqfeed.simulator.network import Connection
from l2_platform.feeds.iqfeed.simulator.source import LineBatch, Source
from l2_platform.feeds.iqfeed.simulator.upstream import OLDEST, PROTOCOLS, VERSION, Upstream

log = logging.getLogger(__name__)

EXCHANGES: Final = "NYSE NASDAQ ARCA BATS"


@dataclass(slots=True)
class Session:
    """What a client of a streaming service has asked for."""

    watch: UInt8
    """Per symbol: 0 nothing, 1 everything, 2 trades only. A watch that died silently is 0 here and still in `asked`."""
    protocol: tuple[int, int] = OLDEST
    name: str = ""
    timestamps: bool = True
    asked: set[int] = field(default_factory=set)
    """Symbols that the client believes it watches."""
    whole: bool = False
    """Every symbol is watched for everything: lines need no choosing."""
    layout: Layout = field(default_factory=lambda: default_layout(OLDEST))
    """Level 1 only: columns of Q and P."""
    regional: set[int] = field(default_factory=set)
    """Level 1 only: symbols with R lines."""

    def changed(self) -> None:
        """To be called after `watch` changed."""
        self.whole = bool((self.watch == 1).all())


class StreamingService(ABC):
    """Clients, their sessions and the account's symbol limit."""

    name = ""

    def __init__(self, source: Source, upstream: Upstream) -> None:
        self.source = source
        self.upstream = upstream
        self.sessions: dict[Connection, Session] = {}
        self.numbers = {name: number for number, name in enumerate(source.names)}
        self._watchers = np.zeros(len(source.names), np.int32)
        self._silent: set[int] = set()
        self._clock_told = False
        upstream.watched[self.name] = 0

    def opened(self, connection: Connection) -> None:
        """Send the start-up lines."""
        self.sessions[connection] = Session(np.zeros(len(self.source.names), np.uint8))
        state = "S,SERVER CONNECTED" if self.upstream.usable else "S,SERVER DISCONNECTED"
        customer = (
            f"S,CUST,real_time,127.0.0.1,60002,simulated,{VERSION},,{EXCHANGES},,{self.upstream.symbol_limit},QT_API,,"
        )
        tell(connection, "S,KEY,12345", state, "S,IP,127.0.0.1 60002 60002", customer)

    def closed(self, connection: Connection) -> None:
        """Forget a client and its watches."""
        session = self.sessions.pop(connection)
        for number in session.asked:
            self._release(number)

    def second(self, clock: str) -> None:
        """Send the clock line, `yyyyMMdd HH:MM:SS` New York time."""
        line = f"T,{clock}\r\n".encode()
        for connection, session in list(self.sessions.items()):
            if session.timestamps:
                connection.send(line)

    def relay_clock(self, line: bytes) -> None:
        """Send a clock line as it was recorded."""
        self._clock_told = True
        for connection, session in list(self.sessions.items()):
            if session.timestamps:
                connection.send(line)

    def clock_was_silent(self) -> bool:
        """No clock line was relayed since the last question."""
        told, self._clock_told = self._clock_told, False
        return not told

    def relay(self, data: bytes) -> None:
        """Send lines that belong to no symbol to everybody who watches something."""
        for connection, session in list(self.sessions.items()):
            if session.asked:
                connection.send(data)

    def learn(self, names: Sequence[str]) -> None:
        """The source has more names: they can be watched from now on."""
        held = len(self._watchers)
        if len(names) <= held:
            return
        for number in range(held, len(names)):
            self.numbers.setdefault(names[number], number)
        more = len(names) - held
        self._watchers = np.concatenate([self._watchers, np.zeros(more, np.int32)])
        for session in self.sessions.values():
            session.watch = np.concatenate([session.watch, np.zeros(more, np.uint8)])
            session.changed()

    def watching(self) -> int:
        """Clients that watch something."""
        return sum(bool(session.asked) for session in self.sessions.values())

    def has_watchers(self) -> bool:
        """True when somebody watches and data flows."""
        return self.upstream.usable and any(session.asked for session in self.sessions.values())

    def is_backed_up(self) -> bool:
        """True while a client that watches reads too slowly."""
        return any(connection.is_paused for connection, session in self.sessions.items() if session.asked)

    def send_lines(self, connection: Connection, session: Session, batch: LineBatch) -> None:
        """Send a client the lines that it watches."""
        if session.whole:
            connection.send(batch.data)
        elif session.asked:
            connection.send(batch.select(session.watch))

    def received(self, connection: Connection, line: str) -> None:
        """Carry out a command."""
        session = self.sessions[connection]
        if line.startswith("S,"):
            self.system(connection, session, line[2:].rstrip(","))
        elif line:
            self.command(connection, session, line)

    @abstractmethod
    def command(self, connection: Connection, session: Session, line: str) -> None:
        """A command of the service itself."""

    def system(self, connection: Connection, session: Session, text: str) -> None:
        """A command that starts with `S,`."""
        word, _, rest = text.partition(",")
        if word == "SET PROTOCOL":
            self._set_protocol(connection, session, rest)
        elif word == "SET CLIENT NAME":
            session.name = rest
        elif word in {"TIMESTAMPSON", "TIMESTAMPSOFF"}:
            session.timestamps = word == "TIMESTAMPSON"
        elif word not in {"KEY", "KEYOK", "CONNECT", "DISCONNECT"}:
            tell(connection, "E,!SYNTAX_ERROR!,")

    def disconnected(self) -> None:
        """Tell every client that the servers are gone."""
        for connection in list(self.sessions):
            tell(connection, "S,SERVER DISCONNECTED")

    def reconnected(self) -> None:
        """Tell every client that the servers are back, and refresh what it watches."""
        for connection, session in list(self.sessions.items()):
            tell(connection, "S,SERVER CONNECTED")
            for number in sorted(session.asked):
                self.refresh(connection, session, number)

    @abstractmethod
    def refresh(self, connection: Connection, session: Session, number: int) -> None:
        """Send the present state of a watched symbol again."""

    def silence(self, number: int) -> int:
        """Let every watch of a symbol die without a word, until it is watched again; return how many died."""
        died = 0
        for session in self.sessions.values():
            if session.watch[number]:
                session.watch[number] = 0
                session.changed()
                died += 1
        return died

    def admit(self, connection: Connection, session: Session, name: str) -> int | None:
        """The number of a symbol that may be watched; otherwise the refusal is sent and None returned."""
        number = self.numbers.get(name)
        if not self.upstream.usable and self.upstream.refuse_login:
            tell(connection, "E,Unauthorized user ID.,")
            return None
        if number is None:
            tell(connection, f"n,{name}")
            return None
        if number not in session.asked:
            if self._watchers[number] == 0 and self.upstream.watched[self.name] >= self.upstream.symbol_limit:
                tell(connection, f"S,SYMBOL LIMIT REACHED,{name}")
                return None
            self._watchers[number] += 1
            if self._watchers[number] == 1:
                self.upstream.watched[self.name] += 1
            session.asked.add(number)
        return number

    def unwatch(self, session: Session, numbers: Iterable[int]) -> None:
        """End watches of a client."""
        for number in list(numbers):
            if number in session.asked:
                session.asked.discard(number)
                self._release(number)
            session.watch[number] = 0
            session.regional.discard(number)
        session.changed()

    def _release(self, number: int) -> None:
        self._watchers[number] -= 1
        if self._watchers[number] == 0:
            self.upstream.watched[self.name] -= 1

    def _set_protocol(self, connection: Connection, session: Session, version: str) -> None:
        protocol = PROTOCOLS.get(version)
        if protocol is None:
            tell(connection, f"E,{version} is not a valid protocol.,")
            return
        session.protocol = protocol
        session.layout = default_layout(protocol)
        tell(connection, f"S,CURRENT PROTOCOL,{version},")


def tell(connection: Connection, *texts: str) -> None:
    """Send lines to a client."""
    # upper case of a Latin-1 letter may lie outside Latin-1
    connection.send("".join(f"{text}\r\n" for text in texts).encode("latin-1", "replace"))

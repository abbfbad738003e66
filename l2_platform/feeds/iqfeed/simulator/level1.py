"""Level 1 (port 5009): watches, field selection, fundamentals, regional quotes, corrections.

What does not belong here: the making of lines.
"""

from collections.abc import Callable

import numpy as np

from l2_platform.feeds.iqfeed.simulator.layouts import FIELDS, FUNDAMENTAL_NAMES, Layout
from l2_platform.feeds.iqfeed.simulator.line_kernels import WATCH_ALL, WATCH_TRADES
from l2_platform.feeds.iqfeed.simulator.network import Connection
from l2_platform.feeds.iqfeed.simulator.source import LineBatch
from l2_platform.feeds.iqfeed.simulator.streaming import Session, StreamingService, tell


class Level1Service(StreamingService):
    """Level 1 clients."""

    name = "level1"

    def command(self, connection: Connection, session: Session, line: str) -> None:
        """W, t, r, f, T."""
        symbol = line[1:].split(",", maxsplit=1)[0].upper()
        if line == "T":
            tell(connection, f"T,{self.clock_text()}")
        elif line[0] in "wt":
            self._watch(connection, session, symbol, WATCH_ALL if line[0] == "w" else WATCH_TRADES)
        elif line[0] == "r":
            number = self.numbers.get(symbol)
            if number is not None:
                self.unwatch(session, [number])
        elif line[0] == "f":
            number = self.numbers.get(symbol)
            if number in session.asked:
                self.refresh(connection, session, number)
        else:
            tell(connection, "E,!SYNTAX_ERROR!,")

    def clock_text(self) -> str:
        """The last clock line's text."""
        return self._clock

    _clock = ""

    def second(self, clock: str) -> None:
        """Remember and send the clock line."""
        self._clock = clock
        super().second(clock)

    def relay_clock(self, line: bytes) -> None:
        """Remember and send a clock line as it was recorded."""
        self._clock = line[2:].rstrip(b"\r\n,").decode("latin-1")
        super().relay_clock(line)

    def publish(self, make: Callable[[Layout], LineBatch]) -> None:
        """Send update lines to whom they concern, written once per layout in use."""
        made: dict[Layout, LineBatch] = {}
        for connection, session in list(self.sessions.items()):
            if not session.asked:
                continue
            batch = made.get(session.layout)
            if batch is None:
                batch = made[session.layout] = make(session.layout)
            self.send_lines(connection, session, batch)
            if session.regional:
                moved = session.regional.intersection(np.unique(batch.symbols).tolist())
                connection.send(b"".join(self.source.regional(number) for number in sorted(moved)))

    def refresh(self, connection: Connection, session: Session, number: int) -> None:
        """F and P."""
        connection.send(self.source.fundamental(number) + self.source.level1_summary(number, session.layout))

    def correct(self, number: int, *, kind: str, layout: str) -> int:
        """Send a trade correction to every client that watches the symbol; return how many got one."""
        line = self.source.correction(number, kind=kind, layout=layout)
        watching = [c for c, session in self.sessions.items() if session.watch[number] and session.protocol >= (6, 2)]
        for connection in watching if line else ():
            connection.send(line)
        return len(watching) if line else 0

    def system(self, connection: Connection, session: Session, text: str) -> None:
        """Field selection, fields asked for, watches, regional quotes."""
        word, _, rest = text.partition(",")
        if word == "SELECT UPDATE FIELDS":
            self._select(connection, session, rest)
        elif word == "REQUEST CURRENT UPDATE FIELDNAMES":
            self._tell_layout(connection, session)
        elif word == "REQUEST ALL UPDATE FIELDNAMES":
            tell(connection, "S,UPDATE FIELDNAMES,Symbol," + ",".join(FIELDS) + ",")
        elif word == "REQUEST FUNDAMENTAL FIELDNAMES":
            tell(connection, "S,FUNDAMENTAL FIELDNAMES," + ",".join(FUNDAMENTAL_NAMES) + ",")
        elif word == "REQUEST WATCHES":
            names = [self.source.names[number] for number in sorted(session.asked)]
            tell(connection, ",".join(["S,WATCHES", *names]) + ",")
        elif word == "UNWATCH ALL":
            self.unwatch(session, list(session.asked))
        elif word in {"REGON", "REGOFF"}:
            self._regional(connection, session, rest.upper(), on=word == "REGON")
        elif word == "SET LOG LEVELS":
            tell(connection, f"S,CURRENT LOG LEVELS,{rest},")
        elif word not in {"NEWSON", "NEWSOFF"}:
            super().system(connection, session, text)

    def _watch(self, connection: Connection, session: Session, symbol: str, kind: int) -> None:
        number = self.admit(connection, session, symbol)
        if number is None:
            return
        session.watch[number] = kind
        session.changed()
        if self.upstream.usable:
            self.refresh(connection, session, number)

    def _select(self, connection: Connection, session: Session, rest: str) -> None:
        names = [name for name in rest.split(",") if name]
        if "Symbol" in names:
            if self.upstream.names_symbol_silently:
                return
            names = [name for name in names if name != "Symbol"]
        for name in names:
            if name not in FIELDS:
                tell(connection, f"E,{name} is not a valid fieldset field,")
                return
        session.layout = Layout(tuple(names))
        self._tell_layout(connection, session)

    def _tell_layout(self, connection: Connection, session: Session) -> None:
        tell(connection, ",".join(["S,CURRENT UPDATE FIELDNAMES,Symbol", *session.layout.names]) + ",")

    def _regional(self, connection: Connection, session: Session, symbol: str, *, on: bool) -> None:
        number = self.numbers.get(symbol)
        if number is None:
            tell(connection, f"n,{symbol}")
        elif not on:
            session.regional.discard(number)
        elif self.admit(connection, session, symbol) is not None:
            session.regional.add(number)
            connection.send(self.source.regional(number))

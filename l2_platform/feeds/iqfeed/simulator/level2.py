"""Level 2 (port 9200): watches by order, venue or price level, snapshot bursts, CLEAR DEPTH.

A symbol has one shape of depth: WOR serves orders and venue rows, WPL price levels; the other one answers `q`. What does not
belong here: the making of lines.
"""

from typing import Final

from l2_platform.feeds.iqfeed.simulator.network import Connection
from l2_platform.feeds.iqfeed.simulator.source import LineBatch
from l2_platform.feeds.iqfeed.simulator.streaming import Session, StreamingService, tell

MAKER_NAMES: Final = {
    "NSDQ": "Nasdaq", "ARCX": "NYSE Arca", "BATX": "Cboe BZX", "EDGX": "Cboe EDGX", "NYSE": "New York Stock Exchange",
    "MEMX": "Members Exchange",
}  # fmt: skip


class Level2Service(StreamingService):
    """Level 2 clients."""

    name = "level2"

    def command(self, connection: Connection, session: Session, line: str) -> None:
        """WOR, WPL, ROR, RPL, w, r, m."""
        word, _, rest = line.partition(",")
        symbol = rest.split(",")[0].upper()
        if word in {"WOR", "WPL"}:
            self._watch(connection, session, symbol, "order" if word == "WOR" else "level")
        elif word in {"ROR", "RPL"}:
            self._unwatch(session, symbol, "order" if word == "ROR" else "level")
        elif line[0] == "w":
            self._watch(connection, session, line[1:].split(",", maxsplit=1)[0].upper(), "any")
        elif line[0] == "r":
            self._unwatch(session, line[1:].split(",", maxsplit=1)[0].upper(), "any")
        elif line[0] == "m":
            maker = line[1:].strip(",").upper()
            tell(connection, f"M,{maker},{MAKER_NAMES.get(maker, 'Unknown')}")
        elif line not in {"c", "x"}:
            tell(connection, "E,!SYNTAX_ERROR!,")

    def publish(self, batch: LineBatch) -> None:
        """Send update lines to whom they concern."""
        for connection, session in list(self.sessions.items()):
            self.send_lines(connection, session, batch)

    def refresh(self, connection: Connection, session: Session, number: int) -> None:
        """CLEAR DEPTH of both sides and a new burst."""
        name = self.source.names[number]
        clear = f"S,CLEAR DEPTH,{name},B,\r\nS,CLEAR DEPTH,{name},A,\r\n".encode("latin-1")
        connection.send(clear + (self.source.depth_snapshot(number) if session.watch[number] else b""))

    def clear(self, number: int) -> int:
        """Clear and rebuild a symbol at every client that watches it; return how many."""
        watching = [(connection, session) for connection, session in self.sessions.items() if number in session.asked]
        for connection, session in watching:
            self.refresh(connection, session, number)
        return len(watching)

    def set_depth(self, number: int, *, has: bool) -> None:
        """A symbol got depth, or lost it: the watches stay, lines begin or end."""
        for connection, session in list(self.sessions.items()):
            if number in session.asked:
                session.watch[number] = 1 if has else 0
                session.changed()
                connection.send(self.source.depth_snapshot(number) if has else b"")

    def _watch(self, connection: Connection, session: Session, symbol: str, kind: str) -> None:
        if session.protocol < (6, 2):
            tell(connection, "E,Protocol 6.2 is needed for Level 2.,")
            return
        number = self.admit(connection, session, symbol)
        if number is None:
            return
        has = self.source.depth_kind(number)
        if not has or (kind not in {"any", has} and has != "any"):
            tell(connection, f"q,{symbol}")
            return
        session.watch[number] = 1
        session.changed()
        if self.upstream.usable:
            none = f"q,{symbol}\r\n".encode("latin-1") if self.source.answers_no_depth else b""
            connection.send(self.source.depth_snapshot(number) or none)

    def _unwatch(self, session: Session, symbol: str, kind: str) -> None:
        number = self.numbers.get(symbol)
        if number is not None and (kind == "any" or self.source.depth_kind(number) in {"any", kind}):
            self.unwatch(session, [number])

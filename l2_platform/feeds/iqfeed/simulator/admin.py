"""Admin (port 9300): registration, login, connect and disconnect, statistics each second.

What does not belong here: data.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

from l2_platform.feeds.iqfeed.simulator.network import Connection
from l2_platform.feeds.iqfeed.simulator.streaming import StreamingService, tell
from l2_platform.feeds.iqfeed.simulator.upstream import PROTOCOLS, VERSION, Upstream

CLIENT_TYPES: Final = {"admin": 0, "level1": 1, "level2": 2, "lookup": 3}


class AdminService:
    """Admin clients; `connect` and `disconnect` act on the link, `clients` lists every connection."""

    name = "admin"

    def __init__(
        self,
        upstream: Upstream,
        streaming: Iterable[StreamingService],
        clients: Callable[[], Iterable[Connection]],
        link: Callable[[bool], None],
    ) -> None:
        self._upstream = upstream
        self._streaming = {service.name: service for service in streaming}
        self._clients = clients
        self._link = link
        self._names: dict[Connection, str] = {}
        self._wants_clients: set[Connection] = set()
        self._sent_before = 0
        self._clock = ""

    def opened(self, connection: Connection) -> None:
        """Statistics begin with the next second."""
        self._names[connection] = ""

    def closed(self, connection: Connection) -> None:
        """Forget a client."""
        self._names.pop(connection, None)
        self._wants_clients.discard(connection)

    def second(self, clock: str, now_ns: int) -> None:
        """Send the statistics lines."""
        self._clock = clock
        if not self._names:
            return
        line = self._stats(now_ns)
        for connection in list(self._names):
            tell(connection, line)
            if connection in self._wants_clients:
                tell(connection, *self._client_stats())

    def received(self, connection: Connection, line: str) -> None:
        """Carry out a command."""
        parts = line.rstrip(",").split(",")
        word, value = (parts[1], ",".join(parts[2:])) if len(parts) > 1 and parts[0] == "S" else ("", "")
        plain = {
            "REGISTER CLIENT APP": "S,REGISTER CLIENT APP COMPLETED,",
            "REMOVE CLIENT APP": "S,REMOVE CLIENT APP COMPLETED,",
            "SET SAVE LOGIN INFO": f"S,LOGIN INFO {'SAVED' if value.upper() == 'ON' else 'NOT SAVED'},",
            "SET AUTOCONNECT": f"S,AUTOCONNECT {'ON' if value.upper() == 'ON' else 'OFF'},",
        }
        if word in plain:
            tell(connection, plain[word])
        elif word == "SET PROTOCOL":
            known = value in PROTOCOLS
            tell(connection, f"S,CURRENT PROTOCOL,{value}," if known else f"E,{value} is not a valid protocol.,")
        elif word == "SET CLIENT NAME":
            self._names[connection] = value
        elif word == "SET LOGINID":
            self._upstream.login = value
            tell(connection, f"S,CURRENT LOGINID,{value},")
        elif word == "SET PASSWORD":
            masked = f"({value[:1]}{'*' * max(1, len(value) - 2)}{value[-1:]})"
            tell(connection, f"S,CURRENT PASSWORD,{masked},")
        elif word in {"CONNECT", "DISCONNECT"}:
            self._link(word == "CONNECT")
        elif word == "CLIENTSTATS ON":
            self._wants_clients.add(connection)
        elif word == "CLIENTSTATS OFF":
            self._wants_clients.discard(connection)
        else:
            tell(connection, "E,!SYNTAX_ERROR!,")

    def _stats(self, now_ns: int) -> str:
        up = self._upstream
        clients = list(self._clients())
        sent = sum(connection.bytes_out for connection in clients)
        rate = max(0, sent - self._sent_before) / 1024
        self._sent_before = sent
        start = datetime.fromtimestamp(up.started_ns // 1_000_000_000, UTC).strftime("%b %d %I:%M%p")
        market = datetime.strptime(self._clock, "%Y%m%d %H:%M:%S").replace(tzinfo=UTC).strftime("%b %d %I:%M%p")
        age = max(0, now_ns - up.started_ns) / 1e9
        status = "Connected" if up.usable else "Not Connected"
        watched = max(up.watched.values(), default=0)
        address = "127.0.0.1,60002" if up.usable else ","
        kilobytes = sent / 1024
        return (
            f"S,STATS,{address},{up.symbol_limit},{watched},{len(clients)},0,{up.reconnections},{up.failures},{start},{market},"
            f"{status},{VERSION},{up.login},{kilobytes:.2f},{rate:.2f},{kilobytes / max(1.0, age):.2f},"
            f"{kilobytes:.2f},{rate:.2f},{kilobytes / max(1.0, age):.2f},"
        )

    def _client_stats(self) -> list[str]:
        out = []
        for connection in sorted(self._clients(), key=lambda item: item.number):
            kind = CLIENT_TYPES.get(connection.service.name)
            if kind is None:
                continue
            service = self._streaming.get(connection.service.name)
            session = service.sessions.get(connection) if service else None
            name = session.name if session else self._names.get(connection, "")
            start = datetime.fromtimestamp(connection.opened_ns // 1_000_000_000, UTC).strftime("%Y%m%d %H%M%S")
            watched, regional = (len(session.asked), len(session.regional)) if session else (0, 0)
            out.append(
                f"S,CLIENTSTATS,{kind},{connection.number},{name},{start},{watched},{regional},"
                f"{connection.bytes_in / 1024:.2f},{connection.bytes_out / 1024:.2f},{connection.queued / 1024:.2f},"
            )
        return out

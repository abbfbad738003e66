"""The IQFeed conversation without I/O: bytes and time go in, events and commands come out.

One session object lives as long as one TCP connection. It looks only at system lines (S, E, T, n), found by one scan for a
line end plus letter; data lines are never split or parsed here. What does not belong here: sockets, clocks, the journal,
and which symbols are wanted (see `collectors.subscription`).
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from l2_platform.feeds.iqfeed.messages import (
    LINE_END,
    SYSTEM_LINE,
    CommandSent,
    ErrorLine,
    Event,
    FieldsAcked,
    FieldsUnacknowledged,
    ProtocolAcked,
    ProtocolRefused,
    ServerConnected,
    ServerDisconnected,
    Stats,
    Unauthorized,
    command,
    depth_unwatch_commands,
    depth_watch_commands,
    level1_unwatch_commands,
    level1_watch_commands,
    mask_secrets,
    parse_system_line,
)

_STATS_BEFORE_REFUSED = 3
"""STATS lines (1 Hz) with `Not Connected` after a login before it counts as refused."""


class Phase(StrEnum):
    """Where a conversation stands."""

    CONNECTING = "connecting"
    HANDSHAKE = "handshake"
    FIELDS = "fields"
    LIVE = "live"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """What a conversation needs to know; times in ns."""

    protocol: str = "6.2"
    client_name: str = "l2_platform"
    handshake_ns: int = 5_000_000_000
    fields: tuple[str, ...] = ()
    name_symbol: str = "auto"
    field_ack_ns: int = 2_000_000_000
    depth_watch: str = "WOR"
    depth_levels_max: int = 0
    level1_watch: str = "w"
    level1_regional: bool = False
    product_id: str = ""
    product_version: str = "1.0"
    login: str = ""
    password: str = ""
    login_retry_ns: int = 30_000_000_000
    events_max: int = 100_000
    """Events kept until they are taken: the newest stay. They are taken after each read, so no sane feed reaches this."""


class FeedSession:
    """Handshake and system lines, the same on every streaming port; subclasses say what follows the handshake."""

    def __init__(self, options: SessionOptions) -> None:
        self.options = options
        self.phase = Phase.CONNECTING
        self.protocol: str | None = None
        self._now_ns = 0
        self._deadline_ns = 0
        self._events: deque[Event] = deque(maxlen=options.events_max)
        self._outbound: list[bytes] = []

    def start(self, now_ns: int) -> None:
        """TCP is up: ask for the protocol. `now_ns` is any monotonic time, the same as in `tick`."""
        self._now_ns = now_ns
        self.phase = Phase.HANDSHAKE
        self._deadline_ns = now_ns + self.options.handshake_ns
        self._send(command("S", "SET PROTOCOL", self.options.protocol))

    def receive(self, data: bytes | bytearray, end: int | None = None) -> None:
        """Look at the system lines of `data[:end]`, which holds whole lines."""
        stop = len(data) if end is None else end
        if stop and data[0] in b"SETn":
            self._line(data, 0, stop)
        for match in SYSTEM_LINE.finditer(data, 0, stop):
            self._line(data, match.start() + 1, stop)

    def tick(self, now_ns: int) -> None:
        """Time passes: deadlines of the handshake."""
        self._now_ns = now_ns
        if self.phase is Phase.HANDSHAKE and now_ns >= self._deadline_ns:
            self._handshake_late()

    def next_event(self) -> Event | None:
        """The oldest event not yet taken, or None."""
        return self._events.popleft() if self._events else None

    def data_to_send(self) -> bytes:
        """Every queued command, once; whole lines."""
        data = b"".join(self._outbound)
        self._outbound.clear()
        return data

    def watch(self, symbols: Iterable[str], *, refresh: bool = False) -> None:
        """Queue watches; `refresh` when the symbols may be watched already and their state is wanted again."""
        for symbol in symbols:
            self._outbound.extend(self._watch_commands(symbol, refresh=refresh))

    def unwatch(self, symbols: Iterable[str]) -> None:
        """Queue the end of watches."""
        for symbol in symbols:
            self._outbound.extend(self._unwatch_commands(symbol))

    def _watch_commands(self, symbol: str, *, refresh: bool) -> tuple[bytes, ...]:  # noqa: ARG002 - a port without watches
        return ()

    def _unwatch_commands(self, symbol: str) -> tuple[bytes, ...]:  # noqa: ARG002 - a port without watches
        return ()

    def _line(self, data: bytes | bytearray, begin: int, stop: int) -> None:
        end = data.find(b"\n", begin, stop)
        event = parse_system_line(bytes(data[begin : stop if end < 0 else end]))
        if event is not None:
            self._see(event)

    def _see(self, event: Event) -> None:
        if self.phase is Phase.HANDSHAKE and isinstance(event, ProtocolRefused):
            self.phase = Phase.FAILED
        self._events.append(event)
        if self.phase is Phase.HANDSHAKE and isinstance(event, ProtocolAcked):
            if event.version != self.options.protocol:
                self.phase = Phase.FAILED
                self._events.append(
                    ProtocolRefused(f"asked for {self.options.protocol}, the feed answered {event.version}")
                )
                return
            self.protocol = event.version
            self._introduce()

    def _introduce(self) -> None:
        self._send(command("S", "SET CLIENT NAME", self.options.client_name))
        self._after_handshake()

    def _after_handshake(self) -> None:
        self.phase = Phase.LIVE

    def _handshake_late(self) -> None:
        self.phase = Phase.FAILED
        waited_s = self.options.handshake_ns / 1e9
        self._events.append(ProtocolRefused(f"no answer to SET PROTOCOL,{self.options.protocol} within {waited_s:g} s"))

    def _send(self, line: bytes) -> None:
        self._outbound.append(line)
        self._events.append(CommandSent(mask_secrets(line).removesuffix(LINE_END).decode("ascii")))


class Level2Session(FeedSession):
    """Depth: live as soon as the protocol is acknowledged."""

    def _watch_commands(self, symbol: str, *, refresh: bool) -> tuple[bytes, ...]:  # noqa: ARG002 - a Level 2 watch always replays its snapshot
        return depth_watch_commands(symbol, self.options.depth_watch, self.options.depth_levels_max)

    def _unwatch_commands(self, symbol: str) -> tuple[bytes, ...]:
        return depth_unwatch_commands(symbol, self.options.depth_watch)


class Level1Session(FeedSession):
    """Quotes and trades: fields are selected, and acknowledged, before the first watch.

    Builds differ on whether the selection may name Symbol: where it must not, naming it makes the request vanish. `auto` asks
    without it and, unanswered, with it. A name that the feed rejects is left out and the rest asked for again.
    """

    def __init__(self, options: SessionOptions) -> None:
        super().__init__(options)
        self._wanted = list(options.fields)
        self._naming = options.name_symbol == "always"
        self._forms_left = 1 if options.name_symbol == "auto" else 0
        self.symbol_named: bool | None = None
        """Which form was acknowledged; None before, or when none was."""

    def tick(self, now_ns: int) -> None:
        """Time passes: deadlines of handshake and field selection."""
        super().tick(now_ns)
        if self.phase is not Phase.FIELDS or now_ns < self._deadline_ns:
            return
        if self._forms_left:
            self._forms_left -= 1
            self._naming = not self._naming
            self._select()
        else:
            self._give_up(f"no answer to SELECT UPDATE FIELDS within {self.options.field_ack_ns / 1e9:g} s")

    def _after_handshake(self) -> None:
        if self._wanted:
            self.phase = Phase.FIELDS
            self._select()
        else:
            self.phase = Phase.LIVE

    def _select(self) -> None:
        self._deadline_ns = self._now_ns + self.options.field_ack_ns
        names = ["Symbol", *self._wanted] if self._naming else self._wanted
        self._send(command("S", "SELECT UPDATE FIELDS", *names))

    def _see(self, event: Event) -> None:
        super()._see(event)
        if self.phase is not Phase.FIELDS:
            return
        if isinstance(event, FieldsAcked):
            self.symbol_named = self._naming
            self.phase = Phase.LIVE
        elif isinstance(event, ErrorLine) and "valid fieldset field" in event.text:
            rejected = [name for name in self._wanted if event.text.startswith(name + " is not")]
            self._wanted = [name for name in self._wanted if name not in rejected]
            if rejected and self._wanted:
                self._select()
            elif not (self._naming and event.text.startswith("Symbol is not")):
                self._give_up(event.text)

    def _give_up(self, reason: str) -> None:
        self.phase = Phase.LIVE
        self._events.append(FieldsUnacknowledged(reason))

    def _watch_commands(self, symbol: str, *, refresh: bool) -> tuple[bytes, ...]:
        return level1_watch_commands(
            symbol, self.options.level1_watch, regional=self.options.level1_regional, refresh=refresh
        )

    def _unwatch_commands(self, symbol: str) -> tuple[bytes, ...]:
        return level1_unwatch_commands(symbol)


class AdminSession(FeedSession):
    """Statistics once a second and, where a product id is set, the login of IQConnect itself.

    Some builds do not answer SET PROTOCOL on this port, so its silence is no failure. A login that does not stand is tried again
    on the same socket, at most once per `login_retry_ns`: IQConnect exits soon after its last client leaves.
    """

    def __init__(self, options: SessionOptions) -> None:
        super().__init__(options)
        self.logged_in: bool | None = None
        """What the last STATS line said; None before the first."""
        self._login_at_ns: int | None = None
        self._stats_since_login = 0
        self._refused = False

    def tick(self, now_ns: int) -> None:
        """Time passes: a login that does not stand is tried again."""
        super().tick(now_ns)
        wanted = self.phase is Phase.LIVE and bool(self.options.product_id) and self.logged_in is not True
        if wanted and (self._login_at_ns is None or now_ns - self._login_at_ns >= self.options.login_retry_ns):
            self._log_in()

    def _handshake_late(self) -> None:
        self._introduce()

    def _after_handshake(self) -> None:
        self.phase = Phase.LIVE
        self._send(command("S", "CLIENTSTATS ON"))

    def _log_in(self) -> None:
        options = self.options
        self._login_at_ns = self._now_ns
        self._stats_since_login = 0
        self._refused = False
        self._send(command("S", "REGISTER CLIENT APP", options.product_id, options.product_version))
        if options.login:
            self._send(command("S", "SET LOGINID", options.login))
        if options.password:
            self._send(command("S", "SET PASSWORD", options.password))
        self._send(command("S", "CONNECT"))

    def _see(self, event: Event) -> None:
        super()._see(event)
        if isinstance(event, Unauthorized):
            self._refused = True
            self.logged_in = False
        elif isinstance(event, Stats):
            self._see_stats(event)

    def _see_stats(self, stats: Stats) -> None:
        if stats.connected != self.logged_in and (self.logged_in is not None or not stats.connected):
            self._events.append(ServerConnected() if stats.connected else ServerDisconnected())
        self.logged_in = stats.connected
        if stats.connected:
            self._refused = False
        elif self._login_at_ns is not None and not self._refused:
            self._stats_since_login += 1
            if self._stats_since_login >= _STATS_BEFORE_REFUSED:
                self._refused = True
                self._events.append(Unauthorized("the login does not stand: STATS says Not Connected after S,CONNECT"))


SESSIONS: dict[str, type[FeedSession]] = {"depth": Level2Session, "level1": Level1Session, "admin": AdminSession}
"""Which conversation each channel of a stream has."""


def open_session(channel: str, options: SessionOptions) -> FeedSession:
    """A conversation for `channel` (depth, level1, admin)."""
    return SESSIONS[channel](options)

"""One stream's link to its feed: connect, shake hands, subscribe, read, notice silence, come back.

Every read goes to the journal first and is looked at afterwards. What does not belong here: when to run at all, the heartbeat, the
session's roll (`collector`), and what feed lines mean (`feeds.iqfeed.protocol`).
"""

from dataclasses import dataclass

from l2_platform.clock import Clock
from l2_platform.collectors.liveness import Backoff, Liveness, Pulse
from l2_platform.collectors.outside import Outside
from l2_platform.collectors.plain_log import PlainLog
from l2_platform.collectors.recorder import Recorder
from l2_platform.collectors.session_roll import SessionRoll
from l2_platform.collectors.subscription import Batch, Subscription
from l2_platform.errors import FeedDisconnected
from l2_platform.feeds.iqfeed import messages
from l2_platform.feeds.iqfeed.connection import OVERSIZE, WHOLE_LINES, Connection, ConnectionOptions, Piece
from l2_platform.feeds.iqfeed.protocol import AdminSession, FeedSession, Phase, SessionOptions, open_session
from l2_platform.monitoring.bounds import Bound
from l2_platform.settings import FeedSettings, JournalSettings

_SECOND_NS = 1_000_000_000
_READ_WAIT_S = 0.05
_READ_WAIT_BUSY_S = 0.002
"""Wait of a read while watches are still to be sent: the rest must not wait for a quiet feed."""
_GOOD_LINK_NS = _SECOND_NS
"""A link that was live this long makes the next disconnect the first of its row."""
_ON_PURPOSE = frozenset({"operator", "session_closed"})
"""Ends of a link that nobody has to mend."""
_AWAY_NS = 40_000_000
"""Time between two reads (a full disk, a stopped process) after which what is read next may have waited as long."""


@dataclass(slots=True)
class LinkCounters:
    """Numbers for the heartbeat; times in ns UTC."""

    attempts: int = 0
    disconnects: int = 0
    last_byte_ns: int | None = None
    connected_ns: int | None = None
    limit_refusals: int = 0
    unknown_symbols: int = 0
    error_lines: int = 0
    account_symbols_max: int = 0
    last_error: str = ""
    reason: str = ""
    """Why the link is not live: the last failure, refusal or disconnect; empty while it is."""


def session_options(settings: FeedSettings) -> SessionOptions:
    """The feed's section of the settings as the conversation wants it."""
    return SessionOptions(
        protocol=settings.protocol,
        client_name=settings.client_name,
        handshake_ns=int(settings.connect_timeout_s * 1e9),
        fields=settings.level1_fields,
        name_symbol=settings.name_symbol_in_selection,
        field_ack_ns=int(settings.field_ack_s * 1e9),
        depth_watch=settings.depth_watch,
        depth_levels_max=settings.depth_levels_max,
        level1_watch=settings.level1_watch,
        level1_regional=settings.level1_regional,
        product_id=settings.product_id,
        login=settings.login.get_secret_value(),
        password=settings.password.get_secret_value(),
        login_retry_ns=int(settings.unauthorized_retry_s * 1e9),
        events_max=settings.events_max,
    )


class Link:
    """The link of one stream; `step` does one turn and returns, at the latest after a short wait for bytes."""

    def __init__(
        self,
        channel: str,
        address: tuple[str, int],
        feed: FeedSettings,
        journal: JournalSettings,
        recorder: Recorder,
        roll: SessionRoll,
        clock: Clock,
        log: PlainLog,
        outside: Outside,
    ) -> None:
        self._network = outside.network
        self._channel = channel
        self._host, self._port = address
        self._feed = feed
        self._options = session_options(feed)
        self._connection_options = ConnectionOptions(
            recv_bytes=journal.recv_bytes,
            line_bytes_max=journal.line_bytes_max,
            read_timeout_s=_READ_WAIT_S,
            connect_timeout_s=feed.connect_timeout_s,
            user_timeout_s=feed.silence_s,
            send_timeout_s=feed.connect_timeout_s,
        )
        self._read_sleep_s = journal.read_sleep_ms / 1000
        self._recorder = recorder
        self._roll = roll
        self._clock = clock
        self._log = log
        self._liveness = Liveness(int(feed.suspect_s * 1e9), int(feed.silence_s * 1e9))
        self._backoff = Backoff(feed.reconnect_first_s, feed.reconnect_cap_s, outside.random)
        self.subscription = Subscription(
            rollout_steps=feed.rollout_steps,
            rollout_pause_ns=int(feed.rollout_pause_s * 1e9),
            batch_max=feed.watch_batch_max,
            rewatch_ns=int(feed.rewatch_s * 1e9),
        )
        self.counters = LinkCounters()
        self._line_bound = Bound("line_bytes", journal.line_bytes_max, "bytes", "journal.line_bytes_max")
        self._read_bound = Bound("read_bytes", journal.recv_bytes, "bytes", "journal.recv_bytes")
        self._event_bound = Bound("system_lines", feed.events_max, "lines", "feed.events_max")
        self._batch_bound = Bound("watch_batch", feed.watch_batch_max, "symbols", "feed.watch_batch_max")
        self.bounds = (self._line_bound, self._read_bound, self._event_bound, self._batch_bound)
        self._secrets = tuple(text.encode() for text in (self._options.login, self._options.password) if text)
        self._connection: Connection | None = None
        self._session: FeedSession = open_session(channel, self._options)
        self._conn_id = clock.now_ns() // _SECOND_NS & 0xFFFFFFFF
        self._attempt = 0
        self._next_attempt_ns = 0
        self._live_since_ns: int | None = None
        self._read_at_ns: tuple[int, int] | None = None
        """End of the last read of this connection, monotonic and wall; None before the first."""
        self._sure_ns: int | None = None
        """Everything that the feed sent before this (wall) was received."""
        self._waited_since_ns: int | None = None
        """What is read now may have come as early as this (wall): there was a pause, and the socket is not drained since."""
        self._server_up = False
        self._server_down = False
        self._watching = False

    @property
    def connected(self) -> bool:
        """TCP is up."""
        return self._connection is not None

    @property
    def state(self) -> str:
        """`syncing`, `live` or `suspect`, as the heartbeat says it."""
        if self._connection is None or self._live_since_ns is None:
            return "syncing"
        return "live" if self._liveness.pulse is Pulse.ALIVE and not self._server_down else "suspect"

    @property
    def protocol(self) -> str:
        """The acknowledged protocol of this connection, empty before."""
        return self._session.protocol or ""

    def step(self) -> None:
        """Connect when it is time, else read once, act on what was said, send what is due."""
        if self._connection is None:
            self._try_to_connect()
            return
        try:
            self._turn(self._connection)
        except FeedDisconnected as gone:
            self._lost(str(gone.facts["reason"]), gone.message, wait_s=gone.facts.get("wait_s"))

    def close(self, reason: str) -> None:
        """End the link on purpose: what was read is in the journal, the rest is given up."""
        if self._connection is not None:
            self._lost(reason, f"closed: {reason}")
        self._next_attempt_ns = 0

    def want(self, symbols: tuple[str, ...]) -> None:
        """Set the wanted symbols; the difference goes out with the next turns."""
        if self._channel == "admin":
            return
        added, removed = self.subscription.want(symbols)
        if added or removed:
            self._log.info("symbols_changed", wanted=len(symbols), added=len(added), removed=len(removed))

    def session_began(self) -> None:
        """A new session date: everything is watched anew, so that the date's recording stands alone."""
        if self._channel != "admin" and self._session.phase is Phase.LIVE:
            self.subscription.send_all_again("session", self._clock.monotonic_ns())

    def _try_to_connect(self) -> None:
        now = self._clock.monotonic_ns()
        if now < self._next_attempt_ns:
            self._clock.sleep(min(_READ_WAIT_S, (self._next_attempt_ns - now) / 1e9))
            return
        self._attempt += 1
        self.counters.attempts += 1
        self._conn_id = (self._conn_id + 1) & 0xFFFFFFFF
        try:
            connection = Connection.open(self._host, self._port, self._connection_options, self._clock, self._network)
        except FeedDisconnected as error:
            self._recorder.control("connect_failed", self._conn_id, error=error.message, attempt=self._attempt)
            self._retry_later(self._backoff.wait_s(), error.message)
            return
        # From here on bytes may wait for us, also while the disk makes the record of the connection wait.
        self._read_at_ns, self._waited_since_ns = (self._clock.monotonic_ns(), self._clock.now_ns()), None
        self._recorder.control("connect", self._conn_id, host=self._host, port=self._port, attempt=self._attempt)
        self._log.info("connected", host=self._host, port=self._port, attempt=self._attempt)
        self.counters.connected_ns = self._clock.now_ns()
        self._connection = connection
        self._session = open_session(self._channel, self._options)
        self._server_up = self._server_down = False
        now = self._clock.monotonic_ns()
        self._liveness.connected(now)
        self._session.start(now)

    def _retry_later(self, wait_s: float, reason: str) -> None:
        self.counters.reason = reason
        self._next_attempt_ns = self._clock.monotonic_ns() + int(wait_s * 1e9)
        self._log.warning("link_down", reason=reason, retry_s=round(wait_s, 2), attempt=self._attempt)

    def _turn(self, connection: Connection) -> None:
        read_before = connection.bytes_read
        pieces = self._read(connection)
        self._read_bound.see(connection.bytes_read - read_before)
        heard = connection.bytes_read > read_before
        if heard:
            self._keep(pieces)
        else:
            self._watch_silence()
        self._session.tick(self._clock.monotonic_ns())
        self._take_events()
        self._subscribe(connection)
        connection.send(self._session.data_to_send())
        if heard and self._read_sleep_s and not connection.filled:
            # a short pause lets the next read take many lines at once
            self._clock.sleep(self._read_sleep_s)

    def _read(self, connection: Connection) -> list[Piece]:
        """One read; notes whether what it gives may have waited for us."""
        called = self._clock.monotonic_ns()
        try:
            return connection.read()
        finally:
            ended, before = self._clock.monotonic_ns(), self._read_at_ns
            away = before is not None and called - before[0] > _AWAY_NS
            if before is not None and (away or ended - called > _READ_WAIT_S * 1e9 + _AWAY_NS):
                self._waited_since_ns = self._waited_since_ns or before[1]
            self._read_at_ns = ended, self._clock.now_ns()

    def _keep(self, pieces: list[Piece]) -> None:
        """Bytes arrived, perhaps only a part of a line: journal first, then look."""
        before, self.counters.last_byte_ns = self.counters.last_byte_ns, self._clock.now_ns()
        if self._liveness.heard(self._clock.monotonic_ns()):
            self._recorder.control("resumed", self._conn_id, last_byte_ns=before)
            self._log.info("link_resumed")
        self._sure_ns = self._waited_since_ns or self.counters.last_byte_ns
        if self._connection is not None and not self._connection.filled:
            self._waited_since_ns = None
        for piece in pieces:
            self._append(piece)
            if piece.kind == WHOLE_LINES:
                self._session.receive(bytes(piece.data))

    def _append(self, piece: Piece) -> None:
        data: bytes | memoryview = piece.data
        if self._channel == "admin":
            data = messages.mask_secrets(bytes(piece.data), self._secrets)
        if piece.kind & OVERSIZE:
            self._line_bound.hit()
        ts_recv = self.counters.last_byte_ns or self._clock.now_ns()
        self._recorder.append(data, piece.lines, ts_recv, self._conn_id, piece.kind)

    def _watch_silence(self) -> None:
        match self._liveness.judge(self._clock.monotonic_ns()):
            case Pulse.SUSPECT:
                self._recorder.control("suspect", self._conn_id, last_byte_ns=self._sure_ns)
                self._log.warning("link_suspect", quiet_s=self._feed.suspect_s)
            case Pulse.SILENT:
                raise FeedDisconnected(f"no byte for {self._feed.silence_s:g} s", reason="silence")

    def _take_events(self) -> None:
        taken = 0
        while (event := self._session.next_event()) is not None:
            taken += 1
            self._act(event)
        self._event_bound.see(taken)
        if self._session.phase is Phase.LIVE and self._live_since_ns is None and not self._watching:
            self._begin_watching()

    def _begin_watching(self) -> None:
        """The handshake is done: the watches go out, as fast as the feed takes them."""
        now = self._clock.monotonic_ns()
        if self._channel == "admin":
            self._became_live()
            return
        self._watching = True
        self.subscription.connected(now)

    def _became_live(self) -> None:
        self._live_since_ns = self._clock.monotonic_ns()
        self.counters.reason = ""
        self._log.info("live", watched=len(self.subscription.sent))

    def _act(self, event: messages.Event) -> None:
        now_ns = self._clock.now_ns()
        match event:
            case messages.FeedClock(text):
                feed_ns = messages.feed_clock_ns(text, now_ns)
                if feed_ns is not None:
                    self._roll.feed_clock(feed_ns, now_ns, self._clock.monotonic_ns())
                    self._recorder.context(clock=f"T,{text}")
            case messages.CommandSent(line):
                self._recorder.control("command", self._conn_id, line=line)
            case messages.ProtocolAcked(version):
                self._recorder.control("protocol", self._conn_id, version=version)
                self._recorder.context(protocol=version)
            case messages.FieldsAcked(names):
                self._recorder.context(fields=list(names))
            case messages.ProtocolRefused(reason):
                raise FeedDisconnected(reason, reason="refused")
            case messages.Unauthorized(reason):
                self._refused_login(reason)
            case messages.ServerConnected() | messages.ServerDisconnected():
                self._server(up=isinstance(event, messages.ServerConnected))
            case messages.CustomerInfo(_, symbols_max) | messages.Stats(symbols_max, _, _):
                self.counters.account_symbols_max = symbols_max or self.counters.account_symbols_max
                self._login_stands()
            case _:
                self._act_on_refusal(event)

    def _act_on_refusal(self, event: messages.Event) -> None:
        match event:
            case messages.SymbolLimit(symbol):
                self.counters.limit_refusals += 1
                self.subscription.limit_reached(symbol, self._clock.monotonic_ns())
                self._recorder.control("limit", self._conn_id, symbol=symbol)
            case messages.SymbolNotFound(symbol):
                self.counters.unknown_symbols += 1
                self.subscription.unknown(symbol)
            case messages.ErrorLine(text) | messages.FieldsUnacknowledged(text):
                self.counters.error_lines += 1
                self.counters.last_error = text
                self._log.warning("feed_error", text=text)
                if isinstance(event, messages.FieldsUnacknowledged):
                    self._recorder.control("fields_unacknowledged", self._conn_id, reason=text)

    def _refused_login(self, reason: str) -> None:
        self._recorder.control("unauthorized", self._conn_id, reason=reason)
        self.counters.reason = reason
        self._log.error("unauthorized", reason=reason)
        if self._channel != "admin":
            # the admin conversation tries again on its own socket, at its own pace
            raise FeedDisconnected(reason, reason="refused", wait_s=self._feed.unauthorized_retry_s)

    def _login_stands(self) -> None:
        if isinstance(self._session, AdminSession) and self._session.logged_in:
            self.counters.reason = ""

    def _server(self, *, up: bool) -> None:
        """The feed's own upstream went away or came back while TCP stayed: what is watched must be sent anew."""
        if not up:
            self._server_down = True
            self.counters.reason = "the feed says SERVER DISCONNECTED"
            self._log.warning("server_disconnected")
            return
        if self.subscription.sent and (self._server_down or not self._server_up):
            self.subscription.send_all_again("server", self._clock.monotonic_ns())
        if self._server_down:
            self.counters.reason = ""
            self._log.info("server_connected")
        self._server_up, self._server_down = True, False

    def _subscribe(self, connection: Connection) -> None:
        batch = None
        if not connection.unsent_bytes:
            batch = self.subscription.next_batch(self._clock.monotonic_ns())
        if batch is not None:
            self._send_batch(batch)
        if self.subscription.take_completed():
            self._recorder.context(watches=list(self.subscription.sent))
            self._recorder.control("subscribed", self._conn_id, symbols=len(self.subscription.sent))
            if self._live_since_ns is None:
                self._became_live()
        busy = self._watching and (batch is not None or not self.subscription.complete)
        connection.patience(_READ_WAIT_BUSY_S if busy else _READ_WAIT_S)

    def _send_batch(self, batch: Batch) -> None:
        names = list(batch.symbols)
        self._batch_bound.see(len(names))
        if not batch.watch:
            self._recorder.control("unwatch", self._conn_id, symbols=names)
            self._session.unwatch(names)
        else:
            # `watch` is said of single symbols that join a running subscription; whole passes are named apart
            event = "watch" if batch.why in {"change", "retry"} else "subscribing"
            self._recorder.control(event, self._conn_id, symbols=names, why=batch.why)
            self._session.watch(names, refresh=batch.refresh)
        if batch.why in {"change", "retry"}:
            self._recorder.context(watches=list(self.subscription.sent))

    def _lost(self, reason: str, text: str, wait_s: float | None = None) -> None:
        connection = self._connection
        assert connection is not None
        fragment = connection.fragment()
        if fragment is not None:
            self._append(fragment)
        self._recorder.control("disconnect", self._conn_id, reason=reason, last_byte_ns=self._sure_ns, error=text)
        connection.close()
        self._connection = None
        now = self._clock.monotonic_ns()
        if self._live_since_ns is not None and now - self._live_since_ns >= _GOOD_LINK_NS:
            self._backoff.reset()
            self._attempt = 0
        self._live_since_ns = None
        self._watching = False
        self.subscription.disconnected()
        self._roll.link_lost()
        self.counters.disconnects += 1
        if reason not in _ON_PURPOSE:
            self._retry_later(self._backoff.wait_s() if wait_s is None else wait_s, text)

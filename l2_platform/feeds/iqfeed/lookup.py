"""The lookup port of IQConnect (9100): one socket that asks for history and hands on the bytes of the replies.

Every wait has an end: connecting, the protocol's answer, silence in a reply, a reply as a whole. A socket that failed is closed, since
what it still sends belongs to nobody. What does not belong here: what requests and replies look like (`lookup_protocol`), which
requests are made (`collectors.backfill`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from l2_platform.clock import Clock
from l2_platform.errors import FeedDisconnected, FeedError, FeedProtocolError, FeedUnauthorized
from l2_platform.feeds.iqfeed.connection import WHOLE_LINES, Connection, ConnectionOptions
from l2_platform.feeds.iqfeed.lookup_protocol import Outcome, ReplyReader
from l2_platform.feeds.iqfeed.lookup_rate import SharedRate
from l2_platform.settings import FeedSettings, LookupSettings

NS = 1_000_000_000
READ_TIMEOUT_S = 0.05


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a request."""

    outcome: Outcome
    lines: int
    size: int
    """Bytes of the reply."""
    message: str


class LookupConnection:
    """One socket; one thread uses it."""

    def __init__(self, feed: FeedSettings, settings: LookupSettings, port: int, rate: SharedRate, clock: Clock) -> None:
        self._feed = feed
        self._settings = settings
        self._port = port
        self._rate = rate
        self._clock = clock
        self._connection: Connection | None = None
        self._reader = ReplyReader(feed.protocol)
        self._requests = 0
        self._bytes_before = 0

    def close(self) -> None:
        """Give the socket back; the next request opens another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def fetch(self, make: Callable[[str], str], take: Callable[[bytes], object]) -> Reply:
        """Send the request that `make` writes for an id, give the bytes of its reply to `take`, return how it ended.

        FeedDisconnected: refused, silent, too slow, or broken (try again); FeedProtocolError: no IQConnect, or a reply larger than
        `reply_bytes_max`; FeedUnauthorized: the account may not ask. The bytes given so far count for nothing then.
        """
        try:
            return self._fetch(make, take)
        except FeedError:
            self.close()
            raise

    def _fetch(self, make: Callable[[str], str], take: Callable[[bytes], object]) -> Reply:
        connection = self._connection or self.open()
        self._requests += 1
        request_id = f"H{self._requests:08d}"
        line = make(request_id)
        self._reader.begin(request_id)
        self._rate.send(lambda: connection.send(line.encode("ascii") + b"\r\n"))
        started = self._clock.monotonic_ns()
        heard, size = started, 0
        while self._reader.outcome is None:
            data = self._read(connection)
            now = self._clock.monotonic_ns()
            heard = now if data or connection.bytes_read != self._bytes_before else heard
            self._bytes_before = connection.bytes_read
            if data:
                kept = self._reader.take(data)
                size += len(kept)
                if size > self._settings.reply_bytes_max:
                    raise FeedProtocolError(
                        f"{line}: the reply is larger than {self._settings.reply_bytes_max} bytes (lookup.reply_bytes_max)"
                    )
                if kept:
                    take(kept)
            self._check_time(line, now, started, heard)
        if self._reader.outcome is Outcome.UNAUTHORIZED:
            raise FeedUnauthorized(f"the lookup port refuses: {self._reader.message}; log IQConnect in, or check the subscription")
        return Reply(self._reader.outcome, self._reader.lines, size, self._reader.message)

    def _check_time(self, line: str, now: int, started: int, heard: int) -> None:
        if now - heard > self._settings.silence_s * NS:
            raise FeedDisconnected(f"{line}: no byte for {self._settings.silence_s:g} s (lookup.silence_s)", reason="silence")
        if now - started > self._settings.reply_s_max * NS:
            raise FeedDisconnected(f"{line}: not answered within {self._settings.reply_s_max:g} s (lookup.reply_s_max)", reason="slow")

    def _read(self, connection: Connection) -> bytes:
        """Whole lines that arrived; FeedProtocolError for a line without end."""
        pieces = connection.read()
        if any(piece.kind != WHOLE_LINES for piece in pieces):
            raise FeedProtocolError("the lookup port sends lines without end; is it an IQConnect?")
        return b"".join(bytes(piece.data) for piece in pieces)

    def open(self) -> Connection:
        """Connect and agree on the protocol; FeedError when that fails within `feed.connect_timeout_s` each."""
        feed = self._feed
        options = ConnectionOptions(read_timeout_s=READ_TIMEOUT_S, connect_timeout_s=feed.connect_timeout_s)
        connection = Connection.open(feed.host, self._port, options, self._clock)
        try:
            self._shake_hands(connection)
        except FeedError:
            connection.close()
            raise
        self._connection, self._bytes_before = connection, connection.bytes_read
        return connection

    def _shake_hands(self, connection: Connection) -> None:
        """Ask for the protocol and wait for its answer: it decides what lines look like."""
        protocol = self._feed.protocol
        connection.send(f"S,SET PROTOCOL,{protocol}\r\nS,SET CLIENT NAME,{self._feed.client_name}-lookup\r\n".encode("ascii"))
        deadline = self._clock.monotonic_ns() + int(self._feed.connect_timeout_s * NS)
        seen = b""
        while self._clock.monotonic_ns() < deadline:
            seen += self._read(connection)
            if b"S,CURRENT PROTOCOL," + protocol.encode("ascii") in seen:
                return
            if b"is not a valid protocol" in seen:
                raise FeedProtocolError(f"the lookup port does not speak protocol {protocol}; set L2_FEED__PROTOCOL to an older one")
            seen = seen[-4096:]
        said = f" It said {seen[:80]!r}." if seen else ""
        raise FeedProtocolError(
            f"the lookup port {self._feed.host}:{self._port} did not agree to protocol {protocol} within"
            f" {self._feed.connect_timeout_s:g} s.{said} Is it an IQConnect?"
        )


def check_reachable(feed: FeedSettings, settings: LookupSettings, port: int, clock: Clock) -> None:
    """Connect once and leave; FeedError when that fails, with what to do."""
    connection = LookupConnection(feed, settings, port, SharedRate(settings.requests_per_s, clock), clock)
    try:
        connection.open()
    except FeedDisconnected as error:
        raise FeedDisconnected(
            f"{error.message}; start IQConnect, or the simulated market (`l2 up`, `l2 simulate`), then run the same again",
            **error.facts,
        ) from None
    finally:
        connection.close()

"""One TCP connection to an IQFeed port: bytes in whole lines, commands out; every byte that was read is handed over once.

What does not belong here: what the lines mean (`protocol`) and where they go (`collectors`).
"""

import errno
import select
import socket
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from l2_platform.clock import Clock
from l2_platform.errors import FeedDisconnected

WHOLE_LINES = 0
FRAGMENT = 1
OVERSIZE = 2
"""`Piece.kind`, equal to the journal's frame flags: lines, the rest of a line at a disconnect, a part of a line over the cap."""
_KEEPALIVE_IDLE_S = 5
_KEEPALIVE_INTERVAL_S = 2
_KEEPALIVE_PROBES = 3


class Piece(NamedTuple):
    """Bytes of one read that go into one frame: `lines` lines (1 for a fragment or a part of an oversize line)."""

    data: memoryview
    lines: int
    kind: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """Bounds of a connection: bytes and seconds."""

    recv_bytes: int = 262_144
    line_bytes_max: int = 65_536
    read_timeout_s: float = 0.05
    connect_timeout_s: float = 5.0
    user_timeout_s: float = 10.0
    send_timeout_s: float = 5.0


class Socket(Protocol):
    """What a connection needs of a socket; failures are OSError, TimeoutError when nothing came or went in time."""

    def fileno(self) -> int:
        """Its descriptor."""
        ...

    def recv_into(self, buffer: memoryview, /) -> int:
        """Bytes that arrived; 0 at the end."""
        ...

    def send(self, data: bytes, /) -> int:
        """How many bytes were taken."""
        ...

    def settimeout(self, value: float, /) -> None:
        """How long the calls wait, s."""
        ...

    def close(self) -> None:
        """Give it back."""
        ...


class Network:
    """Sockets as the kernel gives them: the seam where a simulation has a network of its own."""

    def connect(self, host: str, port: int, options: ConnectionOptions) -> Socket:
        """A connected socket that notices a dead peer; OSError."""
        sock = socket.create_connection((host, port), timeout=options.connect_timeout_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # not every system names these; where they are missing, the silence rule of the collector still finds a dead peer
        for name, value in (
            ("TCP_KEEPIDLE", _KEEPALIVE_IDLE_S),
            ("TCP_KEEPINTVL", _KEEPALIVE_INTERVAL_S),
            ("TCP_KEEPCNT", _KEEPALIVE_PROBES),
            ("TCP_USER_TIMEOUT", int(options.user_timeout_s * 1000)),
        ):
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        return sock

    def writable(self, sock: Socket) -> bool:
        """The socket takes bytes now."""
        return bool(select.select((), (sock,), (), 0)[1])


class Connection:
    """An open socket with its carry-over buffer. The pieces of a read are valid until the next read."""

    def __init__(
        self, sock: Socket, options: ConnectionOptions, clock: Clock, network: Network | None = None
    ) -> None:
        self._socket = sock
        self._network = network or Network()
        self._options = options
        self._clock = clock
        self._buffer = bytearray(options.line_bytes_max + options.recv_bytes)
        self._view = memoryview(self._buffer)
        self._patience_s = options.read_timeout_s
        self._held = 0
        self._cut = 0
        self._in_oversize = False
        self._unsent = b""
        self._unsent_since_ns = 0
        self.bytes_read = 0
        self.filled = False
        """The last read took all the room there was: more is waiting, so do not sleep."""

    @classmethod
    def open(
        cls, host: str, port: int, options: ConnectionOptions, clock: Clock, network: Network | None = None
    ) -> "Connection":
        """Connect; FeedDisconnected(reason=refused or error) when that fails within `connect_timeout_s`."""
        network = network or Network()
        try:
            sock = network.connect(host, port, options)
        except OSError as error:
            reason = "refused" if error.errno == errno.ECONNREFUSED else "error"
            text = error.strerror or str(error) or type(error).__name__
            raise FeedDisconnected(f"cannot connect to {host}:{port}: {text}", reason=reason) from None
        sock.settimeout(options.read_timeout_s)
        return cls(sock, options, clock, network)

    def read(self) -> list[Piece]:
        """What arrived, in whole lines; [] when nothing came in `read_timeout_s` or no line is complete. FeedDisconnected at the end."""
        self._drop_taken()
        room = self._options.recv_bytes
        try:
            size = self._socket.recv_into(self._view[self._held : self._held + room])
        except TimeoutError:
            self.filled = False
            return []
        except OSError as error:
            reason = "rst" if error.errno == errno.ECONNRESET else "error"
            raise FeedDisconnected(f"the feed's connection broke: {error.strerror}", reason=reason) from None
        if size == 0:
            raise FeedDisconnected("the feed closed the connection", reason="fin")
        self.bytes_read += size
        self.filled = size == room
        end = self._held + size
        searched_from, self._held = self._held, end
        return self._pieces(searched_from, end)

    def fragment(self) -> Piece | None:
        """After the end: the bytes of a line that never ended, once."""
        self._drop_taken()
        if not self._held:
            return None
        piece = Piece(self._view[: self._held], 1, OVERSIZE | FRAGMENT if self._in_oversize else FRAGMENT)
        self._cut = self._held
        return piece

    def send(self, data: bytes) -> None:
        """Queue `data` and send what the socket takes now; FeedDisconnected when the peer takes nothing for `send_timeout_s`.

        A send that was given up half-way leaves the peer in an unknown state, so it ends the connection.
        """
        if data and not self._unsent:
            self._unsent_since_ns = self._clock.monotonic_ns()
        self._unsent += data
        while self._unsent and self._writable():
            try:
                sent = self._socket.send(self._unsent)
            except TimeoutError:
                break
            except OSError as error:
                reason = "rst" if error.errno in {errno.ECONNRESET, errno.EPIPE} else "error"
                raise FeedDisconnected(f"cannot send to the feed: {error.strerror}", reason=reason) from None
            self._unsent = self._unsent[sent:]
            self._unsent_since_ns = self._clock.monotonic_ns()
        waited_ns = self._clock.monotonic_ns() - self._unsent_since_ns
        if self._unsent and waited_ns > self._options.send_timeout_s * 1e9:
            raise FeedDisconnected("the feed takes no commands", reason="error")

    @property
    def unsent_bytes(self) -> int:
        """Commands that the socket did not take yet, bytes."""
        return len(self._unsent)

    def patience(self, read_timeout_s: float) -> None:
        """How long the next reads wait for bytes, s."""
        if read_timeout_s != self._patience_s:
            self._patience_s = read_timeout_s
            self._socket.settimeout(read_timeout_s)

    def close(self) -> None:
        """Give the socket back; what was not taken is lost."""
        self._socket.close()

    def _writable(self) -> bool:
        return self._network.writable(self._socket)

    def _drop_taken(self) -> None:
        if self._cut:
            rest = self._held - self._cut
            # bytes() first: source and target may overlap
            self._view[:rest] = bytes(self._view[self._cut : self._held])
            self._held = rest
            self._cut = 0

    def _pieces(self, searched_from: int, end: int) -> list[Piece]:
        last = self._buffer.rfind(b"\n", searched_from, end) + 1
        if not last:
            return self._without_line_end(end)
        pieces = []
        begin = 0
        first = self._buffer.find(b"\n", searched_from, end) + 1
        if self._in_oversize or first > self._options.line_bytes_max:
            # the first line began in earlier reads and is over the cap: its parts are frames of their own
            pieces += self._oversize(0, first)
            self._in_oversize = False
            begin = first
        pieces += self._lines(begin, last)
        self._cut = last
        rest = end - last
        if rest > self._options.line_bytes_max:
            pieces += self._oversize_head(last, end)
        return pieces

    def _lines(self, begin: int, end: int) -> list[Piece]:
        """Whole lines in `begin:end`; one piece, unless a line over the cap hides in it."""
        pieces = []
        cap = self._options.line_bytes_max
        while begin < end:
            long_at = self._long_line(begin, end, cap)
            stop = end if long_at is None else long_at[0]
            if stop > begin:
                pieces.append(Piece(self._view[begin:stop], self._buffer.count(b"\n", begin, stop), WHOLE_LINES))
            if long_at is None:
                break
            pieces += self._oversize(*long_at)
            begin = long_at[1]
        return pieces

    def _long_line(self, begin: int, end: int, cap: int) -> tuple[int, int] | None:
        """The first line in `begin:end` over `cap`: a hop of `cap` bytes without a line end finds it in few steps."""
        at = begin
        while end - at > cap:
            hop = self._buffer.rfind(b"\n", at, at + cap) + 1
            if not hop:
                return at, self._buffer.find(b"\n", at, end) + 1
            at = hop
        return None

    def _without_line_end(self, end: int) -> list[Piece]:
        return self._oversize_head(0, end) if end > self._options.line_bytes_max else []

    def _oversize_head(self, begin: int, end: int) -> list[Piece]:
        """A line without an end yet that is over the cap: its full parts go out, so that memory stays bounded."""
        cap = self._options.line_bytes_max
        stop = begin + (end - begin) // cap * cap
        self._in_oversize = True
        self._cut = stop
        return [Piece(self._view[at : at + cap], 1, OVERSIZE) for at in range(begin, stop, cap)]

    def _oversize(self, begin: int, end: int) -> list[Piece]:
        cap = self._options.line_bytes_max
        return [Piece(self._view[at : min(at + cap, end)], 1, OVERSIZE) for at in range(begin, end, cap)]

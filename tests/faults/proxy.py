"""A TCP proxy that breaks connections on purpose: one thread, both directions of every link, faults switched while it runs.

What belongs here: what a network can do to a connection (late, slow, silent, cut, in small pieces, wrong bytes). What does not:
knowing any protocol, and what must follow from a fault (`checkers`).
"""

import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Self

How = Literal["fin", "rst"]
BUFFER_BYTES = 1 << 20
"""Most bytes held per direction; above it the sender is not read, as a full network would do it."""
READ_BYTES = 1 << 16
LOOK_S = 0.05


@dataclass
class Faults:
    """What is done to the bytes of one direction; may be changed at any time, counts for links that are open too."""

    latency_s: float = 0.0
    """Every byte is forwarded this much later, s."""
    bytes_per_s: float = 0.0
    """Bandwidth; 0 = unlimited."""
    slice_bytes: int = 0
    """Each send holds at most this many bytes; 0 = as it comes."""
    stalled: bool = False
    """Nothing is read or forwarded; the sockets stay (half-open) until the client gives up."""
    cut_after: int | None = None
    """The link ends when this many more bytes of this direction were forwarded."""
    cut_how: How = "rst"
    mangle: Callable[[bytes], bytes] | None = None
    """Changes what was read before it is forwarded."""


@dataclass
class _Half:
    """One direction of a link."""

    source: socket.socket
    target: socket.socket
    faults: Faults
    record: bytearray | None
    waiting: deque[tuple[float, memoryview]] = field(default_factory=deque)
    held: int = 0
    ended: bool = False
    tokens: float = 0.0
    filled_at: float = 0.0

    def wants_read(self) -> bool:
        return not self.ended and not self.faults.stalled and self.held < BUFFER_BYTES

    def due(self, now: float) -> bool:
        if not self.waiting or self.faults.stalled or self.waiting[0][0] > now:
            return False
        return self._allowed(now) >= 1

    def _allowed(self, now: float) -> float:
        rate = self.faults.bytes_per_s
        if not rate:
            self.filled_at = now
            return float(READ_BYTES)
        burst = max(1.0, rate * LOOK_S)
        self.tokens = min(burst, self.tokens + (now - self.filled_at) * rate)
        self.filled_at = now
        return self.tokens

    def take(self, data: bytes, now: float) -> None:
        if self.faults.mangle is not None:
            data = self.faults.mangle(data)
        if data:
            self.waiting.append((now + self.faults.latency_s, memoryview(data)))
            self.held += len(data)

    def _send(self, data: memoryview) -> int:
        """Recorded before it is sent, so that whoever received it finds it recorded."""
        if self.record is None:
            return self.target.send(data)
        before = len(self.record)
        self.record += data
        sent = 0
        try:
            sent = self.target.send(data)
        finally:
            del self.record[before + sent :]
        return sent

    def forward(self, now: float) -> None:
        """Send one piece; OSError when the other side is gone."""
        ready, data = self.waiting[0]
        size = min(len(data), int(self._allowed(now)))
        if self.faults.slice_bytes:
            size = min(size, self.faults.slice_bytes)
        if self.faults.cut_after is not None:
            size = min(size, self.faults.cut_after)
        sent = self._send(data[:size]) if size else 0
        self.held -= sent
        if self.faults.bytes_per_s:
            self.tokens -= sent
        if self.faults.cut_after is not None:
            self.faults.cut_after -= sent
        self.waiting.popleft()
        if sent < len(data):
            self.waiting.appendleft((ready, data[sent:]))


class _Link:
    """A client and the server behind the proxy."""

    def __init__(self, client: socket.socket, server: socket.socket, proxy: "FaultProxy") -> None:
        self.client, self.server = client, server
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        record = bytearray() if proxy.recording else None
        if record is not None:
            proxy.delivered.append(record)
        self.up = _Half(client, server, proxy.up, None)
        self.down = _Half(server, client, proxy.down, record)

    def close(self, how: How) -> None:
        for sock in (self.client, self.server):
            if how == "rst":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()


class FaultProxy:
    """Listens on a port of its own and forwards to `target` on 127.0.0.1; a context manager."""

    def __init__(self, target: int, *, port: int = 0, recording: bool = False) -> None:
        """`recording` keeps what each client was sent in `delivered`, one entry per link."""
        self.target = target
        self.up, self.down = Faults(), Faults()
        self.recording = recording
        self.delivered: list[bytearray] = []
        self.accepted = 0
        """Links that were opened so far."""
        self.connect_times: list[float] = []
        """When (`time.monotonic`, s)."""
        self.cuts = 0
        """Links that a fault of this proxy ended."""
        self._before_reply: deque[How] = deque()
        self._links: list[_Link] = []
        self._given_up: set[int] = set()
        """Clients of a stalled link that closed it."""
        self._listener: socket.socket | None = None
        self._asked: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._wake_read, self._wake_write = socket.socketpair()
        self._stop = threading.Event()
        self.port = port
        self._listen()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._wake_write.send(b"x")
        self._thread.join(10)
        for link in self._links:
            link.close("fin")
        self._refuse()
        self._wake_read.close()
        self._wake_write.close()

    # ── commands, from the test's thread ──────────────────────────────────────

    def drop(self, how: How = "fin") -> int:
        """End every open link now; how many there were."""
        count = len(self._links)

        def cut() -> None:
            for link in list(self._links):
                self._end(link, how)
                self.cuts += 1

        self._do(cut)
        return count

    def refuse(self, refuse: bool = True) -> None:
        """New connections are refused (True), or taken again."""
        self._do(self._refuse if refuse else self._listen)

    def cut_before_reply(self, times: int = 1, how: How = "rst") -> None:
        """The next `times` links on which the server answers are ended instead: what was asked is done, nobody hears of it."""
        self._before_reply.extend([how] * times)

    @property
    def cuts_waiting(self) -> int:
        """Replies still to be cut."""
        return len(self._before_reply)

    @property
    def open_links(self) -> int:
        """Links that are open now."""
        return len(self._links)

    # ── the thread ────────────────────────────────────────────────────────────

    def _do(self, action: Callable[[], None]) -> None:
        done = threading.Event()
        self._asked.append((action, done))
        self._wake_write.send(b"x")
        assert done.wait(10), "the proxy's thread does not answer"

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
            self._listener.setblocking(False)
            self.port = self._listener.getsockname()[1]

    def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _run(self) -> None:
        while not self._stop.is_set():
            readable, writable = self._poll()
            if self._wake_read.fileno() in readable:
                self._wake_read.recv(4096)
            while self._asked:
                action, done = self._asked.popleft()
                action()
                done.set()
            if self._listener is not None and self._listener.fileno() in readable:
                self._accept()
            for link in list(self._links):
                self._serve(link, readable, writable)

    def _poll(self) -> tuple[set[int], set[int]]:
        now = time.monotonic()
        poll = select.poll()
        interest: dict[int, int] = {self._wake_read.fileno(): select.POLLIN}
        if self._listener is not None:
            interest[self._listener.fileno()] = select.POLLIN
        wait_s = LOOK_S
        for link in self._links:
            if link.up.faults.stalled:
                interest[link.client.fileno()] = select.POLLRDHUP
            for half in (link.up, link.down):
                if half.wants_read():
                    number = half.source.fileno()
                    interest[number] = interest.get(number, 0) | select.POLLIN
                if half.due(now):
                    number = half.target.fileno()
                    interest[number] = interest.get(number, 0) | select.POLLOUT
                elif half.waiting and not half.faults.stalled:
                    wait_s = 0.001
        for number, events in interest.items():
            poll.register(number, events)
        readable, writable = set(), set()
        self._given_up.clear()
        for number, events in poll.poll(wait_s * 1000):
            if events & select.POLLRDHUP and interest[number] & select.POLLRDHUP:
                self._given_up.add(number)
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR) and interest[number] & select.POLLIN:
                readable.add(number)
            if events & (select.POLLOUT | select.POLLERR) and interest[number] & select.POLLOUT:
                writable.add(number)
        return readable, writable

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=2)
        except OSError:
            client.close()
            return
        self.accepted += 1
        self.connect_times.append(time.monotonic())
        self._links.append(_Link(client, server, self))

    def _serve(self, link: _Link, readable: set[int], writable: set[int]) -> None:
        now = time.monotonic()
        if link.client.fileno() in self._given_up:
            self._end(link, "rst")
            return
        try:
            for half in (link.up, link.down):
                if half.source.fileno() in readable and half.wants_read():
                    self._read(link, half, now)
                if link not in self._links:
                    return
                if half.target.fileno() in writable and half.due(now):
                    half.forward(now)
                if half.faults.cut_after is not None and half.faults.cut_after <= 0:
                    half.faults.cut_after = None
                    self.cuts += 1
                    self._end(link, half.faults.cut_how)
                    return
                if half.ended and not half.waiting:
                    self._end(link, "fin")
                    return
        except BlockingIOError:
            return
        except OSError:
            self._end(link, "rst")

    def _read(self, link: _Link, half: _Half, now: float) -> None:
        data = half.source.recv(READ_BYTES)
        if not data:
            half.ended = True
        elif half is link.down and self._before_reply:
            self.cuts += 1
            self._end(link, self._before_reply.popleft())
        else:
            half.take(data, now)

    def _end(self, link: _Link, how: How) -> None:
        if link in self._links:
            self._links.remove(link)
            link.close(how)

"""Sockets of the simulated market: listeners, connections with bounded queues, one selector, no threads.

A connection hands whole lines to its service and takes whole lines from it; what the kernel accepted goes to the ledger, byte for
byte. What does not belong here: the meaning of any line.
"""

import contextlib
import logging
import selectors
import socket
import struct
from collections import deque
from typing import Final, Protocol

from l2_platform.clock import Clock
from l2_platform.errors import ConfigError
from l2_platform.feeds.iqfeed.simulator.faults import Faults
from l2_platform.feeds.iqfeed.simulator.ledger import Ledger, LedgerFile
from l2_platform.monitoring.bounds import Bound
from l2_platform.settings import SimulatorSettings

log = logging.getLogger(__name__)

RECV_BYTES: Final = 1 << 16
LINES_PER_TURN: Final = 256
"""Commands of one client that are carried out before others get their turn."""
INBOX_BYTES_MAX: Final = 1 << 20
"""Unread commands of one client; more stay in its own socket, bytes."""
PAUSED_QUEUE_SHARE: Final = 8
"""Commands wait while more than 1/8 of the queue limit is unsent: 10,000 watches must not overflow a slow client."""
SEGMENTS_PER_TURN: Final = 512
"""Pieces of a split write that leave in one turn."""


class LineService(Protocol):
    """What a listener needs from the service behind it."""

    name: str

    def opened(self, connection: "Connection") -> None:
        """A client came."""
        ...

    def received(self, connection: "Connection", line: str) -> None:
        """A client sent a line (without its end)."""
        ...

    def closed(self, connection: "Connection") -> None:
        """A client is gone."""
        ...


class Connection:
    """One client: its socket, the bytes that wait for it, its faults."""

    def __init__(self, network: "Network", service: LineService, sock: socket.socket, peer: str, number: int) -> None:
        self.network = network
        self.service = service
        self.socket = sock
        self.peer = peer
        self.number = number
        self.faults = Faults()
        self.queued = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.opened_ns = network.clock.now_ns()
        self.is_open = True
        self.inbox = bytearray()
        self.records: LedgerFile | None = None
        self.events = 0
        self._outbox: deque[memoryview] = deque()

    def send(self, data: bytes) -> None:
        """Send whole lines now or when the client reads; a client whose queue is over the limit is cut."""
        if not data or not self.is_open or self.faults.half_open:
            return
        cut = self.faults.cut_mid_line
        if self.faults.changes_data:
            data = self.faults.apply(data)
        if not data:
            return
        self._outbox.append(memoryview(data))
        self.queued += len(data)
        self.flush()
        if cut:
            self.close("mid_line")
        elif self.queued > self.network.queue_bytes_max:
            log.warning(
                "client_too_slow service=%s connection=%d queued=%d", self.service.name, self.number, self.queued
            )
            self.network.queue_bound.hit()
            self.close("slow")
        else:
            self.network.queue_bound.see(self.queued)
            self.network.watch(self)

    def flush(self) -> None:
        """Hand as much of the queue to the kernel as it takes."""
        if self.network.clock.monotonic_ns() < self.faults.stalled_until_ns:
            return
        pieces = 0
        while self._outbox and self.is_open and not self.faults.half_open:
            view = self._outbox[0]
            size = self.faults.segment()
            piece = view[:size] if size else view
            try:
                sent = self.socket.send(piece)
            except BlockingIOError:
                return
            except OSError as error:
                self.close(f"send: {error.strerror}")
                return
            self.bytes_out += sent
            self.queued -= sent
            if self.records is not None:
                self.records.sent(piece[:sent], self.network.clock.now_ns())
            if sent == len(view):
                self._outbox.popleft()
            else:
                self._outbox[0] = view[sent:]
            pieces += 1
            if size and pieces >= SEGMENTS_PER_TURN:
                return

    def read(self) -> None:
        """Take what the client sent."""
        try:
            data = self.socket.recv(RECV_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(f"recv: {error.strerror}")
            return
        if not data:
            self.close("client")
            return
        self.bytes_in += len(data)
        self.inbox += data

    def dispatch(self) -> bool:
        """Hand up to LINES_PER_TURN lines to the service; True when more wait."""
        for _ in range(LINES_PER_TURN):
            if not self.is_open or self.faults.half_open or self.is_paused:
                return False
            end = self.inbox.find(b"\n")
            if end < 0:
                if len(self.inbox) > self.network.command_bytes_max:
                    self.network.command_bound.hit()
                    self.close("line without end")
                return False
            if end > self.network.command_bytes_max:
                self.network.command_bound.hit()
                self.close("line too long")
                return False
            line = self.inbox[:end].decode("latin-1").rstrip("\r")
            del self.inbox[: end + 1]
            self.service.received(self, line)
        return b"\n" in self.inbox

    @property
    def is_paused(self) -> bool:
        """True while so much is unsent that further commands wait."""
        return self.queued > self.network.queue_bytes_max // PAUSED_QUEUE_SHARE

    def close(self, reason: str, *, reset: bool = False) -> None:
        """End the connection with FIN, or RST; what is queued is gone."""
        if not self.is_open:
            return
        self.is_open = False
        self.network.forget(self)
        if reset:
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
        self._outbox.clear()
        if self.records is not None:
            self.records.close(reason, self.network.clock.now_ns())
        log.info("client_closed service=%s connection=%d reason=%s", self.service.name, self.number, reason)
        self.service.closed(self)


class Network:
    """All listeners and connections, behind one selector."""

    def __init__(self, clock: Clock, ledger: Ledger, settings: SimulatorSettings) -> None:
        self.clock = clock
        self.ledger = ledger
        self.queue_bytes_max = settings.client_queue_bytes_max
        self.command_bytes_max = settings.command_bytes_max
        self.clients_bound = Bound("clients", settings.clients_max, "clients", "simulator.clients_max")
        self.queue_bound = Bound("client_queue", self.queue_bytes_max, "bytes", "simulator.client_queue_bytes_max")
        self.command_bound = Bound("command_bytes", self.command_bytes_max, "bytes", "simulator.command_bytes_max")
        self.bounds = (self.clients_bound, self.queue_bound, self.command_bound)
        self.connections: set[Connection] = set()
        self._selector = selectors.DefaultSelector()
        self._listeners: dict[str, socket.socket] = {}
        self._ports: dict[str, tuple[LineService, int]] = {}
        self._refused_until: dict[str, int] = {}
        self._waiting: set[Connection] = set()

    def listen(self, service: LineService, port: int) -> None:
        """Open a service on 127.0.0.1; ConfigError when the port is taken."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            listener.close()
            raise ConfigError(
                f"simulated market: port {port} ({service.name}) cannot be opened: {error.strerror};"
                " stop what uses it or set L2_PORTS__BASE",
            ) from None
        listener.listen(128)
        listener.setblocking(False)
        self._listeners[service.name] = listener
        self._ports[service.name] = (service, port)
        self._selector.register(listener, selectors.EVENT_READ, service)

    def refuse(self, name: str, seconds: float) -> None:
        """Close a listener for a while: new clients are refused."""
        listener = self._listeners.pop(name, None)
        if listener is not None:
            self._selector.unregister(listener)
            listener.close()
        self._refused_until[name] = self.clock.monotonic_ns() + int(seconds * 1e9)

    def poll(self, timeout: float) -> None:
        """Serve sockets that are ready; wait up to `timeout` seconds for the first."""
        now = self.clock.monotonic_ns()
        for name in [name for name, until in self._refused_until.items() if until <= now]:
            del self._refused_until[name]
            self.listen(*self._ports[name])
        for key, events in self._selector.select(0 if self._waiting else timeout):
            if isinstance(key.data, Connection):
                self._serve(key.data, events)
            else:
                self._accept(key.fileobj, key.data)  # type: ignore[arg-type]  # listeners are registered as sockets
        for connection in list(self._waiting):
            self._dispatch(connection)
        for connection in [c for c in self.connections if c.faults.stalled_until_ns]:
            if connection.faults.stalled_until_ns <= now:
                connection.faults.stalled_until_ns = 0
                connection.flush()
            self.watch(connection)

    def watch(self, connection: Connection) -> None:
        """Tell the selector what a connection waits for now."""
        if not connection.is_open:
            return
        events = 0
        if not connection.faults.half_open:
            if len(connection.inbox) < INBOX_BYTES_MAX:
                events |= selectors.EVENT_READ
            if connection.queued and not connection.faults.stalled_until_ns:
                events |= selectors.EVENT_WRITE
        if events == connection.events:
            return
        if connection.events == 0:
            self._selector.register(connection.socket, events, connection)
        elif events == 0:
            self._selector.unregister(connection.socket)
        else:
            self._selector.modify(connection.socket, events, connection)
        connection.events = events

    def forget(self, connection: Connection) -> None:
        """A connection ended."""
        if connection.events:
            self._selector.unregister(connection.socket)
            connection.events = 0
        self.connections.discard(connection)
        self._waiting.discard(connection)

    def close(self) -> None:
        """Close every socket."""
        for connection in list(self.connections):
            connection.close("stop")
        for listener in self._listeners.values():
            listener.close()
        self._selector.close()

    def _accept(self, listener: socket.socket, service: LineService) -> None:
        try:
            sock, address = listener.accept()
        except OSError:
            return  # gone before we took it
        if len(self.connections) >= self.clients_bound.limit:
            log.warning("too_many_clients service=%s limit=%d", service.name, self.clients_bound.limit)
            self.clients_bound.hit()
            sock.close()
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = f"{address[0]}:{address[1]}"
        connection = Connection(self, service, sock, peer, self.ledger.number())
        if service.name != "control":
            connection.records = self.ledger.open(service.name, connection.number, connection.opened_ns, peer)
        self.connections.add(connection)
        self.clients_bound.see(len(self.connections))
        log.info("client_opened service=%s connection=%d peer=%s", service.name, connection.number, peer)
        service.opened(connection)
        self.watch(connection)

    def _serve(self, connection: Connection, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            connection.flush()
        if events & selectors.EVENT_READ and connection.is_open:
            connection.read()
        self._dispatch(connection)

    def _dispatch(self, connection: Connection) -> None:
        more = connection.is_open and connection.dispatch()
        if more:
            self._waiting.add(connection)
        else:
            self._waiting.discard(connection)
        if connection.is_open:
            self.watch(connection)

"""A ClickHouse HTTP front that does what it is told to the inserts that pass through it, and forwards all else to a real warehouse.

What belongs here: refusing with a chosen code, cutting before or after the commit, holding an insert back and forwarding it when its
sender has long given up, being slow, being away. What does not: what must follow from it (the tests).
"""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from l2_platform.sinks.native import LAYOUTS


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer instead of the warehouse's."""

    code: int
    """ClickHouse code; 0: none, as a proxy in between answers."""
    status: int = 500
    text: str = "refused on purpose"


@dataclass(slots=True)
class Insert:
    """One insert of a market table on its way."""

    table: str
    query_id: str
    body: bytes


@dataclass
class Orders:
    """What to do with the next inserts; each may be set at any time."""

    refuse: Callable[[Insert], Refusal | None] | None = None
    """Refuses those it answers for."""
    cut: Callable[[Insert], str] | None = None
    """`before` (nothing is forwarded), `after` (the commit), `late` (forwarded `late_s` after the cut), or ``."""
    late_s: Callable[[], float] = lambda: 1.0
    slow_s: float = 0.0
    """Each insert takes this much longer."""
    away: bool = False
    """Every connection is closed without an answer."""


@dataclass
class Seen:
    """What passed."""

    inserts: list[tuple[float, str]] = field(default_factory=list)
    """(when, table) of every insert that came, forwarded or not; s, monotonic."""
    requests: list[float] = field(default_factory=list)
    """When a request came, s, monotonic."""
    cuts: Counter[str] = field(default_factory=Counter)


class WarehouseFront:
    """Listens on a port of its own; a context manager that waits for the late ones."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.orders = Orders()
        self.seen = Seen()
        self._late: list[threading.Thread] = []
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                front._serve(self)

            def do_POST(self) -> None:
                front._serve(self)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128

            def handle_error(self, *_: Any) -> None:
                pass  # a client that was cut on purpose

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.settle()
        self._server.shutdown()
        self._server.server_close()

    def settle(self) -> None:
        """Wait until every late insert was forwarded and answered."""
        while self._late:
            self._late.pop().join()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = _body(handler)
        self.seen.requests.append(time.monotonic())
        if self.orders.away:
            _cut(handler)
            return
        insert = insert_of(handler.path, body)
        if insert is None:
            self._forward(handler, body)
            return
        self.seen.inserts.append((time.monotonic(), insert.table))
        refusal = self.orders.refuse(insert) if self.orders.refuse else None
        if refusal is not None:
            _refuse(handler, refusal)
            return
        cut = self.orders.cut(insert) if self.orders.cut else ""
        if self.orders.slow_s:
            time.sleep(self.orders.slow_s)
        if not cut:
            self._forward(handler, body)
            return
        self.seen.cuts[cut] += 1
        if cut == "after":
            self._ask(handler, body)
        elif cut == "late":
            thread = threading.Thread(target=self._later, args=(handler, body, self.orders.late_s()))
            self._late.append(thread)
            thread.start()
        _cut(handler)

    def _later(self, handler: BaseHTTPRequestHandler, body: bytes, seconds: float) -> None:
        time.sleep(seconds)
        self._ask(handler, body)

    def _forward(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        status, headers, data = self._ask(handler, body)
        handler.send_response(status)
        for name, value in headers:
            if name.lower() not in {"transfer-encoding", "content-length", "connection", "date", "server"}:
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def _ask(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(*self.target, timeout=60)
        try:
            own = {"host", "connection", "transfer-encoding", "content-length"}
            headers = {name: value for name, value in handler.headers.items() if name.lower() not in own}
            connection.request(handler.command, handler.path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


def insert_of(path: str, body: bytes) -> Insert | None:
    """The insert into a market table that a request is, else None."""
    arguments = parse_qs(urlsplit(path).query)
    words = arguments.get("query", [""])[0].split()
    if words[:2] != ["INSERT", "INTO"] or words[2].rpartition(".")[2] not in LAYOUTS:
        return None
    return Insert(words[2].rpartition(".")[2], arguments.get("query_id", [""])[0], body)


def _body(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
    parts: list[bytes] = []
    while size := int(handler.rfile.readline(), 16):
        parts.append(handler.rfile.read(size))
        handler.rfile.readline()
    handler.rfile.readline()
    return b"".join(parts)


def _refuse(handler: BaseHTTPRequestHandler, refusal: Refusal) -> None:
    text = f"Code: {refusal.code}. DB::Exception: {refusal.text}" if refusal.code else refusal.text
    handler.send_response(refusal.status)
    if refusal.code:
        handler.send_header("X-ClickHouse-Exception-Code", str(refusal.code))
    handler.send_header("Content-Length", str(len(text)))
    handler.end_headers()
    handler.wfile.write(text.encode())


def _cut(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.shutdown(2)

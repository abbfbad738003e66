"""One request, one attempt: plain HTTP to ClickHouse for inserts that must not be repeated behind anybody's back.

Client libraries resend a request when a connection breaks; a sink has to know that it did. Every failure here is either
`QueryFailed` (the server answered: with code) or `ConnectionLost` (nobody knows whether the statement ran).
"""

import http.client
import threading
from base64 import b64encode
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from l2_platform.clock import Clock, SystemClock
from l2_platform.errors import WarehouseError
from l2_platform.warehouse.errors import QueryFailed, failure_of

IDLE_S: Final = 5.0
"""A connection unused for longer is opened anew: servers close idle ones, and a request on a dying one has an unknown end."""


class ConnectionLost(WarehouseError):
    """No answer: refused, cut, or too late. The statement may have run."""

    retryable = True


class PlainClient:
    """Requests to one server; every thread has a connection of its own."""

    def __init__(
        self, host: str, port: int, user: str, password: str, *, secure: bool = False, timeout_s: float = 60.0, clock: Clock | None = None
    ) -> None:
        self.host, self.port = host, port
        self._secure, self._timeout_s = secure, timeout_s
        self._clock = clock or SystemClock()
        self._authorization = "Basic " + b64encode(f"{user}:{password}".encode()).decode()
        self._own = threading.local()
        self._open: set[http.client.HTTPConnection] = set()
        self._lock = threading.Lock()

    def query(self, sql: str, **params: str | int) -> list[list[str]]:
        """Rows of a small result as text; `params` fill {name:Type} placeholders."""
        given = {f"param_{name}": str(value) for name, value in params.items()}
        body = self.post(sql.encode(), {**given, "default_format": "TabSeparated"})
        return [line.split("\t") for line in body.decode().splitlines()]

    def insert(self, sql: str, data: bytes, query_id: str, settings: Mapping[str, str]) -> None:
        """INSERT … FORMAT X with its data; returns when the server has stored it."""
        self.post(data, {"query": sql, "query_id": query_id, **settings})

    def running(self, prefix: str) -> list[str]:
        """Query ids of the embedded warehouse's requests, waiting ones too, that begin with `prefix`."""
        return [line for line in self._request("GET", "/running", None).decode().splitlines() if line.startswith(prefix)]

    def post(self, body: bytes, arguments: Mapping[str, str]) -> bytes:
        """One POST; the answer's body."""
        return self._request("POST", "/?" + urlencode(arguments), body)

    def close(self) -> None:
        """Close every thread's connection."""
        with self._lock:
            connections, self._open = self._open, set()
        for connection in connections:
            connection.close()

    def _request(self, method: str, path: str, body: bytes | None) -> bytes:
        connection = self._connection()
        try:
            connection.request(method, path, body=body, headers={"Authorization": self._authorization})
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._drop(connection)
            reason = str(error) or type(error).__name__
            raise ConnectionLost(f"{self.host}:{self.port} gave no answer: {reason}", host=self.host, port=self.port) from None
        except BaseException:
            # interrupted in the middle: the answer is still to come on this connection, the next question needs another one
            self._drop(connection)
            raise
        self._own.used_ns = self._clock.monotonic_ns()
        code = answer.getheader("X-ClickHouse-Exception-Code")
        if answer.status == 200 and code is None:
            return data
        failure = failure_of(data.decode("utf-8", "replace"))
        raise QueryFailed(int(code) if code else failure.code, failure.detail, status=answer.status)

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is not None:
            if self._clock.monotonic_ns() - self._own.used_ns < IDLE_S * 1e9 and connection.sock is not None:
                return connection
            self._drop(connection)
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self.host, self.port, timeout=self._timeout_s)
        self._own.connection, self._own.used_ns = connection, self._clock.monotonic_ns()
        with self._lock:
            self._open.add(connection)
        return connection

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        connection.close()
        self._own.connection = None
        with self._lock:
            self._open.discard(connection)

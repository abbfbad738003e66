"""Answers of the HTTP front: headers and bodies, whole or in pieces, and errors at any point of them.

What does not belong here: requests and statements (front).
"""

import json

from starlette.types import Send

from l2_platform.warehouse.encoding import Encoder, make_encoder
from l2_platform.warehouse.engine import Answer
from l2_platform.warehouse.errors import QueryFailed


class Sender:
    """One answer: headers once, body in pieces; an error after the headers goes into the body, as ClickHouse does it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.finished = False
        """The last piece is on its way."""
        self._started = False
        self._tag = ""
        self._encoder: Encoder | None = None

    async def start(self, status: int, headers: dict[str, str], tag: str, encoder: Encoder) -> None:
        """Send the headers of a streamed answer."""
        self._started, self._tag, self._encoder = True, tag, encoder
        await self._send({"type": "http.response.start", "status": status, "headers": _raw(headers)})

    async def more(self, data: bytes) -> None:
        """Send a piece; waits while the client is slow."""
        if data:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """The body is whole."""
        self.finished = True
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def all(self, headers: dict[str, str], body: bytes, encoding: str | None) -> None:
        """Send a whole answer."""
        if encoding is not None and body:
            encoder = make_encoder(encoding)
            body = encoder.add(body) + encoder.end()
            headers = headers | encoding_header(encoding)
        self._started = self.finished = True
        await send_all(self._send, 200, headers, body)

    async def fail(self, error: QueryFailed, headers: dict[str, str], version: str) -> None:
        """Tell the error: as a status, or behind what was sent already."""
        text = f"{error.message} (version {version} (official build))\n" if version else f"{error.message}\n"
        if not self._started:
            extra = {"X-ClickHouse-Exception-Code": str(error.code)}
            if error.status == 401:
                extra["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
            await send_all(self._send, error.status, headers | extra, text.encode())
            return
        message = f"\r\n__exception__\r\n{self._tag}\r\n{text}{len(text.encode())} {self._tag}\r\n__exception__\r\n".encode()
        encoder = self._encoder or make_encoder(None)
        await self.more(encoder.add(message) + encoder.end())
        await self.end()


async def send_all(send: Send, status: int, headers: dict[str, str], body: bytes) -> None:
    """Send headers and a whole body."""
    raw = _raw(headers | {"Content-Length": str(len(body))})
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]


def encoding_header(encoding: str | None) -> dict[str, str]:
    """Content-Encoding, when there is one."""
    return {} if encoding is None else {"Content-Encoding": encoding}


def summary(answer: Answer) -> str:
    """The X-ClickHouse-Summary header: counts as JSON."""
    facts = {
        "read_rows": answer.read_rows, "read_bytes": answer.read_bytes, "written_rows": answer.written_rows,
        "written_bytes": answer.written_bytes, "result_rows": 0, "result_bytes": len(answer.body),
    }  # fmt: skip
    return json.dumps({name: str(value) for name, value in facts.items()}, separators=(",", ":"))

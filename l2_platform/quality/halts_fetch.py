"""The answer of an http(s) address, whole within a time and a number of bytes, however slowly the other side tells it.

A timeout of a socket bounds one read only: an answer whose status or headers come a byte at a time, or that leads elsewhere again and
again, would hold whoever waits for hours. So the answer is fetched beside the one who waits, and given up when the time is over. What
does not belong here: what the answer says (halts).
"""

import contextlib
import http.client
import socket
import threading
import urllib.request
from typing import Any, Final

PIECE_BYTES: Final = 65_536
"""Bytes asked for at once."""


def fetch(address: str, limit: int, seconds: float) -> bytes:
    """The first `limit` bytes of the answer; raise OSError: TimeoutError when they have not come within
    `seconds`, ConnectionError when there is no answer, or less of it than it said.

    What was begun ends with the time: the connection is shut down, and no other one is made.
    """
    one = _Fetch(address, limit, seconds)
    one.start()
    one.join(seconds)
    if one.is_alive():
        one.give_up()
        raise TimeoutError(f"no whole answer within {seconds:g} s (`L2_GAPS__HALTS_TIMEOUT_S`)")
    if one.failure:
        raise ConnectionError(one.failure)
    return bytes(one.data)


class _Fetch(threading.Thread):
    """One answer on its way."""

    def __init__(self, address: str, limit: int, seconds: float) -> None:
        super().__init__(name="halts", daemon=True)
        self.data = bytearray()
        self.failure = "the answer was not read to its end"
        """Why there is no answer; empty: it is there. In words, for an error would keep its connection."""
        self._address, self._limit, self._seconds = address, limit, seconds
        self._lock = threading.Lock()
        self._given_up = False
        self._socket: socket.socket | None = None

    def run(self) -> None:
        try:
            request = urllib.request.Request(self._address, headers={"User-Agent": "l2_platform"})  # noqa: S310 - http or https only
            with _web_only(self).open(request, timeout=self._seconds) as answer:
                # bytes that its headers promise; None when they do not say
                whole = answer.length
                while len(self.data) < self._limit and (piece := answer.read1(min(PIECE_BYTES, self._limit - len(self.data)))):
                    self.data += piece
            # a connection that ends early looks like the end of the answer; halts that are cut off would explain nothing
            cut = whole is not None and len(self.data) < min(whole, self._limit)
            self.failure = f"the answer is cut: got {len(self.data):,} of {whole:,} bytes" if cut else ""
        except http.client.IncompleteRead:
            self.failure = f"the answer is cut: got {len(self.data):,} bytes and no end"
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.failure = str(error) or type(error).__name__

    def hold(self, made: socket.socket | None) -> None:
        """From here on this connection is the one to end; TimeoutError when the answer was given up meanwhile."""
        with self._lock:
            self._socket = made
            if self._given_up:
                raise TimeoutError("the answer was given up")

    def give_up(self) -> None:
        """End what waits for the other side."""
        with self._lock:
            self._given_up = True
            if self._socket is not None:
                # of the plain socket: TLS would say farewell first, and wait for it
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _Http(urllib.request.HTTPHandler):
    """Makes connections that a fetch can end."""

    def __init__(self, one: _Fetch) -> None:
        super().__init__()
        self._one = one

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_held(http.client.HTTPConnection, self._one), req)


class _Https(urllib.request.HTTPSHandler):
    """The same with TLS."""

    def __init__(self, one: _Fetch) -> None:
        super().__init__()
        self._one = one

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_held(http.client.HTTPSConnection, self._one), req)


def _held(kind: type[http.client.HTTPConnection], one: _Fetch) -> Any:
    class Held(kind):  # type: ignore[misc, valid-type]
        def connect(self) -> None:
            one.hold(None)
            super().connect()
            one.hold(self.sock)

    return Held


def _web_only(one: _Fetch) -> urllib.request.OpenerDirector:
    """Asks http and https addresses only, also where an answer leads elsewhere (no file, no ftp)."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(), _Http(one), _Https(one), urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPRedirectHandler(), urllib.request.UnknownHandler(),
    ):  # fmt: skip
        opener.add_handler(handler)
    return opener

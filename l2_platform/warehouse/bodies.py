"""Request bodies of the HTTP front, held to one limit together: announced, arriving, unpacked.

What does not belong here: what is in them (front, encoding).
"""

import asyncio
import threading
from typing import BinaryIO

from starlette.requests import Request

from l2_platform.monitoring.bounds import Bound
from l2_platform.settings import WarehouseSettings
from l2_platform.warehouse.errors import QueryFailed


class Bodies:
    """Bytes of all bodies at hand. Refusing a few beats losing the process."""

    def __init__(self, settings: WarehouseSettings) -> None:
        self._limit = settings.body_bytes_max
        self._patience_s = settings.body_s_max
        self._lock = threading.Lock()
        self._at_hand = 0
        self.bound = Bound("body_bytes", self._limit, "bytes", "warehouse.body_bytes_max")

    async def read(self, request: Request, held: "Held", file: BinaryIO | None = None) -> bytes:
        """The whole body, or b"" when it went into `file`; QueryFailed when it is too large, or does not arrive in time."""
        announced = request.headers.get("content-length", "")
        if announced.isdigit():
            held.at_least(int(announced))
        parts: list[bytes] = []
        total = 0
        try:
            async with asyncio.timeout(self._patience_s):
                async for part in request.stream():
                    total += len(part)
                    held.at_least(total)
                    if file is None:
                        parts.append(part)
                    else:
                        file.write(part)
        except TimeoutError:
            detail = f"The body did not arrive within {self._patience_s:g} s"
            raise QueryFailed(209, detail, name="SOCKET_TIMEOUT", status=408) from None
        return b"".join(parts)

    def change(self, before: int, size: int) -> None:
        """A body takes `size` bytes now instead of `before`; QueryFailed when that is too much, alone or with the others."""
        if size > self._limit:
            self.bound.hit()
            raise QueryFailed(307, f"The body is larger than {self._limit} bytes", name="TOO_MANY_BYTES", status=413)
        with self._lock:
            fits = self._at_hand - before + size <= self._limit
            if fits:
                self._at_hand += size - before
        if not fits:
            self.bound.hit()
            raise QueryFailed(202, "Too much data in flight; try again", name="TOO_MANY_SIMULTANEOUS_QUERIES")
        self.bound.see(self._at_hand)


class Held:
    """What one request holds of it."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies, self._size = bodies, 0

    def at_least(self, size: int) -> None:
        """It holds no less than `size` bytes from now on: what arrives, and what compressed bytes become."""
        if size > self._size:
            self._bodies.change(self._size, size)
            self._size = size

    def release(self) -> None:
        """The request is over."""
        self._bodies.change(self._size, 0)
        self._size = 0

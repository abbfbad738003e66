"""The vendor's limit of requests, kept in every sliding window and over all sockets, threads and processes of an account.

The times of the last requests stand in a small file under an `flock`; a request is sent while the lock is held and its time is taken
after it left, so that any two windows of a second, wherever they begin, hold no more than the limit. What does not belong here: requests.
"""

import fcntl
import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from l2_platform.clock import Clock
from l2_platform.errors import L2Error

NS: Final = 1_000_000_000
_TIME: Final = struct.Struct("<q")


class RateWindow:
    """At most `count` requests in any `window_ns`, from their times; pure."""

    def __init__(self, count: int, window_ns: int = NS) -> None:
        self._count = count
        self._window_ns = window_ns
        self.sent: list[int] = []
        """Times of requests that still count, ascending, ns."""

    def wait_ns(self, now_ns: int) -> int:
        """How long to wait before the next request may go, ns; 0 = it may go now (then say `mark`)."""
        # a time that lies ahead is of before a reboot: the clock began anew
        self.sent = [at for at in self.sent if now_ns - self._window_ns < at <= now_ns][-self._count :]
        if len(self.sent) < self._count:
            return 0
        return self.sent[0] + self._window_ns - now_ns

    def mark(self, now_ns: int) -> None:
        """A request has left."""
        self.sent.append(now_ns)


class SharedRate:
    """The limit as threads and processes share it: one object a process, one file a machine."""

    def __init__(self, requests_per_s: int, clock: Clock, path: Path | None = None) -> None:
        """`path`: the file that all processes of the account use; None = this object alone counts."""
        self._window = RateWindow(requests_per_s)
        self._clock = clock
        self._path = path
        self._lock = threading.Lock()

    def send(self, send: Callable[[], object]) -> None:
        """Call `send` as soon as a request may go; L2Error when the file cannot be used."""
        while True:
            with self._lock, self._shared():
                left = self._window.wait_ns(self._clock.monotonic_ns())
                if not left:
                    try:
                        send()
                    finally:
                        self._window.mark(self._clock.monotonic_ns())
                    return
            self._clock.sleep(left / NS)

    @contextmanager
    def _shared(self) -> Iterator[None]:
        """The window as the file has it, written back at the end."""
        if self._path is None:
            yield
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise L2Error(f"the rate of requests cannot be shared: {error.strerror} ({self._path}); mend that, then try again") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            data = os.pread(fd, 1 << 16, 0)
            self._window.sent = [at for (at,) in _TIME.iter_unpack(data[: len(data) // _TIME.size * _TIME.size])]
            yield
            data = b"".join(_TIME.pack(at) for at in self._window.sent)
            os.ftruncate(fd, len(data))
            os.pwrite(fd, data, 0)
        finally:
            os.close(fd)

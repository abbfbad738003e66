"""The only reader of wall and monotonic time; everything else takes a `Clock` or a timestamp."""

import time
from typing import Protocol


class Clock(Protocol):
    """Time as the platform sees it."""

    def now_ns(self) -> int:
        """Wall time, ns since the Unix epoch, UTC."""
        ...

    def monotonic_ns(self) -> int:
        """Time that never steps, ns, for durations."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait, in seconds."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now_ns(self) -> int:
        """Wall time, ns since the Unix epoch, UTC."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """Time that never steps, ns."""
        return time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        """Wait, in seconds."""
        time.sleep(seconds)

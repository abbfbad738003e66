"""A collector whose wall clock can be set while it runs: `python -m tests.faults.stepped STREAM FILE`, FILE holds seconds to add.

What belongs here: the injected clock of a real process. What does not: what must follow from a step (`test_clock`).
"""

import sys
from pathlib import Path

from l2_platform.clock import SystemClock
from l2_platform.collectors.collector import Collector
from l2_platform.settings import load_settings

LOOK_NS = 10_000_000


class SteppedClock(SystemClock):
    """The machine's clock plus what a file says; steady time is not touched."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._step_ns = 0
        self._looked_ns = 0

    def now_ns(self) -> int:
        """Wall time as it was set, ns."""
        now = self.monotonic_ns()
        if now - self._looked_ns >= LOOK_NS:
            self._looked_ns = now
            self._step_ns = int(float(self._file.read_text() or 0) * 1e9)
        return super().now_ns() + self._step_ns


def main(stream: str, file: str) -> int:
    """Record until stopped."""
    return Collector(load_settings(), stream, managed=True, clock=SteppedClock(Path(file))).run()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

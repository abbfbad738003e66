"""What a collector finds around it: disk, threads, network, locks, signals and chance; the one seam where a simulation replaces them all.

What does not belong here: time (`clock`), and anything that the collector itself decides.
"""

import os
import secrets
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TextIO

from l2_platform.feeds.iqfeed.connection import Network
from l2_platform.journal.syscalls import Syscalls
from l2_platform.journal.threads import Threads
from l2_platform.monitoring.heartbeat import LockFiles


class Outside:
    """The machine as it is."""

    def __init__(self) -> None:
        self.calls = Syscalls()
        self.threads = Threads()
        self.network = Network()
        self.locks = LockFiles()
        self.pid = os.getpid()
        self.log_stream: TextIO | None = None
        """Where the log goes; None is stderr."""

    def free_bytes(self, folder: Path) -> int:
        """Bytes that may still be written below `folder`, which need not exist yet."""
        while not folder.exists():
            folder = folder.parent
        state = os.statvfs(folder)
        return state.f_bavail * state.f_frsize

    def random(self) -> float:
        """A number from 0 up to 1."""
        return secrets.randbelow(1000) / 1000

    def on_stop_signals(self, stop: Callable[[str], None]) -> None:
        """Call `stop` with the name of a signal that asks the process to end."""

        def on_signal(number: int, _frame: FrameType | None) -> None:
            stop(signal.Signals(number).name.lower())

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, on_signal)

"""Who runs a worker (lease) and how it is (heartbeat): files that outlive their writer and are never wrong about it.

A lease is an `flock`: the kernel gives it back when its holder dies, however it dies. A heartbeat is a small JSON file that the worker
replaces each second; pid and process start time together name the process, so a reused pid is not taken for it.
Imported by the collector: standard library only.
"""

import fcntl
import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from l2_platform.clock import Clock
from l2_platform.errors import L2Error, LeaseHeld
from l2_platform.monitoring.atomic import write_atomic

WAIT_STEP_S = 0.05
"""How often a waiter that can be stopped looks."""


class LockFiles:
    """The calls of a lease: the seam where a simulation keeps locks of its own."""

    def open(self, path: Path) -> int:
        """A descriptor of the file, which is made when it is missing."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def lock(self, fd: int, *, wait: bool) -> None:
        """Take the lock; BlockingIOError when another has it and `wait` is off."""
        fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self, fd: int) -> None:
        """Give descriptor and lock back."""
        os.close(fd)


class Lease:
    """The right to be a worker. The file stays; only the lock on it counts."""

    def __init__(self, path: Path, files: LockFiles | None = None) -> None:
        self.path = path
        self._files = files or LockFiles()
        self._fd = -1

    @property
    def held(self) -> bool:
        """This object has the lease."""
        return self._fd >= 0

    def acquire(self, wait: bool = False, stop: threading.Event | None = None) -> bool:
        """Take the lease; True when it is ours.

        Without `wait` LeaseHeld when another process (or object) has it. With `wait` until it is free, at once when the holder
        dies; False when `stop` was set before. L2Error when the file cannot be made.
        """
        if self.held:
            return True
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = self._files.open(self.path)
        except OSError as error:
            advice = "mend that or choose another L2_HOME, then start again"
            raise L2Error(f"cannot take the lease {self.path}: {error.strerror}; {advice}") from error
        try:
            if not self._lock(fd, wait, stop):
                self._files.close(fd)
                return False
        except BlockingIOError:
            holder = holder_of(self.path)
            self._files.close(fd)
            who = f"process {holder}" if holder else "another process"
            message = f"{self.path.name} is held by {who}: it runs already, stop that one first"
            raise LeaseHeld(message, worker=self.path.name, pid=holder) from None
        except BaseException:
            self._files.close(fd)
            raise
        with suppress(OSError):  # who holds it is only for messages; the lock counts, also on a full disk
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd
        return True

    def release(self) -> None:
        """Give the lease back; nothing when it is not held."""
        if self.held:
            self._files.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        if not self.held:
            self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _lock(self, fd: int, wait: bool, stop: threading.Event | None) -> bool:
        if not wait:
            self._files.lock(fd, wait=False)
            return True
        if stop is None:
            self._files.lock(fd, wait=True)
            return True
        while not stop.is_set():
            try:
                self._files.lock(fd, wait=False)
            except BlockingIOError:
                stop.wait(WAIT_STEP_S)
            else:
                return True
        return False


def holder_of(path: Path) -> int | None:
    """The pid that the lease's last owner wrote, for messages; it may be dead."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def is_held(path: Path) -> bool:
    """Somebody holds the lease now."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def process_start_ticks(pid: int) -> int | None:
    """When the process began, in clock ticks since boot; None when there is no such process or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name in parentheses may hold anything, also spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def process_start(pid: int) -> int:
    """The same as a record keeps it: 0 when there is no such process."""
    return process_start_ticks(pid) or 0


@dataclass(frozen=True, slots=True)
class HeartbeatRecord:
    """What a worker said of itself."""

    worker: str
    pid: int
    start: int
    """Start of the process, clock ticks since boot."""
    generation: int
    """Generation of the desired state that the worker has applied."""
    state: str
    """standby, syncing, live, suspect, degraded, draining, stopped, …"""
    ts: int
    """When it was said, ns."""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """Counters and facts of the worker's own; JSON values."""

    def age_s(self, now_ns: int) -> float:
        """How old the record is, s."""
        return (now_ns - self.ts) / 1e9

    def alive(self) -> bool:
        """The very process that wrote it still runs."""
        return self.start != 0 and process_start_ticks(self.pid) == self.start


class Heartbeat:
    """Writes the record of one worker."""

    def __init__(self, path: Path, worker: str, clock: Clock) -> None:
        self.path = path
        self._worker = worker
        self._clock = clock
        self._generation = 0
        self._pid = os.getpid()
        self._start = process_start(self._pid)

    def beat(self, state: str, *, generation: int | None = None, **numbers: Any) -> None:
        """Replace the record; call it each second and on a change of state. A generation stays until another is given.

        A disk that cannot take it is not this file's to report: the record grows old, and whoever reads it draws the conclusion.
        """
        if generation is not None:
            self._generation = generation
        record = {
            "worker": self._worker, "pid": self._pid, "start": self._start, "generation": self._generation, "state": state,
            "ts": self._clock.now_ns(), "numbers": numbers,
        }  # fmt: skip
        with suppress(OSError):
            write_atomic(self.path, json.dumps(record, separators=(",", ":")).encode(), sync=False)


def read_heartbeat(path: Path) -> HeartbeatRecord | None:
    """The newest record; None when there is none or it cannot be read."""
    try:
        fields = json.loads(path.read_bytes())
        return HeartbeatRecord(
            str(fields["worker"]), int(fields["pid"]), int(fields["start"]), int(fields["generation"]), str(fields["state"]),
            int(fields["ts"]), dict(fields["numbers"]),
        )  # fmt: skip
    except (OSError, ValueError, OverflowError, KeyError, TypeError, RecursionError):
        return None

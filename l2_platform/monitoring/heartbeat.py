"""Signs of life: the lease that makes a worker the only one of its name, and the heartbeat file that says how it is.

Standard library only: the collector imports this. The kernel frees a lease when its holder dies, so none is ever stale; a pid is
believed only together with its start time.
"""

import fcntl
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from l2_platform.clock import Clock
from l2_platform.errors import LeaseHeld

_START_FIELD = 19
"""Position of the start time in /proc/<pid>/stat, counted after the command name."""


def process_start(pid: int) -> int:
    """When a process started, clock ticks since boot; 0 when there is no such process, or it is a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] == "Z" else int(fields[_START_FIELD])


class Lease:
    """An exclusive flock on a file; the file holds the pid of its holder, for people."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """This object holds the lease."""
        return self._fd is not None

    def acquire(self, *, wait: bool = False) -> None:
        """Take the lease; without `wait` LeaseHeld (exit code 75) when another process has it."""
        if self._fd is not None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            message = f"{self.path.name} runs already (pid {holder}); stop it first, or wait with --wait"
            raise LeaseHeld(message, pid=holder) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._fd = descriptor

    def release(self) -> None:
        """Let go; nothing happens when it is not held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> "Lease":
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclass(frozen=True, slots=True)
class HeartbeatRecord:
    """What a worker said last."""

    worker: str
    pid: int
    start: int
    """Start time of the process, clock ticks since boot."""
    generation: int
    """Generation of the desired state that it has applied."""
    state: str
    """standby, syncing, live, suspect, degraded, draining, stopped, …"""
    ts: int
    """When it was said, ns since the epoch."""
    numbers: dict[str, Any] = field(default_factory=dict)

    def age_s(self, now_ns: int) -> float:
        """Seconds since it was said."""
        return (now_ns - self.ts) / 1e9

    def alive(self) -> bool:
        """The very process that said it still exists."""
        return self.start != 0 and process_start(self.pid) == self.start


class Heartbeat:
    """Writes a worker's heartbeat file."""

    def __init__(self, path: Path, worker: str, clock: Clock) -> None:
        self._path = path
        self._worker = worker
        self._clock = clock
        self._pid = os.getpid()
        self._start = process_start(self._pid)
        path.parent.mkdir(parents=True, exist_ok=True)

    def beat(self, state: str, *, generation: int = 0, **numbers: Any) -> None:
        """Replace the file in one step; a full disk is not the heartbeat's to report, so write errors are ignored."""
        record = {
            "worker": self._worker, "pid": self._pid, "start": self._start, "generation": generation, "state": state,
            "ts": self._clock.now_ns(), "numbers": numbers,
        }  # fmt: skip
        temporary = self._path.with_suffix(f".{self._pid}.tmp")
        try:
            temporary.write_text(json.dumps(record), encoding="utf-8")
            temporary.replace(self._path)
        except OSError:
            temporary.unlink(missing_ok=True)


def read_heartbeat(path: Path) -> HeartbeatRecord | None:
    """The last heartbeat; None when there is none or it cannot be read."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return HeartbeatRecord(**fields)
    except (OSError, ValueError, TypeError):
        return None

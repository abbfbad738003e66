"""Disks that fail: real implementations of the writer's system calls that go wrong at the n-th call."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

from l2_platform.journal.syscalls import Syscalls

COUNTED = ("open", "writev", "fdatasync", "fsync", "ftruncate", "rename", "unlink", "mkdir")


class CrashedError(BaseException):
    """The process died here: nothing after it may run."""


class FailingDisk(Syscalls):
    """Does what the kernel does until `fail` says otherwise; counts the calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.log: list[str] = []
        self.fail: Callable[[str, int], BaseException | None] = lambda name, number: None
        self.chunk: int | None = None
        """writev takes at most this many bytes."""

    def _enter(self, name: str) -> None:
        self.calls += 1
        self.log.append(name)
        error = self.fail(name, self.calls)
        if error is not None:
            raise error

    def open(self, path: Path, flags: int, mode: int = 0o640) -> int:
        self._enter("open")
        return super().open(path, flags, mode)

    def writev(self, fd, buffers, offset):
        self._enter("writev")
        if self.chunk is not None:
            return os.pwrite(fd, b"".join(bytes(part) for part in buffers)[: self.chunk], offset)
        return super().writev(fd, buffers, offset)

    def fdatasync(self, fd: int) -> None:
        self._enter("fdatasync")

    def fsync(self, fd: int) -> None:
        self._enter("fsync")

    def ftruncate(self, fd: int, length: int) -> None:
        self._enter("ftruncate")
        super().ftruncate(fd, length)

    def rename(self, source: Path, target: Path) -> None:
        self._enter("rename")
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._enter("unlink")
        super().unlink(path)

    def mkdir(self, path: Path) -> None:
        self._enter("mkdir")
        super().mkdir(path)


def nth(number: int, error: Callable[[], BaseException]) -> Callable[[str, int], BaseException | None]:
    """Fail exactly the n-th call."""
    return lambda _name, call: error() if call == number else None


def io_error() -> OSError:
    return OSError(errno.EIO, "Input/output error")


def no_space() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")

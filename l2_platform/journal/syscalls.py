"""The system calls of the writer and the sealer: the one seam where tests make a disk fail."""

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path


class Syscalls:
    """The calls as the kernel offers them; each raises OSError as it comes."""

    def open(self, path: Path, flags: int, mode: int = 0o640) -> int:
        """A descriptor that children do not inherit."""
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def close(self, fd: int) -> None:
        """Give the descriptor back."""
        os.close(fd)

    def writev(self, fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        """Write at `offset`; how many bytes went, which may be fewer than given."""
        return os.pwritev(fd, buffers, offset)

    def fdatasync(self, fd: int) -> None:
        """Return when data and size are on the disk."""
        os.fdatasync(fd)

    def fsync(self, fd: int) -> None:
        """The same for a directory's entries."""
        os.fsync(fd)

    def ftruncate(self, fd: int, length: int) -> None:
        """Cut the file."""
        os.ftruncate(fd, length)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file its final name, in one step."""
        source.rename(target)

    def unlink(self, path: Path) -> None:
        """Remove a name."""
        path.unlink()

    def mkdir(self, path: Path) -> None:
        """Make one folder."""
        path.mkdir(exist_ok=True)

    def lock(self, fd: int) -> None:
        """Take the file for this process, or raise BlockingIOError."""
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def sync_folder(self, folder: Path) -> None:
        """Make new names in `folder` durable."""
        fd = self.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.fsync(fd)
        finally:
            self.close(fd)

    def write_all(self, fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        """Write everything at `offset`, whatever the kernel interrupts or shortens; return the end offset."""
        left: list[bytes | memoryview] = list(buffers)
        while left:
            try:
                written = self.writev(fd, left, offset)
            except InterruptedError:
                continue
            offset += written
            while left and written >= len(left[0]):
                written -= len(left[0])
                del left[0]
            if left and written:
                left[0] = memoryview(left[0])[written:]
        return offset

    def make_folders(self, folder: Path) -> None:
        """Make `folder` and its missing parents, each durable in its parent."""
        missing: list[Path] = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for path in reversed(missing):
            self.mkdir(path)
            self.sync_folder(path.parent)

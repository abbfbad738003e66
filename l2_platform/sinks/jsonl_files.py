"""Files that only grow: appends through a bounded set of descriptors, undone as a whole when one fails, cut back at a start.

What does not belong here: what a record is (jsonl_kernels), which file it goes to (jsonl).
"""

import ctypes
import errno
import json
import mmap
import os
import resource
from collections import OrderedDict
from pathlib import Path
from typing import Final

from l2_platform.monitoring.bounds import Bound

OWN_DESCRIPTORS: Final = 256
"""Descriptors left to the rest of the process when the limit is raised."""
_TAIL: Final = b',"stream":'
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class FilesChanged(OSError):
    """A file is not as it was left: deleted, replaced or written by somebody else."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.ESTALE, "deleted or changed by another program", path)


class AppendFiles:
    """Appends to many files through at most `open_max` descriptors, the least recently used closed first."""

    def __init__(self, open_max: int) -> None:
        self._open_max = open_max
        self.bound = Bound("open_files", open_max, "files", "jsonl.open_files_max")
        self._descriptors: OrderedDict[str, int] = OrderedDict()
        self._sizes_before: dict[str, int] = {}
        self._appended: dict[str, int] = {}

    def raise_limit(self) -> None:
        """Let the process open `open_max` files; where that is not allowed, fewer are kept open."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = self._open_max + OWN_DESCRIPTORS
        if soft != resource.RLIM_INFINITY and soft < wanted:
            soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            self._open_max = max(1, min(self._open_max, soft - OWN_DESCRIPTORS))
            self.bound.limit = self._open_max

    def append(self, path: str, data: memoryview, sizes: dict[str, int]) -> None:
        """Append all of `data`; an OSError leaves a part of it, which `roll_back` takes away.

        `sizes`: path → bytes that the file must have; a file that is not in it may have any.
        """
        descriptor = self._descriptor(path)
        if path not in self._sizes_before:
            found = os.fstat(descriptor)
            if found.st_nlink == 0 or found.st_size != sizes.get(path, found.st_size):
                self._close_one(path)
                raise FilesChanged(path)
            self._sizes_before[path] = found.st_size
            self._appended[path] = 0
        self._appended[path] += len(data)
        written = os.write(descriptor, data)
        while written < len(data):
            written += os.write(descriptor, data[written:])

    def commit(self, sizes: dict[str, int]) -> int:
        """What was appended since the last commit stays, and is noted in `sizes`; how much it was, bytes."""
        for path, before in self._sizes_before.items():
            sizes[path] = before + self._appended[path]
        total = sum(self._appended.values())
        self._sizes_before.clear()
        self._appended.clear()
        return total

    def roll_back(self) -> bool:
        """Cut every file back to its size at the last commit, new ones away; False when one could not be cut."""
        whole = True
        for path, size in self._sizes_before.items():
            try:
                if size:
                    os.truncate(path, size)
                    continue
                self._close_one(path)
                Path(path).unlink()
            except OSError:
                whole = False
        self._sizes_before.clear()
        self._appended.clear()
        return whole

    def close(self, folder: Path | None) -> None:
        """Close the files of a folder, or all."""
        prefix = "" if folder is None else f"{folder}{os.sep}"
        for path in [path for path in self._descriptors if path.startswith(prefix)]:
            os.close(self._descriptors.pop(path))

    def _descriptor(self, path: str) -> int:
        descriptor = self._descriptors.get(path)
        if descriptor is not None:
            self._descriptors.move_to_end(path)
            return descriptor
        while len(self._descriptors) >= self._open_max:
            self._close_oldest()
        descriptor = self._open(path)
        self._descriptors[path] = descriptor
        self.bound.see(len(self._descriptors))
        return descriptor

    def _open(self, path: str) -> int:
        while True:
            try:
                return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                if error.errno not in {errno.EMFILE, errno.ENFILE} or not self._descriptors:
                    raise
                self._close_oldest()

    def _close_one(self, path: str) -> None:
        descriptor = self._descriptors.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)

    def _close_oldest(self) -> None:
        os.close(self._descriptors.popitem(last=False)[1])


def cut_after_seq(path: Path, stream: str, seq: int) -> int:
    """Cut a file after its last whole line of `stream` at or below `seq`; how many bytes stay, 0 when they are not of `stream`.

    An empty file is removed. A torn last line is cut in any case; a line of another stream is left alone, with all before it.
    """
    size = path.stat().st_size
    keep, own = 0, True
    if size:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            keep, own = _end_of_kept_lines(content, stream, seq)
    if keep == 0:
        path.unlink()
    elif keep < size:
        os.truncate(path, keep)
    return keep if own else 0


def _end_of_kept_lines(content: mmap.mmap, stream: str, seq: int) -> tuple[int, bool]:
    """Where they end, and whether they are of `stream`."""
    end = content.rfind(b"\n") + 1
    while end > 0:
        begin = content.rfind(b"\n", 0, end - 1) + 1
        tail = content.rfind(_TAIL, begin, end)
        try:
            record = json.loads(b"{" + content[tail + 1 : end]) if tail >= 0 else {}
        except ValueError:
            record = {}
        if record and (record["stream"] != stream or record["seq"] <= seq):
            return end, record["stream"] == stream
        end = begin if seq or not record else 0
    return 0, True


def sync_file_system(folder: Path) -> None:
    """Flush all of the file system that holds `folder`; OSError when the flush failed."""
    syncfs = getattr(_LIBC, "syncfs", None)
    if syncfs is None:
        os.sync()
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file as a whole: other file, fsync, rename."""
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)

"""Files that only grow: appends through a bounded set of descriptors, undone as a whole when one fails, cut back at a start.

What does not belong here: what a record is (jsonl_kernels), which file it goes to (jsonl), the loop over the files (jsonl_appends).
"""

import ctypes
import errno
import json
import mmap
import os
import resource
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np

from l2_platform.market.events import Int64, UInt8
from l2_platform.monitoring.bounds import Bound
from l2_platform.sinks import jsonl_appends as appends
from l2_platform.sinks.jsonl_appends import BEFORE, DESCRIPTOR, NOW, SIZE, USED

OWN_DESCRIPTORS: Final = 256
"""Descriptors left to the rest of the process when the limit is raised."""
CLOSED_AT_ONCE: Final = 64
"""Files closed when the process or the machine has no descriptor left."""
NAMES_REFUSED: Final = frozenset({errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL})
"""What a file system says of a name that it can never have."""
_NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE})
_TAIL: Final = b',"stream":'
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class FilesChanged(OSError):
    """A file is not as it was left: deleted, replaced or written by somebody else."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.ESTALE, "deleted or changed by another program", path)


class AppendFiles:
    """Appends to many files through at most `open_max` descriptors, the least recently used closed first.

    A file has a number from `add` to `drop`. What `append` did holds from `commit` on; `roll_back` takes it away.
    """

    def __init__(self, open_max: int) -> None:
        self._open_max = open_max
        self.bound = Bound("open_files", open_max, "files", "jsonl.open_files_max")
        self._paths: list[str] = []
        self._table: Int64 = np.full((64, appends.COLUMNS), -1, np.int64)
        self._free: list[int] = []
        self._fresh: list[int] = []
        """Opened since the last commit, and perhaps made by that."""
        self._open = 0
        self._turn = 0
        self._calls = appends.calls_of(_LIBC)
        self._state: Int64 = np.zeros(appends.STATES, np.int64)

    def raise_limit(self) -> None:
        """Let the process open `open_max` files; where that is not allowed, fewer are kept open."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = self._open_max + OWN_DESCRIPTORS
        if soft != resource.RLIM_INFINITY and soft < wanted:
            soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            self._open_max = max(1, min(self._open_max, soft - OWN_DESCRIPTORS))
            self.bound.limit = self._open_max

    def add(self, path: str, size: int = -1) -> int:
        """The number of a file from now on; `size`: bytes that it must have, -1 when it may have any."""
        if self._free:
            number = self._free.pop()
            self._paths[number] = path
        else:
            number = len(self._paths)
            self._paths.append(path)
            if number == len(self._table):
                self._table = np.concatenate((self._table, np.full_like(self._table, -1)))
        self._table[number, SIZE] = size
        return number

    def size(self, number: int) -> int:
        """Bytes of a file after the last commit; -1 when nothing was ever appended."""
        return int(self._table[number, SIZE])

    def drop(self, numbers: Iterable[int]) -> None:
        """Close these files; their numbers may be given to others."""
        for number in numbers:
            self._close(number)
            self._table[number] = -1
            self._paths[number] = ""
            self._free.append(number)

    def append(self, files: Int64, text: UInt8, ends: Int64) -> list[tuple[int, OSError]]:
        """Append to the i-th file what lies before `ends[i]` and behind the end before; an OSError leaves a part, to be rolled back.

        Files whose names the file system refuses are left out: (i, refusal) of each.
        """
        refused: list[tuple[int, OSError]] = []
        first = 0
        while first < len(files):
            stop = self._open_part(files, first, refused)
            self._append_part(files, text, ends, first, stop)
            first = stop
        return refused

    def commit(self) -> int:
        """What was appended since the last commit stays; by how much all files have grown, bytes."""
        touched = self._touched()
        now = self._table[touched, NOW]
        grown = int((now - np.maximum(self._table[touched, SIZE], 0)).sum())
        self._table[touched, SIZE] = now
        self._table[touched, NOW] = -1
        self._fresh.clear()
        return grown

    def roll_back(self) -> bool:
        """Cut every file back to its size at the last commit, new ones away; False when one could not be cut."""
        whole = True
        touched = self._touched()
        for number, size in zip(touched.tolist(), self._table[touched, BEFORE].tolist(), strict=True):
            try:
                if size:
                    os.truncate(self._paths[number], size)
                    continue
                self._close(number)
                Path(self._paths[number]).unlink()
            except OSError:
                whole = False
        for number in self._fresh:
            if self._table[number, NOW] < 0:
                whole = self._unmake(number) and whole
        self._table[touched, NOW] = -1
        self._fresh.clear()
        return whole

    def close(self, folder: Path | None) -> None:
        """Close the files of a folder, or all."""
        prefix = "" if folder is None else f"{folder}{os.sep}"
        for number in np.flatnonzero(self._table[:, DESCRIPTOR] >= 0).tolist():
            if self._paths[number].startswith(prefix):
                self._close(number)

    def _touched(self) -> Int64:
        return np.flatnonzero(self._table[:, NOW] >= 0)

    def _unmake(self, number: int) -> bool:
        """Delete a file again that was opened and is empty; False when that is not possible."""
        path = Path(self._paths[number])
        try:
            self._close(number)
            if path.stat().st_size == 0:
                path.unlink()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def _open_part(self, files: Int64, first: int, refused: list[tuple[int, OSError]]) -> int:
        """Open the files from the first on, as many as may be open at once; behind the last one."""
        stop = min(len(files), first + self._open_max)
        part = files[first:stop]
        self._turn += 1
        self._table[part, USED] = self._turn
        missing = np.flatnonzero(self._table[part, DESCRIPTOR] < 0) + first
        if not len(missing):
            return stop
        self._close_oldest(self._open + len(missing) - self._open_max)
        for index in missing.tolist():
            try:
                self._open_one(int(files[index]))
            except OSError as error:
                if error.errno in NAMES_REFUSED:
                    refused.append((index, error))
                elif error.errno in _NO_DESCRIPTOR and index > first:
                    return index
                else:
                    raise
        return stop

    def _append_part(self, files: Int64, text: UInt8, ends: Int64, first: int, stop: int) -> None:
        state = self._state
        state[appends.GROUP] = first
        state[appends.AT] = ends[first - 1] if first else 0
        while True:
            outcome = appends.append_groups(self._calls, text, ends, files, stop, self._table, state)
            if outcome == appends.DONE:
                return
            group, code = int(state[appends.GROUP]), int(state[appends.ERRNO])
            number = int(files[group])
            if outcome == appends.UNSEEN:
                self._look(number)
            elif outcome == appends.CHANGED:
                self._close(number)
                raise FilesChanged(self._paths[number])
            elif code != errno.EINTR:
                raise OSError(code, os.strerror(code), self._paths[number])

    def _look(self, number: int) -> None:
        """What `append_groups` does itself where the system lets it: see that a file is as it was left, and begin with it."""
        found = os.fstat(int(self._table[number, DESCRIPTOR]))
        if found.st_nlink == 0 or self._table[number, SIZE] not in {-1, found.st_size}:
            self._close(number)
            raise FilesChanged(self._paths[number])
        self._table[number, BEFORE] = self._table[number, NOW] = found.st_size

    def _open_one(self, number: int) -> None:
        path = self._paths[number]
        made = False
        while True:
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
                break
            except FileNotFoundError:
                if made:  # a symbolic link to nowhere
                    raise
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                made = True
            except OSError as error:
                if error.errno not in _NO_DESCRIPTOR or not self._close_oldest(CLOSED_AT_ONCE):
                    raise
        self._table[number, DESCRIPTOR] = descriptor
        self._open += 1
        self.bound.see(self._open)
        if self._table[number, SIZE] <= 0:
            self._fresh.append(number)

    def _close(self, number: int) -> None:
        descriptor = int(self._table[number, DESCRIPTOR])
        if descriptor >= 0:
            self._table[number, DESCRIPTOR] = -1
            self._open -= 1
            os.close(descriptor)

    def _close_oldest(self, count: int) -> int:
        """Close up to `count` files, those used longest ago, none of this turn; how many it were."""
        if count <= 0:
            return 0
        used = self._table[:, USED]
        idle = np.flatnonzero((self._table[:, DESCRIPTOR] >= 0) & (used < self._turn))
        if count < len(idle):
            idle = idle[np.argpartition(used[idle], count)[:count]]
        for number in idle.tolist():
            self._close(number)
        return len(idle)


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

"""A disk that is told apart from its page cache: programs see every write at once, a power cut keeps what was synced and chance.

What programs see is a folder in memory; beside it stands what the disk holds for certain. Of the rest a power cut keeps a random part:
of each folder the first so many changes of names, of each file a prefix of its writes or any of them, the last one torn. A failed
fdatasync drops what it should have written from everything that later ones write, as Linux does.
"""

import errno
import fcntl
import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from l2_platform.journal.syscalls import Syscalls
from l2_platform.monitoring.heartbeat import LockFiles
from tests.simulation.schedule import KilledError, Process, Schedule

WRITE, CUT = "write", "cut"


class Inode:
    """A file: what is on the disk, and what is not there yet."""

    __slots__ = ("durable", "pending")

    def __init__(self) -> None:
        self.durable = bytearray()
        self.pending: list[tuple[str, int, bytes, bool]] = []
        """(write or cut, offset, bytes, still dirty): what is not dirty was dropped by a failed sync."""


def apply(data: bytearray, change: tuple[str, int, bytes, bool]) -> None:
    what, offset, body, _ = change
    if what == CUT:
        if len(data) > offset:
            del data[offset:]
        else:
            data.extend(bytes(offset - len(data)))
        return
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(body)] = body


class Disk:
    """The names and inodes below `root`, and the faults in force."""

    def __init__(self, root: Path, schedule: Schedule, rng: random.Random, trace: Callable[..., None]) -> None:
        self.root = root
        self.schedule = schedule
        self.rng = rng
        self.trace = trace
        self.names: dict[str, Inode] = {}
        self.sure: dict[str, Inode] = {}
        self.folders = {"", ".", "run", "run/durable"}
        self.waiting: dict[str, list[tuple[str, str, Inode | None]]] = {}
        """Per folder the changes of names that are not durable: (link, rename, unlink or mkdir; path; inode)."""
        self.full = False
        self.free = 1 << 40
        self.failing: dict[str, int] = {}
        """Call → how many of the next ones fail with EIO."""
        self.short_writes = False
        self.sync_ns = (50_000, 2_000_000)
        self.trouble_began = self._troubled_at = -1 << 60
        self.troubles: list[int] = []

    def trouble(self) -> None:
        """Something keeps data from the disk now: what was read since may be lost with the power."""
        if self.calm:
            self.trouble_began = self.schedule.now
        self._troubled_at = self.schedule.now
        self.troubles.append(self.schedule.now)

    @property
    def calm(self) -> bool:
        return self.schedule.now - self._troubled_at > 6_000_000_000

    def name(self, path: Path | str) -> str:
        return os.path.relpath(path, self.root)

    def change_name(self, kind: str, path: Path, inode: Inode | None) -> None:
        folder = self.name(path.parent)
        self.waiting.setdefault(folder, []).append((kind, self.name(path), inode))

    def crash(self) -> None:
        """Power is back: only what was durable is there, and chance."""
        rng = self.rng
        for changes in self.waiting.values():
            for kind, name, inode in changes[: rng.choice((0, len(changes), rng.randint(0, len(changes))))]:
                self._settle_name(kind, name, inode)
        self.waiting.clear()
        kept: dict[int, Inode] = {}
        names: dict[str, Inode] = {}
        for name, inode in sorted(self.sure.items()):
            if id(inode) not in kept:
                kept[id(inode)] = self._survivor(inode)
            if os.path.dirname(name) in self.folders:  # noqa: PTH120  names are strings here
                names[name] = kept[id(inode)]
        self.names, self.sure = dict(names), names
        shutil.rmtree(self.root)
        self.root.mkdir(parents=True)
        for folder in sorted(self.folders):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        for name, inode in names.items():
            (self.root / name).write_bytes(inode.durable)

    def _settle_name(self, kind: str, name: str, inode: Inode | None) -> None:
        if kind == "mkdir":
            if os.path.dirname(name) in self.folders:  # noqa: PTH120
                self.folders.add(name)
        elif inode is None:
            self.sure.pop(name, None)
        else:
            if kind == "rename":
                for old in [old for old, known in self.sure.items() if known is inode]:
                    del self.sure[old]
            self.sure[name] = inode

    def _survivor(self, inode: Inode) -> Inode:
        rng, pending = self.rng, inode.pending
        if rng.random() < 0.5:
            chosen = pending[: rng.randint(0, len(pending))]
        else:
            chosen = [change for change in pending if rng.random() < 0.6]
        after = Inode()
        after.durable = bytearray(inode.durable)
        for number, (what, offset, body, dirty) in enumerate(chosen):
            torn = what == WRITE and number == len(chosen) - 1 and rng.random() < 0.6
            apply(after.durable, (what, offset, body[: rng.randint(0, len(body))] if torn else body, dirty))
        return after

    def sync_folder(self, name: str) -> None:
        for kind, changed, inode in self.waiting.pop(name, ()):
            self._settle_name(kind, changed, inode)

    def sync_file(self, inode: Inode) -> None:
        left = []
        for change in inode.pending:
            if change[3]:
                apply(inode.durable, change)
            else:
                left.append(change)
        inode.pending = left

    def drop_dirty(self, inode: Inode) -> None:
        inode.pending = [(what, offset, body, False) for what, offset, body, _ in inode.pending]


class SimCalls(Syscalls):
    """The system calls of one process."""

    def __init__(self, disk: Disk, process: Process) -> None:
        self._disk = disk
        self._process = process
        self._open: dict[int, tuple[str, Inode | None]] = {}
        self.count = 0
        self.die_at = 0
        """At this call the process dies (before it, or in the middle of a write)."""
        self.on_death: Callable[[], None] = lambda: None

    def release(self) -> None:
        """The process is gone: the kernel closes what it had open."""
        for fd in list(self._open):
            os.close(fd)
        self._open.clear()

    def _enter(self, call: str, name: str, *, cost: tuple[int, int] = (1_000, 30_000)) -> bool:
        """Take a while; fail or die as told. True when this very call must die half-way."""
        disk = self._disk
        disk.schedule.sleep(disk.rng.randint(*cost))
        if self._process.dead:
            raise KilledError
        self.count += 1
        dying = self.count == self.die_at
        if dying and (call != "writev" or disk.rng.random() < 0.5):
            self._die(call, name)
        if disk.failing.get(call, 0) > 0:
            disk.failing[call] -= 1
            disk.trouble()
            disk.trace("eio", call, name)
            raise OSError(errno.EIO, "Input/output error")
        if disk.full and call in {"create", "writev", "rename", "mkdir"}:
            disk.trouble()
            if call != "writev" or disk.rng.random() < 0.6:
                raise OSError(errno.ENOSPC, "No space left on device")
        return dying

    def _die(self, call: str, name: str) -> None:
        self._disk.trace("dies", self._process.name, call, name)
        self.on_death()
        raise KilledError

    def open(self, path: Path, flags: int, mode: int = 0o640) -> int:
        disk, name = self._disk, self._disk.name(path)
        creating = bool(flags & os.O_CREAT) and name not in disk.names
        self._enter("create" if creating else "open", name)
        fd = super().open(path, flags, mode)
        inode = disk.names.get(name)
        if flags & os.O_DIRECTORY:
            inode = None
        elif inode is None:
            inode = disk.names[name] = Inode()
            disk.change_name("link", path, inode)
        elif flags & os.O_TRUNC:
            inode.pending.append((CUT, 0, b"", True))
        self._open[fd] = name, inode
        return fd

    def close(self, fd: int) -> None:
        if self._process.dead:
            return  # `release` closes it: the lock on it must not go before the process does
        self._open.pop(fd, None)
        super().close(fd)

    def writev(self, fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        disk = self._disk
        name, inode = self._open[fd]
        dying = self._enter("writev", name)
        data = b"".join(bytes(part) for part in buffers)
        if dying or disk.full or (disk.short_writes and len(data) > 1 and disk.rng.random() < 0.5):
            data = data[: disk.rng.randint(1, max(len(data) - 1, 1))]
        written = os.pwrite(fd, data, offset)
        assert inode is not None
        inode.pending.append((WRITE, offset, data[:written], True))
        disk.trace("write", name, offset, written)
        if dying:
            self._die("writev", name)
        return written

    def fdatasync(self, fd: int) -> None:
        disk = self._disk
        name, inode = self._open[fd]
        assert inode is not None
        if disk.sync_ns[0] > 100_000_000:
            disk.trouble()
        try:
            self._enter("fdatasync", name, cost=disk.sync_ns)
        except OSError:
            disk.drop_dirty(inode)
            raise
        disk.sync_file(inode)
        disk.trace("sync", name)

    def fsync(self, fd: int) -> None:
        name, inode = self._open[fd]
        if inode is not None:
            self.fdatasync(fd)
            return
        self._enter("fsync", name, cost=self._disk.sync_ns)
        self._disk.sync_folder(name)

    def ftruncate(self, fd: int, length: int) -> None:
        name, inode = self._open[fd]
        self._enter("ftruncate", name)
        super().ftruncate(fd, length)
        assert inode is not None
        inode.pending.append((CUT, length, b"", True))

    def rename(self, source: Path, target: Path) -> None:
        disk = self._disk
        self._enter("rename", disk.name(target))
        super().rename(source, target)
        inode = disk.names.pop(disk.name(source))
        disk.names[disk.name(target)] = inode
        disk.change_name("rename", target, inode)
        disk.trace("rename", disk.name(target))

    def unlink(self, path: Path) -> None:
        self._enter("unlink", self._disk.name(path))
        super().unlink(path)
        self._disk.names.pop(self._disk.name(path), None)
        self._disk.change_name("unlink", path, None)
        self._disk.trace("unlink", self._disk.name(path))

    def mkdir(self, path: Path) -> None:
        self._enter("mkdir", self._disk.name(path))
        super().mkdir(path)
        self._disk.change_name("mkdir", path, None)

    def lock(self, fd: int) -> None:
        self._enter("lock", self._open[fd][0])
        super().lock(fd)


class SimLocks(LockFiles):
    """Leases of one process: real locks, waited for in the simulation's time."""

    def __init__(self, schedule: Schedule, process: Process) -> None:
        self._schedule = schedule
        self._process = process
        self._fds: set[int] = set()

    def open(self, path: Path) -> int:
        fd = super().open(path)
        self._fds.add(fd)
        return fd

    def lock(self, fd: int, *, wait: bool) -> None:
        while True:
            self._schedule.sleep(2_000_000)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise
                self._schedule.sleep(20_000_000)
            else:
                return

    def close(self, fd: int) -> None:
        if not self._process.dead:
            self._fds.discard(fd)
            os.close(fd)

    def release(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

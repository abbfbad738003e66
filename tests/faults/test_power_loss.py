"""Power loss: of what was written and not yet synced any part may be gone, in any order; what was told as durable is there.

A disk layer records every call of a writer; then, for each call, the disk is made as it may be after a loss of power there: synced
pages stay, others stay, vanish or are zero at random; names of a folder that was not synced may be missing. Scale (crashes):
quick 250, ci 2,500, full 25,000.
"""

import os
import random
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from l2_platform.journal.durable import Durable, unpack_durable
from l2_platform.journal.layout import list_dates
from l2_platform.journal.reader import Damage
from l2_platform.journal.syscalls import Syscalls
from tests.faults.journals import (
    DATE,
    NAME,
    NEXT,
    abandon,
    line_of,
    lines_of,
    named_lost,
    read_items,
    seqs_of,
    writer_in,
)
from tests.faults.scale import scaled

pytestmark = pytest.mark.timeout(4 * 3600)

CRASHES = scaled(250, 2_500, 25_000)
PARTS = 2
PAGE = 4096


@dataclass(slots=True)
class Content:
    """One file: what is in it, and what of it is surely on the disk."""

    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""

    def crashed(self, rng: random.Random) -> bytes:
        """What a loss of power may leave: each page that was not synced is there, is zero, or is as it was; the end may be gone."""
        if bytes(self.data) == self.synced:
            return self.synced
        length = rng.choice((len(self.data), len(self.synced), rng.randint(min(len(self.synced), len(self.data)), len(self.data))))
        found = bytearray(length)
        found[: min(length, len(self.synced))] = self.synced[:length]
        for at in range(0, length, PAGE):
            end = min(at + PAGE, length)
            if self.data[at:end] != self.synced[at:end] and rng.random() < 0.6:
                found[at:end] = self.data[at:end]
        return bytes(found)


class RecordingDisk(Syscalls):
    """The real calls, and beside them a model of what is where and what of it is durable."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._paths: dict[int, Path] = {}
        self.names: dict[Path, Content] = {}
        self.durable_names: dict[Path, Content] = {}
        """Names as the folders on the disk have them for certain."""
        self.folders: set[Path] = {root}
        self.durable_folders: set[Path] = {root}
        self.calls = 0
        self.told: Durable | None = None
        """What readers were told when the power went."""
        self._lost_at = 0
        self._after = root
        self._rng = random.Random()
        self._one = threading.RLock()

    def lose_power_at(self, call: int, after: Path, rng: random.Random) -> None:
        """Before that call, make `after` what the disk may hold then; the run itself goes on to its end."""
        self._lost_at, self._after, self._rng = call, after, rng

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self._lost_at:
            content = self.names.get(self._root / "durable")
            self.told = unpack_durable(bytes(content.data)) if content is not None else None
            self.after_power_loss(self._after, self._rng)

    def open(self, path: Path, flags: int, mode: int = 0o640) -> int:
        """As it is."""
        with self._one:
            self._count()
            fd = super().open(path, flags, mode)
            self._paths[fd] = path
            if not flags & os.O_DIRECTORY:
                content = self.names.setdefault(path, Content())
                if flags & os.O_TRUNC:
                    content.data = bytearray()
            return fd

    def writev(self, fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        """Into the page cache."""
        with self._one:
            self._count()
            data = b"".join(bytes(part) for part in buffers)
            held = self.names[self._paths[fd]].data
            held.extend(bytes(max(0, offset + len(data) - len(held))))
            held[offset : offset + len(data)] = data
            return super().writev(fd, buffers, offset)

    def fdatasync(self, fd: int) -> None:
        """Now it is on the disk (when it returns)."""
        with self._one:
            self._count()
            content = self.names[self._paths[fd]]
            content.synced = bytes(content.data)

    def fsync(self, fd: int) -> None:
        """A folder's names are on the disk."""
        with self._one:
            self._count()
            folder = self._paths[fd]
            for path in [path for path in self.durable_names if path.parent == folder]:
                del self.durable_names[path]
            self.durable_names |= {path: content for path, content in self.names.items() if path.parent == folder}
            self.durable_folders |= {path for path in self.folders if path.parent == folder}

    def ftruncate(self, fd: int, length: int) -> None:
        """Cut, in the cache."""
        with self._one:
            self._count()
            del self.names[self._paths[fd]].data[length:]
            super().ftruncate(fd, length)

    def rename(self, source: Path, target: Path) -> None:
        """Another name, in the cache."""
        with self._one:
            self._count()
            self.names[target] = self.names.pop(source)
            for fd, path in self._paths.items():
                if path == source:
                    self._paths[fd] = target
            super().rename(source, target)

    def unlink(self, path: Path) -> None:
        """No name any more, in the cache."""
        with self._one:
            self._count()
            self.names.pop(path, None)
            super().unlink(path)

    def mkdir(self, path: Path) -> None:
        """A new folder, in the cache."""
        with self._one:
            self._count()
            self.folders.add(path)
            super().mkdir(path)

    def after_power_loss(self, target: Path, rng: random.Random) -> None:
        """Make `target` what the disk may hold now."""
        target.mkdir(parents=True)
        names: dict[Path, Content] = {}
        for path in self.names.keys() | self.durable_names.keys():
            now, sure = self.names.get(path), self.durable_names.get(path)
            content = now if now is sure or rng.random() < 0.5 else sure
            if content is not None:
                names[path] = content
        for folder in sorted(self.folders):
            if folder in self.durable_folders or any(path.parent == folder and path in self.durable_names for path in names):
                (target / folder.relative_to(self._root)).mkdir(exist_ok=True, parents=True)
        for path, content in names.items():
            place = target / path.relative_to(self._root)
            if place.parent.is_dir():
                place.write_bytes(content.crashed(rng))


def run(writer_calls: RecordingDisk, home: Path, rng: random.Random) -> None:
    """Some of everything: frames, syncs, rotation, a roll, a close and an open."""
    writer = writer_in(home, writer_calls, segment_bytes_max=1 << 16, fsync_interval_ms=1000)
    try:
        writer.open(DATE)
        for step in range(40):
            if step == 25:
                writer.roll(NEXT)
            count = rng.choice((1, 5, 200, 900))
            writer.append(lines_of(writer.last_seq + 1, count), count, step + 1, 1)
            if step % 3 == 0:
                writer.control("resumed", step + 1, 1, last_byte_ns=1)
            if rng.random() < 0.3:
                writer.sync()
            if step == 12:
                writer.close()
                writer.open(DATE)
        writer.close()
    finally:
        if writer.is_open:
            abandon(writer)


def counted_calls(folder: Path, seed: int) -> int:
    """Calls of a run that nothing disturbs."""
    home = folder / "counted"
    disk = RecordingDisk(home)
    home.mkdir()
    run(disk, home, random.Random(seed))
    shutil.rmtree(home)
    return disk.calls


@pytest.mark.parametrize("part", range(PARTS))
def test_what_was_told_as_durable_survives_a_loss_of_power(tmp_path: Path, part: int) -> None:
    """F20: cut at L2: lines up to the durable mark are there and in order, behind it there may be named holes, seq goes on."""
    crashes = 0
    seed = part
    while crashes < CRASHES // PARTS:
        seed += PARTS
        calls = counted_calls(tmp_path, seed)
        picks = random.Random(seed).sample(range(2, calls + 1), min(calls - 1, 25, CRASHES // PARTS - crashes))
        for at in picks:
            crashes += 1
            home, after = tmp_path / "home", tmp_path / "after"
            home.mkdir()
            disk = RecordingDisk(home)
            disk.lose_power_at(at, after, random.Random(seed * 100_003 + at))
            run(disk, home, random.Random(seed))
            if after.exists():
                judge(after, disk.told, f"seed {seed}, call {at} of {calls}")
            shutil.rmtree(home)
            shutil.rmtree(after, ignore_errors=True)


def judge(home: Path, told: Durable | None, story: str) -> None:
    """Open it as the next start would, twice, and read it all."""
    sure = {told.position.session_date: told.seq} if told is not None else {}
    dates = list_dates(home / "journal", NAME)
    if told is not None:
        assert told.position.session_date in dates, f"the date is gone: {story}"
        sure |= {date: -1 for date in dates if date < told.position.session_date}
    newest = max([DATE, *dates])
    for _ in range(2):
        writer = writer_in(home)
        last = writer.open(newest).last_seq
        assert last >= sure.get(newest, 0), story
        writer.append(line_of(last + 1), 1, 99, 1)
        writer.close()
    for date in list_dates(home / "journal", NAME):
        items = read_items(home, date)
        seqs = seqs_of(items)
        assert seqs == sorted(set(seqs)), story
        holes = set(range(1, max(seqs, default=0) + 1)) - set(seqs)
        assert holes <= named_lost(items), story
        if date in sure:
            limit = sure[date] if sure[date] >= 0 else max(seqs, default=0)
            assert not [seq for seq in holes if seq <= limit], f"a hole before the durable mark: {story}"
        if sure.get(date) == -1:
            assert not [item for item in items if isinstance(item, Damage)], f"a finished date is damaged: {story}"


class LyingDisk(RecordingDisk):
    """A disk that says it synced files, or folders, and did not."""

    def __init__(self, root: Path, lie: str) -> None:
        super().__init__(root)
        self._lie = lie

    def fdatasync(self, fd: int) -> None:
        """Nothing, if that is the lie."""
        if self._lie != "fdatasync":
            super().fdatasync(fd)

    def fsync(self, fd: int) -> None:
        """Nothing, if that is the lie."""
        if self._lie != "fsync":
            super().fsync(fd)


@pytest.mark.parametrize("lie", ["fdatasync", "fsync"])
def test_a_sync_that_does_nothing_is_noticed(tmp_path: Path, lie: str) -> None:
    """The harness itself: without the syncs of files, or of folders, the same crashes are found to lose what was told as durable."""
    found = 0
    for seed in range(12):
        home, after = tmp_path / "home", tmp_path / "after"
        home.mkdir()
        disk = LyingDisk(home, lie)
        disk.lose_power_at(60 + 5 * seed, after, random.Random(seed))
        run(disk, home, random.Random(seed))
        if after.exists():
            try:
                judge(after, disk.told, "")
            except AssertionError:
                found += 1
        shutil.rmtree(home)
        shutil.rmtree(after, ignore_errors=True)
    assert found

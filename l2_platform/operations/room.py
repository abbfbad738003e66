"""How much room the stored dates take, and for how many more there is: sizes of files, and of the tables as they are told.

What does not belong here: what happens when the disk fills (`disk.py`), asking the warehouse.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Final

from l2_platform.operations.disk import free_bytes
from l2_platform.settings import Settings

PARTS: Final = ("journal", "tables", "jsonl", "archive")
"""What grows with every session date."""


@dataclass(frozen=True, slots=True)
class DateRoom:
    """What one session date takes, bytes."""

    session_date: int
    by_part: Mapping[str, int]

    @property
    def total(self) -> int:
        """Over all parts."""
        return sum(self.by_part.values())


@dataclass(frozen=True, slots=True)
class Room:
    """The disk, and the dates on it."""

    dates: tuple[DateRoom, ...]
    """Oldest first; the newest may still grow."""
    other_bytes: Mapping[str, int]
    """What does not grow by dates: Dagster's storage, logs, checkpoints."""
    free_bytes: int
    reserve_bytes: int

    def growth(self, last: int) -> float | None:
        """Mean bytes of a date over the `last` complete ones; None before there is one."""
        complete = self.dates[:-1][-last:]
        return fmean(date.total for date in complete) if complete else None

    def dates_left(self, last: int) -> float | None:
        """Session dates until the reserve is reached at that growth; None when it is not known."""
        growth = self.growth(last)
        return max(0.0, (self.free_bytes - self.reserve_bytes) / growth) if growth else None


def measure_room(settings: Settings, table_bytes: Mapping[int, int], newest: int | None = None) -> Room:
    """Look at files once; `table_bytes`: session date → bytes of the tables on disk, from the warehouse ({} when it is away).

    Every file; with `newest`: those of so many newest dates only, and no other folder, for who looks often (`growth(newest - 1)` is the
    same). One stat a file, 2 µs and more.
    """
    folders: list[tuple[int, str, str]] = [*_journal(settings.journal_dir), *_jsonl(settings.jsonl_dir), *_archive(settings.archive_dir)]
    dates = sorted({date for date, _, _ in folders} | set(table_bytes))
    chosen = set(dates if newest is None else dates[-newest:])
    found: dict[int, dict[str, int]] = {date: dict.fromkeys(PARTS, 0) | {"tables": table_bytes.get(date, 0)} for date in sorted(chosen)}
    for date, part, folder in folders:
        if date in chosen:
            found[date][part] += folder_bytes(folder)
    places = (settings.dagster_home, settings.log_dir, settings.checkpoint_dir, settings.quarantine_dir) if newest is None else ()
    return Room(
        tuple(DateRoom(date, parts) for date, parts in found.items()), {path.name: folder_bytes(path) for path in places},
        free_bytes(settings.home), settings.disk.reserve_bytes,
    )  # fmt: skip


def _journal(root: Path) -> Iterator[tuple[int, str, str]]:
    """(session date, part, folder) of each stream's dates."""
    for stream in _folders(root):
        yield from ((date, "journal", path) for path in _folders(stream) if (date := _date(path)))


def _jsonl(root: Path) -> Iterator[tuple[int, str, str]]:
    """`live/DATE`, and `SOURCE/STREAM/DATE`."""
    for source in _folders(root):
        for path in _folders(source):
            if date := _date(path):
                yield date, "jsonl", path
            else:
                yield from ((date, "jsonl", below) for below in _folders(path) if (date := _date(below)))


def _archive(root: Path) -> Iterator[tuple[int, str, str]]:
    for table in _folders(root):
        for path in _folders(table):
            if date := _date(path.replace("session_date=", "").replace("-", "")):
                yield date, "archive", path


def _folders(root: Path | str) -> list[str]:
    """Paths of the folders in a folder; none when it is not there."""
    try:
        with os.scandir(root) as entries:
            return [entry.path for entry in entries if entry.is_dir()]
    except OSError:
        return []


def _date(path: str) -> int:
    """The session date that a folder is named after; 0 when it is not."""
    name = os.path.basename(path)  # noqa: PTH119 - a text, not a Path: there may be thousands
    return int(name) if len(name) == 8 and name.isascii() and name.isdigit() else 0


def folder_bytes(folder: Path | str) -> int:
    """Bytes of all files below a folder; files that vanish meanwhile count nothing."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    total += folder_bytes(entry.path) if entry.is_dir(follow_symlinks=False) else entry.stat().st_size
                except OSError:
                    continue
    except OSError:
        return total
    return total

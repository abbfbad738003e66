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


def measure_room(settings: Settings, table_bytes: Mapping[int, int]) -> Room:
    """Look at every file once; `table_bytes`: session date → bytes of the tables on disk, from the warehouse ({} when it is away)."""
    found: dict[int, dict[str, int]] = {}
    for date, size in _journal(settings.journal_dir):
        _add(found, date, "journal", size)
    for date, size in _jsonl(settings.jsonl_dir):
        _add(found, date, "jsonl", size)
    for date, size in _archive(settings.archive_dir):
        _add(found, date, "archive", size)
    for date, size in table_bytes.items():
        _add(found, date, "tables", size)
    dates = tuple(DateRoom(date, {part: parts.get(part, 0) for part in PARTS}) for date, parts in sorted(found.items()))
    other = {
        path.name: folder_bytes(path)
        for path in (settings.dagster_home, settings.log_dir, settings.checkpoint_dir, settings.quarantine_dir)
    }
    return Room(dates, other, free_bytes(settings.home), settings.disk.reserve_bytes)


def _add(found: dict[int, dict[str, int]], date: int, part: str, size: int) -> None:
    parts = found.setdefault(date, {})
    parts[part] = parts.get(part, 0) + size


def _journal(root: Path) -> Iterator[tuple[int, int]]:
    for path in root.glob("*/[0-9]*"):
        if path.name.isdigit() and len(path.name) == 8:
            yield int(path.name), folder_bytes(path)


def _jsonl(root: Path) -> Iterator[tuple[int, int]]:
    for path in (*root.glob("live/[0-9]*"), *root.glob("*/*/[0-9]*")):
        if path.name.isdigit() and len(path.name) == 8 and path.is_dir():
            yield int(path.name), folder_bytes(path)


def _archive(root: Path) -> Iterator[tuple[int, int]]:
    for path in root.glob("*/session_date=*"):
        digits = path.name.partition("=")[2].replace("-", "")
        if digits.isdigit() and len(digits) == 8:
            yield int(digits), folder_bytes(path)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; files that vanish meanwhile count nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_size  # noqa: PTH116, PTH118 - a hundred thousand files: Path costs more than the look
            except OSError:
                continue
    return total

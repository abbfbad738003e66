"""Room: every file is counted once, by session date and part; who looks often sees the newest dates only, and the same growth."""

from pathlib import Path

import pytest

from l2_platform.operations.room import Room, measure_room
from l2_platform.settings import Settings


def put(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(home=tmp_path)
    for number in range(1, 8):
        date = 20260300 + number
        for stream in ("iqfeed-depth-0", "iqfeed-level1-0"):
            put(made.journal_dir / stream / str(date) / "000001.l2z", 100 * number)
            put(made.journal_dir / stream / str(date) / "manifest.jsonl", 1)
        put(made.jsonl_dir / "live" / str(date) / f"A_l2_{date}.jsonl", 10)
        put(made.jsonl_dir / "history" / "iqfeed-depth-history" / str(date) / f"A_ticks_{date}.jsonl", 20)
        put(made.archive_dir / "trades" / f"session_date=2026-03-{number:02d}" / "stream=a" / "part-1.parquet", 5)
    put(made.journal_dir / ".staging" / "half" / "000001.l2j", 1 << 20)
    put(made.log_dir / "a.log", 7)
    put(made.dagster_home / "history" / "runs" / "index.db", 11)
    return made


def by_date(room: Room) -> dict[int, dict[str, int]]:
    return {date.session_date: dict(date.by_part) for date in room.dates}


def test_every_file_counts_once_by_date_and_part(settings: Settings) -> None:
    room = measure_room(settings, {20260302: 1000, 20260201: 3})
    found = by_date(room)
    assert list(found) == [20260201, *range(20260301, 20260308)]
    assert found[20260302] == {"journal": 2 * 201, "tables": 1000, "jsonl": 30, "archive": 5}
    assert found[20260201] == {"journal": 0, "tables": 3, "jsonl": 0, "archive": 0}
    assert (room.other_bytes["logs"], room.other_bytes["dagster"]) == (7, 11)


def test_the_newest_dates_alone_tell_the_same_growth(settings: Settings) -> None:
    everything, newest = measure_room(settings, {20260306: 50}), measure_room(settings, {20260306: 50}, 6)
    assert by_date(newest) == {date: parts for date, parts in by_date(everything).items() if date >= 20260302}
    assert newest.growth(5) == everything.growth(5)
    assert newest.other_bytes == {}
    assert everything.growth(6) != everything.growth(5)


def test_an_instance_without_files_has_no_dates(tmp_path: Path) -> None:
    room = measure_room(Settings(home=tmp_path / "none"), {}, 6)
    assert (room.dates, room.growth(5), room.dates_left(5)) == ((), None, None)

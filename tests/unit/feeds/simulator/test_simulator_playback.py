"""Recorded files as a source."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from l2_platform.errors import InputError
from l2_platform.feeds.iqfeed.simulator.layouts import Layout
from l2_platform.feeds.iqfeed.simulator.playback import Playback
from l2_platform.feeds.iqfeed.simulator.source import LineBatch

DEPTH = [
    "6,AAA,,NSDQ,A,10.5000,200,,4,09:29:59.000000,2012-06-21,",
    "T,20120621 09:30:00",
    "4,AAA,,NSDQ,A,10.4000,100,,4,09:30:00.000000,2012-06-21,",
    "8,BBB,B,11.0000,100,1,4,09:30:01.500000,2012-06-21,",
    "5,AAA,,NSDQ,A,,2012-06-21,",
    "S,CLEAR DEPTH,AAA,A,",
    "9,BBB,B,11.0000,09:30:04.000000,2012-06-21,",
]


class Watcher:
    """Takes what is published."""

    def __init__(self) -> None:
        self.watched = True
        self.slow = False
        self.lines: list[bytes] = []

    def has_watchers(self) -> bool:
        return self.watched

    def is_backed_up(self) -> bool:
        return self.slow


class DepthWatcher(Watcher):
    def publish(self, batch: LineBatch) -> None:
        self.lines += batch.data.splitlines()


class Level1Watcher(Watcher):
    def publish(self, make: Callable[[Layout], LineBatch]) -> None:
        self.lines += make(Layout(())).data.splitlines()


def recording(folder: Path, lines: list[str], *, packed: bool = False) -> Path:
    path = folder / ("x.txt.gz" if packed else "x.txt")
    data = "".join(line + "\r\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_lines_come_at_their_own_pace_times_speed(tmp_path: Path, packed: bool) -> None:
    play = Playback(recording(tmp_path, DEPTH, packed=packed), "depth", 2.0, 0)
    depth, level1 = DepthWatcher(), Level1Watcher()
    depth.watched = False
    play.advance(5_000_000_000, depth, level1)
    assert depth.lines == []
    depth.watched = True
    base = 10_000_000_000
    counts = []
    for half_second in range(6):
        play.advance(base + half_second * 500_000_000, depth, level1)
        counts.append(len(depth.lines))
    assert counts == [1, 2, 2, 5, 5, 6]
    assert [line.decode() for line in depth.lines] == [line for line in DEPTH if not line.startswith("T")]
    assert [play.depth_kind(number) for number in range(2)] == ["order", "level"]


def test_speed_zero_waits_for_slow_clients_only(tmp_path: Path) -> None:
    play = Playback(recording(tmp_path, DEPTH), "depth", 0, 0)
    depth, level1 = DepthWatcher(), Level1Watcher()
    depth.slow = True
    assert not play.advance(1, depth, level1)
    assert depth.lines == []
    depth.slow = False
    play.advance(2, depth, level1)
    assert len(depth.lines) == 6


def test_level1_file_uses_its_own_field_names(tmp_path: Path) -> None:
    lines = [
        "S,CURRENT UPDATE FIELDNAMES,Symbol,Most Recent Trade,Most Recent Trade Time,Most Recent Trade Date,",
        "P,AAA,10.0000,09:30:00.000000,06/21/2012,",
        "Q,AAA,10.1000,09:30:02.000000,06/21/2012,",
    ]
    play = Playback(recording(tmp_path, lines), "level1", 1.0, 0)
    level1 = Level1Watcher()
    play.advance(100, DepthWatcher(), level1)
    assert [line.decode() for line in level1.lines] == lines[1:2]
    play.advance(100 + 2_000_000_000, DepthWatcher(), level1)
    assert [line.decode() for line in level1.lines] == lines[1:]
    assert play.level1_summary(0, Layout(())) == lines[1].encode() + b"\r\n"


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("empty.txt", b"", "holds no depth line"),
        ("wrong.txt", b"Q,AAA,1,2,3,\r\n", "holds no depth line"),
        ("cut.gz", gzip.compress(b"3,AAA,1,,B,1.0,1,1,4,09:30:00.0,2012-06-21,\r\n" * 99)[:-12], "damaged gzip"),
        ("rubbish.bin", bytes(range(256)) * 9, "holds no depth line"),
    ],
)
def test_unusable_file_is_refused_with_the_reason(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=reason):
        Playback(tmp_path / name, "depth", 1.0, 0)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        Playback(tmp_path / "none", "depth", 1.0, 0)

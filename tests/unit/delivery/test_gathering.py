"""When rows are read and written: few gather, many go, a slow sink gets fewer and larger writes, and memory stays bounded."""

import errno
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l2_platform.clock import SystemClock
from l2_platform.delivery.checkpoint import CheckpointStore
from l2_platform.delivery.follower import Follower, JournalSource
from l2_platform.delivery.gathering import Gathering, merge
from l2_platform.delivery.serial_sink import SerialSink
from l2_platform.errors import SinkUnavailable
from l2_platform.journal.frame import Position
from l2_platform.market.events import TableBatch
from l2_platform.settings import DeliverySettings, JsonlSettings
from l2_platform.sinks.jsonl import JsonlSink
from tests.unit.delivery.journals import DATE, T0, LiveJournal, pipeline_for
from tests.unit.delivery.test_follower import DEPTH, NEXT, QUICK, Rig, expected, two_dates
from tests.unit.delivery.test_pipeline import depth_line

MS = 1_000_000
LAST = 270
"""Lines of the second date of `two_dates`."""
SETTINGS = DeliverySettings(flush_ms=400, flush_ms_min=40, flush_lines=500, step_bytes=4096, batch_rows_max=2000)


def rows(first: int, count: int, table: str = "depth_updates") -> TableBatch:
    seq = np.arange(first, first + count, dtype=np.uint64)
    return TableBatch(table, DEPTH, DATE, "live", ["A"], {"seq": seq, "raw": [str(number) for number in seq]})


def test_few_lines_wait_for_the_time_in_the_journal_and_go_at_once_when_it_is_up() -> None:
    gathering = Gathering(SETTINGS)
    assert not gathering.wants(0, 0)
    assert not gathering.wants(200, 10 * MS)
    assert not gathering.wants(900, 409 * MS)
    assert gathering.wants(1500, 410 * MS)
    gathering.add([rows(1, 20)], 20, 410 * MS)
    assert gathering.is_due(410 * MS)


def test_many_lines_are_read_at_once_and_go_before_the_time_is_up() -> None:
    gathering = Gathering(SETTINGS)
    assert gathering.wants(4096, 0)
    gathering.add([rows(1, 60)], 60, 0)
    assert not gathering.is_due(3 * MS)
    gathering.add([rows(61, 440)], 440, 3 * MS)
    assert gathering.is_due(3 * MS)


def test_writes_keep_their_distance() -> None:
    gathering = Gathering(SETTINGS)
    gathering.add([rows(1, 500)], 500, 0)
    gathering.take(100 * MS)
    gathering.written(105 * MS)
    gathering.add([rows(501, 600)], 600, 106 * MS)
    assert not gathering.is_due(139 * MS)
    assert gathering.is_due(140 * MS)


def test_a_slow_sink_gets_fewer_writes_but_never_later_than_the_time() -> None:
    gathering = Gathering(SETTINGS)
    gathering.add([rows(1, 500)], 500, 0)
    gathering.take(0)
    gathering.written(150 * MS)
    gathering.add([rows(501, 600)], 600, 160 * MS)
    assert not gathering.is_due(299 * MS)
    assert gathering.is_due(300 * MS)
    gathering.take(300 * MS)
    gathering.written(9000 * MS)
    gathering.add([rows(1101, 600)], 600, 9001 * MS)
    assert not gathering.is_due(9300 * MS)
    assert gathering.is_due(9401 * MS)


def test_what_is_gathered_is_bounded() -> None:
    gathering = Gathering(SETTINGS)
    gathering.add([rows(1, 1999)], 1999, 0)
    assert gathering.wants(1 << 20, MS)
    gathering.add([rows(2000, 1)], 1, MS)
    assert gathering.is_full
    assert not gathering.wants(1 << 20, MS)
    assert not gathering.wants(None, MS)
    assert gathering.is_due(MS)
    assert len(gathering.take(MS)[0]) == 2000
    assert gathering.wants(None, 2 * MS)
    assert not gathering.waits


def test_a_read_without_rows_still_moves_the_position() -> None:
    gathering = Gathering(SETTINGS)
    gathering.add([], 3, 0)
    assert gathering.waits
    assert not gathering.is_due(399 * MS)
    assert gathering.is_due(400 * MS)
    assert gathering.take(400 * MS) == []


def test_reads_become_one_batch_a_table_in_order() -> None:
    joined = merge([rows(1, 3), rows(1, 2, "quotes"), rows(4, 2), rows(6, 1)])
    assert [(batch.table, batch.columns["seq"].tolist()) for batch in joined] == [
        ("depth_updates", [1, 2, 3, 4, 5, 6]),
        ("quotes", [1, 2]),
    ]
    assert joined[0].columns["raw"] == ["1", "2", "3", "4", "5", "6"]


def run(follower: Follower, until: Callable[[], bool], turns: int = 20_000) -> None:
    """Step until it holds; a write under way may take any time."""
    for _ in range(turns):
        if until():
            return
        if not follower.step():
            SystemClock().sleep(0.0005)
    pytest.fail(f"no end: {follower.error}")


def to_the_end(follower: Follower) -> None:
    """All of `two_dates`."""
    run(follower, lambda: follower.pipeline.session_date == NEXT and follower.delivered_seq == LAST)


class GatedSink(JsonlSink):
    """The real files behind a gate; notes the writes, and refuses as often as it is told."""

    def __init__(self, root: Path) -> None:
        super().__init__(JsonlSettings(sync_s=0.001), root, SystemClock())
        self.gate = threading.Event()
        self.gate.set()
        self.seqs: list[int] = []
        self.refusals = 0

    def write(self, batches: list[TableBatch], position: Position, seq: int) -> None:
        assert self.gate.wait(30)
        if self.refusals:
            self.refusals -= 1
            raise SinkUnavailable("not now")
        super().write(batches, position, seq)
        self.seqs.append(seq)


@pytest.fixture
def writer() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


class GatedStore(CheckpointStore):
    """Checkpoints that wait for their gate, and a disk that can be full."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, 2)
        self.gate = threading.Event()
        self.gate.set()
        self.full = False
        self.begun: list[int] = []

    def save(self, position: Position, seq: int, state: dict[str, Any]) -> int:
        self.begun.append(seq)
        assert self.gate.wait(20)
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().save(position, seq, state)


def overlapped(
    home: Path, sink: GatedSink, writer: ThreadPoolExecutor | None, store: CheckpointStore | None = None, **settings: float
) -> Follower:
    sink.open()
    quick = {"flush_ms": 1, "flush_ms_min": 0, "flush_lines": 1, "step_bytes": 1}
    return Follower(
        DEPTH, SerialSink(sink), JournalSource(home / "journal", home / "durable"), store or Rig(home).store,
        lambda: pipeline_for(DEPTH, interval_ms=0, session_start=lambda _date: T0),
        settings=QUICK.model_copy(update=quick | settings), clock=SystemClock(), writer=writer,
        saver=ThreadPoolExecutor(1) if writer and store else None,
    )  # fmt: skip


def test_the_next_rows_are_gathered_while_a_write_is_under_way(tmp_path: Path, writer: ThreadPoolExecutor) -> None:
    journal = LiveJournal(tmp_path, DEPTH)
    journal.started()
    sink = GatedSink(tmp_path / "jsonl")
    follower = overlapped(tmp_path, sink, writer, checkpoint_s=86_400)
    rng = random.Random(3)
    follower.step()
    run(follower, lambda: follower.position is not None)
    sink.gate.clear()
    last = 0
    for number in range(5):
        last = journal.lines(*(depth_line(rng, number * 9 + place) for place in range(9)))
        journal.writer.sync()
        for _ in range(4):
            follower.step()
    assert follower.pipeline.seq == last
    assert follower.delivered_seq < last
    assert follower.writing_since is not None
    before = len(sink.seqs)
    sink.gate.set()
    run(follower, lambda: follower.delivered_seq == last)
    assert follower.delivered_seq == last
    # the one that was held, and all that came meanwhile in one more
    assert sorted(set(sink.seqs[before:])) == [9, last]
    journal.close()


def test_a_refused_write_is_made_again_before_any_later_one(tmp_path: Path, writer: ThreadPoolExecutor) -> None:
    whole = expected(tmp_path, two_dates)
    rig = Rig(tmp_path / "other")
    two_dates(rig.home)
    sink = GatedSink(rig.home / "jsonl")
    sink.refusals = 3
    follower = overlapped(rig.home, sink, writer, read_bytes_max=2000)
    run(follower, lambda: follower.failures > 0)
    assert follower.error == "not now"
    to_the_end(follower)
    assert not follower.error
    assert rig.files() == whole


def test_kills_between_gathered_writes_leave_the_same_files(tmp_path: Path) -> None:
    whole = expected(tmp_path, two_dates)
    for seed in range(6):
        rng = random.Random(seed)
        home = tmp_path / f"killed{seed}"
        two_dates(home)
        for _ in range(rng.randint(2, 6)):
            with ThreadPoolExecutor(1) as pool:
                lines = rng.choice((1, 40, 400))
                sink = GatedSink(home / "jsonl")
                follower = overlapped(
                    home,
                    sink,
                    pool,
                    read_bytes_max=rng.randint(500, 4000),
                    flush_lines=lines,
                    checkpoint_s=rng.choice((0.0001, 60)),
                )
                for _ in range(rng.randint(1, 40)):
                    follower.step()
                    SystemClock().sleep(rng.choice((0, 0.0005)))
        rig = Rig(home)
        to_the_end(rig.start())
        assert rig.files() == whole, seed
        shutil.rmtree(home)


def test_settle_ends_the_write_under_way_and_goes_on_alone(tmp_path: Path, writer: ThreadPoolExecutor) -> None:
    whole = expected(tmp_path, two_dates)
    rig = Rig(tmp_path / "other")
    two_dates(rig.home)
    sink = GatedSink(rig.home / "jsonl")
    follower = overlapped(rig.home, sink, writer, read_bytes_max=3000)
    for _ in range(5):
        follower.step()
    follower.settle()
    assert follower.writing_since is None
    writer.shutdown()
    to_the_end(follower)
    assert rig.files() == whole


def test_writes_go_on_while_a_checkpoint_is_saved_and_the_end_of_a_date_waits_for_it(tmp_path: Path, writer: ThreadPoolExecutor) -> None:
    whole = expected(tmp_path, two_dates)
    rig = Rig(tmp_path / "other")
    two_dates(rig.home)
    store = GatedStore(rig.home / "checkpoints")
    store.gate.clear()
    follower = overlapped(rig.home, GatedSink(rig.home / "jsonl"), writer, store, read_bytes_max=1000, checkpoint_s=0.0001)
    run(follower, lambda: follower.delivered_seq == LAST)
    # everything of the first date is written, one checkpoint only was begun, and the date is not over before it is saved
    for _ in range(50):
        follower.step()
    assert follower.pipeline.session_date == DATE
    assert len(store.begun) == 1
    store.gate.set()
    run(follower, lambda: follower.pipeline.session_date == NEXT and follower.delivered_seq == LAST)
    to_the_end(follower)
    assert not follower.error
    assert len(store.begun) > 1
    assert rig.files() == whole


def test_a_checkpoint_is_due_after_so_many_lines(tmp_path: Path) -> None:
    for lines, least, most in ((50, 3, 9), (1_000_000, 0, 3)):
        home = tmp_path / f"other{lines}"
        two_dates(home)
        store = GatedStore(home / "checkpoints")
        follower = overlapped(
            home, GatedSink(home / "jsonl"), None, store, read_bytes_max=500, checkpoint_s=86_400, checkpoint_lines=lines
        )
        run(follower, lambda follower=follower: follower.pipeline.session_date == NEXT)  # type: ignore[misc]
        assert least <= len(store.begun) <= most


def test_a_disk_that_takes_no_checkpoint_is_told_and_stops_nothing(tmp_path: Path, writer: ThreadPoolExecutor) -> None:
    whole = expected(tmp_path, two_dates)
    rig = Rig(tmp_path / "other")
    two_dates(rig.home)
    store = GatedStore(rig.home / "checkpoints")
    store.full = True
    follower = overlapped(rig.home, GatedSink(rig.home / "jsonl"), writer, store, read_bytes_max=1000, checkpoint_s=0.0001)
    run(follower, lambda: follower.pipeline.session_date == NEXT)
    assert "No space left on device" in follower.error
    store.full = False
    to_the_end(follower)
    follower.settle()
    follower.checkpoint()
    assert not follower.error
    assert rig.files() == whole

"""One stream into the real JSONL sink: exactly once through kills, wiped sinks, disks that refuse, bad checkpoints and rolls."""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from l2_platform.clock import SystemClock
from l2_platform.delivery.checkpoint import CheckpointStore
from l2_platform.delivery.follower import Follower, JournalSource
from l2_platform.journal.frame import Position
from l2_platform.journal.importing import write_finished_stream
from l2_platform.settings import DeliverySettings, JsonlSettings
from l2_platform.sinks.jsonl import JsonlSink
from tests.unit.delivery.journals import DATE, T0, LiveJournal, pipeline_for
from tests.unit.delivery.test_pipeline import depth_line

NEXT = 20240103
DEPTH = "iqfeed-depth-0"
IMPORT = "iqfeed-depth-import-00000000"
QUICK = DeliverySettings(checkpoint_s=0.001, discover_s=0.001, retry_first_s=0.001, retry_cap_s=0.001, read_bytes_max=1 << 16)


@dataclass
class Rig:
    """A sink and its checkpoints; `start` is a new process after a SIGKILL."""

    home: Path
    stream: str = DEPTH
    sync_s: float = 0.001
    sinks: list[JsonlSink] = field(default_factory=list)

    def start(self, **settings: float) -> Follower:
        sink = JsonlSink(JsonlSettings(sync_s=self.sync_s), self.home / "jsonl", SystemClock())
        sink.open()
        self.sinks.append(sink)
        live = self.stream == DEPTH
        return Follower(
            self.stream, sink, JournalSource(self.home / "journal", self.home / "durable" if live else None), self.store,
            lambda: pipeline_for(self.stream, interval_ms=0, session_start=lambda _date: T0),
            settings=QUICK.model_copy(update=settings), clock=SystemClock(),
        )  # fmt: skip

    @property
    def store(self) -> CheckpointStore:
        return CheckpointStore(self.home / "checkpoints", 2)

    def files(self) -> dict[str, str]:
        return {str(path.relative_to(self.home)): path.read_text() for path in sorted((self.home / "jsonl").rglob("*.jsonl"))}


def run(follower: Follower, until: Callable[[], bool] = lambda: False, turns: int = 3000) -> None:
    """Step until there is nothing to do for a while, or `until` holds."""
    idle = 0
    for _ in range(turns):
        if until() or idle > 60:
            return
        idle = 0 if follower.step() else idle + 1
        if idle:
            SystemClock().sleep(0.0005)
    pytest.fail(f"no end: {follower.error}")


def two_dates(home: Path, frames: int = 60) -> LiveJournal:
    journal = LiveJournal(home, DEPTH)
    rng = random.Random(5)
    journal.started()
    for number in range(frames):
        if number == frames // 2:
            journal.roll(NEXT)
            journal.control("subscribed", symbols=3)
        journal.lines(*(depth_line(rng, number * 9 + place) for place in range(9)))
    journal.close()
    return journal


def expected(tmp_path: Path, make: Callable[[Path], object], stream: str = DEPTH) -> dict[str, str]:
    calm = Rig(tmp_path / "calm", stream)
    make(calm.home)
    run(calm.start(checkpoint_s=60))
    files = calm.files()
    assert sum(text.count("\n") for text in files.values()) > 50
    return files


def imported(home: Path) -> None:
    rng = random.Random(7)
    dates = []
    seq = 1
    for date in (DATE, NEXT, 20240104):
        frames = []
        for _ in range(20):
            lines = "".join(depth_line(rng, seq + place) + "\r\n" for place in range(9)).encode()
            frames.append((lines, 9, seq, T0))
            seq += 9
        dates.append((date, frames))
    write_finished_stream(home / "journal", IMPORT, dates, context={}, calendar="XNYS")


@pytest.mark.parametrize(("stream", "make"), [(DEPTH, two_dates), (IMPORT, imported)])
def test_kills_at_any_step_leave_the_same_files(tmp_path: Path, stream: str, make: Callable[[Path], object]) -> None:
    whole = expected(tmp_path, make, stream)
    for seed in range(12):
        rng = random.Random(seed)
        rig = Rig(tmp_path / f"killed{seed}", stream)
        make(rig.home)
        for _ in range(rng.randint(2, 8)):
            follower = rig.start(read_bytes_max=rng.randint(1, 4000), checkpoint_s=rng.choice((0.0001, 0.01, 60)))
            for _ in range(rng.randint(1, 25)):
                follower.step()
        run(rig.start())
        assert rig.files() == whole, seed


def test_a_position_that_cannot_be_saved_at_the_end_of_a_date_is_saved_later(tmp_path: Path) -> None:
    whole = expected(tmp_path, two_dates)
    rig = Rig(tmp_path / "other", sync_s=60)
    two_dates(rig.home)
    follower = rig.start(checkpoint_s=60, read_bytes_max=4000)
    positions = rig.home / "jsonl" / ".positions"
    while follower.pipeline.seq < 270:
        follower.step()
    assert rig.store.done_through() == 0
    positions.rename(positions.with_name("away"))
    positions.write_text("in the way")
    run(follower, turns=20_000)
    assert follower.error
    assert rig.store.done_through() == 0
    positions.unlink()
    positions.with_name("away").rename(positions)
    run(follower, lambda: rig.store.done_through() == DATE and follower.pipeline.session_date == NEXT)
    run(follower)
    assert rig.files() == whole


def test_a_disk_without_room_for_checkpoints_does_not_stop_the_delivery(tmp_path: Path) -> None:
    whole = expected(tmp_path, two_dates)
    rig = Rig(tmp_path / "other")
    two_dates(rig.home)
    (rig.home / "checkpoints").write_text("in the way")
    follower = rig.start()
    run(follower, lambda: "checkpoint" in follower.error)
    (rig.home / "checkpoints").unlink()
    run(follower)
    assert rig.files() == whole
    assert rig.store.done_through() == DATE


def test_a_checkpoint_of_another_book_version_is_not_used(tmp_path: Path) -> None:
    whole = expected(tmp_path, two_dates)
    rig = Rig(tmp_path / "other")
    two_dates(rig.home)
    follower = rig.start(read_bytes_max=3000)
    follower.step()
    follower.step()
    follower.checkpoint()
    saved = rig.store.newest(Position(DATE, 1, 1 << 40))
    assert saved is not None
    rig.store.save(saved.position, saved.seq, saved.state | {"books": b"L2BK\xff\xff of a later version"})
    run(rig.start())
    assert rig.files() == whole


def test_an_end_before_the_first_read_leaves_no_checkpoint_ahead_of_the_pipeline(tmp_path: Path) -> None:
    """The sink is ahead of the newest checkpoint and the journal shows nothing yet: what the pipeline is not at cannot be saved."""

    def grow(journal: LiveJournal, begin: int, end: int) -> None:
        rng = random.Random(begin)
        for number in range(begin, end):
            journal.lines(*(depth_line(rng, number * 9 + place) for place in range(9)))

    rigs = Rig(tmp_path / "calm"), Rig(tmp_path / "other")
    for rig in rigs:
        journal = LiveJournal(rig.home, DEPTH)
        journal.started()
        grow(journal, 0, 40)
        run(rig.start(checkpoint_s=60, read_bytes_max=4000))
        rig.sinks[-1].sync()
        durable = rig.home / "durable"
        if rig is rigs[1]:
            durable.rename(rig.home / "away")
            follower = rig.start(checkpoint_s=60)
            run(follower)
            follower.checkpoint()
            (rig.home / "away").rename(durable)
        grow(journal, 40, 60)
        run(rig.start(checkpoint_s=60))
        journal.close()
    assert rigs[1].files() == rigs[0].files()


def test_an_import_whose_sink_was_wiped_is_delivered_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path, IMPORT)
    imported(rig.home)
    run(rig.start())
    whole = rig.files()
    again = rig.start()
    assert again.caught_up()
    shutil.rmtree(rig.home / "jsonl")
    rig.sinks.clear()
    follower = rig.start()
    assert not follower.caught_up()
    run(follower, follower.caught_up)
    assert rig.files() == whole


def test_a_wiped_import_is_delivered_whole_when_it_is_killed_on_the_way(tmp_path: Path) -> None:
    rig = Rig(tmp_path, IMPORT)
    imported(rig.home)
    run(rig.start())
    whole = rig.files()
    shutil.rmtree(rig.home / "jsonl")
    follower = rig.start(read_bytes_max=2000)
    run(follower, lambda: follower.rows > 0)
    rig.sinks[-1].sync()
    assert rig.files() != whole
    follower = rig.start()
    run(follower, follower.caught_up)
    assert rig.files() == whole


def test_a_failure_that_asks_the_sink_again_stays_in_its_date(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    journal = LiveJournal(rig.home, DEPTH)
    rng = random.Random(5)
    journal.started()
    journal.lines(*(depth_line(rng, place) for place in range(90)))
    follower = rig.start()
    run(follower)
    journal.roll(NEXT)
    journal.control("subscribed", symbols=3)
    journal.lines(*(depth_line(rng, 90 + place) for place in range(90)))
    run(follower)
    assert rig.store.done_through() == DATE
    shutil.rmtree(rig.home / "jsonl" / "live" / str(DATE))
    with next((rig.home / "jsonl" / "live" / str(NEXT)).glob("*.jsonl")).open("a") as file:
        file.write("of somebody else\n")
    journal.lines(*(depth_line(rng, 180 + place) for place in range(90)))
    run(follower)
    journal.close()
    assert "somebody else" not in "".join(rig.files().values())
    assert rig.store.done_through() == DATE
    assert not (rig.home / "jsonl" / "live" / str(DATE)).exists()


def test_checkpoints_from_before_a_wipe_do_not_push_out_new_ones(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    two_dates(rig.home)
    pipeline = pipeline_for(DEPTH)
    store = rig.store
    for offset in (1000, 2000):
        store.save(Position(DATE, 1, offset), 5, pipeline.dump())
    (store.directory / "20240102-000001-000000000000900.tmp").write_bytes(b"killed while it was written")
    store.save(Position(DATE, 1, 10), 1, pipeline.dump())
    found = store.newest(Position(DATE, 1, 50))
    assert found is not None
    assert found.position.offset == 10
    assert not list(store.directory.glob("*.tmp"))
    assert len(list(store.directory.glob("*.ckpt"))) <= 2


def test_a_gap_open_at_the_end_of_a_date_closes_once_through_kills(tmp_path: Path) -> None:
    """Rows of gaps are no files; what the sink is given shows in its position: the date ends even when every step is a new process."""
    rig = Rig(tmp_path)
    journal = LiveJournal(rig.home, DEPTH)
    journal.started()
    journal.lines(depth_line(random.Random(3), 1))
    journal.control("disconnect", reason="fin", last_byte_ns=journal.ts)
    journal.roll(NEXT)
    journal.close()
    for _ in range(40):
        rig.start().step()
        if rig.store.done_through() == DATE:
            break
        follower = rig.start()
        follower.step()
        follower.step()
        follower.step()
    assert rig.store.done_through() == DATE
    record = json.loads((rig.home / "jsonl" / ".positions" / f"{DEPTH}-{DATE}.json").read_text())
    assert record["seq"] == 1

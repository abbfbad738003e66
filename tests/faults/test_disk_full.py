"""A full disk, a real one, on each folder in turn: what is given up, what goes on, and that it comes back when there is room.

The journal's disk: the feed waits, the process stays up, the pause is told, recording goes on by itself, no frame is torn. Any other
folder: the recording does not notice. Each case is one run; the scale changes nothing but the number of fillings of the journal's disk
(quick 1, ci 3, full 20).
"""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from l2_platform.journal.reader import Control, Damage, JournalReader
from l2_platform.monitoring.heartbeat import HeartbeatRecord, read_heartbeat
from tests.faults.kill_runs import (
    STREAM,
    Recordings,
    copied,
    delivered,
    ended,
    record_files,
    record_journal,
    until,
    variables,
)
from tests.faults.scale import scaled
from tests.faults.scripted_feed import ScriptedFeed
from tests.faults.zygote import Worker, Zygote
from tests.integration.ports import free_base

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

FILLINGS = scaled(1, 3, 20)
RESUME_S = 10


@pytest.fixture(scope="module")
def zygote(numba_cache: Path) -> Iterator[Zygote]:
    """Workers with mounts of their own."""
    with Zygote("collector", "sealer", "jsonl", cache=numba_cache, own_mounts=True) as made:
        yield made


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a journal."""
    return record_journal(tmp_path_factory.mktemp("recorded"))


def fill(folder: Path) -> Path:
    """Take all of the space that is left; the file that has it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler


def beat(home: Path, worker: str) -> HeartbeatRecord | None:
    """What the living worker says."""
    record = read_heartbeat(home / "run" / "heartbeats" / f"{worker}.json")
    return record if record is not None and record.alive() else None


def in_state(home: Path, worker: str, *states: str) -> bool:
    """The living worker says that it is in one of these."""
    record = beat(home, worker)
    return record is not None and record.state in states


@pytest.fixture
def recordings(zygote: Zygote, tmp_path: Path) -> Iterator[Recordings]:
    """A home with a feed that never tires; its journal is on a small disk of its own."""
    base = free_base()
    with ScriptedFeed(base + 20) as feed:
        made = Recordings(zygote, tmp_path / "home", feed, base)
        made.seen = zygote.seen(made.home)
        yield made


def finish(recordings: Recordings, worker: Worker) -> list[str]:
    """Stop it cleanly; the whole account must be right; the names of all controls."""
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0, recordings.log()
    recordings.account()
    recordings.again()
    reader = JournalReader(recordings.seen / "journal", STREAM, 20240102)
    found: list[str] = []
    while items := reader.read(1 << 20):
        assert not [item for item in items if isinstance(item, Damage)]
        found += [item.event for item in items if isinstance(item, Control)]
    return found


@pytest.mark.parametrize("small", ["size", "nr_inodes"])
def test_the_disk_of_the_journal_is_full(zygote: Zygote, recordings: Recordings, small: str) -> None:
    """F18, journal: no space, or no inodes: stalled and alive; with room it goes on within 10 s; nothing that was sent is missing."""
    folder = recordings.home / "journal"
    folder.mkdir()
    limit = 1024 if small == "size" else 12
    zygote.mount(folder, f"{small}={limit}{'k' if small == 'size' else ''}")
    worker = recordings.start(rolls=False)
    name = f"collector-{STREAM}"
    for filling in range(FILLINGS):
        until("stalled", lambda: in_state(recordings.seen, name, "stalled"))
        assert worker.alive()
        assert read_all_whole(recordings)
        before = (recordings.seen / "run" / "durable" / STREAM).stat().st_mtime_ns
        limit *= 2
        zygote.mount(folder, f"remount,{small}={limit}{'k' if small == 'size' else ''}")
        until("live again", lambda: in_state(recordings.seen, name, "live"), RESUME_S)
        until("durable again", lambda before=before: (recordings.seen / "run" / "durable" / STREAM).stat().st_mtime_ns > before, RESUME_S)  # type: ignore[misc]
        assert filling < FILLINGS
    zygote.mount(folder, f"remount,{small}={limit * 8}{'k' if small == 'size' else ''}")
    recordings.feed.paused.set()
    time.sleep(0.2)
    controls = finish(recordings, worker)
    assert controls.count("journal_loss") >= FILLINGS


def read_all_whole(recordings: Recordings) -> bool:
    """What can be read now has no damage in the middle."""
    reader = JournalReader(recordings.seen / "journal", STREAM, 20240102, durable_path=recordings.seen / "run" / "durable" / STREAM)
    while items := reader.read(1 << 20):
        if [item for item in items if isinstance(item, Damage)]:
            return False
    return True


def test_recording_waits_while_there_is_less_than_its_reserve_and_comes_back(zygote: Zygote, recordings: Recordings) -> None:
    """F18, journal below a sixteenth of the reserve: a managed collector ends cleanly; started again it waits for room, then records."""
    folder = recordings.home / "journal"
    folder.mkdir()
    zygote.mount(folder, "size=4m")
    recordings.variables |= {"L2_DISK__RESERVE_BYTES": str(16 << 20), "L2_DISK__CHECK_S": "0.05"}
    worker = recordings.start(rolls=False, arguments=("--wait",))
    # Recording needs 1 MiB free: it stops by itself with a quarter of this disk to spare.
    assert worker.wait() == 0, recordings.log()
    until_free = os.statvfs(recordings.seen / "journal")
    assert 0 < until_free.f_bavail * until_free.f_frsize < 1 << 20
    recordings.account()
    again = recordings.start(rolls=False, arguments=("--wait",))
    until("it waits", lambda: in_state(recordings.seen, f"collector-{STREAM}", "stopped_disk"))
    zygote.mount(folder, "remount,size=16m")
    until("it records", lambda: in_state(recordings.seen, f"collector-{STREAM}", "live"), RESUME_S)
    recordings.feed.paused.set()
    controls = finish(recordings, again)
    assert controls.count("collector_stop") == 2


@pytest.mark.parametrize("name", ["run", "logs"])
def test_recording_does_not_notice_other_full_disks(zygote: Zygote, recordings: Recordings, name: str) -> None:
    """F18, run and logs: signs of life and log lines are lost, lines of the feed are not."""
    folder = recordings.home / name
    folder.mkdir(exist_ok=True)
    zygote.mount(folder, "size=256k")
    recordings.variables["L2_LOG__LEVEL"] = "DEBUG"
    worker = recordings.start(rolls=False, log=recordings.home / "logs" / "collector.log" if name == "logs" else None)
    recordings.feed_some(worker, 600)
    filler = fill(recordings.seen / name)
    recordings.feed_some(worker, 3_000)
    assert worker.alive()
    filler.unlink()
    until("signs of life again", lambda: in_state(recordings.seen, f"collector-{STREAM}", "live"), RESUME_S)
    finish(recordings, worker)


@pytest.mark.parametrize("small", ["size=16k", "nr_inodes=1"])
def test_a_start_without_room_for_signs_of_life(zygote: Zygote, recordings: Recordings, small: str) -> None:
    """F18, run, at a start: recording goes on without them; where not even a lease can be made one line says why. Later all is well."""
    (recordings.home / "run").mkdir()
    zygote.mount(recordings.home / "run", small)
    if "size" in small:
        fill(recordings.seen / "run")
    worker = zygote.fork("collector", recordings.variables, recordings.home / "collector.log", arguments=(STREAM,))
    if "size" in small:
        recordings.feed_some(worker, 1_200)
        assert worker.alive()
        (recordings.seen / "run" / "filler").unlink()
        until("signs of life", lambda: in_state(recordings.seen, f"collector-{STREAM}", "live"), RESUME_S)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    else:
        assert worker.wait() == 1
        assert "Traceback" not in recordings.log()
        assert "No space left" in recordings.log()
        zygote.mount(recordings.home / "run", "remount,nr_inodes=100")
    recordings.finish()


@pytest.mark.parametrize("name", ["jsonl", "checkpoints", "run", "logs"])
def test_a_delivery_waits_for_room_and_leaves_the_same_files(
    zygote: Zygote, recorded: Path, tmp_path: Path, name: str
) -> None:
    """F18, jsonl, checkpoints, run, logs: degraded at most, never ended; in the end the files are those of a run with room."""
    base = free_base()
    calm, home = copied(recorded, tmp_path / "calm"), copied(recorded, tmp_path / "home")
    assert ended(zygote.fork("jsonl", variables(calm, base), calm / "log", arguments=("jsonl",)), lambda: delivered(calm, recorded)) == 0
    folder = home / name
    kept = tmp_path / "kept"
    if folder.exists():
        shutil.copytree(folder, kept)
    folder.mkdir(exist_ok=True)
    zygote.mount(folder, "size=512k")
    seen = zygote.seen(home)
    if kept.exists():
        shutil.copytree(kept, seen / name, dirs_exist_ok=True)
    log = home / "logs" / "worker.log" if name == "logs" else home / "worker.log"
    (home / "logs").mkdir(exist_ok=True)
    filler = fill(seen / name) if name != "run" else None
    worker = zygote.fork("jsonl", variables(home, base, log__level="DEBUG"), log, arguments=("jsonl",))
    if name == "run":
        until("it works", lambda: beat(seen, "deliver-jsonl") is not None)
        filler = fill(seen / name)
    if name == "jsonl":
        until("degraded", lambda: in_state(seen, "deliver-jsonl", "degraded"))
    time.sleep(0.5)
    assert worker.alive(), log.read_text() if name != "logs" else ""
    assert filler is not None
    filler.unlink()
    zygote.mount(folder, "remount,size=64m")
    assert ended(worker, lambda: delivered(seen, recorded)) == 0
    assert record_files(seen) == record_files(calm)

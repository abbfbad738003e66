"""SIGKILL before every system call of recording, rolling, sealing and delivering, and at random times; then everything must be whole.

A run without faults is counted by strace first; each call of it that touches files, sockets or time is a place to die. A killed
run is followed by one that must put everything right by itself. Scale (kill points at system calls + kills at random times):
quick 40 + 6, ci 200 + 24, full every one (over 2,000) + 520. A point that the killed run does not reach counts as a run, not as a kill.
"""

import hashlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from l2_platform.journal.layout import date_folder, list_segments
from l2_platform.journal.verify import verify
from l2_platform.monitoring.heartbeat import read_heartbeat
from tests.faults.kill_runs import (
    DATE,
    FILES,
    STREAM,
    Recordings,
    all_lines,
    copied,
    delivered,
    digest,
    ended,
    record_files,
    record_journal,
    variables,
)
from tests.faults.scale import FAULTS, scaled
from tests.faults.scripted_feed import ScriptedFeed
from tests.faults.zygote import Injection, Worker, Zygote, kill_points, needs_strace
from tests.integration.ports import free_base

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(4 * 3600)]

SEED = 20240102
CALLS = (
    "openat,read,pread64,recvfrom,sendto,write,writev,pwrite64,pwritev,pwritev2,fdatasync,fsync,syncfs,rename,renameat,renameat2,"
    "unlink,unlinkat,ftruncate,truncate,mkdir,close,flock,socket,connect,getdents64,lseek,newfstatat,clone3,exit_group"
)
KILLS = {
    "collector": scaled(22, 110, 0), "sealer": scaled(8, 40, 0), "jsonl": scaled(10, 50, 0),
}  # fmt: skip
"""Points of each path; 0: every one."""
RANDOM_KILLS = {"collector": scaled(3, 12, 260), "sealer": scaled(1, 4, 100), "jsonl": scaled(2, 8, 160)}
CHAIN = 6
"""Killed collectors in a row on one home, each starting on what the last one left."""
LINES = scaled(1_500, 1_500, 4_000)


def chosen(points: list[Injection], count: int) -> list[Injection]:
    """A seeded sample, in a seeded order; every point for 0."""
    order = random.Random(SEED).sample(points, len(points))
    return order[:count] if count else order


@pytest.fixture(scope="module")
def zygote(numba_cache: Path) -> Iterator[Zygote]:
    """Forks the workers."""
    needs_strace()
    with Zygote("collector", "sealer", "jsonl", cache=numba_cache) as made:
        yield made


# ── recording ─────────────────────────────────────────────────────────────────


def test_a_collector_killed_at_any_call_loses_nothing_written(zygote: Zygote, tmp_path: Path) -> None:
    """F16, receive, journal, rotate, roll: a collector fed by a socket; six deaths in a row on one home."""
    base = free_base()
    with ScriptedFeed(base + 20, pause_s=0.004) as feed:
        counted = Recordings(zygote, tmp_path / "counted", feed, base)
        worker = counted.start(traced=True)
        worker.trace("-o", tmp_path / "calls", "-e", f"trace={CALLS}")
        counted.feed_some(worker, LINES)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        counted.finish()
        points: list[Injection | float] = list(chosen(kill_points(tmp_path / "calls"), KILLS["collector"]))
        rng = random.Random(SEED)
        points += [rng.uniform(0.005, 0.6) for _ in range(RANDOM_KILLS["collector"])]
        reached = 0
        for start in range(0, len(points), CHAIN):
            recordings = Recordings(zygote, tmp_path / str(start), feed, base)
            for point in points[start : start + CHAIN]:
                reached += recordings.die(point, LINES)
            recordings.finish()
            shutil.rmtree(recordings.home)
        assert reached >= 0.7 * len(points), f"{reached} of {len(points)} killed"
        report("collector", len(points), reached)


def report(path: str, points: int, reached: int) -> None:
    """Keep the N of a long run."""
    folder = os.environ.get("FAULTS_REPORT")
    if folder:
        with (Path(folder) / "kill_points.txt").open("a") as file:
            file.write(f"{path}: {points} points, {reached} killed, scale {FAULTS}\n")


# ── sealing and delivering ────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a journal of two dates, nothing of it sealed."""
    return record_journal(tmp_path_factory.mktemp("recorded"))



def closed_raw(home: Path) -> int:
    """Raw segments that should be sealed."""
    return sum(file.raw is not None for date in (DATE, DATE + 1) for file in list_segments(date_folder(home / "journal", STREAM, date))) - 1


def every_point(
    name: str, zygote: Zygote, recorded: Path, folder: Path, done: Callable[[Path], bool], check: Callable[[Path], None],
    settings: dict[str, object], arguments: tuple[str, ...] = (),
) -> None:  # fmt: skip
    """Count a run of this worker, then kill one at each chosen place, start it again, and check."""
    def start(home: Path, *, traced: bool) -> Worker:
        return zygote.fork(name, variables(home, base, **settings), home / "worker.log", traced=traced, arguments=arguments)

    base = free_base()
    home = copied(recorded, folder / "counted")
    worker = start(home, traced=True)
    worker.trace("-o", folder / "calls", "-e", f"trace={CALLS}")
    assert ended(worker, lambda: done(home)) == 0, (home / "worker.log").read_text()[-3000:]
    check(home)
    points: list[Injection | float] = list(chosen(kill_points(folder / "calls"), KILLS[name]))
    rng = random.Random(SEED)
    points += [rng.uniform(0.005, 0.4) for _ in range(RANDOM_KILLS[name])]
    reached = 0
    for number, point in enumerate(points):
        home = copied(recorded, folder / str(number))
        if isinstance(point, Injection):
            worker = start(home, traced=True)
            worker.inject(point)
            code = ended(worker, lambda home=home: done(home))  # type: ignore[misc]
        else:
            worker = start(home, traced=False)
            time.sleep(point)
            worker.signal(signal.SIGKILL)
            code = worker.wait()
        assert code in {0, -signal.SIGKILL}, (home / "worker.log").read_text()[-3000:]
        reached += code != 0
        for _ in range(2):
            # the second start finds everything in order, and changes nothing
            assert ended(start(home, traced=False), lambda home=home: done(home)) == 0, (home / "worker.log").read_text()[-3000:]  # type: ignore[misc]
            check(home)
        shutil.rmtree(home)
    assert reached >= 0.7 * len(points), f"{reached} of {len(points)} killed"
    report(name, len(points), reached)


def test_a_sealer_killed_at_any_call_completes_what_it_began(zygote: Zygote, recorded: Path, tmp_path: Path) -> None:
    """F16, seal: pack, read back, rename, manifest, unlink; a second run changes nothing."""
    expected = all_lines(recorded)
    beats: dict[Path, int] = {}

    def done(home: Path) -> bool:
        # Every closed segment is sealed and the worker has looked once more.
        if closed_raw(home):
            return False
        record = read_heartbeat(home / "run" / "heartbeats" / "sealer.json")
        return record is not None and record.alive() and record.state == "live"

    def check(home: Path) -> None:
        assert all_lines(home) == expected
        for date in (DATE, DATE + 1):
            assert verify(home / "journal", STREAM, date) == []
        folder = date_folder(home / "journal", STREAM, DATE)
        assert not list(folder.glob("*.tmp"))
        sealed = int(hashlib.sha256(str(digest(home / "journal")).encode()).hexdigest()[:8], 16)
        assert beats.setdefault(home, sealed) == sealed, "a second run changed something"

    every_point("sealer", zygote, recorded, tmp_path, done, check, {})


def test_a_file_delivery_killed_at_any_call_leaves_the_same_files(zygote: Zygote, recorded: Path, tmp_path: Path) -> None:
    """F16, checkpoint and JSONL sink: no line missing, none twice, byte for byte what a run without kills leaves."""
    calm: list[dict[str, str]] = []

    def check(home: Path) -> None:
        calm.append(record_files(home))
        assert len(calm[-1]) == FILES
        assert calm[-1] == calm[0]

    every_point("jsonl", zygote, recorded, tmp_path, lambda home: delivered(home, recorded), check, {}, ("jsonl",))

"""SIGKILL before every system call of recording, rolling, sealing and delivering, and at random times; then everything must be whole.

A run without faults is counted by strace first; each call of it that touches files, sockets or time is a place to die. A killed
run is followed by one that must put everything right by itself. Scale (kill points at system calls + kills at random times):
quick 40 + 6, ci 224 + 28, full every one (over 2,000; of the ClickHouse sink 300) + 580. The ClickHouse sink has no quick scale. A point
that the killed run does not reach counts as a run, not as a kill.
"""

import hashlib
import os
import random
import shutil
import signal
import sys
import time
import urllib.parse
import urllib.request
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
    until,
    variables,
)
from tests.faults.scale import FAULTS, scaled
from tests.faults.scripted_feed import ScriptedFeed
from tests.faults.zygote import Injection, Worker, Zygote, kill_points, needs_strace
from tests.integration.homes import Home
from tests.integration.ports import free_base

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(4 * 3600)]

SEED = 20240102
CALLS = (
    "openat,read,pread64,recvfrom,sendto,write,writev,pwrite64,pwritev,pwritev2,fdatasync,fsync,syncfs,rename,renameat,renameat2,"
    "unlink,unlinkat,ftruncate,truncate,mkdir,close,flock,socket,connect,getdents64,lseek,newfstatat,clone3,exit_group"
)
KILLS = {
    "collector": scaled(22, 110, 0), "sealer": scaled(8, 40, 0), "jsonl": scaled(10, 50, 0),
    "clickhouse": scaled(0, 24, 300),
}  # fmt: skip
"""Points of each path; 0: every one."""
RANDOM_KILLS = {"collector": scaled(3, 12, 260), "sealer": scaled(1, 4, 100), "jsonl": scaled(2, 8, 160), "clickhouse": scaled(0, 4, 60)}
CHAIN = 6
"""Killed collectors in a row on one home, each starting on what the last one left."""
LINES = scaled(1_500, 1_500, 16_000)


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


def own_copy(name: str, recorded: Path, home: Path) -> Path:
    """A home with the journal; for ClickHouse its stream has a name of its own, since all deliver into one warehouse."""
    copied(recorded, home)
    if name == "clickhouse":
        stream = f"iqfeed-depth-{stream_number(home)}"
        (home / "journal" / STREAM).rename(home / "journal" / stream)
        (home / "run" / "durable" / STREAM).rename(home / "run" / "durable" / stream)
    return home


def every_point(
    name: str, zygote: Zygote, recorded: Path, folder: Path, done: Callable[[Path], bool], check: Callable[[Path], None],
    settings: dict[str, object], arguments: tuple[str, ...] = (),
) -> None:  # fmt: skip
    """Count a run of this worker, then kill one at each chosen place, start it again, and check."""
    def start(home: Path, *, traced: bool) -> Worker:
        return zygote.fork(name, variables(home, base, **settings), home / "worker.log", traced=traced, arguments=arguments)

    base = free_base()
    # What only a first run does (making tables) is not what the killed ones do.
    home = own_copy(name, recorded, folder / "first")
    assert ended(start(home, traced=False), lambda home=home: done(home)) == 0, (home / "worker.log").read_text()[-3000:]  # type: ignore[misc]
    home = own_copy(name, recorded, folder / "counted")
    worker = start(home, traced=True)
    # A delivery to ClickHouse waits for answers and looks at files meanwhile: how often is chance.
    calls = CALLS.replace("newfstatat,", "") if name == "clickhouse" else CALLS
    worker.trace("-o", folder / "calls", "-e", f"trace={calls}")
    assert ended(worker, lambda: done(home)) == 0, (home / "worker.log").read_text()[-3000:]
    check(home)
    points: list[Injection | float] = list(chosen(kill_points(folder / "calls"), KILLS[name]))
    rng = random.Random(SEED)
    points += [rng.uniform(0.005, 0.4) for _ in range(RANDOM_KILLS[name])]
    reached = 0
    for number, point in enumerate(points):
        home = own_copy(name, recorded, folder / str(number))
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
    assert reached >= (0.4 if name == "clickhouse" else 0.7) * len(points), f"{reached} of {len(points)} killed"
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


# ── ClickHouse ────────────────────────────────────────────────────────────────

TABLES = {
    "depth_updates": "seq, symbol, ts_event, ts_recv, kind, side, price, size, order_id, mmid, trust, snapshot",
    "book_snapshots": "seq, symbol, ts_event, trust, bid_px, bid_sz, bid_ct, ask_px, ask_sz, ask_ct, total_bid_size",
    "feed_events": "seq, ordinal, kind, symbol, detail, raw",
    "gap_events": "seq, ordinal, cause, ts_from, ts_to, state, version",
}


class Store:
    """A warehouse in a process of its own, that nobody kills; each killed delivery has a stream of its own in it."""

    def __init__(self, folder: Path, numba_cache: Path) -> None:
        self.home = Home(folder, numba_cache)
        self.process = self.home.start(sys.executable, "-m", "l2_platform.warehouse.server", log="warehouse")
        until("the warehouse answers", lambda: self.password.exists() and self._answers(), 120)

    @property
    def password(self) -> Path:
        """The file with it."""
        return self.home.path / "run" / "warehouse.password"

    def _answers(self) -> bool:
        try:
            return self.ask("SELECT 1", database="default") == "1"
        except OSError:
            return False

    def ask(self, query: str, database: str = "l2") -> str:
        """The answer of the warehouse as text."""
        settings = {"user": "l2", "password": self.password.read_text().strip(), "database": database}
        url = f"http://127.0.0.1:{self.home.settings.ports.warehouse}/?{urllib.parse.urlencode(settings)}"
        with urllib.request.urlopen(urllib.request.Request(url, query.encode()), timeout=60) as answer:
            return str(answer.read().decode().strip())

    def variables(self) -> dict[str, object]:
        """Where a delivery finds it."""
        return {
            "clickhouse__embedded": "false", "clickhouse__port": self.home.settings.ports.warehouse,
            "clickhouse__password": self.password.read_text().strip(),
        }  # fmt: skip

    def content(self, stream: str) -> dict[str, str]:
        """Rows of each table of a stream, and a hash over all of their columns in key order."""
        found = {}
        for table, columns in TABLES.items():
            rows = f"(SELECT * FROM {table} WHERE stream = '{stream}' ORDER BY session_date, {columns.partition(', symbol')[0]})"
            numbered_rows = f"(SELECT *, rowNumberInAllBlocks() AS number FROM {rows})"
            found[table] = self.ask(f"SELECT count(), groupBitXor(cityHash64(tuple(number, session_date, {columns}))) FROM {numbered_rows}")
        return found


@pytest.mark.skipif(FAULTS == "quick", reason="a warehouse takes longer to start than the quick scale has")
def test_a_table_delivery_killed_at_any_call_leaves_the_same_rows(
    recorded: Path, tmp_path: Path, numba_cache: Path
) -> None:
    """F16, ClickHouse sink: every table has the rows of a run without kills, none twice."""
    needs_strace()
    store = Store(tmp_path / "store", numba_cache)
    calm: list[dict[str, str]] = []

    def check(home: Path) -> None:
        calm.append(store.content(f"iqfeed-depth-{stream_number(home)}"))
        assert int(calm[-1]["depth_updates"].split()[0]) == 32 * 120
        assert calm[-1] == calm[0]

    def done(home: Path) -> bool:
        return delivered(home, recorded, "clickhouse", f"iqfeed-depth-{stream_number(home)}")

    try:
        with Zygote("clickhouse", cache=numba_cache) as zygote:
            every_point("clickhouse", zygote, recorded, tmp_path, done, check, store.variables(), ("clickhouse",))
    finally:
        store.process.kill()
        store.process.wait()


def stream_number(home: Path) -> str:
    """Each home's stream has a number of its own in the one warehouse."""
    return {"counted": "9999", "first": "9998"}.get(home.name, home.name)

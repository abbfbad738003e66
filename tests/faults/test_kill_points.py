"""SIGKILL before every system call of recording, rolling, sealing and delivering, and at random times; then everything must be whole.

A run without faults is counted by strace first; each call of it that touches files, sockets or time is a place to die. A killed
run is followed by one that must put everything right by itself. Scale (kill points at system calls + kills at random times):
quick 40 + 6, ci 200 + 24, full every one (over 2,000) + 520. A point that the killed run does not reach counts as a run, not as a kill.
"""

import hashlib
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from l2_platform.clock import SystemClock
from l2_platform.journal.durable import read_durable
from l2_platform.journal.frame import FRAME_BYTES, FrameKind, decode_segment_header, frames_from
from l2_platform.journal.layout import date_folder, list_dates, list_segments
from l2_platform.journal.reader import Block, Control, Damage, JournalReader
from l2_platform.journal.recovery import recover_date
from l2_platform.journal.syscalls import Syscalls
from l2_platform.journal.verify import verify
from l2_platform.journal.writer import JournalWriter
from l2_platform.monitoring.desired import DesiredState, write_desired
from l2_platform.monitoring.heartbeat import read_heartbeat
from l2_platform.settings import JournalSettings
from tests.faults.scale import FAULTS, scaled
from tests.faults.scripted_feed import ScriptedFeed, feed_line
from tests.faults.zygote import Injection, Worker, Zygote, kill_points, needs_strace
from tests.integration.ports import free_base

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(4 * 3600)]

STREAM = "iqfeed-depth-0"
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
NUMBER = re.compile(rb"3,SYM\d\d\d,(\d+),")


def chosen(points: list[Injection], count: int) -> list[Injection]:
    """A seeded sample, in a seeded order; every point for 0."""
    order = random.Random(SEED).sample(points, len(points))
    return order[:count] if count else order


def variables(home: Path, base: int, **settings: object) -> dict[str, str]:
    """The environment of a worker of this home."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("L2_")}
    chosen_ = {
        "home": home, "ports__base": base, "streams": STREAM, "disk__reserve_bytes": 1000, "simulator__symbols": 4,
        "feed__rollout_pause_s": 0, "feed__reconnect_first_s": 0.02, "supervision__heartbeat_s": 0.05,
        "journal__segment_bytes_max": 65536, "journal__block_bytes": 8192, "journal__seal_s": 0.05,
        "jsonl__l2_interval_ms": 0, "jsonl__sync_s": 0.02, "delivery__checkpoint_s": 0.05, "delivery__flush_ms": 1,
        "delivery__poll_ms": 1, "delivery__read_bytes_max": 65536, "delivery__discover_s": 0.02, "delivery__retry_first_s": 0.05,
        "log__level": "WARNING",
    } | settings  # fmt: skip
    return plain | {f"L2_{name.upper()}": str(value) for name, value in chosen_.items()}


def until(what: str, reached: Callable[[], object], seconds: float = 60) -> None:
    """Wait until it holds; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def zygote(numba_cache: Path) -> Iterator[Zygote]:
    """Forks the workers."""
    needs_strace()
    with Zygote("collector", "sealer", "jsonl", cache=numba_cache) as made:
        yield made


# ── recording ─────────────────────────────────────────────────────────────────


class Recordings:
    """One home that is recorded into again and again, and killed."""

    def __init__(self, zygote: Zygote, home: Path, feed: ScriptedFeed, base: int) -> None:
        self.home = home
        self.zygote = zygote
        self.feed = feed
        self.variables = variables(home, base)
        self.written: dict[int, dict[int, int]] = {}
        """Date → line of the journal → line of the feed, of everything that whole frames ever held."""
        self._date = SEED
        home.mkdir()

    def start(self, *, traced: bool = False, rolls: bool = True) -> Worker:
        """A collector; its session dates end soon, so that it rolls twice."""
        now = SystemClock().now_ns()
        dates = list_dates(self.home / "journal", STREAM)
        self._date = max([self._date, *dates])
        table = [(self._date + step, now + (step + 1) * (200_000_000 if rolls else 10**15)) for step in range(2)]
        table.append((self._date + 2, now + 3 * 10**15))
        state = DesiredState(f"collector-{STREAM}", 1, True, (STREAM,), tuple(f"SYM{n:03d}" for n in range(4)), tuple(table))
        write_desired(self.home / "run" / "desired" / f"collector-{STREAM}.json", state)
        return self.zygote.fork("collector", self.variables, self.home / "collector.log", traced=traced, arguments=(STREAM,))

    def feed_some(self, worker: Worker, lines: int = LINES) -> None:
        """Until the feed has sent so many more, or the worker is dead."""
        target = self.feed.sent + lines
        until("the feed is read", lambda: self.feed.sent >= target or not worker.alive())

    def die(self, point: Injection | float) -> bool:
        """Record until killed at a call, or after so many seconds; False when it ended by itself before."""
        if isinstance(point, Injection):
            worker = self.start(traced=True)
            worker.inject(point)
            self.feed_some(worker)
            worker.signal(signal.SIGTERM)
        else:
            worker = self.start()
            time.sleep(point)
            worker.signal(signal.SIGKILL)
        killed = worker.wait() == -signal.SIGKILL
        self.look()
        return killed

    def look(self) -> None:
        """What is in whole frames now must be there for ever, with its numbers."""
        for date in list_dates(self.home / "journal", STREAM):
            found = self.written.setdefault(date, {})
            for file in list_segments(date_folder(self.home / "journal", STREAM, date)):
                for seq, number in frames_of(file.path):
                    assert found.setdefault(seq, number) == number, f"line {seq} of {date} was {found[seq]}, is {number}"

    def finish(self) -> None:
        """A start that nobody disturbs, then a clean stop, then the whole account."""
        worker = self.start(rolls=False)
        self.feed_some(worker, 600)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0, (self.home / "collector.log").read_text()[-3000:]
        self.look()
        self.account()
        self.again()

    def account(self) -> None:
        """Nothing written is missing or changed, numbers have no hole, what the feed sent and we have not lies in a recorded gap."""
        last = 0
        for date in list_dates(self.home / "journal", STREAM):
            lines: dict[int, int] = {}
            restarted = True
            reader = JournalReader(self.home / "journal", STREAM, date, durable_path=self.home / "run" / "durable" / STREAM)
            expected = 1
            while items := reader.read(1 << 20):
                for item in items:
                    assert not isinstance(item, Damage), item
                    if isinstance(item, Control):
                        assert item.seq == expected - 1
                        restarted |= item.event in {"collector_start", "disconnect"}
                        continue
                    for seq, number in lines_of(item):
                        assert seq == expected, f"line {seq} of {date} after {expected - 1}"
                        expected += 1
                        if number:
                            assert number == last + 1 or (restarted and number > last), f"{number} after {last}, no gap told"
                            last, restarted = number, False
                            lines[seq] = number
            missing = {seq: number for seq, number in self.written.get(date, {}).items() if number and lines.get(seq) != number}
            assert not missing, f"lost although written: {dict(list(missing.items())[:5])}"
            assert verify(self.home / "journal", STREAM, date, durable_path=self.home / "run" / "durable" / STREAM) == []

    def again(self) -> None:
        """Putting in order what is in order changes nothing."""
        root = self.home / "journal"
        date = list_dates(root, STREAM)[-1]
        before = digest(root)
        durable = read_durable(self.home / "run" / "durable" / STREAM)
        tails = [recover_date(root, STREAM, date, durable, Syscalls()) for _ in range(2)]
        assert tails[0] == tails[1]
        assert digest(root) == before


def frames_of(path: Path) -> Iterator[tuple[int, int]]:
    """(line of the journal, line of the feed or 0) of the whole frames at the start of a raw segment."""
    data = path.read_bytes()
    _, begin = decode_segment_header(data, path.name)
    for frame in frames_from(memoryview(data), begin, len(data)):
        if frame.kind == FrameKind.DATA:
            payload = data[frame.start + FRAME_BYTES : frame.end]
            yield from numbered(payload, frame.seq_first, bool(frame.flags))


def numbered(payload: bytes, first: int, cut: bool) -> Iterator[tuple[int, int]]:
    """The lines of a payload with the feed's own numbers; a whole line must be what the feed sent."""
    for seq, line in enumerate([payload] if cut else payload.splitlines(keepends=True), first):
        match = None if cut else NUMBER.match(line)
        number = int(match[1]) if match else 0
        assert not number or line == feed_line(number)
        yield seq, number


def lines_of(block: Block) -> Iterator[tuple[int, int]]:
    """The same, of what a reader gave."""
    data = block.buffer.tobytes()
    for index, first in enumerate(block.frame_seq.tolist()):
        payload = data[block.frame_start[index] : block.frame_start[index + 1]]
        yield from numbered(payload, first, bool(block.frame_flags[index]))


def digest(folder: Path) -> dict[str, str]:
    """Every file below and its hash."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_collector_killed_at_any_call_loses_nothing_written(zygote: Zygote, tmp_path: Path) -> None:
    """F16, receive, journal, rotate, roll: a collector fed by a socket; six deaths in a row on one home."""
    base = free_base()
    with ScriptedFeed(base + 20, pause_s=0.004) as feed:
        counted = Recordings(zygote, tmp_path / "counted", feed, base)
        worker = counted.start(traced=True)
        worker.trace("-o", tmp_path / "calls", "-e", f"trace={CALLS}")
        counted.feed_some(worker)
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
                reached += recordings.die(point)
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
    """A home with a journal of two dates, some of it sealed by nobody yet."""
    home = tmp_path_factory.mktemp("recorded")
    writer = JournalWriter(
        home / "journal", STREAM, JournalSettings(segment_bytes_max=65536), SystemClock(), calendar="always_open",
        durable_path=home / "run" / "durable" / STREAM,
    )  # fmt: skip
    now = SystemClock().now_ns()
    writer.open(SEED)
    number = 0
    for date in (SEED, SEED + 1):
        if date > SEED:
            writer.roll(date)
        writer.control("session", now, 0, session_date=date, reset=True)
        writer.control("collector_start", now, 0, pid=1, clean=True, last_ts=None, lost_tail_bytes=0)
        writer.control("connect", now, 1, host="127.0.0.1", port=1, attempt=1)
        writer.control("subscribed", now, 1, symbols=4)
        for _ in range(16):
            data = b"".join(feed_line(number + step) for step in range(1, 121))
            number += 120
            now += 20_000_000
            writer.append(data, 120, now, 1)
    writer.control("collector_stop", now, 0, reason="sigterm")
    writer.close()
    return home


def copied(recorded: Path, home: Path) -> Path:
    """A home of its own with that journal."""
    home.mkdir()
    shutil.copytree(recorded / "journal", home / "journal")
    shutil.copytree(recorded / "run", home / "run")
    return home


def all_lines(home: Path) -> dict[tuple[int, int], int]:
    """(date, line) → line of the feed."""
    found: dict[tuple[int, int], int] = {}
    for date in list_dates(home / "journal", STREAM):
        reader = JournalReader(home / "journal", STREAM, date)
        while items := reader.read(1 << 20):
            for item in items:
                assert not isinstance(item, Damage), item
                if isinstance(item, Block):
                    found |= {(date, seq): number for seq, number in lines_of(item)}
    return found


def closed_raw(home: Path) -> int:
    """Raw segments that should be sealed."""
    return sum(file.raw is not None for date in (SEED, SEED + 1) for file in list_segments(date_folder(home / "journal", STREAM, date))) - 1


def ended(worker: Worker, done: Callable[[], bool], seconds: float = 60) -> int:
    """Wait until it is done, stop it, its exit code."""
    until("done", lambda: done() or not worker.alive(), seconds)
    worker.signal(signal.SIGTERM)
    return worker.wait()


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
        for date in (SEED, SEED + 1):
            assert verify(home / "journal", STREAM, date) == []
        folder = date_folder(home / "journal", STREAM, SEED)
        assert not list(folder.glob("*.tmp"))
        sealed = int(hashlib.sha256(str(digest(home / "journal")).encode()).hexdigest()[:8], 16)
        assert beats.setdefault(home, sealed) == sealed, "a second run changed something"

    every_point("sealer", zygote, recorded, tmp_path, done, check, {})


def test_a_file_delivery_killed_at_any_call_leaves_the_same_files(zygote: Zygote, recorded: Path, tmp_path: Path) -> None:
    """F16, checkpoint and JSONL sink: no line missing, none twice, byte for byte what a run without kills leaves."""
    last = read_durable(recorded / "run" / "durable" / STREAM)
    assert last is not None
    calm: list[dict[str, str]] = []

    def done(home: Path) -> bool:
        record = read_heartbeat(home / "run" / "heartbeats" / "deliver-jsonl.json")
        numbers = record.numbers.get("streams", {}).get(STREAM, {}) if record is not None and record.alive() else {}
        return bool(numbers) and (numbers["session_date"], numbers["seq"]) == (last.position.session_date, last.seq)

    def check(home: Path) -> None:
        files = {name: value for name, value in digest(home / "jsonl").items() if name.endswith(".jsonl")}
        calm.append(files)
        assert len(files) == 8
        assert files == calm[0]

    every_point("jsonl", zygote, recorded, tmp_path, done, check, {}, ("jsonl",))

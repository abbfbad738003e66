"""Homes that are recorded into or delivered from, again and again, by workers that die; and what must hold whenever one looks.

What does not belong here: where they die (`test_kill_points`, `test_io_errors`, `test_disk_full`), and starting them (`zygote`).
"""

import hashlib
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

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
from tests.faults.scripted_feed import ScriptedFeed, feed_line
from tests.faults.zygote import Injection, Worker, Zygote

STREAM = "iqfeed-depth-0"
DATE = 20240102
NUMBER = re.compile(rb"3,SYM\d\d\d,(\d+),")
FILES = 8
"""Files of the recorded journal: four symbols on two dates."""


def variables(home: Path, base: int, **settings: object) -> dict[str, str]:
    """The environment of a worker of this home."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("L2_")}
    chosen = {
        "home": home, "ports__base": base, "streams": STREAM, "disk__reserve_bytes": 1000, "simulator__symbols": 4,
        "feed__rollout_pause_s": 0, "feed__reconnect_first_s": 0.02, "supervision__heartbeat_s": 0.05,
        "journal__segment_bytes_max": 65536, "journal__block_bytes": 8192, "journal__seal_s": 0.05,
        "jsonl__l2_interval_ms": 0, "jsonl__sync_s": 0.02, "delivery__checkpoint_s": 0.05, "delivery__flush_ms": 1,
        "delivery__poll_ms": 1, "delivery__read_bytes_max": 65536, "delivery__discover_s": 0.02, "delivery__retry_first_s": 0.05,
        "delivery__retry_cap_s": 0.2, "log__level": "WARNING",
    } | settings  # fmt: skip
    return plain | {f"L2_{name.upper()}": str(value) for name, value in chosen.items()}


def until(what: str, reached: Callable[[], object], seconds: float = 60) -> None:
    """Wait until it holds; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.005)


class Recordings:
    """One home that is recorded into again and again, and killed."""

    def __init__(self, zygote: Zygote, home: Path, feed: ScriptedFeed, base: int) -> None:
        self.home = home
        self.seen = home
        """The home as this process sees it, when its workers have mounts of their own."""
        self.zygote = zygote
        self.feed = feed
        self.variables = variables(home, base)
        self.written: dict[int, dict[int, int]] = {}
        """Date → line of the journal → line of the feed, of everything that whole frames ever held."""
        self._date = DATE
        home.mkdir()

    def log(self) -> str:
        """The end of what the workers said."""
        return (self.seen / "collector.log").read_text(errors="replace")[-3000:]

    def want(self, *, rolls: bool) -> None:
        """Say what to record, and when the session dates end: soon, twice, or never."""
        now = SystemClock().now_ns()
        dates = list_dates(self.seen / "journal", STREAM)
        self._date = max([self._date, *dates])
        table = [(self._date + step, now + (step + 1) * (200_000_000 if rolls else 10**15)) for step in range(2)]
        table.append((self._date + 2, now + 3 * 10**15))
        symbols = tuple(f"SYM{number:03d}" for number in range(4))
        state = DesiredState(f"collector-{STREAM}", 1, True, (STREAM,), symbols, tuple(table))
        write_desired(self.seen / "run" / "desired" / f"collector-{STREAM}.json", state)

    def start(
        self, *, traced: bool = False, rolls: bool = True, arguments: tuple[str, ...] = (), log: Path | None = None
    ) -> Worker:
        """A collector of this home."""
        self.want(rolls=rolls)
        return self.zygote.fork(
            "collector", self.variables, log or self.home / "collector.log", traced=traced, arguments=(STREAM, *arguments)
        )

    def feed_some(self, worker: Worker, lines: int) -> None:
        """Until the feed has sent so many more, or the worker is dead."""
        target = self.feed.sent + lines
        until("the feed is read", lambda: self.feed.sent >= target or not worker.alive())

    def die(self, point: Injection | float, lines: int) -> bool:
        """Record until killed at a call, or after so many seconds; False when it ended by itself before."""
        if isinstance(point, Injection):
            worker = self.start(traced=True)
            worker.inject(point)
            self.feed_some(worker, lines)
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
        for date in list_dates(self.seen / "journal", STREAM):
            found = self.written.setdefault(date, {})
            for file in list_segments(date_folder(self.seen / "journal", STREAM, date)):
                for seq, number in frames_of(file.path):
                    assert found.setdefault(seq, number) == number, f"line {seq} of {date} was {found[seq]}, is {number}"

    def finish(self) -> None:
        """A start that nobody disturbs, then a clean stop, then the whole account."""
        worker = self.start(rolls=False)
        self.feed_some(worker, 600)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0, self.log()
        self.look()
        self.account()
        self.again()

    def account(self) -> None:
        """Nothing written is missing or changed, numbers have no hole, what the feed sent and we have not lies in a recorded gap."""
        last = 0
        durable = self.seen / "run" / "durable" / STREAM
        for date in list_dates(self.seen / "journal", STREAM):
            lines: dict[int, int] = {}
            restarted = True
            reader = JournalReader(self.seen / "journal", STREAM, date, durable_path=durable)
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
            assert verify(self.seen / "journal", STREAM, date, durable_path=durable) == []

    def again(self) -> None:
        """Putting in order what is in order changes nothing."""
        root = self.seen / "journal"
        date = list_dates(root, STREAM)[-1]
        before = digest(root)
        durable = read_durable(self.seen / "run" / "durable" / STREAM)
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


# ── a journal to seal and to deliver ──────────────────────────────────────────


def record_journal(home: Path) -> Path:
    """Make a home with a journal of two dates, several segments each, none sealed; its writer ended in order."""
    writer = JournalWriter(
        home / "journal", STREAM, JournalSettings(segment_bytes_max=65536), SystemClock(), calendar="always_open",
        durable_path=home / "run" / "durable" / STREAM,
    )  # fmt: skip
    now = SystemClock().now_ns()
    writer.open(DATE)
    number = 0
    for date in (DATE, DATE + 1):
        if date > DATE:
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


def delivered(home: Path, recorded: Path, sink: str = "jsonl", stream: str = STREAM) -> bool:
    """The living delivery of a home says that it has all of the journal."""
    last = read_durable(recorded / "run" / "durable" / STREAM)
    assert last is not None
    record = read_heartbeat(home / "run" / "heartbeats" / f"deliver-{sink}.json")
    numbers = record.numbers.get("streams", {}).get(stream, {}) if record is not None and record.alive() else {}
    return bool(numbers) and (numbers["session_date"], numbers["seq"]) == (last.position.session_date, last.seq)


def record_files(home: Path) -> dict[str, str]:
    """The JSONL files of a home and their hashes."""
    return {name: value for name, value in digest(home / "jsonl").items() if name.endswith(".jsonl")}


def ended(worker: Worker, done: Callable[[], bool], seconds: float = 60) -> int:
    """Wait until it is done, stop it, its exit code."""
    until("done", lambda: done() or not worker.alive(), seconds)
    worker.signal(signal.SIGTERM)
    return worker.wait()

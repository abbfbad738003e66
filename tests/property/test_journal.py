"""The journal under any sequence of frames, any cut, any flip, and real kills."""

import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l2_platform.journal.durable import read_durable
from l2_platform.journal.layout import date_folder, list_segments, raw_path
from l2_platform.journal.reader import Block, Control, Damage, JournalReader
from l2_platform.journal.sealer import seal_closed
from l2_platform.journal.syscalls import Syscalls
from l2_platform.journal.verify import verify
from l2_platform.journal.writer import JournalWriter
from l2_platform.settings import JournalSettings
from tests.property.journal_writer_process import DATE, NAME, lines_from, payload_of


class NoSync(Syscalls):
    """A disk that is always in time; the tests here are about bytes."""

    def fdatasync(self, fd: int) -> None:
        pass

    def fsync(self, fd: int) -> None:
        pass


class Ticks:
    """One ns a look."""

    def __init__(self) -> None:
        self._next = itertools.count(1)

    def now_ns(self) -> int:
        return next(self._next)

    def monotonic_ns(self) -> int:
        return next(self._next)

    def sleep(self, seconds: float) -> None:
        pass


def writer_in(home: Path, **options) -> JournalWriter:
    return JournalWriter(
        home / "journal", NAME, JournalSettings(**options), Ticks(), calendar="always_open", durable_path=home / "durable",
        calls=NoSync(),
    )  # fmt: skip


def read_all(home: Path, max_bytes: int = 1 << 20) -> list:
    reader = JournalReader(home / "journal", NAME, DATE)
    found = []
    while items := reader.read(max_bytes):
        found += items
    reader.close()
    return found


def flat(items: list) -> list[tuple]:
    """Frames and controls as plain tuples."""
    found: list[tuple] = []
    for item in items:
        if isinstance(item, Block):
            data = item.buffer.tobytes()
            found.extend(
                (
                    "data", data[item.frame_start[index] : item.frame_start[index + 1]], seq, int(item.frame_count[index]),
                    int(item.frame_ts[index]), int(item.frame_conn[index]), int(item.frame_flags[index]),
                )
                for index, seq in enumerate(item.frame_seq.tolist())
            )  # fmt: skip
        elif isinstance(item, Control):
            found.append(("control", item.event, item.fields, item.seq, item.ts_recv, item.conn_id))
        else:
            found.append(("damage", item))
    return found


line = st.binary(max_size=40).map(lambda data: data.replace(b"\n", b" ") + b"\n")
field_name = st.text(max_size=5).filter(lambda key: key not in {"event", "ts", "self"})
operation = st.one_of(
    st.tuples(st.just("lines"), st.lists(line, min_size=1, max_size=20)),
    st.tuples(st.just("fragment"), st.binary(min_size=1, max_size=2000)),
    st.tuples(st.just("control"), st.dictionaries(field_name, st.integers(), max_size=3)),
    st.tuples(st.just("reopen"), st.none()),
)


@settings(max_examples=60, deadline=None)
@given(
    operations=st.lists(operation, max_size=25), chunk=st.integers(1, 5000), seal=st.booleans(),
    times=st.integers(-(1 << 62), 1 << 62), conn=st.integers(0, (1 << 32) - 1),
)  # fmt: skip
def test_anything_written_reads_back_identical(operations, chunk, seal, times, conn):
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        expected: list[tuple] = []
        seq = 0
        writer = writer_in(home, segment_bytes_max=1 << 16)
        writer.open(DATE)
        for kind, value in operations:
            if kind == "lines":
                data = b"".join(value)
                assert writer.append(memoryview(data), len(value), times, conn) == seq + 1
                expected.append(("data", data, seq + 1, len(value), times, conn, 0))
                seq += len(value)
            elif kind == "fragment":
                writer.append(value, 1, times, conn, 1)
                expected.append(("data", value, seq + 1, 1, times, conn, 1))
                seq += 1
            elif kind == "control":
                writer.control("watch", times, conn, **value)
                expected.append(("control", "watch", value, seq, times, conn))
            else:
                writer.close()
                assert writer.open(DATE).last_seq == seq
        writer.roll(DATE + 1)
        writer.close()
        assert flat(read_all(home, chunk)) == expected
        if seal:
            seal_closed(home / "journal", NAME, JournalSettings(block_bytes=4096), calls=NoSync())
            assert not list(date_folder(home / "journal", NAME, DATE).glob("*.l2j"))
            assert flat(read_all(home, chunk)) == expected
        assert verify(home / "journal", NAME, DATE) == []


def small_journal(home: Path) -> tuple[bytes, list[tuple], list[int]]:
    """One segment: its bytes, its frames, and where each ends."""
    writer = writer_in(home)
    writer.open(DATE)
    ends = [writer.written.offset]
    writer.control("session", 1, 0, reset=True)
    ends.append(writer.written.offset)
    for number in range(4):
        writer.append(b"line %d\n" % number * (number + 1), number + 1, number, 1)
        ends.append(writer.written.offset)
    writer.control("collector_stop", 9, 0, reason="x")
    ends.append(writer.written.offset)
    writer.close()
    data = raw_path(date_folder(home / "journal", NAME, DATE), 1).read_bytes()
    return data, flat(read_all(home)), ends


def test_cut_at_every_byte_keeps_whole_frames_and_continues(tmp_path):
    data, frames, ends = small_journal(tmp_path / "whole")
    for cut in range(len(data) + 1):
        with tempfile.TemporaryDirectory() as name:
            home = Path(name)
            folder = date_folder(home / "journal", NAME, DATE)
            folder.mkdir(parents=True)
            raw_path(folder, 1).write_bytes(data[:cut])
            kept = sum(end <= cut for end in ends[1:])
            last = max((entry[2] + entry[3] - 1 for entry in frames[:kept] if entry[0] == "data"), default=0)
            writer = writer_in(home)
            recovery = writer.open(DATE)
            assert recovery.last_seq == last
            whole = max((end for end in ends if end <= cut), default=0)
            assert recovery.trimmed_bytes == cut - whole
            assert recovery.clean == (kept in (0, len(frames)))
            assert writer.append(b"after\n", 1, 77, 1) == last + 1
            writer.close()
            assert flat(read_all(home)) == [*frames[:kept], ("data", b"after\n", last + 1, 1, 77, 1, 0)]
            # nothing is deleted
            assert sum(path.stat().st_size for path in folder.glob("torn-*")) == cut - whole


def test_what_was_durable_and_is_cut_off_is_told_and_its_numbers_are_not_used_again(tmp_path):
    data, frames, ends = small_journal(tmp_path / "whole")
    record = (tmp_path / "whole" / "durable").read_bytes()
    durable = read_durable(tmp_path / "whole" / "durable")
    assert durable is not None
    for cut in range(0, len(data), 5):
        with tempfile.TemporaryDirectory() as name:
            home = Path(name)
            folder = date_folder(home / "journal", NAME, DATE)
            folder.mkdir(parents=True)
            raw_path(folder, 1).write_bytes(data[:cut])
            (home / "durable").write_bytes(record)
            kept = sum(end <= cut for end in ends[1:])
            for turn in (1, 2):
                writer = writer_in(home)
                recovery = writer.open(DATE)
                assert recovery.last_seq == durable.seq + turn - 1
                assert writer.append(b"after\n", 1, 77, 1) == durable.seq + turn
                writer.close()
            items = read_all(home)
            found = flat(items)
            assert [entry for entry in found if entry[0] != "damage"] == [
                *frames[:kept], *(("data", b"after\n", durable.seq + turn, 1, 77, 1, 0) for turn in (1, 2))
            ]  # fmt: skip
            damage = [item for item in items if isinstance(item, Damage)]
            last = max((entry[2] + entry[3] - 1 for entry in frames[:kept] if entry[0] == "data"), default=0)
            assert damage
            assert last == durable.seq or (damage[-1].seq_from, damage[-1].seq_to) == (last + 1, durable.seq)
            # what is left of the number space: a sink that has everything finds nothing missing
            reader = JournalReader(home / "journal", NAME, DATE, start=durable.position, seq=durable.seq)
            assert [entry[0] for entry in flat(reader.read(1 << 20))] == ["data"] * 2
            assert verify(home / "journal", NAME, DATE)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 1 << 30), sealed=st.booleans(), how=st.sampled_from(["flip", "zero", "duplicate", "swap", "remove"]),
)  # fmt: skip
def test_damage_is_always_detected_and_only_costs_what_it_touches(whole_journals, seed, sealed, how):
    source, expected, starts = whole_journals[sealed]
    random_ = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        folder = date_folder(home / "journal", NAME, DATE)
        folder.mkdir(parents=True)
        for path in source.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        victim = random_.choice(list_segments(folder)).path
        before = victim.read_bytes()
        after = mutate(before, how, random_)
        if before == after:
            return
        victim.write_bytes(after)
        assert verify(home / "journal", NAME, DATE), (how, seed)
        items = read_all(home)
        got = {entry[2]: entry for entry in flat(items) if entry[0] == "data"}
        wrong = [seq for seq, entry in got.items() if expected.get(seq) != entry]
        assert wrong == []
        lost = sorted(set(expected) - set(got))
        if how in {"flip", "zero"} and not sealed:
            touched = [at for at in range(len(before)) if before[at] != after[at]]
            segment = int(victim.stem)
            may_lose = {
                seq for seq, (number, start, end) in starts.items()
                if number == segment and any(start <= at < end for at in touched)
            }  # fmt: skip
            assert set(lost) <= may_lose
        if lost:
            said = [(item.seq_from, item.seq_to) for item in items if isinstance(item, Damage)]
            missing_tail = max(expected) in lost
            named = {seq for first, last in said for seq in range(first, last + 1)}
            assert missing_tail or set(lost) <= named


def mutate(data: bytes, how: str, random_: random.Random) -> bytes:
    size = random_.randint(1, 200)
    at = random_.randrange(len(data) - size)
    other = random_.randrange(len(data) - size)
    if how == "flip":
        changed = bytearray(data)
        changed[at] ^= 1 << random_.randrange(8)
        return bytes(changed)
    if how == "zero":
        return data[:at] + bytes(size) + data[at + size :]
    if how == "duplicate":
        return data[: at + size] + data[at : at + size] + data[at + size :]
    if how == "remove":
        return data[:at] + data[at + size :]
    first, second = sorted((at, other))
    if second < first + size:
        return data
    one, two = data[first : first + size], data[second : second + size]
    return data[:first] + two + data[first + size : second] + one + data[second + size :]


@pytest.fixture(scope="module")
def whole_journals(tmp_path_factory):
    """Raw and sealed: the folder, its frames by seq, and where each frame is."""
    found = {}
    for sealed in (False, True):
        home = tmp_path_factory.mktemp("journal")
        writer = writer_in(home, segment_bytes_max=1 << 16)
        writer.open(DATE)
        starts = {}
        number = random.Random(5)
        while writer.written.segment < 3:
            data = b"".join(b"%d,%d\r\n" % (writer.last_seq, number.randrange(1 << 40)) for _ in range(number.randrange(1, 60)))
            count = data.count(b"\n")
            seq = writer.append(data, count, 5, 1)
            end = writer.written
            starts[seq] = (end.segment, end.offset - len(data) - 40, end.offset)
            if seq % 5 == 0:
                writer.control("resumed", 5, 1, last_byte_ns=1)
        writer.roll(DATE + 1)
        writer.close()
        if sealed:
            seal_closed(home / "journal", NAME, JournalSettings(block_bytes=4096), calls=NoSync())
        expected = {entry[2]: entry for entry in flat(read_all(home)) if entry[0] == "data"}
        found[sealed] = (date_folder(home / "journal", NAME, DATE), expected, starts)
    return found


@pytest.mark.integration
@pytest.mark.slow
def test_killed_writers_lose_nothing_durable_and_number_without_holes(tmp_path):
    kills = random.Random(11)
    last_durable = 0
    for _ in range(30):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.property.journal_writer_process", str(tmp_path)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        # The process says a byte for each frame: die after so many, in the middle of whatever comes next.
        process.stdout.read(kills.randrange(1, 400))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        durable = read_durable(tmp_path / "durable")
        assert durable is not None
        assert durable.seq >= last_durable
        last_durable = durable.seq
    writer = writer_in(tmp_path)
    last = writer.open(DATE).last_seq
    writer.close()
    assert last >= last_durable > 0
    items = read_all(tmp_path)
    assert not [item for item in items if isinstance(item, Damage)]
    seq = 0
    for entry in flat(items):
        if entry[0] == "data":
            assert entry[2] == seq + 1
            assert entry[1] == payload_of(entry[2], entry[3])
            seq += entry[3]
    assert seq == last
    assert verify(tmp_path / "journal", NAME, DATE) == []
    assert sum(item.event == "collector_start" for item in items if isinstance(item, Control)) >= 30
    assert lines_from(1, 2) == payload_of(1, 2)

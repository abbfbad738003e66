import errno
import os
import shutil

import pytest

from l2_platform.errors import JournalError, JournalUnwritable, LeaseHeld
from l2_platform.journal.durable import RECORD_BYTES, read_durable
from l2_platform.journal.frame import FrameFlag, Position
from l2_platform.journal.layout import list_segments
from l2_platform.journal.reader import Block, Control, JournalReader, segment_context, segment_header
from tests.unit.journal.disks import CrashedError, FailingDisk, io_error, no_space, nth
from tests.unit.journal.stream import DATE, NEXT, Stream, controls_of, damage_of, lines_of


def test_frames_read_back_in_order(stream):
    writer = stream.opened()
    writer.control("session", 1, 0, session_date=DATE, reset=True)
    assert writer.append(b"a\r\nb\r\n", 2, 10, 1) == 1
    assert writer.append(memoryview(b"frag"), 1, 11, 1, FrameFlag.FRAGMENT) == 3
    writer.control("disconnect", 12, 1, reason="fin", last_byte_ns=11)
    assert writer.append(b"c\r\n", 1, 13, 2) == 4
    assert writer.last_seq == 4
    writer.close()
    items = stream.items()
    assert [type(item) for item in items] == [Control, Block, Control, Block]
    assert items[0].fields == {"session_date": DATE, "reset": True}
    assert (items[2].seq, items[2].ts_recv, items[2].conn_id) == (3, 12, 1)
    assert items[1].frame_flags.tolist() == [0, 1]
    assert items[1].frame_conn.tolist() == [1, 1]
    assert items[1].frame_ts.tolist() == [10, 11]
    assert lines_of(items) == {1: b"a\r\n", 2: b"b\r\n", 3: b"frag", 4: b"c\r\n"}


def test_durable_position_is_published(stream):
    writer = stream.opened()
    writer.append(b"a\n", 1, 10, 1)
    writer.sync()
    durable = read_durable(stream.durable_path)
    assert durable is not None
    assert durable.position == writer.durable == writer.written
    assert (durable.seq, durable.ts_recv, durable.pid, durable.closed) == (1, 10, os.getpid(), False)
    assert stream.durable_path.stat().st_size == RECORD_BYTES == 64
    writer.control("collector_stop", 11, 0, reason="x")
    writer.close()
    durable = read_durable(stream.durable_path)
    assert durable is not None
    assert (durable.closed, durable.clean) == (True, True)


def test_seq_continues_and_clean_is_known(stream):
    writer = stream.opened()
    writer.append(b"a\nb\n", 2, 10, 1)
    writer.control("collector_stop", 11, 0, reason="x")
    writer.close()
    again = stream.writer()
    recovery = again.open(DATE)
    assert (recovery.last_seq, recovery.last_ts, recovery.trimmed_bytes, recovery.clean) == (2, 11, 0, True)
    assert again.append(b"c\n", 1, 12, 1) == 3
    stream.abandon(again)
    recovery = stream.writer().open(DATE)
    assert (recovery.last_seq, recovery.last_ts, recovery.clean) == (3, 12, False)


def test_open_twice_in_a_row_changes_nothing(stream):
    writer = stream.opened()
    writer.append(b"a\n", 1, 10, 1)
    stream.abandon(writer)
    path = stream.folder() / "000001.l2j"
    with path.open("ab") as file:
        file.write(b"torn")
    first = stream.writer()
    assert first.open(DATE).trimmed_bytes == 4
    stream.abandon(first)
    assert (stream.folder() / f"torn-000001-{path.stat().st_size}.bin").read_bytes() == b"torn"
    second = stream.writer()
    assert second.open(DATE).trimmed_bytes == 0
    assert stream.lines() == {1: b"a\n"}


def test_damage_before_whole_frames_is_not_trimmed(stream):
    writer = stream.opened()
    for seq in range(5):
        writer.append(b"line %d\n" % seq, 1, 10, 1)
    stream.abandon(writer)
    stream.durable_path.unlink()
    path = stream.folder() / "000001.l2j"
    data = bytearray(path.read_bytes())
    data[data.index(b"line 2")] ^= 1
    path.write_bytes(data)
    recovery = stream.writer().open(DATE)
    assert (recovery.last_seq, recovery.trimmed_bytes) == (5, 0)
    items = stream.items()
    assert sorted(lines_of(items)) == [1, 2, 4, 5]
    assert [(item.seq_from, item.seq_to) for item in damage_of(items)] == [(3, 3)]


def test_stale_durable_record_of_another_journal_is_not_believed(stream):
    writer = stream.opened()
    writer.append(b"a\n" * 50, 50, 10, 1)
    writer.close()
    record = stream.durable_path.read_bytes()
    stream.clock.now += 1
    shutil.rmtree(stream.root)
    writer = stream.opened()
    writer.append(b"b\n", 1, 10, 1)
    writer.append(b"c\n" * 40, 40, 10, 1)
    writer.close()
    stream.durable_path.write_bytes(record)
    assert stream.writer().open(DATE).last_seq == 41


def test_rotation_by_size_repeats_the_context(stream):
    writer = stream.opened(segment_bytes_max=1 << 16)
    writer.context({"protocol": "6.2"})
    for _ in range(5):
        writer.append(b"x" * 29_999 + b"\n", 1, 10, 1)
    assert writer.written.segment == 3
    writer.close()
    assert segment_context(stream.root, stream.name, DATE) == {}
    assert segment_context(stream.root, stream.name, DATE, Position(DATE, 2, 0)) == {"protocol": "6.2"}
    header = segment_header(list_segments(stream.folder())[2])
    assert header is not None
    assert (header.last_seq, header.calendar, header.stream) == (4, "XNYS", stream.name)
    assert len(stream.lines()) == 5


def test_rotation_by_age(stream):
    writer = stream.opened(segment_s_max=60)
    writer.append(b"a\n", 1, 10, 1)
    stream.clock.sleep(61)
    writer.append(b"b\n", 1, 10, 1)
    assert writer.written.segment == 2
    assert stream.lines(live=False) == {1: b"a\n", 2: b"b\n"}


def test_roll_begins_at_seq_1_and_never_goes_back(stream):
    writer = stream.opened()
    writer.append(b"a\n", 1, 10, 1)
    writer.roll(NEXT)
    assert writer.append(b"b\n", 1, 11, 1) == 1
    with pytest.raises(JournalError, match="cannot roll"):
        writer.roll(DATE)
    writer.close()
    assert stream.lines(DATE) == {1: b"a\n"}
    assert stream.lines(NEXT) == {1: b"b\n"}
    with pytest.raises(JournalError, match="is before it"):
        stream.writer().open(DATE)


def test_open_on_a_new_date_recovers_the_old_one(stream):
    writer = stream.opened()
    writer.append(b"a\n", 1, 10, 1)
    stream.abandon(writer)
    with (stream.folder() / "000001.l2j").open("ab") as file:
        file.write(b"torn")
    recovery = stream.writer().open(NEXT)
    assert (recovery.last_seq, recovery.last_ts, recovery.trimmed_bytes, recovery.clean) == (0, 10, 4, False)


def test_second_writer_is_refused(stream):
    stream.opened()
    with pytest.raises(LeaseHeld, match="another process writes"):
        stream.writer().open(DATE)


def test_reader_sees_only_what_is_durable(stream):
    disk = FailingDisk()
    writer = stream.opened(calls=disk)
    writer.append(b"a\n", 1, 10, 1)
    writer.sync()
    disk.fail = lambda name, call: io_error() if name in {"fdatasync", "rename"} else None
    writer.append(b"b\n", 1, 10, 1)
    assert stream.lines(live=True) == {1: b"a\n"}
    reader = JournalReader(stream.root, stream.name, DATE, durable_path=stream.durable_path)
    assert len(reader.read(1000)) == 1
    assert reader.read(1000) == []
    assert not reader.finished
    disk.fail = lambda name, call: None
    writer.sync()
    assert lines_of(reader.read(1000)) == {2: b"b\n"}
    writer.roll(NEXT)
    assert reader.read(1000) == []
    assert reader.finished


def test_full_disk_leaves_no_part_of_a_frame_and_goes_on_later(stream):
    disk = FailingDisk()
    writer = stream.opened(calls=disk)
    writer.append(b"a\n", 1, 10, 1)
    disk.chunk = 20
    writes = 0

    def full(name, call):
        nonlocal writes
        writes += name == "writev"
        return no_space() if name == "writev" and writes > 1 else None

    disk.fail = full
    for _ in range(3):
        writes = 0
        with pytest.raises(JournalUnwritable, match="No space left") as error:
            writer.append(b"lost\n" * 10, 10, 11, 1)
        assert error.value.retryable
        assert error.value.facts["errno"] == errno.ENOSPC
        assert (stream.folder() / "000001.l2j").stat().st_size == writer.written.offset
    disk.fail = lambda name, call: None
    assert writer.append(b"b\n", 1, 12, 1) == 2
    writer.close()
    items = stream.items()
    assert lines_of(items) == {1: b"a\n", 2: b"b\n"}
    assert damage_of(items) == []


def test_short_and_interrupted_writes_are_completed(stream):
    disk = FailingDisk()
    disk.chunk = 7
    disk.fail = lambda name, call: InterruptedError() if name == "writev" and call % 3 == 0 else None
    writer = stream.opened(calls=disk)
    writer.append(b"a longer line than seven bytes\n", 1, 10, 1)
    writer.close()
    assert stream.lines() == {1: b"a longer line than seven bytes\n"}


def test_failed_fsync_moves_the_tail_to_a_new_segment(stream):
    disk = FailingDisk()
    writer = stream.opened(calls=disk)
    writer.append(b"a\n", 1, 10, 1)
    writer.sync()
    sure = writer.durable
    failed: list[int] = []

    def once(name, call):
        if name == "fdatasync" and not failed:
            failed.append(call)
            return io_error()
        return None

    disk.fail = once
    writer.append(b"b\n", 1, 11, 1)
    writer.control("watch", 12, 1, symbols=["A"])
    writer.append(b"c\n", 1, 13, 1)
    writer.sync()
    assert writer.durable.segment == 2
    header = segment_header(list_segments(stream.folder())[1])
    assert header is not None
    assert header.supersedes == (1, sure.offset)
    items = stream.items()
    assert lines_of(items) == {1: b"a\n", 2: b"b\n", 3: b"c\n"}
    assert controls_of(items) == ["watch"]
    assert damage_of(items) == []
    assert not list(stream.folder().glob("*.suspect"))


def test_dead_disk_is_said_and_survived(stream):
    disk = FailingDisk()
    writer = stream.opened(calls=disk)
    disk.fail = lambda name, call: io_error() if name in {"fdatasync", "rename"} else None
    before = writer.durable
    writer.append(b"a\n", 1, 10, 1)
    with pytest.raises(JournalUnwritable):
        writer.sync()
    assert writer.durable == before
    count = writer.last_seq
    disk.fail = lambda name, call: None
    writer.append(b"z\n", 1, 10, 1)
    writer.close()
    lines = stream.lines()
    assert sorted(lines) == list(range(1, count + 2))
    assert lines[count + 1] == b"z\n"


def test_unsure_tail_of_a_crashed_writer_is_written_again(stream):
    disk = FailingDisk()
    writer = stream.opened(calls=disk)
    writer.append(b"a\n", 1, 10, 1)
    writer.sync()
    sure = writer.durable
    disk.fail = lambda name, call: io_error() if name in {"fdatasync", "rename"} else None
    writer.append(b"b\n", 1, 11, 1)
    with pytest.raises(JournalUnwritable):
        writer.sync()
    stream.abandon(writer)
    assert (stream.folder() / "000001.suspect").exists()
    again = stream.writer()
    assert again.open(DATE).last_seq == 2
    header = segment_header(list_segments(stream.folder())[1])
    assert header is not None
    assert header.supersedes == (1, sure.offset)
    again.append(b"c\n", 1, 12, 1)
    again.close()
    items = stream.items()
    assert lines_of(items) == {1: b"a\n", 2: b"b\n", 3: b"c\n"}
    assert damage_of(items) == []
    assert not (stream.folder() / "000001.suspect").exists()


def scenario(writer) -> list[bytes]:
    """Some of everything; what was acknowledged line by line."""
    sent: list[bytes] = []

    def patiently(action):
        for _ in range(50):
            try:
                return action()
            except JournalUnwritable:
                continue
        raise AssertionError("never worked again")

    patiently(lambda: writer.open(DATE))
    patiently(lambda: writer.control("session", 1, 0, session_date=DATE, reset=True))
    for number in range(4):
        line = b"%d" % number + b"x" * 29_000 + b"\n"
        patiently(lambda line=line: writer.append(line, 1, 10, 1))
        sent.append(line)
    patiently(writer.sync)
    patiently(lambda: writer.control("collector_stop", 99, 0, reason="x"))
    patiently(writer.close)
    return sent


@pytest.mark.parametrize("error", [io_error, no_space, InterruptedError])
def test_every_system_call_may_fail_once(tmp_path, error):
    number = 0
    while True:
        number += 1
        stream = Stream(tmp_path / str(number))
        disk = FailingDisk()
        disk.fail = nth(number, error)
        sent = scenario(stream.writer(disk, segment_bytes_max=1 << 16, fsync_interval_ms=0))
        items = stream.items()
        assert list(lines_of(items).values()) == sent, number
        assert damage_of(items) == [], number
        assert controls_of(items) == ["session", "collector_stop"], number
        stream.end()
        if disk.calls < number:
            break
    assert number > 30


# The simulated death kills the writer's thread, too.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_crash_at_every_system_call_loses_nothing_durable(tmp_path):
    number = 0
    crashed = True
    while crashed:
        number += 1
        stream = Stream(tmp_path / str(number))
        disk = FailingDisk()
        dead: list[int] = []

        def die(name, call, number=number, dead=dead):
            if call >= number and (dead or call == number):
                dead.append(call)
                # Once it is dead, no call of any thread reaches the disk.
                return OSError(errno.EIO, "dead") if name == "fdatasync" else CrashedError()
            return None

        disk.fail = die
        writer = stream.writer(disk, segment_bytes_max=1 << 16, fsync_interval_ms=1000)
        try:
            writer.open(DATE)
            for seq in range(4):
                writer.append(b"%d" % seq + b"x" * 29_000 + b"\n", 1, 10, 1)
                if seq % 2:
                    writer.sync()
            writer.close()
        except (CrashedError, JournalError):
            pass
        crashed = bool(dead)
        durable = read_durable(stream.durable_path)
        if writer.is_open:
            stream.abandon(writer)
        again = stream.writer()
        recovery = again.open(DATE)
        assert recovery.last_seq >= (durable.seq if durable else 0)
        assert again.append(b"after\n", 1, 20, 1) == recovery.last_seq + 1
        again.close()
        items = stream.items()
        assert list(lines_of(items)) == list(range(1, recovery.last_seq + 2)), number
        assert damage_of(items) == [], number
        stream.end()
    assert number > 15


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_writer_whose_thread_died_says_so_instead_of_waiting(stream):
    disk = FailingDisk()
    writer = stream.opened(calls=disk)
    disk.fail = lambda name, call: RuntimeError("a defect") if name == "fdatasync" else None
    writer.append(b"a\n", 1, 10, 1)
    assert writer._thread is not None
    writer._thread.join()
    disk.fail = lambda name, call: None
    with pytest.raises(JournalError, match="has ended by a defect"):
        writer.append(b"b\n", 1, 10, 1)
    writer.close()
    assert stream.lines() == {1: b"a\n"}


def test_frame_that_was_cut_off_again_is_gone_for_good_before_the_next_segment_begins(stream):
    """Else a power cut after the rotation brings its bytes back, behind where the next segment says that this one ends."""
    disk = FailingDisk()
    writer = stream.opened(calls=disk, segment_s_max=5)
    writer.append(b"first\n", 1, 10, 1)
    writer.sync()
    disk.chunk = 10
    written = writer.written.offset
    disk.fail = lambda name, call: no_space() if name == "writev" and size_of(stream) > written else None
    with pytest.raises(JournalUnwritable):
        writer.append(b"second\n", 1, 11, 1)
    disk.fail, disk.chunk = lambda name, call: None, None
    stream.clock.sleep(6)
    disk.log.clear()
    writer.append(b"second\n", 1, 12, 1)
    assert disk.log.index("fdatasync") < disk.log.index("open")
    writer.close()
    assert lines_of(stream.items()) == {1: b"first\n", 2: b"second\n"}


def size_of(stream) -> int:
    return (stream.folder() / "000001.l2j").stat().st_size

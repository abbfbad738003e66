"""A disk that refuses: nothing is lost, nothing is written twice, and it is told."""

import errno
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from l2_platform.clock import SystemClock
from l2_platform.collectors.plain_log import PlainLog
from l2_platform.collectors.recorder import Recorder
from l2_platform.errors import JournalUnwritable
from l2_platform.journal.frame import FRAME_BYTES, FrameKind, decode_segment_header, frames_from
from l2_platform.journal.syscalls import Syscalls
from l2_platform.journal.writer import JournalWriter
from l2_platform.settings import JournalSettings


class FullDisk(Syscalls):
    """Refuses the next writes of frames with ENOSPC."""

    refusals = 0

    def writev(self, fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().writev(fd, buffers, offset)


class QuickClock(SystemClock):
    """Sleeps are counted, not slept."""

    slept = 0

    def sleep(self, seconds: float) -> None:
        self.slept += 1


@pytest.fixture
def disk():
    return FullDisk()


def open_recorder(folder: Path, disk: FullDisk, *, goes_on: bool = True) -> Recorder:
    clock = QuickClock()
    writer = JournalWriter(
        folder,
        "iqfeed-depth-0",
        JournalSettings(),
        clock,
        calendar="always_open",
        durable_path=folder / "durable",
        calls=disk,
    )
    writer.open(20260105)
    return Recorder(writer, clock, PlainLog(clock, stream=io.StringIO()), lambda: goes_on)


def stored(folder: Path) -> list[tuple[int, bytes]]:
    found = []
    for path in sorted(folder.glob("iqfeed-depth-0/*/*.l2j")):
        data = path.read_bytes()
        _, begin = decode_segment_header(data, path.name)
        found += [
            (frame.kind, data[frame.start + FRAME_BYTES : frame.end])
            for frame in frames_from(memoryview(data), begin, len(data))
        ]
    return found


@pytest.mark.parametrize("refusals", [1, 2, 7])
def test_refused_write_is_tried_again_until_it_is_stored_once(tmp_path, disk, refusals):
    recorder = open_recorder(tmp_path, disk)
    recorder.append(b"one\n", 1, 10, 1, 0)
    disk.refusals = refusals
    recorder.append(b"two\n", 1, 20, 1, 0)
    recorder.append(b"three\n", 1, 30, 1, 0)
    recorder.writer.close()
    frames = stored(tmp_path)
    assert [payload for kind, payload in frames if kind == FrameKind.DATA] == [b"one\n", b"two\n", b"three\n"]
    (loss,) = (json.loads(payload) for kind, payload in frames if kind == FrameKind.CONTROL)
    assert loss["event"] == "journal_loss"
    assert loss["bytes"] == 0
    assert "No space left" in loss["error"]
    assert recorder.stalled_since_ns is None
    assert (recorder.lines, recorder.bytes) == (3, 14)


def test_refused_write_is_given_up_only_when_the_process_must_end(tmp_path, disk):
    recorder = open_recorder(tmp_path, disk, goes_on=False)
    disk.refusals = 10**9
    with pytest.raises(JournalUnwritable):
        recorder.append(b"one\n", 1, 10, 1, 0)
    disk.refusals = 0
    recorder.writer.close()
    assert stored(tmp_path) == []


def test_roll_begins_the_new_date_with_a_reset(tmp_path, disk):
    recorder = open_recorder(tmp_path, disk)
    recorder.append(b"one\n", 1, 10, 1, 0)
    recorder.context(protocol="6.2", clock="T,20260105 10:00:00")
    recorder.context(fields=["Symbol"])
    recorder.roll(20260106)
    recorder.append(b"two\n", 1, 20, 1, 0)
    recorder.writer.close()
    (path,) = (tmp_path / "iqfeed-depth-0" / "20260106").glob("*.l2j")
    data = path.read_bytes()
    header, begin = decode_segment_header(data, path.name)
    assert header.context == {"protocol": "6.2", "clock": "T,20260105 10:00:00", "fields": ["Symbol"]}
    first, second = frames_from(memoryview(data), begin, len(data))
    assert json.loads(data[first.start + FRAME_BYTES : first.end]) == {
        "event": "session",
        "session_date": 20260106,
        "reset": True,
        "last_byte_ns": 10,
    }
    assert second.seq_first == 1

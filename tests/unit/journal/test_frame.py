import pytest

from l2_platform.errors import JournalCorrupt, JournalTooNew
from l2_platform.journal import frame as frames
from l2_platform.journal.frame import (
    FrameKind,
    Position,
    Previous,
    SegmentHeader,
    control_payload,
    decode_segment_header,
    find_frame,
    frame_at,
    frame_header,
    frames_from,
)


def data_frame(payload: bytes, seq: int = 1) -> bytes:
    head = frame_header(FrameKind.DATA, payload, seq_first=seq, count=payload.count(b"\n"), ts_recv=7, conn_id=3, flags=2)
    return head + payload


def test_positions_are_ordered_by_date_segment_offset():
    assert sorted([Position(2, 1, 0), Position(1, 2, 0), Position(1, 1, 9)]) == [(1, 1, 9), (1, 2, 0), (2, 1, 0)]


def test_frame_reads_back():
    data = data_frame(b"a\nb\n", 5)
    frame = frame_at(memoryview(data), 0, len(data))
    assert frame is not None
    assert (frame.kind, frame.flags, frame.conn_id, frame.lines, frame.ts_recv, frame.seq_first) == (1, 2, 3, 2, 7, 5)
    assert (frame.seq_before, frame.seq_last, frame.end) == (4, 6, len(data))


def test_every_flipped_bit_is_seen():
    data = bytearray(data_frame(b"a\nb\n"))
    for bit in range(len(data) * 8):
        data[bit // 8] ^= 1 << bit % 8
        assert frame_at(memoryview(data), 0, len(data)) is None
        data[bit // 8] ^= 1 << bit % 8


def test_find_frame_steps_over_a_magic_that_is_no_frame():
    junk = b"xx" + frames.FRAME_MAGIC_BYTES * 3
    data = junk + data_frame(b"a\n") + data_frame(b"b\n", 2)
    found = find_frame(data, memoryview(data), 0, len(data))
    assert found is not None
    assert found.start == len(junk)
    assert len(list(frames_from(memoryview(data), found.start, len(data)))) == 2


def header(**changes) -> SegmentHeader:
    fields = {
        "stream": "s", "session_date": 20240102, "segment": 3, "calendar": "XNYS", "created_ns": 9, "last_seq": 4, "last_ts": 5,
        "clean": False, "context": {"protocol": "6.2"}, "previous": Previous(20240102, 2, 100, 4), "supersedes": (2, 50),
    }  # fmt: skip
    return SegmentHeader(**(fields | changes))


def test_segment_header_reads_back():
    data = header().encode()
    assert decode_segment_header(data + b"more", "f") == (header(), len(data))


def test_every_flipped_bit_of_a_header_is_seen():
    data = bytearray(header().encode())
    for bit in range(len(data) * 8):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(JournalCorrupt):
            decode_segment_header(data, "f")
        data[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("changes", [{"format_version": 2}, {"framer_version": 2}])
def test_newer_version_is_refused_with_file_and_versions(changes):
    with pytest.raises(JournalTooNew, match=r"000003\.l2j has format .* update it") as error:
        decode_segment_header(header(**changes).encode(), "000003.l2j")
    assert error.value.facts["file"] == "000003.l2j"


def test_older_version_is_read():
    assert decode_segment_header(header(format_version=0).encode(), "f")[0].format_version == 0


def test_control_payload_is_json_with_the_event_first():
    assert control_payload("collector_stop", {"reason": "ü"}) == '{"event":"collector_stop","reason":"ü"}'.encode()

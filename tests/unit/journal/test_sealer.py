import json
import os
import shutil

import pytest

from l2_platform.errors import JournalTooNew, JournalUnwritable
from l2_platform.journal import sealed
from l2_platform.journal.frame import Position
from l2_platform.journal.layout import list_segments
from l2_platform.journal.manifest import read_manifest
from l2_platform.journal.reader import Block, JournalReader, segment_header
from l2_platform.journal.sealer import seal_closed
from l2_platform.journal.verify import verify
from l2_platform.settings import JournalSettings
from tests.unit.journal.disks import CrashedError, FailingDisk, io_error, no_space, nth
from tests.unit.journal.stream import DATE, NAME, NEXT, Stream, damage_of, lines_of


def filled(stream: Stream, segments: int = 3) -> dict[int, bytes]:
    """Closed segments of about 64 KB, and a new date so that all of them are closed."""
    writer = stream.opened(segment_bytes_max=1 << 16)
    writer.context({"protocol": "6.2"})
    seq = 0
    while writer.written.segment <= segments:
        payload = b"".join(b"%d,%d\n" % (seq + line, (seq + line) * 7919 % 10_007) for line in range(100))
        seq = writer.append(payload, 100, 10 + seq, 1) + 99
        if seq % 1000 == 0:
            writer.control("resumed", seq, 1, last_byte_ns=seq)
    writer.roll(NEXT)
    writer.append(b"next\n", 1, 99, 1)
    writer.close()
    return stream.lines()


def seal(stream: Stream, calls=None, block_bytes: int = 4096):
    return seal_closed(stream.root, stream.name, JournalSettings(block_bytes=block_bytes), calls=calls)


def test_sealed_segments_read_like_raw_ones_from_every_position(stream):
    filled(stream)
    before = stream.items()
    positions = [item.position for item in stream.items(max_bytes=3000)]
    rest = [tail(stream, position) for position in positions[::7]]
    entries = seal(stream)
    assert len(entries) == 4
    assert not list(stream.folder().glob("*.l2j"))
    assert list((stream.folder(NEXT)).glob("*.l2j"))
    after = stream.items()
    assert lines_of(after) == lines_of(before)
    assert damage_of(after) == []
    assert [tail(stream, position) for position in positions[::7]] == rest
    assert verify(stream.root, NAME, DATE) == []
    assert verify(stream.root, NAME, NEXT) == []
    header = segment_header(list_segments(stream.folder())[1])
    assert header is not None
    assert header.context == {"protocol": "6.2"}


def tail(stream: Stream, position: Position) -> dict[int, bytes]:
    reader = JournalReader(stream.root, stream.name, DATE, start=position)
    found = []
    while items := reader.read(1 << 20):
        found += items
    assert damage_of(found) == []
    return lines_of(found)


def test_newest_segment_of_a_live_date_is_left_alone(stream):
    writer = stream.opened()
    writer.append(b"a\n", 1, 10, 1)
    writer.sync()
    assert seal(stream) == []
    writer.close()
    assert seal(stream) == []


def test_reader_follows_while_the_segment_is_sealed_under_it(stream):
    expected = filled(stream)
    reader = JournalReader(stream.root, stream.name, DATE)
    found = reader.read(5000)
    seal(stream)
    while items := reader.read(5000):
        found += items
    assert lines_of(found) == expected
    assert damage_of(found) == []


def test_superseded_tail_is_not_sealed(stream):
    disk = FailingDisk()
    writer = stream.opened(calls=disk, segment_bytes_max=1 << 16)
    writer.append(b"a\n", 1, 10, 1)
    writer.sync()
    end = writer.durable.offset
    state = {"failed": False}

    def once(name, call):
        if name == "fdatasync" and not state["failed"]:
            state["failed"] = True
            return io_error()
        return None

    disk.fail = once
    writer.append(b"b\n", 1, 10, 1)
    writer.sync()
    writer.roll(NEXT)
    writer.close()
    entry = seal(stream)[0]
    assert entry.raw_bytes == end
    assert stream.lines() == {1: b"a\n", 2: b"b\n"}
    assert verify(stream.root, NAME, DATE) == []


@pytest.mark.parametrize("error", [io_error, no_space, CrashedError])
def test_any_step_may_fail_and_running_again_completes(tmp_path, error):
    number = 0
    failed = True
    while failed:
        number += 1
        stream = Stream(tmp_path / str(number))
        expected = filled(stream, 1)
        disk = FailingDisk()
        disk.fail = nth(number, error)
        try:
            seal(stream, disk, 1 << 15)
            failed = disk.calls >= number
        except (JournalUnwritable, CrashedError):
            failed = True
        assert stream.lines() == expected, number
        seal(stream, block_bytes=1 << 15)
        assert not list(stream.folder().glob("*.l2j")), number
        assert stream.lines() == expected, number
        assert verify(stream.root, NAME, DATE) == [], number
    assert number > 20


def test_torn_manifest_line_is_replaced(stream):
    filled(stream, 1)
    seal(stream)
    path = stream.folder() / "manifest.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:40])
    assert [finding.kind for finding in verify(stream.root, NAME, DATE)] == ["unlisted"]
    assert list(read_manifest(stream.folder()).entries) == [1]


def files(stream: Stream):
    return sorted(stream.folder().glob("*.l2z"))


def kinds(stream: Stream) -> set[tuple[int, str]]:
    return {(finding.segment, finding.kind) for finding in verify(stream.root, NAME, DATE)}


def test_verify_names_a_flipped_bit_with_block_and_lost_lines(stream):
    expected = filled(stream)
    seal(stream)
    path = files(stream)[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    findings = verify(stream.root, NAME, DATE)
    block = next(finding for finding in findings if finding.kind == "block")
    lost = next(finding for finding in findings if finding.kind == "frames")
    assert block.segment == lost.segment == 2
    assert block.offset_to - block.offset_from <= 4096
    assert lost.seq_from > 0
    got = stream.lines()
    assert sorted(set(expected) - set(got)) == list(range(lost.seq_from, lost.seq_to + 1))
    # a block of 4 KiB, and the frames that reach into it from both sides
    assert lost.seq_to - lost.seq_from < 1000
    assert all(got[seq] == expected[seq] for seq in got)


def test_verify_names_a_cut_file(stream):
    filled(stream)
    seal(stream)
    os.truncate(files(stream)[1], 700)
    assert {(2, "changed"), (2, "frames")} <= kinds(stream)
    assert len(stream.lines()) > 1000


def test_verify_names_a_deleted_file(stream):
    expected = filled(stream)
    seal(stream)
    entry = read_manifest(stream.folder()).entries[2]
    files(stream)[1].unlink()
    findings = verify(stream.root, NAME, DATE)
    gone = next(finding for finding in findings if finding.kind == "missing")
    assert (gone.seq_from, gone.seq_to) == (entry.first_seq, entry.last_seq)
    assert sorted(set(expected) - set(stream.lines())) == list(range(entry.first_seq, entry.last_seq + 1))


def test_verify_names_swapped_files(stream):
    filled(stream)
    seal(stream)
    one, two = files(stream)[:2]
    shutil.move(one, stream.home / "x")
    shutil.move(two, one)
    shutil.move(stream.home / "x", two)
    assert {(1, "swapped"), (2, "swapped"), (1, "changed"), (2, "changed")} <= kinds(stream)


@pytest.mark.parametrize("edit", ["delete", "reorder", "change"])
def test_verify_names_a_touched_manifest(stream, edit):
    filled(stream)
    seal(stream)
    path = stream.folder() / "manifest.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    if edit == "delete":
        del lines[1]
    elif edit == "reorder":
        lines[1], lines[2] = lines[2], lines[1]
    else:
        fields = json.loads(lines[1])
        fields["last_seq"] += 1
        lines[1] = json.dumps(fields) + "\n"
    path.write_text("".join(lines))
    assert (0, "chain") in kinds(stream)


def test_verify_names_missing_last_segment_by_the_next_date(stream):
    filled(stream)
    seal(stream)
    number = list_segments(stream.folder())[-1].number
    files(stream)[-1].unlink()
    lines = (stream.folder() / "manifest.jsonl").read_text().splitlines(keepends=True)
    (stream.folder() / "manifest.jsonl").write_text("".join(lines[:-1]))
    assert (number, "missing") in kinds(stream)


def test_verify_names_raw_damage_and_a_cut_raw_segment(stream):
    filled(stream)
    raw = sorted(stream.folder().glob("*.l2j"))
    size = raw[1].stat().st_size
    os.truncate(raw[1], size - 100)
    data = bytearray(raw[0].read_bytes())
    data[5000] ^= 1
    raw[0].write_bytes(data)
    assert {(1, "frames"), (2, "frames")} <= kinds(stream)


def test_damaged_index_and_footer_lose_nothing(stream):
    expected = filled(stream)
    seal(stream)
    path = files(stream)[0]
    data = bytearray(path.read_bytes())
    data[-sealed.FOOTER_BYTES - 20] ^= 1
    path.write_bytes(data)
    assert stream.lines() == expected
    data[-20] ^= 1
    path.write_bytes(data)
    assert stream.lines() == expected
    assert (1, "changed") in kinds(stream)


def test_newer_sealed_file_is_refused(stream):
    filled(stream, 1)
    seal(stream)
    path = files(stream)[0]
    data = bytearray(path.read_bytes())
    data[8] = 9
    head = bytes(data[: sealed.PREFIX_BYTES])
    path.write_bytes(sealed._with_crc(head) + bytes(data[sealed.PREFIX_BYTES :]))
    with pytest.raises(JournalTooNew, match=r"000001\.l2z has format 9"):
        stream.items()


def test_blocks_never_span_segments(stream):
    filled(stream)
    items = [item for item in stream.items() if isinstance(item, Block)]
    assert {item.position.segment for item in items} == {1, 2, 3, 4} or {item.position.segment for item in items} == {1, 2, 3}

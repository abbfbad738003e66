import os

import pytest

from l2_platform.errors import InputError, JournalUnwritable
from l2_platform.journal.importing import sweep_staging, write_finished_stream
from l2_platform.journal.layout import list_dates, list_streams
from l2_platform.journal.reader import Control, JournalReader, segment_context
from l2_platform.journal.sealer import seal_closed
from l2_platform.journal.verify import verify
from l2_platform.settings import JournalSettings
from tests.unit.journal.disks import CrashedError, FailingDisk, io_error, no_space, nth
from tests.unit.journal.stream import DATE, NEXT, damage_of, lines_of

NAME = "iqfeed-depth-import-0123abcd"


def dates():
    yield DATE, [(b"a\nb\n", 2, 1, 5), (b"c\n", 1, 9, 5, 0)]
    yield NEXT, iter([(b"x" * 100, 1, 10, 5, 2), (b"d\n", 1, 11, 5)])


def write(root, source=None, **options):
    return write_finished_stream(
        root, NAME, dates() if source is None else source, context={"protocol": "6.1"}, calendar="XNYS",
        controls=[("protocol", {"version": "6.1"})], **options,
    )  # fmt: skip


def read(root, date):
    reader = JournalReader(root, NAME, date)
    found = []
    while items := reader.read(1 << 20):
        found += items
    assert reader.finished
    return found


def test_import_reads_back_with_its_own_numbers(tmp_path):
    done = write(tmp_path)
    assert [(one.session_date, one.segments, one.lines) for one in done] == [(DATE, 1, 3), (NEXT, 1, 2)]
    items = read(tmp_path, DATE)
    assert lines_of(items) == {1: b"a\n", 2: b"b\n", 9: b"c\n"}
    assert isinstance(items[0], Control)
    assert items[0].event == "protocol"
    assert damage_of(items) == []
    assert lines_of(read(tmp_path, NEXT)) == {10: b"x" * 100, 11: b"d\n"}
    assert segment_context(tmp_path, NAME, NEXT) == {"protocol": "6.1"}
    assert list_streams(tmp_path) == [NAME]
    assert verify(tmp_path, NAME, DATE) == []
    assert len(seal_closed(tmp_path, NAME, JournalSettings())) == 2
    assert verify(tmp_path, NAME, DATE) == verify(tmp_path, NAME, NEXT) == []
    assert lines_of(read(tmp_path, DATE)) == {1: b"a\n", 2: b"b\n", 9: b"c\n"}


def test_import_spans_segments(tmp_path):
    payload = b"y" * 999 + b"\n"
    source = [(DATE, [(payload, 1, seq, 5) for seq in range(1, 201)])]
    assert write(tmp_path, source, settings=JournalSettings(segment_bytes_max=1 << 16))[0].segments > 2
    assert len(lines_of(read(tmp_path, DATE))) == 200
    assert verify(tmp_path, NAME, DATE) == []


def test_cut_at_a_frame_boundary_is_seen(tmp_path):
    write(tmp_path)
    path = tmp_path / NAME / str(NEXT) / "000001.l2j"
    os.truncate(path, path.stat().st_size - 42)
    assert [finding.kind for finding in verify(tmp_path, NAME, NEXT)] == ["cut", "frames"]


def test_same_stream_twice_is_refused(tmp_path):
    write(tmp_path)
    with pytest.raises(InputError, match="in the journal already"):
        write(tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        [],
        [(DATE, [])],
        [(NEXT, [(b"a\n", 1, 1, 5)]), (DATE, [(b"b\n", 1, 2, 5)])],
        [(DATE, [(b"a\n", 1, 2, 5), (b"b\n", 1, 2, 5)])],
    ],
)
def test_unusable_input_leaves_nothing(tmp_path, source):
    with pytest.raises(InputError):
        write(tmp_path, source)
    assert list_streams(tmp_path) == []
    assert list((tmp_path / ".staging").iterdir()) == []


@pytest.mark.parametrize("error", [no_space, io_error, CrashedError])
def test_any_call_may_fail_and_nothing_half_is_visible(tmp_path, error):
    number = 0
    while True:
        number += 1
        root = tmp_path / str(number) / "journal"
        root.parent.mkdir()
        disk = FailingDisk()
        disk.fail = nth(number, error)
        try:
            write(root, calls=disk)
        except (JournalUnwritable, CrashedError):
            assert list_streams(root) in ([], [NAME])
            # Only the sync behind the publishing rename can fail with the stream whole and visible.
            if list_streams(root):
                assert disk.log.count("rename") == 1
                assert list_dates(root, NAME) == [DATE, NEXT]
        if disk.calls < number:
            break
    assert number > 20
    assert verify(root, NAME, DATE) == []


def test_staging_of_a_dead_import_is_swept(tmp_path):
    left = tmp_path / ".staging" / f"{NAME}-999999"
    (left / NAME).mkdir(parents=True)
    assert sweep_staging(tmp_path) == 1
    assert not left.exists()

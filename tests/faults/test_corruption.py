"""Damaged segments: every damage is found, only what it touches is lost, what is lost is named, nothing wrong is taken for right.

Scale (cases in all): quick 300, ci 2,000, full 12,000; a case is one file damaged in one way, from a numbered seed.
"""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from l2_platform.delivery.checkpoint import CheckpointStore
from l2_platform.delivery.pipeline import STATE_VERSION
from l2_platform.journal.frame import Position
from l2_platform.journal.layout import list_segments
from l2_platform.journal.reader import Damage
from l2_platform.journal.sealed import PREFIX_BYTES, read_blocks
from l2_platform.journal.verify import verify
from tests.faults.journals import (
    DATE,
    NAME,
    NEXT,
    Written,
    abandon,
    named_lost,
    read_items,
    seqs_of,
    write_journal,
    writer_in,
)
from tests.faults.scale import scaled

pytestmark = pytest.mark.timeout(4 * 3600)

CASES = scaled(300, 2_000, 12_000)
PARTS = 3
Range = tuple[int, int]
Mutation = Callable[[bytes, random.Random], tuple[bytes, list[Range]]]
"""The damaged bytes, and which ranges of the undamaged file may have suffered."""


def flip(data: bytes, rng: random.Random) -> tuple[bytes, list[Range]]:
    """One bit."""
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :], [(at, at + 1)]


def zero(data: bytes, rng: random.Random) -> tuple[bytes, list[Range]]:
    """A run of zeros, as an unwritten page."""
    at = rng.randrange(len(data))
    end = min(len(data), at + rng.choice((1, 64, 512, 4096)))
    return data[:at] + bytes(end - at) + data[end:], [(at, end)]


def truncate(data: bytes, rng: random.Random) -> tuple[bytes, list[Range]]:
    """The end is gone."""
    at = rng.randrange(len(data))
    return data[:at], [(at, len(data))]


def duplicate(data: bytes, rng: random.Random) -> tuple[bytes, list[Range]]:
    """A piece is there twice, what follows moves."""
    at = rng.randrange(len(data))
    size = rng.randint(1, 5000)
    return data[: at + size] + data[at : at + size] + data[at + size :], [(at + size - 1, at + size + 1)]


def remove(data: bytes, rng: random.Random) -> tuple[bytes, list[Range]]:
    """A piece is missing, what follows moves."""
    at = rng.randrange(len(data))
    size = rng.randint(1, 5000)
    return data[:at] + data[at + size :], [(at - 1, at + size + 1)]


def swap(data: bytes, rng: random.Random) -> tuple[bytes, list[Range]]:
    """Two pieces of one length change places; which of three pieces is the stray cannot be told, so what lies between may suffer."""
    size = rng.randint(1, len(data) // 3)
    first = rng.randrange(len(data) - 2 * size)
    second = rng.randrange(first + size, len(data) - size + 1)
    one, two = data[first : first + size], data[second : second + size]
    return data[:first] + two + data[first + size : second] + one + data[second + size :], [(first, second + size)]


def copy_over(data: bytes, rng: random.Random) -> tuple[bytes, list[Range]]:
    """One piece stands where another was: a chunk of an earlier time came back."""
    size = rng.randint(1, len(data) // 3)
    source, target = rng.randrange(len(data) - size), rng.randrange(len(data) - size)
    return data[:target] + data[source : source + size] + data[target + size :], [(target, target + size)]


MUTATIONS: tuple[Mutation, ...] = (flip, zero, truncate, duplicate, remove, swap, copy_over)


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Written]:
    """The undamaged journals, raw and sealed."""
    found = {sealed: write_journal(tmp_path_factory.mktemp("journal"), sealed=sealed) for sealed in (False, True)}
    for written in found.values():
        for date in (DATE, NEXT):
            assert seqs_of(read_items(written.home, date)) == list(range(1, written.last[date] + 1))
            assert verify(written.home / "journal", NAME, date, durable_path=written.home / "durable") == []
    return found


def touched_raw(path: Path, ranges: list[Range]) -> list[Range]:
    """The uncompressed ranges that damage of a sealed file may cost: whole blocks."""
    with path.open("rb") as file:
        blocks, _ = read_blocks(file.fileno(), path.name)
    header = 48
    return [
        (block.raw_offset, block.raw_offset + block.raw_bytes)
        for block in blocks
        if any(begin < block.file_offset + block.packed_bytes and end > block.file_offset - header for begin, end in ranges)
    ]


def may_lose(frames: list[tuple[int, int, int, int]], ranges: list[Range]) -> set[int]:
    """The lines of the frames that the ranges touch."""
    return {
        seq
        for begin, end, first, last in frames
        if any(low < end and high > begin for low, high in ranges)
        for seq in range(first, last + 1)
    }


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kind", ["raw", "sealed"])
def test_damage_in_a_closed_segment(templates: dict[bool, Written], tmp_path: Path, kind: str, part: int) -> None:
    """F21, closed segments: raw and sealed, all seven kinds of damage."""
    written = templates[kind == "sealed"]
    expected = set(range(1, written.last[DATE] + 1))
    for case in range(part, CASES * 2 // 5, PARTS):
        rng = random.Random(case * 7919 + part)
        home = tmp_path / str(case)
        shutil.copytree(written.home, home)
        victim = rng.choice(list_segments(home / "journal" / NAME / str(DATE)))
        before = victim.path.read_bytes()
        mutation = MUTATIONS[case // PARTS % len(MUTATIONS)]
        after, ranges = mutation(before, rng)
        if after != before:
            limit = may_lose(
                written.frames[victim.number], touched_raw(victim.path, ranges) if kind == "sealed" else ranges
            )
            victim.path.write_bytes(after)
            story = f"{kind} segment {victim.number}, {mutation.__name__} {ranges}, case {case}"
            assert verify(home / "journal", NAME, DATE), f"not found: {story}"
            items = read_items(home)
            seqs = seqs_of(items)
            assert seqs == sorted(set(seqs)), f"order: {story}"
            lost = expected - set(seqs)
            assert lost <= limit, f"lost more than was touched: {story}: {sorted(lost - limit)[:5]}"
            assert lost == named_lost(items), f"lost is not what is named: {story}"
        shutil.rmtree(home)


@pytest.mark.parametrize("part", range(PARTS))
def test_damage_in_the_open_segment(templates: dict[bool, Written], tmp_path: Path, part: int) -> None:
    """F21, the segment that was being written: the writer opens by itself, gives no number twice, and what is gone is named.

    A tail that went back to an older state is whole in itself: only the durable record tells that there was more.
    """
    written = templates[False]
    last = written.last[NEXT]
    for case in range(part, CASES // 5, PARTS):
        rng = random.Random(case * 104_729 + part)
        home = tmp_path / str(case)
        shutil.copytree(written.home, home)
        path = list_segments(home / "journal" / NAME / str(NEXT))[0].path
        before = path.read_bytes()
        mutation = MUTATIONS[case // PARTS % len(MUTATIONS)]
        after, ranges = mutation(before, rng)
        if case % 4 == 0:
            at = rng.choice(written.frames[0])[0]
            after, ranges = before[:at], [(at, len(before))]
        if after != before:
            story = f"open segment, {mutation.__name__} {ranges}, case {case}"
            path.write_bytes(after)
            behind = after.startswith(before)
            """Nothing that was durable has changed; what stands behind it is only looked at when the writer opens."""
            assert behind or verify(home / "journal", NAME, NEXT, durable_path=home / "durable"), f"not found: {story}"
            for turn in (1, 2):
                writer = writer_in(home)
                assert writer.open(NEXT).last_seq == last + turn - 1, story
                assert writer.append(_line(last + turn), 1, 77, 1) == last + turn, story
                writer.sync()
                abandon(writer)
            items = read_items(home, NEXT, live=True)
            seqs = seqs_of(items)
            assert seqs == sorted(set(seqs)), story
            lost = set(range(1, last + 3)) - set(seqs)
            assert lost <= may_lose(written.frames[0], ranges), f"lost more than was touched: {story}"
            assert lost == named_lost(items), f"lost is not what is named: {story}"
            assert behind or verify(home / "journal", NAME, NEXT, durable_path=home / "durable"), f"forgotten: {story}"
        shutil.rmtree(home)


def _line(seq: int) -> bytes:
    from tests.faults.journals import line_of

    return line_of(seq)


@pytest.mark.parametrize("sealed", [False, True])
def test_whole_files_swapped_put_back_or_gone(templates: dict[bool, Written], tmp_path: Path, sealed: bool) -> None:
    """F21, files: two segments change names, one takes the place of another, one or the newest is gone."""
    written = templates[sealed]
    suffix = ".l2z" if sealed else ".l2j"
    for number, (target, source) in enumerate([(1, 2), (2, 1), (3, 2), (1, 3), (1, 0), (2, 0), (3, 0)]):
        home = tmp_path / str(number)
        shutil.copytree(written.home, home)
        folder = home / "journal" / NAME / str(DATE)
        paths = {index: folder / f"{index:06d}{suffix}" for index in (1, 2, 3)}
        if source:
            first, second = paths[target].read_bytes(), paths[source].read_bytes()
            paths[target].write_bytes(second)
            if number % 2:
                paths[source].write_bytes(first)
        else:
            paths[target].unlink()
        assert verify(home / "journal", NAME, DATE), (target, source)
        items = read_items(home)
        seqs = seqs_of(items)
        assert seqs == sorted(set(seqs)), (target, source)
        assert set(range(1, written.last[DATE] + 1)) - set(seqs) == named_lost(items), (target, source)


def test_the_open_segment_is_gone(templates: dict[bool, Written], tmp_path: Path) -> None:
    """F21: nothing of a date is left but the durable record; its lines are named, its numbers are not used again."""
    home = tmp_path / "home"
    shutil.copytree(templates[True].home, home)
    last = templates[True].last[NEXT]
    list_segments(home / "journal" / NAME / str(NEXT))[0].path.unlink()
    writer = writer_in(home)
    assert writer.open(NEXT).last_seq == last
    writer.append(_line(last + 1), 1, 5, 1)
    writer.close()
    items = read_items(home, NEXT, live=True)
    assert seqs_of(items) == [last + 1]
    assert named_lost(items) == set(range(1, last + 1))


@pytest.mark.parametrize("where", ["prefix", "footer"])
def test_a_writer_opens_behind_a_damaged_sealed_segment(templates: dict[bool, Written], tmp_path: Path, where: str) -> None:
    """F21: the newest segment that is left is sealed and its ends are damaged; recording goes on all the same."""
    home = tmp_path / "home"
    shutil.copytree(templates[True].home, home)
    shutil.rmtree(home / "journal" / NAME / str(NEXT))
    path = list_segments(home / "journal" / NAME / str(DATE))[-1].path
    data = bytearray(path.read_bytes())
    at = PREFIX_BYTES // 2 if where == "prefix" else len(data) - 20
    data[at] ^= 255
    path.write_bytes(data)
    writer = writer_in(home)
    assert writer.open(NEXT).last_seq == 0
    writer.append(_line(1), 1, 5, 1)
    writer.close()
    assert seqs_of(read_items(home, NEXT, live=True)) == [1]
    assert seqs_of(read_items(home)) == list(range(1, templates[True].last[DATE] + 1))


def test_damaged_checkpoints_are_never_loaded(tmp_path: Path) -> None:
    """F21, checkpoints: each damage is seen, the one before serves; when none is whole there is none."""
    store = CheckpointStore(tmp_path / "store", 2)
    state = {"version": STATE_VERSION, "books": bytes(range(256)) * 8, "stream": NAME}
    for offset in (100, 200):
        store.save(Position(DATE, 1, offset), offset, state)
    newest = max((tmp_path / "store").glob("*.ckpt"))
    before = newest.read_bytes()
    for case in range(CASES // 5):
        rng = random.Random(case)
        after, _ = MUTATIONS[case % len(MUTATIONS)](before, rng)
        newest.write_bytes(after)
        found = store.newest(Position(DATE, 2, 0))
        assert found is not None
        assert found.position.offset == (200 if after == before else 100), case
        assert found.state["books"] == state["books"]


def test_a_damaged_durable_record_is_not_believed(templates: dict[bool, Written], tmp_path: Path) -> None:
    """F21, the durable record: without it the segments are scanned, and nothing is lost."""
    home = tmp_path / "home"
    shutil.copytree(templates[False].home, home)
    record = (home / "durable").read_bytes()
    for at in range(0, len(record), 9):
        (home / "durable").write_bytes(record[:at] + bytes([record[at] ^ 4]) + record[at + 1 :])
        writer = writer_in(home)
        assert writer.open(NEXT).last_seq == templates[False].last[NEXT]
        abandon(writer)
    assert [item for item in read_items(home, NEXT) if isinstance(item, Damage)] == []

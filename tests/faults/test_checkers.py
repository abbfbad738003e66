"""The checkers themselves find what is wrong: a harness that cannot fail proves nothing."""

from array import array

import pytest

from l2_platform.feeds.iqfeed.simulator.ledger import LedgerConnection
from tests.faults.checkers import (
    GapRow,
    Journaled,
    Received,
    compare_rows,
    gap_errors_ns,
    inside_a_gap,
    pair_connections,
    sent_after,
)

MS = 1_000_000
ROWS = [(1, "A", 5.0), (2, "B", 6.0), (3, "A", 7.0)]


def test_equal_rows_are_all_zero() -> None:
    account = compare_rows("t", ROWS, list(ROWS)).zero()
    assert (account.sent, account.stored) == (3, 3)


@pytest.mark.parametrize(
    ("stored", "quantity"),
    [
        (ROWS[:2], "missing"), ([*ROWS, (9, "A", 1.0)], "extra"), ([*ROWS, ROWS[2]], "duplicate"),
        ([ROWS[0], (2, "B", 6.5), ROWS[2]], "missing"), ([ROWS[2], ROWS[1], ROWS[0]], "disorder"),
    ],
    ids=["lost", "invented", "twice", "changed", "turned-round"],
)  # fmt: skip
def test_each_wrong_is_found(stored: list[tuple[object, ...]], quantity: str) -> None:
    account = compare_rows("t", ROWS, stored, symbol=lambda row: str(row[1]))
    assert getattr(account, quantity) == 1
    with pytest.raises(AssertionError, match=r"Account"):
        account.zero()


def test_what_was_sent_twice_is_stored_twice() -> None:
    twice = [*ROWS, ROWS[0]]
    compare_rows("t", twice, twice, symbol=str).zero()
    assert compare_rows("t", twice, ROWS).missing == 1


def test_gap_bounds_are_taken_at_50_ms() -> None:
    gap = GapRow("disconnect", 1_000 * MS, 2_000 * MS, "closed")
    assert inside_a_gap((950 * MS, 2_050 * MS), [gap])
    assert not inside_a_gap((949 * MS, 1_500 * MS), [gap])
    assert not inside_a_gap((1_500 * MS, 2_051 * MS), [gap])
    assert inside_a_gap((1_500 * MS, 9_000 * MS), [GapRow("disconnect", 1_000 * MS, None, "open")])
    assert not inside_a_gap((1_500 * MS, 1_600 * MS), [GapRow("silence", 1_000 * MS, 2_000 * MS, "withdrawn")])
    assert not inside_a_gap((1_500 * MS, 1_600 * MS), [GapRow("late_subscription", 1_000 * MS, 2_000 * MS, "closed", ("A",))])


@pytest.mark.parametrize(
    ("stamps", "since", "error"),
    [
        ((100, 120, 140), 140, 0), ((100, 120, 140), 400, 260), ((100, 120, 140, 160), 100, -60),
        ((100, 180, 190), 100, 0), ((100, 180, 1300), 100, -1200), ((80, 90), 10, 0),
    ],
    ids=["exact", "too-late", "too-early", "was-away", "away-too-long", "away-from-the-start"],
)  # fmt: skip
def test_the_beginning_of_a_gap_is_judged_by_the_bytes_of_its_own_connection(
    stamps: tuple[int, ...], since: int, error: int
) -> None:
    frames = [number for ts in stamps for number in (2, ts * MS, 1, 0)]
    own = Received(bytearray(b"x\n"), 1, stamps[0] * MS, stamps[-1] * MS, array("q", frames), 10 * MS)
    other = Received(bytearray(b"x\n"), 9, 5000 * MS, 5000 * MS, array("q", [2, 5000 * MS, 9, 0]), 4900 * MS)
    gap = GapRow("disconnect", since * MS, 5000 * MS, "closed")
    assert gap_errors_ns(Journaled([own, other]), [gap]) == [(error * MS, 0)]


def test_connections_are_paired_by_time_also_when_one_left_nothing() -> None:
    sent = [LedgerConnection("level2", n, n * 1000, data=b"x\n") for n in (1, 2, 3)]
    parts = [Received(bytearray(b"x\n"), 1, 1001), Received(bytearray(b"x\n"), 2, 3005)]
    assert [bytes(part.data) for _, part in pair_connections(parts, sent)] == [b"x\n", b"", b"x\n"]
    with pytest.raises(AssertionError, match="never had"):
        pair_connections([Received(bytearray(b"x\n"), 1, 10)], sent)


def test_what_was_sent_after_an_offset_has_its_times() -> None:
    connection = LedgerConnection("level2", 1, 0, data=b"abcdef", marks=[(2, 10), (4, 20), (6, 30)])
    assert sent_after(connection, 2) == (20, 30)
    assert sent_after(connection, 6) is None


def test_numbers_of_lines_come_from_the_frames() -> None:
    part = Received(bytearray(b"a\nb\n" + b"x" * 9 + b"c\nd"), 5)
    # two lines, two parts of an overlong line with a number each, one line, a rest
    part.frames.extend((4, 1, 5, 0, 8, 2, 7, 2, 13, 3, 8, 2, 15, 4, 9, 0, 16, 5, 10, 1))
    assert list(part.lines()) == [(5, b"a"), (6, b"b"), (9, b"c")]
    assert list(part.stamps()) == [1, 2, 3, 4, 5]

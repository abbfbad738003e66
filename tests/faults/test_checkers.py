"""The checkers themselves find what is wrong: a harness that cannot fail proves nothing."""

import pytest

from l2_platform.feeds.iqfeed.simulator.ledger import LedgerConnection
from tests.faults.checkers import GapRow, Received, compare_rows, inside_a_gap, pair_connections, sent_after

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

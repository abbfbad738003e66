"""The heat map of a verdict: which symbols, which hours, and what a cell says."""

from datetime import UTC, datetime
from typing import Any

import pytest

from l2_platform.market.sessions import Window
from l2_platform.quality.coverage import coverage_of, hours_of
from l2_platform.quality.verdicts import Grade, SymbolFacts, SymbolVerdict


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


def hourly(first: int, *rows: float) -> list[Any]:
    return [0] * first + list(rows) + [0] * (24 - first - len(rows))


def verdict(symbol: str, rows: list[int], *, grade: Grade = "complete", usual: list[float] | None = None, **facts: Any) -> SymbolVerdict:
    more: dict[str, Any] = {} if usual is None else {"usual_by_hour": usual, "days_usual": 5}
    return SymbolVerdict(symbol, grade, [], SymbolFacts(symbol, rows=sum(rows), rows_by_hour=rows, **more, **facts))


@pytest.mark.parametrize(
    ("windows", "hours"),
    [
        ([("2026-03-06 09:00", "2026-03-06 14:30"), ("2026-03-06 14:30", "2026-03-07 01:00")], list(range(4, 20))),
        # a half-day of the summer
        ([("2026-07-03 08:00", "2026-07-03 13:30"), ("2026-07-03 13:30", "2026-07-03 17:00")], list(range(4, 13))),
        # a market that never closes
        ([("2026-07-03 00:00", "2026-07-04 00:00")], [20, 21, 22, 23, *range(20)]),
        # begins within an hour
        ([("2026-03-06 14:30", "2026-03-06 16:15")], [9, 10, 11]),
    ],
    ids=["regular", "half_day", "always_open", "half_hours"],
)
def test_hours_are_those_of_the_session_in_its_order(windows: list[tuple[str, str]], hours: list[int]) -> None:
    assert hours_of([Window("regular", ns(start), ns(end)) for start, end in windows]) == hours


def test_a_cell_is_the_share_of_usual_rows() -> None:
    one = verdict("AAA", hourly(9, 50, 0, 0, 7), usual=hourly(9, 100.0, 10.0, 0.4, 0.0))
    assert coverage_of([one], [9, 10, 11, 12, 13], 5).shares == [[0.5, 0.0, None, 1.0, None]]


def test_without_dates_before_the_busiest_hour_is_the_measure() -> None:
    one = verdict("AAA", hourly(9, 50, 0, 200))
    assert coverage_of([one], [9, 10, 11], 5).shares == [[0.25, None, 1.0]]


def test_a_symbol_without_any_row_misses_every_hour() -> None:
    assert coverage_of([verdict("AAA", [0] * 24, grade="missing")], [9, 10], 5).shares == [[0.0, 0.0]]
    assert coverage_of([], [9, 10], 5).shares == []


def test_the_worst_symbols_come_first_and_no_more_than_asked_for() -> None:
    day = hourly(9, 100)
    found = [
        verdict("AAA", day, usual=hourly(9, 100.0)),
        verdict("BBB", day, usual=hourly(9, 400.0)),
        verdict("CCC", day, grade="degraded", unexplained_s=2.0),
        verdict("DDD", day, grade="degraded", unexplained_s=60.0),
        verdict("EEE", [0] * 24, grade="missing"),
        verdict("FFF", day, grade="repaired"),
        verdict("GGG", day, grade="degraded", unexplained_s=2.0, tick_ids_missing=9),
    ]
    assert coverage_of(found, [9], 30).symbols == ["EEE", "DDD", "GGG", "CCC", "FFF", "BBB", "AAA"]
    assert coverage_of(found, [9], 3).symbols == ["EEE", "DDD", "GGG"]

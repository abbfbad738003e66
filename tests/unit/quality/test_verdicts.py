"""Rules of the verdict, and the time that is missing: every rule with what trips it and what does not."""

from datetime import date
from typing import Any

import pytest

from l2_platform.market.sessions import Window
from l2_platform.quality.ledger import LedgerGap
from l2_platform.quality.time_facts import TimeLost, common, dark_spans, union, without
from l2_platform.quality.verdicts import DateVerdict, SymbolFacts, grade_symbol
from l2_platform.settings import CompletenessSettings

BOUNDS = CompletenessSettings()
S = 10**9


def facts(**told: Any) -> SymbolFacts:
    whole = {"rows": 1000, "trades": 100, "expected_minutes": [330, 390, 240], "seen_minutes": [3, 390, 2], "volume_expected": 500}
    return SymbolFacts("AAA", **whole | told)


CASES = [
    ("complete", {}, "not judged by usual rows"),
    ("missing", {"rows": 0, "trades": 0}, "no row of it"),
    ("degraded", {"tick_ids_expected": 10, "tick_ids_lost": 3, "tick_ids_missing": 2}, "2 of 10 TickIDs are missing"),
    ("repaired", {"tick_ids_expected": 10, "tick_ids_lost": 3}, "3 TickIDs came from history"),
    ("degraded", {"volume_missing": 1, "volume_lost": 1}, "lack 1 of the day's volume of 500"),
    ("degraded", {"volume_missing": -7, "volume_lost": -7}, "sum up to 7 more"),
    ("repaired", {"volume_lost": 30}, "a volume of 30 came from history"),
    ("degraded", {"volume_bar": 501, "volume_seen": 500}, "daily bar has a volume of 501"),
    ("complete", {"volume_bar": 500, "volume_seen": 500}, ""),
    ("degraded", {"unexplained_s": 2.5}, "2.5 s of gaps"),
    ("degraded", {"unexplained_s": 2.5, "bars_s": 2.0}, "of 2.0 s of gaps there are minute bars"),
    ("degraded", {"unexplained_s": 360.0, "dark_s": 360.0}, "in 6 minutes of the session"),
    ("complete", {"unexplained_s": 300.0, "dark_s": 300.0}, ""),
    ("complete", {"explained_s": 4.0}, "4.0 s without data are explained"),
    ("repaired", {"repaired_s": 90.0}, "90.0 s of gaps were repaired"),
    ("degraded", {"seen_minutes": [3, 0, 0]}, "no row in regular trading"),
    ("degraded", {"rows": 0, "rows_history": 5}, "nothing was recorded"),
    ("degraded", {"book_good_s": 100.0, "book_suspect_s": 1.1}, "suspect for 1.1 s"),
    ("complete", {"book_good_s": 100.0, "book_suspect_s": 1.0}, ""),
    ("degraded", {"quarantined": 1}, "1 lines or rows are in quarantine"),
    ("complete", {"trades": 0}, "no print"),
    ("complete", {"centres_not_counting": 2}, "TickIDs of 2 market centres do not count"),
    ("complete", {"volume_expected": -1}, "no running total"),
    ("complete", {"latency_p99_ms": 1500.0}, "latency p99 was 1,500 ms"),
    ("degraded", {"days_usual": 5, "usual_by_hour": [4000.0] * 24, "rows_by_hour": [999, *[1000] * 23]}, "in the hours 00:00"),
    ("complete", {"days_usual": 4, "usual_by_hour": [4000.0] * 24}, ""),
]


@pytest.mark.parametrize(("grade", "told", "reason"), CASES, ids=[f"{number}-{case[0]}" for number, case in enumerate(CASES)])
def test_grade_and_reason(grade: str, told: dict[str, Any], reason: str) -> None:
    verdict = grade_symbol(facts(**told), BOUNDS)
    assert verdict.grade == grade
    assert reason in "; ".join(verdict.reasons)


def test_a_date_is_as_good_as_its_worst_symbol() -> None:
    good, bad = grade_symbol(facts(), BOUNDS), grade_symbol(facts(rows=0), BOUNDS)
    assert (DateVerdict(20250725, "x", symbols=[good]).ok, DateVerdict(20250725, "x", symbols=[good, bad]).grade) == (True, "missing")
    assert not DateVerdict(20250725, "x").ok
    assert not DateVerdict(20250725, "x", "not_evaluated", symbols=[good]).ok


def test_spans() -> None:
    assert union([(5, 6), (1, 3), (2, 4), (4, 5), (9, 9)]) == [(1, 6)]
    assert common([(0, 10), (20, 30)], [(5, 22), (29, 40)]) == [(5, 10), (20, 22), (29, 30)]
    assert without([(0, 10)], [(2, 3), (5, 20)]) == [(0, 2), (3, 5)]
    windows = [Window("regular", 0, 300 * S)]
    assert dark_spans({0, 2}, windows, 240 * S) == [(60 * S, 120 * S), (180 * S, 240 * S)]


def gap(start: float, end: float | None, **told: Any) -> LedgerGap:
    fields: dict[str, Any] = {
        "gap_id": f"{start}{told}", "stream": "iqfeed-depth-0", "session_date": date(2025, 7, 25), "seq": 1, "ordinal": 0, "source": "live",
        "symbols": (), "ts_from": int(start * S), "ts_to": None if end is None else int(end * S), "cause": "silence", "evidence": {},
        "repair_source": "", "rows_recovered": 0, "residual": "", "explanation": "", "repair_state": "", "state": "closed",
        "seq_before": 0, "version": 1, "ts_written": 0,
    }  # fmt: skip
    return LedgerGap(**fields | told)


def test_time_lost_is_counted_once_and_only_inside_the_windows() -> None:
    gaps = [
        gap(90, 110), gap(100, 120, symbols=("AAA",)), gap(130, 140, explanation="halt"), gap(150, 170, repair_state="repaired"),
        gap(160, 165, repair_state="impossible", symbols=("AAA",)), gap(180, 180.5), gap(200, 250, state="withdrawn"),
        gap(280, None, state="open", symbols=("BBB",)),
    ]  # fmt: skip
    windows = [Window("regular", 100 * S, 400 * S)]
    lost = TimeLost(gaps, windows, [(105 * S, 108 * S), (300 * S, 360 * S)], CompletenessSettings(), 390 * S)
    told = {}
    for symbol in ("AAA", "BBB", "CCC"):
        one = SymbolFacts(symbol)
        lost.fill(one)
        told[symbol] = (one.gaps, one.gap_s, one.explained_s, one.repaired_s, one.unexplained_s, one.dark_s)
    assert told["CCC"] == (3, 40.0, 10.0, 20.0, 70.0, 60.0)
    assert told["AAA"] == (5, 50.0, 10.0, 15.0, 85.0, 60.0)
    assert told["BBB"] == (4, 150.0, 10.0, 20.0, 120.0, 0.0)


def test_time_of_which_there_are_bars_stays_unexplained() -> None:
    bars = {"repair_source": "iqfeed-history HIT", "repair_state": "partial", "rows_recovered": 2}
    gaps = [gap(100, 120, **bars), gap(110, 130), gap(150, 160, **bars | {"rows_recovered": 0}), gap(170, 175, explanation="halt", **bars)]
    one = SymbolFacts("AAA")
    TimeLost(gaps, [Window("regular", 105 * S, 400 * S)], [], CompletenessSettings(), 390 * S).fill(one)
    assert (one.unexplained_s, one.bars_s, one.repaired_s) == (35.0, 15.0, 0.0)


@pytest.mark.parametrize(("gaps", "unexplained_s"), [(120, 0.0), (121, 60.5)])
def test_short_gaps_count_when_they_are_many(gaps: int, unexplained_s: float) -> None:
    found = [gap(10 * place, 10 * place + 0.5) for place in range(gaps)]
    one = SymbolFacts("AAA")
    TimeLost(found, [Window("regular", 0, 23_400 * S)], [], CompletenessSettings(), 23_400 * S).fill(one)
    assert one.unexplained_s == unexplained_s
    # at night none of them counts, however many they are
    night = SymbolFacts("AAA")
    TimeLost(found, [Window("regular", 50_000 * S, 60_000 * S)], [], CompletenessSettings(), 60_000 * S).fill(night)
    assert night.unexplained_s == 0

"""Whose turn it is, what is asked for, and what a repair comes to."""

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from l2_platform.market.sessions import load_calendar
from l2_platform.quality.ledger import LedgerGap
from l2_platform.quality.repair_plan import (
    NO_QUOTES,
    Attempts,
    BarsFound,
    Found,
    attempts_of,
    concerns,
    is_due,
    judge,
    plan_of,
    wait_s,
)
from l2_platform.settings import LookupSettings, RepairSettings

NS = 10**9
FROM = 1_795_176_000_500_000_000
"""2026-11-20 12:00:00.5 UTC."""
GAP = LedgerGap(
    "aaaa", "iqfeed-level1-0", date(2026, 11, 20), 1, 0, "live", (), FROM, FROM + 90 * NS, "disconnect", {}, "", 0, "", "", "", "closed",
    1, 2, FROM + 91 * NS,
)  # fmt: skip
SETTINGS, LOOKUP = RepairSettings(), LookupSettings()
AFTER = FROM + 100 * NS
CALENDAR = load_calendar("always_open", 900)


def tried(state: str, attempts: int, **more: Any) -> LedgerGap:
    return replace(GAP, repair_state=state, evidence={"repair": {"attempts": attempts, "at": AFTER, **more}})


@pytest.mark.parametrize(
    ("gap", "now", "due"),
    [
        (GAP, AFTER, True), (GAP, GAP.ts_to + 1, False), (replace(GAP, state="open", ts_to=None), AFTER, False),
        (replace(GAP, state="withdrawn"), AFTER, False), (replace(GAP, explanation="halt"), AFTER, False),
        (replace(GAP, stream="iqfeed-depth-0"), AFTER, True), (replace(GAP, stream="iqfeed-admin-0"), AFTER, False),
        (replace(GAP, stream="iqfeed-level1-import-1a2b3c4d"), AFTER, False), (GAP, AFTER + 8 * 86_400 * NS, False),
        (tried("failed", 1), AFTER + 59 * NS, False), (tried("failed", 1), AFTER + 61 * NS, True),
        (tried("partial", 2), AFTER + 119 * NS, False), (tried("partial", 2), AFTER + 121 * NS, True),
        (tried("partial", 1, final=True), AFTER + 3600 * NS, False), (tried("failed", 6), AFTER + 7200 * NS, False),
        (tried("repaired", 1), AFTER + 3600 * NS, False), (tried("impossible", 1), AFTER + 3600 * NS, False),
        (replace(GAP, repair_state="failed", evidence={"repair": "by hand"}), AFTER, True),
    ],
    ids=range(18),
)  # fmt: skip
def test_whose_turn_it_is(gap: LedgerGap, now: int, due: bool) -> None:
    assert is_due(gap, SETTINGS, now) is due


def test_attempts_are_read_from_the_evidence() -> None:
    assert attempts_of(tried("failed", 3)) == Attempts(3, AFTER, final=False)
    assert attempts_of(replace(GAP, evidence={"repair": {"attempts": "x"}})) == Attempts()
    assert [wait_s(count, SETTINGS) for count in (1, 2, 3, 20)] == [60, 120, 240, 3600]
    assert concerns(GAP)


def test_ticks_are_asked_for_with_a_margin_in_whole_seconds() -> None:
    plan = plan_of(GAP, CALENDAR, SETTINGS, LOOKUP, AFTER)
    assert (plan.step, plan.word) == ("ticks", "HTT")
    assert plan.span == ("20261120 065958", "20261120 070132")
    assert (plan.begin, plan.end) == (FROM // NS * NS - 2 * NS, GAP.ts_to + 2 * NS - 1)


def test_the_margin_ends_with_the_session() -> None:
    start = CALENDAR.start_of(20261120)
    plan = plan_of(replace(GAP, ts_from=start + NS, ts_to=start + 86_400 * NS - NS), CALENDAR, SETTINGS, LOOKUP, AFTER + 86_400 * NS)
    assert (plan.begin, plan.end) == (start, start + 86_400 * NS - 1)


def test_old_gaps_are_asked_for_as_bars_and_depth_not_at_all() -> None:
    old = plan_of(GAP, CALENDAR, SETTINGS, LOOKUP, AFTER + 200 * 86_400 * NS)
    assert (old.step, old.word, old.begin) == ("bars", "HIT", FROM // (60 * NS) * 60 * NS - 60 * NS)
    assert "200 days old" in old.reason
    depth = plan_of(replace(GAP, stream="iqfeed-depth-0"), CALENDAR, SETTINGS, LOOKUP, AFTER)
    assert (depth.step, "suspect" in depth.reason) == ("impossible", True)


GOOD = Found(asked=10, failed=0, recovered=5, missing=0, uncounted=0, bad_lines=0)


@pytest.mark.parametrize(
    ("found", "state", "final", "words"),
    [
        (GOOD, "repaired", True, NO_QUOTES), (replace(GOOD, recovered=0), "nothing_to_repair", True, NO_QUOTES),
        (replace(GOOD, failed=1, message="silence"), "partial", False, r"1 of 10 symbols got no answer (silence)"),
        (replace(GOOD, failed=10, recovered=0, message="away"), "failed", False, "10 of 10 symbols"),
        (replace(GOOD, failed=10, message="away"), "partial", False, "10 of 10 symbols"),
        (replace(GOOD, missing=3), "partial", False, "3 prints are missing"), (replace(GOOD, uncounted=2), "partial", True, "do not count"),
        (replace(GOOD, bad_lines=4), "partial", False, "4 lines"), (replace(GOOD, recovered=0, bad_lines=4), "failed", False, "4 lines"),
        (replace(GOOD, recovered=0, proven=9, brought=8), "partial", False, "counters prove 9 lost prints or more, history has 8"),
        (replace(GOOD, recovered=0, proven=9, brought=9), "nothing_to_repair", True, "quotes"),
    ],
    ids=range(11),
)  # fmt: skip
def test_what_a_repair_comes_to(found: Found, state: str, final: bool, words: str) -> None:
    plan = plan_of(GAP, CALENDAR, SETTINGS, LOOKUP, AFTER)
    told = judge(plan, found)
    assert (told[0], told[2]) == (state, final)
    assert words in told[1]


@pytest.mark.parametrize(
    ("found", "state", "final", "words"),
    [
        (replace(GOOD, bars=BarsFound(5, 900, 70)), "partial", True, "5 bars of its minutes are rows of history_bars, 70 of"),
        (replace(GOOD, recovered=0, bars=BarsFound(0, 0, 0)), "partial", True, "the vendor has none of these minutes"),
        # what is known to be missing does not come with bars, however often they are asked for
        (replace(GOOD, missing=3, bad_lines=1, bars=BarsFound(5, 9, 7)), "partial", True, "3 prints are missing by the TickIDs"),
        (replace(GOOD, failed=2, message="silence", bars=BarsFound(5, 9, 7)), "partial", False, "2 of 10 symbols got no answer (silence)"),
        (replace(GOOD, failed=10, recovered=0, message="away", bars=BarsFound(0, 0, 0)), "failed", False, "10 of 10 symbols"),
    ],
    ids=range(5),
)  # fmt: skip
def test_what_a_repair_with_bars_comes_to(found: Found, state: str, final: bool, words: str) -> None:
    plan = plan_of(GAP, CALENDAR, SETTINGS, LOOKUP, AFTER + 200 * 86_400 * NS)
    told = judge(plan, found)
    assert (told[0], told[2]) == (state, final)
    assert words in told[1]
    assert "minute bars only" in told[1]

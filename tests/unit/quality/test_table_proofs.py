"""What the parts of a date say of each table; every branch that could make a table green without anybody having looked."""

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from l2_platform.market.sessions import Window
from l2_platform.quality.ledger import LedgerGap
from l2_platform.quality.report_facts import (
    Audit,
    AuditedCheck,
    Closed,
    ClosedRows,
    ComparedStore,
    Completeness,
    Course,
    DayFacts,
    Heat,
    Part,
    Recorded,
    StoredRows,
)
from l2_platform.quality.report_page import repairs
from l2_platform.quality.report_verdict import judge_day
from l2_platform.quality.table_proofs import CHANNELS, judge_table
from l2_platform.settings import GapSettings

DAY, SECOND = date(2026, 3, 6), 10**9
HOUR = 3600 * SECOND
WRITTEN = 100 * HOUR


def a_gap(begin_s: float, end_s: float | None, stream: str = "iqfeed-level1-0", **changes: Any) -> LedgerGap:
    gap = LedgerGap(
        gap_id="one", stream=stream, session_date=DAY, seq=1, ordinal=0, source="live", symbols=(), ts_from=int(begin_s * SECOND),
        ts_to=None if end_s is None else int(end_s * SECOND), cause="disconnect", evidence={}, repair_source="", rows_recovered=0,
        residual="", explanation="", repair_state="", state="open" if end_s is None else "closed", seq_before=0, version=1, ts_written=0,
    )  # fmt: skip
    return replace(gap, **changes)


def whole() -> DayFacts:
    """A date with two hours of trading, fully proven."""
    stores = [
        ComparedStore("s", table, store, "equal", "", 10, 10, 0, WRITTEN)
        for table in CHANNELS for store in ("clickhouse", "jsonl")
    ]  # fmt: skip
    checks = [AuditedCheck("key_once", 10, 0, 0, "", "passed", "", WRITTEN)]
    return DayFacts(
        DAY, "UTC", [Window("regular", 0, 2 * HOUR)], 200 * HOUR, GapSettings(),
        recorded=Part(Recorded([StoredRows("trades", "s", "live", 10, 1, 0, 1)], 1)),
        closed=Part(Closed([ClosedRows("s", "trades", 10, 1, 10, 1, False, "")], WRITTEN - 1, None, {})),
        gaps=Part([]), completeness=Part(Completeness(WRITTEN, {"complete": 1}, 0.0, 0, [], 0, 0.0, 0)),
        audit=Part(Audit(checks, [])), stores=Part(stores), heat=Part(Heat([], [], [], 0)), course=Part(Course(0, 60, [], [], [])),
    )  # fmt: skip


def proofs(facts: DayFacts, table: str = "trades") -> dict[str, tuple[bool, bool]]:
    """Promise → (kept, serious)."""
    return {one.name: (one.kept, one.serious) for one in judge_table(facts, table, {"key_once": "error"})}


def test_a_proven_date_keeps_every_promise():
    for table in CHANNELS:
        assert all(kept for kept, _ in proofs(whole(), table).values()), table
    assert judge_day(whole()).word == "complete"


@pytest.mark.parametrize("part", ["gaps", "completeness", "audit", "stores", "closed", "recorded"])
def test_no_part_can_be_left_out(part):
    facts = replace(whole(), **{part: Part(reason="away")})
    verdict = judge_day(facts)
    assert (verdict.word, verdict.ok) == ("not evaluated", False)
    assert any("not evaluated: away" in item.what for item in verdict.todo)
    if part not in {"closed", "recorded"}:
        told = [one for table in CHANNELS for one in judge_table(facts, table, {"key_once": "error"}) if not one.kept]
        assert told
        assert all(one.text == "not evaluated: away" and one.serious for one in told)


@pytest.mark.parametrize(
    ("gap", "word", "table"),
    [
        (a_gap(60, 60.5), "complete", (True, True)),
        (a_gap(60, 63), "degraded", (False, False)),
        (a_gap(60, 600), "degraded", (False, True)),
        (a_gap(60, None), "degraded", (False, True)),
        (a_gap(60, 600, explanation="halt"), "complete", (True, True)),
        (a_gap(60, 600, repair_state="repaired"), "repaired", (True, True)),
        (a_gap(60, 600, repair_state="nothing_to_repair"), "complete", (True, True)),
        (a_gap(60, 600, repair_state="partial"), "degraded", (False, True)),
        (a_gap(60, 600, repair_state="impossible"), "degraded", (False, True)),
        (a_gap(60, 60, cause="missing_prints"), "degraded", (False, False)),
        (a_gap(7300, 9000), "complete", (True, True)),
        (a_gap(60, 600, "iqfeed-depth-0"), "degraded", (True, True)),
    ],
    ids=["short", "warned", "long", "open", "explained", "repaired", "nothing_missing", "partial", "impossible", "prints", "after_hours",
         "other_channel"],
)  # fmt: skip
def test_a_gap_counts_by_length_explanation_repair_and_window(gap, word, table):
    facts = replace(whole(), gaps=Part([gap]))
    assert judge_day(facts).word == word
    assert proofs(facts)["no_unexplained_gaps"] == table


@pytest.mark.parametrize(
    ("gap", "quotes"),
    [
        (a_gap(60, 110, repair_state="repaired"), (False, False)),
        (a_gap(60, 900, repair_state="nothing_to_repair"), (False, False)),
        (a_gap(60, 60.5, repair_state="repaired"), (True, True)),
        (a_gap(60, 110, repair_state="repaired", explanation="halt"), (True, True)),
        (a_gap(60, 110, repair_state="repaired", state="withdrawn"), (True, True)),
        (a_gap(60, 110, repair_state="repaired", cause="missing_prints"), (True, True)),
        (a_gap(7300, 9000, repair_state="repaired"), (True, True)),
        (a_gap(60, 110, "iqfeed-depth-0", repair_state="repaired"), (True, True)),
    ],
    ids=["repaired", "nothing_missing", "short", "explained", "withdrawn", "prints", "after_hours", "other_channel"],
)  # fmt: skip
def test_a_repair_brings_no_quotes(gap, quotes):
    facts = replace(whole(), gaps=Part([gap]))
    assert proofs(facts)["no_unexplained_gaps"] == (True, True)
    assert proofs(facts, "quotes")["no_unexplained_gaps"] == quotes
    assert judge_day(facts).ok


def test_lost_quotes_are_told_in_seconds():
    gaps = [a_gap(60, 110, repair_state="repaired"), a_gap(200, 600), a_gap(700, 702.5, repair_state="repaired")]
    facts = replace(whole(), gaps=Part(gaps))
    (proof,) = [one for one in judge_table(facts, "quotes", {}) if one.name == "no_unexplained_gaps"]
    assert (proof.kept, proof.serious) == (False, True)
    assert "1 gap without explanation or repair, 400.0 s together; quotes of 52.5 s are lost for ever: " in proof.text
    assert proof.numbers == {"gaps": 3, "unexplained": 1, "unexplained_s": 400.0, "repaired_without_quotes_s": 52.5}
    assert "quotes of 52.5 s stay lost: history has the prints of 2 gaps, and no quotes" in repairs(facts)


@pytest.mark.parametrize(
    ("state", "kept", "word"),
    [("equal", True, "complete"), ("healed", True, "repaired"), ("different", False, "degraded"), ("unknown", False, "not evaluated"),
     ("off", True, "complete")],
    ids=["equal", "healed", "different", "unknown", "off"],
)  # fmt: skip
def test_a_store_counts_by_its_state(state, kept, word):
    entries = [entry if entry.store == "clickhouse" else replace(entry, state=state) for entry in whole().stores.need()]
    facts = replace(whole(), stores=Part(entries))
    assert proofs(facts)["equals_files"][0] is kept
    assert judge_day(facts).word == word


def test_stores_that_are_all_off_prove_nothing():
    entries = [replace(entry, state="off") for entry in whole().stores.need()]
    assert judge_day(replace(whole(), stores=Part(entries))).word == "not evaluated"


@pytest.mark.parametrize(
    ("outcome", "severity", "table", "word"),
    [("failed", "error", (False, True), "degraded"), ("failed", "warn", (False, False), "complete"),
     ("not_evaluated", "error", (False, True), "not evaluated"), ("not_evaluated", "", (False, False), "complete")],
    ids=["error", "warning", "blind", "nothing_to_judge"],
)  # fmt: skip
def test_a_check_counts_by_outcome_and_severity(outcome, severity, table, word):
    checks = [AuditedCheck("key_once", 10, 1, 1, severity, outcome, "why", WRITTEN)]
    facts = replace(whole(), audit=Part(Audit(checks, [])))
    assert proofs(facts)["key_once"] == table
    assert judge_day(facts).word == word


def test_a_check_that_did_not_run_is_not_kept():
    facts = replace(whole(), audit=Part(Audit([], [], ("key_once",))))
    assert judge_day(facts).word == "not evaluated"
    assert proofs(facts)["key_once"] == (False, True)


def test_proofs_from_before_the_newest_close_and_a_running_date_are_not_kept():
    later = replace(whole().closed.need(), written_ns=WRITTEN + 1)
    found = proofs(replace(whole(), closed=Part(later)))
    assert [found[name][0] for name in ("prints_complete", "equals_journal", "key_once")] == [False, False, False]
    running = replace(whole(), now_ns=HOUR, audit=Part(reason="it did not run"))
    assert proofs(running)["key_once"] == (False, False), "a date that runs cannot be proven: a warning"

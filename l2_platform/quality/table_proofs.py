"""What the proofs of a session date say of each table: the health that its page shows. Pure.

One promise a table and kind of proof, and one for each declared check of the audit. What was not evaluated is not kept. What does not
belong here: reading the parts (report_queries), how promises are shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from l2_platform.quality.report_facts import AuditedCheck, DayFacts
from l2_platform.quality.report_verdict import counted, is_lost, lost_s, quotes_lost, without_stale

CHANNELS: Final[Mapping[str, str]] = {
    "trades": "level1",
    "quotes": "level1",
    "depth_updates": "depth",
    "book_snapshots": "depth",
}
"""Market table → channel of the streams that feed it."""
GAPS, PRINTS, BOOKS = "no_unexplained_gaps", "prints_complete", "books_trusted"
STORES: Final[Mapping[str, str]] = {"clickhouse": "equals_journal", "jsonl": "equals_files"}
"""Store → promise."""
FILES: Final = ("trades", "quotes", "book_snapshots")
"""Tables whose rows are in files, too."""


@dataclass(frozen=True, slots=True)
class TableProof:
    """One promise of one table on one date."""

    table: str
    name: str
    kept: bool
    text: str
    serious: bool = True
    """It turns the table red; otherwise it warns."""
    numbers: Mapping[str, float] = field(default_factory=dict)


def promises_of(table: str) -> dict[str, str]:
    """Name → what it says, of the promises that are no checks of the audit."""
    if table not in CHANNELS:
        return {}
    found = {
        GAPS: "No time of the date is missing without an explanation or a repair.",
        "equals_journal": "The rows are those that the journal yields: by count, key range and a hash of each minute.",
    }
    if table == "quotes":
        found[GAPS] = (
            "No time of the date is missing without an explanation; a repair does not count, for quotes have no history."
        )
    if table == "trades":
        found[PRINTS] = "No print is missing, by the counters of the feed."
    if table == "book_snapshots":
        found[BOOKS] = "The book of every symbol was good all the time."
    if table in FILES:
        found["equals_files"] = "The JSONL files hold what the journal yields."
    return found


def judge_table(facts: DayFacts, table: str, checks: Mapping[str, str]) -> list[TableProof]:
    """Every promise of a table on the date; `checks`: declared checks of the audit that judge it → the worst severity they can find."""
    facts = without_stale(facts)
    found = [_gaps(facts, table)] if table in CHANNELS else []
    if table == "trades":
        found.append(_prints(facts))
    if table == "book_snapshots":
        found.append(_books(facts))
    found += [_stores(facts, table, store) for store in STORES if table in (CHANNELS if store == "clickhouse" else FILES)]
    found += [_check(facts, table, name, severity) for name, severity in checks.items()]
    if facts.now_ns < facts.windows[-1].end:
        # a date that still runs cannot be proven: somebody pressed the button
        found = [replace(proof, serious=False) for proof in found]
    return found


def _gaps(facts: DayFacts, table: str) -> TableProof:
    gaps = facts.gaps.value
    if gaps is None:
        return TableProof(table, GAPS, False, facts.gaps.text)
    mine = [gap for gap in gaps if f"-{CHANNELS[table]}-" in gap.stream]
    lost = [gap for gap in mine if is_lost(gap, facts)]
    # a repair brings prints: the quotes beside them are gone
    gone = quotes_lost(facts) if table == "quotes" else []
    seconds, gone_s = (sum(lost_s(gap, facts) for gap in some) for some in (lost, gone))
    numbers = {"gaps": len(mine), "unexplained": len(lost), "unexplained_s": round(seconds, 3)}
    if table == "quotes":
        numbers["repaired_without_quotes_s"] = round(gone_s, 3)
    if not (lost or gone) and facts.gaps.reason:
        return TableProof(table, GAPS, False, f"not evaluated: {facts.gaps.reason}", numbers=numbers)
    if not (lost or gone):
        return TableProof(
            table,
            GAPS,
            True,
            f"{counted(len(mine), 'gap')}, none of them without explanation or repair.",
            numbers=numbers,
        )
    serious = any(lost_s(gap, facts) > facts.bounds.error_s for gap in lost)
    told = []
    if lost:
        told.append(f"{counted(len(lost), 'gap')} without explanation or repair, {seconds:,.1f} s together")
    if gone:
        told.append(
            f"quotes of {gone_s:,.1f} s are lost for ever: history has the prints of {counted(len(gone), 'gap')}, and no quotes"
        )
    return TableProof(table, GAPS, False, f"{'; '.join(told)}: l2 gaps --date {facts.session_date}", serious, numbers)


def _prints(facts: DayFacts) -> TableProof:
    judged = facts.completeness.value
    if judged is None:
        return TableProof("trades", PRINTS, False, facts.completeness.text)
    text = f"{counted(judged.missing_prints, 'print')} missing by TickID: l2 complete {facts.session_date}"
    kept = not judged.missing_prints
    said = "No print is missing by TickID." if kept else text
    return TableProof("trades", PRINTS, kept, said, numbers={"missing": judged.missing_prints})


def _books(facts: DayFacts) -> TableProof:
    judged = facts.completeness.value
    if judged is None:
        return TableProof("book_snapshots", BOOKS, False, facts.completeness.text)
    numbers = {"suspect_symbols": judged.suspect_symbols, "suspect_s": round(judged.suspect_s, 3)}
    if not judged.suspect_symbols:
        return TableProof("book_snapshots", BOOKS, True, "No book was suspect.", numbers=numbers)
    text = (
        f"The book of {counted(judged.suspect_symbols, 'symbol')} was suspect for a time, at most {judged.suspect_s:,.1f} s; reads say so "
        f"(column trust): l2 complete {facts.session_date}"
    )
    return TableProof("book_snapshots", BOOKS, False, text, serious=False, numbers=numbers)


def _stores(facts: DayFacts, table: str, store: str) -> TableProof:
    name = STORES[store]
    if facts.stores.value is None:
        return TableProof(table, name, False, facts.stores.text)
    mine = [entry for entry in facts.stores.value if entry.store == store and entry.table == table]
    rows, differences = (
        sum(entry.rows_store for entry in mine),
        sum(entry.differences for entry in mine if entry.state == "different"),
    )
    numbers = {"rows": rows, "differences": differences}
    bad = [f"{entry.stream}: {entry.reason or 'differs'}" for entry in mine if entry.state == "different"]
    unknown = [entry.reason for entry in mine if entry.state == "unknown"]
    if bad:
        text = f"{'; '.join(bad)}. Heal it: l2 reconcile {facts.session_date} --heal"
        return TableProof(table, name, False, text, numbers=numbers)
    if unknown or not mine:
        reason = unknown[0] if unknown else f"no stream of it was compared: l2 reconcile {facts.session_date}"
        return TableProof(table, name, False, f"not evaluated: {reason}", numbers=numbers)
    if all(entry.state == "off" for entry in mine):
        # switched off on purpose: nothing is promised
        return TableProof(
            table, name, True, f"Nothing to compare: {mine[0].reason or store + ' is off'}.", numbers=numbers
        )
    healed = sum(entry.state == "healed" for entry in mine)
    text = f"{rows:,} rows in {counted(len(mine), 'stream')} are equal to the journal" + (
        f", {healed} healed." if healed else "."
    )
    return TableProof(table, name, True, text, numbers=numbers)


def _check(facts: DayFacts, table: str, name: str, severity: str) -> TableProof:
    if facts.audit.value is None:
        return TableProof(table, name, False, facts.audit.text)
    ran: AuditedCheck | None = next((check for check in facts.audit.value.checks if check.name == name), None)
    if ran is None:
        return TableProof(
            table,
            name,
            False,
            f"not evaluated: it did not run: l2 audit {facts.session_date}",
            serious=severity == "error",
        )
    numbers = {"looked": ran.looked, "flagged": ran.flagged, "findings": ran.findings}
    if ran.outcome == "not_evaluated":
        # without a severity there was nothing that it could judge: said, and not red
        return TableProof(
            table, name, False, f"not evaluated: {ran.message}", serious=ran.severity == "error", numbers=numbers
        )
    if ran.outcome == "passed":
        return TableProof(table, name, True, f"{ran.looked:,} rows looked at, none to act on.", numbers=numbers)
    text = f"{counted(ran.findings, 'finding')} in {ran.flagged:,} of {ran.looked:,} rows: l2 audit {facts.session_date} --check {name}"
    return TableProof(table, name, False, text, serious=ran.severity == "error", numbers=numbers)

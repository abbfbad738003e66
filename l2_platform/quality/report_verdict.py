"""What the parts of a daily report say together: one word, the loss as a number, and what a person has to do. Pure.

A part that was not evaluated can never make a date better; a date is complete only when every part was evaluated and says so. What
does not belong here: reading the parts (report_queries), how they look (report_page).
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

from l2_platform.quality.ledger import LedgerGap
from l2_platform.quality.report_facts import Audit, Completeness, DayFacts, Part

Word = Literal["complete", "repaired", "degraded", "missing", "not evaluated"]
FIXED: Final = frozenset({"repaired", "nothing_to_repair"})
"""Repair states after which no print is missing."""


@dataclass(frozen=True, slots=True)
class Todo:
    """Something that needs a person."""

    what: str
    command: str = ""
    """What to type."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The date in one line."""

    word: Word
    lost_s: float | None
    """Unexplained time of the symbol that lost most, s; None: not evaluated."""
    lost_rows: int | None
    """Rows that are known to be missing, over all symbols; None: not evaluated."""
    because: list[str]
    todo: list[Todo]

    @property
    def ok(self) -> bool:
        """Everything was evaluated, and nothing is missing."""
        return self.word in {"complete", "repaired"}

    @property
    def loss(self) -> str:
        """`unexplained loss 0 s, 0 rows`."""
        seconds = "time not evaluated" if self.lost_s is None else f"{self.lost_s:,.1f} s" if self.lost_s else "0 s"
        rows = "rows not evaluated" if self.lost_rows is None else f"{self.lost_rows:,} rows"
        return f"unexplained loss {seconds}, {rows}"

    @property
    def sentence(self) -> str:
        """`degraded: unexplained loss 600.0 s, 1,000 rows`."""
        return f"{self.word}: {self.loss}"


def is_unexplained(gap: LedgerGap) -> bool:
    """Data is missing, nothing says why, and history did not bring all of it back."""
    return gap.state != "withdrawn" and not gap.explanation and gap.repair_state not in FIXED


def counted(number: float, thing: str) -> str:
    """`1 gap`, `2 gaps`."""
    return f"{number:,.0f} {thing}" if number == 1 else f"{number:,.0f} {thing}s"


def lost_s(gap: LedgerGap, facts: DayFacts) -> float:
    """Time of a gap within the windows of the session, s: outside of them nothing is traded."""
    end = facts.now_ns if gap.ts_to is None else gap.ts_to
    return sum(max(0, min(end, window.end) - max(gap.ts_from, window.start)) for window in facts.windows) / 1e9


def is_lost(gap: LedgerGap, facts: DayFacts) -> bool:
    """Unexplained, and long enough to be told; prints that are missing by the feed's counters are lost however short the time is."""
    return is_unexplained(gap) and (lost_s(gap, facts) > facts.bounds.warn_s or gap.cause == "missing_prints")


def quotes_lost(facts: DayFacts) -> list[LedgerGap]:
    """Level 1 gaps whose prints history brought back, or had none to bring: their quotes are lost for ever, and nobody can do anything."""
    return [
        gap
        for gap in facts.gaps.value or []
        if "-level1-" in gap.stream
        and gap.state != "withdrawn"
        and not gap.explanation
        and gap.repair_state in FIXED
        and gap.cause != "missing_prints"
        and lost_s(gap, facts) > facts.bounds.warn_s
    ]


def judge_day(facts: DayFacts) -> Verdict:
    """The word: the worst of what the parts say; `not evaluated` where no part says worse and one says nothing."""
    lost: list[Todo] = []
    unknown = _unknown(facts)
    missing = _is_missing(facts)
    for part in (_recorded, _gaps, _graded, _compared, _audited):
        lost += part(facts)
    judged = facts.completeness.value
    word: Word = "complete"
    if missing or (judged is not None and judged.grades.get("missing")):
        word = "missing"
    elif lost:
        word = "degraded"
    elif unknown:
        word = "not evaluated"
    elif _was_repaired(facts):
        word = "repaired"
    todo = [*lost, *unknown]
    return Verdict(word, *_loss(facts), [item.what for item in todo], todo)


def _loss(facts: DayFacts) -> tuple[float | None, int | None]:
    """By the judgement of the symbols, and by the ledger, which may have learned more since; without the judgement by the ledger alone."""
    judged = facts.completeness.value
    longest = max((lost_s(gap, facts) for gap in facts.gaps.value or [] if is_unexplained(gap)), default=0.0)
    if judged is None:
        # without a gap nobody knows that nothing is lost
        return longest or None, None
    return max(judged.unexplained_s, longest), judged.unexplained_rows


def _is_missing(facts: DayFacts) -> bool:
    recorded = facts.recorded.value
    return recorded is not None and not recorded.unread and not any(item.rows for item in recorded.rows)


def _unknown(facts: DayFacts) -> list[Todo]:
    day = facts.session_date
    parts: list[tuple[str, Part[object], str]] = [
        ("what was recorded", facts.recorded, "l2 status"), ("the close", facts.closed, ""),  # type: ignore[list-item]
        ("gaps", facts.gaps, f"l2 gaps --date {day}"), ("completeness", facts.completeness, f"l2 complete {day}"),  # type: ignore[list-item]
        ("the audit", facts.audit, f"l2 audit {day}"), ("the stores", facts.stores, f"l2 reconcile {day} --heal"),  # type: ignore[list-item]
    ]  # fmt: skip
    found = [Todo(f"{name}: {part.text}", command) for name, part, command in parts if not part.known]
    found += [Todo(f"{name}: {text}", command) for name, text, command in _stale(facts)]
    if facts.gaps.known and facts.gaps.reason:
        found.append(Todo(f"gaps: not evaluated: {facts.gaps.reason}", f"l2 gaps --date {day}"))
    recorded, audit = facts.recorded.value, facts.audit.value
    if recorded is not None:
        found += [
            Todo(f"table {table}: not evaluated: {reason}", "l2 status") for table, reason in recorded.unread.items()
        ]
    if audit is not None and audit.absent:
        named = ", ".join(audit.absent[:3])
        text = f"the audit: not evaluated: {counted(len(audit.absent), 'check')} did not run ({named})"
        found.append(Todo(text, f"l2 audit {day}"))
    if audit is not None:
        blind = audit.of("not_evaluated", severity="error")
        found += [Todo(f"check {check.name}: not evaluated: {check.message}", f"l2 audit {day}") for check in blind]
    return found + _not_compared(facts)


def _not_compared(facts: DayFacts) -> list[Todo]:
    entries = facts.stores.value or []
    unknown = [entry.reason for entry in entries if entry.state == "unknown"]
    if entries and not any(entry.state in {"equal", "healed", "different"} for entry in entries):
        unknown = unknown or ["every store is switched off"]
    if not unknown:
        return []
    text = f"{len(unknown)} tables or files of the stores: not evaluated: {unknown[0]}"
    return [Todo(text, f"l2 reconcile {facts.session_date}")]


def without_stale(facts: DayFacts) -> DayFacts:
    """The same with the parts left out that are older than the newest close."""
    reasons = {name: f"it is older than the newest close: {command}" for name, _, command in _stale(facts)}
    if "completeness" in reasons:
        facts = replace(facts, completeness=Part(reason=reasons["completeness"]))
    if "the audit" in reasons:
        facts = replace(facts, audit=Part(reason=reasons["the audit"]))
    if "the stores" in reasons:
        facts = replace(facts, stores=Part(reason=reasons["the stores"]))
    return facts


def _stale(facts: DayFacts) -> list[tuple[str, str, str]]:
    """Proofs that are older than the newest close: they speak of something else."""
    closed, day = facts.closed.value, facts.session_date
    if closed is None:
        return []
    audit, stores, judged = facts.audit.value, facts.stores.value, facts.completeness.value
    made = [
        ("completeness", judged.written_ns if judged else 0, f"l2 complete {day}"),
        ("the audit", min((check.written_ns for check in audit.checks), default=0) if audit else 0, f"l2 audit {day}"),
        ("the stores", min((entry.written_ns for entry in stores), default=0) if stores else 0, f"l2 reconcile {day}"),
    ]  # fmt: skip
    return [
        (name, "not evaluated: it is older than the newest close of the date", command)
        for name, written_ns, command in made
        if 0 < written_ns < closed.written_ns
    ]


def _recorded(facts: DayFacts) -> list[Todo]:
    if not _is_missing(facts):
        return []
    return [Todo("no market table has a row of the date: was it recorded?", f"l2 backfill {facts.session_date}")]


def _gaps(facts: DayFacts) -> list[Todo]:
    gaps = [gap for gap in facts.gaps.value or [] if is_lost(gap, facts)]
    day = facts.session_date
    found = []
    opened = [gap for gap in gaps if gap.state == "open"]
    if opened:
        found.append(Todo(f"{counted(len(opened), 'gap')} did not end", f"l2 gaps --date {day}"))
    failed = [gap for gap in gaps if gap.state != "open" and gap.repair_state in {"failed", "partial"}]
    if failed:
        found.append(
            Todo(f"{counted(len(failed), 'gap')} could not be repaired, or not wholly", f"l2 gaps repair --date {day}")
        )
    rest = [gap for gap in gaps if gap.state != "open" and gap.repair_state not in {"failed", "partial"}]
    if rest:
        none = sum(gap.repair_state == "impossible" for gap in rest)
        history = f", {none:,} of depth or quotes, of which there is no history" if none else ""
        found.append(
            Todo(f"{counted(len(rest), 'gap')} without explanation or repair{history}", f"l2 gaps --date {day}")
        )
    return found


def _graded(facts: DayFacts) -> list[Todo]:
    judged = facts.completeness.value
    if judged is None:
        return []
    bad = {grade: judged.grades[grade] for grade in ("missing", "degraded") if judged.grades.get(grade)}
    if not bad:
        return []
    named = ", ".join(f"{count:,} {grade}" for grade, count in bad.items())
    worst = judged.worst[0]
    why = f" (worst: {worst.symbol}, {worst.reasons[0]})" if worst.reasons else f" (worst: {worst.symbol})"
    return [Todo(f"{named} of {sum(judged.grades.values()):,} symbols{why}", f"l2 complete {facts.session_date}")]


def _compared(facts: DayFacts) -> list[Todo]:
    different = [entry for entry in facts.stores.value or [] if entry.state == "different"]
    if not different:
        return []
    named = ", ".join(f"{entry.store} {entry.table} of {entry.stream}" for entry in different[:3])
    text = f"stores differ from the journal: {named}" + (
        f" and {len(different) - 3} more" if len(different) > 3 else ""
    )
    return [Todo(text, f"l2 reconcile {facts.session_date} --heal")]


def _audited(facts: DayFacts) -> list[Todo]:
    failed = facts.audit.value.of("failed", severity="error") if facts.audit.value else []
    if not failed:
        return []
    named = ", ".join(f"{check.name} ({check.findings:,})" for check in failed[:5])
    return [Todo(f"{counted(len(failed), 'check')} found errors: {named}", f"l2 audit {facts.session_date}")]


def _was_repaired(facts: DayFacts) -> bool:
    judged: Completeness | None = facts.completeness.value
    graded = judged is not None and bool(judged.grades.get("repaired"))
    healed = any(entry.state == "healed" for entry in facts.stores.value or [])
    filled = any(gap.repair_state == "repaired" for gap in facts.gaps.value or [])
    rebuilt = facts.closed.value is not None and any(row.rebuilt for row in facts.closed.value.rows)
    return graded or healed or filled or rebuilt


def counts_of(audit: Audit) -> str:
    """`17 passed, 1 failed`."""
    words = (("passed", "passed"), ("failed", "failed"), ("not_evaluated", "not evaluated"))
    return ", ".join(f"{len(audit.of(outcome))} {word}" for outcome, word in words if audit.of(outcome))

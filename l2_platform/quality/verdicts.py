"""The verdict on a symbol and session date: facts in, grade and reasons out; pure, so that every rule can be told and tested.

What does not belong here: where facts come from (day_facts), storing verdicts (completeness).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from l2_platform.settings import CompletenessSettings

Grade = Literal["complete", "repaired", "degraded", "missing"]
GRADES: Final[tuple[Grade, ...]] = ("complete", "repaired", "degraded", "missing")
"""From best to worst."""
WINDOWS: Final = ("pre", "regular", "after")


@dataclass(slots=True)
class SymbolFacts:
    """What was measured of one symbol on one date; the columns of table `completeness` (docs/data.md)."""

    symbol: str
    expected: bool = False
    expected_minutes: list[int] = field(default_factory=lambda: [0, 0, 0])
    seen_minutes: list[int] = field(default_factory=lambda: [0, 0, 0])
    rows: int = 0
    rows_history: int = 0
    trades: int = 0
    rows_by_hour: list[int] = field(default_factory=lambda: [0] * 24)
    usual_by_hour: list[float] = field(default_factory=lambda: [0.0] * 24)
    days_usual: int = 0
    tick_ids_expected: int = 0
    tick_ids_lost: int = 0
    tick_ids_missing: int = 0
    centres_not_counting: int = 0
    """Market centres whose TickIDs are no counter on this date."""
    volume_expected: int = -1
    volume_lost: int = 0
    volume_missing: int = 0
    volume_bar: int = -1
    volume_seen: int = 0
    """Of the prints, with history."""
    gaps: int = 0
    gap_s: float = 0.0
    explained_s: float = 0.0
    repaired_s: float = 0.0
    unexplained_s: float = 0.0
    bars_s: float = 0.0
    """Part of `unexplained_s`: the vendor's minute bars are all that could be had of it."""
    dark_s: float = 0.0
    """Part of `unexplained_s`: minutes without a row of any symbol, and no gap that tells of them."""
    book_good_s: float = 0.0
    book_suspect_s: float = 0.0
    book_building_s: float = 0.0
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    quarantined: int = 0

    @property
    def rows_usual(self) -> float:
        """Mean rows of the dates before."""
        return sum(self.usual_by_hour)


@dataclass(slots=True)
class SymbolVerdict:
    """The grade of one symbol, why, and the facts behind it."""

    symbol: str
    grade: Grade
    reasons: list[str]
    facts: SymbolFacts

    @property
    def unexplained_s(self) -> float:
        """Time that is neither recorded, explained nor repaired, s."""
        return self.facts.unexplained_s

    @property
    def unexplained_rows(self) -> int:
        """Rows that are known to be missing."""
        return self.facts.tick_ids_missing

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        head = {"symbol": self.symbol, "grade": self.grade, "reasons": self.reasons, "unexplained_rows": self.unexplained_rows}
        return head | {name: value for name, value in asdict(self.facts).items() if name != "symbol"}


@dataclass(slots=True)
class DateVerdict:
    """The verdict on a date."""

    session_date: int
    run_id: str
    outcome: Literal["judged", "not_evaluated"] = "judged"
    message: str = ""
    """Why it could not be judged; else what the whole date suffers from, or empty."""
    symbols: list[SymbolVerdict] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def grade(self) -> Grade:
        """That of the worst symbol; missing when there is none."""
        return max((verdict.grade for verdict in self.symbols), key=GRADES.index, default="missing")

    @property
    def unexplained_s(self) -> float:
        """Longest unexplained time of a symbol, s."""
        return max((verdict.unexplained_s for verdict in self.symbols), default=0.0)

    @property
    def unexplained_rows(self) -> int:
        """Over all symbols."""
        return sum(verdict.unexplained_rows for verdict in self.symbols)

    @property
    def ok(self) -> bool:
        """Judged, and every symbol is complete or repaired."""
        return self.outcome == "judged" and self.grade in {"complete", "repaired"}

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "session_date": self.session_date, "run_id": self.run_id, "outcome": self.outcome, "message": self.message, "ok": self.ok,
            "grade": self.grade, "unexplained_s": self.unexplained_s, "unexplained_rows": self.unexplained_rows,
            "seconds": self.seconds, "symbols": [verdict.as_dict() for verdict in self.symbols],
        }  # fmt: skip


def grade_symbol(facts: SymbolFacts, bounds: CompletenessSettings, channels: Sequence[str] = ("depth", "level1")) -> SymbolVerdict:
    """Judge one symbol; `channels`: which kinds of streams the date was recorded with."""
    if not facts.rows and not facts.rows_history:
        return SymbolVerdict(facts.symbol, "missing", ["no row of it in any table"], facts)
    losses = [*_losses(facts, bounds), *_weaknesses(facts, bounds)]
    notes = [*_repairs(facts), *_notes(facts, bounds, channels)]
    if losses:
        return SymbolVerdict(facts.symbol, "degraded", [*losses, *notes], facts)
    repaired = bool(_repairs(facts))
    return SymbolVerdict(facts.symbol, "repaired" if repaired else "complete", notes, facts)


def _losses(facts: SymbolFacts, bounds: CompletenessSettings) -> list[str]:
    """What is gone."""
    found = []
    if facts.tick_ids_missing:
        found.append(f"{facts.tick_ids_missing:,} of {facts.tick_ids_expected:,} TickIDs are missing")
    if facts.volume_missing > bounds.volume_share * max(facts.volume_expected, 0):
        found.append(f"the prints lack {facts.volume_missing:,} of the day's volume of {facts.volume_expected:,}")
    if facts.volume_missing < 0:
        found.append(f"the prints sum up to {-facts.volume_missing:,} more than the feed's running total of {facts.volume_expected:,}")
    if facts.volume_bar >= 0 and abs(facts.volume_bar - facts.volume_seen) > bounds.volume_share * facts.volume_bar:
        found.append(f"the vendor's daily bar has a volume of {facts.volume_bar:,}, the prints {facts.volume_seen:,}")
    told = facts.unexplained_s - facts.dark_s
    if told > 0:
        found.append(f"{told:,.1f} s of gaps are neither explained nor repaired")
    if facts.dark_s > 60 * bounds.dark_minutes:
        found.append(f"no symbol had a row in {facts.dark_s / 60:,.0f} minutes of the session, and no gap tells why")
    if not facts.rows:
        found.append("nothing was recorded; what is there came from history, which has no depth and no quotes")
    return found


def _weaknesses(facts: SymbolFacts, bounds: CompletenessSettings) -> list[str]:
    """What makes the stored data worth less."""
    found = []
    for window, expected, seen in zip(WINDOWS, facts.expected_minutes, facts.seen_minutes, strict=True):
        if window == "regular" and expected and facts.rows and not seen:
            found.append("no row in regular trading")
    usual = facts.days_usual >= bounds.usual_days_min
    few = [
        hour for hour, (seen, mean) in enumerate(zip(facts.rows_by_hour, facts.usual_by_hour, strict=True))
        if usual and mean >= bounds.usual_rows_min and seen < bounds.usual_share * mean
    ]  # fmt: skip
    if few:
        hours = ", ".join(f"{hour:02d}:00" for hour in few)
        found.append(f"fewer than {bounds.usual_share:.0%} of the usual rows in the hours {hours} (New York)")
    book_s = facts.book_good_s + facts.book_suspect_s + facts.book_building_s
    if facts.book_suspect_s > max(bounds.suspect_s, bounds.suspect_share * book_s):
        found.append(f"its book was suspect for {facts.book_suspect_s:,.1f} s")
    if facts.quarantined:
        found.append(f"{facts.quarantined:,} lines or rows are in quarantine")
    return found


def _repairs(facts: SymbolFacts) -> list[str]:
    """What was missing and came back."""
    found = []
    if facts.tick_ids_lost > facts.tick_ids_missing:
        found.append(f"{facts.tick_ids_lost - facts.tick_ids_missing:,} TickIDs came from history")
    if facts.volume_lost > max(facts.volume_missing, 0):
        found.append(f"a volume of {facts.volume_lost - max(facts.volume_missing, 0):,} came from history")
    if facts.repaired_s:
        found.append(f"{facts.repaired_s:,.1f} s of gaps were repaired")
    return found


def _notes(facts: SymbolFacts, bounds: CompletenessSettings, channels: Sequence[str]) -> list[str]:
    """What a reader should know, and what could not be judged."""
    found = []
    if facts.explained_s:
        found.append(f"{facts.explained_s:,.1f} s without data are explained")
    if facts.bars_s:
        found.append(f"of {facts.bars_s:,.1f} s of gaps there are minute bars of the vendor in place of prints (history_bars)")
    if "level1" in channels and not facts.trades and not facts.rows_history:
        found.append("no print")
    elif facts.centres_not_counting:
        found.append(f"TickIDs of {facts.centres_not_counting} market centres do not count: not judged by them")
    if facts.trades and facts.volume_expected < 0:
        found.append("the feed gave no running total: not judged by volume")
    if not facts.days_usual:
        found.append("no date before it was judged: not judged by usual rows")
    if facts.latency_p99_ms is not None and facts.latency_p99_ms > bounds.latency_p99_ms:
        found.append(f"latency p99 was {facts.latency_p99_ms:,.0f} ms")
    return found

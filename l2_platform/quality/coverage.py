"""How much of what is usual each symbol had in each hour of a session: the heat map of a verdict. Pure.

What does not belong here: facts and grades (day_facts, verdicts), drawing (assets/plots).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from l2_platform.market.sessions import Window
from l2_platform.quality.verdicts import GRADES, SymbolFacts, SymbolVerdict

NEW_YORK: Final = ZoneInfo("America/New_York")
"""Zone of the hours in `SymbolFacts`."""
HOUR_NS: Final = 3600 * 10**9


@dataclass(frozen=True, slots=True)
class Coverage:
    """The symbols that are worst off, and what they had."""

    symbols: list[str]
    """The worst first."""
    shares: list[list[float | None]]
    """Of each symbol, by hour: its rows as a share of the usual ones; None where there are none and none are usual."""


def hours_of(windows: Sequence[Window]) -> list[int]:
    """Hours of the day in New York that a session touches, each once, in the order of the session."""
    first = windows[0].start // HOUR_NS * HOUR_NS
    hours = (datetime.fromtimestamp(at // 10**9, NEW_YORK).hour for at in range(first, windows[-1].end, HOUR_NS))
    return list(dict.fromkeys(hours))


def coverage_of(verdicts: Sequence[SymbolVerdict], hours: Sequence[int], most: int) -> Coverage:
    """At most `most` symbols: by grade, then what they lost, then how little of the usual rows they had."""
    worst = sorted(verdicts, key=_badness)[:most]
    return Coverage([one.symbol for one in worst], [_shares(one.facts, hours) for one in worst])


def _badness(verdict: SymbolVerdict) -> tuple[int, float, int, float, str]:
    facts = verdict.facts
    had = facts.rows / facts.rows_usual if facts.rows_usual else float(facts.rows)
    return -GRADES.index(verdict.grade), -verdict.unexplained_s, -verdict.unexplained_rows, had, verdict.symbol


def _shares(facts: SymbolFacts, hours: Sequence[int]) -> list[float | None]:
    """Where no date before it was judged, the symbol's busiest hour is the measure; it does not tell of hours without rows."""
    if not facts.rows:
        return [0.0] * len(hours)
    usual = facts.usual_by_hour if facts.days_usual else [float(max(facts.rows_by_hour))] * 24
    return [_share(facts.rows_by_hour[hour], usual[hour], known=facts.days_usual > 0) for hour in hours]


def _share(rows: int, usual: float, *, known: bool) -> float | None:
    if rows:
        return rows / usual if usual else 1.0
    return 0.0 if known and usual >= 1 else None

"""What can be done for a gap, and when it is its turn: pure decisions.

A gap of Level 1 data is repaired from the vendor's ticks; where those are too old its minute bars are stored. Depth has no history.
 What does not belong here: asking the vendor, the ledger, clocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from l2_platform.errors import InputError
from l2_platform.journal.layout import source_of
from l2_platform.market.sessions import SessionCalendar
from l2_platform.quality.ledger import LedgerGap, RepairState
from l2_platform.settings import LookupSettings, RepairSettings

NS: Final = 1_000_000_000
DAY_NS: Final = 86_400 * NS
NEW_YORK: Final = ZoneInfo("America/New_York")
BAR_S: Final = 60
REPAIRABLE: Final = "level1"
NO_QUOTES: Final = "quotes have no history"
NO_DEPTH: Final = "depth has no history: its updates are lost, and books were suspect until the feed sent them anew"
Step = Literal["ticks", "bars", "impossible"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a repair of a gap does."""

    step: Step
    begin: int
    """Prints from here on are looked for, ns UTC; a whole second, of bars a whole minute."""
    end: int
    """The last ns; prints of its second are in the reply. Bars are asked for of the whole session."""
    reason: str = ""
    """Why nothing can be done, or why bars only."""

    @property
    def word(self) -> str:
        """The vendor's request."""
        return "HTT" if self.step == "ticks" else "HIT"

    @property
    def span(self) -> tuple[str, str]:
        """Begin and end as the vendor wants them: New York, whole seconds, both included."""
        first, last = (datetime.fromtimestamp(ts // NS, NEW_YORK).strftime("%Y%m%d %H%M%S") for ts in (self.begin, self.end))
        return first, last


@dataclass(frozen=True, slots=True)
class Attempts:
    """What the ledger says of earlier repairs of a gap."""

    count: int = 0
    at: int = 0
    """When the last one ended, ns."""
    final: bool = False
    """Another one would bring the same."""


def attempts_of(gap: LedgerGap) -> Attempts:
    """Read from the evidence; what somebody else wrote there counts as nothing."""
    told: Any = gap.evidence.get("repair")
    if not isinstance(told, dict):
        return Attempts()
    try:
        return Attempts(int(told.get("attempts", 0)), int(told.get("at", 0)), bool(told.get("final", False)))
    except (TypeError, ValueError):
        return Attempts()


def channel_of(stream: str) -> str:
    """depth, level1 …: the second part of a stream's name."""
    return stream.split("-")[1] if "-" in stream else ""


def concerns(gap: LedgerGap) -> bool:
    """Something was lost, nobody explained it, and it is over."""
    lost = gap.state == "closed" and not gap.explanation and source_of(gap.stream) == "live"
    return lost and channel_of(gap.stream) in {REPAIRABLE, "depth"}


def is_due(gap: LedgerGap, settings: RepairSettings, now_ns: int) -> bool:
    """It is this gap's turn: just closed, or an earlier attempt may be made again, and neither too old nor tried too often."""
    if not concerns(gap) or gap.ts_to is None:
        return False
    if now_ns - gap.ts_to > settings.age_days_max * DAY_NS:
        return False
    if not gap.repair_state:
        return now_ns >= gap.ts_to + int(settings.settle_s * NS)
    told = attempts_of(gap)
    if gap.repair_state not in {"failed", "partial", "nothing_to_repair"} or told.final or told.count >= settings.attempts_max:
        return False
    return now_ns >= told.at + int(wait_s(told.count, settings) * NS)


def check_number(gap_ids: Sequence[str], settings: RepairSettings) -> None:
    """InputError for more gaps than one run repairs."""
    if (number := len(set(gap_ids))) > settings.gaps_max:
        raise InputError(
            f"{number:,} gaps of a session date are named and one run repairs {settings.gaps_max:,}; nothing was done. Name fewer "
            "at a time, or raise L2_REPAIR__GAPS_MAX"
        )


def one_run(gaps: Sequence[LedgerGap], settings: RepairSettings) -> list[LedgerGap]:
    """Those that one run repairs, in their order: the ones tried least, so that gaps that fail again and again hold up no other."""
    least = {gap.gap_id for gap in sorted(gaps, key=lambda gap: attempts_of(gap).count)[: settings.gaps_max]}
    return [gap for gap in gaps if gap.gap_id in least]


def wait_s(attempts: int, settings: RepairSettings) -> float:
    """How long after the so many-th attempt the next one may be made."""
    return float(min(settings.retry_first_s * 2.0 ** max(attempts - 1, 0), settings.retry_cap_s))


def plan_of(
    gap: LedgerGap, calendar: SessionCalendar, settings: RepairSettings, lookup: LookupSettings, now_ns: int
) -> Plan:
    """What to do for a gap that is over, whether or not it is its turn."""
    assert gap.ts_to is not None
    number = gap.session_date.year * 10_000 + gap.session_date.month * 100 + gap.session_date.day
    margin = int(settings.margin_s * NS)
    begin = max(gap.ts_from - margin, calendar.start_of(number)) // NS * NS
    end = max(min(gap.ts_to + margin, calendar.end_of(number)) - 1, begin)
    if channel_of(gap.stream) != REPAIRABLE:
        return Plan("impossible", begin, end, NO_DEPTH)
    age = (datetime.fromtimestamp(now_ns // NS, UTC).date() - datetime.fromtimestamp(gap.ts_from // NS, UTC).date()).days
    if age <= lookup.tick_days:
        return Plan("ticks", begin, end)
    bar = BAR_S * NS
    reason = f"the gap is {age} days old and the vendor has ticks of {lookup.tick_days} days (lookup.tick_days): minute bars only"
    return Plan("bars", begin // bar * bar, end, reason)


@dataclass(frozen=True, slots=True)
class BarsFound:
    """The vendor's bars of the minutes of a gap, in numbers; volumes in shares or contracts."""

    bars: int
    volume: int
    lost: int
    """Volume of these bars that no stored print has."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a repair of a gap came to, in numbers."""

    asked: int
    """Symbols."""
    failed: int
    """Symbols that the vendor did not answer for, or not with a reply that can be read."""
    recovered: int
    """Rows of the history stream inside the gap and its margins."""
    missing: int
    """Prints that are missing by the vendor's own counters."""
    uncounted: int
    """Symbols whose counters say nothing: what lies within the margin of the bounds cannot be told apart."""
    bad_lines: int
    """Lines of replies that could not be read."""
    proven: int = 0
    """Prints that the feed's counters prove to be lost in the gap; 1 when they tell a volume only."""
    brought: int = 0
    """Prints of history that are stored inside the gap and its margins, whoever asked for them."""
    bars: BarsFound | None = None
    """What the vendor's bars say, where they are all that can be had."""
    message: str = ""
    """Why symbols failed."""


def proven_lost(gap: LedgerGap) -> int:
    """Prints that the feed's counters prove to be lost, from the evidence of whoever found the gap; 1 when only a volume is told."""
    try:
        prints, volume = (int(gap.evidence.get(name, 0)) for name in ("prints_missing", "volume_missing"))
    except (TypeError, ValueError):
        return 0
    return max(prints, int(volume > 0))


def judge(plan: Plan, found: Found, attempts: int = 1) -> tuple[RepairState, str, bool]:
    """State, residual, and whether another attempt would bring the same; `attempts`: earlier ones.

    A vendor's history may be some seconds behind: that it has nothing is believed the second time.
    """
    left = []
    if found.failed:
        left.append(f"{found.failed:,} of {found.asked:,} symbols got no answer ({found.message})")
    if found.bad_lines:
        left.append(f"{found.bad_lines:,} lines of the replies could not be read")
    if found.missing:
        left.append(f"{found.missing:,} prints are missing by the TickIDs")
    short = plan.step == "ticks" and not found.missing and found.proven > max(found.brought, found.recovered)
    if short:
        left.append(f"the feed's counters prove {found.proven:,} lost prints or more, history has {found.brought:,}")
    if found.uncounted:
        left.append(f"TickIDs of {found.uncounted:,} symbols do not count: prints at the bounds of the gap may be missing")
    if plan.step == "bars":
        left.append(f"{plan.reason}; {_bars_text(found.bars)}")
    # prints do not come back with bars, and what is in the journal of them is not asked for again
    again = bool(found.failed or (plan.step == "ticks" and (found.missing or found.bad_lines or short)))
    residual = "; ".join([*left, NO_QUOTES])
    if found.asked and found.failed == found.asked and not found.recovered:
        return "failed", residual, False
    if left:
        nothing = found.bad_lines and not (found.recovered or found.uncounted or plan.step == "bars")
        return ("failed" if nothing else "partial"), residual, not again
    return ("repaired", residual, True) if found.recovered else ("nothing_to_repair", residual, attempts > 0)


def _bars_text(found: BarsFound | None) -> str:
    if found is None or not found.bars:
        return "the vendor has none of these minutes"
    told = f"{found.bars:,} bars of its minutes are rows of history_bars"
    return f"{told}, {found.lost:,} of their volume of {found.volume:,} have no stored print"

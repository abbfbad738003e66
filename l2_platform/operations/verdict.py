"""The verdict over the platform: every promise with what was seen, folded from facts that are at hand. Pure.

A promise that cannot be looked at is not kept: not knowing is a finding. What does not belong here: reading (assets, resources), telling
people (`notifying.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from l2_platform.market.dates import date_text
from l2_platform.operations.room import Room
from l2_platform.operations.unclosed import Unclosed, tell
from l2_platform.settings import CloseSettings, GapSettings

NAMED_MAX = 5
"""Findings named in one message; the rest is counted."""
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise, as it is kept now."""

    name: str
    """The name of its check."""
    kept: bool
    seen: str
    """What was seen, and what to do when it is not kept."""
    serious: bool = True
    """Not kept it turns the verdict red; else it is a warning."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that one look found wrong."""

    what: str
    serious: bool
    message: str


OF_SYMBOLS: Final = frozenset({"symbol_silence", "missing_prints"})
"""Causes that concern single symbols: the link works."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A gap of the running session date."""

    stream: str
    open: bool
    seconds: float
    cause: str


def judge_findings(name: str, findings: Sequence[Finding], good: str) -> Promise:
    """A promise that nothing serious was found; warnings are told beside it."""
    worst = sorted(findings, key=lambda finding: not finding.serious)
    if not worst:
        return Promise(name, True, good)
    named = "; ".join(f"{finding.what}: {finding.message}" for finding in worst[:NAMED_MAX])
    more = f"; and {len(worst) - NAMED_MAX} more" if len(worst) > NAMED_MAX else ""
    return Promise(name, False, named + more, serious=worst[0].serious)


def judge_close(ended: int, unclosed: Sequence[Unclosed], now_ns: int, close: CloseSettings) -> Promise:
    """The newest session dates that ended (`ended`: how many are known) are closed, each within `close.due_s` of its end."""
    name = "dates_are_closed"
    if not ended:
        return Promise(name, True, "No session date has ended yet.")
    if not unclosed:
        return Promise(name, True, f"The last {ended} session dates that ended are closed.")
    told = {
        date.session_date: (
            f"{date_text(date.session_date)} {'changed' if date.changed_ns else 'ended'} {(now_ns - date.since_ns) / 3.6e12:.1f} h ago"
        )
        for date in unclosed
    }
    late = [date for date in unclosed if now_ns - date.since_ns > close.due_s * 1e9]
    if not late:
        named = ", ".join(told.values())
        return Promise(name, True, f"{named}; its close is due {close.due_s / 3600:.1f} h after the end.")
    named = "; ".join(
        f"{told[date.session_date]} and is not closed{' again' if date.changed_ns else ''}: {tell(date, close)}"
        for date in late[:NAMED_MAX]
    )
    return Promise(name, False, f"{named}. Launch job daily_close for its partition and read what it says.")


def judge_room(room: Room, last: int, dates_min: float) -> Promise:
    """There is room above the reserve, and for `dates_min` more session dates at the mean of the `last` ones."""
    name = "disk_has_room"
    free, reserve = room.free_bytes, room.reserve_bytes
    left = room.dates_left(last)
    told = f"{free / 2**30:,.1f} GiB are free, {reserve / 2**30:,.1f} GiB are the reserve"
    rate = "" if left is None else f"; at {(room.growth(last) or 0) / 2**30:,.2f} GiB a session date that is room for {left:,.0f} more"
    if free <= reserve:
        return Promise(name, False, f"{told}: JSONL is given up, then the rest. Make room on the disk of L2_HOME.")
    if left is not None and left < dates_min:
        what = f"{told}{rate} ({dates_min:g} are wanted). Make room on the disk of L2_HOME, or archive and drop old dates."
        return Promise(name, False, what)
    return Promise(name, True, f"{told}{rate}.")


def judge_daemons(ages_s: Mapping[str, float | None], allowed_s: float) -> Promise:
    """Every daemon of Dagster gave a sign of life within `allowed_s`; None: it never did."""
    name = "dagster_works"
    late = {daemon: age for daemon, age in ages_s.items() if age is None or age > allowed_s}
    if not late:
        oldest = max((age for age in ages_s.values() if age is not None), default=0.0)
        return Promise(name, True, f"{len(ages_s)} daemons, last sign of life {oldest:.0f} s ago at most.")
    named = ", ".join(f"{daemon} ({'never' if age is None else f'{age:.0f} s ago'})" for daemon, age in late.items())
    return Promise(name, False, f"No sign of life of {named}. Restart dagster-daemon (`l2 up`); log: logs/dagster-daemon.log.")


def judge_gaps(gaps: Sequence[Gap] | None, limits: GapSettings, no_halts: str = "") -> Promise:
    """No unexplained gap of the running date is longer than `gaps.warn_s`; None: the ledger could not be read.

    Serious is one of a stream that is open, and any longer than `gaps.error_s`. `no_halts`: why halts explain none that is open.
    """
    name = "no_gaps_today"
    if gaps is None:
        return Promise(name, False, "The ledger of gaps cannot be read: the warehouse does not answer. See asset warehouse, check alive.")
    told = [gap for gap in gaps if gap.open or gap.seconds > limits.warn_s]
    if not told:
        short = f" {len(gaps)} of at most {limits.warn_s:g} s are in the ledger." if gaps else ""
        return Promise(name, True, "No gap on the running session date." if not gaps else f"No gap counts today.{short}")
    seconds = sum(gap.seconds for gap in told)
    named = ", ".join(f"{gap.stream} {gap.seconds:,.1f} s ({gap.cause})" for gap in told[:NAMED_MAX])
    is_open = any(gap.open and gap.cause not in OF_SYMBOLS for gap in told)
    what = f"{len(told)} gaps on the running session date, {seconds:,.1f} s together: {named}. `l2 gaps` lists them"
    end = "; one is open: see the checks of its collector." if is_open else "; what is missing stays in the ledger."
    if no_halts:
        end += f" Halts explain nothing: {no_halts}."
    return Promise(name, False, what + end, serious=is_open or any(gap.seconds > limits.error_s for gap in told))


def verdict(promises: Sequence[Promise]) -> str:
    """`good`, `warnings` or `not good`."""
    if any(not promise.kept and promise.serious for promise in promises):
        return "not good"
    return "good" if all(promise.kept for promise in promises) else "warnings"

"""When a verdict and when numbers are written to the catalog: on change and now and then, and never too many.

Runless events stay in the event log for good, so that each worker has a bounded number a day: numbers once a minute, each check
every five minutes, and changes from a purse that fills slowly. A worker that flaps empties its own purse only; the last coin is for
turning red, so that what is shown meanwhile is the worse of its states. Pure. What does not belong here: judging, Dagster.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from l2_platform.assets.liveness import Pulse, Verdict, flat_numbers

NS: Final = 10**9
CHECK_EVERY_NS: Final = 300 * NS
"""An unchanged verdict is reported again after this, ns."""
NUMBERS_EVERY_NS: Final = 60 * NS
"""Numbers are reported this often, ns."""
PURSE: Final = 40.0
"""Changes that a worker may report at once: a death and the return from it are four to eight."""
NOT_KNOWN: Final = "not known"
"""What cannot be judged while the process is gone: no change by itself, check `alive` tells it."""
COIN_NS: Final = 360 * NS
"""A coin comes back after this: ten an hour, ns."""
COUNTERS: Final = ("lines", "bytes", "rows", "requests")
"""Numbers of a heartbeat that only grow: their rates are reported too."""


@dataclass(frozen=True, slots=True)
class CheckEvent:
    """Report a verdict of a worker."""

    worker: str
    check: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class NumbersEvent:
    """Report the numbers of a worker."""

    worker: str
    numbers: Mapping[str, int | float]


Event = CheckEvent | NumbersEvent


@dataclass(frozen=True, slots=True)
class Report:
    """What could be reported of a worker now."""

    worker: str
    verdicts: Mapping[str, Verdict]
    pulse: Pulse | None
    phase: float
    """0 to 1: spreads the workers over the period, so that no tick writes everything."""


def reports_of(report: Report, kept: Any, now_ns: int) -> tuple[list[Event], dict[str, Any]]:
    """(events, what to keep until the next time)."""
    before: Mapping[str, Any] = kept if isinstance(kept, dict) else {}
    events: list[Event] = []
    coins, filled_ns = _purse(before, now_ns)
    checks: dict[str, list[Any]] = {}
    for place, (check, verdict) in enumerate(report.verdicts.items()):
        said = [verdict.passed, verdict.serious, verdict.state]
        last, at_ns = _last(before, check)
        if last is None:
            # the first time at once, the next ones spread
            events.append(CheckEvent(report.worker, check, verdict))
            at_ns = now_ns - int((report.phase + place / len(report.verdicts)) % 1 * CHECK_EVERY_NS)
        elif now_ns - at_ns >= CHECK_EVERY_NS or at_ns > now_ns:
            events.append(CheckEvent(report.worker, check, verdict))
            at_ns = now_ns if at_ns > now_ns or now_ns - at_ns >= 2 * CHECK_EVERY_NS else at_ns + CHECK_EVERY_NS
        elif last != said and verdict.state != NOT_KNOWN and coins >= (1 if _is_worse(last, said) else 2):
            events.append(CheckEvent(report.worker, check, verdict))
            coins -= 1
        else:
            said = last
        checks[check] = [*said, at_ns]
    counted_ns, counts = _number(before, "counted"), before.get("counts")
    pulse = report.pulse
    if pulse is not None and pulse.process_exists and (now_ns - counted_ns >= NUMBERS_EVERY_NS or counted_ns > now_ns):
        numbers = flat_numbers(pulse, now_ns)
        events.append(NumbersEvent(report.worker, numbers | _rates(numbers, counts, now_ns - _number(before, "measured"))))
        counts = {name: numbers[name] for name in ("pid", *COUNTERS) if name in numbers}
        late = counted_ns > now_ns or now_ns - counted_ns >= 2 * NUMBERS_EVERY_NS
        counted_ns = now_ns - (int(report.phase * NUMBERS_EVERY_NS) if late else 0)
        return events, _kept(checks, coins, filled_ns, counted_ns, now_ns, counts)
    return events, _kept(checks, coins, filled_ns, counted_ns, _number(before, "measured"), counts)


def _kept(
    checks: Mapping[str, list[Any]], coins: float, filled_ns: int, counted_ns: int, measured_ns: int, counts: Any
) -> dict[str, Any]:
    return {
        "checks": checks, "coins": round(coins, 3), "filled": filled_ns, "counted": counted_ns, "measured": measured_ns,
        "counts": counts,
    }  # fmt: skip


def _is_worse(before: list[Any], now: list[Any]) -> bool:
    def badness(said: list[Any]) -> int:
        return 0 if said[0] else 2 if said[1] else 1

    return badness(now) > badness(before)


def _purse(before: Mapping[str, Any], now_ns: int) -> tuple[float, int]:
    coins, filled_ns = before.get("coins"), _number(before, "filled")
    if not isinstance(coins, int | float) or isinstance(coins, bool) or not 0 <= filled_ns <= now_ns or filled_ns == 0:
        return PURSE, now_ns
    return min(PURSE, coins + (now_ns - filled_ns) / COIN_NS), now_ns


def _last(before: Mapping[str, Any], check: str) -> tuple[list[Any] | None, int]:
    checks = before.get("checks")
    item = checks.get(check) if isinstance(checks, dict) else None
    if not isinstance(item, list) or len(item) != 4 or not isinstance(item[3], int):
        return None, 0
    return item[:3], item[3]


def _rates(numbers: Mapping[str, float], before: Any, elapsed_ns: int) -> dict[str, float]:
    """`lines_per_s` and so on since the last report of the same process."""
    if not isinstance(before, dict) or before.get("pid") != numbers.get("pid") or elapsed_ns <= 0:
        return {}
    grown = {
        name: numbers[name] - before[name] for name in COUNTERS if name in numbers and isinstance(before.get(name), int)
    }
    return {f"{name}_per_s": round(count * 1e9 / elapsed_ns, 1) for name, count in grown.items() if count >= 0}


def _number(item: Mapping[str, Any], name: str) -> int:
    value = item.get(name, 0)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0

"""Figure `recall`: which of many planted faults the checks find, and how often they flag what is right.

What does not belong here: clean days (market.py), kinds of faults (prints, quoted, rows, absent, stores), audits (rounds.py), the page
with the table (page.py).
"""

from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from typing import Final

from benchmarks.figure import Context, Result, Row, Target, figure
from benchmarks.recall.judging import Share, total
from benchmarks.recall.rounds import Part, Tally, run_part
from benchmarks.recall.stores import run_stores
from l2_platform.market.sessions import load_calendar

FIRST: Final = 20251028
"""From here on there are the end of daylight saving time, a holiday and a half-day within a month."""
HISTORY: Final = 4
"""Dates in front of the judged ones: what is usual."""
RECALL: Final = 0.99
ALARMS: Final = 0.01
STORES: Final = "Faults of single stores"


@figure("recall", title="Recall of the checks", unit="%", long=True, order=67)
def recall(ctx: Context) -> Result:
    """Faults of many kinds are planted into clean generated session dates in the embedded warehouse, each into a symbol (or stream) of its
    own, and the dates are audited. A fault is found when a check that is made for it names its symbol (or stream) and a time that
    overlaps; any other finding counts for nothing. The same dates without a fault are audited, too: each check and symbol (or streams)
    that is flagged there is a false alarm. The dates have quiet and busy symbols, a half-day, the end of daylight saving time, auctions,
    halts, late reports, jumps, momentary crossings and bursts of latency. Then rows of single stores are lost, doubled, added and altered
    after the delivery of a generated day, and `l2 reconcile` must name the key of each under its table, store and kind of difference.
    Options: `days` (20), `rounds` (2 of each kind a day: 40 of a kind; of streams one for each stream a day), `symbols` (52), `seed`
    (11), `workers` (2: processes that share the dates, each with a warehouse of its own), `stores` (40 of each kind).
    """
    defaults = {"days": ctx.pick(1, 20), "rounds": ctx.pick(1, 2), "symbols": ctx.pick(4, 52), "seed": 11, "workers": ctx.pick(1, 2),
                "stores": ctx.pick(4, 40)}  # fmt: skip
    days, rounds, symbols, seed, workers, many = (int(ctx.options.get(name, str(value))) for name, value in defaults.items())
    dates = dates_from(FIRST, HISTORY + days)
    tally = Tally()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        parts = []
        for number in range(workers):
            first, last = HISTORY + days * number // workers, HISTORY + days * (number + 1) // workers
            part = Part(ctx.scratch / str(number), dates[first - HISTORY : first], dates[first:last], symbols, rounds, seed)
            parts.append(pool.submit(run_part, part))
        for future in parts:
            tally.add(future.result())
    stores = run_stores(ctx.scratch / "stores", seed, many, ctx.pick(400, 20_000))
    return Result(
        rows=rows_of(tally), notes=notes_of(tally), more={STORES: stores_of(stores), "False alarms": alarms_of(tally)},
        targets=[*targets_of(tally, days), *store_targets(stores)], limit="the audits: windows and groups of the engine on all cores",
    )  # fmt: skip


def dates_from(first: int, many: int) -> list[date]:
    """Session dates of the New York Stock Exchange."""
    calendar, found = load_calendar("XNYS"), [first]
    while len(found) < many:
        found.append(calendar.next_session(found[-1]))
    return [date(number // 10_000, number // 100 % 100, number % 100) for number in found]


def rows_of(tally: Tally) -> list[Row]:
    """A row a kind, and all of them."""
    rows = [_row(name, tally.of(name), ", ".join(sorted(tally.finders.get(name, ())))) for name in sorted(tally.planted)]
    return [*rows, _row("all", total(tally.of(name) for name in tally.planted), "")]


def _row(name: str, share: Share, checks: str) -> Row:
    low, high = share.interval
    return {"kind": name, "found by": checks, "planted": share.count, "found": share.hits, "recall, %": 100 * share.share,
            "from, %": 100 * low, "to, %": 100 * high}  # fmt: skip


def stores_of(stores: dict[str, Share]) -> list[Row]:
    """A row a kind of fault of a single store."""
    return [_row(name, share, "l2 reconcile") for name, share in stores.items()]


def store_targets(stores: dict[str, Share]) -> list[Target]:
    """Of a whole run only: comparisons are exact, none may be missed."""
    share = total(stores.values())
    if min(one.count for one in stores.values()) < 40:
        return []
    what = f"every fault of a single store, {len(stores)} kinds, is named by `l2 reconcile`"
    return [Target(what, f"{share} of {share.count:,}", share.hits == share.count)]


def alarms_of(tally: Tally) -> list[Row]:
    """By check."""
    names = sorted({check for _, check, _ in tally.false})
    return [{"check": name, "flagged": sum(check == name for _, check, _ in tally.false)} for name in names]


def notes_of(tally: Tally) -> list[str]:
    """What was missed, in words."""
    missed = [f"{plant.kind.name} in {plant.target}, {(plant.span[1] - plant.span[0]) / 1e9:,.1f} s" for plant in tally.missed]
    return [f"{tally.audits} audits of {tally.rows:,} rows in all", *([f"Missed: {'; '.join(missed)}."] if missed else [])]


def targets_of(tally: Tally, days: int) -> list[Target]:
    """Of a whole run only."""
    all_kinds, rate = total(tally.of(name) for name in tally.planted), tally.alarm_rate
    if days < 20 or all_kinds.count < 1000:
        return []
    return [
        Target(f"≥ {RECALL:.0%} of ≥ 1,000 planted faults of ≥ 25 kinds are found", f"{all_kinds} of {all_kinds.count:,}",
               all_kinds.share >= RECALL and min(tally.planted.values()) >= 40 and len(tally.planted) >= 25),
        Target(f"≤ {ALARMS:.0%} of check × symbol × day is flagged on 20 clean days", f"{rate} of {rate.count:,}", rate.share <= ALARMS),
    ]  # fmt: skip


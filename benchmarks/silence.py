"""Figure `silence`: how often the search for silent symbols is wrong, and how soon it is right.

Symbol days of seeded arrivals and of recorded ticks go through the very rules of the delivery, line by line; nothing stops in them, so
every silence that opens is false. Then symbols of known rates stop, and the time until it is told is measured. The clock of the stream
is kept going by lines of a further symbol that do not count as arrivals. What does not belong here: CPU time (load, passage).
"""

import gzip
from collections.abc import Iterator, Sequence
from math import gamma
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.figure import Context, Result, Row, Spread, figure
from l2_platform.delivery.gap_kernels import ARRIVAL, SEEN
from l2_platform.delivery.silence import SilenceRules, SilenceWatch

Times = npt.NDArray[np.float64]
NS: Final = 1_000_000_000
DAY_S: Final = 23_400.0
BEGIN: Final = 1_795_185_000 * NS
BEAT_S: Final = 0.2
RECORDED: Final = "iqfeed_ticks_2021-03-01_to_03.csv.gz"
"""Three days of one stock, in the folder of recorded market data."""
THINNED: Final = (1, 2, 5, 10, 20)
"""Every so-many-th tick, from each first one: slower symbols with the same bursts."""
KINDS: Final = ("poisson", "edges", "falls", "weibull", "lognormal", "pareto:2.2", "lomax:2.2", "pareto:1.5")
"""Arrivals of simulated days, as `arrivals` names them."""
RATES: Final = (0.1, 1.0, 10.0, 60.0)
"""Mean pauses of symbols that stop, s."""
STOPS: Final = (600.0, 3600.0, 10_800.0)
"""When they stop, s after the open."""


def arrivals(kind: str, mean: float, source: np.random.Generator, seconds: float = DAY_S) -> Times:
    """Times of the lines of one symbol, s; `kind`: poisson, edges, falls, weibull, lognormal, lomax:a or pareto:a (a: tail exponent)."""
    count = int(seconds / mean * 2) + 50
    name, _, exponent = kind.partition(":")
    power = float(exponent or 2.2)
    match name:
        case "weibull":
            pauses = mean / gamma(3) * source.weibull(0.5, count)
        case "lognormal":
            pauses = mean * np.exp(-1.125) * source.lognormal(0.0, 1.5, count)
        case "pareto":
            pauses = mean * (power - 1) / power * (source.pareto(power, count) + 1)
        case "lomax":
            pauses = mean * (power - 1) * source.pareto(power, count)
        case _:
            pauses = source.exponential(mean, count)
    times = np.cumsum(pauses)
    if name == "edges":
        # four times as busy at the open and the close as at noon
        grid = np.linspace(0.0, seconds, 1001)
        busy = np.cumsum(0.5 + 1.5 * (2 * grid / seconds - 1) ** 2) * (grid[1] - grid[0])
        times = np.interp(times, busy, grid, right=np.inf)
    elif name == "falls":
        # for minutes the rate is a tenth
        spans = np.ravel([[source.exponential(900.0), source.exponential(300.0)] for _ in range(60)])
        own = np.cumsum(spans * np.tile([1.0, 0.1], 60))
        times = np.interp(times, np.concatenate([[0.0], own]), np.concatenate([[0.0], np.cumsum(spans)]), right=np.inf)
    return times[times < seconds]


def silences(symbols: Sequence[Times], seconds: float = DAY_S, windows: list[tuple[int, int]] | None = None) -> Iterator[tuple[int, float]]:
    """(symbol, time in s) of each silence that opens in a stream of these symbols, looked for each second."""
    watch = SilenceWatch(SilenceRules(), windows)
    count = len(symbols)
    watch.grow(count + 1)
    beats = np.arange(0.0, seconds, BEAT_S)
    times = np.concatenate([*symbols, beats])
    numbers = np.repeat(np.arange(count + 1), [*(len(each) for each in symbols), len(beats)]).astype(np.int32)
    order = np.argsort(times, kind="stable")
    times, numbers = times[order], numbers[order]
    stamps = BEGIN + (times * NS).astype(np.int64)
    classes = np.where(numbers == count, SEEN, ARRIVAL).astype(np.uint8)
    seqs = np.arange(1, len(times) + 1).astype(np.uint64)
    ends = np.searchsorted(times, np.arange(1.0, seconds + 1.0))
    start = 0
    for second, stop in enumerate(ends.tolist(), 1):
        watch.note(classes, numbers, stamps, seqs, start, stop, counting=True)
        start = stop
        now = BEGIN + second * NS
        for slot in watch.returned(now).tolist():
            watch.calm(slot, 0.0, learn=False)
        if watch.enter(now):
            for slot in watch.quiet_symbols(count).tolist():
                yield slot - 1, float(second)


def market(kind: str, symbols: int, seed: int) -> list[Times]:
    """A day of symbols with one line in 2 s to one in 15 min."""
    source = np.random.default_rng(seed)
    return [arrivals(kind, float(mean), source) for mean in np.exp(source.uniform(np.log(2.0), np.log(900.0), symbols))]


def recorded(folder: Path) -> Iterator[tuple[list[Times], float, list[tuple[int, int]]]]:
    """Each recorded day, 04:00 to 20:00: its ticks thinned, how long it is, and its windows."""
    days = dict[str, list[float]]()
    with gzip.open(folder / RECORDED, "rt", encoding="ascii") as lines:
        for line in lines:
            day, _, rest = line.partition(" ")
            if not rest:
                continue
            hour, minute, second = rest.split(",", 1)[0].split(":")
            days.setdefault(day, []).append((int(hour) - 4) * 3600 + int(minute) * 60 + float(second))
    windows = [(BEGIN + int(start * 3600) * NS, BEGIN + int(end * 3600) * NS) for start, end in ((0, 5.5), (5.5, 12), (12, 16))]
    for ticks in days.values():
        times = np.sort(np.array(ticks))
        yield [times[first::step] for step in THINNED for first in range(step)], 57_600.0, windows


def delays(each: int, seed: int, seconds: float = DAY_S) -> dict[tuple[float, float], list[float]]:
    """(mean pause, when it stopped) → how long after its last line each symbol was told, s; inf: not on that day."""
    source = np.random.default_rng(seed)
    plan = [(mean, stop) for mean in RATES for stop in STOPS if stop < seconds for _ in range(each)]
    symbols = [times[times < stop] for mean, stop in plan for times in [arrivals("poisson", mean, source)]]
    told: dict[int, float] = {}
    for symbol, second in silences(symbols, seconds):
        told.setdefault(symbol, second)
    found: dict[tuple[float, float], list[float]] = {}
    for number, key in enumerate(plan):
        found.setdefault(key, []).append(told.get(number, np.inf) - float(symbols[number][-1]))
    return found


@figure("silence", title="Silence of symbols", unit="false silences", long=True, order=67)
def silence(ctx: Context) -> Result:
    """Days of 6.5 h of 100 symbols with one line in 2 s to one in 15 min, and the recorded ticks of a stock as they are and thinned,
    through the search of the delivery, looked at each second: nothing stops in them, so every silence is false. Then symbols of known
    mean pauses stop, 120 in the stream, and the time from their last line until they are told is measured. No time here is the
    machine's: every run gives the same numbers. Options: `days` of each kind (10), `kinds` (all, joined by commas), `stops` (10)
    symbols of each pause and moment.
    """
    days, count = int(ctx.options.get("days", str(ctx.pick(1, 10)))), ctx.pick(3, 100)
    kinds = ctx.options["kinds"].split(",") if "kinds" in ctx.options else ctx.pick(KINDS[:2], KINDS)
    seconds = ctx.pick(1800.0, DAY_S)
    rows: list[Row] = []
    for kind in kinds:
        found = sum(sum(1 for _ in silences(market(kind, count, seed), seconds)) for seed in range(days))
        rows.append({"arrivals": kind, "symbol days": days * count, "false silences": float(found)})
    if ctx.market_data is not None and not ctx.is_smoke:
        real = list(recorded(ctx.market_data))
        found = sum(sum(1 for _ in silences(*day)) for day in real)
        rows.append({"arrivals": "recorded ticks", "symbol days": sum(len(day[0]) for day in real), "false silences": float(found)})
    stops = int(ctx.options.get("stops", str(ctx.pick(1, 10))))
    told = list[Row]()
    for (mean, stop), times in delays(stops, 1, seconds).items():
        inside = [each for each in times if each < np.inf]
        told.append({
            "mean pause, s": f"{mean:g}", "stopped after, s": f"{stop:g}", "symbols": len(times),
            "not told": float(len(times) - len(inside)), "told after, s": Spread.of(inside, "less") if inside else "",
        })  # fmt: skip
    return Result(rows=rows, more={"How long after its last line a symbol that stops is told": told})

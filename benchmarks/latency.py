"""Figures `latency` and `rate`: how long a message takes to each stage, at fixed rates and over a range of them."""

import math

import numpy as np

from benchmarks.figure import Context, Plot, Result, Row, Series, Target, figure
from benchmarks.load import Load, Wish, run_load
from benchmarks.passage import STAGES

SYMBOLS = 10_000
RATES = (35_000, 100_000)
CURVE = (1_000, 3_000, 10_000, 35_000, 70_000, 100_000, 150_000, 200_000, 250_000)


@figure("latency", title="Latency of each stage under an open load", unit="ms", long=True, order=62)
def latency(ctx: Context) -> Result:
    """The simulated market, in a process of its own, sends by a fixed schedule whatever happens behind it; each line carries the time at
    which it should have gone out, and all latencies count from there, so that a stall shows in every message that it delayed. A
    message is "journal durable" when the collector has published its fdatasync, in the "book" when the delivery's books have it,
    in "JSONL" when its file has it, "queryable" when the insert that is visible to the next query has returned. All processes,
    the market too, share the machine. Options: `seconds` (60), `rates` (35000,100000), `symbols` (10000), `jsonl_ms` (100).
    """
    symbols = int(ctx.options.get("symbols", str(ctx.pick(10, SYMBOLS))))
    rates = [int(rate) for rate in ctx.options.get("rates", ctx.pick("500", ",".join(map(str, RATES)))).split(",")]
    seconds = float(ctx.options.get("seconds", str(ctx.pick(1.5, 60.0))))
    variables = {"L2_JSONL__L2_INTERVAL_MS": ctx.options.get("jsonl_ms", "100")}
    loads = [
        run_load(ctx, f"latency-{rate}", Wish(symbols, rate, seconds, ctx.pick(0.5, 10.0), dict(variables)))
        for rate in rates
    ]
    rows = [row for load in loads for row in _rows(load)]
    plots = [
        Plot(
            f"stages-{int(load.wish.rate)}", f"Latency at {load.wish.rate:,.0f} messages/s, {symbols:,} symbols", "percentile", "ms",
            _percentiles(load), log_y=True,
        )
        for load in loads
    ]  # fmt: skip
    notes = [note for load in loads for note in notes_of(load)]
    return Result(rows=rows, notes=notes, plots=plots, targets=_targets(loads), limit=limit_of(loads[-1]))


@figure("rate", title="Latency against rate", unit="ms", long=True, order=63)
def rate(ctx: Context) -> Result:
    """The same measurement at rising rates until a delivery is more than a second behind; 1,000 symbols, JSONL at 100 ms. Options:
    `seconds` (20 each), `rates`, `symbols`.
    """
    symbols = int(ctx.options.get("symbols", str(ctx.pick(10, 1_000))))
    rates = [int(part) for part in ctx.options.get("rates", ctx.pick("500", ",".join(map(str, CURVE)))).split(",")]
    seconds = float(ctx.options.get("seconds", str(ctx.pick(1.0, 20.0))))
    loads: list[Load] = []
    for number in rates:
        loads.append(run_load(ctx, f"rate-{number}", Wish(symbols, number, seconds, ctx.pick(0.5, 5.0))))
        if not loads[-1].kept_up:
            break
    rows: list[Row] = []
    for load in loads:
        row: Row = {"offered/s": int(load.wish.rate), "delivered/s": load.rate}
        for stage in STAGES:
            row |= {
                f"{stage} {name}": value for name, value in summary(load, stage).items() if name in {"p50 ms", "p99 ms"}
            }
        rows.append(row | {"cores": sum(load.cpu.values()), "kept up": "yes" if load.kept_up else "no"})
    good = [load for load in loads if load.kept_up]
    series = [
        Series(f"{stage} {mark}", [load.wish.rate for load in good], [summary(load, stage)[f"{mark} ms"] for load in good])
        for stage in ("book", "queryable") for mark in ("p50", "p99")
    ]  # fmt: skip
    cores = [
        Series(name, [load.wish.rate for load in loads], [load.cpu[name] for load in loads])
        for name in (loads[0].cpu if loads else ())
    ]
    plots = [
        Plot("latency", "Latency against rate", "messages/s", "ms", series, log_x=True, log_y=True),
        Plot("cores", "Cores of each process against rate", "messages/s", "cores", cores, log_x=True),
    ]
    return Result(
        rows=rows, plots=plots, notes=[note for load in loads for note in notes_of(load)], limit=limit_of(loads[-1])
    )


def summary(load: Load, stage: str) -> dict[str, float]:
    """mean, p50, p99, p99.9, max of a stage, ms."""
    assert load.passage is not None
    return load.passage.summary(stage)


def notes_of(load: Load) -> list[str]:
    """What a reader must know of one run."""
    assert load.passage is not None
    cores = ", ".join(f"{name} {value:.2f}" for name, value in sorted(load.cpu.items(), key=lambda item: -item[1]))
    return [
        f"{load.wish.rate:,.0f}/s, {load.wish.symbols:,} symbols: N = {len(load.passage.sent):,} sampled messages in {load.seconds:.0f} s;"
        f" lost {load.lost}, duplicated {load.duplicated}; the market was {load.behind_ms:.1f} ms behind its schedule at the end;"
        f" cores: {cores}."
    ]


def limit_of(load: Load) -> str:
    """The process and part that take most."""
    busiest = max(load.cpu, key=lambda name: load.cpu[name])
    total = sum(load.cpu.values())
    parts = load.parts.get(busiest, {})
    most = next(iter(parts), "")
    tail = f", in it {most} with {parts[most][2] / load.seconds:.2f}" if most else ""
    inserts = load.parts.get("deliver-clickhouse", {}).get("insert", (0.0,))[0] / load.seconds
    if busiest == "warehouse" and inserts:
        cost = 1e3 * load.cpu[busiest] / inserts
        tail = f" for {inserts:.0f} inserts a second, {cost:.0f} ms of CPU each with the merges they bring"
    return f"CPU: {total:.2f} cores in all at {load.wish.rate:,.0f}/s; {busiest} takes {load.cpu[busiest]:.2f}{tail}."


def _rows(load: Load) -> list[Row]:
    rows: list[Row] = []
    for stage in STAGES:
        row: Row = {"messages/s": int(load.wish.rate), "stage": stage}
        rows.append(row | dict(summary(load, stage)))
    return rows


def _percentiles(load: Load) -> list[Series]:
    assert load.passage is not None
    marks = (1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99)
    found = []
    for stage in STAGES:
        values = np.percentile(load.passage.stages[stage] / 1e6, marks)
        found.append(Series(stage, [f"{mark:g}" for mark in marks], [float(max(value, 1e-3)) for value in values]))
    return found


def _targets(loads: list[Load]) -> list[Target]:
    load = loads[0]
    if not math.isclose(load.wish.rate, RATES[0]):
        return []
    found = []
    for stage, mean, p99 in (("book", 5, 15), ("queryable", 60, 150)):
        numbers = summary(load, stage)
        reached = numbers["mean ms"] <= mean and numbers["p99 ms"] <= p99
        text = f"mean {numbers['mean ms']:.1f} ms, p99 {numbers['p99 ms']:.1f} ms"
        found.append(
            Target(
                f"→ {stage} at 35,000/s: mean ≤ {mean} ms, p99 ≤ {p99} ms",
                text,
                reached,
                "" if reached else limit_of(load),
            )
        )
    return found

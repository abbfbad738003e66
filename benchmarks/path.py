"""Figures `path` and `path-every-change`: the whole path at a high rate for a long time, and where each microsecond goes."""

from benchmarks.figure import Context, Plot, Result, Row, Series, Target, figure
from benchmarks.latency import limit_of, notes_of, summary
from benchmarks.load import Load, Wish, run_load

NAMED_CORES_MIN = 0.002
"""Parts that take less of a core are added up as "smaller parts"."""


@figure("path", title="Whole path at full speed", unit="µs of CPU a record", long=True, order=60)
def path(ctx: Context) -> Result:
    """Simulated market → sockets → journal → books → ClickHouse (visible) and JSONL at 100 ms, all real processes on this machine. A
    record is one line of the wire; it counts when both deliveries have stored it. CPU of every part of the workers is measured
    around the real methods, by thread, without the parts inside it; "rest" is what the process used beside them (interpreter, threads,
    garbage). Lost and duplicated: the market's own counts against the rows. Options: `seconds` (600), `rate` (200000), `symbols`
    (1000), `jsonl_ms` (100).
    """
    seconds = float(ctx.options.get("seconds", str(ctx.pick(1.5, 600.0))))
    wish = Wish(
        int(ctx.options.get("symbols", str(ctx.pick(10, 1_000)))), float(ctx.options.get("rate", str(ctx.pick(500, 200_000)))), seconds,
        ctx.pick(0.5, 10.0), {"L2_JSONL__L2_INTERVAL_MS": ctx.options.get("jsonl_ms", "100")},
    )  # fmt: skip
    return _result(run_load(ctx, "path", wish), 200_000)


@figure("path-every-change", title="Whole path, JSONL of every change", unit="µs of CPU a record", long=True, order=61)
def path_every_change(ctx: Context) -> Result:
    """The same with a JSONL record and a book_snapshots row for every message that changes the top ten levels. Options: `seconds` (60),
    `rate` (150000), `symbols` (1000).
    """
    seconds = float(ctx.options.get("seconds", str(ctx.pick(1.0, 60.0))))
    wish = Wish(
        int(ctx.options.get("symbols", str(ctx.pick(10, 1_000)))), float(ctx.options.get("rate", str(ctx.pick(500, 150_000)))), seconds,
        ctx.pick(0.5, 5.0), {"L2_JSONL__L2_INTERVAL_MS": "0"},
    )  # fmt: skip
    return _result(run_load(ctx, "path-every-change", wish), 150_000)


def _result(load: Load, wanted: int) -> Result:
    rows = _rows(load)
    lag = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in load.lag.items())
    notes = [
        *notes_of(load),
        f"{load.rate:,.0f} records/s in both sinks over {load.seconds:.0f} s of {load.wish.rate:,.0f}/s offered; behind at the end: {lag}; "
        f"drained {load.drained_s:.1f} s after the collectors stopped.",
    ]
    stages = [str(row["process"]) + " " + str(row["part"]) for row in rows]
    plot = Plot(
        "parts",
        "CPU of each part",
        "part",
        "µs a record",
        [Series("CPU", stages, [float(str(row["µs a record"])) for row in rows])],
        kind="bars",
    )
    return Result(rows=rows, notes=notes, plots=[plot], targets=_targets(load, wanted), limit=limit_of(load))


def _rows(load: Load) -> list[Row]:
    """CPU of every part that is worth a line, process by process."""
    records = max(load.wish.rate * load.seconds, 1.0)
    rows: list[Row] = []
    for name, cores in sorted(load.cpu.items(), key=lambda item: -item[1]):
        parts = load.parts.get(name, {})
        rest = cores * load.seconds
        small = 0.0
        for part, (calls, wall, cpu) in parts.items():
            rest -= cpu
            if cpu / load.seconds < NAMED_CORES_MIN:
                small += cpu
                continue
            rows.append(
                _row(name, part, cpu, load)
                | {"calls/s": calls / load.seconds, "wall ms a call": 1e3 * wall / max(calls, 1.0)}
            )
        if small:
            rows.append(_row(name, "smaller parts", small, load))
        rows.append(_row(name, "rest" if parts else "all", max(rest, 0.0), load))
    rows.append(
        {
            "process": "all",
            "part": "all",
            "µs a record": 1e6 * sum(load.cpu.values()) * load.seconds / records,
            "cores": sum(load.cpu.values()),
        }
    )
    return rows


def _row(process: str, part: str, cpu_s: float, load: Load) -> Row:
    return {
        "process": process,
        "part": part,
        "µs a record": 1e6 * cpu_s / (load.wish.rate * load.seconds),
        "cores": cpu_s / load.seconds,
    }


def _targets(load: Load, wanted: int) -> list[Target]:
    if load.wish.rate < wanted:
        return []
    slow = limit_of(load)
    held = load.kept_up and load.rate >= 0.99 * wanted
    p99 = summary(load, "queryable")["p99 ms"]
    clean = load.lost == 0 and load.duplicated == 0
    return [
        Target(
            f"≥ {wanted:,} records/s sustained",
            f"{load.rate:,.0f}/s for {load.seconds:.0f} s",
            held,
            "" if held else slow,
        ),
        Target("queryable p99 ≤ 300 ms", f"{p99:.0f} ms", p99 <= 300, "" if p99 <= 300 else slow),
        Target("0 lost, 0 duplicated", f"{load.lost} lost, {load.duplicated} duplicated", clean),
    ]

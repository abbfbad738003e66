"""Figures `memory` and `memory-flat`: resident memory of each process, against symbols and rate, and over half an hour."""

from benchmarks.figure import Context, Plot, Result, Row, Series, Target, figure
from benchmarks.load import Load, Wish, run_load

OURS = ("collector-", "deliver-")
"""Processes that the bounds are about; the warehouse has a limit of its own (`warehouse.memory_bytes_max`)."""
BOUND_MB = 1_500
FLAT_MB = 64
SETTLED = 0.1
"""Part of the run after which every buffer has reached its size."""


@figure("memory", title="Memory against symbols and rate", unit="MB", long=True, order=66)
def memory(ctx: Context) -> Result:
    """Greatest resident memory of each process in the measured seconds. Options: `seconds` (20 each)."""
    seconds = float(ctx.options.get("seconds", str(ctx.pick(1.0, 20.0))))
    sizes = ctx.pick(
        ((10, 500),),
        (
            (100, 1_000),
            (1_000, 1_000),
            (10_000, 1_000),
            (100, 35_000),
            (1_000, 35_000),
            (10_000, 35_000),
            (1_000, 100_000),
        ),
    )
    rows: list[Row] = []
    for symbols, rate in sizes:
        load = run_load(ctx, f"memory-{symbols}-{rate}", Wish(symbols, rate, seconds, ctx.pick(0.5, 5.0), traced=False))
        peak = {name: max(sample[name] for sample in load.rss_mb) for name in load.rss_mb[0]}
        rows.append({"symbols": symbols, "messages/s": rate, "collectors + deliveries": _ours(peak), **peak})
    worst = max(float(str(row["collectors + deliveries"])) for row in rows)
    target = Target(
        f"collectors and deliveries ≤ {BOUND_MB:,} MB at 10,000 symbols", f"{worst:.0f} MB", worst <= BOUND_MB
    )
    note = "Shared pages (interpreter, numpy, the engine's code) count in every process that maps them."
    return Result(
        rows=rows,
        notes=[note],
        targets=[target],
        limit="Books and orders of 10,000 symbols, and the buffers of one read and one write.",
    )


@figure("memory-flat", title="Memory over half an hour", unit="MB", long=True, order=67)
def memory_flat(ctx: Context) -> Result:
    """10,000 symbols at 35,000 messages/s; resident memory of each process every 5 s. Growth is the greatest of the last quarter less
    the greatest of the quarter after the first tenth of the run. Options: `seconds` (1800), `rate`, `symbols`.
    """
    seconds = float(ctx.options.get("seconds", str(ctx.pick(1.5, 1_800.0))))
    wish = Wish(
        int(ctx.options.get("symbols", str(ctx.pick(10, 10_000)))), float(ctx.options.get("rate", str(ctx.pick(500, 35_000)))), seconds,
        ctx.pick(0.5, 20.0), traced=False, memory_every_s=ctx.pick(0.2, 5.0),
    )  # fmt: skip
    load = run_load(ctx, "memory-flat", wish)
    rows, growth = _growth(load)
    minutes = [seconds / 60 * index / max(len(load.rss_mb) - 1, 1) for index in range(len(load.rss_mb))]
    series = [Series(name, minutes, [sample[name] for sample in load.rss_mb]) for name in load.rss_mb[0]]
    target = Target(
        f"collectors and deliveries flat within {FLAT_MB} MB for 30 min",
        f"{growth:+.0f} MB in {load.seconds / 60:.1f} min",
        growth <= FLAT_MB,
    )
    notes = [
        f"lost {load.lost}, duplicated {load.duplicated}; at the end behind by {max(load.lag.values()):.2f} s of the load."
    ]
    return Result(
        rows=rows,
        notes=notes,
        plots=[Plot("time", "Resident memory", "minutes", "MB", series)],
        targets=[target] if seconds >= 1_800 else [],
    )


def _growth(load: Load) -> tuple[list[Row], float]:
    """One row a process, and the growth of ours together, MB."""
    samples = load.rss_mb
    first = int(len(samples) * SETTLED)
    quarter = max(1, len(samples) // 4)
    early, late = samples[first : first + quarter], samples[-quarter:]
    rows: list[Row] = []
    for name in samples[0]:
        before, after = max(sample[name] for sample in early), max(sample[name] for sample in late)
        rows.append({"process": name, "early MB": before, "late MB": after, "growth MB": after - before})
    return rows, max(map(_ours, late)) - max(map(_ours, early))


def _ours(sample: dict[str, float]) -> float:
    return sum(value for name, value in sample.items() if name.startswith(OURS))

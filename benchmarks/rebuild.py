"""Figure `rebuild`: a stored journal into empty sinks, as an import or a rebuild of a day does it."""

import os

from benchmarks.figure import Context, Result, Row, Target, figure
from benchmarks.lines import SESSION_DATE, GeneratedMarket
from benchmarks.load import Wish, stack_for
from l2_platform.journal.importing import write_finished_stream

STREAM = "iqfeed-depth-import-0000bebe"
WANTED = 500_000
FRAME_LINES = 1_000


@figure("rebuild", title="Rebuild from the journal", unit="messages/s", long=True, order=64)
def rebuild(ctx: Context) -> Result:
    """Depth lines of the simulated market, in a finished journal, through reader, decoder, books and rows into an empty ClickHouse
    database (the warehouse in a process of its own) and into empty JSONL files. "A core": messages by the CPU seconds of all
    processes that work on it. Options: `lines` (3000000), `symbols` (1000).
    """
    from l2_platform.collectors.importing import deliver_import

    lines = int(ctx.options.get("lines", str(ctx.pick(2_000, 3_000_000))))
    symbols = int(ctx.options.get("symbols", str(ctx.pick(10, 1_000))))
    market = GeneratedMarket(symbols)
    frames = [
        *market.snapshot().block(frame_lines=FRAME_LINES).frames(),
        *market.depth(lines).block(frame_lines=FRAME_LINES).frames(),
    ]
    rows: list[Row] = []
    with stack_for(ctx, "rebuild", Wish(symbols, 1, 0, traced=False)) as stack:
        settings = stack.settings
        numbered = []
        seq = 1
        for data, count, _, ts in frames:
            numbered.append((data, count, seq, ts))
            seq += count
        write_finished_stream(
            settings.journal_dir, STREAM, [(SESSION_DATE, iter(numbered))], context={}, calendar="always_open"
        )
        stack.compile()
        stack.start("warehouse")
        stack.until_live("warehouse")
        for sink in ("clickhouse", "jsonl"):
            engine, own, started = stack.cpu_s()["warehouse"], sum(os.times()[:2]), ctx.clock.monotonic_ns()
            deliver_import(sink, STREAM, settings, ctx.clock, lambda *_: None)
            wall = (ctx.clock.monotonic_ns() - started) / 1e9
            cpu = sum(os.times()[:2]) - own
            engine = stack.cpu_s()["warehouse"] - engine if sink == "clickhouse" else 0.0
            rows.append(
                {
                    "sink": sink, "messages/s": (seq - 1) / wall, "messages/s a core": (seq - 1) / max(cpu + engine, 1e-9),
                    "delivery CPU µs": 1e6 * cpu / (seq - 1), "warehouse CPU µs": 1e6 * engine / (seq - 1),
                }
            )  # fmt: skip
        stack.stop("warehouse")
    value = float(str(rows[0]["messages/s a core"]))
    target = Target(
        f"≥ {WANTED:,} messages/s a core into ClickHouse",
        f"{value:,.0f}/s",
        value >= WANTED,
        "" if value >= WANTED else _limit(rows),
    )
    return Result(
        rows=rows,
        notes=[f"N = {seq - 1:,} lines, {symbols:,} symbols."],
        targets=[target] if not ctx.is_smoke else [],
        limit=_limit(rows),
    )


def _limit(rows: list[Row]) -> str:
    own, engine = (float(str(rows[0][name])) for name in ("delivery CPU µs", "warehouse CPU µs"))
    return f"CPU: {own:.2f} µs a message in the delivery, {engine:.2f} µs in the engine (inserts and merges)."

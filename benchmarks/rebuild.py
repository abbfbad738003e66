"""Figure `rebuild`: a stored journal into the tables by staging and swap, and into empty sinks as an import does it."""

import os
from collections.abc import Callable

from benchmarks.figure import Context, NotMeasurable, Result, Row, Target, figure
from benchmarks.lines import SESSION_DATE, GeneratedMarket
from benchmarks.load import Wish, stack_for
from l2_platform.journal.importing import write_finished_stream
from l2_platform.replay.rebuilt import StreamResult
from l2_platform.settings import Settings

STREAM = "iqfeed-depth-import-0000bebe"
FIRST = "iqfeed-depth-import-0000f125"
FIRST_LINES = 2_000
WANTED = 500_000
FRAME_LINES = 1_000


@figure("rebuild", title="Rebuild from the journal", unit="messages/s", long=True, order=64)
def rebuild(ctx: Context) -> Result:
    """Depth lines of the simulated market, in a finished journal, through reader, decoder, books and rows. `rebuild`: into staging tables
    of an empty ClickHouse database, counted, hashed, and swapped; `rebuild again`: the same with the tables full, equal content found
    by both hashes; `import`: as rows arrive, into an empty database and into empty JSONL files. "A core": messages by the CPU seconds
    of all processes that work on it, the warehouse (a process of its own) included; what the first rebuild of a process and of a
    database costs whatever its size (kernels, imports, tables) is told apart. Options: `lines` (3000000), `symbols` (1000).
    """
    from l2_platform.collectors.importing import deliver_import
    from l2_platform.replay.rebuild import RebuildRequest, rebuild_date

    lines = int(ctx.options.get("lines", str(ctx.pick(2_000, 3_000_000))))
    symbols = int(ctx.options.get("symbols", str(ctx.pick(10, 1_000))))
    rows: list[Row] = []
    with stack_for(ctx, "rebuild", Wish(symbols, 1, 0, traced=False)) as stack:
        settings = stack.settings
        count = write_journal(settings, STREAM, lines, symbols)
        few = write_journal(settings, FIRST, FIRST_LINES, min(symbols, 10))
        stack.compile()
        stack.start("warehouse")
        stack.until_live("warehouse")
        other = settings.model_copy(update={"clickhouse": settings.clickhouse.model_copy(update={"database": "rebuilt"})})

        def measure(way: str, work: Callable[[], object], count: int = count) -> None:
            engine, own, started = stack.cpu_s()["warehouse"], sum(os.times()[:2]), ctx.clock.monotonic_ns()
            work()
            wall = (ctx.clock.monotonic_ns() - started) / 1e9
            own, engine = sum(os.times()[:2]) - own, stack.cpu_s()["warehouse"] - engine
            rows.append(
                {
                    "way": way, "messages/s": count / wall, "messages/s a core": count / max(own + engine, 1e-9),
                    "own CPU µs": 1e6 * own / count, "warehouse CPU µs": 1e6 * engine / count,
                }
            )  # fmt: skip

        measure("first", lambda: _check(rebuild_date(RebuildRequest(SESSION_DATE, (FIRST,)), other, ctx.clock), "rebuilt"), few)
        first = rows.pop()
        request = RebuildRequest(SESSION_DATE, (STREAM,))
        for way, outcome in (("rebuild", "rebuilt"), ("rebuild again", "equal")):
            measure(way, lambda outcome=outcome: _check(rebuild_date(request, other, ctx.clock), outcome))  # type: ignore[misc]
        for sink in ("clickhouse", "jsonl"):
            measure(f"import, {sink}", lambda sink=sink: deliver_import(sink, STREAM, settings, ctx.clock, lambda *_: None))  # type: ignore[misc]
        stack.stop("warehouse")
    value = float(str(rows[0]["messages/s a core"]))
    target = Target(
        f"≥ {WANTED:,} messages/s a core", f"{value:,.0f}/s", value >= WANTED, "" if value >= WANTED else _limit(rows)
    )
    return Result(
        rows=rows,
        notes=[
            f"N = {count:,} lines, {symbols:,} symbols. Merges that follow in the live table are not in it.",
            f"The first rebuild of all, of {few:,} lines: {_cpu_s(first, few, 'own'):.2f} s of CPU here, "
            f"{_cpu_s(first, few, 'warehouse'):.2f} s in the warehouse.",
        ],
        targets=[target] if not ctx.is_smoke else [],
        limit=_limit(rows),
    )


def _cpu_s(row: Row, lines: int, whose: str) -> float:
    return float(str(row[f"{whose} CPU µs"])) * lines / 1e6


def write_journal(settings: Settings, stream: str, lines: int, symbols: int) -> int:
    """Write a finished stream of the simulated market; its lines."""
    market = GeneratedMarket(symbols)
    numbered = []
    seq = 1
    for part in (market.snapshot(), market.depth(lines)):
        for data, count, _, ts in part.block(frame_lines=FRAME_LINES).frames():
            numbered.append((data, count, seq, ts))
            seq += count
    dates = [(SESSION_DATE, iter(numbered))]
    write_finished_stream(settings.journal_dir, stream, dates, context={}, calendar="always_open")
    return seq - 1


def _check(results: list[StreamResult], outcome: str) -> None:
    if [result.outcome for result in results] != [outcome]:
        raise NotMeasurable(f"the rebuild gave {results}")


def _limit(rows: list[Row]) -> str:
    own, engine = (float(str(rows[0][name])) for name in ("own CPU µs", "warehouse CPU µs"))
    return (
        f"CPU: {own:.2f} µs a message for reading, books, rows and encoding, {engine:.2f} µs in the engine (bodies, parsing, sorting and "
        "compressing of the inserts; content hash): shares in decision 14."
    )

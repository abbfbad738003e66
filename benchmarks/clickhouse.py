"""ClickHouse: rows a second into the real warehouse process, by rows an insert, and the time until they can be queried.

What does not belong here: bytes a row (sizes.py), the delivery around the sink (path.py).
"""

from typing import Any

import numpy as np

from benchmarks.figure import Context, Plot, Result, Row, Series, Spread, figure
from benchmarks.lines import SESSION_DATE, GeneratedMarket, Lines
from benchmarks.store import process_of, rows_of_query, warehouse
from benchmarks.tables_of_lines import depth_tables
from l2_platform.journal.frame import Position
from l2_platform.market.events import TableBatch
from l2_platform.sinks.native import NativeEncoder

INSERTS = {100: 60, 1_000: 60, 10_000: 30, 100_000: 6, 200_000: 4}
"""Rows of an insert (the last: the most that the sink puts into one), and how many of them."""
FLUSH_LINES = 14_000
"""What 400 ms bring at 35,000 lines/s."""
COLUMNS = "sum(cityHash64(*))"


@figure("clickhouse", title="ClickHouse inserts", unit="rows/s", baseline="the engine copying the same rows itself", order=50)
def clickhouse(ctx: Context) -> Result:
    """Rows of depth_updates through the real sink into the real warehouse process over loopback HTTP: encoded as one Native block,
    one insert, fsync of the part and its folder, then the answer. "Visible" is from the begin of a write to the answer of a query
    by another connection that counts its last row; the first query after each write must see it. "With snapshots" writes what
    400 ms of 35,000 lines/s bring to both tables at once, as the delivery does. The baseline is `INSERT … SELECT` of the same
    rows inside the engine, in one insert: no encoding, no HTTP. The engine uses both cores.
    """
    count = ctx.pick(2_000, 800_000)
    market = GeneratedMarket(ctx.pick(10, 1_000))
    snapshot, lines = market.snapshot(), market.depth(count)
    rows: list[Row] = []
    with warehouse(ctx) as (settings, sink, client):
        process = process_of(settings)
        _warm(snapshot, lines.head(100))
        for size, most in INSERTS.items():
            if size > count:
                continue
            tables = depth_tables(
                snapshot, lines.head(size * ctx.pick(2, most)), interval_ns=0, lines_a_batch=size, stream=f"iqfeed-depth-{size}"
            )
            batches = [[table for table in batch if table.table == "depth_updates"] for batch in tables]
            rows.append(_insert(ctx, sink, client, process, batches, f"{size:,} rows"))
        tables = depth_tables(
            snapshot, lines.head(ctx.pick(1_000, 280_000)), interval_ns=100_000_000, lines_a_batch=ctx.pick(500, FLUSH_LINES),
            stream="iqfeed-depth-1",
        )  # fmt: skip
        rows.append(_insert(ctx, sink, client, process, tables, "with snapshots"))
        rows.append(_copy(ctx, client, max(size for size in INSERTS if size <= count)))
    return Result(rows=rows, limit=_limit(rows), plots=[_plot(rows)], notes=_NOTES)


_NOTES = ("The first query after each write saw its last row, in every write.",)


def _insert(ctx: Context, sink: Any, client: Any, process: Any, batches: list[list[TableBatch]], name: str) -> Row:
    stream = batches[0][0].stream
    sink.resume(stream, SESSION_DATE)
    seconds, visible, encoded = [], [], []
    cpu = sum(process.cpu_times()[:2])
    counted = 0
    for number, tables in enumerate(batches, 1):
        encoder = NativeEncoder()
        begun = ctx.clock.monotonic_ns()
        for table in tables:
            encoder.encode(table, 0, len(table))
        encoded.append((ctx.clock.monotonic_ns() - begun) / 1e9)
        last = int(tables[0].columns["seq"][-1])
        begun = ctx.clock.monotonic_ns()
        sink.write(tables, Position(SESSION_DATE, 1, number), last)
        seconds.append((ctx.clock.monotonic_ns() - begun) / 1e9)
        sql = f"SELECT max(seq) FROM l2.{tables[0].table} WHERE stream = {{stream:String}}"
        if rows_of_query(client, sql, stream=stream)[0][0] != last:
            raise AssertionError("a write returned before its rows could be queried")
        visible.append((ctx.clock.monotonic_ns() - begun) / 1e6)
        counted += sum(len(table) for table in tables)
    sizes = [sum(len(table) for table in tables) for tables in batches]
    return {
        "insert": name,
        "inserts": len(batches),
        "k rows/s": Spread.of(size / value / 1e3 for size, value in zip(sizes, seconds, strict=True)),
        "write p50, ms": float(np.percentile(seconds, 50) * 1e3),
        "write p99, ms": float(np.percentile(seconds, 99) * 1e3),
        "visible p50, ms": float(np.percentile(visible, 50)),
        "visible p99, ms": float(np.percentile(visible, 99)),
        "encode, % of write": 100 * sum(encoded) / sum(seconds),
        "engine CPU, µs a row": 1e6 * (sum(process.cpu_times()[:2]) - cpu) / counted,
    }


def _warm(snapshot: Lines, lines: Lines) -> None:
    """Compile what encodes."""
    for table in depth_tables(snapshot, lines, interval_ns=0, lines_a_batch=len(lines))[0]:
        NativeEncoder().encode(table, 0, len(table))


def _copy(ctx: Context, client: Any, size: int) -> Row:
    """The engine alone: the rows of the largest inserts into an equal table."""
    stream = f"iqfeed-depth-{size}"
    client.command("CREATE TABLE l2.copied AS l2.depth_updates")
    where = f"FROM l2.depth_updates WHERE stream = '{stream}' AND seq > (SELECT max(seq) - {size} {{}})"
    where = where.format(f"FROM l2.depth_updates WHERE stream = '{stream}'")

    def work() -> None:
        client.command(f"INSERT INTO l2.copied SELECT * {where}")

    seconds = ctx.repeat(work, prepare=lambda: client.command("TRUNCATE TABLE l2.copied"), passes=3)
    theirs = rows_of_query(client, f"SELECT count(), {COLUMNS} {where}")
    ours = rows_of_query(client, f"SELECT count(), {COLUMNS} FROM l2.copied")
    if ours != theirs or ours[0][0] != size:
        raise AssertionError("the copied rows are not the inserted ones")
    return {"insert": "baseline: engine alone", "inserts": 1, "k rows/s": seconds.rate(size / 1e3)}


def _limit(rows: list[Row]) -> str:
    measured = {str(row["insert"]): row for row in rows}
    last = [row for row in rows if "encode, % of write" in row and row["insert"] != "with snapshots"][-1]
    alone = measured["baseline: engine alone"]["k rows/s"]
    ours = last["k rows/s"]
    assert isinstance(alone, Spread)
    assert isinstance(ours, Spread)
    return (
        f"Small inserts: a fixed cost of {float(str(rows[0]['write p50, ms'])):.0f} ms each (part files and their fsyncs). Large ones: the"
        f" engine (sort, columns, compression): the sink reaches {100 * ours.over(alone):.0f} % of what the engine does alone with rows it"
        f" has already; encoding takes {float(str(last['encode, % of write'])):.0f} % of a large write."
    )


def _plot(rows: list[Row]) -> Plot:
    sizes = [size for size in INSERTS if any(row["insert"] == f"{size:,} rows" for row in rows)]
    found = {str(row["insert"]): row["k rows/s"] for row in rows}
    rates = [value for size in sizes if isinstance(value := found[f"{size:,} rows"], Spread)]
    series = Series(
        "depth_updates", sizes, [rate.median for rate in rates], [rate.low for rate in rates], [rate.high for rate in rates]
    )
    return Plot("rows", "Rows an insert", "rows an insert", "k rows/s", [series], log_x=True, log_y=True)

"""What a row costs on disk: bytes by column in ClickHouse after merges.

What does not belong here: the sealed journal (journal.py measures it with its speed), speed.
"""

from typing import Any

from benchmarks.figure import Context, Result, Row, Target, figure
from benchmarks.journal import recorded_hour
from benchmarks.lines import SESSION_DATE, GeneratedMarket, Lines
from benchmarks.store import rows_of_query, warehouse
from benchmarks.tables_of_lines import JournalTime, depth_tables, level1_tables
from l2_platform.journal.frame import Position
from l2_platform.market.events import TableBatch
from l2_platform.settings import FeedSettings, JsonlSettings

LIMITS = {"quotes": 12.0, "depth_updates": 24.0, "book_snapshots": 40.0}
"""Targets, bytes a row."""
BATCH_LINES = 100_000
WIDE = "min_bytes_for_wide_part = 0, min_rows_for_wide_part = 0"
"""Columns in files of their own, as in every part of a real day's size: only then does the engine tell the size of each."""
COLUMNS = """
    SELECT column, sum(column_data_compressed_bytes) + sum(column_marks_bytes), sum(column_data_uncompressed_bytes)
    FROM system.parts_columns WHERE active AND database = 'l2' AND table = {table:String} AND partition LIKE {stream:String}
    GROUP BY column ORDER BY column
"""
PARTS = """
    SELECT sum(rows), sum(bytes_on_disk), count() FROM system.parts
    WHERE active AND database = 'l2' AND table = {table:String} AND partition LIKE {stream:String}
"""


@figure("sizes", title="Stored bytes a row", unit="B/row", order=60)
def sizes(ctx: Context) -> Result:
    """Tables as the delivery fills them, then `OPTIMIZE … FINAL`; sizes from system.parts and system.parts_columns. "On disk" is
    everything a part holds: columns, marks, primary index, projection. Generated: 1,000 symbols at 35,000 lines/s; snapshots of the
    ten best levels, at most one a symbol in 100 ms. Recorded: a real stock's hour of 2012, one symbol, in the three layouts, thinned
    on its own times.
    """
    rows: list[Row] = []
    by_column: dict[str, dict[str, dict[str, float]]] = {}
    with warehouse(ctx) as (_settings, sink, client):
        for source, shape, batches in _sources(ctx):
            stream = batches[0][0].stream
            sink.resume(stream, SESSION_DATE)
            for place, tables in enumerate(batches, 1):
                sink.write(tables, Position(SESSION_DATE, 1, place), max(int(table.columns["seq"][-1]) for table in tables))
            for table in dict.fromkeys(table.table for batch in batches for table in batch):
                client.command(f"ALTER TABLE l2.{table} MODIFY SETTING {WIDE}")
                client.command(f"OPTIMIZE TABLE l2.{table} PARTITION ('{_date()}', '{stream}') FINAL")
                row, columns = _measured(client, table, stream)
                rows.append({"table": table, "lines": source, "shape": shape} | row)
                by_column.setdefault(table, {})[f"{source} {shape}"] = columns
    rows.sort(key=lambda row: (str(row["table"]), str(row["lines"])))
    limit = (
        "The information in a row: order ids, prices and times that do not follow from the row before. A quote holds four times and "
        "a seq, two thirds of its bytes here; the generated ones are independent of each other, which a real market's are not."
    )
    return Result(rows=rows, targets=_targets(rows), more=_by_column(by_column), limit=limit, notes=_NOTES)


_NOTES = ("Columns are stored in files of their own here, as the engine does with every part above 10 MB.",)


def _sources(ctx: Context) -> Any:
    """(lines, shape, batches of tables), each of a stream of its own."""
    count = ctx.pick(2_000, 500_000)
    interval_ns = JsonlSettings().l2_interval_ms * 1_000_000
    number = 0
    for shape in ("orders", "venues", "levels"):
        market = GeneratedMarket(ctx.pick(10, 1_000), shape)
        number += 1
        yield "generated", shape, _depth(market.snapshot(), market.depth(count), interval_ns, number)
    fields = tuple(name for name in FeedSettings().level1_fields if name != "Symbol")
    market = GeneratedMarket(ctx.pick(10, 1_000), fields=fields)
    yield "generated", "Level 1", level1_tables(market, market.level1(count), lines_a_batch=BATCH_LINES)
    if ctx.market_data is not None:
        for shape, name in (("orders", "order"), ("venues", "venue"), ("levels", "price")):
            lines = recorded_hour(ctx.market_data, name)
            number += 1
            yield "recorded hour", shape, _depth(lines.slice(0, 0), lines, interval_ns, number, "event")


def _depth(
    snapshot: Lines, lines: Lines, interval_ns: int, number: int, journal_ts: JournalTime = "recv"
) -> list[list[TableBatch]]:
    return depth_tables(
        snapshot, lines, interval_ns=interval_ns, lines_a_batch=BATCH_LINES, stream=f"iqfeed-depth-{number}", journal_ts=journal_ts
    )


def _measured(client: Any, table: str, stream: str) -> tuple[Row, dict[str, float]]:
    like = f"%{stream}%"
    rows, on_disk, parts = rows_of_query(client, PARTS, table=table, stream=like)[0]
    if parts != 1:
        raise AssertionError(f"{table} of {stream} has {parts} parts after OPTIMIZE FINAL")
    columns = rows_of_query(client, COLUMNS, table=table, stream=like)
    stored = sum(packed for _, packed, _ in columns)
    by_column = {name: packed / rows for name, packed, _ in columns}
    raw = sum(plain for _, _, plain in columns)
    found: Row = {"rows": int(rows), "columns, B/row": stored / rows, "on disk, B/row": on_disk / rows, "unpacked, B/row": raw / rows}
    return found, by_column


def _targets(rows: list[Row]) -> list[Target]:
    targets = []
    for table, most in LIMITS.items():
        found = [row for row in rows if row["table"] == table]
        values = [float(str(row["on disk, B/row"])) for row in found]
        text = ", ".join(f"{row['lines']} {row['shape']} {value:.1f}" for row, value in zip(found, values, strict=True))
        targets.append(Target(f"≤ {most:g} B a row of {table}", f"{text} B on disk", max(values) <= most))
    return targets


def _by_column(found: dict[str, dict[str, dict[str, float]]]) -> dict[str, list[Row]]:
    """A table for each table: its columns, the widest first, and their bytes a row in each source."""
    made: dict[str, list[Row]] = {}
    for table, sources in sorted(found.items()):
        names = {column for columns in sources.values() for column in columns}
        widest = sorted(names, key=lambda name: -max(columns.get(name, 0.0) for columns in sources.values()))
        rows: list[Row] = []
        for column in widest:
            row: Row = {"column": column}
            row.update({source: float(columns.get(column, 0.0)) for source, columns in sources.items()})
            rows.append(row)
        total: Row = {"column": "all"}
        total.update({source: float(sum(columns.values())) for source, columns in sources.items()})
        rows.append(total)
        made[f"{table} by column, B/row"] = rows
    return made


def _date() -> str:
    return f"{SESSION_DATE // 10_000}-{SESSION_DATE // 100 % 100:02d}-{SESSION_DATE % 100:02d}"

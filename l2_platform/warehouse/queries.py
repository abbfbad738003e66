"""What the tables hold for one session date: one aggregate query per table, as plain values.

Facts, not judgements: what they mean for quality is decided above. What does not belong here: connections (client), DDL (schema).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from clickhouse_connect.driver.client import Client

PLOT_BARS: Final = 60
"""Bars of a rate plot at most."""
ROUND_STEPS_S: Final = (1, 5, 10, 30, 60, 300, 600, 900, 1800, 3600)
"""Bar widths that read well, s."""


@dataclass(frozen=True, slots=True)
class TableShape:
    """What a query must know about one table."""

    name: str
    channel: str
    """Channel of the streams that feed it: depth, level1, bars, or empty for all."""
    has_snapshot_flag: bool
    """Rows of a feed's snapshot burst are marked and count in no rate."""
    key: str
    """Columns that identify a row inside (stream, session date)."""
    time: str = "ts_event"
    """Column of the time that the feed gives."""
    on_demand: bool = False
    """Rows come only when somebody asks the vendor for them: most dates have none."""


TABLES: Final[Mapping[str, TableShape]] = {
    shape.name: shape
    for shape in (
        TableShape("depth_updates", "depth", True, "seq"),
        TableShape("quotes", "level1", True, "seq"),
        TableShape("trades", "level1", False, "seq"),
        TableShape("history_bars", "bars", False, "seq", "ts_begin", on_demand=True),
        TableShape("book_snapshots", "depth", False, "seq"),
        TableShape("feed_events", "", False, "seq, ordinal"),
    )
}


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """One stream (or all, where `stream` is empty) of one table and session date."""

    stream: str
    source: str
    rows: int
    rated_rows: int
    """Rows without those of snapshot bursts."""
    symbols: int
    keys: int
    """Distinct keys; fewer than `rows` means duplicates. Meaningless over several streams."""
    seq_first: int
    seq_last: int
    first_ns: int
    """Time of the first row (received; of the event for imports), ns since the epoch."""
    last_ns: int
    latency_p50_ms: float | None
    """ts_recv - ts_event of live rows, ms; None where no live row has an event time."""
    latency_p99_ms: float | None

    @property
    def rate(self) -> float:
        """Rows a second between the first and the last row."""
        span_ns = self.last_ns - self.first_ns
        return self.rated_rows / (span_ns / 1e9) if span_ns > 0 else 0.0

    @property
    def duplicates(self) -> int:
        """Rows whose key another row has too."""
        return self.rows - self.keys


@dataclass(frozen=True, slots=True)
class TableFacts:
    """One table and session date."""

    table: str
    total: StreamFacts | None
    """Over all streams; None when there is no row."""
    streams: tuple[StreamFacts, ...]
    bytes_on_disk: int
    parts: int
    table_rows: int
    """Rows of the whole table, all dates."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Rows per bar over a session date."""

    start_ns: int
    step_s: int
    rows: tuple[int, ...]
    """Rows of each bar, in order, bars without rows included."""


def _moment(shape: TableShape) -> str:
    """When a row happened: received, or for imports (received today) the event's own time."""
    return f"if(source = 'live', ts_recv, ifNull({shape.time}, ts_recv))" if shape.name != "feed_events" else "ts_recv"


def table_facts(client: Client, database: str, shape: TableShape, session_date: date) -> TableFacts:
    """Measure one table and date; raise ClickHouse errors as they are."""
    rated = "snapshot = 0" if shape.has_snapshot_flag else "1"
    # A bitmap of dense numbers needs about a bit a row, a hash set sixteen bytes: whole days fit in memory.
    keys = "groupBitmap(seq)" if shape.key == "seq" else f"uniqExact({shape.key})"
    latency = f"(toUnixTimestamp64Nano(ts_recv) - toUnixTimestamp64Nano(assumeNotNull({shape.time}))) / 1e6"
    sql = f"""
        SELECT stream, any(source) AS origin, count() AS rows, countIf({rated}) AS rated_rows,
               uniqExactIf(symbol, symbol != '') AS symbols, {keys} AS keys, min(seq) AS seq_first, max(seq) AS seq_last,
               toUnixTimestamp64Nano(min({_moment(shape)})) AS first_ns, toUnixTimestamp64Nano(max({_moment(shape)})) AS last_ns,
               countIf({rated} AND source = 'live' AND {shape.time} IS NOT NULL) AS timed,
               quantilesTDigestIf(0.5, 0.99)({latency}, {rated} AND source = 'live' AND {shape.time} IS NOT NULL) AS latencies
        FROM {database}.{shape.name} WHERE session_date = {{day:Date}} GROUP BY stream WITH ROLLUP ORDER BY stream"""  # noqa: S608 - names are ours
    rows = [_stream_facts(row) for row in client.query(sql, parameters={"day": session_date}).named_results()]
    stored = _stored(client, database, shape.name, session_date)
    total = next((row for row in rows if not row.stream), None)
    return TableFacts(
        table=shape.name, total=total if total is not None and total.rows else None,
        streams=tuple(row for row in rows if row.stream), **stored,
    )  # fmt: skip


def _stream_facts(row: Mapping[str, Any]) -> StreamFacts:
    timed = int(row["timed"]) > 0
    return StreamFacts(
        stream=str(row["stream"]), source=str(row["origin"]), rows=int(row["rows"]), rated_rows=int(row["rated_rows"]),
        symbols=int(row["symbols"]), keys=int(row["keys"]), seq_first=int(row["seq_first"]), seq_last=int(row["seq_last"]),
        first_ns=int(row["first_ns"]), last_ns=int(row["last_ns"]),
        latency_p50_ms=float(row["latencies"][0]) if timed else None, latency_p99_ms=float(row["latencies"][1]) if timed else None,
    )  # fmt: skip


def _stored(client: Client, database: str, table: str, session_date: date) -> dict[str, int]:
    sql = """
        SELECT sumIf(bytes_on_disk, startsWith(partition, {prefix:String})) AS stored_bytes,
               countIf(startsWith(partition, {prefix:String})) AS stored_parts, sum(rows) AS table_rows
        FROM system.parts WHERE active AND database = {database:String} AND table = {table:String}"""
    parameters = {"prefix": f"('{session_date.isoformat()}'", "database": database, "table": table}
    row = next(iter(client.query(sql, parameters=parameters).named_results()))
    return {
        "bytes_on_disk": int(row["stored_bytes"]),
        "parts": int(row["stored_parts"]),
        "table_rows": int(row["table_rows"]),
    }


def table_rates(client: Client, database: str, shape: TableShape, session_date: date, total: StreamFacts) -> Rates:
    """Rows per bar between the first and the last row of a date; `total` comes from `table_facts`."""
    span_s = (total.last_ns - total.first_ns) / 1e9
    step_s = next((step for step in ROUND_STEPS_S if span_s / step < PLOT_BARS), ROUND_STEPS_S[-1])
    rated = "AND snapshot = 0" if shape.has_snapshot_flag else ""
    sql = f"""
        SELECT intDiv(toUnixTimestamp64Nano({_moment(shape)}), {step_s * 1_000_000_000}) AS bar, count() AS rows
        FROM {database}.{shape.name} WHERE session_date = {{day:Date}} {rated} GROUP BY bar ORDER BY bar"""  # noqa: S608 - names are ours
    found = {int(bar): int(rows) for bar, rows in client.query(sql, parameters={"day": session_date}).result_rows}
    first, last = total.first_ns // (step_s * 10**9), total.last_ns // (step_s * 10**9)
    # Rows far outside (a wrong event time in an import) must not make a plot of a million bars.
    last = min(last, first + 10 * PLOT_BARS)
    return Rates(first * step_s * 10**9, step_s, tuple(found.get(bar, 0) for bar in range(first, last + 1)))


def table_columns(client: Client, database: str, table: str) -> list[tuple[str, str, str]]:
    """Name, type and comment of every column, in order."""
    sql = """
        SELECT name, type, comment FROM system.columns
        WHERE database = {database:String} AND table = {table:String} ORDER BY position"""
    rows = client.query(sql, parameters={"database": database, "table": table}).result_rows
    return [(str(name), str(kind), str(comment)) for name, kind, comment in rows]


def delivered_seqs(client: Client, database: str, session_date: date) -> dict[str, int]:
    """How far the warehouse got: stream → greatest delivered seq of that date."""
    sql = f"""
        SELECT stream, max(seq) FROM {database}.delivery_positions WHERE session_date = {{day:Date}} GROUP BY stream"""  # noqa: S608 - name is ours
    return {str(stream): int(seq) for stream, seq in client.query(sql, parameters={"day": session_date}).result_rows}


def bytes_of_dates(client: Client, database: str) -> dict[int, int]:
    """Session date (YYYYMMDD) → bytes on disk of its rows in all market tables."""
    sql = """
        SELECT toUInt32(replaceAll(substring(partition, 3, 10), '-', '')) AS day, sum(bytes_on_disk) FROM system.parts
        WHERE active AND database = {database:String} AND match(partition, '^\\(.[0-9]{4}-[0-9]{2}-[0-9]{2}') GROUP BY day"""
    return {int(day): int(size) for day, size in client.query(sql, parameters={"database": database}).result_rows}


def table_parts(client: Client, database: str) -> list[tuple[str, int, int, int]]:
    """(table, active parts, rows, bytes on disk) of every table, the largest first."""
    sql = """
        SELECT table, count() AS parts, sum(rows) AS all_rows, sum(bytes_on_disk) AS size FROM system.parts
        WHERE active AND database = {database:String} GROUP BY table ORDER BY size DESC"""
    rows = client.query(sql, parameters={"database": database}).result_rows
    return [(str(table), int(parts), int(count), int(size)) for table, parts, count, size in rows]

"""A day's rows into the real tables of a warehouse, and out of them again.

What does not belong here: what the rows are (market.py, plants).
"""

import json
from datetime import date
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
from clickhouse_connect.driver.client import Client

from benchmarks.recall.market import TABLES, Day
from l2_platform.quality.findings import text_of_time

DATABASE: Final = "l2"
PRICES: Final = frozenset({"price", "bid", "ask", "open", "high", "low", "close", "bid_px", "ask_px"})
TIMES: Final = frozenset({"ts_event", "ts_recv", "ts_bid", "ts_ask", "ts_begin"})
PARTITIONED: Final = (*TABLES, "history_bars", "feed_events")
BESIDE: Final = ("gap_events", "feed_events", "universe_events", "reconciliations")
DECIMAL: Final = pa.decimal128(18, 9)


def put(client: Client, day: Day, only: tuple[str, ...] = (*TABLES, "history_bars")) -> None:
    """Store the rows of a day."""
    for table in only:
        for part in day.tables[table].partition_by("stream"):
            client.insert_arrow(f"{DATABASE}.{table}", arrow_of(part), settings={"async_insert": 0})
    for table, rows in day.beside.items():
        if rows:
            _insert(client, day, table, rows)


def remove(client: Client, session_date: date, *, beside_only: bool = False) -> None:
    """Take a date out of every table."""
    tables = ["feed_events"] if beside_only else list(PARTITIONED)
    sql = """
        SELECT table, partition_id FROM system.parts
        WHERE active AND database = {database:String} AND table IN {tables:Array(String)} AND startsWith(partition, {head:String})
        GROUP BY table, partition_id"""
    head = f"('{session_date.isoformat()}'"
    found = client.query(sql, parameters={"database": DATABASE, "tables": tables, "head": head}).result_rows
    for table, partition in found:
        client.command(f"ALTER TABLE {DATABASE}.{table} DROP PARTITION ID '{partition}'")
    for table in ("gap_events", "universe_events", "reconciliations"):
        client.command(f"TRUNCATE TABLE {DATABASE}.{table}")


def arrow_of(frame: pl.DataFrame) -> pa.Table:
    """Prices as decimals, times as times."""
    table = frame.to_arrow()
    for place, name in enumerate(table.column_names):
        column = table.column(place).combine_chunks()
        if name in PRICES:
            made = _decimals(column) if not pa.types.is_large_list(column.type) else _lists(column, _decimals(column.values))
        elif name in TIMES:
            made = column.cast(pa.timestamp("ns", "UTC"))
        elif pa.types.is_large_list(column.type):
            made = _lists(column, column.values)
        elif pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
            made = column.cast(pa.string())
        else:
            continue
        table = table.set_column(place, name, made)
    return table


def _lists(column: Any, values: Any) -> Any:
    return pa.ListArray.from_arrays(column.offsets.cast(pa.int32()), values)


def _decimals(column: Any) -> Any:
    """From integers of 1e-9: the 128 bits of a decimal are those of the integer."""
    values = column.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    bits = np.stack([values, values >> 63], axis=1)
    empty = None if column.null_count == 0 else pa.array(column.is_valid().to_numpy(zero_copy_only=False)).buffers()[1]
    return pa.Array.from_buffers(DECIMAL, len(values), [empty, pa.py_buffer(bits.tobytes())], column.null_count)


def _insert(client: Client, day: Day, table: str, rows: list[dict[str, Any]]) -> None:
    written = text_of_time(day.hours.after)
    defaults: dict[str, dict[str, Any]] = {
        "gap_events": {"seq": 1, "ordinal": 1, "source": "live", "evidence": "{}", "repair_source": "", "rows_recovered": 0, "residual": "",
                       "state": "closed", "seq_before": 0, "version": 1, "ts_written": written},
        "feed_events": {"ordinal": 0, "source": "live", "detail": "{}", "raw": ""},
        "universe_events": {"ts": text_of_time(day.hours.pre - 30 * 86_400 * 10**9), "ts_written": written},
        "reconciliations": {"ts_written": written},
    }  # fmt: skip
    dated = {} if table == "universe_events" else {"session_date": day.hours.session_date.isoformat()}
    full = [defaults[table] | dated | row for row in rows]
    for row in full:
        for name in ("ts_from", "ts_to", "ts_recv"):
            if isinstance(row.get(name), int):
                row[name] = text_of_time(row[name])
    body = "\n".join(json.dumps(row, default=int) for row in full).encode()
    settings = {"async_insert": "0"}
    client.raw_insert(f"{DATABASE}.{table}", column_names=list(full[0]), insert_block=body, fmt="JSONEachRow", settings=settings)

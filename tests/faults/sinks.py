"""Sinks before a real warehouse, with a front in between that breaks things; rows made for them. Nothing about what must follow."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from clickhouse_connect.driver.client import Client

from l2_platform.journal.frame import Position
from l2_platform.market.events import TableBatch
from l2_platform.settings import ClickHouseSettings, Settings, WarehouseSettings, load_settings
from l2_platform.sinks.clickhouse import ClickHouseSink
from l2_platform.warehouse.client import connect
from l2_platform.warehouse.start import ensure_warehouse, read_record, record_path, warehouse_password
from tests.faults.warehouse_front import WarehouseFront

DATE = 20250725
T0 = 1_753_450_200_123_456_789
POISON = 0x5EED_DEAD_BEEF_5EED
"""Order id of a row that shall be refused; its eight bytes stand in the body of an insert that holds it."""


@contextmanager
def warehouse_at(home: Path) -> Iterator[Settings]:
    """A real warehouse of its own."""
    settings = load_settings(home=home, warehouse=WarehouseSettings(idle_exit_s=300))
    ensure_warehouse(settings)
    try:
        yield settings
    finally:
        record = read_record(record_path(settings))
        if record is not None:
            process = psutil.Process(record.pid)
            process.terminate()
            process.wait(30)


@contextmanager
def front_of(settings: Settings) -> Iterator[WarehouseFront]:
    """A front before the warehouse."""
    with WarehouseFront(ensure_warehouse(settings)) as front:
        yield front


def through(front: WarehouseFront, settings: Settings, **sections: Any) -> Settings:
    """The settings of a delivery that finds a server behind the front."""
    section = ClickHouseSettings(
        embedded=False, host="127.0.0.1", port=front.port, password=warehouse_password(settings), timeout_s=30  # type: ignore[arg-type]
    )
    return settings.model_copy(update={"clickhouse": section, **sections})


@contextmanager
def sink_at(settings: Settings) -> Iterator[ClickHouseSink]:
    """An open sink."""
    sink = ClickHouseSink(settings)
    sink.open()
    try:
        yield sink
    finally:
        sink.close()


@contextmanager
def client_of(settings: Settings) -> Iterator[Client]:
    """A client of the warehouse itself, past any front."""
    client = connect(settings)
    try:
        yield client
    finally:
        client.close()


def at(seq: int) -> Position:
    """Where the journal is behind a seq."""
    return Position(DATE, 1, seq * 50)


def depth_rows(stream: str, first: int, count: int, poison: tuple[int, ...] = ()) -> TableBatch:
    """`count` rows of depth_updates from seq `first` on; those of the seqs in `poison` carry the marked order id."""
    seqs = np.arange(first, first + count, dtype=np.uint64)
    orders = np.where(np.isin(seqs, np.array(poison, np.uint64)), np.uint64(POISON), seqs)
    columns: dict[str, Any] = {
        "seq": seqs, "symbol": (seqs % 3).astype(np.int32), "ts_event": T0 + seqs.astype(np.int64),
        "ts_recv": T0 + 1 + seqs.astype(np.int64), "kind": np.full(count, 51, np.uint8), "side": np.full(count, 65, np.uint8),
        "price": seqs.astype(np.int64) * 10_000_000, "size": seqs.astype(np.int64), "order_id": orders,
        "mmid": np.zeros(count, np.uint32), "priority": seqs, "order_count": np.ones(count, np.int32),
        "snapshot": np.zeros(count, np.uint8), "trust": np.ones(count, np.uint8),
    }  # fmt: skip
    return TableBatch("depth_updates", stream, DATE, "live", ["AAPL", "MSFT", "@ES#"], columns)


def event_rows(stream: str, first: int, count: int) -> TableBatch:
    """One row of feed_events for every third seq of the same range: a table that is sparse beside the other."""
    seqs = np.arange(first, first + count, dtype=np.uint64)
    seqs = seqs[seqs % 3 == 0]
    columns: dict[str, Any] = {
        "seq": seqs, "ordinal": np.zeros(len(seqs), np.uint32), "symbol": np.full(len(seqs), -1, np.int32),
        "ts_event": np.full(len(seqs), T0), "ts_recv": np.full(len(seqs), T0), "kind": ["system"] * len(seqs),
        "detail": ["{}"] * len(seqs), "raw": [""] * len(seqs),
    }  # fmt: skip
    return TableBatch("feed_events", stream, DATE, "live", [], columns)


def stored(client: Client, table: str, stream: str) -> tuple[int, int, int]:
    """(rows, distinct seqs, greatest seq) of a stream; a plain count, no FINAL."""
    found = client.query(f"SELECT count(), uniqExact(seq), max(seq) FROM l2.{table} WHERE stream = '{stream}'").result_rows[0]
    return int(found[0]), int(found[1]), int(found[2])

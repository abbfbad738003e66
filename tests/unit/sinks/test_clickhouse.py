import numpy as np
import pytest

from l2_platform.errors import SinkRejected
from l2_platform.market.events import NULL_TS, TableBatch
from l2_platform.sinks.clickhouse import blocks
from l2_platform.sinks.native import NativeEncoder, bytes_text, contents_text, days_from_date, trade_days


def events(seqs: list[int], ordinals: list[int] | None = None) -> TableBatch:
    columns = {"seq": np.array(seqs, np.uint64)}
    if ordinals is not None:
        columns["ordinal"] = np.array(ordinals, np.uint32)
    return TableBatch("feed_events", "iqfeed-depth-0", 20250725, "live", [], columns)


def test_blocks_keep_the_rows_of_a_seq_together() -> None:
    assert list(blocks(events([1, 2, 2, 3, 3, 3, 4]), (0, 0), 4)) == [(0, 3), (3, 7)]
    assert list(blocks(events([1, 1, 1, 2]), (0, 0), 2)) == [(0, 3), (3, 4)]


def test_blocks_begin_above_the_floor() -> None:
    assert list(blocks(events([1, 2, 2, 3]), (2, 0), 10)) == [(3, 4)]
    assert list(blocks(events([1, 2, 2, 3], [0, 0, 1, 0]), (2, 0), 10)) == [(2, 4)]
    assert list(blocks(events([1, 2]), (2, 0), 10)) == []


def test_codes_become_text() -> None:
    assert bytes_text(int.from_bytes(b"NSDQ", "little")) == "NSDQ"
    assert bytes_text(int.from_bytes(b"01", "little")) == "01"
    assert bytes_text(0) == ""
    assert contents_text(0b11001) == "Cab"


def test_trade_days_are_new_york_dates() -> None:
    evening = np.array([1_736_989_200_000_000_000, NULL_TS], np.int64)  # 2025-01-15 20:00 New York = 2025-01-16 01:00 UTC
    assert trade_days(evening, 20250117).tolist() == [days_from_date(20250115), days_from_date(20250117)]


def test_codes_that_the_table_cannot_hold_are_rejected() -> None:
    count = 2
    zero = np.zeros(count, np.int64)
    columns = {
        "seq": np.array([1, 2], np.uint64), "symbol": np.zeros(count, np.int32), "ts_event": zero, "ts_recv": zero,
        "kind": np.array([51, 99], np.uint8), "side": np.array([65, 66], np.uint8), "price": zero, "size": zero, "order_id": zero,
        "mmid": np.zeros(count, np.uint32), "priority": zero, "order_count": zero, "snapshot": zero, "trust": np.zeros(count, np.uint8),
    }  # fmt: skip
    batch = TableBatch("depth_updates", "iqfeed-depth-0", 20250725, "live", ["A"], columns)
    assert NativeEncoder().encode(batch, 0, 1)
    with pytest.raises(SinkRejected, match="kind"):
        NativeEncoder().encode(batch, 0, 2)
    with pytest.raises(SinkRejected, match="nowhere"):
        NativeEncoder().encode(TableBatch("nowhere", "s", 20250725, "live", [], columns), 0, 1)

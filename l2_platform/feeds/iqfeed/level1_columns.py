"""Rows of Level 1 and history streams as arrays, and where the lines of a block are.

What does not belong here: what a line holds (level1_kernels, history_kernels).
"""

from typing import Any, Final, NamedTuple

import numpy as np

from l2_platform.feeds.iqfeed.line_block import LineBlock
from l2_platform.market.compiled import kernel
from l2_platform.market.events import (
    NULL_PRICE,
    NULL_TS,
    DecodeError,
    Int32,
    Int64,
    Level1Batch,
    UInt8,
    UInt32,
    UInt64,
)


class Level1Columns(NamedTuple):
    """The arrays of a Level1Batch, as a kernel takes them."""

    seq: UInt64
    kind: UInt8
    error: UInt8
    symbol: Int32
    contents: UInt32
    basis: UInt8
    price: Int64
    size: Int64
    total_volume: Int64
    market_center: Int32
    conditions: UInt64
    aggressor: UInt8
    day_code: UInt8
    tick_id: UInt64
    trade_count: Int64
    bid: Int64
    bid_size: Int64
    bid_market_center: Int32
    ask: Int64
    ask_size: Int64
    ask_market_center: Int32
    delay: Int32
    ts_trade: Int64
    ts_bid: Int64
    ts_ask: Int64
    ts_event: Int64
    ts_recv: Int64
    line_start: Int64
    line_len: Int32


_FILL: Final[dict[str, int]] = {
    "symbol": -1, "price": NULL_PRICE, "size": -1, "total_volume": -1, "market_center": -1, "trade_count": -1,
    "bid": NULL_PRICE, "bid_size": -1, "bid_market_center": -1, "ask": NULL_PRICE, "ask_size": -1, "ask_market_center": -1,
    "delay": -1, "ts_trade": NULL_TS, "ts_bid": NULL_TS, "ts_ask": NULL_TS, "ts_event": NULL_TS,
}  # fmt: skip
_DTYPES: Final[dict[str, type[np.generic]]] = {
    "seq": np.uint64, "kind": np.uint8, "error": np.uint8, "symbol": np.int32, "contents": np.uint32, "basis": np.uint8,
    "market_center": np.int32, "conditions": np.uint64, "aggressor": np.uint8, "day_code": np.uint8, "tick_id": np.uint64,
    "bid_market_center": np.int32, "ask_market_center": np.int32, "delay": np.int32, "line_len": np.int32,
}  # fmt: skip


def empty_columns(rows: int) -> Level1Columns:
    """Columns of `rows` rows that hold nothing yet."""
    arrays: list[Any] = [
        np.full(rows, _FILL.get(name, 0), _DTYPES.get(name, np.int64)) for name in Level1Columns._fields
    ]
    return Level1Columns(*arrays)


def unset_columns(rows: int) -> Level1Columns:
    """Columns of `rows` rows for a kernel that writes all of every row."""
    arrays: list[Any] = [np.empty(rows, _DTYPES.get(name, np.int64)) for name in Level1Columns._fields]
    return Level1Columns(*arrays)


def slice_columns(columns: Level1Columns, start: int, stop: int) -> Level1Columns:
    """Rows start..stop, over the same arrays."""
    arrays: list[Any] = [column[start:stop] for column in columns]
    return Level1Columns(*arrays)


def batch_from_columns(buffer: UInt8, columns: Level1Columns) -> Level1Batch:
    """The batch over the same arrays."""
    return Level1Batch(buffer, *columns)


def columns_of_block(block: LineBlock) -> Level1Columns:
    """One row per line of the block, with seq, ts_recv, place and the errors that concern the line as a whole."""
    columns = empty_columns(int(block.frame_count.sum()))
    rows = index_lines(
        block.buffer, block.frame_start, block.frame_seq, block.frame_count, block.frame_ts, block.frame_flags,
        columns.seq, columns.ts_recv, columns.line_start, columns.line_len, columns.error,
    )  # fmt: skip
    if rows == len(columns.seq):
        return columns
    return slice_columns(columns, 0, rows)


FRAGMENT: Final = int(DecodeError.FRAGMENT)
OVERSIZE: Final = int(DecodeError.OVERSIZE)
ENCODING: Final = int(DecodeError.ENCODING)
FIELDS: Final = int(DecodeError.FIELDS)
NUMBER: Final = int(DecodeError.NUMBER)
PRICE: Final = int(DecodeError.PRICE)
TIME: Final = int(DecodeError.TIME)
SYMBOL: Final = int(DecodeError.SYMBOL)
CONTENTS: Final = int(DecodeError.CONTENTS)


@kernel
def index_lines(
    buffer: UInt8, frame_start: Int64, frame_seq: UInt64, frame_count: UInt32, frame_ts: Int64, frame_flags: UInt8,
    seq: UInt64, ts_recv: Int64, line_start: Int64, line_len: Int32, error: UInt8,
) -> int:  # fmt: skip
    """Find the lines of whole frames; the number of rows that were filled."""
    row = 0
    for frame in range(len(frame_seq)):
        at = frame_start[frame]
        end = frame_start[frame + 1]
        left = np.int64(frame_count[frame])
        flags = frame_flags[frame]
        number = frame_seq[frame]
        while left > 0 and (at < end or flags):
            stop = at
            dirty = False
            if flags:
                stop = end
            else:
                while stop < end:
                    byte = buffer[stop]
                    if byte < 32:
                        if byte == 10:
                            break
                        # A carriage return is fine only as the last byte, and is cut off below.
                        if byte != 9 and not (byte == 13 and (stop + 1 == end or buffer[stop + 1] == 10)):
                            dirty = True
                    stop += 1
            length = stop - at
            while length > 0 and (buffer[at + length - 1] == 13 or buffer[at + length - 1] == 10):
                length -= 1
            seq[row] = number
            ts_recv[row] = frame_ts[frame]
            line_start[row] = at
            line_len[row] = length
            error[row] = FRAGMENT if flags & 1 else OVERSIZE if flags & 2 else ENCODING if dirty else 0
            row += 1
            number += np.uint64(1)
            left -= 1
            at = stop + 1
            if flags:
                break
    return row

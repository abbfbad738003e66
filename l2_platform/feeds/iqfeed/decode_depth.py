"""Depth lines (port 9200) become rows of a DepthBatch: one row for every line, good or bad, in wire order.

Protocol 6.2 (`0 3 4 5 6 7 8 9`) and the older `Z` and `2`; lines end in LF or CRLF, may lack the trailing comma and may have more
columns than are known. A line that cannot be read becomes a row of kind BAD with the reason; its neighbours are not touched. What
does not belong here: what rows do to a book.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from l2_platform.feeds.iqfeed.bytes_kernels import FULL, SymbolIndex
from l2_platform.feeds.iqfeed.depth_kernels import CLOCK_SLOTS, FIELDS_MAX, LAST_CLOCK, LAST_EVENT, decode_lines
from l2_platform.feeds.iqfeed.line_block import LineBlock
from l2_platform.market.events import NULL_TS, DepthBatch, Int64, UInt8
from l2_platform.market.instruments import SymbolTable
from l2_platform.market.timezone import new_york_offsets

STATE_VERSION: Final = 1


class DepthDecoder:
    """Decodes the blocks of one stream, in order.

    Its state is small: the feed's last clock and the last event time, which date and disambiguate times; any split of the frames
    gives the same rows. New symbols get the next numbers of `symbols`.
    """

    def __init__(self, symbols: SymbolTable) -> None:
        self._index = SymbolIndex(symbols)
        self._ends: Int64 = np.zeros(FIELDS_MAX + 16, np.int64)
        self._clock: Int64 = np.zeros(CLOCK_SLOTS, np.int64)
        self.restore({})

    def decode(self, block: LineBlock) -> DepthBatch:
        """One row for every line of `block`; never raises for what the lines hold."""
        self._index.pull()
        frame_count = np.ascontiguousarray(block.frame_count, np.int64)
        rows = int(frame_count.sum())
        batch = _empty_batch(block.buffer, rows)
        pairs = np.empty((3, 16), np.int64), np.empty(16, np.int64)
        transitions, offsets = new_york_offsets()
        cursor = np.zeros(5, np.int64)
        while True:
            status = decode_lines(
                block.buffer, block.frame_start, block.frame_seq, frame_count, block.frame_ts, block.frame_flags,
                cursor, self._ends, self._clock, transitions, offsets, *self._index.arrays,
                batch.seq, batch.kind, batch.error, batch.symbol, batch.side, batch.order_id, batch.mmid, batch.price,
                batch.size, batch.priority, batch.count, batch.ts_event, batch.ts_recv, batch.line_start, batch.line_len,
                *pairs,
            )  # fmt: skip
            if status != FULL:
                break
            # The kernel stopped before a line: either a two-sided row or a new symbol had no room. The symbols' room stays for good.
            if cursor[4] >= len(pairs[1]):
                pairs = _doubled(pairs[0]), np.concatenate([pairs[1], np.empty_like(pairs[1])])
            else:
                self._index.grow()
        self._index.push()
        held = int(cursor[4])
        if held:
            batch.pair_row = pairs[1][:held].copy()
            batch.pair_price, batch.pair_size, batch.pair_ts = (column[:held].copy() for column in pairs[0])
        return batch

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on with the next line: JSON values only."""
        return {
            "version": STATE_VERSION,
            "clock_local_ns": _optional(int(self._clock[LAST_CLOCK])),
            "event_ns": _optional(int(self._clock[LAST_EVENT])),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state()`; an empty one is the beginning of a stream."""
        self._clock[:] = 0
        for slot, name in ((LAST_CLOCK, "clock_local_ns"), (LAST_EVENT, "event_ns")):
            value = state.get(name)
            self._clock[slot] = NULL_TS if value is None else int(value)


def _optional(value: int) -> int | None:
    return None if value == NULL_TS else value


def _doubled(columns: Int64) -> Int64:
    return np.concatenate([columns, np.empty_like(columns)], axis=1)


def _empty_batch(buffer: UInt8, rows: int) -> DepthBatch:
    return DepthBatch(
        buffer=buffer,
        seq=np.empty(rows, np.uint64),
        kind=np.empty(rows, np.uint8),
        error=np.empty(rows, np.uint8),
        symbol=np.empty(rows, np.int32),
        side=np.empty(rows, np.uint8),
        order_id=np.empty(rows, np.uint64),
        mmid=np.empty(rows, np.uint32),
        price=np.empty(rows, np.int64),
        size=np.empty(rows, np.int64),
        priority=np.empty(rows, np.uint64),
        count=np.empty(rows, np.int32),
        ts_event=np.empty(rows, np.int64),
        ts_recv=np.empty(rows, np.int64),
        line_start=np.empty(rows, np.int64),
        line_len=np.empty(rows, np.int32),
    )

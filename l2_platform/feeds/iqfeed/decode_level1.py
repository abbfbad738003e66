"""Lines of a Level 1 stream become a columnar batch: quotes, trade prints, snapshots, corrections, and everything else as a row.

Which field is which follows the lines themselves: the default layout until the feed acknowledges another. Times carry no date, so the
feed's own clock dates them (level1_clock.time_with_day). What does not belong here: I/O, and the rules of one field (bytes_kernels).
"""

from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np

from l2_platform.feeds.iqfeed.bytes_kernels import FULL, NONE, SymbolIndex
from l2_platform.feeds.iqfeed.layouts import (
    DEFAULT_LAYOUT,
    Layout,
    layout_from_line,
    layout_from_names,
    protocol_from_line,
)
from l2_platform.feeds.iqfeed.level1_clock import CLOCK_KIND, CLOCK_LOCAL, CLOCK_SIZE, CLOCK_UTC, NO_CLOCK
from l2_platform.feeds.iqfeed.level1_columns import (
    Level1Columns,
    batch_from_columns,
    columns_of_block,
    empty_columns,
    slice_columns,
)
from l2_platform.feeds.iqfeed.level1_kernels import decode_clock_row, decode_level1_rows
from l2_platform.feeds.iqfeed.line_block import LineBlock
from l2_platform.market.compiled import kernel
from l2_platform.market.events import Int64, Level1Batch, UInt8
from l2_platform.market.instruments import SymbolTable
from l2_platform.market.timezone import new_york_offsets

_EPOCH = date(1970, 1, 1)


def days_of_date(session_date: int) -> int:
    """Days since 1970-01-01 of a date YYYYMMDD; 0 for 0 (no date)."""
    if not session_date:
        return 0
    return (date(session_date // 10_000, session_date // 100 % 100, session_date % 100) - _EPOCH).days


class Level1Decoder:
    """Decodes the blocks of one stream in order. State over blocks: layout, protocol, the feed's clock, the connection.

    A line that cannot be decoded becomes a BAD row with its DecodeError; nothing raises for what a line holds.
    """

    def __init__(self, symbols: SymbolTable) -> None:
        self.symbols = symbols
        self.layout: Layout = DEFAULT_LAYOUT
        self.protocol: str | None = None
        self._index = SymbolIndex(symbols)
        self._clock: Int64 = np.zeros(CLOCK_SIZE, np.int64)
        self._connection: int | None = None
        self._zone = new_york_offsets()

    def decode(self, block: LineBlock) -> Level1Batch:
        """One row per line of `block`, in order; the batch shares the block's buffer."""
        columns = columns_of_block(block)
        if len(block.frame_seq) == 0:
            return batch_from_columns(block.buffer, columns)
        self._index.pull()
        session_days = days_of_date(block.session_date)
        row = 0
        for connection, rows in self._connections(block, columns):
            if connection != self._connection:
                # A fresh socket speaks the default layout until it acknowledges another.
                if self._connection is not None:
                    self.layout, self.protocol = DEFAULT_LAYOUT, None
                self._connection = connection
            part = columns if rows - row == len(columns.seq) else slice_columns(columns, row, rows)
            self._decode_part(block.buffer, part, session_days)
            row = rows
        self._index.push()
        return batch_from_columns(block.buffer, columns)

    def _connections(self, block: LineBlock, columns: Level1Columns) -> list[tuple[int, int]]:
        """(connection, end row) of each run of frames of one connection; nearly always one run."""
        conn = np.asarray(block.frame_conn)
        changes = np.flatnonzero(conn[1:] != conn[:-1]) + 1
        ends = np.searchsorted(columns.line_start, np.asarray(block.frame_start)[changes]).tolist()
        heads = [0, *changes.tolist()]
        return list(zip([int(conn[head]) for head in heads], [*ends, len(columns.seq)], strict=True))

    def _decode_part(self, buffer: UInt8, columns: Level1Columns, session_days: int) -> None:
        row, rows = 0, len(columns.seq)
        while row < rows:
            row, reason = decode_level1_rows(
                buffer, row, columns, self.layout.columns, self.layout.required, session_days, self._clock,
                *self._index.arrays, *self._zone,
            )  # fmt: skip
            if reason == FULL:
                self._index.grow()
            elif reason == NONE:
                start = int(columns.line_start[row - 1])
                self._acknowledge(buffer[start : start + int(columns.line_len[row - 1])].tobytes())

    def _acknowledge(self, line: bytes) -> None:
        layout = layout_from_line(line)
        if layout is not None:
            self.layout = layout
        self.protocol = protocol_from_line(line) or self.protocol

    def state(self) -> dict[str, Any]:
        """What the next block depends on, as JSON; times are ns. Symbols are saved by their owner."""
        clock = None
        if self._clock[CLOCK_KIND] != NO_CLOCK:
            clock = [int(self._clock[place]) for place in (CLOCK_LOCAL, CLOCK_UTC, CLOCK_KIND)]
        return {
            "protocol": self.protocol,
            "fields": None if self.layout.is_default else list(self.layout.fields),
            "clock": clock,
            "connection": self._connection,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a `state()`, or the context of a segment header: protocol, fields, and clock or last_clock (the last `T` line)."""
        self.protocol = state.get("protocol")
        fields = state.get("fields")
        self.layout = layout_from_names(fields) if fields else DEFAULT_LAYOUT
        connection = state.get("connection")
        self._connection = None if connection is None else int(connection)
        self._clock = np.zeros(CLOCK_SIZE, np.int64)
        clock = state.get("clock") or state.get("last_clock")
        if isinstance(clock, str):
            text = clock if clock.startswith("T,") else f"T,{clock}"
            line = np.frombuffer(text.encode("latin-1", "replace"), np.uint8)
            set_clock(line, empty_columns(1), self._clock, *self._zone)
        elif clock:
            self._clock[:3] = [int(value) for value in clock]


@kernel
def set_clock(line: UInt8, out: Level1Columns, clock: Int64, transitions: Int64, offsets: Int64) -> None:
    """Set the clock from the text of a T line; a malformed one changes nothing."""
    decode_clock_row(line, 2, len(line), 0, out, clock, transitions, offsets)

"""Lines of a Level 1 stream become a columnar batch: quotes, trade prints, snapshots, corrections, and everything else as a row.

Which field is which follows the lines themselves: the default layout until the feed acknowledges another. Times carry no date, so the
feed's own clock dates them (level1_clock.time_with_day). What does not belong here: I/O, and the rules of one field (quote_kernels,
bytes_kernels).
"""

from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np

from l2_platform.feeds.iqfeed.bytes_kernels import FULL, NONE, SymbolIndex
from l2_platform.feeds.iqfeed.layouts import (
    COLUMN_COUNT,
    DEFAULT_LAYOUT,
    IGNORED,
    Layout,
    layout_from_line,
    layout_from_names,
    protocol_from_line,
)
from l2_platform.feeds.iqfeed.level1_clock import CLOCK_KIND, CLOCK_LOCAL, CLOCK_SIZE, CLOCK_UTC, NO_CLOCK
from l2_platform.feeds.iqfeed.level1_columns import (
    Level1Columns,
    batch_from_columns,
    empty_columns,
    slice_columns,
    unset_columns,
)
from l2_platform.feeds.iqfeed.level1_kernels import decode_clock_row, decode_level1_rows
from l2_platform.feeds.iqfeed.line_block import LineBlock
from l2_platform.feeds.iqfeed.line_scan import COMMAS_MAX, EMPTY_FIELD, PLACES
from l2_platform.market.compiled import kernel
from l2_platform.market.events import Int64, Level1Batch, UInt8, UInt32
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
        self._commas: Int64 = np.zeros(PLACES, np.int64)
        self._connection: int | None = None
        self._zone = new_york_offsets()

    def decode(self, block: LineBlock) -> Level1Batch:
        """One row per line of `block`, in order; the batch shares the block's buffer."""
        frame_count = np.ascontiguousarray(block.frame_count, np.uint32)
        columns = unset_columns(int(frame_count.sum()))
        self._index.pull()
        cursor = np.zeros(4, np.int64)
        for connection, stop_frame in _connections(block):
            if connection != self._connection:
                # A fresh socket speaks the default layout until it acknowledges another.
                if self._connection is not None:
                    self.layout, self.protocol = DEFAULT_LAYOUT, None
                self._connection = connection
            self._decode_frames(block, frame_count, columns, cursor, stop_frame)
        self._index.push()
        rows = int(cursor[3])
        return batch_from_columns(
            block.buffer, columns if rows == len(columns.seq) else slice_columns(columns, 0, rows)
        )

    def _decode_frames(
        self, block: LineBlock, frame_count: UInt32, columns: Level1Columns, cursor: Int64, stop_frame: int
    ) -> None:
        session_days = days_of_date(block.session_date)
        while True:
            reason = decode_level1_rows(
                block.buffer, block.frame_start, block.frame_seq, frame_count, block.frame_ts, block.frame_flags,
                cursor, stop_frame, columns, self.layout.columns, field_places(self.layout), self.layout.required, session_days,
                self._clock, self._commas, *self._index.arrays, *self._zone,
            )  # fmt: skip
            if reason == FULL:
                self._index.grow()
            elif reason == NONE:
                row = int(cursor[3]) - 1
                start = int(columns.line_start[row])
                self._acknowledge(block.buffer[start : start + int(columns.line_len[row])].tobytes())
            else:
                return

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


def _connections(block: LineBlock) -> list[tuple[int, int]]:
    """(connection, the frame behind) of each run of frames of one connection; nearly always one run."""
    conn = np.asarray(block.frame_conn)
    if len(conn) == 0:
        return []
    heads = [0, *(np.flatnonzero(conn[1:] != conn[:-1]) + 1).tolist()]
    return list(zip([int(conn[head]) for head in heads], [*heads[1:], len(conn)], strict=True))


def field_places(layout: Layout) -> Int64:
    """For each column the number of its field, EMPTY_FIELD for none; the place of IGNORED tells whether fields can be found so.

    They cannot when a column is named twice (the last field that is not empty counts), and in layouts of very many fields.
    """
    places = np.full(COLUMN_COUNT, EMPTY_FIELD, np.int64)
    named = np.flatnonzero(layout.columns)
    places[layout.columns[named]] = named
    places[IGNORED] = len(layout.columns) <= COMMAS_MAX // 2 and len(named) == len(set(layout.columns[named].tolist()))
    return places


@kernel
def set_clock(line: UInt8, out: Level1Columns, clock: Int64, transitions: Int64, offsets: Int64) -> None:
    """Set the clock from the text of a T line; a malformed one changes nothing."""
    decode_clock_row(line, 2, len(line), 0, out, clock, transitions, offsets)

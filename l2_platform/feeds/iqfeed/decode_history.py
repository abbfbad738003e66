"""Replies of the lookup service to history requests as the same batch that Level 1 gives.

`[request id,][LH,]timestamp,…`. Ticks: 10 fields up to protocol 6.0, 12 from 6.1 on, and the older order with the basis last. Bars:
high, low, open, close and volumes; they are rows where the reply says how long they are, else only recognised. Times are New York
wall times. A reply may say which of its lines are rows: those of a repair do, since others are stored already. What does not
belong here: requests, sockets.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from l2_platform.feeds.iqfeed.history_kernels import decode_history_rows
from l2_platform.feeds.iqfeed.level1_columns import batch_from_columns, columns_of_block
from l2_platform.feeds.iqfeed.line_block import LineBlock
from l2_platform.market.events import NO_SYMBOL, NULL_PRICE, NULL_TS, BarBatch, Int64, Level1Batch, Level1Kind
from l2_platform.market.instruments import SymbolTable
from l2_platform.market.timezone import new_york_offsets


class HistoryDecoder:
    """Decodes replies in order. Reply lines name no symbol: `symbol` is the one that was asked for, and may be set between blocks."""

    def __init__(self, symbols: SymbolTable, symbol: str | None = None) -> None:
        self.symbols = symbols
        self.symbol = symbol
        self._last: Int64 = np.full(1, NULL_TS, np.int64)
        self._base = 0
        """The last seq before the reply."""
        self._kept: Int64 | None = None
        """Ranges of lines of the reply, counted from 1, both ends included, that are rows; None: all of them."""
        self._interval_s = 0
        """Length of the bars that were asked for, s; 0: none were."""
        self._zone = new_york_offsets()

    def decode(self, block: LineBlock) -> Level1Batch:
        """One row per line: HISTORY_TICK (a trade), HISTORY_KNOWN, HISTORY_BAR, END, ERROR, NOT_FOUND, SYSTEM, BAD or OTHER.

        A BarBatch where the reply brings bars.
        """
        columns = columns_of_block(block)
        number = NO_SYMBOL if self.symbol is None else self.symbols.intern(self.symbol)
        ohlc = np.full((len(columns.seq) if self._interval_s else 0, 4), NULL_PRICE, np.int64)
        decode_history_rows(block.buffer, columns, number, self._last, *self._zone, self._interval_s, ohlc)
        if self._interval_s:
            return BarBatch(block.buffer, *columns, self._interval_s, ohlc)
        batch = batch_from_columns(block.buffer, columns)
        if self._kept is not None:
            self._pass_over(batch, self._kept)
        return batch

    def begin_reply(
        self, symbol: str | None, base: int = 0, kept: Sequence[Sequence[int]] | None = None, interval_s: int = 0
    ) -> None:
        """What follows answers another request: of another symbol, and back in time.

        `base`: the last seq before it; `kept`: ranges of its lines, counted from 1, that are rows (None: all are).
        `interval_s`: its lines are bars of this length, 86,400 = a day.
        """
        self.symbol = symbol
        self._last[0] = NULL_TS
        self._base = base
        self._kept = None if kept is None else np.array(kept, np.int64).reshape(-1, 2)
        self._interval_s = interval_s

    def _pass_over(self, batch: Level1Batch, kept: Int64) -> None:
        """Ticks outside the kept ranges are known already."""
        number = batch.seq.astype(np.int64) - self._base
        place = np.searchsorted(kept[:, 0], number, side="right") - 1
        inside = np.zeros(len(number), np.bool_)
        within = place >= 0
        inside[within] = number[within] <= kept[place[within], 1]
        batch.kind[(batch.kind == Level1Kind.HISTORY_TICK) & ~inside] = Level1Kind.HISTORY_KNOWN

    def state(self) -> dict[str, Any]:
        """What the next block depends on, as JSON."""
        return {
            "symbol": self.symbol, "last_ns": None if self._last[0] == NULL_TS else int(self._last[0]), "base": self._base,
            "kept": None if self._kept is None else self._kept.tolist(), "interval_s": self._interval_s,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a `state()`."""
        self.symbol = state.get("symbol")
        last = state.get("last_ns")
        self._last[0] = NULL_TS if last is None else int(last)
        self._base, kept = int(state.get("base", 0)), state.get("kept")
        self._kept = None if kept is None else np.array(kept, np.int64).reshape(-1, 2)
        self._interval_s = int(state.get("interval_s", 0))

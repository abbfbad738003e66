"""Replies of the lookup service to history requests (HTT, HTX, HTD; bars are recognised) as the same batch that Level 1 gives.

`[request id,][LH,]timestamp,…`: 10 fields up to protocol 6.0, 12 from 6.1 on, and the older order with the basis last. Times are New
York wall times. What does not belong here: requests, sockets.
"""

from typing import Any

import numpy as np

from l2_platform.feeds.iqfeed.history_kernels import decode_history_rows
from l2_platform.feeds.iqfeed.level1_columns import batch_from_columns, columns_of_block
from l2_platform.feeds.iqfeed.line_block import LineBlock
from l2_platform.market.events import NO_SYMBOL, NULL_TS, Int64, Level1Batch
from l2_platform.market.instruments import SymbolTable
from l2_platform.market.timezone import new_york_offsets


class HistoryDecoder:
    """Decodes replies in order. Reply lines name no symbol: `symbol` is the one that was asked for, and may be set between blocks."""

    def __init__(self, symbols: SymbolTable, symbol: str | None = None) -> None:
        self.symbols = symbols
        self.symbol = symbol
        self._last: Int64 = np.full(1, NULL_TS, np.int64)
        self._zone = new_york_offsets()

    def decode(self, block: LineBlock) -> Level1Batch:
        """One row per line: HISTORY_TICK (a trade), HISTORY_BAR, END, ERROR, NOT_FOUND, SYSTEM, BAD or OTHER."""
        columns = columns_of_block(block)
        number = NO_SYMBOL if self.symbol is None else self.symbols.intern(self.symbol)
        decode_history_rows(block.buffer, columns, number, self._last, *self._zone)
        return batch_from_columns(block.buffer, columns)

    def begin_reply(self, symbol: str | None) -> None:
        """What follows answers another request: of another symbol, and back in time."""
        self.symbol = symbol
        self._last[0] = NULL_TS

    def state(self) -> dict[str, Any]:
        """What the next block depends on, as JSON."""
        return {"symbol": self.symbol, "last_ns": None if self._last[0] == NULL_TS else int(self._last[0])}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a `state()`."""
        self.symbol = state.get("symbol")
        last = state.get("last_ns")
        self._last[0] = NULL_TS if last is None else int(last)

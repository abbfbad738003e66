"""Tells the trackers of gaps what a decoded batch says, in the order of its lines.

What does not belong here: what follows from it (gaps, symbol_gaps).
"""

import numpy as np
import numpy.typing as npt

from l2_platform.delivery.gaps import GapTracker
from l2_platform.delivery.rows import DEPTH_ROW_KINDS
from l2_platform.delivery.symbol_gaps import SymbolGaps
from l2_platform.market.events import DepthBatch, DepthKind, Level1Batch, Level1Kind

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
_SERVER_LINES = (b"S,SERVER DISCONNECTED", b"S,SERVER CONNECTED")


def watch_lines(tracker: GapTracker, symbols: SymbolGaps | None, batch: DepthBatch | Level1Batch) -> None:
    """Market data, the feed's upstream and, with `symbols`, silence and counters of each symbol.

    The batch is cut where something is decided, so that it does not matter where reads cut it.
    """
    if isinstance(batch, DepthBatch):
        market = DEPTH_ROW_KINDS[batch.kind]
        system = np.flatnonzero((batch.kind == DepthKind.DISCONNECTED) | (batch.kind == DepthKind.SYSTEM))
    else:
        market = (batch.kind == Level1Kind.QUOTE) | (batch.kind == Level1Kind.SUMMARY)
        system = np.flatnonzero(batch.kind == Level1Kind.SYSTEM)
    server = [int(row) for row in system if batch.line(int(row)).startswith(_SERVER_LINES)]
    looks: Rows = symbols.looks(batch.ts_recv) if symbols is not None else np.zeros(0, np.int64)
    classes = symbols.classes(batch) if symbols is not None else np.zeros(0, np.uint8)
    start = 0
    for row in sorted({*server, *looks.tolist(), len(batch)}):
        _data(tracker, batch, market, start, row)
        if symbols is not None:
            symbols.note(batch, classes, start, row)
        if row == len(batch):
            return
        ts, seq = int(batch.ts_recv[row]), int(batch.seq[row])
        if symbols is not None and row in looks:
            symbols.look(ts, seq, market=bool(market[row]))
        if row in server:
            tracker.on_server(b"DISCONNECTED" not in batch.line(row), ts, seq)
        start = row


def _data(tracker: GapTracker, batch: DepthBatch | Level1Batch, market: Mask, start: int, stop: int) -> None:
    rows = np.flatnonzero(market[start:stop])
    if len(rows):
        first = start + int(rows[0])
        # The greatest, not the last: a clock that stepped back must not make the cut into reads matter.
        newest = int(batch.ts_recv[start + rows].max())
        tracker.on_data(int(batch.ts_recv[first]), newest, int(batch.seq[first]))

"""Trades that the market printed, kept in a bounded ring, as history replies: ticks and minute bars.

What does not belong here: requests (`lookup`).
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from l2_platform.feeds.iqfeed.simulator import line_kernels as lines
from l2_platform.feeds.iqfeed.simulator.past import PastTrades

TRADES_MAX: Final = 500_000
"""Trades remembered over all symbols (about 50 MB when full)."""


class TradeHistory:
    """The remembered trades, oldest first on request."""

    def __init__(self, trades_max: int = TRADES_MAX, past: PastTrades | None = None) -> None:
        self.past = past
        """Days before the first of these trades; a recording has none."""
        self._ring = np.empty((trades_max, lines.T_COLUMNS), np.int64)
        self._kept = 0

    def keep(self, quotes: lines.Int64, count: int, offset: int) -> None:
        """Remember the trade prints among Level 1 rows; `offset` is New York's from UTC, ns."""
        self._kept = int(lines.keep_trades(quotes, count, offset, self._ring, self._kept))

    def trades(self, symbol: int) -> lines.Int64:
        """Remembered trades of a symbol, oldest first."""
        size = len(self._ring)
        parts: tuple[lines.Int64, ...]
        if self._kept <= size:
            parts = (self._ring[: self._kept],)
        else:
            split = self._kept % size
            parts = (self._ring[split:], self._ring[:split])
        return np.concatenate([part[part[:, lines.T_SYMBOL] == symbol] for part in parts])


def local_times(trades: lines.Int64) -> lines.Int64:
    """New York wall time of each trade, ns since the epoch."""
    return trades[:, lines.T_TS] + trades[:, lines.T_OFFSET]


def tick_lines(trades: lines.Int64, prefix: bytes, *, tail: bool) -> bytes:
    """History tick lines of trades, in the order given."""
    out = np.empty(len(trades) * (lines.TICK_LINE_BYTES_MAX + len(prefix)), np.uint8)
    size = lines.format_ticks(np.ascontiguousarray(trades), np.frombuffer(prefix, np.uint8), 1 if tail else 0, out)
    return out[:size].tobytes()


def bar_rows(trades: lines.Int64, interval_s: int) -> npt.NDArray[np.int64]:
    """Bars from C and E prints, oldest first: begin (local ns), high, low, open, close (cents), total volume, period volume."""
    prints = trades[trades[:, lines.T_CONTENTS] & 3 != 0]
    return _bars(prints, local_times(prints) // (interval_s * lines.SECOND_NS) * (interval_s * lines.SECOND_NS))


def daily_bar_rows(trades: lines.Int64) -> npt.NDArray[np.int64]:
    """Daily bars, like `bar_rows`, as the vendor makes them: prices of C prints, volume of C, E and O prints; no C print, no bar."""
    day = local_times(trades) // lines.DAY_NS
    regular = trades[:, lines.T_CONTENTS] & 1 != 0
    bars = _bars(trades[regular], day[regular] * lines.DAY_NS)
    counted = trades[:, lines.T_CONTENTS] & 7 != 0
    for bar in bars:
        bar[6] = trades[counted & (day == bar[0] // lines.DAY_NS), lines.T_SIZE].sum()
    return bars


def long_bar_rows(trades: lines.Int64, *, monthly: bool) -> npt.NDArray[np.int64]:
    """Weekly (from Monday) or monthly bars of the daily ones, like `bar_rows`; a bar's time is the day of its last print."""
    bars = daily_bar_rows(trades)
    if not len(bars):
        return bars
    days = bars[:, 0] // lines.DAY_NS
    # 1 January 1970 was a Thursday
    group = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) if monthly else (days + 3) // 7
    edges = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    last = np.r_[edges[1:], len(bars)] - 1
    high, low, volume = np.maximum.reduceat(bars[:, 1], edges), np.minimum.reduceat(bars[:, 2], edges), np.add.reduceat(bars[:, 6], edges)
    return np.stack([bars[last, 0], high, low, bars[edges, 3], bars[last, 4], bars[last, 5], volume], axis=1)


def _bars(prints: lines.Int64, begin: lines.Int64) -> npt.NDArray[np.int64]:
    """Bars of prints in order; those of one `begin` follow each other."""
    if not len(prints):
        return np.zeros((0, 7), np.int64)
    edges = np.flatnonzero(np.r_[True, begin[1:] != begin[:-1]])
    last = np.r_[edges[1:], len(prints)] - 1
    price = prints[:, lines.T_PRICE]
    return np.stack(
        [
            begin[edges], np.maximum.reduceat(price, edges), np.minimum.reduceat(price, edges), price[edges], price[last],
            prints[last, lines.T_VOLUME], np.add.reduceat(prints[:, lines.T_SIZE], edges),
        ],
        axis=1,
    )  # fmt: skip

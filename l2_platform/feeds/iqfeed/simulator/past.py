"""Trades of days before the market began: what it would have printed, the same at each start.

A day of a symbol depends on the seed, the symbol and the date only. Wall times of New York; between 01:00 and 03:00 there are none, so
that every time exists once on every day. What does not belong here: trades that were printed (`history`).
"""

from datetime import datetime
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from l2_platform.feeds.iqfeed.simulator import flow_kernels as flow
from l2_platform.feeds.iqfeed.simulator import line_kernels as lines

TICK_DAYS: Final = 180
"""Ticks are kept so long, calendar days; bars have no such end."""
DAYS_MAX: Final = 31
"""Most past days of one answer, the newest ones."""
TRADES_A_DAY: Final = (40, 400)
NEW_YORK: Final = ZoneInfo("America/New_York")
HOUR_NS: Final = 3600 * lines.SECOND_NS


def new_york_offset(ts: int) -> int:
    """New York's offset from UTC at a time, ns."""
    offset = datetime.fromtimestamp(ts // lines.SECOND_NS, NEW_YORK).utcoffset()
    return int(offset.total_seconds()) * lines.SECOND_NS if offset else 0


class PastTrades:
    """The days before `first_day` (days since the epoch, New York), on which the market itself begins."""

    def __init__(self, seed: int, anchors: lines.Int64, first_day: int) -> None:
        self.first_day = first_day
        self._seed = seed
        self._anchors = anchors
        self._day = lru_cache(maxsize=256)(self._make)

    def between(self, symbol: int, first: int, last: int) -> lines.Int64:
        """Trades of a symbol from day `first` to `last`, both included, oldest first."""
        last = min(last, self.first_day - 1)
        days = [self._day(symbol, day) for day in range(max(first, last - DAYS_MAX + 1), last + 1)]
        return np.concatenate([np.empty((0, lines.T_COLUMNS), np.int64), *days])

    def _make(self, symbol: int, day: int) -> lines.Int64:
        random = np.random.Generator(np.random.PCG64([self._seed, symbol, day]))
        count = int(random.integers(*TRADES_A_DAY))
        made = np.zeros((count, lines.T_COLUMNS), np.int64)
        times = np.sort(random.integers(0, lines.DAY_NS - 2 * HOUR_NS, count)) // 1000 * 1000
        times += np.where(times >= HOUR_NS, 2 * HOUR_NS, 0)
        price = np.maximum(100, int(self._anchors[symbol]) + np.cumsum(random.integers(-3, 4, count)))
        venue = random.integers(0, flow.VENUE_COUNT, count)
        # Regular hours print C, the rest E; an odd lot is O at any time.
        odd = random.random(count) < 0.2
        regular = (times >= 9.5 * HOUR_NS) & (times < 16 * HOUR_NS)
        size = np.where(odd, random.integers(1, 100, count), 100 * random.integers(1, 20, count))
        made[:, lines.T_SYMBOL] = symbol
        made[:, lines.T_TS] = day * lines.DAY_NS + times  # wall time, so the offset is 0
        made[:, lines.T_PRICE] = price
        made[:, lines.T_SIZE] = size
        made[:, lines.T_VOLUME] = np.cumsum(size)
        made[:, lines.T_BID] = price - 1
        made[:, lines.T_ASK] = price + 1
        made[:, lines.T_CENTER] = flow.CENTERS[venue]
        made[:, lines.T_CONTENTS] = np.where(odd, flow.IN_O, np.where(regular, flow.IN_C, flow.IN_E))
        made[:, lines.T_CONDITION] = np.where(odd, flow.CONDITION_ODD_LOT, np.where(regular, 0, 1))
        made[:, lines.T_AGGRESSOR] = random.integers(1, 3, count)
        for number in range(flow.VENUE_COUNT):
            mine = venue == number
            made[mine, lines.T_TICK] = np.arange(1, int(mine.sum()) + 1)
        return made

"""The feed's own counters beside what came: total volume against the sum of sizes, trades today, and TickIDs.

Level 1 lines carry the day's volume and number of trades so far; C, E and O prints add up to exactly that. What the lines tell and what
their prints sum up to part for good where prints were lost. A line may run ahead of its print by a moment, and a busted trade makes
the total smaller: so a difference is judged when it has lasted, and only one upwards is a loss. TickIDs are advice: they judge only
where no volume is told and when they proved to be without holes on that day; rows are never dropped for them.

State machines of arrays: no I/O, no clock. What does not belong here: silence, rows.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from l2_platform.delivery.gap_kernels import (
    CENTERS_MAX,
    IDS_PER_CENTER,
    IDS_PER_SYMBOL,
    IDS_UNUSED,
    note_counters,
)
from l2_platform.market.events import CONTENT_TRADE, Int64, Level1Batch, Level1Kind, UInt8

CODES_MAX: Final = 65_536
"""Market centre codes are smaller."""
STEPS_MIN: Final = 500
"""Steps of TickIDs after which the day's ids are judged."""
DENSE_MIN: Final = 0.9
"""Part of the steps that must be exactly 1 for ids that count."""
RULES: Final = {"none": IDS_UNUSED, "per_symbol": IDS_PER_SYMBOL, "per_market_center": IDS_PER_CENTER}
_FROM_MINUS_ONE: Final = ("told", "summed", "told_trades", "counted")
_FROM_ZERO: Final = ("even_ts", "even_seq", "odd_from", "odd_from_seq", "odd_ts", "ids_missing", "ids_from", "ids_ts")
_TABLES: Final = ("last_tick", "last_tick_ts")


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What the counters of a symbol say is missing."""

    symbol: int
    ts_from: int
    """Receive time of the last line at which the counters agreed, ns."""
    ts_to: int
    """Receive time of the first line at which they did not, ns."""
    seq_before: int
    evidence: dict[str, int]


class CounterWatch:
    """Counters of every symbol of one Level 1 (stream, session date)."""

    def __init__(self, tick_id_rule: str) -> None:
        """`tick_id_rule`: per_market_center, per_symbol or none."""
        self._rule = RULES[tick_id_rule]
        self.told = self.summed = self.told_trades = self.counted = np.full(0, -1, np.int64)
        """The day's volume and trades as told and as summed up; -1: not known."""
        self.even_ts = self.even_seq = self.odd_from = self.odd_from_seq = self.odd_ts = np.zeros(0, np.int64)
        self.ids_missing = self.ids_from = self.ids_ts = np.zeros(0, np.int64)
        self.last_tick = self.last_tick_ts = np.zeros((0, CENTERS_MAX), np.int64)
        self.center_slot = np.full(CODES_MAX, -1, np.int32)
        self.totals = np.zeros(3, np.int64)
        """Steps of TickIDs, those of exactly 1, market centres."""

    def grow(self, symbols: int) -> None:
        """Make room for so many symbols."""
        more = symbols - len(self.told)
        if more <= 0:
            return
        more = max(more, len(self.told) // 2)
        for name in (*_FROM_MINUS_ONE, *_FROM_ZERO, *_TABLES):
            old = getattr(self, name)
            fill = -1 if name in _FROM_MINUS_ONE else 0
            setattr(self, name, np.concatenate([old, np.full((more, *old.shape[1:]), fill, np.int64)]))

    def note(self, classes: UInt8, batch: Level1Batch, start: int, stop: int) -> None:
        """Lines [start, stop)."""
        prints = ((batch.kind == Level1Kind.QUOTE) & ((batch.contents & CONTENT_TRADE) != 0)).view(np.uint8)
        note_counters(
            classes, prints, batch.symbol, batch.ts_recv, batch.seq, batch.size, batch.total_volume, batch.trade_count,
            batch.market_center, batch.tick_id, start, stop, self.told, self.summed, self.told_trades, self.counted, self.even_ts,
            self.even_seq, self.odd_from, self.odd_from_seq, self.odd_ts, self.ids_missing, self.ids_from, self.ids_ts, self._rule,
            self.center_slot, self.last_tick, self.last_tick_ts, self.totals,
        )  # fmt: skip

    @property
    def ids_are_dense(self) -> bool:
        """TickIDs count without holes on this day, as far as was seen."""
        steps, ones = int(self.totals[0]), int(self.totals[1])
        return steps >= STEPS_MIN and ones >= DENSE_MIN * steps

    def lasting(self, settled: int) -> Int64:
        """Symbols whose counters have differed since the time `settled` or before."""
        odd = (self.odd_ts > 0) & (self.odd_ts <= settled)
        if self._rule != IDS_UNUSED:
            odd |= (self.told < 0) & (self.ids_missing > 0) & (self.ids_ts <= settled)
        return np.flatnonzero(odd)

    def judge(self, symbol: int) -> Shortfall | None:
        """What is missing of a symbol now, None when nothing is; the counters agree again from here on."""
        if symbol >= len(self.told):
            return None
        volume = int(self.told[symbol] - self.summed[symbol])
        trades = int(self.told_trades[symbol] - self.counted[symbol])
        ids = int(self.ids_missing[symbol]) if self.ids_are_dense else 0
        ts_from, ts_to, before = int(self.odd_from[symbol]), int(self.odd_ts[symbol]), int(self.odd_from_seq[symbol])
        by_ids = self.told[symbol] < 0
        if by_ids:
            ts_from, ts_to, before = int(self.ids_from[symbol]), int(self.ids_ts[symbol]), int(self.even_seq[symbol])
        self._agree(symbol)
        if not (ids if by_ids else volume > 0):
            return None
        evidence = {"volume_missing": volume} if volume > 0 else {}
        evidence |= {"prints_missing": trades} if trades > 0 else {}
        evidence |= {"tick_ids_missing": ids} if ids > 0 else {}
        return Shortfall(symbol, ts_from, ts_to, before, evidence)

    def says(self, symbol: int) -> str:
        """`intact`, `broken`, `reset` (the totals went back) or `none` (nothing is told): what the counters of a symbol say now."""
        if symbol >= len(self.told) or self.told[symbol] < 0:
            return "none"
        difference = int(self.told[symbol] - self.summed[symbol])
        return "intact" if difference == 0 else "broken" if difference > 0 else "reset"

    def forget(self, symbol: int) -> None:
        """A symbol is not watched any more: its totals go on without us."""
        if symbol < len(self.told):
            for name in _FROM_MINUS_ONE:
                getattr(self, name)[symbol] = -1
            for name in (*_FROM_ZERO, *_TABLES):
                getattr(self, name)[symbol] = 0

    def _agree(self, symbol: int) -> None:
        self.summed[symbol], self.counted[symbol] = self.told[symbol], self.told_trades[symbol]
        self.odd_ts[symbol] = self.ids_missing[symbol] = 0

    def freeze(self, symbols: int) -> dict[str, Any]:
        """Everything needed to go on: copies of the arrays; tables as places and values that are not zero."""
        arrays = {name: getattr(self, name)[:symbols].copy() for name in (*_FROM_MINUS_ONE, *_FROM_ZERO)}
        places = np.flatnonzero(self.last_tick[:symbols] != 0)
        arrays |= {"places": places} | {name: getattr(self, name)[:symbols].reshape(-1)[places] for name in _TABLES}
        codes = np.flatnonzero(self.center_slot >= 0)
        return {"arrays": arrays, "centers": [int(code) for code in codes[np.argsort(self.center_slot[codes])]],
                "totals": self.totals.tolist()}  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Undo `freeze`."""
        arrays = {name: np.array(values, np.int64) for name, values in state["arrays"].items()}
        for name in (*_FROM_MINUS_ONE, *_FROM_ZERO):
            setattr(self, name, arrays[name])
        for name in _TABLES:
            table = np.zeros((len(self.told), CENTERS_MAX), np.int64)
            table.reshape(-1)[arrays["places"]] = arrays[name]
            setattr(self, name, table)
        self.center_slot[:] = -1
        self.center_slot[np.array(state["centers"], np.int64)] = np.arange(len(state["centers"]))
        self.totals = np.array(state["totals"], np.int64)

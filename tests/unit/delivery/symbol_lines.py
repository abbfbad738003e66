"""Level 1 lines of a small market with running totals, for tests of silence and counters; and what a pipeline makes of them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from l2_platform.delivery.gap_rows import Gap
from l2_platform.delivery.gap_watch import watch_lines
from l2_platform.delivery.gaps import GapTracker
from l2_platform.delivery.silence import SilenceRules
from l2_platform.delivery.symbol_gaps import SymbolGaps
from l2_platform.market.events import CONTENT_QUOTE, CONTENT_TRADE, NULL_TS, Level1Batch, Level1Kind
from l2_platform.market.instruments import SymbolTable

S = 1_000_000_000
MS = 1_000_000
STREAM = "iqfeed-level1-0"
DATE = 20261120
COLUMNS = ("kind", "symbol", "contents", "size", "total_volume", "trade_count", "market_center", "tick_id", "ts_recv")


@dataclass
class Tape:
    """A market that keeps its own totals; a line that is `lost` moves them and is not received."""

    rows: list[tuple[int, ...]] = field(default_factory=list)
    volume: dict[int, int] = field(default_factory=dict)
    trades: dict[int, int] = field(default_factory=dict)
    ticks: dict[tuple[int, int], int] = field(default_factory=dict)

    def print_(self, ts: int, symbol: int, size: int = 100, center: int = 5, *, lost: bool = False) -> None:
        self.volume[symbol] = self.volume.get(symbol, 0) + size
        self.trades[symbol] = self.trades.get(symbol, 0) + 1
        tick = self.ticks[symbol, center] = self.ticks.get((symbol, center), 0) + 1
        if not lost:
            totals = (self.volume[symbol], self.trades[symbol])
            self.rows.append((Level1Kind.QUOTE, symbol, CONTENT_TRADE & 1, size, *totals, center, tick, ts))

    def quote(self, ts: int, symbol: int, *, lost: bool = False, summary: bool = False) -> None:
        if not lost:
            kind = Level1Kind.SUMMARY if summary else Level1Kind.QUOTE
            totals = (self.volume.get(symbol, 0), self.trades.get(symbol, 0))
            self.rows.append((kind, symbol, CONTENT_QUOTE, 100, *totals, 5, 0, ts))

    def clock(self, ts: int) -> None:
        self.rows.append((Level1Kind.CLOCK, -1, 0, -1, -1, -1, -1, 0, ts))

    def batch(self, start: int = 0, stop: int | None = None) -> Level1Batch:
        """Lines [start, stop) in the order of their times; seq is the place."""
        rows = sorted(self.rows, key=lambda row: row[-1])
        return batch_of(np.array(rows, np.int64).reshape(-1, len(COLUMNS)), start, len(rows) if stop is None else stop)


def batch_of(table: Any, start: int, stop: int) -> Level1Batch:
    """Rows of a table with COLUMNS as decoded lines."""
    count = stop - start
    columns: dict[str, Any] = {
        name: np.zeros(count, np.int64) for name in Level1Batch.__dataclass_fields__ if name not in COLUMNS and name != "seq"
    }
    kinds = {"kind": np.uint8, "symbol": np.int32, "contents": np.uint32, "market_center": np.int32, "tick_id": np.uint64}
    for number, name in enumerate(COLUMNS):
        columns[name] = table[start:stop, number].astype(kinds.get(name, np.int64))
    return Level1Batch(seq=np.arange(start + 1, stop + 1).astype(np.uint64), **columns)


class Watch:
    """A tracker and the gaps of its symbols, as a pipeline has them."""

    def __init__(self, symbols: int, rules: SilenceRules | None = None, **options: Any) -> None:
        self.tracker = GapTracker(STREAM, DATE, NULL_TS)
        self.names = SymbolTable([f"SYM{number:03d}" for number in range(symbols)])
        self._options = (rules or SilenceRules(), options)
        self.gaps = SymbolGaps(self.tracker, self.names, self._options[0], **options)

    def lines(self, batch: Level1Batch) -> None:
        watch_lines(self.tracker, self.gaps, batch)

    def control(self, event: str, ts: int, seq: int, **fields: Any) -> None:
        self.tracker.on_control(event, fields, ts, seq)
        self.gaps.on_control(event, fields, ts, seq)

    def end(self, ts: int, seq: int) -> None:
        self.tracker.end(ts, seq)
        self.gaps.end(ts, seq)

    def restarted(self) -> "Watch":
        """Another one that goes on from this one's saved state."""
        other = Watch(len(self.names), self._options[0], **self._options[1])
        other.tracker.restore(self.tracker.state())
        other.gaps.restore(self.gaps.freeze().pack())
        return other

    def take(self) -> list[Gap]:
        return self.tracker.take()


def in_cuts(watch: Watch, tape: Tape, cuts: Sequence[int], restarts: Sequence[int] = ()) -> list[Gap]:
    """All rows of a tape that is read in pieces, with a restart from saved state at some of the cuts."""
    rows: list[Gap] = []
    places = [0, *sorted(cuts), len(tape.rows)]
    for start, stop in itertools.pairwise(places):
        watch.lines(tape.batch(start, stop))
        rows += watch.take()
        if stop in restarts:
            watch = watch.restarted()
    watch.end(NULL_TS, len(tape.rows))
    return rows + watch.take()

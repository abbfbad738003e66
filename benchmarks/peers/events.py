"""Price level events for every book alike: from lines that the platform's decoder read, as plain arrays in a file, and the tops that
the platform's own engine gives after each of them.

What does not belong here: other libraries.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.book import Updates
from l2_platform.market.events import BID, NULL_PRICE, DepthBatch, DepthKind

Ints = npt.NDArray[np.int64]
CENT: int = 10_000_000
"""A tick of the generated and of the recorded prices, in 1e-9."""


@dataclass(slots=True)
class Tape:
    """Events of some symbols: `head` of them build the books, the others are timed."""

    name: str
    updates: Updates
    """The same events as the engine takes them."""
    symbol: Ints
    bid: npt.NDArray[np.bool_]
    tick: Ints
    size: Ints
    """0 deletes the level."""
    seq: Ints
    head: int

    @property
    def symbols(self) -> int:
        """Books."""
        return len(self.updates.symbols)

    @property
    def timed(self) -> int:
        """Events behind the head."""
        return len(self.tick) - self.head

    def save(self, path: Path) -> None:
        """For the peers' environment."""
        np.savez(
            path,
            symbol=self.symbol,
            bid=self.bid,
            tick=self.tick,
            size=self.size,
            head=self.head,
            symbols=self.symbols,
            tick_size=0.01,
        )

    def answers(self) -> Ints:
        """Tick and size of the best bid and ask after each timed event, from the engine's records of every change of the top."""
        engine = self.updates.engine(0, 1)
        parts = [engine.apply(batch, "recv") for batch in self.updates.batches]
        seq, symbol = (np.concatenate([getattr(part, name) for part in parts]) for name in ("seq", "symbol"))
        sides = [
            np.concatenate([getattr(part, name)[:, 0] for part in parts])
            for name in ("bid_px", "bid_sz", "ask_px", "ask_sz")
        ]
        empty = [sides[0] == NULL_PRICE, sides[0] == NULL_PRICE, sides[2] == NULL_PRICE, sides[2] == NULL_PRICE]
        found = np.stack(
            [
                np.where(none, 0, side // CENT if at in (0, 2) else side)
                for at, (side, none) in enumerate(zip(sides, empty, strict=True))
            ],
            axis=1,
        )
        tops = self._head_tops()
        answers = np.zeros((self.timed, 4), np.int64)
        at = 0
        for row, (number, event) in enumerate(
            zip(self.symbol[self.head :].tolist(), self.seq[self.head :].tolist(), strict=True)
        ):
            while at < len(seq) and seq[at] <= event:
                tops[symbol[at]] = found[at]
                at += 1
            answers[row] = tops[number]
        return answers

    def _head_tops(self) -> Ints:
        """The tops of all symbols before the first timed event."""
        tops = np.zeros((self.symbols, 4), np.int64)
        for number in range(self.symbols):
            rows = np.flatnonzero(self.symbol[: self.head] == number)
            for side, best in ((True, max), (False, min)):
                levels: dict[int, int] = {}
                for row in rows[self.bid[rows] == side].tolist():
                    levels[int(self.tick[row])] = int(self.size[row])
                ticks = [tick for tick, size in levels.items() if size]
                if ticks:
                    place = 0 if side else 2
                    tops[number, place : place + 2] = best(ticks), levels[best(ticks)]
        return tops


def tape_of(name: str, updates: Updates) -> Tape:
    """The level events of decoded lines; ValueError when a price is no whole number of cents."""
    parts = [_levels(batch) for batch in (updates.start, *updates.batches)]
    head = len(parts[0][0])
    symbol, bid, tick, size, seq = (np.concatenate([part[at] for part in parts]) for at in range(5))
    return Tape(name, updates, symbol, bid, tick, size, seq, head)


def _levels(batch: DepthBatch) -> tuple[Ints, npt.NDArray[np.bool_], Ints, Ints, Ints]:
    kinds = [int(kind) for kind in (DepthKind.LEVEL_SUMMARY, DepthKind.LEVEL_UPDATE, DepthKind.LEVEL_DELETE)]
    rows = np.isin(batch.kind, kinds)
    price = batch.price[rows]
    if (price % CENT).any():
        msg = "a price is no whole number of cents"
        raise ValueError(msg)
    size = np.where(batch.kind[rows] == kinds[2], 0, batch.size[rows])
    return (
        batch.symbol[rows].astype(np.int64), batch.side[rows] == BID, price // CENT, size, batch.seq[rows].astype(np.int64),
    )  # fmt: skip

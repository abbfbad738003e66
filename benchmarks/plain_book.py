"""The baseline of books: dictionaries and sorted lists, one row after the other, recording the top after every change of it.

Written as one would write it with care: a price is searched by bisection, the top is compared only when the row can have changed it.
What does not belong here: trust, clears and all else that is no update of a book.
"""

from bisect import bisect_left, insort

import numpy as np

from l2_platform.market.events import BID, NULL_PRICE, DepthBatch, DepthKind, SnapshotBatch

DELETES = {DepthKind.DELETE, DepthKind.LEVEL_DELETE}
BY_LEVEL = {DepthKind.LEVEL_SUMMARY, DepthKind.LEVEL_UPDATE, DepthKind.LEVEL_DELETE}
Top = tuple[tuple[int, int, int], ...]


class PlainSide:
    """One side of a book: rows by their key, sums by price, prices best first (bids are kept negative)."""

    __slots__ = ("levels", "prices", "rows", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.rows: dict[int, tuple[int, int]] = {}
        self.levels: dict[int, tuple[int, int]] = {}
        self.prices: list[int] = []

    def put(self, key: int, price: int, size: int) -> int:
        """An order or a venue's best row; the best place that changed."""
        place = self.drop(key)
        self.rows[key] = price, size
        return min(place, self.add(price, size, 1))

    def drop(self, key: int) -> int:
        """Delete it; the place that changed."""
        row = self.rows.pop(key, None)
        return self.add(row[0], -row[1], -1) if row is not None else len(self.prices)

    def add(self, price: int, size: int, count: int) -> int:
        """Add to what rests at a price; its place."""
        ranked = self.sign * price
        total, number = self.levels.get(ranked, (0, 0))
        return self.set_level(price, total + size, number + count) if number + count else self.remove(ranked)

    def set_level(self, price: int, size: int, count: int) -> int:
        """What rests at a price; its place."""
        ranked = self.sign * price
        if ranked not in self.levels:
            insort(self.prices, ranked)
        self.levels[ranked] = size, count
        return bisect_left(self.prices, ranked)

    def remove(self, ranked: int) -> int:
        """Nothing rests there any more; where it was."""
        place = bisect_left(self.prices, ranked)
        if self.levels.pop(ranked, None) is not None:
            del self.prices[place]
        return place

    def top(self, levels: int) -> Top:
        """The best levels: price, size, count."""
        return tuple((self.sign * price, *self.levels[price]) for price in self.prices[:levels])


def apply_plainly(
    books: dict[int, tuple[PlainSide, PlainSide]], batch: DepthBatch, levels: int = 10
) -> list[tuple[int, Top, Top]]:
    """Apply every row; (row, bids, asks) after each row that changed the top."""
    recorded = []
    columns = (batch.kind, batch.symbol, batch.side, batch.order_id, batch.mmid, batch.price, batch.size, batch.count)
    for row, (kind, symbol, letter, order, mmid, price, size, count) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
        sides = books.get(symbol)
        if sides is None:
            sides = books[symbol] = PlainSide(-1), PlainSide(1)
        side = sides[0] if letter == BID else sides[1]
        before = side.top(levels)
        if kind in BY_LEVEL:
            place = side.remove(side.sign * price) if kind in DELETES else side.set_level(price, size, count)
        else:
            key = order or -mmid
            place = side.drop(key) if kind in DELETES else side.put(key, price, size)
        if place < levels and side.top(levels) != before:
            recorded.append((row, sides[0].top(levels), sides[1].top(levels)))
    return recorded


def check_same(recorded: list[tuple[int, Top, Top]], snapshots: SnapshotBatch, batch: DepthBatch) -> None:
    """AssertionError unless the engine recorded the same rows with the same levels."""
    rows = [row for row, _, _ in recorded]
    if not np.array_equal(batch.seq[rows], snapshots.seq):
        raise AssertionError("the engine recorded other rows than the baseline")
    for at, (_, bids, asks) in enumerate(recorded):
        for side, prices, sizes, counts in (
            (bids, snapshots.bid_px[at], snapshots.bid_sz[at], snapshots.bid_ct[at]),
            (asks, snapshots.ask_px[at], snapshots.ask_sz[at], snapshots.ask_ct[at]),
        ):
            held = int((prices != NULL_PRICE).sum())
            ours = tuple(zip(prices[:held].tolist(), sizes[:held].tolist(), counts[:held].tolist(), strict=True))
            if ours != side:
                raise AssertionError(f"row {batch.line(int(rows[at]))!r}: {ours} is not {side}")

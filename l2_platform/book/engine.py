"""All books of one stream: a batch of depth rows goes in, rows of the top of the book come out.

All three shapes of depth live in the same engine, one per symbol, fixed by its first row: order by order, one row per venue and side,
price levels. What does not belong here: reading bytes (feeds), writing rows (sinks), time (it comes with the rows).
"""

from typing import Any, Final, Literal

import numpy as np

from l2_platform.book import book_kernels as kernels
from l2_platform.book.state import BookImage, BookState
from l2_platform.errors import BookError
from l2_platform.market.events import DepthBatch, Int64, SnapshotBatch, Trust
from l2_platform.market.instruments import SymbolTable

LEVELS_MAX: Final = 1000
_FIRST_RECORDS: Final = 4096
_MARKS: Final = (kernels.B_SHAPE, kernels.B_TRUST, kernels.B_FRESH, kernels.B_CLEARED)


class BookEngine:
    """Books of up to millions of orders; see `BookState` for the memory of a symbol, a level and an order.

    `levels` is what counts as the top. A message that changes it is recorded when the journal time is at or after that of the
    symbol's last record plus `interval_ns` (0: every change). Data are never an error here: what is odd is counted (`counters`).
    """

    def __init__(self, symbols: SymbolTable, levels: int = 10, interval_ns: int = 100_000_000) -> None:
        if not 1 <= levels <= LEVELS_MAX or interval_ns < 0:
            raise BookError(f"levels must be 1 to {LEVELS_MAX} and interval_ns not negative, not {levels} and {interval_ns}")
        self.symbols = symbols
        self.levels = levels
        self.interval_ns = interval_ns
        self._state = BookState()
        self._records = _FIRST_RECORDS

    def apply(self, batch: DepthBatch, journal_ts: Literal["recv", "event"] = "recv") -> SnapshotBatch:
        """Apply every row in order, fill `batch.trust`, and return the recorded changes.

        `journal_ts` is the time of thinning: `recv` for live streams, `event` (the running maximum) for imports.
        """
        return self._run(batch, journal_ts == "event", self.levels, kernels.MODE_THINNED, -1)

    def apply_all(
        self, batch: DepthBatch, symbol: int | None = None, levels: int | None = None, changes_only: bool = False
    ) -> SnapshotBatch:
        """Apply every row; return the top `levels` of one symbol after every line of the stream, or after its changes only.

        Thinning plays no part and is not touched. A symbol that was never seen has empty rows.
        """
        mode = kernels.MODE_EVERY_CHANGE if changes_only else kernels.MODE_EVERY_LINE
        chosen = 0 if symbol is None else symbol
        self._state.make_place(chosen + 1)
        return self._run(batch, False, levels or self.levels, mode, chosen)

    def reset(self) -> None:
        """A new session: empty books, open shapes, counters, thinning and time as at the start."""
        self._state.forget_books()
        self._state.forget_history()

    def reset_for_reconnect(self) -> None:
        """The connection was lost: every book is empty and building until the watches have brought it back."""
        self._state.forget_books()

    def mark_building(self) -> None:
        """Same as `reset_for_reconnect`: a book that must be rebuilt is emptied first."""
        self.reset_for_reconnect()

    def mark_suspect(self) -> None:
        """Every book may be wrong until it is cleared or sent anew."""
        self._state.mark_suspect()

    def top(self, symbol: int, levels: int | None = None) -> tuple[Int64, Int64]:
        """`(bids, asks)`: rows of price, size, count, best first, at most `levels` (None: all)."""
        return self._state.side_levels(symbol, 0)[:levels], self._state.side_levels(symbol, 1)[:levels]

    def trust(self, symbol: int) -> Trust:
        """How far the book can be believed now."""
        if not 0 <= symbol < self._state.symbols:
            return Trust.BUILDING
        return Trust(int(self._state.books[symbol * kernels.BOOK_WORDS + kernels.B_TRUST]))

    def shape(self, symbol: int) -> str:
        """`none`, `orders`, `venues` or `levels`."""
        if not 0 <= symbol < self._state.symbols:
            return "none"
        return ("none", "orders", "venues", "levels")[int(self._state.books[symbol * kernels.BOOK_WORDS + kernels.B_SHAPE])]

    def marks(self) -> Int64:
        """Shape, trust, freshness and cleared sides of every symbol, one row each: with orders and levels, all that decides its book."""
        table = self._state.books.reshape(-1, kernels.BOOK_WORDS)[: len(self.symbols)]
        return table[:, list(_MARKS)].copy()

    def set_marks(self, symbol: int, marks: Int64) -> None:
        """Undo `marks` for one symbol, after rows that brought its orders and levels."""
        self._state.make_place(symbol + 1)
        self._state.books.reshape(-1, kernels.BOOK_WORDS)[symbol, list(_MARKS)] = marks
        if marks[1] == Trust.BUILDING and not marks[2]:
            self._state.totals[kernels.G_BUILDING] = 1

    @property
    def awaits_clock(self) -> bool:
        """Whether a clock line may change the trust of a book."""
        return bool(self._state.totals[kernels.G_BUILDING])

    def orders(self) -> Int64:
        """Every order and venue row: symbol, side (0 bid, 1 ask), id, price, size; by symbol, side and id. A venue's id has its side."""
        held = self._state.living_orders(sort=True)
        owner = held[:, 1] >> 32
        return np.column_stack([(owner >> 1) - 1, owner & 1, held[:, 0], held[:, 2], held[:, 3]])

    def levels_held(self) -> Int64:
        """Every level of every book: symbol, side (0 bid, 1 ask), price, size, count; by symbol and side, best first."""
        return self._state.levels_held(len(self.symbols))

    @property
    def counters(self) -> dict[str, int]:
        """Sums over all symbols since the session began: unknown_deletes, negative_sizes, crossed, locked (times that a book became
        so), mixed_shapes (rows of another shape than the symbol's, ignored), clears.
        """
        sums = self._state.counters.reshape(-1, kernels.COUNTER_WORDS).sum(axis=0)
        return {name: int(value) for name, value in zip(kernels.COUNTERS, sums, strict=True)}

    def findings(self) -> dict[str, dict[str, int]]:
        """The counters by symbol, only those that are not 0."""
        table = self._state.counters.reshape(-1, kernels.COUNTER_WORDS)
        return {
            self.symbols.names[number]: {
                name: int(value) for name, value in zip(kernels.COUNTERS, table[number], strict=True) if value
            }
            for number in np.flatnonzero(table.any(axis=1))
        }

    def memory_bytes(self) -> int:
        """Bytes that the books take now."""
        return self._state.memory_bytes

    def dump(self) -> bytes:
        """Everything that decides how it goes on (books, trust, shapes, thinning, counters): for checkpoints."""
        return self._state.dump(self.symbols.names)

    def freeze(self) -> BookImage:
        """What `dump` packs, as it is now."""
        return self._state.freeze(self.symbols.names)

    def load(self, data: bytes) -> None:
        """Go on from a `dump`; names missing in the symbol table are added. BookError when it cannot be used; nothing is changed."""
        self._state = BookState.load(data, self.symbols)

    def content_hash(self) -> str:
        """Hex SHA-256 of the logical state: equal for equal histories, however the tables lie in memory."""
        return self._state.content_hash(self.symbols.names)

    def _run(self, batch: DepthBatch, use_event: bool, top: int, mode: int, chosen: int) -> SnapshotBatch:
        state = self._state
        state.make_place(max(len(self.symbols), int(batch.symbol.max(initial=-1)) + 1))
        totals = state.totals
        totals[kernels.G_ROW] = totals[kernels.G_RECORDS] = totals[kernels.G_PAIR] = 0
        batch.trust = np.zeros(len(batch), np.uint8)
        records = len(batch) if mode == kernels.MODE_EVERY_LINE else min(self._records, len(batch))
        columns = _record_columns(records, top)
        while True:
            status = kernels.apply_rows(
                batch.kind, batch.symbol, batch.side, batch.order_id, batch.mmid, batch.price, batch.size, batch.count,
                batch.ts_event, batch.ts_recv, batch.pair_price, batch.pair_size, batch.trust,
                state.books, state.sides, state.levels, state.orders, state.counters, totals,
                use_event, self.interval_ns, top, mode, chosen, *columns,
            )  # fmt: skip
            if status == kernels.DONE:
                break
            if totals[kernels.G_RECORDS] >= len(columns[0]):
                columns = [np.concatenate([column, np.empty_like(column)]) for column in columns]
                self._records = max(self._records, len(columns[0]))
            state.make_room()
        return self._snapshot(batch, columns, int(totals[kernels.G_RECORDS]), top, chosen if mode == kernels.MODE_EVERY_LINE else -1)

    def _snapshot(self, batch: DepthBatch, columns: list[Any], held: int, top: int, chosen: int) -> SnapshotBatch:
        rows = columns[0][:held]
        sides = [column[: held * top].reshape(held, top) for column in columns[2:]]
        symbol = np.full(held, chosen, np.int32) if chosen >= 0 else batch.symbol[rows]
        return SnapshotBatch(
            seq=batch.seq[rows],
            symbol=symbol,
            ts_event=batch.ts_event[rows],
            ts_recv=batch.ts_recv[rows],
            trust=columns[1][:held].copy(),
            bid_px=sides[0],
            bid_sz=sides[1],
            bid_ct=sides[2],
            ask_px=sides[3],
            ask_sz=sides[4],
            ask_ct=sides[5],
        )


def _record_columns(records: int, top: int) -> list[Any]:
    wide = records * top
    kinds = (np.int64, np.int64, np.int32)
    return [np.empty(records, np.int64), np.empty(records, np.uint8), *(np.empty(wide, kind) for kind in (*kinds, *kinds))]

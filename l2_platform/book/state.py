"""The arrays of all books of one stream, their growth, and their exact image for checkpoints.

What does not belong here: what a message does to a book (`book_kernels`), and how batches come in (`engine`).
"""

import hashlib
import json
import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
import zstandard

from l2_platform.book import book_kernels as kernels
from l2_platform.errors import BookError
from l2_platform.market.events import NULL_TS, Int64
from l2_platform.market.instruments import SymbolTable

MAGIC: Final = b"L2BK"
VERSION: Final = 1
_FIRST_SLOTS: Final = 1 << 12
_FIRST_LEVELS: Final = 1 << 10


@dataclass(frozen=True, slots=True)
class BookImage:
    """The state of all books at one moment, cheap to take: packing it costs several times as much."""

    parts: tuple[bytes | memoryview, ...]
    """Copies: the books go on meanwhile."""

    def pack(self) -> bytes:
        """Versioned and compressed, as `BookState.load` takes it."""
        body = b"".join(piece for part in self.parts for piece in (struct.pack("<Q", len(part)), part))
        return MAGIC + struct.pack("<H", VERSION) + zstandard.ZstdCompressor(level=1).compress(body)


class BookState:
    """Books by symbol number, grown when they need to be, never smaller.

    Memory: 176 bytes a symbol, 24 bytes a level (blocks of 16, doubled when full), and 32 bytes an order in a table that is between
    a quarter and five eighths full.
    """

    def __init__(self) -> None:
        self.books: Int64 = np.zeros(0, np.int64)
        self.sides: Int64 = np.zeros(0, np.int64)
        self.counters: Int64 = np.zeros(0, np.int64)
        self.levels: Int64 = np.zeros(_FIRST_LEVELS * kernels.LEVEL_WORDS, np.int64)
        self.orders: Int64 = np.zeros(_FIRST_SLOTS * kernels.ORDER_WORDS, np.int64)
        self.totals: Int64 = np.zeros(kernels.G_WORDS, np.int64)
        self.totals[kernels.G_TIME] = NULL_TS

    @property
    def symbols(self) -> int:
        """Symbols that have a place."""
        return len(self.books) // kernels.BOOK_WORDS

    @property
    def memory_bytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (self.books, self.sides, self.counters, self.levels, self.orders, self.totals)
        return sum(array.nbytes for array in arrays)

    def make_place(self, symbols: int) -> None:
        """Have a place for symbol numbers below `symbols`."""
        held = self.symbols
        if symbols <= held:
            return
        room = max(symbols, 2 * held, 16)
        books = np.zeros((room, kernels.BOOK_WORDS), np.int64)
        books[:, kernels.B_FRESH] = 1
        books[:, kernels.B_LAST] = NULL_TS
        books[:held] = self.books.reshape(held, kernels.BOOK_WORDS)
        self.books = books.reshape(-1)
        sides = np.zeros((2 * room, kernels.SIDE_WORDS), np.int64)
        sides[: 2 * held] = self.sides.reshape(2 * held, kernels.SIDE_WORDS)
        self.sides = sides.reshape(-1)
        self.counters = np.concatenate([self.counters, np.zeros((room - held) * kernels.COUNTER_WORDS, np.int64)])

    def make_room(self) -> None:
        """Have room for more orders and levels: what is nearly full is doubled."""
        slots = len(self.orders) // kernels.ORDER_WORDS
        if self.totals[kernels.G_ORDERS] + 2 > slots // 8 * 5:
            self._rehash(slots)
            if self.totals[kernels.G_ORDERS] > slots // 4:
                self._rehash(2 * slots)
        largest = int(self.sides.reshape(-1, kernels.SIDE_WORDS)[:, kernels.S_ROOM].max(initial=kernels.FIRST_ROOM))
        held = len(self.levels) // kernels.LEVEL_WORDS
        if self.totals[kernels.G_POOL] + 4 * largest > held:
            more = max(held, 8 * largest)
            self.levels = np.concatenate([self.levels, np.zeros(more * kernels.LEVEL_WORDS, np.int64)])

    def _rehash(self, slots: int) -> None:
        table = np.zeros(slots * kernels.ORDER_WORDS, np.int64)
        self.totals[kernels.G_ORDERS] = kernels.rehash(self.orders, table, self.sides)
        self.orders = table

    def forget_books(self) -> None:
        """Every book empty and fresh, its shape open; counters, thinning and time stay."""
        books = self.books.reshape(-1, kernels.BOOK_WORDS)
        for word in (kernels.B_SHAPE, kernels.B_TRUST, kernels.B_CROSS, kernels.B_CLEARED):
            books[:, word] = 0
        books[:, kernels.B_FRESH] = 1
        sides = self.sides.reshape(-1, kernels.SIDE_WORDS)
        sides[:, kernels.S_COUNT] = 0
        sides[:, kernels.S_EPOCH] = (sides[:, kernels.S_EPOCH] + 1) & 0xFFFFFFFF
        self.totals[kernels.G_BUILDING] = 0

    def forget_history(self) -> None:
        """Counters, thinning and time as at the start of a stream."""
        self.books.reshape(-1, kernels.BOOK_WORDS)[:, kernels.B_LAST] = NULL_TS
        self.counters[:] = 0
        self.totals[kernels.G_TIME] = NULL_TS

    def mark_suspect(self) -> None:
        """Every book that has a shape is suspect."""
        books = self.books.reshape(-1, kernels.BOOK_WORDS)
        known = books[:, kernels.B_SHAPE] != kernels.SHAPE_NONE
        books[known, kernels.B_TRUST] = 2
        books[known, kernels.B_CLEARED] = 0

    def side_levels(self, symbol: int, side: int) -> Int64:
        """All levels of a side, rows of price, size, count, best first."""
        if not 0 <= symbol < self.symbols:
            return np.zeros((0, kernels.LEVEL_WORDS), np.int64)
        at = (2 * symbol + side) * kernels.SIDE_WORDS
        first, count = int(self.sides[at + kernels.S_AT]), int(self.sides[at + kernels.S_COUNT])
        block = self.levels.reshape(-1, kernels.LEVEL_WORDS)[first : first + count]
        return block[::-1].copy()

    def levels_held(self, symbols: int) -> Int64:
        """Rows of symbol, side, price, size, count of the first `symbols` books, best first."""
        symbols = min(symbols, self.symbols)
        counts = self.sides.reshape(-1, kernels.SIDE_WORDS)[: 2 * symbols, kernels.S_COUNT]
        levels: Int64 = np.empty(int(counts.sum()) * kernels.LEVEL_WORDS, np.int64)
        kernels.copy_levels(self.levels, self.sides, 2 * symbols, levels)
        owner = np.repeat(np.arange(2 * symbols), counts)
        return np.column_stack([owner >> 1, owner & 1, levels.reshape(-1, kernels.LEVEL_WORDS)])

    def living_orders(self, *, sort: bool) -> Int64:
        """Rows of id, owner (epoch 0), price, size; sorted by owner and id they are the same for every layout of the table."""
        room: Int64 = np.empty(int(self.totals[kernels.G_ORDERS]) * kernels.ORDER_WORDS, np.int64)
        held = kernels.copy_orders(self.orders, self.sides, room)
        table = room[: held * kernels.ORDER_WORDS].reshape(-1, kernels.ORDER_WORDS)
        return table[np.lexsort((table[:, 0], table[:, 1]))] if sort else table

    def image(self, names: list[str], *, sort: bool) -> list[bytes | memoryview]:
        """Everything that decides how it goes on, independent of how the tables lie in memory."""
        symbols = min(self.symbols, len(names))
        sides = self.sides.reshape(-1, kernels.SIDE_WORDS)[: 2 * symbols]
        counts = np.ascontiguousarray(sides[:, kernels.S_COUNT])
        levels: Int64 = np.empty(int(counts.sum()) * kernels.LEVEL_WORDS, np.int64)
        kernels.copy_levels(self.levels, self.sides, 2 * symbols, levels)
        head = {
            "symbols": symbols,
            "names": names[:symbols],
            "time": int(self.totals[kernels.G_TIME]),
            "building": int(self.totals[kernels.G_BUILDING]),
        }
        return [
            json.dumps(head).encode(),
            self.books[: symbols * kernels.BOOK_WORDS].tobytes(),
            self.counters[: symbols * kernels.COUNTER_WORDS].tobytes(),
            counts.tobytes(),
            _bytes_of(levels),
            _bytes_of(self.living_orders(sort=sort)),
        ]

    def freeze(self, names: list[str]) -> "BookImage":
        """The image as it is now; packing it may wait, and be done by another thread."""
        return BookImage(tuple(self.image(names, sort=False)))

    def dump(self, names: list[str]) -> bytes:
        """The image, versioned and compressed."""
        return self.freeze(names).pack()

    def content_hash(self, names: list[str]) -> str:
        """SHA-256 of the image of the symbols that were ever touched, as hex."""
        symbols = min(self.symbols, len(names))
        books = self.books.reshape(-1, kernels.BOOK_WORDS)[:symbols]
        counters = self.counters.reshape(-1, kernels.COUNTER_WORDS)[:symbols]
        touched = np.flatnonzero((books[:, kernels.B_SHAPE] != 0) | counters.any(axis=1))
        used = int(touched[-1]) + 1 if len(touched) else 0
        digest = hashlib.sha256()
        for part in self.image(names[:used], sort=True):
            digest.update(struct.pack("<Q", len(part)))
            digest.update(part)
        return digest.hexdigest()

    @classmethod
    def load(cls, data: bytes, table: SymbolTable) -> "BookState":
        """The state of a `dump`; BookError when it is none, too new, or numbers other symbols than `table`."""
        if data[:4] != MAGIC or len(data) < 6:
            raise BookError("this is no book image; rebuild the books from the journal")
        (version,) = struct.unpack_from("<H", data, 4)
        if version != VERSION:
            raise BookError(f"book image of version {version}; this program reads {VERSION}: rebuild from the journal")
        try:
            body = zstandard.ZstdDecompressor().decompress(data[6:])
        except zstandard.ZstdError as error:
            raise BookError(f"book image is damaged ({error}); rebuild the books from the journal") from error
        parts = []
        at = 0
        while at < len(body):
            (length,) = struct.unpack_from("<Q", body, at)
            parts.append(body[at + 8 : at + 8 + length])
            at += 8 + length
        head = json.loads(parts[0])
        for number, name in enumerate(head["names"]):
            if table.intern(name) != number:
                raise BookError(f"book image numbers {name} {number}, the symbol table does not; they are of different checkpoints")
        state = cls()
        state._fill(head["symbols"], [np.frombuffer(part, np.int64) for part in parts[1:]])
        state.totals[kernels.G_TIME] = head["time"]
        state.totals[kernels.G_BUILDING] = head["building"]
        return state

    def _fill(self, symbols: int, parts: list[Int64]) -> None:
        books, counters, counts, levels, orders = parts
        self.make_place(symbols)
        self.books[: len(books)] = books
        self.counters[: len(counters)] = counters
        sides = self.sides.reshape(-1, kernels.SIDE_WORDS)
        rows = levels.reshape(-1, kernels.LEVEL_WORDS)
        rooms = np.where(counts > 0, kernels.FIRST_ROOM, 0)
        while (counts > rooms).any():
            rooms = np.where(counts > rooms, 2 * rooms, rooms)
        starts = np.concatenate([[0], np.cumsum(rooms)])
        pool = np.zeros((max(2 * int(starts[-1]), _FIRST_LEVELS), kernels.LEVEL_WORDS), np.int64)
        at = 0
        for index in np.flatnonzero(counts):
            count = int(counts[index])
            pool[starts[index] : starts[index] + count] = rows[at : at + count][::-1]
            at += count
        sides[: len(counts), kernels.S_AT] = starts[:-1]
        sides[: len(counts), kernels.S_ROOM] = rooms
        sides[: len(counts), kernels.S_COUNT] = counts
        self.levels = pool.reshape(-1)
        self.totals[kernels.G_POOL] = starts[-1]
        slots = _FIRST_SLOTS
        while len(orders) // kernels.ORDER_WORDS > slots // 4:
            slots *= 2
        self.orders = np.array(orders, np.int64)
        self._rehash(slots)


def _bytes_of(array: Int64) -> memoryview:
    """The memory of an array, not copied again."""
    return array.reshape(-1).data.cast("B")

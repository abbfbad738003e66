"""What is known of every symbol at the played instant: book rows and last Level 1 lines, for clients that come late.

It follows the lines lazily: what was played is applied when somebody asks, or when a piece is over. What does not belong here:
clients and pace (`player`).
"""

import mmap
from contextlib import suppress
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from l2_platform.feeds.iqfeed.layouts import DEFAULT_FIELDS
from l2_platform.market.events import DepthBatch, Int32, Int64, Level1Batch, Level1Kind, UInt8
from l2_platform.replay import state_kernels as kernels
from l2_platform.replay.lines import Piece

Number = TypeVar("Number", np.int32, np.int64)
ROWS_MIN: Final = 1 << 12
ROWS_FIRST_MAX: Final = 1 << 20
"""Room for more living rows than these is made when they come, which takes tens of ms; up to here it is there from the beginning."""
_BURST_BYTES: Final = 1 << 16


class DepthState:
    """The living rows of every book, each as its last line."""

    def __init__(self, rows: int = ROWS_MIN) -> None:
        """`rows`: as many may live, by guess; memory that no row needed is never touched."""
        self._meta: Int64 = np.zeros(kernels.M_WORDS, np.int64)
        self._heads: Int32 = np.zeros(0, np.int32)
        self._tails: Int32 = np.zeros(0, np.int32)
        self._out: UInt8 = np.empty(_BURST_BYTES, np.uint8)
        self._shapes: UInt8 = np.zeros(0, np.uint8)
        self._make(min(max(1 << max(rows - 1, 1).bit_length(), ROWS_MIN), ROWS_FIRST_MAX))

    def forget(self) -> None:
        """Every book is empty; the memory stays, since fresh memory costs tens of ms while lines wait."""
        if not self.rows:
            return
        self._heads[:] = -1
        self._tails[:] = -1
        self._slots[:] = -1
        self._after[:-1] = np.arange(1, len(self._after), dtype=np.int32)
        self._after[-1] = -1
        self._meta[:] = 0

    def apply(self, piece: Piece, first: int, stop: int) -> None:
        """Lines `first` to `stop - 1` of a depth piece."""
        batch = piece.batch
        assert isinstance(batch, DepthBatch)
        self._learn(int(batch.symbol[first:stop].max(initial=-1)) + 1)
        rows = slice(first, stop)
        levels = (batch.kind[rows] >= ord("7")) & (batch.kind[rows] <= ord("9")) & (batch.symbol[rows] >= 0)
        orders = (batch.kind[rows] >= ord("3")) & (batch.kind[rows] <= ord("6")) & (batch.symbol[rows] >= 0)
        self._shapes[batch.symbol[rows][levels]] = ord("7")
        self._shapes[batch.symbol[rows][orders]] = ord("6")
        while True:
            first = kernels.keep_lines(
                piece.data, piece.ends, first, stop, batch.kind, batch.symbol, batch.side, batch.order_id, batch.mmid, batch.price,
                batch.size, self._keys, self._owners, self._slots, self._after, self._before, self._heads, self._tails,
                self._lengths, self._texts, self._meta,
            )  # fmt: skip
            if first >= stop:
                return
            self._grow()

    def shape(self, symbol: int) -> str:
        """`order`, `level`, or `any` before the first line tells it."""
        letter = int(self._shapes[symbol]) if symbol < len(self._shapes) else 0
        return {ord("6"): "order", ord("7"): "level"}.get(letter, "any")

    def burst(self, symbol: int) -> bytes:
        """The rows of a symbol as lines 6 or 7, bids first, each side in the order in which its rows came."""
        if 2 * symbol + 1 >= len(self._heads):
            return b""
        return self._side(2 * symbol) + self._side(2 * symbol + 1)

    @property
    def rows(self) -> int:
        """Living rows of all books."""
        return int(self._meta[kernels.M_HELD])

    def _side(self, owner: int) -> bytes:
        size = kernels.copy_burst(owner, self._heads, self._after, self._lengths, self._texts, self._out)
        if size < 0:
            self._out = np.empty(-2 * size, np.uint8)
            return self._side(owner)
        return self._out[:size].tobytes()

    def _learn(self, symbols: int) -> None:
        held = len(self._shapes)
        if symbols <= held:
            return
        room = max(symbols, 2 * held, 64)
        fresh = np.full(2 * (room - held), -1, np.int32)
        self._heads, self._tails = np.concatenate([self._heads, fresh]), np.concatenate([self._tails, fresh])
        self._shapes = np.concatenate([self._shapes, np.zeros(room - held, np.uint8)])

    def _make(self, rows: int) -> None:
        self._keys: Int64 = np.full(rows, -1, np.int64)
        self._owners: Int32 = np.full(rows, -1, np.int32)
        self._after: Int32 = np.append(np.arange(1, rows, dtype=np.int32), np.int32(-1))
        self._before: Int32 = np.full(rows, -1, np.int32)
        self._lengths: Int32 = np.full(rows, -1, np.int32)
        self._texts: UInt8 = _untouched(rows * kernels.LINE_BYTES_MAX)
        self._slots: Int32 = np.full(4 * rows, -1, np.int32)
        self._meta[:] = 0

    def _grow(self) -> None:
        rows = len(self._keys)
        more = np.arange(rows + 1, 2 * rows + 1, dtype=np.int32)
        more[-1] = self._meta[kernels.M_FREE]
        self._meta[kernels.M_FREE] = rows
        self._keys, self._owners = _doubled(self._keys), _doubled(self._owners)
        self._after, self._before = np.concatenate([self._after, more]), _doubled(self._before)
        self._lengths = _doubled(self._lengths)
        texts, self._texts = self._texts, _untouched(2 * len(self._texts))
        self._texts[: len(texts)] = texts
        self._slots = np.full(8 * rows, -1, np.int32)
        kernels.place_rows(self._keys, self._owners, self._slots, self._heads, self._after)


class Level1State:
    """The last Q or P, F and R line of every symbol."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        self._first_fields = fields
        self.fields = fields
        """Columns of the stored Q and P lines now, Symbol first."""
        self._quotes: dict[int, tuple[tuple[str, ...], bytes]] = {}
        self._others: dict[int, dict[int, bytes]] = {}
        self.forget()

    def forget(self) -> None:
        """Nothing is known; the columns stay."""
        self._quotes = {}
        self._others = {Level1Kind.FUNDAMENTAL: {}, Level1Kind.REGIONAL: {}}

    def begin(self) -> None:
        """The stream's beginning."""
        self.forget()
        self.fields = self._first_fields

    def reconnected(self) -> None:
        """A fresh socket speaks the default columns until it acknowledges others."""
        self.fields = DEFAULT_FIELDS

    def apply(self, piece: Piece, first: int, stop: int) -> None:
        """Lines `first` to `stop - 1` of a Level 1 piece."""
        batch = piece.batch
        assert isinstance(batch, Level1Batch)
        kind, symbol = batch.kind[first:stop], batch.symbol[first:stop]
        quote = (kind == Level1Kind.QUOTE) | (kind == Level1Kind.SUMMARY)
        for number, row in _last_rows(quote, symbol):
            self._quotes[number] = (self.fields, piece.line(first + row))
        for letter, known in self._others.items():
            for number, row in _last_rows(kind == letter, symbol):
                known[number] = piece.line(first + row)

    def summary(self, symbol: int) -> tuple[tuple[str, ...], bytes]:
        """The newest line as a P line, and its columns (Symbol first); an empty line when none is known."""
        fields, line = self._quotes.get(symbol, (self.fields, b""))
        return fields, b"P" + line[1:] if line else b""

    def fundamental(self, symbol: int) -> bytes:
        """The F line; empty when none is known."""
        return self._others[Level1Kind.FUNDAMENTAL].get(symbol, b"")

    def regional(self, symbol: int) -> bytes:
        """The newest R line; empty when none is known."""
        return self._others[Level1Kind.REGIONAL].get(symbol, b"")


def _untouched(count: int) -> UInt8:
    """Bytes whose memory is taken in small pages when they are used: a huge page (numpy asks for them) is a stall of ms (measured)."""
    room = mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without huge pages
        room.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(room, np.uint8)


def _doubled(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Room for twice as many."""
    return np.concatenate([values, np.full(len(values), -1, values.dtype)])


def _last_rows(mask: Any, symbol: Int32) -> list[tuple[int, int]]:
    """(symbol, its last row) for the rows of a mask that have a symbol."""
    rows = np.flatnonzero(mask & (symbol >= 0))[::-1]
    # backwards, so that the first of each symbol is its last
    numbers, places = np.unique(symbol[rows], return_index=True)
    return list(zip(numbers.tolist(), rows[places].tolist(), strict=True))


def places_in(wanted: tuple[str, ...], stored: tuple[str, ...]) -> Int64:
    """For each wanted column where it stands in stored lines (Symbol is 0), -1 when it does not."""
    known = {name: place for place, name in reversed(list(enumerate(stored)))}
    return np.array([known.get(name, -1) for name in wanted], np.int64)

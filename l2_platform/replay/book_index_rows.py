"""Rows of a group of a book index, gathered from decoded batches, packed by symbol, and unpacked one symbol at a time.

What does not belong here: the file (book_index_file.py), the journal (book_index_build.py), books.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import zstandard

from l2_platform.book.book_kernels import SHAPE_LEVELS, SHAPE_ORDERS
from l2_platform.book.engine import BookEngine
from l2_platform.errors import BookIndexUnusable
from l2_platform.market.events import ASK, BID, NULL_PRICE, DepthBatch, Int64, UInt8
from l2_platform.replay import book_index_kernels as kernels

_COLUMNS: Final = ("code", "symbol", "slice", "key", "price", "size", "count")
_TYPES: Final = (np.uint8, np.int32, np.int32, np.uint64, np.int64, np.int64, np.int32)
_NO_KIND: Final = 255
_CODES: Final = np.full(256, _NO_KIND, np.uint8)
_CODES[kernels.KINDS] = np.arange(len(kernels.KINDS))
_PAIR_CODE: Final = int(_CODES[ord("2")])
_T_SYMBOL: Final = 0
_T_MARKS: Final = 1
_T_HELD: Final = 5
_T_ROWS: Final = 6
_T_PAIRS: Final = 7
_T_UNIT: Final = 8
_T_LENGTHS: Final = 9
"""Codes, the four streams of the kernels, rows a slice."""
_LENGTHS: Final = 6
_TABLE_WORDS: Final = _T_LENGTHS + _LENGTHS


class GatheredRows:
    """Rows that change books, in the order of the journal: what a group consists of."""

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, ...]] = []
        self._pairs: list[tuple[np.ndarray, ...]] = []
        self.count = 0
        """How many there are."""

    def add_books(self, engine: BookEngine) -> Int64:
        """The books as they are, as rows (of slice -1); marks of every symbol."""
        marks = engine.marks()
        orders, levels = engine.orders(), engine.levels_held()
        levels = levels[marks[levels[:, 0], 0] == SHAPE_LEVELS]
        # Sorted by price the differences are small.
        orders = orders[np.lexsort((orders[:, 2], orders[:, 3], orders[:, 1], orders[:, 0]))]
        is_order = marks[orders[:, 0], 0] == SHAPE_ORDERS
        code = _CODES[ord("3")] | np.where(is_order, kernels.ORDER_BIT, 0) | orders[:, 1] * kernels.SIDE_BIT
        key = np.where(is_order, orders[:, 2], orders[:, 2] & 0xFFFFFFFF)
        nothing = np.zeros(len(orders), np.int64)
        self._add(code, orders[:, 0], nothing - 1, key, orders[:, 3], orders[:, 4], nothing)
        nothing = np.zeros(len(levels), np.int64)
        code = _CODES[ord("8")] | levels[:, 1] * kernels.SIDE_BIT
        self._add(code, levels[:, 0], nothing - 1, nothing, levels[:, 2], levels[:, 3], levels[:, 4])
        return marks

    def add_batch(self, batch: DepthBatch, slice_of_row: Int64) -> None:
        """The rows of a batch that change a book."""
        code = _CODES[batch.kind]
        chosen = np.flatnonzero((code != _NO_KIND) & (batch.symbol >= 0))
        if not len(chosen):
            return
        code, order_id, price = code[chosen], batch.order_id[chosen], batch.price[chosen]
        code = code | np.where(batch.side[chosen] == ASK, kernels.SIDE_BIT, 0).astype(np.uint8)
        code |= np.where(order_id != 0, kernels.ORDER_BIT, 0).astype(np.uint8)
        code |= np.where(price == NULL_PRICE, kernels.NO_PRICE_BIT, 0).astype(np.uint8)
        if len(batch.pair_row):
            without = batch.pair_row[batch.pair_price == NULL_PRICE]
            code[np.searchsorted(chosen, without)] |= kernels.NO_PAIR_PRICE_BIT
            self._pairs.append((batch.symbol[batch.pair_row], batch.pair_price, batch.pair_size))
        key = np.where(order_id != 0, order_id, batch.mmid[chosen].astype(np.uint64))
        self._add(code, batch.symbol[chosen], slice_of_row[chosen], key, price, batch.size[chosen], batch.count[chosen])

    def _add(self, *columns: np.ndarray) -> None:
        self.count += len(columns[0])
        self._parts.append(tuple(column.astype(kind) for column, kind in zip(columns, _TYPES, strict=True)))

    def pack(self, marks: Int64, slices: int, chunk_bytes: int, level: int) -> Iterator[tuple[int, bytes]]:
        """(first symbol, bytes) of every chunk; `marks` as `add_books` told them, symbols that came later have none."""
        columns = [np.concatenate(parts) for parts in zip(*self._parts, strict=True)]
        order = np.argsort(columns[1], kind="stable")
        rows = dict(zip(_COLUMNS, (column[order] for column in columns), strict=True))
        pairs = [np.concatenate(parts) for parts in zip(*self._pairs, strict=True)] if self._pairs else [np.zeros(0, np.int64)] * 3
        order = np.argsort(pairs[0], kind="stable")
        pairs = [column[order] for column in pairs]
        touched = np.flatnonzero((marks != np.array([0, 0, 1, 0])).any(axis=1))
        symbols = np.union1d(touched, rows["symbol"])
        edges = np.searchsorted(rows["symbol"], np.append(symbols, symbols[-1:] + 1))
        pair_edges = np.searchsorted(pairs[0], np.append(symbols, symbols[-1:] + 1))
        held: list[tuple[Int64, list[bytes]]] = []
        size = 0
        for place, symbol in enumerate(symbols.tolist()):
            own = {name: column[edges[place] : edges[place + 1]] for name, column in rows.items()}
            two = [column[pair_edges[place] : pair_edges[place + 1]] for column in pairs[1:]]
            held.append(_pack_symbol(symbol, marks[symbol] if symbol < len(marks) else None, own, two, slices))
            size += sum(len(stream) for stream in held[-1][1])
            if size >= chunk_bytes:
                yield _pack_chunk(held, level)
                held, size = [], 0
        if held:
            yield _pack_chunk(held, level)


def _pack_symbol(
    symbol: int, marks: Int64 | None, own: dict[str, np.ndarray], pairs: list[np.ndarray], slices: int
) -> tuple[Int64, list[bytes]]:
    count = len(own["code"])
    places = 1 << max(4, (2 * count).bit_length())
    unit = kernels.price_unit(own["price"], pairs[0])
    streams = [np.empty(kernels.VARINT_BYTES_MAX * (count + len(pairs[0])), np.uint8) for _ in range(kernels.STREAMS)]
    ends = np.zeros(kernels.STREAMS, np.int64)
    refs, prices, sizes, counts = streams
    kernels.encode_rows(
        own["code"], own["key"], own["price"], own["size"], own["count"], pairs[0], pairs[1], unit,
        np.empty(places, np.uint64), np.full(places, -1, np.int32), np.empty(8 * count, np.int64), refs, prices, sizes, counts, ends,
    )  # fmt: skip
    held = int(np.searchsorted(own["slice"], 0))
    a_slice = np.bincount(own["slice"][held:], minlength=slices)
    numbers = np.empty(kernels.VARINT_BYTES_MAX * slices, np.uint8)
    parts = [
        own["code"].tobytes(), *(stream[:end].tobytes() for stream, end in zip(streams, ends, strict=True)),
        numbers[: kernels.put_all(a_slice, numbers)].tobytes(),
    ]  # fmt: skip
    known = [0, 0, 1, 0] if marks is None else [int(mark) for mark in marks]
    table = np.array([symbol, *known, held, count, len(pairs[0]), unit, *(len(part) for part in parts)], np.int64)
    return table, parts


def _pack_chunk(held: list[tuple[Int64, list[bytes]]], level: int) -> tuple[int, bytes]:
    table = np.array([row for row, _ in held])
    streams = [b"".join(parts[stream] for _, parts in held) for stream in range(_LENGTHS)]
    head = np.array([len(held)], np.int64).tobytes() + np.ascontiguousarray(table.T).tobytes()
    return int(table[0, _T_SYMBOL]), zstandard.ZstdCompressor(level=level).compress(head + b"".join(streams))


@dataclass(frozen=True, slots=True)
class SymbolRows:
    """One symbol in a group."""

    marks: Int64
    """Of its book at the beginning, as `BookEngine.set_marks` takes them."""
    held: int
    """How many rows make its book as it is at the beginning; the rest follows."""
    a_slice: Int64
    """Rows of each slice of the group."""
    rows: DepthBatch
    """Symbol 0, no times, ids replaced by small numbers."""


def unpack_symbol(data: bytes, symbol: int, slices: int, name: str) -> SymbolRows | None:
    """A symbol of a chunk, or None when it is not in it; BookIndexUnusable when the chunk makes no sense."""
    (count,) = np.frombuffer(data, np.int64, 1)
    table = np.frombuffer(data, np.int64, int(count) * _TABLE_WORDS, 8).reshape(_TABLE_WORDS, int(count))
    place = int(np.searchsorted(table[_T_SYMBOL], symbol))
    if place >= count or table[_T_SYMBOL, place] != symbol:
        return None
    lengths = table[_T_LENGTHS:]
    begins = 8 + table.nbytes + np.concatenate([[0], np.cumsum(lengths)[:-1]]).reshape(-1)
    begins = begins.reshape(_LENGTHS, int(count))[:, place]
    parts = [np.frombuffer(data, np.uint8, int(lengths[stream, place]), int(begins[stream])) for stream in range(_LENGTHS)]
    rows = _unpack_rows(parts, int(table[_T_ROWS, place]), int(table[_T_PAIRS, place]), int(table[_T_UNIT, place]))
    a_slice = np.empty(slices, np.int64)
    if rows is None or kernels.take_all(parts[-1], a_slice) != len(parts[-1]):
        raise BookIndexUnusable(f"{name} is damaged: rows of symbol {symbol} cannot be read", file=name)
    return SymbolRows(table[_T_MARKS:_T_HELD, place].copy(), int(table[_T_HELD, place]), a_slice, rows)


def _unpack_rows(parts: list[UInt8], count: int, pairs: int, unit: int) -> DepthBatch | None:
    batch = empty_rows(count, pairs)
    places = 1 << max(4, (2 * count).bit_length())
    codes, refs, prices, sizes, counts, _ = parts
    found = kernels.decode_rows(
        codes, refs, prices, sizes, counts, unit, kernels.KINDS, batch.kind,
        np.empty(places, np.uint64), np.full(places, -1, np.int32), np.empty(8 * count, np.int64), ASK, BID,
        batch.side, batch.order_id, batch.mmid, batch.price, batch.size, batch.count, batch.pair_price, batch.pair_size,
    )  # fmt: skip
    if found != pairs:
        return None
    batch.pair_row[:] = np.flatnonzero((parts[0] & 15 == _PAIR_CODE) | (parts[0] & 15 == _PAIR_CODE + 1))
    return batch


def empty_rows(count: int, pairs: int) -> DepthBatch:
    """A batch of `count` rows of symbol 0 without times, its other columns not filled in."""
    nothing = np.zeros(count, np.int64)
    return DepthBatch(
        buffer=np.zeros(0, np.uint8), seq=np.zeros(count, np.uint64), kind=np.empty(count, np.uint8), error=np.zeros(count, np.uint8),
        symbol=np.zeros(count, np.int32), side=np.empty(count, np.uint8), order_id=np.empty(count, np.uint64),
        mmid=np.empty(count, np.uint32), price=np.empty(count, np.int64), size=np.empty(count, np.int64),
        priority=np.zeros(count, np.uint64), count=np.empty(count, np.int32), ts_event=nothing, ts_recv=nothing, line_start=nothing,
        line_len=np.zeros(count, np.int32), pair_row=np.zeros(pairs, np.int64), pair_price=np.empty(pairs, np.int64),
        pair_size=np.empty(pairs, np.int64), pair_ts=np.zeros(pairs, np.int64),
    )  # fmt: skip


def changes_book(batch: DepthBatch, symbol: int) -> np.ndarray:
    """Which rows of a decoded batch are in the index under a symbol number."""
    chosen: np.ndarray = (batch.symbol == symbol) & (_CODES[batch.kind] != _NO_KIND)
    return chosen

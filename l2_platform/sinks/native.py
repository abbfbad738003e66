"""ClickHouse's Native format from column arrays: one block, without a Python object per row.

A block is: number of columns, number of rows, then per column its name, its type and its values. LowCardinality columns carry their
own dictionary, arrays their offsets, Nullable columns a map. The layouts name the columns that a TableBatch brings, in the table's
types. What does not belong here: SQL, connections.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from l2_platform.errors import SinkRejected
from l2_platform.market.compiled import kernel
from l2_platform.market.events import CONTENT_LETTERS, NULL_PRICE, NULL_TS, Int64, TableBatch
from l2_platform.market.timezone import new_york_offsets

Buffer = bytes | npt.NDArray[Any]
DAY_NS: Final = 86_400_000_000_000
LOW_CARDINALITY_VERSION: Final = (1).to_bytes(8, "little")
DICTIONARY_FLAGS: Final = 0x600
"""Own keys, new dictionary; the low byte says how wide the indices are."""
INDEX_TYPES: Final = (np.uint8, np.uint16, np.uint32)
DECIMAL: Final = "Decimal(18, 9)"
TIME: Final = "DateTime64(9, 'UTC')"
KIND: Final = (
    "Enum8('price_level_order' = 48, 'add' = 51, 'update' = 52, 'delete' = 53, 'summary' = 54, 'level_summary' = 55,"
    " 'level_update' = 56, 'level_delete' = 57, 'clear' = 75)"
)
SIDE: Final = "Enum8('none' = 0, 'ask' = 65, 'bid' = 66)"
TRUST: Final = "Enum8('building' = 0, 'good' = 1, 'suspect' = 2)"
AGGRESSOR: Final = "Enum8('none' = 0, 'buy' = 1, 'sell' = 2, 'neither' = 3)"
BASIS: Final = "Enum8('none' = 0, 'last' = 67, 'extended' = 69, 'other' = 79, 'settle' = 83)"
TEXT: Final = "String"
CODE: Final = "LowCardinality(String)"
NUMBERS: Final = {"UInt64": np.uint64, "Int64": np.int64, "Int32": np.int32, "UInt32": np.uint32, "UInt8": np.uint8}


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a table in Native types, in order."""

    columns: tuple[tuple[str, str], ...]
    levels: tuple[str, ...] = ()
    """Prices (of rows × levels) that say which levels are filled."""


_ROW: Final = (("seq", "UInt64"),)
_SYMBOL: Final = (("symbol", CODE), ("ts_event", f"Nullable({TIME})"), ("ts_recv", TIME))
_PRICE: Final = f"Nullable({DECIMAL})"


def _side_columns(side: str) -> tuple[tuple[str, str], ...]:
    return ((f"{side}_px", f"Array({DECIMAL})"), (f"{side}_sz", "Array(Int64)"), (f"{side}_ct", "Array(UInt32)"))


LAYOUTS: Final = {
    "depth_updates": Layout(
        (
            *_ROW, *_SYMBOL, ("kind", KIND), ("side", SIDE), ("price", DECIMAL), ("size", "Int64"), ("order_id", "UInt64"),
            ("mmid", CODE), ("priority", "UInt64"), ("order_count", "UInt32"), ("snapshot", "UInt8"), ("trust", TRUST),
        )
    ),
    "quotes": Layout(
        (
            *_ROW, *_SYMBOL, ("bid", _PRICE), ("bid_size", "Int64"), ("bid_market_center", "Int32"), ("ask", _PRICE),
            ("ask_size", "Int64"), ("ask_market_center", "Int32"), ("ts_bid", f"Nullable({TIME})"), ("ts_ask", f"Nullable({TIME})"),
            ("total_volume", "Int64"), ("delay", "Int32"), ("contents", CODE), ("snapshot", "UInt8"),
        )
    ),
    "trades": Layout(
        (
            *_ROW, *_SYMBOL, ("price", DECIMAL), ("size", "Int64"), ("market_center", "Int32"), ("conditions", CODE),
            ("tick_id", "UInt64"), ("aggressor", AGGRESSOR), ("day_code", "UInt8"), ("basis", BASIS), ("total_volume", "Int64"),
            ("bid", _PRICE), ("ask", _PRICE), ("trade_date", "Date"),
        )
    ),
    "history_bars": Layout(
        (
            *_ROW, ("symbol", CODE), ("interval_s", "UInt32"), ("ts_begin", TIME), ("ts_recv", TIME), ("open", DECIMAL),
            ("high", DECIMAL), ("low", DECIMAL), ("close", DECIMAL), ("volume", "Int64"), ("total_volume", "Int64"),
            ("trade_count", "Int64"),
        )
    ),
    "book_snapshots": Layout(
        (
            *_ROW, *_SYMBOL, ("trust", TRUST), *_side_columns("bid"), *_side_columns("ask"),
            ("total_bid_size", "Int64"), ("total_ask_size", "Int64"),
        ),
        levels=("bid_px", "ask_px"),
    ),
    "feed_events": Layout((*_ROW, ("ordinal", "UInt32"), *_SYMBOL, ("kind", CODE), ("detail", TEXT), ("raw", TEXT))),
    "gap_events": Layout(
        (
            *_ROW, ("ordinal", "UInt32"), ("gap_id", TEXT), ("symbols", "Array(String)"), ("ts_from", TIME),
            ("ts_to", f"Nullable({TIME})"), ("cause", CODE), ("evidence", TEXT), ("repair_source", CODE),
            ("rows_recovered", "UInt64"), ("residual", TEXT), ("explanation", CODE), ("repair_state", CODE), ("state", CODE),
            ("seq_before", "UInt64"), ("version", "UInt32"), ("ts_written", TIME),
        )
    ),
}  # fmt: skip
"""Table → columns without stream, session_date and source, which are constants of a batch."""


class NativeEncoder:
    """Turns rows of TableBatches into Native blocks; one per thread."""

    def __init__(self) -> None:
        self._names: list[str] | None = None
        self._symbols: list[bytes] = []
        """Names of the stream's symbol list as dictionary keys; the list only grows."""

    def encode(self, batch: TableBatch, start: int, stop: int) -> bytes:
        """Rows [start, stop) as one block; raise SinkRejected for values that the table cannot hold."""
        layout = LAYOUTS.get(batch.table)
        if layout is None:
            raise SinkRejected(f"no table is called {batch.table}", table=batch.table)
        rows = stop - start
        parts: list[Buffer] = [_varint(len(layout.columns) + 3), _varint(rows)]
        parts += _constant("stream", batch.stream, rows)
        parts += [*_head("session_date", "Date"), np.full(rows, days_from_date(batch.session_date), np.uint16)]
        parts += _constant("source", batch.source, rows)
        filled = {name: batch.columns[name][start:stop] != NULL_PRICE for name in layout.levels}
        for name, kind in layout.columns:
            parts += _head(name, kind)
            try:
                values = batch.columns[name][start:stop]
                if name == "symbol":
                    parts += self._symbol(values, batch.symbols)
                elif name == "trade_date":
                    parts.append(trade_days(values, batch.session_date))
                elif isinstance(values, np.ndarray) and values.ndim == 2:
                    parts += _levels(values, filled[f"{name[:4]}px"], kind)
                else:
                    parts += _column(name, kind, values)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise SinkRejected(f"{batch.table}.{name} cannot be written: {error!r}", table=batch.table, column=name) from None
        return b"".join(cast(list[bytes], parts))  # arrays are buffers too; the join copies them once

    def _symbol(self, numbers: npt.NDArray[np.int32], names: list[str]) -> list[Buffer]:
        if self._names is not names:
            self._names, self._symbols = names, []
        # The reading thread may add names at any moment: only those counted here take part.
        count = len(names)
        self._symbols += [_text(name) for name in names[len(self._symbols) : count]]
        if len(numbers) and int(numbers.max()) >= count:
            msg = f"symbol {int(numbers.max())} is not among {count}"
            raise ValueError(msg)
        used = np.zeros(count + 1, np.bool_)
        used[numbers] = True  # NO_SYMBOL (-1) is the last place
        keys = np.flatnonzero(used)
        codes = np.zeros(count + 1, np.uint32)
        codes[keys] = np.arange(len(keys), dtype=np.uint32)
        texts = [self._symbols[key] if key < count else b"\0" for key in keys.tolist()]
        return _dictionary(texts, codes[numbers])


def days_from_date(session_date: int) -> int:
    """Days since 1970-01-01 of YYYYMMDD."""
    return (datetime(session_date // 10_000, session_date // 100 % 100, session_date % 100, tzinfo=UTC) - _EPOCH).days


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def trade_days(ts: Int64, session_date: int) -> npt.NDArray[np.uint16]:
    """Days since 1970-01-01 of the New York dates of UTC times; the session date where there is none."""
    transitions, offsets = new_york_offsets()
    known = ts != NULL_TS
    local = np.where(known, ts, 0)
    local = local + offsets[np.searchsorted(transitions, local, side="right") - 1]
    return np.where(known, local // DAY_NS, days_from_date(session_date)).astype(np.uint16)


@kernel
def factorize(values: npt.NDArray[np.uint64], codes: npt.NDArray[np.uint32], keys: npt.NDArray[np.uint64]) -> int:
    """Number equal values in order of appearance into `codes`; their count, or -1 when there are more than `keys` has room for."""
    size = 1 << 16
    slots = np.full(size, -1, np.int32)
    mask = np.uint64(size - 1)
    count = 0
    for row in range(len(values)):
        value = values[row]
        slot = (value * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(48)
        while True:
            code = slots[slot]
            if code < 0:
                if count == len(keys):
                    return -1
                slots[slot] = count
                keys[count] = value
                code = count
                count += 1
                break
            if keys[code] == value:
                break
            slot = (slot + np.uint64(1)) & mask
        codes[row] = code
    return count


def _column(name: str, kind: str, values: Any) -> list[Buffer]:
    if kind in NUMBERS:
        return [np.ascontiguousarray(values, NUMBERS[kind])]
    if kind == CODE:
        if isinstance(values, list):
            return _text_dictionary(values)
        return _packed_dictionary(np.ascontiguousarray(values, np.uint64), PACKED[name])
    if kind == TEXT:
        encode = _raw_text if name == "raw" else _text
        return [encode(value) for value in values]
    if kind == TIME:
        return [np.ascontiguousarray(values, np.int64)]
    if kind == DECIMAL:
        prices = np.ascontiguousarray(values, np.int64)
        return [np.where(prices == NULL_PRICE, 0, prices)]
    if kind.startswith("Nullable("):
        numbers = np.ascontiguousarray(values, np.int64)
        empty = numbers == NULL_TS  # the same sentinel as NULL_PRICE
        return [empty.view(np.uint8), np.where(empty, 0, numbers)]
    if kind.startswith("Enum8("):
        return [_enum(kind, np.ascontiguousarray(values, np.uint8))]
    if kind == "Array(String)":
        ends = np.cumsum(np.array([len(value) for value in values], np.uint64), dtype=np.uint64)
        return [ends, *(_text(text) for value in values for text in value)]
    msg = f"no encoding for {kind}"
    raise TypeError(msg)


def _levels(values: npt.NDArray[Any], filled: npt.NDArray[np.bool_], kind: str) -> list[Buffer]:
    """Rows × levels as arrays of the filled levels."""
    ends = np.cumsum(filled.sum(axis=1, dtype=np.uint64), dtype=np.uint64)
    target = NUMBERS["UInt32"] if "UInt32" in kind else np.int64
    return [ends, np.ascontiguousarray(values[filled], target)]


_ENUM_CODES: Final[dict[str, npt.NDArray[np.bool_]]] = {}


def _enum(kind: str, codes: npt.NDArray[np.uint8]) -> Buffer:
    known = _ENUM_CODES.get(kind)
    if known is None:
        known = np.zeros(256, np.bool_)
        known[[int(part.rstrip(")").split("=")[1]) for part in kind.split(",")]] = True
        _ENUM_CODES[kind] = known
    if not known[codes].all():
        # stored, it would make every read of the column fail
        msg = f"code {int(codes[~known[codes]][0])} has no name"
        raise ValueError(msg)
    return codes


def _dictionary(texts: list[bytes], codes: npt.NDArray[np.uint32]) -> list[Buffer]:
    """A LowCardinality column: its keys and the key number of every row."""
    if not len(codes):
        return [LOW_CARDINALITY_VERSION]
    width = 0 if len(texts) <= 1 << 8 else 1 if len(texts) <= 1 << 16 else 2
    head = (DICTIONARY_FLAGS | width).to_bytes(8, "little") + len(texts).to_bytes(8, "little")
    return [LOW_CARDINALITY_VERSION, head, *texts, len(codes).to_bytes(8, "little"), codes.astype(INDEX_TYPES[width])]


def _text_dictionary(values: list[str]) -> list[Buffer]:
    number: dict[str, int] = {}
    codes = np.array([number.setdefault(value, len(number)) for value in values], np.uint32)
    return _dictionary([_text(value) for value in number], codes)


def _packed_dictionary(values: npt.NDArray[np.uint64], text_of: Callable[[int], str]) -> list[Buffer]:
    """Codes of a few bytes each: few different ones, so one pass numbers them."""
    codes, keys = np.empty(len(values), np.uint32), np.empty(1 << 15, np.uint64)
    count = factorize(values, codes, keys)
    if count < 0:
        distinct, inverse = np.unique(values, return_inverse=True)
        return _dictionary([_text(text_of(value)) for value in distinct.tolist()], inverse.astype(np.uint32))
    return _dictionary([_text(text_of(value)) for value in keys[:count].tolist()], codes)


def bytes_text(value: int) -> str:
    """Up to eight bytes, little endian, as text; 0 is empty."""
    return value.to_bytes(8, "little").rstrip(b"\0 ").decode("latin-1")


def contents_text(bits: int) -> str:
    """The letters of a contents mask."""
    return "".join(letter for place, letter in enumerate(CONTENT_LETTERS) if bits >> place & 1)


PACKED: Final[dict[str, Callable[[int], str]]] = {"mmid": bytes_text, "conditions": bytes_text, "contents": contents_text}


def _constant(name: str, value: str, rows: int) -> list[Buffer]:
    return [*_head(name, CODE), *_dictionary([_text(value)], np.zeros(rows, np.uint32))]


def _head(name: str, kind: str) -> list[Buffer]:
    return [_text(name) + _text(kind)]


def _text(value: str) -> bytes:
    data = value.encode()
    return _varint(len(data)) + data


def _raw_text(value: str) -> bytes:
    """Bytes of a line that came as Latin-1 text."""
    data = value.encode("latin-1", "replace")
    return _varint(len(data)) + data


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)

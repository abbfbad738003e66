"""The canonical row: one 64-bit hash of it that compiled code computes over columns, and ClickHouse over a table.

A row is a chain of 64-bit words, one a column in the order of `LAYOUTS`, then the source: h = mix(h ^ word), from `SEED`; `mix` is
ClickHouse's `intHash64`. Words: integers as they are (negative ones in two's complement), prices in units of 1e-9, times in ns, nulls
as the least int64, days since 1970, texts as the first half of their MD5, an array as the wrapping sum of mix(element ^ mix(place)).
Stream and session date are what is compared, so they are in no word. What does not belong here: sums over rows (sums).
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from l2_platform.market.compiled import Number, inline_kernel, kernel
from l2_platform.market.events import NULL_PRICE, Int64, TableBatch, UInt64
from l2_platform.sinks.native import CODE, DECIMAL, LAYOUTS, PACKED, TEXT, TIME, factorize, trade_days

SEED: Final = np.uint64(0x9E3779B97F4A7C15)
_FLIP: Final = np.uint64(0x4CF2D2BAAE6DA887)
_FIRST: Final = np.uint64(0xFF51AFD7ED558CCD)
_SECOND: Final = np.uint64(0xC4CEB9FE1A85EC53)
_KEYS_MAX: Final = 1 << 15
"""Different codes of one column and batch that are numbered in one pass."""


@inline_kernel
def mix(word: Number) -> Number:
    """ClickHouse's intHash64 of a uint64."""
    word = word ^ _FLIP
    word = (word ^ (word >> np.uint64(33))) * _FIRST
    word = (word ^ (word >> np.uint64(33))) * _SECOND
    return word ^ (word >> np.uint64(33))


@kernel
def fold(hashes: UInt64, words: UInt64) -> None:
    """Chain one word to every row's hash."""
    for row in range(len(hashes)):
        hashes[row] = mix(hashes[row] ^ words[row])


@kernel
def level_words(words: UInt64, values: Int64, prices: Int64) -> None:
    """The word of each row's levels (rows × levels); those without a price are no elements."""
    for row in range(values.shape[0]):
        total = np.uint64(0)
        place = np.uint64(0)
        for level in range(values.shape[1]):
            if prices[row, level] != NULL_PRICE:
                place += np.uint64(1)
                total += mix(np.uint64(values[row, level]) ^ mix(place))
        words[row] = total


def text_word(text: str, encoding: str = "utf-8") -> int:
    """The word of a text, ClickHouse's halfMD5."""
    return int.from_bytes(hashlib.md5(text.encode(encoding, "replace"), usedforsecurity=False).digest()[:8], "big")


class TextWords:
    """Words of symbols and codes, each made once."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, int], int] = {}
        self._names: list[str] | None = None
        self._words: UInt64 = np.zeros(0, np.uint64)

    def of_symbols(self, numbers: Any, names: list[str]) -> UInt64:
        """Of symbol numbers; -1 is no symbol, the empty text. `names` only grows."""
        if self._names is not names or len(self._words) != len(names) + 1:
            known = self._words[:-1] if self._names is names else self._words[:0]
            fresh = [text_word(name) for name in names[len(known) :]]
            # the place of -1 is the last one
            self._words = np.concatenate((known, np.array([*fresh, text_word("")], np.uint64)))
            self._names = names
        words: UInt64 = self._words[numbers]
        return words

    def of_codes(self, name: str, values: Any, text_of: Callable[[int], str]) -> UInt64:
        """Of packed codes."""
        packed = np.ascontiguousarray(values, np.uint64)
        codes, keys = np.empty(len(packed), np.uint32), np.empty(_KEYS_MAX, np.uint64)
        count = factorize(packed, codes, keys)
        if count < 0:
            found, inverse = np.unique(packed, return_inverse=True)
            return np.array([self._of_code(name, key, text_of) for key in found.tolist()], np.uint64)[inverse]
        return np.array([self._of_code(name, key, text_of) for key in keys[:count].tolist()], np.uint64)[codes]

    def _of_code(self, name: str, key: int, text_of: Callable[[int], str]) -> int:
        if (name, key) not in self._codes:
            self._codes[name, key] = text_word(text_of(key))
        return self._codes[name, key]


def row_hashes(batch: TableBatch, texts: TextWords) -> UInt64:
    """The hash of every row of a batch."""
    hashes: UInt64 = np.full(len(batch), SEED, np.uint64)
    layout = LAYOUTS[batch.table]
    for name, kind in layout.columns:
        values = batch.columns[name]
        if name == "symbol":
            words = texts.of_symbols(values, batch.symbols)
        elif name == "trade_date":
            words = trade_days(values, batch.session_date).astype(np.uint64)
        elif isinstance(values, np.ndarray) and values.ndim == 2:
            words = np.empty(len(batch), np.uint64)
            prices = np.ascontiguousarray(batch.columns[f"{name[:4]}px"], np.int64)
            level_words(words, np.ascontiguousarray(values, np.int64), prices)
        else:
            words = _words(name, kind, values, texts)
        fold(hashes, words)
    fold(hashes, np.full(len(batch), text_word(batch.source), np.uint64))
    return hashes


def _words(name: str, kind: str, values: Any, texts: TextWords) -> UInt64:
    if kind == CODE and not isinstance(values, list):
        return texts.of_codes(name, values, PACKED[name])
    if kind in {CODE, TEXT}:
        encoding = "latin-1" if name == "raw" else "utf-8"
        return np.array([text_word(value, encoding) for value in values], np.uint64)
    if kind == DECIMAL:
        values = np.where(values == NULL_PRICE, 0, values)
    numbers = np.asarray(values)
    return np.ascontiguousarray(numbers, np.uint64 if numbers.dtype.kind == "u" else np.int64).view(np.uint64)


def row_hash_sql(table: str) -> str:
    """The same hash as an expression over the columns of a table, UInt64."""
    text = str(int(SEED))
    for name, kind in (*LAYOUTS[table].columns, ("source", CODE)):
        text = f"intHash64(bitXor({text}, {_word_sql(name, kind)}))"
    return text


_PLAIN: Final[Mapping[str, str]] = {
    DECIMAL: "toUInt64(reinterpretAsInt64({0}))", TIME: "toUInt64(toUnixTimestamp64Nano({0}))", CODE: "halfMD5({0})", TEXT: "halfMD5({0})",
    "Date": "toUInt64({0})",
}  # fmt: skip


def _word_sql(name: str, kind: str) -> str:
    if kind.startswith("Array("):
        inner = _word_sql("v", kind.removeprefix("Array(").removesuffix(")"))
        return f"arraySum((v, i) -> intHash64(bitXor({inner}, intHash64(toUInt64(i)))), {name}, arrayEnumerate({name}))"
    if kind.startswith("Nullable("):
        inner = kind.removeprefix("Nullable(").removesuffix(")")
        number = f"reinterpretAsInt64({name})" if inner == DECIMAL else f"toUnixTimestamp64Nano({name})"
        return f"toUInt64(ifNull({number}, {NULL_PRICE}))"
    return _PLAIN.get(kind, "toUInt64(toInt64({0}))" if not kind.startswith("UInt") else "toUInt64({0})").format(name)

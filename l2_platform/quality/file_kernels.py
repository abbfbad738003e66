"""Compiled readers of our JSON lines: whole lines in, one row of 64-bit words a line out, without an object per line.

They take exactly the form that the files have (docs/data.md): a line that differs in a key, an order or a sign is no record and is
reported with its place. Written apart from the kernels that write the files, so that both are proven. What does not belong here: files.
"""

from typing import Final, NamedTuple

import numpy as np

from l2_platform.market.compiled import Number, inline_kernel, kernel
from l2_platform.market.events import NULL_PRICE, Int64, UInt8, UInt64
from l2_platform.quality.canonical import mix

NEWLINE: Final = 10
_NULL: Final = np.frombuffer(b"null", np.uint8)
_POWERS: Final[Int64] = np.array([10**power for power in range(10)], np.int64)


class Literals(NamedTuple):
    """Texts between the values of a record, and what surrounds all of a file's."""

    texts: UInt8
    """One behind the other."""
    ends: Int64
    """Where each ends; the first is 0."""


def literals(*texts: bytes) -> Literals:
    """As arrays."""
    return Literals(np.frombuffer(b"".join(texts), np.uint8), np.cumsum([0, *(len(text) for text in texts)]).astype(np.int64))


HEAD: Final = 0
"""Number of the literal before the timestamp."""
TAIL: Final = 1
"""Number of the one before the seq."""
FIRST: Final = 2
"""Number of the first that a kind of record adds."""
BOOK_TEXTS: Final = (
    b'","bids":[', b'{"price":', b',"size":', b',"level":', b'],"asks":[', b'],"total_bid_size":', b',"total_ask_size":', b',"spread":',
    b',"mid_price":',
)  # fmt: skip
QUOTE_TEXTS: Final = (
    b'","bid":', b',"bid_size":', b',"ask":', b',"ask_size":', b',"bid_market_center":', b',"ask_market_center":', b',"total_volume":',
    b',"snapshot":', b"true", b"false",
)  # fmt: skip
TRADE_TEXTS: Final = (
    b'","price":', b',"size":', b',"market_center":', b',"conditions":"', b'","tick_id":', b',"aggressor":"', b'","basis":"',
    b'","total_volume":', b',"bid":', b',"ask":', b"none", b"buy", b"sell", b"neither",
)  # fmt: skip
BOOK_WORDS: Final = 9
"""time (µs), prices and sizes of bids, of asks, both totals, spread, twice the middle."""
QUOTE_WORDS: Final = 9
"""time (µs), bid, its size, ask, its size, both market centres, volume, snapshot."""
TRADE_WORDS: Final = 11
"""time (µs), price, size, market centre, conditions, TickID, aggressor, basis, volume, bid, ask."""


@inline_kernel
def expect(data: UInt8, at: int, known: Literals, number: int) -> Number:
    """Behind a literal that stands at `at`; -1 when something else does, or `at` is -1."""
    if at < 0:
        return -1
    first = known.ends[number]
    for place in range(known.ends[number + 1] - first):
        if data[at + place] != known.texts[first + place]:
            return -1
    return at + known.ends[number + 1] - first


@inline_kernel
def is_null(data: UInt8, at: int) -> bool:
    """Does `null` stand there?"""
    place = 0
    while place < 4 and data[at + place] == _NULL[place]:
        place += 1
    return place == 4


@inline_kernel
def read_digits(data: UInt8, at: int) -> tuple[Number, Number]:
    """An unsigned number without leading zeros, and where it ends; -1 for none."""
    value = np.uint64(0)
    first = at
    while np.uint8(data[at] - 48) < 10:
        value = value * np.uint64(10) + np.uint64(data[at] - 48)
        at += 1
    if at == first or (data[first] == 48 and at > first + 1) or at > first + 20:
        return value, -1
    return value, at


@inline_kernel
def read_int(data: UInt8, at: int) -> tuple[Number, Number]:
    """A number with or without a sign."""
    if at < 0:
        return np.int64(0), -1
    negative = data[at] == 45
    value, end = read_digits(data, at + 1 if negative else at)
    return (-np.int64(value) if negative else np.int64(value)), end


@inline_kernel
def read_count(data: UInt8, at: int) -> tuple[Number, Number]:
    """A number that is not negative; -1 for null."""
    if at < 0:
        return np.int64(-1), -1
    if is_null(data, at):
        return np.int64(-1), at + 4
    value, end = read_digits(data, at)
    return np.int64(value), end


@inline_kernel
def read_fixed(data: UInt8, at: int) -> tuple[Number, Number, Number]:
    """A decimal in units of 1e-9, 1 when half a unit follows, and where it ends; NULL_PRICE for null. The sign is the caller's."""
    value, end = read_digits(data, at)
    units = np.int64(value) * 1_000_000_000
    half = np.int64(0)
    if end >= 0 and data[end] == 46:
        first = end + 1
        end = first
        fraction: Number = np.int64(0)
        while np.uint8(data[end] - 48) < 10:
            if end - first < 9:
                fraction = fraction * 10 + (data[end] - 48)
            end += 1
        count = end - first
        if count == 0 or count > 10 or (count == 10 and data[end - 1] != 53):
            return units, half, -1
        half = np.int64(count == 10)
        units += fraction * _POWERS[9 - min(count, 9)]
    return units, half, end


@inline_kernel
def read_price(data: UInt8, at: int) -> tuple[Number, Number]:
    """A price in units of 1e-9; NULL_PRICE for null."""
    if at < 0:
        return np.int64(0), -1
    if is_null(data, at):
        return np.int64(NULL_PRICE), at + 4
    negative = data[at] == 45
    units, half, end = read_fixed(data, at + 1 if negative else at)
    return (-units if negative else units), (-1 if half else end)


@inline_kernel
def read_middle(data: UInt8, at: int) -> tuple[Number, Number]:
    """Twice a middle in units of 1e-9; NULL_PRICE for null."""
    if at < 0:
        return np.int64(0), -1
    if is_null(data, at):
        return np.int64(NULL_PRICE), at + 4
    negative = data[at] == 45
    units, half, end = read_fixed(data, at + 1 if negative else at)
    twice = 2 * units + half
    return (-twice if negative else twice), end


@inline_kernel
def two_digits(data: UInt8, at: int) -> Number:
    """Two digits; a large negative number when they are none."""
    tens = np.int64(data[at]) - 48
    ones = np.int64(data[at + 1]) - 48
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else np.int64(-1_000_000_000)


@inline_kernel
def read_time(data: UInt8, at: int) -> tuple[Number, Number]:
    """`2025-07-24T11:15:46.185016-04:00` as µs since the epoch, UTC."""
    if at < 0:
        return np.int64(0), -1
    for place in range(31):
        if data[at + place] == NEWLINE:
            return np.int64(0), -1
    year = two_digits(data, at) * 100 + two_digits(data, at + 2)
    month, day = two_digits(data, at + 5), two_digits(data, at + 8)
    hour, minute, second = two_digits(data, at + 11), two_digits(data, at + 14), two_digits(data, at + 17)
    micros = two_digits(data, at + 20) * 10_000 + two_digits(data, at + 22) * 100 + two_digits(data, at + 24)
    offset = two_digits(data, at + 27) * 60 + two_digits(data, at + 30)
    signs = data[at + 4] == 45 and data[at + 7] == 45 and data[at + 10] == 84 and data[at + 13] == 58 and data[at + 16] == 58
    signs = signs and data[at + 19] == 46 and data[at + 29] == 58 and (data[at + 26] == 45 or data[at + 26] == 43)
    if not signs or min(year, month, day, hour, minute, second, micros, offset) < 0 or month < 1 or month > 12:
        return np.int64(0), -1
    # day number of a civil date (proleptic Gregorian)
    shifted = year - 1 if month <= 2 else year
    era = shifted // 400
    of_era = shifted - era * 400
    of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    days = era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
    minutes = hour * 60 + minute + (offset if data[at + 26] == 45 else -offset)
    return ((days * 1440 + minutes) * 60 + second) * 1_000_000 + micros, at + 32


@inline_kernel
def read_levels(data: UInt8, at: int, known: Literals) -> tuple[Number, Number, Number, Number]:
    """Levels up to `]`: word of the prices, word of the sizes, best price (NULL_PRICE without any), where they end."""
    prices, sizes, best = np.uint64(0), np.uint64(0), np.int64(NULL_PRICE)
    place = np.uint64(0)
    while at >= 0 and data[at] != 93:
        place += np.uint64(1)
        if place > np.uint64(1):
            at = at + 1 if data[at] == 44 else -1
        price, at = read_price(data, expect(data, at, known, FIRST + 1))
        size, at = read_int(data, expect(data, at, known, FIRST + 2))
        number, at = read_int(data, expect(data, at, known, FIRST + 3))
        if at < 0 or data[at] != 125 or number != np.int64(place):
            at = -1
        else:
            at += 1
            prices += mix(np.uint64(price) ^ mix(place))
            sizes += mix(np.uint64(size) ^ mix(place))
            best = price if place == np.uint64(1) else best
    return prices, sizes, best, at


@inline_kernel
def read_end(data: UInt8, at: int, known: Literals) -> tuple[Number, Number]:
    """Seq and end of a record."""
    at = expect(data, at, known, TAIL)
    if at < 0:
        return np.uint64(0), -1
    seq, at = read_digits(data, at)
    return seq, (at + 2 if at >= 0 and data[at] == 125 and data[at + 1] == NEWLINE else -1)


@inline_kernel
def read_book(data: UInt8, at: int, known: Literals, words: UInt64, row: int) -> Number:
    """The words of an L2 record behind its time; -1 when it is none."""
    bid_px, bid_sz, _, at = read_levels(data, expect(data, at, known, FIRST), known)
    ask_px, ask_sz, _, at = read_levels(data, expect(data, at, known, FIRST + 4), known)
    total_bid, at = read_int(data, expect(data, at, known, FIRST + 5))
    total_ask, at = read_int(data, expect(data, at, known, FIRST + 6))
    spread, at = read_price(data, expect(data, at, known, FIRST + 7))
    middle, at = read_middle(data, expect(data, at, known, FIRST + 8))
    words[row, 1], words[row, 2], words[row, 3], words[row, 4] = bid_px, bid_sz, ask_px, ask_sz
    words[row, 5], words[row, 6] = np.uint64(total_bid), np.uint64(total_ask)
    words[row, 7], words[row, 8] = np.uint64(spread), np.uint64(middle)
    return at


@inline_kernel
def read_quote(data: UInt8, at: int, known: Literals, words: UInt64, row: int) -> Number:
    """The same for an L1 record."""
    bid, at = read_price(data, expect(data, at, known, FIRST))
    bid_size, at = read_count(data, expect(data, at, known, FIRST + 1))
    ask, at = read_price(data, expect(data, at, known, FIRST + 2))
    ask_size, at = read_count(data, expect(data, at, known, FIRST + 3))
    bid_center, at = read_count(data, expect(data, at, known, FIRST + 4))
    ask_center, at = read_count(data, expect(data, at, known, FIRST + 5))
    volume, at = read_count(data, expect(data, at, known, FIRST + 6))
    at = expect(data, at, known, FIRST + 7)
    shown = expect(data, at, known, FIRST + 8)
    words[row, 1], words[row, 2], words[row, 3], words[row, 4] = np.uint64(bid), np.uint64(bid_size), np.uint64(ask), np.uint64(ask_size)
    words[row, 5], words[row, 6], words[row, 7] = np.uint64(bid_center), np.uint64(ask_center), np.uint64(volume)
    words[row, 8] = np.uint64(shown >= 0)
    return shown if shown >= 0 else expect(data, at, known, FIRST + 9)


@inline_kernel
def read_trade(data: UInt8, at: int, known: Literals, words: UInt64, row: int) -> Number:
    """The same for a tick record."""
    price, at = read_price(data, expect(data, at, known, FIRST))
    size, at = read_count(data, expect(data, at, known, FIRST + 1))
    center, at = read_count(data, expect(data, at, known, FIRST + 2))
    at = expect(data, at, known, FIRST + 3)
    conditions = np.uint64(0)
    place = np.uint64(0)
    while at >= 0 and data[at] != 34:
        if data[at] == NEWLINE or place == np.uint64(64):
            at = -1
        else:
            conditions |= np.uint64(data[at]) << place
            place += np.uint64(8)
            at += 1
    at = expect(data, at, known, FIRST + 4)
    tick_id, at = read_digits(data, at) if at >= 0 else (np.uint64(0), -1)
    at = expect(data, at, known, FIRST + 5)
    aggressor, end = 0, -1
    for number in range(4):
        found: int = expect(data, at, known, FIRST + 10 + number)
        if found >= 0:
            aggressor, end = number, found
    at = expect(data, end, known, FIRST + 6)
    basis = np.uint8(0)
    if at >= 0 and data[at] != 34 and data[at] != NEWLINE:
        basis = data[at]
        at += 1
    volume, at = read_count(data, expect(data, at, known, FIRST + 7))
    bid, at = read_price(data, expect(data, at, known, FIRST + 8))
    ask, at = read_price(data, expect(data, at, known, FIRST + 9))
    words[row, 1], words[row, 2], words[row, 3], words[row, 4] = np.uint64(price), np.uint64(size), np.uint64(center), conditions
    words[row, 5], words[row, 6], words[row, 7] = tick_id, np.uint64(aggressor), np.uint64(basis)
    words[row, 8], words[row, 9], words[row, 10] = np.uint64(volume), np.uint64(bid), np.uint64(ask)
    return at


@kernel
def read_records(
    kind: int, data: UInt8, known: Literals, seq: UInt64, words: UInt64, bad: Int64
) -> tuple[int, int]:
    """Whole lines as rows: how many there are, and how many lines were none; `bad` takes the first lines that were none.

    `kind`: 0 books, 1 quotes, 2 trades.
    """
    at, rows, wrong, line = 0, 0, 0, 0
    size = len(data)
    while at < size:
        time, end = read_time(data, expect(data, at, known, HEAD))
        words[rows, 0] = np.uint64(time)
        if kind == 0:
            end = read_book(data, end, known, words, rows)
        elif kind == 1:
            end = read_quote(data, end, known, words, rows)
        else:
            end = read_trade(data, end, known, words, rows)
        number, end = read_end(data, end, known)
        if end >= 0:
            seq[rows] = number
            rows += 1
            at = end
        else:
            if wrong < len(bad):
                bad[wrong] = line
            wrong += 1
            while data[at] != NEWLINE:
                at += 1
            at += 1
        line += 1
    return rows, wrong


@kernel
def count_lines(data: UInt8) -> int:
    """Line ends."""
    count = 0
    for byte in data:
        count += byte == NEWLINE
    return count


@kernel
def book_words(words: UInt64, bid: Int64, ask: Int64) -> None:
    """Spread and twice the middle of the best prices, as words 7 and 8."""
    for row in range(len(words)):
        both = bid[row] != NULL_PRICE and ask[row] != NULL_PRICE
        words[row, 7] = np.uint64(ask[row] - bid[row] if both else NULL_PRICE)
        words[row, 8] = np.uint64(ask[row] + bid[row] if both else NULL_PRICE)

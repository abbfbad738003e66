"""Fields of a Q or P line as values, in two ways that agree.

`parse_quote_fields` reads them in their order and knows which error comes first. The others read single fields of a line whose commas
are known, without a branch that the data decides, and only say whether a field is good: a line with a bad one is read again in order.
What does not belong here: what the values mean, and where they are stored (level1_kernels).
"""

from typing import Final

import numpy as np

from l2_platform.feeds.iqfeed import layouts
from l2_platform.feeds.iqfeed.bytes_kernels import (
    ALL_BITS,
    BAD,
    CLOCK_NIBBLES,
    CLOCK_SIXES,
    CLOCK_TEXT,
    MICROS_TEXT,
    NONE,
    OK,
    SECOND_NS,
    parse_date,
    parse_int,
    parse_int_slowly,
    parse_price,
    parse_time_of_day_ns,
    parse_time_of_day_ns_slowly,
    parse_uint64,
    parse_uint64_slowly,
)
from l2_platform.feeds.iqfeed.level1_clock import LAST_DATE
from l2_platform.feeds.iqfeed.level1_columns import CONTENTS, NUMBER, PRICE, TIME
from l2_platform.market.compiled import Number, inline_kernel, plain_kernel
from l2_platform.market.events import CONTENT_LETTERS, NULL_PRICE, NULL_TS, Int64, UInt8
from l2_platform.market.words import HIGH, ZEROS_TEXT, are_digits, load_word, number_from_digits

_NOTHING: Final = np.array(
    [0, 0, NULL_PRICE, NULL_PRICE, NULL_PRICE, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 0, NULL_TS, 0, 0, 0],
    np.int64,
)
"""Value of each column of `layouts` where the line has none."""
_LARGEST: Final = np.array([0] * 13 + [2**31 - 1] * 4 + [3, 255] + [0] * 4, np.int64)
"""Largest value of the limited whole numbers."""
_UNKNOWN: Final = 1 << 15
_LETTER_BITS: Final = np.full(256, _UNKNOWN, np.int64)
_LETTER_BITS[[ord(letter) for letter in CONTENT_LETTERS]] = [1 << bit for bit in range(len(CONTENT_LETTERS))]
_EIGHT: Final = np.uint64(8)
_BIT_5: Final = np.uint64(0x2020202020202020)
_DIGIT_0: Final = np.uint64(0x3030303030303030)
_BEHIND_9: Final = np.uint64(0x3A3A3A3A3A3A3A3A)
_LETTER_A: Final = np.uint64(0x6161616161616161)
_BEHIND_F: Final = np.uint64(0x6767676767676767)


@inline_kernel
def whole(text: UInt8, start: int, stop: int, nothing: int) -> tuple[Number, bool]:
    """`parse_int`: `(value, is good)`, `nothing` for an empty field."""
    length = stop - start
    if length <= 0:
        return np.int64(nothing), True
    digits = load_word(text, stop - 8) ^ ZEROS_TEXT
    if length <= 8:
        digits &= ALL_BITS << np.uint64(64 - 8 * length)
        if are_digits(digits):
            return number_from_digits(digits), True
    elif length <= 16:
        upper = (load_word(text, stop - 16) ^ ZEROS_TEXT) & (ALL_BITS << np.uint64(128 - 8 * length))
        if are_digits(digits) and are_digits(upper):
            return number_from_digits(upper) * 100_000_000 + number_from_digits(digits), True
    value, status = parse_int_slowly(text, start, stop)
    return np.int64(value), status == OK


@inline_kernel
def limited(text: UInt8, start: int, stop: int, nothing: int, largest: int) -> tuple[Number, bool]:
    """A whole number from 0 to `largest`: `(value, is good)`, `nothing` for an empty field."""
    value, good = whole(text, start, stop, nothing)
    return value, good and (value <= largest) and (value >= 0 or stop <= start)


@inline_kernel
def unsigned(text: UInt8, start: int, stop: int) -> tuple[Number, bool]:
    """`parse_uint64`: `(value, is good)`, 0 for an empty field."""
    length = stop - start
    if length <= 0:
        return np.uint64(0), True
    if length <= 16:
        value, good = whole(text, start, stop, 0)
        # A minus sign is no digit: only parse_int takes it.
        return np.uint64(value), good and text[start] != 45
    bits, status = parse_uint64_slowly(text, start, stop)
    return np.uint64(bits), status == OK


@inline_kernel
def price(text: UInt8, start: int, stop: int) -> tuple[Number, bool]:
    """`parse_price`: `(value, is good)`, NULL_PRICE for an empty field."""
    if stop <= start:
        return np.int64(NULL_PRICE), True
    value, status = parse_price(text, start, stop)
    return np.int64(value), status == OK


@inline_kernel
def time_of_day(text: UInt8, start: int, stop: int) -> tuple[Number, bool]:
    """`parse_time_of_day_ns`: `(ns, is good)`, -1 for an empty field and for 99:99:99."""
    if stop - start == 15:
        clock = load_word(text, start) ^ CLOCK_TEXT
        rest = load_word(text, start + 7) >> _EIGHT
        micros = ((rest >> _EIGHT) << np.uint64(16)) ^ MICROS_TEXT
        pairs = clock * np.uint64(10) + (clock >> _EIGHT)
        hour = np.int64(pairs & np.uint64(255))
        minute = np.int64((pairs >> np.uint64(24)) & np.uint64(255))
        second = np.int64((pairs >> np.uint64(48)) & np.uint64(255))
        valid = ((clock | (clock + CLOCK_SIXES)) & CLOCK_NIBBLES) == np.uint64(0)
        if valid and rest & np.uint64(255) == np.uint64(46) and are_digits(micros):
            clock_ns = (hour * 3600 + minute * 60 + second) * SECOND_NS + number_from_digits(micros) * 1000
            if hour <= 23 and minute <= 59 and second <= 59:
                return clock_ns, True
    if stop <= start:
        return np.int64(-1), True
    value, status = parse_time_of_day_ns_slowly(text, start, stop)
    return np.int64(value) if status == OK else np.int64(-1), status != BAD


@inline_kernel
def date(text: UInt8, start: int, stop: int, clock: Int64) -> tuple[Number, bool]:
    """`parse_date`: `(days, is good)`, NULL_TS for an empty field; the clock remembers a date of ten characters."""
    if stop - start == 10:
        low = np.int64(load_word(text, start))
        high = np.int64(load_word(text, start + 2))
        if clock[LAST_DATE] == low and clock[LAST_DATE + 1] == high:
            return clock[LAST_DATE + 2], True
    if stop <= start:
        return np.int64(NULL_TS), True
    return date_slowly(text, start, stop, clock)


@plain_kernel
def date_slowly(text: UInt8, start: int, stop: int, clock: Int64) -> tuple[Number, bool]:
    """`date` that is not the one before."""
    days, status = parse_date(text, start, stop)
    if status == OK and stop - start == 10:
        clock[LAST_DATE] = np.int64(load_word(text, start))
        clock[LAST_DATE + 1] = np.int64(load_word(text, start + 2))
        clock[LAST_DATE + 2] = days
    return np.int64(days) if status == OK else np.int64(NULL_TS), status != BAD


@inline_kernel
def conditions(text: UInt8, start: int, stop: int) -> tuple[Number, bool]:
    """`parse_conditions`: `(packed characters, is good)`, 0 for an empty field."""
    length = stop - start
    if length <= 0:
        return np.uint64(0), True
    if length > 8:
        return np.uint64(0), False
    word = load_word(text, stop - 8)
    used = ALL_BITS << np.uint64(64 - 8 * length)
    # Bytes that are not the field's count as zeros, which are good; the high bit of a byte tells "at least".
    letters = (word & used) | (ZEROS_TEXT & ~used)
    lower = (letters | _BIT_5) | HIGH
    letters |= HIGH
    digit = (letters - _DIGIT_0) & ~(letters - _BEHIND_9)
    letter = (lower - _LETTER_A) & ~(lower - _BEHIND_F)
    good = ((digit | letter) & ~(word & used) & HIGH) == HIGH
    return word >> np.uint64(64 - 8 * length), good


@inline_kernel
def contents(text: UInt8, start: int, stop: int) -> tuple[Number, bool]:
    """`parse_contents`: `(bits, is good)`."""
    bits: Number = np.int64(0)
    for at in range(start, stop):
        bits |= _LETTER_BITS[text[at]]
    kinds = bits & 7
    return bits, bits < _UNKNOWN and kinds & (kinds - 1) == 0


@inline_kernel
def field_end(buffer: UInt8, at: int, end: int) -> Number:
    """Where the field that begins at `at` ends: the next comma, or the end of the line."""
    while at < end and buffer[at] != 44:
        at += 1
    return at


@inline_kernel
def parse_conditions(buffer: UInt8, start: int, stop: int) -> tuple[Number, int]:
    """Up to eight hex characters, packed as they stand, little endian."""
    value = np.uint64(0)
    if stop <= start:
        return value, NONE
    if stop - start > 8:
        return value, BAD
    for at in range(start, stop):
        letter = buffer[at]
        if not (48 <= letter <= 57 or 65 <= letter <= 70 or 97 <= letter <= 102):
            return np.uint64(0), BAD
        value |= np.uint64(letter) << np.uint64(8 * (at - start))
    return value, OK


@inline_kernel
def parse_contents(buffer: UInt8, start: int, stop: int) -> tuple[Number, int]:
    """Message Contents as bits (market/events.CONTENT_LETTERS); BAD for an unknown letter or two kinds of trade."""
    bits, good = contents(buffer, start, stop)
    return (bits, OK) if good else (np.int64(0), BAD)


@plain_kernel
def parse_quote_fields(
    buffer: UInt8, at: int, end: int, columns: UInt8, field_count: int, values: Int64, symbol: Int64
) -> tuple[int, int]:
    """Fields of a Q or P line into `values` by column, and where its symbol is; `(error, fields met)`."""
    fields = 0
    for column in range(layouts.COLUMN_COUNT):
        values[column] = _NOTHING[column]
    symbol[1] = symbol[0]
    while at <= end and fields < field_count:
        stop = field_end(buffer, at, end)
        column = columns[fields]
        fields += 1
        if column == layouts.IGNORED or stop == at:
            pass
        elif column == layouts.SYMBOL:
            symbol[0] = at
            symbol[1] = stop
        elif column <= layouts.ASK_PRICE:
            value, status = parse_price(buffer, at, stop)
            if status == BAD:
                return PRICE, fields
            values[column] = value
        elif column <= layouts.ASK_TIME:
            value, status = parse_time_of_day_ns(buffer, at, stop)
            if status == BAD:
                return TIME, fields
            if status == OK:
                values[column] = value
        elif column <= layouts.DAY_CODE:
            value, status = parse_int(buffer, at, stop)
            if status == BAD or (column >= layouts.MARKET_CENTER and (value < 0 or value > _LARGEST[column])):
                return NUMBER, fields
            values[column] = value
        elif column == layouts.CONTENTS:
            value, status = parse_contents(buffer, at, stop)
            if status == BAD:
                return CONTENTS, fields
            values[column] = value
        elif column == layouts.TRADE_DATE:
            value, status = parse_date(buffer, at, stop)
            if status == BAD:
                return TIME, fields
            if status == OK:
                values[column] = value
        else:
            if column == layouts.TICK_ID:
                bits, status = parse_uint64(buffer, at, stop)
            else:
                bits, status = parse_conditions(buffer, at, stop)
            if status == BAD:
                return NUMBER, fields
            values[column] = np.int64(bits)
        at = stop + 1
    return 0, fields

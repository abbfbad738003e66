"""Compiled parsers of the fields of a line: integers, prices, times, dates, New York time, and symbols as numbers.

Every parser takes `(buffer, start, stop)`, the bytes of one field without its commas, and gives `(value, status)`: OK, NONE for a
field that is empty or a sentinel (`99:99:99`), BAD for anything else. None of them allocates, raises, or reads behind `stop`.
`buffer` is an array or, much faster, its `pointer_of`. What does not belong here: what a line means (decode_depth, decode_level1).
"""

from typing import Final

import numpy as np

from l2_platform.market.compiled import Number, inline_kernel, kernel, plain_kernel
from l2_platform.market.events import NULL_TS, Int32, Int64, UInt8, UInt64
from l2_platform.market.instruments import SymbolTable
from l2_platform.market.words import (
    ZEROS_TEXT,
    are_digits,
    bytes_equal,
    load_word,
    number_from_digits,
    trailing_zeros,
)

OK: Final = 0
NONE: Final = 1
BAD: Final = 2
FULL: Final = 3
"""The symbol index has no room: call `SymbolIndex.grow` and go on."""

DAY_NS: Final = 86_400_000_000_000
HOUR_NS: Final = 3_600_000_000_000
SECOND_NS: Final = 1_000_000_000
SYMBOL_BYTES_MAX: Final = 64
"""Longest symbol that is taken for one, bytes."""

ALL_BITS: Final = np.uint64(2**64 - 1)
POINTS_TEXT: Final = np.uint64(0x2E2E2E2E2E2E2E2E)
CLOCK_TEXT: Final = np.uint64(0x30303A30303A3030)
"""`00:00:00`; the exclusive or of a time with it leaves its digits."""
CLOCK_SIXES: Final = np.uint64(0x0606000606000606)
CLOCK_NIBBLES: Final = np.uint64(0xF0F0FFF0F0FFF0F0)
MICROS_TEXT: Final = np.uint64(0x3030303030300000)
POWERS: Final = np.array([10**power for power in range(10)], np.int64)


@inline_kernel
def parse_int(buffer: UInt8, start: int, stop: int) -> tuple[Number, int]:
    """Decimal integer with an optional minus, within ±(10^18 - 1)."""
    length = stop - start
    if length > 0 and length <= 8 and stop >= 8:
        digits = (load_word(buffer, stop - 8) ^ ZEROS_TEXT) & (ALL_BITS << np.uint64(64 - 8 * length))
        if are_digits(digits):
            return number_from_digits(digits), OK
    return parse_int_slowly(buffer, start, stop)


@inline_kernel
def parse_uint64(buffer: UInt8, start: int, stop: int) -> tuple[Number, int]:
    """Decimal integer without sign, the whole range of uint64."""
    length = stop - start
    if length > 0 and length <= 16 and stop >= 16:
        digits = load_word(buffer, stop - 8) ^ ZEROS_TEXT
        if length <= 8:
            digits &= ALL_BITS << np.uint64(64 - 8 * length)
            if are_digits(digits):
                return np.uint64(number_from_digits(digits)), OK
        else:
            upper = (load_word(buffer, stop - 16) ^ ZEROS_TEXT) & (ALL_BITS << np.uint64(128 - 8 * length))
            if are_digits(digits) and are_digits(upper):
                value = np.uint64(number_from_digits(upper)) * np.uint64(100_000_000)
                return value + np.uint64(number_from_digits(digits)), OK
    return parse_uint64_slowly(buffer, start, stop)


@inline_kernel
def digits_around_point(word: Number, used: Number) -> tuple[Number, Number]:
    """The `used` bytes of a word as digits without their first point, and how many of them stand behind it."""
    points = bytes_equal(word, POINTS_TEXT) & used
    digits = (word ^ ZEROS_TEXT) & used
    decimals = np.int64(0)
    if points != np.uint64(0):
        bit = np.uint64(trailing_zeros(points) - 7)
        below = (np.uint64(1) << bit) - np.uint64(1)
        above = ~(below | (np.uint64(255) << bit))
        digits = (digits & above) | ((digits & below) << np.uint64(8))
        decimals = np.int64(7) - np.int64(bit >> np.uint64(3))
    return digits, decimals


@inline_kernel
def parse_price(buffer: UInt8, start: int, stop: int) -> tuple[Number, int]:
    """Decimal number as fixed point 1e-9: `188.3500`, `2938.`, `.5`, `-0.25`; BAD beyond nine decimals or 9.2e9 units."""
    length = stop - start
    if length > 1 and length <= 8 and stop >= 8:
        digits, decimals = digits_around_point(load_word(buffer, stop - 8), ALL_BITS << np.uint64(64 - 8 * length))
        if are_digits(digits):
            return number_from_digits(digits) * POWERS[9 - decimals], OK
    elif length > 8 and length <= 12 and stop >= 16:
        word = load_word(buffer, stop - 8)
        upper = (load_word(buffer, stop - 16) ^ ZEROS_TEXT) & (ALL_BITS << np.uint64(128 - 8 * length))
        digits, decimals = digits_around_point(word, ALL_BITS)
        room = length == 9
        if bytes_equal(word, POINTS_TEXT) != np.uint64(0):
            # The digits before the point moved on by one: the last of the upper ones comes in.
            digits |= upper >> np.uint64(56)
            upper <<= np.uint64(8)
            room = length - decimals <= 10
        # Nine digits before the point surely fit.
        if room and are_digits(digits) and are_digits(upper):
            return (number_from_digits(upper) * 100_000_000 + number_from_digits(digits)) * POWERS[9 - decimals], OK
    return parse_price_slowly(buffer, start, stop)


@inline_kernel
def parse_time_of_day_ns(buffer: UInt8, start: int, stop: int) -> tuple[Number, int]:
    """`HH:MM:SS` with up to nine decimals as ns after midnight; NONE when empty or 99:99:99 (any decimals)."""
    if stop - start == 15:
        clock = load_word(buffer, start) ^ CLOCK_TEXT
        rest = load_word(buffer, start + 7) >> np.uint64(8)
        micros = ((rest >> np.uint64(8)) << np.uint64(16)) ^ MICROS_TEXT
        valid = ((clock | (clock + CLOCK_SIXES)) & CLOCK_NIBBLES) == np.uint64(0)
        if valid and rest & np.uint64(255) == np.uint64(46) and are_digits(micros):
            byte = np.uint64(255)
            hour = np.int64(clock & byte) * 10 + np.int64((clock >> np.uint64(8)) & byte)
            minute = np.int64((clock >> np.uint64(24)) & byte) * 10 + np.int64((clock >> np.uint64(32)) & byte)
            second = np.int64((clock >> np.uint64(48)) & byte) * 10 + np.int64(clock >> np.uint64(56))
            if hour <= 23 and minute <= 59 and second <= 59:
                return (hour * 3600 + minute * 60 + second) * SECOND_NS + number_from_digits(micros) * 1000, OK
    return parse_time_of_day_ns_slowly(buffer, start, stop)


@plain_kernel
def parse_int_slowly(buffer: UInt8, start: int, stop: int) -> tuple[Number, int]:
    """`parse_int`, byte by byte: every length and sign."""
    if stop <= start:
        return 0, NONE
    negative = buffer[start] == 45
    at = start + 1 if negative else start
    if at == stop:
        return 0, BAD
    value = np.int64(0)
    while at < stop and buffer[at] == 48 and at + 1 < stop:
        at += 1
    if stop - at > 18:
        return 0, BAD
    while at < stop:
        digit = np.int64(buffer[at]) - 48
        if digit < 0 or digit > 9:
            return 0, BAD
        value = value * 10 + digit
        at += 1
    return -value if negative else value, OK


@plain_kernel
def parse_uint64_slowly(buffer: UInt8, start: int, stop: int) -> tuple[Number, int]:
    """`parse_uint64`, byte by byte: every length and sign."""
    if stop <= start:
        return np.uint64(0), NONE
    at = start
    while at + 1 < stop and buffer[at] == 48:
        at += 1
    if stop - at > 20:
        return np.uint64(0), BAD
    value = np.uint64(0)
    ten = np.uint64(10)
    while at < stop:
        digit = np.int64(buffer[at]) - 48
        if digit < 0 or digit > 9:
            return np.uint64(0), BAD
        # 2^64 - 1 = 18446744073709551615: one more digit fits only below its tenth
        if value > np.uint64(1844674407370955161) or (value == np.uint64(1844674407370955161) and digit > 5):
            return np.uint64(0), BAD
        value = value * ten + np.uint64(digit)
        at += 1
    return value, OK


@plain_kernel
def parse_price_slowly(buffer: UInt8, start: int, stop: int) -> tuple[Number, int]:
    """`parse_price`, byte by byte: every length and sign."""
    if stop <= start:
        return 0, NONE
    negative = buffer[start] == 45
    at = start + 1 if negative else start
    whole = np.int64(0)
    digits = 0
    while at < stop:
        digit = np.int64(buffer[at]) - 48
        if digit < 0 or digit > 9:
            break
        whole = whole * 10 + digit
        if whole > 9_223_372_035:
            return 0, BAD
        digits += 1
        at += 1
    fraction = np.int64(0)
    left = 9
    if at < stop:
        if buffer[at] != 46:
            return 0, BAD
        at += 1
        while at < stop:
            digit = np.int64(buffer[at]) - 48
            if digit < 0 or digit > 9:
                return 0, BAD
            if left > 0:
                fraction = fraction * 10 + digit
                left -= 1
            elif digit != 0:
                return 0, BAD
            digits += 1
            at += 1
    if digits == 0:
        return 0, BAD
    while left > 0:
        fraction *= 10
        left -= 1
    value = whole * 1_000_000_000 + fraction
    return -value if negative else value, OK


@inline_kernel
def two_digits(buffer: UInt8, at: int) -> Number:
    """The number of two digits at `at`, or a number above 1000 when they are none."""
    tens = np.int64(buffer[at]) - 48
    ones = np.int64(buffer[at + 1]) - 48
    if tens < 0 or tens > 9 or ones < 0 or ones > 9:
        return np.int64(10_000)
    return tens * 10 + ones


@plain_kernel
def parse_time_of_day_ns_slowly(buffer: UInt8, start: int, stop: int) -> tuple[Number, int]:
    """`parse_time_of_day_ns`, byte by byte: every length and sign."""
    if stop <= start:
        return 0, NONE
    if stop - start < 8 or buffer[start + 2] != 58 or buffer[start + 5] != 58:
        return 0, BAD
    hour = two_digits(buffer, start)
    minute = two_digits(buffer, start + 3)
    second = two_digits(buffer, start + 6)
    sentinel = hour == 99 and minute == 99 and second == 99
    if not sentinel and (hour > 23 or minute > 59 or second > 59):
        return 0, BAD
    fraction = np.int64(0)
    left = 9
    if stop > start + 8:
        if buffer[start + 8] != 46 or stop - start > 18:
            return 0, BAD
        for at in range(start + 9, stop):
            digit = np.int64(buffer[at]) - 48
            if digit < 0 or digit > 9:
                return 0, BAD
            fraction = fraction * 10 + digit
            left -= 1
    if sentinel:
        return 0, NONE
    while left > 0:
        fraction *= 10
        left -= 1
    return (hour * 3600 + minute * 60 + second) * SECOND_NS + fraction, OK


@inline_kernel
def days_from_civil(year: int, month: int, day: int) -> Number:
    """Days since 1970-01-01 of a date of the Gregorian calendar."""
    shifted = year - 1 if month <= 2 else year
    era = shifted // 400
    of_era = shifted - era * 400
    of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


@plain_kernel
def days_from_parts(year: int, month: int, day: int) -> tuple[Number, int]:
    """Days since the epoch with a check of the calendar; NONE for the sentinel 9999-99-99."""
    if year == 9999 and month == 99 and day == 99:
        return 0, NONE
    if year < 1900 or year > 2200 or month < 1 or month > 12 or day < 1 or day > 31:
        return 0, BAD
    if day > 28:
        if day == 31 and (month == 4 or month == 6 or month == 9 or month == 11):
            return 0, BAD
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        if month == 2 and (day > 29 or not leap):
            return 0, BAD
    return days_from_civil(year, month, day), OK


@plain_kernel
def parse_date(buffer: UInt8, start: int, stop: int) -> tuple[Number, int]:
    """`YYYY-MM-DD`, `MM/DD/YYYY` or `YYYYMMDD` as days since 1970-01-01."""
    length = stop - start
    if length <= 0:
        return 0, NONE
    if length == 10 and buffer[start + 4] == 45 and buffer[start + 7] == 45:
        year = two_digits(buffer, start) * 100 + two_digits(buffer, start + 2)
        return days_from_parts(year, two_digits(buffer, start + 5), two_digits(buffer, start + 8))
    if length == 10 and buffer[start + 2] == 47 and buffer[start + 5] == 47:
        year = two_digits(buffer, start + 6) * 100 + two_digits(buffer, start + 8)
        return days_from_parts(year, two_digits(buffer, start), two_digits(buffer, start + 3))
    if length == 8:
        year = two_digits(buffer, start) * 100 + two_digits(buffer, start + 2)
        return days_from_parts(year, two_digits(buffer, start + 4), two_digits(buffer, start + 6))
    return 0, BAD


@plain_kernel
def span_index(utc_ns: int, transitions: Int64, spans: int) -> Number:
    """Index of the span of the offset table (of `spans` spans) that holds `utc_ns`."""
    low = 0
    high = spans
    while high - low > 1:
        middle = (low + high) >> 1
        if transitions[middle] <= utc_ns:
            low = middle
        else:
            high = middle
    return low


@plain_kernel
def utc_from_wall(local: int, hint_utc_ns: int, transitions: Int64, offsets: Int64, spans: int) -> Number:
    """UTC ns of a local time in ns; see `new_york_ns`."""
    # New York's offset is between -5 h and -4 h: the two candidates bracket every answer
    before = span_index(local + 3 * HOUR_NS, transitions, spans)
    after = span_index(local + 6 * HOUR_NS, transitions, spans)
    if before == after:
        return local - offsets[before]
    early = local - offsets[before]
    late = local - offsets[after]
    early_holds = early < transitions[after]
    late_holds = late >= transitions[after]
    if early_holds and late_holds:
        if hint_utc_ns != NULL_TS and abs(late - hint_utc_ns) < abs(early - hint_utc_ns):
            return late
        return early
    if late_holds:
        return late
    return early


@plain_kernel
def new_york_ns(days: int, tod_ns: int, hint_utc_ns: int, transitions: Int64, offsets: Int64) -> tuple[Number, int]:
    """UTC ns of a New York wall time (tables: `market/timezone.py`); always OK.

    A wall time that happens twice (November) is the one nearer to `hint_utc_ns`, or the first when the hint is NULL_TS; one that
    never happens (March) is moved on by the hour that was skipped.
    """
    return utc_from_wall(days * DAY_NS + tod_ns, hint_utc_ns, transitions, offsets, len(transitions)), OK


@plain_kernel
def steady_span_at(local_ns: int, transitions: Int64, offsets: Int64, spans: int) -> tuple[Number, Number, Number]:
    """`(from, to, offset)`: local times in [from, to) around `local_ns` have this offset and happen once; (0, 0, 0) near a change.

    Lets a loop convert with one subtraction until it leaves the span. `spans` is the length of the tables.
    """
    before = span_index(local_ns + 3 * HOUR_NS, transitions, spans)
    after = span_index(local_ns + 6 * HOUR_NS, transitions, spans)
    if before != after or before + 1 >= spans:
        return 0, 0, 0
    return transitions[before] - 3 * HOUR_NS, transitions[before + 1] - 6 * HOUR_NS, offsets[before]


@plain_kernel
def offset_index(utc_ns: int, transitions: Int64) -> Number:
    """`span_index` for an array."""
    return span_index(utc_ns, transitions, len(transitions))


@plain_kernel
def steady_span(local_ns: int, transitions: Int64, offsets: Int64) -> tuple[Number, Number, Number]:
    """`steady_span_at` for arrays."""
    return steady_span_at(local_ns, transitions, offsets, len(transitions))


@inline_kernel
def nearest_day(tod_ns: int, clock_local_ns: int) -> Number:
    """The day (since the epoch) on which a time without date lies nearest to the feed's own clock."""
    days = clock_local_ns // DAY_NS
    distance = tod_ns - (clock_local_ns - days * DAY_NS)
    if distance > DAY_NS // 2:
        return days - 1
    if distance < -(DAY_NS // 2):
        return days + 1
    return days


@inline_kernel
def hash_bytes(buffer: UInt8, start: int, stop: int) -> Number:
    """64-bit hash. Up to eight bytes it is one-to-one, so that equal hashes of equal lengths are equal texts."""
    length = stop - start
    word = np.uint64(0)
    if length <= 8:
        if stop >= 8 and length > 0:
            word = load_word(buffer, stop - 8) >> np.uint64(64 - 8 * length)
        else:
            for at in range(start, stop):
                word |= np.uint64(buffer[at]) << np.uint64(8 * (at - start))
    else:
        word = np.uint64(14695981039346656037)
        for at in range(start, stop):
            word = (word ^ np.uint64(buffer[at])) * np.uint64(1099511628211)
    word ^= word >> np.uint64(32)
    word *= np.uint64(0x9E3779B97F4A7C15)
    return word ^ (word >> np.uint64(32))


@inline_kernel
def intern_at(
    buffer: UInt8, start: int, stop: int, pool: UInt8, ends: Int64, hashes: UInt64, slots: Int32, count: Int64,
    pool_len: int, hashes_len: int, slots_len: int,
) -> tuple[Number, int]:  # fmt: skip
    """Number of the symbol in `buffer[start:stop]`, given now if it is new (arrays of `SymbolIndex`, or pointers).

    BAD when it is empty or longer than SYMBOL_BYTES_MAX, or when it would be one name too many (`count[1]`); FULL when the arrays
    must grow first.
    """
    length = stop - start
    if length <= 0 or length > SYMBOL_BYTES_MAX:
        return -1, BAD
    mark = hash_bytes(buffer, start, stop)
    mask = slots_len - 1
    slot = np.int64(mark & np.uint64(mask))
    while True:
        number = np.int64(slots[slot])
        if number < 0:
            break
        if hashes[number] == mark:
            begin = ends[number]
            if ends[number + 1] - begin == length:
                same = True
                for at in range(length if length > 8 else 0):
                    if pool[begin + at] != buffer[start + at]:
                        same = False
                        break
                if same:
                    return number, OK
        slot = (slot + 1) & mask
    number = count[0]
    if number >= count[1]:
        return -1, BAD
    begin = ends[number]
    if number >= hashes_len or begin + length > pool_len or 2 * (number + 1) > slots_len:
        return -1, FULL
    for at in range(length):
        pool[begin + at] = buffer[start + at]
    ends[number + 1] = begin + length
    hashes[number] = mark
    slots[slot] = number
    count[0] = number + 1
    return number, OK


@kernel
def intern_symbol(
    buffer: UInt8, start: int, stop: int, pool: UInt8, ends: Int64, hashes: UInt64, slots: Int32, count: Int64
) -> tuple[Number, int]:
    """`intern_at` for arrays: number and OK, BAD or FULL."""
    return intern_at(buffer, start, stop, pool, ends, hashes, slots, count, len(pool), len(hashes), len(slots))


class SymbolIndex:
    """The arrays of `intern_symbol`, kept equal to a SymbolTable.

    Before a kernel runs, `pull` takes over names that others put into the table; afterwards `push` publishes the names that the
    kernel met. About 90 bytes a symbol.
    """

    def __init__(self, table: SymbolTable) -> None:
        self.table = table
        self.pool: UInt8 = np.zeros(1 << 14, np.uint8)
        self.ends: Int64 = np.zeros(1025, np.int64)
        self.hashes: UInt64 = np.zeros(1024, np.uint64)
        self.slots: Int32 = np.full(4096, -1, np.int32)
        self.count: Int64 = np.array([0, table.names_max], np.int64)
        """Names now, and how many there may be."""
        self.pull()

    @property
    def arrays(self) -> tuple[UInt8, Int64, UInt64, Int32, Int64]:
        """pool, ends, hashes, slots, count: in the order of `intern_symbol`."""
        return self.pool, self.ends, self.hashes, self.slots, self.count

    def pull(self) -> None:
        """Take over names that the table got from elsewhere; the limit is for names in lines only."""
        self.count[1] = max(self.table.names_max, len(self.table))
        for name in self.table.names[int(self.count[0]) :]:
            text = np.frombuffer(name.encode("latin-1"), np.uint8)
            while self._insert(text) == FULL:
                self.grow()

    def push(self) -> None:
        """Give the table the names that a kernel met, in their order."""
        for number in range(len(self.table), int(self.count[0])):
            self.table.intern(self.pool[self.ends[number] : self.ends[number + 1]].tobytes().decode("latin-1"))

    def grow(self) -> None:
        """Double every array and place the symbols anew."""
        self.pool = np.concatenate([self.pool, np.zeros_like(self.pool)])
        room = 2 * len(self.hashes)
        self.ends = np.concatenate([self.ends, np.zeros(room + 1 - len(self.ends), np.int64)])
        self.hashes = np.concatenate([self.hashes, np.zeros(room - len(self.hashes), np.uint64)])
        self.slots = np.full(4 * room, -1, np.int32)
        mask = len(self.slots) - 1
        for number in range(int(self.count[0])):
            slot = int(self.hashes[number]) & mask
            while self.slots[slot] >= 0:
                slot = (slot + 1) & mask
            self.slots[slot] = number

    def _insert(self, text: UInt8) -> int:
        number, status = intern_symbol(text, 0, len(text), *self.arrays)
        if status == BAD:
            # A name that no line can hold still needs its number: it is placed without a slot.
            number = int(self.count[0])
            if number + 1 >= len(self.ends) or int(self.ends[number]) + len(text) > len(self.pool):
                return FULL
            self.pool[self.ends[number] : self.ends[number] + len(text)] = text
            self.ends[number + 1] = self.ends[number] + len(text)
            self.count[0] = number + 1
            return OK
        return int(status)

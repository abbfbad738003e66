"""Rows to wire lines, and the choice of lines for a client, as compiled kernels over bytes.

A batch is one buffer with the end and the symbol of every line. What does not belong here: which fields exist (`layouts`), what a
row means (`flow_kernels`), sockets.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from l2_platform.feeds.iqfeed.simulator import flow_kernels as flow
from l2_platform.market.compiled import Number, kernel

UInt8 = npt.NDArray[np.uint8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

DEPTH_LINE_BYTES_MAX: Final = 160
"""A Level 2 line is never longer."""
FIELD_BYTES_MAX: Final = 24
"""A field of a Level 1 or history line is never longer, comma included."""

OPTIONS: Final[dict[str, Any]] = {"cache": True, "nogil": True, "error_model": "numpy"}
"""For kernels with one stated signature: constants would each make another."""

SECOND_NS: Final = 1_000_000_000
DAY_NS: Final = 86_400 * SECOND_NS

# How a field of a Level 1 line is written; the column of the row is given beside it.
(
    F_EMPTY,
    F_INT,
    F_PRICE,
    F_TIME,
    F_DATE,
    F_CONTENTS,
    F_CONDITION,
    F_DAY,
    F_CONSTANT,
    F_SPREAD,
    F_CHANGE,
    F_RANGE,
    F_VWAP,
) = range(13)

# Columns of a remembered trade.
(
    T_SYMBOL, T_TS, T_OFFSET, T_PRICE, T_SIZE, T_VOLUME, T_BID, T_ASK, T_TICK, T_CONTENTS, T_CENTER, T_CONDITION, T_AGGRESSOR,
) = range(13)  # fmt: skip
T_COLUMNS: Final = 13
TICK_LINE_BYTES_MAX: Final = 256

WATCH_ALL: Final = 1
WATCH_TRADES: Final = 2


@njit("int64(uint8[::1], int64, uint8[::1], int64)", **OPTIONS)
def put_text(out: UInt8, p: Number, text: UInt8, length: Number) -> Number:
    """Copy bytes and a comma."""
    for i in range(length):
        out[p + i] = text[i]
    out[p + length] = 44
    return p + length + 1


@njit("int64(uint8[::1], int64, int64)", **OPTIONS)
def put_int(out: UInt8, p: Number, value: Number) -> Number:
    """Write a decimal integer and a comma."""
    if value < 0:
        out[p] = 45
        p += 1
        value = -value
    digits = 1
    limit = 10
    while value >= limit and digits < 18:
        limit *= 10
        digits += 1
    for i in range(digits - 1, -1, -1):
        out[p + i] = 48 + value % 10
        value //= 10
    out[p + digits] = 44
    return p + digits + 1


@njit("int64(uint8[::1], int64, int64, int64)", **OPTIONS)
def put_digits(out: UInt8, p: Number, value: Number, digits: Number) -> Number:
    """Write exactly `digits` decimal digits, no comma."""
    for i in range(digits - 1, -1, -1):
        out[p + i] = 48 + value % 10
        value //= 10
    return p + digits


@njit("int64(uint8[::1], int64, int64)", **OPTIONS)
def put_price(out: UInt8, p: Number, cents: Number) -> Number:
    """Write a price with four decimals and a comma."""
    if cents < 0:
        out[p] = 45
        p += 1
        cents = -cents
    p = put_int(out, p, cents // 100) - 1
    out[p] = 46
    p = put_digits(out, p + 1, cents % 100, 2)
    out[p] = 48
    out[p + 1] = 48
    out[p + 2] = 44
    return p + 3


@njit("int64(uint8[::1], int64, int64)", **OPTIONS)
def put_time(out: UInt8, p: Number, ts: Number) -> Number:
    """Write HH:MM:SS.ffffff of a local time in ns, and a comma."""
    micros = (ts % DAY_NS) // 1000
    seconds = micros // 1_000_000
    put_digits(out, p, seconds // 3600, 2)
    out[p + 2] = 58
    put_digits(out, p + 3, seconds // 60 % 60, 2)
    out[p + 5] = 58
    put_digits(out, p + 6, seconds % 60, 2)
    out[p + 8] = 46
    put_digits(out, p + 9, micros % 1_000_000, 6)
    out[p + 15] = 44
    return p + 16


@njit("Tuple((int64, int64, int64))(int64)", **OPTIONS)
def civil_date(ts: Number) -> tuple[Number, Number, Number]:
    """Year, month and day of a local time in ns (days-to-civil of the proleptic Gregorian calendar)."""
    z = ts // DAY_NS + 719_468
    era = z // 146_097
    doe = z - era * 146_097
    yoe = (doe - doe // 1460 + doe // 36_524 - doe // 146_096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    day = doy - (153 * mp + 2) // 5 + 1
    month = mp + 3 if mp < 10 else mp - 9
    return yoe + era * 400 + (1 if month <= 2 else 0), month, day


@njit("int64(uint8[::1], int64, int64)", **OPTIONS)
def put_iso_date(out: UInt8, p: Number, ts: Number) -> Number:
    """Write YYYY-MM-DD of a local time, and a comma."""
    year, month, day = civil_date(ts)
    put_digits(out, p, year, 4)
    out[p + 4] = 45
    put_digits(out, p + 5, month, 2)
    out[p + 7] = 45
    put_digits(out, p + 8, day, 2)
    out[p + 10] = 44
    return p + 11


@njit("int64(uint8[::1], int64, int64)", **OPTIONS)
def put_us_date(out: UInt8, p: Number, ts: Number) -> Number:
    """Write MM/DD/YYYY of a local time, and a comma."""
    year, month, day = civil_date(ts)
    put_digits(out, p, month, 2)
    out[p + 2] = 47
    put_digits(out, p + 3, day, 2)
    out[p + 5] = 47
    put_digits(out, p + 6, year, 4)
    out[p + 10] = 44
    return p + 11


@njit("int64(uint8[::1], int64)", **OPTIONS)
def put_comma(out: UInt8, p: Number) -> Number:
    """Write an empty field."""
    out[p] = 44
    return p + 1


@njit("int64(uint8[::1], int64)", **OPTIONS)
def put_end(out: UInt8, p: Number) -> Number:
    """End the line."""
    out[p] = 13
    out[p + 1] = 10
    return p + 2


@kernel
def format_depth(
    rows: Int64,
    count: Number,
    names: UInt8,
    name_len: Int64,
    venues: UInt8,
    offset: Number,
    out: UInt8,
    ends: Int64,
    symbols: Int32,
) -> Number:
    """Write Level 2 rows as lines of protocol 6.2; `offset` is New York's from UTC in ns. Return the bytes written."""
    p = 0
    dated = np.zeros(11, np.uint8)
    day = np.int64(-1)
    for r in range(count):
        row = rows[r]
        kind = row[flow.D_KIND]
        s = row[flow.D_SYMBOL]
        local = row[flow.D_TS] + offset
        if local // DAY_NS != day:
            day = local // DAY_NS
            put_iso_date(dated, 0, local)
        level = kind >= flow.K_LEVEL_SUMMARY
        venue = not level and row[flow.D_ID] == 0
        out[p] = kind
        out[p + 1] = 44
        p = put_text(out, p + 2, names[s], name_len[s])
        if not level:
            p = put_comma(out, p) if venue else put_int(out, p, row[flow.D_ID])
            p = put_text(out, p, venues[row[flow.D_VENUE]], 4) if venue else put_comma(out, p)
        out[p] = 66 if row[flow.D_SIDE] == flow.BID_SIDE else 65
        out[p + 1] = 44
        p += 2
        if kind != flow.K_DELETE:
            p = put_price(out, p, row[flow.D_PRICE])
            if kind != flow.K_LEVEL_DELETE:
                p = put_int(out, p, row[flow.D_SIZE])
                if level:
                    p = put_int(out, p, row[flow.D_COUNT])
                else:
                    p = put_comma(out, p) if venue else put_int(out, p, row[flow.D_PRIORITY])
                out[p] = 52
                out[p + 1] = 44
                p += 2
        # the live feed sends deletes of venue rows without a time
        p = put_comma(out, p) if venue and kind == flow.K_DELETE else put_time(out, p, local)
        p = put_text(out, p, dated, 10)
        p = put_end(out, p)
        ends[r] = p
        symbols[r] = s
    return p


@njit("int64(uint8[::1], int64, int64)", **OPTIONS)
def put_contents(out: UInt8, p: Number, bits: Number) -> Number:
    """Write Message Contents letters and a comma."""
    letters = b"CEObaohlcsv"
    for i in range(11):
        if bits >> i & 1:
            out[p] = letters[i]
            p += 1
    out[p] = 44
    return p + 1


@njit("int64(uint8[::1], int64, int64)", **OPTIONS)
def put_condition(out: UInt8, p: Number, condition: Number) -> Number:
    """Write trade condition codes in hex (01 regular, 17 form T, 3D87 odd lot) and a comma."""
    codes = b"0117003D87"
    first = condition * 2 if condition < flow.CONDITION_ODD_LOT else 6
    length = 2 if condition < flow.CONDITION_ODD_LOT else 4
    for i in range(length):
        out[p + i] = codes[first + i]
    out[p + length] = 44
    return p + length + 1


@kernel
def put_field(out: UInt8, p: Number, row: Int64, kind: Number, column: Number, offset: Number) -> Number:
    """Write one field of a Level 1 row; none where its price or time is 0."""
    value = row[column]
    if kind == F_INT:
        return put_int(out, p, value)
    if kind == F_PRICE and value != 0:
        return put_price(out, p, value)
    if kind == F_TIME and value != 0:
        return put_time(out, p, value + offset)
    if kind == F_DATE and value != 0:
        return put_us_date(out, p, value + offset)
    if kind == F_CONTENTS:
        return put_contents(out, p, value)
    if kind == F_CONDITION:
        return put_condition(out, p, value)
    if kind == F_DAY and value != 0:
        return put_int(out, p, civil_date(value + offset)[2])
    if kind == F_CONSTANT:
        return put_int(out, p, column)
    if kind == F_SPREAD:
        return put_price(out, p, row[flow.L_ASK] - row[flow.L_BID])
    if kind == F_CHANGE:
        return put_price(out, p, row[flow.L_LAST] - row[flow.L_CLOSE])
    if kind == F_RANGE:
        return put_price(out, p, row[flow.L_HIGH] - row[flow.L_LOW])
    if kind == F_VWAP and row[flow.L_VOLUME] != 0:
        return put_price(out, p, row[flow.L_NOTIONAL] // row[flow.L_VOLUME])
    return put_comma(out, p)


@kernel
def format_level1(
    rows: Int64, count: Number, letter: Number, kinds: Int64, columns: Int64, names: UInt8, name_len: Int64, offset: Number,
    out: UInt8, ends: Int64, symbols: Int32, trades: UInt8,
) -> Number:  # fmt: skip
    """Write Level 1 rows as Q or P lines with the fields given; return the bytes written. `trades` marks trade prints."""
    p = 0
    for r in range(count):
        row = rows[r]
        s = row[flow.L_SYMBOL]
        out[p] = letter
        out[p + 1] = 44
        p = put_text(out, p + 2, names[s], name_len[s])
        for f in range(len(kinds)):
            p = put_field(out, p, row, kinds[f], columns[f], offset)
        p = put_end(out, p)
        ends[r] = p
        symbols[r] = s
        trades[r] = 1 if row[flow.L_CONTENTS] & flow.IN_TRADE else 0
    return p


@kernel
def select_lines(
    buffer: UInt8, count: Number, ends: Int64, symbols: Int32, trades: UInt8, watch: UInt8, out: UInt8
) -> Number:
    """Copy the lines of watched symbols; return the bytes written."""
    p = 0
    start = np.int64(0)
    for r in range(count):
        end = ends[r]
        wanted = watch[symbols[r]]
        if wanted == WATCH_ALL or (wanted == WATCH_TRADES and trades[r]):
            for i in range(start, end):
                out[p] = buffer[i]
                p += 1
        start = end
    return p


@kernel
def keep_trades(quotes: Int64, count: Number, offset: Number, ring: Int64, head: Number) -> Number:
    """Append the trade prints of a batch to the ring of remembered trades; return how many trades were ever kept."""
    for r in range(count):
        row = quotes[r]
        if row[flow.L_CONTENTS] & flow.IN_TRADE == 0:
            continue
        kept = ring[head % len(ring)]
        kept[T_SYMBOL] = row[flow.L_SYMBOL]
        kept[T_TS] = row[flow.L_TS]
        kept[T_OFFSET] = offset
        kept[T_PRICE] = row[flow.L_PRICE]
        kept[T_SIZE] = row[flow.L_SIZE]
        kept[T_VOLUME] = row[flow.L_VOLUME]
        kept[T_BID] = row[flow.L_BID]
        kept[T_ASK] = row[flow.L_ASK]
        kept[T_TICK] = row[flow.L_TICK]
        kept[T_CONTENTS] = row[flow.L_CONTENTS]
        kept[T_CENTER] = row[flow.L_CENTER]
        kept[T_CONDITION] = row[flow.L_CONDITION]
        kept[T_AGGRESSOR] = row[flow.L_AGGRESSOR]
        head += 1
    return head


@kernel
def format_ticks(trades: Int64, prefix: UInt8, tail: Number, out: UInt8) -> Number:
    """Write remembered trades as history tick lines behind `prefix`; `tail` adds aggressor and day code. Return the bytes."""
    p = 0
    for r in range(len(trades)):
        row = trades[r]
        for i in range(len(prefix)):
            out[p + i] = prefix[i]
        p += len(prefix)
        local = row[T_TS] + row[T_OFFSET]
        p = put_iso_date(out, p, local)
        out[p - 1] = 32
        p = put_time(out, p, local)
        p = put_price(out, p, row[T_PRICE])
        p = put_int(out, p, row[T_SIZE])
        p = put_int(out, p, row[T_VOLUME])
        p = put_price(out, p, row[T_BID])
        p = put_price(out, p, row[T_ASK])
        p = put_int(out, p, row[T_TICK])
        p = put_contents(out, p, row[T_CONTENTS] & flow.IN_TRADE)
        p = put_int(out, p, row[T_CENTER])
        p = put_condition(out, p, row[T_CONDITION])
        if tail:
            p = put_int(out, p, row[T_AGGRESSOR])
            p = put_int(out, p, civil_date(local)[2])
        p = put_end(out, p)
    return p

"""Compiled loops of the Level 1 decoder: what a Q, P, C, T, … line holds.

What does not belong here: fields of a line as values (bytes_kernels), layouts as names (layouts), state over blocks (decode_level1).
"""

from typing import Final

import numpy as np

from l2_platform.feeds.iqfeed import layouts
from l2_platform.feeds.iqfeed.bytes_kernels import (
    BAD,
    DAY_NS,
    FULL,
    NONE,
    OK,
    intern_symbol,
    parse_date,
    parse_int,
    parse_price,
    parse_time_of_day_ns,
    parse_uint64,
)
from l2_platform.feeds.iqfeed.level1_clock import (
    CLOCK_KIND,
    CLOCK_LOCAL,
    CLOCK_UTC,
    FEED_CLOCK,
    NO_CLOCK,
    TRADE_CLOCK,
    time_with_day,
    wall_ns,
)
from l2_platform.feeds.iqfeed.level1_columns import (
    CONTENTS,
    FIELDS,
    NUMBER,
    PRICE,
    SYMBOL,
    TIME,
    Level1Columns,
)
from l2_platform.market.compiled import Number, inline_kernel, kernel, plain_kernel
from l2_platform.market.events import NULL_PRICE, NULL_TS, Int32, Int64, UInt8, UInt64


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
    bits = 0
    for at in range(start, stop):
        letter = buffer[at]
        # C E O a b o h l c s v
        if letter == 67:
            bits |= 1
        elif letter == 69:
            bits |= 2
        elif letter == 79:
            bits |= 4
        elif letter == 97:
            bits |= 8
        elif letter == 98:
            bits |= 16
        elif letter == 111:
            bits |= 32
        elif letter == 104:
            bits |= 64
        elif letter == 108:
            bits |= 128
        elif letter == 99:
            bits |= 256
        elif letter == 115:
            bits |= 512
        elif letter == 118:
            bits |= 1024
        else:
            return 0, BAD
    trade = bits & 7
    return bits, BAD if trade & (trade - 1) else OK


@inline_kernel
def small_int(buffer: UInt8, start: int, stop: int, largest: int) -> tuple[Number, int]:
    """An integer from 0 to `largest`."""
    value, status = parse_int(buffer, start, stop)
    if status == OK and (value < 0 or value > largest):
        return 0, BAD
    return value, status


@kernel
def decode_level1_rows(
    buffer: UInt8, row: int, out: Level1Columns, columns: UInt8, required: int, session_days: int, clock: Int64,
    pool: UInt8, ends: Int64, hashes: UInt64, slots: Int32, count: Int64, transitions: Int64, offsets: Int64,
) -> tuple[int, int]:  # fmt: skip
    """Decode rows from `row` on; `(next row, reason)`: OK at the end, NONE after an acknowledgement, FULL when symbols must grow.

    Q and P lines are written here and not in a function of their own: passing thirty arrays costs as much as a line.
    """
    rows = len(out.seq)
    values = np.zeros(layouts.COLUMN_COUNT, np.int64)
    place = np.zeros(2, np.int64)
    priced = (columns == layouts.PRICE).any()
    sized = (columns == layouts.SIZE).any()
    while row < rows:
        begin = out.line_start[row]
        end = begin + out.line_len[row]
        error: Number = np.int64(out.error[row])
        letter = buffer[begin] if end > begin else np.uint8(0)
        if error == 0 and (letter == 81 or letter == 80) and end - begin > 1 and buffer[begin + 1] == 44:
            place[1] = 0
            error, fields = parse_quote_fields(buffer, begin + 2, end, columns, values, place)
            contents = values[layouts.CONTENTS]
            update = letter == 81
            trade = update and contents & 7 != 0
            if error == 0:
                if fields < required:
                    error = FIELDS
                elif trade and priced and values[layouts.PRICE] == NULL_PRICE:
                    error = PRICE
                elif trade and sized and values[layouts.SIZE] < 0:
                    error = NUMBER
            if error == 0:
                number, status = intern_symbol(buffer, place[0], place[1], pool, ends, hashes, slots, count)
                if status == FULL:
                    return row, FULL
                if status != OK:
                    error = SYMBOL
            out.error[row] = error
            if error == 0:
                recv = out.ts_recv[row]
                tod = values[layouts.TRADE_TIME]
                days = values[layouts.TRADE_DATE]
                ts_trade = time_with_day(tod, days, trade, recv, session_days, clock, transitions, offsets)
                if trade and tod >= 0 and days != NULL_TS and clock[CLOCK_KIND] != FEED_CLOCK:
                    clock[CLOCK_LOCAL] = days * DAY_NS + tod
                    clock[CLOCK_UTC] = ts_trade
                    clock[CLOCK_KIND] = TRADE_CLOCK
                fresh = update and contents & 16 != 0
                ts_bid = time_with_day(
                    values[layouts.BID_TIME], NULL_TS, fresh, recv, session_days, clock, transitions, offsets
                )
                fresh = update and contents & 8 != 0
                ts_ask = time_with_day(
                    values[layouts.ASK_TIME], NULL_TS, fresh, recv, session_days, clock, transitions, offsets
                )
                out.kind[row] = letter
                out.symbol[row] = number
                out.contents[row] = contents
                if trade:
                    out.basis[row] = 67 if contents & 1 else 69 if contents & 2 else 79
                out.price[row] = values[layouts.PRICE]
                out.size[row] = values[layouts.SIZE]
                out.total_volume[row] = values[layouts.TOTAL_VOLUME]
                out.market_center[row] = values[layouts.MARKET_CENTER]
                out.conditions[row] = np.uint64(values[layouts.CONDITIONS])
                out.aggressor[row] = values[layouts.AGGRESSOR]
                out.day_code[row] = values[layouts.DAY_CODE]
                out.tick_id[row] = np.uint64(values[layouts.TICK_ID])
                out.trade_count[row] = values[layouts.TRADE_COUNT]
                out.bid[row] = values[layouts.BID_PRICE]
                out.bid_size[row] = values[layouts.BID_SIZE]
                out.bid_market_center[row] = values[layouts.BID_CENTER]
                out.ask[row] = values[layouts.ASK_PRICE]
                out.ask_size[row] = values[layouts.ASK_SIZE]
                out.ask_market_center[row] = values[layouts.ASK_CENTER]
                out.delay[row] = values[layouts.DELAY]
                out.ts_trade[row] = ts_trade
                out.ts_bid[row] = ts_bid
                out.ts_ask[row] = ts_ask
                # NULL_TS is the smallest number, so the greater of two times is the one that exists
                ts_event = ts_trade if trade and ts_trade != NULL_TS else max(ts_bid, ts_ask)
                if ts_event == NULL_TS and clock[CLOCK_KIND] != NO_CLOCK:
                    ts_event = clock[CLOCK_UTC]
                out.ts_event[row] = ts_event
            row += 1
            continue
        kind, status = decode_other_row(
            buffer, begin, end, row, out, clock, pool, ends, hashes, slots, count, transitions, offsets
        )
        if status == FULL:
            return row, FULL
        row += 1
        if kind == 83 and is_acknowledgement(buffer, begin, end):
            return row, NONE
    return row, OK


@plain_kernel
def decode_other_row(
    buffer: UInt8, begin: int, end: int, row: int, out: Level1Columns, clock: Int64,
    pool: UInt8, ends: Int64, hashes: UInt64, slots: Int32, count: Int64, transitions: Int64, offsets: Int64,
) -> tuple[int, int]:  # fmt: skip
    """Every line but Q and P; `(kind, status)`, nothing written when that is FULL."""
    error: Number = np.int64(out.error[row])
    kind: Number = np.int64(63)
    status = OK
    letter = np.int64(buffer[begin]) if end > begin else np.int64(0)
    if error == 0 and (end - begin == 1 or (end > begin and buffer[begin + 1] == 44)):
        if letter == 84:
            kind = letter
            error = decode_clock_row(buffer, begin + 2, end, row, out, clock, transitions, offsets)
        elif letter == 67:
            kind = letter
            error, status = decode_correction_row(
                buffer, begin + 2, end, row, out, clock, pool, ends, hashes, slots, count, transitions, offsets
            )
        elif letter == 70 or letter == 82 or letter == 110:
            kind = letter
            stop = field_end(buffer, begin + 2, end)
            number, status = intern_symbol(buffer, begin + 2, stop, pool, ends, hashes, slots, count)
            out.symbol[row] = number
            error = 0 if status == OK else SYMBOL
        elif letter == 78:
            kind = letter
            status = decode_news_row(buffer, begin + 2, end, row, out, pool, ends, hashes, slots, count)
        elif letter == 83 or letter == 69:
            kind = letter
        elif letter == 81 or letter == 80:
            error = FIELDS
    if status == FULL:
        return 0, FULL
    if out.ts_event[row] == NULL_TS and clock[CLOCK_KIND] != NO_CLOCK and error == 0 and kind != 67:
        out.ts_event[row] = clock[CLOCK_UTC]
    out.error[row] = error
    out.kind[row] = 0 if error else kind
    return kind, OK


@plain_kernel
def is_acknowledgement(buffer: UInt8, begin: int, end: int) -> bool:
    """Whether a system line begins `S,CURRENT ` and so may change the layout."""
    if end - begin < 10:
        return False
    # S,CURRENT followed by a space
    expected = (83, 44, 67, 85, 82, 82, 69, 78, 84, 32)
    for at in range(10):  # noqa: SIM110 - compiled: no generators
        if buffer[begin + at] != expected[at]:
            return False
    return True


@plain_kernel
def decode_clock_row(
    buffer: UInt8, at: int, end: int, row: int, out: Level1Columns, clock: Int64, transitions: Int64, offsets: Int64
) -> Number:
    """`T,20191018 12:49:55`: sets the clock and the row's ts_event; gives the error."""
    if end - at < 17 or buffer[at + 8] != 32:
        return TIME
    days, status = parse_date(buffer, at, at + 8)
    tod, time_status = parse_time_of_day_ns(buffer, at + 9, field_end(buffer, at + 9, end))
    if status != OK or time_status != OK:
        return TIME
    utc = wall_ns(days, tod, out.ts_recv[row], clock, transitions, offsets)
    clock[CLOCK_LOCAL] = days * DAY_NS + tod
    clock[CLOCK_UTC] = utc
    clock[CLOCK_KIND] = FEED_CLOCK
    out.ts_event[row] = utc
    return 0


@plain_kernel
def decode_news_row(
    buffer: UInt8, at: int, end: int, row: int, out: Level1Columns,
    pool: UInt8, ends: Int64, hashes: UInt64, slots: Int32, count: Int64,
) -> int:  # fmt: skip
    """`N,distributor,story,SYM:SYM,…`: the symbol where the story has exactly one."""
    for _ in range(2):
        at = field_end(buffer, at, end) + 1
    if at >= end:
        return OK
    stop = field_end(buffer, at, end)
    if stop > at and buffer[stop - 1] == 58:
        stop -= 1
    if stop > at and buffer[at] == 58:
        at += 1
    for place in range(at, stop):
        if buffer[place] == 58:
            return OK
    number, status = intern_symbol(buffer, at, stop, pool, ends, hashes, slots, count)
    if status == OK:
        out.symbol[row] = number
    return FULL if status == FULL else OK


@plain_kernel
def price_field(buffer: UInt8, start: int, stop: int) -> tuple[Number, int]:
    """`parse_price` for loops that are not hot: compiled once, not at every call."""
    return parse_price(buffer, start, stop)


@plain_kernel
def int_field(buffer: UInt8, start: int, stop: int) -> tuple[Number, int]:
    """`parse_int`, likewise."""
    return parse_int(buffer, start, stop)


@plain_kernel
def limited_field(buffer: UInt8, start: int, stop: int, largest: int) -> tuple[Number, int]:
    """`small_int`, likewise."""
    return small_int(buffer, start, stop, largest)


@plain_kernel
def conditions_field(buffer: UInt8, start: int, stop: int) -> tuple[Number, int]:
    """`parse_conditions`, likewise."""
    return parse_conditions(buffer, start, stop)


@plain_kernel
def decode_correction_row(
    buffer: UInt8, at: int, end: int, row: int, out: Level1Columns, clock: Int64,
    pool: UInt8, ends: Int64, hashes: UInt64, slots: Int32, count: Int64, transitions: Int64, offsets: Int64,
) -> tuple[int, int]:  # fmt: skip
    """`C,SYM,I|X,[C|E|O,]date,time,price,size,TickID,conditions,center`; `(error, status)`. The rule of `layouts.correction_has_type`."""
    bounds = np.zeros(12, np.int64)
    fields = 0
    place = at
    while fields < 11:
        bounds[fields] = place
        fields += 1
        place = field_end(buffer, place, end) + 1
        if place > end:
            break
    bounds[fields] = place
    if fields < 7:
        return FIELDS, OK
    third = bounds[3] - 1 - bounds[2]
    letter = buffer[bounds[2]] if third == 1 else np.uint8(0)
    fifth_is_time = bounds[5] - 1 <= bounds[4]
    for byte in range(bounds[4], bounds[5] - 1):
        if buffer[byte] == 58:
            fifth_is_time = True
    typed = fifth_is_time and (third == 0 or letter == 67 or letter == 69 or letter == 79 or letter == 83)
    shift = 3 if typed else 2
    days, date_status = parse_date(buffer, bounds[shift], bounds[shift + 1] - 1)
    tod, time_status = parse_time_of_day_ns(buffer, bounds[shift + 1], bounds[shift + 2] - 1)
    if date_status == BAD or time_status == BAD:
        return TIME, OK
    if fields < shift + 5:
        return FIELDS, OK
    price, price_status = price_field(buffer, bounds[shift + 2], bounds[shift + 3] - 1)
    size, size_status = int_field(buffer, bounds[shift + 3], bounds[shift + 4] - 1)
    tick_id, tick_status = parse_uint64(buffer, bounds[shift + 4], bounds[shift + 5] - 1)
    if price_status == BAD:
        return PRICE, OK
    if size_status == BAD or tick_status == BAD:
        return NUMBER, OK
    conditions = np.uint64(0)
    center = np.int64(-1)
    if fields > shift + 5:
        conditions, status = conditions_field(buffer, bounds[shift + 5], bounds[shift + 6] - 1)
        if status == BAD:
            return NUMBER, OK
    if fields > shift + 6:
        value, status = limited_field(buffer, bounds[shift + 6], bounds[shift + 7] - 1, 2**31 - 1)
        if status == BAD:
            return NUMBER, OK
        if status == OK:
            center = np.int64(value)
    number, status = intern_symbol(buffer, at, bounds[1] - 1, pool, ends, hashes, slots, count)
    if status != OK:
        return SYMBOL, status
    out.symbol[row] = number
    out.basis[row] = letter if typed else 0
    out.price[row] = price if price_status == OK else NULL_PRICE
    out.size[row] = size if size_status == OK else -1
    out.tick_id[row] = tick_id
    out.conditions[row] = conditions
    out.market_center[row] = center
    if date_status == OK and time_status == OK:
        out.ts_trade[row] = wall_ns(days, tod, out.ts_recv[row], clock, transitions, offsets)
        out.ts_event[row] = out.ts_trade[row]
    return 0, OK


_NOTHING: Final = np.array(
    [0, 0, NULL_PRICE, NULL_PRICE, NULL_PRICE, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 0, NULL_TS, 0, 0, 0],
    np.int64,
)
"""Value of each column of `layouts` where the line has none."""
_LARGEST: Final = np.array([0] * 13 + [2**31 - 1] * 4 + [3, 255] + [0] * 4, np.int64)
"""Largest value of the limited whole numbers."""


@inline_kernel
def parse_quote_fields(
    buffer: UInt8, at: int, end: int, columns: UInt8, values: Int64, symbol: Int64
) -> tuple[int, int]:
    """Fields of a Q or P line into `values` by column, and where its symbol is; `(error, fields met)`."""
    fields = 0
    count = len(columns)
    values[:] = _NOTHING
    while at <= end and fields < count:
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

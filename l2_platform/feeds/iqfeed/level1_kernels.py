"""Compiled loops of the Level 1 decoder: what a Q, P, C, T, … line holds.

Inside, arrays are pointers (words.pointer_of): passing thirty arrays to a function costs as much as a line. What does not belong here:
fields of a line as values (quote_kernels, bytes_kernels), layouts as names (layouts), state over blocks (decode_level1).
"""

import numpy as np

from l2_platform.feeds.iqfeed import layouts
from l2_platform.feeds.iqfeed.bytes_kernels import (
    BAD,
    DAY_NS,
    FULL,
    NONE,
    OK,
    intern_at,
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
    ENCODING,
    FIELDS,
    FRAGMENT,
    NUMBER,
    OVERSIZE,
    PRICE,
    SYMBOL,
    TIME,
    Level1Columns,
)
from l2_platform.feeds.iqfeed.line_scan import EMPTY_FIELD, LEAD, split_line
from l2_platform.feeds.iqfeed.quote_kernels import (
    conditions,
    contents,
    date,
    field_end,
    limited,
    parse_conditions,
    parse_quote_fields,
    price,
    time_of_day,
    unsigned,
    whole,
)
from l2_platform.market.compiled import Number, inline_kernel, kernel, plain_kernel
from l2_platform.market.events import NULL_PRICE, NULL_TS, Int32, Int64, UInt8, UInt32, UInt64
from l2_platform.market.words import pointer_of


@inline_kernel
def small_int(buffer: UInt8, start: int, stop: int, largest: int) -> tuple[Number, int]:
    """An integer from 0 to `largest`."""
    value, status = parse_int(buffer, start, stop)
    if status == OK and (value < 0 or value > largest):
        return 0, BAD
    return value, status


@kernel
def decode_level1_rows(
    buffer: UInt8, frame_start: Int64, frame_seq: UInt64, frame_count: UInt32, frame_ts: Int64, frame_flags: UInt8,
    cursor: Int64, last_frame: int, out: Level1Columns, columns: UInt8, places: Int64, required: int, session_days: int,
    clock_slots: Int64, comma_places: Int64,
    pool: UInt8, pool_ends: Int64, hashes: UInt64, slots: Int32, count: Int64, transitions: Int64, offsets: Int64,
) -> int:  # fmt: skip
    """Decode the lines from `cursor` (frame, lines of it that are done, byte, row) on, up to frame `last_frame`, which is left out.

    OK at the end, NONE after an acknowledgement, FULL before a line for which the symbol index must grow. Every column of every row
    is written. Q and P lines are written here and not in a function of their own: their fields would have to go through memory.
    """
    text = pointer_of(buffer)
    readable = len(buffer)
    ends = pointer_of(comma_places)
    where = pointer_of(places)
    clock = pointer_of(clock_slots)
    zone_from = pointer_of(transitions)
    zone_offset = pointer_of(offsets)
    spans = len(transitions)
    names = pointer_of(pool)
    name_ends = pointer_of(pool_ends)
    name_hashes = pointer_of(hashes)
    name_slots = pointer_of(slots)
    name_count = pointer_of(count)
    o_seq = pointer_of(out.seq)
    o_kind = pointer_of(out.kind)
    o_error = pointer_of(out.error)
    o_symbol = pointer_of(out.symbol)
    o_contents = pointer_of(out.contents)
    o_basis = pointer_of(out.basis)
    o_price = pointer_of(out.price)
    o_size = pointer_of(out.size)
    o_volume = pointer_of(out.total_volume)
    o_center = pointer_of(out.market_center)
    o_conditions = pointer_of(out.conditions)
    o_aggressor = pointer_of(out.aggressor)
    o_day_code = pointer_of(out.day_code)
    o_tick_id = pointer_of(out.tick_id)
    o_trades = pointer_of(out.trade_count)
    o_bid = pointer_of(out.bid)
    o_bid_size = pointer_of(out.bid_size)
    o_bid_center = pointer_of(out.bid_market_center)
    o_ask = pointer_of(out.ask)
    o_ask_size = pointer_of(out.ask_size)
    o_ask_center = pointer_of(out.ask_market_center)
    o_delay = pointer_of(out.delay)
    o_ts_trade = pointer_of(out.ts_trade)
    o_ts_bid = pointer_of(out.ts_bid)
    o_ts_ask = pointer_of(out.ts_ask)
    o_ts_event = pointer_of(out.ts_event)
    o_ts_recv = pointer_of(out.ts_recv)
    o_start = pointer_of(out.line_start)
    o_len = pointer_of(out.line_len)
    values = np.zeros(layouts.COLUMN_COUNT, np.int64)
    symbol_place = np.zeros(2, np.int64)
    field_count = len(columns)
    priced = (columns == layouts.PRICE).any()
    sized = (columns == layouts.SIZE).any()
    plain = where[layouts.IGNORED] != 0
    ends[EMPTY_FIELD] = LEAD
    ends[EMPTY_FIELD + 1] = LEAD
    row = cursor[3]
    for frame in range(cursor[0], last_frame):
        at = frame_start[frame]
        limit = frame_start[frame + 1]
        done = np.int64(0)
        if frame == cursor[0] and cursor[1] > 0:
            done = cursor[1]
            at = cursor[2]
        flags = frame_flags[frame]
        lines = np.int64(1) if flags else np.int64(frame_count[frame])
        if frame_count[frame] == 0:
            lines = np.int64(0)
        recv = frame_ts[frame]
        while done < lines and (at < limit or flags):
            begin = at
            if flags:
                commas, stop, dirty = np.int64(0), limit, False
            else:
                commas, stop, dirty = split_line(text, begin, limit, readable, ends)
            at = stop + 1
            end = stop
            while end > begin and (text[end - 1] == 13 or text[end - 1] == 10):
                end -= 1
            error: Number = np.int64(FRAGMENT if flags & 1 else OVERSIZE if flags & 2 else ENCODING if dirty else 0)
            o_seq[row] = frame_seq[frame] + np.uint64(done)
            o_ts_recv[row] = recv
            o_start[row] = begin
            o_len[row] = end - begin
            letter = text[begin] if end > begin else np.uint8(0)
            if error == 0 and (letter == 81 or letter == 80) and end - begin > 1 and text[begin + 1] == 44:
                good = plain and begin >= LEAD and commas >= required and commas < EMPTY_FIELD - field_count
                update = letter == 81
                if good:
                    # Fields that the line does not have are empty ones.
                    ends[commas] = end
                    for k in range(commas + 1, field_count + 1):
                        ends[k] = end
                    k = where[layouts.SYMBOL]
                    name_from = ends[k] + 1
                    name_to = ends[k + 1]
                    k = where[layouts.CONTENTS]
                    v_contents, fine = contents(text, ends[k] + 1, ends[k + 1])
                    good &= fine
                    k = where[layouts.PRICE]
                    v_price, fine = price(text, ends[k] + 1, ends[k + 1])
                    good &= fine
                    k = where[layouts.BID_PRICE]
                    v_bid, fine = price(text, ends[k] + 1, ends[k + 1])
                    good &= fine
                    k = where[layouts.ASK_PRICE]
                    v_ask, fine = price(text, ends[k] + 1, ends[k + 1])
                    good &= fine
                    k = where[layouts.SIZE]
                    v_size, fine = whole(text, ends[k] + 1, ends[k + 1], -1)
                    good &= fine
                    k = where[layouts.BID_SIZE]
                    v_bid_size, fine = whole(text, ends[k] + 1, ends[k + 1], -1)
                    good &= fine
                    k = where[layouts.ASK_SIZE]
                    v_ask_size, fine = whole(text, ends[k] + 1, ends[k + 1], -1)
                    good &= fine
                    k = where[layouts.TOTAL_VOLUME]
                    v_volume, fine = whole(text, ends[k] + 1, ends[k + 1], -1)
                    good &= fine
                    k = where[layouts.TRADE_COUNT]
                    v_trades, fine = whole(text, ends[k] + 1, ends[k + 1], -1)
                    good &= fine
                    k = where[layouts.MARKET_CENTER]
                    v_center, fine = limited(text, ends[k] + 1, ends[k + 1], -1, 2**31 - 1)
                    good &= fine
                    k = where[layouts.BID_CENTER]
                    v_bid_center, fine = limited(text, ends[k] + 1, ends[k + 1], -1, 2**31 - 1)
                    good &= fine
                    k = where[layouts.ASK_CENTER]
                    v_ask_center, fine = limited(text, ends[k] + 1, ends[k + 1], -1, 2**31 - 1)
                    good &= fine
                    k = where[layouts.DELAY]
                    v_delay, fine = limited(text, ends[k] + 1, ends[k + 1], -1, 2**31 - 1)
                    good &= fine
                    k = where[layouts.AGGRESSOR]
                    v_aggressor, fine = limited(text, ends[k] + 1, ends[k + 1], 0, 3)
                    good &= fine
                    k = where[layouts.DAY_CODE]
                    v_day_code, fine = limited(text, ends[k] + 1, ends[k + 1], 0, 255)
                    good &= fine
                    k = where[layouts.TICK_ID]
                    v_tick_id, fine = unsigned(text, ends[k] + 1, ends[k + 1])
                    good &= fine
                    k = where[layouts.CONDITIONS]
                    v_conditions, fine = conditions(text, ends[k] + 1, ends[k + 1])
                    good &= fine
                    k = where[layouts.TRADE_DATE]
                    days, fine = date(text, ends[k] + 1, ends[k + 1], clock)
                    good &= fine
                    k = where[layouts.TRADE_TIME]
                    tod, fine = time_of_day(text, ends[k] + 1, ends[k + 1])
                    good &= fine
                    k = where[layouts.BID_TIME]
                    tod_bid, fine = time_of_day(text, ends[k] + 1, ends[k + 1])
                    good &= fine
                    k = where[layouts.ASK_TIME]
                    tod_ask, fine = time_of_day(text, ends[k] + 1, ends[k + 1])
                    good &= fine
                    trade = update and v_contents & 7 != 0
                    good &= not (trade and ((priced and v_price == NULL_PRICE) or (sized and v_size < 0)))
                if not good:
                    error, fields = parse_quote_fields(text, begin + 2, end, columns, field_count, values, symbol_place)
                    v_contents = values[layouts.CONTENTS]
                    trade = update and v_contents & 7 != 0
                    if error == 0:
                        if fields < required:
                            error = FIELDS
                        elif trade and priced and values[layouts.PRICE] == NULL_PRICE:
                            error = PRICE
                        elif trade and sized and values[layouts.SIZE] < 0:
                            error = NUMBER
                    name_from = symbol_place[0]
                    name_to = symbol_place[1]
                    v_price = values[layouts.PRICE]
                    v_bid = values[layouts.BID_PRICE]
                    v_ask = values[layouts.ASK_PRICE]
                    v_size = values[layouts.SIZE]
                    v_bid_size = values[layouts.BID_SIZE]
                    v_ask_size = values[layouts.ASK_SIZE]
                    v_volume = values[layouts.TOTAL_VOLUME]
                    v_trades = values[layouts.TRADE_COUNT]
                    v_center = values[layouts.MARKET_CENTER]
                    v_bid_center = values[layouts.BID_CENTER]
                    v_ask_center = values[layouts.ASK_CENTER]
                    v_delay = values[layouts.DELAY]
                    v_aggressor = values[layouts.AGGRESSOR]
                    v_day_code = values[layouts.DAY_CODE]
                    v_tick_id = np.uint64(values[layouts.TICK_ID])
                    v_conditions = np.uint64(values[layouts.CONDITIONS])
                    days = values[layouts.TRADE_DATE]
                    tod = values[layouts.TRADE_TIME]
                    tod_bid = values[layouts.BID_TIME]
                    tod_ask = values[layouts.ASK_TIME]
                number = np.int64(-1)
                if error == 0:
                    number, status = intern_at(
                        text, name_from, name_to, names, name_ends, name_hashes, name_slots, name_count,
                        len(pool), len(hashes), len(slots),
                    )  # fmt: skip
                    if status == FULL:
                        cursor[0] = frame
                        cursor[1] = done
                        cursor[2] = begin
                        cursor[3] = row
                        return FULL
                    if status != OK:
                        error = SYMBOL
                if error == 0:
                    ts_trade = time_with_day(tod, days, trade, recv, session_days, clock, zone_from, zone_offset, spans)
                    if trade and tod >= 0 and days != NULL_TS and clock[CLOCK_KIND] != FEED_CLOCK:
                        clock[CLOCK_LOCAL] = days * DAY_NS + tod
                        clock[CLOCK_UTC] = ts_trade
                        clock[CLOCK_KIND] = TRADE_CLOCK
                    ts_bid = time_with_day(
                        tod_bid, NULL_TS, update and v_contents & 16 != 0, recv, session_days, clock, zone_from, zone_offset,
                        spans,
                    )  # fmt: skip
                    ts_ask = time_with_day(
                        tod_ask, NULL_TS, update and v_contents & 8 != 0, recv, session_days, clock, zone_from, zone_offset,
                        spans,
                    )  # fmt: skip
                    # NULL_TS is the smallest number, so the greater of two times is the one that exists
                    ts_event = ts_trade if trade and ts_trade != NULL_TS else max(ts_bid, ts_ask)
                    if ts_event == NULL_TS and clock[CLOCK_KIND] != NO_CLOCK:
                        ts_event = clock[CLOCK_UTC]
                    basis = np.int64(0)
                    if trade:
                        basis = np.int64(67 if v_contents & 1 else 69 if v_contents & 2 else 79)
                    o_error[row] = 0
                    o_kind[row] = letter
                    o_symbol[row] = number
                    o_contents[row] = v_contents
                    o_basis[row] = basis
                    o_price[row] = v_price
                    o_size[row] = v_size
                    o_volume[row] = v_volume
                    o_center[row] = v_center
                    o_conditions[row] = v_conditions
                    o_aggressor[row] = v_aggressor
                    o_day_code[row] = v_day_code
                    o_tick_id[row] = v_tick_id
                    o_trades[row] = v_trades
                    o_bid[row] = v_bid
                    o_bid_size[row] = v_bid_size
                    o_bid_center[row] = v_bid_center
                    o_ask[row] = v_ask
                    o_ask_size[row] = v_ask_size
                    o_ask_center[row] = v_ask_center
                    o_delay[row] = v_delay
                    o_ts_trade[row] = ts_trade
                    o_ts_bid[row] = ts_bid
                    o_ts_ask[row] = ts_ask
                    o_ts_event[row] = ts_event
                else:
                    blank_row(out, row)
                    o_error[row] = error
                row += 1
                done += 1
                continue
            blank_row(out, row)
            o_error[row] = error
            kind, status = decode_other_row(
                buffer, begin, end, row, out, clock_slots, pool, pool_ends, hashes, slots, count, transitions, offsets
            )
            if status == FULL:
                cursor[0] = frame
                cursor[1] = done
                cursor[2] = begin
                cursor[3] = row
                return FULL
            row += 1
            done += 1
            if kind == 83 and is_acknowledgement(buffer, begin, end):
                cursor[0] = frame
                cursor[1] = done
                cursor[2] = at
                cursor[3] = row
                return NONE
    cursor[0] = last_frame
    cursor[1] = 0
    cursor[3] = row
    return OK


@plain_kernel
def blank_row(out: Level1Columns, row: int) -> None:
    """What a line holds that says nothing; its seq, place and receipt stay."""
    out.kind[row] = 0
    out.symbol[row] = -1
    out.contents[row] = 0
    out.basis[row] = 0
    out.price[row] = NULL_PRICE
    out.size[row] = -1
    out.total_volume[row] = -1
    out.market_center[row] = -1
    out.conditions[row] = 0
    out.aggressor[row] = 0
    out.day_code[row] = 0
    out.tick_id[row] = 0
    out.trade_count[row] = -1
    out.bid[row] = NULL_PRICE
    out.bid_size[row] = -1
    out.bid_market_center[row] = -1
    out.ask[row] = NULL_PRICE
    out.ask_size[row] = -1
    out.ask_market_center[row] = -1
    out.delay[row] = -1
    out.ts_trade[row] = NULL_TS
    out.ts_bid[row] = NULL_TS
    out.ts_ask[row] = NULL_TS
    out.ts_event[row] = NULL_TS


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
    utc = wall_ns(days, tod, out.ts_recv[row], clock, transitions, offsets, len(transitions))
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
        out.ts_trade[row] = wall_ns(days, tod, out.ts_recv[row], clock, transitions, offsets, len(transitions))
        out.ts_event[row] = out.ts_trade[row]
    return 0, OK

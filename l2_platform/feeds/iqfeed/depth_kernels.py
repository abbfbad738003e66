
"""The compiled loop of the depth decoder: lines to columns.

One function per layout writes one row and gives a DecodeError; the loop cuts lines, numbers them, and turns an error into a BAD row.
"""

from typing import Final

import numpy as np

from l2_platform.feeds.iqfeed.bytes_kernels import (
    BAD,
    DAY_NS,
    FULL,
    HOUR_NS,
    NONE,
    OK,
    intern_at,
    nearest_day,
    parse_date,
    parse_int,
    parse_price,
    parse_time_of_day_ns,
    parse_uint64,
    steady_span_at,
    utc_from_wall,
)
from l2_platform.market.compiled import Number, inline_kernel, kernel, plain_kernel
from l2_platform.market.events import (
    ASK,
    BID,
    NULL_PRICE,
    NULL_TS,
    DecodeError,
    DepthKind,
    Int32,
    Int64,
    UInt8,
    UInt32,
    UInt64,
)
from l2_platform.market.words import bits_set, bytes_below_32, bytes_equal, load_word, pointer_of, trailing_zeros

LAST_CLOCK: Final = 0
"""Slot of the clock array: the last T line, local ns, or NULL_TS."""
LAST_EVENT: Final = 1
"""Slot: the last event time, UTC ns, or NULL_TS."""
_SPAN: Final = 2
"""Slots 2 to 4: from, to and offset of the local times that one subtraction converts."""
_DATE: Final = 5
"""Slots 5 and 6: the last date as read (two words) and slot 7 its day."""
CLOCK_SLOTS: Final = 8

FIELDS_MAX: Final = 24
"""Columns beyond are not looked at."""
FIELDS_USED: Final = 15
COMMAS_TEXT: Final = np.uint64(0x2C2C2C2C2C2C2C2C)
_COMMA: Final = 44
_LETTER_T: Final = int(DepthKind.CLOCK)
_KIND_BAD: Final = int(DepthKind.BAD)
_KIND_CLEAR: Final = int(DepthKind.CLEAR)
_KIND_DISCONNECTED: Final = int(DepthKind.DISCONNECTED)
_KIND_SYSTEM: Final = int(DepthKind.SYSTEM)
_KIND_OTHER: Final = int(DepthKind.OTHER)
_FIELDS: Final = int(DecodeError.FIELDS)
_NUMBER: Final = int(DecodeError.NUMBER)
_PRICE: Final = int(DecodeError.PRICE)
_TIME: Final = int(DecodeError.TIME)
_SIDE: Final = int(DecodeError.SIDE)
_SYMBOL: Final = int(DecodeError.SYMBOL)
_FRAGMENT: Final = int(DecodeError.FRAGMENT)
_OVERSIZE: Final = int(DecodeError.OVERSIZE)
_ENCODING: Final = int(DecodeError.ENCODING)
_NO_ROOM: Final = 255
_INT32_MAX: Final = 2**31 - 1

CLEAR_DEPTH: Final = np.frombuffer(b"S,CLEAR DEPTH", np.uint8).copy()
SERVER_DISCONNECTED: Final = np.frombuffer(b"S,SERVER DISCONNECTED", np.uint8).copy()


@inline_kernel
def split_line(buffer: UInt8, start: int, limit: int, ends: Int64) -> tuple[Number, Number, Number]:
    """`(fields, stop, next)` of the line at `start`: its end without CR LF, and where the next one starts, at most `limit`.

    Field k is `ends[k] + 1` to `ends[k + 1]`. fields is -1 when the line holds a control byte.
    """
    ends[0] = start - 1
    commas = np.int64(0)
    at = np.int64(start)
    found = np.int64(-1)
    while at + 8 <= limit:
        word = load_word(buffer, at)
        marks = bytes_equal(word, COMMAS_TEXT)
        control = bytes_below_32(word)
        if control != np.uint64(0):
            place = trailing_zeros(control)
            marks &= (np.uint64(1) << np.uint64(place)) - np.uint64(1)
            found = at + (place >> 3)
        many = bits_set(marks)
        if commas + many > FIELDS_MAX:
            break
        # Four stores without a branch; what is stored too much is overwritten by the next ones.
        slot = commas
        commas += many
        while True:
            for _ in range(4):
                slot += 1
                ends[slot] = at + (trailing_zeros(marks) >> 3)
                marks &= marks - np.uint64(1)
            if marks == np.uint64(0):
                break
        if found >= 0:
            break
        at += 8
    if found < 0:
        while at < limit:
            byte = buffer[at]
            if byte == _COMMA:
                if commas < FIELDS_MAX and at > ends[commas]:
                    commas += 1
                    ends[commas] = at
            elif byte < 32:
                found = at
                break
            at += 1
    fields = commas + 1
    if found < 0:
        found = np.int64(limit)
    stop = found
    following = found
    if found < limit:
        if buffer[found] == 10:
            following = found + 1
        elif buffer[found] == 13 and found + 1 < limit and buffer[found + 1] == 10:
            following = found + 2
        elif buffer[found] == 13 and found + 1 == limit:
            following = found + 1
        else:
            fields = np.int64(-1)
            while following < limit and buffer[following] != 10:
                following += 1
            stop = following
            if following < limit:
                following += 1
            if stop > start and buffer[stop - 1] == 13:
                stop -= 1
    # Columns that a line does not have are empty ones.
    for k in range(commas + 1, FIELDS_USED):
        ends[k] = stop
    if commas + 1 >= FIELDS_USED:
        ends[commas + 1] = stop
    for k in range(commas + 2, FIELDS_USED):
        ends[k] = stop - 1
    return fields, stop, following


@inline_kernel
def date_of(buffer: UInt8, start: int, stop: int, clock: Int64) -> tuple[Number, int]:
    """Like `parse_date`, remembering the last one, since lines of a day share it."""
    if stop - start != 10:
        return parse_date(buffer, start, stop)
    low = np.int64(load_word(buffer, start))
    high = np.int64(load_word(buffer, start + 2))
    if clock[_DATE] == low and clock[_DATE + 1] == high:
        return clock[_DATE + 2], OK
    days, status = parse_date(buffer, start, stop)
    if status == OK:
        clock[_DATE] = low
        clock[_DATE + 1] = high
        clock[_DATE + 2] = days
    return days, status


@inline_kernel
def utc_of(
    days: int, tod: int, ts_recv: int, clock: Int64, transitions: Int64, offsets: Int64, spans: int
) -> Number:
    """UTC ns of a wall time; where it happens twice, the time of receipt decides if it is of that day, else the event before."""
    local = days * DAY_NS + tod
    if local >= clock[_SPAN] and local < clock[_SPAN + 1]:
        result = local - clock[_SPAN + 2]
    else:
        begin, end, offset = steady_span_at(local, transitions, offsets, spans)
        clock[_SPAN] = begin
        clock[_SPAN + 1] = end
        clock[_SPAN + 2] = offset
        hint = clock[LAST_EVENT]
        if abs(ts_recv - local - 5 * HOUR_NS) < DAY_NS:
            hint = np.int64(ts_recv)
        result = utc_from_wall(local, hint, transitions, offsets, spans)
    clock[LAST_EVENT] = result
    return result


@inline_kernel
def event_time(
    buffer: UInt8, ends: Int64, k_time: int, k_date: int, ts_recv: int, clock: Int64, transitions: Int64, offsets: Int64,
    spans: int,
) -> tuple[Number, int]:
    """UTC ns of a time field and a date field; a missing date is taken from the feed's clock; NULL_TS without a time."""
    tod, has_time = parse_time_of_day_ns(buffer, ends[k_time] + 1, ends[k_time + 1])
    days, has_date = date_of(buffer, ends[k_date] + 1, ends[k_date + 1], clock)
    if has_time == BAD or has_date == BAD:
        return NULL_TS, BAD
    if has_time == NONE:
        return NULL_TS, OK
    if has_date == NONE:
        if clock[LAST_CLOCK] == NULL_TS:
            return NULL_TS, OK
        days = nearest_day(tod, clock[LAST_CLOCK])
    return utc_of(days, tod, ts_recv, clock, transitions, offsets, spans), OK


@inline_kernel
def mmid_of(buffer: UInt8, start: int, stop: int) -> tuple[Number, int]:
    """Up to four bytes, little endian; NONE when empty, BAD when longer."""
    if stop <= start:
        return np.uint32(0), NONE
    if stop - start > 4:
        return np.uint32(0), BAD
    value = np.uint32(0)
    for at in range(start, stop):
        value |= np.uint32(buffer[at]) << np.uint32(8 * (at - start))
    return value, OK


@inline_kernel
def side_of(buffer: UInt8, start: int, stop: int) -> Number:
    """BID or ASK, 0 for anything else."""
    if stop - start == 1 and (buffer[start] == ASK or buffer[start] == BID):
        return buffer[start]
    return np.uint8(0)


@plain_kernel
def starts_with(buffer: UInt8, start: int, stop: int, text: UInt8) -> Number:
    """Does the line begin with `text`, as whole fields?"""
    length = len(text)
    if stop - start < length or (stop - start > length and buffer[start + length] != _COMMA):
        return False
    for at in range(length):
        if buffer[start + at] != text[at]:
            return False
    return stop >= start


@plain_kernel
def clock_line(
    buffer: UInt8, start: int, stop: int, ts_recv: int, clock: Int64, transitions: Int64, offsets: Int64, spans: int
) -> tuple[Number, int]:
    """`T,20191018 12:49:55`: UTC ns, remembered as the feed's clock."""
    space = start + 8
    if stop - start < 17 or buffer[space] != 32:
        return NULL_TS, BAD
    days, has_date = parse_date(buffer, start, space)
    tod, has_time = parse_time_of_day_ns(buffer, space + 1, stop)
    if has_date != OK or has_time != OK:
        return NULL_TS, BAD
    clock[LAST_CLOCK] = days * DAY_NS + tod
    return utc_of(days, tod, ts_recv, clock, transitions, offsets, spans), OK


@kernel
def decode_lines(
    buffer: UInt8, frame_start: Int64, frame_seq: UInt64, frame_count: Int64, frame_ts: Int64, frame_flags: UInt8,
    cursor: Int64, field_ends: Int64, clock_slots: Int64, transitions: Int64, offsets: Int64,
    pool: UInt8, pool_ends: Int64, hashes: UInt64, slots: Int32, symbol_count: Int64,
    seq: UInt64, kind: UInt8, error: UInt8, symbol: Int32, side: UInt8, order_id: UInt64, mmid: UInt32, price: Int64,
    size: Int64, priority: UInt64, count: Int32, ts_event: Int64, ts_recv: Int64, line_start: Int64, line_len: Int32,
    pairs: Int64, pair_row: Int64,
) -> int:  # fmt: skip
    """Fill the columns from `cursor` (frame, line of frame, byte, row, pairs) on.

    OK at the end; FULL, with the cursor before the line, when the symbol index or the pair columns must grow.
    """
    text = pointer_of(buffer)
    ends = pointer_of(field_ends)
    clock = pointer_of(clock_slots)
    zone_from = pointer_of(transitions)
    zone_offset = pointer_of(offsets)
    spans = len(transitions)
    names = pointer_of(pool)
    name_ends = pointer_of(pool_ends)
    name_hashes = pointer_of(hashes)
    name_slots = pointer_of(slots)
    name_count = pointer_of(symbol_count)
    row = cursor[3]
    held = cursor[4]
    for frame in range(cursor[0], len(frame_count)):
        frame_stop = frame_start[frame + 1]
        first = 0
        at = frame_start[frame]
        if frame == cursor[0] and cursor[1] > 0:
            first = cursor[1]
            at = cursor[2]
        received = frame_ts[frame]
        for line in range(first, frame_count[frame]):
            start = at
            stop = frame_stop
            fields = np.int64(0)
            if frame_flags[frame] & 3:
                at = frame_stop
                while stop > start and (text[stop - 1] == 10 or text[stop - 1] == 13):
                    stop -= 1
            else:
                fields, stop, at = split_line(text, start, frame_stop, ends)
            seq[row] = frame_seq[frame] + np.uint64(line)
            ts_recv[row] = received
            line_start[row] = start
            line_len[row] = stop - start
            r_symbol = np.int64(-1)
            r_side = np.uint8(0)
            r_order = np.uint64(0)
            r_mmid = np.uint32(0)
            r_price = np.int64(NULL_PRICE)
            r_size = np.int64(0)
            r_priority = np.uint64(0)
            r_count = np.int64(0)
            r_ts = np.int64(NULL_TS)
            letter = np.uint8(0)
            fault = 0
            name = -1
            is_pair = False
            pair_price = np.int64(NULL_PRICE)
            pair_size = np.int64(0)
            pair_ts = np.int64(NULL_TS)
            if frame_flags[frame] & 1:
                fault = _FRAGMENT
            elif frame_flags[frame] & 2:
                fault = _OVERSIZE
            elif fields < 0:
                fault = _ENCODING
            elif ends[1] - start != 1:
                fault = _FIELDS
            else:
                letter = text[start]
            if fault != 0:
                pass
            elif letter == 51 or letter == 52 or letter == 54 or letter == 48:
                # type, symbol, order id, MMID, side, price, size, priority, precision, time, date
                if fields < 7:
                    fault = _FIELDS
                else:
                    r_side = side_of(text, ends[4] + 1, ends[5])
                    r_order, order_status = parse_uint64(text, ends[2] + 1, ends[3])
                    r_mmid, mmid_status = mmid_of(text, ends[3] + 1, ends[4])
                    r_price, price_status = parse_price(text, ends[5] + 1, ends[6])
                    r_size, size_status = parse_int(text, ends[6] + 1, ends[7])
                    r_priority, priority_status = parse_uint64(text, ends[7] + 1, ends[8])
                    r_ts, time_status = event_time(text, ends, 9, 10, received, clock, zone_from, zone_offset, spans)
                    name = 1
                    if r_side == 0:
                        fault = _SIDE
                    elif order_status == BAD or size_status != OK or priority_status == BAD:
                        fault = _NUMBER
                    elif mmid_status == BAD:
                        fault = _SYMBOL
                    elif price_status != OK:
                        fault = _PRICE
                    elif time_status == BAD:
                        fault = _TIME
                    elif r_order == np.uint64(0) and mmid_status == NONE and letter != 48:
                        # Nothing that a later line could name: it would stay in the book for good.
                        fault = _FIELDS
            elif letter == 53:
                # type, symbol, order id, MMID, side, time, date
                if fields < 5:
                    fault = _FIELDS
                else:
                    r_side = side_of(text, ends[4] + 1, ends[5])
                    r_order, order_status = parse_uint64(text, ends[2] + 1, ends[3])
                    r_mmid, mmid_status = mmid_of(text, ends[3] + 1, ends[4])
                    r_ts, time_status = event_time(text, ends, 5, 6, received, clock, zone_from, zone_offset, spans)
                    name = 1
                    if r_side == 0:
                        fault = _SIDE
                    elif order_status == BAD:
                        fault = _NUMBER
                    elif mmid_status == BAD:
                        fault = _SYMBOL
                    elif time_status == BAD:
                        fault = _TIME
                    elif r_order == np.uint64(0) and mmid_status == NONE:
                        fault = _FIELDS
            elif letter == 55 or letter == 56:
                # type, symbol, side, price, size, order count, precision, time, date
                if fields < 5:
                    fault = _FIELDS
                else:
                    r_side = side_of(text, ends[2] + 1, ends[3])
                    r_price, price_status = parse_price(text, ends[3] + 1, ends[4])
                    r_size, size_status = parse_int(text, ends[4] + 1, ends[5])
                    r_count, count_status = parse_int(text, ends[5] + 1, ends[6])
                    r_ts, time_status = event_time(text, ends, 7, 8, received, clock, zone_from, zone_offset, spans)
                    name = 1
                    if r_side == 0:
                        fault = _SIDE
                    elif price_status != OK:
                        fault = _PRICE
                    elif size_status != OK or count_status == BAD or abs(r_count) > _INT32_MAX:
                        fault = _NUMBER
                    elif time_status == BAD:
                        fault = _TIME
            elif letter == 57:
                # type, symbol, side, price, time, date
                if fields < 4:
                    fault = _FIELDS
                else:
                    r_side = side_of(text, ends[2] + 1, ends[3])
                    r_price, price_status = parse_price(text, ends[3] + 1, ends[4])
                    r_ts, time_status = event_time(text, ends, 4, 5, received, clock, zone_from, zone_offset, spans)
                    name = 1
                    if r_side == 0:
                        fault = _SIDE
                    elif price_status != OK:
                        fault = _PRICE
                    elif time_status == BAD:
                        fault = _TIME
            elif letter == 90 or letter == 50:
                # type, symbol, MMID, bid, ask, bid size, ask size, bid time, date, condition, ask time, bid valid, ask valid
                if fields < 7:
                    fault = _FIELDS
                else:
                    is_pair = True
                    name = 1
                    r_side = np.uint8(BID)
                    r_mmid, mmid_status = mmid_of(text, ends[2] + 1, ends[3])
                    r_price, bid_status = parse_price(text, ends[3] + 1, ends[4])
                    pair_price, ask_status = parse_price(text, ends[4] + 1, ends[5])
                    r_size, bid_size_status = parse_int(text, ends[5] + 1, ends[6])
                    pair_size, ask_size_status = parse_int(text, ends[6] + 1, ends[7])
                    r_ts, bid_time_status = event_time(text, ends, 7, 8, received, clock, zone_from, zone_offset, spans)
                    pair_ts, ask_time_status = event_time(text, ends, 10, 8, received, clock, zone_from, zone_offset, spans)
                    if mmid_status != OK:
                        fault = _SYMBOL
                    elif bid_status == BAD or ask_status == BAD:
                        fault = _PRICE
                    elif bid_size_status == BAD or ask_size_status == BAD:
                        fault = _NUMBER
                    elif bid_time_status == BAD or ask_time_status == BAD:
                        fault = _TIME
                    if bid_status != OK or (ends[12] > ends[11] + 1 and text[ends[11] + 1] == 70):
                        r_price = np.int64(NULL_PRICE)
                        r_size = np.int64(0)
                    if ask_status != OK or (ends[13] > ends[12] + 1 and text[ends[12] + 1] == 70):
                        pair_price = np.int64(NULL_PRICE)
                        pair_size = np.int64(0)
            elif letter == _LETTER_T:
                r_ts, time_status = clock_line(
                    text, ends[1] + 1, max(ends[2], ends[1] + 1), received, clock, zone_from, zone_offset, spans
                )
                if time_status == BAD:
                    fault = _TIME
            elif letter == 83:
                if starts_with(text, start, stop, CLEAR_DEPTH):
                    letter = np.uint8(_KIND_CLEAR)
                    r_side = side_of(text, ends[3] + 1, ends[4])
                    name = 2
                    if r_side == 0:
                        fault = _SIDE
                elif starts_with(text, start, stop, SERVER_DISCONNECTED):
                    letter = np.uint8(_KIND_DISCONNECTED)
            elif letter == 110 or letter == 113:
                name = 1
            elif letter != 69 and letter != 77:
                letter = np.uint8(_KIND_OTHER)
            if fault == 0 and name > 0:
                r_symbol, symbol_status = intern_at(
                    text, ends[name] + 1, ends[name + 1], names, name_ends, name_hashes, name_slots, name_count,
                    len(pool), len(hashes), len(slots),
                )  # fmt: skip
                if symbol_status == BAD:
                    fault = _SYMBOL
                elif symbol_status == FULL:
                    fault = _NO_ROOM
            if fault == 0 and is_pair and held >= len(pair_row):
                fault = _NO_ROOM
            if fault == _NO_ROOM:
                cursor[0] = frame
                cursor[1] = line
                cursor[2] = start
                cursor[3] = row
                cursor[4] = held
                return FULL
            if fault != 0:
                letter = np.uint8(_KIND_BAD)
                is_pair = False
                r_symbol = np.int64(-1)
                r_side = np.uint8(0)
                r_order = np.uint64(0)
                r_mmid = np.uint32(0)
                r_price = np.int64(NULL_PRICE)
                r_size = np.int64(0)
                r_priority = np.uint64(0)
                r_count = np.int64(0)
                r_ts = np.int64(NULL_TS)
            if is_pair:
                pair_row[held] = row
                pairs[0, held] = pair_price
                pairs[1, held] = pair_size
                pairs[2, held] = pair_ts
                held += 1
            kind[row] = letter
            error[row] = fault
            symbol[row] = r_symbol
            side[row] = r_side
            order_id[row] = r_order
            mmid[row] = r_mmid
            price[row] = r_price
            size[row] = r_size
            priority[row] = r_priority
            count[row] = r_count
            ts_event[row] = r_ts
            row += 1
    cursor[3] = row
    cursor[4] = held
    return OK

"""Compiled loops of the Level 1 and history decoders: where the lines are, and what a Q, P, C, T, … line holds.

What does not belong here: fields of a line as values (bytes_kernels), layouts as names (layouts), state over blocks (decode_level1).
"""

from typing import Final, NamedTuple, Protocol

import numpy as np

from l2_platform.feeds.iqfeed import layouts
from l2_platform.feeds.iqfeed.bytes_kernels import (
    BAD,
    DAY_NS,
    FULL,
    HOUR_NS,
    NONE,
    OK,
    intern_symbol,
    nearest_day,
    new_york_ns,
    offset_index,
    parse_date,
    parse_int,
    parse_price,
    parse_time_of_day_ns,
    parse_uint64,
    steady_span,
)
from l2_platform.market.compiled import Number, inline_kernel, kernel
from l2_platform.market.events import (
    NULL_PRICE,
    NULL_TS,
    DecodeError,
    Int32,
    Int64,
    Level1Batch,
    UInt8,
    UInt32,
    UInt64,
)


class LineBlock(Protocol):
    """What a decoder reads of a journal block: whole frames of one stream and session date, in journal order."""

    buffer: UInt8
    """All payloads, contiguous."""
    frame_start: Int64
    """Offset of each frame in `buffer`, and the end of the last."""
    frame_seq: UInt64
    """seq of the first line of each frame."""
    frame_count: UInt32
    """Lines in each frame."""
    frame_ts: Int64
    """When the frame was received, ns UTC."""
    frame_flags: UInt8
    """1: the payload is the rest of a cut line; 2: a line over the limit. Such a frame is one seq."""
    frame_conn: UInt32
    """Connection that the frame came over."""
    session_date: int
    """YYYYMMDD."""


class Level1Columns(NamedTuple):
    """The arrays of a Level1Batch, as a kernel takes them."""

    seq: UInt64
    kind: UInt8
    error: UInt8
    symbol: Int32
    contents: UInt32
    basis: UInt8
    price: Int64
    size: Int64
    total_volume: Int64
    market_center: Int32
    conditions: UInt64
    aggressor: UInt8
    day_code: UInt8
    tick_id: UInt64
    trade_count: Int64
    bid: Int64
    bid_size: Int64
    bid_market_center: Int32
    ask: Int64
    ask_size: Int64
    ask_market_center: Int32
    delay: Int32
    ts_trade: Int64
    ts_bid: Int64
    ts_ask: Int64
    ts_event: Int64
    ts_recv: Int64
    line_start: Int64
    line_len: Int32


_FILL: Final[dict[str, int]] = {
    "symbol": -1, "price": NULL_PRICE, "size": -1, "total_volume": -1, "market_center": -1, "trade_count": -1,
    "bid": NULL_PRICE, "bid_size": -1, "bid_market_center": -1, "ask": NULL_PRICE, "ask_size": -1, "ask_market_center": -1,
    "delay": -1, "ts_trade": NULL_TS, "ts_bid": NULL_TS, "ts_ask": NULL_TS, "ts_event": NULL_TS,
}  # fmt: skip
_DTYPES: Final[dict[str, type[np.generic]]] = {
    "seq": np.uint64, "kind": np.uint8, "error": np.uint8, "symbol": np.int32, "contents": np.uint32, "basis": np.uint8,
    "market_center": np.int32, "conditions": np.uint64, "aggressor": np.uint8, "day_code": np.uint8, "tick_id": np.uint64,
    "bid_market_center": np.int32, "ask_market_center": np.int32, "delay": np.int32, "line_len": np.int32,
}  # fmt: skip


def empty_columns(rows: int) -> Level1Columns:
    """Columns of `rows` rows that hold nothing yet."""
    return Level1Columns(
        *(np.full(rows, _FILL.get(name, 0), _DTYPES.get(name, np.int64)) for name in Level1Columns._fields)
    )


def batch_from_columns(buffer: UInt8, columns: Level1Columns) -> Level1Batch:
    """The batch over the same arrays."""
    return Level1Batch(buffer, *columns)


def columns_of_block(block: LineBlock) -> Level1Columns:
    """One row per line of the block, with seq, ts_recv, place and the errors that concern the line as a whole."""
    columns = empty_columns(int(block.frame_count.sum()))
    rows = index_lines(
        block.buffer, block.frame_start, block.frame_seq, block.frame_count, block.frame_ts, block.frame_flags,
        columns.seq, columns.ts_recv, columns.line_start, columns.line_len, columns.error,
    )  # fmt: skip
    if rows == len(columns.seq):
        return columns
    return Level1Columns(*(column[:rows] for column in columns))


FRAGMENT: Final = int(DecodeError.FRAGMENT)
OVERSIZE: Final = int(DecodeError.OVERSIZE)
ENCODING: Final = int(DecodeError.ENCODING)
FIELDS: Final = int(DecodeError.FIELDS)
NUMBER: Final = int(DecodeError.NUMBER)
PRICE: Final = int(DecodeError.PRICE)
TIME: Final = int(DecodeError.TIME)
SYMBOL: Final = int(DecodeError.SYMBOL)
CONTENTS: Final = int(DecodeError.CONTENTS)


@kernel
def index_lines(
    buffer: UInt8, frame_start: Int64, frame_seq: UInt64, frame_count: UInt32, frame_ts: Int64, frame_flags: UInt8,
    seq: UInt64, ts_recv: Int64, line_start: Int64, line_len: Int32, error: UInt8,
) -> int:  # fmt: skip
    """Find the lines of whole frames; the number of rows that were filled."""
    row = 0
    for frame in range(len(frame_seq)):
        at = frame_start[frame]
        end = frame_start[frame + 1]
        left = np.int64(frame_count[frame])
        flags = frame_flags[frame]
        number = frame_seq[frame]
        while left > 0 and (at < end or flags):
            stop = at
            dirty = False
            if flags:
                stop = end
            else:
                while stop < end:
                    byte = buffer[stop]
                    if byte < 32:
                        if byte == 10:
                            break
                        # A carriage return is fine only as the last byte, and is cut off below.
                        if byte != 9 and not (byte == 13 and (stop + 1 == end or buffer[stop + 1] == 10)):
                            dirty = True
                    stop += 1
            length = stop - at
            while length > 0 and (buffer[at + length - 1] == 13 or buffer[at + length - 1] == 10):
                length -= 1
            seq[row] = number
            ts_recv[row] = frame_ts[frame]
            line_start[row] = at
            line_len[row] = length
            error[row] = FRAGMENT if flags & 1 else OVERSIZE if flags & 2 else ENCODING if dirty else 0
            row += 1
            number += np.uint64(1)
            left -= 1
            at = stop + 1
            if flags:
                break
    return row


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


# The clock of a stream: an int64 array of CLOCK_SIZE.
CLOCK_LOCAL: Final = 0
"""New York wall time, ns since the epoch as if it were UTC."""
CLOCK_UTC: Final = 1
CLOCK_KIND: Final = 2
SPAN_FROM: Final = 3
"""Local times from here to SPAN_TO have one known offset (bytes_kernels.steady_span); no part of the state."""
SPAN_TO: Final = 4
SPAN_OFFSET: Final = 5
CLOCK_SIZE: Final = 6
NO_CLOCK: Final = 0
TRADE_CLOCK: Final = 1
"""Taken from the newest dated trade: the stream has no T line yet."""
FEED_CLOCK: Final = 2
"""The feed's own T line."""


@inline_kernel
def wall_ns(days: int, tod: int, recv: int, clock: Int64, transitions: Int64, offsets: Int64) -> Number:
    """UTC ns of a wall time; in the hour that happens twice, the one nearer to the receipt of a live line, else to the clock."""
    local = days * DAY_NS + tod
    # Nearly all times lie in the span of the one before: no search in the offset table then.
    if clock[SPAN_FROM] <= local < clock[SPAN_TO]:
        return local - clock[SPAN_OFFSET]
    clock[SPAN_FROM], clock[SPAN_TO], clock[SPAN_OFFSET] = steady_span(local, transitions, offsets)
    hint = clock[CLOCK_UTC] if clock[CLOCK_KIND] != NO_CLOCK else NULL_TS
    if abs(local + 5 * HOUR_NS - recv) < DAY_NS // 2:
        hint = recv
    value, _status = new_york_ns(days, tod, hint, transitions, offsets)
    return value


@inline_kernel
def day_of_time(
    tod: int, fresh: bool, recv: int, session_days: int, clock: Int64, transitions: Int64, offsets: Int64
) -> Number:
    """The day of a time without date.

    Fresh times lie nearest to the feed's clock; a time that a line merely repeats is never more than an hour after it. Before any
    clock the receipt stands in for it, or the end of the session date where the lines were received after that (an import).
    """
    if clock[CLOCK_KIND] != NO_CLOCK:
        if fresh:
            return nearest_day(tod, clock[CLOCK_LOCAL])
        latest = clock[CLOCK_LOCAL] + HOUR_NS
    else:
        latest = recv + offsets[offset_index(recv, transitions)] + HOUR_NS
        if session_days > 0 and latest - HOUR_NS >= (session_days + 1) * DAY_NS:
            latest = (session_days + 1) * DAY_NS - 1
    days = latest // DAY_NS
    return days - 1 if tod > latest - days * DAY_NS else days


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
        error = np.int64(out.error[row])
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
                ts_bid = time_with_day(values[layouts.BID_TIME], NULL_TS, fresh, recv, session_days, clock, transitions, offsets)
                fresh = update and contents & 8 != 0
                ts_ask = time_with_day(values[layouts.ASK_TIME], NULL_TS, fresh, recv, session_days, clock, transitions, offsets)
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


@kernel
def decode_other_row(
    buffer: UInt8, begin: int, end: int, row: int, out: Level1Columns, clock: Int64,
    pool: UInt8, ends: Int64, hashes: UInt64, slots: Int32, count: Int64, transitions: Int64, offsets: Int64,
) -> tuple[int, int]:  # fmt: skip
    """Every line but Q and P; `(kind, status)`, nothing written when that is FULL."""
    error = np.int64(out.error[row])
    kind = np.int64(63)
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


@inline_kernel
def is_acknowledgement(buffer: UInt8, begin: int, end: int) -> bool:
    """Whether a system line begins `S,CURRENT ` and so may change the layout."""
    if end - begin < 10:
        return False
    # S,CURRENT followed by a space
    expected = (83, 44, 67, 85, 82, 82, 69, 78, 84, 32)
    for at in range(10):
        if buffer[begin + at] != expected[at]:
            return False
    return True


@inline_kernel
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


@inline_kernel
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


@inline_kernel
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
    price, price_status = parse_price(buffer, bounds[shift + 2], bounds[shift + 3] - 1)
    size, size_status = parse_int(buffer, bounds[shift + 3], bounds[shift + 4] - 1)
    tick_id, tick_status = parse_uint64(buffer, bounds[shift + 4], bounds[shift + 5] - 1)
    if price_status == BAD:
        return PRICE, OK
    if size_status == BAD or tick_status == BAD:
        return NUMBER, OK
    conditions = np.uint64(0)
    center = np.int64(-1)
    if fields > shift + 5:
        conditions, status = parse_conditions(buffer, bounds[shift + 5], bounds[shift + 6] - 1)
        if status == BAD:
            return NUMBER, OK
    if fields > shift + 6:
        value, status = small_int(buffer, bounds[shift + 6], bounds[shift + 7] - 1, 2**31 - 1)
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
    [0, 0, NULL_PRICE, NULL_PRICE, NULL_PRICE, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 0, NULL_TS, 0, 0, 0], np.int64
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


@inline_kernel
def time_with_day(
    tod: int, days: int, fresh: bool, recv: int, session_days: int, clock: Int64, transitions: Int64, offsets: Int64
) -> Number:
    """UTC ns of a time of day (-1 = none gives NULL_TS) on `days`, or on the day that the clock says where that is NULL_TS."""
    if tod < 0:
        return np.int64(NULL_TS)
    if days == NULL_TS:
        days = day_of_time(tod, fresh, recv, session_days, clock, transitions, offsets)
    return wall_ns(days, tod, recv, clock, transitions, offsets)

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
                while stop < end and buffer[stop] != 10:
                    # A carriage return is fine only as the last byte, and is cut off below.
                    if buffer[stop] < 32 and buffer[stop] != 9 and not (buffer[stop] == 13 and (stop + 1 == end or buffer[stop + 1] == 10)):
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


# The clock of a stream: an int64 array of three.
CLOCK_LOCAL: Final = 0
"""New York wall time, ns since the epoch as if it were UTC."""
CLOCK_UTC: Final = 1
CLOCK_KIND: Final = 2
NO_CLOCK: Final = 0
TRADE_CLOCK: Final = 1
"""Taken from the newest dated trade: the stream has no T line yet."""
FEED_CLOCK: Final = 2
"""The feed's own T line."""


@inline_kernel
def wall_ns(days: int, tod: int, recv: int, clock: Int64, transitions: Int64, offsets: Int64) -> Number:
    """UTC ns of a wall time; in the hour that happens twice, the one nearer to the receipt of a live line, else to the clock."""
    hint = clock[CLOCK_UTC] if clock[CLOCK_KIND] != NO_CLOCK else NULL_TS
    if abs(days * DAY_NS + tod + 5 * HOUR_NS - recv) < DAY_NS // 2:
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
    """Decode rows from `row` on; `(next row, reason)`: OK at the end, NONE after an acknowledgement, FULL when symbols must grow."""
    rows = len(out.seq)
    while row < rows:
        begin = out.line_start[row]
        end = begin + out.line_len[row]
        error = np.int64(out.error[row])
        kind = np.int64(63)
        letter = buffer[begin] if end > begin else np.uint8(0)
        alone = end - begin == 1
        if error == 0 and (alone or (end - begin > 1 and buffer[begin + 1] == 44)):
            if letter == 81 or letter == 80:
                kind = np.int64(letter)
                error, status = decode_quote_row(
                    buffer, begin + 2, end, kind, row, out, columns, required, session_days, clock,
                    pool, ends, hashes, slots, count, transitions, offsets,
                )  # fmt: skip
                if status == FULL:
                    return row, FULL
            elif letter == 84:
                kind = 84
                error = decode_clock_row(buffer, begin + 2, end, row, out, clock, transitions, offsets)
            elif letter == 67:
                kind = 67
                error, status = decode_correction_row(
                    buffer, begin + 2, end, row, out, clock, pool, ends, hashes, slots, count, transitions, offsets
                )
                if status == FULL:
                    return row, FULL
            elif letter == 70 or letter == 82 or letter == 110:
                kind = np.int64(letter)
                number, status = intern_symbol(buffer, begin + 2, field_end(buffer, begin + 2, end), pool, ends, hashes, slots, count)
                if status == FULL:
                    return row, FULL
                out.symbol[row] = number
                error = 0 if status == OK else SYMBOL
            elif letter == 78:
                kind = 78
                status = decode_news_row(buffer, begin + 2, end, row, out, pool, ends, hashes, slots, count)
                if status == FULL:
                    return row, FULL
            elif letter == 83 or letter == 69:
                kind = np.int64(letter)
        if out.ts_event[row] == NULL_TS and clock[CLOCK_KIND] != NO_CLOCK and error == 0 and kind != 67:
            out.ts_event[row] = clock[CLOCK_UTC]
        out.error[row] = error
        out.kind[row] = 0 if error else kind
        row += 1
        if kind == 83 and is_acknowledgement(buffer, begin, end):
            return row, NONE
    return row, OK


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


@kernel
def decode_quote_row(
    buffer: UInt8, at: int, end: int, kind: int, row: int, out: Level1Columns, columns: UInt8, required: int,
    session_days: int, clock: Int64, pool: UInt8, ends: Int64, hashes: UInt64, slots: Int32, count: Int64,
    transitions: Int64, offsets: Int64,
) -> tuple[int, int]:  # fmt: skip
    """A Q or P line from the field after the letter on; `(error, status)`, and on an error nothing is written."""
    fields = 0
    symbol_from = symbol_to = np.int64(0)
    price = np.int64(NULL_PRICE)
    bid = np.int64(NULL_PRICE)
    ask = np.int64(NULL_PRICE)
    size = volume = trades = bid_size = ask_size = np.int64(-1)
    center = bid_center = ask_center = delay = np.int64(-1)
    aggressor = day_code = contents = np.int64(0)
    conditions = tick_id = np.uint64(0)
    trade_tod = bid_tod = ask_tod = np.int64(-1)
    trade_days = np.int64(NULL_TS)
    priced = sized = False
    while at <= end and fields < len(columns):
        stop = field_end(buffer, at, end)
        column = columns[fields]
        fields += 1
        status = OK
        error = NUMBER
        if column == layouts.IGNORED:
            pass
        elif column == layouts.SYMBOL:
            symbol_from = at
            symbol_to = stop
        elif column == layouts.PRICE:
            priced = True
            error = PRICE
            value, status = parse_price(buffer, at, stop)
            if status == OK:
                price = value
        elif column == layouts.BID_PRICE:
            error = PRICE
            value, status = parse_price(buffer, at, stop)
            if status == OK:
                bid = value
        elif column == layouts.ASK_PRICE:
            error = PRICE
            value, status = parse_price(buffer, at, stop)
            if status == OK:
                ask = value
        elif column == layouts.TRADE_TIME:
            error = TIME
            value, status = parse_time_of_day_ns(buffer, at, stop)
            if status == OK:
                trade_tod = value
        elif column == layouts.BID_TIME:
            error = TIME
            value, status = parse_time_of_day_ns(buffer, at, stop)
            if status == OK:
                bid_tod = value
        elif column == layouts.ASK_TIME:
            error = TIME
            value, status = parse_time_of_day_ns(buffer, at, stop)
            if status == OK:
                ask_tod = value
        elif column == layouts.TRADE_DATE:
            error = TIME
            value, status = parse_date(buffer, at, stop)
            if status == OK:
                trade_days = value
        elif column == layouts.CONTENTS:
            error = CONTENTS
            value, status = parse_contents(buffer, at, stop)
            contents = np.int64(value)
        elif column == layouts.CONDITIONS:
            conditions, status = parse_conditions(buffer, at, stop)
        elif column == layouts.TICK_ID:
            tick_id, status = parse_uint64(buffer, at, stop)
        elif column == layouts.AGGRESSOR:
            value, status = small_int(buffer, at, stop, 3)
            aggressor = np.int64(value)
        elif column == layouts.DAY_CODE:
            value, status = small_int(buffer, at, stop, 255)
            day_code = np.int64(value)
        elif column == layouts.SIZE:
            sized = True
            value, status = parse_int(buffer, at, stop)
            if status == OK:
                size = value
        elif column == layouts.TOTAL_VOLUME:
            value, status = parse_int(buffer, at, stop)
            if status == OK:
                volume = value
        elif column == layouts.TRADE_COUNT:
            value, status = parse_int(buffer, at, stop)
            if status == OK:
                trades = value
        elif column == layouts.BID_SIZE:
            value, status = parse_int(buffer, at, stop)
            if status == OK:
                bid_size = value
        elif column == layouts.ASK_SIZE:
            value, status = parse_int(buffer, at, stop)
            if status == OK:
                ask_size = value
        else:
            value, status = small_int(buffer, at, stop, 2**31 - 1)
            if status == OK:
                if column == layouts.MARKET_CENTER:
                    center = value
                elif column == layouts.BID_CENTER:
                    bid_center = value
                elif column == layouts.ASK_CENTER:
                    ask_center = value
                else:
                    delay = value
        if status == BAD:
            return error, OK
        at = stop + 1
    if fields < required:
        return FIELDS, OK
    trade = kind == 81 and contents & 7 != 0
    if trade and priced and price == NULL_PRICE:
        return PRICE, OK
    if trade and sized and size < 0:
        return NUMBER, OK
    number, status = intern_symbol(buffer, symbol_from, symbol_to, pool, ends, hashes, slots, count)
    if status != OK:
        return SYMBOL, status
    recv = out.ts_recv[row]
    ts_trade = ts_bid = ts_ask = np.int64(NULL_TS)
    if trade_tod >= 0:
        days = trade_days
        if days == NULL_TS:
            days = day_of_time(trade_tod, trade, recv, session_days, clock, transitions, offsets)
        ts_trade = wall_ns(days, trade_tod, recv, clock, transitions, offsets)
        if trade and trade_days != NULL_TS and clock[CLOCK_KIND] != FEED_CLOCK:
            clock[CLOCK_LOCAL] = days * DAY_NS + trade_tod
            clock[CLOCK_UTC] = ts_trade
            clock[CLOCK_KIND] = TRADE_CLOCK
    if bid_tod >= 0:
        days = day_of_time(bid_tod, kind == 81 and contents & 16 != 0, recv, session_days, clock, transitions, offsets)
        ts_bid = wall_ns(days, bid_tod, recv, clock, transitions, offsets)
    if ask_tod >= 0:
        days = day_of_time(ask_tod, kind == 81 and contents & 8 != 0, recv, session_days, clock, transitions, offsets)
        ts_ask = wall_ns(days, ask_tod, recv, clock, transitions, offsets)
    out.symbol[row] = number
    out.contents[row] = contents
    if trade:
        out.basis[row] = 67 if contents & 1 else 69 if contents & 2 else 79
    out.price[row] = price
    out.size[row] = size
    out.total_volume[row] = volume
    out.market_center[row] = center
    out.conditions[row] = conditions
    out.aggressor[row] = aggressor
    out.day_code[row] = day_code
    out.tick_id[row] = tick_id
    out.trade_count[row] = trades
    out.bid[row] = bid
    out.bid_size[row] = bid_size
    out.bid_market_center[row] = bid_center
    out.ask[row] = ask
    out.ask_size[row] = ask_size
    out.ask_market_center[row] = ask_center
    out.delay[row] = delay
    out.ts_trade[row] = ts_trade
    out.ts_bid[row] = ts_bid
    out.ts_ask[row] = ts_ask
    # NULL_TS is the smallest number, so the greater of two times is the one that exists
    out.ts_event[row] = ts_trade if trade and ts_trade != NULL_TS else max(ts_bid, ts_ask)
    return 0, OK

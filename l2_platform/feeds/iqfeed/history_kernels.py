"""Compiled loop of the history decoder: what a reply line holds.

What does not belong here: fields of a line as values (bytes_kernels), state over blocks (decode_history).
"""

from typing import Final

import numpy as np

from l2_platform.feeds.iqfeed.bytes_kernels import (
    BAD,
    OK,
    new_york_ns,
    parse_date,
    parse_time_of_day_ns,
    parse_uint64,
)
from l2_platform.feeds.iqfeed.level1_columns import CONTENTS, FIELDS, NUMBER, PRICE, TIME, Level1Columns
from l2_platform.feeds.iqfeed.level1_kernels import conditions_field, int_field, limited_field, price_field
from l2_platform.feeds.iqfeed.quote_kernels import field_end
from l2_platform.market.compiled import Number, inline_kernel, kernel, plain_kernel
from l2_platform.market.events import Int64, UInt8

FIELDS_MAX: Final = 18
"""More fields than any reply line has; what follows is read over."""
DAY_S: Final = 86_400


@inline_kernel
def is_date(buffer: UInt8, start: int, stop: int) -> bool:
    """Whether a field begins like `2021-03-01`."""
    if stop - start < 10 or buffer[start + 4] != 45 or buffer[start + 7] != 45:
        return False
    for at in range(start, start + 10):  # noqa: SIM110 - compiled: no generators
        if at != start + 4 and at != start + 7 and not 48 <= buffer[at] <= 57:
            return False
    return True


@inline_kernel
def is_basis(buffer: UInt8, start: int, stop: int) -> bool:
    """Whether a field is one letter: C, E, O or S."""
    if stop - start != 1:
        return False
    letter = int(buffer[start])
    return letter == 67 or letter == 69 or letter == 79 or letter == 83


@kernel
def decode_history_rows(
    buffer: UInt8, out: Level1Columns, number: int, last: Int64, transitions: Int64, offsets: Int64, interval_s: int, ohlc: Int64
) -> None:
    """Decode every row; `last` is the newest time met, which settles the hour that happens twice in November.

    `interval_s`: of the bars that were asked for, whose prices go into `ohlc` (rows × 4); 0: none were, and `ohlc` has no row.
    """
    bounds = np.zeros(FIELDS_MAX + 1, np.int64)
    for row in range(len(out.seq)):
        if out.error[row] != 0:
            continue
        at = out.line_start[row]
        end = at + out.line_len[row]
        fields = 0
        stamp = -1
        while at <= end and fields < FIELDS_MAX:
            bounds[fields] = at
            stop = field_end(buffer, at, end)
            if stamp < 0 and fields < 3 and is_date(buffer, at, stop):
                stamp = fields
            fields += 1
            at = stop + 1
        bounds[fields] = at
        # A line ends with a comma: what follows it is no field.
        if fields > 0 and bounds[fields] - 1 == bounds[fields - 1]:
            fields -= 1
        if stamp < 0:
            kind, error = kind_without_date(buffer, bounds, fields)
            out.kind[row] = 0 if error else kind
            out.error[row] = error
            continue
        error, ts, bar = parse_stamp(buffer, bounds[stamp], bounds[stamp + 1] - 1, last[0], transitions, offsets)
        count = fields - stamp
        if error == 0:
            if interval_s and bar != (interval_s == DAY_S):
                error = TIME
            elif bar or interval_s or count <= 8:
                error = decode_bar_row(buffer, bounds, stamp, count, bar, row, out, ohlc)
                bar = True
            else:
                error = decode_tick_row(buffer, bounds, stamp, count, row, out)
        out.error[row] = error
        if error == 0:
            last[0] = ts
            out.kind[row] = 73 if bar else 72
            out.symbol[row] = number
            out.ts_event[row] = ts
            if not bar:
                out.ts_trade[row] = ts


@plain_kernel
def kind_without_date(buffer: UInt8, bounds: Int64, fields: int) -> tuple[Number, int]:
    """Kind and error of a line that has no timestamp: the end, an error, a system line, or a tick whose timestamp is broken."""
    for field in range(min(fields, 3)):
        start = bounds[field]
        length = bounds[field + 1] - 1 - start
        if length == 8 and buffer[start] == 33 and buffer[start + 1] == 69 and buffer[start + 7] == 33:
            return 33, 0
        if length == 1 and field + 1 < fields:
            letter = np.int64(buffer[start])
            if letter == 69 or letter == 110 or letter == 84 or letter == 83:
                return letter, 0
    return (0, TIME) if fields >= 7 else (63, 0)


@plain_kernel
def parse_stamp(
    buffer: UInt8, start: int, stop: int, hint: int, transitions: Int64, offsets: Int64
) -> tuple[Number, Number, bool]:
    """`2021-03-01 04:00:00.028010`, with or without decimals, or a date alone (a daily bar): `(error, UTC ns, is a date alone)`."""
    days, status = parse_date(buffer, start, start + 10)
    if status != OK:
        return TIME, 0, False
    if stop == start + 10:
        value, _status = new_york_ns(days, 0, hint, transitions, offsets)
        return 0, value, True
    if buffer[start + 10] != 32:
        return TIME, 0, False
    tod, status = parse_time_of_day_ns(buffer, start + 11, stop)
    if status != OK:
        return TIME, 0, False
    value, _status = new_york_ns(days, tod, hint, transitions, offsets)
    return 0, value, False


@plain_kernel
def decode_bar_row(
    buffer: UInt8, bounds: Int64, stamp: int, count: int, daily: bool, row: int, out: Level1Columns, ohlc: Int64
) -> Number:
    """High, low, open, close, then total volume, volume and prints, or the volume alone (daily); gives the error.

    Of bars that nobody asked for (`ohlc` without rows) it is only seen whether they are whole: their values stay in the journal.
    """
    if count < 7 or (not daily and count != 8):
        return FIELDS
    for field in range(4):
        at = stamp + 1 + field
        price, status = price_field(buffer, bounds[at], bounds[at + 1] - 1)
        if status != OK:
            return PRICE
        if len(ohlc):
            # the wire says high, low, open, close
            ohlc[row, (field + 1) % 3 if field < 3 else 3] = price
    for field in range(stamp + 5, stamp + count):
        value, status = int_field(buffer, bounds[field], bounds[field + 1] - 1)
        if status == BAD:
            return NUMBER
        if status != OK or not len(ohlc):
            continue
        if daily:
            if field == stamp + 5:
                out.size[row] = value
        elif field == stamp + 5:
            out.total_volume[row] = value
        elif field == stamp + 6:
            out.size[row] = value
        else:
            out.trade_count[row] = value
    return 0


@plain_kernel
def decode_tick_row(buffer: UInt8, bounds: Int64, stamp: int, count: int, row: int, out: Level1Columns) -> Number:
    """Price, size, total volume, bid, ask, TickID, then basis and what follows it; gives the error."""
    if count < 9:
        return FIELDS
    # After the timestamp: last, size, total volume, bid, ask, TickID (stamp + 1 … stamp + 6), then the basis; older: basis last.
    basis = stamp + 7
    if not is_basis(buffer, bounds[basis], bounds[basis + 1] - 1):
        basis = stamp + 9
        if count < 10 or not is_basis(buffer, bounds[basis], bounds[basis + 1] - 1):
            return CONTENTS
    price, price_status = price_field(buffer, bounds[stamp + 1], bounds[stamp + 2] - 1)
    bid, bid_status = price_field(buffer, bounds[stamp + 4], bounds[stamp + 5] - 1)
    ask, ask_status = price_field(buffer, bounds[stamp + 5], bounds[stamp + 6] - 1)
    if price_status != OK or bid_status == BAD or ask_status == BAD:
        return PRICE
    size, size_status = int_field(buffer, bounds[stamp + 2], bounds[stamp + 3] - 1)
    volume, volume_status = int_field(buffer, bounds[stamp + 3], bounds[stamp + 4] - 1)
    tick_id, tick_status = parse_uint64(buffer, bounds[stamp + 6], bounds[stamp + 7] - 1)
    if size_status != OK or volume_status == BAD or tick_status == BAD:
        return NUMBER
    if basis == stamp + 7:
        if count > 8:
            center, status = limited_field(buffer, bounds[stamp + 8], bounds[stamp + 9] - 1, 2**31 - 1)
            if status == BAD:
                return NUMBER
            if status == OK:
                out.market_center[row] = center
        if count > 9:
            conditions, status = conditions_field(buffer, bounds[stamp + 9], bounds[stamp + 10] - 1)
            if status == BAD:
                return NUMBER
            out.conditions[row] = conditions
        if count > 10:
            aggressor, status = limited_field(buffer, bounds[stamp + 10], bounds[stamp + 11] - 1, 3)
            if status == BAD:
                return NUMBER
            out.aggressor[row] = aggressor
        if count > 11:
            day_code, status = limited_field(buffer, bounds[stamp + 11], bounds[stamp + 12] - 1, 255)
            if status == BAD:
                return NUMBER
            out.day_code[row] = day_code
    letter = buffer[bounds[basis]]
    out.basis[row] = letter
    out.contents[row] = 1 if letter == 67 else 2 if letter == 69 else 4 if letter == 79 else 512
    out.price[row] = price
    out.size[row] = size
    if volume_status == OK:
        out.total_volume[row] = volume
    out.tick_id[row] = tick_id
    if bid_status == OK:
        out.bid[row] = bid
    if ask_status == OK:
        out.ask[row] = ask
    return 0

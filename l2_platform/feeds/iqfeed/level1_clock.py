"""The clock of a Level 1 stream: gives times without a date their day, and wall times their UTC.

All functions take pointers of the clock and of the zone's tables, which have `spans` rows: passing an array costs more than most of
them do. What does not belong here: how a T line is read (level1_kernels).
"""

from typing import Final

import numpy as np

from l2_platform.feeds.iqfeed.bytes_kernels import DAY_NS, HOUR_NS, span_index, steady_span_at, utc_from_wall
from l2_platform.market.compiled import Number, inline_kernel, plain_kernel
from l2_platform.market.events import NULL_TS, Int64

# The clock of a stream: an int64 array of CLOCK_SIZE.
CLOCK_LOCAL: Final = 0
"""New York wall time, ns since the epoch as if it were UTC."""
CLOCK_UTC: Final = 1
CLOCK_KIND: Final = 2
SPAN_FROM: Final = 3
"""Local times from here to SPAN_TO have one known offset (bytes_kernels.steady_span); no part of the state."""
SPAN_TO: Final = 4
SPAN_OFFSET: Final = 5
LAST_DATE: Final = 6
"""Slots 6 to 8: the last date as read (two words) and its day (quote_kernels.date); no part of the state."""
CLOCK_SIZE: Final = 9
NO_CLOCK: Final = 0
TRADE_CLOCK: Final = 1
"""Taken from the newest dated trade: the stream has no T line yet."""
FEED_CLOCK: Final = 2
"""The feed's own T line."""


@plain_kernel
def wall_ns_slow(
    days: int, tod: int, recv: int, clock: Int64, transitions: Int64, offsets: Int64, spans: int
) -> Number:
    """`wall_ns` outside the last span, which is set anew."""
    local = days * DAY_NS + tod
    clock[SPAN_FROM], clock[SPAN_TO], clock[SPAN_OFFSET] = steady_span_at(local, transitions, offsets, spans)
    hint = clock[CLOCK_UTC] if clock[CLOCK_KIND] != NO_CLOCK else NULL_TS
    if abs(local + 5 * HOUR_NS - recv) < DAY_NS // 2:
        hint = recv
    return utc_from_wall(local, hint, transitions, offsets, spans)


@inline_kernel
def wall_ns(days: int, tod: int, recv: int, clock: Int64, transitions: Int64, offsets: Int64, spans: int) -> Number:
    """UTC ns of a wall time; in the hour that happens twice, the one nearer to the receipt of a live line, else to the clock."""
    local = days * DAY_NS + tod
    # Nearly all times lie in the span of the one before: no search in the offset table then.
    if clock[SPAN_FROM] <= local < clock[SPAN_TO]:
        return local - clock[SPAN_OFFSET]
    return wall_ns_slow(days, tod, recv, clock, transitions, offsets, spans)


@plain_kernel
def stand_in_clock(recv: int, session_days: int, transitions: Int64, offsets: Int64, spans: int) -> Number:
    """Local time that stands in for the feed's clock before the first one.

    The receipt, or an hour before the end of the session date where the lines were received after that (an import).
    """
    local = recv + offsets[span_index(recv, transitions, spans)]
    if session_days > 0 and local >= (session_days + 1) * DAY_NS:
        return (session_days + 1) * DAY_NS - HOUR_NS - 1
    return local


@inline_kernel
def time_with_day(
    tod: int, days: int, fresh: bool, recv: int, session_days: int, clock: Int64, transitions: Int64, offsets: Int64,
    spans: int,
) -> Number:  # fmt: skip
    """UTC ns of a time of day (-1 = none gives NULL_TS) on `days`, or on the day that the clock says where that is NULL_TS.

    Fresh times lie nearest to the feed's clock; a time that a line merely repeats is never more than an hour after it.
    """
    if tod < 0:
        return np.int64(NULL_TS)
    if days == NULL_TS:
        if clock[CLOCK_KIND] == NO_CLOCK:
            latest = stand_in_clock(recv, session_days, transitions, offsets, spans) + HOUR_NS
        else:
            latest = clock[CLOCK_LOCAL] + (DAY_NS // 2 if fresh else HOUR_NS)
        days = latest // DAY_NS
        if tod > latest - days * DAY_NS:
            days -= 1
    return wall_ns(days, tod, recv, clock, transitions, offsets, spans)

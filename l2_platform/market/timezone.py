"""New York's UTC offsets as arrays, for kernels that turn wall times into ns since the epoch.

The rules come from the time zone database; nothing here knows a daylight saving rule. What does not belong here: parsing, sessions.
"""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from l2_platform.market.events import Int64

NEW_YORK: Final = ZoneInfo("America/New_York")
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(2100, 1, 1, tzinfo=UTC)
_STEP: Final = timedelta(days=14)
"""Shorter than the time between any two changes of the zone."""
_BEGIN_NS: Final = -(2**62)


@cache
def new_york_offsets() -> tuple[Int64, Int64]:
    """`(transition_utc_ns, offset_ns)`: from `transition[i]` on, local time = UTC + `offset[i]` (negative). Sorted; 1970 to 2100.

    The first transition lies before every time; both arrays are read-only.
    """
    transitions = [_BEGIN_NS]
    offsets = [_offset_s(_FIRST) * 1_000_000_000]
    at = _FIRST
    while at < _LAST:
        following = at + _STEP
        if _offset_s(at) != _offset_s(following):
            change = _change_between(at, following)
            transitions.append(int(change.timestamp()) * 1_000_000_000)
            offsets.append(_offset_s(following) * 1_000_000_000)
        at = following
    table = np.array(transitions, np.int64), np.array(offsets, np.int64)
    for column in table:
        column.flags.writeable = False
    return table


def _offset_s(at: datetime) -> int:
    offset = at.astimezone(NEW_YORK).utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0


def _change_between(low: datetime, high: datetime) -> datetime:
    before = _offset_s(low)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        if _offset_s(middle) == before:
            low = middle
        else:
            high = middle
    return high

"""Dates and instants as people write and read them on the command line; all without an offset are New York time."""

import re
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from l2_platform.errors import InputError
from l2_platform.market.events import NULL_TS

NEW_YORK = ZoneInfo("America/New_York")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def session_date_from_text(text: str, option: str) -> int:
    """YYYYMMDD of `2026-11-20` or `20261120`; InputError names the option."""
    match = re.fullmatch(r"(\d{4})-?(\d{2})-?(\d{2})", text.strip())
    parts = [int(part) for part in match.groups()] if match is not None else [0, 0, 0]
    try:
        day = date(parts[0], parts[1], parts[2])
    except ValueError:
        raise InputError(f"{option} {text!r} is no date; write it as 2026-11-20") from None
    return day.year * 10_000 + day.month * 100 + day.day


def instant_from_text(text: str, option: str) -> int:
    """Nanoseconds since the epoch of `2012-06-21T10:00:00[.ffffff][offset]`; without an offset it is New York time."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InputError(
            f"{option} {text!r} is no instant; write it as 2012-06-21T10:00:00 (New York) or with an offset"
        ) from None
    if not 1970 < moment.year < 2200:
        raise InputError(f"{option} {text!r}: nothing is recorded in the year {moment.year}; write it as 2012-06-21T10:00:00")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=NEW_YORK)
    delta = moment.astimezone(UTC) - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000_000 + delta.microseconds * 1000


def text_of_instant(ts: int) -> str:
    """ISO text in New York time with microseconds; `-` for none."""
    if ts == NULL_TS:
        return "-"
    seconds, rest = divmod(ts, 1_000_000_000)
    return datetime.fromtimestamp(seconds, NEW_YORK).replace(microsecond=rest // 1000).isoformat(timespec="microseconds")

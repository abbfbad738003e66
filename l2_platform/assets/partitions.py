"""Session dates as daily partitions: exchange time with the closed days left out, or UTC days for an always-open market.

`end_offset=1`: the running session has a partition, so that its numbers can be looked at while it runs. What does not belong
here: what a session is (`market/sessions.py`).
"""

from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._core.definitions.partitions.context import partition_loading_context

from l2_platform.journal.layout import list_dates, list_streams
from l2_platform.market.sessions import SessionCalendar, load_calendar
from l2_platform.settings import Settings

EXCHANGE_ZONE: Final = "America/New_York"
EXCLUSION_YEARS_AHEAD: Final = 1
"""Closed days are looked up this far ahead; a code location lives for months, not years."""


def build_partitions(settings: Settings, now_ns: int) -> dg.DailyPartitionsDefinition:
    """The session dates of an instance from the first recorded one (or today) on, as its calendar has them at `now_ns`.

    Nothing earlier: partitions that can never have data would show as missing for ever.
    """
    today = datetime.fromtimestamp(now_ns // 10**9, UTC).date()
    # A day earlier than today in UTC, where it still is yesterday in New York.
    start = today if settings.calendar_name == "always_open" else today - timedelta(days=1)
    first = min([start, *recorded_dates(settings.journal_dir)])
    if settings.calendar_name == "always_open":
        return dg.DailyPartitionsDefinition(first.isoformat(), timezone="UTC", end_offset=1)
    calendar = load_calendar(settings.calendar_name, settings.session.roll_margin_s)
    last = datetime.fromtimestamp(now_ns // 10**9, UTC).date() + timedelta(days=365 * EXCLUSION_YEARS_AHEAD)
    return dg.DailyPartitionsDefinition(
        first.isoformat(), timezone=EXCHANGE_ZONE, end_offset=1,
        exclusions=["0 0 * * 6", "0 0 * * 0", *closed_weekdays(calendar, first, last)],
    )  # fmt: skip


def closed_weekdays(calendar: SessionCalendar, first: date, last: date) -> list[datetime]:
    """Midnights of the weekdays without a session, exchange time."""
    zone = ZoneInfo(EXCHANGE_ZONE)
    days = (first + timedelta(days=number) for number in range((last - first).days + 1))
    weekdays = (day for day in days if day.weekday() < 5)
    return [datetime.combine(day, time(0), zone) for day in weekdays if not calendar.is_session(number_of(day))]


def recorded_dates(journal_dir: Path) -> list[date]:
    """Every session date that any stream of the journal has, in order."""
    return [date_of(number) for number in sorted({day for stream in list_streams(journal_dir) for day in list_dates(journal_dir, stream)})]


def date_of(session_date: int) -> date:
    """20250725 → 2025-07-25."""
    return date(session_date // 10_000, session_date // 100 % 100, session_date % 100)


def number_of(day: date) -> int:
    """2025-07-25 → 20250725."""
    return day.year * 10_000 + day.month * 100 + day.day


def key_date(partition_key: str) -> date:
    """The session date of a partition key."""
    return date.fromisoformat(partition_key)


def known_at(moment: datetime) -> AbstractContextManager[Any]:
    """Inside the block partitions are those of that moment, as Dagster judges what a tick asks for, however late the tick is."""
    return partition_loading_context(moment)


def current_key(settings: Settings, now_ns: int, partitions: dg.DailyPartitionsDefinition) -> str:
    """The partition of the running session; on the evening before a session, its last one that exists yet."""
    calendar = load_calendar(settings.calendar_name, settings.session.roll_margin_s)
    key = date_of(calendar.session_date_of(now_ns)).isoformat()
    if partitions.has_partition_key(key):
        return key
    return partitions.get_last_partition_key() or key

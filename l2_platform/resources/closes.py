"""Which of the newest session dates that ended are not closed, or changed since, from folders and Dagster's own records.

What does not belong here: when they are asked for again (operations/unclosed.py).
"""

from datetime import UTC, datetime
from typing import Final

import dagster as dg

from l2_platform.journal.layout import list_dates
from l2_platform.market.dates import date_text
from l2_platform.market.sessions import load_calendar
from l2_platform.monitoring.changed_dates import changed_dates
from l2_platform.operations.unclosed import Unclosed
from l2_platform.resources.evidence import materialized_partitions
from l2_platform.settings import Settings

JOB: Final = "daily_close"
CLOSED: Final = "closed_day"
"""The asset whose partition says that a date is closed."""
TRY_TAG: Final = "l2/close_try"
"""Number of the try, on runs that were asked for again."""
PARTITION_TAG: Final = "dagster/partition"
RUNS_SEEN: Final = 100
"""Newest runs of one date that are looked at."""


def ended_dates(settings: Settings, now_ns: int) -> list[int]:
    """The newest `close.again_dates` session dates that this instance recorded and that are over, oldest first."""
    calendar = load_calendar(settings.calendar_name, settings.session.roll_margin_s)
    recorded = {date for stream in settings.streams for date in list_dates(settings.journal_dir, stream)}
    ended = sorted(date for date in recorded if calendar.is_session(date) and calendar.end_of(date) <= now_ns)
    return ended[-settings.close.again_dates :]


def unclosed_dates(settings: Settings, instance: dg.DagsterInstance, now_ns: int) -> list[Unclosed]:
    """Those of `ended_dates` that `closed_day` was never made for, and closed ones that changed since, oldest first; one query each."""
    ended, changed = ended_dates(settings, now_ns), changed_dates(settings.run_dir)
    if not ended and not changed:
        return []
    closed = materialized_partitions(instance, CLOSED)
    calendar = load_calendar(settings.calendar_name, settings.session.roll_margin_s)
    found = {date: 0 for date in ended if date_text(date) not in closed}
    # what another calendar was closed by need not be a session of this one
    found |= {date: changed_ns for date, changed_ns in changed.items() if date_text(date) in closed and calendar.is_session(date)}
    return [_look(instance, date, calendar.end_of(date), now_ns, changed_ns) for date, changed_ns in sorted(found.items())]


def _look(instance: dg.DagsterInstance, session_date: int, end_ns: int, now_ns: int, changed_ns: int) -> Unclosed:
    since = datetime.fromtimestamp(changed_ns / 1e9, UTC) if changed_ns else None
    wanted = dg.RunsFilter(job_name=JOB, tags={PARTITION_TAG: date_text(session_date)}, created_after=since)
    records = instance.get_run_records(wanted, limit=RUNS_SEEN)
    tried = [int(text) for record in records if (text := record.dagster_run.tags.get(TRY_TAG, "")).isdigit()]
    # a run of the future ended before the clock was set back: it must not be waited for
    ends = [end for record in records if record.end_time and (end := int(record.end_time * 1e9)) <= now_ns]
    return Unclosed(
        session_date, end_ns, running=any(not record.dagster_run.is_finished for record in records),
        tries=max(tried, default=0), last_ns=max(ends, default=0), changed_ns=changed_ns,
    )  # fmt: skip

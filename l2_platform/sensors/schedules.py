"""What runs by the clock: daily close and report, weekly and monthly reviews, the verdict every 15 minutes, pruning.

Every schedule runs in the calendar's own zone (exchange time; UTC for an always-open market) and from the start. What does not belong
here: what they make (assets), measuring the running date (`measuring.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import dagster as dg

from l2_platform.assets.partitions import date_of, known_at
from l2_platform.clock import Clock
from l2_platform.errors import InputError
from l2_platform.market.sessions import load_calendar
from l2_platform.resources.evidence import materialized_partitions
from l2_platform.settings import Settings

RUN_S_MAX: Final = 1800
CLOSE_RUN_S_MAX: Final = 6 * 3600


@dataclass(frozen=True, slots=True)
class Plan:
    """One schedule."""

    name: str
    cron: str
    description: str
    job: Any
    dated: bool = False
    """Its run is for the last session date that ended."""
    made: str = ""
    """An asset: a date that it was made of already is passed over."""


def ended_session(settings: Settings, now_ns: int, margin_s: float) -> int | None:
    """The last session date (YYYYMMDD) that ended at least `margin_s` ago; None outside the calendar."""
    calendar = load_calendar(settings.calendar_name, settings.session.roll_margin_s)
    try:
        return calendar.previous_session(calendar.session_date_of(now_ns - int(margin_s * 1e9)))
    except InputError:
        return None


def asset_job(
    name: str, assets: Sequence[str], description: str, run_s_max: int = RUN_S_MAX, *,
    also: Sequence[dg.AssetChecksDefinition] = (), but: Sequence[dg.AssetChecksDefinition] = (),
) -> Any:  # fmt: skip
    """A job over assets and their checks, in order of their dependencies, in one process; `also` and `but`: checks of other definitions."""
    chosen: dg.AssetSelection = dg.AssetSelection.assets(*assets)
    chosen = chosen | dg.AssetSelection.checks(*also) if also else chosen
    chosen = chosen - dg.AssetSelection.checks(*but) if but else chosen
    return dg.define_asset_job(
        name, selection=chosen, description=description, executor_def=dg.in_process_executor,
        tags={"dagster/max_runtime": str(run_s_max)},
    )  # fmt: skip


def build_schedule(
    plan: Plan, settings: Settings, partitions: dg.DailyPartitionsDefinition, clock: Clock
) -> dg.ScheduleDefinition:
    """The schedule, running from the start."""

    @dg.schedule(
        name=plan.name, description=plan.description, cron_schedule=plan.cron, job=plan.job,
        execution_timezone=partitions.timezone, default_status=dg.DefaultScheduleStatus.RUNNING,
    )  # fmt: skip
    def scheduled(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        at = context.scheduled_execution_time
        if not plan.dated:
            return dg.RunRequest(run_key=f"{plan.name}:{at:%Y%m%dT%H%M}")
        ended = ended_session(settings, clock.now_ns(), settings.close.margin_s)
        key = date_of(ended).isoformat() if ended else ""
        with known_at(at):
            is_known = partitions.has_partition_key(key)
        if not ended or not is_known:
            return dg.SkipReason(f"no session date that this instance records has ended ({key or 'none'})")
        folder = f"{ended:08d}"
        if not any((settings.journal_dir / stream / folder).is_dir() for stream in settings.streams):
            return dg.SkipReason(f"nothing was recorded on {key}: nothing to do")
        if plan.made and key in materialized_partitions(context.instance, plan.made):
            return dg.SkipReason(f"asset {plan.made} has {key} already")
        # the same date is not asked for twice: closed days ask again for the last session, and are passed over
        return dg.RunRequest(run_key=f"{plan.name}:{key}", partition_key=key)

    return scheduled


def close_cron(settings: Settings, now_ns: int) -> str:
    """When `daily_close` runs, cron in the calendar's zone: the usual session's end plus the margin."""
    calendar = load_calendar(settings.calendar_name, settings.session.roll_margin_s)
    zone = ZoneInfo("UTC") if settings.calendar_name == "always_open" else ZoneInfo("America/New_York")
    session = calendar.session_date_of(now_ns)
    ends = []
    for _ in range(10):
        moment = datetime.fromtimestamp(calendar.end_of(session) // 10**9, UTC) + timedelta(seconds=settings.close.margin_s)
        local = moment.astimezone(zone)
        ends.append((local.hour, local.minute))
        session = calendar.next_session(session)
    # the usual end; a half-day ends earlier and is closed at the same hour
    hour, minute = max(set(ends), key=lambda end: (ends.count(end), end))
    return f"{minute} {hour} * * *"

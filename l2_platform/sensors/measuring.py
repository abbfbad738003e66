"""When session dates are measured: hourly while a session runs, at once when a new date has bytes, once more when it ended."""

import json
from typing import Any, Final

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from l2_platform.assets.partitions import current_key, date_of, known_at, recorded_dates
from l2_platform.clock import Clock
from l2_platform.market.sessions import load_calendar
from l2_platform.monitoring.heartbeat import read_heartbeat
from l2_platform.operations.intents import symbols_mtime_ns
from l2_platform.settings import Settings

HOURLY: Final = "5 * * * *"
LOOK_S: Final = 60
"""Time between two looks for a new session date, or a changed symbols file, s."""
SETTLE_NS: Final = 20 * 10**9
"""A date is first measured this long after it appeared: some rows to look at, ns."""


def build_hourly_schedule(
    settings: Settings, job: UnresolvedAssetJobDefinition, partitions: dg.DailyPartitionsDefinition, clock: Clock
) -> dg.ScheduleDefinition:
    """Measures the running session's date every hour."""

    @dg.schedule(
        name="measure_day_hourly",
        description="Five minutes past every hour: measures and checks the running session's date.",
        cron_schedule=HOURLY,
        job=job,
        execution_timezone=partitions.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def measure_day_hourly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        with known_at(context.scheduled_execution_time):
            key = current_key(settings, clock.now_ns(), partitions)
        return dg.RunRequest(run_key=f"{key}:{context.scheduled_execution_time:%Y%m%dT%H%M}", partition_key=key)

    return measure_day_hourly


def dates_to_measure(
    now_ns: int, current: str, recorded: list[str], cursor: str | None
) -> tuple[list[tuple[str, str]], str]:
    """(run key, partition) to request now, and the cursor: a new date once it has settled, and the date before it a last time."""
    before = _read_cursor(cursor)
    if current not in recorded:
        return [], json.dumps(before)
    if before.get("seen") != current:
        return [], json.dumps({**before, "seen": current, "since": now_ns})
    if before.get("measured") == current or now_ns - int(before.get("since", now_ns)) < SETTLE_NS:
        return [], json.dumps(before)
    earlier = [key for key in recorded if key < current]
    wanted = [(f"{current}:first", current)]
    if earlier and before.get("measured") is not None:
        wanted.append((f"{earlier[-1]}:last", earlier[-1]))
    return wanted, json.dumps({**before, "measured": current})


def _read_cursor(cursor: str | None) -> dict[str, Any]:
    try:
        found = json.loads(cursor or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def build_new_date_sensor(
    settings: Settings, job: UnresolvedAssetJobDefinition, judge: UnresolvedAssetJobDefinition,
    partitions: dg.DailyPartitionsDefinition, clock: Clock,
) -> dg.SensorDefinition:  # fmt: skip
    """Requests `measure_day`, and the verdict, as soon as a session date has bytes, so that no page stays empty for an hour."""

    @dg.sensor(
        name="new_session_date",
        description="A session date got its first bytes: measures it, the date before it a last time, and judges the platform.",
        minimum_interval_seconds=LOOK_S,
        jobs=[job, judge],
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def new_session_date(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        delivery = read_heartbeat(settings.run_dir / "heartbeats" / "deliver-clickhouse.json")
        if delivery is None or not delivery.alive():
            return dg.SensorResult(
                skip_reason="deliver-clickhouse does not run: nothing to measure", cursor=context.cursor
            )
        now_ns = clock.now_ns()
        calendar = load_calendar(settings.calendar_name, settings.session.roll_margin_s)
        current = date_of(calendar.session_date_of(now_ns)).isoformat()
        recorded = [day.isoformat() for day in recorded_dates(settings.journal_dir)]
        wanted, cursor = dates_to_measure(now_ns, current, recorded, context.cursor)
        requests = [
            dg.RunRequest(run_key=run_key, partition_key=key, job_name=job.name)
            for run_key, key in wanted
            if partitions.has_partition_key(key)
        ]
        if wanted:
            requests.append(dg.RunRequest(run_key=f"{current}:judged", job_name=judge.name))
        return dg.SensorResult(run_requests=requests, cursor=cursor)

    return new_session_date


def build_symbols_sensor(settings: Settings) -> dg.SensorDefinition:
    """Records a changed symbols file at once; versions that were replaced meanwhile are kept beside it, and recorded too."""

    @dg.sensor(
        name="symbols_changed",
        description="The symbols file changed: records which symbols are wanted from now on (asset universe).",
        minimum_interval_seconds=LOOK_S,
        job_name="daily_records",
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def symbols_changed(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        stamp = str(symbols_mtime_ns(settings))
        warehouse = read_heartbeat(settings.run_dir / "heartbeats" / "deliver-clickhouse.json")
        if stamp in {"0", context.cursor}:
            return dg.SensorResult(skip_reason="the symbols are the recorded ones", cursor=context.cursor)
        if warehouse is None or not warehouse.alive():
            return dg.SensorResult(skip_reason="deliver-clickhouse does not run: recorded when it does", cursor=context.cursor)
        return dg.SensorResult(run_requests=[dg.RunRequest(run_key=f"symbols:{stamp}")], cursor=stamp)

    return symbols_changed

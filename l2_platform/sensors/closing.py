"""`unclosed_dates`: asks for the daily close of an ended session date again when it failed, was never asked for, or the date changed.

A thin shell: which date and when is decided by the pure `operations/unclosed.py`.
"""

from typing import Final

import dagster as dg

from l2_platform.clock import Clock
from l2_platform.market.dates import date_text
from l2_platform.operations.unclosed import next_close, tell
from l2_platform.resources.closes import JOB, TRY_TAG, unclosed_dates
from l2_platform.settings import Settings

INTERVAL_S: Final = 60
"""Time between two looks, s."""


def build_unclosed_sensor(settings: Settings, partitions: dg.DailyPartitionsDefinition, clock: Clock) -> dg.SensorDefinition:
    """The sensor; its cursor shows what it waits for."""
    close = settings.close

    @dg.sensor(
        name="unclosed_dates",
        description=(
            f"Watches the last {close.again_dates} session dates that ended: one that is not closed is given to daily_close again, up to "
            f"{close.again_max} times, {close.again_first_s / 60:.0f} minutes after the failed run and then ever later. A closed date "
            "whose rows changed since (a repair, a rebuild, a backfill) is closed and archived again, however old it is."
        ),
        minimum_interval_seconds=INTERVAL_S, job_name=JOB, default_status=dg.DefaultSensorStatus.RUNNING,
    )  # fmt: skip
    def sensor(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        now_ns = clock.now_ns()
        found = unclosed_dates(settings, context.instance, now_ns)
        dates = [date for date in found if partitions.has_partition_key(date_text(date.session_date))]
        told = "; ".join(f"{date_text(date.session_date)}: {tell(date, close)}" for date in dates) or "every ended session date is closed"
        context.update_cursor(told)
        chosen = next_close(now_ns, dates, close)
        if chosen is None:
            return dg.SkipReason(told)
        key, number = date_text(chosen.session_date), str(chosen.tries + 1)
        change = f":{chosen.changed_ns}" if chosen.changed_ns else ""
        return dg.RunRequest(run_key=f"unclosed:{key}{change}:{number}", partition_key=key, tags={TRY_TAG: number})

    return sensor

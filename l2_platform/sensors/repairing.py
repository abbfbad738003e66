"""`repair_closed_gaps`: a gap has ended, or an earlier repair may be tried again: asks for job `repair_gaps` of its session date.

What does not belong here: whose turn it is (quality/repair_plan.py), repairing.
"""

import hashlib
from collections.abc import Sequence

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from l2_platform.clock import Clock
from l2_platform.errors import L2Error
from l2_platform.monitoring.heartbeat import read_heartbeat
from l2_platform.quality.ledger import LedgerGap
from l2_platform.quality.repair_due import ask_due_gaps
from l2_platform.settings import RepairSettings, Settings

UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED,
]  # fmt: skip


def build_repair_sensor(
    settings: Settings, job: UnresolvedAssetJobDefinition, partitions: dg.DailyPartitionsDefinition, clock: Clock
) -> dg.SensorDefinition:
    """The sensor, running from the start; it does nothing with `repair.enabled` off."""

    @dg.sensor(
        name="repair_closed_gaps", job=job, minimum_interval_seconds=settings.repair.look_s,
        description="A gap has ended: fills it from the vendor's history (job repair_gaps), and tries again what failed, with waits.",
        default_status=dg.DefaultSensorStatus.RUNNING if settings.repair.enabled else dg.DefaultSensorStatus.STOPPED,
    )  # fmt: skip
    def repair_closed_gaps(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        delivery = read_heartbeat(settings.run_dir / "heartbeats" / "deliver-clickhouse.json")
        if delivery is None or not delivery.alive():
            return dg.SkipReason("deliver-clickhouse does not run: gaps are repaired when it does")
        now_ns = clock.now_ns()
        try:
            gaps = ask_due_gaps(settings, now_ns)
        except L2Error as error:
            return dg.SkipReason(f"{error.message}; looked at again in {settings.repair.look_s} s")
        if not gaps:
            return dg.SkipReason("every gap that is over was repaired, or tried")
        # only now: Dagster opens its storage anew for each look that asks for it, which costs more than all the rest
        if context.instance.get_runs_count(dg.RunsFilter(job_name="repair_gaps", statuses=UNDER_WAY)):
            return dg.SkipReason("a repair is under way: what it leaves is looked at after it")
        wanted = requests(gaps, now_ns, settings.repair)
        runs = [dg.RunRequest(run_key=key, partition_key=day) for day, key in wanted.items() if partitions.has_partition_key(day)]
        return dg.SensorResult(run_requests=runs) if runs else dg.SkipReason("gaps are due of dates that are no partitions")

    return repair_closed_gaps


def requests(gaps: Sequence[LedgerGap], now_ns: int, settings: RepairSettings) -> dict[str, str]:
    """Session date → run key. The same gaps in the same state are asked for once in a turn of `retry_first_s`: a run that did not
    even reach the ledger is not followed by another one at every look. All that are due count, also more than a run repairs: what it
    leaves is asked for at once. Dates are as many as `age_days_max` has.

    Turns begin at fixed times, so two looks on both sides of such a time ask twice, however close they are. That costs one run at
    most, and never two at a time: a run that is under way is waited for, and one that reached the ledger changed the state.
    """
    dates: dict[str, list[str]] = {}
    for gap in gaps:
        dates.setdefault(gap.session_date.isoformat(), []).append(f"{gap.gap_id}:{gap.version}")
    turn = now_ns // int(settings.retry_first_s * 1e9)
    return {
        day: f"repair:{day}:{turn}:{hashlib.sha256(' '.join(sorted(names)).encode()).hexdigest()[:16]}" for day, names in dates.items()
    }

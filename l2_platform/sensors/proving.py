"""`prove_closed_dates`: a session date was closed: asks for job `daily_proofs` of it.

A date whose close never ends well is proven by schedule `daily_proofs` in the night. What does not belong here: the proofs (assets).
"""

from typing import Any

import dagster as dg

from l2_platform.resources.closes import PARTITION_TAG


def build_proving_sensor(closes: list[Any], proofs: Any) -> dg.SensorDefinition:
    """The sensor, running from the start; `closes` are the jobs that close a date."""

    @dg.run_status_sensor(
        name="prove_closed_dates", run_status=dg.DagsterRunStatus.SUCCESS, monitored_jobs=closes, request_job=proofs,
        minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING,
        description="A session date was closed: proves it (job daily_proofs): gaps, stores, completeness, checks, report.",
    )  # fmt: skip
    def prove_closed_dates(context: dg.RunStatusSensorContext) -> dg.RunRequest | dg.SkipReason:
        key = context.dagster_run.tags.get(PARTITION_TAG)
        if key is None:
            return dg.SkipReason("the run closed no session date")
        return dg.RunRequest(run_key=f"proofs:{context.dagster_run.run_id}", partition_key=key)

    return prove_closed_dates

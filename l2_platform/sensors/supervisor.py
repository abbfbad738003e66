"""`collector_supervisor`: what is wanted against what the heartbeats say; reports health, requests runs, starts nothing itself.

A thin shell: it writes the desired states that changed (symbols, calendar), reads files, and hands everything to the pure `decide`.
What does not belong here: the decision (`supervisor_decision.py`), the rules of health (`assets/liveness.py`).
"""

from collections.abc import Mapping
from typing import Final

import dagster as dg

from l2_platform.assets.jobs import CONTROL
from l2_platform.assets.worker_checks import limits_of
from l2_platform.assets.worker_facts import MANAGER, look
from l2_platform.assets.workers import MANAGER_KEY, Worker, check_metadata, number_metadata, severity_of
from l2_platform.clock import Clock
from l2_platform.operations.intents import refresh_intents
from l2_platform.sensors.supervisor_decision import Command, Rules, decide
from l2_platform.sensors.supervisor_reports import Event, NumbersEvent
from l2_platform.settings import Settings

INTERVAL_S: Final = 15
"""Time between two looks, s."""
SAME_DATA: Final = "1"
"""Data version of every number event: it is no new data, so nothing downstream becomes out of date."""


def rules_of_settings(settings: Settings) -> Rules:
    """The bounds of supervision."""
    supervision = settings.supervision
    return Rules(
        limits_of(settings), supervision.attempts_max, supervision.attempt_first_s, supervision.attempt_cap_s
    )


def build_collector_supervisor(
    settings: Settings, workers: list[Worker], clock: Clock
) -> dg.SensorDefinition:
    """The sensor; runs as soon as the code location is loaded."""
    keys = {worker.name: worker.asset_key for worker in workers} | {MANAGER: MANAGER_KEY}
    rules = rules_of_settings(settings)

    @dg.sensor(
        name="collector_supervisor",
        description=(
            "Every 15 s: writes desired states from symbols and calendar, reports every worker's checks and numbers, and requests "
            "control_collector where a worker does not do what is wanted."
        ),
        minimum_interval_seconds=INTERVAL_S,
        job_name=CONTROL,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def collector_supervisor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        now_ns = clock.now_ns()
        facts = look(settings, workers, refresh_intents(settings, now_ns), now_ns)
        commands, events, cursor = decide(
            now_ns, facts.specs, facts.pulses, context.cursor, rules, can_act=facts.manager.passed, others={MANAGER: facts.manager}
        )
        return dg.SensorResult(
            run_requests=[_run_request(command) for command in commands],
            asset_events=[_dagster_event(keys, event) for event in events],
            cursor=cursor,
        )

    return collector_supervisor


def _run_request(command: Command) -> dg.RunRequest:
    wanted = {"workers": [command.worker], "action": command.action, "generation": command.generation}
    return dg.RunRequest(
        run_key=command.run_key, run_config={"ops": {"control": {"config": wanted}}},
        tags={"l2/worker": command.worker, "l2/reason": command.why, "l2/attempt": command.attempt},
    )  # fmt: skip


def _dagster_event(keys: Mapping[str, dg.AssetKey], event: Event) -> dg.AssetCheckEvaluation | dg.AssetMaterialization:
    key = keys[event.worker]
    if isinstance(event, NumbersEvent):
        return dg.AssetMaterialization(
            key, metadata=number_metadata(event.numbers), tags={"dagster/data_version": SAME_DATA}
        )
    verdict = event.verdict
    return dg.AssetCheckEvaluation(
        asset_key=key, check_name=event.check, passed=verdict.passed, description=verdict.message,
        severity=severity_of(verdict), metadata=check_metadata(event.worker, verdict),
    )  # fmt: skip

"""What Dagster itself knows: the newest evaluation of each check, its daemons, which partitions were materialized. As plain values.

What does not belong here: judging it (operations/verdict.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus


@dataclass(frozen=True, slots=True)
class CheckState:
    """The newest finished evaluation of a check."""

    asset: str
    check: str
    passed: bool
    serious: bool
    """Severity ERROR."""
    message: str
    partition: str | None
    at_s: float
    """When it was evaluated, s since the epoch."""

    @property
    def name(self) -> str:
        """`asset:check`."""
        return f"{self.asset}:{self.check}"


def check_states(instance: dg.DagsterInstance, keys: Iterable[dg.AssetCheckKey]) -> list[CheckState]:
    """The checks that were evaluated at least once, by name."""
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(keys))
    states = []
    for key, record in found.items():
        # a check that a run has only planned so far has its plan in this place
        evaluation = record.evaluation if isinstance(record.evaluation, dg.AssetCheckEvaluation) else None
        if evaluation is not None:
            passed = record.status == AssetCheckExecutionRecordStatus.SUCCEEDED
            serious, message = evaluation.severity == dg.AssetCheckSeverity.ERROR, evaluation.description or ""
        elif _ended_without(instance, record.run_id):
            passed, serious, message = False, True, "The check could not be evaluated; its run says why."
        else:
            continue
        state = CheckState(
            key.asset_key.to_user_string(), key.name, passed, serious, message,
            evaluation.partition if evaluation is not None else None, record.create_timestamp,
        )  # fmt: skip
        states.append(state)
    return sorted(states, key=lambda state: state.name)


def _ended_without(instance: dg.DagsterInstance, run_id: str) -> bool:
    """The run that was to evaluate a check is over, and did not."""
    run = instance.get_run_by_id(run_id)
    return run is not None and run.status in {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


def daemon_ages(instance: dg.DagsterInstance, now_s: float) -> dict[str, float | None]:
    """Daemon that this instance needs → seconds since its last sign of life, None when it never gave one."""
    if instance.is_ephemeral:
        return {}
    beats = instance.get_daemon_heartbeats()
    return {
        str(name): max(0.0, now_s - beats[name].timestamp) if name in beats else None
        for name in instance.get_required_daemon_types()
    }


def materialized_partitions(instance: dg.DagsterInstance, asset: str) -> set[str]:
    """Partition keys of an asset that were materialized at least once."""
    return set(instance.get_materialized_partitions(dg.AssetKey(asset)))

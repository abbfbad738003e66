"""The checks of the processes: declared here, reported by sensor `collector_supervisor`, evaluated at once by their button in the UI.

What does not belong here: the rules (`liveness.py`), reading files (`worker_facts.py`).
"""

from collections.abc import Mapping
from typing import Final

import dagster as dg

from l2_platform.assets.liveness import RULES, Limits
from l2_platform.assets.worker_facts import MANAGER, judge_manager, look
from l2_platform.assets.workers import MANAGER_KEY, Worker, check_metadata, severity_of
from l2_platform.clock import Clock
from l2_platform.operations.intents import read_intents
from l2_platform.settings import Settings

ALIVE: Final = "alive"


def limits_of(settings: Settings) -> Limits:
    """What the rules compare with."""
    supervision = settings.supervision
    return Limits(supervision.hung_s, supervision.spec_s, supervision.lag_s_max)


def build_worker_checks(workers: list[Worker], settings: Settings, clock: Clock) -> list[dg.AssetChecksDefinition]:
    """`alive` for each process; `spec_applied`, `lag` and `gaps` too for collectors and deliveries."""
    found = [
        _check(worker, name, description, workers, settings, clock)
        for worker in workers
        for name, description in _descriptions(worker, settings).items()
        if worker.follows or name == ALIVE
    ]
    return [*found, _manager_check(settings)]


def _descriptions(worker: Worker, settings: Settings) -> Mapping[str, str]:
    limits = limits_of(settings)
    behind = "The disk takes every byte at once." if worker.is_collector else f"At most {limits.lag_s_max:g} s behind the journal."
    return {
        ALIVE: f"Process {worker.name} exists, beats (≤ {limits.hung_s:g} s), holds its lease and can do its work.",
        "spec_applied": f"Does what its desired state says; a change is applied within {limits.spec_s:g} s.",
        "lag": behind,
        "gaps": "No gap is open: what the feed sends while the session is open is received.",
    }


def _check(
    worker: Worker, name: str, description: str, workers: list[Worker], settings: Settings, clock: Clock
) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=worker.asset_key, name=name, description=description)
    def evaluate() -> dg.AssetCheckResult:
        now_ns = clock.now_ns()
        facts = look(settings, workers, read_intents(settings), now_ns)
        verdict = RULES[name](facts.specs[worker.name], facts.pulses[worker.name], limits_of(settings), now_ns)
        return dg.AssetCheckResult(
            passed=verdict.passed, description=verdict.message, severity=severity_of(verdict),
            metadata=check_metadata(worker.name, verdict),
        )  # fmt: skip

    return evaluate


def _manager_check(settings: Settings) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=MANAGER_KEY, name=ALIVE, description="The process manager answers on its socket within a second.")
    def evaluate() -> dg.AssetCheckResult:
        verdict = judge_manager(settings)
        return dg.AssetCheckResult(
            passed=verdict.passed, description=verdict.message, severity=severity_of(verdict),
            metadata=check_metadata(MANAGER, verdict),
        )  # fmt: skip

    return evaluate

"""Everything that is known of the processes at one moment, read from files.

One look writes the desired states that changed and reads heartbeats, leases and crash loops. It starts nothing and asks nothing over a
network; the process manager is asked over its socket whether it answers. What does not belong here: judging (`liveness.py`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from l2_platform.assets.liveness import PENDING_S, Pulse, Spec, Verdict, pulse_of
from l2_platform.assets.workers import Worker
from l2_platform.monitoring.desired import DesiredState
from l2_platform.monitoring.heartbeat import is_held, read_heartbeat
from l2_platform.operations.crash_loops import killed_ns, read_loop
from l2_platform.operations.intents import Intents, desired_path, is_recording_now
from l2_platform.operations.supervisord import manager_trouble
from l2_platform.settings import Settings

MANAGER: Final = "process-manager"
ENDED: Final = frozenset({"stopped", "draining"})
"""States in which a worker may have given its lease back already."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One moment."""

    specs: Mapping[str, Spec]
    pulses: Mapping[str, Pulse | None]
    manager: Verdict
    """The process manager."""


def look(settings: Settings, workers: Iterable[Worker], intents: Intents, now_ns: int) -> Facts:
    """Read everything; some milliseconds."""
    recording = {name for name, state in intents.states.items() if _records(state, now_ns)}
    resting = frozenset(
        name.removeprefix("collector-") for name in intents.states if name.startswith("collector-") and name not in recording
    )
    chosen = list(workers)
    specs = {worker.name: spec_of(settings, worker, intents, resting, now_ns) for worker in chosen}
    pulses = {worker.name: read_pulse(settings, worker.name, now_ns) for worker in chosen}
    return Facts(specs, pulses, judge_manager(settings))


def spec_of(settings: Settings, worker: Worker, intents: Intents, resting: frozenset[str], now_ns: int) -> Spec:
    """What one worker is wanted to do."""
    state: DesiredState | None = intents.states.get(worker.name)
    loop = read_loop(settings, worker.name)
    return Spec(
        worker.name, follows=worker.follows, collects=worker.is_collector, enabled=state is None or state.enabled,
        generation=state.generation if state else 0, changed_ns=_changed_ns(settings, worker.name) if state else 0,
        recording=_records(state, now_ns), problem=intents.problems.get(worker.name, ""), resting_streams=resting,
        crashes=loop.crashes if loop else 0, held_until_ns=loop.until_ns if loop else 0,
        killed_ns=killed_ns(settings, worker.name),
    )  # fmt: skip


def read_pulse(settings: Settings, worker: str, now_ns: int) -> Pulse | None:
    """The worker's last heartbeat, and whether its lease is held."""
    record = read_heartbeat(settings.run_dir / "heartbeats" / f"{worker}.json")
    if record is None or record.state in ENDED or not record.alive():
        return pulse_of(record, now_ns)
    try:
        held = is_held(settings.run_dir / "leases" / worker)
    except OSError:
        held = True  # what cannot be read says nothing
    return pulse_of(record, now_ns, lease_held=held)


def judge_manager(settings: Settings) -> Verdict:
    """Does the process manager answer?"""
    trouble = manager_trouble(settings)
    if not trouble:
        return Verdict(True, False, "running", "supervisord answers on run/supervisord.sock.")
    what = (
        f"{trouble} What runs goes on, but nothing that dies is started again and no job can act. Run `l2 up`: it adopts what is "
        "left (a stop and a start of every process, a gap of some seconds). Log: logs/supervisord.log."
    )
    return Verdict(False, True, "dead", what)


def _records(state: DesiredState | None, now_ns: int) -> bool:
    """Recording is wanted now and was a moment ago: a collector has time to connect when its session opens."""
    return is_recording_now(state, now_ns) and is_recording_now(state, now_ns - int(PENDING_S * 1e9))


def _changed_ns(settings: Settings, worker: str) -> int:
    try:
        return desired_path(settings, worker).stat().st_mtime_ns
    except OSError:
        return 0

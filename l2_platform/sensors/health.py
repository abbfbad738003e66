"""`worker_health`: what the heartbeats say, into the asset catalog. `decide` is pure; the sensor around it only reads files.

Check evaluations are reported on change and every five minutes, numbers once a minute: runless events stay in the event log for
good, so they are kept few. What does not belong here: acting on what is seen (job `control_workers`, supervision).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import dagster as dg

from l2_platform.assets.liveness import Pulse, Verdict, flat_numbers, judge, pulse_of
from l2_platform.assets.workers import ALIVE, Worker, check_metadata, number_metadata
from l2_platform.clock import Clock
from l2_platform.monitoring.heartbeat import read_heartbeat
from l2_platform.settings import Settings

CHECK_EVERY_NS: Final = 300 * 10**9
"""An unchanged verdict is reported again after this, ns."""
NUMBERS_EVERY_NS: Final = 60 * 10**9
"""Numbers are reported this often, ns."""
INTERVAL_S: Final = 15
"""Time between two looks, s."""
COUNTERS: Final = ("lines", "bytes", "rows", "requests")
"""Numbers of a heartbeat that only grow: their rates are reported too."""
SAME_DATA: Final = "1"
"""Data version of every number event: it is no new data, so nothing downstream becomes out of date."""


@dataclass(frozen=True, slots=True)
class CheckEvent:
    """Report the verdict of a worker."""

    worker: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class NumbersEvent:
    """Report the numbers of a worker."""

    worker: str
    numbers: Mapping[str, int | float]


def decide(
    now_ns: int, heartbeats: Mapping[str, Pulse | None], cursor: str | None, hung_s: float
) -> tuple[list[CheckEvent | NumbersEvent], str]:
    """What to report now, and the cursor for the next look; an unreadable cursor (people may edit it) counts as none."""
    before = _read_cursor(cursor)
    events: list[CheckEvent | NumbersEvent] = []
    after: dict[str, dict[str, Any]] = {}
    for worker, pulse in heartbeats.items():
        verdict = judge(worker, pulse, hung_s)
        said = [verdict.passed, verdict.state, 0 if pulse is None else pulse.pid]
        last = before.get(worker, {})
        checked, counted = _number(last, "checked"), _number(last, "counted")
        counts = last.get("counts")
        if last.get("said") != said or now_ns - checked >= CHECK_EVERY_NS or checked > now_ns:
            events.append(CheckEvent(worker, verdict))
            checked = now_ns
        fresh = pulse is not None and pulse.process_exists
        if pulse is not None and fresh and (now_ns - counted >= NUMBERS_EVERY_NS or counted > now_ns):
            numbers = flat_numbers(pulse, now_ns)
            events.append(NumbersEvent(worker, numbers | _rates(numbers, counts, now_ns - counted)))
            counted, counts = now_ns, {name: numbers[name] for name in ("pid", *COUNTERS) if name in numbers}
        after[worker] = {"said": said, "checked": checked, "counted": counted, "counts": counts}
    return events, json.dumps(after, separators=(",", ":"))


def _read_cursor(cursor: str | None) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(cursor or "{}")
    except ValueError:
        return {}
    return {name: item for name, item in found.items() if isinstance(item, dict)} if isinstance(found, dict) else {}


def _rates(numbers: Mapping[str, float], before: Any, elapsed_ns: int) -> dict[str, float]:
    """`lines_per_s` and so on since the last report of the same process."""
    if not isinstance(before, dict) or before.get("pid") != numbers.get("pid") or elapsed_ns <= 0:
        return {}
    grown = {
        name: numbers[name] - before[name] for name in COUNTERS if name in numbers and isinstance(before.get(name), int)
    }
    return {f"{name}_per_s": round(count * 1e9 / elapsed_ns, 1) for name, count in grown.items() if count >= 0}


def _number(item: Mapping[str, Any], name: str) -> int:
    value = item.get(name, 0)
    return value if isinstance(value, int) else 0


def read_pulses(settings: Settings, workers: list[Worker], now_ns: int) -> dict[str, Pulse | None]:
    """The pulse of every worker, by its name."""
    folder = settings.run_dir / "heartbeats"
    return {worker.name: pulse_of(read_heartbeat(folder / f"{worker.name}.json"), now_ns) for worker in workers}


def build_worker_health(settings: Settings, workers: list[Worker], clock: Clock) -> dg.SensorDefinition:
    """The sensor; runs as soon as the code location is loaded."""
    by_name = {worker.name: worker for worker in workers}

    @dg.sensor(
        name="worker_health",
        description="Reads every worker's heartbeat file and reports `alive` checks and numbers to the catalog; starts nothing.",
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def worker_health(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        now_ns = clock.now_ns()
        pulses = read_pulses(settings, workers, now_ns)
        events, cursor = decide(now_ns, pulses, context.cursor, settings.supervision.hung_s)
        return dg.SensorResult(
            asset_events=[_dagster_event(by_name[event.worker], event) for event in events], cursor=cursor
        )

    return worker_health


def _dagster_event(
    worker: Worker, event: CheckEvent | NumbersEvent
) -> dg.AssetCheckEvaluation | dg.AssetMaterialization:
    if isinstance(event, NumbersEvent):
        return dg.AssetMaterialization(
            worker.asset_key, metadata=number_metadata(event.numbers), tags={"dagster/data_version": SAME_DATA}
        )
    verdict = event.verdict
    return dg.AssetCheckEvaluation(
        asset_key=worker.asset_key, check_name=ALIVE, passed=verdict.passed, description=verdict.message,
        severity=dg.AssetCheckSeverity.ERROR if verdict.serious or verdict.passed else dg.AssetCheckSeverity.WARN,
        metadata=check_metadata(worker, verdict),
    )  # fmt: skip

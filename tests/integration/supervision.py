"""A home run by `l2 up`, with the sensor evaluated and its runs executed by the test instead of Dagster's daemon.

What belongs here: ticks, what they reported, the runs they asked for. What does not: what is right (the tests).
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from l2_platform.clock import SystemClock
from l2_platform.definitions import build_definitions
from l2_platform.monitoring.heartbeat import HeartbeatRecord, read_heartbeat
from l2_platform.operations.supervisord import Supervisor
from tests.integration.homes import Home

TICK_S = 0.3
"""Between two ticks here; the sensor's own is 15 s."""
QUICK = {
    "L2_DAGSTER__ENABLED": "false", "L2_SIMULATOR__SYMBOLS": "20", "L2_SIMULATOR__RATE": "400", "L2_DISK__RESERVE_BYTES": "1000000",
    "L2_SIMULATOR__LEDGER_BYTES_MAX": str(1 << 32), "L2_JSONL__L2_INTERVAL_MS": "0", "L2_DELIVERY__CHECKPOINT_S": "1",
    "L2_SUPERVISION__HUNG_S": "3", "L2_SUPERVISION__SPEC_S": "2", "L2_SUPERVISION__CRASH_STARTS_MAX": "3",
    "L2_SUPERVISION__CRASH_S": "8", "L2_SUPERVISION__CRASH_FIRST_S": "3",
}  # fmt: skip
"""Settings that make a test short."""
RECORDING_ONLY = {"L2_JSONL__ENABLED": "false", "L2_CLICKHOUSE__ENABLED": "false"}
"""No sinks: collectors, sealer and market are up in seconds."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One check evaluation."""

    at: float
    asset: str
    check: str
    passed: bool
    error: bool
    state: str
    message: str


@dataclass
class Supervised:
    """One instance under supervision."""

    home: Home
    instance: dg.DagsterInstance
    cursor: str | None = None
    history: list[Seen] = field(default_factory=list)
    requests: list[dg.RunRequest] = field(default_factory=list)
    runs: list[bool] = field(default_factory=list)
    """Of each request whether its run succeeded."""

    def __post_init__(self) -> None:
        self.settings = self.home.settings
        self.definitions = build_definitions(self.settings)
        self._sensor = next(item for item in self.definitions.sensors or [] if item.name == "collector_supervisor")

    def tick(self) -> None:
        """One tick: keep what it reports, execute what it asks for."""
        assert isinstance(self._sensor, dg.SensorDefinition)
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
            result = self._sensor.evaluate_tick(context)
        self.cursor = result.cursor
        for event in result.asset_events:
            if isinstance(event, dg.AssetCheckEvaluation):
                error = not event.passed and event.severity is dg.AssetCheckSeverity.ERROR
                self.history.append(
                    Seen(time.monotonic(), event.asset_key.to_user_string(), event.check_name, event.passed, error,
                         str(event.metadata["state"].value), event.description or "")
                )  # fmt: skip
        for request in result.run_requests or []:
            self.requests.append(request)
            self.runs.append(self.run_job("control_collector", request.run_config))

    def run_job(self, name: str, config: Any) -> bool:
        """Execute a job in this process; whether it succeeded."""
        job = next(item for item in self.definitions.jobs or [] if item.name == name)
        assert isinstance(job, dg.JobDefinition)
        resources = {"process_manager": (self.definitions.resources or {})["process_manager"]}
        return job.execute_in_process(run_config=config, instance=self.instance, raise_on_error=False, resources=resources).success

    def control(self, action: str, *workers: str) -> bool:
        """What an operator does in the launchpad."""
        return self.run_job("control_collector", {"ops": {"control": {"config": {"workers": list(workers), "action": action}}}})

    def now(self, asset: str, check: str = "alive") -> Seen | None:
        """What the catalog shows."""
        return next((seen for seen in reversed(self.history) if (seen.asset, seen.check) == (asset, check)), None)

    def shows(self, asset: str, *states: str, check: str = "alive", seconds: float = 120) -> Seen:
        """Tick until the catalog shows one of these states; what it then shows."""

        def reached() -> Seen | None:
            seen = self.now(asset, check)
            return seen if seen is not None and seen.state in states else None

        found: Seen = self.until(f"{asset} {check} {' or '.join(states)}", reached, seconds)
        return found

    def until(self, what: str, reached: Callable[[], Any], seconds: float = 120) -> Any:
        """Tick until this is true."""
        deadline = time.monotonic() + seconds
        while True:
            self.tick()
            if found := reached():
                return found
            newest = {(seen.asset, seen.check): seen for seen in self.history}
            shown = {f"{seen.asset} {seen.check}": f"{seen.state}: {seen.message}" for seen in newest.values() if not seen.passed}
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}\n{json.dumps(shown, indent=1)}"
            time.sleep(TICK_S)

    def supervisor(self) -> Supervisor:
        """The process manager."""
        return Supervisor(self.settings, SystemClock())

    def beat(self, worker: str) -> HeartbeatRecord | None:
        """Its heartbeat."""
        return read_heartbeat(self.settings.run_dir / "heartbeats" / f"{worker}.json")

    def pid(self, worker: str) -> int:
        """The process that beats."""
        beat = self.beat(worker)
        assert beat is not None
        return beat.pid

    def signal(self, worker: str, number: int) -> int:
        """Send a signal to the process that beats; its pid."""
        pid = self.pid(worker)
        os.kill(pid, number)
        return pid

    def all_well(self, seconds: float = 120) -> None:
        """Tick until no check of any worker fails."""

        def well() -> bool:
            newest = {(seen.asset, seen.check): seen for seen in self.history}
            return all(seen.passed for seen in newest.values())

        self.until("every check passes", well, seconds)


@contextmanager
def supervised(folder: Path, numba_cache: Path, **variables: str) -> Iterator[Supervised]:
    """An instance that is up; everything is ended when the block ends."""
    home = Home(folder, numba_cache, QUICK | variables)
    home.ok("up", timeout=400)
    try:
        with dg.DagsterInstance.ephemeral() as instance:
            yield Supervised(home, instance)
    finally:
        home.run("down")

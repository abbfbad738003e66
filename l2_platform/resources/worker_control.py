"""Start, stop, restart one worker, and see that it happened; knows no Dagster.

Level-triggered where it can be: a collector or delivery is stopped by its desired state (it goes to standby and stays there over
restarts of anything), other processes by the process manager. What does not belong here: which workers there are, when to act.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from l2_platform.clock import Clock
from l2_platform.errors import L2Error
from l2_platform.monitoring.desired import DesiredState, read_desired
from l2_platform.monitoring.heartbeat import HeartbeatRecord, read_heartbeat
from l2_platform.operations.crash_loops import clear_loop
from l2_platform.operations.intents import desired_path, refresh_intents, set_enabled
from l2_platform.operations.supervisord import Process, Supervisor
from l2_platform.settings import Settings

STARTED_STATES: Final = frozenset({"live", "syncing", "standby", "degraded", "suspect", "running", "idle", "ok"})
"""A worker in one of these has started; whether its peer answers is another question."""
REST_STATES: Final = frozenset({"standby", "stopped"})
FRESH_S: Final = 5.0
"""A heartbeat that proves something is at most this old, s."""
STANDBY_NS: Final = 3 * 10**9
"""A started worker that still stands by after this does so because its session is closed, ns."""
LOOK_S: Final = 0.2
APPLY_S = 10.0
"""Time that a worker gets to apply its desired state live, before a roll restarts it, s."""
START_S = 30.0
"""Time to start, s; with the longest stop (60 s) it stays under the run's limit of 120 s."""


class Action(Enum):
    """What can be asked for; the names, in lower case, are what a person types in the run config."""

    start = "start"
    stop = "stop"
    restart = "restart"
    clear = "clear"
    """End a crash loop: a fresh process, counted anew."""
    roll = "roll"
    """Take over the desired state: live within seconds, else by a fresh process."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A worker as it is."""

    heartbeat: HeartbeatRecord | None
    process: Process | None
    now_ns: int

    @property
    def beats(self) -> bool:
        """A fresh heartbeat of a living process."""
        beat = self.heartbeat
        return beat is not None and beat.alive() and beat.age_s(self.now_ns) <= FRESH_S

    def __str__(self) -> str:
        process = (
            "not known to the process manager"
            if self.process is None
            else f"{self.process.state}, pid {self.process.pid}"
        )
        if self.heartbeat is None:
            return f"process {process}; no heartbeat"
        beat = self.heartbeat
        return (
            f"process {process}; heartbeat of pid {beat.pid}: state {beat.state}, generation {beat.generation}, "
            f"{beat.age_s(self.now_ns):.1f} s old"
        )


class WorkerControl:
    """Acts on one worker at a time; every call returns what was seen at the end, or raises L2Error."""

    def __init__(self, settings: Settings, supervisor: Supervisor, clock: Clock) -> None:
        self._settings = settings
        self._supervisor = supervisor
        self._clock = clock

    def act(self, worker: str, action: Action, *, follows: bool, supervised: bool = False) -> Seen:
        """Do it and wait until it is seen; no harm when it was so already.

        `follows`: the worker obeys a desired state by itself. `supervised`: nobody asked, so whether it is wanted stays as it is.
        """
        if worker not in self._supervisor.processes():
            raise L2Error(
                f"{worker}: the process manager has no such program; `l2 down` and `l2 up` take over changed settings"
            )
        if action is Action.stop:
            self._enable(worker, enabled=False)
            clear_loop(self._settings, worker)
            return self._stand_by(worker) if follows else self._end(worker)
        if not supervised:
            self._enable(worker, enabled=True)
            clear_loop(self._settings, worker)
        if action is Action.roll and self._applied_live(worker):
            return self.look(worker)
        if action is not Action.start:
            self._end(worker)
        return self._start(worker, follows=follows)

    def is_stale(self, worker: str, generation: int) -> bool:
        """A request that was made for this generation (0: none) came too late: the intent changed meanwhile."""
        desired = self._desired(worker)
        return (desired.generation, desired.enabled) != (generation, True) if desired else generation != 0

    def look(self, worker: str) -> Seen:
        """The worker now."""
        heartbeat = read_heartbeat(self._settings.run_dir / "heartbeats" / f"{worker}.json")
        return Seen(heartbeat, self._supervisor.processes().get(worker), self._clock.now_ns())

    def _start(self, worker: str, *, follows: bool) -> Seen:
        desired = self._desired(worker) if follows else None
        generation = desired.generation if desired else None
        self._supervisor.start(worker)
        standing_by: list[int] = []

        def started(seen: Seen) -> bool:
            beat, process = seen.heartbeat, seen.process
            if beat is None or process is None or not seen.beats or beat.pid != process.pid:
                return False
            if beat.state not in STARTED_STATES or (generation is not None and beat.generation != generation):
                return False
            # An enabled worker echoes the intent an instant before it works; outside its session a collector stays in standby.
            standing_by.append(seen.now_ns)
            return beat.state != "standby" or seen.now_ns - standing_by[0] >= STANDBY_NS

        return self._wait(worker, "start", started)

    def _stand_by(self, worker: str) -> Seen:
        desired = self._desired(worker)
        generation = desired.generation if desired else 0

        def rests(seen: Seen) -> bool:
            beat = seen.heartbeat
            if beat is None or not beat.alive():
                return True
            return seen.beats and beat.state in REST_STATES and int(beat.generation or 0) >= generation

        return self._wait(worker, "stop", rests)

    def _end(self, worker: str) -> Seen:
        self._supervisor.stop(worker)

        def gone(seen: Seen) -> bool:
            stopped = seen.process is None or (not seen.process.running and seen.process.state != "STOPPING")
            return stopped and (seen.heartbeat is None or not seen.heartbeat.alive())

        return self._wait(worker, "stop", gone)

    def _applied_live(self, worker: str) -> bool:
        """The desired state, derived anew, is applied without a restart."""
        refresh_intents(self._settings, self._clock.now_ns())
        desired = self._desired(worker)
        deadline = self._clock.monotonic_ns() + int(APPLY_S * 1e9)
        while desired is not None and self._clock.monotonic_ns() < deadline:
            seen = self.look(worker)
            if seen.beats and seen.heartbeat is not None and seen.heartbeat.generation == desired.generation:
                return True
            self._clock.sleep(LOOK_S)
        return False

    def _enable(self, worker: str, *, enabled: bool) -> None:
        desired = self._desired(worker)
        if (desired.enabled if desired else True) != enabled:
            set_enabled(self._settings, worker, enabled=enabled, now_ns=self._clock.now_ns())

    def _desired(self, worker: str) -> DesiredState | None:
        return read_desired(desired_path(self._settings, worker))

    def _wait(self, worker: str, what: str, reached: Callable[[Seen], bool]) -> Seen:
        limit_s = self._settings.supervision.stop_s if what == "stop" else START_S
        deadline = self._clock.monotonic_ns() + int(limit_s * 1e9)
        while True:
            seen = self.look(worker)
            if reached(seen):
                return seen
            if self._clock.monotonic_ns() > deadline:
                raise L2Error(
                    f"{worker}: {what} was asked for and not seen within {limit_s:g} s. Seen: {seen}. "
                    f"Read {self._settings.log_dir / (worker + '.log')}, then try action restart."
                )
            self._clock.sleep(LOOK_S)

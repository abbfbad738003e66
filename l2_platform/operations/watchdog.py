"""`python -m l2_platform.operations.watchdog`: kills hung workers, holds back crash loops, gives up what the disk has no room for.

A worker whose process lives while its heartbeat is older than `supervision.hung_s` is hung: SIGKILL, and the process manager
starts it again. How old it is, is measured by time that never steps: a clock that is set must not kill every worker at once, nor
keep a hung one alive. What does not belong here: restarting (process manager), alarms (sensors).
"""

import os
import signal
import sys
from collections.abc import Mapping

from l2_platform.clock import Clock, SystemClock
from l2_platform.errors import L2Error
from l2_platform.monitoring.heartbeat import Heartbeat, HeartbeatRecord, Lease, read_heartbeat
from l2_platform.monitoring.logs import configure_logging, get_logger
from l2_platform.operations import crash_loops, disk
from l2_platform.operations.crash_loops import CrashLoop, CrashWatch, Step
from l2_platform.operations.disk import DiskRecord, DiskState
from l2_platform.operations.kernels import WARM_S_MAX
from l2_platform.operations.plan import Health, Part, plan_parts
from l2_platform.operations.supervisord import Process, Supervisor
from l2_platform.settings import Settings, SupervisionSettings, load_settings

LOOK_S = 1.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
"""Unit of a process's start time, which counts from the start of the machine as monotonic time does."""


def hung_pid(
    part: Part,
    process: Process | None,
    heartbeat: HeartbeatRecord | None,
    silent_s: float,
    up_s: float,
    supervision: SupervisionSettings,
) -> int | None:
    """The pid to kill, or None; pid and process start time of the heartbeat are those of the living process.

    `silent_s`: for how long this heartbeat has been the newest, `up_s`: how long the process has run.
    """
    if part.health is not Health.HEARTBEAT and part.health is not Health.WAREHOUSE:
        return None
    if process is None or heartbeat is None or process.pid != heartbeat.pid or heartbeat.state == "stopped":
        return None
    # A worker that is getting ready may compile or recover for longer than a hung one may be silent.
    getting_ready = heartbeat.state == "syncing" and up_s < WARM_S_MAX
    limit_s = WARM_S_MAX if getting_ready else supervision.hung_s
    if silent_s <= limit_s or not heartbeat.alive():
        return None
    return heartbeat.pid


class Silences:
    """For how long each worker's newest heartbeat has been the newest, and how long its process has run: both by steady time."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[int, int, int]] = {}
        """worker → (pid, ts of the heartbeat, monotonic ns when it was first seen)."""

    def look(self, heartbeat: HeartbeatRecord | None, monotonic_ns: int) -> tuple[float, float]:
        """(silent, up) of the worker at this moment, s."""
        if heartbeat is None:
            return 0.0, 0.0
        pid, ts, since_ns = self._since.get(heartbeat.worker, (0, 0, 0))
        if (pid, ts) != (heartbeat.pid, heartbeat.ts):
            since_ns = monotonic_ns
            self._since[heartbeat.worker] = heartbeat.pid, heartbeat.ts, since_ns
        return (monotonic_ns - since_ns) / 1e9, monotonic_ns / 1e9 - heartbeat.start / _TICKS_PER_S


class Watchdog:
    """One look a second at the workers, one every `disk.check_s` at the disk."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._parts = [part for part in plan_parts(settings) if part.name != "watchdog"]
        self._supervisor = Supervisor(settings, clock)
        self._log = get_logger("watchdog")
        self._heartbeat = Heartbeat(settings.run_dir / "heartbeats" / "watchdog.json", "watchdog", clock)
        self._lease = Lease(settings.run_dir / "leases" / "watchdog")
        self._stopping = False
        self._kills = 0
        self._silences = Silences()
        self._crashes = CrashWatch(settings.supervision)
        self._disk_at_ns = 0
        record = disk.read_record(settings)
        self._disk: DiskState = record.state if record is not None else DiskState.OK
        self._given_up: set[str] = set(record.given_up) if record is not None else set()

    def run(self) -> None:
        """Until SIGTERM."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        self._lease.acquire(wait=True)
        while not self._stopping:
            try:
                processes = self._supervisor.processes()
            except L2Error as error:
                # The process manager is gone; workers go on, and so do we: the next `l2 up` adopts all of us.
                self._log.warning("process_manager_silent", error=error.message)
                processes = {}
            try:
                self.look(processes)
            except L2Error as error:
                self._log.warning("process_manager_refused", error=error.message)
            self._heartbeat.beat("live", kills=self._kills, disk=self._disk.value)
            self._clock.sleep(LOOK_S)
        self._heartbeat.beat("stopped", kills=self._kills)

    def look(self, processes: Mapping[str, Process]) -> None:
        """One round."""
        for part in self._parts:
            heartbeat = read_heartbeat(self._settings.run_dir / "heartbeats" / f"{part.name}.json")
            silent_s, up_s = self._silences.look(heartbeat, self._clock.monotonic_ns())
            pid = hung_pid(part, processes.get(part.name), heartbeat, silent_s, up_s, self._settings.supervision)
            if pid is not None:
                self._kill(part, pid)
            if part.name in processes:
                self._look_for_crashes(processes[part.name])
        if self._clock.monotonic_ns() >= self._disk_at_ns and processes:
            self._disk_at_ns = self._clock.monotonic_ns() + int(self._settings.disk.check_s * 1e9)
            self._look_at_disk(processes)

    def _stop(self) -> None:
        self._stopping = True

    def _kill(self, part: Part, pid: int) -> None:
        self._log.error("hung_worker_killed", worker=part.name, pid=pid, hung_s=self._settings.supervision.hung_s)
        self._kills += 1
        try:
            os.kill(pid, signal.SIGKILL)
            crash_loops.note_kill(self._settings, part.name)
        except ProcessLookupError:
            return
        except OSError as error:
            self._log.error("kill_not_told", worker=part.name, error=str(error))

    def _look_for_crashes(self, process: Process) -> None:
        """Hold a process back that crashes again and again; try it again when the time is over; forget when it lives."""
        name, monotonic_ns = process.name, self._clock.monotonic_ns()
        before = crash_loops.read_loop(self._settings, name)
        step = self._crashes.look(process, monotonic_ns, recorded=before is not None)
        if step is Step.TRY and name not in self._given_up:
            self._log.warning("crash_loop_tried", worker=name)
            self._supervisor.start(name)
        elif step is Step.HEALED:
            self._log.warning("crash_loop_healed", worker=name)
            crash_loops.clear_loop(self._settings, name)
        elif step is Step.HOLD:
            crashes = self._crashes.crashes(name) + (before.crashes if before else 0)
            self._supervisor.stop(name)
            hold_s, now_ns = self._crashes.held(process, monotonic_ns), self._clock.now_ns()
            self._log.error("crash_loop", worker=name, crashes=crashes, hold_s=hold_s)
            loop = CrashLoop(name, crashes, before.since_ns if before else now_ns, now_ns + int(hold_s * 1e9))
            try:
                crash_loops.write_loop(self._settings, loop)
            except OSError as error:
                self._log.error("crash_loop_not_told", error=str(error))

    def _look_at_disk(self, processes: Mapping[str, Process]) -> None:
        """Stop what there is no room for, start what there is room for again. Looked at anew each time: others start parts, too."""
        free = disk.free_bytes(self._settings.journal_dir)
        state = disk.next_state(self._disk, free, self._settings.disk.reserve_bytes)
        running = {name for name, process in processes.items() if process.running}
        stopping = [name for name in disk.not_wanted(state, self._parts) if name in running]
        starting = disk.to_start(self._given_up, state, self._parts)
        if state is self._disk and not stopping and not starting:
            return
        self._log.warning(
            "disk_state", before=self._disk.value, now=state.value, free_bytes=free, stops=stopping, starts=starting
        )
        self._given_up = self._given_up.difference(starting).union(stopping)
        self._disk = state
        record = DiskRecord(state, free, self._clock.now_ns(), tuple(sorted(self._given_up)))
        try:
            disk.write_record(self._settings, record)
        except OSError as error:
            self._log.error("disk_state_not_written", error=str(error))
        self._stop_in_order(stopping)
        for name in starting:
            self._supervisor.start(name)

    def _stop_in_order(self, names: list[str]) -> None:
        """Each phase has ended before the next is told: deliveries finish while there is a warehouse."""
        phases = {part.name: part.phase for part in self._parts}
        for phase in dict.fromkeys(phases[name] for name in names):
            wave = [name for name in names if phases[name] is phase]
            for name in wave:
                self._supervisor.stop(name)
            for name in self._supervisor.wait_stopped(wave, self._settings.supervision.stop_s):
                self._supervisor.kill(name)


def main() -> int:
    """Run the watchdog in this process; the exit code."""
    try:
        settings = load_settings()
        configure_logging("watchdog", settings.log)
        Watchdog(settings, SystemClock()).run()
    except L2Error as error:
        sys.stderr.write(f"error: {error.message}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

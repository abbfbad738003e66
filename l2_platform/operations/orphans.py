"""Processes of this instance that outlived their process manager, and how they are stopped.

Every child of supervisord carries the address of its socket in its environment: that, and not a name or a pid file, says
whose it is. A worker that a person started by hand has no such mark and is left alone.
"""

import os
from collections.abc import Callable

import psutil

from l2_platform.clock import Clock
from l2_platform.monitoring.heartbeat import read_heartbeat
from l2_platform.operations.plan import STOP_ORDER, Health, plan_parts
from l2_platform.operations.supervisord import socket_path
from l2_platform.settings import Settings


def find_orphans(settings: Settings) -> dict[str, psutil.Process]:
    """Part name → process, for children of a supervisord of this instance that is gone; call it only when none answers."""
    mark = f"unix://{socket_path(settings)}"
    found: dict[str, psutil.Process] = {}
    marked: dict[int, tuple[str, psutil.Process]] = {}
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            environment = process.environ()
            if environment.get("SUPERVISOR_SERVER_URL") == mark and process.status() != psutil.STATUS_ZOMBIE:
                marked[process.pid] = (environment.get("SUPERVISOR_PROCESS_NAME", "unknown"), process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    for name, process in marked.values():
        try:
            # children of a part (Dagster runs, for one) end with their part
            if process.ppid() not in marked:
                found[name if name not in found else f"{name}-{process.pid}"] = process
        except psutil.NoSuchProcess:
            continue
    return found


def find_started_by_hand(settings: Settings) -> dict[str, int]:
    """Worker → pid, for workers that run without the process manager; call it only when none answers and there are no orphans.

    The warehouse is left out: any command may have started one, and it ends by itself.
    """
    found = {}
    for part in plan_parts(settings):
        record = read_heartbeat(settings.run_dir / "heartbeats" / f"{part.name}.json")
        if part.health is Health.HEARTBEAT and record is not None and record.alive():
            found[part.name] = record.pid
    return found


def stop_orphans(
    orphans: dict[str, psutil.Process], clock: Clock, timeout_s: float, told: Callable[[str], None]
) -> None:
    """SIGTERM each, SIGKILL what is left after `timeout_s`; psutil checks the start time, so a reused pid is safe."""
    waiting = dict(orphans)
    for name, process in orphans.items():
        told(f"stopping {name} (pid {process.pid}), left over from a killed process manager")
        _signal(process, kill=False)
    deadline = clock.monotonic_ns() + int(timeout_s * 1e9)
    while waiting and clock.monotonic_ns() < deadline:
        waiting = {name: process for name, process in waiting.items() if process.is_running() and not _zombie(process)}
        clock.sleep(0.1)
    for name, process in waiting.items():
        told(f"killing {name} (pid {process.pid}): it did not stop within {timeout_s:.0f} s")
        _signal(process, kill=True)


def stop_orphans_in_order(
    settings: Settings, orphans: dict[str, psutil.Process], clock: Clock, told: Callable[[str], None]
) -> None:
    """The same, phase by phase as `l2 down` does it, so that the journal is drained while the warehouse still answers."""
    phases = {part.name: part.phase for part in plan_parts(settings)}
    deadline = clock.monotonic_ns() + int(settings.supervision.stop_s * 1e9)
    for phase in STOP_ORDER:
        chosen = {name: process for name, process in orphans.items() if phases.get(name, STOP_ORDER[0]) is phase}
        stop_orphans(chosen, clock, max(2.0, (deadline - clock.monotonic_ns()) / 1e9), told)


def _signal(process: psutil.Process, *, kill: bool) -> None:
    try:
        if kill:
            process.kill()
        else:
            process.terminate()
    except psutil.NoSuchProcess:
        return


def _zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True

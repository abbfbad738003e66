"""`l2 down`: stop everything cleanly, in the order in which nothing is lost.

Watchdog and Dagster first, then collectors (they drain their sockets into the journal), the simulated market, then deliveries
(they drain the journal into the sinks), the warehouse last.
"""

from collections.abc import Callable

from l2_platform.clock import Clock
from l2_platform.errors import L2Error, LeaseHeld
from l2_platform.monitoring.heartbeat import Lease
from l2_platform.operations.orphans import find_orphans, stop_orphans_in_order
from l2_platform.operations.plan import STOP_ORDER, plan_parts
from l2_platform.operations.supervisord import Supervisor
from l2_platform.settings import Settings

TOTAL_S = 56.0
"""All of `l2 down`; what has not stopped by then is killed, s."""
LATER_S = 8.0
"""Of that, kept for the phases after the one that is being stopped, s."""


def down(settings: Settings, clock: Clock, told: Callable[[str], None]) -> list[str]:
    """Stop everything; the names of the parts that were stopped, [] when nothing ran."""
    supervisor = Supervisor(settings, clock)
    if not settings.run_dir.is_dir():
        return []
    lease = Lease(settings.run_dir / "leases" / "up")
    try:
        lease.acquire(wait=False)
    except LeaseHeld:
        raise LeaseHeld("another `l2 up` or `l2 down` is at work on this home; wait until it ends") from None
    try:
        if supervisor.answers():
            return _stop_managed(supervisor, settings, clock, told)
        orphans = find_orphans(settings)
        stop_orphans_in_order(settings, orphans, clock, told)
        return list(orphans)
    finally:
        lease.release()


def _stop_managed(supervisor: Supervisor, settings: Settings, clock: Clock, told: Callable[[str], None]) -> list[str]:
    deadline = clock.monotonic_ns() + int(TOTAL_S * 1e9)
    processes = supervisor.processes()
    phases = {part.name: part.phase for part in plan_parts(settings)}
    stopped: list[str] = []
    for phase in STOP_ORDER:
        # a program of an earlier plan (other settings) has no phase here: it goes with the first
        names = [
            name for name, process in processes.items() if process.running and phases.get(name, STOP_ORDER[0]) is phase
        ]
        if names:
            told(f"stopping {', '.join(names)}")
            _stop_phase(supervisor, names, settings.supervision.stop_s, deadline, clock, told)
            stopped += names
    supervisor.shut_down()
    while supervisor.answers():
        if clock.monotonic_ns() > deadline + int(5e9):
            raise L2Error(f"the process manager (pid {supervisor.pid()}) does not end; kill it by hand")
        clock.sleep(0.1)
    return stopped


def _stop_phase(
    supervisor: Supervisor, names: list[str], stop_s: float, deadline_ns: int, clock: Clock, told: Callable[[str], None]
) -> None:
    for name in names:
        supervisor.stop(name)
    left_s = max(1.0, (deadline_ns - clock.monotonic_ns()) / 1e9 - LATER_S)
    for name in supervisor.wait_stopped(names, min(stop_s, left_s)):
        told(f"killing {name}: it did not stop in time")
        supervisor.kill(name)
    supervisor.wait_stopped(names, 2.0)

"""`l2 run`: everything as one process in the foreground, for systemd and containers.

`l2 up`, then a look a second: a process manager that died is brought back (what it left alive is stopped in order first), the service
manager is told `READY=1`, how it goes, and that this process lives; SIGTERM and SIGINT are `l2 down`. What does not belong here: what
is started and how it is judged (`up.py`, `health.py`).
"""

import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence

import psutil

from l2_platform.clock import Clock
from l2_platform.errors import L2Error, LeaseHeld
from l2_platform.operations.down import down
from l2_platform.operations.health import Vitals
from l2_platform.operations.supervisord import manager_trouble
from l2_platform.operations.up import Reporter, up
from l2_platform.settings import Settings

NOTIFY_VARIABLE = "NOTIFY_SOCKET"
"""Where systemd listens (sd_notify(3)); a name that begins with @ lies in the abstract namespace."""


class ServiceManager:
    """Who started this process and wants to hear of it: systemd, or nobody."""

    def __init__(self, address: str | None = None) -> None:
        """`address`: of its datagram socket; by default what the environment names, removed from it: no child is to answer."""
        named = os.environ.pop(NOTIFY_VARIABLE, "") if address is None else address
        self._address = "\0" + named[1:] if named.startswith("@") else named

    def tell(self, *words: str) -> None:
        """Send assignments such as READY=1; nothing happens when nobody listens."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as out:
            try:
                out.sendto("\n".join(words).encode(), self._address)
            except OSError:
                # a service manager that is gone or busy is no reason to stop recording
                return


class _Ended(Exception):
    """Asked to end while starting."""


class _Interruptible:
    """A reporter through which a start that is not wanted any more ends."""

    def __init__(self, reporter: Reporter, ended: threading.Event) -> None:
        self._reporter, self._ended = reporter, ended

    def step(self, text: str) -> None:
        """A new step begins."""
        self._stop()
        self._reporter.step(text)

    def waiting(self, vitals: Sequence[Vitals]) -> None:
        """State of every part while waiting."""
        self._stop()
        self._reporter.waiting(vitals)

    def _stop(self) -> None:
        if self._ended.is_set():
            raise _Ended


def run(
    settings: Settings, clock: Clock, reporter: Reporter, ended: threading.Event, told: Callable[[str], None],
    manager: ServiceManager | None = None,
) -> None:  # fmt: skip
    """Bring everything up, keep the process manager alive until `ended` is set, then bring everything down.

    L2Error when it does not come up, or when the process manager was away more often in a row than `supervision.revivals_max`: then
    the rest is brought down, and whoever started this process starts it again. LeaseHeld when the home is run by another: nothing of
    that is touched.
    """
    manager = manager or ServiceManager()
    if not manager_trouble(settings):
        raise LeaseHeld("everything runs already, started by `l2 up`; `l2 down` ends it")
    interruptible = _Interruptible(reporter, ended)
    ours = True
    try:
        up(settings, clock, interruptible)
        manager.tell("READY=1", "STATUS=everything is up")
        _keep(settings, clock, interruptible, ended, told, manager)
    except LeaseHeld:
        ours = False
        raise
    except _Ended:
        told("asked to end while starting")
    finally:
        if ours:
            manager.tell("STOPPING=1", "STATUS=draining")
            down(settings, clock, told)


def _keep(
    settings: Settings, clock: Clock, reporter: Reporter, ended: threading.Event, told: Callable[[str], None],
    manager: ServiceManager,
) -> None:  # fmt: skip
    limits = settings.supervision
    revivals, revived_ns, silent_ns = 0, clock.monotonic_ns(), 0
    while not ended.wait(limits.heartbeat_s):
        manager.tell("WATCHDOG=1")
        trouble, now = manager_trouble(settings), clock.monotonic_ns()
        if not trouble:
            revivals, silent_ns = (0 if now - revived_ns > limits.crash_s * 1e9 else revivals), 0
            continue
        silent_ns = silent_ns or now
        if (pid := _pid_alive(settings)) is not None:
            if now - silent_ns < limits.hung_s * 1e9:
                continue
            # it hangs: its children live on without it, and are stopped in order by the start that follows
            os.kill(pid, signal.SIGKILL)
        revivals += 1
        if revivals > limits.revivals_max:
            raise L2Error(f"{trouble} It was brought back {limits.revivals_max} times in a row: look at logs/supervisord.log")
        told(f"{trouble} Bringing everything back ({revivals} of at most {limits.revivals_max} times in a row).")
        manager.tell(f"STATUS={trouble}")
        up(settings, clock, reporter)
        manager.tell("STATUS=everything is up again")
        revived_ns, silent_ns = clock.monotonic_ns(), 0


def _pid_alive(settings: Settings) -> int | None:
    """Pid of the process manager when there is such a process, else None."""
    try:
        pid = int((settings.run_dir / "supervisord.pid").read_text())
        return pid if "supervisor" in " ".join(psutil.Process(pid).cmdline()) else None
    except (OSError, ValueError, psutil.Error):
        return None

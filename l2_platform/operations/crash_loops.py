"""Crash loops: a process that ends by itself again and again, soon after each start. The watchdog holds it back, longer each time.

The process manager starts a process again at once and for ever; that is right for one death and wrong for a loop, which only burns
the machine and fills the log. Judged from outside, by starts and pids, so that also what fails before its first heartbeat counts.
`run/crashloops/<process>.json` tells people and sensors; deleting it (action `clear`) ends the holding back. What does not belong
here: hangs (`watchdog.py`), stopping and starting.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path

from l2_platform.monitoring.atomic import write_atomic
from l2_platform.operations.supervisord import Process
from l2_platform.settings import Settings, SupervisionSettings

NS = 1_000_000_000
ASKED = frozenset({"STOPPED", "STOPPING"})
"""States of the process manager after somebody asked for the end."""


@dataclass(frozen=True, slots=True)
class CrashLoop:
    """One process that is held back."""

    worker: str
    crashes: int
    """Ends in a row, each soon after the start."""
    since_ns: int
    """When it was first held back, ns UTC."""
    until_ns: int
    """When it is tried again, ns UTC; past while it is on trial."""


class Step(Enum):
    """What to do with a process."""

    HOLD = "hold"
    """Stop it: it crashed too often."""
    TRY = "try"
    """Start it: it was held back long enough."""
    HEALED = "healed"
    """Forget: it has lived long enough."""


@dataclass(slots=True)
class _Life:
    started_s: int = 0
    pid: int = 0
    seen_ns: int = 0
    crashes: int = 0
    holds: int = 0
    held_until_ns: int | None = None
    """Steady time; None when it is not held back."""
    on_trial: bool = False


@dataclass(slots=True)
class CrashWatch:
    """Counts the short lives of every process; time is steady, ns."""

    limits: SupervisionSettings
    _lives: dict[str, _Life] = field(default_factory=dict)

    def look(self, process: Process, monotonic_ns: int, *, recorded: bool) -> Step | None:
        """What to do about a process as it is now; `recorded`: its file is there."""
        life = self._lives.setdefault(process.name, _Life())
        if life.held_until_ns is not None or life.on_trial:
            if not recorded:
                # somebody cleared it
                self._lives[process.name] = life = _Life()
            elif life.held_until_ns is not None and process.state == "STOPPING":
                return None  # it is ending, as it was told; taken for a start by hand it would never be tried again
            elif life.held_until_ns is not None and not process.running:
                if monotonic_ns < life.held_until_ns:
                    return None
                life.held_until_ns, life.on_trial = None, True
                life.started_s, life.seen_ns = process.started_s, monotonic_ns
                return Step.TRY
        elif recorded and not life.seen_ns:
            # told by a watchdog before this one: on trial from now on
            life.on_trial, life.holds = True, 1
        return self._judge(life, process, monotonic_ns)

    def _judge(self, life: _Life, process: Process, monotonic_ns: int) -> Step | None:
        ended = life.pid != 0 and life.pid != process.pid
        again = life.seen_ns != 0 and process.started_s != life.started_s
        lived_ns = monotonic_ns - life.seen_ns
        short = lived_ns < self.limits.crash_s * NS
        if process.state in ASKED:
            life.crashes = 0
        elif (ended or (again and life.pid == 0 and not process.running)) and short:
            life.crashes += 1
        if life.seen_ns == 0 or again:
            life.started_s, life.seen_ns = process.started_s, monotonic_ns
            short = True
        life.pid = process.pid
        if process.running:
            life.on_trial = life.on_trial or life.held_until_ns is not None
            life.held_until_ns = None
        if life.crashes >= (1 if life.on_trial else self.limits.crash_starts_max):
            return Step.HOLD
        if process.running and not short:
            life.crashes = life.holds = 0
            if life.on_trial:
                life.on_trial = False
                return Step.HEALED
        return None

    def held(self, process: Process, monotonic_ns: int) -> float:
        """It was stopped for its crashes: held back from now on; for how long, s."""
        life = self._lives.setdefault(process.name, _Life())
        hold_s: float = min(self.limits.crash_first_s * 2.0**life.holds, self.limits.crash_cap_s)
        life.holds += 1
        life.held_until_ns = monotonic_ns + int(hold_s * NS)
        life.crashes, life.pid, life.on_trial = 0, 0, False
        return hold_s

    def crashes(self, name: str) -> int:
        """How often it has crashed in a row."""
        return self._lives[name].crashes if name in self._lives else 0


def record_path(settings: Settings, worker: str) -> Path:
    """Where a loop is told."""
    return settings.run_dir / "crashloops" / f"{worker}.json"


def write_loop(settings: Settings, loop: CrashLoop) -> None:
    """Tell of a loop; OSError on a full disk."""
    write_atomic(record_path(settings, loop.worker), json.dumps(asdict(loop)).encode(), sync=False)


def read_loop(settings: Settings, worker: str) -> CrashLoop | None:
    """The loop of a process, None when it is in none or the file cannot be read."""
    try:
        fields: Mapping[str, object] = json.loads(record_path(settings, worker).read_bytes())
        numbers = (int(str(fields[name])) for name in ("crashes", "since_ns", "until_ns"))
        return CrashLoop(str(fields["worker"]), *numbers)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note_kill(settings: Settings, worker: str) -> None:
    """The watchdog killed it for a hang now: the file's time says when. OSError on a full disk."""
    path = settings.run_dir / "kills" / worker
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def killed_ns(settings: Settings, worker: str) -> int:
    """When the watchdog last killed it for a hang, ns UTC; 0 when it never did."""
    try:
        return (settings.run_dir / "kills" / worker).stat().st_mtime_ns
    except OSError:
        return 0


def clear_loop(settings: Settings, worker: str) -> None:
    """End the holding back; whoever clears it starts the process."""
    record_path(settings, worker).unlink(missing_ok=True)

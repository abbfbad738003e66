"""Is a worker alive? One pure rule over its last heartbeat, used by the sensor, the check's re-run button and job `control_workers`.

What does not belong here: reading files (`monitoring/heartbeat.py`), Dagster.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from l2_platform.monitoring.heartbeat import HeartbeatRecord

ROUNDING: Final = 3
NO_MEASURE: Final = frozenset({"session_date"})
"""Numbers that are names: a plot of them says nothing."""
LIVE_FOR_ERRORS: Final = frozenset({"degraded", "suspect"})
"""States of a worker that runs and cannot do its work."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """A heartbeat as it looks at one moment."""

    state: str
    pid: int
    process_exists: bool
    """The process that wrote it (pid and start time) still exists."""
    age_s: float
    generation: int
    """Generation of the desired state that the worker has applied."""
    numbers: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer, for people."""

    passed: bool
    serious: bool
    """An ERROR when it did not pass; else a warning."""
    state: str
    """One or two words."""
    message: str
    """What was seen, and what to do."""


def pulse_of(record: HeartbeatRecord | None, now_ns: int) -> Pulse | None:
    """The pulse of a heartbeat file's record; None when none was ever written."""
    if record is None:
        return None
    return Pulse(
        record.state, record.pid, record.alive(), max(0.0, record.age_s(now_ns)), int(record.generation or 0),
        dict(record.numbers),
    )  # fmt: skip


def judge(worker: str, pulse: Pulse | None, hung_s: float) -> Verdict:
    """Judge one worker; `hung_s` is the age at which a heartbeat is too old, s."""
    restart = f"job control_workers, action restart, worker {worker}"
    log = f"logs/{worker}.log"
    if pulse is None:
        what = f"No heartbeat was ever written. Start it: job control_workers, action start, worker {worker}, or `l2 up`. Log: {log}."
        return Verdict(False, True, "never started", what)
    seen = f"pid {pulse.pid}, last heartbeat {pulse.age_s:.1f} s old, last state {pulse.state}"
    if pulse.state == "stopped" and not pulse.process_exists:
        what = f"Stopped cleanly ({seen}). Start it: job control_workers, action start, worker {worker}."
        return Verdict(False, False, "stopped", what)
    if not pulse.process_exists:
        what = f"The process is gone ({seen}). The process manager restarts it within seconds; if this stays, read {log}, then: {restart}."
        return Verdict(False, True, "dead", what)
    if pulse.state == "crashloop":
        what = f"It failed again and again and waits ({seen}). Read {log}, mend the cause, then: job control_workers, action clear."
        return Verdict(False, True, "crashloop", what)
    if pulse.age_s > hung_s:
        what = f"The process exists and gives no sign of life ({seen}). The watchdog kills it; if this stays: {restart}. Log: {log}."
        return Verdict(False, True, "hung", what)
    if pulse.state in LIVE_FOR_ERRORS:
        error = str(pulse.numbers.get("error") or "no details")
        what = f"It runs and cannot do its work: {error} ({seen}). It tries again by itself; log: {log}."
        return Verdict(False, False, pulse.state, what)
    return Verdict(True, False, pulse.state, f"{pulse.state}: heartbeat {pulse.age_s:.1f} s old, pid {pulse.pid}.")


def flat_numbers(pulse: Pulse, now_ns: int) -> dict[str, int | float]:
    """Every number of a heartbeat under one flat name: `streams.iqfeed-depth-0.lag_lines`; times (`…_ns`) become ages in seconds."""
    found: dict[str, int | float] = {"heartbeat_age_s": round(pulse.age_s, ROUNDING), "pid": pulse.pid}
    _flatten("", pulse.numbers, now_ns, found)
    return found


def _flatten(prefix: str, numbers: Mapping[str, Any], now_ns: int, found: dict[str, int | float]) -> None:
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            _flatten(f"{prefix}{name}.", value, now_ns, found)
        elif isinstance(value, bool) or not isinstance(value, int | float) or name in NO_MEASURE:
            continue
        elif value > 10**18:
            # a time: its age is what a person can read and a plot can show
            found[f"{prefix}{name.removesuffix('_ns')}_age_s"] = round(max(0.0, (now_ns - value) / 1e9), ROUNDING)
        else:
            found[f"{prefix}{name}"] = round(value, ROUNDING) if isinstance(value, float) else value

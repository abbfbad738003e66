"""Is a worker alive, does it follow its desired state, is it behind, does data go missing? Pure rules over its last heartbeat.

Used by the sensor `collector_supervisor` and by the checks' re-run buttons. Every message says what was seen and what to do. What does
not belong here: reading files (`resources/worker_facts.py`), deciding what to do (`sensors/supervisor_decision.py`), Dagster.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from l2_platform.monitoring.heartbeat import HeartbeatRecord

ROUNDING: Final = 3
NO_MEASURE: Final = frozenset({"session_date"})
"""Numbers that are names: a plot of them says nothing."""
LIVE_FOR_ERRORS: Final = frozenset({"degraded", "suspect"})
"""States of a worker that runs and cannot do its work."""
NO_ROOM: Final = frozenset({"stalled", "stopped_disk"})
"""States of a collector that cannot write the journal."""
STALLED_S_MAX: Final = 5.0
"""A journal that takes nothing for longer is an error, s."""
SILENT_S_MAX: Final = 30.0
"""A link that is away for longer is an error, s."""
ATTEMPTS_MAX: Final = 3
"""A link that never was there is an error after so many attempts."""
STALE_S: Final = 8.0
"""A heartbeat (one a second) that is older is red; with ticks at most 20 s apart that shows within 30 s."""
PENDING_S: Final = 8.0
"""A worker looks at its desired state several times a second: what is not applied within this is red, s."""
KILLED_SHOWS_S: Final = 30.0
"""A hang that the watchdog ended is shown for this long, so that a tick sees it, s."""
ERROR_FACTOR: Final = 10
"""A lag of so many times the warning is an error."""


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
    lease_held: bool = True
    """Somebody holds the worker's lease."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What a worker is wanted to do, as it is known now."""

    worker: str
    follows: bool = False
    """It follows a desired state by itself and echoes its generation: a collector or a delivery."""
    collects: bool = False
    enabled: bool = True
    generation: int = 0
    """0: it has no desired state."""
    changed_ns: int = 0
    """When the desired state was last written, ns UTC."""
    recording: bool = True
    """Its session is open: it should be live."""
    problem: str = ""
    """Why its desired state could not be derived; empty when it was."""
    resting_streams: frozenset[str] = field(default_factory=frozenset)
    """Streams that are not recorded now: their gaps are meant."""
    crashes: int = 0
    """It is held back after so many crashes in a row; 0: it is not."""
    held_until_ns: int = 0
    killed_ns: int = 0
    """When the watchdog last killed it for a hang, ns UTC; 0: never."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the rules compare with, s."""

    hung_s: float = 15.0
    spec_s: float = 60.0
    lag_s_max: float = 30.0


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


Rule = Callable[[Spec, Pulse | None, Limits, int], Verdict]


def pulse_of(record: HeartbeatRecord | None, now_ns: int, *, lease_held: bool = True) -> Pulse | None:
    """The pulse of a heartbeat file's record; None when none was ever written."""
    if record is None:
        return None
    return Pulse(
        record.state, record.pid, record.alive(), max(0.0, record.age_s(now_ns)), int(record.generation or 0),
        dict(record.numbers), lease_held,
    )  # fmt: skip


def judge_alive(spec: Spec, pulse: Pulse | None, limits: Limits, now_ns: int) -> Verdict:
    """Does the process exist, beat, hold its lease, and work?"""
    worker, log = spec.worker, f"logs/{spec.worker}.log"
    if spec.crashes:
        return _crash_loop(spec, now_ns)
    if not spec.enabled and (pulse is None or pulse.state in {"stopped", "standby"} or not pulse.process_exists):
        state = "not running" if pulse is None else pulse.state
        what = f"Stopped on purpose ({state}); nothing starts it by itself. Start it: {job('start', worker)}."
        return Verdict(False, False, "stopped on purpose", what)
    if pulse is None:
        what = f"No heartbeat was ever written. Start it: {job('start', worker)}, or `l2 up`. Log: {log}."
        return Verdict(False, True, "never started", what)
    seen = f"pid {pulse.pid}, last heartbeat {pulse.age_s:.1f} s old, last state {pulse.state}"
    if pulse.state == "stopped" and not pulse.process_exists:
        what = f"It ended cleanly and is wanted to run ({seen}). It is started by itself; else: {job('start', worker)}."
        return Verdict(False, True, "stopped", what)
    if not pulse.process_exists:
        what = f"The process is gone ({seen}). The process manager restarts it within seconds; if this stays, read {log}, then: "
        return Verdict(False, True, "dead", f"{what}{job('restart', worker)}.")
    if pulse.age_s > min(STALE_S, limits.hung_s):
        state = "hung" if pulse.age_s > limits.hung_s else "stale"
        what = f"The process exists and gives no sign of life ({seen}). The watchdog kills it after {limits.hung_s:g} s; if this stays: "
        return Verdict(False, True, state, f"{what}{job('restart', worker)}. Log: {log}.")
    if 0 <= now_ns - spec.killed_ns < KILLED_SHOWS_S * 1e9:
        what = f"It hung, and the watchdog killed it at {clock_time(spec.killed_ns)} UTC; a new process runs ({seen}). Find why in {log}."
        return Verdict(False, True, "killed", what)
    return _judge_working(spec, pulse, seen)


def _crash_loop(spec: Spec, now_ns: int) -> Verdict:
    when = "is being tried again now" if spec.held_until_ns <= now_ns else f"is tried again at {clock_time(spec.held_until_ns)} UTC"
    what = (
        f"It ended {spec.crashes} times soon after its start, is held back and {when}. Read logs/{spec.worker}.log, mend the cause, "
        f"then: {job('clear', spec.worker)}."
    )
    return Verdict(False, True, "crashloop", what)


def _judge_working(spec: Spec, pulse: Pulse, seen: str) -> Verdict:
    if not pulse.lease_held:
        what = f"It runs without its lease ({seen}): its file in run/leases was deleted, a second copy could start beside it. "
        return Verdict(False, True, "lost lease", f"{what}It is restarted by itself; else: {job('restart', spec.worker)}.")
    if pulse.state == "crashloop":
        what = f"It failed again and again and waits ({seen}). Read its log, mend the cause, then: {job('clear', spec.worker)}."
        return Verdict(False, True, "crashloop", what)
    if pulse.state in NO_ROOM:
        what = f"The journal cannot be written ({seen}): make room on the disk of journal/; it goes on by itself."
        return Verdict(False, True, pulse.state, what)
    if pulse.state in LIVE_FOR_ERRORS:
        error = str(pulse.numbers.get("error") or pulse.numbers.get("reason") or "no details")
        what = f"It runs and cannot do its work: {error} ({seen}). It tries again by itself; log: logs/{spec.worker}.log."
        return Verdict(False, False, pulse.state, what)
    return Verdict(True, False, pulse.state, f"{pulse.state}: heartbeat {pulse.age_s:.1f} s old, pid {pulse.pid}.")


def judge_spec(spec: Spec, pulse: Pulse | None, limits: Limits, now_ns: int) -> Verdict:
    """Does the worker do what its desired state says?"""
    if spec.problem:
        return Verdict(False, True, "not derived", f"What it had stays in force: {spec.problem}. Mend the file; it counts within seconds.")
    if pulse is None or not pulse.process_exists:
        return _not_known(spec)
    problem = str(pulse.numbers.get("intent_problem") or "")
    if problem:
        return Verdict(False, True, "not readable", f"The worker cannot use its desired state and keeps the one before: {problem}.")
    if spec.generation and pulse.generation != spec.generation:
        waited_s = (now_ns - spec.changed_ns) / 1e9
        what = f"Wanted is generation {spec.generation}, applied is {pulse.generation}, for {waited_s:.0f} s"
        if waited_s <= PENDING_S:
            return Verdict(True, False, "pending", f"{what}; a worker has {PENDING_S:.0f} s.")
        return Verdict(
            False, True, "not applied", f"{what}. It is rolled by itself after {limits.spec_s:.0f} s; else: {job('roll', spec.worker)}."
        )
    if _should_work(spec, now_ns) and pulse.state == "standby":
        what = f"It is wanted to work and stands by. It is restarted by itself; else: {job('restart', spec.worker)}."
        return Verdict(False, True, "standby", what)
    state = "recording" if spec.enabled and spec.recording else "resting"
    return Verdict(True, False, state, f"Generation {pulse.generation} is applied; wanted: {state if spec.collects else 'working'}.")


def _should_work(spec: Spec, now_ns: int) -> bool:
    return spec.follows and spec.enabled and spec.recording and now_ns - spec.changed_ns > PENDING_S * 1e9


def judge_lag(spec: Spec, pulse: Pulse | None, limits: Limits, now_ns: int) -> Verdict:
    """How far behind its input is it?"""
    if pulse is None or not pulse.process_exists:
        return _not_known(spec)
    if spec.collects:
        since = pulse.numbers.get("stalled_since_ns")
        stalled_s = max(0.0, (now_ns - since) / 1e9) if isinstance(since, int) else 0.0
        if stalled_s > STALLED_S_MAX:
            what = f"The disk takes no bytes for {stalled_s:.0f} s; reading the feed waits. Make room or mend the disk of journal/."
            return Verdict(False, True, "stalled", what)
        return Verdict(True, False, "in time", "Every byte read is written at once.")
    lag_s, stream = max(
        ((float(numbers.get("lag_s", 0)), name) for name, numbers in _streams(pulse).items()), default=(0.0, "")
    )
    if not spec.enabled:
        return Verdict(True, False, "on purpose", f"{lag_s:.1f} s behind the journal, stopped on purpose; it catches up when started.")
    if lag_s <= limits.lag_s_max:
        return Verdict(True, False, "in time", f"At most {limits.lag_s_max:g} s behind the journal.")
    what = f"{stream} is {lag_s:.0f} s behind the journal ({limits.lag_s_max:g} are allowed); nothing is lost. Look at the sink: "
    serious = lag_s > ERROR_FACTOR * limits.lag_s_max
    return Verdict(False, serious, "behind", f"{what}logs/{spec.worker}.log and `l2 status`; more load than it can take: `l2 metrics`.")


def judge_gaps(spec: Spec, pulse: Pulse | None, limits: Limits, now_ns: int) -> Verdict:
    """Does data go missing now? A gap that is over is in the ledger (`l2 gaps`) and in the numbers, not here."""
    if not spec.collects:
        return _judge_open_gaps(spec, pulse)
    if not spec.enabled:
        return Verdict(False, False, "stopped", f"Stopped on purpose: what the feed sends is a gap. End it: {job('start', spec.worker)}.")
    if not spec.recording:
        return Verdict(True, False, "closed", "The session is closed: nothing is missed.")
    if pulse is None or not pulse.process_exists or pulse.age_s > limits.hung_s:
        what = "Nothing is recorded: what the feed sends is a gap, recorded from the last byte on. Check alive says what to do."
        return Verdict(False, True, "not recording", what)
    if pulse.state == "live":
        return Verdict(True, False, "none", "The link is live; no gap is open.")
    last = pulse.numbers.get("last_byte_ns")
    silent_s = max(0.0, (now_ns - last) / 1e9) if isinstance(last, int) else None
    serious = silent_s > SILENT_S_MAX if silent_s is not None else int(pulse.numbers.get("attempts") or 0) >= ATTEMPTS_MAX
    since = "never had a byte" if silent_s is None else f"last byte {silent_s:.0f} s ago"
    why = str(pulse.numbers.get("reason") or pulse.state)
    what = f"A gap is open ({since}): {why}. It connects again by itself; is the feed up and logged in? `l2 feed probe` asks it."
    return Verdict(False, serious, "open", what)


def _judge_open_gaps(spec: Spec, pulse: Pulse | None) -> Verdict:
    if pulse is None or not pulse.process_exists:
        return _not_known(spec)
    streams = _streams(pulse)
    found = sorted(name for name, numbers in streams.items() if numbers.get("gap_open") and name not in spec.resting_streams)
    count = sum(int(numbers.get("gaps") or 0) for numbers in streams.values())
    if found:
        what = f"A gap is open in {', '.join(found)}: the feed's data is not received. See the checks of collectors/{found[0]}; `l2 gaps`."
        return Verdict(False, True, "open", what)
    return Verdict(True, False, "none", f"No gap is open; {count} found since it started (`l2 gaps` lists them).")


def _not_known(spec: Spec) -> Verdict:
    return Verdict(False, False, "not known", f"{spec.worker} does not run: check alive says what to do.")


def job(action: str, worker: str) -> str:
    """How a person does it."""
    return f"job control_collector, action {action}, worker {worker}"


def clock_time(at_ns: int) -> str:
    """HH:MM:SS, UTC."""
    return f"{datetime.fromtimestamp(at_ns // 10**9, UTC):%H:%M:%S}"


def _streams(pulse: Pulse) -> Mapping[str, Mapping[str, Any]]:
    found = pulse.numbers.get("streams")
    return {name: numbers for name, numbers in found.items() if isinstance(numbers, Mapping)} if isinstance(found, Mapping) else {}


RULES: Final[Mapping[str, Rule]] = {"alive": judge_alive, "spec_applied": judge_spec, "lag": judge_lag, "gaps": judge_gaps}
"""Check → its rule, in the order in which they are read."""


def rules_of(spec: Spec) -> Mapping[str, Rule]:
    """The checks that a worker has: a service only lives or not."""
    return RULES if spec.follows else {"alive": judge_alive}


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

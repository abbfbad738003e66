"""What supervision does now: pure, from what is wanted, what the heartbeats say, and what it did before.

Health goes to the catalog as events (`supervisor_reports.py`). Where intent and worker disagree for longer than they may, a run of
`control_collector` is requested: a bounded number of times, with growing waits, until the worker is well for a while. A crash loop is
not hammered: the watchdog holds it back and tries it. What does not belong here: reading files, Dagster.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from l2_platform.assets.liveness import Limits, Pulse, Spec, Verdict, clock_time, rules_of
from l2_platform.sensors.supervisor_reports import Event, Report, reports_of

NS: Final = 10**9
WELL_NS: Final = 120 * NS
"""A worker without trouble for this long is well again: its attempts are forgotten, ns."""
PATIENCE_S: Final[Mapping[str, float]] = {
    "never started": 20, "stopped": 20, "dead": 45, "stale": 60, "hung": 60, "lost lease": 10, "not applied": 0, "standby": 60,
}  # fmt: skip
"""Trouble → how long it may last before something is done about it, s: the process manager and the watchdog are faster.

What is not applied is given `supervision.spec_s` from the change on.
"""
ACTIONS: Final[Mapping[str, str]] = {
    "never started": "start", "stopped": "start", "dead": "start", "stale": "restart", "hung": "restart", "lost lease": "restart",
    "not applied": "roll", "standby": "restart",
}  # fmt: skip
"""Trouble → action of job `control_collector`; what is not here heals by itself or is for people."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Bounds of supervision, from the settings."""

    limits: Limits = field(default_factory=Limits)
    attempts_max: int = 5
    attempt_first_s: float = 120.0
    attempt_cap_s: float = 1800.0


DEFAULTS: Final = Rules()


@dataclass(frozen=True, slots=True)
class Command:
    """A run of `control_collector` to request."""

    worker: str
    action: str
    generation: int
    attempt: str
    """Begin of the trouble (s UTC) and number of the attempt: never the same twice, whatever becomes of the cursor."""
    why: str

    @property
    def run_key(self) -> str:
        """`name:generation:attempt`; Dagster runs each once."""
        return f"{self.worker}:{self.generation}:{self.attempt}"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A worker that does not do what is wanted."""

    kind: str
    since_ns: int
    """Begin of this kind of trouble."""
    first_ns: int
    """Begin of the whole series, which ends when the worker is well."""
    attempts: int = 0
    acted_ns: int = 0
    well_ns: int = 0
    """Since when there is no trouble any more; 0 while there is."""


def decide(
    now_ns: int,
    specs: Mapping[str, Spec],
    heartbeats: Mapping[str, Pulse | None],
    cursor: str | None,
    rules: Rules = DEFAULTS,
    *,
    can_act: bool = True,
    others: Mapping[str, Verdict] | None = None,
) -> tuple[list[Command], list[Event], str]:
    """(commands, events, cursor) at `now_ns`; an unreadable cursor (people may edit it) counts as none.

    `can_act`: the process manager answers; without it no run could do anything. `others`: verdicts `alive` that are only reported.
    """
    before = read_cursor(cursor)
    commands: list[Command] = []
    events: list[Event] = []
    after: dict[str, dict[str, Any]] = {}
    for place, (name, spec) in enumerate(specs.items()):
        pulse = heartbeats.get(name)
        verdicts = {check: rule(spec, pulse, rules.limits, now_ns) for check, rule in rules_of(spec).items()}
        last = before.get(name, {})
        trouble = _follow(spec, verdicts, _trouble_of(last.get("trouble")), now_ns)
        if trouble is not None:
            command = _command(spec, trouble, now_ns, rules) if can_act else None
            if command is not None:
                commands.append(command)
                trouble = replace(trouble, attempts=trouble.attempts + 1, acted_ns=now_ns)
            verdicts = _told(verdicts, trouble, rules)
        report = Report(name, verdicts, pulse, place / max(1, len(specs)))
        told, kept = reports_of(report, last.get("reports"), now_ns)
        events += told
        after[name] = {"reports": kept} | ({"trouble": _as_list(trouble)} if trouble is not None else {})
    for name, verdict in (others or {}).items():
        told, kept = reports_of(Report(name, {"alive": verdict}, None, 0.0), before.get(name, {}).get("reports"), now_ns)
        events += told
        after[name] = {"reports": kept}
    return commands, events, json.dumps(after, separators=(",", ":"))


def _follow(spec: Spec, verdicts: Mapping[str, Verdict], before: Trouble | None, now_ns: int) -> Trouble | None:
    """The worker's trouble now; a series goes on until it was well for a while, so that flapping does not begin anew each time."""
    kind = _kind(spec, verdicts)
    if before is not None and before.since_ns > now_ns:
        before = None  # the clock was set back
    if not kind:
        if before is None or not spec.enabled or (before.well_ns and now_ns - before.well_ns >= WELL_NS):
            return None
        return replace(before, well_ns=before.well_ns or now_ns)
    if before is None:
        return Trouble(kind, now_ns, now_ns)
    since_ns = before.since_ns if kind == before.kind and not before.well_ns else now_ns
    return replace(before, kind=kind, since_ns=since_ns, well_ns=0)


def _kind(spec: Spec, verdicts: Mapping[str, Verdict]) -> str:
    if not spec.enabled or spec.crashes:
        return ""
    for check in ("alive", "spec_applied"):
        verdict = verdicts.get(check)
        if verdict is not None and not verdict.passed and verdict.state in ACTIONS:
            return verdict.state
    return ""


def _command(spec: Spec, trouble: Trouble, now_ns: int, rules: Rules) -> Command | None:
    if trouble.well_ns or now_ns - trouble.since_ns < PATIENCE_S[trouble.kind] * NS or trouble.attempts >= rules.attempts_max:
        return None
    if trouble.kind == "not applied" and now_ns - spec.changed_ns < rules.limits.spec_s * NS:
        return None
    if trouble.attempts and now_ns - trouble.acted_ns < wait_s(trouble.attempts, rules) * NS:
        return None
    attempt = f"{trouble.first_ns // NS}-{trouble.attempts + 1}"
    return Command(spec.worker, ACTIONS[trouble.kind], spec.generation, attempt, trouble.kind)


def wait_s(attempts: int, rules: Rules) -> float:
    """Wait after so many attempts, s."""
    doubled: float = rules.attempt_first_s * 2.0 ** (attempts - 1)
    return min(doubled, rules.attempt_cap_s)


def _told(verdicts: Mapping[str, Verdict], trouble: Trouble, rules: Rules) -> dict[str, Verdict]:
    """The same verdicts with what supervision did about them."""
    found = dict(verdicts)
    if trouble.well_ns or not trouble.attempts:
        return found
    check = next((name for name in ("alive", "spec_applied") if name in found and found[name].state == trouble.kind), None)
    if check is None:
        return found
    when = clock_time(trouble.acted_ns)
    told = f"Attempt {trouble.attempts} of {rules.attempts_max}: a run of control_collector was requested at {when} UTC."
    if trouble.attempts >= rules.attempts_max:
        told = f"{trouble.attempts} runs of control_collector did not help; a person has to look (Runs, tag l2/worker)."
    found[check] = replace(found[check], serious=True, message=f"{told} {found[check].message}")
    return found


# ── cursor ────────────────────────────────────────────────────────────────────


def read_cursor(cursor: str | None) -> dict[str, dict[str, Any]]:
    """Worker → what was kept; {} for what cannot be read."""
    try:
        found = json.loads(cursor or "{}")
    except (ValueError, RecursionError):
        return {}
    return {name: item for name, item in found.items() if isinstance(item, dict)} if isinstance(found, dict) else {}


def _as_list(trouble: Trouble) -> list[Any]:
    return [trouble.kind, trouble.since_ns, trouble.first_ns, trouble.attempts, trouble.acted_ns, trouble.well_ns]


def _trouble_of(kept: Any) -> Trouble | None:
    if not isinstance(kept, list) or len(kept) != 6 or kept[0] not in ACTIONS or not all(isinstance(n, int) for n in kept[1:]):
        return None
    return Trouble(*kept)

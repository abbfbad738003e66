"""`notify_run_failures` and `notify_check_failures`: what failed and what is well again, told to people in one message a look.

What does not belong here: how often somebody is told and through what (`operations/notifying.py`).
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import dagster as dg

from l2_platform.clock import Clock
from l2_platform.errors import L2Error
from l2_platform.operations.notifying import Event, Notifier
from l2_platform.resources.evidence import CheckState, check_states
from l2_platform.settings import Settings

INTERVAL_S: Final = 30
NOBODY_S: Final = 600
"""Time between two looks while nobody is to be told: each costs a tick, s."""
RUNS_A_LOOK: Final = 50
"""Failed runs of one look; the next look goes on where this one ended."""
FAILING_MAX: Final = 50
"""Failed jobs whose recovery is watched for; the oldest is forgotten."""
PARTITION: Final = "dagster/partition"
ANY_ASSETS: Final = "__ASSET_JOB"
"""Dagster's name for a materialization that belongs to no job."""
NOBODY: Final = "nobody is to be told: set L2_NOTIFY__URLS or L2_NOTIFY__URLS_FILE (l2 notify --help)"


def build_notifying_sensors(settings: Settings, clock: Clock) -> list[dg.SensorDefinition]:
    """Both sensors; they run from the start and do nothing until somebody is to be told."""
    notifier = Notifier(settings, clock)
    interval_s = INTERVAL_S if notifier.receivers else NOBODY_S
    web = f"http://127.0.0.1:{settings.ports.dagster}"

    @dg.sensor(
        name="notify_run_failures", minimum_interval_seconds=interval_s, default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells of failed runs through the receivers in notify.urls: what failed together in one message, no storms.",
    )  # fmt: skip
    def notify_run_failures(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        events, cursor = failed_runs(context.instance, context.cursor, clock.now_ns(), web)
        context.update_cursor(cursor)
        return _told(notifier, events)

    @dg.sensor(
        name="notify_check_failures", minimum_interval_seconds=interval_s, default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells of checks that fail and of those that are well again, through the receivers in notify.urls.",
    )  # fmt: skip
    def notify_check_failures(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        assert context.repository_def is not None
        keys = context.repository_def.asset_graph.asset_check_keys
        states = check_states(context.instance, keys)
        events, cursor = changed_checks(states, context.cursor, web, errors_only=settings.notify.errors_only)
        context.update_cursor(cursor)
        return _told(notifier, events)

    return [notify_run_failures, notify_check_failures]


def _told(notifier: Notifier, events: list[Event]) -> dg.SkipReason:
    if not notifier.receivers:
        return dg.SkipReason(NOBODY)
    try:
        title = notifier.tell(events)
    except L2Error as error:
        raise dg.Failure(error.message) from error
    return dg.SkipReason(f"told: {title}" if title else "nothing to tell")


def failed_runs(
    instance: dg.DagsterInstance, cursor: str | None, now_ns: int, web: str
) -> tuple[list[Event], str]:
    """Runs that failed since the cursor (storage id and time of the last one), oldest first, and the next cursor.

    Without a cursor: from now on, not the whole past.
    """
    seen = _read_cursor(cursor)
    since = float(seen.get("since", now_ns / 1e9))
    known = set(seen.get("known", []))
    records = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=datetime.fromtimestamp(since, UTC)),
        limit=RUNS_A_LOOK, order_by="update_timestamp", ascending=True,
    )  # fmt: skip
    failing = {str(name): entry for name, entry in dict(seen.get("failing", {})).items() if isinstance(entry, list)}
    events = _recovered(instance, failing, web)
    for record in records:
        run = record.dagster_run
        stamp = record.update_timestamp.replace(tzinfo=UTC).timestamp()
        if run.run_id in known:
            continue
        if stamp > since:
            since, known = stamp, set()
        known.add(run.run_id)
        events.append(_run_event(instance, run, web))
        if run.job_name != ANY_ASSETS:
            failing[_cause(run)] = [run.job_name, run.tags.get(PARTITION, ""), stamp]
    while len(failing) > FAILING_MAX:
        del failing[next(iter(failing))]
    return events, json.dumps({"since": since, "known": sorted(known), "failing": failing})


def _recovered(instance: dg.DagsterInstance, failing: dict[str, list[Any]], web: str) -> list[Event]:
    """Jobs that failed and have succeeded since; they are taken out of `failing`. Materializations tell it by their checks."""
    events = []
    for cause, (job, partition, since) in list(failing.items()):
        wanted = dg.RunsFilter(
            job_name=job, tags={PARTITION: partition} if partition else {}, statuses=[dg.DagsterRunStatus.SUCCESS],
            updated_after=datetime.fromtimestamp(float(since), UTC),
        )  # fmt: skip
        if done := instance.get_run_records(wanted, limit=1):
            del failing[cause]
            events.append(Event(cause, f"{cause} is well again", f"{web}/runs/{done[0].dagster_run.run_id}", good=True))
    return events


def _cause(run: dg.DagsterRun) -> str:
    return f"run {run.job_name if run.job_name != ANY_ASSETS else 'a materialization'}"


def _run_event(instance: dg.DagsterInstance, run: dg.DagsterRun, web: str) -> Event:
    partition = run.tags.get(PARTITION)
    about = f" of {partition}" if partition else ""
    entries = instance.all_logs(run.run_id, of_type={dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE})
    texts = [entry.dagster_event.message or "" for entry in entries if entry.dagster_event is not None]
    details = [_failure_text(entry) for entry in entries]
    text = next((detail for detail in details if detail), texts[0] if texts else "no message")
    return Event(_cause(run), f"{_cause(run)}{about} failed", f"{text}\n{web}/runs/{run.run_id}")


def _failure_text(entry: dg.EventLogEntry) -> str:
    event = entry.dagster_event
    data = event.event_specific_data if event is not None else None
    failure = getattr(data, "user_failure_data", None)
    if failure is not None and failure.description:
        return f"{getattr(event, 'step_key', '')}: {failure.description}"
    error = getattr(data, "error", None)
    return str(error.message).strip().splitlines()[0] if error is not None and error.message else ""


def changed_checks(
    states: Iterable[CheckState], cursor: str | None, web: str, *, errors_only: bool
) -> tuple[list[Event], str]:
    """What began to fail, fails still (the notifier repeats it seldom) and is well again; the next cursor holds what fails."""
    before = set(_read_cursor(cursor).get("failing", []))
    events, failing = [], []
    for state in states:
        name, text = state.name, f"{state.message}\n{web}/assets/{state.asset}?view=checks"
        if not state.passed and (state.serious or not errors_only):
            failing.append(name)
            events.append(Event(f"check {name}", f"{name} {'failed' if state.serious else 'warns'}", text))
        elif name in before:
            events.append(Event(f"check {name}", f"{name} is well again", text, good=True))
    return events, json.dumps({"failing": failing})


def _read_cursor(cursor: str | None) -> dict[str, Any]:
    try:
        found = json.loads(cursor or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}

"""`platform_health`, reviews, pruning and schedules on a real Dagster instance (SQLite), with nothing of the platform running."""

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickData, TickStatus

from l2_platform.assets.platform_health import PROMISES
from l2_platform.clock import SystemClock
from l2_platform.definitions import build_definitions
from l2_platform.resources.evidence import check_states
from l2_platform.resources.pruning import prune
from l2_platform.sensors.notifying import changed_checks, failed_runs
from l2_platform.settings import DagsterSettings, Settings
from tests.integration.dagster_instances import dagster_instance

pytestmark = pytest.mark.integration

DAY_NS = 86_400 * 10**9
ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path_factory):
    # a server that nobody runs: the warehouse is away
    return Settings(home=tmp_path_factory.mktemp("h"), clickhouse={"embedded": False, "host": "127.0.0.1", "port": 9})


@pytest.fixture
def instance(tmp_path):
    home = tmp_path / "dagster"
    home.mkdir()
    with dagster_instance(home) as found:
        yield found


class SetClock(SystemClock):
    """A clock that shows what a test says."""

    def __init__(self, moment: datetime) -> None:
        super().__init__()
        self._ns = int(moment.timestamp()) * 10**9

    def now_ns(self) -> int:
        return self._ns


def run_job(settings, instance, name, **more):
    job = build_definitions(settings).resolve_job_def(name)
    return job.execute_in_process(instance=instance, raise_on_error=False, **more)


def test_platform_health_judges_every_promise_while_all_is_down(settings, instance):
    result = run_job(settings, instance, "judge_platform")
    assert result.success, "it judges; it does not fail itself"
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert set(checks) == set(PROMISES)
    assert not checks["recording_works"].passed
    assert checks["recording_works"].severity is dg.AssetCheckSeverity.ERROR
    assert "control_collector" in checks["recording_works"].description
    assert "warehouse does not answer" in checks["no_gaps_today"].description
    assert "Restart dagster-daemon" in checks["dagster_works"].description
    assert checks["disk_has_room"].passed
    metadata = result.get_asset_materialization_events()[0].materialization.metadata
    assert metadata["verdict"].value == "not good"
    assert "| recording_works | NOT KEPT |" in metadata["promises"].value


def test_health_is_judged_without_tables(settings, instance):
    settings_now = settings.model_copy(update={"clickhouse": settings.clickhouse.model_copy(update={"enabled": False})})
    health = run_job(settings_now, instance, "judge_platform")
    assert health.success


def report(instance, name, count):
    for number in range(count):
        instance.report_runless_asset_event(dg.AssetMaterialization(name, metadata={"number": number}))
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(asset_key=dg.AssetKey(name), check_name="alive", passed=number % 2 == 0, metadata={"n": number})
        )


def rows(instance, sql):
    path = instance.event_log_storage.path_for_shard("index")
    with sqlite3.connect(path) as connection:
        return connection.execute(sql).fetchall()


def test_pruning_removes_what_is_old_and_keeps_the_newest_evidence(instance):
    day = dg.StaticPartitionsDefinition(["a", "b"])

    @dg.asset(partitions_def=day)
    def dated(): ...

    for key in ("a", "a", "a", "b"):
        assert dg.materialize([dated], partition_key=key, instance=instance).success
    report(instance, "worker", 20)
    bounds, now_ns = DagsterSettings(keep_runs_days=30, keep_events_days=7), SystemClock().now_ns()
    assert prune(instance, now_ns, bounds).runs == 0, "nothing is old yet"
    done = prune(instance, now_ns + 8 * DAY_NS, bounds)
    assert (done.runs, done.events + done.evaluations > 30) == (0, True)
    assert rows(instance, "SELECT count(*) FROM event_logs WHERE run_id = '' AND dagster_event_type = 'ASSET_MATERIALIZATION'") == [(1,)]
    newest = instance.get_latest_materialization_event(dg.AssetKey("worker"))
    assert newest.asset_materialization.metadata["number"].value == 19
    states = check_states(instance, [dg.AssetCheckKey(dg.AssetKey("worker"), "alive")])
    assert [(state.name, state.passed) for state in states] == [("worker:alive", False)]

    shards = len(list(Path(instance.event_log_storage.path_for_shard("index")).parent.glob("*.db")))
    done = prune(instance, now_ns + 31 * DAY_NS, bounds)
    assert (done.runs, done.runs_kept, done.complete) == (2, 2, True), "two runs of `a` are superseded"
    assert len(instance.get_runs()) == 2
    assert instance.get_materialized_partitions(dg.AssetKey("dated")) == {"a", "b"}
    assert len(list(Path(instance.event_log_storage.path_for_shard("index")).parent.glob("*.db"))) == shards - 2
    again = prune(instance, now_ns + 31 * DAY_NS, bounds)
    assert (again.runs, again.events, again.evaluations) == (0, 0, 0)


def test_checks_that_a_run_has_only_planned_are_not_judged_yet(instance):
    key, seen = dg.AssetCheckKey(dg.AssetKey("watched"), "fine"), []

    @dg.asset(check_specs=[dg.AssetCheckSpec("fine", asset="watched")])
    def watched(context: dg.AssetExecutionContext):
        seen.append(check_states(context.instance, [key]))
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(check_name="fine", passed=True)])

    assert dg.materialize([watched], instance=instance).success
    assert seen == [[]]
    assert [(state.name, state.passed) for state in check_states(instance, [key])] == [("watched:fine", True)]


def test_pruning_keeps_ticks_that_asked_for_something_longer(instance):
    now_ns = SystemClock().now_ns()
    for days, status in ((2, TickStatus.SKIPPED), (2, TickStatus.SUCCESS), (0, TickStatus.SKIPPED), (31, TickStatus.SUCCESS)):
        when = now_ns / 1e9 - days * 86_400
        instance.create_tick(TickData("origin", "sensor", InstigatorType.SENSOR, status, when, run_ids=[], selector_id="s"))
    assert prune(instance, now_ns, DagsterSettings(keep_runs_days=30)).ticks == 2
    assert [tick.status for tick in instance.get_ticks("origin", "s")] == [TickStatus.SKIPPED, TickStatus.SUCCESS]


def test_pruning_is_bounded_and_goes_on(instance):
    report(instance, "worker", 600)
    bounds, late_ns = DagsterSettings(keep_events_days=1, prune_rows_max=1000), SystemClock().now_ns() + 3 * DAY_NS
    first = prune(instance, late_ns, bounds)
    assert (first.events + first.evaluations, first.complete) == (1000, False)
    second = prune(instance, late_ns, bounds)
    assert second.complete
    assert rows(instance, "SELECT count(*) FROM asset_check_executions") == [(1,)]


def test_locked_storage_is_a_clear_failure_and_a_retry_succeeds(settings, instance, monkeypatch):
    report(instance, "worker", 5)
    clock = SystemClock()
    assets = [build_definitions(settings).resolve_assets_def("dagster_storage")]
    with dg.build_asset_context(instance=instance) as context:
        broken = DagsterSettings(keep_events_days=1)
        index = Path(instance.event_log_storage.path_for_shard("index"))
        away = index.with_name("away")
        index.rename(away)
        index.write_bytes(b"this is no database, the disk lost it" * 100)
        with pytest.raises(dg.Failure, match="could not be pruned"):
            assets[0](context)
        index.unlink()
        away.rename(index)
    assert prune(instance, clock.now_ns() + 3 * DAY_NS, broken).events > 0


def schedule_run(settings, name, at):
    definitions = build_definitions(settings, {"clock": SetClock(at)})
    schedule = next(item for item in definitions.schedules if item.name == name)
    context = dg.build_schedule_context(scheduled_execution_time=at, repository_def=definitions.get_repository_def())
    return schedule.evaluate_tick(context)


def test_daily_close_asks_for_the_session_that_ended_and_honours_closed_days(tmp_path):
    settings = Settings(home=tmp_path, feed={"kind": "iqfeed"})
    for date in ("20251126", "20251128"):
        (settings.journal_dir / "iqfeed-depth-0" / date).mkdir(parents=True)
    expected = {
        "2025-11-27T01:45": "2025-11-26",  # Wednesday evening in New York
        "2025-11-28T01:45": "2025-11-26",  # Thanksgiving: the last one, asked for already under the same key
        "2025-11-29T01:45": "2025-11-28",  # half-day
        "2025-11-30T01:45": "2025-11-28",  # Saturday
    }
    for text, session in expected.items():
        at = datetime.fromisoformat(text).replace(tzinfo=UTC)
        requests = schedule_run(settings, "daily_close", at).run_requests
        assert [(request.run_key, request.partition_key) for request in requests] == [(f"daily_close:{session}", session)]
    at = datetime(2025, 12, 2, 1, 45, tzinfo=UTC)
    assert "nothing was recorded on 2025-12-01" in schedule_run(settings, "daily_close", at).skip_message


def test_failed_run_and_its_recovery_are_events(instance):
    @dg.op
    def step(context):
        if context.run.tags.get("l2/bad"):
            raise dg.Failure("the disk is full: make room")

    @dg.job
    def work():
        step()

    now_ns = SystemClock().now_ns()
    _, cursor = failed_runs(instance, None, now_ns - 10**9, "http://ui")
    work.execute_in_process(instance=instance, raise_on_error=False, tags={"l2/bad": "1"})
    events, cursor = failed_runs(instance, cursor, now_ns, "http://ui")
    assert [(event.cause, event.title, event.good) for event in events] == [("run work", "run work failed", False)]
    assert "the disk is full: make room" in events[0].text
    assert "http://ui/runs/" in events[0].text
    events, cursor = failed_runs(instance, cursor, now_ns, "http://ui")
    assert events == [], "told once"
    work.execute_in_process(instance=instance)
    events, cursor = failed_runs(instance, cursor, now_ns, "http://ui")
    assert [(event.cause, event.good) for event in events] == [("run work", True)]
    assert json.loads(cursor)["failing"] == {}


def test_failed_check_and_its_recovery_are_events(instance):
    key = dg.AssetCheckKey(dg.AssetKey("trades"), "unique")

    def say(*, passed, severity=dg.AssetCheckSeverity.ERROR):
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(asset_key=key.asset_key, check_name=key.name, passed=passed, description="seen", severity=severity)
        )
        return check_states(instance, [key])

    events, cursor = changed_checks(say(passed=False), None, "http://ui", errors_only=True)
    assert [(event.cause, event.good) for event in events] == [("check trades:unique", False)]
    events, cursor = changed_checks(say(passed=True), cursor, "http://ui", errors_only=True)
    assert [(event.cause, event.good) for event in events] == [("check trades:unique", True)]
    warned = say(passed=False, severity=dg.AssetCheckSeverity.WARN)
    assert changed_checks(warned, cursor, "http://ui", errors_only=True)[0] == []
    assert len(changed_checks(warned, cursor, "http://ui", errors_only=False)[0]) == 1

import itertools
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import dagster as dg
import pytest
import yaml

from l2_platform.assets.groups import GROUPS
from l2_platform.assets.jobs import choose_workers
from l2_platform.assets.platform_health import PROMISES
from l2_platform.assets.workers import list_workers
from l2_platform.clock import SystemClock
from l2_platform.definitions import build_definitions
from l2_platform.errors import ConfigError
from l2_platform.monitoring.desired import read_desired
from l2_platform.monitoring.heartbeat import Heartbeat, Lease
from l2_platform.monitoring.symbols_file import demo_symbols, edit_symbols, with_removed, write_symbols
from l2_platform.quality.checks import CHECKS as DECLARED
from l2_platform.settings import Settings

ROOT = Path(__file__).parents[3]
STORED = {
    "gaps": "gaps", "reconciliation": "reconciliations", "completeness": "completeness", "quality_audit": "findings",
    "weekly_audit": "findings", "gap_repairs": "trades", "closed_day": "daily_reports", "universe": "universe",
    "session_calendar": "session_calendar", "backfilled_day": "trades history_bars",
    "rebuilt_tables": "depth_updates quotes trades history_bars book_snapshots feed_events",
}  # fmt: skip
"""Asset → what holds its rows, where it is not the table of the same name."""
TABLES = {"depth_updates", "quotes", "trades", "history_bars", "book_snapshots", "feed_events"}
BARS = {"bars_1s", "bars_5s", "bars_1m", "bars_daily"}
CHECKS = {"has_rows", "seq_is_unique", "journal_delivered"}


@pytest.fixture
def settings(tmp_path_factory):
    # a short path: a unix socket has room for 107 bytes
    return Settings(home=tmp_path_factory.mktemp("h"))


@pytest.fixture
def definitions(settings):
    return build_definitions(settings)


def variants():
    yield {}
    yield {"feed": {"kind": "iqfeed", "host": "feed.example"}}
    yield {"clickhouse": {"embedded": False, "host": "db.example"}}
    yield {"clickhouse": {"enabled": False}}
    yield {"jsonl": {"enabled": False}, "streams": ("iqfeed-depth-0",)}


@pytest.mark.parametrize("changes", list(variants()), ids=str)
def test_definitions_load_for_every_kind_of_settings(tmp_path, changes):
    definitions = build_definitions(Settings(home=tmp_path, **changes))
    dg.Definitions.validate_loadable(definitions)


def test_every_asset_tells_what_it_is_and_who_owns_it(definitions):
    specs = definitions.resolve_all_asset_specs()
    assert {spec.key.to_user_string() for spec in specs} == TABLES | BARS | {
        "universe", "session_calendar", "platform_health", "dagster_storage", "day_report", "gaps", "reconciliation",
        "completeness", "quality_audit", "weekly_audit", "weekly_review", "monthly_review",
        "archive", "backfilled_day", "rebuilt_tables", "closed_day", "book_index", "gap_repairs",
        "journal", "warehouse", "deliveries/clickhouse", "deliveries/jsonl", "services/sealer", "feeds/simulator",
        "services/process_manager", "collectors/iqfeed-depth-0", "collectors/iqfeed-level1-0", "collectors/iqfeed-admin-0",
    }  # fmt: skip
    for spec in specs:
        name = spec.key.to_user_string()
        assert len(spec.description or "") > 60, name
        assert "red" in (spec.description or ""), f"{name}: what to do when red"
        assert spec.owners, name
        assert spec.kinds, name
        assert spec.group_name in GROUPS, name


@pytest.mark.parametrize("name", sorted({*STORED, *TABLES, *BARS}))
def test_an_asset_names_the_tables_that_hold_its_rows(name, tmp_path):
    definitions = build_definitions(Settings(home=tmp_path, clickhouse={"database": "ours"}))
    spec = definitions.resolve_assets_def(name).get_asset_spec()
    assert spec.metadata["dagster/table_name"] == ", ".join(f"ours.{table}" for table in STORED.get(name, name).split())


def test_checks_are_where_the_promises_are(definitions):
    found = {(key.asset_key.to_user_string(), key.name) for key in definitions.resolve_asset_graph().asset_check_keys}
    following = {
        "deliveries/clickhouse", "deliveries/jsonl", "collectors/iqfeed-depth-0", "collectors/iqfeed-level1-0",
        "collectors/iqfeed-admin-0",
    }  # fmt: skip
    services = {"warehouse", "services/sealer", "services/process_manager", "feeds/simulator"}
    expected = {(name, "alive") for name in following | services}
    expected |= {(name, check) for name in following for check in ("spec_applied", "lag", "gaps")}
    expected |= {(table, check) for table in TABLES for check in CHECKS}
    closed = {("closed_day", name) for name in ("everything_is_delivered", "journal_is_sealed", "tables_agree_with_journal")}
    expected |= {(view, "bars_are_sound") for view in BARS}
    expected |= {("platform_health", name) for name in PROMISES}
    reviews = {("weekly_review", "journal_is_whole")}
    reviews |= {(name, "room_lasts") for name in ("weekly_review", "monthly_review")}
    proven = {
        ("gaps", "every_gap_is_explained"), ("reconciliation", "stores_are_equal"), ("completeness", "every_symbol_is_complete"),
        ("quality_audit", "checks_find_no_error"), ("day_report", "date_is_proven"), ("weekly_audit", "week_is_sound"),
    }  # fmt: skip
    market = ("trades", "quotes", "depth_updates", "book_snapshots")
    proven |= {(table, name) for table in market for name in ("no_unexplained_gaps", "equals_journal")}
    proven |= {(table, "equals_files") for table in market if table != "depth_updates"}
    proven |= {("trades", "prints_complete"), ("book_snapshots", "books_trusted")}
    proven |= {(check.table, check.name) for check in DECLARED}
    alone = {("journal", "is_recorded"), ("backfilled_day", "nothing_failed"), ("gap_repairs", "every_gap_is_repaired")}
    assert found == expected | closed | reviews | proven | alone


def test_only_proofs_evaluate_the_health_of_tables(definitions):
    """The jobs that measure run hourly and on the running date, of which nothing is proven yet."""
    proofs = {("trades", "equals_journal"), ("quotes", "no_unexplained_gaps"), ("book_snapshots", "books_trusted")}
    for job, has in (("daily_proofs", True), ("measure_day", False), ("daily_close", False)):
        keys = definitions.resolve_job_def(job).asset_layer.executable_asset_keys, definitions.resolve_job_def(job).asset_layer.asset_graph
        found = {(key.asset_key.to_user_string(), key.name) for key in keys[1].asset_check_keys}
        assert (proofs <= found) is has, job
        assert has or not proofs & found, job


def test_groups_follow_each_other_without_a_circle(definitions):
    """The lineage page draws groups: one that is both before and after another is drawn against the flow."""
    graph = definitions.resolve_asset_graph()
    group = {key: graph.get(key).group_name for key in graph.get_all_asset_keys()}
    before: dict[str, set[str]] = {name: set() for name in group.values()}
    for key, name in group.items():
        before[name] |= {group[parent] for parent in graph.get(key).parent_keys} - {name}
    TopologicalSorter(before).prepare()


def test_lineage_follows_the_flow(definitions):
    graph = definitions.resolve_asset_graph()
    order = ["feeds/simulator", "collectors/iqfeed-depth-0", "journal", "deliveries/clickhouse", "warehouse", "trades"]
    for upper, lower in itertools.pairwise(order):
        key = dg.AssetKey(lower.split("/"))
        assert dg.AssetKey(upper.split("/")) in graph.get(key).parent_keys, f"{upper} -> {lower}"


def test_sensors_and_schedules_run_without_a_click(definitions):
    assert {sensor.name for sensor in definitions.sensors} == {
        "collector_supervisor", "new_session_date", "symbols_changed", "notify_run_failures", "notify_check_failures",
        "unclosed_dates", "repair_closed_gaps", "prove_closed_dates",
    }  # fmt: skip
    assert {schedule.name: schedule.cron_schedule for schedule in definitions.schedules} == {
        "measure_day_hourly": "5 * * * *", "platform_health": "*/15 * * * *", "daily_close": "30 0 * * *", "daily_proofs": "30 3 * * *",
        "weekly_audit": "0 10 * * 0",
        "daily_records": "20 3 * * *", "prune": "40 3 * * *", "weekly_review": "0 9 * * 6", "monthly_review": "0 10 1 * *",
    }  # fmt: skip
    assert {job.name for job in definitions.jobs} == {
        "control_collector", "roll_symbols", "measure_day", "replay_day", "backfill_day", "rebuild", "close_day", "repair_gaps",
        "judge_platform", "prune", "daily_close",
        "daily_proofs", "audit_week", "daily_records", "review_week", "review_month",
    }  # fmt: skip
    assert all(sensor.default_status is dg.DefaultSensorStatus.RUNNING for sensor in definitions.sensors)
    assert all(schedule.default_status is dg.DefaultScheduleStatus.RUNNING for schedule in definitions.schedules)
    assert all(schedule.execution_timezone for schedule in definitions.schedules)


def test_loading_the_code_location_imports_no_great_expectations(tmp_path):
    code = (
        "import sys, l2_platform.definitions as d; assert d.defs; "
        "print(any(name in sys.modules for name in ('great_expectations', 'apprise', 'numba', 'polars')))"
    )
    environment = {**os.environ, "L2_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.stdout.strip() == "False", done.stderr


def test_choose_workers_groups_and_wrong_names(settings):
    workers = list_workers(settings)
    assert [worker.name for worker in choose_workers(["deliver-jsonl", "all-collectors"], workers)] == [
        "collector-iqfeed-depth-0", "collector-iqfeed-level1-0", "collector-iqfeed-admin-0", "deliver-jsonl",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="did you mean collector-iqfeed-depth-0"):
        choose_workers(["collector-iqfeed-deph-0"], workers)
    with pytest.raises(ConfigError, match="at least one"):
        choose_workers([], workers)


def test_dagster_files_are_valid(tmp_path):
    for name in ("dagster.yaml", "deploy/dagster.postgres.yaml"):
        content = yaml.safe_load((ROOT / name).read_text())
        assert content["run_coordinator"]["config"]["dequeue_interval_seconds"] == 1
        assert content["telemetry"] == {"enabled": False}
        assert content["nux"] == {"enabled": False}
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.run_monitoring_enabled
        assert instance.telemetry_enabled is False


def tick(definitions, cursor=None):
    sensor = next(item for item in definitions.sensors if item.name == "collector_supervisor")
    with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance=instance, cursor=cursor) as context:
        return sensor.evaluate_tick(context)


def test_supervisor_tick_reports_living_and_missing_workers(settings):
    definitions = build_definitions(settings)
    write_symbols(settings.symbols_file, demo_symbols(5))
    name = "collector-iqfeed-depth-0"
    lease = Lease(settings.run_dir / "leases" / name)
    lease.acquire()
    beat = Heartbeat(settings.run_dir / "heartbeats" / f"{name}.json", name, SystemClock())
    beat.beat("live", generation=1, lines=10)
    result = tick(definitions)
    checks = {
        (event.asset_key.to_user_string(), event.check_name): event
        for event in result.asset_events
        if isinstance(event, dg.AssetCheckEvaluation)
    }
    assert len(checks) == 5 * 4 + 4
    assert all(checks["collectors/iqfeed-depth-0", check].passed for check in ("alive", "spec_applied", "lag", "gaps"))
    for asset in ("warehouse", "services/process_manager"):
        assert not checks[asset, "alive"].passed
        assert checks[asset, "alive"].severity is dg.AssetCheckSeverity.ERROR
        assert "`l2 up`" in checks[asset, "alive"].description
    numbers = [event for event in result.asset_events if isinstance(event, dg.AssetMaterialization)]
    assert [event.asset_key.to_user_string() for event in numbers] == ["collectors/iqfeed-depth-0"]
    assert numbers[0].metadata["lines"].value == 10
    assert result.run_requests == []
    assert tick(definitions, result.cursor).asset_events == []
    lease.release()
    lost = tick(definitions, result.cursor).asset_events
    assert [event.metadata["state"].value for event in lost if event.check_name == "alive"] == ["lost lease"]


def test_symbols_of_thousands_are_derived_once_and_followed(settings):
    definitions = build_definitions(settings)
    write_symbols(settings.symbols_file, demo_symbols(3000))
    cursor = tick(definitions).cursor
    path = settings.run_dir / "desired" / "collector-iqfeed-depth-0.json"
    assert (read_desired(path).generation, len(read_desired(path).symbols)) == (1, 3000)
    edit_symbols(settings.symbols_file, lambda file: with_removed(file, ["SYM0001"]))
    tick(definitions, cursor)
    assert (read_desired(path).generation, len(read_desired(path).symbols)) == (2, 2999)


def test_alive_check_button_judges_at_once(settings):
    definitions = build_definitions(settings)
    key = dg.AssetCheckKey(dg.AssetKey(["services", "sealer"]), "alive")
    checks = [item for item in definitions.asset_checks or [] if key in item.check_keys]
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([*checks], instance=instance, selection=dg.AssetSelection.checks(key))
        evaluation = result.get_asset_check_evaluations()[0]
        assert not evaluation.passed
        assert "action start, worker sealer" in (evaluation.description or "")

"""Job `daily_proofs` on a session date that was closed: real journals, warehouse and files, Dagster with SQLite.

Every proof ends in a stated result, the page is written in each case, and the page of a table shows what the proofs say of it.
"""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from l2_platform.clock import SystemClock
from l2_platform.definitions import build_definitions
from l2_platform.settings import CloseSettings, Settings
from l2_platform.warehouse.client import connect
from tests.integration.dagster_instances import dagster_instance
from tests.integration.recorded_days import DATE, deliver, record_day, recorded_home, seal

pytestmark = pytest.mark.integration
KEY = "2025-07-25"
AFTER_NS = (1_753_488_000 + 3 * 3600) * 10**9
"""Three hours after the end of the date."""
NIGHT = datetime(2025, 7, 26, 3, 30, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
PROOFS = {"gaps", "reconciliation", "completeness", "quality_audit", "day_report"}


class SetClock(SystemClock):
    """The night after the date."""

    def now_ns(self) -> int:
        return AFTER_NS


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[Settings]:
    with recorded_home(tmp_path_factory.mktemp("home"), numba_cache, close=CloseSettings(wait_s=0.3, poll_s=0.05)) as made:
        record_day(made, lines=1500)
        deliver(made, ["clickhouse", "jsonl"])
        seal(made)
        yield made


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with dagster_instance(tmp_path_factory.mktemp("dagster")) as found:
        yield found


@pytest.fixture(scope="module")
def definitions(settings: Settings) -> dg.Definitions:
    return build_definitions(settings, {"clock": SetClock()})


def run(definitions: dg.Definitions, instance: dg.DagsterInstance, job: str, **more: Any) -> Any:
    done = definitions.resolve_job_def(job).execute_in_process(
        instance=instance, partition_key=KEY, raise_on_error=False, **more
    )
    assert done.success, [str(event.step_failure_data)[:1500] for event in done.get_step_failure_events()]
    return done


def checks(done: Any) -> dict[tuple[str, str], Any]:
    return {(one.asset_key.to_user_string(), one.check_name): one for one in done.get_asset_check_evaluations()}


def schedule(definitions: dg.Definitions, instance: dg.DagsterInstance) -> Any:
    found = next(item for item in definitions.schedules or [] if item.name == "daily_proofs")
    repository = definitions.get_repository_def()
    with dg.build_schedule_context(instance=instance, scheduled_execution_time=NIGHT, repository_def=repository) as context:
        return found.evaluate_tick(context)  # type: ignore[union-attr]


def test_a_closed_date_is_asked_for_at_once_and_otherwise_in_the_night(
    definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    [request] = schedule(definitions, instance).run_requests
    assert (request.run_key, request.partition_key) == (f"daily_proofs:{KEY}", KEY)
    closed = run(definitions, instance, "close_day")
    sensor = next(item for item in definitions.sensors or [] if item.name == "prove_closed_dates")
    context = dg.build_run_status_sensor_context(
        sensor_name=sensor.name, dagster_instance=instance, dagster_run=closed.dagster_run,
        dagster_event=next(event for event in closed.all_events if event.event_type_value == "PIPELINE_SUCCESS"),
    )  # fmt: skip
    asked = sensor(context)  # type: ignore[operator]
    assert (asked.run_key, asked.partition_key) == (f"proofs:{closed.run_id}", KEY)


def test_every_proof_is_made_and_tables_show_their_health(
    settings: Settings, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    client = connect(settings)
    client.command("ALTER TABLE l2.trades DELETE WHERE seq % 7 = 0 SETTINGS mutations_sync = 2")
    done = run(definitions, instance, "daily_proofs")
    made = {event.asset_key.to_user_string(): event.materialization for event in done.get_asset_materialization_events()}
    assert set(made) == PROOFS
    found = checks(done)
    # rows that were lost in the table were brought back from the journal, and the table says so
    assert found["reconciliation", "stores_are_equal"].passed, found["reconciliation", "stores_are_equal"].description
    assert "1 healed" in found["trades", "equals_journal"].description
    for table in ("trades", "quotes", "depth_updates", "book_snapshots"):
        assert found[table, "equals_journal"].passed, found[table, "equals_journal"].description
        assert found[table, "equals_journal"].metadata["session_date"].value == KEY
    assert found["quotes", "equals_files"].passed
    # the worst symbols by hour of the session, small enough to be shown at once
    judged = made["completeness"].metadata
    assert "data:image/png;base64," in judged["coverage_map"].value
    assert len(judged["coverage_map"].value) < 1_000
    assert judged["coverage_rows"].value.split(", ")[0] in judged["worst"].value
    index = settings.home / "quality" / KEY / "index.html"
    assert made["quality_audit"].metadata["pages"].value == str(index)
    assert f"l2 audit {KEY} --open" in made["quality_audit"].metadata["look"].value
    assert "key_once" in index.read_text()
    assert "trades.html" in index.read_text()
    assert (index.parent / "trades.html").is_file()
    # the recording was cut once: told on the page, by the ledger, and on the table
    page = (settings.home / "reports" / f"{KEY}.html").read_text()
    verdict = made["day_report"].metadata["verdict"].value
    assert made["day_report"].metadata["page"].value == str(settings.home / "reports" / f"{KEY}.html")
    assert verdict.split(":")[0] in {"degraded", "missing"}, verdict
    assert "clickhouse trades of iqfeed-level1-0" in page
    assert not found["day_report", "date_is_proven"].passed
    assert verdict in found["day_report", "date_is_proven"].description
    ran = {row[0] for row in client.query("SELECT DISTINCT check FROM l2.audit_runs").result_rows}
    assert {name for _, name in found} >= ran, "each check of the audit is a check of the table that it judges"
    client.close()
    assert schedule(definitions, instance).run_requests in (None, []), "proven already"


def test_a_missing_table_is_red_and_the_page_is_written_all_the_same(
    settings: Settings, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    client = connect(settings)
    client.command("RENAME TABLE l2.book_snapshots TO l2.away")
    # nobody can write pages into a file: said, and nothing else is lost
    shutil.rmtree(settings.quality_dir, ignore_errors=True)
    settings.quality_dir.write_text("in the way")
    try:
        done = run(definitions, instance, "daily_proofs", run_config={"ops": {"reconciliation": {"config": {"heal": False}}}})
    finally:
        client.command("RENAME TABLE l2.away TO l2.book_snapshots")
        settings.quality_dir.unlink()
        client.close()
    found = checks(done)
    [audit] = done.asset_materializations_for_node("quality_audit")
    assert audit.metadata["pages"].value.startswith("not written: ")
    assert "key_once" in audit.metadata["checks"].value
    red = {"completeness": "every_symbol_is_complete", "reconciliation": "stores_are_equal", "quality_audit": "checks_find_no_error"}
    for key in red.items():
        assert not found[key].passed, key
        assert found[key].severity is dg.AssetCheckSeverity.ERROR
    assert "not evaluated" in found["completeness", "every_symbol_is_complete"].description
    assert "not evaluated" in found["book_snapshots", "equals_journal"].description
    assert not found["book_snapshots", "equals_journal"].passed
    assert not found["day_report", "date_is_proven"].passed
    assert "table book_snapshots: not evaluated" in (settings.home / "reports" / f"{KEY}.html").read_text()
    assert DATE == 20250725


def test_the_weekly_audit_judges_each_date_of_the_week(
    settings: Settings, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    done = definitions.resolve_job_def("audit_week").execute_in_process(instance=instance, raise_on_error=False)
    assert done.success
    [check] = done.get_asset_check_evaluations()
    # the week that ended last has no row of this instance: nothing is green that nobody could look at
    assert not check.passed
    assert "not evaluated" in check.description
    [made] = done.asset_materializations_for_node("weekly_audit")
    index = Path(made.metadata["pages"].value)
    assert index.is_file()
    assert index.parent.parent == settings.quality_dir
    assert f"l2 audit {index.parent.name[-10:]} --week --open" in made.metadata["look"].value

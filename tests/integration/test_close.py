"""The daily close and job `rebuild`, as services and through Dagster, against the embedded warehouse and real journals."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from clickhouse_connect.driver.client import Client

from l2_platform.clock import SystemClock
from l2_platform.definitions import build_definitions
from l2_platform.errors import DateBusy, InputError
from l2_platform.journal.layout import date_folder, list_segments
from l2_platform.market.dates import date_text
from l2_platform.monitoring.leases import date_lease
from l2_platform.operations.close import close_date, reason_to_rebuild
from l2_platform.replay.staging import MARKET_TABLES
from l2_platform.settings import CloseSettings, Settings
from l2_platform.warehouse.client import connect
from l2_platform.warehouse.content import Content
from tests.integration.recorded_days import (
    DATE,
    DEPTH,
    LEVEL1,
    NEXT,
    deliver,
    record_day,
    recorded_home,
    seal,
)

pytestmark = pytest.mark.integration
WHERE = "session_date = '2025-07-25'"
KEY = "2025-07-25"
SINKS = ("clickhouse", "jsonl")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[Settings]:
    with recorded_home(tmp_path_factory.mktemp("home"), numba_cache, close=CloseSettings(wait_s=0.3, poll_s=0.05)) as made:
        record_day(made, lines=1500)
        yield made


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[Client]:
    made = connect(settings)
    yield made
    made.close()


def reports(client: Client) -> list[Any]:
    sql = (
        "SELECT stream, table, rows, content_hash, journal_lines, segments, segments_sealed, rebuilt, reason FROM l2.daily_reports"
        f" WHERE {WHERE} ORDER BY ts_written, stream, table"
    )
    return list(client.query(sql).result_rows)


def test_a_date_that_was_not_delivered_is_not_closed(settings: Settings) -> None:
    said: list[str] = []
    report = close_date(settings, SystemClock(), DATE, said.append)
    assert not report.closed
    assert f"deliver-clickhouse has not finished {DEPTH} of {date_text(DATE)}: look at deliveries/clickhouse" in report.waiting
    assert f"deliver-jsonl has not finished {LEVEL1} of {date_text(DATE)}: look at deliveries/jsonl" in report.waiting
    assert any(text.startswith("waiting: deliver-clickhouse") for text in said)
    # nobody else seals: the close did
    assert all(file.raw is None for file in list_segments(date_folder(settings.journal_dir, DEPTH, DATE)))


def test_a_delivered_date_is_closed_and_its_facts_are_recorded(settings: Settings, client: Client) -> None:
    deliver(settings, SINKS)
    seal(settings)
    report = close_date(settings, SystemClock(), DATE)
    assert report.closed
    assert [item.reason for item in report.streams] == ["", ""]
    found = reports(client)
    assert {(row[0], row[1]) for row in found} == {(stream, table) for stream in (DEPTH, LEVEL1) for table in MARKET_TABLES}
    for stream, table, rows, digest, lines, segments, sealed, rebuilt, _reason in found:
        sql = f"SELECT count() FROM l2.{table} WHERE {WHERE} AND stream = '{stream}'"
        assert rows == client.query(sql).result_rows[0][0]
        assert (digest == "0" * 32) == (rows == 0)
        assert lines >= rows
        assert (segments, sealed, rebuilt) == (1, 1, 0)
    close_date(settings, SystemClock(), DATE)
    again = reports(client)
    assert again[: len(found)] == again[len(found) :] == found


def test_what_needs_it_is_rebuilt_and_said(settings: Settings, client: Client) -> None:
    before = reports(client)[-len(MARKET_TABLES) * 2 :]
    client.command(f"INSERT INTO l2.trades SELECT * FROM l2.trades WHERE {WHERE} AND seq < 50 SETTINGS insert_deduplicate = 0")
    client.command(f"ALTER TABLE l2.depth_updates UPDATE size = size + 1 WHERE {WHERE} AND seq = 77 SETTINGS mutations_sync = 2")
    report = close_date(settings, SystemClock(), DATE)
    reasons = {item.stream: item.reason for item in report.streams}
    assert "rows twice" in reasons[LEVEL1]
    assert reasons[DEPTH] == "depth_updates changed since the date was closed"
    after = reports(client)[-len(before) :]
    assert [row[:4] for row in after] == [row[:4] for row in before]
    assert all(row[7] == 1 and row[8] for row in after)
    assert all(item.reason == "" for item in close_date(settings, SystemClock(), DATE).streams)


def test_reasons_to_rebuild() -> None:
    good = {table: Content(10, "a" * 32, 1, 10, 10) for table in MARKET_TABLES}
    assert reason_to_rebuild(10, 10, good, {}) == ""
    assert "9 of 10 lines" in reason_to_rebuild(10, 9, good, {})
    assert "2 rows twice" in reason_to_rebuild(10, 10, good | {"quotes": Content(12, "b", 1, 10, 10)}, {})
    assert "up to line 11" in reason_to_rebuild(10, 10, good | {"quotes": Content(10, "b", 1, 11, 10)}, {})
    assert "no row" in reason_to_rebuild(10, 10, {table: Content() for table in MARKET_TABLES}, {})
    assert "trades cannot be read" in reason_to_rebuild(10, 10, {key: item for key, item in good.items() if key != "trades"}, {})
    assert "trades changed" in reason_to_rebuild(10, 10, good, {"trades": "c" * 32})


def test_dates_that_cannot_be_closed_say_why(settings: Settings) -> None:
    with pytest.raises(InputError, match="future"):
        close_date(settings, SystemClock(), 29990101)
    with date_lease(settings.run_dir, DEPTH, DATE, "rebuild"), pytest.raises(DateBusy, match="rebuild"):
        close_date(settings, SystemClock(), DATE)
    # the recorder stopped on that date: its last segment stays open until it begins the next one, and nobody has finished it
    report = close_date(settings, SystemClock(), NEXT)
    assert not report.closed


def materialize(settings: Settings, name: str, config: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    definitions = build_definitions(settings)
    asset = next(item for item in definitions.assets or [] if isinstance(item, dg.AssetsDefinition) and dg.AssetKey(name) in item.keys)
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [asset], partition_key=KEY, instance=instance, raise_on_error=False,
            resources=dict(definitions.resources or {}),
            run_config={"ops": {name: {"config": config}}} if config else None,
        )  # fmt: skip
        checks = {item.check_name: item for item in result.get_asset_check_evaluations()}
        events = result.get_asset_materialization_events()
        metadata = {key: value.value for event in events for key, value in event.materialization.metadata.items()}
        messages = [event.message or "" for event in result.all_events if event.is_failure]
        return result, metadata | {"failures": messages, "events": len(events)}, checks


def test_the_asset_closed_day_shows_facts_and_checks(settings: Settings) -> None:
    result, metadata, checks = materialize(settings, "closed_day")
    assert result.success
    assert set(checks) == {"everything_is_delivered", "journal_is_sealed", "tables_agree_with_journal"}
    assert all(check.passed for check in checks.values())
    assert metadata["journal_lines"] > 3000
    assert "depth_updates" in metadata["tables"]


def test_the_job_rebuild_shows_hashes_and_what_differs(settings: Settings, client: Client) -> None:
    client.command(f"ALTER TABLE l2.quotes DELETE WHERE {WHERE} AND seq = 3 SETTINGS mutations_sync = 2")
    result, metadata, _ = materialize(settings, "rebuilt_tables", {"streams": [LEVEL1], "symbols": []})
    assert result.success
    assert metadata["events"] == 1
    assert metadata["replaced_tables"] == 1
    assert metadata["hashes"][f"{LEVEL1} quotes"]["before"] != metadata["hashes"][f"{LEVEL1} quotes"]["after"]
    assert "| quotes | only after | 3 |" in metadata["difference"]
    assert metadata["look"].startswith(f"`l2 reconcile {KEY}`")
    result, metadata, _ = materialize(settings, "rebuilt_tables")
    assert metadata["replaced_tables"] == 0
    assert all(item["before"] == item["after"] for item in metadata["hashes"].values())


@pytest.mark.parametrize(
    ("config", "message"),
    [({"streams": ["iqfeed-depth-1"]}, "did you mean iqfeed-depth-0"), ({"symbols": ["SYM1"]}, "no stream has a row of 'SYM1'")],
)
def test_wrong_run_config_fails_with_what_to_do(settings: Settings, config: dict[str, Any], message: str) -> None:
    result, metadata, _ = materialize(settings, "rebuilt_tables", config)
    assert not result.success
    assert any(message in text for text in metadata["failures"]) or message in str(
        [event.step_failure_data.error for event in result.get_step_failure_events()]
    )


def test_the_command_tells_tables_and_json_and_errors(settings: Settings) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("L2_")}
    environment |= {"L2_HOME": str(settings.home), "L2_PORTS__BASE": str(settings.ports.base), "L2_WAREHOUSE__IDLE_EXIT_S": "900"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from l2_platform.cli import main; main()", "rebuild", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    done = run(KEY, "--json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["stream"]: line["outcome"] for line in lines} == {DEPTH: "equal", LEVEL1: "equal"}
    text = run(KEY, "--stream", LEVEL1, "--symbols", "SYM000")
    assert text.returncode == 0, text.stderr
    assert "equal" in text.stdout
    for arguments, words in (
        (("2999-01-01",), "in the future"), (("2025-13-01",), "is no date"), ((KEY, "--to", "2025-07-24"), "is before"),
        (("2025-08-01", "--to", "2025-08-09"), "no session date from"), ((KEY, "--symbols", ","), "names none"),
    ):  # fmt: skip
        refused = run(*arguments)
        assert refused.returncode == 2, arguments
        assert words in refused.stderr, arguments
        assert refused.returncode != -signal.SIGABRT

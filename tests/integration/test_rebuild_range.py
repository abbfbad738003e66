"""Job `rebuild` over several session dates in one run, as a backfill starts it: what each date shows, and a run that is terminated."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from clickhouse_connect.driver.client import Client

from l2_platform.clock import SystemClock
from l2_platform.definitions import build_definitions
from l2_platform.monitoring.heartbeat import Heartbeat
from l2_platform.settings import Settings
from l2_platform.warehouse.client import connect
from tests.integration.dagster_instances import ROOT, dagster_instance
from tests.integration.recorded_days import DEPTH, LEVEL1, deliver, record_day, recorded_home

pytestmark = pytest.mark.integration
FIRST, SECOND = "2025-07-25", "2025-07-26"
RANGE = {"dagster/asset_partition_range_start": FIRST, "dagster/asset_partition_range_end": SECOND}
ASSET = dg.AssetKey("rebuilt_tables")
YIELD_S = "0.5"
"""How long an insert gives way to a live delivery that is behind: so long a run is in the middle of a stream."""
FOUND_S = 120


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[Settings]:
    with recorded_home(tmp_path_factory.mktemp("home"), numba_cache) as made:
        record_day(made, lines=1500)
        deliver(made)
        yield made


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[Client]:
    made = connect(settings)
    yield made
    made.close()


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with dagster_instance(tmp_path_factory.mktemp("dagster")) as found:
        yield found


@pytest.fixture(scope="module")
def whole(client: Client) -> dict[tuple[str, str], Any]:
    return content(client)


def content(client: Client) -> dict[tuple[str, str], Any]:
    """(table, date) → rows and one number over all of them."""
    sql = "SELECT toString(session_date), count(), sum(cityHash64(* EXCEPT (ts_event)) % 1000003) FROM l2.{} GROUP BY 1"
    return {(table, row[0]): row[1:] for table in ("depth_updates", "quotes") for row in client.query(sql.format(table)).result_rows}


def spoil(client: Client) -> None:
    """Depth of both dates, and the quotes of the first."""
    for change in ("depth_updates UPDATE size = size + 1 WHERE seq > 0", f"quotes DELETE WHERE seq % 3 = 0 AND session_date = '{FIRST}'"):
        client.command(f"ALTER TABLE l2.{change} SETTINGS mutations_sync = 2")


def staged(client: Client, date: str = "") -> list[str]:
    sql = "SELECT name FROM system.tables WHERE database = 'l2_staging'"
    return [name for (name,) in client.query(sql).result_rows if date.replace("-", "") in name.replace("-", "")]


def rebuild(settings: Settings, instance: dg.DagsterInstance, **dates: Any) -> tuple[str, dict[str, dict[str, Any]]]:
    """(id, partition → metadata of its newest materialization) of a run, which must end well."""
    job = build_definitions(settings).resolve_job_def("rebuild")
    done = job.execute_in_process(instance=instance, raise_on_error=False, **dates)
    assert done.success, [str(event.step_failure_data)[:1500] for event in done.get_step_failure_events()]
    return done.run_id, {
        str(event.partition): {name: value.value for name, value in event.materialization.metadata.items()}
        for event in done.get_asset_materialization_events()
    }


def said(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    return [entry.user_message for entry in instance.all_logs(run_id)]


def until(what: str, reached: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + FOUND_S
    while time.monotonic() < deadline:
        if found := reached():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {FOUND_S} s: {what}")


def test_one_run_rebuilds_a_range_of_dates_and_shows_each(
    settings: Settings, client: Client, instance: dg.DagsterInstance, whole: dict[tuple[str, str], Any]
) -> None:
    spoil(client)
    wrong = content(client)
    assert all(wrong[key] != whole[key] for key in (("depth_updates", FIRST), ("depth_updates", SECOND), ("quotes", FIRST)))
    run_id, shown = rebuild(settings, instance, tags=RANGE)
    assert content(client) == whole
    assert set(shown) == {FIRST, SECOND}
    for date, replaced in ((FIRST, {f"{DEPTH} depth_updates", f"{LEVEL1} quotes"}), (SECOND, {f"{DEPTH} depth_updates"})):
        found = shown[date]
        assert {name for name, item in found["hashes"].items() if item["before"] != item["after"]} == replaced
        assert found["replaced_tables"] == len(replaced)
        assert found["dagster/partition_row_count"] > whole["depth_updates", date][0] > 0
        assert f"| {DEPTH} | depth_updates | replaced |" in found["tables"]
    assert shown[FIRST]["messages"] > shown[SECOND]["messages"] > 0
    lines = said(instance, run_id)
    for place, date in enumerate((FIRST, SECOND), 1):
        begun = lines.index(f"session date {date} ({place} of 2)")
        assert lines[begun + 1].startswith(f"{DEPTH}: looking, 0"), lines[begun : begun + 3]
        assert begun < lines.index(f"{date} {DEPTH}: rebuilt") < lines.index(f"{date} {LEVEL1}: {'rebuilt' if place == 1 else 'equal'}")
    assert instance.get_materialized_partitions(ASSET) == {FIRST, SECOND}


def test_a_terminated_run_keeps_the_dates_it_ended_and_touches_no_other(
    settings: Settings, client: Client, whole: dict[tuple[str, str], Any], tmp_path: Path
) -> None:
    spoil(client)
    wrong = content(client)
    # a live delivery that is behind: each insert of the rebuild waits for it, as long as it may
    behind = Heartbeat(settings.run_dir / "heartbeats" / "deliver-clickhouse.json", "deliver-clickhouse", SystemClock())
    behind.beat("live", streams={DEPTH: {"lag_s": 60.0}})
    try:
        with dagster_instance(tmp_path) as instance:
            process = begin(settings, tmp_path)
            try:
                until("rows of the second date on their way", lambda: ended(process) or staged(client, SECOND))
                [run] = instance.get_runs()
                # what Dagster does to a run that is cancelled: it writes it down, then interrupts the run's process
                instance.report_run_canceling(run)
                process.send_signal(signal.SIGINT)
                process.wait(FOUND_S)
            finally:
                process.kill()
                process.wait()
            behind.path.unlink()
            log = (tmp_path / "run.log").read_text()
            # a termination is no failure to be tried again, whatever the retry policy says
            cancelled = instance.get_run_by_id(run.run_id)
            assert cancelled is not None
            assert cancelled.status is dg.DagsterRunStatus.CANCELED, log[-3000:]
            kept = {key: (whole if key[1] == FIRST else wrong)[key] for key in whole}
            assert content(client) == kept
            assert staged(client) == []
            assert instance.get_materialized_partitions(ASSET) == {FIRST}, "what is left to do is what the catalog shows as missing"
            assert f"{FIRST} {LEVEL1}: rebuilt" in said(instance, run.run_id)
            _, shown = rebuild(settings, instance, partition_key=SECOND)
            assert shown[SECOND]["replaced_tables"] == 1
            assert content(client) == whole
            assert instance.get_materialized_partitions(ASSET) == {FIRST, SECOND}
    finally:
        behind.path.unlink(missing_ok=True)


def begin(settings: Settings, dagster_home: Path) -> subprocess.Popen[bytes]:
    """A run over both dates in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("L2_")}
    environment |= {
        "DAGSTER_HOME": str(dagster_home), "L2_HOME": str(settings.home), "L2_PORTS__BASE": str(settings.ports.base),
        "L2_REBUILD__YIELD_S": YIELD_S, "L2_WAREHOUSE__IDLE_EXIT_S": "900",
    }  # fmt: skip
    command = [
        sys.executable, "-m", "dagster", "job", "execute", "-m", "l2_platform.definitions", "-j", "rebuild", "--tags", json.dumps(RANGE),
    ]  # fmt: skip
    with (dagster_home / "run.log").open("wb") as log:
        return subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)


def ended(process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the run ended before it was terminated"
    return False

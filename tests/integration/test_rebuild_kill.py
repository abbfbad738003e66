"""A rebuild that is killed, interrupted, or loses its warehouse at any point: nothing half replaced for good, and a retry succeeds."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from clickhouse_connect.driver.client import Client
from pydantic import SecretStr

from l2_platform.clock import SystemClock
from l2_platform.errors import SinkError
from l2_platform.replay.rebuild import RebuildRequest, rebuild_date
from l2_platform.settings import DeliverySettings, RebuildSettings, Settings, WarehouseSettings, load_settings
from l2_platform.warehouse.client import connect
from l2_platform.warehouse.start import ensure_warehouse, read_record, record_path, warehouse_password
from tests.integration.ports import free_base
from tests.integration.recorded_days import DATE, DEPTH, deliver, record_day

pytestmark = pytest.mark.integration
TABLES = ("depth_updates", "book_snapshots", "feed_events")
WHERE = f"session_date = '2025-07-25' AND stream = '{DEPTH}'"
END_AT = """
import os, signal, sys
from pathlib import Path
from l2_platform.clock import SystemClock
from l2_platform.monitoring.runtime import prepare_numba
from l2_platform.settings import load_settings
# a shell that starts tests in the background leaves SIGINT ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
settings = load_settings()
prepare_numba(Path(sys.argv[3]))
from l2_platform.replay.rebuild import RebuildRequest, rebuild_date

def report(stream, what, count, total):
    if what == sys.argv[1]:
        os.kill(os.getpid(), int(sys.argv[2]))

rebuild_date(RebuildRequest(20250725, ("iqfeed-depth-0",)), settings, SystemClock(), report)
"""
BEFORE_THE_PLAN = ("rebuilding", "swapping")
IN_THE_SWAP = ("swapping depth_updates", "swapping feed_events", "dropping staging")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    made = load_settings(
        home=tmp_path_factory.mktemp("home"), warehouse=WarehouseSettings(idle_exit_s=900), ports={"base": free_base()},
        delivery=DeliverySettings(discover_s=0.01), rebuild=RebuildSettings(insert_rows=1000),
    )  # fmt: skip
    record_day(made)
    deliver(made)
    yield made
    end_warehouse(made)


def end_warehouse(settings: Settings, number: int = signal.SIGTERM) -> None:
    record = read_record(record_path(settings))
    if record is not None and psutil.pid_exists(record.pid):
        process = psutil.Process(record.pid)
        process.send_signal(number)
        process.wait(30)


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    made = connect(settings)
    yield made
    made.close()


def run_until(settings: Settings, point: str, number: int, numba_cache: Any) -> subprocess.CompletedProcess[str]:
    """A rebuild in a process of its own that gets the signal at a point."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("L2_")}
    environment |= {
        "L2_HOME": str(settings.home), "L2_PORTS__BASE": str(settings.ports.base), "L2_REBUILD__INSERT_ROWS": "1000",
        "L2_WAREHOUSE__IDLE_EXIT_S": "900",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", END_AT, point, str(number), str(numba_cache.parent)], env=environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


def hashes(client: Client) -> dict[str, str]:
    """One number a table."""
    sql = "SELECT count(), sum(cityHash64(* EXCEPT (ts_event)) % 1000003) FROM l2.{table} WHERE {where}"
    return {table: str(client.query(sql.format(table=table, where=WHERE)).result_rows) for table in TABLES}


def spoil(client: Client) -> None:
    """Change all three tables, so that each has to be swapped."""
    for table, change in (("depth_updates", "size = size + 1"), ("book_snapshots", "total_bid_size = 0"), ("feed_events", "detail = 'x'")):
        client.command(f"ALTER TABLE l2.{table} UPDATE {change} WHERE {WHERE} SETTINGS mutations_sync = 2")


def staged(client: Client) -> list[str]:
    return [name for (name,) in client.query("SELECT name FROM system.tables WHERE database = 'l2_staging'").result_rows]


def again(settings: Settings) -> Any:
    (result,) = rebuild_date(RebuildRequest(DATE, (DEPTH,)), settings, SystemClock())
    return result


@pytest.fixture(scope="module")
def whole(settings: Settings) -> dict[str, str]:
    client = connect(settings)
    try:
        return hashes(client)
    finally:
        client.close()


@pytest.mark.parametrize("point", BEFORE_THE_PLAN)
def test_killed_before_the_plan_nothing_is_changed(
    settings: Settings, client: Client, whole: dict[str, str], numba_cache: Any, point: str
) -> None:
    spoil(client)
    wrong = hashes(client)
    assert wrong != whole
    done = run_until(settings, point, signal.SIGKILL, numba_cache)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert hashes(client) == wrong
    result = again(settings)
    assert (result.outcome, result.resumed) == ("rebuilt", False)
    assert hashes(client) == whole
    assert staged(client) == []


@pytest.mark.parametrize("point", IN_THE_SWAP)
def test_killed_in_the_swap_the_next_run_completes_it(
    settings: Settings, client: Client, whole: dict[str, str], numba_cache: Any, point: str
) -> None:
    spoil(client)
    done = run_until(settings, point, signal.SIGKILL, numba_cache)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert staged(client)
    result = again(settings)
    assert (result.outcome, result.resumed) == ("rebuilt", True)
    assert {table.state for table in result.tables if table.table in TABLES} == {"replaced"}
    assert hashes(client) == whole
    assert staged(client) == []
    assert again(settings).outcome == "equal"


def test_a_run_of_another_date_completes_a_swap_that_was_left(
    settings: Settings, client: Client, whole: dict[str, str], numba_cache: Any
) -> None:
    spoil(client)
    run_until(settings, "swapping book_snapshots", signal.SIGKILL, numba_cache)
    assert hashes(client) != whole
    rebuild_date(RebuildRequest(DATE, ("iqfeed-level1-0",)), settings, SystemClock())
    assert hashes(client) == whole
    assert staged(client) == []


def test_interrupted_it_takes_its_staging_with_it(
    settings: Settings, client: Client, whole: dict[str, str], numba_cache: Any
) -> None:
    spoil(client)
    wrong = hashes(client)
    done = run_until(settings, "comparing feed_events", signal.SIGINT, numba_cache)
    assert "KeyboardInterrupt" in done.stderr
    assert hashes(client) == wrong
    assert staged(client) == []
    assert again(settings).outcome == "rebuilt"
    assert hashes(client) == whole


def test_a_warehouse_that_is_killed_in_the_middle_and_back_costs_time_only(
    settings: Settings, client: Client, whole: dict[str, str]
) -> None:
    spoil(client)
    killed: list[int] = []

    def report(_stream: str, what: str, count: int, _total: int) -> None:
        if what == "rebuilding" and count and not killed:
            killed.append(1)
            end_warehouse(settings, signal.SIGKILL)

    (result,) = rebuild_date(RebuildRequest(DATE, (DEPTH,)), settings, SystemClock(), report)
    assert killed
    assert result.outcome == "rebuilt"
    fresh = connect(settings)
    assert hashes(fresh) == whole
    assert staged(fresh) == []
    fresh.close()


def test_a_warehouse_that_stays_away_is_told_and_the_retry_succeeds(settings: Settings, whole: dict[str, str]) -> None:
    client = connect(settings)
    spoil(client)
    wrong = hashes(client)
    port, password = ensure_warehouse(settings)[1], SecretStr(warehouse_password(settings))
    client.close()
    # a server of its own that is gone: nobody starts it
    away = settings.model_copy(
        update={
            "clickhouse": settings.clickhouse.model_copy(update={"embedded": False, "port": port, "password": password}),
            "rebuild": RebuildSettings(insert_rows=1000, retry_s=0.5),
        }
    )

    def report(_stream: str, what: str, count: int, _total: int) -> None:
        if what == "rebuilding" and count:
            end_warehouse(settings, signal.SIGKILL)

    with pytest.raises(SinkError, match=r"does not answer.*nothing was replaced"):
        rebuild_date(RebuildRequest(DATE, (DEPTH,)), away, SystemClock(), report)
    client = connect(settings)
    assert hashes(client) == wrong
    assert staged(client)
    assert again(settings).outcome == "rebuilt"
    assert hashes(client) == whole
    assert staged(client) == []
    client.close()

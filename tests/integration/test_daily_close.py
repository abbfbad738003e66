"""Job `daily_close` end to end on a session date that ended: real journals, warehouse, both sinks, Dagster with SQLite.

A close that fails says so in the run, leaves the date unclosed and red, and is asked for again by sensor `unclosed_dates`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from l2_platform.archive.layout import list_archived
from l2_platform.clock import SystemClock
from l2_platform.definitions import build_definitions
from l2_platform.market.dates import date_text
from l2_platform.replay.book_index import BookHistory
from l2_platform.replay.book_index_file import IndexFile, index_path
from l2_platform.replay.staging import MARKET_TABLES
from l2_platform.settings import CloseSettings, Settings
from l2_platform.warehouse.client import connect
from tests.integration.dagster_instances import dagster_instance
from tests.integration.recorded_days import DATE, DEPTH, LEVEL1, deliver, record_day, recorded_home, seal

pytestmark = pytest.mark.integration
KEY = "2025-07-25"
END_NS = 1_753_488_000 * 10**9
"""2025-07-26 00:00 UTC, when the date ends."""
ROOT = Path(__file__).parents[2]


class SetClock(SystemClock):
    """Shows so many seconds after the end of the date."""

    after_s = 0.0

    def now_ns(self) -> int:
        return END_NS + int(self.after_s * 1e9)


CLOSE = CloseSettings(wait_s=0.3, poll_s=0.05, margin_s=1800, again_first_s=600, again_max=2, due_s=7200)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[Settings]:
    with recorded_home(tmp_path_factory.mktemp("home"), numba_cache, close=CLOSE) as made:
        record_day(made, lines=1500)
        deliver(made, ["clickhouse"])
        yield made


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with dagster_instance(tmp_path_factory.mktemp("dagster")) as found:
        yield found


class Days:
    """The code location at a moment: what the sensor asks for, the runs, the promise."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.clock = SetClock()
        self.instance = instance
        self.definitions = build_definitions(settings, {"clock": self.clock})
        self.told: str | None = None

    def ask(self, after_s: float) -> dg.RunRequest | None:
        """What sensor `unclosed_dates` asks for so long after the end of the date."""
        self.clock.after_s = after_s
        sensor = next(item for item in self.definitions.sensors or [] if item.name == "unclosed_dates")
        assert isinstance(sensor, dg.SensorDefinition)
        with dg.build_sensor_context(instance=self.instance, definitions=self.definitions) as context:
            result = sensor.evaluate_tick(context)
        self.told = result.cursor
        return result.run_requests[0] if result.run_requests else None

    def run(self, job: str, **more: Any) -> Any:
        """Execute a job in this process."""
        return self.definitions.resolve_job_def(job).execute_in_process(instance=self.instance, raise_on_error=False, **more)

    def promise(self) -> Any:
        """Check `dates_are_closed` as it is judged now."""
        checks = self.run("judge_platform").get_asset_check_evaluations()
        return next(check for check in checks if check.check_name == "dates_are_closed")


@pytest.fixture(scope="module")
def days(settings: Settings, instance: dg.DagsterInstance) -> Days:
    return Days(settings, instance)


def made_by(result: Any) -> set[str]:
    """Assets that a run materialized."""
    return {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}


def test_a_close_that_cannot_finish_fails_and_is_asked_for_again_with_growing_distance(days: Days) -> None:
    first = days.run("daily_close", partition_key=KEY)
    assert not first.success
    step = first.get_step_failure_events()
    assert [event.step_key for event in step] == ["closed_day"]
    assert f"deliver-jsonl has not finished {DEPTH} of {date_text(DATE)}: look at deliveries/jsonl" in str(step[0].step_failure_data)
    assert not {"closed_day", "archive", "book_index"} & made_by(first)
    closed = [check for check in first.get_asset_check_evaluations() if check.asset_key == dg.AssetKey("closed_day")]
    checks = {check.check_name: check.passed for check in closed}
    assert checks == {"everything_is_delivered": False, "journal_is_sealed": True, "tables_agree_with_journal": False}

    assert days.ask(1800 + 599) is None
    assert days.told == f"{KEY}: try 1 of 2 follows at 2025-07-26 00:40 UTC"
    request = days.ask(1800 + 600)
    assert request is not None
    assert (request.run_key, request.partition_key, request.tags["l2/close_try"]) == (f"unclosed:{KEY}:1", KEY, "1")
    assert not days.run("daily_close", partition_key=KEY, tags=dict(request.tags)).success
    assert days.ask(1800 + 1199) is None
    request = days.ask(1800 + 1200)
    assert request is not None
    assert request.run_key == f"unclosed:{KEY}:2"
    assert days.promise().passed, "the close is not due yet"


def test_a_date_that_stays_unclosed_is_red_and_says_what_becomes_of_it(days: Days) -> None:
    assert not days.run("daily_close", partition_key=KEY, tags={"l2/close_try": "2"}).success
    assert days.ask(7300) is None
    assert days.told == f"{KEY}: 2 more tries did not help"
    check = days.promise()
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.ERROR
    assert f"{date_text(DATE)} ended 2.0 h ago and is not closed: 2 more tries did not help. Launch job daily_close" in check.description


def test_the_next_close_makes_everything_of_the_date(days: Days, settings: Settings) -> None:
    deliver(settings, ["jsonl"])
    seal(settings)
    result = days.run("daily_close", partition_key=KEY)
    assert result.success
    assert {"journal", *MARKET_TABLES, "bars_1m", "closed_day", "book_index", "archive"} <= made_by(result)
    failed = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert [(check.asset_key.to_user_string(), check.check_name) for check in failed] == []

    client = connect(settings)
    sql = "SELECT DISTINCT stream, table FROM l2.daily_reports WHERE session_date = '2025-07-25' AND rows > 0 ORDER BY stream, table"
    assert {stream for stream, _ in client.query(sql).result_rows} == {DEPTH, LEVEL1}
    client.close()
    file = IndexFile(index_path(settings.book_index_dir, DEPTH, DATE))
    assert file.directory.head["complete"]
    end_ns, symbol = int(file.directory.head["time"]), file.directory.head["symbols"][0]
    file.close()
    with BookHistory(settings) as history:
        assert history.book_at(symbol, end_ns, DEPTH, DATE).bids
        assert history.slow == 0
    assert {manifest.stream for manifest in list_archived(settings.archive_dir)} == {DEPTH, LEVEL1}

    assert days.ask(7400) is None
    assert days.told == "every ended session date is closed"
    assert days.promise().passed

"""Schedules and sensors at hours that are rare, of an exchange's calendar: they ask for dates of sessions that are there, or for none."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from l2_platform.clock import SystemClock
from l2_platform.definitions import build_definitions
from l2_platform.market.sessions import load_calendar
from l2_platform.settings import SessionSettings, Settings
from tests.integration.dagster_instances import dagster_instance

pytestmark = pytest.mark.integration

NEW_YORK = ZoneInfo("America/New_York")
HOURS = {
    "between_close_and_roll": "2025-07-18 20:05", "saturday": "2025-07-19 12:00", "sunday_night": "2025-07-20 23:30",
    "holiday": "2025-11-27 10:00", "after_a_half_day": "2025-11-28 17:20", "last_minute_of_the_year": "2024-12-31 23:59",
}  # fmt: skip
"""In New York."""
LATE = {
    "friday_night_on_monday": ("2025-07-18 23:05", "2025-07-21 00:30"), "a_day_late": ("2025-07-17 20:45", "2025-07-18 21:00"),
}  # fmt: skip
"""When it was time, and when the daemon came to it."""


class SetClock(SystemClock):
    """Shows what a test says."""

    def __init__(self, moment: datetime) -> None:
        super().__init__()
        self._ns = int(moment.timestamp()) * 10**9

    def now_ns(self) -> int:
        return self._ns


def moment(text: str) -> datetime:
    """A time in New York."""
    return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, session=SessionSettings(calendar="XNYS"))


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with dagster_instance(tmp_path_factory.mktemp("dagster")) as found:
        yield found


def record(settings: Settings) -> None:
    """Folders of some session dates."""
    for name in ("20241231", "20250717", "20250718", "20251126", "20251128"):
        (settings.journal_dir / settings.streams[0] / name).mkdir(parents=True)


def asked(settings: Settings, instance: dg.DagsterInstance, due: datetime, now: datetime) -> dict[str, list[str | None]]:
    """Schedule or sensor → partitions that it asks for."""
    definitions = build_definitions(settings, {"clock": SetClock(now)})
    repository = definitions.get_repository_def()
    found = {}
    for schedule in repository.schedule_defs:
        with dg.build_schedule_context(
            instance=instance, scheduled_execution_time=due.astimezone(UTC), repository_def=repository
        ) as context:
            found[schedule.name] = [request.partition_key for request in schedule.evaluate_tick(context).run_requests or []]
    for sensor in repository.sensor_defs:
        if sensor.name != "prove_closed_dates":
            with dg.build_sensor_context(instance=instance, repository_def=repository) as looked:
                found[sensor.name] = [request.partition_key for request in sensor.evaluate_tick(looked).run_requests or []]
    dates = {key for keys in found.values() for key in keys if key}
    assert all(load_calendar("XNYS").is_session(int(key.replace("-", ""))) for key in dates), dates
    return found


@pytest.mark.parametrize("hour", HOURS)
def test_an_instance_with_dates_asks_for_sessions_only(settings: Settings, instance: dg.DagsterInstance, hour: str) -> None:
    record(settings)
    assert len(asked(settings, instance, moment(HOURS[hour]), moment(HOURS[hour]))["measure_day_hourly"]) == 1


@pytest.mark.parametrize("hour", ["saturday", "sunday_night", "holiday"])
def test_a_new_instance_asks_for_no_close(settings: Settings, instance: dg.DagsterInstance, hour: str) -> None:
    assert asked(settings, instance, moment(HOURS[hour]), moment(HOURS[hour]))["daily_close"] == []


@pytest.mark.parametrize("late", LATE)
def test_a_tick_that_comes_late_asks_for_a_date_that_its_time_knew(settings: Settings, instance: dg.DagsterInstance, late: str) -> None:
    record(settings)
    due, now = map(moment, LATE[late])
    assert asked(settings, instance, due, now)["measure_day_hourly"] in (["2025-07-18"], ["2025-07-17"])

"""Sensor `unclosed_dates` on a closed date whose rows changed: asked for some time after the change, until the archive has it."""

from datetime import date
from pathlib import Path

import dagster as dg

from l2_platform.clock import SystemClock
from l2_platform.monitoring.changed_dates import changes_of, forget, note_change
from l2_platform.resources.closes import CLOSED, JOB, unclosed_dates
from l2_platform.sensors.closing import build_unclosed_sensor
from l2_platform.settings import CloseSettings, SessionSettings, Settings

NS = 10**9
DATE, KEY = 20260918, "2026-09-18"


class SetClock(SystemClock):
    """Shows what it was set to."""

    at = SystemClock().now_ns()

    def now_ns(self) -> int:
        return self.at


def test_a_closed_date_that_changed_is_asked_for_until_the_archive_has_it(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, session=SessionSettings(calendar="XNYS"), close=CloseSettings(again_first_s=600, again_max=2))
    clock = SetClock()
    partitions = dg.DailyPartitionsDefinition(start_date=date(2026, 9, 1).isoformat())
    sensor = build_unclosed_sensor(settings, partitions, clock)

    @dg.job(name=JOB, partitions_def=partitions)
    def daily_close() -> None:
        """Only its name is asked for."""

    definitions = dg.Definitions(jobs=[daily_close], sensors=[sensor])
    with dg.DagsterInstance.ephemeral() as instance:

        def ask(after_s: float) -> dg.RunRequest | None:
            clock.at = changed + int(after_s * NS)
            with dg.build_sensor_context(instance=instance, definitions=definitions) as context:
                result = sensor.evaluate_tick(context)
            return result.run_requests[0] if result.run_requests else None

        changed = SystemClock().now_ns()
        note_change(settings.run_dir, DATE, changed)
        assert ask(10_000) is None, "it was never closed: nobody has an archive of it"
        instance.report_runless_asset_event(dg.AssetMaterialization(CLOSED, partition=KEY))
        (found,) = unclosed_dates(settings, instance, changed)
        assert (found.session_date, found.changed_ns, found.tries) == (DATE, changed, 0)
        assert ask(599) is None
        request = ask(600)
        assert request is not None
        assert (request.partition_key, request.run_key) == (KEY, f"unclosed:{KEY}:{changed}:1")
        forget(changes_of(settings.run_dir, DATE))
        assert ask(600) is None


def test_what_an_always_open_market_closed_on_a_saturday_keeps_no_other_date_from_its_close(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, session=SessionSettings(calendar="XNYS"))
    now_ns = SystemClock().now_ns()
    with dg.DagsterInstance.ephemeral() as instance:
        for date_, key in ((20260919, "2026-09-19"), (DATE, KEY)):
            note_change(settings.run_dir, date_, now_ns)
            instance.report_runless_asset_event(dg.AssetMaterialization(CLOSED, partition=key))
        assert [found.session_date for found in unclosed_dates(settings, instance, now_ns)] == [DATE]

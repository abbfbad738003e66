from datetime import UTC, date, datetime

import pytest

from l2_platform.assets.partitions import build_partitions, current_key, date_of, number_of, recorded_dates
from l2_platform.clock import SystemClock
from l2_platform.settings import Settings

NOW_NS = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()) * 10**9


def recorded(settings: Settings, session_date: int) -> Settings:
    (settings.journal_dir / "iqfeed-depth-0" / str(session_date)).mkdir(parents=True)
    return settings


def test_nothing_recorded_starts_today(tmp_path):
    partitions = build_partitions(Settings(home=tmp_path), NOW_NS)
    assert partitions.get_partition_keys(current_time=datetime(2026, 11, 21, 12, tzinfo=UTC)) == ["2026-11-21"]


def test_always_open_has_every_utc_day_and_today(tmp_path):
    partitions = build_partitions(recorded(Settings(home=tmp_path), 20261101), NOW_NS)
    assert partitions.timezone == "UTC"
    keys = partitions.get_partition_keys(current_time=datetime(2026, 11, 21, 12, tzinfo=UTC))
    assert keys[0] == "2026-11-01"
    assert keys[-1] == "2026-11-21"
    assert "2026-11-15" in keys, "a Sunday"


def test_exchange_days_leave_out_weekends_and_holidays(tmp_path):
    partitions = build_partitions(recorded(Settings(home=tmp_path, feed={"kind": "iqfeed"}), 20250102), NOW_NS)
    keys = partitions.get_partition_keys(current_time=datetime(2026, 12, 1, 18, tzinfo=UTC))
    assert partitions.timezone == "America/New_York"
    assert keys[-4:] == ["2026-11-25", "2026-11-27", "2026-11-30", "2026-12-01"], "Thanksgiving and a weekend are closed"
    assert not {"2026-07-03", "2026-04-03", "2026-01-01", "2025-12-25"} & set(keys)
    assert {"2026-03-06", "2026-03-09", "2025-10-31", "2025-11-03"} <= set(keys), "around both clock changes"


def test_earlier_recorded_date_moves_the_start(tmp_path):
    settings = Settings(home=tmp_path)
    strays = (".staging", "notadate", "99999999", "20260230", "00010101", "99991231")
    for name in ("iqfeed-depth-0/20260101", "iqfeed-level1-import-0a1b2c3d/20180101", *(f"iqfeed-depth-0/{stray}" for stray in strays)):
        (settings.journal_dir / name).mkdir(parents=True)
    assert recorded_dates(settings.journal_dir) == [date(2018, 1, 1), date(2026, 1, 1)]
    assert build_partitions(settings, NOW_NS).get_first_partition_key() == "2018-01-01"


def test_current_key_is_a_partition(tmp_path):
    settings = Settings(home=tmp_path)
    now_ns = SystemClock().now_ns()
    partitions = build_partitions(settings, now_ns)
    assert partitions.has_partition_key(current_key(settings, now_ns, partitions))


@pytest.mark.parametrize("number", [20250725, 20240229, 19991231])
def test_dates_round_trip(number):
    assert number_of(date_of(number)) == number

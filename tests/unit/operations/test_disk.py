"""What is given up when the disk fills."""

from l2_platform.operations.disk import (
    DiskRecord,
    DiskState,
    free_bytes,
    next_state,
    not_wanted,
    read_record,
    to_start,
    write_record,
)
from l2_platform.operations.plan import plan_parts
from l2_platform.settings import Settings

RESERVE = 1000


def test_enough_room_keeps_everything():
    assert next_state(DiskState.OK, 1000, RESERVE) is DiskState.OK


def test_below_the_reserve_jsonl_is_shed():
    assert next_state(DiskState.OK, 999, RESERVE) is DiskState.SHED


def test_jsonl_comes_back_only_well_above_the_reserve():
    assert next_state(DiskState.SHED, 1499, RESERVE) is DiskState.SHED
    assert next_state(DiskState.SHED, 1500, RESERVE) is DiskState.OK


def test_below_a_quarter_only_the_recording_is_left_from_any_state():
    assert next_state(DiskState.OK, 249, RESERVE) is DiskState.STOPPED
    assert next_state(DiskState.SHED, 249, RESERVE) is DiskState.STOPPED


def test_the_way_back_has_bars_of_its_own():
    assert next_state(DiskState.STOPPED, 374, RESERVE) is DiskState.STOPPED
    assert next_state(DiskState.STOPPED, 375, RESERVE) is DiskState.SHED
    assert next_state(DiskState.STOPPED, 1499, RESERVE) is DiskState.SHED
    assert next_state(DiskState.STOPPED, 1500, RESERVE) is DiskState.OK


def test_the_journal_and_what_makes_room_are_never_given_up(tmp_path):
    parts = plan_parts(Settings(home=tmp_path))
    assert not_wanted(DiskState.OK, parts) == []
    assert not_wanted(DiskState.SHED, parts) == ["deliver-jsonl"]
    stopped = not_wanted(DiskState.STOPPED, parts)
    kept = {part.name for part in parts} - set(stopped)
    assert kept == {"simulator", "watchdog", "sealer", *(part.name for part in parts if part.name.startswith("collector-"))}
    assert stopped[-1] == "warehouse"
    assert stopped.index("dagster-daemon") < stopped.index("deliver-clickhouse") < stopped.index("warehouse")


def test_what_was_given_up_comes_back_stores_first(tmp_path):
    parts = plan_parts(Settings(home=tmp_path))
    given_up = {"deliver-clickhouse", "warehouse", "deliver-jsonl", "gone-by-now"}
    assert to_start(given_up, DiskState.STOPPED, parts) == []
    assert to_start(given_up, DiskState.SHED, parts) == ["warehouse", "deliver-clickhouse"]
    assert sorted(to_start(given_up, DiskState.OK, parts)) == ["deliver-clickhouse", "deliver-jsonl", "warehouse"]


def test_decision_survives_a_round_trip(tmp_path):
    settings = Settings(home=tmp_path)
    settings.run_dir.mkdir()
    assert read_record(settings) is None
    record = DiskRecord(DiskState.SHED, 12, 34, ("deliver-jsonl",))
    write_record(settings, record)
    assert read_record(settings) == record


def test_damaged_record_counts_as_none(tmp_path):
    settings = Settings(home=tmp_path)
    settings.run_dir.mkdir()
    (settings.run_dir / "disk.json").write_text('{"state": "odd"}')
    assert read_record(settings) is None


def test_free_space_of_a_home_that_does_not_exist_yet(tmp_path):
    assert free_bytes(tmp_path / "not" / "yet") > 0

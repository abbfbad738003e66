"""What is given up when the disk fills."""

from l2_platform.operations.disk import DiskRecord, DiskState, free_bytes, next_state, read_record, write_record
from l2_platform.settings import Settings

RESERVE = 1000


def test_enough_room_keeps_everything():
    assert next_state(DiskState.OK, 1000, RESERVE) is DiskState.OK


def test_below_the_reserve_jsonl_is_shed():
    assert next_state(DiskState.OK, 999, RESERVE) is DiskState.SHED


def test_jsonl_comes_back_only_well_above_the_reserve():
    assert next_state(DiskState.SHED, 1499, RESERVE) is DiskState.SHED
    assert next_state(DiskState.SHED, 1500, RESERVE) is DiskState.OK


def test_below_a_quarter_everything_stops_from_any_state():
    assert next_state(DiskState.OK, 249, RESERVE) is DiskState.STOPPED
    assert next_state(DiskState.SHED, 249, RESERVE) is DiskState.STOPPED


def test_decision_survives_a_round_trip(tmp_path):
    settings = Settings(home=tmp_path)
    settings.run_dir.mkdir()
    assert read_record(settings) is None
    record = DiskRecord(DiskState.SHED, 12, 34)
    write_record(settings, record)
    assert read_record(settings) == record


def test_damaged_record_counts_as_none(tmp_path):
    settings = Settings(home=tmp_path)
    settings.run_dir.mkdir()
    (settings.run_dir / "disk.json").write_text('{"state": "odd"}')
    assert read_record(settings) is None


def test_free_space_of_a_home_that_does_not_exist_yet(tmp_path):
    assert free_bytes(tmp_path / "not" / "yet") > 0

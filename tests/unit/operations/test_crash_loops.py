"""Which ends are crashes, when a process is held back, and how it comes back."""

import pytest

from l2_platform.operations.crash_loops import (
    CrashLoop,
    CrashWatch,
    Step,
    clear_loop,
    read_loop,
    record_path,
    write_loop,
)
from l2_platform.operations.supervisord import Process
from l2_platform.settings import Settings, SupervisionSettings

S = 10**9
LIMITS = SupervisionSettings(crash_s=20, crash_starts_max=3, crash_first_s=10, crash_cap_s=35)


class Bench:
    """A process manager's table and the watch, second by second."""

    def __init__(self):
        self.watch = CrashWatch(LIMITS)
        self.second = 1000
        self.recorded = False
        self.process = Process("w", "RUNNING", 1, self.second, "")

    def look(self, state="RUNNING", *, new=False, seconds=1):
        self.second += seconds
        pid = 0 if state in {"EXITED", "STOPPED", "BACKOFF"} else (self.process.pid or 1) + new
        started = self.second if new else self.process.started_s
        self.process = Process("w", state, pid, started, "")
        step = self.watch.look(self.process, self.second * S, recorded=self.recorded)
        if step is Step.HOLD:
            self.recorded = True
            self.hold_s = self.watch.held(self.process, self.second * S)
            self.process = Process("w", "STOPPED", 0, started, "")
        elif step is Step.HEALED:
            self.recorded = False
        elif step is Step.TRY:
            self.process = Process("w", "RUNNING", 5000 + self.second, self.second, "")
        return step


def crash_until_held(bench):
    for number in range(20):
        if bench.look(new=True, seconds=2) is Step.HOLD:
            return number
    return pytest.fail("not held")


def test_three_quick_ends_in_a_row_are_a_loop():
    bench = Bench()
    bench.look()
    assert crash_until_held(bench) == 2
    assert bench.hold_s == 10


def test_ends_seen_as_exited_count_once_each():
    bench = Bench()
    bench.look()
    steps = [bench.look("EXITED"), bench.look(new=True), bench.look("EXITED"), bench.look(new=True), bench.look("EXITED")]
    assert steps == [None, None, None, None, Step.HOLD]


def test_long_lives_and_asked_ends_are_no_crashes():
    bench = Bench()
    bench.look()
    for _ in range(10):
        assert bench.look(new=True, seconds=30) is None
        for _ in range(25):
            assert bench.look() is None
    for _ in range(10):
        assert bench.look("STOPPED") is None
        assert bench.look(new=True) is None


def test_one_death_after_long_life_is_no_loop_and_forgets_the_ones_before():
    bench = Bench()
    bench.look()
    for _ in range(10):
        assert [bench.look(new=True, seconds=2), bench.look(new=True, seconds=2)] == [None, None]
        assert all(bench.look() is None for _ in range(30))


def test_held_process_is_tried_again_longer_each_time_up_to_the_cap():
    bench = Bench()
    bench.look()
    crash_until_held(bench)
    holds = [bench.hold_s]
    for _ in range(4):
        waited = 0
        while bench.look("STOPPED") is None:
            waited += 1
        assert waited <= holds[-1]
        assert bench.look(new=False) is None  # it is seen running
        assert bench.look("EXITED") is Step.HOLD
        holds.append(bench.hold_s)
    assert holds == [10, 20, 35, 35, 35]


def test_process_that_takes_its_time_to_stop_is_tried_again_too():
    bench = Bench()
    bench.look()
    crash_until_held(bench)
    bench.process = Process("w", "RUNNING", 78, bench.second, "")
    steps = [bench.look("STOPPING") for _ in range(3)] + [bench.look("STOPPED") for _ in range(8)]
    assert steps.index(Step.TRY) == 9


def test_trial_that_dies_before_it_is_seen_is_not_started_each_second():
    bench = Bench()
    bench.look()
    crash_until_held(bench)
    while bench.look("STOPPED") is not Step.TRY:
        pass
    dead = Process("w", "EXITED", 0, bench.second + 1, "")
    bench.second += 1
    assert bench.watch.look(dead, bench.second * S, recorded=True) is Step.HOLD


def test_trial_that_lives_is_healed_and_counts_anew():
    bench = Bench()
    bench.look()
    crash_until_held(bench)
    while bench.look("STOPPED") is not Step.TRY:
        pass
    steps = [bench.look() for _ in range(25)]
    assert Step.HEALED in steps
    assert crash_until_held(bench) == 3  # the first of these ends a long life
    assert bench.hold_s == 10


def test_cleared_by_a_person_counts_anew_and_a_start_by_hand_is_a_trial():
    bench = Bench()
    bench.look()
    crash_until_held(bench)
    bench.recorded = False
    bench.process = Process("w", "RUNNING", 77, bench.second, "")
    assert bench.look() is None
    assert crash_until_held(bench) == 2
    assert bench.look("RUNNING") is None
    assert bench.look("EXITED") is Step.HOLD


def test_new_watchdog_takes_a_told_loop_as_on_trial():
    watch = CrashWatch(LIMITS)
    process = Process("w", "RUNNING", 9, 50, "")
    assert watch.look(process, 1000 * S, recorded=True) is None
    assert watch.look(Process("w", "EXITED", 0, 50, ""), 1002 * S, recorded=True) is Step.HOLD
    assert watch.held(process, 1002 * S) == 20


def test_record_round_trip_and_what_cannot_be_read(tmp_path):
    settings = Settings(home=tmp_path)
    loop = CrashLoop("w", 5, 10, 20)
    assert read_loop(settings, "w") is None
    write_loop(settings, loop)
    assert read_loop(settings, "w") == loop
    record_path(settings, "w").write_text("{")
    assert read_loop(settings, "w") is None
    clear_loop(settings, "w")
    clear_loop(settings, "w")
    assert not record_path(settings, "w").exists()

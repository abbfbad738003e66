"""Who is hung, and who is not."""

import os

import pytest

from l2_platform.clock import SystemClock
from l2_platform.monitoring.heartbeat import HeartbeatRecord, process_start
from l2_platform.operations.plan import Health, Part, Phase
from l2_platform.operations.supervisord import Process
from l2_platform.operations.watchdog import Silences, hung_pid
from l2_platform.settings import SupervisionSettings

PART = Part("w", ("w",), Phase.COLLECT, Health.HEARTBEAT)
NOW_NS = 10**18
SECOND = 10**9
LIMITS = SupervisionSettings(hung_s=15, start_s=120)


def record(**changes) -> HeartbeatRecord:
    fields = {
        "worker": "w",
        "pid": os.getpid(),
        "start": process_start(os.getpid()),
        "generation": 1,
        "state": "live",
        "ts": NOW_NS,
    }
    return HeartbeatRecord(**{**fields, **changes})


def running(pid: int | None = None) -> Process:
    return Process("w", "RUNNING", pid or os.getpid(), 0, "")


def test_old_heartbeat_of_a_living_process_is_hung():
    assert hung_pid(PART, running(), record(), 16, 3600, LIMITS) == os.getpid()


def test_fresh_heartbeat_is_not():
    assert hung_pid(PART, running(), record(), 14, 3600, LIMITS) is None


def test_worker_that_is_getting_ready_has_the_time_of_a_start():
    assert hung_pid(PART, running(), record(state="syncing"), 119, 120, LIMITS) is None
    assert hung_pid(PART, running(), record(state="live"), 119, 120, LIMITS) == os.getpid()
    assert hung_pid(PART, running(), record(state="syncing"), 119, 400, LIMITS) == os.getpid()


def test_heartbeat_of_an_earlier_process_says_nothing_about_this_one():
    assert hung_pid(PART, running(pid=1), record(), 16, 3600, LIMITS) is None


def test_reused_pid_is_not_killed():
    assert hung_pid(PART, running(), record(start=1), 16, 3600, LIMITS) is None


def test_worker_that_said_goodbye_is_not_hung():
    assert hung_pid(PART, running(), record(state="stopped"), 16, 3600, LIMITS) is None


def test_part_without_a_heartbeat_is_left_alone():
    part = Part("w", ("w",), Phase.DAGSTER, Health.WEBSERVER)
    assert hung_pid(part, running(), record(), 16, 3600, LIMITS) is None


def test_process_that_is_not_running_is_left_alone():
    assert hung_pid(PART, None, record(), 16, 3600, LIMITS) is None


@pytest.mark.parametrize("step_s", [3600, -3600, 86_400, -86_400])
def test_step_of_the_clock_is_no_silence(step_s: int):
    silences, start_s = Silences(), 1000
    assert silences.look(record(), start_s * SECOND)[0] == 0
    # the worker goes on beating once a second, before and after its clock was set
    beats = [*range(1, 5), *(step_s + second for second in range(5, 10))]
    silent = [
        silences.look(record(ts=NOW_NS + beat * SECOND), (start_s + second) * SECOND)[0]
        for second, beat in enumerate(beats, 1)
    ]
    assert silent == [0] * len(beats)


@pytest.mark.parametrize("step_s", [0, 3600, -3600])
def test_hung_worker_is_found_whatever_the_clock_does(step_s: int):
    silences, start_s = Silences(), 1000
    hung = record(ts=NOW_NS + step_s * SECOND)
    assert silences.look(hung, start_s * SECOND)[0] == 0
    assert silences.look(hung, (start_s + 16) * SECOND)[0] == 16


def test_uptime_is_that_of_the_process():
    clock = SystemClock()
    silent_s, up_s = Silences().look(record(), clock.monotonic_ns())
    assert silent_s == 0
    assert 0 < up_s < 86_400

"""Who is hung, and who is not."""

import os

from l2_platform.monitoring.heartbeat import HeartbeatRecord, process_start
from l2_platform.operations.plan import Health, Part, Phase
from l2_platform.operations.supervisord import Process
from l2_platform.operations.watchdog import hung_pid
from l2_platform.settings import SupervisionSettings

PART = Part("w", ("w",), Phase.COLLECT, Health.HEARTBEAT)
NOW_NS = 10**18
LIMITS = SupervisionSettings(hung_s=15, start_s=120)


def record(age_s: float, **changes) -> HeartbeatRecord:
    fields = {
        "worker": "w",
        "pid": os.getpid(),
        "start": process_start(os.getpid()),
        "generation": 1,
        "state": "live",
        "ts": NOW_NS - int(age_s * 1e9),
    }
    return HeartbeatRecord(**{**fields, **changes})


def running(pid: int | None = None, up_s: int = 3600) -> Process:
    return Process("w", "RUNNING", pid or os.getpid(), NOW_NS // 10**9 - up_s, "")


def test_old_heartbeat_of_a_living_process_is_hung():
    assert hung_pid(PART, running(), record(16), NOW_NS, LIMITS) == os.getpid()


def test_fresh_heartbeat_is_not():
    assert hung_pid(PART, running(), record(14), NOW_NS, LIMITS) is None


def test_worker_that_is_getting_ready_has_the_time_of_a_start():
    assert hung_pid(PART, running(up_s=120), record(119, state="syncing"), NOW_NS, LIMITS) is None
    assert hung_pid(PART, running(up_s=120), record(119, state="live"), NOW_NS, LIMITS) == os.getpid()
    assert hung_pid(PART, running(up_s=400), record(119, state="syncing"), NOW_NS, LIMITS) == os.getpid()


def test_heartbeat_of_an_earlier_process_says_nothing_about_this_one():
    assert hung_pid(PART, running(pid=1), record(16), NOW_NS, LIMITS) is None


def test_reused_pid_is_not_killed():
    assert hung_pid(PART, running(), record(16, start=1), NOW_NS, LIMITS) is None


def test_worker_that_said_goodbye_is_not_hung():
    assert hung_pid(PART, running(), record(16, state="stopped"), NOW_NS, LIMITS) is None


def test_part_without_a_heartbeat_is_left_alone():
    part = Part("w", ("w",), Phase.DAGSTER, Health.WEBSERVER)
    assert hung_pid(part, running(), record(16), NOW_NS, LIMITS) is None


def test_process_that_is_not_running_is_left_alone():
    assert hung_pid(PART, None, record(16), NOW_NS, LIMITS) is None

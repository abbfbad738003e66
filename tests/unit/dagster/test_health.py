import json

import pytest

from l2_platform.assets.liveness import Pulse, flat_numbers, judge
from l2_platform.sensors.health import CHECK_EVERY_NS, NUMBERS_EVERY_NS, CheckEvent, NumbersEvent, decide

NOW = 1_790_000_000 * 10**9
HUNG_S = 15.0


def pulse(state="live", *, age_s=0.4, exists=True, pid=42, **numbers):
    return Pulse(state, pid, exists, age_s, 3, numbers)


@pytest.mark.parametrize(
    ("given", "passed", "serious", "state", "words"),
    [
        (pulse(), True, False, "live", "pid 42"),
        (pulse("standby"), True, False, "standby", "standby"),
        (pulse("syncing"), True, False, "syncing", "syncing"),
        (pulse(age_s=14.9), True, False, "live", "14.9 s"),
        (pulse(age_s=15.1), False, True, "hung", "watchdog"),
        (pulse(exists=False, age_s=0.1), False, True, "dead", "action restart, worker w"),
        (pulse("stopped", exists=False, age_s=900), False, False, "stopped", "action start, worker w"),
        (pulse("crashloop"), False, True, "crashloop", "action clear"),
        (pulse("degraded", error="disk full"), False, False, "degraded", "disk full"),
        (pulse("suspect"), False, False, "suspect", "no details"),
        (None, False, True, "never started", "logs/w.log"),
    ],
)
def test_judge_each_condition_names_state_and_what_to_do(given, passed, serious, state, words):
    verdict = judge("w", given, HUNG_S)
    assert (verdict.passed, verdict.serious, verdict.state) == (passed, serious, state)
    assert words in verdict.message


def test_flat_numbers_nested_and_times_become_plottable_numbers():
    given = pulse(
        lines=7, session_date=20261121, lag_s=0.12345, last_byte_ns=NOW - 2 * 10**9, streams={"a": {"seq": 5}}, error="x", clean=True
    )
    assert flat_numbers(given, NOW) == {
        "heartbeat_age_s": 0.4, "pid": 42, "lines": 7, "lag_s": 0.123, "last_byte_age_s": 2.0, "streams.a.seq": 5,
    }  # fmt: skip


def kinds(events):
    return [type(event) for event in events]


def test_decide_first_look_reports_check_and_numbers():
    events, _ = decide(NOW, {"w": pulse()}, None, HUNG_S)
    assert kinds(events) == [CheckEvent, NumbersEvent]


def test_decide_nothing_changed_reports_nothing_until_each_period_is_over():
    _, cursor = decide(NOW, {"w": pulse()}, None, HUNG_S)
    assert decide(NOW + 15 * 10**9, {"w": pulse(age_s=0.9)}, cursor, HUNG_S)[0] == []
    events, cursor = decide(NOW + NUMBERS_EVERY_NS, {"w": pulse()}, cursor, HUNG_S)
    assert kinds(events) == [NumbersEvent]
    events, _ = decide(NOW + CHECK_EVERY_NS, {"w": pulse()}, cursor, HUNG_S)
    assert kinds(events) == [CheckEvent, NumbersEvent]


def test_decide_an_hour_writes_sixty_numbers_and_twelve_checks():
    cursor, seen = None, []
    for second in range(0, 3600, 15):
        events, cursor = decide(NOW + second * 10**9, {"w": pulse()}, cursor, HUNG_S)
        seen += kinds(events)
    assert (seen.count(NumbersEvent), seen.count(CheckEvent)) == (60, 12)


@pytest.mark.parametrize("changed", [pulse("standby"), pulse(exists=False), pulse(age_s=60), pulse(pid=43), None])
def test_decide_a_change_is_reported_at_once_and_only_once(changed):
    _, cursor = decide(NOW, {"w": pulse()}, None, HUNG_S)
    events, cursor = decide(NOW + 10**9, {"w": changed}, cursor, HUNG_S)
    assert [event.worker for event in events if isinstance(event, CheckEvent)] == ["w"]
    assert decide(NOW + 2 * 10**9, {"w": changed}, cursor, HUNG_S)[0] == []


def test_decide_dead_worker_gives_no_numbers():
    events, _ = decide(NOW, {"w": pulse(exists=False), "v": None}, None, HUNG_S)
    assert kinds(events) == [CheckEvent, CheckEvent]


def test_decide_cursor_round_trip_keeps_every_worker_apart():
    _, cursor = decide(NOW, {"w": pulse(), "v": pulse("standby")}, None, HUNG_S)
    assert set(json.loads(cursor)) == {"w", "v"}
    events, cursor = decide(NOW + 1, {"w": pulse(), "v": pulse()}, cursor, HUNG_S)
    assert [event.worker for event in events] == ["v"]
    assert set(json.loads(decide(NOW + 2, {"w": pulse()}, cursor, HUNG_S)[1])) == {"w"}


@pytest.mark.parametrize("cursor", ["", "rubbish", "[1]", '{"w": 5}', '{"w": {"checked": "soon"}}', '{"w":{"said":1}}'])
def test_decide_unreadable_cursor_starts_afresh(cursor):
    events, _ = decide(NOW, {"w": pulse()}, cursor, HUNG_S)
    assert kinds(events) == [CheckEvent, NumbersEvent]


def test_decide_clock_that_stepped_back_does_not_silence_reports():
    _, cursor = decide(NOW, {"w": pulse()}, None, HUNG_S)
    events, _ = decide(NOW - 86_400 * 10**9, {"w": pulse()}, cursor, HUNG_S)
    assert kinds(events) == [CheckEvent, NumbersEvent]


def test_decide_reports_rates_of_the_same_process_only():
    _, cursor = decide(NOW, {"w": pulse(lines=1_000)}, None, HUNG_S)
    later = NOW + NUMBERS_EVERY_NS
    events, _ = decide(later, {"w": pulse(lines=7_000)}, cursor, HUNG_S)
    assert events[0].numbers["lines_per_s"] == 100.0
    events, _ = decide(later, {"w": pulse(lines=7_000, pid=43)}, cursor, HUNG_S)
    assert "lines_per_s" not in events[1].numbers

"""The rules of the worker checks: state, severity, and what to do."""

import pytest

from l2_platform.assets.liveness import (
    Limits,
    Pulse,
    Spec,
    flat_numbers,
    judge_alive,
    judge_gaps,
    judge_lag,
    judge_spec,
    rules_of,
)

NOW = 1_790_000_000 * 10**9
LIMITS = Limits()


def pulse(state="live", *, age_s=0.4, exists=True, pid=42, generation=3, lease=True, **numbers):
    return Pulse(state, pid, exists, age_s, generation, numbers, lease)


def collector(**changes):
    return Spec(**({"worker": "collector-a", "follows": True, "collects": True, "generation": 3} | changes))


def delivery(**changes):
    return Spec(**({"worker": "deliver-x", "follows": True, "generation": 3} | changes))


@pytest.mark.parametrize(
    ("given", "passed", "serious", "state", "words"),
    [
        (pulse(), True, False, "live", "pid 42"),
        (pulse("standby"), True, False, "standby", "standby"),
        (pulse("syncing"), True, False, "syncing", "syncing"),
        (pulse(age_s=7.9), True, False, "live", "7.9 s"),
        (pulse(age_s=8.1), False, True, "stale", "no sign of life"),
        (pulse(age_s=15.1), False, True, "hung", "watchdog"),
        (pulse(exists=False, age_s=0.1), False, True, "dead", "action restart, worker collector-a"),
        (pulse("stopped", exists=False, age_s=900), False, True, "stopped", "action start, worker collector-a"),
        (pulse("crashloop"), False, True, "crashloop", "action clear"),
        (pulse("degraded", error="disk full"), False, False, "degraded", "disk full"),
        (pulse("suspect"), False, False, "suspect", "no details"),
        (pulse("stalled"), False, True, "stalled", "make room"),
        (pulse(lease=False), False, True, "lost lease", "run/leases"),
        (None, False, True, "never started", "logs/collector-a.log"),
    ],
)
def test_alive_each_condition_names_state_and_what_to_do(given, passed, serious, state, words):
    verdict = judge_alive(collector(), given, LIMITS, NOW)
    assert (verdict.passed, verdict.serious, verdict.state) == (passed, serious, state)
    assert words in verdict.message


@pytest.mark.parametrize("given", [None, pulse("standby"), pulse("stopped", exists=False), pulse(exists=False, age_s=99)])
def test_what_an_operator_stopped_is_a_warning_that_says_so(given):
    verdict = judge_alive(collector(enabled=False), given, LIMITS, NOW)
    assert (verdict.passed, verdict.serious, verdict.state) == (False, False, "stopped on purpose")
    assert "action start" in verdict.message


def test_hang_that_the_watchdog_ended_shows_until_a_tick_has_seen_it():
    for ago, state in ((1, "killed"), (29, "killed"), (31, "live")):
        verdict = judge_alive(collector(killed_ns=NOW - ago * 10**9), pulse(), LIMITS, NOW)
        assert verdict.state == state
        assert verdict.passed is (state == "live")


@pytest.mark.parametrize(("until", "words"), [(NOW + 60 * 10**9, "tried again at"), (NOW - 1, "is being tried again now")])
def test_crash_loop_is_an_error_whatever_the_heartbeat_says(until, words):
    verdict = judge_alive(collector(crashes=5, held_until_ns=until), pulse(), LIMITS, NOW)
    assert (verdict.passed, verdict.serious, verdict.state) == (False, True, "crashloop")
    assert words in verdict.message
    assert "action clear, worker collector-a" in verdict.message


@pytest.mark.parametrize(
    ("spec", "given", "passed", "state"),
    [
        (collector(), pulse(), True, "recording"),
        (collector(recording=False), pulse("standby"), True, "resting"),
        (collector(enabled=False), pulse("standby"), True, "resting"),
        (collector(changed_ns=NOW - 7 * 10**9), pulse(generation=2), True, "pending"),
        (collector(changed_ns=NOW - 9 * 10**9), pulse(generation=2), False, "not applied"),
        (collector(changed_ns=NOW - 9 * 10**9), pulse(generation=4), False, "not applied"),
        (collector(changed_ns=NOW - 7 * 10**9), pulse("standby"), True, "recording"),
        (collector(), pulse("standby"), False, "standby"),
        (collector(), pulse(intent_problem="no table"), False, "not readable"),
        (collector(problem="symbols file x: unknown entry"), pulse(), False, "not derived"),
        (collector(), None, False, "not known"),
        (collector(), pulse(exists=False), False, "not known"),
    ],
)
def test_spec_applied_compares_wanted_and_applied(spec, given, passed, state):
    verdict = judge_spec(spec, given, LIMITS, NOW)
    assert (verdict.passed, verdict.state) == (passed, state)


@pytest.mark.parametrize(
    ("spec", "given", "passed", "serious", "state"),
    [
        (delivery(), pulse(streams={"a": {"lag_s": 29.0}}), True, False, "in time"),
        (delivery(), pulse(streams={"a": {"lag_s": 31.0}, "b": {"lag_s": 1.0}}), False, False, "behind"),
        (delivery(), pulse(streams={"a": {"lag_s": 301.0}}), False, True, "behind"),
        (delivery(enabled=False), pulse("standby", streams={"a": {"lag_s": 301.0}}), True, False, "on purpose"),
        (collector(), pulse(stalled_since_ns=None), True, False, "in time"),
        (collector(), pulse(stalled_since_ns=NOW - 6 * 10**9), False, True, "stalled"),
        (delivery(), None, False, False, "not known"),
    ],
)
def test_lag_warns_then_is_an_error(spec, given, passed, serious, state):
    verdict = judge_lag(spec, given, LIMITS, NOW)
    assert (verdict.passed, verdict.serious, verdict.state) == (passed, serious, state)


@pytest.mark.parametrize(
    ("spec", "given", "passed", "serious", "state"),
    [
        (collector(), pulse(), True, False, "none"),
        (collector(recording=False), None, True, False, "closed"),
        (collector(enabled=False), pulse("standby"), False, False, "stopped"),
        (collector(), None, False, True, "not recording"),
        (collector(), pulse(age_s=16), False, True, "not recording"),
        (collector(), pulse("syncing", last_byte_ns=NOW - 5 * 10**9), False, False, "open"),
        (collector(), pulse("syncing", last_byte_ns=NOW - 31 * 10**9), False, True, "open"),
        (collector(), pulse("syncing", last_byte_ns=None, attempts=1), False, False, "open"),
        (collector(), pulse("syncing", last_byte_ns=None, attempts=3), False, True, "open"),
        (delivery(), pulse(streams={"a": {"gap_open": 0, "gaps": 2}}), True, False, "none"),
        (delivery(), pulse(streams={"a": {"gap_open": 1}}), False, True, "open"),
        (delivery(resting_streams=frozenset({"a"})), pulse(streams={"a": {"gap_open": 1}}), True, False, "none"),
    ],
)
def test_gaps_are_about_now(spec, given, passed, serious, state):
    verdict = judge_gaps(spec, given, LIMITS, NOW)
    assert (verdict.passed, verdict.serious, verdict.state) == (passed, serious, state)


def test_services_only_live_or_not():
    assert list(rules_of(Spec("sealer"))) == ["alive"]
    assert list(rules_of(delivery())) == ["alive", "spec_applied", "lag", "gaps"]


def test_flat_numbers_nested_and_times_become_plottable_numbers():
    given = pulse(
        lines=7, session_date=20261121, lag_s=0.12345, last_byte_ns=NOW - 2 * 10**9, streams={"a": {"seq": 5}}, error="x", clean=True
    )
    assert flat_numbers(given, NOW) == {
        "heartbeat_age_s": 0.4, "pid": 42, "lines": 7, "lag_s": 0.123, "last_byte_age_s": 2.0, "streams.a.seq": 5,
    }  # fmt: skip

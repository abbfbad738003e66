"""Supervision without processes: commands are few, bounded and never doubled; reports are few on every day."""

import itertools
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l2_platform.assets.liveness import Pulse, Spec, Verdict
from l2_platform.sensors.supervisor_decision import PATIENCE_S, WELL_NS, Rules, decide
from l2_platform.sensors.supervisor_reports import CHECK_EVERY_NS, NUMBERS_EVERY_NS, PURSE, CheckEvent, NumbersEvent

S = 10**9
NOW = 1_790_000_000 * S
TICK = 15 * S
DAY_TICKS = 86_400 // 15
W = Spec("w", follows=True, collects=True, generation=3)
SERVICE = Spec("w")


def pulse(state="live", *, age_s=0.4, exists=True, pid=42, generation=3, lease=True, **numbers):
    return Pulse(state, pid, exists, age_s, generation, numbers, lease)


def run(at, ticks, *, every=TICK, cursor=None, **options):
    """`at(tick)` → (specs, pulses); what all ticks gave: [(tick, commands, events)]."""
    seen = []
    for tick in range(ticks):
        specs, pulses = at(tick)
        commands, events, cursor = decide(NOW + tick * every, specs, pulses, cursor, **options)
        seen.append((tick, commands, events))
    return seen, cursor


def commands_of(seen):
    return [command for _, commands, _ in seen for command in commands]


def always(spec, beat):
    return lambda _tick: ({spec.worker: spec}, {spec.worker: beat})


# ── commands ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("spec", "beat", "kind", "action"),
    [
        (W, None, "never started", "start"),
        (W, pulse("stopped", exists=False, age_s=99), "stopped", "start"),
        (W, pulse(exists=False, age_s=99), "dead", "start"),
        (W, pulse(age_s=99), "hung", "restart"),
        (W, pulse(lease=False), "lost lease", "restart"),
        (W, pulse(generation=2), "not applied", "roll"),
        (W, pulse("standby"), "standby", "restart"),
        (SERVICE, None, "never started", "start"),
    ],
)
def test_disagreement_is_given_its_patience_then_a_run(spec, beat, kind, action):
    seen, _ = run(always(spec, beat), 8)
    found = commands_of(seen)
    assert [(command.action, command.why) for command in found] == [(action, kind)]
    tick = next(tick for tick, commands, _ in seen if commands)
    assert PATIENCE_S[kind] <= tick * 15 < PATIENCE_S[kind] + 15
    assert found[0].run_key == f"w:{spec.generation}:{NOW // S}-1"


@pytest.mark.parametrize(
    ("spec", "beat"),
    [
        (W, pulse()),
        (W, pulse("syncing")),
        (W, pulse("degraded")),
        (W, pulse("suspect")),
        (replace(W, recording=False), pulse("standby")),
        (replace(W, enabled=False), None),
        (replace(W, enabled=False), pulse("stopped", exists=False)),
        (replace(W, crashes=5), pulse(exists=False, age_s=99)),
        (replace(W, changed_ns=NOW + 3600 * S), pulse(generation=2)),
        (replace(W, killed_ns=NOW), pulse()),
    ],
)
def test_no_run_is_requested_for_what_is_well_meant_or_held_back(spec, beat):
    assert commands_of(run(always(spec, beat), 40)[0]) == []


def test_attempts_are_bounded_with_growing_waits():
    seen, _ = run(always(W, None), 2 * DAY_TICKS)
    ticks = [tick for tick, commands, _ in seen if commands]
    waits = [(after - before) * 15 for before, after in itertools.pairwise(ticks)]
    assert waits == [120, 240, 480, 960]
    assert len({command.run_key for command in commands_of(seen)}) == 5
    last = [event for _, _, events in seen for event in events if isinstance(event, CheckEvent) and event.check == "alive"][-1]
    assert "5 runs of control_collector did not help" in last.verdict.message
    assert last.verdict.serious


def test_a_worker_that_is_well_for_a_while_has_all_attempts_again():
    well = int(WELL_NS / TICK) + 2

    def at(tick):
        return {"w": W}, {"w": None if tick < 10 or tick > 10 + well else pulse()}

    seen, _ = run(at, 40)
    keys = [command.attempt for command in commands_of(seen)]
    assert len({key for key in keys if key.endswith("-1")}) == 2


def test_flapping_does_not_begin_the_attempts_anew():
    seen, _ = run(lambda tick: ({"w": W}, {"w": pulse() if tick % 6 == 0 else None}), DAY_TICKS // 4)
    assert len(commands_of(seen)) == 5


def test_lost_cursor_asks_again_under_another_key():
    first, _ = run(always(W, None), 4)
    later = decide(NOW + 100 * TICK, {"w": W}, {"w": None}, None)[2]
    commands = decide(NOW + 102 * TICK, {"w": W}, {"w": None}, later)[0]
    assert commands[0].run_key not in {command.run_key for command in commands_of(first)}


def test_overlapping_ticks_request_the_same_run():
    _, cursor = run(always(W, None), 2)
    one, two = (decide(NOW + 2 * TICK + late, {"w": W}, {"w": None}, cursor)[0] for late in (0, 5 * S))
    assert one[0].run_key == two[0].run_key


def test_without_a_process_manager_nothing_is_requested_and_it_is_told():
    dead = Verdict(False, True, "dead", "run `l2 up`")
    seen, cursor = run(always(W, None), 40, can_act=False, others={"process-manager": dead})
    assert commands_of(seen) == []
    assert [event.worker for event in seen[0][2] if isinstance(event, CheckEvent)].count("process-manager") == 1
    assert "process-manager" in json.loads(cursor)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["live", "none", "dead", "standby", "hung", "old", "off"]), min_size=1, max_size=120))
def test_whatever_happens_a_run_key_comes_once_and_attempts_stay_bounded(story):
    beats = {
        "live": pulse(), "none": None, "dead": pulse(exists=False), "standby": pulse("standby"), "hung": pulse(age_s=60),
        "old": pulse(generation=1), "off": pulse("standby"),
    }  # fmt: skip

    def at(tick):
        return {"w": replace(W, enabled=story[tick] != "off")}, {"w": beats[story[tick]]}

    seen, _ = run(at, len(story))
    found = commands_of(seen)
    assert len({command.run_key for command in found}) == len(found)
    assert all(int(command.attempt.rsplit("-", 1)[1]) <= Rules().attempts_max for command in found)
    assert not [tick for tick, commands, _ in seen if commands and story[tick] in {"live", "off"}]


# ── reports ───────────────────────────────────────────────────────────────────


def kinds(events):
    return sorted((event.check if isinstance(event, CheckEvent) else "numbers") for event in events)


ALL = ["alive", "gaps", "lag", "numbers", "spec_applied"]


def test_first_look_reports_every_check_and_numbers():
    assert kinds(decide(NOW, {"w": W}, {"w": pulse()}, None)[1]) == ALL
    assert kinds(decide(NOW, {"w": SERVICE}, {"w": pulse()}, None)[1]) == ["alive", "numbers"]


def test_an_hour_of_quiet_is_sixty_numbers_and_twelve_of_each_check():
    seen, _ = run(always(W, pulse()), 240)
    found = [event for _, _, events in seen for event in events]
    assert sum(isinstance(event, NumbersEvent) for event in found) in {60, 61}
    for check in ("alive", "spec_applied", "lag", "gaps"):
        assert sum(isinstance(event, CheckEvent) and event.check == check for event in found) in {12, 13}


@pytest.mark.parametrize("changed", [pulse("standby"), pulse(exists=False), pulse(age_s=60), None])
def test_a_change_is_reported_at_once_and_only_once(changed):
    _, _, cursor = decide(NOW, {"w": W}, {"w": pulse()}, None)
    events, cursor = decide(NOW + S, {"w": W}, {"w": changed}, cursor)[1:]
    assert "alive" in kinds(events) or "spec_applied" in kinds(events)
    assert decide(NOW + 2 * S, {"w": W}, {"w": changed}, cursor)[1] == []


def test_dead_worker_gives_no_numbers():
    assert "numbers" not in kinds(decide(NOW, {"w": W, "v": W}, {"w": pulse(exists=False), "v": None}, None)[1])


@pytest.mark.parametrize(
    "cursor", ["", "rubbish", "[1]", '{"w": 5}', '{"w": {"reports": 1, "trouble": [1]}}', '{"w":{"reports":{"checks":{"alive":[1]}}}}']
)
def test_unreadable_cursor_starts_afresh(cursor):
    assert kinds(decide(NOW, {"w": W}, {"w": pulse()}, cursor)[1]) == ALL


def test_clock_that_stepped_back_does_not_silence_reports():
    _, _, cursor = decide(NOW, {"w": W}, {"w": pulse()}, None)
    events = decide(NOW - 86_400 * S, {"w": W}, {"w": pulse()}, cursor)[1]
    assert kinds(events) == ALL


def test_rates_are_of_the_same_process_only():
    _, _, cursor = decide(NOW, {"w": W}, {"w": pulse(lines=1_000)}, None)
    later = NOW + NUMBERS_EVERY_NS
    events = decide(later, {"w": W}, {"w": pulse(lines=7_000)}, cursor)[1]
    assert [event.numbers["lines_per_s"] for event in events if isinstance(event, NumbersEvent)] == [100.0]
    events = decide(later, {"w": W}, {"w": pulse(lines=7_000, pid=43)}, cursor)[1]
    assert all("lines_per_s" not in event.numbers for event in events if isinstance(event, NumbersEvent))


def twenty(beat):
    names = [f"w{number}" for number in range(20)]
    return {name: replace(W, worker=name) for name in names}, {name: beat(number) for number, name in enumerate(names)}


def test_reports_of_twenty_workers_are_spread_over_the_ticks():
    seen, _ = run(lambda tick: twenty(lambda _: pulse()), 2 * int(CHECK_EVERY_NS / TICK) + 1)
    sizes = [len(events) for _, _, events in seen[1:]]
    assert max(sizes) <= 20, sizes
    assert len(seen[0][2]) == 100


@pytest.mark.parametrize(
    ("case", "hours"), [("quiet", 4), ("all flap each tick", 24), ("all flap each minute", 4), ("restarting for ever", 4)]
)
def test_a_day_of_twenty_workers_is_at_most_60_000_events(case, hours):
    def at(tick):
        bad = {
            "quiet": False, "all flap each tick": tick % 2, "all flap each minute": tick // 4 % 2, "restarting for ever": tick % 3 == 0,
        }[case]  # fmt: skip

        def beat(number):
            if not bad:
                return pulse(pid=1000 + tick, lines=tick)
            return pulse("suspect", last_byte_ns=NOW, pid=2000 + tick, streams={"a": {"lag_s": 500.0, "gap_open": 1}}, generation=2)

        return twenty(beat)

    seen, _ = run(at, DAY_TICKS * hours // 24)
    count = sum(len(events) for _, _, events in seen)
    # what is written at the first look, and the full purses, come once
    once = 100 + 20 * PURSE
    assert 40_000 * hours / 24 < count <= (60_000 - once) * hours / 24 + once, count


def test_five_deaths_in_a_row_are_shown_with_their_returns():
    seen, _ = run(lambda tick: ({"w": W}, {"w": pulse(exists=tick % 2 == 0)}), 11)
    shown = [event.verdict.passed for _, _, events in seen for event in events if isinstance(event, CheckEvent) and event.check == "alive"]
    assert shown == [True, False] * 5 + [True]


def test_flapping_worker_is_left_red_and_does_not_silence_its_neighbour():
    def at(tick):
        flapping = pulse(exists=tick % 2 == 0)
        return {"w": W, "v": W}, {"w": flapping, "v": pulse(exists=tick < 400)}

    seen, _ = run(at, 420)
    of_w = [event for _, _, events in seen for event in events if isinstance(event, CheckEvent) and event.worker == "w"]
    neighbour = [
        tick for tick, _, events in seen for event in events
        if isinstance(event, CheckEvent) and event.worker == "v" and event.check == "alive" and not event.verdict.passed
    ]  # fmt: skip
    assert neighbour[0] == 400
    changes = [event for event in of_w if event.check == "alive"]
    assert len(changes) < PURSE + 420 * 15 / 360 + 420 * 15 / 300 + 5

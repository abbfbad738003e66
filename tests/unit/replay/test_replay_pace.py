"""When lines are due, and the account of how late they were."""

import math

import numpy as np
import pytest

from l2_platform.replay.pace import AS_FAST_AS_POSSIBLE, FAR, LateCounts, Pacer

MS = 1_000_000


def test_market_time_follows_steady_time_times_speed():
    pacer = Pacer(10.0, 5_000)
    assert pacer.position(123) == 5_000
    pacer.resume(1_000)
    assert pacer.position(1_000) == 5_000
    assert pacer.position(1_100) == 6_000
    assert pacer.due(6_000) == 1_100
    assert pacer.due(6_001) == 1_101  # never before its time


def test_pause_keeps_the_place_and_resume_goes_on_from_it():
    pacer = Pacer(2.0, 0)
    pacer.resume(0)
    pacer.pause(50)
    assert pacer.position(9_999) == 100
    pacer.resume(10_000)
    assert pacer.position(10_010) == 120
    pacer.resume(10_020)  # a second one changes nothing
    assert pacer.position(10_020) == 140


def test_speed_changes_without_a_jump():
    pacer = Pacer(1.0, 1_000)
    pacer.resume(0)
    pacer.set_speed(4.0, 100, reached_ns=0)
    assert pacer.position(100) == 1_100
    assert pacer.position(110) == 1_140


def test_as_fast_as_possible_goes_on_where_lines_are_when_it_is_slowed_down():
    pacer = Pacer(AS_FAST_AS_POSSIBLE, 1_000)
    pacer.resume(0)
    assert pacer.position(1) == FAR
    pacer.set_speed(1.0, 500, reached_ns=7_000)
    assert pacer.position(500) == 7_000
    assert pacer.position(600) == 7_100


@pytest.mark.parametrize("paused", [True, False])
def test_jump_keeps_a_pause(paused):
    pacer = Pacer(1.0, 0)
    if not paused:
        pacer.resume(0)
    pacer.jump(700, 10)
    assert pacer.position(20) == (700 if paused else 710)


def test_lateness_of_each_line():
    pacer = Pacer(2.0, 0)
    pacer.resume(1_000)
    assert pacer.lateness(np.array([0, 100, 200]), 1_100).tolist() == [100, 50, 0]


def test_quantiles_are_within_a_microsecond_below_ten_ms_and_a_percent_above():
    counts = LateCounts()
    late = np.concatenate([np.full(90, 20_000), np.full(9, 900 * 1000), [500 * MS]]).astype(np.int64)
    counts.add(late)
    assert counts.lines == 100
    assert counts.quantile_ms(0.5) == pytest.approx(0.02, abs=0.0011)
    assert counts.quantile_ms(0.99) == pytest.approx(0.9, abs=0.0011)
    assert counts.quantile_ms(1.0) == pytest.approx(500, rel=0.011)
    assert counts.as_record()["max_ms"] == 500


def test_early_by_rounding_is_in_time_and_nothing_counted_is_zero():
    counts = LateCounts()
    assert counts.quantile_ms(0.99) == 0
    counts.add(np.array([-5, 0]))
    counts.add(np.zeros(0, np.int64))
    assert counts.lines == 2
    assert counts.worst_ns == 0
    assert math.isclose(counts.quantile_ms(0.99), 0)

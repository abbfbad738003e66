"""Days in which nothing stops bring no silence, however heavy the tails of the pauses are; symbols that do stop are told soon."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.silence import delays, market, recorded, silences
from l2_platform.delivery.gap_kernels import KEPT
from l2_platform.delivery.tails import surprise


@pytest.mark.parametrize(("kind", "most"), [("poisson", 0), ("falls", 0), ("lognormal", 0), ("pareto:2.2", 1)])
def test_hardly_a_silence_opens_while_nothing_stops(kind: str, most: int) -> None:
    """In 60 symbol days."""
    assert len(list(silences(market(kind, 60, 3)))) <= most


def test_no_silence_opens_in_recorded_ticks(market_data: Path) -> None:
    symbols, seconds, windows = next(recorded(market_data))
    assert list(silences(symbols, seconds, windows)) == []


def test_symbols_that_stop_are_told_the_sooner_the_busier_they_are() -> None:
    medians = {key: float(np.median(times)) for key, times in delays(2, 1).items()}
    assert medians[0.1, 10_800.0] < 12
    assert medians[1.0, 10_800.0] < 90
    assert medians[10.0, 10_800.0] < 900
    assert medians[0.1, 600.0] < 30


def test_a_tail_that_is_a_power_is_judged_as_one() -> None:
    """Of pauses with a tail of exponent 2 a hundredth of the share kept is ten times longer: the chance is told within what is known."""
    source = np.random.default_rng(5)
    chances = []
    for _ in range(200):
        pauses = np.sort(source.pareto(2.0, 1000) + 1)
        longest = pauses[-KEPT:].astype(np.float32)[None, :]
        chances.append(float(np.exp(-surprise(longest, np.array([1000.0]), np.array([100.0]))[0])))
    # P(x > 100) is 1e-4 there
    assert 3e-5 < np.median(chances) < 1e-3
    # pauses that fall off faster are never believed to be heavier than they are by much, and an unknown tail says nothing
    even = np.sort(source.exponential(1.0, 1000))[-KEPT:].astype(np.float32)[None, :]
    assert surprise(even, np.array([1000.0]), np.array([100.0]))[0] > 15
    assert surprise(np.zeros((1, KEPT), np.float32), np.zeros(1), np.array([1e9]))[0] == 0.0

"""How long an unexplained gap must be to be a warning, and to be an error, in `platform_health`."""

import pytest

from l2_platform.operations.verdict import Gap, Promise, judge_gaps, verdict
from l2_platform.settings import GapSettings

STREAM = "iqfeed-level1-0"


def told(seconds: float, *, is_open: bool = False, cause: str = "disconnect", **limits: float) -> Promise:
    return judge_gaps([Gap(STREAM, is_open, seconds, cause)], GapSettings(**limits))


@pytest.mark.parametrize(
    ("seconds", "kept", "serious", "said"),
    [(0.9, True, False, "good"), (1.1, False, False, "warnings"), (299.0, False, False, "warnings"), (301.0, False, True, "not good")],
)
def test_longer_gaps_are_worse(seconds: float, kept: bool, serious: bool, said: str) -> None:
    promise = told(seconds)
    assert (promise.kept, not promise.kept and promise.serious) == (kept, serious)
    assert verdict([promise]) == said


def test_the_settings_say_how_long() -> None:
    assert told(5.0, warn_s=10).kept
    assert not told(5.0, warn_s=2, error_s=60).serious
    assert told(5.0, warn_s=2, error_s=4).serious
    with pytest.raises(ValueError, match="must not be shorter"):
        GapSettings(warn_s=10, error_s=5)


def test_an_open_gap_of_a_stream_is_serious_at_once_and_one_of_a_symbol_when_it_is_long() -> None:
    assert told(0.1, is_open=True).serious
    silent = told(20.0, is_open=True, cause="symbol_silence")
    assert not silent.kept
    assert not silent.serious
    assert told(301.0, is_open=True, cause="symbol_silence").serious


def test_why_halts_explain_nothing_is_told_beside_the_gap() -> None:
    gap = Gap(STREAM, True, 20.0, "symbol_silence")
    assert "Halts explain nothing: no answer." in judge_gaps([gap], GapSettings(), "no answer").seen
    assert "Halts" not in judge_gaps([gap], GapSettings()).seen

"""Silence and retries on a clock of the test."""

from l2_platform.collectors.liveness import Backoff, Liveness, Pulse


def test_liveness_goes_suspect_then_silent_once_each():
    link = Liveness(3, 10)
    link.connected(100)
    assert link.judge(102) is None
    assert link.judge(103) is Pulse.SUSPECT
    assert link.judge(109) is None
    assert link.judge(110) is Pulse.SILENT
    assert link.judge(120) is None


def test_liveness_heard_tells_that_it_was_suspect():
    link = Liveness(3, 10)
    link.connected(0)
    assert link.heard(1) is False
    link.judge(4)
    assert link.heard(5) is True
    assert link.pulse is Pulse.ALIVE
    assert link.judge(7) is None


def test_backoff_doubles_to_the_cap_and_begins_anew():
    backoff = Backoff(0.25, 30, lambda: 0.0)
    assert [backoff.wait_s() for _ in range(9)] == [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30]
    backoff.reset()
    assert backoff.wait_s() == 0.25


def test_backoff_jitter_shortens_by_at_most_half():
    backoff = Backoff(1.0, 30, lambda: 0.999)
    assert 0.5 <= backoff.wait_s() < 0.51

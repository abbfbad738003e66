"""Which unclosed session date is asked for again, and when."""

import pytest

from l2_platform.operations.unclosed import NS, Unclosed, due_ns, next_close, tell, wait_s
from l2_platform.operations.verdict import judge_close
from l2_platform.settings import CloseSettings

CLOSE = CloseSettings(margin_s=1800, again_max=3, again_first_s=600, again_cap_s=2000, due_s=7200)
END = 1_790_000_000 * NS


def date(number: int = 20260920, *, running: bool = False, tries: int = 0, last_s: float | None = None) -> Unclosed:
    return Unclosed(number, END, running, tries, 0 if last_s is None else END + int(last_s * NS))


def at(seconds: float) -> int:
    return END + int(seconds * NS)


def test_distances_double_up_to_the_bound() -> None:
    assert [wait_s(tries, CLOSE) for tries in range(4)] == [600, 1200, 2000, 2000]
    assert wait_s(10_000, CLOSE) == 2000


def test_a_date_that_nobody_asked_for_is_asked_for_after_the_margin() -> None:
    assert next_close(at(2399), [date()], CLOSE) is None
    assert next_close(at(2400), [date()], CLOSE) == date()


@pytest.mark.parametrize(("tries", "wait"), [(0, 600), (1, 1200), (2, 2000)])
def test_a_failed_run_is_followed_by_the_next_try(tries: int, wait: float) -> None:
    failed = date(tries=tries, last_s=5000)
    assert next_close(at(5000 + wait - 1), [failed], CLOSE) is None
    assert next_close(at(5000 + wait), [failed], CLOSE) == failed


def test_tries_are_bounded_and_then_a_person_is_asked_for() -> None:
    given_up = date(tries=3, last_s=5000)
    assert due_ns(given_up, CLOSE) is None
    assert next_close(at(10**9), [given_up], CLOSE) is None
    assert tell(given_up, CLOSE) == "3 more tries did not help"
    assert "close.again_max is 0" in tell(date(), CLOSE.model_copy(update={"again_max": 0}))


def test_one_at_a_time_the_newest_first() -> None:
    older, newer = date(20260918), date(20260919)
    assert next_close(at(10_000), [older, newer], CLOSE) == newer
    assert next_close(at(10_000), [older, date(20260919, tries=3)], CLOSE) == older
    assert next_close(at(10_000), [older, date(20260919, running=True)], CLOSE) is None


def test_the_promise_is_broken_once_the_close_is_overdue_and_says_what_becomes_of_it() -> None:
    assert judge_close(0, [], at(0), CLOSE).kept
    assert judge_close(3, [], at(0), CLOSE).seen == "The last 3 session dates that ended are closed."
    early = judge_close(3, [date()], at(7200), CLOSE)
    assert early.kept
    assert "its close is due 2.0 h after the end" in early.seen
    late = judge_close(3, [date(tries=1, last_s=3000), date(20260919, tries=3)], at(7201), CLOSE)
    assert not late.kept
    assert late.serious
    assert "2026-09-20 ended 2.0 h ago and is not closed: try 2 of 3 follows at" in late.seen
    assert "2026-09-19 ended 2.0 h ago and is not closed: 3 more tries did not help" in late.seen
    assert "Launch job daily_close" in late.seen
    assert "a run of daily_close is at work" in judge_close(1, [date(running=True)], at(7201), CLOSE).seen


def test_a_closed_date_that_changed_is_closed_again_some_time_after_the_change() -> None:
    changed = Unclosed(20260901, END, changed_ns=at(90_000))
    assert next_close(at(90_599), [changed], CLOSE) is None
    assert next_close(at(90_600), [changed], CLOSE) == changed
    # late from the change on, not from the end of the date
    assert judge_close(5, [changed], at(90_000 + 7199), CLOSE).kept
    promise = judge_close(5, [changed], at(90_000 + 7201), CLOSE)
    assert not promise.kept
    assert "2026-09-01 changed 2.0 h ago and is not closed again" in promise.seen

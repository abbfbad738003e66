"""The session date of a stream over time."""

import pytest

from l2_platform.collectors.session_roll import Roll, RollWaits, SessionRoll
from l2_platform.errors import ConfigError
from l2_platform.market.sessions import load_calendar

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
NOON = 20_000 * DAY + DAY // 2
"""2024-10-04 12:00 UTC."""


def nothing(now_ns: int) -> list[tuple[int, int]]:
    return []


def always_open() -> SessionRoll:
    calendar = load_calendar("always_open")

    def load(now_ns: int) -> list[tuple[int, int]]:
        dates = [calendar.session_date_of(now_ns + day * DAY) for day in range(14)]
        return [(date, calendar.end_of(date)) for date in dates]

    return SessionRoll("always_open", 60, load)


def test_always_open_rolls_at_midnight_utc():
    roll = always_open()
    assert roll.start(NOON, None) == 20241004
    assert roll.due(20_001 * DAY - 1, 20_001 * DAY - 1) is None
    assert roll.due(20_001 * DAY, 20_001 * DAY) == Roll(20241005)
    roll.rolled(20241005, 20_001 * DAY)
    assert roll.current == 20241005
    assert roll.due(20_001 * DAY + 1, 20_001 * DAY + 1) is None


def test_start_never_goes_back_behind_what_is_recorded():
    roll = always_open()
    assert roll.start(NOON, 20241006) == 20241006
    assert roll.due(20_001 * DAY, 20_001 * DAY) is None
    assert roll.due(20_003 * DAY, 20_003 * DAY) == Roll(20241007)


def test_start_with_an_older_recording_begins_today():
    assert always_open().start(NOON, 20241001) == 20241004


def test_roll_after_days_asleep_goes_to_the_present_date():
    roll = always_open()
    roll.start(NOON, None)
    assert roll.due(NOON + 3 * DAY, NOON + 3 * DAY) == Roll(20241007)


def test_roll_waits_while_the_clocks_differ():
    roll = always_open()
    roll.start(NOON, None)
    end = 20_001 * DAY
    roll.feed_clock(end - 3600 * SECOND, end + SECOND, end + SECOND)
    assert roll.due(end + SECOND, end + SECOND) == RollWaits(3601.0)
    roll.feed_clock(end + 2 * SECOND, end + 2 * SECOND, end + 2 * SECOND)
    assert roll.due(end + 2 * SECOND, end + 2 * SECOND) == Roll(20241005)


def test_roll_asks_for_a_clock_read_after_the_end():
    roll = always_open()
    roll.start(NOON, None)
    end = 20_001 * DAY
    roll.feed_clock(end - SECOND, end - SECOND, end - SECOND)
    assert roll.due(end, end) is None
    assert roll.due(end + 6 * SECOND, end + 6 * SECOND) == Roll(20241005)


@pytest.mark.parametrize("step_s", [3600, 86_400, 10 * 86_400])
def test_step_of_our_clock_over_the_end_is_no_end(step_s: int):
    roll = always_open()
    before = 20_001 * DAY - 10 * SECOND
    roll.start(before, None)
    roll.feed_clock(before, before, 7 * SECOND)
    # not one second later, and no newer reading of the feed's clock: only our clock has jumped
    assert roll.due(before + step_s * SECOND, 7 * SECOND + 1000) == RollWaits(pytest.approx(step_s, abs=0.1))
    assert roll.due(before + SECOND, 8 * SECOND) is None
    roll.feed_clock(before + 11 * SECOND, before + 11 * SECOND, 18 * SECOND)
    assert roll.due(before + 11 * SECOND, 18 * SECOND) == Roll(20241005)


def test_step_back_waits_for_the_end_by_our_clock():
    roll = always_open()
    before = 20_001 * DAY - 10 * SECOND
    roll.start(before, None)
    roll.feed_clock(before, before, 0)
    end_by_feed = 20 * SECOND
    assert roll.due(before + end_by_feed - 3600 * SECOND, end_by_feed) is None
    assert roll.due(before + end_by_feed, end_by_feed) == Roll(20241005)


def test_roll_without_a_link_goes_by_our_clock():
    roll = always_open()
    roll.start(NOON, None)
    roll.feed_clock(NOON - 3600 * SECOND, NOON, NOON)
    roll.link_lost()
    assert roll.due(20_001 * DAY, 20_001 * DAY) == Roll(20241005)


def test_table_is_used_before_the_calendar_is_loaded():
    loaded = []

    def load(now_ns: int) -> list[tuple[int, int]]:
        loaded.append(now_ns)
        return [(20241007, NOON + 3 * DAY)]

    roll = SessionRoll("XNYS", 60, load)
    roll.use_table([(20241004, NOON + DAY)])
    assert roll.start(NOON, None) == 20241004
    assert not loaded
    assert roll.due(NOON + DAY, NOON + DAY) == Roll(20241007)
    assert loaded


def test_calendar_without_a_next_session_is_an_error():
    with pytest.raises(ConfigError, match="knows no session"):
        SessionRoll("XNYS", 60, nothing).start(NOON, None)

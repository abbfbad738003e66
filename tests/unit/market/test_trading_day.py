"""Ten years of trading days without waiting: every session is recorded whole, nothing else is."""

import itertools
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from l2_platform.errors import ConfigError
from l2_platform.market.sessions import load_calendar
from l2_platform.market.trading_day import DayPlan, is_recording, next_change, recording_spans

NEW_YORK = ZoneInfo("America/New_York")
S = 10**9
FIRST, LAST = 20160104, 20251231
PLAN = DayPlan(start_margin_s=1800, stop_margin_s=600)


def at(text, zone=NEW_YORK):
    return round(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()) * S


def local(ts_ns):
    return datetime.fromtimestamp(ts_ns // S, UTC).astimezone(NEW_YORK)


@pytest.fixture(scope="module")
def calendar():
    return load_calendar("XNYS", 900.0)


@pytest.fixture(scope="module")
def spans(calendar):
    return recording_spans(calendar, FIRST, LAST, PLAN)


@pytest.fixture(scope="module")
def sessions(calendar):
    return calendar.to_table(FIRST, LAST)


def test_every_session_of_ten_years_starts_before_its_open_and_stops_after_its_close(spans, sessions):
    assert len(spans) == len(sessions) > 2500
    for (start, stop), session in zip(spans, sessions, strict=True):
        assert session.pre_ns - start == 1800 * S
        assert stop - session.after_ns == 600 * S
        begin, end = local(start), local(stop)
        assert (begin.hour, begin.minute) == (3, 30), begin
        early = (session.close_ns - session.open_ns) < 6 * 3600 * S
        assert (end.hour, end.minute) == ((17, 10) if early else (20, 10)), end


def test_spans_never_touch_and_stay_in_their_own_session(calendar, spans, sessions):
    for before, after in itertools.pairwise(spans):
        assert before[0] < before[1] < after[0]
    for (start, stop), session in zip(spans, sessions, strict=True):
        assert calendar.session_date_of(start) == calendar.session_date_of(stop - 1) == session.session_date


def test_nothing_is_recorded_on_days_without_a_session(calendar, spans):
    day, last, closed = date(2016, 1, 4), date(2025, 12, 31), 0
    recorded = {local(start).date() for start, _ in spans}
    while day <= last:
        number = day.year * 10_000 + day.month * 100 + day.day
        if not calendar.is_session(number):
            closed += 1
            assert day not in recorded
            assert not is_recording(spans, at(f"{day}T12:00"))
        day += timedelta(days=1)
    assert closed > 1100


@pytest.mark.parametrize(
    ("instant", "recording"),
    [
        ("2025-03-07T20:09:59", True),
        ("2025-03-07T20:10", False),
        # spring forward in the night to Sunday
        ("2025-03-10T03:29:59", False),
        ("2025-03-10T03:30", True),
        # back again
        ("2025-10-31T20:09:59", True),
        ("2025-11-03T03:29:59", False),
        ("2025-11-03T03:30", True),
        # half-days and holidays
        ("2025-11-27T12:00", False),
        ("2025-11-28T17:09:59", True),
        ("2025-11-28T17:10", False),
        ("2025-12-24T17:10", False),
        ("2025-12-25T10:00", False),
        ("2025-07-04T10:00", False),
        # a day of mourning, in no rule
        ("2025-01-09T10:00", False),
    ],
)
def test_clock_changes_half_days_and_holidays(spans, instant, recording):
    assert is_recording(spans, at(instant)) is recording


def test_the_utc_hour_of_the_start_moves_with_the_clock(spans):
    hours = {datetime.fromtimestamp(start // S, UTC).hour for start, _ in spans}
    assert hours == {7, 8}


def test_next_change_is_the_start_then_the_stop(spans):
    assert next_change(spans, at("2025-07-25T01:00")) == at("2025-07-25T03:30")
    assert next_change(spans, at("2025-07-25T10:00")) == at("2025-07-25T20:10")
    assert next_change(spans, spans[-1][1]) is None


def test_large_margins_are_cut_at_the_session_before_and_at_its_own_end(calendar):
    wide = recording_spans(calendar, 20250721, 20250725, DayPlan(14_400, 7200))
    assert wide[0][0] == at("2025-07-21T00:00")
    assert wide[0][1] == at("2025-07-21T20:15")
    whole = recording_spans(calendar, 20250721, 20250725, DayPlan(86_400, 7200))
    # the sessions touch each other: from the end of the Friday before to the end of this one
    assert whole == ((at("2025-07-20T04:00"), at("2025-07-25T20:15")),)


def test_the_simulated_market_never_rests():
    calendar = load_calendar("always_open")
    assert recording_spans(calendar, 20240228, 20240302, PLAN) == ((at("2024-02-28", UTC), at("2024-03-03", UTC)),)


def test_maintenance_is_left_out_every_night_in_new_york_time():
    calendar = load_calendar("always_open")
    spans = recording_spans(calendar, 20250301, 20250320, DayPlan(maintenance="23:30-00:15"))
    for day in range(1, 19):
        assert is_recording(spans, at(f"2025-03-{day:02d}T23:29:59"))
        assert not is_recording(spans, at(f"2025-03-{day:02d}T23:30"))
        assert not is_recording(spans, at(f"2025-03-{day + 1:02d}T00:14:59"))
        assert is_recording(spans, at(f"2025-03-{day + 1:02d}T00:15"))


def test_maintenance_within_closed_hours_changes_nothing_and_over_the_start_cuts_it(calendar):
    plain = recording_spans(calendar, 20250721, 20250725, PLAN)
    assert recording_spans(calendar, 20250721, 20250725, DayPlan(1800, 600, "00:00-03:00")) == plain
    cut = recording_spans(calendar, 20250721, 20250725, DayPlan(1800, 600, "03:00-03:45"))
    assert [local(start).minute for start, _ in cut] == [45] * 5


def test_maintenance_that_is_no_time_is_refused(calendar):
    with pytest.raises(ConfigError, match="HH:MM-HH:MM"):
        recording_spans(calendar, 20250721, 20250725, DayPlan(maintenance="noon"))

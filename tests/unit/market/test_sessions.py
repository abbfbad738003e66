"""Session dates: weekends, holidays, half-days, both clock changes, and the market that never closes."""

import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from l2_platform.errors import ConfigError, InputError
from l2_platform.market.sessions import SessionCalendar, load_calendar

NEW_YORK = ZoneInfo("America/New_York")


def at(text, zone=NEW_YORK):
    return round(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()) * 10**9


@pytest.fixture(scope="module")
def calendar():
    return load_calendar("XNYS", 900.0)


@pytest.mark.parametrize(
    ("instant", "session_date"),
    [
        ("2025-07-25T04:00", 20250725),
        ("2025-07-25T20:14:59", 20250725),
        ("2025-07-25T20:15", 20250728),
        ("2025-07-26T12:00", 20250728),
        ("2025-07-28T00:00", 20250728),
        ("2025-12-24T17:14", 20251224),
        ("2025-12-24T17:15", 20251226),
        ("2025-12-25T10:00", 20251226),
        ("2025-11-28T13:30", 20251128),
        ("2025-11-28T17:15", 20251201),
        ("2024-03-08T20:15", 20240311),
        ("2024-03-11T20:14:59", 20240311),
        ("2024-11-01T20:14:59", 20241101),
        ("2024-11-04T20:14:59", 20241104),
        ("2012-06-21T09:30", 20120621),
    ],
)
def test_each_instant_has_one_session(calendar, instant, session_date):
    assert calendar.session_date_of(at(instant)) == session_date


@pytest.mark.parametrize(
    ("session_date", "hours"),
    [
        (20250725, ["04:00", "09:30", "16:00", "20:00"]),
        (20251128, ["04:00", "09:30", "13:00", "17:00"]),
        (20240308, ["04:00", "09:30", "16:00", "20:00"]),
        (20240311, ["04:00", "09:30", "16:00", "20:00"]),
        (20241104, ["04:00", "09:30", "16:00", "20:00"]),
    ],
)
def test_windows_are_new_york_hours_on_both_sides_of_a_clock_change(calendar, session_date, hours):
    windows = calendar.windows(session_date)
    day = datetime.strptime(str(session_date), "%Y%m%d").replace(tzinfo=UTC).date().isoformat()
    edges = [at(f"{day}T{hour}") for hour in hours]
    assert [(window.name, window.start, window.end) for window in windows] == [
        ("pre", edges[0], edges[1]), ("regular", edges[1], edges[2]), ("after", edges[2], edges[3]),
    ]  # fmt: skip
    assert calendar.end_of(session_date) == edges[3] + 900 * 10**9


def test_sessions_follow_each_other_without_a_hole(calendar):
    assert calendar.next_session(20250725) == calendar.next_session(20250726) == 20250728
    assert calendar.previous_session(20250728) == calendar.previous_session(20250727) == 20250725
    assert calendar.start_of(20250728) == calendar.end_of(20250725)
    assert calendar.is_session(20250725)
    assert not calendar.is_session(20250704)
    with pytest.raises(InputError, match="2025-07-04 is no session"):
        calendar.windows(20250704)


def test_a_plain_table_carries_the_calendar(calendar):
    table = json.loads(json.dumps(calendar.to_table(20251120, 20251205)))
    small = SessionCalendar.from_table(table)
    for instant in ("2025-11-28T17:14", "2025-11-28T17:16", "2025-12-05T20:14"):
        assert small.session_date_of(at(instant)) == calendar.session_date_of(at(instant))
    assert small.windows(20251128) == calendar.windows(20251128)
    with pytest.raises(InputError):
        small.session_date_of(at("2025-12-05T20:15"))
    with pytest.raises(InputError):
        small.session_date_of(at("2025-01-05T20:15"))


def test_the_simulated_market_rolls_at_midnight_utc():
    calendar = load_calendar("always_open")
    assert calendar.session_date_of(at("2024-02-29T23:59:59", UTC)) == 20240229
    assert calendar.session_date_of(at("2024-03-01T00:00:00", UTC)) == 20240301
    assert calendar.end_of(20240229) == calendar.start_of(20240301) == at("2024-03-01T00:00:00", UTC)
    assert calendar.next_session(20231231) == 20240101
    assert calendar.previous_session(20240301) == 20240229
    assert [(window.start, window.end) for window in calendar.windows(20240229)] == [
        (calendar.start_of(20240229), calendar.end_of(20240229))
    ]
    again = SessionCalendar.from_table(calendar.to_table(20240228, 20240302), margin_s=0)
    assert again.session_date_of(at("2024-03-01T00:00:00", UTC)) == 20240301


def test_an_unknown_calendar_and_a_table_out_of_order_are_refused(calendar):
    with pytest.raises(ConfigError, match="NOPE"):
        load_calendar("NOPE")
    with pytest.raises(ConfigError, match="ascending"):
        SessionCalendar.from_table(reversed(calendar.to_table(20251120, 20251205)))

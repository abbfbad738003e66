"""Trading sessions: which session date owns an instant, and when its windows begin and end.

A session owns the time from the end of the one before it to its own end: its last close (20:00 New York for US equities, 17:00 on
half-days) plus a margin. Pure arithmetic over a table of sessions; only `load_calendar` knows exchange_calendars, and imports it when
asked for a calendar other than `always_open`. What does not belong here: the clock, settings, numpy.
"""

import warnings
from bisect import bisect_right
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from l2_platform.errors import ConfigError, InputError
from l2_platform.market.dates import date_text

ALWAYS_OPEN: Final = "always_open"
MARGIN_S: Final = 900.0
"""A session ends this long after its last close, s."""
_SECOND_NS: Final = 1_000_000_000
_DAY_NS: Final = 86_400 * _SECOND_NS
_ZONE: Final = ZoneInfo("America/New_York")
_PRE_MARKET_HOUR: Final = 4
_AFTER_HOURS_NS: Final = 4 * 3600 * _SECOND_NS
"""After-hours trading lasts four hours, on half-days too (16:00 to 20:00, 13:00 to 17:00)."""
_US_EQUITIES: Final = frozenset({"XNYS", "XNAS", "NYSE", "NASDAQ", "BATS"})
_FIRST_DAY: Final = "1990-01-01"
_LAST_DAY: Final = "2040-12-31"


class Window(NamedTuple):
    """A part of a session, ns UTC, end not included."""

    name: str
    """`pre`, `regular` or `after`."""
    start: int
    end: int


class Session(NamedTuple):
    """A row of the table; times in ns UTC."""

    session_date: int
    """YYYYMMDD."""
    pre_ns: int
    """Begin of pre-market trading; equal to `open_ns` where there is none."""
    open_ns: int
    close_ns: int
    after_ns: int
    """End of after-hours trading; equal to `close_ns` where there is none."""


class SessionCalendar:
    """A table of sessions in ascending order, and the margin after the last close."""

    def __init__(self, sessions: Iterable[Session], margin_s: float = MARGIN_S) -> None:
        self._sessions = list(sessions)
        self._dates = [session.session_date for session in self._sessions]
        margin_ns = round(margin_s * _SECOND_NS)
        self._ends = [session.after_ns + margin_ns for session in self._sessions]
        if self._dates != sorted(set(self._dates)) or self._ends != sorted(set(self._ends)):
            raise ConfigError("sessions of a calendar must be in ascending order, each date once")

    def session_date_of(self, ts_ns: int) -> int:
        """The session date (YYYYMMDD) that owns an instant; InputError outside the table."""
        place = bisect_right(self._ends, ts_ns)
        if place == len(self._ends) or ts_ns < self._ends[0] - 8 * _DAY_NS:
            raise InputError(f"no session is known at {datetime.fromtimestamp(ts_ns / _SECOND_NS, UTC):%Y-%m-%d %H:%M} UTC")
        return self._dates[place]

    def end_of(self, session_date: int) -> int:
        """When the session ends and the next one begins: last close plus margin, ns UTC; InputError when it is no session."""
        return self._ends[self._place(session_date)]

    session_end_ns = end_of

    def start_of(self, session_date: int) -> int:
        """When the session begins: the end of the one before it, ns UTC."""
        place = self._place(session_date)
        return self._ends[place - 1] if place else self._sessions[0].pre_ns

    def windows(self, session_date: int) -> list[Window]:
        """Pre-market, regular and after-hours trading of a session, those that exist; InputError when it is no session."""
        session = self._sessions[self._place(session_date)]
        windows = [
            Window("pre", session.pre_ns, session.open_ns),
            Window("regular", session.open_ns, session.close_ns),
            Window("after", session.close_ns, session.after_ns),
        ]
        return [window for window in windows if window.end > window.start]

    def is_session(self, session_date: int) -> bool:
        """Does the market open on this date?"""
        place = bisect_right(self._dates, session_date)
        return place > 0 and self._dates[place - 1] == session_date

    def next_session(self, session_date: int) -> int:
        """The first session after a date, which need not be one itself."""
        place = bisect_right(self._dates, session_date)
        if place == len(self._dates):
            raise InputError(f"no session is known after {date_text(session_date)}")
        return self._dates[place]

    def previous_session(self, session_date: int) -> int:
        """The last session before a date, which need not be one itself."""
        place = bisect_right(self._dates, session_date - 1)
        if place == 0:
            raise InputError(f"no session is known before {date_text(session_date)}")
        return self._dates[place - 1]

    def to_table(self, first: int, last: int) -> list[Session]:
        """The sessions from date `first` to `last`, both included: plain numbers, for a file."""
        return [session for session in self._sessions if first <= session.session_date <= last]

    @classmethod
    def from_table(cls, table: Iterable[Iterable[int]], margin_s: float = MARGIN_S) -> "SessionCalendar":
        """The calendar of a `to_table`, also after a way through JSON."""
        return cls((Session(*row) for row in table), margin_s)

    def _place(self, session_date: int) -> int:
        place = bisect_right(self._dates, session_date) - 1
        if place < 0 or self._dates[place] != session_date:
            raise InputError(f"{date_text(session_date)} is no session of this calendar")
        return place


class AlwaysOpenCalendar(SessionCalendar):
    """The simulated market: every day is a session, from 00:00 UTC to 00:00 UTC; no margin."""

    def __init__(self) -> None:
        super().__init__(())

    def session_date_of(self, ts_ns: int) -> int:
        """The UTC date of an instant."""
        return _number(_EPOCH + timedelta(days=ts_ns // _DAY_NS))

    def end_of(self, session_date: int) -> int:
        """Midnight UTC after the date."""
        return _midnight_ns(session_date) + _DAY_NS

    session_end_ns = end_of

    def start_of(self, session_date: int) -> int:
        """Midnight UTC before the date."""
        return _midnight_ns(session_date)

    def windows(self, session_date: int) -> list[Window]:
        """One window, the whole day."""
        start = _midnight_ns(session_date)
        return [Window("regular", start, start + _DAY_NS)]

    def is_session(self, session_date: int) -> bool:
        """Every date is one; InputError when the number is no date."""
        return _date(session_date) is not None

    def next_session(self, session_date: int) -> int:
        """The day after."""
        return _number(_date(session_date) + timedelta(days=1))

    def previous_session(self, session_date: int) -> int:
        """The day before."""
        return _number(_date(session_date) - timedelta(days=1))

    def to_table(self, first: int, last: int) -> list[Session]:
        """One row a day."""
        days = (_date(last) - _date(first)).days
        dates = [_number(_date(first) + timedelta(days=day)) for day in range(days + 1)]
        starts = [_midnight_ns(session_date) for session_date in dates]
        return [
            Session(session_date, start, start, start + _DAY_NS, start + _DAY_NS)
            for session_date, start in zip(dates, starts, strict=True)
        ]


@lru_cache(maxsize=8)
def load_calendar(name: str, margin_s: float = MARGIN_S) -> SessionCalendar:
    """The calendar of that name: `always_open`, or one of exchange_calendars (`XNYS`), 1990 to 2040; ConfigError when unknown.

    US equities have pre-market and after-hours windows, others only the regular one. The first call for an exchange takes seconds.
    """
    if name == ALWAYS_OPEN:
        return AlwaysOpenCalendar()
    import exchange_calendars
    from exchange_calendars.errors import CalendarError

    try:
        with warnings.catch_warnings():
            # Deprecations between that library and pandas are not ours to act on.
            warnings.simplefilter("ignore")
            schedule = exchange_calendars.get_calendar(name, start=_FIRST_DAY, end=_LAST_DAY).schedule
    except (CalendarError, ValueError) as error:
        raise ConfigError(f"session.calendar: cannot use {name!r} ({error}); use always_open, XNYS or another known name") from None
    extended = name in _US_EQUITIES
    sessions = []
    days = (stamp.date() for stamp in schedule.index)
    opens = (int(stamp.timestamp()) * _SECOND_NS for stamp in schedule["open"])
    closes = (int(stamp.timestamp()) * _SECOND_NS for stamp in schedule["close"])
    for day, open_ns, close_ns in zip(days, opens, closes, strict=True):
        pre_ns, after_ns = open_ns, close_ns
        if extended:
            pre_ns = int(datetime(day.year, day.month, day.day, _PRE_MARKET_HOUR, tzinfo=_ZONE).timestamp()) * _SECOND_NS
            after_ns = close_ns + _AFTER_HOURS_NS
        sessions.append(Session(_number(day), pre_ns, open_ns, close_ns, after_ns))
    return SessionCalendar(sessions, margin_s)


_EPOCH: Final = date(1970, 1, 1)


def _number(day: date) -> int:
    return day.year * 10_000 + day.month * 100 + day.day


def _date(session_date: int) -> date:
    try:
        return date(session_date // 10_000, session_date // 100 % 100, session_date % 100)
    except ValueError:
        raise InputError(f"{session_date} is no date; write YYYYMMDD") from None


def _midnight_ns(session_date: int) -> int:
    return (_date(session_date) - _EPOCH).days * _DAY_NS

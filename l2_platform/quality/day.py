"""The session date that is judged: its windows, and which streams have rows in which table.

What does not belong here: rules (checks), running them (execution).
"""

from dataclasses import dataclass, field
from datetime import date
from typing import Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from l2_platform.errors import InputError
from l2_platform.market.sessions import ALWAYS_OPEN, SessionCalendar, load_calendar
from l2_platform.settings import Settings

TABLES: Final = ("trades", "quotes", "depth_updates", "book_snapshots", "feed_events")
EXTRA: Final = ("history_bars", "reconciliations")
BEFORE_TRADING_NS: Final = 8 * 3600 * 1_000_000_000
"""Updates may come so long before the first window begins: a session owns the weekend in front of it, too."""
UNKNOWN_TABLE: Final = "UNKNOWN_TABLE"


@dataclass(frozen=True, slots=True)
class Held:
    """Rows of one stream in one table."""

    stream: str
    source: str
    """live, import or history."""
    rows: int
    first_ns: int
    """When the first row happened (received; imports and history: the event's own time), ns."""
    last_ns: int


@dataclass(frozen=True, slots=True)
class Hours:
    """The session's times, ns UTC; all 0 on a date without a session."""

    start_ns: int = 0
    """The session date owns the time from here …"""
    end_ns: int = 0
    """… to before here."""
    open_ns: int = 0
    close_ns: int = 0
    trading_ns: int = 0
    """Begin of the first window (pre-market where there is one), less `BEFORE_TRADING_NS`: until then nothing is updated."""
    usual_ns: int = 0
    """Up to here the day is like others: the close of a half-day, otherwise its end."""
    always_open: bool = False


@dataclass(slots=True)
class Day:
    """Facts of a session date that rules ask for."""

    session_date: date
    settings: Settings
    live_hours: Hours
    import_hours: Hours
    tables: dict[str, list[Held]] = field(default_factory=dict)
    """Streams by table; a table that is not there has no entry."""
    earlier: list[date] = field(default_factory=list)
    """Session dates before this one with rows of trades or quotes, the newest first."""
    halted: list[str] = field(default_factory=list)
    """Ids of gaps that did not end and that halts in force cover (`silence.gaps_now`)."""

    def rows(self, table: str) -> int:
        """Rows of all streams."""
        return sum(held.rows for held in self.tables.get(table, ()))

    def streams(self, table: str, sources: tuple[str, ...] = ("live", "import", "history")) -> list[Held]:
        """Streams with rows, by name."""
        return [held for held in self.tables.get(table, ()) if held.source in sources]

    def hours(self, source: str) -> Hours:
        """Windows of the calendar that the streams of this source have."""
        return self.import_hours if source == "import" else self.live_hours

    extra: dict[str, int] = field(default_factory=dict)
    """Rows of the date in tables that only some checks need; one that is not there has no entry."""

    @property
    def is_empty(self) -> bool:
        """No market table has a row."""
        return not any(self.rows(table) for table in TABLES if table != "feed_events")


def number_of(session_date: date) -> int:
    """YYYYMMDD."""
    return session_date.year * 10_000 + session_date.month * 100 + session_date.day


def look_at(client: Client, settings: Settings, session_date: date) -> Day:
    """Ask the warehouse what there is of a date; raise ClickHouse errors other than a missing table."""
    # it loads compiled code, and the declarations of checks are read where there is none
    from l2_platform.collectors.importing import calendar_of_imports

    live, imports = (_calendar(settings, name) for name in (settings.calendar_name, calendar_of_imports(settings)))
    day = Day(session_date, settings, _hours(live, settings.calendar_name, session_date),
              _hours(imports, calendar_of_imports(settings), session_date))  # fmt: skip
    for table in TABLES:
        held = _held(client, settings.clickhouse.database, table, session_date)
        if held is not None:
            day.tables[table] = held
    for table in EXTRA:
        count = _count(client, settings.clickhouse.database, table, session_date)
        if count is not None:
            day.extra[table] = count
    day.earlier = _earlier(client, settings, session_date, day)
    return day


def _calendar(settings: Settings, name: str) -> SessionCalendar:
    return load_calendar(name, settings.session.roll_margin_s)


def _hours(calendar: SessionCalendar, name: str, session_date: date) -> Hours:
    number = number_of(session_date)
    try:
        windows = calendar.windows(number)
    except InputError:
        return Hours()
    regular = next(window for window in windows if window.name == "regular")
    return Hours(
        calendar.start_of(number), calendar.end_of(number), regular.start, regular.end, windows[0].start - BEFORE_TRADING_NS,
        regular.end if is_half_day(number, calendar) else calendar.end_of(number), always_open=name == ALWAYS_OPEN,
    )


def _held(client: Client, database: str, table: str, session_date: date) -> list[Held] | None:
    """None when there is no such table."""
    moment = "if(source = 'live', ts_recv, ifNull(ts_event, ts_recv))"
    sql = f"""
        SELECT stream, any(source), count(), toUnixTimestamp64Nano(min({moment})), toUnixTimestamp64Nano(max({moment}))
        FROM {database}.{table} WHERE session_date = {{day:Date}} GROUP BY stream ORDER BY stream"""  # noqa: S608 - names are ours
    try:
        rows = client.query(sql, parameters={"day": session_date}).result_rows
    except ClickHouseError as error:
        if is_missing(error):
            return None
        raise
    return [
        Held(str(stream), str(source), int(count), int(first), int(last)) for stream, source, count, first, last in rows
    ]


def _count(client: Client, database: str, table: str, session_date: date) -> int | None:
    """None when there is no such table."""
    sql = f"SELECT count() FROM {database}.{table} WHERE session_date = {{day:Date}}"  # noqa: S608 - names are ours
    try:
        return int(client.query(sql, parameters={"day": session_date}).result_rows[0][0])
    except ClickHouseError as error:
        if is_missing(error):
            return None
        raise


def is_missing(error: ClickHouseError) -> bool:
    """The table or the database is not there."""
    return UNKNOWN_TABLE in str(error) or "UNKNOWN_DATABASE" in str(error)


def _earlier(client: Client, settings: Settings, session_date: date, day: Day) -> list[date]:
    tables = [table for table in ("trades", "quotes") if table in day.tables]
    if not tables:
        return []
    union = " UNION DISTINCT ".join(
        f"SELECT DISTINCT session_date FROM {settings.clickhouse.database}.{table} WHERE session_date < {{day:Date}}"  # noqa: S608
        " AND session_date >= {day:Date} - 120" for table in tables
    )  # fmt: skip
    sql = f"SELECT session_date FROM ({union}) ORDER BY session_date DESC LIMIT {settings.quality.coverage_days}"  # noqa: S608
    return [found for (found,) in client.query(sql, parameters={"day": session_date}).result_rows]


def is_half_day(session_date: int, calendar: SessionCalendar) -> bool:
    """Regular trading is shorter than on the sessions before and after."""

    def length(number: int) -> int:
        return sum(window.end - window.start for window in calendar.windows(number) if window.name == "regular")

    others = (calendar.previous_session(session_date), calendar.next_session(session_date))
    return length(session_date) < max(length(number) for number in others)

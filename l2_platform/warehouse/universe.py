"""Which symbols were wanted since when, and the sessions of the calendar: facts of the instance, kept beside the market tables.

What does not belong here: the symbols file (`monitoring/symbols_file.py`), what a session is (`market/sessions.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from clickhouse_connect.driver.client import Client

from l2_platform.market.sessions import Session, SessionCalendar
from l2_platform.monitoring.symbols_file import SymbolsFile

USUAL_SHARE = 0.9
"""A session shorter than this share of the longest one around it is a half-day."""


@dataclass(frozen=True, slots=True)
class UniverseFacts:
    """The symbols that are wanted now, and what changed since they were last recorded."""

    version: int
    symbols: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    groups: tuple[tuple[str, int, bool], ...]
    """(group, symbols, enabled), in the file's order."""


def record_universe(client: Client, database: str, file: SymbolsFile, written_ns: int, now_ns: int) -> UniverseFacts:
    """Append what changed against the newest recorded state; `written_ns`: when this version of the file was written, ns.

    Nothing changed, nothing is written: the same file may be recorded again and again.
    """
    wanted = {symbol: group.name for group in file.groups if group.enabled for symbol in group.symbols}
    rows = client.query(f"SELECT symbol, group_name FROM {database}.universe").result_rows  # noqa: S608 - name is ours
    known = {str(symbol): str(group) for symbol, group in rows}
    changed = [symbol for symbol, group in wanted.items() if known.get(symbol) != group]
    gone = [symbol for symbol in known if symbol not in wanted]
    stamps = [written_ns, now_ns]
    events = [[symbol, wanted[symbol], 1, file.version, *stamps] for symbol in changed]
    events += [[symbol, known[symbol], 0, file.version, *stamps] for symbol in gone]
    if events:
        names = ["symbol", "group_name", "wanted", "version", "ts", "ts_written"]
        client.insert("universe_events", events, column_names=names, database=database)
    return UniverseFacts(
        file.version, len(wanted), tuple(symbol for symbol in changed if symbol not in known), tuple(gone),
        tuple((group.name, len(group.symbols), group.enabled) for group in file.groups),
    )  # fmt: skip


def recorded_until(client: Client, database: str) -> int:
    """When the newest recorded change of the symbols was written, ns; 0 when nothing is recorded yet."""
    sql = f"SELECT toUnixTimestamp64Nano(max(ts)) FROM {database}.universe_events"  # noqa: S608 - name is ours
    return int(client.query(sql).result_rows[0][0])


def universe_at(client: Client, database: str, ts_ns: int) -> list[str]:
    """The symbols that were wanted at an instant, ns UTC, by name."""
    sql = f"""
        SELECT symbol FROM {database}.universe_events WHERE ts <= {{at:DateTime64(9, 'UTC')}}
        GROUP BY symbol HAVING argMax(wanted, (ts, version)) = 1 ORDER BY symbol"""  # noqa: S608 - name is ours
    seconds, rest = divmod(ts_ns, 10**9)
    at = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest:09d}"
    return [str(symbol) for (symbol,) in client.query(sql, parameters={"at": at}).result_rows]


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One session as people read it; times in ns UTC."""

    session: Session
    end_ns: int
    """The next session date begins here."""
    half_day: bool
    utc_offset_s: int
    """Exchange time minus UTC at the open."""


def list_sessions(calendar: SessionCalendar, first: int, last: int, zone: ZoneInfo) -> list[SessionRow]:
    """The sessions from date `first` to `last` (YYYYMMDD, both included); `zone` is the exchange's."""
    table = calendar.to_table(first, last)
    longest = max((row.close_ns - row.open_ns for row in table), default=0)
    return [
        SessionRow(
            row, calendar.end_of(row.session_date), (row.close_ns - row.open_ns) < USUAL_SHARE * longest,
            _offset_s(row.open_ns, zone),
        )
        for row in table
    ]  # fmt: skip


def _offset_s(ts_ns: int, zone: ZoneInfo) -> int:
    offset = datetime.fromtimestamp(ts_ns // 10**9, zone).utcoffset()
    return round(offset.total_seconds()) if offset is not None else 0


def record_calendar(client: Client, database: str, name: str, rows: Sequence[SessionRow], now_ns: int) -> int:
    """Write the sessions whose row is new or changed; how many. The newest row of a date counts (FINAL)."""
    columns = ("session_date", "ts_pre", "ts_open", "ts_close", "ts_after", "ts_end", "half_day", "utc_offset_s")
    # as numbers: the driver gives times with or without a zone, as the server is set up
    shown = [f"toUnixTimestamp({name})" if name.startswith("ts_") else name for name in columns]
    sql = f"SELECT {', '.join(shown)} FROM {database}.session_calendar FINAL WHERE calendar = {{name:String}}"  # noqa: S608 - names are ours
    known = {row[0]: tuple(row[1:]) for row in client.query(sql, parameters={"name": name}).result_rows}
    events = []
    for row in rows:
        session = row.session
        day = date(session.session_date // 10_000, session.session_date // 100 % 100, session.session_date % 100)
        times = (session.pre_ns, session.open_ns, session.close_ns, session.after_ns, row.end_ns)
        values = (*(ts // 10**9 for ts in times), int(row.half_day), row.utc_offset_s)
        if known.get(day) != values:
            events.append([name, day, *values, now_ns])
    if events:
        client.insert(
            "session_calendar", events, column_names=["calendar", *columns, "ts_written"], database=database
        )
    return len(events)

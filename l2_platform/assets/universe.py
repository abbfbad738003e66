"""What is recorded and when: `universe` (symbols, groups, since when) and `session_calendar` as assets.

What does not belong here: editing the symbols (job `roll_symbols`), the calendar's arithmetic (`market/sessions.py`).
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

import dagster as dg

from l2_platform.assets.failures import TRANSIENT_RETRY, explained_failures
from l2_platform.assets.partitions import EXCHANGE_ZONE, date_of, number_of
from l2_platform.assets.plots import markdown_table
from l2_platform.assets.tables import stored_in
from l2_platform.assets.workers import COLLECT, OWNER
from l2_platform.clock import Clock
from l2_platform.errors import ConfigError
from l2_platform.market.sessions import ALWAYS_OPEN, load_calendar
from l2_platform.monitoring.symbol_versions import versions_between
from l2_platform.monitoring.symbols_file import SymbolsFile, load_symbols, parse_symbols
from l2_platform.resources.warehouse import WarehouseResource
from l2_platform.settings import Settings
from l2_platform.warehouse.universe import (
    SessionRow,
    UniverseFacts,
    list_sessions,
    record_calendar,
    record_universe,
    recorded_until,
)

NAMES_SHOWN: Final = 20
SESSIONS_SHOWN: Final = 15
YEAR: Final = timedelta(days=365)


def build_universe_asset(settings: Settings, clock: Clock) -> dg.AssetsDefinition:
    """Asset `universe`."""

    @dg.asset(
        name="universe",
        description=(
            "Which symbols are wanted, in which group and since when: every change of the symbols file is kept (table universe_events, "
            "view universe), so that any past instant can be asked. Change it with job roll_symbols. When red: the symbols file cannot "
            "be read, or the warehouse does not answer; recording goes on with the symbols it has."
        ),
        group_name=COLLECT, owners=[OWNER], kinds={"clickhouse", "file"}, retry_policy=TRANSIENT_RETRY,
        metadata=stored_in(settings.clickhouse.database, "universe"),
    )  # fmt: skip
    def universe(warehouse: WarehouseResource) -> dg.MaterializeResult[None]:
        with explained_failures("universe"):
            path = settings.symbols_file
            file = load_symbols(path, limit=settings.symbols.limit, name_bytes_max=settings.symbols.name_bytes_max)
            client = warehouse.client()
            try:
                written_ns = path.stat().st_mtime_ns
                # edits that followed each other within seconds: each was in force
                for at_ns, version in versions_since(settings, recorded_until(client, warehouse.database), written_ns):
                    record_universe(client, warehouse.database, version, at_ns, clock.now_ns())
                facts = record_universe(client, warehouse.database, file, written_ns, clock.now_ns())
            finally:
                client.close()
        return dg.MaterializeResult(metadata=_universe_metadata(facts, settings))

    return universe


def versions_since(settings: Settings, after_ns: int, before_ns: int) -> Iterator[tuple[int, SymbolsFile]]:
    """(time written in ns, file) of the versions between, oldest first; what no collector could read was never in force."""
    limits = settings.symbols
    for at_ns, text in versions_between(settings.symbols_file, after_ns, before_ns):
        with suppress(ConfigError):
            yield at_ns, parse_symbols(text, str(settings.symbols_file), limit=limits.limit, name_bytes_max=limits.name_bytes_max)


def _universe_metadata(facts: UniverseFacts, settings: Settings) -> dict[str, dg.MetadataValue]:
    rows = [(name, count, "yes" if enabled else "no") for name, count, enabled in facts.groups]
    return {
        "symbols": dg.MetadataValue.int(facts.symbols),
        "version": dg.MetadataValue.int(facts.version),
        "groups": dg.MetadataValue.md(markdown_table(("group", "symbols", "recorded"), rows) if rows else "no group"),
        "added": dg.MetadataValue.text(_names(facts.added)),
        "removed": dg.MetadataValue.text(_names(facts.removed)),
        "file": dg.MetadataValue.path(settings.symbols_file),
        "look": dg.MetadataValue.md("`l2 sql \"SELECT * FROM universe ORDER BY symbol LIMIT 20\"`"),
    }  # fmt: skip


def _names(symbols: tuple[str, ...]) -> str:
    more = f" and {len(symbols) - NAMES_SHOWN:,} more" if len(symbols) > NAMES_SHOWN else ""
    return (", ".join(symbols[:NAMES_SHOWN]) + more) if symbols else "none"


def build_calendar_asset(settings: Settings, clock: Clock) -> dg.AssetsDefinition:
    """Asset `session_calendar`."""
    name = settings.calendar_name

    @dg.asset(
        name="session_calendar",
        description=(
            f"The sessions of calendar {name}, a year back and a year ahead: pre-market, regular and after-hours trading, half-days, and "
            "where one session date ends and the next begins (table session_calendar). When red: the calendar cannot be loaded, or the "
            "warehouse does not answer; collectors go by the sessions they were given."
        ),
        group_name=COLLECT, owners=[OWNER], kinds={"clickhouse", "python"}, retry_policy=TRANSIENT_RETRY,
        metadata=stored_in(settings.clickhouse.database, "session_calendar"),
    )  # fmt: skip
    def session_calendar(warehouse: WarehouseResource) -> dg.MaterializeResult[None]:
        with explained_failures("session_calendar"):
            today = datetime.fromtimestamp(clock.now_ns() // 10**9, UTC).date()
            calendar = load_calendar(name, settings.session.roll_margin_s)
            rows = list_sessions(calendar, number_of(today - YEAR), number_of(today + YEAR), _zone(name))
            client = warehouse.client()
            try:
                written = record_calendar(client, warehouse.database, name, rows, clock.now_ns())
            finally:
                client.close()
        return dg.MaterializeResult(metadata=_calendar_metadata(rows, today, written, name))

    return session_calendar


def _calendar_metadata(rows: list[SessionRow], today: date, written: int, name: str) -> dict[str, dg.MetadataValue]:
    ahead = [row for row in rows if row.session.session_date >= number_of(today)]
    zone = _zone(name)
    shown = [
        (
            _day(row.session.session_date), _clock(row.session.pre_ns, zone), _clock(row.session.open_ns, zone),
            _clock(row.session.close_ns, zone), _clock(row.session.after_ns, zone), f"{row.utc_offset_s / 3600:+g} h",
            "half-day" if row.half_day else "",
        )
        for row in ahead[:SESSIONS_SHOWN]
    ]  # fmt: skip
    header = ("session", "pre-market", "open", "close", "after-hours until", "to UTC", "")
    halves = [_day(row.session.session_date) for row in ahead if row.half_day]
    return {
        "calendar": dg.MetadataValue.text(name),
        "next_sessions": dg.MetadataValue.md(f"Times in {zone.key}.\n\n{markdown_table(header, shown)}"),
        "clock_changes_ahead": dg.MetadataValue.text(", ".join(_clock_changes(ahead)) or "none"),
        "half_days_ahead": dg.MetadataValue.text(", ".join(halves) or "none"),
        "closed_days_ahead": dg.MetadataValue.text(", ".join(_closed_weekdays(ahead)) or "none"),
        "sessions_ahead": dg.MetadataValue.int(len(ahead)),
        "rows_written": dg.MetadataValue.int(written),
        "look": dg.MetadataValue.md("`l2 sql \"SELECT * FROM session_calendar FINAL ORDER BY session_date DESC LIMIT 20\"`"),
    }  # fmt: skip


def _clock_changes(ahead: list[SessionRow]) -> list[str]:
    """The first session after each change to or from daylight saving time."""
    return [
        f"{_day(row.session.session_date)} ({row.utc_offset_s / 3600:+g} h)"
        for before, row in pairwise(ahead)
        if row.utc_offset_s != before.utc_offset_s
    ]


def _closed_weekdays(ahead: list[SessionRow]) -> list[str]:
    if not ahead:
        return []
    dates = {row.session.session_date for row in ahead}
    first, last = date_of(min(dates)), date_of(max(dates))
    days = (first + timedelta(days=number) for number in range((last - first).days + 1))
    return [day.isoformat() for day in days if day.weekday() < 5 and number_of(day) not in dates]


def _zone(name: str) -> ZoneInfo:
    return ZoneInfo("UTC") if name == ALWAYS_OPEN else ZoneInfo(EXCHANGE_ZONE)


def _day(session_date: int) -> str:
    return f"{date_of(session_date):%a %Y-%m-%d}"


def _clock(ts_ns: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(ts_ns // 10**9, zone).strftime("%H:%M")

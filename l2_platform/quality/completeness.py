"""The daily verdict: expected against seen for each symbol of a session date, a grade with reasons, stored append-only.

Everything is pushed down to the warehouse; what comes back is a row a symbol. A date that cannot be evaluated says why and is not
stored. What does not belong here: SQL of the facts (day_facts), rules (verdicts), repairs.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any, Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from l2_platform.clock import Clock
from l2_platform.delivery.delivery import make_quarantine
from l2_platform.errors import InputError, L2Error
from l2_platform.market.dates import date_text
from l2_platform.market.sessions import SessionCalendar, Window
from l2_platform.quality.day_facts import Day, DayQueries
from l2_platform.quality.silence import gaps_now
from l2_platform.quality.time_facts import TimeLost, dark_spans
from l2_platform.quality.verdicts import DateVerdict, SymbolVerdict, grade_symbol
from l2_platform.replay.dates import calendar_of
from l2_platform.settings import Settings
from l2_platform.warehouse.client import connect
from l2_platform.warehouse.schema import migrate
from l2_platform.warehouse.universe import universe_at

TABLE: Final = "completeness"
_FACTS: Final = (
    "expected_minutes", "seen_minutes", "rows", "rows_history", "trades", "rows_by_hour", "rows_usual", "days_usual", "tick_ids_expected",
    "tick_ids_lost", "tick_ids_missing", "volume_expected", "volume_lost", "volume_missing", "volume_bar", "gaps", "gap_s", "unexplained_s",
    "book_good_s", "book_suspect_s", "book_building_s", "latency_p50_ms", "latency_p99_ms", "quarantined",
)  # fmt: skip


def judge_date(settings: Settings, session_date: int, clock: Clock) -> DateVerdict:
    """Judge every symbol of a date and store the verdicts; InputError for a date that is no session or not over.

    When the warehouse is away, stops in the middle or lacks a table, the verdict's outcome is `not_evaluated`, and nothing is stored.
    """
    began = clock.monotonic_ns()
    windows = _windows_of(settings, clock, session_date)
    verdict = DateVerdict(session_date, f"{session_date}-{clock.now_ns():x}")
    if not settings.clickhouse.enabled:
        verdict.outcome, verdict.message = "not_evaluated", "ClickHouse is switched off (L2_CLICKHOUSE__ENABLED)"
        return verdict
    try:
        client = connect(settings, send_receive_timeout=settings.completeness.query_s)
        try:
            migrate(client, settings.clickhouse.database)
            day = _measure(client, settings, clock, session_date, windows)
            _judge(verdict, day, settings)
            _store(client, settings.clickhouse.database, verdict, clock)
        finally:
            client.close()
    except (ClickHouseError, L2Error) as error:
        cause = error.message if isinstance(error, L2Error) else str(error).partition("\n")[0]
        verdict.outcome, verdict.symbols = "not_evaluated", []
        verdict.message = f"the warehouse did not answer to the end, nothing was judged: {cause}"
    verdict.seconds = round((clock.monotonic_ns() - began) / 1e9, 3)
    return verdict


def _windows_of(settings: Settings, clock: Clock, session_date: int) -> list[Window]:
    calendar: SessionCalendar = calendar_of(settings)
    if not calendar.is_session(session_date):
        raise InputError(f"{date_text(session_date)} is a closed day of calendar {settings.calendar_name}: there is nothing to judge")
    if calendar.end_of(session_date) > clock.now_ns():
        raise InputError(f"session date {date_text(session_date)} is not over: it is judged when it is")
    return calendar.windows(session_date)


def _measure(client: Client, settings: Settings, clock: Clock, session_date: int, windows: Sequence[Window]) -> Day:
    database, bounds = settings.clickhouse.database, settings.completeness
    number = date(session_date // 10_000, session_date // 100 % 100, session_date % 100)
    expected = _expected(client, database, windows)
    day = DayQueries(client, database, number, windows, settings).run(expected)
    _add_refused(day, settings, clock, session_date)
    now = min(clock.now_ns(), calendar_of(settings).end_of(session_date))
    # an import is as long as its file: only of what was recorded can minutes be missing
    judged = [window for window in windows if day.live and (bounds.dark_windows == "all" or window.name == "regular")]
    gaps, day.no_halts = gaps_now(settings, client, number, now)
    lost = TimeLost(gaps, windows, dark_spans(day.minutes, judged, now), bounds, now)
    for facts in day.symbols.values():
        lost.fill(facts)
    return day


def _expected(client: Client, database: str, windows: Sequence[Window]) -> list[str]:
    """Symbols that were wanted at any time of the session."""
    sql = f"""
        SELECT DISTINCT symbol FROM {database}.universe_events
        WHERE wanted = 1 AND toUnixTimestamp64Nano(ts) > {{start:Int64}} AND toUnixTimestamp64Nano(ts) < {{end:Int64}}"""  # noqa: S608 - name is ours
    start, end = windows[0].start, windows[-1].end
    added = client.query(sql, parameters={"start": start, "end": end}).result_rows
    return sorted({*universe_at(client, database, start), *(str(symbol) for (symbol,) in added)})


def _add_refused(day: Day, settings: Settings, clock: Clock, session_date: int) -> None:
    """Rows that ClickHouse refused and that still wait."""
    for contents in make_quarantine("clickhouse", settings, clock).contents():
        for row in contents.held.values():
            if row.session_date != session_date:
                continue
            name = next((text for text in row.columns["symbol"]["values"] if text), "")
            if name in day.symbols:
                day.of(name).quarantined += 1
            else:
                day.nameless += 1


def _judge(verdict: DateVerdict, day: Day, settings: Settings) -> None:
    verdict.symbols = [grade_symbol(facts, settings.completeness, day.channels) for _, facts in sorted(day.symbols.items())]
    told = []
    if not day.symbols:
        told.append("the date has no row, and no symbol was wanted")
    elif not any(facts.expected for facts in day.symbols.values()):
        told.append("no universe is recorded for the date: a symbol without any row is not missed")
    if day.nameless:
        told.append(f"{day.nameless:,} lines in quarantine name no symbol of the date")
    if day.no_halts:
        told.append(f"halts explain no gap that did not end: {day.no_halts}")
    verdict.message = "; ".join(told)


def _store(client: Client, database: str, verdict: DateVerdict, clock: Clock) -> None:
    if not verdict.symbols:
        return
    number = date(verdict.session_date // 10_000, verdict.session_date // 100 % 100, verdict.session_date % 100)
    now = clock.now_ns()
    rows = [[verdict.run_id, number, *_row(symbol), now] for symbol in verdict.symbols]
    names = ["run_id", "session_date", "symbol", "grade", "reasons", "expected", "unexplained_rows", *_FACTS, "ts_written"]
    client.insert(TABLE, rows, column_names=names, database=database)


def _row(verdict: SymbolVerdict) -> list[Any]:
    facts = verdict.facts
    values = [getattr(facts, name) for name in _FACTS]
    return [verdict.symbol, verdict.grade, verdict.reasons, int(facts.expected), verdict.unexplained_rows, *values]

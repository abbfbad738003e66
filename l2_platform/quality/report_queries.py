"""The parts of the daily report, read from the tables; a part that cannot be read is a reason and never a number.

Only aggregates and bounded lists come back. What does not belong here: measuring or judging anew (completeness, audit, reconcile),
what follows from the parts (report_verdict).
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any, Final, TypeVar

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.exceptions import HTTPError

from l2_platform.clock import Clock
from l2_platform.errors import L2Error
from l2_platform.market.sessions import Window, load_calendar
from l2_platform.quality.checks import CHECKS
from l2_platform.quality.ledger import LedgerGap
from l2_platform.quality.report_course import read_course, read_heat
from l2_platform.quality.report_facts import (
    Audit,
    AuditedCheck,
    Closed,
    ClosedRows,
    ComparedStore,
    Completeness,
    DayFacts,
    FoundRows,
    GradedSymbol,
    Part,
    Recorded,
    StoredRows,
)
from l2_platform.quality.silence import gaps_now
from l2_platform.settings import Settings
from l2_platform.warehouse.client import connect
from l2_platform.warehouse.queries import TABLES

FAILURES: Final = (ClickHouseError, L2Error, HTTPError, OSError)
"""What a statement fails with when the warehouse refuses it, is away, or ends in the middle."""
MARKET: Final = tuple(name for name in TABLES if name != "feed_events")
REASON_CHARS: Final = 300
Found = TypeVar("Found")


class NotEvaluatedError(L2Error):
    """There is nothing that a part could be made of; the message says what to do."""


def read_day(settings: Settings, session_date: int, clock: Clock) -> DayFacts:
    """Every part of a date; never raises for what the warehouse does. InputError when the date is no session of the calendar."""
    windows = load_calendar(settings.calendar_name, settings.session.roll_margin_s).windows(session_date)
    day = date(session_date // 10_000, session_date // 100 % 100, session_date % 100)
    zone = "UTC" if settings.calendar_name == "always_open" else "America/New_York"
    if not settings.clickhouse.enabled:
        return _without(
            settings, day, zone, windows, clock.now_ns(), "ClickHouse is switched off (L2_CLICKHOUSE__ENABLED)"
        )
    try:
        client = connect(settings, send_receive_timeout=settings.report.query_s)
    except FAILURES as error:
        return _without(settings, day, zone, windows, clock.now_ns(), f"the warehouse is away: {reason_of(error)}")
    try:
        return _Reader(client, settings, day).read(zone, windows, clock)
    finally:
        client.close()


def reason_of(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join((error.message if isinstance(error, L2Error) else str(error)).split())
    if "UNKNOWN_TABLE" in text or "UNKNOWN_DATABASE" in text:
        return f"a table is missing in the warehouse ({text[:REASON_CHARS]})"
    return text[:REASON_CHARS] or type(error).__name__


def evaluated(read: Callable[[], Found]) -> Part[Found]:
    """The value, or why there is none."""
    try:
        return Part(read())
    except FAILURES as error:
        return Part(reason=reason_of(error))


def _without(settings: Settings, day: date, zone: str, windows: list[Window], now_ns: int, reason: str) -> DayFacts:
    parts: list[Part[Any]] = [Part(reason=reason) for _ in range(8)]
    return DayFacts(day, zone, windows, now_ns, settings.gaps, *parts)


class _Reader:
    """One date of one warehouse."""

    def __init__(self, client: Client, settings: Settings, day: date) -> None:
        self._client, self._settings, self._day = client, settings, day
        self._database = settings.clickhouse.database

    def read(self, zone: str, windows: list[Window], clock: Clock) -> DayFacts:
        """All parts, one after the other."""
        completeness = evaluated(self.completeness)
        names = [symbol.symbol for symbol in completeness.value.worst] if completeness.value else []
        bounds = self._settings.report
        return DayFacts(
            self._day, zone, windows, clock.now_ns(), self._settings.gaps,
            recorded=evaluated(self.recorded),
            closed=evaluated(self.closed),
            gaps=self.gaps(clock.now_ns()),
            completeness=completeness,
            audit=evaluated(self.audit),
            stores=evaluated(self.stores),
            heat=evaluated(lambda: read_heat(self.ask, self._database, windows, names, bounds.symbols)),
            course=evaluated(lambda: read_course(self.ask, self._database, windows)),
        )  # fmt: skip

    def ask(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Sequence[Sequence[Any]]:
        """Rows of a query; `{day:Date}` is the session date."""
        return self._client.query(sql, parameters={"day": self._day, **(parameters or {})}).result_rows

    def gaps(self, now_ns: int) -> Part[list[LedgerGap]]:
        """The ledger as it counts now; a reason beside a value says what of it was not looked at."""
        most = self._settings.report.gaps_max
        read = evaluated(lambda: gaps_now(self._settings, self._client, self._day, now_ns, most + 1))
        if read.value is None:
            return Part(reason=read.reason)
        found, no_halts = read.value
        reasons = [f"halts explain no open gap: {no_halts}"] if no_halts else []
        if len(found) > most:
            reasons.append(f"only the newest {most:,} gaps were looked at (L2_REPORT__GAPS_MAX)")
        return Part(found[-most:], "; ".join(reasons))

    def recorded(self) -> Recorded:
        """What is stored now. A table that cannot be read is named; raise when none can."""
        rows: list[StoredRows] = []
        unread: dict[str, str] = {}
        for table in MARKET:
            moment = f"toUnixTimestamp64Nano(if(source = 'live', ts_recv, ifNull({TABLES[table].time}, ts_recv)))"
            sql = f"""
                SELECT stream, any(source), count(), uniqExactIf(symbol, symbol != ''), min({moment}), max({moment})
                FROM {self._database}.{table} WHERE session_date = {{day:Date}} GROUP BY stream ORDER BY stream"""  # noqa: S608 - names are ours
            try:
                found = self.ask(sql)
            except FAILURES as error:
                unread[table] = reason_of(error)
                continue
            rows += [StoredRows(table, str(row[0]), str(row[1]), *map(int, row[2:])) for row in found]
        if len(unread) == len(MARKET):
            raise NotEvaluatedError(next(iter(unread.values())))
        parts = " UNION DISTINCT ".join(
            f"SELECT DISTINCT symbol FROM {self._database}.{table} WHERE session_date = {{day:Date}} AND symbol != ''"  # noqa: S608 - names are ours
            for table in MARKET if table not in unread
        )  # fmt: skip
        return Recorded(rows, int(self.ask(f"SELECT count() FROM ({parts})")[0][0]), unread)  # noqa: S608 - as above

    def closed(self) -> Closed:
        """The newest row of each stream and table in `daily_reports`."""
        newest = "ORDER BY ts_written DESC LIMIT 1 BY stream, table"
        place = f"{self._database}.daily_reports"
        sql = f"""
            SELECT stream, table, rows, table_bytes, journal_lines, journal_bytes, rebuilt, reason, toUnixTimestamp64Nano(ts_written)
            FROM {place} WHERE session_date = {{day:Date}} {newest}"""  # noqa: S608 - names are ours
        rows = self.ask(sql)
        if not rows:
            raise NotEvaluatedError("the date is not closed: run job daily_close for it")
        before = self.ask(f"SELECT max(session_date) FROM {place} WHERE session_date < {{day:Date}}")[0][0]  # noqa: S608 - name is ours
        sql = f"""
            SELECT table, sum(rows) FROM (
                SELECT table, rows FROM {place} WHERE session_date = {{before:Date}} {newest}
            ) GROUP BY table"""  # noqa: S608 - names are ours
        known = before is not None and before.year > 1970
        counts = {str(table): int(count) for table, count in self.ask(sql, {"before": before})} if known else {}
        found = [
            ClosedRows(str(row[0]), str(row[1]), int(row[2]), int(row[3]), int(row[4]), int(row[5]), bool(row[6]), str(row[7]))
            for row in rows
        ]  # fmt: skip
        found.sort(key=lambda row: (row.stream, row.table))
        return Closed(found, max(int(row[8]) for row in rows), before if known else None, counts)

    def completeness(self) -> Completeness:
        """The newest judgement; its rows have one run_id."""
        place = f"{self._database}.completeness"
        run = f"SELECT argMax(run_id, ts_written) FROM {place} WHERE session_date = {{day:Date}}"  # noqa: S608 - name is ours
        where = f"WHERE session_date = {{day:Date}} AND run_id = ({run})"
        sql = f"""
            SELECT grade, count(), max(unexplained_s), sum(unexplained_rows), countIf(book_suspect_s > 0), max(book_suspect_s),
                   sum(tick_ids_missing), max(toUnixTimestamp64Nano(ts_written))
            FROM {place} {where} GROUP BY grade"""  # noqa: S608 - names are ours
        grades = self.ask(sql)
        if not grades:
            raise NotEvaluatedError(f"completeness was not judged: `l2 complete {self._day}`")
        sql = f"""
            SELECT symbol, grade, reasons, rows, unexplained_s, unexplained_rows, book_suspect_s FROM {place} {where}
            AND grade != 'complete'
            ORDER BY indexOf(['repaired', 'degraded', 'missing'], grade) DESC, unexplained_s DESC, unexplained_rows DESC, symbol
            LIMIT {{most:UInt32}}"""  # noqa: S608 - names are ours
        worst = [
            GradedSymbol(
                str(row[0]),
                str(row[1]),
                tuple(map(str, row[2])),
                int(row[3]),
                float(row[4]),
                int(row[5]),
                float(row[6]),
            )
            for row in self.ask(sql, {"most": self._settings.report.symbols})
        ]
        return Completeness(
            written_ns=max(int(row[7]) for row in grades), grades={str(row[0]): int(row[1]) for row in grades},
            unexplained_s=max(float(row[2]) for row in grades), unexplained_rows=sum(int(row[3]) for row in grades), worst=worst,
            suspect_symbols=sum(int(row[4]) for row in grades), suspect_s=max(float(row[5]) for row in grades),
            missing_prints=sum(int(row[6]) for row in grades),
        )  # fmt: skip

    def audit(self) -> Audit:
        """The newest run of each check, and its findings."""
        runs = f"""
            SELECT check, run_id, looked, flagged, findings, severity, outcome, message, toUnixTimestamp64Nano(ts_written) AS written
            FROM {self._database}.audit_runs WHERE session_date = {{day:Date}} ORDER BY ts_written DESC LIMIT 1 BY check"""  # noqa: S608 - names are ours
        declared = [check.name for check in CHECKS]
        rows = self.ask(runs)
        if not rows:
            raise NotEvaluatedError(f"the audit did not run: `l2 audit {self._day}`")
        moment = "if({0} IS NULL, NULL, toUnixTimestamp64Nano(assumeNotNull({0})))"
        sql = f"""
            SELECT check, severity, stream, symbol, {moment.format("ts_from")}, {moment.format("ts_to")}, flagged, value, threshold
            FROM {self._database}.findings WHERE session_date = {{day:Date}} AND (check, run_id) IN (SELECT check, run_id FROM ({runs}))
            ORDER BY severity = 'error' DESC, value / if(threshold = 0, 1, threshold) DESC, check, stream, symbol, ts_from
            LIMIT {{most:UInt32}}"""  # noqa: S608 - names are ours
        worst = [
            FoundRows(
                str(row[0]), str(row[1]), str(row[2]), str(row[3]), None if row[4] is None else int(row[4]),
                None if row[5] is None else int(row[5]), int(row[6]), float(row[7]), float(row[8]),
            )
            for row in self.ask(sql, {"most": self._settings.report.rows})
        ]  # fmt: skip
        checks = [
            AuditedCheck(
                str(row[0]), int(row[2]), int(row[3]), int(row[4]), str(row[5]), str(row[6]), str(row[7]), int(row[8])
            )
            for row in sorted(rows, key=lambda row: str(row[0]))
            if str(row[0]) in declared
        ]
        ran = {check.name for check in checks}
        return Audit(checks, worst, tuple(name for name in declared if name not in ran))

    def stores(self) -> list[ComparedStore]:
        """The newest comparison of each stream, table and store."""
        sql = f"""
            SELECT stream, table, store, state, reason, rows_journal, rows_store, missing + extra + doubled + changed + unreadable,
                   toUnixTimestamp64Nano(ts_written)
            FROM {self._database}.reconciliations WHERE session_date = {{day:Date}}
            ORDER BY ts_written DESC LIMIT 1 BY stream, table, store"""  # noqa: S608 - names are ours
        rows = self.ask(sql)
        if not rows:
            raise NotEvaluatedError(f"the stores were not compared: `l2 reconcile {self._day}`")
        found = [
            ComparedStore(
                str(row[0]), str(row[1]), str(row[2]), str(row[3]), str(row[4]), int(row[5]), int(row[6]), int(row[7]), int(row[8])
            )
            for row in rows
        ]  # fmt: skip
        return sorted(found, key=lambda entry: (entry.stream, entry.table, entry.store))

"""The audit of a session date: every check runs, what it found and that it ran is stored.

`audit_date` never raises for what the data or the warehouse do: bad data is a finding, and what could not be judged is said
(`not_evaluated`), so that nothing is green that nobody looked at. What does not belong here: rules (checks), schedules.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date
from typing import Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError
from urllib3.exceptions import HTTPError

from l2_platform.clock import Clock
from l2_platform.errors import InputError, L2Error
from l2_platform.market.sessions import load_calendar
from l2_platform.quality.checks import CHECKS
from l2_platform.quality.checks.rule import Check
from l2_platform.quality.day import TABLES, Day, look_at, number_of
from l2_platform.quality.execution import Runner
from l2_platform.quality.findings import AuditResult, CheckResult, store
from l2_platform.quality.silence import gaps_now
from l2_platform.settings import Settings
from l2_platform.warehouse.client import connect
from l2_platform.warehouse.schema import migrate

Said = Callable[[CheckResult], object]
FAILURES: Final = (ClickHouseError, L2Error, HTTPError, OSError)
"""What a statement fails with when the warehouse refuses it, is away, or ends in the middle."""
MESSAGE_CHARS: Final = 500


def audit_date(
    settings: Settings,
    session_date: date,
    clock: Clock,
    only: Sequence[str] = (),
    *,
    run_id: str = "",
    said: Said = lambda _: None,
) -> AuditResult:
    """Judge a session date by every check, or by those named in `only`; store the result and return it.

    `run_id`: an audit that is repeated under the same one is stored once; empty: a new one. `said` is told each result as it comes.
    Raise InputError for a name that is no check.
    """
    checks = chosen(only)
    result = AuditResult(run_id or f"{session_date.isoformat()}-{clock.now_ns():x}", session_date)
    warehouse = _Warehouse(settings)
    try:
        day = warehouse.look(session_date, clock)
        for check in checks:
            began = clock.monotonic_ns()
            found = _judge(check, day, warehouse, clock)
            found.seconds = round((clock.monotonic_ns() - began) / 1e9, 3)
            result.checks.append(found)
            said(found)
    except FAILURES as error:
        message = f"the warehouse could not be asked: {_text(error)}"
        done = {found.name for found in result.checks}
        result.checks += [_lost(check, message) for check in checks if check.name not in done]
    try:
        warehouse.store(result, clock)
    except FAILURES as error:
        result.stored, result.message = False, f"the result could not be stored: {_text(error)}"
    warehouse.close()
    return result


def audit_week(
    settings: Settings, last: date, clock: Clock, only: Sequence[str] = (), *, said: Said = lambda _: None
) -> list[AuditResult]:
    """Audit the session dates of the week (Monday to Sunday) that `last` is in, up to it, the oldest first."""
    return [audit_date(settings, day, clock, only, said=said) for day in dates_of_week(settings, last)]


def dates_of_week(settings: Settings, last: date) -> list[date]:
    """Monday to `last`, session dates of the instance's calendar only."""
    calendar = load_calendar(settings.calendar_name, settings.session.roll_margin_s)
    days = [date.fromordinal(last.toordinal() - last.weekday() + number) for number in range(last.weekday() + 1)]
    return [day for day in days if calendar.is_session(number_of(day))]


def chosen(only: Sequence[str]) -> list[Check]:
    """The checks of these names, in their order; all without a name. Raise InputError."""
    known = {check.name: check for check in CHECKS}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise InputError(f"there is no check {', '.join(unknown)}; there are {', '.join(known)}")
    return [check for check in CHECKS if not only or check.name in only]


class _Warehouse:
    """A client that is made again when the warehouse went away."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._gone: L2Error | None = None

    def look(self, session_date: date, clock: Clock) -> Day:
        """Make the tables, then ask what there is."""
        migrate(self.client(), self._settings.clickhouse.database)
        day = look_at(self.client(), self._settings, session_date)
        with suppress(ClickHouseError):
            # without a ledger the checks that read it say so themselves
            found, _ = gaps_now(self._settings, self.client(), session_date, clock.now_ns())
            day.halted = [gap.gap_id for gap in found if gap.ts_to is None and gap.explanation]
        return day

    def client(self) -> Client:
        """Raise WarehouseError when the warehouse cannot be reached."""
        if self._gone is not None:
            # one wait for it is enough
            raise self._gone
        if self._client is None:
            # a statement is ended by the warehouse; the margin is for its answer
            try:
                self._client = connect(self._settings, send_receive_timeout=self._settings.quality.statement_s + 30)
            except L2Error as error:
                self._gone = error
                raise
        return self._client

    def store(self, result: AuditResult, clock: Clock) -> None:
        """Once again when the connection is lost: tokens keep it from being stored twice."""
        try:
            store(self.client(), self._settings.clickhouse.database, result, result.checks, clock)
        except (OperationalError, HTTPError, OSError):
            self.close()
            store(self.client(), self._settings.clickhouse.database, result, result.checks, clock)

    def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _judge(check: Check, day: Day, warehouse: _Warehouse, clock: Clock) -> CheckResult:
    """Run a check; what cannot be asked is a result too."""
    missing = [table for table in tables_of(check) if table in TABLES and table not in day.tables]
    if missing:
        return _lost(
            check, f'table {", ".join(missing)} is missing in the warehouse: `l2 sql "SHOW TABLES"` lists what is there'
        )
    if day.is_empty:
        return _nothing(check, day)
    for attempt in (1, 2):
        try:
            return Runner(warehouse.client(), day, clock).run(check)
        except (OperationalError, HTTPError, OSError) as error:
            warehouse.close()
            if attempt == 2:
                return _lost(check, _text(error))
        except FAILURES as error:
            return _lost(check, _text(error))
    raise AssertionError  # the second attempt always returns


def tables_of(check: Check) -> list[str]:
    """Tables that a check reads."""
    return [name for statement in check.statements for name in (statement.table, *statement.needs) if name]


def _nothing(check: Check, day: Day) -> CheckResult:
    """On a date without any row: an error on a date with a session, otherwise nothing to judge."""
    expected = day.live_hours.open_ns > 0
    said = "no market table has a row of this date" + ("" if expected else ", which is no session")
    return CheckResult(check.name, outcome="not_evaluated", message=said, severity="error" if expected else "")


def _lost(check: Check, message: str) -> CheckResult:
    return CheckResult(check.name, outcome="not_evaluated", message=message, severity="error")


def _text(error: BaseException) -> str:
    return " ".join(str(error).split())[:MESSAGE_CHARS] or type(error).__name__

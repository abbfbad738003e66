"""How runs prove a session date: judge, audit, compare, read the ledger, write the report. Imported when asked for: much of it is heavy."""

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final

import dagster as dg

from l2_platform.clock import SystemClock
from l2_platform.errors import InputError, L2Error
from l2_platform.market.sessions import load_calendar
from l2_platform.monitoring.runtime import prepare_numba
from l2_platform.quality.coverage import hours_of
from l2_platform.settings import Settings

if TYPE_CHECKING:
    from l2_platform.quality.findings import AuditResult
    from l2_platform.quality.reconciled import ReconcileResult
    from l2_platform.quality.report import DayReport
    from l2_platform.quality.report_facts import DayFacts
    from l2_platform.quality.verdicts import DateVerdict

MESSAGE_CHARS: Final = 500
"""Of what is told about an error of a library."""


class ProofsResource(dg.ConfigurableResource["ProofsResource"]):
    """The services behind the assets of group `quality`; dates are YYYYMMDD."""

    settings: dg.ResourceDependency[Settings]

    def explain(self, session_date: int) -> str:
        """Look for what explains the gaps of a date before they are judged; what came of it. See `quality.silence.explain_unattended`."""
        from l2_platform.quality.silence import explain_unattended

        try:
            found = explain_unattended(self.settings, session_date, SystemClock())
        except L2Error as error:
            return f"not looked for: {error.message}"
        return f"{len(found.gaps)} gaps explained now" + (f"; no halts: {found.message}" if found.message else "")

    def facts(self, session_date: int) -> "DayFacts":
        """What the tables say of a date; see `quality.report_queries.read_day`."""
        from l2_platform.quality.report_queries import read_day

        return read_day(self.settings, session_date, SystemClock())

    def judge(self, session_date: int) -> "DateVerdict":
        """Judge the completeness of every symbol; see `quality.completeness.judge_date`."""
        self._prepare()
        from l2_platform.quality.completeness import judge_date

        return judge_date(self.settings, session_date, SystemClock())

    def audit(self, session_date: int, run_id: str, say: Callable[[str], object]) -> "AuditResult":
        """Run every check; see `quality.audit.audit_date`. A step that is tried again stores its result once (`run_id`)."""
        self._prepare()
        from l2_platform.quality.audit import audit_date

        return audit_date(
            self.settings, _date(session_date), SystemClock(), run_id=run_id,
            said=lambda check: say(f"{check.name}: {check.outcome}, {check.flagged:,} of {check.looked:,} rows flagged"),
        )  # fmt: skip

    def audit_week(self, say: Callable[[str], object]) -> "list[AuditResult]":
        """Audit the week of the last session date that ended."""
        self._prepare()
        from l2_platform.quality.audit import audit_week

        return audit_week(
            self.settings,
            _date(self.last_ended()),
            SystemClock(),
            said=lambda check: say(f"{check.name}: {check.outcome}"),
        )

    def publish(self, results: "Sequence[AuditResult]") -> "Path | str":
        """Write the pages of audits; the path of their index, or why there are none. An audit stands whatever becomes of its pages."""
        # the library takes seconds and much memory to import
        from l2_platform.quality.expectations import publish

        try:
            return publish(self.settings, results).index
        except Exception as error:  # noqa: BLE001 - a library of others draws them: whatever it raises is told, and hides no result
            return " ".join(f"{type(error).__name__}: {error}".split())[:MESSAGE_CHARS]

    def hours(self, session_date: int) -> list[int]:
        """Hours of the day in New York that the session touches, in its order; see `quality.coverage`."""
        return hours_of(load_calendar(self.settings.calendar_name, self.settings.session.roll_margin_s).windows(session_date))

    def last_ended(self) -> int:
        """The last session date that ended, with the margin of the close; InputError outside the calendar."""
        calendar = load_calendar(self.settings.calendar_name, self.settings.session.roll_margin_s)
        return calendar.previous_session(
            calendar.session_date_of(SystemClock().now_ns() - int(self.settings.close.margin_s * 1e9))
        )

    def reconcile(self, session_date: int, say: Callable[[str], object], *, heal: bool) -> "ReconcileResult | str":
        """Compare the stores with the journal; why it could not be done where it cannot. This process gives way to recording."""
        self._prepare()
        from l2_platform.quality.reconcile import reconcile_date
        from l2_platform.replay.rebuild import give_way
        from l2_platform.resources.session_dates import ProgressLines

        give_way(self.settings)
        clock = SystemClock()
        try:
            return reconcile_date(self.settings, session_date, clock, heal, progress=ProgressLines(say, clock))
        except L2Error as error:
            return error.message

    def report(self, session_date: int) -> "DayReport":
        """Write the page; see `quality.report.write_report`."""
        from l2_platform.quality.report import write_report

        return write_report(self.settings, session_date, SystemClock())

    def is_away(self) -> bool:
        """The warehouse cannot be reached now, which may pass."""
        from l2_platform.warehouse.client import connect

        try:
            connect(self.settings).close()
        except (L2Error, OSError):
            return True
        return False

    def _prepare(self) -> None:
        prepare_numba(self.settings.cache_dir / "numba")


def _date(session_date: int) -> date:
    try:
        return date(session_date // 10_000, session_date // 100 % 100, session_date % 100)
    except ValueError:
        raise InputError(f"{session_date} is no date; write YYYYMMDD") from None

"""The daily report: what was recorded on a session date, what is missing, why, what was repaired, what needs a person.

`write_report` reads the tables, judges, and writes one HTML file; it measures nothing anew. What does not belong here: each of these
steps (report_queries, report_verdict, report_page), the proofs themselves (completeness, audit, reconcile, ledger).
"""

from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from l2_platform.clock import Clock
from l2_platform.errors import InputError
from l2_platform.market.dates import date_text
from l2_platform.market.sessions import load_calendar
from l2_platform.monitoring.atomic import write_atomic
from l2_platform.quality.report_facts import DayFacts
from l2_platform.quality.report_page import gap_counts, render, repairs, table_rows
from l2_platform.quality.report_queries import read_day
from l2_platform.quality.report_verdict import Verdict, judge_day
from l2_platform.settings import Settings


@dataclass(frozen=True, slots=True)
class DayReport:
    """A report that was written."""

    session_date: date
    path: Path
    verdict: Verdict
    facts: DayFacts

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        parts = {
            name: getattr(self.facts, name).reason
            for name in ("recorded", "closed", "gaps", "completeness", "audit", "stores", "heat", "course")
        }
        return {
            "session_date": self.session_date.isoformat(), "path": str(self.path), "ok": self.verdict.ok, "verdict": self.verdict.word,
            "sentence": self.verdict.sentence, "unexplained_s": self.verdict.lost_s, "unexplained_rows": self.verdict.lost_rows,
            "needs_a_person": [asdict(item) for item in self.verdict.todo],
            "not_evaluated": {name: why for name, why in parts.items() if why},
            "tables": table_rows(self.facts), "gaps": gap_counts(self.facts), "repaired": repairs(self.facts),
        }  # fmt: skip


def report_path(settings: Settings, session_date: int) -> Path:
    """Where the page of a date is."""
    text = f"{session_date:08d}"
    return settings.report_dir / f"{text[:4]}-{text[4:6]}-{text[6:]}.html"


def write_report(settings: Settings, session_date: int, clock: Clock) -> DayReport:
    """Write the page of a session date, over an older one; also when the warehouse is away: then it says so.

    InputError for a closed day of the calendar. OSError when the file cannot be written.
    """
    if not load_calendar(settings.calendar_name, settings.session.roll_margin_s).is_session(session_date):
        raise InputError(
            f"{date_text(session_date)} is a closed day of calendar {settings.calendar_name}: there is nothing to report"
        )
    facts = read_day(settings, session_date, clock)
    verdict = judge_day(facts)
    path = report_path(settings, session_date)
    write_atomic(path, render(facts, verdict, settings.report.rows).encode(), sync=False)
    return DayReport(facts.session_date, path, verdict, facts)

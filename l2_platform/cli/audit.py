"""`l2 audit`: judge what was recorded on a session date by every check."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from l2_platform.quality.findings import AuditResult

SHOWN = 5
"""Findings of a check that a terminal shows."""


def register(root: typer.Typer) -> None:
    """Add `l2 audit` to the command line."""
    root.command("audit")(audit)


def audit(
    date: Annotated[str, typer.Argument(help="Session date, YYYY-MM-DD.", show_default=False)],
    week: Annotated[
        bool, typer.Option("--week", help="Every session date of its week, from Monday to the date.")
    ] = False,
    check: Annotated[list[str] | None, typer.Option("--check", help="Only this check; may be repeated.")] = None,
    docs: Annotated[bool, typer.Option("--docs", help="Also write the pages of Great Expectations, and say where.")] = False,
    show: Annotated[bool, typer.Option("--open", help="Write those pages, and open them in a browser.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON, one object a session date; the default in a pipe.")
    ] = False,
) -> int:
    """Run the quality checks of docs/quality.md over a session date; what they find is kept in the table `findings`.

    Exit code 1 when a check finds an error, or cannot judge what it should. Example: `l2 audit 2026-11-20 --check key_once`
    """
    import datetime as dt

    from l2_platform.cli.output import note, print_json, progress
    from l2_platform.cli.times import session_date_from_text
    from l2_platform.clock import SystemClock
    from l2_platform.quality.audit import audit_date, chosen, dates_of_week
    from l2_platform.settings import load_settings

    number = session_date_from_text(date, "DATE")
    last = dt.date(number // 10_000, number // 100 % 100, number % 100)
    names = check or []
    checks = chosen(names)
    settings, clock = load_settings(), SystemClock()
    days = dates_of_week(settings, last) if week else [last]
    results: list[AuditResult] = []
    with progress("checks", unit="checks", total=len(checks) * len(days)) as done:
        results.extend(audit_date(settings, day, clock, names, said=lambda _found: done(1)) for day in days)
    if as_json or not sys.stdout.isatty():
        documents = [result.as_dict() for result in results]
        print_json(documents if week else documents[0])
    else:
        for result in results:
            _show(result)
    if docs or show:
        from l2_platform.quality.expectations import publish

        index = publish(settings, results).index
        note(f"pages: {index}")
        if show:
            typer.launch(index.as_uri())
    return 0 if all(result.outcome == "passed" for result in results) else 1


def _show(result: "AuditResult") -> None:
    """A table of checks, then the worst findings."""
    from l2_platform.cli.output import line, note, records, text_from_seconds
    from l2_platform.cli.times import text_of_instant

    rows: list[dict[str, Any]] = [
        {
            "check": check.name, "outcome": check.outcome.replace("_", " "), "severity": check.severity or "-", "rows": check.looked,
            "flagged": check.flagged, "findings": check.found, "time": text_from_seconds(check.seconds), "why": check.message,
        }
        for check in result.checks
    ]  # fmt: skip
    records(rows, as_json=False, title=f"audit of {result.session_date}: {result.outcome.replace('_', ' ')}")
    worst = [found for check in result.checks for found in check.findings[:SHOWN]]
    shown = [
        {
            "check": found.check, "severity": found.severity, "symbol": found.symbol or "(all)", "stream": found.stream,
            "from": text_of_instant(found.ts_from) if found.ts_from else "-", "to": text_of_instant(found.ts_to) if found.ts_to else "-",
            "value": round(found.value, 4), "limit": found.threshold, "rows": found.flagged,
        }
        for found in worst
    ]  # fmt: skip
    if shown:
        records(shown, as_json=False, title=f"the worst findings (at most {SHOWN} a check)")
        line(f"all of them are in the table findings, run_id {result.run_id}")
    if result.message:
        note(result.message)

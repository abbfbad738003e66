"""`l2 complete`: is everything of a session date there, symbol by symbol?"""

from typing import TYPE_CHECKING, Annotated

import typer

from l2_platform.market.dates import date_text

if TYPE_CHECKING:
    from l2_platform.quality.verdicts import DateVerdict

SHOWN = 50
"""Symbols of a table without --symbol; the worst."""


def register(root: typer.Typer) -> None:
    """Add `l2 complete` to the command line."""
    root.command("complete")(complete)


def complete(
    date: Annotated[str, typer.Argument(metavar="DATE", help="Session date, YYYY-MM-DD.")],
    symbol: Annotated[list[str] | None, typer.Option("--symbol", help="Show only this symbol; may be given again.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, all facts.")] = False,
) -> int:
    """Judge a date that is over: complete, repaired, degraded or missing, with reasons; the verdicts are stored.

    Exit code 1 when a symbol is worse than repaired, or the date could not be judged.

    Example: `l2 complete 2026-11-20 --symbol AAPL`
    """
    from l2_platform.cli.times import session_date_from_text
    from l2_platform.clock import SystemClock
    from l2_platform.errors import InputError
    from l2_platform.quality.completeness import judge_date
    from l2_platform.settings import load_settings

    verdict = judge_date(load_settings(), session_date_from_text(date, "DATE"), SystemClock())
    wanted = list(symbol or [])
    unknown = [name for name in wanted if name not in {found.symbol for found in verdict.symbols}]
    if unknown and verdict.outcome == "judged":
        raise InputError(f"{', '.join(unknown)}: neither wanted nor stored on {date}; the date was judged all the same")
    if wanted:
        verdict.symbols = [found for found in verdict.symbols if found.symbol in wanted]
    _show(verdict, as_json=as_json, limit=len(wanted) or SHOWN)
    return 0 if verdict.ok else 1


def _show(verdict: "DateVerdict", *, as_json: bool, limit: int) -> None:
    from l2_platform.cli.output import line, print_json, table, text_from_seconds
    from l2_platform.quality.verdicts import GRADES

    if as_json:
        print_json(verdict.as_dict())
        return
    if verdict.outcome != "judged":
        line(f"{date_text(verdict.session_date)}: not evaluated: {verdict.message}")
        return
    worst = sorted(verdict.symbols, key=lambda found: (-GRADES.index(found.grade), found.symbol))
    rows = [
        (
            found.symbol, found.grade, f"{found.facts.rows:,}", "/".join(map(str, found.facts.seen_minutes)),
            found.unexplained_rows, found.unexplained_s, "; ".join(found.reasons),
        )
        for found in worst[:limit]
    ]  # fmt: skip
    columns = ("symbol", "grade", "rows", "minutes", "rows missing", "s unexplained", "reasons")
    if rows:
        table("", columns, rows, numbers=("rows", "rows missing", "s unexplained"))
    counts = ", ".join(f"{sum(found.grade == grade for found in verdict.symbols):,} {grade}" for grade in GRADES)
    more = f" (the worst {limit} are shown, --json tells all)" if len(worst) > limit else ""
    line(f"{date_text(verdict.session_date)}: {verdict.grade}; {counts}{more}; judged in {text_from_seconds(verdict.seconds)}")
    if verdict.message:
        line(verdict.message)

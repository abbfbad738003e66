"""`l2 report`: the page of a session date, and its verdict in one line."""

from typing import Annotated

import typer


def register(root: typer.Typer) -> None:
    """Add `l2 report` to the command line."""
    root.command("report")(report)


def report(
    date: Annotated[str, typer.Argument(metavar="DATE", help="Session date, YYYY-MM-DD.")],
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> int:
    """Write the daily report of a session date from what the tables say, and tell where it is and what its verdict is.

    It measures nothing anew: `l2 complete`, `l2 audit` and `l2 reconcile` do. Exit code 1 unless the date is complete or repaired.

    Example: `l2 report 2026-11-20 --open`
    """
    from l2_platform.cli.output import line, print_json
    from l2_platform.cli.times import session_date_from_text
    from l2_platform.clock import SystemClock
    from l2_platform.quality.report import write_report
    from l2_platform.settings import load_settings

    made = write_report(load_settings(), session_date_from_text(date, "DATE"), SystemClock())
    if as_json:
        print_json(made.as_dict())
    else:
        line(f"{made.session_date}: {made.verdict.sentence}")
        for item in made.verdict.todo:
            line(f"  {item.what}" + (f"  ({item.command})" if item.command else ""))
        line(str(made.path))
    if show:
        typer.launch(made.path.as_uri())
    return 0 if made.verdict.ok else 1

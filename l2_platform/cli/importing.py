"""`l2 import`: captured files and history replies into the journal and every sink."""

from pathlib import Path
from typing import Annotated

import typer


def register(root: typer.Typer) -> None:
    """Add `l2 import` to the command line."""
    root.command("import")(import_files)


def import_files(
    files: Annotated[list[Path], typer.Argument(help="Captured wire files or IQFeed history replies; .gz is fine.")],
    channel: Annotated[str, typer.Option("--channel", "-c", help="What the files hold: depth, level1 or ticks.")],
    feed: Annotated[str, typer.Option("--feed", help="Whose format it is: iqfeed.")] = "iqfeed",
    date: Annotated[
        str | None, typer.Option("--date", help="Session date; needed only where the lines carry no date.")
    ] = None,
    symbol: Annotated[str | None, typer.Option("--symbol", help="Symbol of a history reply, whose lines carry none.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a file.")] = False,
) -> None:
    """Import files as if they had just arrived: journal, books, files and tables. Importing a file twice changes nothing.

    Examples: `l2 import aapl.txt.gz --feed iqfeed --channel depth`, `l2 import ticks.csv.gz --channel ticks --symbol XYZ`
    """
    from l2_platform.cli.output import progress, ready_kernels
    from l2_platform.cli.times import session_date_from_text
    from l2_platform.clock import SystemClock
    from l2_platform.errors import InputError
    from l2_platform.settings import load_settings

    if feed != "iqfeed":
        raise InputError(f"--feed {feed!r}: iqfeed is the one format that can be imported")
    settings = load_settings()
    session_date = session_date_from_text(date, "--date") if date is not None else None
    ready_kernels(settings.cache_dir)
    from l2_platform.collectors.importing import ImportRequest, ImportResult, check_file, import_file

    for file in files:
        check_file(file)

    def show(result: ImportResult) -> None:
        if as_json:
            import orjson

            record = {
                "file": str(result.file), "stream": result.stream, "session_dates": result.session_dates,
                "lines": result.lines, "rows": result.rows, "already_imported": result.already,
            }  # fmt: skip
            typer.echo(orjson.dumps(record).decode())
            return
        dates = ", ".join(str(day) for day in result.session_dates)
        if result.already and not any(result.rows.values()):
            typer.echo(f"{result.file.name}: already imported as {result.stream} ({dates}); nothing changed")
            return
        rows = ", ".join(f"{count:,} rows to {name}" for name, count in result.rows.items())
        what = "finished an earlier import" if result.already else f"{result.lines:,} lines"
        typer.echo(f"{result.file.name}: {what} as {result.stream} ({dates}); {rows}")

    for file in files:
        with progress(file.name, unit="lines") as advance:
            done = {"": 0}

            def report(what: str, count: int, _total: int, done: dict[str, int] = done) -> None:
                advance(max(count - done.get(what, 0), 0))
                done[what] = count

            result = import_file(ImportRequest(file, channel, session_date, symbol), settings, SystemClock(), report)
        show(result)

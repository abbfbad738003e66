"""`l2 rebuild`: session dates of the journal once more into the tables."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from l2_platform.market.dates import date_text

if TYPE_CHECKING:
    from l2_platform.replay.rebuilt import StreamResult

DATES_MAX = 4000
"""Dates of one command: more than ten years of sessions."""


def register(root: typer.Typer) -> None:
    """Add `l2 rebuild` to the command line."""
    root.command("rebuild")(rebuild)


def rebuild(
    date: Annotated[str, typer.Argument(metavar="DATE", help="Session date, YYYY-MM-DD.")],
    to: Annotated[str | None, typer.Option("--to", metavar="DATE", help="Last date, when several are meant.")] = None,
    stream: Annotated[list[str] | None, typer.Option("--stream", help="Only this stream; may be given again.")] = None,
    symbols: Annotated[str, typer.Option("--symbols", help="Only rows of these, comma separated; others are kept.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a date and stream.")] = False,
) -> None:
    """Build the tables of stored dates again from the journal, and replace what differs; recording goes on meanwhile.

    Rows go into staging tables first. Nothing live is touched before every row is counted; interrupt it at any time. Gaps and daily
    reports are records of their own and stay.

    Examples: `l2 rebuild 2026-11-20`, `l2 rebuild 2026-11-16 --to 2026-11-20 --stream iqfeed-depth-0 --symbols AAPL,MSFT`
    """
    from l2_platform.cli.output import note, ready_kernels
    from l2_platform.cli.times import session_date_from_text
    from l2_platform.clock import SystemClock
    from l2_platform.errors import InputError
    from l2_platform.settings import load_settings

    first = session_date_from_text(date, "DATE")
    last = session_date_from_text(to, "--to") if to is not None else first
    if last < first:
        raise InputError(f"--to {to} is before {date}")
    wanted = tuple(dict.fromkeys(part.strip() for part in symbols.split(",") if part.strip()))
    if symbols and not wanted:
        raise InputError("--symbols names none; write --symbols AAPL,MSFT")
    settings = load_settings()
    ready_kernels(settings.cache_dir)
    from l2_platform.replay.rebuild import RebuildRequest, give_way

    clock = SystemClock()
    give_way(settings)
    results: list[StreamResult] = []
    for number in _dates(first, last, settings.journal_dir, list(stream or [])):
        request = RebuildRequest(number, tuple(stream or ()), wanted)
        try:
            results += _one_date(request, settings, clock)
        except KeyboardInterrupt:
            day = date_text(number)
            note(f"interrupted at {day}: nothing was replaced, or the next run completes the swap; again: l2 rebuild {day}")
            raise
        finally:
            # what was done is told, also when a later date fails
            _show(results, as_json=as_json)
            results.clear()


def _dates(first: int, last: int, root: Any, streams: list[str]) -> list[int]:
    """The recorded dates of a range; the date itself when one is named, so that its absence is told."""
    from l2_platform.errors import InputError
    from l2_platform.journal.layout import list_dates, list_streams

    if first == last:
        return [first]
    found = {day for name in (streams or list_streams(root)) for day in list_dates(root, name) if first <= day <= last}
    if not found:
        span = f"from {date_text(first)} to {date_text(last)}"
        raise InputError(f"the journal has no session date {span}; `l2 journal ls` shows what there is")
    return sorted(found)[:DATES_MAX]


def _one_date(request: Any, settings: Any, clock: Any) -> "list[StreamResult]":
    from l2_platform.cli.output import progress
    from l2_platform.replay.rebuild import check_request, lines_of, rebuild_date

    streams = check_request(request, settings, clock)
    total = sum(lines_of(settings, stream, request.session_date) for stream in streams)
    with progress(f"{date_text(request.session_date)}: {len(streams)} streams", unit="messages", total=total or None) as advance:

        def report(_stream: str, _what: str, count: int, _total: int) -> None:
            advance(count)

        return rebuild_date(request, settings, clock, report)


def _show(results: "list[StreamResult]", *, as_json: bool) -> None:
    from l2_platform.cli.output import line, table, text_from_seconds
    from l2_platform.replay.rebuilt import difference_text, key_lines

    if as_json:
        import json

        for result in results:
            line(json.dumps(result.as_dict() | {"messages_per_s": round(result.rate)}))
        return
    if not results:
        return
    rows = [
        (
            result.session_date, result.stream, part.table, part.state, f"{part.rows_before:,}" if part.rows_before >= 0 else "unreadable",
            f"{part.rows_after:,}", part.hash_before[:12], part.hash_after[:12], difference_text(part.diff),
        )
        for result in results for part in result.tables
        if part.rows_before or part.rows_after
    ]  # fmt: skip
    columns = ("date", "stream", "table", "state", "rows before", "rows after", "hash before", "hash after", "difference")
    table("", columns, rows, numbers=("rows before", "rows after"))
    for result in results:
        for name, kind, keys in key_lines(result):
            line(f"{date_text(result.session_date)} {result.stream} {name}, {kind}: {keys}")
        how = "an interrupted swap was completed" if result.resumed else result.outcome
        line(
            f"{date_text(result.session_date)} {result.stream}: {how}; {result.messages:,} messages in {text_from_seconds(result.seconds)} "
            f"({result.rate:,.0f}/s)" + (f"; {result.damaged} damaged ranges of the journal" if result.damaged else "")
        )

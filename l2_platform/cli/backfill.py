"""`l2 backfill`: session dates that the warehouse does not have, from the vendor's history, the archive, or a captured file."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from datetime import date as Day  # noqa: N812 - as in archive

    from l2_platform.collectors.history import History
    from l2_platform.settings import Settings


class Source(StrEnum):
    """Where the rows come from."""

    vendor = "vendor"
    archive = "archive"
    capture = "capture"


class What(StrEnum):
    """What the vendor is asked for."""

    ticks = "ticks"
    bars = "bars"


class Interval(StrEnum):
    """Length of a bar: s, or a day."""

    minute = "60"
    second = "1"
    five_seconds = "5"
    daily = "daily"


def register(root: typer.Typer) -> None:
    """Add `l2 backfill` to the command line."""
    root.command("backfill")(backfill)


def backfill(
    date: Annotated[str, typer.Argument(help="Session date, YYYY-MM-DD.")],
    to: Annotated[str | None, typer.Option("--to", help="Last session date; closed days in between are left out.")] = None,
    symbols: Annotated[
        list[str] | None, typer.Option("--symbols", "-s", help="Symbols, comma separated or repeated; default: the symbols file.")
    ] = None,
    source: Annotated[
        Source, typer.Option("--source", help="vendor: history requests; archive: Parquet; capture: a file.")
    ] = Source.vendor,
    what: Annotated[
        What, typer.Option("--what", help="With --source vendor: ticks, or the vendor's bars, which go further back.")
    ] = What.ticks,
    interval: Annotated[
        Interval | None, typer.Option("--interval", help="With --what bars: length of a bar, s, or daily. Default: 60.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="With --source capture: the captured file.")] = None,
    channel: Annotated[str, typer.Option("--channel", help="With --source capture: depth, level1 or ticks.")] = "depth",
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one object a symbol (or table).")] = False,
) -> None:
    """Fill session dates that were never recorded; running it again goes on where it ended and doubles nothing.

    Live rows are never touched. Bars go into table history_bars, also of dates that were recorded. A symbol that fails does not stop the
    others; the exit code is then 1.

    Examples: `l2 backfill 2026-11-18`, `l2 backfill 2026-11-16 --to 2026-11-20 --symbols SYM000,SYM001`,
    `l2 backfill 2024-03-01 --what bars --interval daily`, `l2 backfill 2026-11-18 --source archive`,
    `l2 backfill 2012-06-21 --source capture --file aapl.txt.gz --channel depth`
    """
    from l2_platform.cli.output import ready_kernels
    from l2_platform.errors import InputError
    from l2_platform.settings import load_settings

    settings = load_settings()
    first, last = _days(date, to)
    names = [name for part in symbols or [] for name in part.split(",") if name]
    if (file is not None) != (source is Source.capture):
        raise InputError("--source capture and --file FILE go together")
    if names and source is Source.archive:
        raise InputError("--symbols: the archive is restored whole, a table and stream at a time")
    kind = _kind(source, what, interval)
    ready_kernels(settings.cache_dir)
    if source is Source.vendor:
        failed = _from_vendor(settings, first, last, names, kind, as_json=as_json)
    elif source is Source.archive:
        failed = _from_archive(settings, first, last, as_json=as_json)
    else:
        assert file is not None
        failed = _from_capture(settings, file, channel, first, last, names, as_json=as_json)
    if failed:
        raise typer.Exit(1)


def _kind(source: Source, what: What, interval: Interval | None) -> "History":
    from l2_platform.collectors.history import DAY_S, TICKS, bars
    from l2_platform.errors import InputError

    if what is What.bars and source is not Source.vendor:
        raise InputError(f"--what bars: bars come from the vendor only, not from --source {source.value}")
    if what is What.ticks:
        if interval is not None:
            raise InputError("--interval is the length of a bar: add --what bars")
        return TICKS
    chosen = interval or Interval.minute
    return bars(DAY_S if chosen is Interval.daily else int(chosen.value))


def _days(date: str, to: str | None) -> "tuple[Day, Day]":
    from datetime import date as day_type

    from l2_platform.cli.times import session_date_from_text
    from l2_platform.errors import InputError

    numbers = [session_date_from_text(date, "DATE"), session_date_from_text(to or date, "--to")]
    first, last = (day_type(number // 10_000, number // 100 % 100, number % 100) for number in numbers)
    if last < first:
        raise InputError(f"--to {last} is before {first}")
    return first, last


def _sessions(settings: "Settings", first: "Day", last: "Day") -> list[int]:
    """The session dates of a span; a single day counts as it is, so that a closed one is told."""
    from datetime import timedelta

    from l2_platform.errors import InputError
    from l2_platform.market.sessions import load_calendar

    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    numbers = [day.year * 10_000 + day.month * 100 + day.day for day in days]
    if first == last:
        return numbers
    calendar = load_calendar(settings.calendar_name, settings.session.roll_margin_s)
    sessions = [number for number in numbers if calendar.is_session(number)]
    if not sessions:
        raise InputError(f"there is no session of calendar {settings.calendar_name} from {first} to {last}")
    return sessions


def _from_vendor(
    settings: "Settings", first: "Day", last: "Day", names: list[str], kind: "History", *, as_json: bool
) -> bool:
    from collections import Counter

    from l2_platform.cli.output import line, note, progress, records
    from l2_platform.clock import SystemClock
    from l2_platform.collectors.backfill import SymbolResult, backfill_date, check_date
    from l2_platform.market.dates import date_text

    clock = SystemClock()
    dates = _sessions(settings, first, last)
    for number in dates:
        check_date(number, settings, clock, kind)
    shown: list[dict[str, Any]] = []
    failed = False
    for number in dates:
        with progress(date_text(number), unit="symbols") as advance:

            def tell(_item: SymbolResult, _done: int, _total: int, step: Any = advance) -> None:
                step(1)

            result = backfill_date(number, names, settings, clock, tell, kind)
        failed |= bool(result.failed)
        counts = Counter(item.state for item in result.symbols)
        rows = ", ".join(f"{count:,} rows to {name}" for name, count in result.rows.items()) or "no rows"
        text = ", ".join(f"{count} {state}" for state, count in counts.items())
        told_of = f"{kind.text}, {len(result.symbols)} symbols ({text}); {result.lines:,} lines; {rows}"
        (note if as_json else line)(f"{date_text(number)}: {told_of}")
        told = result.symbols if as_json else [item for item in result.symbols if item.state in {"failed", "unknown_symbol", "no_data"}]
        shown += [
            {"session_date": number, "symbol": item.symbol, "state": item.state, "lines": item.lines, "message": item.message}
            for item in told
        ]
    if shown or as_json:
        records(shown, as_json=as_json, title="symbols without rows")
    if failed:
        note("some symbols failed; the same command tries them again")
    return failed


def _from_archive(settings: "Settings", first: "Day", last: "Day", *, as_json: bool) -> bool:
    from l2_platform.archive.layout import list_archived
    from l2_platform.archive.restore import FAILED, restore_date
    from l2_platform.cli.output import progress, records
    from l2_platform.errors import InputError
    from l2_platform.warehouse.client import connect
    from l2_platform.warehouse.schema import migrate

    days = sorted({manifest.session_date for manifest in list_archived(settings.archive_dir, None, first, last)})
    if not days:
        raise InputError(f"nothing from {first} to {last} is archived in {settings.archive_dir}; `l2 archive` lists what is")
    client = connect(settings)
    rows = []
    try:
        migrate(client, settings.clickhouse.database)
        for day in days:
            with progress(str(day), unit="rows") as advance:

                def tell(_what: str, done: int, step: Any = advance) -> None:
                    step(done)

                rows += [
                    {
                        "session_date": day, "table": item.manifest.table, "stream": item.manifest.stream, "source": item.manifest.source,
                        "rows": item.manifest.rows, "state": item.state, "message": item.message,
                    }
                    for item in restore_date(client, settings, day, progress=tell)
                ]  # fmt: skip
    finally:
        client.close()
    records(rows, as_json=as_json, title="restored")
    return any(row["state"] == FAILED for row in rows)


def _from_capture(
    settings: "Settings", file: Path, channel: str, first: "Day", last: "Day", names: list[str], *, as_json: bool
) -> bool:
    from l2_platform.cli.output import progress, records
    from l2_platform.clock import SystemClock
    from l2_platform.collectors.backfill import import_capture
    from l2_platform.errors import InputError

    if first != last:
        raise InputError("--to: a captured file has its own dates; name the first one only")
    if len(names) > 1:
        raise InputError("--symbols: a captured history reply has one symbol, other files name their own")
    number = first.year * 10_000 + first.month * 100 + first.day
    with progress(file.name, unit="lines") as advance:
        done = {"": 0}

        def tell(what: str, count: int, _total: int) -> None:
            advance(max(count - done.get(what, 0), 0))
            done[what] = count

        result = import_capture(file, channel, number, names[0] if names else None, settings, SystemClock(), tell)
    row = {
        "file": str(result.file), "stream": result.stream, "session_dates": result.session_dates, "lines": result.lines,
        **{f"rows_{name}": count for name, count in result.rows.items()}, "already_imported": result.already,
    }  # fmt: skip
    records([row], as_json=as_json, title="imported")
    return False

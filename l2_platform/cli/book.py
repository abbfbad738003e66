"""`l2 book`: a ladder at an instant or live, and every book state of a day as a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l2_platform.market.dates import date_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from l2_platform.clock import Clock
    from l2_platform.replay.books import BookReader, BookView
    from l2_platform.settings import Settings

app = typer.Typer(
    help="Order books: now, at an instant, or every state of a day.",
    epilog="l2 book SYM000 --watch  ·  l2 book AAPL --at 2012-06-21T10:00:00  ·  l2 book index 2012-06-21  ·  "
    "l2 book export AAPL --date 2012-06-21 --levels 10 --out aapl.parquet",
    no_args_is_help=True,
)

Stream = Annotated[str | None, typer.Option("--stream", help="Read this stream; needed only when several have the symbol.")]
Date = Annotated[str | None, typer.Option("--date", help="Session date, YYYY-MM-DD or YYYYMMDD.")]


class _ShowFirst(typer.core.TyperGroup):
    """`l2 book SYMBOL …` means `l2 book show SYMBOL …`, options first or last; a symbol called show needs both words."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["show", *args]
        return super().parse_args(ctx, args)


def register(root: typer.Typer) -> None:
    """Add `l2 book` to the command line."""
    root.add_typer(app, name="book", cls=_ShowFirst)


@app.command("show")
def show(
    symbol: Annotated[str, typer.Argument(help="Symbol, e.g. SYM000.")],
    at: Annotated[
        str | None, typer.Option("--at", help="Instant: 2012-06-21T10:00:00[.ffffff] New York time, or with an offset.")
    ] = None,
    levels: Annotated[int, typer.Option("--levels", "-n", min=1, max=50, help="Levels per side.")] = 10,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow the live book until Ctrl-C.")] = False,
    date: Date = None,
    stream: Stream = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object (with --watch one a line).")] = False,
) -> None:
    """Show a book as a ladder: now, at an instant (--at), or live (--watch).

    Examples: `l2 book SYM000 --watch`, `l2 book AAPL --at 2012-06-21T10:00:00 --levels 5`
    """
    from l2_platform.cli.output import ready_kernels
    from l2_platform.cli.times import instant_from_text, session_date_from_text
    from l2_platform.errors import InputError
    from l2_platform.settings import load_settings

    settings = load_settings()
    ready_kernels(settings.cache_dir)
    from l2_platform.delivery.pipeline import source_of
    from l2_platform.replay.books import BookReader, stream_of

    if watch and at is not None:
        raise InputError("--watch follows the live book and --at shows one instant: use one of them")
    instant = instant_from_text(at, "--at") if at is not None else None
    wanted = session_date_from_text(date, "--date") if date is not None else None
    if instant is not None and wanted is None:
        name, wanted = _date_of(settings, symbol, instant, stream)
    else:
        name, wanted = stream_of(settings, symbol, wanted, stream)
    if watch and source_of(name) != "live":
        raise InputError(f"--watch follows a live stream; {name} has {symbol} and is no live one: leave --watch out, or use --at")
    if instant is not None:
        _check_instant(settings, name, wanted, instant, f"--at {at}")
    if instant is not None:
        from l2_platform.cli.output import note
        from l2_platform.replay.book_index import book_at

        _print(book_at(settings, symbol, instant, name, wanted, levels=levels, told=note), as_json)
        return
    reader = BookReader(settings, name, wanted, from_checkpoint=True, levels=levels)
    reader.follow()
    if watch:
        _watch(reader, symbol, levels, as_json)
        return
    _print(reader.view(symbol, levels), as_json)


def _check_instant(settings: "Settings", stream: str, session_date: int, instant: int, option: str) -> None:
    """InputError when the session date does not own the instant; dates that are no session were named by a person and own all."""
    from l2_platform.collectors.importing import calendar_of_imports
    from l2_platform.delivery.pipeline import source_of
    from l2_platform.errors import InputError
    from l2_platform.market.sessions import load_calendar

    live = source_of(stream) == "live"
    name = settings.calendar_name if live else calendar_of_imports(settings)
    calendar = load_calendar(name, settings.session.roll_margin_s)
    if not calendar.is_session(session_date):
        return
    windows = calendar.windows(session_date)
    if live:
        inside = calendar.start_of(session_date) <= instant <= calendar.end_of(session_date)
    else:
        inside = windows[0].start <= instant <= windows[-1].end
    if not inside:
        from l2_platform.cli.times import text_of_instant

        first, last = (text_of_instant(ts)[:19] for ts in (windows[0].start, windows[-1].end))
        raise InputError(f"{option} is outside the session of {date_text(session_date)}: {first} to {last} New York time")


def _date_of(settings: "Settings", symbol: str, instant: int, stream: str | None) -> tuple[str, int]:
    """The stream and session date of an instant: what has the symbol on the date that owns it, live or imported."""
    from l2_platform.collectors.importing import calendar_of_imports
    from l2_platform.errors import InputError
    from l2_platform.market.sessions import load_calendar
    from l2_platform.replay.books import stream_of

    failure: InputError | None = None
    for calendar in dict.fromkeys((settings.calendar_name, calendar_of_imports(settings))):
        date = load_calendar(calendar, settings.session.roll_margin_s).session_date_of(instant)
        try:
            return stream_of(settings, symbol, date, stream)
        except InputError as error:
            failure = error
    assert failure is not None
    raise failure


def _print(view: "BookView", as_json: bool) -> None:
    from rich.console import Console

    if as_json:
        typer.echo(_json(view))
        return
    Console(highlight=False).print(_ladder(view))


def _json(view: "BookView") -> str:
    import orjson

    from l2_platform.cli.times import text_of_instant
    from l2_platform.market.prices import text_from_price

    def side(levels: list[tuple[int, int, int]]) -> list[dict[str, Any]]:
        return [
            {"price": float(text_from_price(price)), "size": size, "orders": count, "level": number}
            for number, (price, size, count) in enumerate(levels, 1)
        ]

    record = {
        "symbol": view.symbol, "stream": view.stream, "session_date": view.session_date, "seq": view.seq,
        "time": text_of_instant(view.ts), "trust": view.trust.name.lower(), "bids": side(view.bids), "asks": side(view.asks),
    }  # fmt: skip
    return orjson.dumps(record).decode()


def _ladder(view: "BookView") -> "RenderableType":
    """Asks above bids, best in the middle, with bars as long as the sizes."""
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    from l2_platform.cli.times import text_of_instant
    from l2_platform.market.prices import text_from_price

    table = Table(box=None, padding=(0, 1), show_edge=False)
    for name in ("orders", "bid size", "price", "ask size", "orders"):
        table.add_column(name, justify="right", style="none", header_style="dim")
    table.add_column("", justify="left", width=22)
    largest = max((size for _, size, _ in view.bids + view.asks), default=1) or 1

    def bar(size: int, colour: str) -> Text:
        return Text("█" * max(1, round(20 * size / largest)), style=colour)

    for price, size, count in reversed(view.asks):
        table.add_row("", "", f"[red]{text_from_price(price)}[/]", f"{size:,}", str(count or ""), bar(size, "red"))
    if view.bids and view.asks:
        spread = view.asks[0][0] - view.bids[0][0]
        state = "crossed" if spread < 0 else "locked" if spread == 0 else "spread"
        table.add_row("", "", f"[dim]{state} {text_from_price(spread)}[/]", "", "", "")
    for price, size, count in view.bids:
        table.add_row(str(count or ""), f"{size:,}", f"[green]{text_from_price(price)}[/]", "", "", bar(size, "green"))
    if not view.bids and not view.asks:
        table.add_row("", "", "[dim]empty[/]", "", "", "")
    colour = {"GOOD": "green", "BUILDING": "yellow", "SUSPECT": "red"}[view.trust.name]
    title = f"[bold]{view.symbol}[/]  [{colour}]{view.trust.name.lower()}[/]"
    return Panel.fit(table, title=title, subtitle=f"[dim]{text_of_instant(view.ts)}  {view.stream} seq {view.seq:,}[/]")


def _watch(reader: "BookReader", symbol: str, levels: int, as_json: bool) -> None:
    """Redraw at most ten times a second, only when something came."""
    from rich.console import Console
    from rich.live import Live

    from l2_platform.cli.output import line
    from l2_platform.clock import SystemClock

    clock = SystemClock()
    console = Console(highlight=False)
    if as_json or not console.is_terminal:
        shown = None
        while True:
            view = reader.view(symbol, levels)
            if (book := (view.session_date, view.trust, view.bids, view.asks)) != shown:
                shown = book
                line(_json(view))
            _await_change(reader, clock)
    with Live(_ladder(reader.view(symbol, levels)), console=console, auto_refresh=False, screen=False) as live:
        while True:
            _await_change(reader, clock)
            live.update(_ladder(reader.view(symbol, levels)), refresh=True)


def _await_change(reader: "BookReader", clock: "Clock") -> None:
    """Return a tenth of a second later, or once something came; a session's end leads on to the next date."""
    while True:
        clock.sleep(0.1)
        if reader.follow() or reader.roll():
            return


@app.command("index")
def index(
    date: Annotated[str, typer.Argument(help="Session date, YYYY-MM-DD or YYYYMMDD.")],
    stream: Annotated[str | None, typer.Option("--stream", help="Only this stream of depth; otherwise all that have the date.")] = None,
    anew: Annotated[bool, typer.Option("--anew", help="From the beginning, also when there is an index.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say the result as JSON.")] = False,
) -> None:
    """Build the index of a session date, so that `l2 book SYMBOL --at TIME` takes milliseconds.

    The daily close does this by itself. On a running date it is built up to now, and continued when the command is given again.
    It is made from the journal alone and may be deleted. Examples: `l2 book index 2026-11-20`, `l2 book index 20261120 --anew`
    """
    from l2_platform.cli.output import progress, ready_kernels, records, text_from_bytes
    from l2_platform.cli.times import session_date_from_text
    from l2_platform.settings import load_settings

    settings = load_settings()
    session_date = session_date_from_text(date, "DATE")
    ready_kernels(settings.cache_dir)
    from l2_platform.replay.book_index_build import build_index, streams_of_date

    rows: list[dict[str, Any]] = []
    for name in streams_of_date(settings, session_date, stream):
        with progress(f"{name} {date_text(session_date)}", unit="lines") as advance:
            built = build_index(settings, name, session_date, anew=anew, advance=advance)
        rows.append(
            {
                "stream": name, "session date": session_date, "lines": built.lines, "new": built.new_lines,
                "size": built.bytes if as_json else text_from_bytes(built.bytes), "complete": built.complete, "file": str(built.path),
            }
        )  # fmt: skip
    records(rows, as_json=as_json)


@app.command("export")
def export(
    symbol: Annotated[str, typer.Argument(help="Symbol, e.g. AAPL.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: .parquet or .jsonl.")],
    date: Date = None,
    levels: Annotated[int, typer.Option("--levels", "-n", min=1, max=50, help="Levels per side.")] = 10,
    changes: Annotated[bool, typer.Option("--changes", help="One row a change of these levels, not one a line.")] = False,
    stream: Stream = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say the result as JSON.")] = False,
) -> None:
    """Write the book after every line of the stream (or every change) to a file.

    Columns: line (= seq), ts_event, ts_recv, trust, then bid_px_1, bid_sz_1, bid_ct_1, ask_px_1, ask_sz_1, ask_ct_1, bid_px_2 …;
    an empty level is null. Example: `l2 book export AAPL --date 2012-06-21 --levels 10 --out aapl.parquet`
    """
    from l2_platform.cli.output import progress, ready_kernels
    from l2_platform.cli.times import session_date_from_text
    from l2_platform.settings import load_settings

    settings = load_settings()
    ready_kernels(settings.cache_dir)
    from l2_platform.replay.books import stream_of
    from l2_platform.replay.export import export_states

    wanted = session_date_from_text(date, "--date") if date is not None else None
    name, session_date = stream_of(settings, symbol, wanted, stream)
    with progress(f"{symbol} {date_text(session_date)}", unit="rows") as advance:
        rows = export_states(settings, symbol, name, session_date, levels, out, changes_only=changes, advance=advance)
    if as_json:
        import orjson

        result = {"symbol": symbol, "stream": name, "session_date": session_date, "rows": rows, "file": str(out)}
        typer.echo(orjson.dumps(result).decode())
    else:
        typer.echo(f"{rows:,} rows of {symbol} on {date_text(session_date)} from {name} in {out}")

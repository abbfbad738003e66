"""`l2 quarantine`: rows that a sink refused: which, why, and send them again after a fix."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l2_platform.market.dates import date_text

if TYPE_CHECKING:
    from l2_platform.settings import Settings
    from l2_platform.sinks.quarantine import HeldRow, Quarantine

NAME = Annotated[str, typer.Argument(help="Only this row (`table/stream/date/seq.ordinal`), or those whose name begins so.")]


def register(root: typer.Typer) -> None:
    """Add `l2 quarantine` to the command line."""
    app = typer.Typer(name="quarantine", help="Rows that a sink refused.", no_args_is_help=True)
    app.command("ls")(show)
    app.command("retry")(retry)
    root.add_typer(app)


def show(
    name: NAME = "",
    rows: Annotated[bool, typer.Option("--rows", help="With the values of the rows.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one object a row.")] = False,
) -> None:
    """List the rows that are held, oldest seq first, with the reason and the journal position that they come from.

    Example: `l2 quarantine ls depth_updates/iqfeed-depth-0`
    """
    from l2_platform.cli.output import note, records
    from l2_platform.settings import load_settings

    settings = load_settings()
    found: list[dict[str, Any]] = []
    for row in _held(settings, name):
        where = f"{'.'.join(map(str, row.journal_from)) if row.journal_from else 'begin'} to {'.'.join(map(str, row.journal_to))}"
        shown = {"sink": row.sink, "name": row.name, "code": row.code, "reason": row.reason, "journal": where}
        found.append(shown | ({"columns": {key: column["values"] for key, column in row.columns.items()}} if rows else {}))
    damaged = sum(contents.damaged for quarantine in _quarantines(settings) for contents in quarantine.contents())
    if damaged:
        note(f"{damaged} lines under {settings.quarantine_dir} are damaged: rebuild the dates of their files")
    records(found, as_json=as_json, title="quarantine", empty="no row is held")


def retry(name: NAME = "") -> None:
    """Send the rows that are held again; those that are still refused stay. Exit code 1 when some do.

    For ClickHouse at any time. JSONL files are written again from the row on by the next start of their delivery, so it must not run
    (`l2 down`). Example: `l2 quarantine retry`
    """
    from l2_platform.cli.output import line, ready_kernels
    from l2_platform.settings import load_settings

    settings = load_settings()
    rows = list(_held(settings, name))
    if not rows:
        line("no row is held")
        return
    ready_kernels(settings.cache_dir)
    kept = sum(_retry(sink, [row for row in rows if row.sink == sink], settings) for sink in sorted({row.sink for row in rows}))
    line(f"{len(rows) - kept} of {len(rows)} rows are delivered" + (f", {kept} stay in quarantine" if kept else ""))
    raise typer.Exit(1 if kept else 0)


def _retry(name: str, rows: list["HeldRow"], settings: "Settings") -> int:
    """How many of the rows stay."""
    from l2_platform.cli.output import note
    from l2_platform.delivery.checkpoint import CheckpointStore
    from l2_platform.delivery.delivery import make_sink
    from l2_platform.errors import LeaseHeld, SinkRejected
    from l2_platform.monitoring.heartbeat import Lease
    from l2_platform.sinks.clickhouse import ClickHouseSink
    from l2_platform.sinks.jsonl import JsonlSink

    sink = make_sink(name, settings)
    assert isinstance(sink, ClickHouseSink | JsonlSink)
    files = isinstance(sink, JsonlSink)
    lease = Lease(settings.run_dir / "leases" / (f"deliver-{name}" if files else f"quarantine-{name}"))
    try:
        lease.acquire()
    except LeaseHeld:
        note(f"{lease.path.name} is busy: " + ("stop the delivery first (`l2 down`)" if files else "another retry runs"))
        return len(rows)
    kept = 0
    with lease:
        sink.open()
        try:
            for row in rows:
                store = CheckpointStore(settings.checkpoint_dir / name / row.stream, 1)
                if files and store.done_through() >= row.session_date:
                    day = date_text(row.session_date)
                    note(f"{row.name}: the files of {day} are finished; delete them and {store.directory} to write all again")
                    kept += 1
                    continue
                try:
                    sink.redeliver(row)
                except SinkRejected as error:
                    note(f"{row.name}: {error.message}")
                    kept += 1
        finally:
            sink.close()
    return kept


def _quarantines(settings: "Settings") -> list["Quarantine"]:
    from l2_platform.clock import SystemClock
    from l2_platform.sinks.quarantine import Quarantine

    folders = sorted(folder for folder in settings.quarantine_dir.glob("*") if folder.is_dir())
    return [Quarantine(settings.quarantine_dir, folder.name, settings.delivery.quarantine_rows_max, SystemClock()) for folder in folders]


def _held(settings: "Settings", name: str) -> Iterator["HeldRow"]:
    for quarantine in _quarantines(settings):
        for contents in quarantine.contents():
            for row in sorted(contents.held.values(), key=lambda row: (row.table, row.seq, row.ordinal)):
                if row.name.startswith(name):
                    yield row

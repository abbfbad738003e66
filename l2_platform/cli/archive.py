"""`l2 archive`: closed session dates as Parquet files, verified; what is archived."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date as Day  # noqa: N812 - the function has a parameter of that name

    from l2_platform.archive.layout import Manifest
    from l2_platform.settings import Settings


def register(root: typer.Typer) -> None:
    """Add `l2 archive` to the command line."""
    root.command("archive")(archive)


def archive(
    date: Annotated[str | None, typer.Argument(help="Session date, YYYY-MM-DD; without one: list what is archived.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="Last session date; every date with rows in between.")] = None,
    stream: Annotated[str | None, typer.Option("--stream", help="Only this stream.")] = None,
    table: Annotated[str | None, typer.Option("--table", help="Only this table, e.g. trades.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Write nothing: read every archived row again and compare.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one object a table and stream.")] = False,
) -> None:
    """Write the tables of a closed session date to Parquet, or list or verify what is archived. Doing it again changes nothing.

    Examples: `l2 archive 2026-11-20`, `l2 archive 2026-11-20 --verify`, `l2 archive`
    """
    from l2_platform.cli.output import records
    from l2_platform.errors import InputError
    from l2_platform.settings import load_settings

    settings = load_settings()
    first, last = _days(date, to)
    if date is None or verify:
        if first is None and (stream or table):
            raise InputError("name the session date together with --stream and --table")
        rows = _verified(settings, first, last, stream, table) if verify else _listed(settings)
    else:
        assert first is not None
        assert last is not None
        rows = _exported(settings, first, last, stream, table)
    records(rows, as_json=as_json, title="archive", empty=f"nothing is archived in {settings.archive_dir}")


def _days(date: str | None, to: str | None) -> "tuple[Day | None, Day | None]":
    from datetime import date as day_type

    from l2_platform.cli.times import session_date_from_text
    from l2_platform.errors import InputError

    if date is None:
        if to is not None:
            raise InputError("--to needs a first date: l2 archive 2026-11-16 --to 2026-11-20")
        return None, None
    numbers = [session_date_from_text(date, "DATE"), session_date_from_text(to or date, "--to")]
    first, last = (day_type(number // 10_000, number // 100 % 100, number % 100) for number in numbers)
    if last < first:
        raise InputError(f"--to {last} is before {first}")
    return first, last


def _listed(settings: "Settings") -> list[dict[str, Any]]:
    from l2_platform.archive.layout import list_archived

    return [_record(manifest, "archived") for manifest in list_archived(settings.archive_dir)]


def _verified(
    settings: "Settings", first: "Day | None", last: "Day | None", stream: str | None, table: str | None
) -> list[dict[str, Any]]:
    from l2_platform.archive.export import verify
    from l2_platform.archive.layout import list_archived
    from l2_platform.cli.output import progress
    from l2_platform.errors import InputError

    found = [item for item in list_archived(settings.archive_dir, table, first, last) if stream in (None, item.stream)]
    if not found:
        raise InputError(f"nothing of that is archived in {settings.archive_dir}; `l2 archive` lists what is")
    with progress("verify", unit="rows", total=sum(item.rows for item in found)) as advance:
        for item in found:
            verify(settings, item)
            advance(item.rows)
    return [_record(manifest, "verified") for manifest in found]


def _exported(settings: "Settings", first: "Day", last: "Day", stream: str | None, table: str | None) -> list[dict[str, Any]]:
    from l2_platform.archive.export import export_date, recorded_days
    from l2_platform.cli.output import progress
    from l2_platform.clock import SystemClock
    from l2_platform.warehouse.client import connect
    from l2_platform.warehouse.schema import migrate

    client = connect(settings)
    rows = []
    try:
        migrate(client, settings.clickhouse.database)
        days = [first] if first == last else recorded_days(client, settings.clickhouse.database, first, last)
        for day in days:
            with progress(str(day), unit="rows") as advance:

                def step(_what: str, done: int, advance: "Callable[[int], None]" = advance) -> None:
                    advance(done)

                exported = export_date(client, settings, SystemClock(), day, stream=stream, table=table, progress=step)
            rows += [_record(item.manifest, "written" if item.changed else "unchanged") for item in exported]
    finally:
        client.close()
    return rows


def _record(manifest: "Manifest", state: str) -> dict[str, Any]:
    return {
        "session_date": manifest.session_date, "table": manifest.table, "stream": manifest.stream, "source": manifest.source,
        "rows": manifest.rows, "bytes": manifest.size, "parts": len(manifest.parts), "content_sha256": manifest.content_sha256,
        "state": state,
    }  # fmt: skip

"""`l2 reconcile`: is what all stores hold of a session date what its journal yields?"""

from typing import TYPE_CHECKING, Annotated

import typer

from l2_platform.market.dates import date_text

if TYPE_CHECKING:
    from l2_platform.quality.reconciled import ReconcileResult


def register(root: typer.Typer) -> None:
    """Add `l2 reconcile` to the command line."""
    root.command("reconcile")(reconcile)


def reconcile(
    date: Annotated[str, typer.Argument(metavar="DATE", help="Session date, YYYY-MM-DD.")],
    stream: Annotated[list[str] | None, typer.Option("--stream", help="Only this stream; may be given again.")] = None,
    heal: Annotated[bool, typer.Option("--heal", help="Rebuild what differs from the journal, then compare again.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> int:
    """Compare tables and files of a stored date with its journal: counts, key ranges, a hash of every minute; then name what differs.

    Nothing is changed without --heal. Exit code 1 when a difference is left, or a store could not be compared.

    Examples: `l2 reconcile 2026-11-20`, `l2 reconcile 2026-11-20 --heal --stream iqfeed-depth-0`
    """
    from l2_platform.cli.output import progress, ready_kernels
    from l2_platform.cli.times import session_date_from_text
    from l2_platform.clock import SystemClock
    from l2_platform.settings import load_settings

    session_date = session_date_from_text(date, "DATE")
    settings = load_settings()
    ready_kernels(settings.cache_dir)
    from l2_platform.quality.reconcile import reconcile_date
    from l2_platform.replay.dates import streams_of
    from l2_platform.replay.rebuild import give_way, lines_of

    clock = SystemClock()
    chosen = tuple(stream or ())
    give_way(settings)
    total = sum(lines_of(settings, name, session_date) for name in streams_of(settings, clock, session_date, chosen))
    with progress(f"{date_text(session_date)}: comparing", unit="messages", total=total or None) as advance:

        def report(_stream: str, _what: str, count: int, _total: int) -> None:
            advance(count)

        result = reconcile_date(settings, session_date, clock, heal, streams=chosen, progress=report)
    _show(result, as_json=as_json)
    return 0 if result.ok else 1


def _show(result: "ReconcileResult", *, as_json: bool) -> None:
    from l2_platform.cli.output import line, print_json, table, text_from_seconds
    from l2_platform.quality.reconciled import difference_text

    if as_json:
        print_json(result.as_dict())
        return
    rows = [
        (
            entry.stream, entry.table or "-", entry.store, entry.state, f"{entry.rows_journal:,}", f"{entry.rows_store:,}",
            entry.minutes or "", difference_text(entry), entry.reason,
        )
        for entry in result.entries
        if entry.rows_journal or entry.rows_store or entry.state not in {"equal", "off"}
    ]  # fmt: skip
    columns = ("stream", "table", "store", "state", "rows of the journal", "rows of the store", "minutes", "difference", "reason")
    table("", columns, rows, numbers=("rows of the journal", "rows of the store", "minutes"))
    for entry in result.entries:
        place = f"{entry.stream} {entry.table} {entry.store}"
        if entry.minutes_named:
            line(f"{place}, minutes (UTC): {', '.join(entry.minutes_named)}")
        for kind, keys in entry.differences.keys.items():
            if keys:
                line(f"{place}, {kind}: {' '.join(keys)}")
        if entry.unreadable_named:
            line(f"{place}, no records: {' '.join(entry.unreadable_named)}")
    damage = f"; {result.damaged} ranges of the journal cannot be read" if result.damaged else ""
    verdict = "all stores are equal" if result.ok else "the stores are not equal, or were not compared"
    kept = "" if result.recorded else "; the result could not be recorded"
    line(f"{date_text(result.session_date)}: {verdict}; {result.messages:,} messages in {text_from_seconds(result.seconds)}{damage}{kept}")

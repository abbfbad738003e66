"""`l2 gaps repair`: gaps filled from the vendor's history, now."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from l2_platform.clock import Clock
    from l2_platform.quality.repair import RepairResult
    from l2_platform.settings import Settings


def repair(
    gap_ids: Annotated[list[str] | None, typer.Argument(metavar="[GAP_ID]...", help="Gaps, as `l2 gaps` names them.")] = None,
    date: Annotated[str | None, typer.Option("--date", help="Session date, YYYY-MM-DD; every gap of it that is not repaired.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be asked for, and ask for nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one object a gap.")] = False,
) -> None:
    """Fill gaps of trades from the vendor's history; live rows are never touched, and a second run brings nothing twice.

    Without a name: every gap whose turn it is, as the platform itself does right after each gap. The exit code is 1 when a gap is still
    not whole. Depth and quotes have no history: what stays missing is told.

    Examples: `l2 gaps repair`, `l2 gaps repair --date 2026-11-20 --dry-run`, `l2 gaps repair 1f0c2a9b7e55d310`
    """
    from l2_platform.cli.output import note, progress, ready_kernels, records
    from l2_platform.clock import SystemClock
    from l2_platform.settings import load_settings

    settings, clock = load_settings(), SystemClock()
    ready_kernels(settings.cache_dir)
    from l2_platform.quality.repair import repair_date
    from l2_platform.quality.repair_plan import check_number

    wanted = _wanted(settings, clock, list(gap_ids or []), date)
    if not dry_run:
        for names in wanted.values():
            check_number(names, settings.repair)
    results: list[RepairResult] = []
    for number, names in wanted.items():
        with progress(str(number), unit="symbols") as advance:

            def tell(_gap: str, _done: int, _total: int, step: Any = advance) -> None:
                step(1)

            results += repair_date(
                settings, number, clock, gap_ids=names, everything=date is not None and not names, dry_run=dry_run, progress=tell,
                said=note,
            )  # fmt: skip
    records([_row(result) for result in results], as_json=as_json, title="repairs", empty="no gap is to be repaired")
    left = [result for result in results if result.state in {"failed", "partial"}]
    if left:
        note(f"{len(left)} of {len(results)} gaps are not whole; the same command tries them again")
        raise typer.Exit(1)


def _wanted(settings: "Settings", clock: "Clock", names: list[str], date: str | None) -> dict[int, list[str]]:
    """Session date → gaps, none = those whose turn it is."""
    from l2_platform.cli.times import session_date_from_text
    from l2_platform.errors import InputError
    from l2_platform.quality.ledger import load_versions
    from l2_platform.quality.repair_due import due_gaps
    from l2_platform.warehouse.client import connect
    from l2_platform.warehouse.schema import migrate

    if date is not None:
        return {session_date_from_text(date, "--date"): names}
    client = connect(settings)
    try:
        migrate(client, settings.clickhouse.database)
        if not names:
            return {_number(gap.session_date): [] for gap in due_gaps(client, settings, clock.now_ns())}
        found: dict[int, list[str]] = {}
        for name in names:
            versions = load_versions(client, settings.clickhouse.database, name)
            if not versions:
                raise InputError(f"there is no gap {name!r}; `l2 gaps --all` lists them")
            found.setdefault(_number(versions[-1].session_date), []).append(name)
        return found
    finally:
        client.close()


def _number(day: Any) -> int:
    return int(day.year * 10_000 + day.month * 100 + day.day)


def _row(result: "RepairResult") -> dict[str, Any]:
    def moment(ts: int) -> str:
        return f"{datetime.fromtimestamp(ts // 10**9, UTC):%Y-%m-%d %H:%M:%S}.{ts % 10**9 // 1000:06d}"

    return {
        "gap_id": result.gap_id, "stream": result.stream, "ts_from": moment(result.ts_from), "ts_to": moment(result.ts_to),
        "state": result.state or "to do", "rows_recovered": result.rows_recovered, "residual": result.residual, "message": result.message,
        "seconds": result.seconds,
    }  # fmt: skip

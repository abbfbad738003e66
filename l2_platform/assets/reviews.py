"""Assets made by schedules that look back: `weekly_review`, `monthly_review`, and `dagster_storage` (pruning).

What does not belong here: when they run (`sensors/schedules.py`), closing a date (`close.py`).
"""

from collections.abc import Sequence
from typing import Final

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from l2_platform.assets.failures import TRANSIENT_RETRY, explained_failures, first_line
from l2_platform.assets.groups import OPERATE
from l2_platform.assets.partitions import date_of
from l2_platform.assets.plots import bytes_text, markdown_table
from l2_platform.assets.workers import OWNER
from l2_platform.clock import Clock
from l2_platform.journal.layout import list_dates, list_streams
from l2_platform.journal.verify import Finding, verify
from l2_platform.market.dates import date_text
from l2_platform.operations.room import PARTS, Room, measure_room
from l2_platform.operations.verdict import judge_room
from l2_platform.resources.pruning import Pruned, prune
from l2_platform.resources.warehouse import WarehouseResource
from l2_platform.settings import Settings
from l2_platform.warehouse.queries import bytes_of_dates, table_parts

WHOLE, ROOM = "journal_is_whole", "room_lasts"
WEEK_DATES: Final = 5
"""Session dates of a weekly review."""
MONTH_DATES: Final = 21
"""Session dates of a monthly review."""
FINDINGS_SHOWN: Final = 20


def build_weekly_review(settings: Settings) -> dg.AssetsDefinition:
    """Asset `weekly_review`."""

    @dg.asset(
        name="weekly_review",
        description=(
            f"The last {WEEK_DATES} session dates: every frame, block and hash of the journal is read again, and the room that is left is "
            "measured, with the parts of every table. When red: the message names the damaged segments; l2 journal verify shows them all."
        ),
        group_name=OPERATE, owners=[OWNER], kinds={"file", "clickhouse"}, retry_policy=TRANSIENT_RETRY,
        check_specs=[
            dg.AssetCheckSpec(WHOLE, asset="weekly_review", description="Nothing in the journal of these dates is damaged or missing."),
            dg.AssetCheckSpec(ROOM, asset="weekly_review", description="The disk has room for the next session dates."),
        ],
    )  # fmt: skip
    def weekly_review(warehouse: WarehouseResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # as its neighbours
        with explained_failures("weekly_review"):
            dates = _recorded(settings)[-WEEK_DATES:]
            findings = _verify(settings, dates)
            room, parts = _measure(settings, warehouse)
        text = f"{len(dates)} session dates are whole."
        if findings:
            text = f"{len(findings)} findings: {'; '.join(map(_named, findings[:5]))}. l2 journal verify shows them all."
        table = [(item.stream, date_text(item.session_date), item.segment, item.kind, item.detail) for item in findings[:FINDINGS_SHOWN]]
        whole = dg.AssetCheckResult(check_name=WHOLE, passed=not findings, description=text, metadata={"findings": len(findings)})
        return dg.MaterializeResult(
            metadata=_room_metadata(room, WEEK_DATES) | {
                "dates": dg.MetadataValue.text(", ".join(map(date_text, dates)) or "none"),
                "findings": _table(("stream", "date", "segment", "kind", "detail"), table),
                "tables": _table(("table", "parts", "rows", "on disk"), parts),
            },
            check_results=[whole, _room_check(settings, room, WEEK_DATES)],
        )  # fmt: skip

    return weekly_review


def build_monthly_review(settings: Settings) -> dg.AssetsDefinition:
    """Asset `monthly_review`."""

    @dg.asset(
        name="monthly_review",
        description=(
            f"How the stored data grows: what each of the last {MONTH_DATES} session dates takes, by journal, tables, files and archive, "
            "what Dagster and the logs take, and for how many dates there is room. When red: the disk will be full; the message says when."
        ),
        group_name=OPERATE, owners=[OWNER], kinds={"file", "clickhouse"}, retry_policy=TRANSIENT_RETRY,
        check_specs=[dg.AssetCheckSpec(ROOM, asset="monthly_review", description="The disk has room for the next session dates.")],
    )  # fmt: skip
    def monthly_review(warehouse: WarehouseResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # as its neighbours
        with explained_failures("monthly_review"):
            room, _ = _measure(settings, warehouse)
        rows = [
            (str(date_of(date.session_date)), *(bytes_text(date.by_part[part]) for part in PARTS), bytes_text(date.total))
            for date in room.dates[-MONTH_DATES:]
        ]
        other = [(name, bytes_text(size)) for name, size in room.other_bytes.items()]
        return dg.MaterializeResult(
            metadata=_room_metadata(room, MONTH_DATES) | {
                "by_date": _table(("session date", *PARTS, "together"), rows),
                "other": _table(("folder", "on disk"), other),
            },
            check_results=[_room_check(settings, room, MONTH_DATES)],
        )  # fmt: skip

    return monthly_review


def build_dagster_storage(settings: Settings, clock: Clock) -> dg.AssetsDefinition:
    """Asset `dagster_storage`."""
    days = settings.dagster

    @dg.asset(
        name="dagster_storage",
        description=(
            f"Dagster's own storage, pruned: ended runs with their logs, and ticks, after {days.keep_runs_days} days, events without a run "
            f"after {days.keep_events_days} days. The newest evidence of every asset, partition and check stays; each run removes a "
            "bounded number. When red: the storage is locked or gone; nothing is half-done, run job prune again."
        ),
        group_name=OPERATE, owners=[OWNER], kinds={"python"}, retry_policy=TRANSIENT_RETRY,
    )  # fmt: skip
    def dagster_storage(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        try:
            done = prune(context.instance, clock.now_ns(), days)
        except SQLAlchemyError as error:
            what = first_line(error.__cause__ or error)
            raise dg.Failure(
                f"Dagster's storage could not be pruned: {what}. What was removed until then stays removed. Is the storage "
                "there, and not locked by another program? Then run job prune again.",
            ) from error
        return dg.MaterializeResult(metadata=_pruned_metadata(done))

    return dagster_storage


def _pruned_metadata(done: Pruned) -> dict[str, dg.MetadataValue]:
    return {
        "runs_removed": dg.MetadataValue.int(done.runs),
        "old_runs_kept": dg.MetadataValue.int(done.runs_kept),
        "events_removed": dg.MetadataValue.int(done.events),
        "evaluations_removed": dg.MetadataValue.int(done.evaluations),
        "ticks_removed": dg.MetadataValue.int(done.ticks),
        "sqlite_bytes": dg.MetadataValue.int(done.bytes_after),
        "sqlite_bytes_given_back": dg.MetadataValue.int(max(0, done.bytes_before - done.bytes_after)),
        "complete": dg.MetadataValue.bool(done.complete),
    }


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> dg.MetadataValue:
    return dg.MetadataValue.md(markdown_table(header, rows) if rows else "none")


def _recorded(settings: Settings) -> list[int]:
    """Session dates that a stream of this instance recorded, in order."""
    return sorted({date for stream in settings.streams for date in list_dates(settings.journal_dir, stream)})


def _verify(settings: Settings, dates: list[int]) -> list[Finding]:
    durable = settings.run_dir / "durable"
    return [
        finding
        for stream in list_streams(settings.journal_dir)
        for date in dates
        if date in list_dates(settings.journal_dir, stream)
        for finding in verify(settings.journal_dir, stream, date, durable_path=durable / stream)
    ]


def _named(finding: Finding) -> str:
    return f"{finding.stream} {date_text(finding.session_date)} segment {finding.segment}: {finding.detail}"


def _measure(settings: Settings, warehouse: WarehouseResource) -> tuple[Room, list[tuple[str, int, int, str]]]:
    if not settings.clickhouse.enabled:
        return measure_room(settings, {}), []
    client = warehouse.client()
    try:
        sizes = bytes_of_dates(client, warehouse.database)
        parts = [(table, count, rows, bytes_text(size)) for table, count, rows, size in table_parts(client, warehouse.database)]
    finally:
        client.close()
    return measure_room(settings, sizes), parts


def _room_metadata(room: Room, dates: int) -> dict[str, dg.MetadataValue]:
    growth, left = room.growth(dates), room.dates_left(dates)
    found: dict[str, dg.MetadataValue] = {
        "free_bytes": dg.MetadataValue.int(room.free_bytes),
        "dagster_bytes": dg.MetadataValue.int(room.other_bytes.get("dagster", 0)),
        "measured": dg.MetadataValue.text(f"{len(room.dates)} session dates, {bytes_text(sum(date.total for date in room.dates))}"),
    }
    if growth is not None and left is not None:
        found["bytes_per_date"] = dg.MetadataValue.int(round(growth))
        found["dates_left"] = dg.MetadataValue.float(round(left, 1))
    return found


def _room_check(settings: Settings, room: Room, dates: int) -> dg.AssetCheckResult:
    promise = judge_room(room, dates, settings.disk.dates_min)
    return dg.AssetCheckResult(check_name=ROOM, passed=promise.kept, description=promise.seen)

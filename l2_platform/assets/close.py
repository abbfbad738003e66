"""Asset `closed_day` and job `close_day`: the daily close of a session date as evidence, with its checks.

`build_close_asset(partitions, deps)` makes the asset, `build_close_job(asset)` the job; a schedule runs it for the session date that has
ended. What does not belong here: the close itself (operations/close.py), when it runs (sensors).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from l2_platform.assets.archive import GROUP as ARCHIVE
from l2_platform.assets.failures import TRANSIENT_RETRY, explained_failures
from l2_platform.assets.partitions import key_date, number_of
from l2_platform.assets.plots import bytes_text, markdown_table, time_text
from l2_platform.assets.rebuild import REBUILD_POOL
from l2_platform.assets.tables import stored_in
from l2_platform.assets.workers import OWNER
from l2_platform.resources.session_dates import SessionDatesResource

if TYPE_CHECKING:
    from l2_platform.operations.close import CloseReport

FINISHED, SEALED, AGREE = "everything_is_delivered", "journal_is_sealed", "tables_agree_with_journal"
RUN_S_MAX: Final = 6 * 3600


def build_close_asset(
    partitions: dg.DailyPartitionsDefinition, deps: list[dg.AssetKey], database: str
) -> dg.AssetsDefinition:
    """Asset `closed_day`; `deps` are the tables, `database` has what it records."""

    @dg.asset(
        name="closed_day",
        description=(
            "A session date that is over, closed: every sink has the whole journal, its segments are sealed, streams whose tables showed a "
            "reason were rebuilt, and rows, bytes, hashes and times are recorded in table daily_reports. Closing again measures again. "
            "When red: the checks say what it waited for or what was wrong; sensor unclosed_dates asks again by itself for a while."
        ),
        # not `record`: it reads the tables, and a group that is both before and after another has no place in a flow
        group_name=ARCHIVE, owners=[OWNER], kinds={"clickhouse", "file", "python"}, partitions_def=partitions, deps=deps,
        retry_policy=TRANSIENT_RETRY, pool=REBUILD_POOL, metadata=stored_in(database, "daily_reports"),
        check_specs=[
            dg.AssetCheckSpec(FINISHED, asset="closed_day", description="Every delivery has finished the date, and the sealer too."),
            dg.AssetCheckSpec(SEALED, asset="closed_day", description="Segments that can be are sealed; the chain is whole."),
            dg.AssetCheckSpec(AGREE, asset="closed_day", description="No stream showed a reason to rebuild it."),
        ],
    )  # fmt: skip
    def closed_day(context: dg.AssetExecutionContext, session_dates: SessionDatesResource) -> Iterator[Any]:
        with explained_failures(f"close {context.partition_key}"):
            report = session_dates.close(number_of(key_date(context.partition_key)), context.log.info)
        results = [_finished(report), _sealed(report), _agree(report)]
        if not report.closed:
            yield from results
            # no materialization: that would say that the date is closed; what comes after it in a job waits too
            raise dg.Failure(f"close {context.partition_key}: {results[0].description}", allow_retries=False)
        yield dg.MaterializeResult(metadata=_metadata(report), check_results=results)

    return closed_day


def build_close_job(asset: dg.AssetsDefinition) -> UnresolvedAssetJobDefinition:
    """Job `close_day`: closes the chosen session date."""
    return dg.define_asset_job(
        "close_day",
        selection=dg.AssetSelection.assets(asset),
        description="Closes a session date that is over: waits for sinks and sealer, rebuilds what needs it, records the facts.",
        executor_def=dg.in_process_executor,
        tags={"dagster/max_runtime": str(RUN_S_MAX)},
    )  # fmt: skip


def _metadata(report: "CloseReport") -> dict[str, dg.MetadataValue]:
    streams = [
        (item.stream, item.lines, bytes_text(item.journal_bytes), item.segments, item.sealed, item.reason or "–")
        for item in report.streams
    ]
    tables = [
        (
            item.stream, table, found.rows, bytes_text(item.table_bytes.get(table, 0)), found.digest[:12],
            time_text(found.ts_first), time_text(found.ts_last),
        )
        for item in report.streams for table, found in item.tables.items() if found.rows
    ]  # fmt: skip
    return {
        "dagster/partition_row_count": dg.MetadataValue.int(
            sum(found.rows for item in report.streams for found in item.tables.values())
        ),
        "journal_lines": dg.MetadataValue.int(sum(item.lines for item in report.streams)),
        "journal_bytes": dg.MetadataValue.int(sum(item.journal_bytes for item in report.streams)),
        "table_bytes": dg.MetadataValue.int(sum(sum(item.table_bytes.values()) for item in report.streams)),
        "rebuilt_streams": dg.MetadataValue.int(sum(item.rebuilt is not None for item in report.streams)),
        "seconds": dg.MetadataValue.float(report.seconds),
        "streams": dg.MetadataValue.md(
            markdown_table(("stream", "lines", "on disk", "segments", "sealed", "rebuilt because"), streams)
        ),
        "tables": dg.MetadataValue.md(
            markdown_table(("stream", "table", "rows", "on disk", "hash", "first row", "last row"), tables)
        ),
        "look": dg.MetadataValue.md(
            f"`l2 sql \"SELECT * FROM daily_reports WHERE session_date = '{report.session_date}' ORDER BY ts_written\"`"  # noqa: S608 - for a person
        ),
    }


def _finished(report: "CloseReport") -> dg.AssetCheckResult:
    text = f"{len(report.streams)} streams are finished in every sink."
    if report.waiting:
        text = f"Not closed, nothing was rebuilt or recorded: {'; '.join(report.waiting)}. It is tried again (sensor unclosed_dates)."
    return dg.AssetCheckResult(
        check_name=FINISHED, passed=report.closed, description=text, metadata={"waiting_for": len(report.waiting)}
    )


def _sealed(report: "CloseReport") -> dg.AssetCheckResult:
    wrong = [f"{item.stream}: {sentence}" for item in report.streams for sentence in item.chain]
    segments, sealed = (sum(getattr(item, name) for item in report.streams) for name in ("segments", "sealed"))
    text = f"{sealed} of {segments} segments are sealed; the chain of each stream is whole."
    if wrong:
        text = f"The manifest and the files do not agree ({'; '.join(wrong[:5])}). l2 journal verify names the damage."
    return dg.AssetCheckResult(check_name=SEALED, passed=not wrong, description=text, metadata={"not_sealed": segments - sealed})


def _agree(report: "CloseReport") -> dg.AssetCheckResult:
    found = {item.stream: item.reason for item in report.streams if item.reason}
    if not report.closed:
        text = "Not looked at: the date is not closed."
    elif found:
        named = "; ".join(f"{stream}: {reason}" for stream, reason in found.items())
        text = f"Rebuilt from the journal, and equal to it now ({named}). Find out why it was not: look at deliveries/clickhouse."
    else:
        text = "Positions, keys and recorded hashes agree with the journal; rows themselves are compared by job rebuild."
    return dg.AssetCheckResult(
        check_name=AGREE,
        passed=report.closed and not found,
        severity=dg.AssetCheckSeverity.WARN,
        description=text,
        metadata={"rebuilt_streams": len(found)},
    )

"""Job `rebuild`: any session dates once more from the journal into the tables, from the UI, by backfill or for one date.

`build_rebuild_asset` and `build_rebuild_job`. What does not belong here: how it is done (replay/rebuild.py).
"""

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from pydantic import Field

from l2_platform.assets.failures import TRANSIENT_RETRY, explained_failures
from l2_platform.assets.partitions import key_date, number_of
from l2_platform.assets.plots import markdown_table
from l2_platform.assets.tables import stored_in
from l2_platform.assets.workers import OWNER, TABLES
from l2_platform.resources.session_dates import SessionDatesResource
from l2_platform.warehouse.queries import TABLES as SHAPES

if TYPE_CHECKING:
    from l2_platform.replay.rebuilt import StreamResult

REBUILD_POOL: Final = "rebuild"
"""One date at a time: a rebuild uses the warehouse as much as it may."""
DATES_A_RUN: Final = 5
"""Dates of one run of a backfill: what a failure costs at most."""
RUN_S_MAX: Final = 6 * 3600


class RebuildConfig(dg.Config):
    """What of the dates is built again."""

    streams: list[str] = Field(default=[], description="Streams, e.g. iqfeed-depth-0. Empty: every stream that has the date.")
    symbols: list[str] = Field(
        default=[], description="Only the rows of these symbols are made anew, all others are copied. Empty: all symbols."
    )


def build_rebuild_asset(
    partitions: dg.DailyPartitionsDefinition, deps: list[dg.AssetKey], database: str
) -> dg.AssetsDefinition:
    """Asset `rebuilt_tables`; `deps` are the journal, `database` has the tables."""
    with warnings.catch_warnings():
        # `backfill_policy` is beta in Dagster; what it does here is measured
        warnings.simplefilter("ignore", dg.BetaWarning)
        return _asset(partitions, deps, database)


def _asset(
    partitions: dg.DailyPartitionsDefinition, deps: list[dg.AssetKey], database: str
) -> dg.AssetsDefinition:
    @dg.asset(
        name="rebuilt_tables",
        description=(
            "The tables of a closed session date built again from the journal (job `rebuild`): staging tables, then a swap. Nothing live "
            "is touched before every row is counted, equal content is left as it is, recording goes on. Materialize it only when a date "
            "has to be rebuilt: after a change of the decoder, or when a check says so. When red: the message says what to do; a retry "
            "completes or repeats it."
        ),
        group_name=TABLES, owners=[OWNER], kinds={"clickhouse", "python"}, partitions_def=partitions, deps=deps,
        retry_policy=TRANSIENT_RETRY, backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=DATES_A_RUN), pool=REBUILD_POOL,
        metadata=stored_in(database, *SHAPES),
    )  # fmt: skip
    def rebuilt_tables(
        context: dg.AssetExecutionContext, config: RebuildConfig, session_dates: SessionDatesResource
    ) -> Iterator[Any]:
        keys = context.partition_keys
        for number, key in enumerate(keys, 1):
            context.log.info("session date %s (%d of %d)", key, number, len(keys))
            with explained_failures(f"rebuild {key}"):
                results = session_dates.rebuild(
                    number_of(key_date(key)), config.streams, config.symbols, context.log.info
                )
            for result in results:
                context.log.info("%s %s: %s", key, result.stream, result.outcome)
            metadata = _metadata(results, key)
            context.add_asset_metadata(metadata, partition_key=key)
            if number < len(keys):
                # told at once: when the run is ended before its last date, the dates that it did are not missing
                yield dg.AssetMaterialization(context.asset_key, partition=key, metadata=metadata)
        yield dg.MaterializeResult()

    return rebuilt_tables


def build_rebuild_job(asset: dg.AssetsDefinition) -> UnresolvedAssetJobDefinition:
    """Job `rebuild`: choose dates under Partitions, and streams and symbols in the launchpad."""
    return dg.define_asset_job(
        "rebuild",
        selection=dg.AssetSelection.assets(asset),
        description=(
            "Builds the tables of the chosen session dates again from the journal and replaces what differs; beside recording. Streams and "
            "symbols in the run config. Interrupt it at any time: a retry completes it."
        ),
        executor_def=dg.in_process_executor,
        tags={"dagster/max_runtime": str(RUN_S_MAX)},
    )  # fmt: skip


def _metadata(results: "list[StreamResult]", key: str) -> dict[str, Any]:
    from l2_platform.replay.rebuilt import difference_text, key_lines

    tables = [
        (
            result.stream, part.table, part.state, part.rows_before, part.rows_after, part.hash_before[:12], part.hash_after[:12],
            difference_text(part.diff),
        )
        for result in results for part in result.tables
        if part.rows_before or part.rows_after
    ]  # fmt: skip
    header = ("stream", "table", "state", "rows before", "rows after", "hash before", "hash after", "difference")
    messages, seconds = sum(result.messages for result in results), sum(result.seconds for result in results)
    metadata: dict[str, Any] = {
        "dagster/partition_row_count": dg.MetadataValue.int(sum(result.rows for result in results)),
        "replaced_tables": dg.MetadataValue.int(sum(part.state != "equal" for result in results for part in result.tables)),
        "messages": dg.MetadataValue.int(messages),
        "seconds": dg.MetadataValue.float(round(seconds, 2)),
        "messages_per_s": dg.MetadataValue.float(round(messages / seconds, 0) if seconds else 0.0),
        "damaged_ranges": dg.MetadataValue.int(sum(result.damaged for result in results)),
        "completed_swaps": dg.MetadataValue.int(sum(result.resumed for result in results)),
        "tables": dg.MetadataValue.md(markdown_table(header, tables) if tables else "The journal has no row for these tables."),
        "hashes": dg.MetadataValue.json(
            {
                f"{result.stream} {part.table}": {"before": part.hash_before, "after": part.hash_after}
                for result in results
                for part in result.tables
            }
        ),
        "look": dg.MetadataValue.md(f"`l2 reconcile {key}` compares the tables with the journal, row by row where they differ"),
    }  # fmt: skip
    keys = [(result.stream, *line) for result in results for line in key_lines(result)]
    if keys:
        metadata["difference"] = dg.MetadataValue.md(markdown_table(("stream", "table", "rows", "first keys"), keys))
    return metadata

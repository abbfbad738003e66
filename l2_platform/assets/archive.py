"""The Parquet archive as an asset: one partition a session date, made on demand or by the daily close."""

from typing import TYPE_CHECKING

import dagster as dg

from l2_platform.assets.failures import TRANSIENT_RETRY, explained_failures
from l2_platform.assets.partitions import key_date
from l2_platform.assets.plots import bytes_text, markdown_table
from l2_platform.assets.workers import OWNER
from l2_platform.clock import Clock
from l2_platform.resources.warehouse import WarehouseResource
from l2_platform.warehouse.schema import migrate

if TYPE_CHECKING:
    from l2_platform.archive.export import Exported

GROUP = "archive"


def build_archive_asset(
    partitions: dg.DailyPartitionsDefinition, deps: list[dg.AssetKey], clock: Clock
) -> dg.AssetsDefinition:
    """The asset; `deps` are the tables."""

    @dg.asset(
        name="archive",
        description=(
            "Every table of a closed session date as Parquet (zstd, exact decimals and times, sorted by symbol and seq): "
            "archive/TABLE/session_date=…/stream=… under L2_HOME. Making it again changes nothing when the rows are the same. "
            "When red: the message says what to do; what was archived before stays. Read it with l2_platform.read or any Parquet reader."
        ),
        group_name=GROUP, owners=[OWNER], kinds={"parquet", "python"}, partitions_def=partitions, deps=deps,
        retry_policy=TRANSIENT_RETRY,
    )  # fmt: skip
    def archived_day(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # as its neighbours
        # Parquet readers and writers take half a second to import: not in every process of Dagster
        from l2_platform.archive.export import export_date

        day = key_date(context.partition_key)
        with explained_failures(f"archive {day}"):
            client = warehouse.client()
            try:
                migrate(client, warehouse.database)
                exported = export_date(client, warehouse.settings, clock, day)
            finally:
                client.close()
        return dg.MaterializeResult(metadata=_metadata(exported, str(warehouse.settings.archive_dir)))

    return archived_day


def _metadata(exported: "list[Exported]", folder: str) -> dict[str, dg.MetadataValue]:
    rows = [
        (item.manifest.table, item.manifest.stream, item.manifest.source, item.manifest.rows, bytes_text(item.manifest.size),
         len(item.manifest.parts), item.manifest.content_sha256[:12], "written" if item.changed else "unchanged")
        for item in exported
    ]  # fmt: skip
    header = ("table", "stream", "source", "rows", "on disk", "files", "content hash", "now")
    return {
        "dagster/partition_row_count": dg.MetadataValue.int(sum(item.manifest.rows for item in exported)),
        "bytes_on_disk": dg.MetadataValue.int(sum(item.manifest.size for item in exported)),
        "written": dg.MetadataValue.int(sum(item.changed for item in exported)),
        "partitions": dg.MetadataValue.md(markdown_table(header, rows)),
        "folder": dg.MetadataValue.path(folder),
        "look": dg.MetadataValue.md("`l2 archive` lists, `l2 archive DATE --verify` reads every row again"),
    }

"""The journal as an asset: what each stream recorded on a session date."""

import dagster as dg

from l2_platform.assets.failures import TRANSIENT_RETRY, explained_failures
from l2_platform.assets.partitions import key_date, number_of
from l2_platform.assets.plots import bytes_text, markdown_table, time_text
from l2_platform.assets.workers import OWNER, RECORD
from l2_platform.resources.journal import JournalResource, StreamDay

RECORDED = "is_recorded"


def build_journal_asset(partitions: dg.DailyPartitionsDefinition, deps: list[dg.AssetKey]) -> dg.AssetsDefinition:
    """The asset; `deps` are the collectors."""

    @dg.asset(
        name="journal",
        description=(
            "The raw bytes of every stream, as received: the only source of truth. Files: journal/STREAM/YYYYMMDD/ under L2_HOME. "
            "A run here reads segment headers and positions of one session date, never the data. When red: read the check's message; "
            "l2 journal verify names damage."
        ),
        group_name=RECORD, owners=[OWNER], kinds={"file", "python"}, partitions_def=partitions, deps=deps,
        retry_policy=TRANSIENT_RETRY,
        check_specs=[dg.AssetCheckSpec(RECORDED, asset="journal", description="The date has bytes of at least one stream.")],
    )  # fmt: skip
    def measured_journal(context: dg.AssetExecutionContext, journal: JournalResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # dagster rejects a parametrised result beside check specs
        day = key_date(context.partition_key)
        with explained_failures(f"journal {day}"):
            streams = journal.survey(number_of(day))
        return dg.MaterializeResult(metadata=_metadata(streams, journal), check_results=[_is_recorded(streams)])

    return measured_journal


def _metadata(streams: list[StreamDay], journal: JournalResource) -> dict[str, dg.MetadataValue]:
    rows = [
        (
            item.stream, item.seq_last, bytes_text(item.bytes_on_disk), item.segments, item.sealed,
            "closed" if item.closed else "running",
            time_text(item.first_ns) if item.first_ns else None, time_text(item.last_ns) if item.last_ns else None,
        )
        for item in streams
    ]  # fmt: skip
    header = ("stream", "last seq", "on disk", "segments", "sealed", "date is", "first segment", "last bytes")
    return {
        "dagster/partition_row_count": dg.MetadataValue.int(sum(item.seq_last for item in streams)),
        "bytes_on_disk": dg.MetadataValue.int(sum(item.bytes_on_disk for item in streams)),
        "segments": dg.MetadataValue.int(sum(item.segments for item in streams)),
        "segments_sealed": dg.MetadataValue.int(sum(item.sealed for item in streams)),
        "streams": dg.MetadataValue.md(markdown_table(header, rows) if rows else "Nothing was recorded on this date."),
        "folder": dg.MetadataValue.path(journal.settings.journal_dir),
        "look": dg.MetadataValue.md("`l2 journal ls`"),
    }


def _is_recorded(streams: list[StreamDay]) -> dg.AssetCheckResult:
    size = sum(item.bytes_on_disk for item in streams)
    text = f"{len(streams)} streams, {bytes_text(size)}." if streams else (
        "No stream has this date. A date before the first start, or one that a collector missed: look at the collectors; "
        "a captured file can be imported with `l2 import`."
    )  # fmt: skip
    return dg.AssetCheckResult(
        check_name=RECORDED,
        passed=bool(streams),
        severity=dg.AssetCheckSeverity.WARN,
        description=text,
        metadata={"bytes": size},
    )

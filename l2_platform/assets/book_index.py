"""The book index as an asset: one partition a session date, built from the journal when the date is over."""

import dagster as dg

from l2_platform.assets.archive import GROUP as ARCHIVE
from l2_platform.assets.failures import TRANSIENT_RETRY, explained_failures
from l2_platform.assets.partitions import key_date, number_of
from l2_platform.assets.plots import bytes_text, markdown_table
from l2_platform.assets.workers import OWNER
from l2_platform.resources.journal import JournalResource


def build_book_index_asset(partitions: dg.DailyPartitionsDefinition, after: list[dg.AssetKey]) -> dg.AssetsDefinition:
    """The asset; it needs the journal only, and comes `after` what a daily close does first: then it covers the whole date."""

    @dg.asset(
        name="book_index",
        description=(
            "What answers `l2 book SYMBOL --at TIME` in milliseconds: the rows of every symbol of a session date, beside each other, "
            "behind the books as they were. Files: book_index/STREAM/YYYYMMDD.l2bx under L2_HOME. Made from the journal alone: deleted or "
            "damaged, it is built again, and until then answers take longer and are the same. On a running date it reaches up to "
            "the run; the daily close makes it whole. When red: the message says what to do; an index that was there stays."
        ),
        group_name=ARCHIVE, owners=[OWNER], kinds={"file", "python"}, partitions_def=partitions,
        deps=[dg.AssetKey("journal"), *after], retry_policy=TRANSIENT_RETRY,
    )  # fmt: skip
    def indexed_books(context: dg.AssetExecutionContext, journal: JournalResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # as its neighbours
        day = key_date(context.partition_key)
        with explained_failures(f"book index {day}"):
            return dg.MaterializeResult(metadata=_built(journal, number_of(day)))

    return indexed_books


def _built(journal: JournalResource, session_date: int) -> dict[str, dg.MetadataValue]:
    from l2_platform.monitoring.runtime import prepare_numba

    settings = journal.settings
    prepare_numba(settings.cache_dir / "numba")
    # Compiled code: after its cache has a place.
    from l2_platform.replay.book_index_build import build_index, streams_of_date

    built = [build_index(settings, stream, session_date) for stream in streams_of_date(settings, session_date)]
    rows = [
        (item.stream, item.lines, item.new_lines, bytes_text(item.bytes), item.groups, "whole date" if item.complete else "so far")
        for item in built
    ]
    header = ("stream", "last line", "read now", "on disk", "groups", "covers")
    return {
        "dagster/partition_row_count": dg.MetadataValue.int(sum(item.lines for item in built)),
        "bytes_on_disk": dg.MetadataValue.int(sum(item.bytes for item in built)),
        "complete": dg.MetadataValue.bool(all(item.complete for item in built)),
        "streams": dg.MetadataValue.md(markdown_table(header, rows)),
        "folder": dg.MetadataValue.path(settings.book_index_dir),
        "look": dg.MetadataValue.md("`l2 book SYMBOL --at TIME`"),
    }

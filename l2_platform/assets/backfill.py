"""Job `backfill_day`: session dates that were never recorded, from the vendor's history, the archive or a captured file.

What does not belong here: how it is done (collectors/backfill.py, archive/restore.py, collectors/importing.py).
"""

from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import Final

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from pydantic import Field

from l2_platform.assets.archive import GROUP
from l2_platform.assets.failures import TRANSIENT_RETRY, explained_failures
from l2_platform.assets.partitions import EXCHANGE_ZONE, closed_weekdays, key_date, recorded_dates
from l2_platform.assets.plots import markdown_table
from l2_platform.assets.tables import stored_in
from l2_platform.assets.workers import OWNER
from l2_platform.market.sessions import load_calendar
from l2_platform.resources.history import HistoryResource, Row
from l2_platform.settings import Settings

BACKFILL_POOL: Final = "backfill"
"""One date at a time: the vendor's rate limit is one for all."""
RUN_S_MAX: Final = 6 * 3600
SHOWN: Final = 200
"""Symbols in the table of a run."""
COMPLETE: Final = "nothing_failed"


class Source(Enum):
    """Where the rows come from."""

    vendor = "vendor"
    archive = "archive"
    capture = "capture"


class What(Enum):
    """What the vendor is asked for."""

    ticks = "ticks"
    bars = "bars"


class Interval(Enum):
    """Length of a bar."""

    minute = "minute"
    five_seconds = "five_seconds"
    second = "second"
    daily = "daily"


SECONDS: Final = {Interval.minute: 60, Interval.five_seconds: 5, Interval.second: 1, Interval.daily: 86_400}


class BackfillConfig(dg.Config):
    """What the dates are filled from."""

    source: Source = Field(
        default=Source.vendor, description="vendor: history requests; archive: the Parquet archive; capture: a captured file."
    )
    what: What = Field(
        default=What.ticks,
        description="vendor: ticks (rows of trades), or bars (rows of history_bars), which go years further back; both may be fetched.",
    )
    interval: Interval = Field(default=Interval.minute, description="vendor, what = bars: length of a bar.")
    symbols: list[str] = Field(default=[], description="vendor: symbols (empty: the symbols file). capture of ticks: the file's symbol.")
    file: str = Field(default="", description="capture: path of the file on this machine.")
    channel: str = Field(default="depth", description="capture: depth, level1 or ticks.")


def build_history_partitions(settings: Settings, now_ns: int) -> dg.DailyPartitionsDefinition:
    """Session dates that the vendor is asked for, and every recorded or imported one, up to the last that is over."""
    today = datetime.fromtimestamp(now_ns // 10**9, UTC).date()
    first = min([today - timedelta(days=max(settings.lookup.tick_days, settings.lookup.bar_days)), *recorded_dates(settings.journal_dir)])
    if settings.calendar_name == "always_open":
        return dg.DailyPartitionsDefinition(first.isoformat(), timezone="UTC")
    calendar = load_calendar(settings.calendar_name, settings.session.roll_margin_s)
    closed = closed_weekdays(calendar, first, today + timedelta(days=366))
    return dg.DailyPartitionsDefinition(
        first.isoformat(), timezone=EXCHANGE_ZONE, exclusions=["0 0 * * 6", "0 0 * * 0", *closed]
    )


def build_backfill_asset(partitions: dg.DailyPartitionsDefinition, database: str) -> dg.AssetsDefinition:
    """Asset `backfilled_day`; `database` has the rows that it brings."""

    @dg.asset(
        name="backfilled_day",
        description=(
            "A session date that was never recorded, filled by job `backfill_day`: the vendor's history (streams iqfeed-ticks-history and "
            "iqfeed-bars-history, in the journal first), the archive, or a captured file. Live rows are never touched, and a second run "
            "fetches only what is missing. Materialize it only for dates that have holes. When red: the table names the symbols that "
            "failed; run it again."
        ),
        group_name=GROUP, owners=[OWNER], kinds={"iqfeed", "parquet", "python"}, partitions_def=partitions,
        retry_policy=TRANSIENT_RETRY, pool=BACKFILL_POOL, metadata=stored_in(database, "trades", "history_bars"),
        check_specs=[dg.AssetCheckSpec(COMPLETE, asset="backfilled_day", description="No symbol or table of the last run failed.")],
    )  # fmt: skip
    def backfilled_day(
        context: dg.AssetExecutionContext, config: BackfillConfig, history: HistoryResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # as its neighbours
        day = key_date(context.partition_key)
        with explained_failures(f"backfill {day}"):
            if config.source is Source.vendor:
                bars_s = SECONDS[config.interval] if config.what is What.bars else 0
                rows = history.from_vendor(day, config.symbols, context.log.info, bars_s=bars_s)
            elif config.source is Source.archive:
                rows = history.from_archive(day, context.log.info)
            else:
                rows = history.from_capture(day, config.file, config.channel, next(iter(config.symbols), None))
        return dg.MaterializeResult(metadata=_metadata(rows, config, _look(config, database, day)), check_results=[_complete(rows)])

    return backfilled_day


def build_backfill_job(asset: dg.AssetsDefinition) -> UnresolvedAssetJobDefinition:
    """Job `backfill_day`: choose dates under Partitions, and source and symbols in the launchpad."""
    return dg.define_asset_job(
        "backfill_day",
        selection=dg.AssetSelection.assets(asset),
        description=(
            "Fills session dates that were never recorded, from the vendor's history (rate limit kept), the Parquet archive or a captured "
            "file; source, ticks or bars, and symbols in the run config. Interrupt it at any time: the next run goes on and doubles none."
        ),
        executor_def=dg.in_process_executor,
        tags={"dagster/max_runtime": str(RUN_S_MAX)},
    )  # fmt: skip


def _metadata(rows: list[Row], config: BackfillConfig, look: str) -> dict[str, dg.MetadataValue]:
    ordered = sorted(rows, key=lambda row: (not row["failed"], row["what"]))
    cells = [(row["what"], row["state"], row["rows"], row["message"]) for row in ordered[:SHOWN]]
    table = markdown_table(("what", "state", "rows", "message"), cells)
    more = f"\n\nand {len(rows) - SHOWN:,} more" if len(rows) > SHOWN else ""
    return {
        "source": dg.MetadataValue.text(config.source.value),
        "dagster/partition_row_count": dg.MetadataValue.int(sum(row["rows"] for row in rows)),
        "failed": dg.MetadataValue.int(sum(row["failed"] for row in rows)),
        "results": dg.MetadataValue.md(table + more),
        "look": dg.MetadataValue.md(look),
    }


def _look(config: BackfillConfig, database: str, day: date) -> str:
    """What shows the rows: of the vendor and of files those that it brought, of the archive every one."""
    bars = config.source is Source.vendor and config.what is What.bars
    depth = config.source is Source.capture and config.channel == "depth"
    table = "history_bars" if bars else "depth_updates" if depth else "trades"
    sql = f"SELECT stream, source, symbol, count() FROM {database}.{table} WHERE session_date = '{day}' GROUP BY ALL ORDER BY ALL"  # noqa: S608 - for a person
    return f"`l2 sql \"{sql}\"`"


def _complete(rows: list[Row]) -> dg.AssetCheckResult:
    failed = [row for row in rows if row["failed"]]
    named = ", ".join(str(row["what"]) for row in failed[:10])
    text = f"{len(failed)} of {len(rows)} failed ({named}): run it again; the table tells why." if failed else f"All {len(rows)} are done."
    return dg.AssetCheckResult(check_name=COMPLETE, passed=not failed, description=text, metadata={"failed": len(failed)})

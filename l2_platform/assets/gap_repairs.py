"""Asset `gap_repairs` and job `repair_gaps`: gaps of a session date filled from the vendor's history, with what became of each.

What does not belong here: how it is done (quality/repair.py), when it runs (sensors/repairing.py).
"""

import base64
from typing import TYPE_CHECKING, Final

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from pydantic import Field

from l2_platform.assets.failures import TRANSIENT_RETRY, explained_failures
from l2_platform.assets.partitions import key_date, number_of
from l2_platform.assets.plots import bar_plot_png, markdown_table, time_text
from l2_platform.assets.tables import stored_in
from l2_platform.assets.workers import OWNER, TABLES
from l2_platform.resources.repairs import RepairsResource

if TYPE_CHECKING:
    from l2_platform.quality.ledger import LedgerGap
    from l2_platform.quality.repair import RepairResult

POOL: Final = "repair"
"""One date at a time; a backfill that takes hours does not hold it up, since the vendor's limit is kept over processes."""
RUN_S_MAX: Final = 3600
REPAIRED: Final = "every_gap_is_repaired"
SHOWN: Final = 100
"""Gaps in the table of a run."""


class RepairConfig(dg.Config):
    """Which gaps of the date."""

    gap_ids: list[str] = Field(default=[], description="Gaps, as `l2 gaps` names them. Empty: those whose turn it is.")
    everything: bool = Field(default=False, description="Every gap of the date that is not whole, also those tried too often.")


def build_gap_repairs_asset(
    partitions: dg.DailyPartitionsDefinition, deps: list[dg.AssetKey], database: str
) -> dg.AssetsDefinition:
    """Asset `gap_repairs`; `deps` are what gaps are found in, `database` has the rows that it brings."""

    @dg.asset(
        name="gap_repairs",
        description=(
            "Gaps of a session date filled from the vendor's history (job `repair_gaps`): replies into the journal, then trades that live "
            "rows do not have, beside them, as stream iqfeed-ticks-repair-history; where ticks are too old, minute bars (history_bars). "
            "Sensor `repair_closed_gaps` asks for it when a gap has "
            "ended, also while the date runs. Depth and quotes have no history: column residual says what stays missing. When red: the "
            "table says why; mend that (mostly: log IQConnect in), then materialize the date again with `everything`."
        ),
        group_name=TABLES, owners=[OWNER], kinds={"iqfeed", "clickhouse", "python"}, partitions_def=partitions, deps=deps,
        retry_policy=TRANSIENT_RETRY, pool=POOL, metadata=stored_in(database, "trades"),
        check_specs=[
            dg.AssetCheckSpec(REPAIRED, asset="gap_repairs", description="No unexplained gap of trades is failed, partial or untried.")
        ],
    )  # fmt: skip
    def gap_repairs(context: dg.AssetExecutionContext, config: RepairConfig, repairs: RepairsResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # as its neighbours
        day = key_date(context.partition_key)
        with explained_failures(f"repair gaps of {day}"):
            results, gaps = repairs.repair(number_of(day), config.gap_ids, config.everything, context.log.info)
        return dg.MaterializeResult(metadata=_metadata(results), check_results=[_judged(gaps)])

    return gap_repairs


def build_repair_job(asset: dg.AssetsDefinition) -> UnresolvedAssetJobDefinition:
    """Job `repair_gaps`: the gaps of the chosen session date."""
    return dg.define_asset_job(
        "repair_gaps",
        selection=dg.AssetSelection.assets(asset),
        description=(
            "Fills gaps of a session date from the vendor's history: those whose turn it is, or the ones in the run config. Interrupt "
            "it at any time: the next run goes on and brings nothing twice."
        ),
        executor_def=dg.in_process_executor,
        tags={"dagster/max_runtime": str(RUN_S_MAX), "dagster/priority": "5"},
    )  # fmt: skip


def _metadata(results: "list[RepairResult]") -> dict[str, dg.MetadataValue]:
    header = ("gap", "stream", "from", "seconds", "state", "rows", "stays missing", "took s", "what was done")
    cells = [
        (item.gap_id, item.stream, time_text(item.ts_from), (item.ts_to - item.ts_from) / 1e9, item.state, item.rows_recovered,
         item.residual, item.seconds, item.message) for item in results[:SHOWN]
    ]  # fmt: skip
    more = f"\n\nand {len(results) - SHOWN:,} more" if len(results) > SHOWN else ""
    return {
        "dagster/partition_row_count": dg.MetadataValue.int(sum(item.rows_recovered for item in results)),
        "gaps": dg.MetadataValue.int(len(results)),
        "not_whole": dg.MetadataValue.int(sum(item.state in {"failed", "partial"} for item in results)),
        "seconds": dg.MetadataValue.float(round(sum((item.seconds for item in results), 0.0), 3)),
        "results": dg.MetadataValue.md(markdown_table(header, cells) + more),
        "rows_by_gap": dg.MetadataValue.md(_plot([item.rows_recovered for item in results[:SHOWN]])),
        "look": dg.MetadataValue.md("`l2 gaps --date DATE` lists them, `l2 gaps repair --date DATE` tries again what is not whole"),
    }


def _plot(rows: list[int]) -> str:
    if not rows:
        return "no gap had its turn"
    image = base64.b64encode(bar_plot_png(rows)).decode("ascii")
    return f"one bar = one gap, oldest first; highest bar = {max(rows):,} rows\n\n![rows by gap](data:image/png;base64,{image})"


def _judged(gaps: "list[LedgerGap]") -> dg.AssetCheckResult:
    """By the ledger, over every gap of the date: also those of earlier runs."""
    trades = [gap for gap in gaps if gap.repair_state != "impossible"]
    failed = [gap for gap in trades if gap.repair_state in {"failed", ""}]
    partial = [gap for gap in trades if gap.repair_state == "partial"]
    text = f"{len(trades)} gaps of trades are whole; {len(gaps) - len(trades)} gaps of depth have no history."
    if failed or partial:
        named = "; ".join(f"{gap.gap_id}: {gap.residual or 'not tried yet'}" for gap in [*failed, *partial][:5])
        text = f"{len(failed)} failed or untried, {len(partial)} partial of {len(trades)} gaps of trades ({named})."
    return dg.AssetCheckResult(
        check_name=REPAIRED, passed=not failed and not partial, description=text,
        severity=dg.AssetCheckSeverity.ERROR if failed else dg.AssetCheckSeverity.WARN,
        metadata={"failed": len(failed), "partial": len(partial), "impossible": len(gaps) - len(trades)},
    )  # fmt: skip

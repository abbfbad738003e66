"""Bars as assets: views over `trades` by IQFeed's own print rules; a run measures and checks one session date.

What does not belong here: the rules (migrations of the warehouse), the queries (`warehouse/bars.py`).
"""

from collections.abc import Mapping
from datetime import date
from typing import Final

import dagster as dg

from l2_platform.assets.failures import TRANSIENT_RETRY, explained_failures
from l2_platform.assets.partitions import key_date
from l2_platform.assets.plots import markdown_table
from l2_platform.assets.tables import schema_of, stored_in
from l2_platform.assets.workers import OWNER, TABLES
from l2_platform.resources.warehouse import WarehouseResource
from l2_platform.warehouse.bars import BARS, BarFacts, bar_facts, busiest
from l2_platform.warehouse.queries import table_columns

ARE_SOUND: Final = "bars_are_sound"
BUSIEST: Final = 10
SAME: Final = ("stream", "session_date", "symbol", "source")
LINEAGE: Final[Mapping[str, tuple[str, ...]]] = {
    **{name: (name,) for name in SAME},
    "ts_begin": ("ts_event",), "trade_date": ("trade_date",), "open": ("price", "seq", "ts_event"), "high": ("price",), "low": ("price",),
    "close": ("price", "seq", "ts_event"), "volume": ("size",), "total_volume": ("total_volume", "seq", "ts_event"),
    "trade_count": ("seq",),
}  # fmt: skip
"""Column of a bar → columns of `trades` that it is made of."""
TRADES_KEY: Final = dg.AssetKey("trades")


def build_bar_assets(partitions: dg.DailyPartitionsDefinition, database: str) -> list[dg.AssetsDefinition]:
    """One asset per bar view."""
    return [_bar_asset(view, length, partitions, database) for view, length in BARS.items()]


def _bar_asset(
    view: str, length: str, partitions: dg.DailyPartitionsDefinition, database: str
) -> dg.AssetsDefinition:
    prints = "OHLC from C prints, volume from C, E and O prints" if view == "bars_daily" else "C and E prints"
    text = (
        f"Bars of {length} by IQFeed's own rule ({prints}), labelled by their begin. A view over trades, so it is as new as they "
        "are, with repaired gaps in the live stream of their symbol; a run measures and checks one session date. When red: a bar "
        "contradicts itself, look at trades and its checks."
    )

    @dg.asset(
        name=view, description=text, group_name=TABLES, owners=[OWNER], kinds={"clickhouse", "view"}, partitions_def=partitions,
        deps=[TRADES_KEY], retry_policy=TRANSIENT_RETRY, metadata=stored_in(database, view),
        check_specs=[dg.AssetCheckSpec(ARE_SOUND, asset=view, description="low ≤ open, close ≤ high and volume ≥ 0 in every bar.")],
    )  # fmt: skip
    def measured_bars(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # dagster rejects a parametrised result beside check specs
        day = key_date(context.partition_key)
        with explained_failures(f"{view} {day}"):
            client = warehouse.client()
            try:
                facts = bar_facts(client, warehouse.database, view, day)
                top = busiest(client, warehouse.database, view, day, BUSIEST)
                columns = table_columns(client, warehouse.database, view)
            finally:
                client.close()
        table = f"{warehouse.database}.{view}"
        return dg.MaterializeResult(
            metadata=_metadata(facts, top, columns, table, day), check_results=[_are_sound(facts)]
        )

    return measured_bars


def _metadata(
    facts: BarFacts, top: list[tuple[str, int, int]], columns: list[tuple[str, str, str]], table: str, day: date
) -> dict[str, dg.MetadataValue]:
    lineage = {name: [dg.TableColumnDep(TRADES_KEY, column) for column in LINEAGE[name]] for name, _, _ in columns}
    look = f"`l2 sql \"SELECT * FROM {table} WHERE session_date = '{day}' ORDER BY symbol LIMIT 20\"`"  # noqa: S608 - for a person
    return {
        "dagster/partition_row_count": dg.MetadataValue.int(facts.bars),
        "dagster/column_schema": dg.MetadataValue.table_schema(schema_of(columns)),
        "dagster/column_lineage": dg.MetadataValue.column_lineage(dg.TableColumnLineage(lineage)),
        "symbols": dg.MetadataValue.int(facts.symbols),
        "prints": dg.MetadataValue.int(facts.prints),
        "volume": dg.MetadataValue.int(facts.volume),
        "first_bar": dg.MetadataValue.text(facts.first or "none"),
        "last_bar": dg.MetadataValue.text(facts.last or "none"),
        "busiest": dg.MetadataValue.md(markdown_table(("symbol", "bars", "volume"), top) if top else "no bars"),
        "streams": dg.MetadataValue.text(", ".join(facts.streams) or "none"),
        "look": dg.MetadataValue.md(look),
    }


def _are_sound(facts: BarFacts) -> dg.AssetCheckResult:
    text = f"{facts.bars:,} bars of {facts.symbols:,} symbols."
    if facts.wrong:
        text = f"{facts.wrong:,} of {facts.bars:,} bars contradict themselves: look at seq_is_unique of trades, then rebuild it."
    return dg.AssetCheckResult(
        check_name=ARE_SOUND, passed=not facts.wrong, description=text, metadata={"wrong": facts.wrong, "bars": facts.bars}
    )

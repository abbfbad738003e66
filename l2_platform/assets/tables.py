"""The tables of the warehouse as assets: a run measures one session date of the live tables and checks it.

Rows arrive without Dagster; an asset here is the evidence about them. One aggregate query answers the metadata and three checks.
What does not belong here: the queries (`warehouse/queries.py`).
"""

from collections.abc import Iterable, Mapping
from datetime import date
from os.path import commonpath
from pathlib import Path
from typing import Final

import dagster as dg

from l2_platform.assets.failures import TRANSIENT_RETRY, explained_failures
from l2_platform.assets.partitions import key_date, number_of
from l2_platform.assets.plots import bytes_text, markdown_table, rate_plot, time_text
from l2_platform.assets.workers import OWNER, TABLES
from l2_platform.resources.journal import JournalResource, StreamDay
from l2_platform.resources.warehouse import WarehouseResource
from l2_platform.sinks.jsonl_names import KINDS as FILES
from l2_platform.sinks.jsonl_names import folder_of
from l2_platform.warehouse.queries import (
    TABLES as SHAPES,
)
from l2_platform.warehouse.queries import (
    Rates,
    TableFacts,
    TableShape,
    delivered_seqs,
    table_columns,
    table_facts,
    table_rates,
)

HAS_ROWS, SEQ_IS_UNIQUE, JOURNAL_DELIVERED = "has_rows", "seq_is_unique", "journal_delivered"
MADE_FROM: Final[Mapping[str, str]] = {"book_snapshots": "depth_updates"}
"""Table → the table whose messages it shows in another way; both come from the same pass over the journal."""
_SIDES: Final = ("kind", "side", "order_id", "mmid", "priority")
LINEAGE: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "book_snapshots": {
        **{name: (name,) for name in ("stream", "session_date", "seq", "symbol", "ts_event", "ts_recv", "source", "trust")},
        **dict.fromkeys(("bid_px", "ask_px"), ("price", *_SIDES)),
        **dict.fromkeys(("bid_sz", "ask_sz", "total_bid_size", "total_ask_size"), ("size", *_SIDES)),
        **dict.fromkeys(("bid_ct", "ask_ct"), ("order_count", *_SIDES)),
    }
}  # fmt: skip
"""Table → column → columns of the table that it is made from."""

DESCRIPTIONS: Final[Mapping[str, str]] = {
    "depth_updates": "Every message that may change a book, one row a line, with the trust of the book after it.",
    "quotes": "Every change of the best bid or ask, and the answers to snapshots (snapshot = 1).",
    "trades": "Every print with price, size, conditions, market centre and TickID.",
    "history_bars": "Bars that the vendor made, of dates and lengths that were asked for (`l2 backfill --what bars`).",
    "book_snapshots": "The top levels of each book, thinned per symbol on journal time.",
    "feed_events": "What the feed said beside prices, what the collectors did, and lines that could not be decoded.",
}


def stored_in(database: str, *tables: str) -> dict[str, str]:
    """Metadata of a definition: the tables or views of the warehouse that hold the rows of an asset."""
    return {"dagster/table_name": ", ".join(f"{database}.{table}" for table in tables)}


def build_table_assets(
    partitions: dg.DailyPartitionsDefinition, deps: list[dg.AssetKey], database: str, lag_lines_max: int
) -> list[dg.AssetsDefinition]:
    """One asset per table of the warehouse; `lag_lines_max`: lines that the table of a running date may be behind the journal."""
    made_from = {name: [dg.AssetKey(upper)] for name, upper in MADE_FROM.items()}
    return [
        _table_asset(shape, partitions, made_from.get(shape.name, deps), database, lag_lines_max)
        for shape in SHAPES.values()
    ]


def _table_asset(
    shape: TableShape, partitions: dg.DailyPartitionsDefinition, deps: list[dg.AssetKey], database: str, lag_lines_max: int
) -> dg.AssetsDefinition:
    how = "by the backfill that fetches them" if shape.on_demand else "by deliver-clickhouse as they arrive"

    @dg.asset(
        name=shape.name,
        description=(
            f"{DESCRIPTIONS[shape.name]} Rows are written {how}; a run here measures and checks one session date. When red: the failed "
            "check says what to do; see also deliveries/clickhouse and warehouse."
        ),
        group_name=TABLES, owners=[OWNER], kinds={"clickhouse", "table"}, partitions_def=partitions, deps=deps,
        retry_policy=TRANSIENT_RETRY, check_specs=_check_specs(shape, lag_lines_max),
        metadata=stored_in(database, shape.name),
    )  # fmt: skip
    def measured_table(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource, journal: JournalResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # dagster rejects a parametrised result beside check specs
        day = key_date(context.partition_key)
        with explained_failures(f"{shape.name} {day}"):
            client = warehouse.client()
            try:
                facts = table_facts(client, warehouse.database, shape, day)
                rates = (
                    None if facts.total is None else table_rates(client, warehouse.database, shape, day, facts.total)
                )
                columns = table_columns(client, warehouse.database, shape.name)
                delivered = delivered_seqs(client, warehouse.database, day)
            finally:
                client.close()
            recorded = [item for item in journal.survey(number_of(day)) if shape.channel in item.stream]
        return dg.MaterializeResult(
            metadata=_metadata(facts, rates, columns, warehouse.database, day) | _files(shape, recorded, journal, day),
            check_results=[
                _has_rows(facts, recorded, on_demand=shape.on_demand), _seq_is_unique(facts),
                _journal_delivered(recorded, delivered, lag_lines_max),
            ],
        )

    return measured_table


def _check_specs(shape: TableShape, lag_lines_max: int) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(HAS_ROWS, asset=shape.name, description="The date has rows in this table."),
        dg.AssetCheckSpec(
            SEQ_IS_UNIQUE, asset=shape.name, description=f"No two rows of a stream and date have the same ({shape.key})."
        ),
        dg.AssetCheckSpec(
            JOURNAL_DELIVERED, asset=shape.name,
            description=f"The warehouse has reached the journal: all of a closed date, of a running one all but {lag_lines_max:,} lines.",
        ),
    ]  # fmt: skip


def _metadata(
    facts: TableFacts, rates: Rates | None, columns: list[tuple[str, str, str]], database: str, day: date
) -> dict[str, dg.MetadataValue]:
    total = facts.total
    metadata: dict[str, dg.MetadataValue] = {
        "dagster/row_count": dg.MetadataValue.int(facts.table_rows),
        "dagster/partition_row_count": dg.MetadataValue.int(total.rows if total else 0),
        "dagster/column_schema": dg.MetadataValue.table_schema(schema_of(columns)),
        "bytes_on_disk": dg.MetadataValue.int(facts.bytes_on_disk),
        "parts": dg.MetadataValue.int(facts.parts),
        "look": dg.MetadataValue.md(
            f"`l2 sql \"SELECT * FROM {database}.{facts.table} WHERE session_date = '{day}' LIMIT 20\"`"  # noqa: S608 - for a person
        ),
    }
    if facts.table in LINEAGE:
        metadata["dagster/column_lineage"] = dg.MetadataValue.column_lineage(lineage_of(facts.table, columns))
    if total is None:
        return metadata
    metadata |= {
        "rows_per_s": dg.MetadataValue.float(round(total.rate, 2)),
        "symbols": dg.MetadataValue.int(total.symbols),
        "bytes_per_row": dg.MetadataValue.float(round(facts.bytes_on_disk / total.rows, 2)),
        "first_row": dg.MetadataValue.text(time_text(total.first_ns)),
        "last_row": dg.MetadataValue.text(time_text(total.last_ns)),
        "streams": dg.MetadataValue.md(_streams_table(facts)),
    }
    if total.latency_p50_ms is not None and total.latency_p99_ms is not None:
        metadata["latency_p50_ms"] = dg.MetadataValue.float(round(total.latency_p50_ms, 3))
        metadata["latency_p99_ms"] = dg.MetadataValue.float(round(total.latency_p99_ms, 3))
    if rates is not None:
        metadata["rate"] = dg.MetadataValue.md(rate_plot(rates.start_ns, rates.step_s, rates.rows))
    return metadata


def _files(
    shape: TableShape, recorded: Iterable[StreamDay], journal: JournalResource, day: date
) -> dict[str, dg.MetadataValue]:
    """Where the JSONL files of the same rows are: their folder, or the one that all their folders are in."""
    root: Path = journal.settings.jsonl_dir
    folders = {folder_of(root, item.stream, number_of(day)) for item in recorded} if shape.name in FILES else set()
    there = sorted(folder for folder in folders if folder.is_dir())
    return {"files": dg.MetadataValue.path(commonpath(there))} if there else {}


def schema_of(columns: list[tuple[str, str, str]]) -> dg.TableSchema:
    """(name, type, comment) of each column as the UI shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name,
                kind,
                description=comment or None,
                constraints=dg.TableColumnConstraints(nullable="Nullable" in kind),
            )
            for name, kind, comment in columns
        ]
    )


def lineage_of(table: str, columns: list[tuple[str, str, str]]) -> dg.TableColumnLineage:
    """What each column is made of; columns without an entry are left out."""
    upper, known = dg.AssetKey(MADE_FROM[table]), LINEAGE[table]
    return dg.TableColumnLineage(
        {name: [dg.TableColumnDep(upper, column) for column in known[name]] for name, _, _ in columns if name in known}
    )


def _streams_table(facts: TableFacts) -> str:
    rows = [
        (item.stream, item.source, item.rows, item.symbols, item.rate, item.latency_p50_ms, item.latency_p99_ms)
        for item in facts.streams
    ]
    header = ("stream", "source", "rows", "symbols", "rows/s", "p50 ms", "p99 ms")
    return markdown_table(header, rows) + f"\n\n{bytes_text(facts.bytes_on_disk)} on disk in {facts.parts} parts"


def _has_rows(facts: TableFacts, recorded: list[StreamDay], *, on_demand: bool) -> dg.AssetCheckResult:
    rows = facts.total.rows if facts.total else 0
    if rows:
        text = f"{rows:,} rows."
    elif recorded:
        text = "The journal has this date and the table has no row of it: see check journal_delivered, then deliveries/clickhouse."
    elif on_demand:
        text = "Nobody asked for rows of this date: `l2 backfill --what bars` and job backfill_day do."
    else:
        text = "Nothing was recorded or imported for this date."
    return dg.AssetCheckResult(
        check_name=HAS_ROWS,
        passed=rows > 0 or (on_demand and not recorded),
        severity=dg.AssetCheckSeverity.WARN,
        description=text,
        metadata={"rows": rows},
    )


def _seq_is_unique(facts: TableFacts) -> dg.AssetCheckResult:
    doubled = {item.stream: item.duplicates for item in facts.streams if item.duplicates}
    if doubled:
        named = ", ".join(f"{stream}: {count:,}" for stream, count in doubled.items())
        text = f"Duplicate rows ({named}). Stop deliver-clickhouse, rebuild the date from the journal, start it again."
    else:
        text = f"Each row has a seq of its own in {len(facts.streams)} streams."
    return dg.AssetCheckResult(
        check_name=SEQ_IS_UNIQUE, passed=not doubled, description=text, metadata={"duplicates": sum(doubled.values())}
    )


def _journal_delivered(
    recorded: list[StreamDay], delivered: Mapping[str, int], lag_lines_max: int
) -> dg.AssetCheckResult:
    lags = {item.stream: item.seq_last - delivered.get(item.stream, 0) for item in recorded}
    late = {
        item.stream: lags[item.stream] for item in recorded
        if lags[item.stream] > (0 if item.closed else lag_lines_max)
    }  # fmt: skip
    rows = [
        (
            item.stream,
            "closed" if item.closed else "running",
            item.seq_last,
            delivered.get(item.stream, 0),
            lags[item.stream],
        )
        for item in recorded
    ]
    table = markdown_table(("stream", "date is", "journal seq", "delivered seq", "lines behind"), rows)
    if late:
        named = ", ".join(f"{stream}: {lag:,} lines" for stream, lag in late.items())
        text = f"The warehouse is behind the journal ({named}). Look at deliveries/clickhouse; restart it with job control_collector."
    else:
        text = f"The journal is delivered ({len(recorded)} streams, {max([0, *lags.values()]):,} lines behind at most)."
    return dg.AssetCheckResult(
        check_name=JOURNAL_DELIVERED, passed=not late, description=text,
        metadata={"lines_behind": max([0, *lags.values()]), "streams": dg.MetadataValue.md(table)},
    )  # fmt: skip

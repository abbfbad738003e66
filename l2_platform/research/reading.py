"""Recorded rows as one Polars frame: from the warehouse, and from the archive where the warehouse has them no more.

A (session date, stream) comes from one of the two, a (session date, symbol) from one stream, so no row comes twice. What does not
belong here: which stream is taken (streams), what bounds mean (bounds).
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import polars as pl
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from l2_platform.archive.layout import Manifest, list_archived, list_tables, partition_folder
from l2_platform.errors import InputError, WarehouseError
from l2_platform.journal.layout import source_of
from l2_platform.monitoring.changed_dates import changed_dates
from l2_platform.research.bounds import Bound, Span, span_of
from l2_platform.research.repaired import PRINT, without_twins
from l2_platform.research.streams import Candidate, choose, near, repaired
from l2_platform.settings import Settings, load_settings
from l2_platform.warehouse.arrow import ARROW_SETTINGS, ArrowColumn, arrow_columns, selection
from l2_platform.warehouse.bars import BARS
from l2_platform.warehouse.client import connect

TIMES: Final = ("ts_begin", "ts_recv", "ts_event", "ts")
"""Time columns, the first that a table has counts; rows with `source` count by the feed's time unless they are live."""
TRADES: Final = "trades"
"""The table under the views of bars: where its partitions are, theirs are."""
START_ADVICE: Final = "start the platform with `l2 up`, or pass archive_only=True to read what is archived"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a read must know of a table."""

    table: str
    columns: tuple[str, ...]
    """Every column that can be asked for."""
    computed: frozenset[str]
    """Given only when they are named."""

    @property
    def time(self) -> str:
        """The column that bounds mean."""
        return next((name for name in TIMES if name in self.columns), "session_date")

    @property
    def order(self) -> list[str]:
        """What rows are sorted by."""
        key = "seq" if "seq" in self.columns else "symbol"
        return [name for name in (self.time, "stream", key, "ordinal") if name in self.columns]

    @property
    def told_twice(self) -> bool:
        """Rows have the time of their receipt and the feed's own."""
        return {"source", "ts_event", "ts_recv"} <= set(self.columns) and self.table != "feed_events"


def read(
    table: str, symbols: str | Iterable[str] | None = None, start: Bound | None = None, end: Bound | None = None, *,
    stream: str | None = None, columns: Sequence[str] | None = None, archive_only: bool = False, settings: Settings | None = None,
) -> pl.DataFrame:  # fmt: skip
    """Rows of a table or view between `start` (included) and `end` (not), in order of time.

    `symbols`: one, several, or None for all. Bounds: a date means session dates; a datetime or text like `2026-11-20T09:30` an
    instant, New York time without an offset; live rows count by when they were received, others by the feed's own time. `stream`:
    needed when several streams that are not live have the rows. `columns`: which, in order; None = all stored ones.

    Prices are exact decimals, times UTC with ns. InputError tells what there is when table, symbol, column or time name nothing, and
    when more than `archive.read_rows_max` rows would come; WarehouseError when the warehouse does not answer.
    """
    settings = settings or load_settings()
    span = span_of(start, end)
    names = _names(symbols)
    archived = list(list_archived(settings.archive_dir, table, *span.days()))
    if archive_only or not _warehouse_exists(settings):
        return _Reading(settings, None, table, archived).frame(names, span, stream, columns)
    try:
        client = connect(settings)
    except WarehouseError as error:
        raise WarehouseError(f"{error.message}; {START_ADVICE}") from None
    try:
        return _Reading(settings, client, table, archived).frame(names, span, stream, columns)
    except ClickHouseError as error:
        raise WarehouseError(f"the warehouse did not answer the read of {table}: {str(error)[:300]}") from None
    finally:
        client.close()


class _Reading:
    """One read of one table."""

    def __init__(self, settings: Settings, client: Client | None, table: str, archived: list[Manifest]) -> None:
        self._settings = settings
        self._client = client
        self._archived = archived
        self._database = settings.clickhouse.database
        self._stored = arrow_columns(client, self._database, table) if client is not None and table.isidentifier() else []
        self._shape = self._shape_of(table)

    def frame(self, names: list[str] | None, span: Span, stream: str | None, columns: Sequence[str] | None) -> pl.DataFrame:
        """The rows."""
        wanted = self._wanted(columns)
        candidates = self._candidates(names, span, stream)
        if not candidates:
            self._explain_nothing(names, span, stream)
        chosen = choose(candidates)
        self._require_newest(chosen)
        rows = sum(candidate.rows for candidate in chosen)
        limit = self._settings.archive.read_rows_max
        if rows > limit:
            raise InputError(f"{rows:,} rows are more than {limit:,} (archive.read_rows_max): ask for fewer symbols or a shorter time")
        order = self._shape.order
        both = repaired(chosen)
        if both and self._shape.table in BARS:
            day, symbol = min(both)
            raise InputError(
                f"{symbol} has repaired gaps on {day}; of its live trades and the repairs one is in the warehouse and one in the archive: "
                "bars of both need them in one place (`l2 backfill DATE --source archive`); or read the trades, or bars with stream=…"
            )
        twins = PRINT if both and self._shape.table == TRADES else ()
        told = ("source", "ts_event", "ts_recv") if self._shape.told_twice else ()
        needed = list(dict.fromkeys([*wanted, *order, *told, *twins]))
        parts = [*self._from_warehouse(chosen, candidates, names, span, needed), *self._from_archive(chosen, span, needed)]
        whole = pl.concat(parts, how="diagonal") if parts else self._empty(needed)
        whole = without_twins(whole) if twins else whole
        by = [self._moment(), *order[1:]] if self._shape.told_twice else order
        return whole.sort(by, maintain_order=True).select(wanted)

    def _require_newest(self, chosen: list[Candidate]) -> None:
        """InputError when the archive is behind of the warehouse, and only the archive is asked: no stale answer."""
        changed = changed_dates(self._settings.run_dir) if self._client is None else {}
        for item in chosen:
            if item.session_date.year * 10_000 + item.session_date.month * 100 + item.session_date.day in changed:
                raise InputError(
                    f"{item.session_date} was repaired, rebuilt or filled after it was archived: `l2 archive {item.session_date}` brings "
                    "the archive up to date (job daily_close does it by itself), or read with the warehouse (archive_only=False)"
                )

    # ── what there is ──

    def _shape_of(self, table: str) -> Shape:
        if self._stored:
            names = tuple(column.name for column in self._stored)
            computed = frozenset(column.name for column in self._stored if column.computed)
        elif self._archived:
            names, computed = tuple(name for name, _ in self._archived[-1].columns), frozenset({"event_key"})
        else:
            raise InputError(self._unknown_table(table))
        if "symbol" not in names:
            raise InputError(f"the rows of {table} have no symbol; ask for them with `l2 sql`")
        return Shape(table, names, computed)

    def _unknown_table(self, table: str) -> str:
        known = set(list_tables(self._settings.archive_dir))
        if self._client is not None:
            sql = "SELECT table FROM system.columns WHERE database = {database:String} AND name = 'symbol'"
            known |= {str(name) for (name,) in self._client.query(sql, parameters={"database": self._database}).result_rows}
        if table in known:
            return f"nothing of {table} is archived at that time; `l2 archive` lists what is"
        if not known:
            return f"nothing is recorded in {self._settings.home}: is L2_HOME right? Start recording with `l2 up`"
        hint = difflib.get_close_matches(table, known, n=1, cutoff=0.4)
        return f"there is no table {table!r}{f'; did you mean {hint[0]!r}?' if hint else '.'} Tables: {', '.join(sorted(known))}"

    def _wanted(self, columns: Sequence[str] | None) -> list[str]:
        if columns is None:
            return [name for name in self._shape.columns if name not in self._shape.computed]
        asked = [columns] if isinstance(columns, str) else list(columns)
        for name in asked:
            if name not in self._shape.columns:
                hint = difflib.get_close_matches(name, self._shape.columns, n=1, cutoff=0.4)
                more = f"; did you mean {hint[0]!r}?" if hint else "."
                raise InputError(f"{self._shape.table} has no column {name!r}{more} Columns: {', '.join(self._shape.columns)}")
        return asked

    def _candidates(self, names: list[str] | None, span: Span, stream: str | None) -> list[Candidate]:
        stored = self._in_warehouse(names, span, stream)
        present = self._partitions() | {(item.session_date, item.stream) for item in stored}
        return stored + [
            Candidate(manifest.session_date, symbol, manifest.stream, manifest.source, rows, True)
            for manifest in self._archived
            if stream in (None, manifest.stream) and (manifest.session_date, manifest.stream) not in present
            for symbol, rows in manifest.symbols.items()
            if names is None or symbol in names
        ]  # fmt: skip

    def _in_warehouse(self, names: list[str] | None, span: Span, stream: str | None) -> list[Candidate]:
        if self._client is None or not self._stored:
            return []
        where, parameters = self._where(names, span, stream)
        sql = (
            f"SELECT toDate32(session_date), symbol, stream, count() FROM {self._database}.{self._shape.table}"  # noqa: S608 - names are checked
            f" WHERE {where} GROUP BY session_date, symbol, stream"
        )
        rows = self._client.query(sql, parameters=parameters).result_rows
        return [Candidate(day, str(symbol), str(of), source_of(str(of)), int(count), False) for day, symbol, of, count in rows]

    def _partitions(self) -> set[tuple[date, str]]:
        """(session date, stream) that the warehouse has."""
        if self._client is None or not self._stored or not self._archived:
            return set()
        sql = """
            SELECT DISTINCT toDate32(substring(partition, 3, 10)), substring(partition, 16, length(partition) - 17) FROM system.parts
            WHERE active AND database = {database:String} AND table IN {tables:Array(String)}"""
        tables = [self._shape.table, *([TRADES] if self._shape.time == "ts_begin" else [])]
        rows = self._client.query(sql, parameters={"database": self._database, "tables": tables}).result_rows
        return {(day, str(of)) for day, of in rows}

    def _explain_nothing(self, names: list[str] | None, span: Span, stream: str | None) -> None:
        """InputError when the question itself names nothing; silence when there simply were no rows at that time."""
        anywhere = {item.symbol for item in self._candidates(names, Span(None, None), stream)}
        anywhere |= {
            symbol for manifest in list_archived(self._settings.archive_dir, self._shape.table) for symbol in manifest.symbols
            if stream in (None, manifest.stream)
        }  # fmt: skip
        missing = [name for name in names or [] if name not in anywhere]
        table = self._shape.table
        if missing:
            of = f" in stream {stream!r}" if stream else ""
            known = {item.symbol for item in self._candidates(None, Span(None, None), stream)}
            hint = difflib.get_close_matches(missing[0], known, n=1, cutoff=0.6)
            more = f"; did you mean {hint[0]!r}?" if hint else f"; it has {near(known) or 'no rows'}"
            raise InputError(f"{table} has no rows of {', '.join(missing[:5])}{of}, on any date{more}")
        first, last = span.days()
        if not self._candidates(None, Span(first, None if last is None else date.fromordinal(last.toordinal() + 1)), stream):
            dates = f"between {span_text(first)} and {span_text(last)}"
            raise InputError(f"nothing is recorded in {table} {dates}; `l2 journal ls` shows the dates")

    # ── rows ──

    def _from_warehouse(
        self, chosen: list[Candidate], candidates: list[Candidate], names: list[str] | None, span: Span, needed: list[str]
    ) -> list[pl.DataFrame]:
        taken = {(item.session_date, item.stream, item.symbol) for item in chosen if not item.archived}
        if self._client is None or not taken:
            return []
        where, parameters = self._where(names, span, None)
        left = sorted(
            {(item.session_date, item.stream, item.symbol) for item in candidates if not item.archived} - taken
        )
        streams = {of for _, of, _ in taken}
        parameters["streams"] = sorted(streams)
        where += " AND stream IN {streams:Array(String)}"
        left = [item for item in left if item[1] in streams]
        if left:
            where += " AND (session_date, stream, symbol) NOT IN {left:Array(Tuple(Date, String, String))}"
            parameters["left"] = left
        picked = [self._column(name) for name in needed]
        sql = f"SELECT {selection(picked)} FROM {self._database}.{self._shape.table} WHERE {where}"  # noqa: S608 - names are checked
        with self._client.query_arrow_stream(sql, parameters=parameters, settings=ARROW_SETTINGS) as batches:
            found = list(batches)
        frame = pl.from_arrow(pa.Table.from_batches(found)) if found else None
        return [frame] if isinstance(frame, pl.DataFrame) else []

    def _from_archive(self, chosen: list[Candidate], span: Span, needed: list[str]) -> list[pl.DataFrame]:
        symbols: dict[tuple[date, str], list[str]] = {}
        for item in chosen:
            if item.archived:
                symbols.setdefault((item.session_date, item.stream), []).append(item.symbol)
        frames = []
        for manifest in self._archived:
            wanted = symbols.get((manifest.session_date, manifest.stream))
            if wanted is None:
                continue
            folder = partition_folder(self._settings.archive_dir, manifest.table, manifest.session_date, manifest.stream)
            rows = pl.scan_parquet([folder / part.file for part in manifest.parts], hive_partitioning=False)
            if len(wanted) < len(manifest.symbols):
                rows = rows.filter(pl.col("symbol").is_in(wanted))
            for bound, inside in ((span.first, pl.Expr.ge), (span.end, pl.Expr.lt)):
                if isinstance(bound, int):
                    rows = rows.filter(inside(self._moment().cast(pl.Int64), bound))
            kept = [name for name in needed if name in dict(manifest.columns)]
            frames.append(rows.select(kept).collect())
        return frames

    def _empty(self, needed: list[str]) -> pl.DataFrame:
        """No rows, with the types that rows would have."""
        if self._client is not None and self._stored:
            sql = f"SELECT {selection([self._column(name) for name in needed])} FROM {self._database}.{self._shape.table} LIMIT 0"  # noqa: S608 - names are checked
            frame = pl.from_arrow(self._client.query_arrow(sql, settings=ARROW_SETTINGS))
        else:
            manifest = self._archived[-1]
            folder = partition_folder(self._settings.archive_dir, manifest.table, manifest.session_date, manifest.stream)
            frame = pl.scan_parquet(folder / manifest.parts[0].file, hive_partitioning=False).select(needed).head(0).collect()
        assert isinstance(frame, pl.DataFrame)
        return frame

    def _column(self, name: str) -> ArrowColumn:
        return next(column for column in self._stored if column.name == name)

    def _where(self, names: list[str] | None, span: Span, stream: str | None) -> tuple[str, dict[str, Any]]:
        where, parameters = span.condition(self._moment_sql())
        if names is not None:
            where += " AND symbol IN {symbols:Array(String)}"
            parameters["symbols"] = names
        if stream is not None:
            where += " AND stream = {stream:String}"
            parameters["stream"] = stream
        return where, parameters

    def _moment_sql(self) -> str:
        if self._shape.told_twice:
            return "toUnixTimestamp64Nano(if(source = 'live', ts_recv, ifNull(ts_event, ts_recv)))"
        return f"toUnixTimestamp64Nano(toDateTime64({self._shape.time}, 9, 'UTC'))"

    def _moment(self) -> pl.Expr:
        if self._shape.told_twice:
            return pl.when(pl.col("source") == "live").then("ts_recv").otherwise(pl.coalesce("ts_event", "ts_recv"))
        return pl.col(self._shape.time).cast(pl.Datetime("ns", "UTC"))


def span_text(day: date | None) -> str:
    """A bound for a message."""
    return day.isoformat() if day is not None else "…"


def _names(symbols: str | Iterable[str] | None) -> list[str] | None:
    if symbols is None:
        return None
    names = [symbols] if isinstance(symbols, str) else list(symbols)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise InputError("symbols: give a name, several names, or None for all")
    return sorted(set(names))


def _warehouse_exists(settings: Settings) -> bool:
    """False: the embedded engine was never started here, and reading must not make one."""
    return not settings.clickhouse.embedded or settings.warehouse_dir.exists()

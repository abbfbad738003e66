"""The journal of one stream and session date through the pipeline into staging tables: the code of the live delivery, other batches.

Reading, decoding and books are this thread's; rows gather until there are enough for a large insert, and a few threads encode and
send them. What waits is bounded; each insert first lets the live delivery catch up. What does not belong here: swaps (staging).
"""

import threading
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from l2_platform.clock import Clock
from l2_platform.delivery.delivery import make_pipeline, make_quarantine
from l2_platform.delivery.gathering import merge
from l2_platform.delivery.pipeline import Pipeline
from l2_platform.journal.durable import read_durable
from l2_platform.journal.frame import Position
from l2_platform.journal.layout import source_of
from l2_platform.journal.reader import Damage, JournalReader, list_dates, segment_context
from l2_platform.market.events import TableBatch
from l2_platform.monitoring.heartbeat import read_heartbeat
from l2_platform.replay.staging import MARKET_TABLES, Staging
from l2_platform.replay.warehouse_link import WarehouseLink
from l2_platform.settings import Settings
from l2_platform.sinks.native import NativeEncoder

YIELD_POLL_S = 0.1
GAPS = "gap_events"
NOWHERE = Position(0, 0, 0)


@dataclass(slots=True)
class Filled:
    """What the journal had."""

    messages: int = 0
    position: Position = NOWHERE
    """End of the journal."""
    seq: int = 0
    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MARKET_TABLES, 0))
    """Rows sent to each staging table."""
    damaged: int = 0
    """Ranges of the journal that could not be read; each is a row of feed_events."""
    gaps: list[TableBatch] = field(default_factory=list)
    symbols: frozenset[str] = frozenset()
    """Names that were found in the lines."""


class Filling:
    """Fills the staging tables of one (stream, date) once."""

    def __init__(
        self, settings: Settings, clock: Clock, link: WarehouseLink, staging: Staging, *, symbols: Collection[str],
        progress: Callable[[int], None],
    ) -> None:  # fmt: skip
        """`symbols`: only their rows (empty: all); `progress`: told the messages read since the call before."""
        self._settings, self._clock, self._link, self._staging = settings, clock, link, staging
        self._wanted = frozenset(symbols)
        self._progress = progress
        self._gathered: dict[str, list[TableBatch]] = {}
        self._inserts: set[Future[None]] = set()
        self._sent = 0
        self._own = threading.local()
        self._quarantine = make_quarantine("clickhouse", settings, clock)
        self._filled = Filled()

    def run(self) -> Filled:
        """Read to the end of the journal; every row is in staging when it returns. Raise what the warehouse says, and stop then."""
        stream, session_date = self._staging.stream, self._staging.session_date
        self._quarantine.load(stream, session_date)
        pool = ThreadPoolExecutor(self._settings.rebuild.insert_threads, thread_name_prefix="rebuild")
        try:
            self._read(pool, pipeline_at(self._settings, stream, session_date))
            for table in list(self._gathered):
                self._send(pool, table)
            self._wait_below(1)
        finally:
            # an insert under way is waited for: what is dropped afterwards must not be written to
            pool.shutdown(wait=True, cancel_futures=True)
        return self._filled

    def _read(self, pool: ThreadPoolExecutor, pipeline: Pipeline) -> None:
        filled, bounds = self._filled, self._settings.delivery
        root, stream, session_date = self._settings.journal_dir, self._staging.stream, self._staging.session_date
        reader = JournalReader(root, stream, session_date, durable_path=durable_path_of(self._settings, stream, session_date))
        while items := reader.read(bounds.read_bytes_max, bounds.read_lines_max):
            before = pipeline.lines
            filled.damaged += sum(isinstance(item, Damage) for item in items)
            for batch in pipeline.process(items, self._clock.now_ns()):
                self._take(pool, batch)
            self._progress(pipeline.lines - before)
            filled.messages += pipeline.lines - before
        filled.gaps += pipeline.end_date(self._clock.now_ns())
        filled.position, filled.seq, filled.symbols = reader.position, pipeline.seq, frozenset(pipeline.symbols.names)
        reader.close()

    def _take(self, pool: ThreadPoolExecutor, batch: TableBatch) -> None:
        if batch.table == GAPS:
            self._filled.gaps.append(batch)
            return
        batch = self._quarantine.without_held(batch)
        if self._wanted:
            batch = of_symbols(batch, self._wanted)
        if not len(batch):
            return
        gathered = self._gathered.setdefault(batch.table, [])
        gathered.append(batch)
        self._filled.rows[batch.table] += len(batch)
        if sum(len(part) for part in gathered) >= self._settings.rebuild.insert_rows:
            self._send(pool, batch.table)

    def _send(self, pool: ThreadPoolExecutor, table: str) -> None:
        """Hand the gathered rows to an insert; waits while as many as may are under way and waiting."""
        batches = self._gathered.pop(table)
        self._wait_below(2 * self._settings.rebuild.insert_threads)
        self._sent += 1
        self._inserts.add(pool.submit(self._insert, table, batches, f"{table}/{self._sent}"))

    def _wait_below(self, count: int) -> None:
        """Until fewer than `count` inserts are under way; raise what one of them says."""
        while True:
            done = {future for future in self._inserts if future.done()}
            self._inserts -= done
            for future in done:
                future.result()
            if len(self._inserts) < count:
                return
            wait(self._inserts, return_when=FIRST_COMPLETED)

    def _insert(self, table: str, batches: list[TableBatch], token: str) -> None:
        """Encode and store, in an insert thread."""
        encoder: NativeEncoder | None = getattr(self._own, "encoder", None)
        if encoder is None:
            encoder = self._own.encoder = NativeEncoder()
        (batch,) = merge(batches)
        batches.clear()
        rows_max = self._settings.rebuild.insert_rows
        for start in range(0, len(batch), rows_max):
            data = encoder.encode(batch, start, min(start + rows_max, len(batch)))
            self._let_live_go_first()
            sql = f"INSERT INTO {self._staging.name(table)} FORMAT Native"
            self._link.insert(sql, data, {"insert_deduplication_token": f"{token}/{start}"})

    def _let_live_go_first(self) -> None:
        """Wait, a bounded time, while the live delivery to the same warehouse is behind."""
        bounds = self._settings.rebuild
        deadline = self._clock.monotonic_ns() + int(bounds.yield_s * 1e9)
        while live_lag_s(self._settings) > bounds.lag_s and self._clock.monotonic_ns() < deadline:
            self._clock.sleep(YIELD_POLL_S)


def pipeline_at(settings: Settings, stream: str, session_date: int) -> Pipeline:
    """A pipeline at the begin of a date. Books of an import go on from date to date: they are made again from its first one."""
    root = settings.journal_dir
    dates = list_dates(root, stream)
    context = (segment_context(root, stream, dates[0]) if dates else None) or {}
    pipeline = make_pipeline(stream, settings, context.get("default_symbol"), symbol_gaps=True)
    if source_of(stream) == "import":
        for date in dates:
            if date >= session_date:
                break
            pipeline.begin_date(date, segment_context(root, stream, date))
            reader = JournalReader(root, stream, date, durable_path=None)
            while items := reader.read(settings.delivery.read_bytes_max, settings.delivery.read_lines_max):
                pipeline.process(items, 0)
    pipeline.begin_date(session_date, segment_context(root, stream, session_date))
    return pipeline


def durable_path_of(settings: Settings, stream: str, session_date: int) -> Path | None:
    """The durable record, when the stream's newest bytes are of this date: what lies behind it was never delivered. Else None."""
    path = settings.run_dir / "durable" / stream
    durable = read_durable(path) if source_of(stream) == "live" else None
    return path if durable is not None and durable.position.session_date == session_date else None


def live_lag_s(settings: Settings) -> float:
    """How far the live delivery to ClickHouse is behind the recording, s; 0 when none runs."""
    record = read_heartbeat(settings.run_dir / "heartbeats" / "deliver-clickhouse.json")
    if record is None or not record.alive():
        return 0.0
    streams = record.numbers.get("streams", {})
    return max([0.0, *(float(numbers.get("lag_s", 0.0)) for numbers in streams.values())])


def of_symbols(batch: TableBatch, wanted: Collection[str]) -> TableBatch:
    """The rows of these symbols."""
    named = np.array([*(name in wanted for name in batch.symbols), "" in wanted], np.bool_)
    pick = np.flatnonzero(named[batch.columns["symbol"]])  # NO_SYMBOL (-1) is the last place
    kept: dict[str, Any] = {
        name: [column[int(row)] for row in pick] if isinstance(column, list) else column[pick]
        for name, column in batch.columns.items()
    }
    return TableBatch(batch.table, batch.stream, batch.session_date, batch.source, batch.symbols, kept)

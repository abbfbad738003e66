"""The ClickHouse sink: every row exactly once, without deduplication of the server's.

The position of a table is its greatest (seq, ordinal), asked from the table. One insert is one block of one partition, in seq order,
so it is stored whole or not at all; a retry sends only what lies above the table's own position. Before asking, no earlier insert of
ours may still run. What does not belong here: bytes of the Native format (native), HTTP (warehouse/http), checkpoints (delivery).
"""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from typing import Final

import numpy as np

from l2_platform.clock import Clock, SystemClock
from l2_platform.errors import SinkError, SinkRejected, SinkUnavailable, WarehouseError
from l2_platform.journal.frame import Position
from l2_platform.market.events import TableBatch
from l2_platform.settings import Settings
from l2_platform.sinks.native import LAYOUTS, NativeEncoder
from l2_platform.sinks.sink import ResumePoint
from l2_platform.warehouse.client import connect
from l2_platform.warehouse.errors import QueryFailed
from l2_platform.warehouse.http import ConnectionLost, PlainClient
from l2_platform.warehouse.schema import migrate
from l2_platform.warehouse.start import ensure_warehouse, find_warehouse, is_managed, warehouse_password

Key = tuple[int, int]
Partition = tuple[str, int]
ROWS_MAX: Final = 500_000
"""Most rows of one insert: well below the size at which a server cuts a block."""
SETTLE_POLL_S: Final = 0.05
INSERT_SETTINGS: Final = {
    "async_insert": "0", "wait_end_of_query": "1", "max_insert_threads": "1", "input_format_parallel_parsing": "0",
    "max_partitions_per_insert_block": "1", "throw_on_max_partitions_per_insert_block": "1",
}  # fmt: skip
LAST_POSITION: Final = (
    "SELECT seq, segment, offset FROM {database}.delivery_positions WHERE stream = {{stream:String}}"
    " AND session_date = {{date:Date}} ORDER BY seq DESC, segment DESC, offset DESC LIMIT 1"
)
PASSING: Final = frozenset(
    {
        3,  # UNEXPECTED_END_OF_FILE
        159,  # TIMEOUT_EXCEEDED
        202,  # TOO_MANY_SIMULTANEOUS_QUERIES
        209, 210,  # SOCKET_TIMEOUT, NETWORK_ERROR
        216,  # QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING
        236, 394,  # ABORTED, QUERY_WAS_CANCELLED
        241,  # MEMORY_LIMIT_EXCEEDED
        242, 243,  # TABLE_IS_READ_ONLY, NOT_ENOUGH_SPACE
        252,  # TOO_MANY_PARTS
        279, 319, 999,  # all connections failed, unknown status of insert, coordination
        192, 193, 194, 497, 516,  # login and rights: the rows are fine, a person has to act
        60, 81,  # table or database is missing: made again at the next attempt
    }
)  # fmt: skip
"""ClickHouse codes that say nothing against the rows."""
MISSING: Final = frozenset({60, 81})
POSITION_EVERY_NS: Final = 1_000_000_000
"""Least time between two rows of delivery_positions of one stream and date, but for those that a checkpoint asks for."""
PASSING_STATUSES: Final = frozenset({401, 403, 408, 429, 502, 503, 504})


class ClickHouseSink:
    """Writes TableBatches; one thread calls it (see `Sink`)."""

    name = "clickhouse"

    def __init__(
        self, settings: Settings, clock: Clock | None = None, *, reach: Callable[[], PlainClient] | None = None,
        threads: Callable[[], Executor] | None = None,
    ) -> None:  # fmt: skip
        """`reach` and `threads` replace the way to the warehouse and the threads that insert: the seam of a simulation."""
        self._settings = settings
        self._connect = reach
        self._make_threads = threads or (lambda: ThreadPoolExecutor(len(LAYOUTS), thread_name_prefix="insert"))
        self._database = settings.clickhouse.database
        self._clock = clock or SystemClock()
        self._client: PlainClient | None = None
        self._migrated = False
        self._threads: Executor | None = None
        self._encoders = {table: NativeEncoder() for table in LAYOUTS}
        self._known: dict[Partition, dict[str, Key]] = {}
        """Positions that are certain, per (stream, date) and table; missing = ask first."""
        self._positioned: dict[Partition, int] = {}
        """When the position of a partition was written last, monotonic ns."""
        self._numbers = itertools.count(1)
        self._instance = f"{os.getpid():x}{self._clock.now_ns() & 0xFFFFFF:06x}"

    def open(self) -> None:
        """Reach the warehouse and make the tables; raise SinkUnavailable when that is not possible now."""
        if self._threads is None:
            self._threads = self._make_threads()
        self._reach()

    def resume(self, stream: str, session_date: int) -> ResumePoint:
        """End what an earlier process left running, then ask every table; raise SinkUnavailable when that is not possible now."""
        known = self._ask(stream, session_date, LAYOUTS)
        self._known[stream, session_date] = known
        rows = self._query(LAST_POSITION.format(database=self._database), stream=stream, date=_date_text(session_date))
        tables = {table: key for table, key in known.items() if key != (0, 0)}
        if not rows:
            return ResumePoint(0, tables, None)
        seq, segment, offset = (int(value) for value in rows[0])
        return ResumePoint(seq, tables, Position(session_date, segment, offset))

    def write(self, batches: list[TableBatch], position: Position, seq: int) -> None:
        """Store the rows of one (stream, date), then the position; visible and on disk when it returns.

        An empty list does nothing: the position of the next rows bounds a replay just as well. A batch without rows moves the
        position only.
        """
        if not batches:
            return
        partition = self._partition_of(batches)
        batches = [batch for batch in batches if len(batch)]
        self._make_certain(partition, batches)
        self._write_tables(partition, batches)
        # The tables themselves say what they hold; the position only bounds a replay, so it need not follow every batch.
        now = self._clock.monotonic_ns()
        if not batches or now - self._positioned.get(partition, 0) >= POSITION_EVERY_NS:
            self._write_position(partition, position, seq)
            self._positioned[partition] = now

    def sync(self) -> None:
        """Nothing to do: an insert returns when it is on disk."""

    def close_stream(self, stream: str, session_date: int) -> None:
        """Forget the date's positions."""
        self._known.pop((stream, session_date), None)
        self._positioned.pop((stream, session_date), None)

    def close(self) -> None:
        """Close the connections."""
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None
        self._forget_client()
        self._known.clear()

    def _partition_of(self, batches: list[TableBatch]) -> Partition:
        partitions = {(batch.stream, batch.session_date) for batch in batches}
        if len(partitions) != 1:
            raise SinkRejected(f"one write holds rows of several streams or dates: {sorted(partitions)}")
        return partitions.pop()

    def _make_certain(self, partition: Partition, batches: list[TableBatch]) -> None:
        known = self._known.setdefault(partition, {})
        unsure = [batch.table for batch in batches if batch.table not in known and batch.table in LAYOUTS]
        if unsure:
            known.update(self._ask(*partition, unsure))

    def _write_tables(self, partition: Partition, batches: list[TableBatch]) -> None:
        client = self._reach()
        assert self._threads is not None
        known = self._known[partition]
        futures: dict[str, Future[None]] = {}
        for batch in batches:
            futures[batch.table] = self._threads.submit(self._write_table, client, batch, known)
        # All of them end before any failure is looked at: a failure may close the connections.
        wait(futures.values())
        failures: list[SinkError] = []
        for table, future in futures.items():
            try:
                future.result()
            except (WarehouseError, SinkError) as error:
                # whatever it was: the table is asked before anything is sent again
                known.pop(table, None)
                failures.append(self._sink_error(error))
        if failures:
            # rows that can never be stored are told first: waiting does not help them
            raise next((failure for failure in failures if isinstance(failure, SinkRejected)), failures[0])

    def _write_table(self, client: PlainClient, batch: TableBatch, known: dict[str, Key]) -> None:
        encoder = self._encoders.get(batch.table)
        if encoder is None:
            raise SinkRejected(f"no table is called {batch.table}", table=batch.table)
        for start, stop in blocks(batch, known[batch.table], min(ROWS_MAX, self._settings.delivery.batch_rows_max)):
            data = encoder.encode(batch, start, stop)
            self._insert(client, batch.table, batch.stream, data)
            known[batch.table] = _key(batch, stop - 1)

    def _insert(self, client: PlainClient, table: str, stream: str, data: bytes) -> None:
        query_id = f"{_prefix(stream)}{table}-{self._instance}-{next(self._numbers)}"
        client.insert(f"INSERT INTO {self._database}.{table} FORMAT Native", data, query_id, INSERT_SETTINGS)

    def _write_position(self, partition: Partition, position: Position, seq: int) -> None:
        stream, session_date = partition
        fields = (stream, _date_text(session_date), seq, position.segment, position.offset, _time_text(self._clock.now_ns()))
        line = "\t".join(str(field) for field in fields) + "\n"
        query_id = f"{_prefix(stream)}positions-{self._instance}-{next(self._numbers)}"
        sql = f"INSERT INTO {self._database}.delivery_positions (stream, session_date, seq, segment, offset, ts) FORMAT TabSeparated"
        try:
            self._reach().insert(sql, line.encode(), query_id, INSERT_SETTINGS)
        except WarehouseError as error:
            raise self._sink_error(error) from None

    def _ask(self, stream: str, session_date: int, tables: Iterable[str]) -> dict[str, Key]:
        """The positions of tables, after all inserts of this stream are over."""
        self._settle(stream)
        date = _date_text(session_date)
        known = {}
        for table in tables:
            ordinal = any(name == "ordinal" for name, _ in LAYOUTS[table].columns)
            where = f"FROM {self._database}.{table} WHERE stream = {{stream:String}} AND session_date = {{date:Date}}"
            if ordinal:
                sql = f"SELECT max((seq, ordinal)) AS last, last.1, last.2 {where}"
                _, last, place = self._query(sql, stream=stream, date=date)[0]
                known[table] = (int(last), int(place))
            else:
                known[table] = (int(self._query(f"SELECT max(seq) {where}", stream=stream, date=date)[0][0]), 0)
        return known

    def _settle(self, stream: str) -> None:
        """Wait until no insert of ours into this stream runs any more; cancel first."""
        prefix = _prefix(stream)
        mine = "startsWith(query_id, {prefix:String})"
        self._query(f"KILL QUERY WHERE {mine} ASYNC", prefix=prefix)
        settle_s = self._settings.clickhouse.settle_s
        deadline = self._clock.monotonic_ns() + int(settle_s * 1e9)
        while self._running(prefix):
            if self._clock.monotonic_ns() > deadline:
                raise SinkUnavailable(f"an earlier insert into {stream} still runs after {settle_s:g} s", stream=stream)
            self._clock.sleep(SETTLE_POLL_S)

    def _running(self, prefix: str) -> bool:
        if self._settings.clickhouse.embedded:
            try:
                return bool(self._reach().running(prefix))
            except WarehouseError as error:
                raise self._sink_error(error) from None
        sql = "SELECT count() FROM system.processes WHERE startsWith(query_id, {prefix:String})"
        return self._query(sql, prefix=prefix)[0][0] != "0"

    def _query(self, sql: str, **params: str) -> list[list[str]]:
        try:
            return self._reach().query(sql, **params)
        except WarehouseError as error:
            raise self._sink_error(error) from None

    def _reach(self) -> PlainClient:
        """The client; the warehouse is looked for when it was lost. Never waits for a managed warehouse that is restarting."""
        if self._client is not None and self._migrated:
            return self._client
        self._forget_client()
        if self._connect is not None:
            self._client, self._migrated = self._connect(), True
            return self._client
        section = self._settings.clickhouse
        try:
            if not section.embedded:
                host, port = section.host, section.port or self._settings.ports.warehouse
            elif (found := find_warehouse(self._settings)) is not None:
                host, port = found
            elif is_managed(self._settings):
                raise SinkUnavailable("the warehouse is not running now; its process manager starts it")
            else:
                host, port = ensure_warehouse(self._settings, self._clock)
            if not self._migrated:
                client = connect(self._settings)
                try:
                    migrate(client, self._database)
                finally:
                    client.close()
                self._migrated = True
        except WarehouseError as error:
            raise SinkUnavailable(error.message, **error.facts) from None
        self._client = PlainClient(
            host, port, section.user, warehouse_password(self._settings), secure=section.secure and not section.embedded,
            timeout_s=section.timeout_s, clock=self._clock,
        )  # fmt: skip
        return self._client

    def _forget_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _sink_error(self, error: WarehouseError | SinkError) -> SinkError:
        """What a failure means for the rows."""
        if isinstance(error, SinkError):
            return error
        if isinstance(error, QueryFailed):
            if error.code in MISSING:
                self._migrated = False
            if error.code in PASSING or error.status in PASSING_STATUSES:
                return SinkUnavailable(error.message, code=error.code)
            return SinkRejected(error.message, code=error.code)
        if isinstance(error, ConnectionLost):
            self._forget_client()
        return SinkUnavailable(error.message, **error.facts)


def blocks(batch: TableBatch, floor: Key, rows_max: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows above `floor`, at most `rows_max` long, that never part the rows of one seq (unless one seq has more)."""
    seqs = batch.columns["seq"]
    start = int(np.searchsorted(seqs, np.uint64(floor[0]), side="right"))
    if "ordinal" in batch.columns:
        first = int(np.searchsorted(seqs, np.uint64(floor[0]), side="left"))
        start = first + int(np.searchsorted(batch.columns["ordinal"][first:start], np.uint32(floor[1]), side="right"))
    while start < len(seqs):
        stop = min(start + rows_max, len(seqs))
        if stop < len(seqs) and seqs[stop] == seqs[stop - 1]:
            whole = int(np.searchsorted(seqs, seqs[stop], side="left"))
            stop = whole if whole > start else int(np.searchsorted(seqs, seqs[stop], side="right"))
        yield start, stop
        start = stop


def _key(batch: TableBatch, row: int) -> Key:
    ordinal = batch.columns.get("ordinal")
    return int(batch.columns["seq"][row]), 0 if ordinal is None else int(ordinal[row])


def _prefix(stream: str) -> str:
    """Begins the query id of every insert into a stream."""
    return f"l2-{stream}-"


def _date_text(session_date: int) -> str:
    return f"{session_date // 10_000:04d}-{session_date // 100 % 100:02d}-{session_date % 100:02d}"


def _time_text(ns: int) -> str:
    seconds, fraction = divmod(ns, 1_000_000_000)
    return f"{seconds}.{fraction:09d}"

"""The ClickHouse sink: every row exactly once, without deduplication of the server's.

The position of a table is its greatest (seq, ordinal), asked from the table. One insert is one block of one partition, in seq order,
so it is stored whole or not at all; a retry sends only what lies above the table's own position. Before asking, no earlier insert of
ours may still run. One that the server does not know yet (held up on its way, and committed seconds later) is kept out by its token:
a token names the position that the insert goes on from, and the server takes one insert with it, so of two inserts from the same
position, by whatever process and however cut, one is stored; the first insert after asking is looked for before it is believed.

What does not belong here: bytes of the Native format (native), HTTP (warehouse/http), checkpoints (delivery), what a failure means
(clickhouse_failures), the search for refused rows (isolation).
"""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from typing import Final

import numpy as np

from l2_platform.clock import Clock, SystemClock
from l2_platform.errors import SinkError, SinkMisconfigured, SinkRejected, SinkUnavailable, WarehouseError
from l2_platform.journal.frame import Position
from l2_platform.market.dates import date_text
from l2_platform.market.events import TableBatch
from l2_platform.settings import Settings
from l2_platform.sinks.clickhouse_failures import NO_CODE, sink_error
from l2_platform.sinks.isolation import send_isolating
from l2_platform.sinks.native import LAYOUTS, NativeEncoder
from l2_platform.sinks.quarantine import HeldRow, Quarantine, key_of, middle_of
from l2_platform.sinks.sink import ResumePoint
from l2_platform.warehouse.client import connect
from l2_platform.warehouse.errors import QueryFailed, failure_of
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
    "max_partitions_per_insert_block": "1", "throw_on_max_partitions_per_insert_block": "1", "insert_deduplicate": "1",
}  # fmt: skip
LAST_POSITION: Final = (
    "SELECT seq, segment, offset FROM {database}.delivery_positions WHERE stream = {{stream:String}}"
    " AND session_date = {{date:Date}} ORDER BY seq DESC, segment DESC, offset DESC LIMIT 1"
)
MISSING: Final = frozenset({60, 81, 218})
"""Codes of a table or database that is not there: made again at the next attempt, when that is possible."""
PROVE_REPLAYED: Final = 100
"""So many inserts behind the last known position are looked for too, when a table lost rows that it had."""
TOKENS_MAX: Final = 20
"""Most tokens tried from one position; more than one is only used up when the server was killed in the middle of a commit."""
POSITION_EVERY_NS: Final = 1_000_000_000
"""Least time between two rows of delivery_positions of one stream and date, but for those that a checkpoint asks for."""


class ClickHouseSink:
    """Writes TableBatches; one thread calls it (see `Sink`)."""

    name = "clickhouse"

    def __init__(
        self, settings: Settings, clock: Clock | None = None, *, reach: Callable[[], PlainClient] | None = None,
        threads: Callable[[], Executor] | None = None, quarantine: Quarantine | None = None,
    ) -> None:  # fmt: skip
        """`quarantine`: one that several sinks share. `reach` and `threads` replace the way to the warehouse and the threads that insert:
        the seam of a simulation.
        """
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
        self._unproven: dict[tuple[Partition, str], int] = {}
        """Inserts of a table that are looked for before they are believed."""
        self._tokens_used: dict[tuple[Partition, str], int] = {}
        """Tokens that the server has seen without storing rows; the next one has this number."""
        self._stored_before: dict[Partition, int] = {}
        """Seq of the position that the server knew at the start."""
        self._written_to: dict[Partition, Position] = {}
        """Journal position behind the last write."""
        self.quarantine = quarantine or Quarantine(
            settings.quarantine_dir, self.name, settings.delivery.quarantine_rows_max, self._clock
        )
        self._numbers = itertools.count(1)
        self._instance = f"{os.getpid():x}{self._clock.now_ns() & 0xFFFFFF:06x}"

    def open(self) -> None:
        """Reach the warehouse and make the tables; raise SinkUnavailable when that is not possible now."""
        if self._threads is None:
            self._threads = self._make_threads()
        self._reach()

    def resume(self, stream: str, session_date: int) -> ResumePoint:
        """End what an earlier process left running, then ask every table; raise SinkUnavailable when that is not possible now."""
        self.quarantine.load(stream, session_date)
        known = self._ask(stream, session_date, LAYOUTS)
        self._known[stream, session_date] = known
        rows = self._query(LAST_POSITION.format(database=self._database), stream=stream, date=date_text(session_date))
        tables = {table: key for table, key in known.items() if key != (0, 0)}
        if not rows:
            return ResumePoint(0, tables, None)
        seq, segment, offset = (int(value) for value in rows[0])
        self._stored_before[stream, session_date] = seq
        return ResumePoint(seq, tables, Position(session_date, segment, offset))

    def write(self, batches: list[TableBatch], position: Position, seq: int) -> None:
        """Store the rows of one (stream, date), then the position; visible and on disk when it returns.

        An empty list does nothing: the position of the next rows bounds a replay just as well. A batch without rows moves the
        position only.
        """
        if not batches:
            return
        partition = self._partition_of(batches)
        batches = [kept for batch in batches if len(kept := self.quarantine.without_held(batch))]
        self._make_certain(partition, batches)
        self._write_tables(partition, batches, position)
        self._written_to[partition] = position
        # The tables themselves say what they hold; the position only bounds a replay, so it need not follow every batch.
        now = self._clock.monotonic_ns()
        if not batches or now - self._positioned.get(partition, 0) >= POSITION_EVERY_NS:
            self._write_position(partition, position, seq)
            self._positioned[partition] = now

    def redeliver(self, row: HeldRow) -> None:
        """Store a row that was refused before, below the tables' positions, once; raise SinkRejected when it still is.

        One process at a time may do so; a delivery may run meanwhile.
        """
        if not self._has(row):
            batch = row.batch()
            data = self._encoders[row.table].encode(batch, 0, len(batch))
            for number in range(TOKENS_MAX):
                try:
                    self._insert(self._reach(), batch, data, f"{row.name}/again/{number}")
                except WarehouseError as error:
                    raise self._sink_error(error) from None
                if self._has(row):
                    break
            else:
                raise SinkUnavailable(f"{row.name} was taken {TOKENS_MAX} times and is not there: look into the server's log")
        self.quarantine.release(row)

    def sync(self) -> None:
        """Nothing to do: an insert returns when it is on disk."""

    def close_stream(self, stream: str, session_date: int) -> None:
        """Forget the date's positions."""
        self._known.pop((stream, session_date), None)
        self._positioned.pop((stream, session_date), None)
        self._written_to.pop((stream, session_date), None)
        self._stored_before.pop((stream, session_date), None)
        self.quarantine.forget(stream, session_date)

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
            self.quarantine.load(*partition)
            known.update(self._ask(*partition, unsure))

    def _write_tables(self, partition: Partition, batches: list[TableBatch], position: Position) -> None:
        client = self._reach()
        assert self._threads is not None
        known = self._known[partition]
        futures: dict[str, Future[None]] = {}
        for batch in batches:
            futures[batch.table] = self._threads.submit(self._write_table, client, batch, known, position)
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

    def _write_table(self, client: PlainClient, batch: TableBatch, known: dict[str, Key], position: Position) -> None:
        if batch.table not in self._encoders:
            raise SinkRejected(f"no table is called {batch.table}", table=batch.table)
        journal = self._written_to.get((batch.stream, batch.session_date)), position

        def send(start: int, stop: int) -> SinkRejected | None:
            return self._send(client, batch, known, start, stop)

        def middle(start: int, stop: int) -> int | None:
            return middle_of(batch, start, stop)

        def hold(start: int, stop: int, refusal: SinkRejected) -> None:
            self.quarantine.hold(batch, start, stop, refusal, journal)

        for start, stop in blocks(batch, known[batch.table], min(ROWS_MAX, self._settings.delivery.batch_rows_max)):
            send_isolating(start, stop, send, middle, hold)

    def _send(self, client: PlainClient, batch: TableBatch, known: dict[str, Key], start: int, stop: int) -> SinkRejected | None:
        """Store rows [start, stop) that are not there yet; what the server has against them, or None when they are there."""
        partition, table = (batch.stream, batch.session_date), batch.table
        place = partition, table
        for _ in range(TOKENS_MAX):
            start = max(start, _first_above(batch, known[table]))
            if start >= stop:
                return None
            seq, ordinal = known[table]
            token = f"{table}/{batch.stream}/{batch.session_date}/{seq}.{ordinal}/{self._tokens_used.get(place, 0)}"
            try:
                self._insert(client, batch, self._encoders[table].encode(batch, start, stop), token)
            except SinkRejected as refusal:
                return refusal
            last = key_of(batch, stop - 1)
            if not self._must_prove(place, int(batch.columns["seq"][start])):
                known[table] = last
                return None
            found = self._last_key(client.query, partition, table)
            if found == known[table]:
                # the token was used up without rows: by a server that was killed in a commit, or rows were deleted since
                self._tokens_used[place] = self._tokens_used.get(place, 0) + 1
            known[table] = found
            if found >= last:
                self._unproven[place] -= 1
                return None
        raise SinkUnavailable(f"{TOKENS_MAX} inserts into {table} behind seq {known[table][0]} were taken and are not there", table=table)

    def _must_prove(self, place: tuple[Partition, str], first_seq: int) -> bool:
        """Whether an insert has to be looked for: the first one after asking, and those that bring back rows a table had before."""
        if first_seq <= self._stored_before.get(place[0], 0):
            self._unproven[place] = PROVE_REPLAYED
        return self._unproven.get(place, 0) > 0

    def _insert(self, client: PlainClient, batch: TableBatch, data: bytes, token: str) -> None:
        """One block of one table; raise SinkRejected when its content is refused, WarehouseError for all else."""
        query_id = f"{_prefix(batch.stream)}{batch.table}-{self._instance}-{next(self._numbers)}"
        sql = f"INSERT INTO {self._database}.{batch.table} FORMAT Native"
        try:
            client.insert(sql, data, query_id, {**INSERT_SETTINGS, "insert_deduplication_token": token})
        except QueryFailed as error:
            refusal = sink_error(error.message, error.code, error.status)
            if isinstance(refusal, SinkRejected):
                raise refusal from None
            raise

    def _write_position(self, partition: Partition, position: Position, seq: int) -> None:
        stream, session_date = partition
        fields = (stream, date_text(session_date), seq, position.segment, position.offset, _time_text(self._clock.now_ns()))
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
        known = {}
        for table in tables:
            known[table] = self._last_key(self._query, (stream, session_date), table)
            self._unproven[(stream, session_date), table] = 1
        return known

    def _last_key(self, query: Callable[..., list[list[str]]], partition: Partition, table: str) -> Key:
        """The greatest (seq, ordinal) of a table."""
        where = f"FROM {self._database}.{table} WHERE stream = {{stream:String}} AND session_date = {{date:Date}}"
        stream, date = partition[0], date_text(partition[1])
        if _has_ordinal(table):
            sql = f"SELECT max((seq, ordinal)) AS last, last.1, last.2 {where}"
            _, last, place = query(sql, stream=stream, date=date)[0]
            return int(last), int(place)
        return int(query(f"SELECT max(seq) {where}", stream=stream, date=date)[0][0]), 0

    def _has(self, row: HeldRow) -> bool:
        """The table has rows of this key."""
        keyed = f"FROM {self._database}.{row.table} WHERE stream = {{stream:String}} AND session_date = {{date:Date}}"
        ordinal = " AND ordinal = {ordinal:UInt32}" if _has_ordinal(row.table) else ""
        found = self._query(
            f"SELECT count() {keyed} AND seq = {{seq:UInt64}}{ordinal}",
            stream=row.stream, date=date_text(row.session_date), seq=str(row.seq), ordinal=str(row.ordinal),
        )  # fmt: skip
        return found[0][0] != "0"

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
            raise _unreachable(error) from None
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
            return sink_error(error.message, error.code, error.status)
        if isinstance(error, ConnectionLost):
            self._forget_client()
        return SinkUnavailable(error.message, **error.facts)


def blocks(batch: TableBatch, floor: Key, rows_max: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows above `floor`, at most `rows_max` long, that never part the rows of one seq (unless one seq has more)."""
    seqs = batch.columns["seq"]
    start = _first_above(batch, floor)
    while start < len(seqs):
        stop = min(start + rows_max, len(seqs))
        if stop < len(seqs) and seqs[stop] == seqs[stop - 1]:
            whole = int(np.searchsorted(seqs, seqs[stop], side="left"))
            stop = whole if whole > start else int(np.searchsorted(seqs, seqs[stop], side="right"))
        yield start, stop
        start = stop


def _first_above(batch: TableBatch, floor: Key) -> int:
    """The first row above a key; the number of rows when there is none."""
    seqs = batch.columns["seq"]
    start = int(np.searchsorted(seqs, np.uint64(floor[0]), side="right"))
    if "ordinal" in batch.columns:
        first = int(np.searchsorted(seqs, np.uint64(floor[0]), side="left"))
        start = first + int(np.searchsorted(batch.columns["ordinal"][first:start], np.uint32(floor[1]), side="right"))
    return start


def _has_ordinal(table: str) -> bool:
    return any(name == "ordinal" for name, _ in LAYOUTS[table].columns)


def _unreachable(error: WarehouseError) -> SinkError:
    """What it means that the warehouse could not be reached, or its tables not be made."""
    failure = error if isinstance(error, QueryFailed) else failure_of(error.message)
    if failure.code == NO_CODE:
        return SinkUnavailable(error.message, **error.facts)
    found = sink_error(error.message, failure.code, failure.status)
    # there are no rows yet that could be refused
    return SinkMisconfigured(error.message, code=failure.code) if isinstance(found, SinkRejected) else found


def _prefix(stream: str) -> str:
    """Begins the query id of every insert into a stream."""
    return f"l2-{stream}-"


def _time_text(ns: int) -> str:
    seconds, fraction = divmod(ns, 1_000_000_000)
    return f"{seconds}.{fraction:09d}"

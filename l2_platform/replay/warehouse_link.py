"""A way to the warehouse for work that may be repeated: statements go out again while it is away, for a bounded time.

Everything that goes through here can run twice: reads, DDL with IF EXISTS, a swap from the same staging table, and inserts that carry
a token. What does not belong here: which statements (staging).
"""

import itertools
import os
import threading
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from l2_platform.clock import Clock
from l2_platform.errors import SinkBackpressure, SinkBlocked, SinkError, SinkMisconfigured, SinkRejected, WarehouseError
from l2_platform.settings import Settings
from l2_platform.sinks.clickhouse_failures import sink_error
from l2_platform.warehouse.client import connect
from l2_platform.warehouse.errors import QueryFailed
from l2_platform.warehouse.http import ConnectionLost, PlainClient
from l2_platform.warehouse.schema import migrate
from l2_platform.warehouse.start import ensure_warehouse, warehouse_password

Result = TypeVar("Result")
WAIT_S: Final = 0.2
"""First wait before a statement goes out again, s; doubles."""
WAIT_S_MAX: Final = 5.0
INSERT_SETTINGS: Final = {
    "async_insert": "0", "wait_end_of_query": "1", "max_insert_threads": "1", "input_format_parallel_parsing": "0",
    "max_partitions_per_insert_block": "1", "throw_on_max_partitions_per_insert_block": "1", "insert_deduplicate": "1",
    "max_insert_block_size": "1000000",
}  # fmt: skip
NO_SIZE_LIMIT: Final = {"max_table_size_to_drop": "0", "max_partition_size_to_drop": "0"}
"""A staging table of a large day may be dropped, too."""
ADVICE: Final = "nothing was replaced; the next run removes what this one left"


class WarehouseLink:
    """Statements to the warehouse of the settings; may be used by several threads. Close it."""

    def __init__(self, settings: Settings, clock: Clock, prefix: str) -> None:
        """`prefix` begins the id of every statement, so that they can be ended together (`settle`)."""
        self._settings = settings
        self._clock = clock
        self._prefix = prefix
        self._numbers = itertools.count(1)
        self._instance = f"{os.getpid():x}{clock.now_ns() & 0xFFFFFF:06x}"
        self._client: PlainClient | None = None
        self._clients: list[PlainClient] = []
        """Former ones too: other threads may still be at work with them."""
        self._lock = threading.Lock()

    @property
    def prefix(self) -> str:
        """Begins the id of every statement."""
        return self._prefix

    def open(self) -> None:
        """Reach the warehouse and make the tables; raise WarehouseError."""
        client = connect(self._settings)
        try:
            migrate(client, self._settings.clickhouse.database)
        finally:
            client.close()

    def query(self, sql: str, **params: str | int) -> list[list[str]]:
        """Rows as text; `params` fill {name:Type} placeholders. Statements that change something must be such that may run twice."""
        return self._again(lambda: self._ask(sql, params))

    def once(self, sql: str, **params: str | int) -> list[list[str]]:
        """A statement that must not run twice: its first failure is the end."""
        try:
            return self._ask(sql, params)
        except WarehouseError as error:
            raise _failure(error) from None

    def _ask(self, sql: str, params: Mapping[str, str | int]) -> list[list[str]]:
        given = {f"param_{name}": str(value) for name, value in params.items()}
        arguments = {**given, **NO_SIZE_LIMIT, "default_format": "TabSeparated", "query_id": self._new_id()}
        body = self._reach().post(sql.encode(), arguments)
        return [line.split("\t") for line in body.decode().splitlines()]

    def insert(self, sql: str, data: bytes, settings: Mapping[str, str]) -> None:
        """INSERT … FORMAT X with its data; `settings` must hold a token, since it may go out again."""
        self._again(lambda: self._reach().insert(sql, data, self._new_id(), {**INSERT_SETTINGS, **settings}))

    def settle(self) -> None:
        """Cancel our statements and wait until none runs any more, at most `clickhouse.settle_s`; raise WarehouseError."""
        client = self._reach()
        client.query("KILL QUERY WHERE startsWith(query_id, {prefix:String}) ASYNC", prefix=self._prefix)
        deadline = self._clock.monotonic_ns() + int(self._settings.clickhouse.settle_s * 1e9)
        while self._running(client) and self._clock.monotonic_ns() < deadline:
            self._clock.sleep(0.05)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            clients, self._clients, self._client = self._clients, [], None
        for client in clients:
            client.close()

    def _running(self, client: PlainClient) -> bool:
        if self._settings.clickhouse.embedded:
            return bool(client.running(self._prefix))
        sql = (
            "SELECT count() FROM system.processes WHERE startsWith(query_id, {prefix:String}) AND query_id != queryID()"
        )
        return client.query(sql, prefix=self._prefix)[0][0] != "0"

    def _new_id(self) -> str:
        return f"{self._prefix}{self._instance}-{next(self._numbers)}"

    def _reach(self) -> PlainClient:
        with self._lock:
            if self._client is None:
                section = self._settings.clickhouse
                if section.embedded:
                    host, port = ensure_warehouse(self._settings, self._clock)
                else:
                    host, port = section.host, section.port or self._settings.ports.warehouse
                self._client = PlainClient(
                    host, port, section.user, warehouse_password(self._settings), secure=section.secure and not section.embedded,
                    timeout_s=self._settings.rebuild.request_s, clock=self._clock,
                )  # fmt: skip
                self._clients.append(self._client)
            return self._client

    def _forget(self) -> None:
        """The warehouse may come back elsewhere."""
        with self._lock:
            self._client = None

    def _again(self, call: Callable[[], Result]) -> Result:
        """The call's result; made again while its failure may pass."""
        deadline = self._clock.monotonic_ns() + int(self._settings.rebuild.retry_s * 1e9)
        wait_s = WAIT_S
        while True:
            try:
                return call()
            except WarehouseError as error:
                failure = _failure(error)
                if isinstance(error, ConnectionLost):
                    self._forget()
                final = isinstance(failure, SinkBlocked | SinkMisconfigured | SinkRejected)
                if final or self._clock.monotonic_ns() > deadline:
                    raise failure from None
            self._clock.sleep(wait_s)
            wait_s = min(2 * wait_s, WAIT_S_MAX)


def _failure(error: WarehouseError) -> SinkError:
    """What to tell, by what the failure means."""
    if not isinstance(error, QueryFailed):
        return _NoAnswer(f"the warehouse does not answer: {error.message}. {ADVICE}", **error.facts)
    said = sink_error(error.message, error.code, error.status)
    if isinstance(said, SinkBlocked):
        return SinkBlocked(f"the warehouse cannot write: {error.message}. Free space (`l2 doctor`), then run it again; {ADVICE}")
    if isinstance(said, SinkMisconfigured):
        return SinkMisconfigured(f"the warehouse refuses a statement: {error.message}. {ADVICE}", code=error.code)
    if isinstance(said, SinkRejected):
        return SinkRejected(f"the warehouse refuses rows: {error.message}. {ADVICE}", code=error.code)
    if isinstance(said, SinkBackpressure):
        return SinkBackpressure(f"the warehouse is busy: {error.message}. {ADVICE}", retry_after_s=said.retry_after_s)
    return _NoAnswer(f"the warehouse failed: {error.message}. {ADVICE}", code=error.code)


class _NoAnswer(SinkError):
    """The warehouse is away, or failed in passing."""

    retryable = True

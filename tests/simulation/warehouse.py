"""A warehouse with the manners of a real one: blocks are stored whole, an answer may be lost, an insert may end long after its connection.

It understands the few statements of the ClickHouse sink and reads its blocks with a decoder of its own.
"""

import random
import re
import struct
from collections.abc import Callable, Mapping
from datetime import date as day
from typing import Any

from l2_platform.warehouse.errors import QueryFailed
from l2_platform.warehouse.http import ConnectionLost, PlainClient
from tests.simulation.schedule import KilledError, Process, Schedule

MS = 1_000_000
POISON = 61
FIXED = {"UInt64": "Q", "Int64": "q", "Int32": "i", "UInt32": "I", "UInt8": "B", "Date": "H"}
Row = dict[str, Any]


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def text(self) -> str:
        size = self.varint()
        self.at += size
        return self.data[self.at - size : self.at].decode("utf-8", "surrogateescape")

    def numbers(self, code: str, count: int) -> list[int]:
        values = struct.unpack_from(f"<{count}{code}", self.data, self.at)
        self.at += struct.calcsize(f"<{count}{code}")
        return list(values)


def _fixed(kind: str) -> str:
    if kind.startswith(("Decimal", "DateTime64")):
        return "q"
    return "b" if kind.startswith("Enum8") else FIXED[kind]


def _column(source: _Bytes, kind: str, rows: int) -> list[Any]:
    if kind == "String":
        return [source.text() for _ in range(rows)]
    if kind == "LowCardinality(String)":
        source.at += 8
        width = source.numbers("Q", 1)[0] & 0xFF
        keys = [source.text() for _ in range(source.numbers("Q", 1)[0])]
        count = source.numbers("Q", 1)[0]
        return [keys[code] for code in source.numbers("BHI"[width], count)]
    if kind.startswith("Nullable("):
        empty = source.numbers("B", rows)
        values = source.numbers(_fixed(kind[9:-1]), rows)
        return [None if gone else value for gone, value in zip(empty, values, strict=True)]
    if kind.startswith("Array("):
        ends = source.numbers("Q", rows)
        flat = _column(source, kind[6:-1], ends[-1] if ends else 0)
        return [tuple(flat[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]
    return source.numbers(_fixed(kind), rows)


def read_block(data: bytes) -> list[Row]:
    """The rows of a Native block."""
    source = _Bytes(data)
    columns, rows = source.varint(), source.varint()
    found = {}
    for _ in range(columns):
        name, kind = source.text(), source.text()
        found[name] = _column(source, kind, rows)
    assert source.at == len(data)
    return [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]


class Insert:
    """One that has arrived and is not over."""

    def __init__(self, query_id: str, table: str, rows: list[Row]) -> None:
        self.query_id, self.table, self.rows = query_id, table, rows
        self.cancelled = False


class Warehouse:
    """The server."""

    def __init__(self, schedule: Schedule, rng: random.Random, trace: Callable[..., None]) -> None:
        self.schedule, self.rng, self.trace = schedule, rng, trace
        self.tables: dict[str, list[Row]] = {}
        self.blocks: dict[str, int] = {}
        self.refused: list[int] = []
        """When a request came while it was down, ns."""
        self.mode = "up"
        """up, down, slow, ambiguous, refusing."""
        self.poison = False
        """Rows of every POISON-th message are refused, and the block that holds one."""
        self.running: dict[str, Insert] = {}
        self._process = Process("warehouse")

    @property
    def ended(self) -> bool:
        """No insert is under way."""
        return self._process.ended

    def arrive(self, insert: Insert, after_ns: int) -> None:
        """It will be stored, whoever still waits for it."""
        self.running[insert.query_id] = insert
        self.schedule.start(self._process, lambda: self._store(insert, after_ns), f"insert-{insert.query_id}")

    def _store(self, insert: Insert, after_ns: int) -> None:
        until = self.schedule.now + after_ns
        while self.schedule.now < until and not insert.cancelled:
            self.schedule.block(min(until, self.schedule.now + 50 * MS))
        self.end(insert)

    def end(self, insert: Insert) -> None:
        """Its block is stored, unless it was cancelled before."""
        if not insert.cancelled:
            self.tables.setdefault(insert.table, []).extend(insert.rows)
            self.blocks[insert.table] = self.blocks.get(insert.table, 0) + 1
            self.trace("stored", insert.table, insert.rows[0]["seq"], len(insert.rows))
        del self.running[insert.query_id]


class SimClient(PlainClient):
    """One process's way to it; every request is one attempt."""

    def __init__(self, warehouse: Warehouse) -> None:
        super().__init__("warehouse", 1, "l2", "")
        self._server = warehouse

    def insert(self, sql: str, data: bytes, query_id: str, settings: Mapping[str, str]) -> None:
        server, rng = self._server, self._server.rng
        mode = self._ask()
        if mode == "refusing":
            raise QueryFailed(252, "Too many parts", name="TOO_MANY_PARTS")
        table = re.search(r"INSERT INTO \w+\.(\w+)", sql)[1]
        rows = _position(data) if table == "delivery_positions" else read_block(data)
        if server.poison and table == "depth_updates" and any(row["order_id"] % POISON == 0 for row in rows):
            raise QueryFailed(469, "Constraint is violated", name="VIOLATED_CONSTRAINT")
        insert = Insert(query_id, table, rows)
        took = rng.randint(1, 15) * MS if mode != "slow" else rng.randint(100, 1500) * MS
        if mode == "ambiguous" and rng.random() < 0.5:
            late = rng.choice((0, rng.randint(1, 3000))) * MS
            if rng.random() < 0.7:
                server.arrive(insert, took + late)
            server.schedule.sleep(rng.randint(1, took))
            raise ConnectionLost("the connection was cut")
        server.running[query_id] = insert
        until = server.schedule.now + took
        try:
            while server.schedule.now < until and not insert.cancelled:
                server.schedule.block(min(until, server.schedule.now + 50 * MS))
        except KilledError:
            # the request is on its way, whoever sent it
            server.arrive(insert, rng.choice((0, rng.randint(1, 3000))) * MS)
            raise
        server.end(insert)
        if insert.cancelled:
            raise QueryFailed(394, "Query was cancelled", name="QUERY_WAS_CANCELLED")

    def query(self, sql: str, **params: str | int) -> list[list[str]]:
        mode = self._ask()
        server = self._server
        if mode == "ambiguous" and server.rng.random() < 0.2:
            raise ConnectionLost("the connection was cut")
        if sql.startswith("KILL QUERY"):
            for query_id, insert in server.running.items():
                if query_id.startswith(str(params["prefix"])) and server.rng.random() < 0.5:
                    insert.cancelled = True
            return []
        date = str(params["date"])
        table = re.search(r"FROM \w+\.(\w+)", sql)[1]
        days = _days(date)
        rows = [row for row in server.tables.get(table, []) if row["stream"] == params["stream"] and row["session_date"] == days]
        if table == "delivery_positions":
            best = max(((row["seq"], row["segment"], row["offset"]) for row in rows), default=None)
            return [] if best is None else [[str(value) for value in best]]
        if "ordinal" in sql:
            seq, ordinal = max(((row["seq"], row["ordinal"]) for row in rows), default=(0, 0))
            return [[f"({seq},{ordinal})", str(seq), str(ordinal)]]
        return [[str(max((row["seq"] for row in rows), default=0))]]

    def running(self, prefix: str) -> list[str]:
        self._ask()
        return [query_id for query_id in self._server.running if query_id.startswith(prefix)]

    def close(self) -> None:
        pass

    def _ask(self) -> str:
        """A request on its way; the server's state when it arrives."""
        server = self._server
        server.schedule.sleep(server.rng.randint(1, 3) * MS)
        if server.mode == "down":
            server.refused.append(server.schedule.now)
            raise ConnectionLost("connection refused")
        return server.mode


def _days(date: str) -> int:
    return (day.fromisoformat(date) - day(1970, 1, 1)).days


def days_of(session_date: int) -> int:
    """Days since 1970-01-01 of YYYYMMDD."""
    text = str(session_date)
    return _days(f"{text[:4]}-{text[4:6]}-{text[6:]}")


def _position(data: bytes) -> list[Row]:
    stream, date, seq, segment, offset, _ = data.decode().rstrip("\n").split("\t")
    return [{"stream": stream, "session_date": _days(date), "seq": int(seq), "segment": int(segment), "offset": int(offset)}]


"""What a table holds of one stream and session date, as one number; and in which rows two tables of that kind differ.

The hash of a row is xxh3_128 of all its columns in order (but for stream and session date, which are those of the partition); the
hash of the content is the sum of all of them modulo 2^128. So the order of rows, and how they are cut into parts, do not matter; a
row that is missing, there twice or changed in any column does. All of it is computed by the warehouse, nothing is transferred.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Query = Callable[..., list[list[str]]]
"""Rows of a statement as text; keyword arguments fill its {name:Type} placeholders."""
PARTITION_COLUMNS: Final = frozenset({"stream", "session_date"})
WHERE: Final = "stream = {stream:String} AND session_date = {date:Date}"


@dataclass(frozen=True, slots=True)
class Content:
    """One table, stream and date."""

    rows: int = 0
    digest: str = "0" * 32
    """32 hex digits; zeros without rows."""
    seq_first: int = 0
    seq_last: int = 0
    keys: int = 0
    """Different keys; fewer than `rows` when a row is there twice."""
    ts_first: int = 0
    """Receive time of the first row, ns; 0 without rows."""
    ts_last: int = 0


@dataclass(slots=True)
class Difference:
    """Rows of a table before and after, by key."""

    only_before: int = 0
    only_after: int = 0
    changed: int = 0
    """Keys that both have, with other values (or another number of rows)."""
    columns: dict[str, int] = field(default_factory=dict)
    """Column → changed keys that differ in it."""
    keys: dict[str, list[str]] = field(default_factory=dict)
    """only_before, only_after, changed → the first of these keys (`seq` or `seq.ordinal`)."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "only_before": self.only_before, "only_after": self.only_after, "changed": self.changed,
            "columns": dict(self.columns), "keys": {kind: list(keys) for kind, keys in self.keys.items()},
        }  # fmt: skip


def columns_of(query: Query, database: str, table: str) -> dict[str, str]:
    """Stored columns of a table in order, name → type."""
    sql = (
        "SELECT name, type FROM system.columns WHERE database = {database:String} AND table = {table:String}"
        " AND default_kind != 'ALIAS' ORDER BY position FORMAT TabSeparatedRaw"
    )
    return {row[0]: row[1] for row in query(sql, database=database, table=table)}


def row_hash(columns: Mapping[str, str]) -> str:
    """The expression of one row's hash, UInt128."""
    parts = []
    for name, kind in columns.items():
        if name in PARTITION_COLUMNS:
            continue
        if kind.startswith("Nullable("):
            inner = kind.removeprefix("Nullable(").removesuffix(")").replace("'", "\\'")
            parts += [f"isNull({name})", f"ifNull({name}, defaultValueOfTypeName('{inner}'))"]
        else:
            parts.append(name)
    return f"reinterpretAsUInt128(xxh3_128({', '.join(parts)}))"


def content(query: Query, place: str, columns: Mapping[str, str], key: str, stream: str, date: str) -> Content:
    """Measure `place` (database.table); `key`: the columns that identify a row; `date`: 2025-07-25."""
    # A bitmap of dense numbers needs about a bit a row: whole days fit in memory.
    keys = "groupBitmap(seq)" if key == "seq" else f"uniqExact({key})"
    sql = (
        f"SELECT count(), lower(hex(sum({row_hash(columns)}))), min(seq), max(seq), {keys},"  # noqa: S608 - names are ours
        f" toUnixTimestamp64Nano(min(ts_recv)), toUnixTimestamp64Nano(max(ts_recv)) FROM {place} WHERE {WHERE}"
    )
    rows, digest, first, last, distinct, ts_first, ts_last = query(sql, stream=stream, date=date)[0]
    if rows == "0":
        return Content()
    return Content(int(rows), digest.zfill(32), int(first), int(last), int(distinct), int(ts_first), int(ts_last))


class Comparison:
    """Finds the rows in which two tables of one structure differ, within one stream and date."""

    def __init__(
        self, query: Query, before: str, after: str, columns: Mapping[str, str], key: str, *, stream: str, date: str, chunk: int,
        keys_max: int,
    ) -> None:  # fmt: skip
        """`chunk`: seqs compared at a time; `keys_max`: keys that are named for each kind of difference."""
        self._query, self._before, self._after, self._columns, self._key = query, before, after, columns, key
        self._bound = {"stream": stream, "date": date}
        self._chunk, self._keys_max = chunk, keys_max

    def run(self) -> Difference:
        """Compare; only ranges of seqs whose sums differ are looked at row by row."""
        found = Difference()
        for bucket in self._differing():
            begin = bucket * self._chunk
            if self._count(found, begin, begin + self._chunk):
                self._count_columns(found, begin, begin + self._chunk)
        return found

    def _differing(self) -> list[int]:
        def sums(place: str) -> dict[int, str]:
            sql = (
                f"SELECT intDiv(seq, {self._chunk}) AS bucket, toString(sum({row_hash(self._columns)})) FROM {place}"  # noqa: S608 - names are ours
                f" WHERE {WHERE} GROUP BY bucket"
            )
            return {int(bucket): total for bucket, total in self._query(sql, **self._bound)}

        before, after = sums(self._before), sums(self._after)
        return sorted(bucket for bucket in before.keys() | after.keys() if before.get(bucket) != after.get(bucket))

    def _count(self, found: Difference, begin: int, end: int) -> bool:
        """Add what differs in [begin, end); True when rows of one key have other values."""
        # A sum of hashes is 0 only where there is no row.
        kinds = {"only_before": "b.h = 0", "only_after": "a.h = 0", "changed": "a.h != 0 AND b.h != 0"}
        key = f"arrayStringConcat([{', '.join(f'toString({name})' for name in self._key.split(', '))}], '.')"
        counts = ", ".join(f"countIf({rule})" for rule in kinds.values())
        named = ", ".join(
            f"arrayStringConcat(arrayMap(k -> k.2, arraySort(groupArraySortedIf({max(self._keys_max, 1)})((seq, {key}), {rule}))), ' ')"
            for rule in kinds.values()
        )
        sql = (
            f"SELECT {counts}, {named} FROM ({self._summed(self._before, begin, end)}) AS a"  # noqa: S608 - names are ours
            f" FULL OUTER JOIN ({self._summed(self._after, begin, end)}) AS b USING ({self._key}) WHERE a.h != b.h"
        )
        row = self._query(sql, **self._bound)[0]
        for kind, count, names in zip(kinds, row[:3], row[3:], strict=True):
            setattr(found, kind, getattr(found, kind) + int(count))
            known = found.keys.setdefault(kind, [])
            known += names.split()[: max(self._keys_max - len(known), 0)]
        return row[2] != "0"

    def _summed(self, place: str, begin: int, end: int) -> str:
        return (
            f"SELECT {self._key}, sum({row_hash(self._columns)}) AS h FROM {place}"  # noqa: S608 - names are ours
            f" WHERE {WHERE} AND seq >= {begin} AND seq < {end} GROUP BY {self._key}"
        )

    def _count_columns(self, found: Difference, begin: int, end: int) -> None:
        names = [name for name in self._columns if name not in {*PARTITION_COLUMNS, *self._key.split(", ")}]
        counts = ", ".join(f"countIf({_differs(name, self._columns[name])})" for name in names)
        both = [
            f"(SELECT {self._key}, {', '.join(names)} FROM {place} WHERE {WHERE} AND seq >= {begin} AND seq < {end})"  # noqa: S608 - names are ours
            for place in (self._before, self._after)
        ]
        row = self._query(f"SELECT {counts} FROM {both[0]} AS a ANY INNER JOIN {both[1]} AS b USING ({self._key})", **self._bound)[0]  # noqa: S608
        for name, count in zip(names, row, strict=True):
            if count != "0":
                found.columns[name] = found.columns.get(name, 0) + int(count)


def _differs(name: str, kind: str) -> str:
    if kind.startswith("Nullable("):
        return f"isNull(a.{name}) != isNull(b.{name}) OR ifNull(a.{name} != b.{name}, 0)"
    return f"a.{name} != b.{name}"

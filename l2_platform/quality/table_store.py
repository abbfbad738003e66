"""What a market table holds of a stream and date, in sums and, where they differ, by key; all sums are made by the warehouse.

What does not belong here: the journal's side, files.
"""

import json

import numpy as np

from l2_platform.clock import Clock
from l2_platform.market.dates import date_text
from l2_platform.quality.canonical import TextWords, row_hash_sql, row_hashes
from l2_platform.quality.keys import ORDINAL_BITS, Rows, compare, joined, keys_of
from l2_platform.quality.reconciled import KeyDifferences
from l2_platform.quality.sums import CHUNKS_MAX, Sums, minute_sql
from l2_platform.replay.projection import Projection
from l2_platform.replay.warehouse_link import WarehouseLink
from l2_platform.settings import Settings
from l2_platform.sinks.native import LAYOUTS
from l2_platform.sinks.quarantine import Quarantine
from l2_platform.warehouse.content import WHERE
from l2_platform.warehouse.queries import TABLES


def table_sums(link: WarehouseLink, database: str, table: str, stream: str, session_date: int, chunk_seqs: int) -> Sums:
    """Sums of the rows that the table has; SinkError when it cannot be read."""
    minute = minute_sql(session_date, TABLES[table].time)
    sql = (
        f"SELECT {minute} AS minute, least(intDiv(seq, {chunk_seqs}), {CHUNKS_MAX - 1}) AS chunk, count(),"  # noqa: S608 - names are ours
        f" sum({row_hash_sql(table)}), min(seq), max(seq) FROM {database}.{table} WHERE {WHERE} GROUP BY minute, chunk"
    )
    sums = Sums(session_date, chunk_seqs)
    for row in link.query(sql, stream=stream, date=date_text(session_date)):
        place, chunk, rows, total, first, last = (int(cell) for cell in row)
        sums.add_cell(place, chunk, rows, total, first, last)
    return sums


def strange_streams(link: WarehouseLink, database: str, table: str, session_date: int, known: list[str]) -> dict[str, int]:
    """Streams that the table has on the date and the journal has not, with their rows."""
    sql = f"SELECT stream, count() FROM {database}.{table} WHERE session_date = {{date:Date}} GROUP BY stream ORDER BY stream"  # noqa: S608 - names are ours
    found = {row[0]: int(row[1]) for row in link.query(sql, date=date_text(session_date))}
    return {stream: rows for stream, rows in found.items() if stream not in known}


class TableSearch:
    """Finds the keys that differ, in one pass over the journal for all tables; memory is bounded by one range of seqs a table."""

    def __init__(
        self, settings: Settings, clock: Clock, link: WarehouseLink, quarantine: Quarantine, stream: str, session_date: int
    ) -> None:
        self._settings, self._link, self._quarantine = settings, link, quarantine
        self._rows = Projection(settings, clock, stream, session_date)
        self._size = settings.reconcile.chunk_seqs
        self._found: dict[str, KeyDifferences] = {}
        self._waiting: dict[tuple[str, int], list[Rows]] = {}

    def run(self, chunks: dict[str, list[int]]) -> dict[str, KeyDifferences]:
        """`chunks`: table → ranges whose sums differ."""
        self._found = {table: KeyDifferences() for table in chunks}
        self._waiting = {(table, chunk): [] for table, numbers in chunks.items() for chunk in numbers}
        texts = TextWords()
        for step in self._rows:
            for found in step.batches:
                if found.table not in chunks:
                    continue
                batch = self._quarantine.without_held(found)
                chunk = np.minimum(np.asarray(batch.columns["seq"], np.uint64) // np.uint64(self._size), CHUNKS_MAX - 1)
                wanted = np.isin(chunk, chunks[batch.table])
                if wanted.any():
                    keys, hashes = keys_of(batch), row_hashes(batch, texts)
                    for number in np.unique(chunk[wanted]).tolist():
                        pick = chunk == number
                        self._waiting[batch.table, int(number)].append(Rows(keys[pick], hashes[pick]))
            # later rows have this seq or a greater one
            self._look(step.seq // self._size)
        self._look(CHUNKS_MAX)
        return self._found

    def _look(self, before: int) -> None:
        """Compare the ranges that the journal has left behind."""
        for table, chunk in [key for key in self._waiting if key[1] < before]:
            mine = joined(self._waiting.pop((table, chunk)))
            difference = compare(mine, self._stored(table, chunk), self._settings.reconcile.keys)
            self._found[table].add(difference, self._settings.reconcile.keys)

    def _stored(self, table: str, chunk: int) -> Rows:
        ordinal = "ordinal" if any(name == "ordinal" for name, _ in LAYOUTS[table].columns) else "toUInt32(0)"
        end = f"AND seq < {(chunk + 1) * self._size}" if chunk + 1 < CHUNKS_MAX else ""
        sql = (
            f"SELECT groupArray(bitOr(bitShiftLeft(seq, {ORDINAL_BITS}), toUInt64({ordinal}))), groupArray({row_hash_sql(table)})"  # noqa: S608 - names are ours
            f" FROM {self._settings.clickhouse.database}.{table} WHERE {WHERE} AND seq >= {chunk * self._size} {end}"
        )
        row = self._link.query(sql, stream=self._rows.stream, date=date_text(self._rows.session_date))[0]
        return Rows(*(np.array(json.loads(cell), np.uint64) for cell in row))

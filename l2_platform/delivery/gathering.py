"""When a follower reads, and when what it read goes to its sink: the more comes, the sooner and the more often.

A write costs about the same for one row as for a thousand, so rows gather for `flush_ms` while it is quiet; once `flush_lines` wait
they go, but never sooner than `flush_ms_min` after the write before, nor sooner than that write took: a sink that is slow gets
fewer, larger writes. What does not belong here: reading, writing.
"""

from typing import Any, Final

import numpy as np

from l2_platform.market.events import TableBatch
from l2_platform.settings import DeliverySettings

MS: Final = 1_000_000


class Gathering:
    """Rows of one stream between the journal and the sink; `now` is monotonic ns everywhere."""

    def __init__(self, settings: DeliverySettings) -> None:
        self._flush_ns = int(settings.flush_ms * MS)
        self._flush_ns_min = int(min(settings.flush_ms_min, settings.flush_ms) * MS)
        self._flush_lines = settings.flush_lines
        self._step_bytes = settings.step_bytes
        self._rows_max = settings.batch_rows_max
        self._tables: list[TableBatch] = []
        self._rows = 0
        self._lines = 0
        self._reads = 0
        self._since: int | None = None
        """Since when the oldest byte waits, in the journal or here."""
        self._began = 0
        self._ready_at = 0

    @property
    def waits(self) -> bool:
        """Something was read that the sink was not given yet (perhaps no rows: then only the position moves)."""
        return self._reads > 0

    @property
    def is_full(self) -> bool:
        """So many rows wait that no more are read before they went."""
        return self._rows >= self._rows_max

    def wants(self, waiting: int | None, now: int) -> bool:
        """Whether to read now; `waiting` is what the journal holds, bytes (None: more than it tells)."""
        if self.is_full:
            return False
        if waiting is None:
            return True
        if waiting == 0:
            return False
        if self._since is None:
            self._since = now
        return waiting >= self._step_bytes or now - self._since >= self._flush_ns

    def add(self, batches: list[TableBatch], lines: int, now: int) -> None:
        """Rows of one read of `lines` lines."""
        self._tables += batches
        self._rows += max((len(batch) for batch in batches), default=0)
        self._lines += lines
        self._reads += 1
        if self._since is None:
            self._since = now

    def is_due(self, now: int) -> bool:
        """Whether what waits should go now."""
        if not self._reads or self._since is None:
            return False
        if now - self._since >= self._flush_ns or self.is_full:
            return True
        return self._lines >= self._flush_lines and now >= self._ready_at

    def take(self, now: int) -> list[TableBatch]:
        """Everything that waits, one batch a table; the write of it begins."""
        batches = merge(self._tables)
        self.forget()
        self._began = now
        return batches

    def written(self, now: int) -> None:
        """The write ended well."""
        self._ready_at = max(self._began + self._flush_ns_min, now + min(now - self._began, self._flush_ns))

    def forget(self) -> None:
        """Drop what waits: it is read again."""
        self._tables, self._rows, self._lines, self._reads, self._since = [], 0, 0, 0, None


def merge(tables: list[TableBatch]) -> list[TableBatch]:
    """One batch a table, rows in their order: several reads become one insert."""
    groups: dict[str, list[TableBatch]] = {}
    for table in tables:
        groups.setdefault(table.table, []).append(table)
    return [group[0] if len(group) == 1 else _concatenate(group) for group in groups.values()]


def _concatenate(group: list[TableBatch]) -> TableBatch:
    first = group[0]
    columns: dict[str, Any] = {}
    for name, column in first.columns.items():
        parts = [table.columns[name] for table in group]
        columns[name] = [value for part in parts for value in part] if isinstance(column, list) else np.concatenate(parts)
    return TableBatch(first.table, first.stream, first.session_date, first.source, first.symbols, columns)

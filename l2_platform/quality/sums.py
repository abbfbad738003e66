"""Sums of rows by minute and by range of seqs: what stores are compared by, in a few kilobytes a date, whatever its size.

What does not belong here: the hash of a row (canonical), where rows come from.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import numpy as np

from l2_platform.market.compiled import Number, kernel
from l2_platform.market.events import NULL_TS, Int64, UInt64

MINUTE_NS: Final = 60_000_000_000
_DAY_MINUTES: Final = 1440
CHUNKS_MAX: Final = 1 << 17
"""Ranges of seqs that are told apart; the last one has no end, so that a wrong seq takes no memory."""
MINUTES: Final = 5 * _DAY_MINUTES
"""Minutes that are told apart: from two days before the session date; one further place holds all times outside."""


def base_ns(session_date: int) -> int:
    """Where the minutes of a session date begin, ns UTC."""
    day = datetime(session_date // 10_000, session_date // 100 % 100, session_date % 100, tzinfo=UTC)
    return (int(day.timestamp()) - 2 * 86_400) * 10**9


def minute_text(session_date: int, minute: int) -> str:
    """`2025-07-25 14:03`, UTC; `another day` for the times outside."""
    if minute >= MINUTES:
        return "another day"
    return f"{datetime.fromtimestamp(base_ns(session_date) // 10**9 + 60 * minute, UTC):%Y-%m-%d %H:%M}"


@kernel
def times_of(ts_event: Int64, ts_recv: Int64, out: Int64) -> None:
    """The time that a row counts at: the venue's, or that of receipt where it gave none."""
    for row in range(len(out)):
        out[row] = ts_recv[row] if ts_event[row] == NULL_TS else ts_event[row]


@kernel
def add_rows(
    minutes: UInt64, chunks: UInt64, seq: UInt64, times: Int64, hashes: UInt64, base: int, chunk_seqs: int
) -> None:
    """Add rows to both tables, whose two columns are count and wrapping sum of hashes."""
    last = len(minutes) - 1
    for row in range(len(seq)):
        place = last
        time = times[row]
        if time >= base:
            minute = (time - base) // MINUTE_NS
            if minute < last:
                place = minute
        minutes[place, 0] += np.uint64(1)
        minutes[place, 1] += hashes[row]
        chunk: Number = min(np.int64(seq[row] // np.uint64(chunk_seqs)), CHUNKS_MAX - 1)
        chunks[chunk, 0] += np.uint64(1)
        chunks[chunk, 1] += hashes[row]


def _minutes() -> UInt64:
    return np.zeros((MINUTES + 1, 2), np.uint64)


def _chunks() -> UInt64:
    return np.zeros((64, 2), np.uint64)


@dataclass(slots=True)
class Sums:
    """Rows of one table in one store."""

    session_date: int
    chunk_seqs: int
    """Seqs of one range."""
    rows: int = 0
    seq_first: int = 0
    seq_last: int = 0
    minutes: UInt64 = field(default_factory=_minutes)
    chunks: UInt64 = field(default_factory=_chunks)

    def add(self, seq: UInt64, times: Int64, hashes: UInt64) -> None:
        """Add rows."""
        if not len(seq):
            return
        least, greatest = int(seq.min()), int(seq.max())
        self._reach(greatest, least, len(seq))
        add_rows(self.minutes, self.chunks, seq, times, hashes, base_ns(self.session_date), self.chunk_seqs)

    def add_cell(self, minute: int, chunk: int, rows: int, total: int, seq_first: int, seq_last: int) -> None:
        """Add what another one summed up."""
        self._reach(seq_last, seq_first, rows)
        for table, place in ((self.minutes, minute), (self.chunks, chunk)):
            table[place, 0] += np.uint64(rows)
            # one element wraps as the kernel does; numpy warns of a scalar that does
            table[place : place + 1, 1] += np.uint64(total)

    def _reach(self, greatest: int, least: int, rows: int) -> None:
        self.seq_first = min(self.seq_first, least) if self.rows else least
        self.seq_last = max(self.seq_last, greatest)
        self.rows += rows
        while min(greatest // self.chunk_seqs, CHUNKS_MAX - 1) >= len(self.chunks):
            self.chunks = np.concatenate((self.chunks, np.zeros_like(self.chunks)))

    def differing_minutes(self, other: "Sums") -> list[int]:
        """Minutes whose count or sum differs."""
        return np.flatnonzero((self.minutes != other.minutes).any(axis=1)).tolist()

    def differing_chunks(self, other: "Sums") -> list[int]:
        """Ranges of seqs whose count or sum differs."""
        size = max(len(self.chunks), len(other.chunks))
        mine, theirs = (np.concatenate((one.chunks, np.zeros((size - len(one.chunks), 2), np.uint64))) for one in (self, other))
        return np.flatnonzero((mine != theirs).any(axis=1)).tolist()


def minute_sql(session_date: int, time_column: str = "ts_event") -> str:
    """The place of a row's minute, as an expression over a table."""
    base = base_ns(session_date)
    time = f"toUnixTimestamp64Nano(ifNull({time_column}, ts_recv))"
    return f"if({time} >= {base} AND {time} < {base + MINUTES * MINUTE_NS}, intDiv({time} - {base}, {MINUTE_NS}), {MINUTES})"

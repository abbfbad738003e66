"""Journals for tests of the delivery: written by the real writer, on a disk that never syncs, with times that only count up."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from l2_platform.clock import SystemClock
from l2_platform.delivery.pipeline import Pipeline
from l2_platform.journal.reader import JournalReader
from l2_platform.journal.syscalls import Syscalls
from l2_platform.journal.writer import JournalWriter
from l2_platform.market.events import TableBatch
from l2_platform.settings import JournalSettings

DATE = 20240102
T0 = 1_704_204_000_000_000_000
"""2024-01-02 09:00 New York, ns."""
MS = 1_000_000


class NoSync(Syscalls):
    """A disk that is always in time."""

    def fdatasync(self, fd: int) -> None:
        pass

    def fsync(self, fd: int) -> None:
        pass


class LiveJournal:
    """A live stream being recorded; each frame 10 ms after the one before."""

    def __init__(self, home: Path, stream: str, session_date: int = DATE) -> None:
        self.root = home / "journal"
        self.durable = home / "durable"
        self.stream = stream
        self.ts = T0
        self.writer = JournalWriter(
            self.root, stream, JournalSettings(), SystemClock(), calendar="always_open", durable_path=self.durable, calls=NoSync()
        )
        self.writer.open(session_date)

    def tick(self) -> int:
        self.ts += 10 * MS
        return self.ts

    def lines(self, *lines: str | bytes) -> int:
        """One frame; the seq of its last line."""
        data = b"".join((line.encode("latin-1") if isinstance(line, str) else line) + b"\r\n" for line in lines)
        return self.writer.append(data, len(lines), self.tick(), 1) + len(lines) - 1

    def fragment(self, data: bytes, flags: int) -> int:
        return self.writer.append(data, 1, self.tick(), 1, flags)

    def control(self, event: str, **fields: Any) -> None:
        self.writer.control(event, self.tick(), 1, **fields)

    def started(self, session_date: int = DATE) -> None:
        self.control("session", session_date=session_date, reset=True)
        self.control("collector_start", pid=1, clean=True, last_ts=None, lost_tail_bytes=0)
        self.control("connect", host="127.0.0.1", port=1, attempt=1)
        self.control("subscribed", symbols=2)

    def roll(self, session_date: int) -> None:
        self.writer.roll(session_date)
        self.control("session", session_date=session_date, reset=True)

    def close(self) -> None:
        self.writer.close()

    def reader(self, session_date: int = DATE, **options: Any) -> JournalReader:
        return JournalReader(self.root, self.stream, session_date, durable_path=self.durable, **options)


def pipeline_for(stream: str, **options: Any) -> Pipeline:
    return Pipeline(stream, **({"levels": 3, "interval_ms": 15} | options))


Rows = dict[str, list[tuple[Any, ...]]]


def add_rows(rows: Rows, batches: list[TableBatch]) -> None:
    """Rows of batches as plain tuples by table, symbols by name."""
    for batch in batches:
        columns = []
        for name, column in sorted(batch.columns.items()):
            values = column if isinstance(column, list) else column.tolist()
            if name == "symbol":
                values = ["" if number < 0 else batch.symbols[number] for number in values]
            columns.append([(name, tuple(value) if isinstance(value, list) else value) for value in values])
        rows.setdefault(batch.table, []).extend(zip(*columns, strict=True))


def rows_of(make: Callable[[], Pipeline], journal: LiveJournal, max_bytes: int, session_date: int = DATE) -> Rows:
    """All rows of a date, read in cuts of about `max_bytes`."""
    rows: Rows = {}
    pipeline = make()
    pipeline.begin_date(session_date, None)
    reader = journal.reader(session_date)
    while items := reader.read(max_bytes):
        add_rows(rows, pipeline.process(items, 0))
    return rows

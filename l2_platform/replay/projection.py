"""The rows that the journal of one stream and session date yields, read by read: the code of the live delivery, in memory.

What does not belong here: where the rows go (filling, files, comparisons).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from l2_platform.clock import Clock
from l2_platform.journal.frame import Position
from l2_platform.journal.reader import Damage, JournalReader
from l2_platform.market.events import TableBatch
from l2_platform.replay.filling import GAPS, durable_path_of, pipeline_at
from l2_platform.settings import Settings


class Step(NamedTuple):
    """One read."""

    batches: list[TableBatch]
    """At most one a market table, in seq order."""
    position: Position
    """Behind the read."""
    seq: int
    """Last seq of the read."""
    lines: int
    """Lines of the read."""


@dataclass(slots=True)
class Projection:
    """Reads a date once per iteration; memory is bounded by one read."""

    settings: Settings
    clock: Clock
    stream: str
    session_date: int
    damaged: int = 0
    """Ranges that could not be read, of the last iteration."""
    seq: int = 0
    """Last seq, of the last iteration."""

    def __iter__(self) -> Iterator[Step]:
        """From the begin of the date to the durable end of the journal."""
        bounds = self.settings.delivery
        self.damaged = self.seq = 0
        pipeline = pipeline_at(self.settings, self.stream, self.session_date)
        durable = durable_path_of(self.settings, self.stream, self.session_date)
        reader = JournalReader(self.settings.journal_dir, self.stream, self.session_date, durable_path=durable)
        try:
            while items := reader.read(bounds.read_bytes_max, bounds.read_lines_max):
                before = pipeline.lines
                self.damaged += sum(isinstance(item, Damage) for item in items)
                batches = [batch for batch in pipeline.process(items, 0) if batch.table != GAPS]
                self.seq = pipeline.seq
                yield Step(batches, reader.position, pipeline.seq, pipeline.lines - before)
        finally:
            reader.close()

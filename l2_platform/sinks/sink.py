"""What every sink promises to the delivery: told how far it got, given the rest, exactly once.

The sink itself is asked how far it got (`resume`), never a file beside it. A sink knows tables and their rows; it knows nothing of
feeds, books or checkpoints. Failures are `SinkUnavailable` (try again), `SinkBackpressure` (try again after a time) and
`SinkRejected` (these rows never). After a failure the same call may be made again: rows that are stored already are skipped.
"""

from dataclasses import dataclass, field
from typing import Protocol

from l2_platform.journal.frame import Position
from l2_platform.market.events import TableBatch


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """How far a sink got with one stream and session date; the default is a sink that has nothing of it."""

    seq: int = 0
    """Every row of every seq up to here is stored, in all tables."""
    tables: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Per table the greatest (seq, ordinal) stored (ordinal 0 but for feed_events); rows at or below it must not be sent again."""
    position: Position | None = None
    """Journal position after `seq`; None when the sink does not know one."""


class Sink(Protocol):
    """A place that takes rows. One thread calls it; all rows of one `write` belong to one (stream, session date)."""

    name: str
    """`clickhouse`, `jsonl`: the folder of its checkpoints."""

    def open(self) -> None:
        """Connect or take possession; raise SinkUnavailable when that is not possible now."""
        ...

    def resume(self, stream: str, session_date: int) -> ResumePoint:
        """Make whole what an earlier process left half done, and tell how far the stream and date (YYYYMMDD) got."""
        ...

    def write(self, batches: list[TableBatch], position: Position, seq: int) -> None:
        """Store the rows; after it everything up to `seq` (journal `position`) is stored in the sink's own terms of durability.

        The first batch names the stream and date; it may hold no rows, then only the position moves. Rows are in seq order per
        batch, and greater than those of the write before. Raises SinkUnavailable, SinkBackpressure or SinkRejected; after the
        first two the same call may be repeated, unless the error's facts hold `resume=True`: then `resume` must be asked first.
        """
        ...

    def sync(self) -> None:
        """Make all that was written durable (power loss), and the position with it."""
        ...

    def close_stream(self, stream: str, session_date: int) -> None:
        """The date is finished: sync, and let go of what is kept open for it."""
        ...

    def close(self) -> None:
        """Sync and let go of everything; the sink can be opened again."""
        ...

"""What is stored, segment by segment, for people."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from l2_platform.errors import JournalCorrupt
from l2_platform.journal.durable import read_durable
from l2_platform.journal.frame import Position
from l2_platform.journal.layout import SegmentFile, date_folder, list_segments, source_of
from l2_platform.journal.reader import Block, Control, JournalReader
from l2_platform.journal.sealed import read_footer

READ_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """One segment."""

    stream: str
    session_date: int
    segment: int
    state: str
    """open, closed or sealed; damaged when its footer or a frame cannot be read."""
    bytes: int
    """On the disk."""
    raw_bytes: int
    first_seq: int
    """0 when it has no line."""
    last_seq: int
    first_ts: int | None
    last_ts: int | None

    def as_dict(self) -> dict[str, Any]:
        """For a table; times as text."""
        times = {"first_ts": _optional(self.first_ts), "last_ts": _optional(self.last_ts)}
        return asdict(self) | times


def utc_text(ts: int) -> str:
    """ISO time in UTC with nanoseconds, from ns since the epoch."""
    seconds, rest = divmod(ts, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def inventory(root: Path, stream: str, dates: Iterable[int], durable_path: Path) -> Iterator[SegmentRow]:
    """Every segment of these dates, in order. Raw segments are read, sealed ones say it in their footer."""
    durable = read_durable(durable_path) if source_of(stream) == "live" else None
    for session_date in dates:
        for file in list_segments(date_folder(root, stream, session_date)):
            if file.raw is None:
                yield _sealed_row(stream, session_date, file)
            else:
                grows = durable is not None and not durable.closed and durable.position[:2] == (session_date, file.number)
                yield _raw_row(root, stream, session_date, file, "open" if grows else "closed")


def _sealed_row(stream: str, session_date: int, file: SegmentFile) -> SegmentRow:
    size = file.path.stat().st_size
    try:
        footer = read_footer(file.path)
    except JournalCorrupt:
        return SegmentRow(stream, session_date, file.number, "damaged", size, 0, 0, 0, None, None)
    lines = (footer.first_seq, footer.last_seq) if footer.first_seq <= footer.last_seq else (0, 0)
    return SegmentRow(
        stream, session_date, file.number, "sealed", size, footer.raw_bytes, *lines, footer.first_ts, footer.last_ts
    )


def _raw_row(root: Path, stream: str, session_date: int, file: SegmentFile, state: str) -> SegmentRow:
    reader = JournalReader(root, stream, session_date, start=Position(session_date, file.number, 0))
    first_seq = last_seq = 0
    first_ts: int | None = None
    last_ts: int | None = None
    while reader.position.segment <= file.number and (items := reader.read(READ_BYTES)):
        for item in items:
            if item_segment(item) > file.number:
                break
            if isinstance(item, Block):
                first_seq = first_seq or int(item.frame_seq[0])
                last_seq = int(item.frame_seq[-1]) + int(item.frame_count[-1]) - 1
                first_ts = int(item.frame_ts[0]) if first_ts is None else first_ts
                last_ts = int(item.frame_ts[-1])
            elif isinstance(item, Control):
                first_ts = item.ts_recv if first_ts is None else first_ts
                last_ts = item.ts_recv
            elif state != "open":
                state = "damaged"
    size = file.path.stat().st_size
    return SegmentRow(stream, session_date, file.number, state, size, size, first_seq, last_seq, first_ts, last_ts)


def item_segment(item: Any) -> int:
    """The segment that an item of a reader begins in."""
    return int(item.position_from.segment if hasattr(item, "position_from") else item.position.segment)


def _optional(ts: int | None) -> str:
    return "" if ts is None else utc_text(ts)

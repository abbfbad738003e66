"""How assets look at the journal: what each stream has of a session date, from names, headers and positions, never from the data."""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from l2_platform.journal.durable import Durable, read_durable
from l2_platform.journal.frame import SegmentHeader, decode_segment_header, frames_from
from l2_platform.journal.layout import SegmentFile, date_folder, list_segments, list_streams, source_of
from l2_platform.journal.sealed import read_footer
from l2_platform.settings import Settings


@dataclass(frozen=True, slots=True)
class StreamDay:
    """One stream on one session date."""

    stream: str
    source: str
    segments: int
    sealed: int
    bytes_on_disk: int
    seq_last: int
    """Lines received: seq counts from 1 and leaves none out."""
    first_ns: int
    """When the first segment was begun (sealed: its first bytes), ns; 0 when it has none."""
    last_ns: int
    """When the last bytes came, ns; 0 when there are none."""
    closed: bool
    """No more lines will come for this date."""


def survey_day(journal_dir: Path, durable_dir: Path, session_date: int) -> list[StreamDay]:
    """Every stream that has the date (YYYYMMDD), by name; JournalCorrupt when a header is damaged."""
    days = (_survey_stream(journal_dir, durable_dir, stream, session_date) for stream in list_streams(journal_dir))
    return [day for day in days if day is not None]


def _survey_stream(journal_dir: Path, durable_dir: Path, stream: str, session_date: int) -> StreamDay | None:
    segments = list_segments(date_folder(journal_dir, stream, session_date))
    if not segments:
        return None
    durable = read_durable(durable_dir / stream)
    source = source_of(stream)
    if durable is not None and durable.position.session_date == session_date:
        seq_last, last_ns = durable.seq, durable.ts_recv
    else:
        seq_last, last_ns = _end_of(segments[-1])
    return StreamDay(
        stream=stream, source=source, segments=len(segments), sealed=sum(segment.raw is None for segment in segments),
        bytes_on_disk=sum(segment.path.stat().st_size for segment in segments), seq_last=seq_last,
        first_ns=_begin_of(segments[0]), last_ns=last_ns, closed=source != "live" or not _may_grow(durable, session_date),
    )  # fmt: skip


def _may_grow(durable: Durable | None, session_date: int) -> bool:
    return durable is not None and durable.position.session_date <= session_date


def _begin_of(segment: SegmentFile) -> int:
    """Time of its first bytes when it is sealed, else when it was begun, ns; 0 = none."""
    if segment.raw is None:
        return read_footer(segment.path).first_ts or 0
    with _mapped(segment.raw) as view:
        return _header(view, segment.raw)[0].created_ns


def _end_of(segment: SegmentFile) -> tuple[int, int]:
    """Last seq and time (ns, 0 = none) of a segment that no writer publishes a position for; walks its frames when it is raw."""
    if segment.raw is None:
        footer = read_footer(segment.path)
        return footer.last_seq, footer.last_ts or 0
    with _mapped(segment.raw) as view:
        header, offset = _header(view, segment.raw)
        seq, ts = header.last_seq, header.last_ts or 0
        for frame in frames_from(view, offset, len(view)):
            seq, ts = frame.seq_last, frame.ts_recv
        return seq, ts


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    """The bytes of a file; of one without any, too, which cannot be mapped."""
    if not path.stat().st_size:
        yield memoryview(b"")
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data, memoryview(data) as view:
        yield view


def _header(view: memoryview, path: Path) -> tuple[SegmentHeader, int]:
    return decode_segment_header(view, str(path))


class JournalResource(dg.ConfigurableResource[list[StreamDay]]):
    """Paths of the journal, and what is in them."""

    settings: dg.ResourceDependency[Settings]

    def survey(self, session_date: int) -> list[StreamDay]:
        """Every stream that has the date (YYYYMMDD)."""
        return survey_day(self.settings.journal_dir, self.settings.run_dir / "durable", session_date)

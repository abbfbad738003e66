"""Reads a session date of a stream in order: blocks of data frames, control frames, and what is damaged in between.

Raw and sealed segments read alike, by position. A live stream is read up to its durable position. Every frame's CRC is checked and
line numbers must follow each other; what does not fit is skipped and reported as `Damage`, never raised.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from crc32c import crc32c

from l2_platform.errors import JournalCorrupt
from l2_platform.journal.durable import Durable, read_durable
from l2_platform.journal.frame import (
    FRAME,
    FRAME_BYTES,
    FRAME_MAGIC,
    FRAME_MAGIC_BYTES,
    PAYLOAD_BYTES_MAX,
    Frame,
    FrameKind,
    Position,
    Previous,
    frame_at,
)
from l2_platform.journal.headers import end_of_date, header_of, segment_context, segment_header
from l2_platform.journal.items import Block, Control, Damage, Item
from l2_platform.journal.layout import SegmentFile, date_folder, list_dates, list_segments, list_streams, source_of
from l2_platform.journal.order import in_place
from l2_platform.journal.source import SegmentSource, open_source

__all__ = [
    "Block", "Control", "Damage", "Durable", "Item", "JournalReader", "list_dates", "list_streams", "read_durable",
    "segment_context", "segment_header", "source_of",
]  # fmt: skip

CHUNK_BYTES: Final = 1 << 20
_FRAME_DTYPE = np.dtype(
    [
        ("crc", "<u4"), ("magic", "<u4"), ("kind", "u1"), ("flags", "u1"), ("zero", "<u2"), ("conn", "<u4"),
        ("count", "<u4"), ("ts", "<i8"), ("seq", "<u8"), ("length", "<u4"),
    ]
)  # fmt: skip


class JournalReader:
    """Reads one session date from a position on; see the module. Call `close` or let it go."""

    def __init__(
        self, root: Path, stream: str, session_date: int, *, start: Position | None = None, seq: int | None = None,
        durable_path: Path | None = None,
    ) -> None:  # fmt: skip
        """From `start` on; `seq` is the last line before it, when known: lines that are missing right there are then told, too."""
        self._root = root
        self._stream = stream
        self._folder = date_folder(root, stream, session_date)
        self._date = session_date
        self._durable_path = durable_path
        self._number = start.segment - 1 if start is not None and start.segment > 0 else 0
        self._start_offset = start.offset if start is not None else 0
        self._offset = self._start_offset
        self._source: SegmentSource | None = None
        self._begin = 0
        """Offset of the first frame of the segment."""
        self._seq: int | None = 0 if self._number == 0 and self._offset == 0 else seq
        self._sparse = False
        self._judged_to = 0
        self._in_place: set[int] = set()
        """Where line numbers jump: the frames before `_judged_to` that are where they belong."""
        self._closed_end: int | None = None
        """Where the segment ends, once it cannot grow any more."""
        self._expected_end = 0
        self._date_end: Previous | None = None
        """Where the date ends, once its last segment is read."""
        self._finished = False
        self._position = start or Position(session_date, 0, 0)
        self._heads: list[memoryview] = []
        self._payloads: list[memoryview] = []

    @property
    def position(self) -> Position:
        """Everything before this was returned."""
        return self._position

    @property
    def finished(self) -> bool:
        """The date is closed and everything was read."""
        return self._finished

    def waiting(self) -> int | None:
        """Bytes that can be read now; None when that is not told cheaply (another segment follows, none is open): read."""
        if self._source is None or self._closed_end is not None:
            return None
        limit = self._limit()
        return None if self._closed_end is not None else max(0, limit - self._offset)

    def close(self) -> None:
        """Give the file back; reading on opens it again."""
        if self._source is not None:
            self._source.close()
            self._source = None
            self._number -= 1
            self._start_offset = self._offset

    def __del__(self) -> None:
        if self._source is not None:
            self._source.close()

    def read(self, max_bytes: int, max_lines: int | None = None) -> list[Item]:
        """About `max_bytes` of journal (at least one frame) in order; [] when nothing more is durable now or the date is finished.

        It ends after the piece (CHUNK_BYTES at most) that brings the `max_lines`-th line.
        """
        items: list[Item] = []
        left = max_bytes
        first = self._seq
        while left > 0 and not self._finished:
            self._open_again_if_replaced()
            if self._source is None and not self._open_next(items):
                break
            limit = self._limit()
            if self._offset < limit:
                before = self._offset
                self._read_frames(min(max(left, 1), CHUNK_BYTES), limit, items)
                left -= self._offset - before
                first = self._seq if first is None else first
                if max_lines is not None and self._seq is not None and first is not None and self._seq - first >= max_lines:
                    break
            elif self._closed_end is None:
                break
            else:
                self._leave(items)
        self._flush(items)
        return items

    # ── segments ──

    def _open_next(self, items: list[Item]) -> bool:
        """Open the next segment of the date; False when there is none (yet)."""
        for _ in range(10):
            file = next((file for file in list_segments(self._folder) if file.number > self._number), None)
            if file is None:
                self._finished = self._date_is_closed()
                return False
            try:
                self._source = open_source(file.path)
            except FileNotFoundError:
                continue  # sealed this moment: its other name is there now
            break
        if self._source is None or file is None:
            return False
        wanted = self._start_offset if file.number == self._number + 1 else 0
        self._number, self._start_offset = file.number, 0
        self._closed_end = None
        self._expected_end = 0
        self._judged_to = 0
        self._begin_segment(file, wanted, items)
        return True

    def _open_again_if_replaced(self) -> None:
        """A segment that was named, taken back (its folder could not be synced) and made again is another file."""
        if self._source is None or self._offset > self._begin or not self._source.unlinked():
            return
        if any(file.number == self._number for file in list_segments(self._folder)):
            self._source.close()
            self._source = None
            self._number -= 1

    def _begin_segment(self, file: SegmentFile, wanted: int, items: list[Item]) -> None:
        assert self._source is not None
        self._offset = wanted
        try:
            header, self._begin = header_of(self._source, file.path.name)
        except JournalCorrupt:
            # Offset 0 is no frame: the search for the next valid one names the damage.
            self._begin = 0
            self._position = Position(self._date, self._number, self._offset)
            return
        self._sparse = header.sparse
        if wanted < self._begin:
            self._offset = self._begin
            if self._seq is not None and header.last_seq > self._seq and not header.sparse:
                self._flush(items)
                here = Position(self._date, self._number, self._begin)
                items.append(_missing(here, here, self._seq + 1, header.last_seq, "before this segment"))
            self._seq = header.last_seq if self._seq is None else max(self._seq, header.last_seq)
        self._position = Position(self._date, self._number, self._offset)

    def _leave(self, items: list[Item]) -> None:
        """The segment is read to its end."""
        assert self._source is not None
        assert self._closed_end is not None
        self._flush(items)
        if self._expected_end > max(self._closed_end, self._offset):
            # Behind what was read: a reader that began further on misses nothing of a segment that was cut later.
            read_to = max(self._closed_end, self._offset)
            begin, end = (Position(self._date, self._number, at) for at in (read_to, self._expected_end))
            items.append(Damage(begin, end, f"the segment was cut at {self._closed_end} of {self._expected_end} bytes"))
        if self._date_end is not None:
            self._end_date(self._date_end, items)
        self._source.close()
        self._source = None
        self._open_next(items)

    def _end_date(self, last: Previous, items: list[Item]) -> None:
        """Behind the last segment there is: lines that the date had and that are nowhere."""
        self._date_end = None
        if self._seq is None or self._sparse or last.last_seq <= self._seq:
            return
        here = Position(self._date, self._number, self._offset)
        items.append(_missing(here, here, self._seq + 1, last.last_seq, "at the end of the date"))
        self._seq = last.last_seq

    def _limit(self) -> int:
        """How far the segment may be read now; sets `_closed_end` when that is final."""
        assert self._source is not None
        if self._closed_end is not None:
            return self._closed_end
        size = self._source.size()
        durable = read_durable(self._durable_path) if self._durable_path is not None else None
        if durable is not None and durable.position[:2] == (self._date, self._number) and not self._source.sealed:
            return min(size, durable.position.offset)
        later = next((file for file in list_segments(self._folder) if file.number > self._number), None)
        if later is None and not self._source.sealed and not self._date_is_closed():
            return 0
        size = self._source.size()
        self._closed_end = size
        if later is not None:
            self._learn_end(later, size)
        else:
            self._learn_end_of_date()
        return self._closed_end

    def _learn_end(self, later: SegmentFile, size: int) -> None:
        """The next segment's header says where this one ended."""
        header = segment_header(later)
        if header is None:
            return
        if header.supersedes is not None and header.supersedes[0] == self._number:
            self._closed_end = min(size, header.supersedes[1])
        previous = header.previous
        if previous is not None and (previous.session_date, previous.segment) == (self._date, self._number):
            self._expected_end = previous.end

    def _learn_end_of_date(self) -> None:
        try:
            self._date_end = end_of_date(self._root, self._stream, self._date)
        except JournalCorrupt:
            return  # `verify` tells it; the frames are as good as they are
        if self._date_end is not None and self._date_end.segment == self._number:
            self._expected_end = self._date_end.end

    def _date_is_closed(self) -> bool:
        if self._durable_path is None:
            return True
        durable = read_durable(self._durable_path)
        return durable is not None and durable.position.session_date > self._date

    # ── frames ──

    def _read_frames(self, want: int, limit: int, items: list[Item]) -> None:
        """Take the whole frames of the next `want` bytes; step over damage when the first is not one."""
        assert self._source is not None
        data = self._source.read(self._offset, min(max(want, FRAME_BYTES), limit - self._offset))
        if not self._take(data, items):
            whole = self._whole_frame(self._offset, limit)
            if whole is None or not self._take(whole, items):
                self._step_over(limit, items)

    def _take(self, data: bytes, items: list[Item]) -> int:
        """Take the valid frames at the start of `data`; their bytes."""
        view = memoryview(data)
        unpack, size, at, data_kind = FRAME.unpack_from, len(data), 0, int(FrameKind.DATA)
        heads, payloads = self._heads, self._payloads
        last, offset = self._seq, self._offset
        while at + FRAME_BYTES <= size:
            crc, magic, kind, flags, _, conn, count, ts, seq, length = unpack(data, at)
            body = at + FRAME_BYTES
            stop = body + length
            if magic != FRAME_MAGIC or stop > size or crc32c(view[at + 4 : stop]) != crc:
                break
            if kind == data_kind and last is not None and seq == last + 1:
                heads.append(view[at:body])
                payloads.append(view[body:stop])
                last = seq + count - 1
            else:
                self._offset, self._seq = offset + at, last
                frame = Frame(at, stop, kind, flags, conn, count, ts, seq)
                self._take_slowly(frame, view, offset, items)
                last = self._seq
            at = stop
        self._offset, self._seq = offset + at, last
        if at:
            self._position = Position(self._date, self._number, self._offset)
        return at

    def _take_slowly(self, frame: Frame, view: memoryview, offset: int, items: list[Item]) -> None:
        """A control frame, or one whose number is not the next."""
        begin = Position(self._date, self._number, offset + frame.start)
        end = Position(self._date, self._number, offset + frame.end)
        last = self._seq
        if last is not None and frame.seq_before > last and not self._sparse:
            self._flush(items)
            if not self._belongs_here(begin.offset, last):
                items.append(Damage(begin, end, f"frame of line {frame.seq_last} is out of place after line {last}: skipped"))
                return
            items.append(_missing(begin, begin, last + 1, frame.seq_before, "between two frames"))
        elif last is not None and frame.seq_before < last:
            self._flush(items)
            items.append(Damage(begin, end, f"frame repeats line {frame.seq_first} after line {last}: skipped"))
            return
        payload = view[frame.start + FRAME_BYTES : frame.end]
        if frame.kind == FrameKind.DATA:
            self._heads.append(view[frame.start : frame.start + FRAME_BYTES])
            self._payloads.append(payload)
        else:
            self._flush(items)
            items.append(self._control(frame, payload, end))
        self._seq = frame.seq_last

    def _control(self, frame: Frame, payload: memoryview, end: Position) -> Control | Damage:
        begin = end._replace(offset=end.offset - (frame.end - frame.start))
        if frame.kind != FrameKind.CONTROL:
            return Damage(begin, end, f"frame of unknown kind {frame.kind}")
        try:
            fields = json.loads(bytes(payload))
            event = fields.pop("event")
        except (ValueError, OverflowError, KeyError, AttributeError, TypeError, RecursionError):
            return Damage(begin, end, "control frame without an event")
        if not isinstance(event, str):
            return Damage(begin, end, "control frame without an event")
        return Control(event, fields, frame.ts_recv, frame.conn_id, frame.seq_first, end, self._date)

    def _flush(self, items: list[Item]) -> None:
        """Make a block of the frames taken so far."""
        if not self._heads:
            return
        heads = np.frombuffer(b"".join(self._heads), _FRAME_DTYPE)
        starts = np.zeros(len(heads) + 1, np.int64)
        np.cumsum(heads["length"], out=starts[1:])
        items.append(
            Block(
                np.frombuffer(b"".join(self._payloads), np.uint8), starts, heads["seq"].copy(), heads["count"].copy(),
                heads["ts"].copy(), heads["flags"].copy(), heads["conn"].copy(),
                Position(self._date, self._number, self._offset), self._date,
            )
        )  # fmt: skip
        self._heads.clear()
        self._payloads.clear()

    # ── damage ──

    def _whole_frame(self, offset: int, limit: int) -> bytes | None:
        """All bytes of the frame that seems to begin at `offset`."""
        assert self._source is not None
        head = self._source.read(offset, min(FRAME_BYTES, limit - offset))
        if len(head) < FRAME_BYTES:
            return None
        _, magic, *_, length = FRAME.unpack(head)
        if magic != FRAME_MAGIC or length > PAYLOAD_BYTES_MAX or offset + FRAME_BYTES + length > limit:
            return None
        data = self._source.read(offset, FRAME_BYTES + length)
        return data if len(data) == FRAME_BYTES + length else None

    def _step_over(self, limit: int, items: list[Item]) -> None:
        """Find the next valid frame and report what lies before it."""
        self._flush(items)
        frame = self._search(self._offset, limit)
        stop = frame.start if frame is not None else limit
        begin, end = (Position(self._date, self._number, at) for at in (self._offset, stop))
        ahead = frame is not None and self._seq is not None and frame.seq_before > self._seq and not self._sparse
        if frame is not None and ahead and self._seq is not None and not self._belongs_here(stop, self._seq):
            items.append(Damage(begin, end, f"damaged bytes {begin.offset}-{end.offset}"))
            frame = None
        elif frame is not None and ahead and self._seq is not None:
            items.append(_missing(begin, end, self._seq + 1, frame.seq_before, "in damaged bytes"))
        else:
            items.append(Damage(begin, end, f"damaged bytes {begin.offset}-{end.offset}"))
        if frame is not None:
            self._seq = frame.seq_before if self._seq is None else max(self._seq, frame.seq_before)
        self._offset, self._position = stop, end

    def _belongs_here(self, offset: int, last: int) -> bool:
        """The frame at `offset`, ahead of line `last`, is no stray: most of what follows in the segment follows it by number, too."""
        limit = self._limit()
        if offset >= self._judged_to:
            self._judged_to = limit
            self._in_place = in_place(self._frames_from(offset, limit), last)
        return offset in self._in_place

    def _frames_from(self, offset: int, limit: int) -> Iterator[Frame]:
        """Every valid frame of the segment from `offset` on, over damage."""
        assert self._source is not None
        frame = self._frame_whole(offset, limit) or self._search(offset, limit)
        while frame is not None:
            yield frame
            at = frame.end
            frame = self._frame_whole(at, limit) or self._search(at, limit)

    def _search(self, offset: int, limit: int) -> Frame | None:
        """The next valid frame behind `offset`, across damaged blocks; start and end are offsets in the segment."""
        assert self._source is not None
        at = offset
        while at < limit:
            data = self._source.read(at, min(CHUNK_BYTES, limit - at))
            if len(data) < 8:
                at = max(self._source.hole_end(at + len(data)), at + 1)
                continue
            found = data.find(FRAME_MAGIC_BYTES, 4)
            while found != -1:
                frame = self._frame_whole(at + found - 4, limit) if at + found - 4 > offset else None
                if frame is not None:
                    return frame
                found = data.find(FRAME_MAGIC_BYTES, found + 1)
            # A magic may lie across the end of what was read.
            at += len(data) - 7
        return None

    def _frame_whole(self, offset: int, limit: int) -> Frame | None:
        data = self._whole_frame(offset, limit)
        frame = frame_at(memoryview(data), 0, len(data)) if data is not None else None
        return frame._replace(start=offset, end=offset + frame.end) if frame is not None else None


def _missing(begin: Position, end: Position, first: int, last: int, where: str) -> Damage:
    return Damage(begin, end, f"lines {first}-{last} are missing, {where}", first, last)

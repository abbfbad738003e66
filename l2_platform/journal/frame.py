"""The bytes of the journal: frames, segment headers, positions. No I/O, no numpy (the collector imports this).

A segment is a header followed by frames. A frame holds whole messages exactly as received, with the time of the read, the connection
and the number of its first line; its CRC32C covers header and payload. Everything is little-endian. What does not belong here: files
(`layout.py`, `writer.py`, `reader.py`) and what the messages mean (feeds).
"""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Any, Final, NamedTuple, Protocol

from crc32c import crc32c

from l2_platform.errors import JournalCorrupt, JournalTooNew

FORMAT_VERSION: Final = 1
"""Layout of segments; readers take this and every older one."""
FRAMER_VERSION: Final = 1
"""How bytes are cut into lines and counted: lines end with LF, a fragment and an oversize line are one seq each."""

SEGMENT_MAGIC: Final = b"L2JSEG\r\n"
FRAME_MAGIC: Final = 0x46A7324C
FRAME_MAGIC_BYTES: Final = struct.pack("<I", FRAME_MAGIC)
FRAME: Final = struct.Struct("<IIBBHIIqQI")
"""crc, magic, kind, flags, 0, conn_id, count, ts_recv, seq_first, length; the CRC covers all that follows it."""
FRAME_BYTES: Final = FRAME.size
PAYLOAD_BYTES_MAX: Final = 64 << 20
"""A longer frame is damage."""

_PREFIX = struct.Struct("<8sHHIIIqI")
"""magic, format, framer, session date, segment, JSON length, created ns, CRC of all before."""
_CRC = struct.Struct("<I")
_TAIL = struct.Struct("<IBBHIIqQI")


class Position(NamedTuple):
    """A place in a stream: `offset` is the uncompressed byte offset of the next byte to read. Ordered; segments number from 1."""

    session_date: int
    segment: int
    offset: int


class FrameKind(IntEnum):
    """What a frame holds."""

    DATA = 1
    """Bytes of the feed."""
    CONTROL = 2
    """What the collector did or saw: UTF-8 JSON with an `event`."""


class FrameFlag(IntFlag):
    """Frames that hold exactly one seq and not whole lines."""

    FRAGMENT = 1
    """The rest of a line when its connection ended."""
    OVERSIZE = 2
    """A line longer than the limit, cut there."""


class Frame(NamedTuple):
    """One frame of a buffer: `start` and `end` are offsets of the whole frame in it, the payload is [start + FRAME_BYTES, end)."""

    start: int
    end: int
    kind: int
    flags: int
    conn_id: int
    lines: int
    ts_recv: int
    seq_first: int

    @property
    def seq_before(self) -> int:
        """The seq of the line before it."""
        return self.seq_first - 1 if self.kind == FrameKind.DATA else self.seq_first

    @property
    def seq_last(self) -> int:
        """The seq of its last line; of a control frame, of the line before it."""
        return self.seq_first + self.lines - 1 if self.kind == FrameKind.DATA else self.seq_first


def frame_header(
    kind: int, payload: bytes | memoryview, *, seq_first: int, count: int, ts_recv: int, conn_id: int, flags: int = 0
) -> bytes:
    """The header that goes before `payload`; `ts_recv` is ns since the epoch."""
    tail = _TAIL.pack(FRAME_MAGIC, kind, flags, 0, conn_id, count, ts_recv, seq_first, len(payload))
    return _CRC.pack(crc32c(payload, crc32c(tail))) + tail


def control_payload(event: str, fields: Mapping[str, Any]) -> bytes:
    """The payload of a control frame."""
    return json.dumps({"event": event, **fields}, separators=(",", ":"), ensure_ascii=False).encode()


class Searchable(Protocol):
    """bytes, bytearray or mmap."""

    def find(self, needle: bytes, start: int, end: int, /) -> int:
        """Offset of `needle` in [start, end), or -1."""
        ...


def frame_at(view: memoryview, offset: int, end: int) -> Frame | None:
    """The frame that begins at `offset` and ends at or before `end`, or None when its bytes do not make a valid one."""
    if offset + FRAME_BYTES > end:
        return None
    crc, magic, kind, flags, _, conn_id, count, ts_recv, seq_first, length = FRAME.unpack_from(view, offset)
    stop = offset + FRAME_BYTES + length
    if magic != FRAME_MAGIC or length > PAYLOAD_BYTES_MAX or stop > end or crc32c(view[offset + 4 : stop]) != crc:
        return None
    return Frame(offset, stop, kind, flags, conn_id, count, ts_recv, seq_first)


def frames_from(view: memoryview, offset: int, end: int) -> Iterator[Frame]:
    """Consecutive valid frames from `offset` on; stops at the first that is not whole."""
    while (frame := frame_at(view, offset, end)) is not None:
        yield frame
        offset = frame.end


def find_frame(data: Searchable, view: memoryview, offset: int, end: int) -> Frame | None:
    """The first valid frame at or after `offset`: how reading goes on behind damage."""
    at = data.find(FRAME_MAGIC_BYTES, offset + 4, end)
    while at != -1:
        frame = frame_at(view, at - 4, end)
        if frame is not None:
            return frame
        at = data.find(FRAME_MAGIC_BYTES, at + 1, end)
    return None


@dataclass(frozen=True, slots=True)
class Previous:
    """Where the segment before this one ended, in this session date or the one before it: a chain that shows missing ends."""

    session_date: int
    segment: int
    end: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says about itself; `last_seq`, `last_ts`, `clean` are the state before its first frame."""

    stream: str
    session_date: int
    segment: int
    calendar: str
    created_ns: int
    last_seq: int = 0
    last_ts: int | None = None
    clean: bool = True
    sparse: bool = False
    """Line numbers may jump (an import whose dates interleave); otherwise a jump is damage."""
    context: Mapping[str, Any] = field(default_factory=dict)
    """What a decoder must know to start here: protocol, acknowledged fields, last `T` line, watches."""
    previous: Previous | None = None
    supersedes: tuple[int, int] | None = None
    """(segment, offset): that segment ends there, what followed in it was written again here."""
    format_version: int = FORMAT_VERSION
    framer_version: int = FRAMER_VERSION

    def encode(self) -> bytes:
        """The header's bytes."""
        previous = self.previous
        body = json.dumps(
            {
                "stream": self.stream, "calendar": self.calendar, "last_seq": self.last_seq, "last_ts": self.last_ts,
                "clean": self.clean, "sparse": self.sparse, "context": dict(self.context), "supersedes": self.supersedes,
                "previous": [previous.session_date, previous.segment, previous.end, previous.last_seq] if previous else None,
            },
            separators=(",", ":"),
        ).encode()  # fmt: skip
        prefix = _PREFIX.pack(
            SEGMENT_MAGIC, self.format_version, self.framer_version, self.session_date, self.segment, len(body), self.created_ns, 0
        )[:-4]
        return prefix + _CRC.pack(crc32c(prefix)) + body + _CRC.pack(crc32c(body))


def decode_segment_header(data: bytes | memoryview, name: str) -> tuple[SegmentHeader, int]:
    """The header at the start of `data` and its length in bytes.

    JournalTooNew when a later program wrote `name`; JournalCorrupt when the bytes are not a whole, unharmed header.
    """
    if len(data) < _PREFIX.size:
        raise JournalCorrupt(f"{name}: no segment header, {len(data)} bytes", file=name)
    magic, version, framer, session_date, segment, length, created_ns, crc = _PREFIX.unpack_from(data)
    if magic != SEGMENT_MAGIC or crc32c(bytes(data[: _PREFIX.size - 4])) != crc:
        raise JournalCorrupt(f"{name}: the segment header is damaged", file=name)
    refuse_newer(version, framer, name)
    end = _PREFIX.size + length
    if len(data) < end + 4:
        raise JournalCorrupt(f"{name}: the segment header is cut", file=name)
    body = bytes(data[_PREFIX.size : end])
    if crc32c(body) != _CRC.unpack_from(data, end)[0]:
        raise JournalCorrupt(f"{name}: the segment header is damaged", file=name)
    try:
        fields = json.loads(body)
        previous, supersedes = fields.pop("previous"), fields.pop("supersedes")
        header = SegmentHeader(
            session_date=session_date, segment=segment, created_ns=created_ns, format_version=version, framer_version=framer,
            previous=Previous(*previous) if previous else None, supersedes=tuple(supersedes) if supersedes else None, **fields,
        )  # fmt: skip
        _check_types(header)
    except (ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError):
        raise JournalCorrupt(f"{name}: the segment header is not what a header holds", file=name) from None
    return header, end + 4


def _check_types(header: SegmentHeader) -> None:
    previous, supersedes = header.previous, header.supersedes
    places: list[object] = [header.last_seq, *(supersedes or (0, 0))]
    if previous is not None:
        places += [previous.session_date, previous.segment, previous.end, previous.last_seq]
    if supersedes is not None and len(supersedes) != 2:
        raise ValueError("supersedes")
    if header.last_ts is not None and not -(1 << 63) <= header.last_ts < 1 << 63:
        raise ValueError("last_ts")
    if not all(isinstance(place, int) and 0 <= place < 1 << 63 for place in places) or not isinstance(header.context, Mapping):
        raise ValueError("types")


def refuse_newer(version: int, framer: int, name: str) -> None:
    """Raise JournalTooNew when this program does not know these versions."""
    if version > FORMAT_VERSION or framer > FRAMER_VERSION:
        raise JournalTooNew(
            f"{name} has format {version}, framer {framer}; this program reads up to format {FORMAT_VERSION}, "
            f"framer {FRAMER_VERSION}: update it",
            file=name, format=version, framer=framer,
        )  # fmt: skip

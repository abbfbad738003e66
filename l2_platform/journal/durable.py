"""The durable position of a stream: 64 bytes that the writer replaces in place after every group fsync.

Readers go no further than this. The record is one write of 64 bytes with a CRC: a reader that catches a half-written one reads again.
It is a hint for speed and a limit for readers, never the truth: when it is lost, the segments are scanned.
"""

import os
import struct
from pathlib import Path
from typing import Final, NamedTuple

from crc32c import crc32c

from l2_platform.journal.frame import Position

_RECORD = struct.Struct("<4sHHIIQQqIqq")
_CRC = struct.Struct("<I")
_MAGIC: Final = b"L2DP"
_VERSION: Final = 1
_CLOSED: Final = 1
_CLEAN: Final = 2
RECORD_BYTES: Final = _RECORD.size + _CRC.size


class Durable(NamedTuple):
    """What is on disk for certain."""

    position: Position
    seq: int
    """The last durable line of the session date."""
    ts_recv: int
    """Time of the last durable frame, ns; 0 when there is none."""
    pid: int
    closed: bool
    """The writer ended in order."""
    clean: bool
    """The last durable frame is `collector_stop`."""
    published_ns: int
    segment_ns: int
    """When the segment was made, as its header says: a record that outlived its journal fits no segment."""


def pack_durable(durable: Durable) -> bytes:
    """The record's 64 bytes."""
    position = durable.position
    flags = (_CLOSED if durable.closed else 0) | (_CLEAN if durable.clean else 0)
    body = _RECORD.pack(
        _MAGIC, _VERSION, flags, position.session_date, position.segment, position.offset, durable.seq,
        durable.ts_recv, durable.pid, durable.published_ns, durable.segment_ns,
    )  # fmt: skip
    return body + _CRC.pack(crc32c(body))


def unpack_durable(data: bytes) -> Durable | None:
    """The record, or None when the bytes are not a whole one."""
    if len(data) < RECORD_BYTES or crc32c(data[: _RECORD.size]) != _CRC.unpack_from(data, _RECORD.size)[0]:
        return None
    magic, version, flags, session_date, segment, offset, seq, ts_recv, pid, published, segment_ns = _RECORD.unpack_from(data)
    if magic != _MAGIC or version > _VERSION:
        return None
    return Durable(
        Position(session_date, segment, offset), seq, ts_recv, pid,
        bool(flags & _CLOSED), bool(flags & _CLEAN), published, segment_ns,
    )  # fmt: skip


def read_durable(path: Path, attempts: int = 20) -> Durable | None:
    """The published position, or None when nothing (or nothing readable) was published."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        for _ in range(attempts):
            data = os.pread(fd, RECORD_BYTES, 0)
            record = unpack_durable(data)
            if record is not None or not data:
                return record
        return None
    finally:
        os.close(fd)

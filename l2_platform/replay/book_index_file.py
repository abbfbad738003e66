"""The file of a book index: chunks of rows by symbol, and a directory that says where what is.

```
chunk      zstd: a table of its symbols, then their streams, stream by stream                        … many
resume     the pipeline's state at the end, as in a checkpoint: building goes on from there
directory  zstd: JSON head, then units, slices, groups and chunks as tables of int64
footer     where the directory is, its CRC32C, magic
```
Every part has a CRC32C. A *unit* is a piece of the journal that one read brings; a *slice* is a part of a unit between two events that
concern every book (a reset, a gap, a clock that books wait for); a *group* is a range of units whose rows lie together by symbol, behind
the books as they were at its beginning. What does not belong here: how rows are encoded, what is read from the journal.
"""

import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import zstandard
from crc32c import crc32c

from l2_platform.delivery.checkpoint import Checkpoint
from l2_platform.delivery.pipeline import STATE_VERSION
from l2_platform.errors import BookIndexUnusable
from l2_platform.journal.frame import Position
from l2_platform.market.events import Int64

VERSION: Final = 1
MAGIC: Final = b"L2BKIX\r\n"
SUFFIX: Final = ".l2bx"
_FOOTER = struct.Struct("<QQIHH8s")
_DIRECTORY_BYTES_MAX: Final = 1 << 30
_CHUNK_BYTES_MAX: Final = 1 << 30

UNIT_COLUMNS: Final = ("time", "segment", "begin", "end", "seq", "ts", "clock", "event", "group")
"""What is known at its beginning: greatest journal time before, place, last seq, time of the last row, decoder; and its group."""
SLICE_COLUMNS: Final = ("unit", "action", "time")
"""In which unit it is; what happened to all books before its rows, and when (greatest journal time by then)."""
GROUP_COLUMNS: Final = ("slice_first", "slice_last", "chunk_first", "chunk_last")
CHUNK_COLUMNS: Final = ("symbol_first", "offset", "length", "crc")


@dataclass(frozen=True, slots=True)
class Directory:
    """What is in an index."""

    head: dict[str, Any]
    """stream, session_date, symbols, names_max, through (a position), complete, time, seq, ts, lines, resume (a blob)."""
    units: Int64
    slices: Int64
    groups: Int64
    chunks: Int64


def index_path(folder: Path, stream: str, session_date: int) -> Path:
    """Where the index of a stream's session date is."""
    return folder / stream / f"{session_date:08d}{SUFFIX}"


def encode_directory(directory: Directory) -> bytes:
    """The directory, compressed."""
    head = json.dumps(directory.head, separators=(",", ":")).encode()
    tables = [directory.units, directory.slices, directory.groups, directory.chunks]
    shapes = struct.pack("<5Q", len(head), *(len(table) for table in tables))
    # By column: numbers of one kind lie together.
    body = b"".join(np.ascontiguousarray(table.T).tobytes() for table in tables)
    return zstandard.ZstdCompressor(level=3).compress(shapes + head + body)


def encode_footer(offset: int, length: int, crc: int) -> bytes:
    """The last bytes of the file."""
    return _FOOTER.pack(offset, length, crc, VERSION, 0, MAGIC)


def decode_directory(data: bytes, name: str) -> Directory:
    """Undo `encode_directory`; BookIndexUnusable when it is damaged."""
    try:
        body = zstandard.ZstdDecompressor().decompress(data, max_output_size=_DIRECTORY_BYTES_MAX)
        head_bytes, *lengths = struct.unpack_from("<5Q", body)
        at = 40 + head_bytes
        head = json.loads(body[40:at])
        tables = []
        for columns, rows in zip((UNIT_COLUMNS, SLICE_COLUMNS, GROUP_COLUMNS, CHUNK_COLUMNS), lengths, strict=True):
            size = 8 * rows * len(columns)
            table = np.frombuffer(body[at : at + size], np.int64).reshape(len(columns), rows)
            tables.append(np.ascontiguousarray(table.T))
            at += size
        return Directory(cast("dict[str, Any]", head), *tables)
    except (zstandard.ZstdError, struct.error, ValueError, OverflowError) as error:
        raise BookIndexUnusable(f"{name} is damaged: its directory cannot be read", file=name) from error


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The pipeline's state at the end of the index."""
    head = {"position": list(checkpoint.position), "seq": checkpoint.seq}
    head["state"] = {name: value for name, value in checkpoint.state.items() if name != "books"}
    text = json.dumps(head, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + bytes(checkpoint.state["books"])


def decode_checkpoint(data: bytes, name: str) -> Checkpoint:
    """Undo `encode_checkpoint`; BookIndexUnusable when an earlier program wrote it."""
    try:
        (length,) = struct.unpack_from("<Q", data)
        head = json.loads(data[8 : 8 + length])
        state = head["state"] | {"books": data[8 + length :]}
        if state["version"] != STATE_VERSION:
            raise BookIndexUnusable(f"{name} ends with a state of another version", file=name)
        return Checkpoint(Position(*head["position"]), int(head["seq"]), state)
    except (struct.error, ValueError, KeyError, TypeError, OverflowError) as error:
        raise BookIndexUnusable(f"{name} is damaged: the state at its end cannot be read", file=name) from error


class IndexFile:
    """An index opened for reading; several threads may read it. Close it."""

    def __init__(self, path: Path) -> None:
        """FileNotFoundError when there is none, BookIndexUnusable when it is damaged or of another version."""
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.size = os.fstat(self.fd).st_size
            self.identity = (os.fstat(self.fd).st_ino, os.fstat(self.fd).st_mtime_ns, self.size)
            self.directory = self._read_directory()
        except BaseException:
            os.close(self.fd)
            raise

    def __enter__(self) -> "IndexFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_directory(self) -> Directory:
        name = self.path.name
        tail = os.pread(self.fd, _FOOTER.size, max(0, self.size - _FOOTER.size))
        if len(tail) != _FOOTER.size or tail[-8:] != MAGIC:
            raise BookIndexUnusable(f"{name} is damaged: it has no end", file=name)
        offset, length, crc, version, _, _ = _FOOTER.unpack(tail)
        if version != VERSION:
            raise BookIndexUnusable(f"{name} is of version {version}; this program reads {VERSION}", file=name)
        return decode_directory(self.blob(offset, length, crc), name)

    def blob(self, offset: int, length: int, crc: int) -> bytes:
        """A part of the file; BookIndexUnusable when it is not what was written."""
        data = os.pread(self.fd, length, offset) if offset + length <= self.size else b""
        if len(data) != length or crc32c(data) != crc:
            raise BookIndexUnusable(f"{self.path.name} is damaged at byte {offset}", file=self.path.name)
        return data

    def checkpoint(self) -> tuple[Checkpoint, int]:
        """Where the index ends, and the time of the last row there."""
        return decode_checkpoint(self.blob(*self.directory.head["resume"]), self.path.name), int(self.directory.head["ts"])

    def chunk(self, number: int) -> bytes:
        """A chunk, unpacked."""
        _, offset, length, crc = (int(value) for value in self.directory.chunks[number])
        try:
            return zstandard.ZstdDecompressor().decompress(self.blob(offset, length, crc), max_output_size=_CHUNK_BYTES_MAX)
        except zstandard.ZstdError as error:
            raise BookIndexUnusable(f"{self.path.name} is damaged at byte {offset}", file=self.path.name) from error

    def chunk_of(self, group: int, symbol: int) -> int | None:
        """The chunk of a group where a symbol is, if it is in the group at all."""
        first, last = (int(value) for value in self.directory.groups[group, 2:4])
        place = int(np.searchsorted(self.directory.chunks[first:last, 0], symbol, side="right")) - 1
        return first + place if place >= 0 else None

    def is_current(self) -> bool:
        """Whether the name still belongs to this file."""
        try:
            found = self.path.stat()
        except OSError:
            return False
        return (found.st_ino, found.st_mtime_ns, found.st_size) == self.identity

    def close(self) -> None:
        """Give the file back."""
        os.close(self.fd)

"""Checkpoints: a pipeline's state and the journal position that it belongs to, one file each.

File = magic, CRC32C of the rest, length of a JSON head, the head, the books' bytes. Written to a temporary name, synced, renamed;
a file that is cut, flipped or of another version is skipped, and an older one or the start of the date serves: a checkpoint saves
time, it is never needed.
"""

import contextlib
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crc32c

from l2_platform.book.state import BookImage
from l2_platform.delivery.gap_state import SymbolGapsImage
from l2_platform.delivery.pipeline import STATE_VERSION
from l2_platform.journal.frame import Position
from l2_platform.journal.syscalls import Syscalls

MAGIC = b"L2CKPT01"
_HEAD = struct.Struct("<8sII")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State of a pipeline after the journal position."""

    position: Position
    seq: int
    state: dict[str, Any]


class CheckpointStore:
    """The checkpoints of one (sink, stream)."""

    def __init__(self, directory: Path, kept: int, calls: Syscalls | None = None) -> None:
        self.directory = directory
        self._kept = kept
        self._calls = calls or Syscalls()

    def save(self, position: Position, seq: int, state: dict[str, Any]) -> int:
        """Write one (`state`: a pipeline's `dump` or `freeze`); only it and the `kept` - 1 before it stay.

        Its size in bytes; OSError when the disk does not take it.
        """
        self._calls.make_folders(self.directory)
        books: bytes | BookImage | None = state["books"]
        packed = books.pack() if isinstance(books, BookImage) else books or b""
        head = {"position": list(position), "seq": seq, "state": {key: value for key, value in state.items() if key != "books"}}
        text = json.dumps(head, separators=(",", ":"), default=SymbolGapsImage.pack).encode()
        body = struct.pack("<I", len(text)) + text + packed
        target = self.directory / f"{position.session_date:08d}-{position.segment:06d}-{position.offset:015d}.ckpt"
        temporary = self.directory / "next.tmp"
        try:
            self._write(temporary, [_HEAD.pack(MAGIC, crc32c.crc32c(body), len(body)), body])
            self._calls.rename(temporary, target)
        except OSError:
            with contextlib.suppress(OSError):
                self._calls.unlink(temporary)
            raise
        # One of a later position is from before the sink was wiped or set back: it would push this one out.
        earlier = [path for path in self._files() if path <= target]
        for old in {*self._files(), *self.directory.glob("*.tmp")} - set(earlier[-self._kept :]):
            with contextlib.suppress(OSError):
                self._calls.unlink(old)
        return _HEAD.size + len(body)

    def newest(self, at_most: Position, seq_at_most: int | None = None) -> Checkpoint | None:
        """The newest readable one of the same session date at or before a position (and seq)."""
        date = f"{at_most.session_date:08d}-"
        for path in reversed(self._files()):
            checkpoint = _read(path) if path.name.startswith(date) else None
            if checkpoint is None or checkpoint.position.session_date != at_most.session_date or checkpoint.position > at_most:
                continue
            if seq_at_most is None or checkpoint.seq <= seq_at_most:
                return checkpoint
        return None

    def _files(self) -> list[Path]:
        return sorted(self.directory.glob("*.ckpt"))

    def done_through(self) -> int:
        """The last session date (YYYYMMDD) that is wholly delivered; 0 when none is."""
        try:
            return int(json.loads((self.directory / "done.json").read_text())["done_through"])
        except (OSError, ValueError, OverflowError, KeyError):
            return 0

    def mark_done(self, session_date: int) -> None:
        """Everything up to this date is delivered: it is not asked for again."""
        self._calls.make_folders(self.directory)
        temporary = self.directory / "done.tmp"
        self._write(temporary, [json.dumps({"done_through": session_date}).encode()])
        self._calls.rename(temporary, self.directory / "done.json")

    def _write(self, path: Path, parts: list[bytes]) -> None:
        fd = self._calls.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            self._calls.write_all(fd, parts, 0)
            self._calls.fdatasync(fd)
        finally:
            self._calls.close(fd)


def _read(path: Path) -> Checkpoint | None:
    try:
        data = path.read_bytes()
        magic, crc, length = _HEAD.unpack_from(data)
        body = memoryview(data)[_HEAD.size :]
        if magic != MAGIC or len(body) != length or crc32c.crc32c(body) != crc:
            return None
        (size,) = struct.unpack_from("<I", body)
        head = json.loads(bytes(body[4 : 4 + size]))
    except (OSError, struct.error, ValueError, OverflowError, RecursionError):
        return None
    state = head["state"]
    if state.get("version") != STATE_VERSION:
        return None
    state["books"] = bytes(body[4 + size :])
    return Checkpoint(Position(*head["position"]), head["seq"], state)

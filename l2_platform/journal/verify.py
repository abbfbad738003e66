"""Proves a session date: every byte of every segment against its CRCs, its SHA-256, the hash chain, and what its neighbours say of it.

Each thing that is wrong is a `Finding` with the segment, the range and the lines that are lost. What is fine says nothing.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from l2_platform.errors import JournalCorrupt
from l2_platform.journal.frame import SegmentHeader
from l2_platform.journal.headers import end_of_date, segment_header
from l2_platform.journal.layout import SegmentFile, date_folder, list_segments
from l2_platform.journal.manifest import Manifest, read_manifest
from l2_platform.journal.reader import Block, Control, Damage, JournalReader
from l2_platform.journal.sealed import PREFIX_BYTES, footer_of, read_blocks, read_prefix, unpack_block
from l2_platform.market.dates import date_text

READ_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with the stored bytes of a date."""

    stream: str
    session_date: int
    segment: int
    """0: the date as a whole."""
    kind: str
    """chain, missing, unlisted, swapped, changed, block, cut, frames."""
    detail: str
    """What it is, for people."""
    offset_from: int = 0
    """Uncompressed range that is affected; 0-0 when it is the file as a whole."""
    offset_to: int = 0
    seq_from: int = 0
    """Lines known to be lost; 0-0 when none is or it is not known."""
    seq_to: int = 0


def verify(root: Path, stream: str, session_date: int, *, durable_path: Path | None = None) -> list[Finding]:
    """Everything that is wrong with a date; [] when all is well.

    With `durable_path` a date that is still written is checked up to its durable position; without it the end of its last segment
    must be whole. JournalTooNew when a later program wrote a segment.
    """
    check = _Check(root, stream, session_date, durable_path)
    return [*check.manifest(), *check.sealed_files(), *check.headers(), *check.ends(), *check.frames()]


class _Check:
    """One run over one date."""

    def __init__(self, root: Path, stream: str, session_date: int, durable_path: Path | None) -> None:
        self._root = root
        self._stream = stream
        self._date = session_date
        self._durable_path = durable_path
        self._folder = date_folder(root, stream, session_date)
        self._files = list_segments(self._folder)
        self._listed: Manifest = read_manifest(self._folder)

    def _finding(
        self, segment: int, kind: str, detail: str, offsets: tuple[int, int] = (0, 0), lines: tuple[int, int] = (0, 0)
    ) -> Finding:
        return Finding(self._stream, self._date, segment, kind, detail, *offsets, *lines)

    def manifest(self) -> Iterator[Finding]:
        """The chain, and that every listed file is there and every file is listed."""
        for sentence in self._listed.broken:
            yield self._finding(0, "chain", sentence)
        present = {file.number: file for file in self._files}
        for number, entry in sorted(self._listed.entries.items()):
            if number not in present:
                lost = (entry.first_seq, entry.last_seq) if entry.last_seq >= entry.first_seq else (0, 0)
                yield self._finding(number, "missing", f"{entry.file} is gone", (0, entry.raw_bytes), lost)
        for file in self._files:
            if file.raw is None and file.number not in self._listed.entries:
                yield self._finding(file.number, "unlisted", f"{file.path.name} is in no line of the manifest")

    def sealed_files(self) -> Iterator[Finding]:
        """The hash of each sealed file; where it differs, which block."""
        for file in self._files:
            if file.sealed is None or file.raw is not None:
                continue
            yield from self._sealed_file(file, file.sealed)

    def _sealed_file(self, file: SegmentFile, path: Path) -> Iterator[Finding]:
        entry = self._listed.entries.get(file.number)
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        if entry is not None and digest != entry.sha256:
            yield self._finding(
                file.number, "changed", f"{path.name} is not the file that was sealed ({path.stat().st_size} of {entry.bytes} bytes)"
            )
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield from self._sealed_parts(fd, file, path.name)
        finally:
            os.close(fd)

    def _sealed_parts(self, fd: int, file: SegmentFile, name: str) -> Iterator[Finding]:
        try:
            said = read_prefix(os.pread(fd, PREFIX_BYTES, 0), name)
            if said != (self._date, file.number):
                yield self._finding(file.number, "swapped", f"{name} is segment {said[1]} of {said[0]}")
        except JournalCorrupt as error:
            yield self._finding(file.number, "changed", error.message)
        try:
            footer_of(fd, name)
        except JournalCorrupt as error:
            yield self._finding(file.number, "changed", error.message)
        blocks, _ = read_blocks(fd, name)
        for number, block in enumerate(blocks):
            if unpack_block(fd, block) is None:
                yield self._finding(
                    file.number, "block", f"block {number} of {name} is damaged", (block.raw_offset, block.raw_offset + block.raw_bytes)
                )

    def headers(self) -> Iterator[Finding]:
        """Each segment is the one that its name says, and knows its neighbour."""
        headers = {file.number: segment_header(file) for file in self._files}
        for file in self._files:
            header = headers[file.number]
            if header is None:
                yield self._finding(file.number, "changed", f"the segment header of {file.path.name} is damaged")
            elif (header.stream, header.session_date, header.segment) != (self._stream, self._date, file.number):
                yield self._finding(
                    file.number, "swapped",
                    f"{file.path.name} is segment {header.segment} of {header.stream}, {date_text(header.session_date)}",
                )  # fmt: skip
        if self._files and self._files[0].number > 1:
            yield self._gone(1, self._files[0].number - 1)
        for one, two in pairwise(self._files):
            if two.number > one.number + 1 and not self._expects(headers[two.number], one.number):
                yield self._gone(one.number + 1, two.number - 1)

    def _gone(self, first: int, last: int) -> Finding:
        names = f"segment {first} is" if first == last else f"segments {first}-{last} are"
        return self._finding(first, "missing", f"{names} gone")

    def _expects(self, header: SegmentHeader | None, number: int) -> bool:
        """The header names that segment as the one before it (numbers may be left out after a recovery)."""
        return header is not None and header.previous is not None and header.previous.segment == number

    def ends(self) -> Iterator[Finding]:
        """The last segment ends where others say that it does: a closing file, the next date's first header, the durable position."""
        try:
            wanted = end_of_date(self._root, self._stream, self._date, self._durable_path)
        except JournalCorrupt as error:
            yield self._finding(0, "changed", error.message)
            return
        if wanted is None:
            return
        last = self._files[-1] if self._files else None
        if last is None or last.number < wanted.segment:
            yield self._finding(wanted.segment, "missing", f"segment {wanted.segment}, the last of the date, is gone")
        elif last.number == wanted.segment:
            size = self._raw_bytes(last)
            if size < wanted.end:
                detail = f"{last.path.name} has {size} of {wanted.end} bytes; line {wanted.last_seq} was its last"
                yield self._finding(last.number, "cut", detail, (size, wanted.end))

    def _raw_bytes(self, file: SegmentFile) -> int:
        if file.raw is not None:
            return file.raw.stat().st_size
        fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            blocks, raw_bytes = read_blocks(fd, file.path.name)
        finally:
            os.close(fd)
        return max([raw_bytes, *(block.raw_offset + block.raw_bytes for block in blocks)])

    def frames(self) -> Iterator[Finding]:
        """Every frame, in order, by its CRC and its number."""
        reader = JournalReader(self._root, self._stream, self._date, durable_path=self._durable_path)
        try:
            while items := reader.read(READ_BYTES):
                for item in items:
                    if isinstance(item, Block | Control):
                        continue
                    yield self._damage(item)
        finally:
            reader.close()

    def _damage(self, damage: Damage) -> Finding:
        return self._finding(
            damage.position_from.segment, "frames", damage.reason, (damage.position_from.offset, damage.position_to.offset),
            (damage.seq_from, damage.seq_to),
        )  # fmt: skip

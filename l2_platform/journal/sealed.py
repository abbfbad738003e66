"""The file of a sealed segment: independent zstd blocks, each with its own header and CRCs, an index, a footer.

```
prefix   magic, format version, framer version, session date, segment, block size, CRC
block    header (magic, number, raw offset, raw length, packed length, CRC of raw, CRC of packed, CRC of header), zstd frame   … one per MiB
index    the block headers' numbers again, CRC
footer   index offset, blocks, raw bytes, first and last seq and time, SHA-256 of the raw bytes, clean flag, CRC, magic
```
A damaged block costs that block. When index or footer are damaged, the block headers alone are enough to read the rest.
"""

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from crc32c import crc32c

from l2_platform.errors import JournalCorrupt
from l2_platform.journal.frame import FORMAT_VERSION, FRAMER_VERSION, refuse_newer

SEALED_MAGIC: Final = b"L2SEAL\r\n"
END_MAGIC: Final = b"L2SEND\r\n"
BLOCK_MAGIC: Final = b"L2ZB"
BLOCK: Final = struct.Struct("<4sIQIIIII")
_PREFIX = struct.Struct("<8sHHIIII")
_ENTRY = struct.Struct("<QQIIII")
_FOOTER = struct.Struct("<QIIQQQqqQ32sI8s")
_NO_TS: Final = -(1 << 63)
PREFIX_BYTES: Final = _PREFIX.size
FOOTER_BYTES: Final = _FOOTER.size
BLOCK_RAW_MAX: Final = 64 << 20


class Block(NamedTuple):
    """One compressed block: where it is in the file and which raw bytes it holds."""

    file_offset: int
    """Of the zstd frame, behind the block's header."""
    raw_offset: int
    raw_bytes: int
    packed_bytes: int
    raw_crc: int
    packed_crc: int


@dataclass(frozen=True, slots=True)
class Footer:
    """What is known of a sealed segment without unpacking it."""

    index_offset: int
    blocks: int
    raw_bytes: int
    first_seq: int
    """Of its first line; last_seq + 1 when it has none."""
    last_seq: int
    first_ts: int | None
    last_ts: int | None
    frames: int
    raw_sha256: bytes
    clean: bool


def encode_prefix(session_date: int, segment: int, block_bytes: int) -> bytes:
    """The first bytes of the file."""
    return _with_crc(
        _PREFIX.pack(SEALED_MAGIC, FORMAT_VERSION, FRAMER_VERSION, session_date, segment, block_bytes, 0)
    )


def encode_block(number: int, raw_offset: int, raw: bytes | memoryview, packed: bytes) -> bytes:
    """The header of a block."""
    return _with_crc(
        BLOCK.pack(BLOCK_MAGIC, number, raw_offset, len(raw), len(packed), crc32c(raw), crc32c(packed), 0)
    )


def encode_index(blocks: Iterable[Block]) -> bytes:
    """All blocks, with a CRC."""
    body = b"".join(_ENTRY.pack(*block) for block in blocks)
    return body + struct.pack("<I", crc32c(body))


def encode_footer(footer: Footer) -> bytes:
    """The last bytes of the file."""
    body = _FOOTER.pack(
        footer.index_offset, footer.blocks, 1 if footer.clean else 0, footer.raw_bytes, footer.first_seq, footer.last_seq,
        _NO_TS if footer.first_ts is None else footer.first_ts, _NO_TS if footer.last_ts is None else footer.last_ts,
        footer.frames, footer.raw_sha256, 0, END_MAGIC,
    )  # fmt: skip
    cut = len(body) - 12
    return body[:cut] + struct.pack("<I", crc32c(body[:cut])) + END_MAGIC


def _with_crc(body: bytes) -> bytes:
    return body[:-4] + struct.pack("<I", crc32c(body[:-4]))


def read_prefix(data: bytes, name: str) -> tuple[int, int]:
    """(session date, segment) that the file says it is; JournalTooNew, or JournalCorrupt when the prefix is damaged."""
    if len(data) < PREFIX_BYTES or data[:8] != SEALED_MAGIC or _with_crc(data[:PREFIX_BYTES]) != data[:PREFIX_BYTES]:
        raise JournalCorrupt(f"{name}: the beginning of the sealed segment is damaged", file=name)
    _, version, framer, session_date, segment, _, _ = _PREFIX.unpack_from(data)
    refuse_newer(version, framer, name)
    return session_date, segment


def parse_footer(data: bytes, name: str) -> Footer:
    """The footer from the last bytes of a file, or JournalCorrupt."""
    cut = len(data) - 12
    if len(data) != FOOTER_BYTES or data[-8:] != END_MAGIC or struct.pack("<I", crc32c(data[:cut])) != data[cut:-8]:
        raise JournalCorrupt(f"{name}: the end of the sealed segment is damaged", file=name)
    index, blocks, flags, raw_bytes, first, last, first_ts, last_ts, frames, digest, _, _ = _FOOTER.unpack(data)
    return Footer(
        index, blocks, raw_bytes, first, last, None if first_ts == _NO_TS else first_ts,
        None if last_ts == _NO_TS else last_ts, frames, digest, bool(flags & 1),
    )  # fmt: skip


def read_footer(path: Path) -> Footer:
    """The footer of a file, or JournalCorrupt."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return footer_of(fd, path.name)
    finally:
        os.close(fd)


def footer_of(fd: int, name: str) -> Footer:
    """The footer of an open file, or JournalCorrupt."""
    return parse_footer(os.pread(fd, FOOTER_BYTES, max(0, os.fstat(fd).st_size - FOOTER_BYTES)), name)


def read_blocks(fd: int, name: str) -> tuple[list[Block], int]:
    """All blocks that can be found and the raw length (0 when only a damaged footer knew it)."""
    size = os.fstat(fd).st_size
    try:
        footer = footer_of(fd, name)
    except JournalCorrupt:
        return _walk_blocks(fd, size), 0
    length = footer.blocks * _ENTRY.size
    fits = footer.index_offset + length + 4 <= size
    data = os.pread(fd, length + 4, footer.index_offset) if fits else b""
    if len(data) == length + 4 and struct.pack("<I", crc32c(data[:-4])) == data[-4:]:
        return [Block(*fields) for fields in _ENTRY.iter_unpack(data[:-4])], footer.raw_bytes
    return _walk_blocks(fd, size), footer.raw_bytes


def _walk_blocks(fd: int, size: int) -> list[Block]:
    """Blocks by their own headers; behind a damaged header or block the next one is searched, whole ones win over damaged ones."""
    data = os.pread(fd, size, 0)
    found: dict[int, Block] = {}
    at = data.find(BLOCK_MAGIC)
    while at != -1 and at + BLOCK.size <= size:
        head = data[at : at + BLOCK.size]
        follow = at + 1
        if _with_crc(head) == head:
            _, _, raw_offset, raw_bytes, packed, raw_crc, packed_crc, _ = BLOCK.unpack(head)
            begin = at + BLOCK.size
            whole = crc32c(data[begin : begin + packed]) == packed_crc
            # A damaged block may be shorter or longer than it says: the next one may begin inside of it.
            follow = begin + packed if whole else begin
            if whole or raw_offset not in found:
                found[raw_offset] = Block(begin, raw_offset, raw_bytes, packed, raw_crc, packed_crc)
        at = data.find(BLOCK_MAGIC, follow)
    return list(found.values())


def unpack_block(fd: int, block: Block) -> bytes | None:
    """The raw bytes of a block, or None when it is damaged."""
    import zstandard

    if block.raw_bytes > BLOCK_RAW_MAX or block.file_offset + block.packed_bytes > os.fstat(fd).st_size:
        return None
    packed = os.pread(fd, block.packed_bytes, block.file_offset)
    if len(packed) != block.packed_bytes or crc32c(packed) != block.packed_crc:
        return None
    try:
        raw = zstandard.ZstdDecompressor().decompress(packed, max_output_size=block.raw_bytes)
    except zstandard.ZstdError:
        return None
    return raw if len(raw) == block.raw_bytes and crc32c(raw) == block.raw_crc else None

"""The bytes of one segment by uncompressed offset, raw or sealed alike; holes are told, not raised."""

import os
from pathlib import Path
from typing import Protocol

from l2_platform.errors import JournalCorrupt
from l2_platform.journal.layout import SEALED_SUFFIX
from l2_platform.journal.sealed import PREFIX_BYTES, Block, read_blocks, read_prefix, unpack_block


class SegmentSource(Protocol):
    """Where a reader gets a segment's bytes."""

    sealed: bool
    """Complete and never growing."""

    def size(self) -> int:
        """Uncompressed bytes that are there now."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from `offset` on: all `length` of them, or up to the next damaged place or the end."""
        ...

    def hole_end(self, offset: int) -> int:
        """Where readable bytes begin again at or after `offset`; the size when none follow."""
        ...

    def unlinked(self) -> bool:
        """The file has no name any more: it was deleted, sealed or made again."""
        ...

    def close(self) -> None:
        """Give the file back."""
        ...


class RawSource:
    """A segment as it was written."""

    sealed = False

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._fd).st_size

    def read(self, offset: int, length: int) -> bytes:
        """Bytes as they are; short at the end, empty where the disk cannot give them."""
        try:
            return os.pread(self._fd, length, offset)
        except OSError:
            return b""

    def hole_end(self, offset: int) -> int:
        """A raw file has holes only where the disk gives an error: on to the next 4 KiB that can be read."""
        size = self.size()
        at = (offset // 4096 + 1) * 4096
        while at < size and not self.read(at, 1):
            at += 4096
        return min(at, size)

    def unlinked(self) -> bool:
        """Whether the open file has lost its name."""
        return os.fstat(self._fd).st_nlink == 0

    def close(self) -> None:
        """Give the file back."""
        os.close(self._fd)


class SealedSource:
    """A sealed segment; keeps the last block that it unpacked."""

    sealed = True

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            read_prefix(os.pread(self._fd, PREFIX_BYTES, 0), path.name)
        except JournalCorrupt:
            pass  # footer and blocks carry their own checks
        except BaseException:
            os.close(self._fd)
            raise
        blocks, raw_bytes = read_blocks(self._fd, path.name)
        self.blocks: list[Block] = sorted(blocks, key=lambda block: block.raw_offset)
        last = self.blocks[-1] if self.blocks else None
        self._size = max(raw_bytes, last.raw_offset + last.raw_bytes if last else 0)
        self._cached: tuple[int, bytes | None] = (-1, None)

    def size(self) -> int:
        """Raw bytes."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from the blocks, up to the first damaged or missing one."""
        parts: list[bytes] = []
        index = self._index_of(offset)
        end = min(offset + length, self._size)
        while offset < end and index < len(self.blocks) and self.blocks[index].raw_offset <= offset:
            raw = self._block(index)
            if raw is None:
                break
            start = offset - self.blocks[index].raw_offset
            part = raw[start : start + end - offset]
            if not part:
                break
            parts.append(part)
            offset += len(part)
            index += 1
        return b"".join(parts)

    def hole_end(self, offset: int) -> int:
        """The start of the next block that can be unpacked."""
        index = self._index_of(offset)
        while index < len(self.blocks):
            block = self.blocks[index]
            if block.raw_offset + block.raw_bytes > offset and self._block(index) is not None:
                return max(offset, block.raw_offset)
            index += 1
        return self._size

    def unlinked(self) -> bool:
        """Whether the open file has lost its name."""
        return os.fstat(self._fd).st_nlink == 0

    def close(self) -> None:
        """Give the file back."""
        os.close(self._fd)

    def _index_of(self, offset: int) -> int:
        """The block that holds `offset`, or the first behind it."""
        low, high = 0, len(self.blocks)
        while low < high:
            middle = (low + high) // 2
            block = self.blocks[middle]
            if block.raw_offset + block.raw_bytes <= offset:
                low = middle + 1
            else:
                high = middle
        return low

    def _block(self, index: int) -> bytes | None:
        if self._cached[0] != index:
            self._cached = (index, unpack_block(self._fd, self.blocks[index]))
        return self._cached[1]


def open_source(path: Path) -> SegmentSource:
    """The file at `path`; FileNotFoundError when it has just been sealed, JournalTooNew when a later program wrote it."""
    return SealedSource(path) if path.suffix == SEALED_SUFFIX else RawSource(path)

"""Compression of HTTP bodies: gzip, deflate, lz4 (frame), zstd, and ClickHouse's own block format on the way in.

Every decoder takes the most bytes it may produce: a small body must not unpack into more memory than allowed.
"""

import zlib
from collections.abc import Callable
from typing import Any, Final, Protocol

import lz4.block
import lz4.frame
import zstandard

from l2_platform.warehouse.errors import QueryFailed

ENCODINGS: Final = ("lz4", "zstd", "gzip", "deflate")
"""What we answer with, best first."""
BLOCK_HEADER_BYTES: Final = 25
"""Checksum 16, method 1, compressed size 4, plain size 4."""
ZSTD_LEVEL: Final = 1


class Encoder(Protocol):
    """A compressed answer in the making."""

    def add(self, data: bytes) -> bytes:
        """Compressed bytes that are ready."""
        ...

    def end(self) -> bytes:
        """The rest."""
        ...


class PlainEncoder:
    """No compression."""

    def add(self, data: bytes) -> bytes:
        """The bytes themselves."""
        return data

    def end(self) -> bytes:
        """Nothing is kept back."""
        return b""


class StreamEncoder:
    """One compressed stream over all pieces."""

    def __init__(self, name: str) -> None:
        self._start = b""
        self._compress: Callable[[bytes], bytes]
        self._flush: Callable[[], bytes]
        compressor: Any
        if name == "zstd":
            compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compressobj()
        elif name == "lz4":
            compressor = lz4.frame.LZ4FrameCompressor()
            self._start = compressor.begin()
        else:
            compressor = zlib.compressobj(level=1, wbits=31 if name == "gzip" else 15)
        self._compress, self._flush = compressor.compress, compressor.flush

    def add(self, data: bytes) -> bytes:
        """Compressed bytes that are ready."""
        start, self._start = self._start, b""
        return start + self._compress(data)

    def end(self) -> bytes:
        """The rest."""
        start, self._start = self._start, b""
        return start + self._flush()


def choose_encoding(accept: str) -> str | None:
    """The best encoding that an Accept-Encoding header names, or None."""
    offered = {part.split(";")[0].strip().lower() for part in accept.split(",")}
    return next((name for name in ENCODINGS if name in offered), None)


def make_encoder(name: str | None) -> Encoder:
    """An encoder for one answer."""
    return PlainEncoder() if name is None else StreamEncoder(name)


def decode_body(data: bytes, encoding: str, limit: int) -> bytes:
    """Undo Content-Encoding; raise QueryFailed when it is unknown, damaged, or gives more than `limit` bytes."""
    try:
        match encoding:
            case "" | "identity":
                return data
            case "gzip" | "deflate":
                return _whole(zlib.decompressobj(wbits=31 if encoding == "gzip" else 15), data, limit)
            case "lz4":
                return _whole(lz4.frame.LZ4FrameDecompressor(), data, limit)
            case "zstd":
                return _unpack_zstd(data, limit)
    except (zlib.error, RuntimeError, EOFError, zstandard.ZstdError) as error:
        raise QueryFailed(271, f"Cannot decompress the {encoding} body: {error}", name="CANNOT_DECOMPRESS", status=400) from None
    raise QueryFailed(48, f"Content-Encoding {encoding} is not supported; use {', '.join(ENCODINGS)}", name="NOT_IMPLEMENTED")


def decode_blocks(data: bytes, limit: int) -> bytes:
    """Undo ClickHouse's own block compression (`decompress=1`: LZ4, ZSTD or none); the blocks' checksums are not verified."""
    parts: list[bytes] = []
    offset = total = 0
    while offset < len(data):
        method = data[offset + 16] if offset + BLOCK_HEADER_BYTES <= len(data) else 0
        packed = int.from_bytes(data[offset + 17 : offset + 21], "little")
        plain = int.from_bytes(data[offset + 21 : offset + BLOCK_HEADER_BYTES], "little")
        total += plain
        if total > limit:
            raise _too_large(limit)
        body = data[offset + BLOCK_HEADER_BYTES : offset + 16 + packed]
        if method == 0 or packed < 9 or len(body) != packed - 9:
            raise QueryFailed(271, "The compressed block is cut off", name="CANNOT_DECOMPRESS", status=400)
        parts.append(_unpack_block(method, body, plain))
        offset += 16 + packed
    return b"".join(parts)


def _unpack_block(method: int, body: bytes, plain: int) -> bytes:
    try:
        match method:
            case 0x82:
                return bytes(lz4.block.decompress(body, uncompressed_size=plain))
            case 0x90:
                return zstandard.ZstdDecompressor().decompress(body, max_output_size=plain)
            case 0x02:
                return body
    except (lz4.block.LZ4BlockError, zstandard.ZstdError) as error:
        raise QueryFailed(271, f"Cannot decompress a block: {error}", name="CANNOT_DECOMPRESS", status=400) from None
    raise QueryFailed(89, f"Unknown compression method {method:#x}", name="UNKNOWN_COMPRESSION_METHOD", status=400)


def _whole(decoder: Any, data: bytes, limit: int) -> bytes:
    plain: bytes = decoder.decompress(data, limit + 1)
    if len(plain) > limit:
        raise _too_large(limit)
    if not decoder.eof:
        msg = "the stream is cut off"
        raise EOFError(msg)
    return plain


def _unpack_zstd(data: bytes, limit: int) -> bytes:
    decoder = zstandard.ZstdDecompressor()
    parts: list[bytes] = []
    total = 0
    with decoder.stream_reader(data, read_across_frames=True) as reader:
        while piece := reader.read(1 << 20):
            total += len(piece)
            if total > limit:
                raise _too_large(limit)
            parts.append(piece)
    return b"".join(parts)


def _too_large(limit: int) -> QueryFailed:
    return QueryFailed(307, f"The body is larger than {limit} bytes", name="TOO_MANY_BYTES", status=413)

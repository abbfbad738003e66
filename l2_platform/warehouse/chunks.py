"""Joins the engine's result pieces into one stream.

The engine encodes each block of a streamed result as a whole file of its format. Row formats simply follow each other; formats with
a header repeat it, Arrow streams repeat schema and end. Formats that cannot be joined (JSON, Parquet, Arrow file, Pretty) are not
streamed. Pure.
"""

from typing import Final

ROWS: Final = frozenset(
    {
        "Native", "TabSeparated", "TSV", "TabSeparatedRaw", "TSVRaw", "Raw", "CSV", "RowBinary", "JSONEachRow", "JSONLines", "NDJSON",
        "JSONCompactEachRow", "JSONStringsEachRow", "JSONCompactStringsEachRow", "LineAsString",
    }
)  # fmt: skip
HEADER_LINES: Final = {
    **dict.fromkeys(("TabSeparatedWithNames", "TSVWithNames", "CSVWithNames", "JSONCompactEachRowWithNames"), 1),
    **dict.fromkeys(("TabSeparatedWithNamesAndTypes", "TSVWithNamesAndTypes", "CSVWithNamesAndTypes"), 2),
    "JSONCompactEachRowWithNamesAndTypes": 2,
}
BINARY_HEADERS: Final = {"RowBinaryWithNames": 1, "RowBinaryWithNamesAndTypes": 2}
ARROW_STREAM: Final = "ArrowStream"
ARROW_END: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"
CONTENT_TYPES: Final = {
    "TabSeparated": "text/tab-separated-values; charset=UTF-8", "TSV": "text/tab-separated-values; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent", "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "JSON": "application/json; charset=UTF-8", "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8", "Pretty": "text/plain; charset=UTF-8",
}  # fmt: skip


def can_stream(name: str) -> bool:
    """Results in this format may be sent while they are made."""
    return name in ROWS or name in HEADER_LINES or name in BINARY_HEADERS or name == ARROW_STREAM


def content_type(name: str) -> str:
    """MIME type of a format, as ClickHouse names it."""
    return CONTENT_TYPES.get(name, "application/octet-stream")


class ChunkJoiner:
    """One result: give every piece to `add`, the last (empty or header-only) one to `end`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._header: int | None = None
        """Bytes that every later piece repeats."""

    def add(self, piece: bytes) -> bytes:
        """The part of this piece that belongs into the joined stream."""
        first = self._header is None
        if self._header is None:
            self._header = header_bytes(self._name, piece)
        start = 0 if first else self._header
        stop = len(piece) - len(ARROW_END) if self._name == ARROW_STREAM and piece.endswith(ARROW_END) else len(piece)
        return piece[start:stop]

    def end(self, last: bytes) -> bytes:
        """What closes the stream; `last` is the whole answer when the result has no rows."""
        if self._header is None:
            return last
        return ARROW_END if self._name == ARROW_STREAM else b""


def header_bytes(name: str, piece: bytes) -> int:
    """Length of the header at the start of a piece, bytes."""
    if name in HEADER_LINES:
        return _header_lines(piece, HEADER_LINES[name], quoted=name.startswith("CSV"))
    if name in BINARY_HEADERS:
        return _binary_header(piece, BINARY_HEADERS[name])
    if name == ARROW_STREAM and len(piece) >= 8:
        return 8 + int.from_bytes(piece[4:8], "little")
    return 0


def _header_lines(piece: bytes, lines: int, *, quoted: bool) -> int:
    offset = 0
    for _ in range(lines):
        line_start = offset
        while True:
            newline = piece.find(b"\n", offset)
            if newline < 0:
                return len(piece)
            offset = newline + 1
            # a quoted CSV name may hold a line end: the line is whole when its quotes are even
            if not quoted or piece.count(b'"', line_start, offset) % 2 == 0:
                break
    return offset


def _binary_header(piece: bytes, texts_per_column: int) -> int:
    columns, offset = _varint(piece, 0)
    for _ in range(columns * texts_per_column):
        length, offset = _varint(piece, offset)
        offset += length
    return offset


def _varint(piece: bytes, offset: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = piece[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, offset

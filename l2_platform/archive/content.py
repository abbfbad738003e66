"""The content of rows as one hash: equal rows in equal order give equal hashes, however they are cut into batches and encoded.

Each column has streams of bytes of its own: values, lengths, and where it is NULL. What does not belong here: files.
"""

import hashlib
import json
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from l2_platform.errors import ArchiveError

EMPTY: Final = {"string": "", "binary": b""}


class ContentHash:
    """SHA-256 over all columns of record batches that are fed in order."""

    def __init__(self) -> None:
        self.rows = 0
        self._streams: dict[str, Any] = {}
        self._fed: dict[str, int] = {}

    def update(self, batch: Any) -> None:
        """Feed the next rows (a pyarrow RecordBatch)."""
        self.rows += batch.num_rows
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            self._feed(name, column)

    def hexdigest(self) -> str:
        """The hash of everything that was fed."""
        parts = {name: stream.hexdigest() for name, stream in self._streams.items()}
        return hashlib.sha256(json.dumps([self.rows, sorted(parts.items())]).encode()).hexdigest()

    def _feed(self, name: str, column: Any) -> None:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if pa.types.is_large_string(column.type):
            column = column.cast(pa.string())
        before = self._fed.get(name, 0)
        self._fed[name] = before + len(column)
        nulls = self._stream(f"{name}.nulls")
        if column.null_count:
            nulls.update(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)) + before)
            column = pc.fill_null(column, _empty(column.type))
        if pa.types.is_list(column.type):
            offsets = _offsets(column)
            self._stream(f"{name}.lengths").update(np.diff(offsets))
            self._feed(f"{name}.item", column.values[int(offsets[0]) : int(offsets[-1])])
        elif pa.types.is_string(column.type) or pa.types.is_binary(column.type):
            offsets = _offsets(column)
            self._stream(f"{name}.lengths").update(np.diff(offsets))
            data = column.buffers()[2]
            if data is not None:
                self._stream(name).update(memoryview(data)[int(offsets[0]) : int(offsets[-1])])
        else:
            self._stream(name).update(_fixed(name, column))

    def _stream(self, name: str) -> Any:
        if name not in self._streams:
            self._streams[name] = hashlib.sha256()
        return self._streams[name]


def _offsets(column: Any) -> np.ndarray:
    """Begin of each value and the end of the last, in units of the child."""
    if not len(column):
        return np.zeros(1, np.int64)
    raw = np.frombuffer(column.buffers()[1], np.int32)
    return raw[column.offset : column.offset + len(column) + 1].astype(np.int64)


def _fixed(name: str, column: Any) -> memoryview:
    try:
        width = column.type.bit_width // 8
    except ValueError:
        width = 0
    if not width:
        raise ArchiveError(f"column {name}: values of type {column.type} cannot be archived")
    data = column.buffers()[1]
    begin = column.offset * width
    return memoryview(data)[begin : begin + len(column) * width] if data is not None else memoryview(b"")


def _empty(kind: Any) -> Any:
    """The value that stands in the place of NULL; where the NULLs are is hashed too."""
    if str(kind) in EMPTY:
        return pa.scalar(EMPTY[str(kind)], kind)
    return pa.scalar(Decimal(0), kind) if pa.types.is_decimal(kind) else pa.scalar(0, kind)

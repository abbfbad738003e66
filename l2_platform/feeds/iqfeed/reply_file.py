"""Replies to history requests that wait in files, decoded as the delivery will decode them from the journal.

What does not belong here: asking for them (lookup), what becomes of their lines.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from l2_platform.feeds.iqfeed.decode_history import HistoryDecoder
from l2_platform.market.events import Int64, Level1Batch, Level1Kind, UInt8, UInt32, UInt64
from l2_platform.market.instruments import SymbolTable

READ_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class _Lines:
    """Bytes as a block of one frame."""

    buffer: UInt8
    frame_start: Int64
    frame_seq: UInt64
    frame_count: UInt32
    frame_ts: Int64
    frame_flags: UInt8 = field(default_factory=lambda: np.zeros(1, np.uint8))
    frame_conn: UInt32 = field(default_factory=lambda: np.zeros(1, np.uint32))
    session_date: int = 0


def decode_reply(file: Path, symbol: str, interval_s: int = 0) -> Iterator[Level1Batch]:
    """A reply some MiB at a time; seq counts its lines from 1. `interval_s`: length of the bars that were asked for, s; 0: ticks."""
    decoder = HistoryDecoder(SymbolTable())
    decoder.begin_reply(symbol, interval_s=interval_s)
    first = 1
    with file.open("rb") as source:
        while data := source.read(READ_BYTES):
            data += source.readline() if not data.endswith(b"\n") else b""
            count = data.count(b"\n")
            yield decoder.decode(
                _Lines(
                    np.frombuffer(data, np.uint8), np.array([0, len(data)], np.int64), np.array([first], np.uint64),
                    np.array([count], np.uint32), np.zeros(1, np.int64),
                )
            )  # fmt: skip
            first += count


def has_bars(file: Path, symbol: str, interval_s: int) -> bool:
    """Whether any line of the reply is a bar."""
    return any(bool((batch.kind == Level1Kind.HISTORY_BAR).any()) for batch in decode_reply(file, symbol, interval_s))

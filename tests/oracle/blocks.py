"""Blocks of lines as the journal hands them out, made from bytes."""

from dataclasses import dataclass

import numpy as np

from l2_platform.market.events import DepthBatch


@dataclass
class LinesBlock:
    buffer: np.ndarray
    frame_start: np.ndarray
    frame_seq: np.ndarray
    frame_count: np.ndarray
    frame_ts: np.ndarray
    frame_flags: np.ndarray


def block_of(
    *frames: bytes, seq_first: int = 1, ts_recv: int = 1_700_000_000_000_000_000, step_ns: int = 0, flags=()
) -> LinesBlock:
    """One frame for each argument; a line without an end at the end of a frame counts too."""
    counts = [
        1 if index < len(flags) and flags[index] else frame.count(b"\n") + (bool(frame) and not frame.endswith(b"\n"))
        for index, frame in enumerate(frames)
    ]
    return LinesBlock(
        buffer=np.frombuffer(b"".join(frames), np.uint8),
        frame_start=np.cumsum([0, *(len(frame) for frame in frames)], dtype=np.int64),
        frame_seq=(seq_first + np.cumsum([0, *counts[:-1]])).astype(np.uint64) if frames else np.zeros(0, np.uint64),
        frame_count=np.array(counts, np.uint32),
        frame_ts=ts_recv + step_ns * np.arange(len(frames), dtype=np.int64),
        frame_flags=np.array([*flags, *([0] * (len(frames) - len(flags)))], np.uint8),
    )


def rows_of(batch: DepthBatch, first: int, last: int) -> DepthBatch:
    """The rows from `first` to before `last` as a batch of their own."""
    whole = {"buffer", "trust", "pair_row", "pair_price", "pair_size", "pair_ts"}
    columns = {name: getattr(batch, name)[first:last] for name in batch.__dataclass_fields__ if name not in whole}
    pairs = (batch.pair_row >= first) & (batch.pair_row < last)
    return DepthBatch(
        buffer=batch.buffer, **columns, pair_row=batch.pair_row[pairs] - first, pair_price=batch.pair_price[pairs],
        pair_size=batch.pair_size[pairs], pair_ts=batch.pair_ts[pairs],
    )  # fmt: skip


DECODED = (
    "seq", "kind", "error", "symbol", "side", "order_id", "mmid", "price", "size", "priority", "count", "ts_event", "ts_recv",
    "line_len", "pair_price", "pair_size", "pair_ts",
)  # fmt: skip
"""Columns of a batch that do not depend on how the bytes were cut."""

"""What a reader of the journal gives: blocks of data frames, control frames, and damage. Nothing else belongs here."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from l2_platform.journal.frame import Position


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive data frames; the arrays have one element per frame."""

    buffer: npt.NDArray[np.uint8]
    """All payloads, one after the other; read-only."""
    frame_start: npt.NDArray[np.int64]
    """Offset of each frame in `buffer`, and the end of the last: one element more."""
    frame_seq: npt.NDArray[np.uint64]
    """seq of the first line of each frame."""
    frame_count: npt.NDArray[np.uint32]
    """Lines of each frame."""
    frame_ts: npt.NDArray[np.int64]
    """When it was received, ns."""
    frame_flags: npt.NDArray[np.uint8]
    """FrameFlag bits."""
    frame_conn: npt.NDArray[np.uint32]
    """Connection that it came over."""
    position: Position
    """Behind the last frame."""
    session_date: int


@dataclass(frozen=True, slots=True)
class Control:
    """A control frame."""

    event: str
    fields: dict[str, Any]
    ts_recv: int
    conn_id: int
    seq: int
    """The last line before it."""
    position: Position
    """Behind it."""
    session_date: int


@dataclass(frozen=True, slots=True)
class Damage:
    """A range that could not be read, or lines that are missing (then both positions are the same)."""

    position_from: Position
    position_to: Position
    reason: str
    seq_from: int = 0
    """First line known to be lost; 0 when none is or it is not known."""
    seq_to: int = 0
    """Last line known to be lost."""

    @property
    def session_date(self) -> int:
        """The session date it is in."""
        return self.position_from.session_date


Item = Block | Control | Damage

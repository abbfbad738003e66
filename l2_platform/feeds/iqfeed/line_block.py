"""The shape in which decoders take journal blocks, so that they need no journal."""

from typing import Protocol

from l2_platform.market.events import Int64, UInt8, UInt32, UInt64


class LineBlock(Protocol):
    """What a decoder reads of a journal block: whole frames of one stream and session date, in journal order."""

    @property
    def buffer(self) -> UInt8:
        """All payloads, contiguous."""
        ...

    @property
    def frame_start(self) -> Int64:
        """Offset of each frame in `buffer`, and the end of the last: one longer than the others."""
        ...

    @property
    def frame_seq(self) -> UInt64:
        """Number of the first line of each frame."""
        ...

    @property
    def frame_count(self) -> UInt32:
        """Lines of each frame."""
        ...

    @property
    def frame_ts(self) -> Int64:
        """When the frame was received, ns UTC."""
        ...

    @property
    def frame_flags(self) -> UInt8:
        """FrameFlag bits: 1 is the rest of a cut line, 2 a line over the limit; such a frame is one seq."""
        ...

    @property
    def frame_conn(self) -> UInt32:
        """Connection that each frame came over."""
        ...

    @property
    def session_date(self) -> int:
        """YYYYMMDD."""
        ...

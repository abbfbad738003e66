"""Whether a collector's stream is recorded at this moment: its desired state's table, and the calendar itself when that ran out.

So a collector keeps its trading day when nothing else lives. What does not belong here: the session date (`session_roll`), an
operator's stop (`intent`).
"""

from collections.abc import Callable, Sequence
from typing import Final

from l2_platform.market.trading_day import Span, is_recording, next_change

CLOSED_FOR_NS: Final = 2_000_000_000
"""So long it must be closed before the link is left: a clock that was set shows against the feed's within a second."""


class RecordingHours:
    """Open or closed, by our clock."""

    def __init__(self, load: Callable[[int], Sequence[Span]]) -> None:
        """`load(now_ns)` gives the spans from now on when the table at hand is over."""
        self._load = load
        self._table: Sequence[Span] = ()
        self._told = False
        self._closed_since_ns: int | None = None
        self.next_ns: int | None = None
        """When it next opens or closes, ns UTC; None when nothing was told."""

    def use_table(self, table: Sequence[Span]) -> None:
        """The spans of the desired state; empty: record always."""
        self._told = bool(table)
        self._table = sorted((int(start), int(stop)) for start, stop in table)

    def is_open(self, now_ns: int, monotonic_ns: int, *, doubtful: bool) -> bool:
        """Record now? `doubtful`: our clock and the feed's differ too much to leave a feed that still speaks."""
        if not self._told:
            return True
        if not self._table or now_ns >= self._table[-1][1]:
            self._table = self._load(now_ns)
        self.next_ns = next_change(self._table, now_ns)
        if is_recording(self._table, now_ns) or doubtful:
            self._closed_since_ns = None
            return True
        if self._closed_since_ns is None:
            self._closed_since_ns = monotonic_ns
        return False

    def closed_for_good(self, monotonic_ns: int) -> bool:
        """It has been closed long enough to leave the link."""
        return self._closed_since_ns is not None and monotonic_ns - self._closed_since_ns >= CLOSED_FOR_NS

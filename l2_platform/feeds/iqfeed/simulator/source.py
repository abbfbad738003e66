"""What the services ask of whatever makes the data: the generated market or a recording.

What does not belong here: either of the two (`live`, `playback`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from l2_platform.feeds.iqfeed.simulator.history import TradeHistory
from l2_platform.feeds.iqfeed.simulator.layouts import Layout
from l2_platform.feeds.iqfeed.simulator.line_kernels import Int32, Int64, UInt8, select_lines

TURN_S: Final = 0.003
"""Wait for sockets between two looks at what is due, s."""


@dataclass(slots=True)
class LineBatch:
    """Wire lines of one service, with the end and the symbol of each; `trades` marks trade prints."""

    data: bytes
    ends: Int64
    symbols: Int32
    trades: UInt8

    def select(self, watch: UInt8) -> bytes:
        """The lines of watched symbols (1 all, 2 trades only, 0 none)."""
        out = np.empty(len(self.data), np.uint8)
        buffer = np.frombuffer(self.data, np.uint8)
        size = select_lines(buffer, len(self.ends), self.ends, self.symbols, self.trades, watch, out)
        return out[:size].tobytes()


class DepthListener(Protocol):
    """Takes new Level 2 lines."""

    def has_watchers(self) -> bool:
        """False while nobody would get them."""
        ...

    def is_backed_up(self) -> bool:
        """True while a client that watches reads too slowly."""
        ...

    def publish(self, batch: LineBatch) -> None:
        """Send to whom it concerns."""
        ...


class Level1Listener(Protocol):
    """Takes new Level 1 lines, which each client may want in another layout."""

    def has_watchers(self) -> bool:
        """False while nobody would get them."""
        ...

    def is_backed_up(self) -> bool:
        """True while a client that watches reads too slowly."""
        ...

    def publish(self, make: Callable[[Layout], LineBatch]) -> None:
        """Send to whom it concerns; `make` writes the lines in a layout."""
        ...


class Source(Protocol):
    """A market or a recording."""

    names: list[str]
    history: TradeHistory
    tells_time: bool
    """The source sends clock lines itself; the services then repeat the clock only while it is silent."""
    answers_no_depth: bool
    """A watch of a book that is empty now is answered by `q`; otherwise by nothing, since its rows are still to come."""

    def patience_s(self) -> float:
        """How long the sockets may be waited for now, s."""
        ...

    def commands(self) -> Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]:
        """Control commands that only this source understands."""
        ...

    @property
    def until(self) -> int:
        """Everything up to this time was published, ns."""
        ...

    def advance(self, now_ns: int, depth: DepthListener, level1: Level1Listener) -> bool:
        """Publish what is due up to `now_ns`; True when more is due already."""
        ...

    def depth_kind(self, symbol: int) -> str:
        """`order` (WOR), `level` (WPL), `any` while that is not known, or empty when it has no depth."""
        ...

    def depth_snapshot(self, symbol: int) -> bytes:
        """Lines that rebuild the book as the next update expects it."""
        ...

    def level1_summary(self, symbol: int, layout: Layout) -> bytes:
        """The P line; empty when nothing is known."""
        ...

    def fundamental(self, symbol: int) -> bytes:
        """The F line."""
        ...

    def regional(self, symbol: int) -> bytes:
        """The R line of the venue that is best now; empty when nothing is known."""
        ...

    def correction(self, symbol: int, *, kind: str, layout: str) -> bytes:
        """A C line about the last trade; empty when there is none."""
        ...

    def status(self) -> dict[str, object]:
        """Numbers for people."""
        ...

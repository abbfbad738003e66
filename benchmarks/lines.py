"""Wire lines to measure with: the simulated market's own, in any shape of depth, framed as a collector would have read them.

The lines are those of the platform's simulator (orders rest, are changed, deleted and traded; a few symbols are busy, most are
quiet), without its pace and sockets. What does not belong here: timing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from l2_platform.feeds.iqfeed.simulator.layouts import DEFAULT_NAMES, TAIL_NAMES, Layout
from l2_platform.feeds.iqfeed.simulator.live import LiveMarket
from l2_platform.feeds.iqfeed.simulator.source import LineBatch
from l2_platform.settings import SimulatorSettings

START_NS: Final = 1_753_452_000_000_000_000
"""2025-07-25 14:00 UTC, 10:00 in New York."""
SESSION_DATE: Final = 20250725
SECOND_NS: Final = 1_000_000_000
SHAPES: Final = ("orders", "venues", "levels")
"""Shapes of depth, as the simulator names them: order by order, one best row per venue, price levels."""
FRAME_NS: Final = 1_000_000
"""A collector reads about once in 1 ms: so many lines are one frame."""


@dataclass(slots=True)
class Block:
    """Lines in frames: what decoders take."""

    buffer: npt.NDArray[np.uint8]
    frame_start: npt.NDArray[np.int64]
    frame_seq: npt.NDArray[np.uint64]
    frame_count: npt.NDArray[np.uint32]
    frame_ts: npt.NDArray[np.int64]
    frame_flags: npt.NDArray[np.uint8]
    frame_conn: npt.NDArray[np.uint32]
    session_date: int = SESSION_DATE

    @property
    def rows(self) -> int:
        """Lines in it."""
        return int(self.frame_count.sum())

    def frames(self) -> list[tuple[bytes, int, int, int]]:
        """(payload, lines, seq of the first, ts_recv) of each frame: what the journal takes."""
        data = self.buffer.tobytes()
        edges = self.frame_start.tolist()
        heads = zip(self.frame_count.tolist(), self.frame_seq.tolist(), self.frame_ts.tolist(), strict=True)
        return [(data[edges[at] : edges[at + 1]], *head) for at, head in enumerate(heads)]


@dataclass(slots=True)
class Lines:
    """Whole lines of one service, and when each was sent."""

    data: bytes
    ends: npt.NDArray[np.int64]
    """Where each line ends in `data`."""
    ts: npt.NDArray[np.int64]
    """When each is received, ns UTC, rising."""

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def line_bytes(self) -> float:
        """Mean length, bytes, with its end."""
        return len(self.data) / max(1, len(self))

    def block(self, *, seq_first: int = 1, frame_lines: int = 0) -> Block:
        """As frames of all lines received within 1 ms, or of `frame_lines` lines each."""
        count = len(self)
        if frame_lines:
            heads = np.arange(0, count, frame_lines)
        else:
            heads = np.flatnonzero(np.diff(self.ts // FRAME_NS, prepend=-1))
        counts = np.diff(heads, append=count)
        return Block(
            buffer=np.frombuffer(self.data, np.uint8).copy(),
            frame_start=np.append(np.append(0, self.ends)[heads], len(self.data)).astype(np.int64),
            frame_seq=(seq_first + heads).astype(np.uint64),
            frame_count=counts.astype(np.uint32),
            frame_ts=self.ts[heads],
            frame_flags=np.zeros(len(heads), np.uint8),
            frame_conn=np.ones(len(heads), np.uint32),
        )

    def head(self, count: int) -> "Lines":
        """The first lines."""
        return self.slice(0, min(count, len(self)))

    def slice(self, first: int, last: int) -> "Lines":
        """The lines from `first` to before `last`."""
        begin, end = (int(self.ends[at - 1]) if at else 0 for at in (first, last))
        return Lines(self.data[begin:end], self.ends[first:last] - begin, self.ts[first:last])

    def __add__(self, other: "Lines") -> "Lines":
        return Lines(
            self.data + other.data,
            np.concatenate([self.ends, len(self.data) + other.ends]),
            np.concatenate([self.ts, other.ts]),
        )


class GeneratedMarket:
    """The simulated market as lines. The same arguments give the same lines."""

    def __init__(
        self, symbols: int, shape: str = "orders", *, rate: float = 35_000, seed: int = 7, fields: tuple[str, ...] = ()
    ) -> None:
        """`rate`: depth and Level 1 lines a second together, up to 400,000; `fields`: columns of Level 1 after Symbol."""
        settings = SimulatorSettings(symbols=symbols, shape=shape, rate=rate, seed=seed)
        self._live = LiveMarket(settings, START_NS, flat=True)
        self._layout = Layout(fields or (*DEFAULT_NAMES, *TAIL_NAMES))
        self._now = START_NS
        self.names = self._live.names

    def snapshot(self) -> Lines:
        """The burst that rebuilds every book as it is now, received in one moment."""
        parts = [self._live.depth_snapshot(number) for number in range(len(self.names))]
        return _lines(b"".join(parts), self._now)

    def depth(self, count: int) -> Lines:
        """The next `count` depth lines."""
        return self._take(count, depth=True)

    def level1(self, count: int) -> Lines:
        """The next `count` Level 1 lines."""
        return self._take(count, depth=False)

    def seconds(self) -> Iterator[tuple[Lines, Lines]]:
        """Depth and Level 1 lines of one second after the other, without end, none left out; in bounded memory."""
        while True:
            depth, level1 = _Collector(self._layout), _Collector(self._layout)
            before = self._live.until
            self._live.advance(before + SECOND_NS, depth, level1)
            self._now = self._live.until
            parts = [[(batch, before, self._now) for batch in service.take()] for service in (depth, level1)]
            yield _joined(parts[0]), _joined(parts[1])

    def _take(self, count: int, *, depth: bool) -> Lines:
        batches: list[tuple[LineBatch, int, int]] = []
        wanted, ignored = _Collector(self._layout), _Collector(None)
        held = 0
        while held < count:
            before = self._live.until
            self._live.advance(before + SECOND_NS, *((wanted, ignored) if depth else (ignored, wanted)))
            self._now = self._live.until
            for batch in wanted.take():
                batches.append((batch, before, self._now))
                held += len(batch.ends)
        return _joined(batches).head(count)

    @property
    def layout(self) -> Layout:
        """Columns of the Level 1 lines."""
        return self._layout


class _Collector:
    """Takes the simulator's lines as its services do: Level 1 in a layout, or none at all."""

    def __init__(self, layout: Layout | None) -> None:
        self._layout = layout
        self._held: list[LineBatch] = []

    def has_watchers(self) -> bool:
        """Whether lines are wanted."""
        return self._layout is not None

    def is_backed_up(self) -> bool:
        """Never."""
        return False

    def publish(self, made: LineBatch | Callable[[Layout], LineBatch]) -> None:
        """Keep them."""
        assert self._layout is not None
        self._held.append(made if isinstance(made, LineBatch) else made(self._layout))

    def take(self) -> list[LineBatch]:
        """What came since the last call."""
        held, self._held = self._held, []
        return held


def _joined(batches: Sequence[tuple[LineBatch, int, int]]) -> Lines:
    """Batches with the time that each spans, as one, its lines evenly spread."""
    offset = 0
    ends, stamps = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for batch, begin, end in batches:
        ends.append(batch.ends + offset)
        stamps.append(np.linspace(begin, end, len(batch.ends), endpoint=False).astype(np.int64))
        offset += len(batch.data)
    return Lines(b"".join(batch.data for batch, _, _ in batches), np.concatenate(ends), np.concatenate(stamps))


def _lines(data: bytes, ts: int) -> Lines:
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 10) + 1
    return Lines(data, ends, np.full(len(ends), ts, np.int64))


def read_recorded(data: bytes, rate: float = 35_000) -> Lines:
    """Lines of a captured file as if they came at `rate` a second."""
    lines = _lines(data, 0)
    stamps = START_NS + (np.arange(len(lines)) * (SECOND_NS / rate)).astype(np.int64)
    return Lines(data, lines.ends, stamps)

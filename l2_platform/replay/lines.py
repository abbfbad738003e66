"""The stored lines of a session date, decoded and told apart: what the market said, and what was only talk on the recording's own link.

A `Piece` is some consecutive lines of one stream, an `Event` something that happened to the recording between two lines. What does not
belong here: when they are played (`pace`), to whom (`player`).
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from l2_platform.delivery.pipeline import channel_of, source_of
from l2_platform.feeds.iqfeed.decode_depth import DepthDecoder
from l2_platform.feeds.iqfeed.decode_level1 import Level1Decoder
from l2_platform.feeds.iqfeed.layouts import ACKNOWLEDGED_FIELDS, DEFAULT_FIELDS
from l2_platform.journal.reader import Block, Control, Damage, JournalReader, segment_context
from l2_platform.market.events import (
    CONTENT_TRADE,
    NO_SYMBOL,
    NULL_TS,
    DecodeError,
    DepthBatch,
    DepthKind,
    Int64,
    Level1Batch,
    Level1Kind,
    UInt8,
)
from l2_platform.market.instruments import SymbolTable
from l2_platform.settings import Settings

CHANNELS: Final = ("depth", "level1")
"""Channels that IQConnect's streaming ports serve."""

# What a line is to whoever plays it.
MARKET: Final = 0
"""A market line of a symbol."""
COMMON: Final = 1
"""A market line of no symbol (news, lines that cannot be read): everybody who watches gets it."""
CLOCK: Final = 2
"""The feed's clock."""
LINK_DOWN: Final = 3
LINK_UP: Final = 4
FIELDS: Final = 5
"""The acknowledged columns of Level 1 lines."""
TALK: Final = 6
"""Greetings, acknowledgements and answers of the recorded link: the playing server says its own."""
TORN: Final = 7
"""The rest of a line that a disconnect cut, or a piece of one over the limit: not a line, never sent."""

_MARKET_LETTERS: Final = {"depth": "03456789Z2K", "level1": "QPFRC"}
_COMMON_KINDS: Final = {
    "depth": (DepthKind.BAD, DepthKind.OTHER), "level1": (Level1Kind.BAD, Level1Kind.OTHER, Level1Kind.NEWS),
}  # fmt: skip


def _marks(channel: str) -> UInt8:
    table = np.full(256, TALK, np.uint8)
    table[[ord(letter) for letter in _MARKET_LETTERS[channel]]] = MARKET
    table[[int(kind) for kind in _COMMON_KINDS[channel]]] = COMMON
    table[ord("T")] = CLOCK
    if channel == "depth":
        table[int(DepthKind.DISCONNECTED)] = LINK_DOWN
    return table


_MARKS: Final = {channel: _marks(channel) for channel in CHANNELS}


@dataclass(slots=True)
class Piece:
    """Consecutive lines of one stream; the arrays have one element per line."""

    track: int
    """Which of the played streams."""
    channel: str
    data: UInt8
    """The lines as received."""
    ends: Int64
    """Where each line ends in `data`."""
    times: Int64
    """When each is due, ns of market time; never goes back."""
    marks: UInt8
    trades: UInt8
    """1 where a client that watches trades only gets the line."""
    batch: DepthBatch | Level1Batch
    specials: list[int] = field(default_factory=list)
    """The lines that are no market line of a symbol."""

    def __len__(self) -> int:
        return len(self.ends)

    def begin(self, row: int) -> int:
        """Where a line begins in `data`."""
        return int(self.ends[row - 1]) if row else 0

    def line(self, row: int) -> bytes:
        """A line with its end."""
        return self.data[self.begin(row) : int(self.ends[row])].tobytes()


@dataclass(frozen=True, slots=True)
class Event:
    """Something that the recorder noted between two lines."""

    track: int
    channel: str
    kind: str
    """`connect`, `disconnect`, `reset` (the session begins) or `damage`."""
    time: int
    """Market time, ns."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A stream of a session date that is to be played."""

    stream: str
    session_date: int

    @property
    def channel(self) -> str:
        """Depth or level1."""
        return channel_of(self.stream)


class PartReader:
    """Reads one stream of one session date from its beginning, up to what is durable now."""

    def __init__(self, settings: Settings, part: Part, track: int, symbols: SymbolTable) -> None:
        """`symbols` may be shared by streams that are read in one thread."""
        self.part = part
        self.track = track
        self.finished = False
        live = source_of(part.stream) == "live"
        self._live = live
        durable = settings.run_dir / "durable" / part.stream if live else None
        self._reader = JournalReader(settings.journal_dir, part.stream, part.session_date, durable_path=durable)
        self._context = segment_context(settings.journal_dir, part.stream, part.session_date) or {}
        self._decoder: DepthDecoder | Level1Decoder
        if part.channel == "depth":
            self._decoder = DepthDecoder(symbols)
        else:
            self._decoder = Level1Decoder(symbols)
            self._decoder.restore(self._context)
        self._time = NULL_TS

    @property
    def first_fields(self) -> tuple[str, ...]:
        """Columns of the first Level 1 lines, Symbol first."""
        return tuple(self._context.get("fields") or DEFAULT_FIELDS)

    def read(self, max_bytes: int) -> list[Piece | Event]:
        """About `max_bytes` of journal; [] at the end."""
        while items := self._reader.read(max_bytes):
            found = [self._piece(item) if isinstance(item, Block) else self._event(item) for item in items]
            told = [item for item in found if item is not None]
            if told:
                return told
        self.finished = True
        self._reader.close()
        return []

    def _event(self, item: Control | Damage) -> Event | None:
        if isinstance(item, Damage):
            return Event(self.track, self.part.channel, "damage", self._time, f"{self.part.stream}: {item.reason}")
        kinds = {"connect": "connect", "collector_start": "connect", "disconnect": "disconnect"}
        kind = "reset" if item.event == "session" and item.fields.get("reset") else kinds.get(item.event)
        if kind is None:
            return None
        if self._live:
            self._time = max(self._time, item.ts_recv)
        return Event(self.track, self.part.channel, kind, self._time)

    def _piece(self, block: Block) -> Piece | None:
        batch = self._decoder.decode(block)
        if not len(batch):
            return None
        channel = self.part.channel
        ends = np.append(batch.line_start[1:], len(block.buffer)).astype(np.int64)
        marks = _MARKS[channel][batch.kind]
        marks[(marks == MARKET) & (batch.symbol == NO_SYMBOL)] = COMMON
        marks[(batch.error == DecodeError.FRAGMENT) | (batch.error == DecodeError.OVERSIZE)] = TORN
        system = np.flatnonzero(batch.kind == ord("S"))
        for row in system:
            marks[row] = _mark_of_system(batch.line(int(row)))
        piece = Piece(
            self.track, channel, block.buffer, ends, self._times(batch), marks, _trades(batch), batch,
            np.flatnonzero(marks != MARKET).tolist(),
        )  # fmt: skip
        self._time = int(piece.times[-1])
        return piece

    def _times(self, batch: DepthBatch | Level1Batch) -> Int64:
        """Receive times of a live stream, the feed's own times of an import; what has none takes the one before it."""
        times = batch.ts_recv if self._live else batch.ts_event
        if not self._live and self._time == NULL_TS:
            known = times[times != NULL_TS]
            self._time = int(known[0]) if len(known) else NULL_TS
        return np.maximum.accumulate(np.maximum(times, self._time))


def _mark_of_system(line: bytes) -> int:
    if line.startswith(ACKNOWLEDGED_FIELDS):
        return FIELDS
    if line.startswith(b"S,SERVER DISCONNECTED"):
        return LINK_DOWN
    return LINK_UP if line.startswith(b"S,SERVER CONNECTED") else TALK


def _trades(batch: DepthBatch | Level1Batch) -> UInt8:
    """Level 1: updates that carry a print, and every line that is no update."""
    if isinstance(batch, DepthBatch):
        return np.ones(len(batch), np.uint8)
    trades: UInt8 = ((batch.kind != Level1Kind.QUOTE) | ((batch.contents & CONTENT_TRADE) != 0)).astype(np.uint8)
    return trades


class Chosen:
    """Which symbols are played: all, or some; grows with the names that lines bring."""

    def __init__(self, table: SymbolTable, wanted: tuple[str, ...] = ()) -> None:
        self._table = table
        self._wanted = frozenset(wanted)
        self.mask: UInt8 = np.zeros(0, np.uint8)
        """Per symbol number: 1 when it is played."""
        self.names: list[str] = []
        """Names by number; a line feed, which no command can hold, in place of one that is not played."""
        self.grow()

    @property
    def everything(self) -> bool:
        """No symbol is left out."""
        return not self._wanted

    def grow(self) -> bool:
        """Take over names that the table got; True when there were any."""
        fresh = self._table.names[len(self.names) :]
        if not fresh:
            return False
        plays = [not self._wanted or name in self._wanted for name in fresh]
        self.names.extend(name if yes else "\n" for name, yes in zip(fresh, plays, strict=True))
        self.mask = np.concatenate([self.mask, np.array(plays, np.uint8)])
        return True

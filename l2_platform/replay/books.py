"""Books of stored depth streams: which stream has a symbol, its book at an instant, every state of a day, and the live book.

All of it goes through the same pipeline as the delivery: journal → decode → book. A checkpoint of any sink shortens the way.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from l2_platform.book.engine import BookEngine
from l2_platform.delivery.checkpoint import Checkpoint, CheckpointStore
from l2_platform.delivery.delivery import make_pipeline
from l2_platform.delivery.pipeline import Pipeline, channel_of, source_of
from l2_platform.errors import BookError, BookIndexUnusable, InputError
from l2_platform.journal.frame import Position
from l2_platform.journal.reader import Block, Control, JournalReader, list_dates, list_streams, segment_context
from l2_platform.market.dates import date_text
from l2_platform.market.events import NULL_PRICE, NULL_TS, DepthBatch, SnapshotBatch, Trust
from l2_platform.replay.book_index_file import IndexFile, index_path
from l2_platform.settings import Settings

READ_BYTES = 4 << 20
EXPORT_READ_BYTES = 1 << 20
"""Most journal bytes whose states are in memory at once: 20,000 lines with 50 levels are 40 MB."""
DATES_SEARCHED = 3
"""How many recorded dates of a live stream are read through for a symbol when no date is named; each may be gigabytes."""
_FAR = 1 << 60


@dataclass(frozen=True, slots=True)
class BookView:
    """One book at one instant; levels are (price 1e-9, size, order count), best first."""

    symbol: str
    stream: str
    session_date: int
    seq: int
    """Last seq of the stream that is in the book."""
    ts: int
    """Time of that message, ns: received (live) or the feed's own (imports)."""
    trust: Trust
    bids: list[tuple[int, int, int]]
    asks: list[tuple[int, int, int]]


def depth_streams(settings: Settings) -> list[str]:
    """Streams of depth in the journal: live first, then imports."""
    streams = [name for name in list_streams(settings.journal_dir) if channel_of(name) == "depth"]
    return sorted(streams, key=lambda name: (source_of(name) != "live", name))


def stream_of(settings: Settings, symbol: str, session_date: int | None, stream: str | None) -> tuple[str, int]:
    """The stream and session date to read for a symbol; InputError says what there is when that is not one.

    Live streams are preferred; of several imports one must be named.
    """
    available = depth_streams(settings)
    if not available:
        raise InputError("the journal holds no depth stream yet: start recording (`l2 up`) or import a file (`l2 import --help`)")
    if stream is not None and stream not in available:
        raise InputError(f"no depth stream {stream!r} in the journal; there are: {', '.join(available)}")
    found: list[tuple[str, int]] = []
    seen: dict[str, list[int]] = {}
    for name in [stream] if stream else available:
        dates = list_dates(settings.journal_dir, name)
        seen[name] = dates
        wanted = [date for date in reversed(dates) if session_date in (None, date)]
        if source_of(name) == "live":
            wanted = wanted[:DATES_SEARCHED]
        hit = next((date for date in wanted if _has_symbol(settings, name, date, symbol)), None)
        if hit is not None:
            found.append((name, hit))
            if source_of(name) == "live":
                return found[0]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{name} ({date_text(date)})" for name, date in found)
        raise InputError(f"{symbol} is in several streams: {names}; name one with --stream")
    raise InputError(_missing(symbol, session_date, seen))


def _missing(symbol: str, session_date: int | None, seen: dict[str, list[int]]) -> str:
    dates = sorted({date for dates in seen.values() for date in dates})
    if session_date is not None and session_date not in dates:
        known = ", ".join(map(date_text, dates[-5:])) or "none"
        return f"nothing is recorded on session date {date_text(session_date)}; the newest dates are: {known}"
    when = f" on {date_text(session_date)}" if session_date else ""
    if session_date is None and any(source_of(name) == "live" and len(found) > DATES_SEARCHED for name, found in seen.items()):
        when = f" on the newest {DATES_SEARCHED} dates (name an older one with --date)"
    return f"no depth of {symbol!r}{when} in {', '.join(seen)}; `l2 journal ls` shows what there is, symbols are case-sensitive"


def _has_symbol(settings: Settings, stream: str, session_date: int, symbol: str) -> bool:
    with suppress(OSError, BookIndexUnusable), IndexFile(index_path(settings.book_index_dir, stream, session_date)) as index:
        known = index.directory.head
        if symbol in known["symbols"]:
            return True
        if known["complete"]:
            return False
    context = segment_context(settings.journal_dir, stream, session_date) or {}
    if "symbols" in context:
        return symbol in context["symbols"]
    checkpoint = _newest_checkpoint(settings, stream, session_date, _FAR)
    if checkpoint is not None and symbol in checkpoint.state["symbols"]:
        return True
    # What the checkpoint knows need not be read again.
    start = checkpoint.position if checkpoint is not None else None
    message = re.compile(rb"(?m)^\w," + re.escape(symbol.encode()) + rb",")
    reader = JournalReader(settings.journal_dir, stream, session_date, start=start, durable_path=_durable(settings, stream))
    while items := reader.read(READ_BYTES):
        if any(isinstance(item, Block) and message.search(item.buffer.tobytes()) for item in items):
            return True
    return False


def _durable(settings: Settings, stream: str) -> Path | None:
    return settings.run_dir / "durable" / stream if source_of(stream) == "live" else None


def _newest_checkpoint(settings: Settings, stream: str, session_date: int, offset_max: int) -> Checkpoint | None:
    limit = Position(session_date, offset_max, 0)
    stores = [CheckpointStore(folder / stream, 1) for folder in sorted(settings.checkpoint_dir.glob("*"))]
    found = [checkpoint for store in stores if (checkpoint := store.newest(limit)) is not None]
    return max(found, key=lambda checkpoint: checkpoint.position, default=None)


class BookReader:
    """Follows one depth stream of one session date and keeps its books."""

    def __init__(
        self, settings: Settings, stream: str, session_date: int, *, from_checkpoint: bool, levels: int,
        start: tuple[Checkpoint, int] | None = None,
    ) -> None:  # fmt: skip
        """`from_checkpoint`: from the newest of any sink; `start`: from this one and the time of its last row, else BookError."""
        self.stream, self.session_date, self.levels = stream, session_date, levels
        self._settings = settings
        self._live = source_of(stream) == "live"
        self.ts = NULL_TS
        checkpoint = _newest_checkpoint(settings, stream, session_date, _FAR) if from_checkpoint else None
        self.pipeline = self._pipeline(settings, levels)
        if start is not None:
            checkpoint, self.ts = start
            self.pipeline.load(checkpoint.state)
        elif checkpoint is not None and not self._load(checkpoint):
            self.pipeline, checkpoint = self._pipeline(settings, levels), None
        if checkpoint is None and not self._live:
            self._earlier_dates(settings)
        self._begin(session_date, checkpoint.position if checkpoint is not None else None)

    def _begin(self, session_date: int, start: Position | None) -> None:
        # What the pipeline was loaded with knows the last line before `start`: lines missing right there are told.
        seq = self.pipeline.seq if start is not None else None
        journal = self._settings.journal_dir
        self.session_date = session_date
        self.pipeline.begin_date(session_date, segment_context(journal, self.stream, session_date))
        self._reader = JournalReader(
            journal, self.stream, session_date, start=start, seq=seq, durable_path=_durable(self._settings, self.stream)
        )

    @property
    def journal(self) -> JournalReader:
        """What it reads from."""
        return self._reader

    @property
    def is_live(self) -> bool:
        """Its time is that of receipt, not the feed's own."""
        return self._live

    def _load(self, checkpoint: Checkpoint) -> bool:
        try:
            self.pipeline.load(checkpoint.state)
        except BookError:
            return False
        told = self.pipeline.gaps.last_data if self._live else checkpoint.state["decoder"].get("event_ns")
        self.ts = NULL_TS if told is None else int(told)
        return True

    def _pipeline(self, settings: Settings, levels: int) -> Pipeline:
        jsonl = settings.jsonl.model_copy(update={"levels": max(levels, settings.jsonl.levels)})
        return make_pipeline(self.stream, settings.model_copy(update={"jsonl": jsonl}))

    def _earlier_dates(self, settings: Settings) -> None:
        for date in list_dates(settings.journal_dir, self.stream):
            if date < self.session_date:
                self.pipeline.begin_date(date, segment_context(settings.journal_dir, self.stream, date))
                reader = JournalReader(settings.journal_dir, self.stream, date, durable_path=None)
                while items := reader.read(READ_BYTES):
                    self.pipeline.advance(items)

    @property
    def engine(self) -> BookEngine:
        """The books."""
        engine = self.pipeline.engine
        assert engine is not None
        return engine

    def batches(self) -> Iterator[DepthBatch]:
        """Decoded batches up to what is durable now; controls act on the books, the caller applies the batches."""
        while items := self._reader.read(READ_BYTES if self.levels <= 10 else EXPORT_READ_BYTES):
            yield from self.pipeline.decoded(items)

    def follow(self) -> bool:
        """Apply all of the date that is durable now; True when anything came."""
        moved = False
        while items := self._reader.read(READ_BYTES):
            moved = True
            for batch in self.pipeline.decoded(items):
                self.apply(batch, self.times(batch), len(batch))
        return moved

    def roll(self) -> bool:
        """Go on with the next session date when this one is over and read; True when there is one."""
        if not self._reader.finished:
            return False
        later = [date for date in list_dates(self._settings.journal_dir, self.stream) if date > self.session_date]
        if later:
            self._begin(later[0], None)
        return bool(later)

    def advance_to(self, at: int) -> None:
        """Apply every message up to and with an instant, ns: receive time for live streams, the feed's own time for imports."""
        while items := self._reader.read(READ_BYTES):
            for item in items:
                if isinstance(item, Control) and self._live and item.ts_recv > at:
                    return  # what the link did later says nothing of the books at that instant
                for batch in self.pipeline.decoded([item]):
                    times = self.times(batch)
                    count = int(np.searchsorted(times, at, side="right"))
                    if count:
                        self.apply(batch if count == len(batch) else head(batch, count), times, count)
                    if count < len(batch):
                        return

    def times(self, batch: DepthBatch) -> np.ndarray:
        """Journal time of each row; it never goes back."""
        times: np.ndarray = np.maximum.accumulate(np.maximum(batch.ts_recv if self._live else batch.ts_event, self.ts))
        return times

    def apply(self, batch: DepthBatch, times: np.ndarray, count: int) -> None:
        """Apply a batch, the first `count` rows of one whose `times` are these."""
        self.engine.apply(batch, "recv" if self._live else "event")
        self.pipeline.seq = int(batch.seq[-1])
        self.ts = int(times[count - 1])

    def view(self, symbol: str, levels: int) -> BookView:
        """The book of a symbol as it stands."""
        number = self.pipeline.symbols.number(symbol)
        if number is None:
            return BookView(symbol, self.stream, self.session_date, self.pipeline.seq, self.ts, Trust.BUILDING, [], [])
        bids, asks = (
            [(int(price), int(size), int(count)) for price, size, count in side] for side in self.engine.top(number, levels)
        )
        trust = self.engine.trust(number)
        return BookView(symbol, self.stream, self.session_date, self.pipeline.seq, self.ts, trust, bids, asks)


def head(batch: DepthBatch, count: int) -> DepthBatch:
    """The first rows of a batch."""
    pairs = int(np.searchsorted(batch.pair_row, count))
    arrays = {
        name: getattr(batch, name)[: pairs if name.startswith("pair_") else count]
        for name in DepthBatch.__dataclass_fields__
        if name not in {"buffer", "trust"}
    }
    return replace(batch, **arrays, trust=np.zeros(0, np.uint8))


def states(
    settings: Settings, symbol: str, stream: str, session_date: int, levels: int, *, changes_only: bool
) -> Iterator[SnapshotBatch]:
    """The symbol's top `levels` after every line of the stream, or after every change of them, in chunks."""
    reader = BookReader(settings, stream, session_date, from_checkpoint=False, levels=levels)
    number = reader.pipeline.symbols.intern(symbol)
    for batch in reader.batches():
        yield reader.engine.apply_all(batch, number, levels, changes_only)


def columns_of(batch: SnapshotBatch, levels: int) -> dict[str, np.ndarray]:
    """Export columns: line, ts_event, ts_recv, trust, then bid_px_1, bid_sz_1, bid_ct_1, ask_px_1, … ; NaN prices and -1 where empty."""
    columns: dict[str, np.ndarray] = {
        "line": batch.seq.astype(np.int64), "ts_event": batch.ts_event, "ts_recv": batch.ts_recv, "trust": batch.trust,
    }  # fmt: skip
    for level in range(levels):
        for side in ("bid", "ask"):
            px = getattr(batch, f"{side}_px")[:, level]
            empty = px == NULL_PRICE
            columns[f"{side}_px_{level + 1}"] = np.where(empty, np.nan, px / 1e9)
            columns[f"{side}_sz_{level + 1}"] = np.where(empty, -1, getattr(batch, f"{side}_sz")[:, level])
            columns[f"{side}_ct_{level + 1}"] = np.where(empty, -1, getattr(batch, f"{side}_ct")[:, level])
    return columns

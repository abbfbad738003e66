"""The book of a symbol at any stored instant, from the book index of its date; without one, or with a damaged one, from the journal.

An instant is found in the directory (which piece of the journal), then in that piece (which line), and the rows of the symbol up to there
are applied to its book as the index has it. The answer is that of reading the journal from the beginning of the date (`BookReader`), in
every field. What does not belong here: building the index.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

import numpy as np

from l2_platform.book.engine import BookEngine
from l2_platform.delivery.pipeline import source_of
from l2_platform.errors import BookError, BookIndexUnusable, JournalError
from l2_platform.feeds.iqfeed.decode_depth import DepthDecoder
from l2_platform.journal.frame import FRAME_BYTES, Frame, FrameKind, Position, frames_from
from l2_platform.journal.items import Block
from l2_platform.journal.layout import date_folder, raw_path, sealed_path
from l2_platform.journal.source import SegmentSource, open_source
from l2_platform.market.dates import date_text
from l2_platform.market.events import NULL_TS, DepthBatch, DepthKind, Trust
from l2_platform.market.instruments import SymbolTable
from l2_platform.replay.book_index_build import ACTIONS, CLOCK
from l2_platform.replay.book_index_file import IndexFile, index_path
from l2_platform.replay.book_index_rows import SymbolRows, changes_book, empty_rows, unpack_symbol
from l2_platform.replay.books import BookReader, BookView, head
from l2_platform.settings import Settings

Told = Callable[[str], None]
LEVELS = 10
_RESET, _BUILDING, _SUSPECT = (ACTIONS[name] for name in ("reset", "mark_building", "mark_suspect"))


def book_at(
    settings: Settings, symbol: str, at_ns: int, stream: str, session_date: int, *, levels: int = LEVELS,
    told: Told = lambda _text: None,
) -> BookView:  # fmt: skip
    """One question; for many use `BookHistory`, which keeps what it opened."""
    with BookHistory(settings, told=told) as history:
        return history.book_at(symbol, at_ns, stream, session_date, levels=levels)


@dataclass(slots=True)
class _Opened:
    """An index at hand."""

    file: IndexFile
    decoder: DepthDecoder
    symbols: SymbolTable


@dataclass(frozen=True, slots=True)
class _Cut:
    """Where an instant is: everything before `unit` and so many rows of the symbol in it; the last line and the time of the last row."""

    unit: int
    rows: int
    seq: int
    ts: int


@dataclass(slots=True)
class _Cache:
    """What was read last, by size."""

    bytes_max: int
    held: OrderedDict[tuple[str, int], bytes] = field(default_factory=OrderedDict)
    size: int = 0

    def get(self, key: tuple[str, int], make: Callable[[], bytes]) -> bytes:
        if key in self.held:
            self.held.move_to_end(key)
            return self.held[key]
        data = make()
        self.held[key] = data
        self.size += len(data)
        while self.size > self.bytes_max and self.held:
            self.size -= len(self.held.popitem(last=False)[1])
        return data


class BookHistory:
    """Books at many instants: keeps indexes and segments open and what it unpacked, within the bounds of the settings.

    One thread at a time uses it (a lock makes others wait). Close it, or use it as a context.
    """

    def __init__(self, settings: Settings, *, told: Told = lambda _text: None) -> None:
        """`told` hears, once a date, why an answer is slow: no index, or one that cannot be used."""
        self._settings = settings
        self._told = told
        self._heard: set[str] = set()
        self._opened: OrderedDict[tuple[str, int], _Opened] = OrderedDict()
        self._sources: OrderedDict[tuple[str, int, int], SegmentSource] = OrderedDict()
        self._cache = _Cache(settings.book_index.cache_bytes)
        self._lock = Lock()
        self.slow = 0
        """Answers that were rebuilt from the beginning of the date."""

    def __enter__(self) -> "BookHistory":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give all files back."""
        with self._lock:
            for opened in self._opened.values():
                opened.file.close()
            for source in self._sources.values():
                source.close()
            self._opened.clear()
            self._sources.clear()
            self._cache = _Cache(self._settings.book_index.cache_bytes)

    def book_at(self, symbol: str, at_ns: int, stream: str, session_date: int, *, levels: int = LEVELS) -> BookView:
        """The book after every message up to and with the instant, ns UTC: receive time for live streams, the feed's own for imports."""
        with self._lock:
            try:
                opened = self._open(stream, session_date)
                if opened is None:
                    self._tell(
                        f"{stream} {date_text(session_date)} has no book index: reading the journal from the beginning of the date; "
                        f"`l2 book index {date_text(session_date)}` makes this fast"
                    )
                else:
                    return self._from_index(opened, symbol, at_ns, levels)
            except BookIndexUnusable as error:
                self._forget(stream, session_date)
                self._tell(
                    f"{error.message}; reading the journal from the beginning of the date; "
                    f"`l2 book index {date_text(session_date)} --anew` mends it"
                )
        self.slow += 1
        return rebuilt_book(self._settings, symbol, at_ns, stream, session_date, levels)

    def span(self, stream: str, session_date: int) -> tuple[int, int]:
        """From about the first to the last instant that the index of a date knows, ns UTC; BookIndexUnusable when there is none."""
        with self._lock:
            opened = self._open(stream, session_date)
        if opened is None:
            day = date_text(session_date)
            raise BookIndexUnusable(f"{stream} {day} has no book index; `l2 book index {day}` makes it")
        times = opened.file.directory.units[:, 0]
        known = times[times != NULL_TS]
        last = int(opened.file.directory.head["time"])
        return (int(known[0]) if len(known) else last - 1_000_000_000), last

    def _tell(self, text: str) -> None:
        if text not in self._heard:
            self._heard.add(text)
            self._told(text)

    # ── files ──

    def _open(self, stream: str, session_date: int) -> _Opened | None:
        key = (stream, session_date)
        path = index_path(self._settings.book_index_dir, stream, session_date)
        opened = self._opened.get(key)
        if opened is not None:
            if opened.file.is_current():
                self._opened.move_to_end(key)
                return opened
            self._forget(stream, session_date)
        try:
            file = IndexFile(path)
        except FileNotFoundError:
            return None
        known = file.directory.head
        symbols = SymbolTable(known["symbols"], names_max=known["names_max"])
        opened = self._opened[key] = _Opened(file, DepthDecoder(symbols), symbols)
        while len(self._opened) > self._settings.book_index.open_files_max:
            self._opened.popitem(last=False)[1].file.close()
        return opened

    def _forget(self, stream: str, session_date: int) -> None:
        opened = self._opened.pop((stream, session_date), None)
        if opened is not None:
            opened.file.close()
        self._cache = _Cache(self._settings.book_index.cache_bytes)
        for key in [key for key in self._sources if key[:2] == (stream, session_date)]:
            self._sources.pop(key).close()

    def _source(self, stream: str, session_date: int, segment: int) -> SegmentSource:
        key = (stream, session_date, segment)
        source = self._sources.get(key)
        if source is not None and not source.unlinked():
            self._sources.move_to_end(key)
            return source
        if source is not None:
            self._sources.pop(key).close()
        folder = date_folder(self._settings.journal_dir, stream, session_date)
        for path in (raw_path(folder, segment), sealed_path(folder, segment)):
            try:
                source = self._sources[key] = open_source(path)
            except FileNotFoundError:
                continue
            except (OSError, JournalError) as error:
                raise BookIndexUnusable(f"{path} cannot be read: {error}") from error
            while len(self._sources) > self._settings.book_index.open_files_max:
                self._sources.popitem(last=False)[1].close()
            return source
        day = date_text(session_date)
        raise BookIndexUnusable(f"segment {segment} of {stream} {day}, which the book index knows, is not in the journal")

    # ── an instant ──

    def _from_index(self, opened: _Opened, symbol: str, at_ns: int, levels: int) -> BookView:
        known = opened.file.directory
        if at_ns >= known.head["time"] and not known.head["complete"]:
            return self._behind(opened, symbol, at_ns, levels)
        number = opened.symbols.number(symbol)
        cut = self._cut(opened, at_ns, number)
        engine = BookEngine(SymbolTable([symbol]), levels=1)
        if number is not None and len(known.units):
            self._replay(opened, engine, number, cut, at_ns)
        bids, asks = ([(int(price), int(size), int(count)) for price, size, count in side] for side in engine.top(0, levels))
        return BookView(symbol, known.head["stream"], known.head["session_date"], cut.seq, cut.ts, Trust(engine.trust(0)), bids, asks)

    def _behind(self, opened: _Opened, symbol: str, at_ns: int, levels: int) -> BookView:
        """Later than all that is in the index of a running date."""
        known = opened.file.directory.head
        try:
            reader = BookReader(
                self._settings, known["stream"], known["session_date"], from_checkpoint=False, levels=levels, start=opened.file.checkpoint()
            )
        except BookIndexUnusable:
            raise
        except BookError as error:
            raise BookIndexUnusable(f"{opened.file.path.name}: {error.message}") from error
        reader.advance_to(at_ns)
        return reader.view(symbol, levels)

    def _cut(self, opened: _Opened, at_ns: int, number: int | None) -> _Cut:
        known = opened.file.directory
        if not len(known.units):
            return _Cut(0, 0, 0 if at_ns < known.head["time"] else known.head["seq"], known.head["ts"])
        if at_ns >= known.head["time"]:
            return _Cut(len(known.units), 0, known.head["seq"], known.head["ts"])
        unit = int(np.searchsorted(known.units[:, 0], at_ns, side="right")) - 1
        segment, begin, end, seq, ts, clock, event = (int(value) for value in known.units[unit, 1:8])
        live = source_of(known.head["stream"]) == "live"
        frames, data = self._frames(opened, segment, begin, end)
        controls = []
        for place, frame in enumerate(frames):
            if frame.kind == FrameKind.CONTROL:
                if live and frame.ts_recv > at_ns:
                    frames = frames[:place]
                    break
                controls.append(frame.seq_first)
        batch = self._decoded(opened, frames, data, clock, event, Position(known.head["session_date"], segment, end))
        times = np.maximum.accumulate(np.maximum(batch.ts_recv if live else batch.ts_event, ts))
        count = int(np.searchsorted(times, at_ns, side="right"))
        if count:
            seq, ts = int(batch.seq[count - 1]), int(times[count - 1])
        if count < len(batch):
            following = int(batch.seq[count])
            controls = [line for line in controls if line < following]
        rows = int(np.count_nonzero(changes_book(batch, number)[:count])) if number is not None else 0
        return _Cut(unit, rows, max([seq, *controls]), ts)

    def _frames(self, opened: _Opened, segment: int, begin: int, end: int) -> tuple[list[Frame], memoryview]:
        """The frames of a unit, every CRC checked."""
        known = opened.file.directory.head
        data = memoryview(self._source(known["stream"], known["session_date"], segment).read(begin, end - begin))
        frames = list(frames_from(data, 0, len(data)))
        if len(data) != end - begin or not frames or frames[-1].end != len(data):
            raise BookIndexUnusable(
                f"the journal of {known['stream']} {known['session_date']}, segment {segment} from {begin} on, is not what was indexed"
            )
        return frames, data

    def _decoded(self, opened: _Opened, frames: list[Frame], data: memoryview, clock: int, event: int, end: Position) -> DepthBatch:
        lines = [frame for frame in frames if frame.kind == FrameKind.DATA]
        sizes = [frame.end - frame.start - FRAME_BYTES for frame in lines]
        block = Block(
            np.frombuffer(b"".join(data[frame.start + FRAME_BYTES : frame.end] for frame in lines), np.uint8),
            np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64),
            np.array([frame.seq_first for frame in lines], np.uint64), np.array([frame.lines for frame in lines], np.uint32),
            np.array([frame.ts_recv for frame in lines], np.int64), np.array([frame.flags for frame in lines], np.uint8),
            np.array([frame.conn_id for frame in lines], np.uint32), end, end.session_date,
        )  # fmt: skip
        names = (("clock_local_ns", clock), ("event_ns", event))
        opened.decoder.restore({name: None if value == NULL_TS else value for name, value in names})
        return opened.decoder.decode(block)

    # ── a book ──

    def _replay(self, opened: _Opened, engine: BookEngine, number: int, cut: _Cut, at_ns: int) -> None:
        known = opened.file.directory
        last_unit = min(cut.unit, len(known.units) - 1)
        group = int(known.units[last_unit, 8])
        first, last = (int(value) for value in known.groups[group, :2])
        found = self._rows(opened, group, number, last - first)
        if found is None:
            return
        engine.apply(head(found.rows, found.held))
        engine.set_marks(0, found.marks)
        done, upto, left = found.held, found.held, cut.rows
        slices = known.slices[first:last]
        # Only what happened to all books cuts the rows in pieces.
        for (unit, action, time), rows in zip(slices.tolist(), found.a_slice.tolist(), strict=True):
            if unit > cut.unit or (action and time > at_ns):
                break
            if action:
                _apply(engine, found.rows, done, upto)
                done = upto
                _act(engine, action)
            if unit == cut.unit:
                upto += min(rows, left)
                left -= min(rows, left)
            else:
                upto += rows
        _apply(engine, found.rows, done, upto)

    def _rows(self, opened: _Opened, group: int, number: int, slices: int) -> SymbolRows | None:
        chunk = opened.file.chunk_of(group, number)
        if chunk is None:
            return None
        data = self._cache.get((str(opened.file.path), chunk), lambda: opened.file.chunk(chunk))
        return unpack_symbol(data, number, slices, opened.file.path.name)


def _apply(engine: BookEngine, rows: DepthBatch, first: int, last: int) -> None:
    if last > first:
        engine.apply(_between(rows, first, last))


def _between(rows: DepthBatch, first: int, last: int) -> DepthBatch:
    pairs = np.searchsorted(rows.pair_row, (first, last))
    part = {
        name: getattr(rows, name)[slice(*(pairs if name.startswith("pair_") else (first, last)))]
        for name in DepthBatch.__dataclass_fields__
        if name not in {"buffer", "trust"}
    }
    part["pair_row"] = part["pair_row"] - first
    return DepthBatch(buffer=rows.buffer, **part)


def _act(engine: BookEngine, action: int) -> None:
    if action == _RESET:
        engine.reset()
    elif action == _BUILDING:
        engine.mark_building()
    elif action == _SUSPECT:
        engine.mark_suspect()
    elif action == CLOCK:
        tick = empty_rows(1, 0)
        tick.kind[0], tick.symbol[0] = DepthKind.CLOCK, -1
        engine.apply(tick)


def rebuilt_book(settings: Settings, symbol: str, at_ns: int, stream: str, session_date: int, levels: int = LEVELS) -> BookView:
    """The same by reading the journal from the beginning of the date: seconds for a day of many symbols."""
    reader = BookReader(settings, stream, session_date, from_checkpoint=False, levels=levels)
    reader.advance_to(at_ns)
    return reader.view(symbol, levels)

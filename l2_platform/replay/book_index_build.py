"""Builds the book index of a stream's session date from its journal, in bounded memory; what was built before is kept and continued.

The file appears whole (temporary name, fsync, rename). It is derived: deleted, it can be built again. What does not belong here:
answering from it (book_index.py).
"""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import numpy as np
from crc32c import crc32c

from l2_platform.delivery.checkpoint import Checkpoint
from l2_platform.delivery.pipeline import action_on_books
from l2_platform.errors import BookError, InputError, L2Error
from l2_platform.feeds.iqfeed.decode_depth import DepthDecoder
from l2_platform.journal.frame import FRAME_BYTES, Position
from l2_platform.journal.headers import header_of
from l2_platform.journal.layout import date_folder, list_segments
from l2_platform.journal.reader import Block, Control, Damage, Item, list_dates
from l2_platform.journal.source import open_source
from l2_platform.market.dates import date_text
from l2_platform.market.events import NULL_TS, DepthBatch, DepthKind
from l2_platform.monitoring.leases import date_lease
from l2_platform.replay.book_index_file import (
    CHUNK_COLUMNS,
    GROUP_COLUMNS,
    SLICE_COLUMNS,
    UNIT_COLUMNS,
    Directory,
    IndexFile,
    encode_checkpoint,
    encode_directory,
    encode_footer,
    index_path,
)
from l2_platform.replay.book_index_rows import GatheredRows
from l2_platform.replay.books import BookReader, depth_streams
from l2_platform.settings import Settings

NOTHING: Final = 0
CLOCK: Final = 4
ACTIONS: Final = {"reset": 1, "mark_building": 2, "mark_suspect": 3}
"""What happened to all books before a slice; NOTHING: a unit began; CLOCK: books that waited for the feed's clock are good."""
ROWS_AN_ORDER: Final = 8
"""A group is at least so many times as long as the books at its beginning: what repeats them stays small."""
_SNAPSHOTS: Final = np.isin(np.arange(256), [ord(letter) for letter in "67Z"])
_NO_THINNING_MS: Final = 1 << 40


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    """What a build did."""

    path: Path
    stream: str
    session_date: int
    lines: int
    """Last line of the date that is in it."""
    new_lines: int
    """Lines read now."""
    bytes: int
    units: int
    groups: int
    complete: bool
    """The date is over and all of it is in the index."""


def streams_of_date(settings: Settings, session_date: int, stream: str | None = None) -> list[str]:
    """Streams of depth that have the date, or the named one; InputError when there is none."""
    available = depth_streams(settings)
    if stream is not None and stream not in available:
        raise InputError(f"no depth stream {stream!r} in the journal; there are: {', '.join(available) or 'none yet'}")
    found = [name for name in ([stream] if stream else available) if session_date in list_dates(settings.journal_dir, name)]
    if not found:
        dates = sorted({date for name in available for date in list_dates(settings.journal_dir, name)})
        known = ", ".join(map(date_text, dates[-5:])) or "none"
        raise InputError(f"no depth is recorded on session date {date_text(session_date)}; the newest dates are: {known}")
    return found


def build_index(
    settings: Settings, stream: str, session_date: int, *, anew: bool = False, advance: Callable[[int], None] = lambda _lines: None
) -> BuiltIndex:
    """Build the index of a date, or go on where it ends; the running date as far as it is durable. `anew`: from the beginning.

    One core, about 150 bytes of memory for each of `book_index.group_rows_max` rows. `advance` is told of lines as they are read.
    InputError when the stream has no such date, DateBusy when its index is being built, L2Error when the disk refuses; an index that
    was there stays as it was then.
    """
    if session_date not in list_dates(settings.journal_dir, stream):
        raise InputError(f"{stream} has nothing of session date {date_text(session_date)}; `l2 journal ls` shows what there is")
    path = index_path(settings.book_index_dir, stream, session_date)
    # A namespace of its own: the journal is only read, so close and rebuild need not wait.
    with date_lease(settings.run_dir / "book_index", stream, session_date, "book index"):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not anew and path.exists():
                with suppress(BookError):
                    return _build(settings, stream, session_date, path, IndexFile(path), advance)
            return _build(settings, stream, session_date, path, None, advance)
        except OSError as error:
            raise L2Error(f"the book index {path} was not written: {error.strerror or error}; free the disk and build it again") from error
        finally:
            with suppress(OSError):
                path.with_suffix(".tmp").unlink(missing_ok=True)


def _build(
    settings: Settings, stream: str, session_date: int, path: Path, earlier: IndexFile | None, advance: Callable[[int], None]
) -> BuiltIndex:
    if earlier is not None and earlier.directory.head["complete"]:
        earlier.close()
        return _told(path, earlier.directory, earlier.size, 0)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        try:
            builder = IndexBuilder(settings, stream, session_date, file, earlier)
        finally:
            if earlier is not None:
                earlier.close()
        before = builder.reader.pipeline.seq
        builder.run(advance)
        directory = builder.finish()
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    temporary.replace(path)
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return _told(path, directory, size, builder.reader.pipeline.seq - before)


def _told(path: Path, directory: Directory, size: int, new_lines: int) -> BuiltIndex:
    head = directory.head
    return BuiltIndex(
        path, head["stream"], head["session_date"], head["seq"], new_lines, size, len(directory.units), len(directory.groups),
        head["complete"],
    )  # fmt: skip


class IndexBuilder:
    """Reads the journal of a date and writes the index to an open file."""

    def __init__(self, settings: Settings, stream: str, session_date: int, file: IO[bytes], earlier: IndexFile | None) -> None:
        """`earlier`: the index to go on from; BookError when it cannot be continued."""
        self._settings = settings.book_index
        self._file = file
        self._folder = date_folder(settings.journal_dir, stream, session_date)
        # Snapshot rows are not wanted here.
        jsonl = settings.jsonl.model_copy(update={"levels": 1, "l2_interval_ms": _NO_THINNING_MS})
        start = earlier.checkpoint() if earlier is not None else None
        self.reader = BookReader(
            settings.model_copy(update={"jsonl": jsonl}), stream, session_date, from_checkpoint=False, levels=1, start=start
        )
        self._units: list[tuple[int, ...]] = []
        self._slices: list[tuple[int, ...]] = []
        self._groups: list[tuple[int, ...]] = []
        self._chunks: list[tuple[int, ...]] = []
        self._time = NULL_TS
        self._place = Position(session_date, 0, 0)
        """Where the next item begins; offset 0: at the first frame of a segment."""
        self._is_open = False
        """Whether the last unit goes on."""
        if earlier is not None and start is not None:
            self._continue(earlier, start[0].position)
        self._new_group()

    def _continue(self, earlier: IndexFile, position: Position) -> None:
        known = earlier.directory
        for table, rows in (
            (self._units, known.units), (self._slices, known.slices), (self._groups, known.groups), (self._chunks, known.chunks)
        ):  # fmt: skip
            table.extend(tuple(row) for row in rows.tolist())
        self._time, self._place = int(known.head["time"]), position
        with earlier.path.open("rb") as file:
            shutil.copyfileobj(file, self._file, 1 << 20)
        # Behind the chunks come the state, which is written anew, and the directory.
        self._file.seek(known.head["resume"][0])
        self._file.truncate()

    def run(self, advance: Callable[[int], None]) -> None:
        """Read all that is durable now."""
        pipeline = self.reader.pipeline
        while items := self.reader.journal.read(self._settings.unit_bytes):
            before = pipeline.seq
            for item in items:
                self._take(item)
            self._is_open = False
            advance(pipeline.seq - before)
            if self._rows.count >= self._rows_wanted or len(self._slices) - self._slice_first >= self._settings.group_slices_max:
                self._end_group()
                self._new_group()

    def finish(self) -> Directory:
        """Write the rest; the directory."""
        if len(self._slices) > self._slice_first:
            self._end_group()
        pipeline = self.reader.pipeline
        complete = self.reader.journal.finished
        # Nothing follows a date that is over: its last state is not asked for.
        state = b"" if complete else encode_checkpoint(Checkpoint(self.reader.journal.position, pipeline.seq, pipeline.dump()))
        resume = self._write(state)
        head = {
            "stream": self.reader.stream, "session_date": self.reader.session_date, "symbols": list(pipeline.symbols.names),
            "names_max": pipeline.symbols.names_max, "complete": complete, "time": self._time,
            "seq": pipeline.seq, "ts": self.reader.ts, "resume": resume,
        }  # fmt: skip
        tables = [
            np.array(rows, np.int64).reshape(-1, len(columns))
            for rows, columns in (
                (self._units, UNIT_COLUMNS), (self._slices, SLICE_COLUMNS), (self._groups, GROUP_COLUMNS), (self._chunks, CHUNK_COLUMNS)
            )
        ]  # fmt: skip
        directory = Directory(head, *tables)
        self._file.write(encode_footer(*self._write(encode_directory(directory))))
        return directory

    # ── items ──

    def _take(self, item: Item) -> None:
        if isinstance(item, Damage):
            self._is_open = False
            self._place = item.position_to
            self._all(item)
            self._event(ACTIONS["mark_suspect"])
            return
        begin = self._begin_of(item)
        if not self._is_open or self._units[-1][1] != item.position.segment:
            self._new_unit(item.position.segment, begin)
        self._units[-1] = (*self._units[-1][:3], item.position.offset, *self._units[-1][4:])
        self._place = item.position
        if isinstance(item, Control):
            if self.reader.is_live:
                self._time = max(self._time, item.ts_recv)
            self._all(item)
            action = action_on_books(item)
            if action is not None:
                self._event(ACTIONS[action])
            return
        for batch in self.reader.pipeline.decoded([item]):
            self._batch(batch)

    def _all(self, item: Control | Damage) -> None:
        """Let it act on the books; it has no rows."""
        for _ in self.reader.pipeline.decoded([item]):
            raise AssertionError

    def _begin_of(self, item: Block | Control) -> int:
        if isinstance(item, Block):
            return item.position.offset - int(item.frame_start[-1]) - FRAME_BYTES * len(item.frame_seq)
        if self._place.segment == item.position.segment:
            return self._place.offset
        file = next(file for file in list_segments(self._folder) if file.number == item.position.segment)
        source = open_source(file.path)
        try:
            return header_of(source, file.path.name)[1]
        finally:
            source.close()

    def _batch(self, batch: DepthBatch) -> None:
        times = self.reader.times(batch)
        is_event = batch.kind == DepthKind.DISCONNECTED
        if self.reader.engine.awaits_clock or _SNAPSHOTS[batch.kind].any():
            is_event |= batch.kind == DepthKind.CLOCK
        events = np.flatnonzero(is_event)
        first = len(self._slices) - 1 - self._slice_first
        for row in events:
            self._time = max(self._time, int(times[row]))
            self._event(CLOCK if batch.kind[row] == DepthKind.CLOCK else ACTIONS["mark_suspect"])
        self._time = max(self._time, int(times[-1]))
        slice_of_row = first + np.searchsorted(events, np.arange(len(batch)), side="left") if len(events) else np.full(len(batch), first)
        self._rows.add_batch(batch, slice_of_row)
        self.reader.apply(batch, times, len(batch))

    # ── units, slices, groups ──

    def _new_unit(self, segment: int, begin: int) -> None:
        decoder = self.reader.pipeline.decoder
        assert isinstance(decoder, DepthDecoder)
        state = decoder.state()
        clock, event = (NULL_TS if state[name] is None else int(state[name]) for name in ("clock_local_ns", "event_ns"))
        seq = self.reader.pipeline.seq
        self._units.append((self._time, segment, begin, begin, seq, self.reader.ts, clock, event, len(self._groups)))
        self._is_open = True
        self._event(NOTHING)

    def _event(self, action: int) -> None:
        self._slices.append((max(len(self._units) - 1, 0), action, self._time))

    def _new_group(self) -> None:
        self._slice_first = len(self._slices)
        self._rows = GatheredRows()
        self._marks = self._rows.add_books(self.reader.engine)
        wanted = min(ROWS_AN_ORDER * self._rows.count, self._settings.group_rows_max)
        self._rows_wanted = self._rows.count + max(wanted, self._settings.group_rows_min)

    def _end_group(self) -> None:
        slices, first = len(self._slices) - self._slice_first, len(self._chunks)
        for symbol, data in self._rows.pack(self._marks, slices, self._settings.chunk_bytes, self._settings.compression_level):
            self._chunks.append((symbol, *self._write(data)))
        self._groups.append((self._slice_first, len(self._slices), first, len(self._chunks)))

    def _write(self, data: bytes) -> tuple[int, int, int]:
        at = self._file.tell()
        self._file.write(data)
        return at, len(data), crc32c(data)



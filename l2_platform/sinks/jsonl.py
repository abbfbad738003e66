"""JSON lines, one file per symbol, kind and session date: `AAPL_l2_20250725.jsonl`, `AAPL_l1_…`, `AAPL_ticks_…`.

Exactly once without a log of its own: a position file per stream and date is written after the data is on disk, and at a start every
file is cut after its last line at or below that position. So the files of a symbol and date belong to one stream, and to one
process. The position says too how many bytes all files have together: when some are missing, those of the stream and date are
written again from the journal.

What does not belong here: which rows become records (delivery), the bytes of a record (jsonl_kernels), the files (jsonl_files).
"""

import errno
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from l2_platform.clock import Clock
from l2_platform.errors import SinkBlocked, SinkError, SinkRejected, SinkUnavailable
from l2_platform.journal.frame import Position
from l2_platform.market.dates import date_text
from l2_platform.market.events import Int32, Int64, TableBatch, UInt8, UInt64
from l2_platform.market.timezone import new_york_offsets
from l2_platform.monitoring.bounds import Bound
from l2_platform.monitoring.logs import get_logger
from l2_platform.settings import JsonlSettings
from l2_platform.sinks.jsonl_files import AppendFiles, FilesChanged, cut_after_seq, sync_file_system, write_atomically
from l2_platform.sinks.jsonl_kernels import (
    LEVEL_BYTES,
    RECORD_BYTES,
    STORE_BYTES,
    Frames,
    format_books,
    format_quotes,
    format_trades,
    padded,
)
from l2_platform.sinks.jsonl_names import KINDS, file_name, folder_of
from l2_platform.sinks.quarantine import HeldRow, Quarantine, key_of
from l2_platform.sinks.sink import ResumePoint

ROWS_FORMATTED: Final = 16_384
"""Records formatted at once: bounds the buffer."""
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


@dataclass(slots=True)
class _Progress:
    """How far one stream and date got."""

    seq: int
    position: Position | None
    folder: Path
    saved_seq: int
    saved_position: Position | None
    files: dict[str, int] = field(default_factory=dict)
    """Number of each file met so far."""
    numbers: dict[str, tuple[list[str], Int64]] = field(default_factory=dict)
    """Kind → the list of symbols, and the number of each symbol's file (-1: not met)."""
    bytes: int = 0
    """Of all files together."""


class Groups(NamedTuple):
    """Lines that lie one behind the other, those of a symbol together."""

    symbols: Int32
    ends: Int64
    """Behind each symbol's lines, bytes."""


class JsonlSink:
    """Appends records to files. A failed `write` leaves the files as they were before it, so that it can be repeated."""

    name = "jsonl"

    def __init__(self, settings: JsonlSettings, root: Path, clock: Clock, quarantine: Quarantine | None = None) -> None:
        """`quarantine` takes the rows of symbols that cannot name a file; without it they stop the stream."""
        self._settings = settings
        self._root = root
        self._clock = clock
        self._files = AppendFiles(settings.open_files_max)
        self._progress: dict[tuple[str, int], _Progress] = {}
        self._unknown: set[tuple[str, int]] = set()
        self._heads: dict[str, tuple[list[str], int, Frames]] = {}
        self._buffer: UInt8 = np.zeros(0, np.uint8)
        self._synced_ns = 0
        self.quarantine = quarantine
        self.rewritten = 0
        """Times that files were found missing or changed, and written again from the journal."""
        self._log = get_logger("jsonl")

    @property
    def open_files(self) -> Bound:
        """Files kept open, against their limit."""
        return self._files.bound

    def open(self) -> None:
        """Make the folders; raise SinkUnavailable when that is not possible."""
        try:
            (self._root / ".positions").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkUnavailable(f"cannot make {self._root}: {error.strerror}", path=str(self._root)) from error
        self._files.raise_limit()
        self._synced_ns = self._clock.monotonic_ns()

    def resume(self, stream: str, session_date: int) -> ResumePoint:
        """Cut every file of the stream and date back to the saved position, and tell it."""
        folder = folder_of(self._root, stream, session_date)
        self._files.close(folder)
        if self.quarantine is not None:
            self.quarantine.load(stream, session_date)
        try:
            seq, position, expected = self._read_position(stream, session_date)
            sizes = self._cut(folder, stream, session_date, seq)
            if expected is not None and expected != sum(sizes.values()):
                self._log.warning(
                    "files_missing_or_changed", stream=stream, session_date=session_date, folder=str(folder), bytes_expected=expected,
                    bytes_found=sum(sizes.values()), action="written again from the journal",
                )  # fmt: skip
                self.rewritten += 1
                seq, position = 0, None
                sizes = self._cut(folder, stream, session_date, seq)
        except OSError as error:
            raise SinkUnavailable(
                f"cannot resume {stream} {date_text(session_date)}: {error.strerror}", path=str(folder)
            ) from error
        self._unknown.discard((stream, session_date))
        self._drop((stream, session_date))
        files = {path: self._files.add(path, size) for path, size in sizes.items()}
        self._progress[stream, session_date] = _Progress(seq, position, folder, seq, position, files, bytes=sum(sizes.values()))
        return ResumePoint(seq, dict.fromkeys(KINDS, (seq, 0)), position)

    def redeliver(self, row: HeldRow) -> None:
        """Set the files of a row's stream and date back to before it, and let it pass; the next start writes them again from there.

        Only while no other process has the files.
        """
        assert self.quarantine is not None
        seq, position, _ = self._read_position(row.stream, row.session_date)
        if row.seq <= seq:
            before = Position(*row.journal_from) if row.journal_from else None
            progress = _Progress(row.seq - 1, before, folder_of(self._root, row.stream, row.session_date), seq, position)
            self._save_position(row.stream, row.session_date, progress, whole=False)
        self.quarantine.release(row)

    def _cut(self, folder: Path, stream: str, session_date: int, seq: int) -> dict[str, int]:
        """Cut the files of a stream back to `seq`; how many bytes stay of each."""
        paths = sorted(folder.glob(f"*_{session_date}.jsonl")) if folder.is_dir() else []
        sizes = {str(path): cut_after_seq(path, stream, seq) for path in paths}
        return {path: size for path, size in sizes.items() if size}

    def write(self, batches: list[TableBatch], position: Position, seq: int) -> None:
        """Append the records of the batches; rows at or below the stream's seq are skipped. All or nothing."""
        if not batches:
            return
        key = batches[0].stream, batches[0].session_date
        if key not in self._progress:
            if key in self._unknown:
                raise SinkUnavailable(f"jsonl: {key[0]} {key[1]} must be resumed after a failed write", resume=True)
            self.resume(*key)
        progress = self._progress[key]
        try:
            for batch in batches:
                if batch.table in KINDS and len(batch):
                    self._append(batch, progress, position)
            progress.bytes += self._files.commit()
        except (OSError, SinkError) as error:
            resume = not self._files.roll_back() or isinstance(error, FilesChanged)
            if resume:
                self._forget(key)
            if isinstance(error, SinkError):
                raise
            raise _failure(error, progress.folder, resume=resume) from error
        progress.seq, progress.position = max(progress.seq, seq), position
        if self._clock.monotonic_ns() - self._synced_ns >= self._settings.sync_s * 1e9:
            self.sync()

    def sync(self) -> None:
        """Flush the file system, then save the positions of the streams that moved."""
        moved = [
            (key, progress)
            for key, progress in self._progress.items()
            if (progress.seq, progress.position) != (progress.saved_seq, progress.saved_position)
        ]
        self._synced_ns = self._clock.monotonic_ns()
        if not moved:
            return
        try:
            sync_file_system(self._root)
            for (stream, session_date), progress in moved:
                self._save_position(stream, session_date, progress)
        except OSError as error:
            # After a failed flush the pages may be gone: nothing after the saved positions can be trusted (`resume` cuts it off).
            for key, _progress in moved:
                self._forget(key)
            raise SinkUnavailable(
                f"jsonl: cannot sync {self._root}: {error.strerror}",
                path=str(self._root),
                errno=error.errno,
                resume=True,
            ) from error

    def _forget(self, key: tuple[str, int]) -> None:
        """What the files of a stream and date hold is not known any more: only `resume` can tell."""
        self._files.close(self._progress[key].folder)
        self._drop(key)
        self._unknown.add(key)

    def _drop(self, key: tuple[str, int]) -> None:
        progress = self._progress.pop(key, None)
        if progress is not None:
            self._files.drop(progress.files.values())

    def close_stream(self, stream: str, session_date: int) -> None:
        """The date is finished: sync and close its files."""
        self.sync()
        key = stream, session_date
        progress = self._progress.get(key)
        if progress is None:
            return
        sizes = {path: self._files.size(number) for path, number in progress.files.items()}
        if any(_size(path) != size for path, size in sizes.items() if size >= 0):
            self._forget(key)
            raise SinkUnavailable(f"jsonl: files under {progress.folder} are missing; they are written again", resume=True)
        self._files.close(progress.folder)
        self._drop(key)
        if self.quarantine is not None:
            self.quarantine.forget(stream, session_date)

    def close(self) -> None:
        """Sync and close everything."""
        try:
            self.sync()
        finally:
            for key in list(self._progress):
                self._drop(key)

    def _position_path(self, stream: str, session_date: int) -> Path:
        return self._root / ".positions" / f"{stream}-{session_date}.json"

    def _read_position(self, stream: str, session_date: int) -> tuple[int, Position | None, int | None]:
        """Seq, journal position, and bytes of all files (None: not told)."""
        path = self._position_path(stream, session_date)
        try:
            record = json.loads(path.read_bytes())
            position = Position(*(int(part) for part in record["position"])) if record["position"] else None
            size = record.get("bytes")
            return int(record["seq"]), position, None if size is None else int(size)
        except FileNotFoundError:
            return 0, None, None
        except (ValueError, OverflowError, KeyError, TypeError):
            # Unreadable is the same as none: the files are cut to nothing and written again from the journal.
            return 0, None, None

    def _save_position(self, stream: str, session_date: int, progress: _Progress, *, whole: bool = True) -> None:
        record = {
            "stream": stream, "session_date": session_date, "seq": progress.seq, "position": progress.position,
            "bytes": progress.bytes if whole else None,
        }  # fmt: skip
        write_atomically(self._position_path(stream, session_date), json.dumps(record).encode())
        progress.saved_seq, progress.saved_position = progress.seq, progress.position

    def _append(self, batch: TableBatch, progress: _Progress, position: Position) -> None:
        kind = KINDS[batch.table]
        if self.quarantine is not None:
            batch = self.quarantine.without_held(batch)
        journal = progress.position, position
        symbols, seq = np.asarray(batch.columns["symbol"]), np.asarray(batch.columns["seq"])
        nameless = np.flatnonzero((symbols < 0) & (seq > progress.seq))
        if len(nameless):
            self._hold(batch, nameless, SinkRejected("no file can be named: the row is of no symbol"), journal)
        refused: set[int] = set()
        for groups, text in self._records(batch, progress.seq):
            files = self._file_numbers(batch, kind, progress, groups.symbols)
            for index, refusal in self._files.append(files, text, groups.ends):
                if self.quarantine is None:
                    raise refusal
                symbol = int(groups.symbols[index])
                # its lines may lie in several parts, and are put aside together
                if symbol not in refused:
                    refused.add(symbol)
                    name = batch.symbols[symbol][:100]
                    error = SinkRejected(f"no file can be named after symbol {name!r}: {refusal.strerror}", code=refusal.errno)
                    self._hold(batch, np.flatnonzero((symbols == symbol) & (seq > progress.seq)), error, journal)

    def _file_numbers(self, batch: TableBatch, kind: str, progress: _Progress, symbols: Int32) -> Int64:
        """The number of each symbol's file."""
        names, numbers = progress.numbers.get(kind, (batch.symbols, np.zeros(0, np.int64)))
        if names is not batch.symbols or len(numbers) < len(batch.symbols):
            known = len(numbers) if names is batch.symbols else 0
            numbers = np.append(numbers[:known], np.full(len(batch.symbols) - known, -1))
            progress.numbers[kind] = batch.symbols, numbers
        for symbol in symbols[numbers[symbols] < 0].tolist():
            path = str(progress.folder / file_name(batch.symbols[symbol], kind, batch.session_date))
            if path not in progress.files:
                progress.files[path] = self._files.add(path)
            numbers[symbol] = progress.files[path]
        return numbers[symbols]

    def _hold(self, batch: TableBatch, rows: Int64, refusal: SinkRejected, journal: tuple[Position | None, Position]) -> None:
        """Put rows aside that no file can take, rows of one key together."""
        if self.quarantine is None:
            raise refusal
        stop = 0
        for row in rows.tolist():
            if row < stop:
                continue
            stop = row + 1
            while stop < len(batch) and key_of(batch, stop) == key_of(batch, row):
                stop += 1
            self.quarantine.hold(batch, row, stop, refusal, journal)

    def _records(self, batch: TableBatch, after_seq: int) -> Iterator[tuple[Groups, UInt8]]:
        """The lines of the batch, rows of a symbol in their order; rows at or below `after_seq` and of no symbol are left out."""
        columns = batch.columns
        symbols: Int32 = np.ascontiguousarray(columns["symbol"], np.int32)
        seq: UInt64 = np.ascontiguousarray(columns["seq"], np.uint64)
        first = int(np.searchsorted(seq, np.uint64(after_seq), side="right"))
        order: Int64 = first + np.argsort(symbols[first:], kind="stable")
        # rows of no symbol sort first; they are no lines
        order = order[int(np.count_nonzero(symbols[first:] < 0)) :]
        frames = self._frames(batch)
        arguments = _ARGUMENTS[batch.table](columns)
        formatter = _FORMATTERS[batch.table]
        levels = 2 * arguments[0].shape[1] if batch.table == "book_snapshots" else 0
        longest = int(np.diff(frames.head_ends).max(initial=0))
        room = RECORD_BYTES + levels * LEVEL_BYTES + longest + len(frames.tail)
        for start in range(0, len(order), ROWS_FORMATTED):
            part = order[start : start + ROWS_FORMATTED]
            if len(self._buffer) < room * len(part) + STORE_BYTES:
                self._buffer = np.empty(room * len(part) + STORE_BYTES, np.uint8)
            ends = np.empty(len(part), np.int64)
            formatter(
                self._buffer,
                ends,
                part,
                frames,
                symbols,
                seq,
                _int64(columns["ts_event"]),
                _int64(columns["ts_recv"]),
                *arguments,
            )
            numbers = symbols[part]
            last = np.append(np.flatnonzero(numbers[1:] != numbers[:-1]), len(part) - 1)
            yield Groups(numbers[last], ends[last]), self._buffer[: ends[-1]]

    def _frames(self, batch: TableBatch) -> Frames:
        """Heads of all symbols and the tail; made anew only when the list has grown or is another one."""
        known = self._heads.get(batch.stream)
        if known is not None and known[0] is batch.symbols and known[1] == len(batch.symbols):
            return known[2]
        count = len(batch.symbols)
        heads = [f'{{"symbol":{json.dumps(name)},"timestamp":"'.encode() for name in batch.symbols[:count]]
        ends = np.zeros(count + 1, np.int64)
        np.cumsum([len(head) for head in heads], out=ends[1:])
        tail = f',"stream":{json.dumps(batch.stream)},"seq":'.encode()
        frames = Frames(
            padded(b"".join(heads)), ends, padded(tail), *new_york_offsets()
        )
        self._heads[batch.stream] = batch.symbols, count, frames
        return frames


def _failure(error: OSError, folder: Path, *, resume: bool) -> SinkUnavailable:
    """What a failed write means."""
    advice = "they are looked through" if isinstance(error, FilesChanged) else "free space or mend the disk, it is tried again"
    kind = SinkBlocked if error.errno in NO_ROOM else SinkUnavailable
    return kind(
        f"jsonl: cannot write under {folder}: {error.strerror}; {advice}", path=str(folder), errno=error.errno, resume=resume
    )


def _size(path: str) -> int:
    """Bytes of a file; -1 when it is not there."""
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:
        return -1


def _int64(column: Any) -> Int64:
    return np.ascontiguousarray(column, np.int64)


def _packed(conditions: Any) -> UInt64:
    """Conditions as packed hex characters; taken as texts too."""
    if isinstance(conditions, np.ndarray) and conditions.dtype.kind == "u":
        return np.ascontiguousarray(conditions, np.uint64)
    return np.array([int.from_bytes(str(text).encode("ascii")[:8], "little") for text in conditions], np.uint64)


def _book_arguments(columns: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(_int64(columns[name]) for name in ("bid_px", "bid_sz", "ask_px", "ask_sz"))


def _quote_arguments(columns: dict[str, Any]) -> tuple[Any, ...]:
    return (
        _int64(columns["bid"]), _int64(columns["bid_size"]), np.ascontiguousarray(columns["bid_market_center"], np.int32),
        _int64(columns["ask"]), _int64(columns["ask_size"]), np.ascontiguousarray(columns["ask_market_center"], np.int32),
        _int64(columns["total_volume"]), np.ascontiguousarray(columns["snapshot"], np.uint8),
    )  # fmt: skip


def _trade_arguments(columns: dict[str, Any]) -> tuple[Any, ...]:
    return (
        _int64(columns["price"]), _int64(columns["size"]), np.ascontiguousarray(columns["market_center"], np.int32),
        _packed(columns["conditions"]), np.ascontiguousarray(columns["tick_id"], np.uint64),
        np.ascontiguousarray(columns["aggressor"], np.uint8), np.ascontiguousarray(columns["basis"], np.uint8),
        _int64(columns["total_volume"]), _int64(columns["bid"]), _int64(columns["ask"]),
    )  # fmt: skip


_ARGUMENTS: Final = {"book_snapshots": _book_arguments, "quotes": _quote_arguments, "trades": _trade_arguments}
_FORMATTERS: Final[dict[str, Any]] = {"book_snapshots": format_books, "quotes": format_quotes, "trades": format_trades}

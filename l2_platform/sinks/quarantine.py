"""Rows that a sink refused: kept durably with their reason until they are delivered after a fix.

`quarantine/<sink>/<stream>-<date>.jsonl`, append-only, one JSON object a line with its own CRC32C, synced before the delivery goes on
behind the row. `held` lines bring a row, `released` lines say that it was delivered after all. Whoever appends holds the file's lock.
What does not belong here: which rows are refused (isolation), how they are sent again (the sinks).
"""

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from crc32c import crc32c

from l2_platform.clock import Clock
from l2_platform.errors import SinkRejected, SinkUnavailable
from l2_platform.journal.frame import Position
from l2_platform.market.dates import date_text
from l2_platform.market.events import NO_SYMBOL, TableBatch
from l2_platform.monitoring.bounds import Bound

Key = tuple[int, int]
REASON_MAX: Final = 500
"""Longest reason kept, characters."""


@dataclass(frozen=True, slots=True)
class HeldRow:
    """One refused row, or all rows of one seq of a table that belong together."""

    sink: str
    table: str
    stream: str
    session_date: int
    """YYYYMMDD."""
    seq: int
    ordinal: int
    """0 but for tables with an ordinal."""
    reason: str
    """What the sink said."""
    code: int
    """The sink's own error code; 0 when it has none."""
    journal_from: tuple[int, ...] | None
    """Journal position (date, segment, offset) before the read that brought the row; None: the beginning of the date."""
    journal_to: tuple[int, ...]
    """And behind it."""
    ts: int
    """When it was put aside, ns since the epoch."""
    source: str
    columns: dict[str, Any]
    """Column name → {"values": list, "dtype": numpy's name or ""}; `symbol` holds names (null: none)."""

    @property
    def name(self) -> str:
        """`table/stream/date/seq.ordinal`: names the row for people."""
        return f"{self.table}/{self.stream}/{self.session_date}/{self.seq}.{self.ordinal}"

    def batch(self) -> TableBatch:
        """The row as the sink was given it."""
        columns: dict[str, Any] = {}
        symbols: list[str] = []
        for name, column in self.columns.items():
            if name == "symbol":
                numbers = [NO_SYMBOL if text is None else _intern(symbols, text) for text in column["values"]]
                columns[name] = np.array(numbers, np.int32)
            elif column["dtype"]:
                columns[name] = np.array(column["values"], column["dtype"])
            else:
                columns[name] = list(column["values"])
        return TableBatch(self.table, self.stream, self.session_date, self.source, symbols, columns)


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file of the quarantine says now."""

    held: dict[tuple[str, int, int], HeldRow]
    """(table, seq, ordinal) → row."""
    released: int
    damaged: int
    """Lines that cannot be read: their rows are told by nobody else, so a count above zero is an alarm."""


class Quarantine:
    """The refused rows of one sink; threads may share it."""

    def __init__(self, root: Path, sink: str, rows_max: int, clock: Clock) -> None:
        self.folder = root / sink
        self._sink = sink
        self._rows_max = rows_max
        self._clock = clock
        self._known: dict[tuple[str, int], dict[str, set[Key]]] = {}
        self._day: dict[int, int] = {}
        """Rows held on a session date, over all streams."""
        self._counted: dict[str, tuple[tuple[int, int], int]] = {}
        self._turn = threading.RLock()
        self.bound = Bound("quarantine_rows", rows_max, "rows", "delivery.quarantine_rows_max")
        """Rows of the fullest session date that this process looked at."""

    def load(self, stream: str, session_date: int) -> None:
        """Read what is held of a stream and date; before the sink is asked how far it got, so that a release is seen in one of the two.

        Raise SinkUnavailable when it cannot be read.
        """
        with self._turn:
            keys: dict[str, set[Key]] = {}
            for table, seq, ordinal in self._read(self._path(stream, session_date)).held:
                keys.setdefault(table, set()).add((seq, ordinal))
            self._known[stream, session_date] = keys
            self._day[session_date] = sum(len(self._read(path).held) for path in self.folder.glob(f"*-{session_date}.jsonl"))
            self.bound.see(self._day[session_date])

    def count(self, stream: str, session_date: int) -> int:
        """Rows held of a stream and date, as far as this process knows."""
        return sum(len(keys) for keys in self._known.get((stream, session_date), {}).values())

    def forget(self, stream: str, session_date: int) -> None:
        """Read again at the next use."""
        self._known.pop((stream, session_date), None)

    def without_held(self, batch: TableBatch) -> TableBatch:
        """The batch without the rows that are held: they are only sent again by `l2 quarantine retry`."""
        keys = self._held(batch.stream, batch.session_date).get(batch.table)
        if not keys or not len(batch):
            return batch
        seqs = batch.columns["seq"]
        suspects = np.flatnonzero(np.isin(seqs, np.array([seq for seq, _ in keys], seqs.dtype)))
        gone = [row for row in suspects.tolist() if key_of(batch, row) in keys]
        if not gone:
            return batch
        rest = np.setdiff1d(np.arange(len(batch)), gone)
        return replace(batch, columns={name: _pick(column, rest) for name, column in batch.columns.items()})

    def hold(self, batch: TableBatch, start: int, stop: int, error: SinkRejected, journal: tuple[Position | None, Position]) -> None:
        """Put rows [start, stop) of a batch (one key) aside; on disk when it returns.

        Raise SinkRejected when the day's quarantine is full, SinkUnavailable when it cannot be written: the row stays undelivered.
        """
        with self._turn:
            self._hold(batch, start, stop, error, journal)

    def _hold(self, batch: TableBatch, start: int, stop: int, error: SinkRejected, journal: tuple[Position | None, Position]) -> None:
        held = self._held(batch.stream, batch.session_date)
        seq, ordinal = key_of(batch, start)
        if self._day[batch.session_date] >= self._rows_max:
            self.bound.hit()
            raise SinkRejected(
                f"{self._sink} refuses {batch.table} seq {seq} of {batch.stream}, and {self._rows_max} rows of "
                f"{date_text(batch.session_date)} are in quarantine already, so the stream stops here: {error.message}; mend the cause "
                "and `l2 quarantine retry`, or raise L2_DELIVERY__QUARANTINE_ROWS_MAX",
                quarantine_full=True,
            )  # fmt: skip
        columns = {name: _column(batch, name, start, stop) for name in batch.columns}
        row = HeldRow(
            self._sink, batch.table, batch.stream, batch.session_date, seq, ordinal, error.message[:REASON_MAX],
            int(error.facts.get("code", 0)), journal[0], journal[1], self._clock.now_ns(), batch.source, columns,
        )  # fmt: skip
        self._append(self._path(row.stream, row.session_date), {"state": "held", **asdict(row)})
        held.setdefault(batch.table, set()).add((seq, ordinal))
        self._day[batch.session_date] += 1
        self.bound.see(self._day[batch.session_date])

    def release(self, row: HeldRow) -> None:
        """The row was delivered after all; it counts as held for a running delivery until that looks again."""
        self._append(
            self._path(row.stream, row.session_date),
            {"state": "released", "table": row.table, "seq": row.seq, "ordinal": row.ordinal, "ts": self._clock.now_ns()},
        )

    def contents(self) -> Iterator[Contents]:
        """Every stream and date that has a file."""
        for path in sorted(self.folder.glob("*.jsonl")):
            yield self._read(path)

    def waiting(self) -> int:
        """Rows held over all streams and dates, as the files say now; cheap while they do not change."""
        total = 0
        for path in self.folder.glob("*.jsonl"):
            state = path.stat()
            version = state.st_mtime_ns, state.st_size
            known = self._counted.get(path.name)
            if known is None or known[0] != version:
                contents = self._read(path)
                known = version, len(contents.held) + contents.damaged
                self._counted[path.name] = known
            total += known[1]
        return total

    def _held(self, stream: str, session_date: int) -> dict[str, set[Key]]:
        if (stream, session_date) not in self._known:
            self.load(stream, session_date)
        return self._known[stream, session_date]

    def _path(self, stream: str, session_date: int) -> Path:
        return self.folder / f"{stream}-{session_date}.jsonl"

    def _read(self, path: Path) -> Contents:
        held: dict[tuple[str, int, int], HeldRow] = {}
        released = damaged = 0
        try:
            lines = path.read_bytes().splitlines()
        except FileNotFoundError:
            lines = []
        except OSError as error:
            raise SinkUnavailable(f"cannot read {path}: {error.strerror}", path=str(path)) from None
        for line in lines:
            record = _checked(line)
            if record is None:
                damaged += bool(line)
                continue
            key = record["table"], record["seq"], record["ordinal"]
            if record.pop("state") == "held":
                since, until = record["journal_from"], record["journal_to"]
                held[key] = HeldRow(**{**record, "journal_from": tuple(since) if since else None, "journal_to": tuple(until)})
            elif held.pop(key, None) is not None:
                released += 1
        return Contents(held, released, damaged)

    def _append(self, path: Path, record: dict[str, Any]) -> None:
        body = json.dumps(record, separators=(",", ":"), sort_keys=True)
        line = f'{{"crc32c":{crc32c(body.encode())},"row":{body}}}\n'.encode()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                _append_whole(descriptor, line)
            finally:
                os.close(descriptor)
            _sync_folder(path.parent)
            _sync_folder(path.parent.parent)
        except OSError as error:
            raise SinkUnavailable(f"cannot put a refused row into {path}: {error.strerror}; it is tried again", path=str(path)) from None


def key_of(batch: TableBatch, row: int) -> Key:
    """(seq, ordinal) of a row; ordinal 0 where the table has none."""
    ordinal = batch.columns.get("ordinal")
    return int(batch.columns["seq"][row]), 0 if ordinal is None else int(ordinal[row])


def middle_of(batch: TableBatch, start: int, stop: int) -> int | None:
    """The border between two keys that is nearest below the middle of [start, stop), else the nearest above; None: one key only."""
    cut = (start + stop) // 2
    for places in (range(cut, start, -1), range(cut + 1, stop)):
        for place in places:
            if key_of(batch, place) != key_of(batch, place - 1):
                return place
    return None


def _append_whole(descriptor: int, line: bytes) -> None:
    """A torn line of an interrupted append gets its end first, so that it spoils nothing else."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        line = b"\n" + line
    view = memoryview(line)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checked(line: bytes) -> dict[str, Any] | None:
    """The record of a line, when its CRC is right."""
    head, found, body = line.removesuffix(b"}").partition(b',"row":')
    if not found or head != b'{"crc32c":%d' % crc32c(body):
        return None
    record: dict[str, Any] = json.loads(body)
    return record


def _column(batch: TableBatch, name: str, start: int, stop: int) -> dict[str, Any]:
    values = batch.columns[name][start:stop]
    if name == "symbol":
        names = [batch.symbols[number] if 0 <= number < len(batch.symbols) else None for number in np.asarray(values).tolist()]
        return {"values": names, "dtype": ""}
    if isinstance(values, np.ndarray):
        return {"values": values.tolist(), "dtype": values.dtype.str}
    return {"values": list(values), "dtype": ""}


def _pick(column: Any, rows: Any) -> Any:
    return [column[int(row)] for row in rows] if isinstance(column, list) else column[rows]


def _intern(symbols: list[str], text: str) -> int:
    if text not in symbols:
        symbols.append(text)
    return symbols.index(text)

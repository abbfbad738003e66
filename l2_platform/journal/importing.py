"""Brings finished captures into the journal: all of it, or nothing.

Everything is written and synced in a staging folder, then one rename makes the whole stream visible. A crash leaves at most a staging
folder, which the next import removes. What does not belong here: reading the files that are imported (collectors).
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2_platform.errors import InputError, JournalUnwritable
from l2_platform.journal.frame import (
    FRAME_BYTES,
    FrameKind,
    Previous,
    SegmentHeader,
    control_payload,
    frame_header,
)
from l2_platform.journal.layout import CLOSED_NAME, STAGING_NAME, date_folder, raw_path
from l2_platform.journal.syscalls import Syscalls
from l2_platform.market.dates import date_text
from l2_platform.settings import JournalSettings

ImportFrame = tuple[bytes, int, int, int] | tuple[bytes, int, int, int, int]
"""(payload of whole lines, count, seq of the first, ts_recv ns[, FrameFlag bits])."""


@dataclass(frozen=True, slots=True)
class ImportedDate:
    """What was written for one session date."""

    session_date: int
    segments: int
    lines: int
    bytes: int


def write_finished_stream(
    root: Path,
    stream: str,
    dates: Iterable[tuple[int, Iterable[ImportFrame]]],
    *,
    context: Mapping[str, Any],
    calendar: str,
    controls: Sequence[tuple[str, Mapping[str, Any]]] = (),
    settings: JournalSettings | None = None,
    calls: Syscalls | None = None,
) -> list[ImportedDate]:
    """Write a new stream of closed segments and publish it in one step.

    `dates` go forward; the frames of a date have rising seqs, which may jump. `controls` (event, fields) stand in front of each date.
    InputError when the stream is there already or has no frame; JournalUnwritable when the disk refuses; whatever the iterables raise
    comes through. In each case nothing of it is visible.
    """
    calls = calls or Syscalls()
    target = root / stream
    if target.exists():
        raise InputError(f"the stream {stream} is in the journal already", stream=stream)
    staging = root / STAGING_NAME / f"{stream}-{os.getpid()}"
    lock_fd = -1
    try:
        calls.make_folders(root / STAGING_NAME)
        sweep_staging(root)
        calls.make_folders(staging)
        lock_fd = calls.open(staging, os.O_RDONLY | os.O_DIRECTORY)
        calls.lock(lock_fd)
        writing = _Importer(staging, stream, context, calendar, controls, settings or JournalSettings(), calls)
        for session_date, frames in dates:
            writing.date(session_date, frames)
        if not writing.done:
            raise InputError(f"{stream}: there is nothing to import")
        calls.sync_folder(staging / stream)
        calls.rename(staging / stream, target)
        calls.sync_folder(root)
        return writing.done
    except OSError as error:
        raise JournalUnwritable(
            f"{stream}: not imported, nothing is left of it: {error.strerror or error}", stream=stream, errno=error.errno
        ) from error
    finally:
        if lock_fd >= 0:
            calls.close(lock_fd)
        shutil.rmtree(staging, ignore_errors=True)


def sweep_staging(root: Path) -> int:
    """Remove what crashed imports left; how many."""
    calls = Syscalls()
    swept = 0
    folder = root / STAGING_NAME
    for path in folder.iterdir() if folder.is_dir() else ():
        try:
            fd = calls.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            calls.lock(fd)
        except BlockingIOError:
            continue  # an import at work
        else:
            shutil.rmtree(path, ignore_errors=True)
            swept += 1
        finally:
            calls.close(fd)
    return swept


class _Importer:
    """Writes the dates of one import into the staging folder."""

    def __init__(
        self, staging: Path, stream: str, context: Mapping[str, Any], calendar: str,
        controls: Sequence[tuple[str, Mapping[str, Any]]], settings: JournalSettings, calls: Syscalls,
    ) -> None:  # fmt: skip
        self.done: list[ImportedDate] = []
        self._staging = staging
        self._stream = stream
        self._context = context
        self._calendar = calendar
        self._controls = controls
        self._settings = settings
        self._calls = calls
        self._previous: Previous | None = None
        self._fd = -1
        self._segment = 0
        self._offset = 0
        self._last_seq = 0
        self._last_ts: int | None = None

    def date(self, session_date: int, frames: Iterable[ImportFrame]) -> None:
        """Write one session date whole and synced; a date without frames leaves nothing."""
        if self.done and session_date <= self.done[-1].session_date:
            raise InputError(f"{self._stream}: session date {date_text(session_date)} comes after {date_text(self.done[-1].session_date)}")
        folder = date_folder(self._staging, self._stream, session_date)
        self._segment, lines, size, begun = 0, 0, 0, False
        self._last_ts = None
        try:
            for frame in frames:
                payload, count, seq_first, ts_recv = frame[:4]
                flags = frame[4] if len(frame) == 5 else 0
                if not begun:
                    begun = True
                    self._last_seq = seq_first - 1
                    self._calls.make_folders(folder)
                    self._begin_segment(folder, session_date, ts_recv)
                    for event, fields in self._controls:
                        self._write(FrameKind.CONTROL, control_payload(event, fields), 0, self._last_seq, ts_recv, 0)
                if seq_first <= self._last_seq:
                    raise InputError(f"{self._stream}: line {seq_first} comes after line {self._last_seq}")
                if self._offset + FRAME_BYTES + len(payload) > self._settings.segment_bytes_max:
                    self._end_segment(session_date)
                    self._begin_segment(folder, session_date, ts_recv)
                self._write(FrameKind.DATA, payload, count, seq_first, ts_recv, flags)
                self._last_seq, self._last_ts = seq_first + count - 1, ts_recv
                lines += count
                size += len(payload)
            if begun:
                self._end_segment(session_date)
                self._close_date(folder)
                self.done.append(ImportedDate(session_date, self._segment, lines, size))
        finally:
            if self._fd >= 0:
                self._calls.close(self._fd)
                self._fd = -1

    def _begin_segment(self, folder: Path, session_date: int, ts: int) -> None:
        self._segment += 1
        header = SegmentHeader(
            stream=self._stream, session_date=session_date, segment=self._segment, calendar=self._calendar, created_ns=ts,
            last_seq=self._last_seq, last_ts=self._last_ts, sparse=True, context=self._context, previous=self._previous,
        ).encode()  # fmt: skip
        self._fd = self._calls.open(raw_path(folder, self._segment), os.O_RDWR | os.O_CREAT | os.O_EXCL)
        self._offset = self._calls.write_all(self._fd, [header], 0)

    def _end_segment(self, session_date: int) -> None:
        self._calls.fdatasync(self._fd)
        fd, self._fd = self._fd, -1
        self._calls.close(fd)
        self._previous = Previous(session_date, self._segment, self._offset, self._last_seq)

    def _write(self, kind: FrameKind, payload: bytes, count: int, seq_first: int, ts_recv: int, flags: int) -> None:
        header = frame_header(kind, payload, seq_first=seq_first, count=count, ts_recv=ts_recv, conn_id=0, flags=flags)
        self._offset = self._calls.write_all(self._fd, [header, payload], self._offset)

    def _close_date(self, folder: Path) -> None:
        """Nothing follows the last segment that could tell where it ended: a small file does."""
        closed = {"segment": self._segment, "end": self._offset, "last_seq": self._last_seq}
        fd = self._calls.open(folder / CLOSED_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            self._calls.write_all(fd, [json.dumps(closed).encode()], 0)
            self._calls.fdatasync(fd)
        finally:
            self._calls.close(fd)
        self._calls.sync_folder(folder)

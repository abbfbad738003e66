"""Adds a finished segment to a session date of a stream that nobody records: replies of a vendor, fetched in pieces and in any order.

The segment is written and synced in a staging folder; one rename makes it count. `closed.json` says where the date ends then; when a
crash comes in between, the next call writes it from the segments. What does not belong here: live streams (writer), whole streams that
appear at once (importing).
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from l2_platform.errors import JournalError, JournalUnwritable
from l2_platform.journal.frame import FrameKind, Previous, SegmentHeader, control_payload, frame_header
from l2_platform.journal.headers import segment_header
from l2_platform.journal.importing import sweep_staging
from l2_platform.journal.items import Block, Control
from l2_platform.journal.layout import CLOSED_NAME, STAGING_NAME, date_folder, list_segments, raw_path
from l2_platform.journal.reader import JournalReader
from l2_platform.journal.syscalls import Syscalls
from l2_platform.market.dates import date_text
from l2_platform.monitoring.atomic import write_atomic

READ_BYTES: Final = 8 << 20

Piece = tuple[str, Mapping[str, Any], int] | tuple[bytes, int, int]
"""A control (event, fields, ts ns) or lines (payload of whole lines, count, ts_recv ns), in order."""


def append_finished_segment(
    root: Path, stream: str, session_date: int, pieces: Iterable[Piece], *, context: Mapping[str, Any], calendar: str,
    calls: Syscalls | None = None,
) -> int:  # fmt: skip
    """Add one segment behind what the date has; the lines it brought.

    Only under a lease on (stream, date). JournalUnwritable when the disk refuses: nothing of it is there then.
    """
    calls = calls or Syscalls()
    staging = root / STAGING_NAME / f"{stream}-{session_date}-{os.getpid()}"
    lock_fd = -1
    try:
        calls.make_folders(root / STAGING_NAME)
        sweep_staging(root)
        calls.make_folders(staging)
        lock_fd = calls.open(staging, os.O_RDONLY | os.O_DIRECTORY)
        calls.lock(lock_fd)
        folder = date_folder(root, stream, session_date)
        last = close_date(root, stream, session_date)
        number = last.segment + 1 if last is not None else 1
        path = raw_path(staging, number)
        end, seq = _write(path, stream, session_date, number, last, pieces, context, calendar, calls)
        calls.make_folders(folder)
        calls.rename(path, raw_path(folder, number))
        calls.sync_folder(folder)
        _close(folder, Previous(session_date, number, end, seq))
        return seq - (last.last_seq if last is not None else 0)
    except OSError as error:
        raise JournalUnwritable(
            f"{stream} {date_text(session_date)}: nothing was added: {error.strerror or error}; make room, then run the same again",
            stream=stream, errno=error.errno,
        ) from error  # fmt: skip
    finally:
        if lock_fd >= 0:
            calls.close(lock_fd)
        shutil.rmtree(staging, ignore_errors=True)


def close_date(root: Path, stream: str, session_date: int) -> Previous | None:
    """The end of the date, None when it has no segment; written down again when a crash kept it from being."""
    folder = date_folder(root, stream, session_date)
    segments = list_segments(folder)
    if not segments:
        return None
    try:
        closed = json.loads((folder / CLOSED_NAME).read_bytes())
        last = Previous(session_date, int(closed["segment"]), int(closed["end"]), int(closed["last_seq"]))
    except (OSError, ValueError, KeyError, TypeError):
        last = None
    if last is None or last.segment != segments[-1].number:
        last = _measured(root, stream, session_date, segments[-1].number)
        _close(folder, last)
    return last


def contexts_of_date(root: Path, stream: str, session_date: int) -> list[dict[str, Any]]:
    """What the header of each segment says beside its numbers, in order; JournalError when one is damaged."""
    found = []
    for file in list_segments(date_folder(root, stream, session_date)):
        header = segment_header(file)
        if header is None:
            raise JournalError(f"{file.path}: its header is damaged; `l2 journal verify` tells more")
        found.append(dict(header.context))
    return found


def _write(
    path: Path, stream: str, session_date: int, number: int, last: Previous | None, pieces: Iterable[Piece],
    context: Mapping[str, Any], calendar: str, calls: Syscalls,
) -> tuple[int, int]:  # fmt: skip
    """Write and sync the segment; its end and its last seq."""
    seq = last.last_seq if last is not None else 0
    ts = None
    fd = calls.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        offset = 0
        for piece in pieces:
            if ts is None:
                header = SegmentHeader(
                    stream=stream, session_date=session_date, segment=number, calendar=calendar, created_ns=piece[2], last_seq=seq,
                    sparse=True, context=context, previous=last,
                )  # fmt: skip
                offset = calls.write_all(fd, [header.encode()], offset)
            ts = piece[2]
            if isinstance(piece[0], str):
                assert not isinstance(piece[1], int)
                frame = _frame(FrameKind.CONTROL, control_payload(piece[0], piece[1]), seq, 0, ts)
            else:
                assert isinstance(piece[1], int)
                frame = _frame(FrameKind.DATA, piece[0], seq + 1, piece[1], ts)
                seq += piece[1]
            offset = calls.write_all(fd, frame, offset)
        calls.fdatasync(fd)
    finally:
        calls.close(fd)
    return offset, seq


def _frame(kind: FrameKind, payload: bytes, seq_first: int, count: int, ts: int) -> list[bytes]:
    return [frame_header(kind, payload, seq_first=seq_first, count=count, ts_recv=ts, conn_id=0, flags=0), payload]


def _measured(root: Path, stream: str, session_date: int, number: int) -> Previous:
    """The end of a segment, from its frames."""
    reader = JournalReader(root, stream, session_date)
    seq = 0
    while items := reader.read(READ_BYTES):
        for item in items:
            if isinstance(item, Block):
                seq = int(item.frame_seq[-1]) + int(item.frame_count[-1]) - 1
            elif isinstance(item, Control):
                seq = max(seq, item.seq)
    return Previous(session_date, number, reader.position.offset, seq)


def _close(folder: Path, last: Previous) -> None:
    text = json.dumps({"segment": last.segment, "end": last.end, "last_seq": last.last_seq})
    write_atomic(folder / CLOSED_NAME, text.encode(), sync=True)

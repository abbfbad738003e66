"""What a writer does before it writes: find the end of what is stored, trim what is torn, and know where seq goes on.

Every frame that is whole stays. Only bytes behind the last whole frame are cut off, and they are kept beside the segment as
`torn-<segment>-<offset>.bin`. Doing it twice changes nothing. Damage in the middle is left alone: readers name it and go on behind it.
An end that was durable and is gone (a file cut or put back to an older state) is known by the published durable position alone: lines
are numbered on behind it, so that no number is given twice and readers find the hole.
"""

import json
import mmap
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from l2_platform.errors import JournalCorrupt
from l2_platform.journal.durable import Durable
from l2_platform.journal.frame import (
    FRAME_BYTES,
    Frame,
    FrameKind,
    decode_segment_header,
    find_frame,
    frame_at,
    frames_from,
)
from l2_platform.journal.layout import (
    RAW_SUFFIX,
    TEMPORARY_SUFFIX,
    date_folder,
    list_segments,
    raw_path,
    suspect_path,
)
from l2_platform.journal.syscalls import Syscalls

_HEADER_BYTES_MAX: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of what one session date holds."""

    segment: int
    """The last segment; 0 when the date has none."""
    end: int
    """Uncompressed offset behind its last whole frame."""
    last_seq: int
    last_ts: int | None
    clean: bool
    """The last frame is `collector_stop`."""
    trimmed_bytes: int = 0
    rewrite_from: int | None = None
    """Frames from here to `end` may not be on the disk and must be written again."""
    lost_bytes: int = 0
    """Bytes before `end` that were durable once and are not there any more; `end` and `last_seq` are those of the durable record."""


@dataclass(slots=True)
class _State:
    end: int
    last_seq: int
    last_ts: int | None
    clean: bool


def recover_date(root: Path, stream: str, session_date: int, durable: Durable | None, calls: Syscalls) -> Tail:
    """Trim the last segment of a date behind its last whole frame, make it durable, and say where it ends."""
    folder = date_folder(root, stream, session_date)
    tail = _recover_files(folder, session_date, durable, calls)
    # Without its folder the date was taken away as a whole, and what the record says of it is of no use.
    if durable is None or durable.position.session_date != session_date or not folder.is_dir():
        return tail
    return _with_lost_end(folder, tail, durable)


def _with_lost_end(folder: Path, tail: Tail, durable: Durable) -> Tail:
    """The tail, or what the durable record says when the files end before that."""
    segment, end = durable.position.segment, durable.position.offset
    if (tail.segment, tail.end) >= (segment, end) or durable.seq < tail.last_seq:
        return tail
    if tail.segment == segment and _created_ns(folder, segment) not in {durable.segment_ns, None}:
        return tail  # the record is of another journal
    lost = end - tail.end if tail.segment == segment else end
    return replace(
        tail, segment=segment, end=end, last_seq=durable.seq, last_ts=durable.ts_recv or tail.last_ts, clean=False, lost_bytes=lost
    )


def _created_ns(folder: Path, number: int) -> int | None:
    """When a raw segment was made; None when it does not say."""
    try:
        with raw_path(folder, number).open("rb") as file:
            return decode_segment_header(file.read(_HEADER_BYTES_MAX), "segment")[0].created_ns
    except (OSError, JournalCorrupt):
        return None


def _recover_files(folder: Path, session_date: int, durable: Durable | None, calls: Syscalls) -> Tail:
    for path in folder.glob(f"*{RAW_SUFFIX}{TEMPORARY_SUFFIX}"):
        calls.unlink(path)
    trimmed = 0
    for file in reversed(list_segments(folder)):
        if file.raw is None:
            state = sealed_state(file.path)
            return Tail(file.number, state.end, state.last_seq, state.last_ts, state.clean, trimmed)
        tail = _recover_segment(folder, file.number, session_date, durable, calls)
        if tail is not None:
            return replace(tail, trimmed_bytes=trimmed + tail.trimmed_bytes)
        trimmed += file.raw.stat().st_size
        _set_aside(folder, file.raw, calls)
    return Tail(0, 0, 0, None, True, trimmed)


def sealed_state(path: Path) -> "_State":
    """Where a sealed segment ends, from its footer, else from its line of the manifest; nothing is known when both are damaged."""
    from l2_platform.journal.manifest import read_manifest
    from l2_platform.journal.sealed import read_footer

    try:
        footer = read_footer(path)
        return _State(footer.raw_bytes, footer.last_seq, footer.last_ts, footer.clean)
    except JournalCorrupt:
        entry = read_manifest(path.parent).entries.get(int(path.stem))
        return _State(entry.raw_bytes, entry.last_seq, entry.last_ts, False) if entry is not None else _State(0, 0, None, False)


def is_stop(payload: bytes | memoryview) -> bool:
    """A control payload says `collector_stop`."""
    return bytes(payload[:25]) == b'{"event":"collector_stop"'


def _recover_segment(folder: Path, number: int, session_date: int, durable: Durable | None, calls: Syscalls) -> Tail | None:
    """None when the file holds neither a header nor a frame."""
    path = raw_path(folder, number)
    fd = calls.open(path, os.O_RDWR)
    try:
        size = os.fstat(fd).st_size
        state = _scan(fd, size, number, session_date, path, durable)
        if state is None:
            return None
        if state.end < size:
            _keep_torn(folder, number, fd, state.end, size, calls)
            calls.ftruncate(fd, state.end)
        rewrite_from = _suspect_from(folder, number)
        try:
            calls.fdatasync(fd)
        except OSError:
            known = durable is not None and durable.position[:2] == (session_date, number)
            rewrite_from = min(durable.position.offset, state.end) if known and durable is not None else 0
        if rewrite_from is not None:
            rewrite_from = _first_frame(fd, max(rewrite_from, 0), state.end, path)
        return Tail(number, state.end, state.last_seq, state.last_ts, state.clean, size - state.end, rewrite_from)
    finally:
        calls.close(fd)


def _scan(
    fd: int, size: int, number: int, session_date: int, path: Path, durable: Durable | None
) -> _State | None:
    if size == 0:
        return None
    with mmap.mmap(fd, size, prot=mmap.PROT_READ) as data, memoryview(data) as view:
        start, state, created_ns = 0, _State(0, 0, None, True), None
        try:
            header, start = decode_segment_header(view, path.name)
            state, created_ns = _State(start, header.last_seq, header.last_ts, header.clean), header.created_ns
        except JournalCorrupt:
            if find_frame(data, view, 0, size) is None:
                return None
        if (
            durable is not None
            and durable.position[:2] == (session_date, number)
            and durable.segment_ns == created_ns
            and start <= durable.position.offset <= size
            and (durable.position.offset == size or frame_at(view, durable.position.offset, size) is not None)
        ):
            # Behind it nothing is torn. Otherwise all of the segment is looked at: bytes may have moved, and must not be cut in a frame.
            start = durable.position.offset
            state = _State(start, durable.seq, durable.ts_recv or None, durable.clean)
        while True:
            frame: Frame | None = None
            for frame in frames_from(view, start, size):
                # A stray copy of an older frame must not set the numbers back.
                state.last_seq = max(state.last_seq, frame.seq_last)
            if frame is not None:
                state.end, state.last_ts = frame.end, frame.ts_recv
                state.clean = frame.kind == FrameKind.CONTROL and is_stop(view[frame.start + FRAME_BYTES : frame.end])
                start = frame.end
            follow = find_frame(data, view, start, size)
            if follow is None:
                return state
            start = follow.start


def _first_frame(fd: int, offset: int, end: int, path: Path) -> int:
    """`offset`, or where the first frame is when it points into the header."""
    with mmap.mmap(fd, end, prot=mmap.PROT_READ) as data, memoryview(data) as view:
        if offset == end or frame_at(view, offset, end) is not None:
            return offset
        try:
            return max(offset, decode_segment_header(view, path.name)[1])
        except JournalCorrupt:
            return offset


def _keep_torn(folder: Path, number: int, fd: int, start: int, end: int, calls: Syscalls) -> None:
    target = folder / f"torn-{number:06d}-{start}.bin"
    temporary = target.with_suffix(".bin.tmp")
    copy = calls.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        at = start
        while at < end:
            chunk = os.pread(fd, min(1 << 20, end - at), at)
            calls.write_all(copy, [chunk], at - start)
            at += len(chunk)
        calls.fdatasync(copy)
    finally:
        calls.close(copy)
    calls.rename(temporary, target)
    calls.sync_folder(folder)


def _set_aside(folder: Path, path: Path, calls: Syscalls) -> None:
    calls.rename(path, folder / f"torn-{path.stem}-0.bin")
    calls.sync_folder(folder)


def mark_suspect(folder: Path, number: int, offset: int, calls: Syscalls) -> None:
    """Say, for a start after a crash, that what follows `offset` in the segment is not known to be on the disk."""
    fd = calls.open(suspect_path(folder, number), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        calls.write_all(fd, [json.dumps({"offset": offset}).encode()], 0)
    finally:
        calls.close(fd)


def _suspect_from(folder: Path, number: int) -> int | None:
    try:
        return int(json.loads(suspect_path(folder, number).read_bytes())["offset"])
    except FileNotFoundError:
        return None
    except (ValueError, OverflowError, KeyError):
        # The mark itself is torn: nothing of the segment is sure.
        return 0


def frames_to_rewrite(root: Path, stream: str, session_date: int, tail: Tail) -> tuple[list[bytes], int]:
    """The frames of the tail that must be written again, as bytes, and the seq before them; damage between them is left out."""
    if tail.rewrite_from is None or tail.rewrite_from >= tail.end:
        return [], tail.last_seq
    data = raw_path(date_folder(root, stream, session_date), tail.segment).read_bytes()[: tail.end]
    found: list[bytes] = []
    before = tail.last_seq
    with memoryview(data) as view:
        end = len(data)
        frame = find_frame(data, view, tail.rewrite_from, end)
        before = frame.seq_before if frame is not None else before
        while frame is not None:
            found.append(data[frame.start : frame.end])
            frame = find_frame(data, view, frame.end, end)
    return found, before

"""The one writer of a stream: appends frames, syncs them in groups, publishes how far they are durable, and survives a failing disk.

`append` is one `pwritev`. A thread calls fdatasync: the next begins a moment after the last ended, at most
`fsync_interval_ms` later while bytes wait. Frames that are not yet durable are kept in memory (bounded): when an fdatasync fails, the
kernel may have dropped their pages, so the descriptor is given up, a new segment takes the frames again, and its header says where the
old one ends. What does not belong here: reading (`reader.py`), what is inside the frames.
"""

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from l2_platform.clock import Clock
from l2_platform.errors import JournalError, JournalUnwritable, LeaseHeld
from l2_platform.journal.durable import Durable, pack_durable, read_durable
from l2_platform.journal.frame import (
    FRAME_BYTES,
    FrameKind,
    Position,
    Previous,
    SegmentHeader,
    control_payload,
    frame_header,
)
from l2_platform.journal.layout import (
    TEMPORARY_SUFFIX,
    date_folder,
    list_dates,
    raw_path,
    suspect_path,
)
from l2_platform.journal.recovery import Tail, frames_to_rewrite, is_stop, mark_suspect, recover_date
from l2_platform.journal.syscalls import Syscalls
from l2_platform.journal.threads import Thread, Threads
from l2_platform.market.dates import date_text
from l2_platform.monitoring.bounds import Bound, Timing
from l2_platform.settings import JournalSettings

SYNC_REST: Final = 8
"""Rest after an fdatasync, in times of what it took: reads that come one by one share syncs (docs/decisions/0008)."""
RETRY_S: Final = 0.2
"""Wait before a failed replacement of a segment is tried again."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What `open` found. `last_seq` is of the opened session date, the rest of the newest frame of the stream."""

    last_seq: int
    last_ts: int | None
    """ns; None when the stream has no frame."""
    trimmed_bytes: int
    clean: bool
    """The last writer ended with `collector_stop`, or there was none."""


@dataclass(slots=True)
class _State:
    """Where the stream is after some frame."""

    position: Position
    seq: int
    ts: int | None
    clean: bool


class JournalWriter:
    """Writes one stream. Safe to call from several threads; only one writer of a stream can be open on a machine."""

    def __init__(
        self, root: Path, stream: str, settings: JournalSettings, clock: Clock, *, calendar: str, durable_path: Path,
        calls: Syscalls | None = None, threads: Threads | None = None,
    ) -> None:  # fmt: skip
        self._root = root
        self._stream = stream
        self._settings = settings
        self._clock = clock
        self._calendar = calendar
        self._durable_path = durable_path
        self._calls = calls or Syscalls()
        self.unsynced = Bound("unsynced_bytes", settings.unsynced_bytes_max, "bytes", "journal.unsynced_bytes_max")
        self.segment = Bound("segment_bytes", settings.segment_bytes_max, "bytes", "journal.segment_bytes_max")
        self.fsyncs = Timing()
        """Group syncs of the thread."""
        self._threads = threads or Threads()
        self._changed = self._threads.condition()
        self._context: dict[str, Any] = {}
        self._fd = -1
        self._lock_fd = -1
        self._durable_fd = -1
        self._opened_at = 0
        self._segment_ns = 0
        self._header_end = 0
        nothing = _State(Position(0, 0, 0), 0, None, True)
        self._state = nothing
        self._durable = nothing
        self._cut_to: int | None = None
        self._ragged = False
        """A frame was begun and cut off again, and the disk may not know of the cut."""
        self._kept: deque[tuple[int, bytes, bytes]] = deque()
        self._syncing = False
        self._suspect: OSError | None = None
        self._publish = False
        self._stop = self._threads.event()
        self._thread_ended = False
        self._thread: Thread | None = None

    # ── what is where ──

    @property
    def last_seq(self) -> int:
        """The last line of this session date; 0 before the first."""
        return self._state.seq

    @property
    def written(self) -> Position:
        """Behind the last frame."""
        return self._state.position

    @property
    def durable(self) -> Position:
        """Everything before this is on the disk."""
        return self._durable.position

    @property
    def is_open(self) -> bool:
        """Between `open` and `close`."""
        return self._fd >= 0

    # ── life ──

    def open(self, session_date: int) -> Recovery:
        """Recover what is stored and begin a new segment of `session_date` (YYYYMMDD).

        LeaseHeld when another writer has the stream, JournalUnwritable when the disk refuses (try again), JournalError when the journal
        is already at a later date.
        """
        if self.is_open:
            raise JournalError(f"{self._stream}: the writer is open")
        try:
            with self._changed:
                return self._open(session_date)
        except OSError as error:
            self._give_back()
            raise self._unwritable("open", error) from error
        except BaseException:
            self._give_back()
            raise

    def close(self) -> None:
        """Make everything durable and end; JournalUnwritable when the disk refuses (call again)."""
        if not self.is_open:
            return
        with self._changed:
            self._settle()
            self._publish_now(closed=True)
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with self._changed:
            self._give_back()

    def roll(self, session_date: int) -> None:
        """Close this session date and begin `session_date` with seq 1."""
        with self._changed:
            self._must_be_open()
            now = self._state.position
            if session_date <= now.session_date:
                raise JournalError(f"{self._stream}: cannot roll from {date_text(now.session_date)} to {date_text(session_date)}")
            self._settle()
            now = self._state.position
            previous = Previous(now.session_date, now.segment, now.offset, self._state.seq)
            self._switch(session_date, 1, previous, replace(self._state, seq=0))
            self._publish_now()

    # ── frames ──

    def append(self, data: bytes | memoryview, count: int, ts_recv: int, conn_id: int, flags: int = 0) -> int:
        """Write one frame of `count` whole lines (or one fragment) received at `ts_recv` ns; return the seq of its first.

        JournalUnwritable: nothing was written, the same call may be repeated.
        """
        with self._changed:
            first = self._state.seq + 1
            self._write(FrameKind.DATA, data, seq_first=first, count=count, ts_recv=ts_recv, conn_id=conn_id, flags=flags)
            return first

    def control(self, event: str, ts: int, conn_id: int, **fields: Any) -> None:
        """Write what the collector did or saw, `ts` in ns; JournalUnwritable as in `append`."""
        payload = control_payload(event, fields)
        with self._changed:
            self._write(FrameKind.CONTROL, payload, seq_first=self._state.seq, count=0, ts_recv=ts, conn_id=conn_id, flags=0)

    def context(self, context: Mapping[str, Any]) -> None:
        """Remember what a decoder must know; the next segment's header repeats it."""
        self._context = dict(context)

    def sync(self) -> None:
        """Return when everything written is durable."""
        with self._changed:
            self._must_be_open()
            self._settle()
            self._publish_now()

    def _write(
        self, kind: FrameKind, payload: bytes | memoryview, *, seq_first: int, count: int, ts_recv: int, conn_id: int, flags: int
    ) -> None:
        self._must_be_open()
        if self._suspect is not None:
            self._replace()
        size = FRAME_BYTES + len(payload)
        self._rotate_if_due(size)
        self._wait_for_disk(size)
        header = frame_header(
            kind, payload, seq_first=seq_first, count=count, ts_recv=ts_recv, conn_id=conn_id, flags=flags
        )
        position = self._state.position
        try:
            self._cut_back()
            self._cut_to = position.offset
            end = self._calls.write_all(self._fd, [header, payload], position.offset)
            self._cut_to = None
        except OSError as error:
            self._ragged = True
            with suppress(OSError):  # tried again before the next frame, which would overwrite it anyway
                self._cut_back()
            raise self._unwritable("write", error) from error
        self._kept.append((end, header, bytes(payload)))
        clean = kind == FrameKind.CONTROL and is_stop(payload)
        seq = self._state.seq + count if kind == FrameKind.DATA else self._state.seq
        self._state = _State(Position(position.session_date, position.segment, end), seq, ts_recv, clean)
        self.unsynced.see(end - self._durable.position.offset)
        self._changed.notify_all()

    def _cut_back(self) -> None:
        if self._cut_to is not None:
            self._calls.ftruncate(self._fd, self._cut_to)
            self._cut_to = None

    def _wait_for_disk(self, size: int) -> None:
        def room() -> bool:
            waiting = self._state.position.offset - self._durable.position.offset
            return self._thread_ended or self._suspect is not None or waiting == 0 or waiting + size <= self.unsynced.limit

        if not room():
            self.unsynced.hit()
            self._changed.wait_for(room)
            self._must_be_open()
            if self._suspect is not None:
                self._replace()

    # ── segments ──

    def _open(self, session_date: int) -> Recovery:
        calls = self._calls
        calls.make_folders(self._root / self._stream)
        self._lock_fd = calls.open(self._root / self._stream, os.O_RDONLY | os.O_DIRECTORY)
        try:
            calls.lock(self._lock_fd)
        except BlockingIOError:
            raise LeaseHeld(f"another process writes the stream {self._stream}") from None
        dates = list_dates(self._root, self._stream)
        if dates and dates[-1] > session_date:
            raise JournalError(
                f"{self._stream}: the journal is at session date {date_text(dates[-1])}, {date_text(session_date)} is before it",
                newest=dates[-1],
            )
        tail, newest, trimmed = self._recover(session_date, [date for date in dates if date != session_date])
        calls.make_folders(self._durable_path.parent)
        self._durable_fd = calls.open(self._durable_path, os.O_RDWR | os.O_CREAT)
        self._state = _State(Position(newest, tail.segment, tail.end), tail.last_seq, tail.last_ts, tail.clean)
        if tail.rewrite_from is not None and tail.rewrite_from < tail.end:
            self._rewrite(tail)
        now = self._state
        previous = Previous(*now.position, now.seq) if now.position.segment else None
        if newest != session_date:
            self._switch(session_date, 1, previous, replace(now, seq=0))
        elif self._fd < 0:
            self._switch(session_date, tail.segment + 1, previous, now)
        self._publish_now()
        self._stop.clear()
        self._thread_ended = False
        self._thread = self._threads.start(self._flush, f"fsync-{self._stream}")
        return Recovery(self._state.seq, tail.last_ts, trimmed, tail.clean)

    def _recover(self, session_date: int, earlier: list[int]) -> tuple[Tail, int, int]:
        """The end of the newest date that has a segment, that date, and the bytes trimmed."""
        durable = read_durable(self._durable_path)
        trimmed = 0
        # A date that was begun and never got a segment does not hide the one before it.
        for date in [session_date, *earlier[:-3:-1]]:
            tail = recover_date(self._root, self._stream, date, durable, self._calls)
            trimmed += tail.trimmed_bytes
            if tail.segment:
                return tail, date, trimmed
        return Tail(0, 0, 0, None, True), session_date, trimmed

    def _rewrite(self, tail: Tail) -> None:
        """The last writer ended on a disk error: write its unsure end again before going on."""
        session_date = self._state.position.session_date
        frames, before = frames_to_rewrite(self._root, self._stream, session_date, tail)
        start = tail.rewrite_from or 0
        self._switch(
            session_date, tail.segment + 1, Previous(session_date, tail.segment, start, before),
            replace(self._state, seq=before), frames=frames, supersedes=(tail.segment, start),
        )  # fmt: skip
        with suppress(OSError):  # harmless: the new segment supersedes the marked one
            self._calls.unlink(suspect_path(date_folder(self._root, self._stream, session_date), tail.segment))

    def _switch(
        self, session_date: int, number: int, previous: Previous | None, before: _State, *, frames: Sequence[bytes] = (),
        supersedes: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        """Make a new segment, complete and durable before it has its name; then it is the one written to.

        `before` is the state in front of its first frame; `frames` lead from there to the state that the writer is in.
        """
        created_ns = self._clock.now_ns()
        header = SegmentHeader(
            stream=self._stream, session_date=session_date, segment=number, calendar=self._calendar, created_ns=created_ns,
            last_seq=before.seq, last_ts=before.ts, clean=before.clean, context=self._context, previous=previous,
            supersedes=supersedes,
        ).encode()  # fmt: skip
        calls = self._calls
        folder = date_folder(self._root, self._stream, session_date)
        path = raw_path(folder, number)
        temporary = path.with_suffix(path.suffix + TEMPORARY_SUFFIX)
        fd = -1
        try:
            calls.make_folders(folder)
            fd = calls.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            calls.lock(fd)
            end = calls.write_all(fd, [header, *frames], 0)
            calls.fdatasync(fd)
            calls.rename(temporary, path)
            calls.sync_folder(folder)
        except OSError as error:
            self._undo(fd, temporary, path)
            raise self._unwritable("begin a segment", error) from error
        self.segment.see(self._state.position.offset)
        old, self._fd = self._fd, fd
        if old >= 0:
            self._close_quietly(old)
        self._kept.clear()
        self._cut_to = None
        self._ragged = False
        self._suspect = None
        self._segment_ns = created_ns
        self._header_end = len(header)
        self._opened_at = self._clock.monotonic_ns()
        self._state = replace(self._state if frames else before, position=Position(session_date, number, end))
        self._durable = self._state
        self._publish = True
        self._changed.notify_all()

    def _undo(self, fd: int, *paths: Path) -> None:
        if fd >= 0:
            self._close_quietly(fd)
            for path in paths:
                try:
                    self._calls.unlink(path)
                except OSError:
                    continue  # a leftover temporary file is removed at the next open; a named one is written over

    def _rotate_if_due(self, size: int) -> None:
        offset = self._state.position.offset
        if offset == self._header_end:
            return
        age_s = (self._clock.monotonic_ns() - self._opened_at) / 1e9
        if offset + size > self._settings.segment_bytes_max or age_s >= self._settings.segment_s_max:
            self._settle()
            position = self._state.position
            previous = Previous(position.session_date, position.segment, position.offset, self._state.seq)
            self._switch(position.session_date, position.segment + 1, previous, self._state)

    def _replace(self) -> None:
        """After a failed fdatasync: write every frame that is not known to be durable into a new segment."""
        sure, position = self._durable, self._durable.position
        folder = date_folder(self._root, self._stream, position.session_date)
        with suppress(OSError):  # only a start after a crash would need the mark; the frames are in memory
            mark_suspect(folder, position.segment, position.offset, self._calls)
        self._switch(
            position.session_date, position.segment + 1,
            Previous(position.session_date, position.segment, position.offset, sure.seq), sure,
            frames=[header + payload for _, header, payload in self._kept], supersedes=(position.segment, position.offset),
        )  # fmt: skip
        with suppress(OSError):  # harmless: the new segment supersedes the marked one
            self._calls.unlink(suspect_path(folder, position.segment))

    # ── durability ──

    def _settle(self) -> None:
        """Everything durable, in this thread; JournalUnwritable when even a new segment cannot be made."""
        self._changed.wait_for(lambda: not self._syncing)
        if self._suspect is not None:
            self._replace()
        if self._durable.position != self._state.position or self._ragged:
            try:
                self._cut_back()
                self._calls.fdatasync(self._fd)
            except InterruptedError:
                self._settle()
            except OSError as error:
                self._suspect = error
                self._replace()
            else:
                self._ragged = False
                self._acknowledge(self._state)

    def _acknowledge(self, state: _State) -> None:
        self._durable = state
        while self._kept and self._kept[0][0] <= state.position.offset:
            self._kept.popleft()
        self._publish = True

    def _publish_now(self, *, closed: bool = False) -> None:
        durable = self._durable
        record = pack_durable(
            Durable(
                durable.position, durable.seq, durable.ts or 0, os.getpid(), closed, durable.clean, self._clock.now_ns(),
                self._segment_ns,
            )
        )
        try:
            self._calls.write_all(self._durable_fd, [record], 0)
            self._publish = False
        except OSError:
            self._publish = True  # readers see the older position a little longer; the thread tries again

    def _flush(self) -> None:
        """The thread: whatever ends it, nobody waits for it in vain."""
        try:
            self._flush_loop()
        finally:
            with self._changed:
                self._thread_ended = not self._stop.is_set()
                self._syncing = False
                self._changed.notify_all()

    def _flush_loop(self) -> None:
        interval_s = self._settings.fsync_interval_ms / 1000
        while not self._stop.is_set():
            with self._changed:
                self._changed.wait_for(self._has_work)
                if self._stop.is_set():
                    return
                if self._suspect is not None:
                    pause_s = 0.0 if self._try(self._replace) else RETRY_S
                    state = None
                else:
                    pause_s = interval_s
                    state = self._state if self._durable.position != self._state.position else None
                    self._syncing = state is not None
                fd = self._fd
            if state is not None:
                pause_s = min(interval_s, SYNC_REST * self._sync(fd, state))
            with self._changed:
                if self._publish:
                    self._publish_now()
                    pause_s = max(pause_s, RETRY_S) if self._publish else pause_s
                self._changed.notify_all()
            # So many times as long as the sync took: a fast disk gives 1-2 ms of delay, a slow one is not kept busy for its own sake.
            self._stop.wait(pause_s)

    def _has_work(self) -> bool:
        waiting = self._durable.position != self._state.position or self._publish
        return self._stop.is_set() or self._suspect is not None or waiting

    def _sync(self, fd: int, state: _State) -> float:
        """One group fdatasync outside the lock; seconds it took."""
        started = self._clock.monotonic_ns()
        failed: OSError | None = None
        try:
            self._calls.fdatasync(fd)
        except OSError as error:
            failed = error
        with self._changed:
            self._syncing = False
            if failed is None:
                self._acknowledge(state)
            elif not isinstance(failed, InterruptedError):
                self._suspect = failed
            self._changed.notify_all()
        took_s = (self._clock.monotonic_ns() - started) / 1e9
        self.fsyncs.add(took_s)
        return took_s

    def _try(self, action: Callable[[], None]) -> bool:
        try:
            action()
        except JournalUnwritable:
            return False
        return True

    # ── ends ──

    def _must_be_open(self) -> None:
        if not self.is_open:
            raise JournalError(f"{self._stream}: the writer is not open")
        if self._thread_ended:
            raise JournalError(f"{self._stream}: the thread that syncs has ended by a defect (see the log); start again")

    def _unwritable(self, what: str, error: OSError) -> JournalUnwritable:
        return JournalUnwritable(
            f"{self._stream}: cannot {what}: {error.strerror or error}; nothing was lost, try again",
            stream=self._stream, errno=error.errno,
        )  # fmt: skip

    def _close_quietly(self, fd: int) -> None:
        with suppress(OSError):  # the descriptor is gone either way; what it wrote was synced or is written again
            self._calls.close(fd)

    def _give_back(self) -> None:
        for fd in (self._fd, self._lock_fd, self._durable_fd):
            if fd >= 0:
                self._close_quietly(fd)
        self._fd = self._lock_fd = self._durable_fd = -1


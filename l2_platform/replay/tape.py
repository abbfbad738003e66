"""Several streams of a day as one sequence in market time, read ahead by a thread of its own within a bound.

What does not belong here: pace and clients.
"""

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from l2_platform.replay.lines import Event, PartReader, Piece

JOIN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Slice:
    """Lines `first` to `stop - 1` of a piece."""

    piece: Piece
    first: int
    stop: int

    def specials(self) -> Iterator[int]:
        """The lines of it that are no market line of a symbol."""
        rows = self.piece.specials
        at = bisect_left(rows, self.first)
        while at < len(rows) and rows[at] < self.stop:
            yield rows[at]
            at += 1


class _Track:
    """What was read of one stream and is not played yet."""

    def __init__(self, reader: PartReader) -> None:
        self.reader = reader
        self.waiting: deque[Piece | Event] = deque()
        self.bytes = 0
        self.row = 0
        """First line of the oldest piece that was not played."""

    def end_time(self) -> int:
        head = self.waiting[0]
        return head.time if isinstance(head, Event) else int(head.times[-1])

    def next_time(self) -> int:
        head = self.waiting[0]
        return head.time if isinstance(head, Event) else int(head.times[self.row])


class Tape:
    """Reads ahead in a thread; `play` gives what is due. One thread plays."""

    def __init__(self, readers: list[PartReader], ahead_bytes: int, step_bytes: int) -> None:
        """`ahead_bytes` for all streams together, `step_bytes` at once."""
        self._tracks = [_Track(reader) for reader in readers]
        self._ahead_bytes = ahead_bytes // max(1, len(readers))
        self._step_bytes = step_bytes
        self._changed = threading.Condition()
        self._closed = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._read, name="replay-reader", daemon=True)
        self._thread.start()

    @property
    def finished(self) -> bool:
        """Everything was played."""
        self._raise()
        return all(not track.waiting and track.reader.finished for track in self._tracks)

    @property
    def starved(self) -> bool:
        """A stream has more, but it is not read yet: which line is next is not known."""
        self._raise()
        return any(not track.waiting and not track.reader.finished for track in self._tracks)

    def next_time(self) -> int | None:
        """Market time of the next line; None at the end, and while nothing is read yet."""
        return min((track.next_time() for track in self._tracks if track.waiting), default=None)

    def window(self) -> int | None:
        """Up to this market time everything is read; None while that is not known, or at the end."""
        if self.starved:
            return None
        return min((track.end_time() for track in self._tracks if track.waiting), default=None)

    def wait(self, seconds: float) -> bool:
        """Wait until something is read, or everything was; False when the time is over."""
        with self._changed:
            return self._changed.wait_for(lambda: self._error is not None or not self.starved, seconds)

    def play(self, until: int, lines_max: int) -> Iterator[Slice | Event]:
        """What is due at or before a market time, stream by stream; about `lines_max` lines at most.

        Whoever iterates must take each item before the next: the tape has moved on when it is given.
        """
        left = lines_max
        for track in self._tracks:
            while left > 0 and track.waiting:
                head = track.waiting[0]
                if isinstance(head, Event):
                    if head.time > until:
                        break
                    self._pop(track, 0)
                    yield head
                    continue
                stop = len(head)
                if int(head.times[-1]) > until:
                    stop = int(np.searchsorted(head.times, until, side="right"))
                stop = min(stop, track.row + left)
                if stop <= track.row:
                    break
                found = Slice(head, track.row, stop)
                left -= stop - track.row
                track.row = stop
                if stop == len(head):
                    self._pop(track, head.data.nbytes)
                yield found

    def close(self) -> None:
        """End the reading."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(JOIN_S)

    def _pop(self, track: _Track, size: int) -> None:
        with self._changed:
            track.waiting.popleft()
            track.row = 0
            track.bytes -= size
            self._changed.notify_all()

    def _read(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or self._hungry() is not None or self._all_read())
                    track = self._hungry()
                    if self._closed or track is None:
                        return
                items = track.reader.read(self._step_bytes)
                with self._changed:
                    track.waiting.extend(items)
                    track.bytes += sum(item.data.nbytes for item in items if isinstance(item, Piece))
                    self._changed.notify_all()
        except Exception as error:  # noqa: BLE001  whatever it is, it belongs to the thread that plays
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _all_read(self) -> bool:
        return all(track.reader.finished for track in self._tracks)

    def _hungry(self) -> _Track | None:
        """The stream with the least ahead that has room."""
        found = [track for track in self._tracks if not track.reader.finished and track.bytes < self._ahead_bytes]
        return min(found, key=lambda track: track.bytes, default=None)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

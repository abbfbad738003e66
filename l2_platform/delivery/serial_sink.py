"""A sink whose calls never overlap: the followers' one writer thread and their own thread take turns."""

import threading

from l2_platform.journal.frame import Position
from l2_platform.market.events import TableBatch
from l2_platform.sinks.sink import ResumePoint, Sink


class SerialSink:
    """Every call of `Sink`, one at a time."""

    def __init__(self, sink: Sink) -> None:
        self.name = sink.name
        self._sink = sink
        self._turn = threading.Lock()

    def open(self) -> None:
        """As `Sink.open`."""
        with self._turn:
            self._sink.open()

    def resume(self, stream: str, session_date: int) -> ResumePoint:
        """As `Sink.resume`."""
        with self._turn:
            return self._sink.resume(stream, session_date)

    def write(self, batches: list[TableBatch], position: Position, seq: int) -> None:
        """As `Sink.write`."""
        with self._turn:
            self._sink.write(batches, position, seq)

    def sync(self) -> None:
        """As `Sink.sync`."""
        with self._turn:
            self._sink.sync()

    def close_stream(self, stream: str, session_date: int) -> None:
        """As `Sink.close_stream`."""
        with self._turn:
            self._sink.close_stream(stream, session_date)

    def close(self) -> None:
        """As `Sink.close`."""
        with self._turn:
            self._sink.close()

"""One stream into one sink: read what is durable, turn it into rows, hand them over, remember how far.

Exactly once: the sink says how far it got, the newest checkpoint at or before that is loaded, the journal is replayed from there
without sending what the sink already has, and from then on the reads become writes, in order, one at a time. While a write fails, the
same write is tried again later; at most one more is gathered meanwhile, the journal on disk is the only buffer.

Without a `writer` every read is written before the next. With one (a thread) the next rows are read, decoded and gathered while a
write is under way: see `gathering` for when they go. A `saver` (another one) packs and saves checkpoints, which takes longer than
most writes: one at a time, and none is taken while one is being saved.
"""

from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2_platform.clock import Clock
from l2_platform.delivery.bounds import FollowerBounds
from l2_platform.delivery.checkpoint import Checkpoint, CheckpointStore
from l2_platform.delivery.gathering import Gathering
from l2_platform.delivery.pipeline import Item, Pipeline
from l2_platform.delivery.retries import Breaker, trouble_of, wait_s
from l2_platform.delivery.rows import after
from l2_platform.errors import BookError, SinkError, SinkUnavailable
from l2_platform.journal.frame import Position
from l2_platform.journal.reader import Block, Damage, JournalReader, list_dates, segment_context
from l2_platform.market.events import TableBatch
from l2_platform.settings import DeliverySettings
from l2_platform.sinks.sink import Sink

NS = 1_000_000_000


@dataclass(slots=True)
class Pending:
    """Rows that the sink has not taken yet."""

    batches: list[TableBatch]
    position: Position
    seq: int
    ts_recv: int = 0
    """Receive time of its newest line, ns."""
    state: dict[str, Any] | None = None
    """The pipeline's state after it, when a checkpoint is due."""


@dataclass(frozen=True, slots=True)
class JournalSource:
    """Where a stream's journal is, and where its writer says how much of it is durable (None: all of it is)."""

    root: Path
    durable_path: Path | None
    session_date: int | None = None
    """Only this date, however often it was delivered before: the sink says what it has."""


class Follower:
    """Delivers one stream to one sink; one thread calls `step` again and again."""

    def __init__(
        self,
        stream: str,
        sink: Sink,
        source: JournalSource,
        checkpoints: CheckpointStore,
        make_pipeline: Callable[[], Pipeline],
        *,
        settings: DeliverySettings,
        clock: Clock,
        writer: Executor | None = None,
        saver: Executor | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        """`writer`: one thread that makes the writes while this one goes on; the sink's calls must not overlap then.
        `saver`: saves the checkpoints (None: the thread that calls). `breaker`: what all streams of the sink know of it together.
        """
        self.stream = stream
        self.pipeline = make_pipeline()
        self.failures = 0
        """Failed writes in a row."""
        self._error = ""
        """What the last failed write said."""
        self._checkpoint_error = ""
        """Why the last checkpoint is not on disk."""
        self.trouble = ""
        """The same in a word (`retries.trouble_of`)."""
        self.rows = 0
        """Rows handed over since the start."""
        self.last_ts_recv = 0
        """Receive time of the newest delivered row, ns."""
        self.bounds = FollowerBounds(settings, self.pipeline.symbols.names_max)
        """How near its reads and writes come to their limits."""
        self.full_read = False
        """The last read was as large as reads get: more waits in the journal."""
        self.position: Position | None = None
        """The sink has everything up to here."""
        self.delivered_seq = 0
        """The same as a seq of the current date."""
        self._sink = sink
        self._source = source
        self._checkpoints = checkpoints
        self._make_pipeline = make_pipeline
        self._settings = settings
        self._clock = clock
        self._reader: JournalReader | None = None
        self._session_date = 0
        self._done: int | None = None
        self._floors: dict[str, tuple[int, int]] = {}
        self._writer = writer
        self._writing: Future[SinkError | None] | None = None
        """The write of `_pending` that is under way."""
        self.writing_since: int | None = None
        """When it began, monotonic ns."""
        self._pending: Pending | None = None
        self._gathering = Gathering(settings)
        self._breaker = breaker or Breaker(settings, clock)
        self._retry_at = 0
        self._failed_at = 0
        self._read_ts = 0
        """Receive time of the newest line read, ns."""
        self._checkpoint_at = 0
        self._checkpoint_lines = 0
        """Lines read since the last checkpoint was taken."""
        self._checkpoint_position: Position | None = None
        self._saver = saver
        self._saving: Future[None] | None = None
        """The checkpoint that is being saved."""
        self.saving_since: int | None = None
        """When that began, monotonic ns."""
        self._look_at = 0

    @property
    def error(self) -> str:
        """What went wrong last and still does: a write, or a checkpoint; empty when all is well."""
        return self._error or self._checkpoint_error

    @property
    def behind(self) -> bool:
        """Rows wait for the sink."""
        return self._pending is not None or self._gathering.waits

    def step(self) -> bool:
        """Do one read and begin one write at most; True when there was something to do and more may follow at once.

        Sink errors are kept in `error` and tried again with growing waits; journal errors are raised.
        """
        now = self._clock.monotonic_ns()
        self.full_read = False
        if self._writing is not None and self._writing.done():
            self._collect()
        if self._saving is not None and self._saving.done():
            self._saved()
        if self._failed_at and self._breaker.came_back_after(self._failed_at):
            self._retry_at = self._look_at = self._failed_at = 0
        if now < self._retry_at or self._breaker.holds(now):
            return False
        if self._pending is not None and self._writing is None:
            return self._write(self._pending)
        if self._reader is None and not self._open_next(now):
            return False
        read = self._read(now)
        if self._gathering.waits and self._writing is None and (self._writer is None or self._gathering.is_due(now)):
            return self._write(self._gathered(now))
        ended = not read and self._reader is not None and self._reader.finished and not self.behind
        if ended and self._saving is None:
            return self._finish_date()
        return read

    def settle(self) -> None:
        """Wait for what is under way, and do the rest in this thread: for an orderly end."""
        if self._writing is not None:
            wait([self._writing])
            self._collect()
        self._saved()
        self._writer = self._saver = None

    def _read(self, now: int) -> bool:
        """Read and decode what is worth it; True when there was something."""
        assert self._reader is not None
        if self._writer is not None and not self._gathering.wants(self._reader.waiting(), now):
            return False
        items = self._reader.read(self._settings.read_bytes_max, self._settings.read_lines_max)
        if not items:
            return False
        size = sum(len(item.buffer) for item in items if isinstance(item, Block))
        lines = sum(int(item.frame_count.sum()) for item in items if isinstance(item, Block))
        self.full_read = size >= self._settings.read_bytes_max // 2 or lines >= self._settings.read_lines_max
        self.bounds.read(size, lines, len(self.pipeline.symbols))
        self._checkpoint_lines += lines
        self._gathering.add(self._rows_of(items), lines, now)
        return True

    def _gathered(self, now: int) -> Pending:
        """Everything that was read, as one write; the pipeline is exactly at its end."""
        assert self._reader is not None
        state = None
        due = now >= self._checkpoint_at or self._checkpoint_lines >= self._settings.checkpoint_lines
        if due and self._saving is None:
            self._checkpoint_at, self._checkpoint_lines = now + int(self._settings.checkpoint_s * NS), 0
            state = self.pipeline.freeze()
        return Pending(self._gathering.take(now), self._reader.position, self.pipeline.seq, self._read_ts, state)

    def caught_up(self) -> bool:
        """Everything that is durable now is delivered, and every date is finished (imports end here)."""
        return self._reader is None and not self.behind and not self._waiting_dates()

    def checkpoint(self) -> None:
        """Save the pipeline's state if it moved; the sink is synced first so that no checkpoint is ahead of it.

        Nothing is saved while the pipeline is behind the sink: it replays from an older checkpoint, and perhaps read nothing yet.
        Raises SinkError. A disk that does not take the checkpoint is only told in `error`: a restart is then slower, not wrong.
        """
        self._saved()
        if self._reader is None or self.behind or self.position is None:
            return
        here, seq = self._reader.position, self.pipeline.seq
        if here < self.position or seq < self.delivered_seq or here == self._checkpoint_position:
            return
        self._make_safe(here, seq)
        self._save(here, seq, self.pipeline.dump())

    def _make_safe(self, position: Position, seq: int) -> None:
        """No checkpoint is ever ahead of the sink: a batch without rows moves the sink's own position up to here."""
        self._sink.write([self.pipeline.no_rows()], position, seq)
        self._sink.sync()

    def _save(self, position: Position, seq: int, state: dict[str, Any]) -> None:
        """Pack and save a checkpoint; what the disk says against it is kept for people: a restart is then slower, not wrong."""
        try:
            self._checkpoints.save(position, seq, state)
        except OSError as error:
            self._checkpoint_error = f"no checkpoint in {self._checkpoints.directory}: {error.strerror or error}"
        else:
            self._checkpoint_error, self._checkpoint_position = "", position

    def _saved(self) -> None:
        """Wait for the checkpoint that is being saved."""
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()
        self.saving_since = None

    def _rows_of(self, items: list[Item]) -> list[TableBatch]:
        batches = self.pipeline.process(items, self._clock.now_ns())
        if self._floors:
            batches = self._above_floors(batches)
            if all(self.pipeline.seq > floor[0] for floor in self._floors.values()):
                self._floors = {}
        for item in items:
            if not isinstance(item, Damage):
                ts = int(item.frame_ts[-1]) if isinstance(item, Block) else item.ts_recv
                self._read_ts = max(self._read_ts, ts)
        return batches

    def _above_floors(self, batches: list[TableBatch]) -> list[TableBatch]:
        """Without the rows that the sink had at the start."""
        return [kept for batch in batches if (kept := after(batch, self._floors.get(batch.table, (0, 0)))) is not None]

    def _write(self, pending: Pending) -> bool:
        """Begin the write, here or in the writer's thread; False when it failed already."""
        self._pending = pending
        self._breaker.attempt(self._clock.monotonic_ns())
        if self._writer is not None:
            self._writing, self.writing_since = self._writer.submit(self._deliver, pending), self._clock.monotonic_ns()
            return True
        try:
            trouble = self._deliver(pending)
        except SinkError as error:
            self._failed(error)
            return False
        self._delivered(pending, trouble)
        return True

    def _deliver(self, pending: Pending) -> SinkError | None:
        """Write, and make a checkpoint there safe when one is due; what went wrong with that. SinkError: the rows are not taken."""
        self._sink.write(pending.batches, pending.position, pending.seq)
        if pending.state is not None:
            try:
                self._make_safe(pending.position, pending.seq)
            except SinkError as error:
                return error
        return None

    def _collect(self) -> None:
        """Look at how the writer's write ended."""
        writing, pending = self._writing, self._pending
        assert writing is not None
        assert pending is not None
        self._writing, self.writing_since = None, None
        try:
            trouble = writing.result()
        except SinkError as error:
            self._failed(error)
        else:
            self._delivered(pending, trouble)

    def _delivered(self, pending: Pending, trouble: SinkError | None) -> None:
        self._pending, self._error = None, ""
        self._worked()
        self.position, self.delivered_seq = pending.position, pending.seq
        self.last_ts_recv = max(self.last_ts_recv, pending.ts_recv)
        self.rows += sum(len(batch) for batch in pending.batches)
        self.bounds.wrote(max((len(batch) for batch in pending.batches), default=0))
        self._gathering.written(self._clock.monotonic_ns())
        if trouble is not None:
            self._failed(trouble)
        elif pending.state is not None and self._saver is not None:
            self._saving = self._saver.submit(self._save, pending.position, pending.seq, pending.state)
            self.saving_since = self._clock.monotonic_ns()
        elif pending.state is not None:
            self._save(pending.position, pending.seq, pending.state)

    def _worked(self) -> None:
        self.failures, self.trouble, self._retry_at, self._failed_at = 0, "", 0, 0
        self._breaker.worked()

    def _failed(self, error: SinkError) -> None:
        self.failures += 1
        self.bounds.failures.see(self.failures)
        self._error, self.trouble = error.message, trouble_of(error)
        if error.facts.get("resume"):
            # The sink does not know any more what it holds: ask it again, and replay from there.
            self._pending, self._reader, self._session_date = None, None, 0
            self._gathering.forget()
        self._breaker.failed()
        self._failed_at = self._clock.monotonic_ns()
        self._retry_at = self._failed_at + int(wait_s(error, self.failures, self._settings) * NS)
        self._look_at = self._retry_at

    def _waiting_dates(self) -> list[int]:
        if self._done is None:
            self._done = self._done_at_start()
        done = max(self._done, self._session_date)
        dates = list_dates(self._source.root, self.stream)
        return [date for date in dates if date > done and self._source.session_date in (None, date)]

    def _done_at_start(self) -> int:
        """The last date that need not be delivered any more.

        A live date that was finished is only ever rebuilt. An import can be asked for again, also because the sink was wiped: the
        sink itself must have all of its dates.
        """
        if self._source.session_date is not None:
            return 0
        done = self._checkpoints.done_through()
        if self.pipeline.source == "import":
            before = 0
            for date in list_dates(self._source.root, self.stream):
                if date > done:
                    break
                if self._sink.resume(self.stream, date).position is None:
                    # told on disk too: the dates that come now are not done before they are whole again
                    self._mark_done(before)
                    return before
                before = date
        return done

    def _open_next(self, now: int) -> bool:
        if now < self._look_at:
            return False
        self._look_at = now + int(self._settings.discover_s * NS)
        try:
            dates = self._waiting_dates()
            if not dates:
                return False
            self._breaker.attempt(now)
            self._open_date(dates[0])
        except SinkError as error:
            self._failed(error)
            return False
        self._error = ""
        self._worked()
        return True

    def _open_date(self, session_date: int) -> None:
        """Ask the sink how far it got, load the newest checkpoint at or before that, and read on from there."""
        point = self._sink.resume(self.stream, session_date)
        checkpoint = None
        if point.position is not None:
            checkpoint = self._checkpoints.newest(point.position, point.seq)
        if checkpoint is not None and not self._load(checkpoint):
            checkpoint = None
        if checkpoint is None and (self.pipeline.source != "import" or self.pipeline.session_date in (0, session_date)):
            # A live date stands alone, also for a delivery that ran through the roll: its rows are those of any later replay.
            self.pipeline = self._make_pipeline()
            if self.pipeline.source == "import":
                self._replay_earlier_dates(session_date)
        self.pipeline.begin_date(session_date, segment_context(self._source.root, self.stream, session_date))
        self._floors = dict(point.tables)
        start, seq = (checkpoint.position, checkpoint.seq) if checkpoint is not None else (None, None)
        self._reader = JournalReader(
            self._source.root, self.stream, session_date, start=start, seq=seq, durable_path=self._source.durable_path
        )
        self._session_date = session_date
        self.position, self.delivered_seq = point.position, point.seq
        self._checkpoint_position = checkpoint.position if checkpoint is not None else None

    def _load(self, checkpoint: Checkpoint) -> bool:
        """Take over a checkpoint's state; False when it is of another version (the journal serves as well)."""
        self.pipeline = self._make_pipeline()
        try:
            self.pipeline.load(checkpoint.state)
        except (BookError, KeyError, TypeError, ValueError):
            self.pipeline = self._make_pipeline()
            return False
        return True

    def _replay_earlier_dates(self, session_date: int) -> None:
        """The books of an import carry over from date to date; without a checkpoint they are made again from its beginning."""
        for date in list_dates(self._source.root, self.stream):
            if date >= session_date:
                return
            self.pipeline.begin_date(date, segment_context(self._source.root, self.stream, date))
            reader = JournalReader(self._source.root, self.stream, date, durable_path=None)
            while items := reader.read(self._settings.read_bytes_max):
                self.pipeline.process(items, 0)

    def _finish_date(self) -> bool:
        assert self._reader is not None
        ending = self._above_floors(self.pipeline.end_date(self._clock.now_ns()))
        if ending:
            return self._write(Pending(ending, self._reader.position, self.pipeline.seq, self._read_ts))
        try:
            self.checkpoint()
            self._sink.close_stream(self.stream, self._session_date)
            # never back: what is older may be taken away any time, and is not delivered again
            self._mark_done(max(self._done or 0, self._session_date))
        except SinkError as error:
            self._failed(error)
            return False
        self._worked()
        self._reader = None
        self._look_at = 0
        return True

    def _mark_done(self, session_date: int) -> None:
        try:
            self._checkpoints.mark_done(session_date)
        except OSError as error:
            raise SinkUnavailable(f"cannot write in {self._checkpoints.directory}: {error.strerror or error}") from None
        self._done = session_date

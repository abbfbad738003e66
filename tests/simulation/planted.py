"""Bugs that are put into the product's code for a test, one at a time, to see whether the simulation finds them.

Each plant takes a `Patch` (a monkeypatch) and changes one behaviour in the way a person might get it wrong.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from l2_platform.collectors.collector import Collector
from l2_platform.collectors.link import Link
from l2_platform.collectors.liveness import Backoff, Liveness
from l2_platform.collectors.recorder import Recorder
from l2_platform.delivery import follower as follower_module
from l2_platform.delivery.follower import Follower, Pending
from l2_platform.delivery.gap_rows import CLOSED
from l2_platform.delivery.gaps import GapTracker
from l2_platform.delivery.rows import RowBuilder
from l2_platform.errors import SinkUnavailable
from l2_platform.feeds.iqfeed.connection import Connection, Piece
from l2_platform.feeds.iqfeed.protocol import FeedSession
from l2_platform.journal import sealer
from l2_platform.journal.durable import Durable, pack_durable
from l2_platform.journal.syscalls import Syscalls
from l2_platform.journal.writer import JournalWriter
from l2_platform.monitoring.heartbeat import Lease
from l2_platform.sinks import clickhouse
from tests.simulation.disk import SimCalls
from tests.simulation.schedule import NS


class Patch(Protocol):
    """What a plant may do: pytest's monkeypatch."""

    def setattr(self, target: object, name: str, value: object) -> None: ...


@dataclass(frozen=True)
class Plant:
    """A bug and where to look for it."""

    name: str
    put: Callable[[Patch], None]
    faults: tuple[str, ...] = ()
    """Faults that every run has, because without them the bug does nothing; empty: the usual mix."""
    seeds: int = 40
    """It must be found within so many."""


PLANTS: list[Plant] = []


def _plant(*faults: str, seeds: int = 40) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    def note(put: Callable[[Patch], None]) -> Callable[[Patch], None]:
        PLANTS.append(Plant(put.__name__, put, faults, seeds))
        return put

    return note


@_plant("power", "power", "power_again")
def acknowledged_before_it_is_synced(patch: Patch) -> None:
    """What is written is told to be durable at once."""

    original = JournalWriter._write

    def write(self: JournalWriter, *args: Any, **fields: Any) -> None:
        original(self, *args, **fields)
        state = self._state
        record = Durable(state.position, state.seq, state.ts or 0, 1, False, state.clean, self._clock.now_ns(), self._segment_ns)
        self._calls.write_all(self._durable_fd, [pack_durable(record)], 0)

    patch.setattr(JournalWriter, "_write", write)


@_plant("power")
def fsync_left_out(patch: Patch) -> None:
    def sync(self: JournalWriter, fd: int, state: Any) -> float:
        with self._changed:
            self._syncing = False
            self._acknowledge(state)
            self._changed.notify_all()
        return 0.0

    patch.setattr(JournalWriter, "_sync", sync)


@_plant("power")
def folder_not_synced_after_rename(patch: Patch) -> None:
    patch.setattr(Syscalls, "sync_folder", lambda self, folder: None)


@_plant("disk_eio_fdatasync", "power", "power", "disk_eio_fdatasync")
def failed_fsync_tried_again_on_the_same_descriptor(patch: Patch) -> None:
    def sync(self: JournalWriter, fd: int, state: Any) -> float:
        while True:
            try:
                self._calls.fdatasync(fd)
            except OSError:
                continue
            break
        with self._changed:
            self._syncing = False
            self._acknowledge(state)
            self._changed.notify_all()
        return 0.0

    patch.setattr(JournalWriter, "_sync", sync)


@_plant("kill_deliver", "sink_ambiguous")
def known_rows_one_short(patch: Patch) -> None:
    """The last row that the sink has is taken for missing."""
    above, after = clickhouse._first_above, follower_module.after
    patch.setattr(clickhouse, "_first_above", lambda batch, floor: above(batch, (max(floor[0] - 1, 0), 0)))
    patch.setattr(follower_module, "after", lambda batch, floor: after(batch, (max(floor[0] - 1, 0), 0)))


@_plant("net_rst")
def numbers_begin_anew_with_a_connection(patch: Patch) -> None:
    original = Recorder.control

    def control(self: Recorder, event: str, conn_id: int, **fields: Any) -> None:
        original(self, event, conn_id, **fields)
        if event == "connect":
            self.writer._state = replace(self.writer._state, seq=0)

    patch.setattr(Recorder, "control", control)


@_plant("clock_step")
def rows_ordered_by_wall_clock(patch: Patch) -> None:
    original = RowBuilder.depth_updates

    def by_time(self: RowBuilder, batch: Any) -> Any:
        table = original(self, batch)
        if table is None:
            return None
        order = np.argsort(table.columns["ts_recv"], kind="stable")
        columns = {name: column[order] if isinstance(column, np.ndarray) else column for name, column in table.columns.items()}
        return replace(table, columns=columns)

    patch.setattr(RowBuilder, "depth_updates", by_time)


@_plant("disk_slow", "feed_burst")
def queue_without_a_limit(patch: Patch) -> None:
    patch.setattr(JournalWriter, "_wait_for_disk", lambda self, size: None)


@_plant("disk_eio_fdatasync")
def exception_swallowed_in_the_thread(patch: Patch) -> None:
    def sync(self: JournalWriter, fd: int, state: Any) -> float:
        self._calls.fdatasync(fd)
        with self._changed:
            self._syncing = False
            self._acknowledge(state)
            self._changed.notify_all()
        return 0.0

    def flush(self: JournalWriter) -> None:
        try:
            self._flush_loop()
        except OSError:
            return

    patch.setattr(JournalWriter, "_sync", sync)
    patch.setattr(JournalWriter, "_flush", flush)


@_plant("net_refuse")
def retries_without_a_wait(patch: Patch) -> None:
    patch.setattr(Backoff, "wait_s", lambda self: 0.0)


@_plant("kill_deliver", "sink_slow", "kill_deliver", "sink_slow")
def position_saved_before_the_insert(patch: Patch) -> None:
    original = Follower._deliver

    def deliver(self: Follower, pending: Pending) -> Any:
        self._sink.write([self.pipeline.no_rows()], pending.position, pending.seq)
        with suppress(OSError):
            self._checkpoints.save(pending.position, pending.seq, self.pipeline.dump())
        return original(self, pending)

    patch.setattr(Follower, "_deliver", deliver)


@_plant("net_fin", "net_rst")
def partial_line_dropped_at_a_disconnect(patch: Patch) -> None:
    patch.setattr(Connection, "fragment", lambda self: None)


@_plant("feed_garbage")
def bytes_taken_for_utf8(patch: Patch) -> None:
    original = FeedSession.receive

    def receive(self: FeedSession, data: bytes, end: int | None = None) -> None:
        original(self, bytes(data).decode("utf-8").encode(), end)

    patch.setattr(FeedSession, "receive", receive)


@_plant("kill_sealer", "power")
def raw_segment_removed_before_the_sealed_one_is_whole(patch: Patch) -> None:
    original = sealer._pack

    def pack(*args: Any) -> Any:
        folder, _, _, file, _, _, _, calls, *_ = args
        calls.unlink(file.raw)
        calls.sync_folder(folder)
        return original(*args)

    def unlink(self: Syscalls, path: Any) -> None:
        if path.exists():
            remove(self, path)

    remove = SimCalls.unlink
    patch.setattr(sealer, "_pack", pack)
    patch.setattr(SimCalls, "unlink", unlink)


@_plant("net_refuse")
def gap_closed_by_the_first_attempt(patch: Patch) -> None:
    original = GapTracker.on_control

    def on_control(self: GapTracker, event: str, fields: dict[str, Any], ts: int, seq: int) -> None:
        original(self, event, fields, ts, seq)
        if event in {"connect", "connect_failed"} and self.open is not None:
            self._close(ts, seq, CLOSED)

    patch.setattr(GapTracker, "on_control", on_control)


@_plant("net_half_open")
def half_open_link_not_noticed(patch: Patch) -> None:
    patch.setattr(Liveness, "judge", lambda self, now_ns: None)


@_plant("feed_repeats", seeds=80)
def midnight_of_another_zone(patch: Patch) -> None:
    def load(self: Collector, now_ns: int) -> list[tuple[int, int]]:
        return [(date, end + 5 * 3600 * NS) for date, end in true(self, now_ns - 5 * 3600 * NS)]

    true = Collector._load_sessions
    patch.setattr(Collector, "_load_sessions", load)


@_plant("standby", "pause_collector")
def two_writers_at_once(patch: Patch) -> None:
    """Neither the lease nor the lock on the stream's folder is looked at."""

    def acquire(self: Lease, wait: bool = False, stop: object = None) -> bool:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = self._files.open(self.path)
        return True

    patch.setattr(Lease, "acquire", acquire)
    patch.setattr(SimCalls, "lock", lambda self, fd: None)


@_plant("pause_collector", "net_rst")
def gap_begins_at_the_read(patch: Patch) -> None:
    """Bytes that waited for a stopped collector are taken for as old as their read."""
    def read(self: Link, connection: Connection) -> list[Piece]:
        return connection.read()

    patch.setattr(Link, "_read", read)


@_plant("sink_poison", seeds=20)
def poison_row_blocks_its_batch(patch: Patch) -> None:
    """A refusal is tried again for ever instead of being isolated."""

    def send_whole(start: int, stop: int, send: Any, middle: Any, hold: Any) -> None:
        refusal = send(start, stop)
        if refusal is not None:
            raise SinkUnavailable(refusal.message)

    patch.setattr(clickhouse, "send_isolating", send_whole)

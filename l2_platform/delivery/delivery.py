"""The delivery process: every stream of the journal into one sink, for as long as it runs.

SIGTERM drains to the durable position of that moment, saves checkpoints and ends with exit code 0. A second copy waits for the
lease (`--wait`) or exits 75. Imports and history are delivered by the command that brings them, not here.

One thread reads, decodes and keeps the books of all streams. Writes are made beside it, one at a time for each stream into ClickHouse
(where most of a write is waiting) and one at a time for all into files, so that the next rows are ready when a write ends; another
thread saves checkpoints. One more beats the heart, since a slow sink may hold a write for longer than a watchdog waits; it falls
silent when the work itself stands still for too long.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from l2_platform.clock import Clock, SystemClock
from l2_platform.delivery.bounds import sink_bounds
from l2_platform.delivery.checkpoint import CheckpointStore
from l2_platform.delivery.follower import Follower, JournalSource
from l2_platform.delivery.intent import IntentFile
from l2_platform.delivery.pipeline import Pipeline, source_of
from l2_platform.delivery.retries import Breaker
from l2_platform.delivery.serial_sink import SerialSink
from l2_platform.delivery.silence import SilenceRules
from l2_platform.errors import ConfigError, L2Error
from l2_platform.journal.reader import list_streams, read_durable
from l2_platform.market.events import NULL_TS
from l2_platform.market.sessions import load_calendar
from l2_platform.monitoring.bounds import Bound, bounds_record
from l2_platform.monitoring.heartbeat import Heartbeat, Lease
from l2_platform.settings import Settings
from l2_platform.sinks.clickhouse import ClickHouseSink
from l2_platform.sinks.jsonl import JsonlSink
from l2_platform.sinks.quarantine import Quarantine
from l2_platform.sinks.sink import Sink

NS = 1_000_000_000
INTENT_NS = NS // 2
"""Time between two looks at the desired state, ns."""
STANDBY_S = 0.1
SINKS = ("clickhouse", "jsonl")
ONE_FOR_ALL = frozenset({"jsonl"})
"""Sinks of which one serves all streams: they share descriptors and syncs. Of others each stream has its own."""


def make_sink(name: str, settings: Settings, quarantine: Quarantine | None = None) -> Sink:
    """The sink of that name; ConfigError for a name that does not exist. `quarantine`: one that several sinks share."""
    clock = SystemClock()
    if name == "clickhouse":
        return ClickHouseSink(settings, clock, quarantine=quarantine)
    if name == "jsonl":
        return JsonlSink(settings.jsonl, settings.jsonl_dir, clock, quarantine or make_quarantine(name, settings, clock))
    raise ConfigError(f"no sink is called {name!r}; there are {', '.join(SINKS)}")


def make_quarantine(name: str, settings: Settings, clock: Clock) -> Quarantine:
    """Where the rows are that the sink of that name refused."""
    return Quarantine(settings.quarantine_dir, name, settings.delivery.quarantine_rows_max, clock)


def enabled_sinks(settings: Settings) -> list[str]:
    """Names of the sinks that the settings switch on."""
    return [name for name, on in (("clickhouse", settings.clickhouse.enabled), ("jsonl", settings.jsonl.enabled)) if on]


def make_pipeline(
    stream: str, settings: Settings, default_symbol: str | None = None, *, symbol_gaps: bool = False
) -> Pipeline:
    """A fresh pipeline as the settings want it; `symbol_gaps`: it also looks for gaps of single symbols, for the ledger of gaps."""
    calendar = load_calendar(settings.calendar_name, settings.session.roll_margin_s)

    def session_start(session_date: int) -> int:
        return calendar.windows(session_date)[0].start if calendar.is_session(session_date) else NULL_TS

    def session_end(session_date: int) -> int:
        return calendar.windows(session_date)[-1].end if calendar.is_session(session_date) else NULL_TS

    def windows(session_date: int) -> list[tuple[int, int]]:
        return [window[1:] for window in calendar.windows(session_date)] if calendar.is_session(session_date) else []

    section = settings.gaps
    return Pipeline(
        stream, levels=settings.jsonl.levels, interval_ms=settings.jsonl.l2_interval_ms, session_start=session_start,
        session_end=session_end, default_symbol=default_symbol, names_max=settings.symbols.names_max,
        raw_bytes_max=settings.delivery.raw_bytes_max,
        silence=SilenceRules(section.false_alarms_per_day, section.silence_s_min, section.pauses_min) if symbol_gaps else None,
        windows=windows, tick_id_rule=settings.feed.tick_id_rule,
    )  # fmt: skip


def make_follower(
    stream: str, sink: Sink, settings: Settings, clock: Clock, default_symbol: str | None = None, writer: Executor | None = None,
    saver: Executor | None = None, breaker: Breaker | None = None, session_date: int | None = None,
) -> Follower:
    """A follower with the paths of the settings; `session_date`: of that date only, of a stream whose dates come in any order."""
    durable = settings.run_dir / "durable" / stream if source_of(stream) == "live" else None
    folder = settings.checkpoint_dir / sink.name / stream
    return Follower(
        stream, sink, JournalSource(settings.journal_dir, durable, session_date),
        CheckpointStore(folder if session_date is None else folder / str(session_date), settings.delivery.checkpoints_kept),
        # the ledger of gaps is in ClickHouse: nobody else looks twice
        lambda: make_pipeline(stream, settings, default_symbol, symbol_gaps=sink.name == "clickhouse"), settings=settings.delivery,
        clock=clock,
        writer=writer, saver=saver, breaker=breaker,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Way:
    """An open sink and the thread that writes to it."""

    raw: Sink
    sink: SerialSink
    writer: ThreadPoolExecutor

    @classmethod
    def make(cls, name: str, settings: Settings, quarantine: Quarantine) -> "Way":
        """A new one; open it."""
        raw = make_sink(name, settings, quarantine)
        return cls(raw, SerialSink(raw), ThreadPoolExecutor(1, thread_name_prefix="write"))


class Delivery:
    """All live streams into one sink."""

    def __init__(self, name: str, settings: Settings, clock: Clock) -> None:
        self.name = name
        self._settings = settings
        self._clock = clock
        self._breaker = Breaker(settings.delivery, clock)
        self._quarantine = make_quarantine(name, settings, clock)
        self._ways: list[Way] = []
        self._saver = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._followers: dict[str, Follower] = {}
        self._stopping = False
        self._discover_at = 0
        self._state = "syncing"
        self._open_error = ""
        self._beat_error = ""
        """Why the last heartbeat was not written."""
        self._alive_at = clock.monotonic_ns()
        self._ended = threading.Event()
        run = settings.run_dir
        self._lease = Lease(run / "leases" / f"deliver-{name}")
        self._heartbeat = Heartbeat(run / "heartbeats" / f"deliver-{name}.json", f"deliver-{name}", clock)
        self._intent = IntentFile(run / "desired" / f"deliver-{name}.json")
        self._intent_at = 0

    def run(self, *, wait: bool) -> int:
        """Until SIGTERM or SIGINT; the exit code."""
        # While it waits for the lease a signal ends it at once: there is nothing to drain yet.
        self._lease.acquire(wait=wait)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        # the first heartbeat already echoes the intent
        self._intent.look()
        pulse = threading.Thread(target=self._pulse, name="heartbeat", daemon=True)
        pulse.start()
        try:
            return self._work()
        finally:
            self._ended.set()
            pulse.join()
            self._try_beat()

    def _work(self) -> int:
        shortest, longest = self._settings.delivery.poll_ms / 1000, self._settings.delivery.idle_poll_ms / 1000
        pause = shortest
        while not self._stopping:
            self._follow_intent()
            if not self._intent.enabled:
                # the journal holds what comes; what is under way ends by itself
                self._state, self._alive_at = "standby", self._clock.monotonic_ns()
                self._clock.sleep(STANDBY_S)
                continue
            worked, more = self._round()
            self._state = "degraded" if self._trouble() else "live"
            pause = shortest if worked else min(2 * pause, max(shortest, longest))
            if not more:
                self._clock.sleep(pause)
        return self._drain()

    def _follow_intent(self) -> None:
        now = self._clock.monotonic_ns()
        if now >= self._intent_at:
            self._intent_at = now + INTENT_NS
            self._intent.look()

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _round(self) -> tuple[bool, bool]:
        """One step of every stream: whether any had something to do, and whether more waits at once (catching up)."""
        if not self._ways and self._open() is None:
            self._state = "degraded"
            self._clock.sleep(min(1.0, self._settings.delivery.retry_cap_s))
            return False, False
        self._discover()
        worked = more = False
        for follower in self._followers.values():
            # A write or a save that hangs is a hang of the process, however well the reading goes on.
            begun = [since for other in self._followers.values() for since in (other.writing_since, other.saving_since) if since]
            self._alive_at = min([self._clock.monotonic_ns(), *begun])
            stepped = follower.step()
            worked |= stepped
            # A full read means that more waits: go on at once; a small one leaves time for lines to gather.
            more |= stepped and follower.full_read
        return worked, more

    def _open(self) -> Way | None:
        """Open one more way to the sink; None when it is away."""
        way = Way.make(self.name, self._settings, self._quarantine)
        try:
            way.sink.open()
        except L2Error as error:
            way.writer.shutdown()
            if not error.retryable:
                raise
            self._open_error = error.message
            return None
        self._open_error = ""
        self._ways.append(way)
        return way

    def _way_of_next(self) -> Way | None:
        """The way that one more stream takes: the first is open since the start."""
        used = len(self._followers)
        return self._ways[0] if self.name in ONE_FOR_ALL or not used else self._open()

    def _discover(self) -> None:
        now = self._clock.monotonic_ns()
        if now < self._discover_at:
            return
        self._discover_at = now + int(self._settings.delivery.discover_s * NS)
        for stream in list_streams(self._settings.journal_dir):
            if stream not in self._followers and source_of(stream) == "live":
                way = self._way_of_next()
                if way is None:
                    return
                self._followers[stream] = make_follower(
                    stream, way.sink, self._settings, self._clock, writer=way.writer, saver=self._saver, breaker=self._breaker
                )

    def _trouble(self) -> str:
        followers = list(self._followers.items())
        return self._open_error or next((f"{name}: {follower.error}" for name, follower in followers if follower.error), "")

    def _pulse(self) -> None:
        """Beat until the end; a step may take two of the sink's time-outs, anything longer is a hang that the watchdog must see."""
        patience = int((2 * self._settings.clickhouse.timeout_s + self._settings.supervision.hung_s) * NS)
        while True:
            if self._clock.monotonic_ns() - self._alive_at < patience:
                self._try_beat()
            if self._ended.wait(self._settings.supervision.heartbeat_s):
                return

    def _try_beat(self) -> None:
        """Beat; what the disk says against one beat is told once and must not end those that follow."""
        try:
            self._beat(self._state)
        except (OSError, L2Error) as error:
            cause = str(error)
            if cause != self._beat_error:
                sys.stderr.write(f"deliver-{self.name}: no heartbeat: {cause}\n")
            self._beat_error = cause
        else:
            self._beat_error = ""

    def _beat(self, state: str) -> None:
        followers = list(self._followers.items())
        streams = {name: self._numbers(name, follower) for name, follower in followers}
        self._heartbeat.beat(
            state, generation=self._intent.generation, intent_problem=self._intent.problem, streams=streams,
            rows=sum(follower.rows for _, follower in followers),
            lag_lines=sum(max(int(numbers["lag_lines"]), 0) for numbers in streams.values()), error=self._trouble(),
            failures=max((follower.failures for _, follower in followers), default=0),
            trouble=next((follower.trouble for _, follower in followers if follower.trouble), ""), sink_down=int(self._breaker.is_open),
            quarantined=self._quarantine.waiting(),
            bounds=bounds_record((*self._sink_bounds(), *(bound for _, follower in followers for bound in follower.bounds))),
        )  # fmt: skip

    def _sink_bounds(self) -> Iterator[Bound]:
        yield self._quarantine.bound
        for way in self._ways:
            yield from sink_bounds(way.raw)

    def _numbers(self, stream: str, follower: Follower) -> dict[str, float]:
        durable = read_durable(self._settings.run_dir / "durable" / stream)
        same = durable is not None and follower.position is not None
        same = same and durable is not None and durable.position.session_date == follower.pipeline.session_date
        lag = durable.seq - follower.delivered_seq if same and durable is not None else 0
        # also while it reads an earlier date; before its first line there is nothing to compare with
        known = durable is not None and follower.last_ts_recv > 0
        lag_s = max(0.0, (durable.ts_recv - follower.last_ts_recv) / NS) if known and durable is not None else 0.0
        return {
            "seq": follower.delivered_seq, "session_date": follower.pipeline.session_date, "lag_lines": lag,
            "lag_s": round(lag_s, 3), "rows": follower.rows, "failures": follower.failures,
            "gaps": follower.pipeline.gaps.opened, "gap_open": int(follower.pipeline.gaps.open is not None),
            "symbols_silent": follower.pipeline.symbol_gaps.silent if follower.pipeline.symbol_gaps is not None else 0,
        }  # fmt: skip

    def _drain(self) -> int:
        """Deliver what is durable now, bounded in time, and leave whole checkpoints."""
        deadline = self._clock.monotonic_ns() + int(self._settings.supervision.stop_s / 2 * NS)
        self._state = "draining"
        for follower in self._followers.values():
            follower.settle()
        for way in self._ways:
            way.writer.shutdown()
        self._saver.shutdown()
        self._deliver_rest(deadline)
        clean = True
        for follower in self._followers.values():
            try:
                follower.checkpoint()
            except L2Error as error:
                clean = False
                sys.stderr.write(f"deliver-{self.name}: no checkpoint for {follower.stream}: {error.message}\n")
        for way in self._ways:
            try:
                way.sink.close()
            except L2Error as error:
                clean = False
                sys.stderr.write(f"deliver-{self.name}: {error.message}\n")
        self._state = "stopped"
        return 0 if clean else 1

    def _deliver_rest(self, deadline: int) -> None:
        """What is durable now, of every stream in turns, so that one whose writes fail leaves the others their time."""
        durable = {name: read_durable(self._settings.run_dir / "durable" / name) for name in self._followers}
        left = dict(self._followers)
        while left and self._intent.enabled and self._clock.monotonic_ns() < deadline:
            worked = False
            for name, follower in list(left.items()):
                self._alive_at = self._clock.monotonic_ns()
                stepped, end = follower.step(), durable[name]
                worked |= stepped
                idle = not stepped and not follower.failures and not self._breaker.is_open
                there = end is not None and follower.position is not None and follower.position >= end.position and not follower.behind
                if idle or there or self._clock.monotonic_ns() >= deadline:
                    del left[name]
            if not worked:
                # The sink is away: it may be back within the time there is.
                self._clock.sleep(0.05)


def run_delivery(name: str, settings: Settings, *, wait: bool) -> int:
    """Run one delivery in this process; the exit code."""
    Path(settings.home).mkdir(parents=True, exist_ok=True)
    return Delivery(name, settings, SystemClock()).run(wait=wait)

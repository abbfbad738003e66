"""The collector process: one stream of one feed, from the socket to the journal, from start to stop.

Start is recovery: take the lease, open the journal where it ended, say what was found. Then one loop: follow the intent, keep the
link, roll the session, beat once a second. It survives the death of everything else and imports next to nothing, so that it starts
in a blink. What does not belong here: the link's own rules (`link`), prices, sinks.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from l2_platform.clock import Clock, SystemClock
from l2_platform.collectors.hours import RecordingHours
from l2_platform.collectors.intent import Intent, IntentWatch
from l2_platform.collectors.link import Link
from l2_platform.collectors.outside import Outside
from l2_platform.collectors.plain_log import PlainLog
from l2_platform.collectors.recorder import LAST_WORDS_NS, Recorder
from l2_platform.collectors.session_roll import Roll, RollWaits, SessionRoll
from l2_platform.errors import ConfigError, JournalUnwritable, L2Error
from l2_platform.journal.writer import JournalWriter
from l2_platform.market.sessions import load_calendar
from l2_platform.market.trading_day import DayPlan, Span, recording_spans
from l2_platform.monitoring.bounds import bounds_record
from l2_platform.monitoring.heartbeat import Heartbeat, Lease
from l2_platform.settings import Settings

_INTENT_NS = 200_000_000
_SKEW_REPORT_NS = 60_000_000_000
_STANDBY_S = 0.1
_DISK_WAIT_S = 1.0
_SESSIONS_AHEAD_DAYS = 14
_NAMES_TOLD = 10
_DAY_NS = 86_400 * 1_000_000_000


class Collector:
    """One run of one stream. `run` returns the process's exit code."""

    def __init__(
        self,
        settings: Settings,
        stream: str,
        *,
        managed: bool = False,
        clock: Clock | None = None,
        outside: Outside | None = None,
    ) -> None:
        if stream not in settings.streams:
            raise ConfigError(
                f"{stream!r} is not one of the streams of this instance: {', '.join(settings.streams)} (L2_STREAMS)"
            )
        self._settings = settings
        self._stream = stream
        self._managed = managed
        self._clock = clock or SystemClock()
        self._outside = outside or Outside()
        self._log = PlainLog(self._clock, settings.log.level, self._outside.log_stream)
        self._worker = f"collector-{stream}"
        self._heartbeat = Heartbeat(settings.run_dir / "heartbeats" / f"{self._worker}.json", self._worker, self._clock)
        self._watch = IntentWatch(settings, stream)
        self._intent = Intent(False, (), 0)
        self._roll = SessionRoll(settings.calendar_name, settings.session.clock_skew_max_s, self._load_sessions)
        self._hours = RecordingHours(self._load_spans)
        self._rests_for = ""
        self._stop_reason = ""
        self._state = "syncing"
        self._beat_at_ns = 0
        self._intent_at_ns = 0
        self._disk_at_ns = 0
        self._skew_said_at_ns: int | None = None
        self._recorder: Recorder | None = None
        self._link: Link | None = None

    def run(self) -> int:
        """Work until told to stop: 0 after a clean stop (a full disk included), 75 when another process has this stream."""
        try:
            for folder in ("leases", "heartbeats", "desired", "durable"):
                (self._settings.run_dir / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if self._managed:
                self._clock.sleep(_DISK_WAIT_S)  # it is started again at once, and would only turn in a circle
            advice = "mend that or choose another L2_HOME, then start again"
            raise L2Error(f"cannot make folders in {self._settings.run_dir}: {error.strerror}; {advice}") from error
        lease = Lease(self._settings.run_dir / "leases" / self._worker, self._outside.locks)
        lease.acquire(wait=self._managed)
        self._outside.on_stop_signals(self.stop)
        try:
            return self._run_with_lease()
        finally:
            lease.release()

    def stop(self, reason: str) -> None:
        """End the loop after the turn in hand."""
        self._stop_reason = self._stop_reason or reason

    def _run_with_lease(self) -> int:
        if not self._room_at_start():
            return 0
        self._follow_intent(first=True)
        recorder = self._open_journal()
        if recorder is None:
            return 0
        link = self._make_link(recorder)
        self._recorder, self._link = recorder, link
        link.want(self._intent.symbols)
        try:
            while not self._stop_reason:
                self._turn(link)
            return self._drain(recorder, link)
        except JournalUnwritable as error:
            self._log.error("stopped_with_unwritten_bytes", error=error.message)
            self._beat("stopped_disk", force=True)
            return error.exit_code

    def _turn(self, link: Link) -> None:
        self._keep_house()
        self._rests_for = self._why_to_rest(link)
        # at rest too: a date ends at its time, so that it can be closed
        self._roll_if_due(link)
        if self._rests_for:
            if link.connected:
                link.close(self._rests_for)
            self._state = "standby"
            self._clock.sleep(_STANDBY_S)
            return
        link.step()
        self._state = link.state

    def _why_to_rest(self, link: Link) -> str:
        """`operator`, `session_closed`, or empty to record."""
        if not self._intent.enabled:
            return "operator"
        monotonic = self._clock.monotonic_ns()
        if self._hours.is_open(self._clock.now_ns(), monotonic, doubtful=link.connected and self._roll.is_skewed()):
            return ""
        return "session_closed" if self._hours.closed_for_good(monotonic) or not link.connected else ""

    def _keep_house(self) -> None:
        """What is due by time: heartbeat, intent, free disk."""
        now = self._clock.monotonic_ns()
        if now - self._intent_at_ns >= _INTENT_NS:
            self._intent_at_ns = now
            self._follow_intent()
        if now - self._disk_at_ns >= self._settings.disk.check_s * 1e9:
            self._disk_at_ns = now
            if self._free_bytes() < self._settings.disk.recording_bytes:
                self.stop("disk")
        self._beat(self._state)

    def _follow_intent(self, *, first: bool = False) -> None:
        intent = self._watch.poll()
        if intent is None:
            if self._watch.problem and first:
                raise ConfigError(self._watch.problem)
            return
        if intent != self._intent:
            self._log.info("intent", enabled=intent.enabled, symbols=len(intent.symbols), generation=intent.generation)
        self._intent = intent
        self._roll.use_table(intent.sessions)
        self._hours.use_table(intent.recording)
        if self._link is not None:
            self._link.want(intent.symbols)
            self._beat(self._state, force=True)

    # ── journal ───────────────────────────────────────────────────────────────

    def _open_journal(self) -> Recorder | None:
        """Open where the stream ended; a disk that refuses is waited for. None when told to stop meanwhile."""
        settings = self._settings
        writer = JournalWriter(
            settings.journal_dir,
            self._stream,
            settings.journal,
            self._clock,
            calendar=settings.calendar_name,
            durable_path=settings.run_dir / "durable" / self._stream,
            calls=self._outside.calls,
            threads=self._outside.threads,
        )
        recorded = newest_date(settings.journal_dir / self._stream)
        date = self._roll.start(self._clock.now_ns(), recorded)
        while True:
            try:
                found = writer.open(date)
                break
            except JournalUnwritable as error:
                self._log.error("journal_unwritable", error=error.message)
                self._clock.sleep(_DISK_WAIT_S)
                if not self._pulse():
                    return None
        recorder = Recorder(writer, self._clock, self._log, self._pulse)
        if found.last_seq == 0:
            # also when an earlier start died before it could say so: telling it twice before the first line changes nothing
            recorder.control("session", 0, session_date=date, reset=True)
        recorder.control(
            "collector_start",
            0,
            pid=self._outside.pid,
            clean=found.clean,
            last_ts=found.last_ts,
            lost_tail_bytes=found.trimmed_bytes,
        )
        self._log.info(
            "journal_open", session_date=date, last_seq=found.last_seq, clean=found.clean, trimmed=found.trimmed_bytes
        )
        return recorder

    def _pulse(self) -> bool:
        """While the journal cannot be written: keep beating; False once told to stop."""
        self._beat("stalled")
        return not self._stop_reason

    def _roll_if_due(self, link: Link) -> None:
        recorder = self._recorder
        assert recorder is not None
        match self._roll.due(self._clock.now_ns(), self._clock.monotonic_ns()):
            case Roll(session_date):
                recorder.roll(session_date)
                self._roll.rolled(session_date, self._clock.now_ns())
                self._skew_said_at_ns = None
                self._log.info("session", session_date=session_date)
                link.session_began()
            case RollWaits(skew_s):
                now = self._clock.monotonic_ns()
                if self._skew_said_at_ns is None or now - self._skew_said_at_ns >= _SKEW_REPORT_NS:
                    self._skew_said_at_ns = now
                    recorder.control("clock_skew", 0, skew_s=round(skew_s, 3))
                    self._log.error("roll_waits_for_clock", skew_s=round(skew_s, 3))

    def _load_sessions(self, now_ns: int) -> Sequence[tuple[int, int]]:
        # an exchange's calendar takes seconds to load: only a collector without a desired state, or one left alone for weeks, needs it
        calendar = load_calendar(self._settings.calendar_name, self._settings.session.roll_margin_s)
        dates = {calendar.session_date_of(now_ns + day * _DAY_NS) for day in range(_SESSIONS_AHEAD_DAYS)}
        return [(date, calendar.end_of(date)) for date in sorted(dates)]

    def _load_spans(self, now_ns: int) -> Sequence[Span]:
        session = self._settings.session
        calendar = load_calendar(self._settings.calendar_name, session.roll_margin_s)
        last = calendar.session_date_of(now_ns + _SESSIONS_AHEAD_DAYS * _DAY_NS)
        plan = DayPlan(session.start_margin_s, session.stop_margin_s, session.maintenance)
        return recording_spans(calendar, calendar.session_date_of(now_ns), last, plan)

    def _drain(self, recorder: Recorder, link: Link) -> int:
        reason = self._stop_reason
        self._beat("draining", force=True)
        self._log.info("draining", reason=reason)
        link.close("operator")
        self._insist(lambda: recorder.control("collector_stop", 0, reason=reason))
        self._insist(recorder.writer.close)
        self._beat("stopped_disk" if reason == "disk" else "stopped", force=True)
        self._log.info("stopped", reason=reason, lines=recorder.lines, bytes=recorder.bytes)
        return 0

    def _insist(self, write: Callable[[], None]) -> None:
        """At the end: try again for a while; what waits in memory would be lost with the process if the disk lost its pages."""
        deadline = self._clock.monotonic_ns() + LAST_WORDS_NS
        while True:
            try:
                write()
                return
            except JournalUnwritable:
                if self._clock.monotonic_ns() >= deadline:
                    raise
            self._clock.sleep(_STANDBY_S)

    # ── disk and signs of life ────────────────────────────────────────────────

    def _free_bytes(self) -> int:
        return self._outside.free_bytes(self._settings.journal_dir)

    def _room_at_start(self) -> bool:
        """Whether recording may begin: a managed collector waits for room (a restart loop would not make any), others say so."""
        least = self._settings.disk.recording_bytes
        if self._free_bytes() >= least:
            return True
        if not self._managed:
            raise ConfigError(
                f"{self._settings.journal_dir} has {self._free_bytes() >> 20} MiB free, recording needs {least >> 20} (a sixteenth of "
                "disk.reserve_bytes): free some space or lower L2_DISK__RESERVE_BYTES"
            )
        self._log.error("no_room", free_bytes=self._free_bytes(), needed_bytes=least)
        while not self._stop_reason:
            self._beat("stopped_disk")
            self._clock.sleep(_DISK_WAIT_S)
            # twice the bar on the way back, so that it does not start and stop in turns
            if self._free_bytes() >= 2 * least:
                return True
        return False

    def _beat(self, state: str, *, force: bool = False) -> None:
        now = self._clock.monotonic_ns()
        if not force and now - self._beat_at_ns < self._settings.supervision.heartbeat_s * 1e9:
            return
        self._beat_at_ns = now
        self._heartbeat.beat(state, generation=self._intent.generation, **self._numbers())

    def _numbers(self) -> dict[str, Any]:
        recorder, link = self._recorder, self._link
        numbers: dict[str, Any] = {
            "stream": self._stream,
            "session_date": self._roll.current,
            "wanted": len(self._intent.symbols),
            "intent_problem": self._watch.problem,
            "rests_for": self._rests_for,
            "hours_change_in_s": self._hours_change_in_s(),
        }
        if self._roll.skew_ns is not None:
            numbers["skew_s"] = round(self._roll.skew_ns / 1e9, 3)
        if recorder is not None:
            writer = recorder.writer
            numbers |= {"lines": recorder.lines, "bytes": recorder.bytes, "last_seq": writer.last_seq}
            numbers |= {"written": list(writer.written), "durable": list(writer.durable)}
            numbers["stalled_since_ns"] = recorder.stalled_since_ns
            numbers["fsync"] = writer.fsyncs.as_record()
            writer.segment.see(writer.written.offset)
            numbers["bounds"] = bounds_record((writer.unsynced, writer.segment, *(link.bounds if link is not None else ())))
        if link is not None:
            counters, subscription = link.counters, link.subscription
            numbers |= {
                "connected": link.connected,
                "protocol": link.protocol,
                "attempts": counters.attempts,
                "disconnects": counters.disconnects,
                "last_byte_ns": counters.last_byte_ns,
                "watched": len(subscription.sent),
                "refused": len(subscription.refused),
                "not_found": len(subscription.not_found),
                "not_found_names": sorted(subscription.not_found)[:_NAMES_TOLD],
                "error_lines": counters.error_lines,
                "last_error": counters.last_error,
                "account_symbols_max": counters.account_symbols_max,
                "reason": counters.reason,
            }
        return numbers

    def _hours_change_in_s(self) -> int | None:
        change_ns = self._hours.next_ns
        return None if change_ns is None else max(0, (change_ns - self._clock.now_ns()) // 1_000_000_000)

    def _make_link(self, recorder: Recorder) -> Link:
        settings = self._settings
        channel = self._stream.split("-")[1]
        ports = {"depth": settings.ports.level2, "level1": settings.ports.level1, "admin": settings.ports.admin}
        address = (settings.feed.host, ports[channel])
        return Link(
            channel, address, settings.feed, settings.journal, recorder, self._roll, self._clock, self._log, self._outside
        )


def newest_date(folder: Path) -> int | None:
    """The newest session date that a stream's journal folder holds, YYYYMMDD, or None."""
    dates = [int(path.name) for path in folder.glob("[0-9]" * 8) if path.is_dir()] if folder.is_dir() else []
    return max(dates, default=None)


def run_collector(settings: Settings, stream: str, *, managed: bool = False) -> int:
    """Run until stopped and return the exit code; what a person must act on is one line on stderr."""
    try:
        return Collector(settings, stream, managed=managed).run()
    except L2Error as error:
        PlainLog(SystemClock()).error("collector_failed", stream=stream, error=error.message)
        return error.exit_code

"""Rebuild: a session date of the journal once more into the market tables, beside recording and live delivery.

journal → the pipeline of the live delivery → staging tables → `REPLACE PARTITION`, for each stream of the date, under its lease.
Tables whose content is equal before and after are left as they are. Until every row is counted nothing live is touched; after that
the swap is completed by whoever comes next, so that no end of a process leaves a date half old and half new for good.
Records of their own (`gap_events`, `daily_reports`) are never replaced. What does not belong here: SQL (staging), reading (filling).
"""

import difflib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from l2_platform import __version__
from l2_platform.clock import Clock
from l2_platform.delivery.gathering import merge
from l2_platform.errors import InputError, L2Error, SinkBlocked, SinkError, WarehouseError
from l2_platform.journal.headers import end_of_date, segment_context, segment_header
from l2_platform.journal.layout import date_folder, list_segments
from l2_platform.market.dates import date_text
from l2_platform.monitoring.changed_dates import note_change
from l2_platform.monitoring.leases import date_lease
from l2_platform.replay.dates import require_over, streams_of, without_delivery
from l2_platform.replay.filling import GAPS, Filled, Filling, durable_path_of
from l2_platform.replay.rebuilt import StreamResult, TableResult
from l2_platform.replay.staging import MARKET_TABLES, Plan, Staging
from l2_platform.replay.swaps import carry_out, complete, delivered_seq, move_position, plan_of, sweep
from l2_platform.replay.warehouse_link import WarehouseLink
from l2_platform.settings import Settings
from l2_platform.sinks.native import NativeEncoder
from l2_platform.warehouse.content import WHERE, Content

STOP_FRACTION: Final = 4
"""A rebuild needs this part of `disk.reserve_bytes` free: below it everything but the recording stops."""

Progress = Callable[[str, str, int, int], None]
"""Called with stream, what is being done, how many messages since the call before, and how many there are in all (0: not known)."""


@dataclass(frozen=True, slots=True)
class RebuildRequest:
    """What is asked for."""

    session_date: int
    streams: tuple[str, ...] = ()
    """Empty: every stream of the date."""
    symbols: tuple[str, ...] = ()
    """Only their rows are made anew, those of others copied; empty: all."""


def silent(_stream: str, _what: str, _count: int, _total: int) -> None:
    """Progress that nobody looks at."""


def rebuild_date(request: RebuildRequest, settings: Settings, clock: Clock, progress: Progress = silent) -> list[StreamResult]:
    """Rebuild every stream of the date; what became of each.

    InputError for a date, stream or symbol that cannot be rebuilt (now), DateBusy when somebody else changes the date, SinkError when
    the warehouse does not take it: nothing was replaced then, or an earlier swap was completed. KeyboardInterrupt (and whatever else
    ends the caller) is safe at any time.
    """
    streams = check_request(request, settings, clock)
    results = []
    for stream in streams:
        with date_lease(settings.run_dir, stream, request.session_date, "rebuild"):
            results.append(rebuild_held(request, stream, settings, clock, progress))
    return results


def check_request(request: RebuildRequest, settings: Settings, clock: Clock) -> list[str]:
    """The streams that are meant; raise what is wrong with the request before anything is begun."""
    if not settings.clickhouse.enabled:
        raise InputError("there are no tables to rebuild: ClickHouse is switched off (L2_CLICKHOUSE__ENABLED)")
    streams = streams_of(settings, clock, request.session_date, request.streams)
    for stream in streams:
        require_over(settings, clock, stream, request.session_date)
    if not request.symbols:
        return streams
    with open_link(settings, clock, f"l2-rebuild-{request.session_date}-") as link:
        known = {name: _names(link, settings, name, request.session_date) for name in streams}
    everything = sorted(set().union(*known.values()))
    for symbol in request.symbols:
        if symbol not in everything:
            near = difflib.get_close_matches(symbol, everything, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(
                f"no stream has a row of {symbol!r} on session date {date_text(request.session_date)}{hint} Symbols are case-sensitive; "
                "nothing was changed"
            )
    return [name for name in streams if known[name] & set(request.symbols)]


def rebuild_held(request: RebuildRequest, stream: str, settings: Settings, clock: Clock, progress: Progress = silent) -> StreamResult:
    """Rebuild one stream of the date, whose lease the caller holds."""
    with open_link(settings, clock, f"l2-rebuild-{stream}-{request.session_date}-") as link:
        return _Rebuild(request, stream, settings, clock, link, progress).run()


def give_way(settings: Settings) -> None:
    """Let recording and live delivery have the processor first; for the whole process, which should have nothing else to do."""
    os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), settings.rebuild.nice))


def lines_of(settings: Settings, stream: str, session_date: int) -> int:
    """Lines of the journal on a date, from headers and positions; 0 when they do not tell."""
    files = list_segments(date_folder(settings.journal_dir, stream, session_date))
    header = segment_header(files[0]) if files else None
    return max(end_seq(settings, stream, session_date) - header.last_seq, 0) if header is not None else 0


def end_seq(settings: Settings, stream: str, session_date: int) -> int:
    """The last seq of a date in the journal, from headers and positions; 0 when they do not tell."""
    told = end_of_date(settings.journal_dir, stream, session_date, durable_path_of(settings, stream, session_date))
    return told.last_seq if told is not None else 0


@contextmanager
def open_link(settings: Settings, clock: Clock, prefix: str) -> Iterator[WarehouseLink]:
    """A way to the warehouse, whose tables exist; `prefix` as WarehouseLink has it. SinkError when it is away."""
    link = WarehouseLink(settings, clock, prefix)
    try:
        link.open()
        yield link
    except WarehouseError as error:
        raise SinkError(
            f"the warehouse cannot be reached: {error.message}; nothing was replaced, run it again when it answers", **error.facts
        ) from None
    finally:
        link.close()


def _names(link: WarehouseLink, settings: Settings, stream: str, session_date: int) -> set[str]:
    """Symbols that the tables have of a stream and date, and those that its journal names."""
    staging = Staging(link, settings.clickhouse.database, stream, session_date)
    context = segment_context(settings.journal_dir, stream, session_date) or {}
    found = {str(name) for name in context.get("symbols", [])}
    for table in MARKET_TABLES:
        sql = f"SELECT DISTINCT symbol FROM {staging.live(table)} WHERE {WHERE} FORMAT TabSeparatedRaw"  # noqa: S608 - names are ours
        found |= {row[0] for row in link.query(sql, stream=stream, date=staging.date)}
    return found - {""}


class _Rebuild:
    """One stream of one date."""

    def __init__(
        self, request: RebuildRequest, stream: str, settings: Settings, clock: Clock, link: WarehouseLink, progress: Progress
    ) -> None:
        self._request, self._stream, self._date = request, stream, request.session_date
        self._settings, self._clock, self._link, self._progress = settings, clock, link, progress
        self._database = settings.clickhouse.database
        self._staging = Staging(link, self._database, stream, request.session_date)
        self._began, self._cpu = clock.monotonic_ns(), sum(os.times()[:2])
        self._lines = lines_of(settings, stream, self._date)
        """Lines of the date."""
        self._seq_last = end_seq(settings, stream, self._date)

    def run(self) -> StreamResult:
        """Complete what was begun, then rebuild."""
        self._step("looking")
        earlier = complete(self._link, self._staging, self._database, self._clock, self._step)
        if earlier is not None and (earlier.made_by, earlier.symbols) == (self._made_by(), list(self._request.symbols)):
            return earlier
        sweep(self._link, self._settings, self._clock, self._staging)
        self._require_room()
        with without_delivery(self._settings, self._stream, self._date, self._seq_last):
            if self._request.symbols:
                self._require_others()
            return self._build()

    def _build(self) -> StreamResult:
        try:
            before = {table: self._staging.live_content(table) for table in MARKET_TABLES}
            filled = self._fill(before)
            result, plan = self._judge(before, filled)
            if plan.replace or plan.empty:
                self._step("swapping")
                note_change(self._settings.run_dir, self._date, self._clock.now_ns())
                self._staging.mark_ready(plan)
        except BaseException:
            # whatever it was, also an interrupt: staging goes, now or with the next run
            with suppress(L2Error):
                self._link.settle()
                if self._staging.read_ready() is None:
                    self._staging.drop()
            raise
        if plan.replace or plan.empty:
            return carry_out(self._link, self._staging, self._database, self._clock, plan, self._step, resumed=False)
        move_position(self._link, self._staging, self._database, self._clock, plan.facts)
        self._staging.drop()
        return result

    def _fill(self, before: dict[str, Content | None]) -> Filled:
        """Every row into staging, counted."""
        staging, symbols = self._staging, self._request.symbols
        staging.create()
        copied = dict.fromkeys(MARKET_TABLES, 0)
        for table in MARKET_TABLES if symbols else ():
            self._step(f"copying {table}")
            if before[table] is None:
                raise InputError(
                    f"{self._stream}: {table} cannot be read on {date_text(self._date)}, so the rows of other symbols cannot be kept: "
                    "rebuild all"
                )
            staging.copy_others(table, symbols)
            copied[table] = staging.count(table)

        def advance(count: int) -> None:
            self._progress(self._stream, "rebuilding", count, self._lines)

        filled = Filling(self._settings, self._clock, self._link, staging, symbols=symbols, progress=advance).run()
        self._step("counting")
        for table in MARKET_TABLES:
            wanted, found = filled.rows[table] + copied[table], staging.count(table)
            if found != wanted:
                raise SinkError(
                    f"{staging.name(table)} has {found:,} rows instead of {wanted:,}: the warehouse lost or doubled some, or rows were "
                    "released from quarantine meanwhile. Nothing was replaced; run it again"
                )
        return filled

    def _judge(self, before: dict[str, Content | None], filled: Filled) -> tuple[StreamResult, Plan]:
        """Compare before and after; the result, and what the swap has to do."""
        bounds = self._settings.rebuild
        tables: list[TableResult] = []
        for table in MARKET_TABLES:
            self._step(f"comparing {table}")
            old, new = before[table], self._staging.content(table)
            state, diff = "replaced" if new.rows else "emptied", None
            if old is not None and (old.rows, old.digest) == (new.rows, new.digest):
                state = "equal"
            elif old is not None and old.rows and new.rows:
                diff = self._staging.compare(table, bounds.diff_rows, bounds.diff_keys)
            rows, digest = (old.rows, old.digest) if old is not None else (-1, "unreadable")
            tables.append(TableResult(table, state, rows, new.rows, digest, new.digest, diff))
        added = self._add_gaps(filled)
        replace = [found.table for found in tables if found.state == "replaced"]
        empty = [found.table for found in tables if found.state == "emptied"]
        seconds = (self._clock.monotonic_ns() - self._began) / 1e9
        result = StreamResult(
            stream=self._stream, session_date=self._date, outcome="rebuilt" if replace or empty else "equal", tables=tables,
            messages=filled.messages, seq_last=filled.seq, seconds=round(seconds, 3),
            cpu_seconds=round(sum(os.times()[:2]) - self._cpu, 3), damaged=filled.damaged, gap_events_added=added,
            symbols=list(self._request.symbols), made_by=self._made_by(),
        )  # fmt: skip
        return result, plan_of(result, filled.position, replace, empty)

    def _add_gaps(self, filled: Filled) -> int:
        """Gaps are records of their own and stay as they are; they come back where the warehouse, made anew, has none of the date."""
        if self._request.symbols or not filled.gaps:
            return 0
        place = f"{self._database}.{GAPS}"
        sql = f"SELECT count() FROM {place} WHERE {WHERE}"  # noqa: S608 - names are ours
        if self._link.query(sql, stream=self._stream, date=self._staging.date)[0][0] != "0":
            return 0
        (batch,) = merge(filled.gaps)
        token = {"insert_deduplication_token": f"rebuild/{GAPS}/{self._stream}/{self._date}/{self._clock.now_ns()}"}
        self._link.insert(f"INSERT INTO {place} FORMAT Native", NativeEncoder().encode(batch, 0, len(batch)), token)
        return len(batch)

    def _require_others(self) -> None:
        """Rows of other symbols are kept as they are: they must all be there."""
        delivered = delivered_seq(self._link, self._staging, self._database)
        if delivered < max(self._seq_last, 1):
            raise InputError(
                f"{self._stream}: the tables have session date {date_text(self._date)} only up to line {delivered:,} of "
                f"{self._seq_last:,}; rebuild it without --symbols first. Nothing was changed"
            )

    def _require_room(self) -> None:
        need = self._settings.disk.reserve_bytes // STOP_FRACTION
        free = shutil.disk_usage(self._settings.home).free
        if free < need:
            raise SinkBlocked(
                f"{free >> 20} MiB are free on the disk of {self._settings.home}, {need >> 20} are kept for the recording: free some "
                "space, then run it again. Nothing was changed"
            )

    def _made_by(self) -> str:
        """What the rows depend on beside the journal."""
        jsonl = self._settings.jsonl
        return f"{__version__}, {jsonl.levels} levels, {jsonl.l2_interval_ms} ms"

    def _step(self, what: str) -> None:
        self._progress(self._stream, what, 0, self._lines)

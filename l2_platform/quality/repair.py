"""Gaps that are over, filled from the vendor's history: replies into the journal, then into every sink, then the result into the ledger.

Replies go into stream `iqfeed-ticks-repair-history`, which has partitions of its own: live rows of the same symbol and date are written
meanwhile, and never touched. In front of each reply a control frame says which of its lines are rows: those whose prints no live row
has. So the journal alone makes the same rows again, and a repair that is made twice, or killed anywhere and made again, brings no print
twice. A gap older than the vendor's ticks gets its minute bars (repair_bars). What does not belong here: what is to be done
(repair_plan), which prints are missing (repair_prints), finding gaps (delivery).
"""

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from l2_platform.clock import Clock
from l2_platform.collectors.backfill import deliver_history
from l2_platform.collectors.fetching import Fetched, Fetcher, reply_frames
from l2_platform.delivery.delivery import enabled_sinks
from l2_platform.delivery.pipeline import HISTORY_REPLY
from l2_platform.errors import DateBusy, InputError, L2Error, WarehouseError
from l2_platform.feeds.iqfeed.lookup import check_reachable
from l2_platform.journal.appending import Piece, append_finished_segment, close_date, contexts_of_date
from l2_platform.market.dates import day_of
from l2_platform.market.sessions import load_calendar
from l2_platform.monitoring.changed_dates import note_change
from l2_platform.monitoring.leases import date_lease
from l2_platform.quality.ledger import LedgerGap, RepairState, append_version, load_gaps
from l2_platform.quality.repair_bars import BARS, bars_found, fetch_bars, unreadable
from l2_platform.quality.repair_plan import (
    BarsFound,
    Found,
    Plan,
    attempts_of,
    check_number,
    concerns,
    is_due,
    judge,
    one_run,
    plan_of,
    proven_lost,
)
from l2_platform.quality.repair_prints import choose, line_ranges, read_reply
from l2_platform.quality.repair_rows import brought, missing_ids, rows_of, stored_prints, symbols_of, wait_for_live_rows
from l2_platform.quality.silence import explain_unattended
from l2_platform.settings import Settings
from l2_platform.warehouse.client import connect
from l2_platform.warehouse.schema import migrate

log = logging.getLogger(__name__)

STREAM: Final = "iqfeed-ticks-repair-history"
SOURCE: Final = "iqfeed-history"
NS: Final = 1_000_000_000

Progress = Callable[[str, int, int], object]
"""Called with what is done, how many symbols are, and how many there are."""


@dataclass(frozen=True, slots=True)
class RepairResult:
    """What became of a gap."""

    gap_id: str
    state: RepairState
    """`` with `dry_run`."""
    rows_recovered: int
    residual: str
    """What stays missing."""
    message: str
    """What was done, or would be, or why it failed."""
    seconds: float
    stream: str
    ts_from: int
    ts_to: int


def repair_date(
    settings: Settings, session_date: int, clock: Clock, *, gap_ids: Sequence[str] = (), everything: bool = False,
    dry_run: bool = False, progress: Progress = lambda *_: None, said: Callable[[str], object] = lambda _: None,
) -> list[RepairResult]:  # fmt: skip
    """Repair the gaps of a session date (YYYYMMDD) whose turn it is; one result each, oldest gap first.

    `gap_ids`: these, whether or not it is their turn; `everything`: every gap of the date that is neither repaired nor beyond repair.
    A gap that fails is in the result and in the ledger, and does not stop the others. One run repairs `repair.gaps_max`, those that were
    tried least; `said` is told in a sentence how many are left; `dry_run` tells of all. InputError for ids that are no gaps to repair,
    or more than that, DateBusy when the date is being changed, WarehouseError when the ledger cannot be read or written.
    """
    if not settings.clickhouse.enabled:
        raise InputError("there is no ledger of gaps: ClickHouse is switched off (L2_CLICKHOUSE__ENABLED)")
    if not dry_run:
        check_number(gap_ids, settings.repair)
    client = connect(settings)
    try:
        migrate(client, settings.clickhouse.database)
        if not dry_run:
            # what a halt or the calendar explains is no loss: nobody is asked for it
            explain_unattended(settings, session_date, clock)
        gaps = _chosen(client, settings, session_date, gap_ids, clock.now_ns(), everything=everything)
        if dry_run:
            return [_Repair(gap, client, settings, clock, progress).told() for gap in gaps]
        turn = one_run(gaps, settings.repair)
        if left := len(gaps) - len(turn):
            said(f"{left:,} of {len(gaps):,} gaps are left for the next run: one repairs {len(turn):,} (L2_REPAIR__GAPS_MAX)")
        if not gaps:
            return []
        with date_lease(settings.run_dir, STREAM, session_date, "repair"):
            _note_and_deliver(client, settings, session_date, clock)
            repairs: list[_Repair] = []
            results = []
            for gap in turn:
                repair = _Repair(gap, client, settings, clock, progress)
                repairs.append(repair)
                results.append(repair.run())
                if repair.undelivered:
                    # it failed half-way: what is in the journal must be stored before the next one, which may overlap, asks what is
                    _note_and_deliver(client, settings, session_date, clock)
            if len(repairs) == 1:
                return results
            return [repair.judged_again(result) for repair, result in zip(repairs, results, strict=True)]
    except ClickHouseError as error:
        raise WarehouseError(
            f"the warehouse did not answer: {str(error)[:300]}; what was fetched is in the journal, the next repair goes on from there"
        ) from None
    finally:
        client.close()


def gaps_to_judge(settings: Settings, session_date: int) -> list[LedgerGap]:
    """The gaps of a session date in which something was lost that nobody explained, oldest first."""
    client = connect(settings)
    try:
        migrate(client, settings.clickhouse.database)
        gaps = load_gaps(client, settings.clickhouse.database, day_of(session_date))
    finally:
        client.close()
    return [gap for gap in gaps if concerns(gap)]


def _note_and_deliver(client: Client, settings: Settings, session_date: int, clock: Clock) -> None:
    """Bring every sink to the end of what the journal has of the repair stream; the lease is the caller's.

    The change is noted before rows come: an archive may have forgotten it since they were journaled, maybe by a run that was ended.
    """
    if close_date(settings.journal_dir, STREAM, session_date) is None:
        return
    if _not_stored(client, settings, session_date):
        note_change(settings.run_dir, session_date, clock.now_ns())
    for name in enabled_sinks(settings):
        deliver_history(name, session_date, settings, clock, STREAM)


def _not_stored(client: Client, settings: Settings, session_date: int) -> int:
    """Rows that the journal has of all repairs of the date and the warehouse has not."""
    wanted = sum(int(notes.get("kept", 0)) for notes, _ in _notes(settings, session_date))
    return wanted - rows_of(client, settings, STREAM, day_of(session_date))


def _chosen(
    client: Client, settings: Settings, session_date: int, gap_ids: Sequence[str], now_ns: int, *, everything: bool
) -> list[LedgerGap]:
    day = day_of(session_date)
    gaps = load_gaps(client, settings.clickhouse.database, day, withdrawn=True)
    known = {gap.gap_id: gap for gap in gaps}
    for name in gap_ids:
        gap = known.get(name)
        if gap is None:
            raise InputError(f"session date {day} has no gap {name!r}: `l2 gaps --date {day}` lists them")
        if not concerns(gap):
            why = f"it is explained ({gap.explanation})" if gap.explanation else f"it is {gap.state}"
            raise InputError(f"gap {name} is not to be repaired: {why}")
    if gap_ids:
        return [gap for gap in gaps if gap.gap_id in set(gap_ids)]
    if everything:
        return [gap for gap in gaps if concerns(gap) and gap.repair_state in {"", "failed", "partial"}]
    return [gap for gap in gaps if is_due(gap, settings.repair, now_ns)]


@dataclass(slots=True)
class _Journaled:
    """What the journal has of repairs of a gap."""

    kept: int = 0
    """Lines that are rows, of all attempts."""
    symbols: set[str] = field(default_factory=set)
    """Of this attempt, like all that follows."""
    by_time: set[str] = field(default_factory=set)
    bad: int = 0


class _Repair:
    """One gap."""

    def __init__(self, gap: LedgerGap, client: Client, settings: Settings, clock: Clock, progress: Progress) -> None:
        self._gap, self._client, self._clock, self._progress = gap, client, clock, progress
        lookup = settings.lookup.model_copy(
            update={"silence_s": settings.repair.silence_s, "reply_s_max": settings.repair.reply_s_max}
        )
        self._settings = settings.model_copy(update={"lookup": lookup})
        self._date = gap.session_date.year * 10_000 + gap.session_date.month * 100 + gap.session_date.day
        calendar = load_calendar(settings.calendar_name, settings.session.roll_margin_s)
        self._plan: Plan = plan_of(gap, calendar, settings.repair, settings.lookup, clock.now_ns())
        self._symbols: list[str] = []
        self._failures: dict[str, str] = {}
        self._found: Found | None = None
        self._counted = 0
        """Symbols, days and centres whose ids counted prints then."""
        self._seconds: float | None = None
        """How long it took until it was judged."""
        self.undelivered = False
        """Replies went into the journal and not yet into every sink."""
        self._began = clock.monotonic_ns()

    def told(self) -> RepairResult:
        """What would be done."""
        if self._plan.step == "impossible":
            return self._result("", 0, self._plan.reason, "nothing can be done")
        symbols = symbols_of(self._client, self._settings, self._gap)
        first, last = self._plan.span
        when = f"from {first} to {last} (New York)" if self._plan.step == "ticks" else "of the whole session"
        text = f"{self._plan.word} of {len(symbols):,} symbols {when}"
        return self._result("", 0, "", f"{text}; {self._plan.reason}" if self._plan.reason else text)

    def run(self) -> RepairResult:
        """Repair it and write the result into the ledger."""
        if self._plan.step == "impossible":
            return self._record("impossible", 0, self._plan.reason, self._plan.reason, final=True)
        try:
            found = self._found = self._fill()
        except DateBusy:
            # somebody else is bringing bars of the date: nothing was tried
            raise
        except L2Error as error:
            # whatever part refuses: what was fetched stays, and the ledger says why it is not whole
            asked = max(len(self._symbols), 1)
            bars = self._bars()
            kept = self._journaled().kept + (bars.bars if bars else 0)
            found = Found(
                asked=asked, failed=asked, recovered=kept, missing=0, uncounted=0, bad_lines=0, bars=bars, message=error.message
            )
        return self._judged(found)

    def judged_again(self, result: RepairResult) -> RepairResult:
        """The result after the other gaps of the run were filled: of a symbol without a print between two gaps, the ids that are missing
        up to its next print lay in the second one. What cannot be asked now leaves the result as it was.
        """
        if self._found is None:
            return result
        try:
            missing, counted = self._missing()
            if counted < self._counted:
                # ids of fewer symbols count prints now: none missing among them is less than was told before
                return result
            found = replace(self._found, missing=missing, brought=self._brought())
            state, residual, _ = judge(self._plan, found, attempts_of(self._gap).count)
            return result if (state, residual) == (result.state, result.residual) else self._judged(found)
        except (L2Error, ClickHouseError) as error:
            log.warning("repair_not_judged_again gap=%s error=%s", self._gap.gap_id, str(error)[:300])
            return result

    def _judged(self, found: Found) -> RepairResult:
        state, residual, final = judge(self._plan, found, attempts_of(self._gap).count)
        message = found.message or f"{found.asked:,} symbols asked, {found.recovered:,} rows"
        return self._record(state, found.recovered, residual, message, final=final)

    def _brought(self) -> int:
        """Bars are no prints."""
        if self._plan.step == "bars":
            return 0
        return brought(self._client, self._settings, self._gap, self._symbols, self._window)

    def _missing(self) -> tuple[int, int]:
        """Where history has other ids than live, what came fills no id of those that live lacks: such symbols are not counted."""
        by_time = self._journaled().by_time if self._plan.step == "ticks" else set()
        counted = [name for name in self._symbols if name not in by_time]
        return missing_ids(self._client, self._settings, self._gap, counted, self._window)

    def _fill(self) -> Found:
        gap, settings, plan = self._gap, self._settings, self._plan
        if plan.step == "ticks":
            check_reachable(settings.feed, settings.lookup, settings.ports.lookup, self._clock)
        wait_for_live_rows(self._client, settings, self._clock, gap, plan.end + int(settings.repair.settle_s * NS))
        self._symbols = symbols_of(self._client, settings, gap)
        if not self._symbols:
            raise InputError(f"nobody knows which symbols {gap.stream} watched: neither its journal nor the symbols file tells")
        if plan.step == "bars":
            return self._fill_bars()
        if lost := _not_stored(self._client, settings, self._date):
            raise L2Error(
                f"{lost:,} rows of repairs of the date are in the journal and not in the warehouse (`l2 quarantine`): nothing more is "
                "asked for until they are, for it would come twice"
            )
        self._fetch([name for name in self._symbols if name not in self._journaled().symbols])
        _note_and_deliver(self._client, settings, self._date, self._clock)
        self.undelivered = False
        done = self._journaled()
        message = next(iter(self._failures.values()), "")
        if lost := _not_stored(self._client, settings, self._date):
            message = f"{lost:,} rows of repairs are in the journal and not in the warehouse (`l2 quarantine`). {message}".strip()
            self._failures.setdefault("", message)
        missing, self._counted = self._missing()
        return Found(
            asked=len(self._symbols), failed=len(self._failures), recovered=done.kept, missing=missing, uncounted=len(done.by_time),
            bad_lines=done.bad, message=message, proven=proven_lost(gap), brought=self._brought(),
        )  # fmt: skip

    def _fill_bars(self) -> Found:
        """Prints are gone: the vendor's bars, and what of their volume no print has."""
        client, settings, gap = self._client, self._settings, self._gap
        failures = fetch_bars(settings, self._date, self._symbols, self._clock, lambda *done: self._progress(gap.gap_id, *done))
        bars = self._bars()
        assert bars is not None
        message = next(iter(failures.values()), f"{len(self._symbols):,} symbols asked, {bars.bars:,} bars are rows of history_bars")
        missing, self._counted = self._missing()
        return Found(
            asked=len(self._symbols), failed=len(failures), recovered=self._journaled().kept + bars.bars,
            missing=missing, uncounted=0, bad_lines=unreadable(client, settings, gap), bars=bars, message=message,
        )  # fmt: skip

    def _bars(self) -> BarsFound | None:
        """What is stored of them; None when ticks are asked for."""
        if self._plan.step == "ticks":
            return None
        return bars_found(self._client, self._settings, self._gap, self._symbols, self._window)

    @property
    def _window(self) -> tuple[int, int]:
        return self._plan.begin, self._plan.end

    def _fetch(self, wanted: list[str]) -> None:
        """Ask for the symbols and put the replies into the journal, some at a time."""
        folder = self._settings.run_dir / "repair" / f"{self._gap.gap_id}-{self._plan.begin}-{self._plan.end}"
        bounds, gathered = self._settings.repair, list[Fetched]()
        with Fetcher(folder, *self._plan.span, self._settings, self._clock, seconds=bounds.gap_s_max) as fetcher:
            try:
                for number, item in enumerate(fetcher.fetch(wanted), 1):
                    if item.file is not None:
                        gathered.append(item)
                    elif item.outcome != "no_data":
                        self._failures[item.symbol] = f"{item.symbol}: {item.message or item.outcome.replace('_', ' ')}"
                    self._progress(self._gap.gap_id, number, len(wanted))
                    size = sum(one.file.stat().st_size for one in gathered if one.file)
                    if len(gathered) >= bounds.symbols_max or size >= self._settings.lookup.commit_bytes:
                        self._commit(gathered)
            finally:
                self._commit(gathered)
        shutil.rmtree(folder, ignore_errors=True)

    def _commit(self, gathered: list[Fetched]) -> None:
        """Everything gathered as one segment, with the lines of each reply that are rows; the files go when the journal has it."""
        if not gathered:
            return
        ready = sorted(gathered, key=lambda item: item.symbol)
        names = [item.symbol for item in ready]
        stored = stored_prints(self._client, self._settings, self._gap, names, self._window)
        notes: dict[str, Any] = {"gap_id": self._gap.gap_id, "version": self._gap.version, "kept": 0, "by_time": [], "bad": 0}
        replies: list[tuple[Fetched, list[list[int]]]] = []
        for item in ready:
            reply = read_reply(_file_of(item), item.symbol)
            choice = choose(reply.prints, stored[item.symbol], self._window, (self._gap.ts_from, self._gap.ts_to or self._gap.ts_from))
            replies.append((item, line_ranges(reply.line[choice.rows])))
            notes["kept"] += int(choice.rows.sum())
            notes["bad"] += reply.bad
            notes["by_time"] += [] if choice.by_id else [item.symbol]
        context = {"protocol": self._settings.feed.protocol, "symbols": names, "repair": notes}
        if notes["kept"]:
            note_change(self._settings.run_dir, self._date, self._clock.now_ns())
        self.undelivered = True
        append_finished_segment(
            self._settings.journal_dir, STREAM, self._date, self._pieces(replies), context=context, calendar=self._settings.calendar_name
        )
        for item in ready:
            _file_of(item).unlink(missing_ok=True)
        gathered.clear()

    def _pieces(self, replies: list[tuple[Fetched, list[list[int]]]]) -> Iterator[Piece]:
        begin, end = self._plan.span
        for item, kept in replies:
            file = _file_of(item)
            ts = file.stat().st_mtime_ns
            fields = {
                "symbol": item.symbol, "request": self._plan.word, "begin": begin, "end": end, "lines": item.lines, "kept": kept,
                "gap_id": self._gap.gap_id,
            }  # fmt: skip
            yield HISTORY_REPLY, fields, ts
            yield from reply_frames(file, ts, self._settings.journal.line_bytes_max)

    def _journaled(self) -> _Journaled:
        """Read from the headers of the date's segments."""
        found = _Journaled()
        for notes, names in _notes(self._settings, self._date):
            if notes.get("gap_id") != self._gap.gap_id:
                continue
            found.kept += int(notes["kept"])
            if notes.get("version") == self._gap.version:
                found.symbols |= names
                found.by_time |= set(notes["by_time"])
                found.bad += int(notes["bad"])
        return found

    def _record(self, state: RepairState, rows: int, residual: str, message: str, *, final: bool) -> RepairResult:
        """Append what became of it; the ledger keeps how often it was tried."""
        result = self._result(state, rows, residual, message)
        told = {
            "attempts": attempts_of(self._gap).count + 1, "at": self._clock.now_ns(), "final": final, "message": message,
            "symbols": len(self._symbols), "seconds": result.seconds,
            "stream": BARS.stream if self._plan.step == "bars" else STREAM,
        }  # fmt: skip
        append_version(
            self._client, self._settings.clickhouse.database, self._gap.gap_id, self._clock,
            evidence={**self._gap.evidence, "repair": told}, repair_state=state, rows_recovered=rows, residual=residual,
            repair_source="" if state == "impossible" else f"{SOURCE} {self._plan.word}",
        )  # fmt: skip
        return result

    def _result(self, state: RepairState, rows: int, residual: str, message: str) -> RepairResult:
        if self._seconds is None:
            self._seconds = round((self._clock.monotonic_ns() - self._began) / 1e9, 3)
        gap = self._gap
        return RepairResult(
            gap.gap_id, state, rows, residual, message, self._seconds, gap.stream, gap.ts_from, gap.ts_to or gap.ts_from
        )


def _notes(settings: Settings, session_date: int) -> Iterator[tuple[dict[str, Any], set[str]]]:
    """(what a segment says of its repair, its symbols) of each segment of the date."""
    for context in contexts_of_date(settings.journal_dir, STREAM, session_date):
        yield dict(context.get("repair", {})), {str(name) for name in context.get("symbols", ())}


def _file_of(item: Fetched) -> Path:
    assert item.file is not None
    return item.file

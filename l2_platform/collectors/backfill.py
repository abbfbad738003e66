"""History of a session date that was never recorded: from the vendor into the journal, then into every sink, as source `history`.

Replies go into the journal before anything is written from them: stream `iqfeed-ticks-history` or `iqfeed-bars-history`, one folder a
session date, in front of each reply a control frame that names its symbol and the length of its bars. Which symbols a date has is read
from its segment headers, so asking again fetches only what is missing. Symbols with live rows on the date are left alone by ticks; bars
have a table of their own, in ClickHouse only. Used by commands and jobs, not by a recorder.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.exceptions import ClickHouseError

from l2_platform.clock import Clock
from l2_platform.collectors.fetching import Fetched, Fetcher, reply_frames
from l2_platform.collectors.history import TICKS, History
from l2_platform.collectors.importing import ImportRequest, ImportResult, import_file
from l2_platform.collectors.importing import Progress as ImportProgress
from l2_platform.delivery.delivery import enabled_sinks, make_follower, make_sink
from l2_platform.delivery.pipeline import HISTORY_REPLY
from l2_platform.delivery.warm import warm_kernels
from l2_platform.errors import InputError, SinkUnavailable, WarehouseError
from l2_platform.feeds.iqfeed.lookup import check_reachable
from l2_platform.feeds.iqfeed.lookup_protocol import history_request
from l2_platform.feeds.iqfeed.reply_file import has_bars
from l2_platform.journal.appending import Piece, append_finished_segment, close_date, contexts_of_date
from l2_platform.market.dates import day_of
from l2_platform.market.sessions import load_calendar
from l2_platform.monitoring.changed_dates import note_change
from l2_platform.monitoring.leases import date_lease
from l2_platform.monitoring.symbols_file import load_symbols
from l2_platform.settings import Settings
from l2_platform.warehouse.client import connect
from l2_platform.warehouse.queries import delivered_seqs
from l2_platform.warehouse.schema import migrate

STREAM = TICKS.stream
BAR_SINK = "clickhouse"
NS = 1_000_000_000

Progress = Callable[["SymbolResult", int, int], None]
"""Called with a symbol that is done, how many are, and how many there are."""


@dataclass(frozen=True, slots=True)
class SymbolResult:
    """What came of one symbol of a date."""

    symbol: str
    state: str
    """fetched, already (in the journal), live (recorded, left alone), no_data, unknown_symbol or failed."""
    lines: int = 0
    message: str = ""


@dataclass(slots=True)
class BackfillResult:
    """What came of a date."""

    session_date: int
    symbols: list[SymbolResult] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    """Rows handed to each sink now; 0 where it had them already."""

    @property
    def failed(self) -> list[SymbolResult]:
        """Symbols that a person must look at, or that the same command tries again."""
        return [item for item in self.symbols if item.state in {"failed", "unknown_symbol"}]

    @property
    def lines(self) -> int:
        """Lines that were brought now."""
        return sum(item.lines for item in self.symbols if item.state == "fetched")


def backfill_date(
    session_date: int, symbols: Sequence[str], settings: Settings, clock: Clock, progress: Progress = lambda *_: None,
    kind: History = TICKS, seconds: float | None = None,
) -> BackfillResult:  # fmt: skip
    """Fetch, journal and deliver one kind of history of a session date (YYYYMMDD); no symbols = those of the symbols file.

    `seconds`: symbols that are not asked for by then fail; None = however long it takes.
    A symbol that fails is in the result and does not stop the others. InputError for a date that cannot be filled, DateBusy when it is
    being changed, FeedError when the vendor is away, SinkUnavailable, JournalUnwritable or L2Error when the disk refuses: what was
    fetched stays, and the same call goes on from there.
    """
    check_date(session_date, settings, clock, kind)
    names, sinks = _symbols(symbols, settings), sinks_of(kind, settings)
    with date_lease(settings.run_dir, kind.stream, session_date, "backfill"):
        result = BackfillResult(session_date)
        _check_sinks(sinks, settings)
        close_date(settings.journal_dir, kind.stream, session_date)
        done = journaled_symbols(settings, session_date, kind)
        live = live_symbols(settings, session_date) if kind == TICKS else set()
        for name in names:
            if name in done or name in live:
                _note(result, SymbolResult(name, "already" if name in done else "live"), names, progress)
        wanted = [name for name in names if name not in done and name not in live]
        folder = settings.run_dir / "backfill" / kind.folder(session_date)
        if wanted:
            check_reachable(settings.feed, settings.lookup, settings.ports.lookup, clock)
            _fetch(wanted, folder, session_date, kind, result, names, settings, clock, progress, seconds)
        shutil.rmtree(folder, ignore_errors=True)
        end = close_date(settings.journal_dir, kind.stream, session_date)
        if end is not None:
            if BAR_SINK in sinks and _is_behind(settings, session_date, kind.stream, end.last_seq):
                # an archive may have forgotten the change since the replies were journaled, maybe by a run that was ended
                note_change(settings.run_dir, session_date, clock.now_ns())
            result.rows = {name: deliver_history(name, session_date, settings, clock, kind.stream) for name in sinks}
        return result


def check_date(session_date: int, settings: Settings, clock: Clock, kind: History = TICKS) -> None:
    """InputError for a date that is not over, was no session, or that the vendor has nothing of any more."""
    calendar = load_calendar(settings.calendar_name, settings.session.roll_margin_s)
    now = calendar.session_date_of(clock.now_ns())
    day = day_of(session_date)
    if session_date >= now:
        what = "is still running: it is being recorded" if session_date == now else "lies in the future"
        raise InputError(f"session date {day} {what}; only dates that are over can be filled")
    if not calendar.is_session(session_date):
        near = calendar.previous_session(session_date)
        raise InputError(f"{day} is a closed day of calendar {settings.calendar_name}; the session before it is {day_of(near)}")
    age, lookup = (datetime.fromtimestamp(clock.now_ns() // NS, UTC).date() - day).days, settings.lookup
    if kind != TICKS and age > lookup.bar_days:
        raise InputError(f"{day} is {age} days ago and bars are asked for of {lookup.bar_days} days (L2_LOOKUP__BAR_DAYS)")
    if kind == TICKS and age > lookup.tick_days:
        raise InputError(
            f"{day} is {age} days ago and the vendor has ticks of {lookup.tick_days} days (L2_LOOKUP__TICK_DAYS); its bars go further back "
            "(`--what bars`), or import a capture (`--source capture`), or restore the archive (`--source archive`)"
        )


def sinks_of(kind: History, settings: Settings) -> list[str]:
    """Sinks that take the rows, of those that are on; InputError when bars have none."""
    found = [name for name in enabled_sinks(settings) if kind == TICKS or name == BAR_SINK]
    if not found and kind != TICKS:
        raise InputError("bars of the vendor are rows of ClickHouse only, and it is switched off (L2_CLICKHOUSE__ENABLED)")
    return found


def journaled_symbols(settings: Settings, session_date: int, kind: History = TICKS) -> set[str]:
    """Symbols whose replies the journal has for the date."""
    contexts = contexts_of_date(settings.journal_dir, kind.stream, session_date)
    return {str(symbol) for context in contexts if kind.matches(context) for symbol in context.get("symbols", ())}


def live_symbols(settings: Settings, session_date: int) -> set[str]:
    """Symbols with live trades on the date; without a warehouse nobody can tell, and none are."""
    if not settings.clickhouse.enabled:
        return set()
    client = connect(settings)
    try:
        migrate(client, settings.clickhouse.database)
        sql = f"SELECT DISTINCT symbol FROM {settings.clickhouse.database}.trades WHERE session_date = {{day:Date}} AND source = 'live'"  # noqa: S608 - name is ours
        return {str(symbol) for (symbol,) in client.query(sql, parameters={"day": day_of(session_date)}).result_rows}
    finally:
        client.close()


def import_capture(
    file: Path, channel: str, session_date: int, symbol: str | None, settings: Settings, clock: Clock, progress: ImportProgress
) -> ImportResult:
    """A captured file (see `import_file`): the session date counts for lines that carry none, others keep their own dates."""
    try:
        return import_file(ImportRequest(file, channel, None, symbol), settings, clock, progress)
    except InputError:
        return import_file(ImportRequest(file, channel, session_date, symbol), settings, clock, progress)


def deliver_history(sink_name: str, session_date: int, settings: Settings, clock: Clock, stream: str = STREAM) -> int:
    """Bring one sink to the end of a date of a history stream; the rows it took. SinkUnavailable when it does not take them."""
    # Compiled first: a warehouse that runs only while it is asked would not wait for a compiler.
    warm_kernels(("ticks",))
    deadline = clock.monotonic_ns() + int(settings.clickhouse.timeout_s * NS)
    while True:
        try:
            rows = _deliver_once(sink_name, stream, session_date, settings, clock)
        except SinkUnavailable as error:
            if clock.monotonic_ns() > deadline:
                raise SinkUnavailable(
                    f"{sink_name} does not take the rows: {error.message}; the replies are in the journal, run the same command again "
                    "when the sink works"
                ) from None
            clock.sleep(settings.delivery.retry_first_s)
            continue
        # The sink itself says what it has: checkpoints of a date that is over are of no use.
        shutil.rmtree(settings.checkpoint_dir / sink_name / stream / str(session_date), ignore_errors=True)
        return rows


def _deliver_once(sink_name: str, stream: str, session_date: int, settings: Settings, clock: Clock) -> int:
    """One attempt with a sink of its own: opening it starts a warehouse that has ended meanwhile."""
    sink = make_sink(sink_name, settings)
    try:
        sink.open()
        follower = make_follower(stream, sink, settings, clock, session_date=session_date)
        while not follower.caught_up():
            if not follower.step():
                if follower.failures:
                    raise SinkUnavailable(follower.error)
                clock.sleep(0.01)
        return follower.rows
    finally:
        sink.close()


def _symbols(symbols: Sequence[str], settings: Settings) -> list[str]:
    """The names, each once, checked as far as the wire needs it."""
    if not symbols:
        return list(load_symbols(settings.symbols_file, limit=settings.symbols.limit).symbols)
    names = list(dict.fromkeys(symbols))
    for name in names:
        history_request("HTT", "CHECK", symbol=name)
        if name != name.upper():
            raise InputError(f"symbol {name!r}: the vendor's symbols are upper case, {name.upper()!r}")
    return names


def _check_sinks(sinks: list[str], settings: Settings) -> None:
    """A sink that cannot be reached is told before the vendor is asked for anything."""
    for name in sinks:
        sink = make_sink(name, settings)
        try:
            sink.open()
        finally:
            sink.close()


def _is_behind(settings: Settings, session_date: int, stream: str, last_seq: int) -> bool:
    """Whether the warehouse has yet to be given lines of the journal; also when it does not tell."""
    try:
        client = connect(settings)
        try:
            delivered = delivered_seqs(client, settings.clickhouse.database, day_of(session_date))
        finally:
            client.close()
    except (ClickHouseError, WarehouseError):
        return True
    return delivered.get(stream, 0) < last_seq


def _fetch(
    wanted: list[str], folder: Path, session_date: int, kind: History, result: BackfillResult, names: list[str], settings: Settings,
    clock: Clock, progress: Progress, seconds: float | None,
) -> None:  # fmt: skip
    """Fetch the symbols and put their replies into the journal, some at a time."""
    calendar = load_calendar(settings.calendar_name, settings.session.roll_margin_s)
    span = kind.span(calendar, session_date)
    gathered: list[Fetched] = []
    with Fetcher(folder, *span, settings, clock, word=kind.word, parameters=kind.parameters, seconds=seconds) as fetcher:
        try:
            for fetched in fetcher.fetch(wanted):
                item = _readable(fetched, kind)
                if item.file is not None:
                    gathered.append(item)
                state = "fetched" if item.outcome == "data" else item.outcome
                _note(result, SymbolResult(item.symbol, state, item.lines, item.message), names, progress)
                if sum(one.file.stat().st_size for one in gathered if one.file) >= settings.lookup.commit_bytes:
                    _commit(gathered, session_date, kind, settings, span, clock)
        finally:
            _commit(gathered, session_date, kind, settings, span, clock)


def _readable(item: Fetched, kind: History) -> Fetched:
    """The same, or failed when no line of a reply with bars is one: in the journal it would never be asked for again."""
    if item.file is None or not kind.interval_s or has_bars(item.file, item.symbol, kind.interval_s):
        return item
    item.file.unlink()
    return Fetched(item.symbol, "failed", message=f"none of the {item.lines:,} lines of its reply can be read as a bar")


def _note(result: BackfillResult, item: SymbolResult, names: list[str], progress: Progress) -> None:
    result.symbols.append(item)
    progress(item, len(result.symbols), len(names))


def _commit(
    gathered: list[Fetched], session_date: int, kind: History, settings: Settings, span: tuple[str, str], clock: Clock
) -> None:
    """Everything gathered as one segment; the files go when the journal has it."""
    if not gathered:
        return
    # should this end before they are delivered: a date that was closed is closed again, which brings them
    note_change(settings.run_dir, session_date, clock.now_ns())
    ready = sorted(gathered, key=lambda item: item.symbol)
    context = {"protocol": settings.feed.protocol, "symbols": [item.symbol for item in ready], **kind.context}
    append_finished_segment(
        settings.journal_dir, kind.stream, session_date, _pieces(ready, kind, span, settings.journal.line_bytes_max),
        context=context, calendar=settings.calendar_name,
    )  # fmt: skip
    for item in ready:
        if item.file is not None:
            item.file.unlink(missing_ok=True)
    gathered.clear()


def _pieces(ready: list[Fetched], kind: History, span: tuple[str, str], line_max: int) -> Iterator[Piece]:
    """Each reply behind a control frame that says whose it is; `ts` is when its last byte came."""
    for item in ready:
        assert item.file is not None
        ts = item.file.stat().st_mtime_ns
        fields: dict[str, Any] = {"symbol": item.symbol, **kind.fields, "begin": span[0], "end": span[1], "lines": item.lines}
        yield HISTORY_REPLY, fields, ts
        yield from reply_frames(item.file, ts, line_max)

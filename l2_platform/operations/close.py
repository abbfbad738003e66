"""The daily close of a session date that is over: wait for the sinks and the sealer, rebuild what needs it, record the facts.

`close_date` is the service; assets/close.py shows it as asset `closed_day` and job `close_day`. What is found wrong without reading
the journal again (`reason_to_rebuild`): a delivered position before the journal's end, rows twice, rows behind the journal's end, no
row at all, content that differs from what an earlier close recorded. A single row that is missing in the middle is not found that way:
`l2 rebuild` compares every row. What does not belong here: schedules, judging quality.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from l2_platform import __version__
from l2_platform.clock import Clock
from l2_platform.delivery.delivery import enabled_sinks
from l2_platform.errors import L2Error
from l2_platform.journal.layout import SegmentFile, date_folder, list_dates, list_segments, source_of
from l2_platform.journal.manifest import read_manifest
from l2_platform.journal.sealer import WORKER as SEALER
from l2_platform.journal.sealer import seal_closed
from l2_platform.market.dates import date_text
from l2_platform.monitoring.heartbeat import read_heartbeat
from l2_platform.monitoring.leases import ALL_STREAMS, date_lease
from l2_platform.replay.dates import delivered_through, has_all, require_over, streams_of
from l2_platform.replay.rebuild import RebuildRequest, end_seq, open_link, rebuild_held
from l2_platform.replay.rebuilt import StreamResult
from l2_platform.replay.staging import MARKET_TABLES, Staging, quoted
from l2_platform.replay.swaps import delivered_seq
from l2_platform.replay.warehouse_link import WarehouseLink
from l2_platform.settings import Settings
from l2_platform.warehouse.content import WHERE, Content

REPORTS: Final = "daily_reports"
Said = Callable[[str], object]


@dataclass(slots=True)
class StreamClose:
    """One stream of a closed date."""

    stream: str
    lines: int
    """Last seq of the journal."""
    segments: int = 0
    sealed: int = 0
    journal_bytes: int = 0
    chain: tuple[str, ...] = ()
    """What is wrong with the manifest, one sentence each."""
    reason: str = ""
    """Why it was rebuilt; empty: it was not."""
    rebuilt: StreamResult | None = None
    tables: dict[str, Content] = field(default_factory=dict)
    table_bytes: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class CloseReport:
    """What came of a close."""

    session_date: int
    streams: list[StreamClose]
    waiting: list[str] = field(default_factory=list)
    """What had not come to an end when the time was over; then nothing was rebuilt or recorded."""
    seconds: float = 0.0

    @property
    def closed(self) -> bool:
        """The facts are recorded."""
        return not self.waiting

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"closed": self.closed}


def close_date(settings: Settings, clock: Clock, session_date: int, said: Said = lambda _text: None) -> CloseReport:
    """Close a date; closing it again measures and records it again.

    InputError for a date that is not over or not recorded, DateBusy when somebody else changes it, SinkError without the warehouse.
    `said` is told what goes on, a sentence at a time.
    """
    began = clock.monotonic_ns()
    streams = streams_of(settings, clock, session_date)
    for stream in streams:
        require_over(settings, clock, stream, session_date)
    with date_lease(settings.run_dir, ALL_STREAMS, session_date, "close"):
        report = CloseReport(session_date, [StreamClose(name, end_seq(settings, name, session_date)) for name in streams])
        report.waiting = _wait(settings, clock, report, said)
        for item in report.streams:
            _look_at_journal(settings, session_date, item)
        if report.closed and settings.clickhouse.enabled:
            _close_tables(settings, clock, report, said)
        report.seconds = round((clock.monotonic_ns() - began) / 1e9, 3)
        if report.closed and settings.clickhouse.enabled:
            _record(settings, clock, report)
    return report


def _wait(settings: Settings, clock: Clock, report: CloseReport, said: Said) -> list[str]:
    """What still is not at its end after `close.wait_s`; [] when all is."""
    deadline = clock.monotonic_ns() + int(settings.close.wait_s * 1e9)
    told = ""
    while True:
        waiting = list(_unfinished(settings, report))
        if not waiting or clock.monotonic_ns() > deadline:
            return waiting
        if waiting[0] != told:
            told = waiting[0]
            said(f"waiting: {told}" + (f" (and {len(waiting) - 1} more)" if len(waiting) > 1 else ""))
        clock.sleep(settings.close.poll_s)


def _unfinished(settings: Settings, report: CloseReport) -> Iterator[str]:
    """Sinks that have not finished the date, and segments that are not sealed."""
    date = report.session_date
    # imports and history are delivered by the command that brings them, under a lease
    for item in (one for one in report.streams if source_of(one.stream) == "live"):
        for sink in enabled_sinks(settings):
            if delivered_through(settings, sink, item.stream) >= date or has_all(settings, sink, item.stream, date, item.lines):
                continue
            yield f"deliver-{sink} has not finished {item.stream} of {date_text(date)}: look at deliveries/{sink}"
    for item in report.streams:
        raw = [file for file in list_segments(date_folder(settings.journal_dir, item.stream, date)) if file.raw is not None]
        if not raw:
            continue
        if not _is_sealing(settings):
            # nobody else does it: the same code, and a segment is sealed by one at a time
            seal_closed(settings.journal_dir, item.stream, settings.journal)
        if left := sum(_may_be_sealed(settings, item.stream, date, file) for file in raw if file.raw is not None and file.raw.exists()):
            yield f"the sealer has {left} segments of {item.stream} left: look at services/sealer"


def _is_sealing(settings: Settings) -> bool:
    beat = read_heartbeat(settings.run_dir / "heartbeats" / f"{SEALER}.json")
    return beat is not None and beat.alive()


def _may_be_sealed(settings: Settings, stream: str, session_date: int, file: SegmentFile) -> bool:
    """Not the newest segment of a live stream: it is sealed once the recorder has begun the next date."""
    files = list_segments(date_folder(settings.journal_dir, stream, session_date))
    newest = file.number == files[-1].number and session_date == list_dates(settings.journal_dir, stream)[-1]
    return not (newest and source_of(stream) == "live")


def _look_at_journal(settings: Settings, session_date: int, item: StreamClose) -> None:
    folder = date_folder(settings.journal_dir, item.stream, session_date)
    files = list_segments(folder)
    manifest = read_manifest(folder)
    sizes = {file.number: file.path.stat().st_size for file in files}
    item.segments, item.sealed = len(files), sum(file.raw is None for file in files)
    item.journal_bytes = sum(sizes.values())
    wrong = [*manifest.broken]
    for file in files:
        entry = manifest.entries.get(file.number)
        if file.raw is None and entry is None:
            wrong.append(f"{file.path.name} is in no line of the manifest")
        elif file.raw is None and entry is not None and entry.bytes != sizes[file.number]:
            wrong.append(f"{file.path.name} has {sizes[file.number]} bytes, the manifest says {entry.bytes}")
    wrong += [f"{entry.file} is gone" for number, entry in manifest.entries.items() if number not in sizes]
    item.chain = tuple(wrong)


def _close_tables(settings: Settings, clock: Clock, report: CloseReport, said: Said) -> None:
    date = report.session_date
    for item in report.streams:
        with open_link(settings, clock, f"l2-close-{item.stream}-{date}-") as link:
            staging = Staging(link, settings.clickhouse.database, item.stream, date)
            said(f"measuring {item.stream}")
            item.tables = _measure(staging)
            before = _recorded(link, settings, item, date)
            delivered = delivered_seq(link, staging, settings.clickhouse.database)
            item.reason = reason_to_rebuild(item.lines, delivered, item.tables, before)
        if item.reason:
            said(f"rebuilding {item.stream}: {item.reason}")
            item.rebuilt = rebuild_held(RebuildRequest(date, (item.stream,)), item.stream, settings, clock)
        with open_link(settings, clock, f"l2-close-{item.stream}-{date}-") as link:
            staging = Staging(link, settings.clickhouse.database, item.stream, date)
            if item.reason:
                item.tables = _measure(staging)
            item.table_bytes = {table: _bytes(link, settings, table, item.stream, date) for table in MARKET_TABLES}


def _measure(staging: Staging) -> dict[str, Content]:
    """Content of each table; one that cannot be read has no entry."""
    found = {table: staging.live_content(table) for table in MARKET_TABLES}
    return {table: content for table, content in found.items() if content is not None}


def reason_to_rebuild(lines: int, delivered: int, tables: Mapping[str, Content], recorded: Mapping[str, str]) -> str:
    """Why a stream and date must be rebuilt; empty when nothing says so. `recorded`: table → hash at an earlier close."""
    if len(tables) < len(MARKET_TABLES):
        return f"{', '.join(sorted(set(MARKET_TABLES) - set(tables)))} cannot be read"
    if delivered < lines:
        return f"the warehouse was given {delivered:,} of {lines:,} lines"
    for table, found in tables.items():
        if found.rows > found.keys:
            return f"{table} has {found.rows - found.keys:,} rows twice"
        if lines and found.seq_last > lines:
            return f"{table} has rows up to line {found.seq_last:,}, the journal ends at {lines:,}"
    if lines and not any(found.rows for found in tables.values()):
        return "the tables have no row of it"
    changed = [table for table, digest in recorded.items() if table in tables and tables[table].digest != digest]
    return f"{', '.join(changed)} changed since the date was closed" if changed else ""


def _recorded(link: WarehouseLink, settings: Settings, item: StreamClose, session_date: int) -> dict[str, str]:
    """Table → hash that the newest earlier close recorded, and that still has to hold.

    None of history whose journal has more lines than then: a repair or a backfill added to the date, and its tables had to change.
    """
    sql = (
        f"SELECT table, argMax(content_hash, ts_written), argMax(journal_lines, ts_written) FROM {settings.clickhouse.database}.{REPORTS}"  # noqa: S608 - names are ours
        f" WHERE {WHERE} AND program = {quoted(__version__)} GROUP BY table"
    )
    rows = link.query(sql, stream=item.stream, date=date_text(session_date))
    grows = source_of(item.stream) == "history"
    return {table: digest for table, digest, lines in rows if not (grows and item.lines > int(lines))}


def _bytes(link: WarehouseLink, settings: Settings, table: str, stream: str, session_date: int) -> int:
    sql = (
        "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = {database:String} AND table = {table:String}"
        " AND partition = {partition:String}"
    )
    partition = f"('{date_text(session_date)}','{stream}')"
    return int(link.query(sql, database=settings.clickhouse.database, table=table, partition=partition)[0][0])


def _record(settings: Settings, clock: Clock, report: CloseReport) -> None:
    """One row a stream and table; a close that repeats it appends."""
    now = _time(clock.now_ns())
    rows = []
    for item in report.streams:
        for table, found in item.tables.items():
            times = [quoted(_time(ts)) if found.rows else "NULL" for ts in (found.ts_first, found.ts_last)]
            rows.append(
                f"({quoted(date_text(report.session_date))}, {quoted(item.stream)}, {quoted(table)}, {quoted(source_of(item.stream))},"
                f" {found.rows}, {quoted(found.digest)}, {found.seq_first}, {found.seq_last}, {', '.join(times)},"
                f" {item.table_bytes.get(table, 0)}, {item.lines}, {item.journal_bytes}, {item.segments}, {item.sealed},"
                f" {int(item.rebuilt is not None)}, {quoted(item.reason)}, {quoted(__version__)}, {report.seconds}, {quoted(now)})"
            )
    if not rows:
        raise L2Error(f"session date {date_text(report.session_date)}: there is nothing to record")
    columns = (
        "session_date, stream, table, source, rows, content_hash, seq_first, seq_last, ts_first, ts_last, table_bytes, journal_lines,"
        " journal_bytes, segments, segments_sealed, rebuilt, reason, program, seconds, ts_written"
    )
    with open_link(settings, clock, f"l2-close-{report.session_date}-") as link:
        link.query(f"INSERT INTO {settings.clickhouse.database}.{REPORTS} ({columns}) VALUES {', '.join(rows)}")  # noqa: S608 - names are ours


def _time(ns: int) -> str:
    seconds, fraction = divmod(ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{fraction:09d}"

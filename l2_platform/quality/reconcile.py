"""Are all stores of a session date equal to what its journal yields? By count, key range and per-minute hash; then by key; then healed.

journal → the pipeline of the live delivery → sums; the same sums of ClickHouse by ClickHouse, and of the files by compiled readers. Only
where they differ a second pass looks for keys. What heals is a rebuild of the partition (replay/rebuild) or of the files
(replay/refile), then a second comparison, so that `healed` is seen, not believed. What does not belong here: hashes, tables of results.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from l2_platform.clock import Clock
from l2_platform.delivery.delivery import make_quarantine
from l2_platform.errors import L2Error
from l2_platform.monitoring.leases import date_lease
from l2_platform.quality.canonical import TextWords, row_hashes
from l2_platform.quality.file_rows import TABLES as FILE_TABLES
from l2_platform.quality.file_rows import RecordFile, files_of
from l2_platform.quality.file_store import FileSums, JournalRecords, file_sums, search_files
from l2_platform.quality.reconciled import KeyDifferences, ReconcileResult, StoreEntry
from l2_platform.quality.reconciliations import record_result
from l2_platform.quality.sums import Sums, minute_text, times_of
from l2_platform.quality.table_store import TableSearch, strange_streams, table_sums
from l2_platform.replay.dates import delivered_through, require_over, streams_of
from l2_platform.replay.projection import Projection
from l2_platform.replay.rebuild import RebuildRequest, lines_of, open_link, rebuild_held
from l2_platform.replay.refile import rewrite_files
from l2_platform.replay.staging import MARKET_TABLES
from l2_platform.replay.warehouse_link import WarehouseLink
from l2_platform.settings import Settings
from l2_platform.sinks.jsonl_names import KINDS
from l2_platform.warehouse.queries import TABLES as SHAPES

CLICKHOUSE: Final = "clickhouse"
JSONL: Final = "jsonl"
Progress = Callable[[str, str, int, int], None]
"""Called with stream, what is being done, how many messages since the call before, and how many there are in all (0: not known)."""


def silent(_stream: str, _what: str, _count: int, _total: int) -> None:
    """Progress that nobody looks at."""


def reconcile_date(
    settings: Settings, session_date: int, clock: Clock, heal: bool = False, *, streams: Sequence[str] = (), progress: Progress = silent
) -> ReconcileResult:
    """Compare every store of a date with its journal, record what was found; `heal`: rebuild what differs, and compare again.

    InputError for a date that is not over or not recorded, DateBusy when somebody else changes it. A store that cannot be read, or not
    be healed, is an entry that says so.
    """
    began = clock.monotonic_ns()
    chosen = streams_of(settings, clock, session_date, streams)
    for stream in chosen:
        require_over(settings, clock, stream, session_date)
    result = ReconcileResult(session_date, f"{session_date}-{clock.now_ns():x}")
    for stream in chosen:
        with date_lease(settings.run_dir, stream, session_date, "reconcile"):
            found = _Stream(settings, clock, stream, session_date, progress)
            found.compare()
            if heal:
                found.heal()
            result.entries += found.entries
            result.messages += found.messages
            result.damaged += found.damaged
    if not streams:
        result.entries += _strangers(settings, clock, session_date, chosen)
    result.seconds = round((clock.monotonic_ns() - began) / 1e9, 3)
    result.recorded = record_result(settings, clock, result)
    return result


def _strangers(settings: Settings, clock: Clock, session_date: int, known: list[str]) -> list[StoreEntry]:
    """Rows of streams that the journal does not have on the date: nobody can tell what they should be."""
    if not settings.clickhouse.enabled:
        return []
    found = []
    try:
        with open_link(settings, clock, f"l2-reconcile-{session_date}-") as link:
            for table in MARKET_TABLES:
                for stream, rows in strange_streams(link, settings.clickhouse.database, table, session_date, known).items():
                    entry = StoreEntry(stream, table, CLICKHOUSE, "different", "the journal has no such stream on this date")
                    entry.rows_store, entry.exact = rows, False
                    entry.differences = KeyDifferences(extra=rows)
                    found.append(entry)
    except L2Error as error:
        return [StoreEntry("", "", CLICKHOUSE, "unknown", f"streams of no journal: {error.message}")]
    return found


@dataclass(slots=True)
class _Journal:
    """What the journal yields for each store."""

    tables: dict[str, Sums]
    files: dict[str, FileSums]
    held: dict[tuple[str, str], int] = field(default_factory=dict)
    """(store, table) → rows in quarantine."""
    symbols: frozenset[str] = frozenset()


class _Stream:
    """One stream of the date, whose lease is held."""

    def __init__(self, settings: Settings, clock: Clock, stream: str, session_date: int, progress: Progress) -> None:
        self._settings, self._clock, self._stream, self._date, self._progress = settings, clock, stream, session_date, progress
        self._lines = lines_of(settings, stream, session_date)
        self._quarantines = {name: make_quarantine(name, settings, clock) for name in (CLICKHOUSE, JSONL)}
        self._rows = Projection(settings, clock, stream, session_date)
        self._journal = _Journal({}, {})
        self._entries: dict[tuple[str, str], StoreEntry] = {}
        self.messages = 0

    @property
    def entries(self) -> list[StoreEntry]:
        """One a table and store, in order."""
        return list(self._entries.values())

    @property
    def damaged(self) -> int:
        """Ranges of the journal that cannot be read."""
        return self._rows.damaged

    def compare(self) -> None:
        """Every store with the journal."""
        self._journal = self._read_journal()
        self._compare_tables()
        self._compare_files()
        # there is no delivery into Kafka: `l2 replay --to-kafka` sends what is asked for, when it is asked for
        self._entries["kafka", ""] = StoreEntry(self._stream, "", "kafka", "off", "no delivery into Kafka is part of this instance")

    def _read_journal(self) -> _Journal:
        size = self._settings.reconcile.chunk_seqs
        tables = {table: Sums(self._date, size) for table in MARKET_TABLES}
        records, texts, symbols = JournalRecords(self._date, size), TextWords(), frozenset[str]()
        held: dict[tuple[str, str], int] = {}
        for step in self._rows:
            for batch in step.batches:
                for store, quarantine in self._quarantines.items():
                    kept = quarantine.without_held(batch)
                    held[store, batch.table] = held.get((store, batch.table), 0) + len(batch) - len(kept)
                    if store == CLICKHOUSE:
                        times = np.empty(len(kept), np.int64)
                        columns = kept.columns
                        feed = columns[SHAPES[batch.table].time]
                        times_of(np.asarray(feed, np.int64), np.asarray(columns["ts_recv"], np.int64), times)
                        seq = np.ascontiguousarray(columns["seq"], np.uint64)
                        tables[batch.table].add(seq, times, row_hashes(kept, texts))
                    elif batch.table in KINDS:
                        records.add(kept, texts)
                symbols = symbols if len(symbols) == len(batch.symbols) else frozenset(batch.symbols)
            self.messages += step.lines
            self._progress(self._stream, "comparing", step.lines, self._lines)
        return _Journal(tables, records.finish(), held, symbols)

    def _compare_tables(self) -> None:
        if not self._settings.clickhouse.enabled:
            self._off(CLICKHOUSE, MARKET_TABLES, "ClickHouse is switched off (L2_CLICKHOUSE__ENABLED)")
            return
        try:
            with open_link(self._settings, self._clock, f"l2-reconcile-{self._stream}-{self._date}-") as link:
                self._compare_open_tables(link)
        except L2Error as error:
            for table in MARKET_TABLES:
                if (CLICKHOUSE, table) not in self._entries:
                    self._entries[CLICKHOUSE, table] = self._entry(table, CLICKHOUSE, "unknown", error.message)

    def _compare_open_tables(self, link: WarehouseLink) -> None:
        chunks: dict[str, list[int]] = {}
        for table in MARKET_TABLES:
            entry = self._entry(table, CLICKHOUSE)
            mine = self._journal.tables[table]
            try:
                theirs = table_sums(link, self._settings.clickhouse.database, table, self._stream, self._date, mine.chunk_seqs)
            except L2Error as error:
                entry.state, entry.reason = "unknown", f"{table} cannot be read: {error.message}"
            else:
                self._fill(entry, mine, theirs)
                if entry.minutes:
                    chunks[table] = mine.differing_chunks(theirs)
            self._entries[CLICKHOUSE, table] = entry
        if chunks:
            self._progress(self._stream, "looking for keys", 0, self._lines)
            search = TableSearch(self._settings, self._clock, link, self._quarantines[CLICKHOUSE], self._stream, self._date)
            for table, difference in search.run(chunks).items():
                self._entries[CLICKHOUSE, table].differences = difference

    def _compare_files(self) -> None:
        if not self._settings.jsonl.enabled:
            self._off(JSONL, FILE_TABLES, "JSONL files are switched off (L2_JSONL__ENABLED)")
            return
        try:
            files = self._files()
            stored = file_sums(files, self._stream, self._date, self._settings)
        except OSError as error:
            for table in FILE_TABLES:
                self._entries[JSONL, table] = self._entry(table, JSONL, "unknown", f"{error.filename}: {error.strerror}")
            return
        for table, one in stored.items():
            entry = self._entry(table, JSONL)
            self._fill(entry, self._journal.files[table].sums, one.sums)
            entry.unreadable, entry.unreadable_named = one.unreadable, one.unreadable_named
            if one.unreadable:
                entry.state = "different"
            self._entries[JSONL, table] = entry
        self._search_files(files, stored)

    def _search_files(self, files: list[RecordFile], stored: Mapping[str, FileSums]) -> None:
        if all(self._entries[JSONL, table].state == "equal" for table in stored):
            return
        self._progress(self._stream, "looking for keys", 0, self._lines)
        quarantine = self._quarantines[JSONL]
        found = search_files(self._settings, self._clock, quarantine, self._stream, self._date, files, self._journal.files, stored)
        for table, (difference, exact) in found.items():
            self._entries[JSONL, table].differences, self._entries[JSONL, table].exact = difference, exact

    def _files(self) -> list[RecordFile]:
        beside = streams_of(self._settings, self._clock, self._date)
        return files_of(self._settings.jsonl_dir, self._stream, self._date, beside, self._journal.symbols)

    def _entry(self, table: str, store: str, state: str = "equal", reason: str = "") -> StoreEntry:
        entry = StoreEntry(self._stream, table, store, state, reason, held=self._journal.held.get((store, table), 0))
        mine = self._journal.tables[table] if store == CLICKHOUSE else self._journal.files[table].sums
        entry.rows_journal, entry.seq_first_journal, entry.seq_last_journal = mine.rows, mine.seq_first, mine.seq_last
        return entry

    def _fill(self, entry: StoreEntry, mine: Sums, theirs: Sums) -> None:
        entry.rows_store, entry.seq_first_store, entry.seq_last_store = theirs.rows, theirs.seq_first, theirs.seq_last
        minutes = mine.differing_minutes(theirs)
        entry.minutes = len(minutes)
        entry.minutes_named = [minute_text(self._date, minute) for minute in minutes[: self._settings.reconcile.minutes]]
        if minutes:
            entry.state = "different"
            if entry.store in {CLICKHOUSE, JSONL} and self._is_behind(entry.store):
                entry.reason = f"deliver-{entry.store} has not finished the date"

    def _is_behind(self, store: str) -> bool:
        live = "-import-" not in self._stream and not self._stream.endswith("-history")
        return live and delivered_through(self._settings, store, self._stream) < self._date

    def _off(self, store: str, tables: Sequence[str], reason: str) -> None:
        for table in tables:
            self._entries[store, table] = StoreEntry(self._stream, table, store, "off", reason)

    def heal(self) -> None:
        """Rebuild the stores that differ, and compare them again."""
        for store, tables in ((CLICKHOUSE, MARKET_TABLES), (JSONL, FILE_TABLES)):
            before = {table: self._entries[store, table] for table in tables}
            if not any(entry.state == "different" for entry in before.values()):
                continue
            problem = self._rebuild(store)
            if problem:
                for entry in before.values():
                    entry.reason = problem if entry.state == "different" else entry.reason
                continue
            for table in tables:
                del self._entries[store, table]
            (self._compare_tables if store == CLICKHOUSE else self._compare_files)()
            for table, old in before.items():
                if old.state == "different" and self._entries[store, table].state == "equal":
                    # what was different stays told
                    old.state, old.reason = "healed", ""
                    self._entries[store, table] = old

    def _rebuild(self, store: str) -> str:
        """Why it could not be; empty when it was."""
        if self.damaged:
            return (
                f"not healed: {self.damaged} ranges of the journal cannot be read, so the store may know more than it; "
                "`l2 journal verify` names them"
            )
        self._progress(self._stream, f"healing {store}", 0, self._lines)
        try:
            if store == CLICKHOUSE:
                rebuild_held(RebuildRequest(self._date, (self._stream,)), self._stream, self._settings, self._clock)
            else:
                old = [file.path for file in self._files()]
                rewrite_files(self._settings, self._clock, self._stream, self._date, old, lambda _count: None)
        except L2Error as error:
            return f"not healed: {error.message}"
        except OSError as error:
            return f"not healed: {error.filename}: {error.strerror}"
        return ""

"""What the JSONL files hold of a stream and date, in sums and, where they differ, by key.

What does not belong here: the form of a record (file_kernels), rewriting files (replay/refile).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from l2_platform.clock import Clock
from l2_platform.market.events import Int64, TableBatch, UInt64
from l2_platform.quality.canonical import TextWords
from l2_platform.quality.file_rows import TABLES, RecordFile, Records, read_file, records_of
from l2_platform.quality.keys import ORDINAL_BITS, Rows, compare, joined
from l2_platform.quality.reconciled import KeyDifferences
from l2_platform.quality.sums import CHUNKS_MAX, Sums
from l2_platform.replay.projection import Projection
from l2_platform.settings import Settings
from l2_platform.sinks.quarantine import Quarantine


@dataclass(slots=True)
class FileSums:
    """Records of one kind: in sums, and of each symbol."""

    sums: Sums
    symbols: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Symbol → records, wrapping sum of their hashes."""
    unreadable: int = 0
    unreadable_named: list[str] = field(default_factory=list)

    def differing_symbols(self, other: "FileSums") -> set[str]:
        """Symbols of which either has something else."""
        return {name for name in self.symbols.keys() | other.symbols.keys() if self.symbols.get(name) != other.symbols.get(name)}


class JournalRecords:
    """Gathers what the files must hold, batch by batch."""

    def __init__(self, session_date: int, chunk_seqs: int) -> None:
        self.found = {table: FileSums(Sums(session_date, chunk_seqs)) for table in TABLES}
        self._counts = {table: (np.zeros(0, np.int64), np.zeros(0, np.uint64)) for table in TABLES}
        self._names: list[str] = []

    def add(self, batch: TableBatch, texts: TextWords) -> None:
        """Rows of a table that has files, those in quarantine left out."""
        records = records_of(batch, texts)
        self.found[batch.table].sums.add(records.seq, records.times, records.hashes)
        numbers = np.asarray(batch.columns["symbol"])
        numbers = numbers[numbers >= 0]
        rows, totals = self._counts[batch.table]
        if len(rows) < len(batch.symbols):
            more = len(batch.symbols) - len(rows)
            rows, totals = np.append(rows, np.zeros(more, np.int64)), np.append(totals, np.zeros(more, np.uint64))
        rows += np.bincount(numbers, minlength=len(rows))
        np.add.at(totals, numbers, records.hashes)
        self._counts[batch.table], self._names = (rows, totals), batch.symbols

    def finish(self) -> dict[str, FileSums]:
        """The sums, table → what was added."""
        for table, (rows, totals) in self._counts.items():
            used = np.flatnonzero(rows)
            values = zip(used.tolist(), rows[used].tolist(), totals[used].tolist(), strict=True)
            self.found[table].symbols = {self._names[number]: (count, total) for number, count, total in values}
        return self.found


def file_sums(files: Iterable[RecordFile], stream: str, session_date: int, settings: Settings) -> dict[str, FileSums]:
    """What the files hold, table → sums; OSError when one cannot be read."""
    bounds = settings.reconcile
    found = {table: FileSums(Sums(session_date, bounds.chunk_seqs)) for table in TABLES}
    for file in files:
        one = found[TABLES[file.kind]]
        rows, total = 0, np.zeros(1, np.uint64)
        for part in read_file(file, stream, bounds.read_bytes):
            one.sums.add(part.seq, part.times, part.hashes)
            rows += len(part.seq)
            total += part.hashes.sum(dtype=np.uint64)
            one.unreadable += part.bad_count
            room = bounds.keys - len(one.unreadable_named)
            one.unreadable_named += [f"{file.path.name}:{line}" for line in part.bad[: max(room, 0)]]
        if rows:
            one.symbols[file.symbol] = rows, int(total[0])
    return found


def search_files(
    settings: Settings, clock: Clock, quarantine: Quarantine, stream: str, session_date: int, files: list[RecordFile],
    journal: Mapping[str, FileSums], stored: Mapping[str, FileSums],
) -> dict[str, tuple[KeyDifferences, bool]]:  # fmt: skip
    """Keys that differ of each table whose sums do, and whether all were compared by key."""
    chosen: dict[str, _Chosen] = {}
    for table in TABLES:
        chunks = journal[table].sums.differing_chunks(stored[table].sums)
        if chunks or journal[table].differing_symbols(stored[table]):
            chosen[table] = _choose(journal[table], stored[table], chunks, settings.reconcile.rows_max)
    mine: dict[str, list[Rows]] = {table: [] for table in chosen}
    theirs: dict[str, list[Rows]] = {table: [] for table in chosen}
    texts = TextWords()
    for step in Projection(settings, clock, stream, session_date) if chosen else ():
        for batch in step.batches:
            if batch.table in chosen:
                mine[batch.table].append(chosen[batch.table].of_batch(quarantine.without_held(batch), texts, settings))
    for file in files:
        table = TABLES[file.kind]
        if table in chosen and file.symbol in chosen[table].symbols:
            for part in read_file(file, stream, settings.reconcile.read_bytes):
                theirs[table].append(chosen[table].of_records(part, settings))
    found = {}
    for table, one in chosen.items():
        difference = compare(joined(mine[table]), joined(theirs[table]), settings.reconcile.keys)
        difference.add(one.uncounted, settings.reconcile.keys)
        found[table] = difference, not one.uncounted.count
    return found


@dataclass(slots=True)
class _Chosen:
    """What is compared by key."""

    symbols: set[str]
    chunks: Int64
    uncounted: KeyDifferences
    """Of symbols for which there was no room: by numbers of records."""

    def of_batch(self, batch: TableBatch, texts: TextWords, settings: Settings) -> Rows:
        records = records_of(batch, texts)
        numbers = np.asarray(batch.columns["symbol"])
        named = np.array([name in self.symbols for name in batch.symbols], np.bool_)
        return self._rows(records, named[numbers[numbers >= 0]], settings)

    def of_records(self, records: Records, settings: Settings) -> Rows:
        return self._rows(records, np.ones(len(records.seq), np.bool_), settings)

    def _rows(self, records: Records, mask: "np.ndarray[tuple[int], np.dtype[np.bool_]]", settings: Settings) -> Rows:
        chunk: UInt64 = np.minimum(records.seq // np.uint64(settings.reconcile.chunk_seqs), CHUNKS_MAX - 1)
        pick = mask & np.isin(chunk, self.chunks)
        return Rows(records.seq[pick] << np.uint64(ORDINAL_BITS), records.hashes[pick])


def _choose(journal: FileSums, stored: FileSums, chunks: list[int], rows_max: int) -> _Chosen:
    """As many of the symbols that differ as there is room for, those with few records first."""
    chosen = _Chosen(set(), np.array(chunks, np.int64), KeyDifferences())
    room = rows_max
    counts = {
        name: (journal.symbols.get(name, (0, 0))[0], stored.symbols.get(name, (0, 0))[0]) for name in journal.differing_symbols(stored)
    }
    for name, (mine, theirs) in sorted(counts.items(), key=lambda item: (sum(item[1]), item[0])):
        room -= mine + theirs
        if room >= 0:
            chosen.symbols.add(name)
        else:
            same = int(mine == theirs)
            chosen.uncounted.add(KeyDifferences(max(mine - theirs, 0), max(theirs - mine, 0), 0, same), 0)
    return chosen

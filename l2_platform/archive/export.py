"""Rows of a closed session date out of the warehouse into Parquet: exact, verified before they count, and the same when done again.

Rows stream in batches; memory does not grow with the day. New parts are written under temporary names, synced, read again and compared
with what the warehouse gave; then the manifest is replaced, which is the moment they count. What does not belong here: names (layout),
the hash (content).
"""

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from l2_platform.archive.content import ContentHash
from l2_platform.archive.layout import (
    MANIFEST_NAME,
    PART_NAME,
    TEMPORARY_PREFIX,
    Manifest,
    Part,
    partition_folder,
    read_manifest,
)
from l2_platform.clock import Clock
from l2_platform.errors import ArchiveError, DateBusy, InputError, JournalError
from l2_platform.journal.headers import end_of_date
from l2_platform.journal.layout import source_of
from l2_platform.market.sessions import load_calendar
from l2_platform.monitoring.atomic import write_atomic
from l2_platform.monitoring.changed_dates import changes_of, forget, note_change
from l2_platform.monitoring.leases import ALL_STREAMS, date_lease
from l2_platform.settings import Settings
from l2_platform.warehouse.arrow import ARROW_SETTINGS, ArrowColumn, arrow_columns, selection
from l2_platform.warehouse.queries import TABLES, delivered_seqs

MARKET_VIEW_COLUMNS: Final = frozenset({"stream", "session_date", "symbol", "source", "ts_begin"})
"""A view with these is archived too: bars of dates whose trades left the warehouse."""

Progress = Callable[[str, int], None]
"""Called with `table stream` and how many rows were written since the last call."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What came of one (table, session date, stream)."""

    manifest: Manifest
    changed: bool
    """False: the archive had exactly these rows."""


def export_date(
    client: Client, settings: Settings, clock: Clock, session_date: date, *, stream: str | None = None, table: str | None = None,
    progress: Progress = lambda _what, _rows: None,
) -> list[Exported]:
    """Archive every stream and table of a session date (or those named), each on its own.

    InputError when the date is not over, the delivery is behind its journal, or there is nothing; DateBusy when it is being changed;
    ArchiveError when the disk refuses. What was archived before stays as it was in each case. A whole date is archived when nobody changes
    any stream of it, and then no longer among the changed ones.
    """
    _check_over(settings, clock, session_date)
    whole = table is None and stream is None
    # of a whole date nobody may be about to write: a partition whose first rows come now is not found yet, and its change is noted already
    try:
        with date_lease(settings.run_dir, ALL_STREAMS, _number(session_date), "archive") if whole else nullcontext():
            changes = changes_of(settings.run_dir, _number(session_date))
            found = partitions(client, settings.clickhouse.database, session_date)
    except DateBusy:
        # what it waits for may come to nothing and note no change: a date that was closed is archived later all the same
        note_change(settings.run_dir, _number(session_date), clock.now_ns())
        raise
    wanted = [(name, of) for name, of in found if table in (None, name) and stream in (None, of)]
    if not wanted:
        raise InputError(_nothing(found, session_date, stream, table))
    _check_delivered(client, settings, session_date, {of for _, of in wanted})
    exported = []
    for of in sorted({of for _, of in wanted}):
        with date_lease(settings.run_dir, of, _number(session_date), "archive"):
            exported += [
                export_partition(client, settings, clock, name, session_date, of, progress) for name, other in wanted if other == of
            ]
    if whole:
        forget(changes)
    return exported


def partitions(client: Client, database: str, session_date: date) -> list[tuple[str, str]]:
    """(table or view, stream) that have rows of a session date in the warehouse."""
    day = {"day": session_date}
    sources = [*TABLES, *market_views(client, database)]
    queries = [
        f"SELECT '{name}' AS name, stream FROM {database}.{name} WHERE session_date = {{day:Date}} GROUP BY stream"  # noqa: S608 - names are ours
        for name in sources
    ]
    rows = client.query(" UNION ALL ".join(queries), parameters=day).result_rows
    return sorted((str(name), str(stream)) for name, stream in rows)


def recorded_days(client: Client, database: str, first: date, last: date) -> list[date]:
    """Session dates with rows in any table between two dates, both included."""
    sql = """
        SELECT DISTINCT toDate32(substring(partition, 3, 10)) FROM system.parts
        WHERE active AND database = {database:String} AND table IN {tables:Array(String)} ORDER BY 1"""
    rows = client.query(sql, parameters={"database": database, "tables": list(TABLES)}).result_rows
    return [day for (day,) in rows if first <= day <= last]


def market_views(client: Client, database: str) -> list[str]:
    """Views of bars, by name."""
    sql = """
        SELECT table, groupArray(name) FROM system.columns WHERE database = {database:String} AND table IN
        (SELECT name FROM system.tables WHERE database = {database:String} AND engine = 'View') GROUP BY table ORDER BY table"""
    rows = client.query(sql, parameters={"database": database}).result_rows
    return [str(table) for table, names in rows if set(names) >= MARKET_VIEW_COLUMNS]


def export_partition(
    client: Client, settings: Settings, clock: Clock, table: str, session_date: date, stream: str, progress: Progress
) -> Exported:
    """Archive one (table, session date, stream), which has rows; ArchiveError, and nothing changed, when that fails."""
    folder = partition_folder(settings.archive_dir, table, session_date, stream)
    columns = arrow_columns(client, settings.clickhouse.database, table)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        writing = _PartWriter(folder, settings.archive.part_rows_max, settings.archive.compression_level)
        try:
            for batch in stream_rows(client, settings, table, columns, session_date, stream):
                writing.write(batch)
                progress(f"{table} {stream}", batch.num_rows)
            writing.close()
            return _publish(settings, clock, folder, table, session_date, stream, columns, writing)
        finally:
            writing.discard()
    except OSError as error:
        raise ArchiveError(
            f"{table} of {session_date} ({stream}) was not archived: {error.strerror or error} ({folder}); what was archived before is "
            "unchanged, mend that and run the same again"
        ) from error
    except ClickHouseError as error:
        raise ArchiveError(f"{table} of {session_date} ({stream}) was not archived: the warehouse says: {str(error)[:300]}") from error


def stream_rows(
    client: Client, settings: Settings, table: str, columns: list[ArrowColumn], session_date: date, stream: str, *, place: str = ""
) -> Iterator[Any]:
    """Record batches of one partition in key order; `place`: of another table of the same kind (full name)."""
    shape = TABLES.get(table)
    order = "symbol, source, ts_begin" if shape is None else shape.key if shape.key != "seq" else "symbol, seq"
    sql = (
        f"SELECT {selection(columns)} FROM {place or f'{settings.clickhouse.database}.{table}'}"  # noqa: S608 - names are ours
        f" WHERE session_date = {{day:Date}} AND stream = {{stream:String}} ORDER BY {order}"
    )
    options = ARROW_SETTINGS | {"max_block_size": settings.archive.batch_rows, "max_threads": 2}
    with client.query_arrow_stream(sql, parameters={"day": session_date, "stream": stream}, settings=options) as batches:
        yield from batches


def read_parts(folder: Path, manifest: Manifest, batch_rows: int) -> Iterator[Any]:
    """Record batches of archived rows in order; ArchiveError when a part is missing or damaged."""
    for part in manifest.parts:
        path = folder / part.file
        try:
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(batch_size=batch_rows)
        except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
            raise ArchiveError(f"{path}: cannot be read ({str(error)[:200]}); archive the date again, or restore the file") from None


def verify(settings: Settings, manifest: Manifest) -> None:
    """Read every row of an archived partition again; ArchiveError when it is not what the manifest says."""
    folder = partition_folder(settings.archive_dir, manifest.table, manifest.session_date, manifest.stream)
    content = ContentHash()
    for batch in read_parts(folder, manifest, settings.archive.batch_rows):
        content.update(batch)
    if content.hexdigest() != manifest.content_sha256:
        raise ArchiveError(
            f"{folder}: {content.rows} rows that are not the {manifest.rows} rows of the manifest (other hash): archive the date again "
            "while the warehouse has it (`l2 archive`), or restore the files"
        )


class _PartWriter:
    """Record batches into Parquet files of bounded size under temporary names."""

    def __init__(self, folder: Path, part_rows_max: int, compression_level: int) -> None:
        self.content = ContentHash()
        self.parts: list[tuple[Path, int]] = []
        self.symbols: dict[str, int] = {}
        self._folder = folder
        self._rows_max = part_rows_max
        self._level = compression_level
        self._writer: Any = None

    def write(self, batch: Any) -> None:
        """Add rows."""
        self.content.update(batch)
        for entry in batch.column("symbol").value_counts().to_pylist():
            self.symbols[entry["values"]] = self.symbols.get(entry["values"], 0) + entry["counts"]
        if self._writer is None or self.parts[-1][1] >= self._rows_max:
            self._begin(batch.schema)
        self._writer.write_batch(batch)
        path, rows = self.parts[-1]
        self.parts[-1] = (path, rows + batch.num_rows)

    def close(self) -> None:
        """End the last file."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()
            _sync(self.parts[-1][0])

    def discard(self) -> None:
        """Remove what has a temporary name still."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            with suppress(OSError):  # the disk that refused the rows refuses the footer too
                writer.close()
        for path, _ in self.parts:
            path.unlink(missing_ok=True)

    def _begin(self, schema: Any) -> None:
        self.close()
        path = self._folder / f"{TEMPORARY_PREFIX}{len(self.parts):04d}.{os.getpid()}"
        self.parts.append((path, 0))
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", compression_level=self._level)


def _publish(
    settings: Settings, clock: Clock, folder: Path, table: str, session_date: date, stream: str, columns: list[ArrowColumn],
    writing: _PartWriter,
) -> Exported:  # fmt: skip
    """Compare what is on the disk with what was read, then let it count."""
    digest = writing.content.hexdigest()
    before = read_manifest(folder) if (folder / MANIFEST_NAME).exists() else None
    kinds = tuple((column.name, column.kind) for column in columns)
    same = before is not None and (before.content_sha256, before.columns) == (digest, kinds)
    if before is not None and same and all(_has(folder, part) for part in before.parts):
        return Exported(before, changed=False)
    parts = tuple(
        Part(f"part-{number:04d}-{digest[:12]}.parquet", rows, path.stat().st_size)
        for number, (path, rows) in enumerate(writing.parts)
    )
    written = Manifest(
        table, session_date, stream, source_of(stream), writing.content.rows, digest, kinds, parts, writing.symbols, clock.now_ns()
    )
    again = ContentHash()
    temporary = Manifest(**{**_fields(written), "parts": tuple(Part(path.name, rows, 0) for path, rows in writing.parts)})
    for batch in read_parts(folder, temporary, settings.archive.batch_rows):
        again.update(batch)
    if again.hexdigest() != digest:
        raise ArchiveError(f"{folder}: what was written reads back differently; nothing was changed. Is the disk healthy?")
    for (path, _), part in zip(writing.parts, parts, strict=True):
        path.replace(folder / part.file)
    _sync(folder)
    write_atomic(folder / MANIFEST_NAME, written.encode(), sync=True)
    _sweep(folder)
    return Exported(written, changed=True)


def _fields(manifest: Manifest) -> dict[str, Any]:
    return {name: getattr(manifest, name) for name in Manifest.__dataclass_fields__}


def _has(folder: Path, part: Part) -> bool:
    path = folder / part.file
    return path.is_file() and path.stat().st_size == part.size


def _sweep(folder: Path) -> None:
    """Remove parts that no manifest names: of an export that was cut off, or replaced."""
    manifest = read_manifest(folder)
    named = {part.file for part in manifest.parts} if manifest is not None else set()
    for path in folder.iterdir():
        if path.name.startswith(TEMPORARY_PREFIX) or (PART_NAME.fullmatch(path.name) and path.name not in named):
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _check_over(settings: Settings, clock: Clock, session_date: date) -> None:
    """A date that still runs gets more rows: InputError."""
    calendar = load_calendar(settings.calendar_name, settings.session.roll_margin_s)
    now = calendar.session_date_of(clock.now_ns())
    if _number(session_date) >= now:
        what = "is still running" if _number(session_date) == now else "lies in the future"
        raise InputError(f"session date {session_date} {what}: a date is archived when it is over")


def _check_delivered(client: Client, settings: Settings, session_date: date, streams: set[str]) -> None:
    """A live stream whose delivery has not reached the end of its journal would be archived in part: InputError."""
    delivered = delivered_seqs(client, settings.clickhouse.database, session_date)
    for stream in sorted(streams):
        if source_of(stream) != "live":
            continue
        try:
            end = end_of_date(settings.journal_dir, stream, _number(session_date), settings.run_dir / "durable" / stream)
        except JournalError:
            continue  # `l2 journal verify` tells it; the rows that there are can be archived
        if end is not None and delivered.get(stream, 0) < end.last_seq:
            raise InputError(
                f"{stream} of {session_date}: the warehouse has {delivered.get(stream, 0):,} of {end.last_seq:,} lines; nothing was "
                "archived. Wait until the delivery has caught up (`l2 status`), then run the same again"
            )


def _nothing(found: list[tuple[str, str]], session_date: date, stream: str | None, table: str | None) -> str:
    if not found:
        return f"the warehouse has no rows of session date {session_date}; `l2 sql` shows what there is"
    streams, tables = sorted({of for _, of in found}), sorted({name for name, _ in found})
    asked = f"{table or 'every table'} of {stream or 'every stream'}"
    return f"no rows of {asked} on {session_date}; there are {', '.join(tables)} of {', '.join(streams)}"


def _number(day: date) -> int:
    return day.year * 10_000 + day.month * 100 + day.day

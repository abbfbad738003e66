"""Archived rows back into the warehouse, where a partition of a session date is empty: all of it in one step, compared before it counts.

Rows keep their `source`. What does not belong here: rows that the journal still has (`l2 rebuild`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Final

import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from l2_platform.archive.content import ContentHash
from l2_platform.archive.export import read_parts, stream_rows
from l2_platform.archive.layout import Manifest, list_archived, partition_folder
from l2_platform.errors import ArchiveError, InputError, L2Error
from l2_platform.monitoring.leases import date_lease
from l2_platform.settings import Settings
from l2_platform.warehouse.arrow import arrow_columns
from l2_platform.warehouse.queries import TABLES

RESTORED: Final = "restored"
PRESENT: Final = "present"
FAILED: Final = "failed"

Progress = Callable[[str, int], None]
"""Called with `table stream` and how many rows were written since the last call."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of one (table, stream) of a date."""

    manifest: Manifest
    state: str
    """restored, present (the warehouse has rows of it: left alone) or failed."""
    message: str = ""


def restore_date(
    client: Client, settings: Settings, session_date: date, *, stream: str | None = None, progress: Progress = lambda *_: None
) -> list[Restored]:
    """Restore every archived table and stream of a session date; one that fails does not stop the others.

    InputError when nothing of the date is archived; DateBusy when it is being changed.
    """
    found = [
        manifest for manifest in list_archived(settings.archive_dir, None, session_date, session_date)
        if manifest.table in TABLES and stream in (None, manifest.stream)
    ]  # fmt: skip
    if not found:
        raise InputError(f"nothing of session date {session_date} is archived in {settings.archive_dir}; `l2 archive` lists what is")
    results = []
    for of in sorted({manifest.stream for manifest in found}):
        with date_lease(settings.run_dir, of, session_date.year * 10_000 + session_date.month * 100 + session_date.day, "restore"):
            results += [_restore(client, settings, manifest, progress) for manifest in found if manifest.stream == of]
    return results


def _restore(client: Client, settings: Settings, manifest: Manifest, progress: Progress) -> Restored:
    try:
        if _rows(client, settings, manifest):
            return Restored(manifest, PRESENT)
        _fill(client, settings, manifest, progress)
    except ClickHouseError as error:
        return Restored(manifest, FAILED, f"the warehouse says: {str(error)[:300]}")
    except L2Error as error:
        return Restored(manifest, FAILED, error.message)
    return Restored(manifest, RESTORED)


def _rows(client: Client, settings: Settings, manifest: Manifest) -> int:
    sql = (
        f"SELECT count() FROM {settings.clickhouse.database}.{manifest.table}"  # noqa: S608 - names are ours
        " WHERE session_date = {day:Date} AND stream = {stream:String}"
    )
    return int(client.query(sql, parameters={"day": manifest.session_date, "stream": manifest.stream}).result_rows[0][0])


def _fill(client: Client, settings: Settings, manifest: Manifest, progress: Progress) -> None:
    """Into a table beside the live one, compared with the manifest, then its partition moves in one step."""
    database, beside = settings.clickhouse.database, f"{settings.clickhouse.database}_restore"
    live = f"{database}.{manifest.table}"
    staging = f"{manifest.table}--{manifest.session_date:%Y%m%d}--{manifest.stream}"
    computed = {column.name for column in arrow_columns(client, database, manifest.table) if column.computed}
    client.command(f"CREATE DATABASE IF NOT EXISTS {beside}")
    client.command(f"DROP TABLE IF EXISTS {beside}.`{staging}` SYNC")
    client.command(f"CREATE TABLE {beside}.`{staging}` AS {live}")
    try:
        folder = partition_folder(settings.archive_dir, manifest.table, manifest.session_date, manifest.stream)
        for batch in read_parts(folder, manifest, settings.archive.batch_rows):
            rows = pa.Table.from_batches([batch]).drop_columns([name for name in computed if name in batch.schema.names])
            client.insert_arrow(f"`{staging}`", rows, database=beside, settings={"async_insert": 0, "insert_deduplicate": 0})
            progress(f"{manifest.table} {manifest.stream}", batch.num_rows)
        _compare(client, settings, manifest, f"{beside}.`{staging}`")
        if _rows(client, settings, manifest):
            raise ArchiveError(f"{live} of {manifest.session_date} got rows meanwhile; nothing was restored")
        partition = f"('{manifest.session_date.isoformat()}', '{manifest.stream}')"
        client.command(f"ALTER TABLE {live} REPLACE PARTITION {partition} FROM {beside}.`{staging}`")
    finally:
        client.command(f"DROP TABLE IF EXISTS {beside}.`{staging}` SYNC")


def _compare(client: Client, settings: Settings, manifest: Manifest, place: str) -> None:
    """What the warehouse took is what was archived; ArchiveError otherwise."""
    names = [name for name, _ in manifest.columns]
    columns = {column.name: column for column in arrow_columns(client, settings.clickhouse.database, manifest.table)}
    content = ContentHash()
    chosen = [columns[name] for name in names if name in columns]
    for batch in stream_rows(client, settings, manifest.table, chosen, manifest.session_date, manifest.stream, place=place):
        content.update(batch)
    if content.hexdigest() != manifest.content_sha256:
        raise ArchiveError(
            f"{manifest.table} of {manifest.session_date} ({manifest.stream}): the rows read back differently from the archived ones; "
            "nothing was restored. `l2 archive DATE --verify` tells whether the files are damaged"
        )

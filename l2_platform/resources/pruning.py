"""Removes what Dagster keeps for ever: ended runs with their logs, ticks, and events that belong to no run.

Dagster itself only purges ticks. What the pages show stays: the newest materialization of each asset and partition with its run, the
newest evaluation of each check, the newest runless event of each kind. Written against the storage schema of the pinned version; works
on SQLite and PostgreSQL. Each call removes a bounded number, the next one goes on. What does not belong here: when it runs (sensors).
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import dagster as dg
import sqlalchemy as sa
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, AssetEventTagsTable
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable as EventsTable
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage
from dagster._core.storage.runs.schema import RunsTable, RunTagsTable
from dagster._core.storage.schedules.schema import JobTickTable

from l2_platform.settings import DagsterSettings

RUNLESS: Final = ""
"""Run id of events that were reported without a run."""
ENDED: Final = ("SUCCESS", "FAILURE", "CANCELED")
UNEVENTFUL: Final = timedelta(days=1)
"""Ticks that asked for nothing are kept so long."""
CHUNK: Final = 500
"""Rows of one statement: below SQLite's limit of variables."""
VACUUM_BYTES: Final = 16 << 20
"""A SQLite file is written anew when at least so much, and a quarter of it, is free, bytes."""


@dataclass(slots=True)
class Pruned:
    """What one call removed."""

    runs: int = 0
    runs_kept: int = 0
    """Old runs that hold the newest evidence about an asset and partition."""
    events: int = 0
    evaluations: int = 0
    ticks: int = 0
    bytes_before: int = 0
    """Size of SQLite files; 0 on PostgreSQL, which reuses the room by itself."""
    bytes_after: int = 0
    complete: bool = True
    """False: a bound was reached, the next call goes on."""


def prune(instance: dg.DagsterInstance, now_ns: int, bounds: DagsterSettings) -> Pruned:
    """Remove what is older than the settings say; SQLAlchemy errors as they are (a locked or lost storage), safe to call again."""
    now = datetime.fromtimestamp(now_ns // 10**9, UTC)
    runs_before, events_before = now - timedelta(days=bounds.keep_runs_days), now - timedelta(days=bounds.keep_events_days)
    found = Pruned(bytes_before=_sqlite_bytes(instance))
    _prune_runs(instance, runs_before, bounds.prune_runs_max, found)
    storage: Any = instance.event_log_storage
    with storage.index_connection() as conn:
        left = bounds.prune_rows_max
        found.events = _prune_events(conn, events_before, left)
        found.evaluations = _prune_evaluations(conn, events_before, left - found.events)
    if isinstance(storage, SqliteEventLogStorage):
        with storage.run_connection(RUNLESS) as conn:  # SQLite keeps runless events twice: here and in the index
            _prune_shard(conn, events_before, bounds.prune_rows_max)
    found.complete &= found.events + found.evaluations < bounds.prune_rows_max
    found.ticks = _prune_ticks(instance, runs_before, now - UNEVENTFUL, bounds.prune_rows_max)
    _give_room_back(instance)
    found.bytes_after = _sqlite_bytes(instance)
    return found


def _prune_runs(instance: dg.DagsterInstance, before: datetime, runs_max: int, found: Pruned) -> None:
    run_storage: Any = instance.run_storage
    old = sa.select(RunsTable.c.run_id).where(RunsTable.c.status.in_(ENDED), RunsTable.c.update_timestamp < _naive(before))
    with run_storage.connect() as conn:
        ids = [str(run_id) for (run_id,) in conn.execute(old.order_by(RunsTable.c.id))]
    evidence = _runs_with_evidence(instance)
    unwanted = [run_id for run_id in ids if run_id not in evidence]
    found.runs_kept = len(ids) - len(unwanted)
    found.complete &= len(unwanted) <= runs_max
    for run_id in unwanted[:runs_max]:
        _delete_run(instance, run_id)
        found.runs += 1


def _runs_with_evidence(instance: dg.DagsterInstance) -> set[str]:
    """Runs with the newest materialization of an asset and partition, or the newest evaluation of a check."""
    storage: Any = instance.event_log_storage
    newest = sa.select(sa.func.max(EventsTable.c.id)).where(EventsTable.c.dagster_event_type == "ASSET_MATERIALIZATION")
    newest = newest.group_by(EventsTable.c.asset_key, EventsTable.c.partition)
    with storage.index_connection() as conn:
        made = conn.execute(sa.select(EventsTable.c.run_id).where(EventsTable.c.id.in_(newest)).distinct())
        found = {str(run_id) for (run_id,) in made}
        checks = AssetCheckExecutionsTable
        judged = conn.execute(sa.select(checks.c.run_id).where(checks.c.id.in_(_newest_evaluations())).distinct())
        return found | {str(run_id) for (run_id,) in judged}


def _delete_run(instance: dg.DagsterInstance, run_id: str) -> None:
    instance.delete_run(run_id)
    run_storage, storage = instance.run_storage, instance.event_log_storage
    with run_storage.connect() as conn:  # type: ignore[attr-defined]  # every SQL storage has it
        conn.execute(RunTagsTable.delete().where(RunTagsTable.c.run_id == run_id))  # SQLite does not cascade
    with storage.index_connection() as conn:  # type: ignore[attr-defined]
        conn.execute(AssetCheckExecutionsTable.delete().where(AssetCheckExecutionsTable.c.run_id == run_id))
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    if isinstance(storage, SqliteEventLogStorage):
        shard = Path(storage.path_for_shard(run_id))
        for path in (shard, shard.with_name(f"{shard.name}-wal"), shard.with_name(f"{shard.name}-shm")):
            path.unlink(missing_ok=True)


def _prune_events(conn: Any, before: datetime, rows_max: int) -> int:
    events = EventsTable
    newest = sa.select(sa.func.max(events.c.id)).where(events.c.asset_key.is_not(None))
    newest = newest.group_by(events.c.asset_key, events.c.dagster_event_type, events.c.partition)
    old = sa.select(events.c.id).where(
        events.c.run_id == RUNLESS, events.c.timestamp < _naive(before), events.c.id.not_in(newest)
    )
    ids = [row[0] for row in conn.execute(old.order_by(events.c.id).limit(rows_max))]
    for chunk in _chunks(ids):
        conn.execute(AssetEventTagsTable.delete().where(AssetEventTagsTable.c.event_id.in_(chunk)))
        conn.execute(events.delete().where(events.c.id.in_(chunk)))
    return len(ids)


def _prune_shard(conn: Any, before: datetime, rows_max: int) -> None:
    old = sa.select(EventsTable.c.id).where(EventsTable.c.timestamp < _naive(before)).order_by(EventsTable.c.id)
    for chunk in _chunks([row[0] for row in conn.execute(old.limit(rows_max))]):
        conn.execute(EventsTable.delete().where(EventsTable.c.id.in_(chunk)))


def _newest_evaluations() -> Any:
    checks = AssetCheckExecutionsTable
    return sa.select(sa.func.max(checks.c.id)).group_by(checks.c.asset_key, checks.c.check_name, checks.c.partition)


def _prune_evaluations(conn: Any, before: datetime, rows_max: int) -> int:
    checks = AssetCheckExecutionsTable
    old = sa.select(checks.c.id).where(
        checks.c.run_id == RUNLESS, checks.c.evaluation_event_timestamp < _naive(before), checks.c.id.not_in(_newest_evaluations())
    )
    ids = [row[0] for row in conn.execute(old.order_by(checks.c.id).limit(max(0, rows_max)))]
    for chunk in _chunks(ids):
        conn.execute(checks.delete().where(checks.c.id.in_(chunk)))
    return len(ids)


def _prune_ticks(instance: dg.DagsterInstance, before: datetime, uneventful_before: datetime, rows_max: int) -> int:
    """Old ticks; those that asked for nothing go with the events. Dagster's own retention looks after every tick: a tenth of its work."""
    storage: Any = instance.schedule_storage
    uneventful = JobTickTable.c.status == TickStatus.SKIPPED.value
    outdated = (JobTickTable.c.timestamp < _naive(before)) | (uneventful & (JobTickTable.c.timestamp < _naive(uneventful_before)))
    old = sa.select(JobTickTable.c.id).where(outdated).order_by(JobTickTable.c.id)
    with storage.connect() as conn:
        ids = [row[0] for row in conn.execute(old.limit(rows_max))]
        for chunk in _chunks(ids):
            conn.execute(JobTickTable.delete().where(JobTickTable.c.id.in_(chunk)))
    return len(ids)


def _chunks(ids: Sequence[int]) -> list[Sequence[int]]:
    return [ids[begin : begin + CHUNK] for begin in range(0, len(ids), CHUNK)]


def _naive(moment: datetime) -> datetime:
    """Storage keeps UTC without saying so."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def _sqlite_files(instance: dg.DagsterInstance) -> list[Path]:
    storage = instance.event_log_storage
    if not isinstance(storage, SqliteEventLogStorage):
        return []
    return sorted(Path(storage.path_for_shard("index")).parent.glob("*.db"))


def _sqlite_bytes(instance: dg.DagsterInstance) -> int:
    return sum(path.stat().st_size for path in _sqlite_files(instance))


def _give_room_back(instance: dg.DagsterInstance) -> None:
    """Write a SQLite file anew when much of it is free; a file that is in use stays as it is until the next time."""
    for path in _sqlite_files(instance):
        if path.stat().st_size < VACUUM_BYTES:
            continue
        connection = sqlite3.connect(path, timeout=5)
        try:
            page, free = (int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_size", "freelist_count"))
            if page * free >= max(VACUUM_BYTES, path.stat().st_size // 4):
                connection.execute("VACUUM")
        except sqlite3.OperationalError:
            continue
        finally:
            connection.close()

"""The Dagster code location: the only place where all parts meet.

`build_definitions` assembles the same for production and for tests; `defs` is what Dagster loads. Nothing here or below imports
great_expectations at module level (5 s, 200 MB in every process of Dagster).
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from l2_platform.assets.archive import build_archive_asset
from l2_platform.assets.backfill import build_backfill_asset, build_backfill_job, build_history_partitions
from l2_platform.assets.book_index import build_book_index_asset
from l2_platform.assets.close import build_close_asset, build_close_job
from l2_platform.assets.jobs import build_control_job, build_measure_job
from l2_platform.assets.journal import build_journal_asset
from l2_platform.assets.partitions import build_partitions
from l2_platform.assets.rebuild import build_rebuild_asset, build_rebuild_job
from l2_platform.assets.replay import build_replay_job
from l2_platform.assets.rollout import build_roll_job
from l2_platform.assets.tables import build_table_assets
from l2_platform.assets.worker_checks import build_worker_checks
from l2_platform.assets.workers import build_manager_spec, build_worker_specs, list_workers
from l2_platform.clock import SystemClock
from l2_platform.resources.history import HistoryResource
from l2_platform.resources.journal import JournalResource
from l2_platform.resources.process_manager import ProcessManagerResource
from l2_platform.resources.session_dates import SessionDatesResource
from l2_platform.resources.warehouse import WarehouseResource
from l2_platform.sensors.measuring import build_hourly_schedule, build_new_date_sensor
from l2_platform.sensors.supervisor import build_collector_supervisor
from l2_platform.settings import Settings, load_settings


def build_definitions(settings: Settings, overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """All assets, checks, jobs, sensors and schedules of one instance; `overrides` replaces resources by name, and `clock`."""
    replaced = dict(overrides or {})
    clock = replaced.pop("clock", SystemClock())
    workers = list_workers(settings)
    partitions = build_partitions(settings, clock.now_ns())
    collectors = [worker.asset_key for worker in workers if worker.is_collector]
    assets = [build_journal_asset(partitions, collectors)]
    if settings.clickhouse.enabled:
        store = [worker.asset_key for worker in workers if worker.name in {"warehouse", "deliver-clickhouse"}][-1]
        assets += build_table_assets(partitions, [dg.AssetKey("journal"), store])
    measure_day = build_measure_job(assets)
    jobs: list[Any] = [build_control_job(workers), build_roll_job(), measure_day, build_replay_job()]
    if settings.clickhouse.enabled:
        tables = [key for asset in assets for key in asset.keys if key != dg.AssetKey("journal")]
        assets = [*assets, build_archive_asset(partitions, tables, clock)]
        rebuilt, closed = build_rebuild_asset(partitions, [dg.AssetKey("journal")]), build_close_asset(partitions, tables)
        assets = [*assets, rebuilt, closed]
        jobs += [build_rebuild_job(rebuilt), build_close_job(closed)]
        backfilled = build_backfill_asset(build_history_partitions(settings, clock.now_ns()))
        assets, jobs = [*assets, backfilled], [*jobs, build_backfill_job(backfilled)]
    assets = [*assets, build_book_index_asset(partitions)]
    resources: dict[str, Any] = {
        "warehouse": WarehouseResource(settings=settings),
        "history": HistoryResource(settings=settings),
        "journal": JournalResource(settings=settings),
        "process_manager": ProcessManagerResource(settings=settings),
        "session_dates": SessionDatesResource(settings=settings),
    }
    return dg.Definitions(
        assets=[*build_worker_specs(workers, settings), build_manager_spec(settings), *assets],
        asset_checks=build_worker_checks(workers, settings, clock),
        jobs=jobs,
        sensors=[
            build_collector_supervisor(settings, workers, clock),
            build_new_date_sensor(settings, measure_day, partitions, clock),
        ],
        schedules=[build_hourly_schedule(settings, measure_day, partitions, clock)],
        resources={**resources, **replaced},
    )


defs = build_definitions(load_settings())

"""The Dagster code location: the only place where all parts meet.

`build_definitions` assembles the same for production and for tests; `defs` is what Dagster loads. Nothing here or below imports
great_expectations at module level (5 s, 200 MB in every process of Dagster).
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from l2_platform.assets.archive import build_archive_asset
from l2_platform.assets.backfill import build_backfill_asset, build_backfill_job, build_history_partitions
from l2_platform.assets.bars import build_bar_assets
from l2_platform.assets.book_index import build_book_index_asset
from l2_platform.assets.close import build_close_asset, build_close_job
from l2_platform.assets.gap_repairs import build_gap_repairs_asset, build_repair_job
from l2_platform.assets.jobs import build_control_job, build_measure_job
from l2_platform.assets.journal import build_journal_asset
from l2_platform.assets.partitions import build_partitions
from l2_platform.assets.platform_health import build_platform_health
from l2_platform.assets.proofs import build_proof_assets
from l2_platform.assets.rebuild import build_rebuild_asset, build_rebuild_job
from l2_platform.assets.replay import build_replay_job
from l2_platform.assets.reviews import build_dagster_storage, build_monthly_review, build_weekly_review
from l2_platform.assets.rollout import build_roll_job
from l2_platform.assets.table_checks import build_table_checks
from l2_platform.assets.tables import build_table_assets
from l2_platform.assets.universe import build_calendar_asset, build_universe_asset
from l2_platform.assets.weekly_audit import build_weekly_audit
from l2_platform.assets.worker_checks import build_worker_checks
from l2_platform.assets.workers import Worker, build_manager_spec, build_worker_specs, list_workers
from l2_platform.clock import Clock, SystemClock
from l2_platform.resources.history import HistoryResource
from l2_platform.resources.journal import JournalResource
from l2_platform.resources.process_manager import ProcessManagerResource
from l2_platform.resources.proofs import ProofsResource
from l2_platform.resources.repairs import RepairsResource
from l2_platform.resources.session_dates import SessionDatesResource
from l2_platform.resources.warehouse import WarehouseResource
from l2_platform.sensors.closing import build_unclosed_sensor
from l2_platform.sensors.measuring import build_hourly_schedule, build_new_date_sensor, build_symbols_sensor
from l2_platform.sensors.notifying import build_notifying_sensors
from l2_platform.sensors.proving import build_proving_sensor
from l2_platform.sensors.repairing import build_repair_sensor
from l2_platform.sensors.schedules import CLOSE_RUN_S_MAX, Plan, asset_job, build_schedule, close_cron
from l2_platform.sensors.supervisor import build_collector_supervisor
from l2_platform.settings import Settings, load_settings


def build_definitions(settings: Settings, overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """All assets, checks, jobs, sensors and schedules of one instance; `overrides` replaces resources by name, and `clock`."""
    replaced = dict(overrides or {})
    clock = replaced.pop("clock", SystemClock())
    workers = list_workers(settings)
    partitions = build_partitions(settings, clock.now_ns())
    measured = _measured_assets(settings, workers, partitions)
    checks = build_table_checks() if settings.clickhouse.enabled else []
    measure_day = build_measure_job(measured, checks)
    jobs: list[Any] = [build_control_job(workers), build_roll_job(), measure_day, build_replay_job()]
    assets, plans, sensors = [*measured], _plans_of_health(), list[dg.SensorDefinition]()
    judge = plans[0].job
    assets.append(build_dagster_storage(settings, clock))
    if settings.clickhouse.enabled:
        database = settings.clickhouse.database
        rebuilt = build_rebuild_asset(partitions, [dg.AssetKey("journal")], database)
        dated = _dated_assets(settings, partitions, measured, clock)
        assets += [rebuilt, *dated, build_universe_asset(settings, clock), build_calendar_asset(settings, clock)]
        assets += [build_weekly_review(settings), build_monthly_review(settings)]
        close_day = build_close_job(dated[0])
        jobs += [build_rebuild_job(rebuilt), close_day]
        backfilled = build_backfill_asset(build_history_partitions(settings, clock.now_ns()), database)
        assets, jobs = [*assets, backfilled], [*jobs, build_backfill_job(backfilled)]
        repaired = build_gap_repairs_asset(partitions, [dg.AssetKey("trades")], database)
        repair_gaps = build_repair_job(repaired)
        assets, jobs = [*assets, repaired], [*jobs, repair_gaps]
        sensors += [
            build_symbols_sensor(settings), build_unclosed_sensor(settings, partitions, clock),
            build_repair_sensor(settings, repair_gaps, partitions, clock),
        ]  # fmt: skip
        tables = [dg.AssetKey(name) for name in names_of(measured) if name != "journal"]
        proofs = build_proof_assets(partitions, tables, database)
        assets += [*proofs, build_weekly_audit(database)]
        books = ["book_index"] if any("-depth-" in stream for stream in settings.streams) else []
        plans += _plans_of_days(settings, [*names_of(measured), "closed_day", *books, "archive"], checks, clock)
        plans += _plans_of_proofs(names_of(proofs), checks)
        sensors.append(build_proving_sensor([_job(plans, "daily_close"), close_day], _job(plans, "daily_proofs")))
    assets.append(build_book_index_asset(partitions, [dg.AssetKey("closed_day")] if settings.clickhouse.enabled else []))
    promised = [key for judged in [*assets, *checks] for key in judged.check_keys]
    assets.append(build_platform_health(settings, workers, promised, clock))
    resources: dict[str, Any] = {
        "warehouse": WarehouseResource(settings=settings),
        "history": HistoryResource(settings=settings),
        "journal": JournalResource(settings=settings),
        "process_manager": ProcessManagerResource(settings=settings),
        "proofs": ProofsResource(settings=settings),
        "repairs": RepairsResource(settings=settings),
        "session_dates": SessionDatesResource(settings=settings),
    }
    return dg.Definitions(
        assets=[*build_worker_specs(workers, settings), build_manager_spec(settings), *assets],
        asset_checks=[*build_worker_checks(workers, settings, clock), *checks],
        jobs=[*jobs, *(plan.job for plan in plans)],
        sensors=[
            build_collector_supervisor(settings, workers, clock),
            build_new_date_sensor(settings, measure_day, judge, partitions, clock),
            *build_notifying_sensors(settings, clock),
            *sensors,
        ],
        schedules=[
            build_hourly_schedule(settings, measure_day, partitions, clock),
            *(build_schedule(plan, settings, partitions, clock) for plan in plans),
        ],
        resources={**resources, **replaced},
    )


def _measured_assets(
    settings: Settings, workers: list[Worker], partitions: dg.DailyPartitionsDefinition
) -> list[dg.AssetsDefinition]:
    """Journal, tables and bars: what job `measure_day` looks at, in the order of the flow."""
    assets = [build_journal_asset(partitions, [worker.asset_key for worker in workers if worker.is_collector])]
    if settings.clickhouse.enabled:
        store = [worker.asset_key for worker in workers if worker.name in {"warehouse", "deliver-clickhouse"}][-1]
        deps, database = [dg.AssetKey("journal"), store], settings.clickhouse.database
        assets += build_table_assets(partitions, deps, database, settings.delivery.lag_lines_max)
        assets += build_bar_assets(partitions, database)
    return assets


def _dated_assets(
    settings: Settings, partitions: dg.DailyPartitionsDefinition, measured: list[dg.AssetsDefinition], clock: Clock
) -> list[dg.AssetsDefinition]:
    """What is made of a session date that ended: closed first, then archived."""
    tables = [dg.AssetKey(name) for name in names_of(measured) if name != "journal"]
    closed = build_close_asset(partitions, tables, settings.clickhouse.database)
    archive = build_archive_asset(partitions, [*tables, *closed.keys], clock)
    return [closed, archive]


def names_of(assets: list[dg.AssetsDefinition]) -> list[str]:
    """Names of assets, in order."""
    return [key.to_user_string() for asset in assets for key in asset.keys]


def _plans_of_health() -> list[Plan]:
    health = "Judges every promise of the platform: see asset platform_health."
    pruning = "Removes Dagster's old runs, ticks and events, and gives their room back: see asset dagster_storage."
    return [
        Plan(
            "platform_health", "*/15 * * * *", "Every 15 minutes: judges every promise of the platform.",
            asset_job("judge_platform", ["platform_health"], health),
        ),
        Plan(
            "prune", "40 3 * * *", "Every night at 03:40: removes Dagster's old runs, ticks and events.",
            asset_job("prune", ["dagster_storage"], pruning),
        ),
    ]  # fmt: skip


def _plans_of_days(settings: Settings, closing: list[str], checks: list[dg.AssetChecksDefinition], clock: Clock) -> list[Plan]:
    margin = f"{settings.close.margin_s / 60:.0f} minutes after the session date ended"
    return [
        Plan(
            "daily_close", close_cron(settings, clock.now_ns()),
            f"{margin}: measures it, closes it (delivered, sealed, rebuilt where needed, recorded), indexes its books, archives it. "
            "Closed days: nothing.",
            asset_job(
                "daily_close", closing, "A date that ended: journal, tables, bars, closed_day, books, archive.", CLOSE_RUN_S_MAX, but=checks
            ),
            dated=True,
        ),
        Plan(
            "daily_records", "20 3 * * *", "03:20: records symbols that changed, and the sessions of the year ahead.",
            asset_job("daily_records", ["universe", "session_calendar"], "Symbols that are wanted, and the calendar a year ahead."),
        ),
        Plan(
            "weekly_review", "0 9 * * 6", "Saturdays 09:00: reads the journal of the week again, measures disk and tables.",
            asset_job("review_week", ["weekly_review"], "Every byte of the week's journal, and the room that is left.", CLOSE_RUN_S_MAX),
        ),
        Plan(
            "monthly_review", "0 10 1 * *", "The first of each month 10:00: growth of the stored data, and for how long there is room.",
            asset_job("review_month", ["monthly_review"], "Growth by session date, and the dates that are left."),
        ),
    ]  # fmt: skip


def _plans_of_proofs(proofs: list[str], checks: list[dg.AssetChecksDefinition]) -> list[Plan]:
    proving = "A closed date: gaps, stores (healed), completeness, checks, then the page and the health of each table."
    return [
        Plan(
            "daily_proofs", "30 3 * * *",
            "03:30: proves the last session date when sensor prove_closed_dates did not (its close failed). Closed days do nothing.",
            asset_job("daily_proofs", proofs, proving, CLOSE_RUN_S_MAX, also=checks), dated=True, made="day_report",
        ),
        Plan(
            "weekly_audit", "0 10 * * 0", "Sundays 10:00: judges every session date of the week again, with what was repaired.",
            asset_job("audit_week", ["weekly_audit"], "Every check over each session date of the week.", CLOSE_RUN_S_MAX),
        ),
    ]  # fmt: skip


def _job(plans: list[Plan], name: str) -> Any:
    return next(plan.job for plan in plans if plan.name == name)


defs = build_definitions(load_settings())

"""Asset `platform_health`: every promise of the platform with one verdict, a check each; red here is red on the first screen.

A run reads files, the newest evaluations and one small query; it never fails because something else is down. What does not belong here:
the rules (`operations/verdict.py`, `liveness.py`).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import dagster as dg
from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.exceptions import HTTPError

from l2_platform.assets.groups import OPERATE
from l2_platform.assets.liveness import rules_of
from l2_platform.assets.partitions import date_of
from l2_platform.assets.plots import table_at_once
from l2_platform.assets.worker_checks import limits_of
from l2_platform.assets.worker_facts import MANAGER, Facts, look
from l2_platform.assets.workers import OWNER, Worker
from l2_platform.clock import Clock
from l2_platform.errors import L2Error
from l2_platform.market.sessions import load_calendar
from l2_platform.operations.intents import read_intents
from l2_platform.operations.room import Room, measure_room
from l2_platform.operations.verdict import (
    Finding,
    Gap,
    Promise,
    judge_close,
    judge_daemons,
    judge_findings,
    judge_gaps,
    judge_room,
    verdict,
)
from l2_platform.quality.silence import gaps_now
from l2_platform.resources.closes import ended_dates, unclosed_dates
from l2_platform.resources.evidence import check_states, daemon_ages
from l2_platform.resources.warehouse import WarehouseResource
from l2_platform.settings import Settings
from l2_platform.warehouse.queries import bytes_of_dates

NAME: Final = "platform_health"
DAEMON_S_MAX: Final = 120.0
"""A daemon of Dagster that gave no sign of life for longer is dead (they beat every 30 s), s."""
PROMISES: Final = {
    "recording_works": "Every collector lives, follows its desired state, and no data goes missing now.",
    "delivery_works": "Every delivery lives, follows its desired state and is not far behind the journal.",
    "services_work": "Warehouse, sealer, process manager and simulated market live.",
    "checks_pass": "No other check of the catalog fails at its newest evaluation.",
    "dates_are_closed": "The session dates that ended last are closed.",
    "disk_has_room": "There is room above the reserve, and for the next session dates.",
    "dagster_works": "Every daemon of Dagster gives signs of life.",
    "no_gaps_today": "Nothing is missing on the running session date.",
}
"""Promise → what it says; each is an ERROR check."""


def build_platform_health(
    settings: Settings, workers: list[Worker], keys: Sequence[dg.AssetCheckKey], clock: Clock
) -> dg.AssetsDefinition:
    """The asset; schedule `platform_health` makes it every 15 minutes. `keys`: checks of the other assets."""

    @dg.asset(
        name=NAME,
        description=(
            "The verdict over the platform: recording, delivery, services, checks, daily close, disk, Dagster, today's gaps. Made every "
            "15 minutes; materialize it for a fresh look. When red: the failed check says what was seen and what to do."
        ),
        group_name=OPERATE, owners=[OWNER], kinds={"python"},
        check_specs=[dg.AssetCheckSpec(name, asset=NAME, description=text) for name, text in PROMISES.items()],
    )  # fmt: skip
    def platform_health(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # dagster rejects a parametrised result beside check specs
        promises = judge_platform(settings, workers, clock, warehouse, context.instance, keys)
        return dg.MaterializeResult(metadata=_metadata(promises), check_results=[_check(promise) for promise in promises])

    return platform_health


def judge_platform(
    settings: Settings,
    workers: list[Worker],
    clock: Clock,
    warehouse: WarehouseResource,
    instance: dg.DagsterInstance,
    keys: Iterable[dg.AssetCheckKey],
) -> list[Promise]:
    """Every promise, as it is kept now, in the order of the table."""
    now_ns = clock.now_ns()
    found = _worker_findings(settings, workers, look(settings, workers, read_intents(settings), now_ns), now_ns)
    own = {worker.asset_key for worker in workers} | {dg.AssetKey(NAME), dg.AssetKey(["services", "process_manager"])}
    others = check_states(instance, [key for key in keys if key.asset_key not in own])
    failing = [Finding(state.name, state.serious, state.message) for state in others if not state.passed]
    room, gaps, no_halts = _ask_warehouse(settings, warehouse, now_ns)
    return [
        judge_findings("recording_works", found["collect"], "Every collector does what is wanted."),
        judge_findings("delivery_works", found["deliver"], "Every delivery is in time."),
        judge_findings("services_work", found["serve"], "Every service lives."),
        judge_findings("checks_pass", failing, f"{len(others)} checks pass."),
        _closed(settings, instance, now_ns),
        judge_room(room, settings.dagster.room_dates, settings.disk.dates_min),
        judge_daemons(daemon_ages(instance, now_ns / 1e9), DAEMON_S_MAX),
        judge_gaps(gaps, settings.gaps, no_halts)
        if settings.clickhouse.enabled
        else Promise("no_gaps_today", True, "No tables, no ledger of gaps: `l2 gaps`."),
    ]


def _worker_findings(
    settings: Settings, workers: list[Worker], facts: Facts, now_ns: int
) -> dict[str, list[Finding]]:
    limits = limits_of(settings)
    found: dict[str, list[Finding]] = {"collect": [], "deliver": [], "serve": []}
    for worker in workers:
        place = "collect" if worker.is_collector else "deliver" if worker.follows else "serve"
        spec, pulse = facts.specs[worker.name], facts.pulses[worker.name]
        for name, rule in rules_of(spec).items():
            judged = rule(spec, pulse, limits, now_ns)
            if not judged.passed:
                found[place].append(Finding(f"{worker.name} {name}", judged.serious, judged.message))
    if not facts.manager.passed:
        found["serve"].append(Finding(MANAGER, facts.manager.serious, facts.manager.message))
    return found


def _closed(settings: Settings, instance: dg.DagsterInstance, now_ns: int) -> Promise:
    if not settings.clickhouse.enabled:
        return judge_close(0, [], now_ns, settings.close)
    ended = ended_dates(settings, now_ns)
    return judge_close(len(ended), unclosed_dates(settings, instance, now_ns), now_ns, settings.close)


Asked = tuple[Room, list[Gap] | None, str]
"""Sizes; unexplained gaps, None where the ledger cannot be read; why halts explain none that is open."""


def _ask_warehouse(settings: Settings, warehouse: WarehouseResource, now_ns: int) -> Asked:
    """Sizes and gaps; without the warehouse the files alone, and None."""
    calendar = load_calendar(settings.calendar_name, settings.session.roll_margin_s)
    today = date_of(calendar.session_date_of(now_ns))

    def ask() -> Asked:
        client = warehouse.client()
        try:
            sizes = bytes_of_dates(client, warehouse.database)
            found, no_halts = gaps_now(settings, client, today, now_ns)
        finally:
            client.close()
        gaps = [Gap(gap.stream, gap.ts_to is None, gap.seconds(now_ns), gap.cause) for gap in found if not gap.explanation]
        return _room(settings, sizes), gaps, no_halts

    return _or_files(ask, settings) if settings.clickhouse.enabled else (_room(settings, {}), None, "")


def _or_files(ask: Callable[[], Asked], settings: Settings) -> Asked:
    try:
        return ask()
    except (L2Error, ClickHouseError, HTTPError, ConnectionError):
        return _room(settings, {}), None, ""


def _room(settings: Settings, table_bytes: dict[int, int]) -> Room:
    """The newest dates only: this is looked at every 15 minutes, and old dates have hundreds of thousands of files."""
    return measure_room(settings, table_bytes, settings.dagster.room_dates + 1)


def _metadata(promises: list[Promise]) -> dict[str, dg.MetadataValue]:
    rows = [(promise.name, _word(promise), promise.seen) for promise in promises]
    return {
        "verdict": dg.MetadataValue.text(verdict(promises)),
        "promises": dg.MetadataValue.md(table_at_once(("promise", "now", "seen"), rows)),
        "promises_not_kept": dg.MetadataValue.int(sum(not promise.kept for promise in promises)),
        "serious": dg.MetadataValue.int(sum(not promise.kept and promise.serious for promise in promises)),
        "look": dg.MetadataValue.md("`l2 status` shows every process, `l2 doctor` the machine"),
    }


def _word(promise: Promise) -> str:
    return "kept" if promise.kept else "NOT KEPT" if promise.serious else "warning"


def _check(promise: Promise) -> dg.AssetCheckResult:
    severity = dg.AssetCheckSeverity.ERROR if promise.serious else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(check_name=promise.name, passed=promise.kept, severity=severity, description=promise.seen)

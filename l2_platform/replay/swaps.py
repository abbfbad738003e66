"""Swaps that an earlier run began and did not end are completed; staging tables that nobody will ever swap are dropped."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from l2_platform.clock import Clock
from l2_platform.errors import DateBusy, SinkError
from l2_platform.journal.frame import Position
from l2_platform.monitoring.leases import date_lease
from l2_platform.replay.rebuilt import StreamResult
from l2_platform.replay.staging import Plan, Staging, parts_of, quoted
from l2_platform.replay.warehouse_link import ADVICE, WarehouseLink
from l2_platform.settings import Settings

Step = Callable[[str], None]
BEGUN: Final = "the swap of the date was begun, some of its tables may be replaced already; the next run completes it"


def plan_of(result: StreamResult, position: Position, replace: list[str], empty: list[str]) -> Plan:
    """A plan that another process can complete."""
    return Plan(tuple(replace), tuple(empty), {"result": result.as_dict(), "position": list(position)})


def complete(
    link: WarehouseLink, staging: Staging, database: str, clock: Clock, step: Step = lambda _what: None
) -> StreamResult | None:
    """End the swap of a stream and date that was begun earlier; what that rebuild found, or None when there was none.

    The caller holds the date's lease.
    """
    plan = staging.read_ready()
    return None if plan is None else carry_out(link, staging, database, clock, plan, step, resumed=True)


def carry_out(
    link: WarehouseLink, staging: Staging, database: str, clock: Clock, plan: Plan, step: Step, *, resumed: bool
) -> StreamResult:
    """Swap, tell the live delivery's position, drop staging; `step` is told what is done next."""
    result = StreamResult.from_dict({**plan.facts["result"], "resumed": resumed})
    try:
        staging.swap(plan, step)
        step("moving the position")
        move_position(link, staging, database, clock, plan.facts)
        step("dropping staging")
        staging.drop()
    except SinkError as error:
        raise type(error)(error.message.replace(ADVICE, BEGUN), **error.facts) from None
    return result


def move_position(
    link: WarehouseLink, staging: Staging, database: str, clock: Clock, facts: Mapping[str, Any]
) -> None:
    """A delivery that asks (or a person) finds the date whole: the position is the journal's end, unless it is there already."""
    seq, symbols = int(facts["result"]["seq_last"]), facts["result"]["symbols"]
    if symbols or delivered_seq(link, staging, database) >= seq:
        return
    _, segment, offset = facts["position"]
    moment = datetime.fromtimestamp(clock.now_ns() / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    values = f"({quoted(staging.stream)}, {quoted(staging.date)}, {seq}, {int(segment)}, {int(offset)}, {quoted(moment)})"
    sql = f"INSERT INTO {database}.delivery_positions (stream, session_date, seq, segment, offset, ts) VALUES {values}"  # noqa: S608 - ours
    link.query(sql)


def delivered_seq(link: WarehouseLink, staging: Staging, database: str) -> int:
    """How far the date was delivered; 0 when the warehouse knows nothing of it."""
    sql = f"SELECT max(seq) FROM {database}.delivery_positions WHERE stream = {{stream:String}} AND session_date = {{date:Date}}"  # noqa: S608 - name is ours
    return int(link.query(sql, stream=staging.stream, date=staging.date)[0][0])


def sweep(link: WarehouseLink, settings: Settings, clock: Clock, but: Staging) -> None:
    """Complete or drop what runs of other streams and dates left, where nobody is at work; `but` is the caller's own."""
    database = settings.clickhouse.database
    left = {(stream, date) for stream, date, _ in parts_of(link, f"{database}_staging")}
    for stream, date in sorted(left - {(but.stream, but.session_date)}):
        try:
            with date_lease(settings.run_dir, stream, date, "rebuild"):
                staging = Staging(link, database, stream, date)
                if complete(link, staging, database, clock) is None:
                    staging.drop()
        except DateBusy:
            continue

"""A collector killed or cut off for a while, end to end: found, repaired without anyone asking, and no print that was sent is missing.

Scale: 1, 2, 5 cuts of 10, 90, 90 s of each kind (SIGKILL, refused link). A second recorder on the same market, which nothing happens
to, is the witness of what was sent. Judged: live and history together are the witness's prints, with equal TickIDs, sizes and times,
none twice; the sensor asks for the run by itself; the ledger says what came and what stays missing. Told: how long after its end a gap
was in the ledger, and how long after it its rows could be queried (by the sensor's decision and the job, without the daemon's wait).
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import dagster as dg
import pytest
from clickhouse_connect.driver.client import Client

from l2_platform.clock import SystemClock
from l2_platform.definitions import build_definitions
from l2_platform.market.events import NULL_TS
from l2_platform.quality.ledger import LedgerGap, load_gaps
from l2_platform.quality.repair import STREAM
from tests.faults.checkers import _rows_of, pipeline_rows
from tests.faults.conftest import Measured
from tests.faults.scale import scaled
from tests.faults.stack import (
    DEPTH,
    DEPTH_COLLECTOR,
    LEVEL1,
    LEVEL1_COLLECTOR,
    Stack,
    before_midnight,
    simulated,
    stack_of,
)
from tests.integration.stored import warehouse

pytestmark = [pytest.mark.integration, pytest.mark.timeout(7200)]
CUTS = scaled(1, 2, 5)
CUT_S = scaled(10, 90, 90)
NS = 10**9
MARKET = {"simulator__symbols": 20, "simulator__rate": 400}
OPEN = {"session__calendar": "always_open"}
"""Gaps outside trading are explained, and nobody repairs them: New York's calendar, which other tests take in the last hour, is closed."""
Print = tuple[str, int, int, int, int, int]
"""Symbol, time (ns), market centre, TickID, size, price (1e-9)."""


@pytest.fixture
def stack(market: Stack, tmp_path: Path, numba_cache: Path) -> Iterator[Stack]:
    before_midnight(180 + CUTS * (CUT_S + 60))
    with stack_of(tmp_path, numba_cache, market, repair__settle_s=1, **OPEN) as found:
        found.symbols(simulated(20))
        yield found


@pytest.fixture
def witness(market: Stack, tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[Stack]:
    with stack_of(tmp_path_factory.mktemp("witness"), numba_cache, market, **OPEN) as found:
        found.symbols(simulated(20))
        found.start(LEVEL1_COLLECTOR)
        found.live(LEVEL1_COLLECTOR)
        yield found


def prints_of_witness(witness: Stack, bases: frozenset[str] = frozenset("CEOS")) -> Counter[Print]:
    found: Counter[Print] = Counter()
    for table in pipeline_rows(witness.home, LEVEL1, "trades"):
        for row in _rows_of(table):
            assert row["ts_event"] != NULL_TS
            if chr(int(row["basis"])) not in bases:
                continue
            name = table.symbols[int(row["symbol"])]
            found[name, int(row["ts_event"]), int(row["market_center"]), int(row["tick_id"]), int(row["size"]), int(row["price"])] += 1
    return found


def prints_of_warehouse(client: Client) -> Counter[Print]:
    sql = """
        SELECT symbol, toUnixTimestamp64Nano(assumeNotNull(ts_event)), market_center, tick_id, size, toInt64(price * 1000000) * 1000
        FROM l2.trades"""
    return Counter(tuple(row) for row in client.query(sql).result_rows)


def bars_of_warehouse(client: Client) -> dict[tuple[str, int], tuple[int, int, int, int]]:
    """(symbol, second) → greatest and least price (1e-9), volume, prints, as the view has them; a second bar would be an error."""
    sql = """
        SELECT symbol, toUnixTimestamp(ts_begin), toInt64(high * 1000000) * 1000, toInt64(low * 1000000) * 1000, volume,
               trade_count FROM l2.bars_1s"""
    rows = client.query(sql).result_rows
    found = {(row[0], row[1]): (row[2], row[3], row[4], row[5]) for row in rows}
    assert len(found) == len(rows)
    return found


def bars_of(prints: Iterable[Print]) -> dict[tuple[str, int], tuple[int, int, int, int]]:
    """The same from prints."""
    groups: dict[tuple[str, int], list[Print]] = defaultdict(list)
    for one in prints:
        groups[one[0], one[1] // NS].append(one)
    return {
        key: (max(one[5] for one in group), min(one[5] for one in group), sum(one[4] for one in group), len(group))
        for key, group in groups.items()
    }  # fmt: skip


def closed_gap(stack: Stack, client: Client, stream: str, after_ns: int) -> tuple[LedgerGap, float]:
    """The gap that ended after a moment, and how long after its end it was seen in the ledger, s."""

    def look() -> tuple[LedgerGap, float] | None:
        now = SystemClock().now_ns()
        found = [gap for gap in load_gaps(client, "l2", stream=stream) if gap.state == "closed" and gap.ts_from >= after_ns]
        return (found[-1], (now - (found[-1].ts_to or now)) / NS) if found else None

    answer: tuple[LedgerGap, float] = stack.until(f"the gap of {stream} is in the ledger", look, 120)
    return answer


def ask_sensor(stack: Stack, instance: dg.DagsterInstance) -> list[Any]:
    """The runs that the sensor asks for now."""
    definitions = build_definitions(stack.home.settings)
    sensor = definitions.resolve_sensor_def("repair_closed_gaps")
    context = dg.build_sensor_context(instance=instance, definitions=definitions)
    return list(sensor.evaluate_tick(context).run_requests or [])


def repair(stack: Stack, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """What the daemon does: look at the sensor until it asks, then run the job."""
    (request, *_) = stack.until("the sensor asks for a repair", lambda: ask_sensor(stack, instance), 60)
    job = build_definitions(stack.home.settings).resolve_job_def("repair_gaps")
    return job.execute_in_process(partition_key=request.partition_key, instance=instance)


def cut(stack: Stack, how: str) -> None:
    """Nothing reaches the Level 1 collector for `CUT_S`."""
    if how == "killed":
        stack.end(LEVEL1_COLLECTOR)
        time.sleep(CUT_S)
        stack.start(LEVEL1_COLLECTOR)
    else:
        stack.market("refuse", channel="level1", seconds=CUT_S)
        (mine,) = [one["client"] for one in stack.market("status")["clients"] if one["channel"] == "level1"][1:]
        stack.market("drop", channel="level1", client=mine, how="rst")
        time.sleep(CUT_S)
    stack.live(LEVEL1_COLLECTOR)


@pytest.mark.parametrize("how", ["killed", "cut_off"])
def test_a_cut_is_found_and_repaired_without_anyone_asking(stack: Stack, witness: Stack, measured: Measured, how: str) -> None:
    # the witness watches every symbol by now
    first = SystemClock().now_ns()
    stack.start("warehouse")
    stack.live("warehouse")
    stack.start(LEVEL1_COLLECTOR, "deliver-clickhouse", "deliver-jsonl")
    stack.live(LEVEL1_COLLECTOR, "deliver-clickhouse", "deliver-jsonl")
    found_s, whole_s = [], []
    with warehouse(stack.home.settings) as client, dg.DagsterInstance.ephemeral() as instance:
        for _ in range(CUTS):
            time.sleep(2)
            begun = SystemClock().now_ns() - NS
            cut(stack, how)
            gap, seconds = closed_gap(stack, client, LEVEL1, begun)
            found_s.append(seconds)
            assert (gap.ts_to or 0) - gap.ts_from > CUT_S * NS * 0.9
            result = repair(stack, instance)
            if not result.get_asset_check_evaluations()[0].passed:
                # another gap closed while this one was being repaired
                result = repair(stack, instance)
            whole_s.append((SystemClock().now_ns() - (gap.ts_to or 0)) / NS)
            assert result.success
            (check,) = result.get_asset_check_evaluations()
            assert check.passed, check.description
            newest = next(one for one in load_gaps(client, "l2", stream=LEVEL1) if one.gap_id == gap.gap_id)
            assert (newest.repair_state, newest.residual) == ("repaired", "quotes have no history")
            assert newest.rows_recovered > 0
            assert ask_sensor(stack, instance) == []
        last = SystemClock().now_ns()
        # what was sent up to here has arrived by then
        time.sleep(1)
        stack.stop(LEVEL1_COLLECTOR)
        stack.stop("deliver-clickhouse")
        witness.stop(LEVEL1_COLLECTOR)
        stored, sent = prints_of_warehouse(client), prints_of_witness(witness)
        bars = bars_of_warehouse(client)
        # the session began before the recording did: that is a gap too
        recovered = sum(gap.rows_recovered for gap in load_gaps(client, "l2", stream=LEVEL1))
    inside = Counter({one: count for one, count in stored.items() if first <= one[1] <= last})
    expected = Counter({one: count for one, count in sent.items() if first <= one[1] <= last})
    assert inside == expected
    assert set(expected.values()) == {1}
    # seconds that lie wholly in the time of both: their bars are those of what was sent
    whole = range(first // NS + 1, last // NS)
    shown = prints_of_witness(witness, frozenset("CE"))
    assert {key: bar for key, bar in bars.items() if key[1] in whole} == bars_of(one for one in shown if one[1] // NS in whole)
    records = (stack.home.settings.jsonl_dir / "history" / STREAM).rglob("*.jsonl")
    assert sum(path.read_bytes().count(b"\n") for path in records) == recovered
    measured(cuts=CUTS, cut_s=CUT_S, prints=len(expected), recovered=recovered, found_s_max=max(found_s), whole_s_median=median(whole_s))


def test_a_gap_of_depth_is_told_to_have_no_history(stack: Stack) -> None:
    stack.start("warehouse")
    stack.live("warehouse")
    stack.start(DEPTH_COLLECTOR, "deliver-clickhouse")
    stack.live(DEPTH_COLLECTOR, "deliver-clickhouse")
    with warehouse(stack.home.settings) as client, dg.DagsterInstance.ephemeral() as instance:
        begun = SystemClock().now_ns()
        stack.kill(DEPTH_COLLECTOR)
        stack.live(DEPTH_COLLECTOR)
        gap, _ = closed_gap(stack, client, DEPTH, begun - NS)
        assert repair(stack, instance).success
        newest = next(one for one in load_gaps(client, "l2", stream=DEPTH) if one.gap_id == gap.gap_id)
        assert (newest.repair_state, newest.rows_recovered) == ("impossible", 0)
        assert "books were suspect" in newest.residual

"""The whole path, killed at every joint: what the market sent against what is stored, by the market's own ledger.

Everything is a real process: simulated market, collectors, warehouse, both deliveries. Each of ours is killed with SIGKILL, links are
dropped. In the end every line that the ledger says was sent is either a row with exactly its content, once and in order, or was sent
inside a recorded gap.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.checkers import (
    check_depth_rows,
    check_files,
    check_level1_rows,
    close_ledger,
    gaps_of_warehouse,
    journaled,
)
from tests.faults.stack import (
    COLLECTORS,
    DELIVERIES,
    DEPTH,
    DEPTH_COLLECTOR,
    LEVEL1,
    LEVEL1_COLLECTOR,
    Stack,
    simulated,
    stack_of,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def stack(tmp_path: Path, numba_cache: Path) -> Iterator[Stack]:
    with stack_of(tmp_path, numba_cache, simulator__symbols=15, simulator__rate=1200) as found:
        yield found


def test_every_line_sent_is_a_row_or_inside_a_recorded_gap(stack: Stack) -> None:
    home = stack.home
    stack.symbols(simulated(15))
    for name in ("simulator", "warehouse"):
        stack.start(name)
        stack.live(name)
    workers = [*COLLECTORS, *DELIVERIES]
    stack.start(*workers)
    stack.live(*workers)
    time.sleep(2)
    for name in (DEPTH_COLLECTOR, "deliver-clickhouse", LEVEL1_COLLECTOR, "warehouse", "deliver-jsonl"):
        stack.kill(name)
        time.sleep(1.5)
    stack.live(*workers)
    for how in ("fin", "rst", "mid_line"):
        for channel in ("depth", "level1"):
            stack.market("drop", channel=channel, how=how)
        time.sleep(2)
    stack.market("garbage", channel="depth", lines=5)
    stack.market("half_open", channel="depth")
    stack.until("reconnect after silence", lambda: stack.number(DEPTH_COLLECTOR, "disconnects"))
    time.sleep(6)
    stack.live(*workers)
    for name in COLLECTORS:
        stack.stop(name)
    last = {stream: journaled(home, stream).last_seq for stream in (DEPTH, LEVEL1)}

    def drained() -> bool:
        told = [stack.number(name, "streams") or {} for name in DELIVERIES]
        return all(streams.get(stream, {}).get("seq", 0) >= seq for streams in told for stream, seq in last.items())

    stack.until("deliveries at the journal's end", drained)
    for name in (*DELIVERIES, "warehouse", "simulator"):
        stack.stop(name)

    gaps = {stream: gaps_of_warehouse(home, stream) for stream in (DEPTH, LEVEL1)}
    assert {"restart", "disconnect", "silence"} <= {gap.cause for gap in gaps[DEPTH]}
    for stream in (DEPTH, LEVEL1):
        account, found = close_ledger(stack, stream, gaps[stream])
        account.zero()
        if stream == DEPTH:
            rows = [check_depth_rows(home, DEPTH, found.parts)]
        else:
            rows = list(check_level1_rows(home, LEVEL1, found.parts))
        for table, least in zip(rows, (5000,) if stream == DEPTH else (100, 100), strict=True):
            assert table.zero().stored > least
    for account in check_files(home):
        account.zero()

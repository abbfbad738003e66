"""A whole instance killed piece by piece while the market sends, with Dagster supervising; then everything is killed.

What Dagster loses, recording does not notice, and what comes back adopts what runs. What records comes back by itself.

The market runs outside the instance, so that it goes on through every kill and its ledger tells what was sent. Scale: each part of
Dagster and all of it at once, collectors, deliveries, warehouse, everything: once at ci, 5 times at full; not at quick, where starting
an instance costs more than the rest of a file. Judged: 0 missing, 0 twice, 0 outside gaps; in the journal, the tables and the files.
"""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from l2_platform.operations.dagster_storage import FILES
from tests.faults.checkers import (
    check_depth_rows,
    check_files,
    check_level1_rows,
    close_ledger,
    gaps_of_journal,
    journaled,
)
from tests.faults.conftest import Measured
from tests.faults.scale import FAULTS, scaled
from tests.faults.stack import COLLECTORS, DEPTH, LEVEL1, Stack, short_waits, simulated
from tests.integration.test_dagster_storage import locked
from tests.pages.control_room import DAGSTER_PARTS, ControlRoom, control_room

pytestmark = [
    pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(3600),
    pytest.mark.skipif(FAULTS == "quick", reason="part of FAULTS=ci and full"),
]  # fmt: skip
MARKET = {"simulator__symbols": 10, "simulator__rate": 400}
TIMES = scaled(1, 1, 5)
OURS = ("warehouse", "sealer", "deliver-clickhouse", "deliver-jsonl", *COLLECTORS)
"""What Dagster's death must not touch."""


@pytest.fixture(scope="module")
def room(market: Stack, tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[ControlRoom]:
    folder = tmp_path_factory.mktemp("killed")
    symbols = ", ".join(f'"{name}"' for name in simulated(10))
    (folder / "symbols.toml").write_text(f"version = 1\n\n[groups.demo]\nenabled = true\nsymbols = [{symbols}]\n")
    # a feed of its own: the instance does not start the market, and does not end with it
    feed = {**short_waits(), "L2_FEED__KIND": "iqfeed", "L2_FEED__ROLLOUT_PAUSE_S": "0", "L2_SYMBOLS__FILE": str(folder / "symbols.toml")}
    with control_room(folder, numba_cache, market.home.base, **feed) as found:
        yield found


def account_of(room: ControlRoom, market: Stack) -> dict[str, int]:
    """Ends the links of the market, and compares the ledger with journal, tables and files; every quantity must be 0. Lines by stream."""
    stored = Stack(room.home, market)
    stored.since_ns = market.since_ns
    room.home.ok("down", timeout=120)
    market.close_links()
    lines = {}
    for stream in (DEPTH, LEVEL1):
        account, found = close_ledger(stored, stream, gaps_of_journal(room.home, stream))
        lines[stream] = account.stored
        account.zero()
        if stream == LEVEL1:
            for table in check_level1_rows(room.home, stream, found.parts):
                table.zero()
        else:
            check_depth_rows(room.home, stream, found.parts).zero()
    for file in check_files(room.home):
        file.zero()
    return lines


def last_seq(room: ControlRoom) -> int:
    return journaled(room.home, DEPTH).last_seq


def grown(room: ControlRoom, seq: int) -> bool:
    return last_seq(room) > seq


def test_killed_dagster_is_not_noticed_by_recording_and_adopts(room: ControlRoom, measured: Measured) -> None:
    before = {name: pid for name, pid in room.pids().items() if name in OURS}
    links = len(journaled(room.home, DEPTH).connections)
    worst: dict[str, float] = {}
    for names in [(name,) for name in DAGSTER_PARTS] + [DAGSTER_PARTS]:
        for _ in range(TIMES):
            old, seq = room.pids(), last_seq(room)
            started = time.monotonic()
            room.kill(*names)

            def back(names: tuple[str, ...] = names, old: dict[str, int] = old) -> bool:
                parts = {part["name"]: part for part in room.status()["parts"]}
                return all(parts[name]["healthy"] and parts[name]["pid"] not in {0, old[name]} for name in names)

            room.until(f"{names} again", back)
            label = names[0].removeprefix("dagster-") if len(names) == 1 else "dagster"
            worst[label] = max(worst.get(label, 0.0), time.monotonic() - started)
            room.until("more lines in the journal", partial(grown, room, seq))
    room.until_healthy()
    assert {name: pid for name, pid in room.pids().items() if name in OURS} == before, "something was started a second time"
    assert len(journaled(room.home, DEPTH).connections) == links, "a link was lost"
    # the new daemon reports what it found, and asks for nothing
    room.until("the sensor's report", lambda: room.evaluations().get((f"collectors/{DEPTH}", "alive")))
    assert room.runs_of("control_collector") == []
    assert room.evaluations()[f"collectors/{DEPTH}", "alive"]["status"] == "SUCCEEDED"
    measured(times=TIMES, **{f"{name.replace('-', '_')}_healthy_s_max": value for name, value in worst.items()})


def test_locked_storage_is_named_and_not_noticed_by_recording(room: ControlRoom, measured: Measured) -> None:
    before = {name: pid for name, pid in room.pids().items() if name in OURS}
    links, seq = len(journaled(room.home, DEPTH).connections), last_seq(room)
    started = time.monotonic()
    with locked(room.home.settings, 120, *FILES) as process:
        told = f"{FILES[0]} is locked by"
        parts = room.until("l2 status says so", lambda: [part for part in room.status()["parts"] if told in str(part)])
        assert f"(pid {process.pid})" in str(parts)
        named_s = time.monotonic() - started
        room.until("more lines in the journal", partial(grown, room, seq))
    room.until_healthy()
    # on a busy machine a run may fail to start for other reasons: it is launched again, as a person would
    room.until("a run that succeeds", lambda: room.until_ended(room.launch("judge_platform", {})) == "SUCCESS", 400)
    assert {name: pid for name, pid in room.pids().items() if name in OURS} == before
    assert len(journaled(room.home, DEPTH).connections) == links, "a link was lost"
    measured(named_s=named_s)


def test_killed_recording_comes_back_by_itself_under_supervision(room: ControlRoom, measured: Measured) -> None:
    worst: dict[str, float] = {}
    for name in ("deliver-clickhouse", "deliver-jsonl", "warehouse", *COLLECTORS):
        for _ in range(TIMES):
            old, started = room.pids()[name], time.monotonic()
            room.kill(name)
            room.until(f"a new {name}", lambda name=name, old=old: room.pids()[name] not in {0, old})  # type: ignore[misc]
            room.until_healthy()
            worst[name] = max(worst.get(name, 0.0), time.monotonic() - started)
    measured(times=TIMES, **{f"{name.replace('-', '_')}_healthy_s_max": value for name, value in worst.items()})


def test_everything_killed_recovers_and_nothing_is_lost_outside_gaps(room: ControlRoom, market: Stack, measured: Measured) -> None:
    worst, killed = 0.0, 0
    for _ in range(TIMES):
        killed = room.kill_everything()
        started = time.monotonic()
        room.home.ok("up", timeout=600)
        worst = max(worst, time.monotonic() - started)
        room.until_healthy()
    lines = account_of(room, market)
    assert all(lines.values())
    measured(times=TIMES, processes_killed=killed, healthy_s_max=worst, lines=sum(lines.values()))

"""Halts from the simulated market's own word to the ledger: silence of a halted symbol is explained when the halts are read, else not."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from l2_platform.assets.platform_health import judge_platform
from l2_platform.clock import SystemClock
from l2_platform.operations.verdict import Promise
from l2_platform.resources.warehouse import WarehouseResource
from tests.faults.stack import COLLECTORS, DEPTH, LEVEL1, Stack, simulated, stack_of

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]
BY_FILE, BY_FEED = "SYM003", "SYM005"


@pytest.fixture(scope="module")
def halted(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[Stack]:
    """A market in which two symbols are halted, so long that the silence of both is told, and what records it."""
    # so few pauses know little of longer ones: at the default a silence of this market is told much later
    chosen = {"simulator__symbols": 8, "simulator__rate": 1600, "gaps__false_alarms_per_day": 1}
    with stack_of(tmp_path_factory.mktemp("home"), numba_cache, **chosen) as found:
        found.symbols(simulated(8))
        for name in ("simulator", "warehouse"):
            found.start(name)
            found.live(name)
        found.start(*COLLECTORS, "deliver-clickhouse")
        found.live(*COLLECTORS, "deliver-clickhouse")
        time.sleep(8)
        for name in (BY_FILE, BY_FEED):
            found.market("halt", symbol=name)
        assert found.market("status")["halted"] == [BY_FILE, BY_FEED]
        streams = {(stream, name) for stream in (DEPTH, LEVEL1) for name in (BY_FILE, BY_FEED)}
        found.until("the silences are told", lambda: streams <= set(silences(found)), 120)
        yield found


@pytest.fixture(scope="module")
def stack(halted: Stack) -> Stack:
    """The same when both are traded again and their silences are over."""
    for name in (BY_FILE, BY_FEED):
        halted.market("resume", symbol=name)
    halted.until("they are over", lambda: all(gap["state"] != "open" for gap in silences(halted).values()), 120)
    return halted


def silences(stack: Stack) -> dict[tuple[str, str], dict[str, Any]]:
    """The silences of single symbols, by stream and symbol."""
    rows = stack.rows(
        "SELECT gap_id, stream, symbols, state, explanation, repair_state, evidence, toString(session_date) AS day FROM gaps "
        "WHERE cause = 'symbol_silence'"
    )
    assert all(len(row["symbols"]) == 1 for row in rows)
    return {(row["stream"], row["symbols"][0]): row for row in rows}


def health(stack: Stack, **chosen: Any) -> Promise:
    """What `platform_health` says of the gaps of today; settings of the gaps, e.g. another place of the halts."""
    settings = stack.home.settings
    settings = settings.model_copy(update={"gaps": settings.gaps.model_copy(update=chosen)})
    with dg.DagsterInstance.ephemeral() as instance:
        promises = judge_platform(settings, [], SystemClock(), WarehouseResource(settings=settings), instance, [])
    return next(promise for promise in promises if promise.name == "no_gaps_today")


def test_a_halt_in_force_explains_an_open_silence_and_writes_nothing(halted: Stack) -> None:
    found = silences(halted)
    assert {gap["state"] for gap in found.values()} == {"open"}
    versions = halted.rows("SELECT gap_id, version FROM gaps ORDER BY gap_id")
    listed = json.loads(halted.home.run("gaps", "--json").stdout)
    assert {(row["gap_id"], row["explanation"], row["alert"]) for row in listed if row["cause"] == "symbol_silence"} == {
        (gap["gap_id"], "halt", "") for gap in found.values()
    }
    # what counts is that the recording began late, and nothing else
    seen = health(halted).seen
    assert "symbol_silence" not in seen
    assert "Halts explain nothing" not in seen
    assert halted.rows("SELECT gap_id, version FROM gaps ORDER BY gap_id") == versions

    # without halts they count, and where these were to come from is told
    away = f"http://127.0.0.1:{halted.home.settings.ports.simulator_control}/elsewhere"
    unread = health(halted, halts=away)
    assert not unread.kept
    assert "symbol_silence" in unread.seen
    assert f"Halts explain nothing: {away}" in unread.seen
    # the link of the stream is whole: its own check says so
    streams = halted.number("deliver-clickhouse", "streams")
    assert {name: (numbers["gap_open"], numbers["symbols_silent"]) for name, numbers in streams.items()} == {
        DEPTH: (0, 2), LEVEL1: (0, 2)
    }  # fmt: skip


def test_only_halted_symbols_were_silent_and_nothing_was_lost(stack: Stack) -> None:
    found = silences(stack)
    assert {name for _, name in found} == {BY_FILE, BY_FEED}
    for name in (BY_FILE, BY_FEED):
        gap = found[LEVEL1, name]
        assert (gap["state"], json.loads(gap["evidence"])["counters"]) == ("withdrawn", "intact")
        # depth has no counters: nobody can say that nothing was lost
        assert found[DEPTH, name]["state"] == "closed"
        assert found[DEPTH, name]["explanation"] == ""


def test_without_the_halts_it_stays_unexplained_and_with_them_it_is_a_halt(stack: Stack) -> None:
    day = silences(stack)[DEPTH, BY_FILE]["day"]
    none = stack.home.path / "none.csv"
    own = stack.home.settings.simulated_halts.read_text()
    none.write_text(own.splitlines()[0] + "\n")
    stack.home.variables["L2_GAPS__HALTS"] = "none.csv"
    ids = {name: silences(stack)[DEPTH, name]["gap_id"] for name in (BY_FILE, BY_FEED)}
    assert stack.home.run("gaps", "repair", ids[BY_FILE]).returncode in {0, 1}
    gap = silences(stack)[DEPTH, BY_FILE]
    assert (gap["explanation"], gap["repair_state"]) == ("", "impossible")

    # one of the two by an address, which knows of that one only
    del stack.home.variables["L2_GAPS__HALTS"]
    stack.home.settings.simulated_halts.write_text(own.replace(BY_FEED, "OTHER"))
    done = stack.home.run("gaps", "repair", "--date", day)
    assert done.returncode == 0, done.stdout + done.stderr
    found = silences(stack)
    assert (found[DEPTH, BY_FILE]["explanation"], found[LEVEL1, BY_FILE]["explanation"]) == ("halt", "halt")
    assert (found[DEPTH, BY_FEED]["explanation"], found[DEPTH, BY_FEED]["repair_state"]) == ("", "impossible")

    address = f"http://127.0.0.1:{stack.home.settings.ports.simulator_control}/rss.aspx?feed=tradehalts"
    stack.home.variables["L2_GAPS__HALTS"] = address
    stack.home.ok("gaps", "explain", "--date", day)
    assert {gap["explanation"] for gap in silences(stack).values()} == {"halt"}
    refused = stack.home.run("gaps", "repair", ids[BY_FEED])
    assert refused.returncode == 2
    assert "it is explained (halt)" in refused.stderr.replace("\n", " ")


def test_an_address_that_does_not_answer_stops_no_repair(stack: Stack) -> None:
    day = silences(stack)[DEPTH, BY_FILE]["day"]
    address = f"http://127.0.0.1:{stack.home.settings.ports.simulator_control}/elsewhere"
    stack.home.variables["L2_GAPS__HALTS"] = address
    stack.home.ok("gaps", "repair", "--date", day)
    told = stack.home.run("gaps", "explain", "--date", day)
    assert told.returncode != 0
    assert "404" in told.stderr

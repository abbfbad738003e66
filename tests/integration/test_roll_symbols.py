"""Job `roll_symbols` on a real market, real collectors and a real delivery: steps with a gate, and a bad step that takes itself back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from l2_platform.monitoring.symbols_file import demo_symbols, load_symbols, write_symbols
from tests.faults.checkers import close_ledger, gaps_of_journal
from tests.faults.stack import DEPTH, DEPTH_COLLECTOR, LEVEL1, LEVEL1_COLLECTOR, Stack, simulated
from tests.integration.supervision import Supervised, supervised

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]
NAMES = simulated(30)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[Supervised]:
    folder = tmp_path_factory.mktemp("r")
    write_symbols(folder / "symbols.toml", demo_symbols(10))
    variables = {"L2_SIMULATOR__SYMBOLS": "40", "L2_CLICKHOUSE__ENABLED": "false", "L2_FEED__ROLLOUT_PAUSE_S": "0"}
    with supervised(folder, numba_cache, **variables) as found:
        found.all_well()
        yield found


def roll(one: Supervised, **config: Any) -> bool:
    """What an operator does in the launchpad; waits are short."""
    wanted = {"group": "demo", "gate_wait_s": 60.0, "gate_steady_s": 1.0} | config
    return one.run_job("roll_symbols", {"ops": {"roll": {"config": wanted}}})


def watched(one: Supervised) -> list[int]:
    beats = [one.beat(name) for name in (DEPTH_COLLECTOR, LEVEL1_COLLECTOR)]
    return [int(beat.numbers["watched"]) for beat in beats if beat is not None]


def test_twenty_symbols_are_added_in_steps_that_are_good(one: Supervised) -> None:
    assert watched(one) == [10, 10]
    pids = [one.pid(name) for name in (DEPTH_COLLECTOR, LEVEL1_COLLECTOR)]
    assert roll(one, add=NAMES[10:], steps=[5])
    assert watched(one) == [30, 30]
    file = load_symbols(one.settings.symbols_file)
    assert (file.version, file.symbols) == (3, tuple(NAMES))
    assert [one.pid(name) for name in (DEPTH_COLLECTOR, LEVEL1_COLLECTOR)] == pids, "live, without a restart"


def test_a_step_that_is_not_good_takes_itself_back(one: Supervised) -> None:
    before = load_symbols(one.settings.symbols_file)
    # the first step is good, the second has a name that the feed does not know
    assert not roll(one, add=["SYM030", "SYM031", "NOSUCH"], steps=[2], gate_wait_s=5.0)
    after = load_symbols(one.settings.symbols_file)
    assert after.groups == before.groups
    assert after.version == before.version + 3
    one.until("the symbols of before", lambda: watched(one) == [30, 30])
    one.all_well()


def test_nothing_of_what_the_market_sent_is_missing_after_it(one: Supervised) -> None:
    one.home.ok("down")
    stack = Stack(one.home)
    stack.since_ns = 0
    for stream in (DEPTH, LEVEL1):
        account, _ = close_ledger(stack, stream, gaps_of_journal(one.home, stream))
        account.zero()
        assert account.sent > 500

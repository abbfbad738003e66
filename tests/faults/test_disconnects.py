"""F1: the feed ends the connection, with FIN, RST or in the middle of a line, again and again.

Scale: 5, 30, 100 disconnects per channel with 20, 100, 1,000 symbols; then one with 200, 2,000, 10,000 symbols. The simulated market
drops every second time, a proxy in front of it the other times. Judged: nothing unexplained, bounds of gaps, every watch sent
again, the heartbeat's counters, recovery.
"""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.checkers import (
    TOLERANCE_NS,
    close_ledger,
    gap_errors_ns,
    gaps_of_journal,
    nothing_left_behind,
    recovers,
    tells_the_truth,
    within_memory,
)
from tests.faults.conftest import Measured
from tests.faults.scale import scaled
from tests.faults.stack import (
    DEPTH,
    DEPTH_COLLECTOR,
    LEVEL1,
    LEVEL1_COLLECTOR,
    Stack,
    proxied,
    simulated,
    stack_of,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(7200)]
DISCONNECTS = scaled(5, 30, 100)
SYMBOLS = scaled(20, 100, 1000)
MANY = scaled(200, 2000, 10_000)
MARKET = {"simulator__symbols": MANY}


@pytest.fixture
def stack(market: Stack, tmp_path: Path, numba_cache: Path) -> Iterator[Stack]:
    with stack_of(tmp_path, numba_cache, market, feed__reconnect_cap_s=2) as found:
        yield found


def test_disconnects_are_gaps_with_exact_bounds(stack: Stack, measured: Measured) -> None:
    chance = random.Random(1)
    stack.symbols(simulated(SYMBOLS, MANY))
    names = {DEPTH_COLLECTOR: "depth", LEVEL1_COLLECTOR: "level1"}
    proxies = {name: proxied(stack, name) for name in names}
    waits = []
    for proxy in proxies.values():
        # what is on its way when the link ends is lost: 30 ms of it, less than the bounds of a gap may be off
        proxy.down.latency_s = 0.03
    with proxies[DEPTH_COLLECTOR], proxies[LEVEL1_COLLECTOR]:
        stack.start(*names)
        stack.live(*names)
        before = {name: stack.usage(name) for name in names}
        for number in range(DISCONNECTS):
            # a link that was live for a second makes the next wait the shortest again
            time.sleep(1 + chance.random() / 2)
            for name, channel in names.items():
                if number % 2:
                    proxies[name].drop(chance.choice(("fin", "rst")))
                else:
                    stack.market("drop", channel=channel, how=chance.choice(("fin", "rst", "mid_line")))
            begun = time.monotonic()
            for name in names:
                tells_the_truth(stack, name, disconnects=number + 1)
                recovers(stack, name, 60)
            waits.append(time.monotonic() - begun)
        for name in names:
            tells_the_truth(stack, name, disconnects=DISCONNECTS, watched=SYMBOLS)
            nothing_left_behind(before[name], stack.usage(name))
            within_memory(before[name], stack.usage(name), 64 << 20)
            stack.stop(name)
    stack.close_links()
    worst, details = 0, []
    for stream in (DEPTH, LEVEL1):
        gaps = gaps_of_journal(stack.home, stream)
        account, found = close_ledger(stack, stream, gaps)
        account.zero()
        assert [gap.cause for gap in gaps[:-1]] == ["disconnect"] * DISCONNECTS
        assert len(found.events("disconnect")) == DISCONNECTS + 1
        assert {control.fields["symbols"] for control in found.events("subscribed")} == {SYMBOLS}
        errors = gap_errors_ns(found, gaps)
        assert len(errors) == DISCONNECTS
        worst = max([worst, *(max(map(abs, pair)) for pair in errors)])
        details += [(gap, error) for gap, error in zip(gaps, errors, strict=False) if max(map(abs, error)) > TOLERANCE_NS]
        measured(**{f"{stream}_lines": account.sent, f"{stream}_in_gaps": account.sent - account.stored})
    measured(disconnects=2 * DISCONNECTS, back_s_max=max(waits), gap_bound_error_ms_max=worst / 1e6)
    assert worst <= TOLERANCE_NS, details


def test_every_watch_of_many_symbols_is_sent_again(stack: Stack, measured: Measured) -> None:
    stack.symbols(simulated(MANY))
    stack.start(DEPTH_COLLECTOR)
    stack.live(DEPTH_COLLECTOR)
    time.sleep(1)
    stack.market("drop", channel="depth", how="rst")
    tells_the_truth(stack, DEPTH_COLLECTOR, disconnects=1)
    stack.live(DEPTH_COLLECTOR)
    tells_the_truth(stack, DEPTH_COLLECTOR, watched=MANY, refused=0, not_found=0)
    stack.stop(DEPTH_COLLECTOR)
    stack.close_links()
    account, found = close_ledger(stack, DEPTH, gaps_of_journal(stack.home, DEPTH))
    account.zero()
    connected, subscribed = found.events("connect")[-1], found.events("subscribed")[-1]
    assert subscribed.fields["symbols"] == MANY
    measured(symbols=MANY, resubscribed_s=(subscribed.ts_recv - connected.ts_recv) / 1e9, lines=account.sent)

"""F2: the peer is silent and says no word of it: half-open links, found by the feed's own clock that does not come.

Scale: 2, 5, 20 half-open links per run; suspect after 1.5 s and given up after 3 s (the defaults 3 s and 10 s at full). Judged: suspect
not before its time, reconnect not before its time, both soon after it (a generous bound), the gap begins at the last byte.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.checkers import close_ledger, gaps_of_journal, recovers, tells_the_truth
from tests.faults.conftest import Measured
from tests.faults.scale import scaled
from tests.faults.stack import DEPTH, DEPTH_COLLECTOR, Stack, proxied, simulated, stack_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3600)]
TIMES = scaled(2, 5, 20)
SUSPECT_S, SILENCE_S = scaled(1.5, 1.5, 3.0), scaled(3.0, 3.0, 10.0)
LATE_S = 5.0
"""No measurement: what is far beyond any delay of a busy machine."""


@pytest.fixture
def stack(market: Stack, tmp_path: Path, numba_cache: Path) -> Iterator[Stack]:
    chosen = {"feed__suspect_s": SUSPECT_S, "feed__silence_s": SILENCE_S}
    with stack_of(tmp_path, numba_cache, market, **chosen) as found:
        found.symbols(simulated(20))
        yield found


def test_half_open_link_is_suspect_then_given_up(stack: Stack, measured: Measured) -> None:
    with proxied(stack, DEPTH_COLLECTOR) as proxy:
        stack.start(DEPTH_COLLECTOR)
        stack.live(DEPTH_COLLECTOR)
        for number in range(TIMES):
            time.sleep(1.2)
            proxy.up.stalled = proxy.down.stalled = True
            stack.state(DEPTH_COLLECTOR, "suspect")
            tells_the_truth(stack, DEPTH_COLLECTOR, disconnects=number + 1)
            proxy.up.stalled = proxy.down.stalled = False
            recovers(stack, DEPTH_COLLECTOR, 60)
        stack.stop(DEPTH_COLLECTOR)
    stack.close_links()
    gaps = gaps_of_journal(stack.home, DEPTH)
    account, found = close_ledger(stack, DEPTH, gaps)
    account.zero()
    silences = [gap for gap in gaps if gap.cause == "silence" and gap.state == "closed"]
    assert len(silences) == TIMES
    suspects = [(one.ts_recv - one.fields["last_byte_ns"]) / 1e9 for one in found.events("suspect")]
    given_up = [one for one in found.events("disconnect") if one.fields["reason"] == "silence"]
    ends = [(one.ts_recv - one.fields["last_byte_ns"]) / 1e9 for one in given_up]
    assert len(suspects) == len(ends) == TIMES
    assert all(SUSPECT_S - 0.1 <= one <= SUSPECT_S + LATE_S for one in suspects)
    assert all(SILENCE_S - 0.1 <= one <= SILENCE_S + LATE_S for one in ends)
    last_bytes = [part.last_ts for part in found.parts]
    assert all(min(abs(gap.since - ts) for ts in last_bytes) <= 1_000_000_000 for gap in silences)
    measured(times=TIMES, suspect_after_s_max=max(suspects), given_up_after_s_max=max(ends), lines=account.sent)


def test_silence_that_ends_is_no_gap(stack: Stack, measured: Measured) -> None:
    with proxied(stack, DEPTH_COLLECTOR) as proxy:
        stack.start(DEPTH_COLLECTOR)
        stack.live(DEPTH_COLLECTOR)
        for _ in range(TIMES):
            time.sleep(0.5)
            proxy.down.stalled = True
            stack.state(DEPTH_COLLECTOR, "suspect")
            proxy.down.stalled = False
            stack.live(DEPTH_COLLECTOR)
        tells_the_truth(stack, DEPTH_COLLECTOR, disconnects=0)
        time.sleep(0.5)
        stack.stop(DEPTH_COLLECTOR)
    stack.close_links()
    gaps = gaps_of_journal(stack.home, DEPTH)
    account, found = close_ledger(stack, DEPTH, gaps)
    account.zero()
    assert [gap.state for gap in gaps if gap.cause == "silence"] == ["withdrawn"] * TIMES
    assert len(found.parts) == 1
    measured(times=TIMES, lines=account.sent)

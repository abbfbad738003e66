"""F17: ten times the usual rate at once: the journal keeps all of it, nothing is dropped, memory stays bounded.

Scale: from 2,000 to 20,000 a second for 5 s (quick and ci: what shared machines can make), from 35,000 to 350,000 for 60 s at full, over
20 and 10,000 symbols, both services recorded. Judged: one connection to the end with every byte the market sent (a link that is cut for
slowness would show), memory, and that the rows of the burst are all there.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.checkers import close_ledger, gaps_of_journal, within_memory
from tests.faults.conftest import Measured
from tests.faults.scale import scaled
from tests.faults.stack import COLLECTORS, DEPTH, LEVEL1, Stack, simulated, stack_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3600)]
RATE = scaled(2_000, 2_000, 35_000)
BURST_S = scaled(5, 10, 60)
SYMBOLS = scaled(20, 200, 10_000)
MARKET = {"simulator__symbols": SYMBOLS, "simulator__rate": RATE}
GROWTH_BYTES = 64 << 20


@pytest.fixture
def stack(market: Stack, tmp_path: Path, numba_cache: Path) -> Iterator[Stack]:
    with stack_of(tmp_path, numba_cache, market) as found:
        found.symbols(simulated(SYMBOLS))
        yield found


def test_burst_of_ten_times_the_rate_is_recorded_whole(stack: Stack, measured: Measured) -> None:
    stack.market("rate", rate=RATE, flat=True)
    stack.start(*COLLECTORS)
    stack.live(*COLLECTORS)
    time.sleep(1)
    before = {name: stack.usage(name) for name in COLLECTORS}
    sent_before = sum(stack.number(name, "lines") for name in COLLECTORS)
    stack.market("rate", rate=10 * RATE, flat=True)
    begun = time.monotonic()
    time.sleep(BURST_S)
    stack.market("rate", rate=RATE, flat=True)
    behind_ms = stack.market("status")["behind_ms"]
    lasted = time.monotonic() - begun
    time.sleep(1)

    def caught_up() -> bool:
        status = stack.market("status")
        return status["behind_ms"] < 500 and not any(client["queued"] for client in status["clients"])

    stack.until("the market has sent all that was due", caught_up, 600)
    recorded = sum(stack.number(name, "lines") for name in COLLECTORS) - sent_before
    for name in COLLECTORS:
        within_memory(before[name], stack.usage(name), GROWTH_BYTES)
        assert stack.number(name, "disconnects") == 0
        stack.stop(name)
    stack.close_links()
    for stream in (DEPTH, LEVEL1):
        account, found = close_ledger(stack, stream, gaps_of_journal(stack.home, stream))
        account.zero()
        assert len(found.parts) == 1
        measured(**{f"{stream}_lines": account.stored})
    measured(rate=RATE, burst=10 * RATE, seconds=lasted, lines_in_burst=recorded, behind_ms_at_end=behind_ms)

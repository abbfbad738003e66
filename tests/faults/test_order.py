"""F6: the feed sends lines twice, in the wrong order and late: what arrives is kept in the order of its arrival.

Scale: 6 s, 30 s, 300 s; every 50th line twice, every 50th later by up to 400 lines. A proxy does it. Judged: the journal is what arrived,
the rows are the lines in their order of arrival with every double, nothing is dropped and nothing sorted.
"""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.checkers import Row, compare_rows, journaled, pipeline_rows
from tests.faults.conftest import Measured
from tests.faults.scale import scaled
from tests.faults.stack import DEPTH, DEPTH_COLLECTOR, Stack, proxied, simulated, stack_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3600)]
SECONDS = scaled(6, 30, 300)
EVERY = 50
LATE_LINES_MAX = 400


class Shuffler:
    """Doubles and delays single lines of a stream."""

    def __init__(self) -> None:
        self._chance = random.Random(6)
        self._rest = b""
        self._late: list[tuple[int, bytes]] = []
        self._count = 0
        self.doubled = 0
        self.delayed = 0

    def __call__(self, data: bytes) -> bytes:
        *lines, self._rest = (self._rest + data).split(b"\n")
        return b"".join(self._after(line) for line in lines)

    def _after(self, line: bytes) -> bytes:
        self._count += 1
        out = line + b"\n"
        if line[:1] in {b"3", b"4", b"5"}:
            match self._chance.randrange(EVERY):
                case 0:
                    self.doubled += 1
                    out += out
                case 1:
                    self.delayed += 1
                    self._late.append((self._count + self._chance.randrange(1, LATE_LINES_MAX), out))
                    out = b""
        due = [late for at, late in self._late if at <= self._count]
        self._late = [(at, late) for at, late in self._late if at > self._count]
        return out + b"".join(due)


@pytest.fixture
def stack(market: Stack, tmp_path: Path, numba_cache: Path) -> Iterator[Stack]:
    with stack_of(tmp_path, numba_cache, market) as found:
        found.symbols(simulated(20))
        yield found


def test_doubles_and_late_lines_are_kept_as_they_arrive(stack: Stack, measured: Measured) -> None:
    shuffler = Shuffler()
    with proxied(stack, DEPTH_COLLECTOR, recording=True) as proxy:
        proxy.down.mangle = shuffler
        stack.start(DEPTH_COLLECTOR)
        stack.live(DEPTH_COLLECTOR)
        time.sleep(SECONDS)
        assert stack.number(DEPTH_COLLECTOR, "disconnects") == 0
        stack.stop(DEPTH_COLLECTOR)
    stack.close_links()
    assert shuffler.doubled > 10 < shuffler.delayed
    (part,) = journaled(stack.home, DEPTH).parts
    assert bytes(proxy.delivered[0]).startswith(bytes(part.data))
    expected: list[Row] = [
        (seq, int(line.split(b",")[2]))
        for seq, line in enumerate(bytes(part.data).split(b"\n")[:-1], 1)
        if line[:1] in {b"3", b"4", b"5", b"6"}
    ]
    stored: list[Row] = [
        (int(seq), int(order)) for table in pipeline_rows(stack.home, DEPTH, "depth_updates")
        for seq, order in zip(table.columns["seq"], table.columns["order_id"], strict=True)
    ]  # fmt: skip
    account = compare_rows("arrivals", expected, stored).zero()
    assert stored == expected
    measured(rows=account.stored, doubled=shuffler.doubled, late=shuffler.delayed)

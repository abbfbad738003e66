"""F4: the feed sends garbage: 1 % of the lines corrupted, NULs, bytes that are no text, and a line that does not end.

Scale: 8 s, 30 s, 300 s of corrupted lines; a line of 5 MB, 20 MB, 100 MB without an end. Bytes are spoilt by a proxy on their way.
Judged: the journal has exactly what arrived, every untouched line is its row, every spoilt line is a row or is in quarantine with
exactly its bytes, memory stays bounded, the process lives.
"""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.checkers import (
    Row,
    compare_rows,
    feed_events,
    journaled,
    pipeline_rows,
    recovers,
    within_memory,
)
from tests.faults.conftest import Measured
from tests.faults.scale import scaled
from tests.faults.stack import DEPTH, DEPTH_COLLECTOR, Stack, proxied, simulated, stack_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3600)]
SECONDS = scaled(8, 30, 300)
HUGE_BYTES = scaled(5, 20, 100) * 1_000_000
LINE_BYTES_MAX = 65_536


class Spoiler:
    """Spoils whole lines, one in a hundred; keeps which it was, and what it sent instead."""

    def __init__(self, share: float) -> None:
        self._chance = random.Random(4)
        self._share = share
        self._rest = b""
        self.spoilt: set[bytes] = set()
        self.count = 0

    def __call__(self, data: bytes) -> bytes:
        *lines, self._rest = (self._rest + data).split(b"\n")
        return b"".join(self._line(line) + b"\n" for line in lines)

    def _line(self, line: bytes) -> bytes:
        if self._chance.random() >= self._share or line[:1] not in b"3456":
            return line
        self.count += 1
        spoilt = bytearray(line)
        match self._chance.randrange(4):
            case 0:  # a byte that is something else
                spoilt[self._chance.randrange(len(spoilt))] = self._chance.choice(b"\x00\xff\xc3\x80Z;-")
            case 1:  # cut off
                del spoilt[self._chance.randrange(1, len(spoilt)) :]
            case 2:  # bytes that are no text
                spoilt[:] = bytes(self._chance.choice(NO_END) for _ in range(self._chance.randrange(1, 200)))
            case _:  # NULs in the middle
                at = self._chance.randrange(len(spoilt))
                spoilt[at:at] = b"\x00" * self._chance.randrange(1, 9)
        self.spoilt.add(bytes(spoilt))
        return bytes(spoilt)


NO_END = bytes(value for value in range(256) if value not in b"\r\n")


@pytest.fixture
def stack(market: Stack, tmp_path: Path, numba_cache: Path) -> Iterator[Stack]:
    with stack_of(tmp_path, numba_cache, market) as found:
        found.symbols(simulated(20))
        yield found


def depth_rows(stack: Stack) -> list[Row]:
    """(seq, order id) of the rows that the platform makes of the journal, in order."""
    return [
        (int(seq), int(order)) for table in pipeline_rows(stack.home, DEPTH, "depth_updates")
        for seq, order in zip(table.columns["seq"], table.columns["order_id"], strict=True)
    ]  # fmt: skip


def test_spoilt_lines_are_kept_and_the_good_ones_are_rows(stack: Stack, measured: Measured) -> None:
    spoiler = Spoiler(0.01)
    with proxied(stack, DEPTH_COLLECTOR, recording=True) as proxy:
        proxy.down.mangle = spoiler
        stack.start(DEPTH_COLLECTOR)
        stack.live(DEPTH_COLLECTOR)
        time.sleep(SECONDS)
        assert stack.number(DEPTH_COLLECTOR, "disconnects") == 0
        stack.stop(DEPTH_COLLECTOR)
    stack.close_links()
    (part,) = journaled(stack.home, DEPTH).parts
    assert bytes(proxy.delivered[0]).startswith(bytes(part.data))
    lines = dict(enumerate(bytes(part.data).split(b"\n")[:-1], 1))
    spoilt = {seq for seq, line in lines.items() if line in spoiler.spoilt}
    assert len(spoilt) > 10
    rows = depth_rows(stack)
    good: list[Row] = [
        (seq, int(line.split(b",")[2])) for seq, line in lines.items() if line[:1] in b"3456" and seq not in spoilt
    ]
    account = compare_rows("good lines", good, [row for row in rows if row[0] not in spoilt]).zero()
    kept = {int(event["seq"]): event["raw"].encode("latin-1") for event in feed_events(stack.home, DEPTH) if event["raw"]}
    as_rows = {seq for seq, _ in rows}
    for seq in sorted(spoilt - as_rows):
        assert kept.get(seq) == lines[seq].removesuffix(b"\r"), f"line {seq} is neither a row nor in quarantine: {lines[seq]!r}"
    measured(lines=len(lines), spoilt=len(spoilt), quarantined=len(spoilt - as_rows), good_rows=account.stored)


def test_a_line_without_an_end_is_bounded_and_kept(stack: Stack, measured: Measured) -> None:
    huge = random.Random(5).randbytes(1 << 20).translate(bytes(97 if value in b"\r\n" else value for value in range(256)))
    left = [HUGE_BYTES]

    def flood(data: bytes) -> bytes:
        """Hold the feed back behind one line that grows; then let it go on where it was."""
        if not left[0]:
            return data
        size = min(left[0], len(huge))
        left[0] -= size
        held.extend(data)
        return huge[:size] if left[0] else huge[:size] + b"\n" + held

    held = bytearray()
    with proxied(stack, DEPTH_COLLECTOR, recording=True) as proxy:
        stack.start(DEPTH_COLLECTOR)
        stack.live(DEPTH_COLLECTOR)
        before = stack.usage(DEPTH_COLLECTOR)
        proxy.down.mangle = flood
        stack.until("the line was sent", lambda: not left[0] and proxy.delivered[0].endswith(b"\n"), 600)
        recovers(stack, DEPTH_COLLECTOR, 60)
        within_memory(before, stack.usage(DEPTH_COLLECTOR), 64 << 20)
        assert stack.number(DEPTH_COLLECTOR, "disconnects") == 0
        stack.stop(DEPTH_COLLECTOR)
    stack.close_links()
    (part,) = journaled(stack.home, DEPTH).parts
    assert bytes(proxy.delivered[0]).startswith(bytes(part.data))
    kept = [event["raw"].encode("latin-1") for event in feed_events(stack.home, DEPTH, "quarantine")]
    assert max(map(len, kept)) <= LINE_BYTES_MAX
    assert sum(map(len, kept)) >= HUGE_BYTES
    assert b"".join(kept) in bytes(part.data)
    measured(bytes=HUGE_BYTES, pieces=len(kept))

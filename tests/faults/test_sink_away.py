"""F3, F12, F13: the warehouse is away, slow or throttled, while a market is recorded and delivered by real processes.

Scale: away for 5 s (quick), 60 s, 60 min; slow for 10 s, 60 s, 10 min, at 1,500 messages a second. Judged: the journal has everything
that was sent, every row is there once, the sink is asked once a second while it is away, an insert a second at most while
it is slow, memory within its bound, the delivery is at the journal's end afterwards.
"""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from l2_platform.clock import SystemClock
from l2_platform.journal.durable import read_durable
from l2_platform.warehouse.start import warehouse_password
from tests.faults.checkers import (
    check_depth_rows,
    check_files,
    check_level1_rows,
    close_ledger,
    gaps_of_journal,
    within_memory,
)
from tests.faults.conftest import Measured
from tests.faults.scale import scaled
from tests.faults.stack import COLLECTORS, DEPTH, DEPTH_COLLECTOR, LEVEL1, LEVEL1_COLLECTOR, Stack, simulated, stack_of
from tests.faults.warehouse_front import WarehouseFront

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3 * 3600)]
AWAY_S = scaled(5, 60, 3600)
SLOW_S = scaled(10, 60, 600)
INSERT_S = scaled(1.5, 3.0, 10.0)
DELIVERY = "deliver-clickhouse"
SYMBOLS = 15


@pytest.fixture
def stack(market: Stack, tmp_path: Path, numba_cache: Path) -> Iterator[Stack]:
    with stack_of(tmp_path, numba_cache, market) as found:
        found.symbols(simulated(SYMBOLS))
        yield found


class Throttle:
    """Lets processes run for a tenth of the time: whatever they do takes ten times as long."""

    def __init__(self, stack: Stack, names: tuple[str, ...]) -> None:
        self._pids = [stack.processes[name] for name in names]
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(0.02):
            self._send(signal.SIGSTOP)
            self._end.wait(0.18)
            self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        for process in self._pids:
            process.send_signal(number)


def begin(stack: Stack, front: WarehouseFront) -> None:
    """Warehouse, collectors and the delivery through the front, all live."""
    password = warehouse_password(stack.home.settings)
    stack.environments[DELIVERY] = {
        "L2_CLICKHOUSE__EMBEDDED": "false", "L2_CLICKHOUSE__HOST": "127.0.0.1", "L2_CLICKHOUSE__PORT": str(front.port),
        "L2_CLICKHOUSE__PASSWORD": password,
    }  # fmt: skip
    stack.start("warehouse")
    stack.live("warehouse")
    stack.start(*COLLECTORS, DELIVERY)
    stack.live(*COLLECTORS, DELIVERY)
    stack.until("rows", lambda: (stack.number(DELIVERY, "rows") or 0) > 100)


def end(stack: Stack) -> dict[str, float]:
    """Stop the feed, drain, and judge journal and tables; what was found."""
    lag = max(stack.number(DELIVERY, "lag_lines") or 0, 0)
    for name in (DEPTH_COLLECTOR, LEVEL1_COLLECTOR):
        stack.stop(name)
    stack.close_links()
    begun = time.monotonic()
    found = {}
    for stream in (DEPTH, LEVEL1):
        account, found[stream] = close_ledger(stack, stream, gaps_of_journal(stack.home, stream))
        account.zero()
        last = max(part.first_seq + bytes(part.data).count(b"\n") for part in found[stream].parts) - 1

        def drained(stream: str = stream, last: int = last) -> bool:
            return bool((stack.number(DELIVERY, "streams") or {}).get(stream, {}).get("seq", 0) >= last)

        stack.until(f"{stream} drained to {last}", drained, 3600)
    drain_s = time.monotonic() - begun
    stack.stop(DELIVERY)
    check_depth_rows(stack.home, DEPTH, found[DEPTH].parts).zero()
    for account in check_level1_rows(stack.home, LEVEL1, found[LEVEL1].parts):
        account.zero()
    lines = sum(bytes(part.data).count(b"\n") for one in found.values() for part in one.parts)
    return {"lines": lines, "lag_lines_before": lag, "drain_s": drain_s}


def test_a_warehouse_that_is_away_is_asked_once_a_second(stack: Stack, measured: Measured) -> None:
    port = stack.home.settings.ports.warehouse
    with WarehouseFront(("127.0.0.1", port)) as front:
        begin(stack, front)
        before = stack.usage(DELIVERY)
        front.orders.away = True
        stack.until("it counts as down", lambda: stack.number(DELIVERY, "sink_down") == 1, 60)
        record = stack.beat(DELIVERY)
        assert record is not None
        assert (record.state, record.numbers["trouble"]) == ("degraded", "unavailable")
        asked, since = len(front.seen.requests), time.monotonic()
        time.sleep(AWAY_S)
        probes, seconds = len(front.seen.requests) - asked, time.monotonic() - since
        front.orders.away = False
        stack.until("it is back", lambda: stack.number(DELIVERY, "sink_down") == 0, 60)
        stack.live(DELIVERY)
        back_s = time.monotonic() - since - seconds
        within_memory(before, stack.usage(DELIVERY))
        assert probes <= seconds + 1
        measured(away_s=seconds, probes=probes, back_s=back_s, **end(stack))


def test_a_slow_warehouse_gets_fewer_and_larger_inserts(stack: Stack, measured: Measured) -> None:
    port = stack.home.settings.ports.warehouse
    with WarehouseFront(("127.0.0.1", port)) as front:
        begin(stack, front)
        before = stack.usage(DELIVERY)
        front.orders.slow_s = INSERT_S
        since = time.monotonic()
        time.sleep(SLOW_S)
        until = time.monotonic()
        front.orders.slow_s = 0.0
        most = max(
            sum(since + INSERT_S < when < until and table == name for when, table in front.seen.inserts)
            for name in {table for _, table in front.seen.inserts}
        )
        within_memory(before, stack.usage(DELIVERY))
        # two streams share the market's tables only in feed_events; each has one insert of a table on its way
        assert most <= 2 * ((until - since) / INSERT_S + 1)
        measured(slow_s=until - since, insert_s=INSERT_S, inserts_of_a_table=most, **end(stack))


def test_every_sink_at_a_tenth_of_its_speed(stack: Stack, measured: Measured) -> None:
    """Both deliveries and the warehouse run for 20 of each 200 ms; the collectors do not notice, and nothing is buffered but on disk."""
    stack.start("warehouse")
    stack.live("warehouse")
    names = (DELIVERY, "deliver-jsonl")
    stack.start(*COLLECTORS, *names)
    stack.live(*COLLECTORS, *names)
    stack.until("rows", lambda: all((stack.number(name, "rows") or 0) > 100 for name in names))
    before = {name: stack.usage(name) for name in (*names, *COLLECTORS)}
    clock, ages = SystemClock(), list[float]()
    durable = stack.home.settings.run_dir / "durable" / DEPTH
    with Throttle(stack, (*names, "warehouse")):
        deadline = time.monotonic() + SLOW_S
        while time.monotonic() < deadline:
            record = read_durable(durable)
            assert record is not None
            ages.append((clock.now_ns() - record.ts_recv) / 1e6)
            time.sleep(0.01)
    for name, usage in before.items():
        within_memory(usage, stack.usage(name))
    ages.sort()
    found = end(stack)
    stack.until("files drained", lambda: (stack.number("deliver-jsonl", "lag_lines") or 0) <= 0)
    stack.stop("deliver-jsonl")
    for account in check_files(stack.home):
        account.zero()
    measured(throttled_s=SLOW_S, durable_age_ms_p50=ages[len(ages) // 2], durable_age_ms_p99=ages[len(ages) * 99 // 100], **found)

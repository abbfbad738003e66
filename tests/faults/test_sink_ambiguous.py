"""F15: inserts whose end nobody knows. The connection is cut before or after the commit, or the insert is held up on its way and
committed later; then the rows are sent again in other batches, by the same process or by a new one.

Scale: quick 60 cuts, ci 200, full 1,000, a third of them late; late by 0.05 to 1 s (full: 1 to 30 s).
"""

import random
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from l2_platform.errors import SinkUnavailable
from l2_platform.settings import Settings
from l2_platform.sinks.clickhouse import ClickHouseSink
from tests.faults.conftest import Measured
from tests.faults.scale import scaled
from tests.faults.sinks import (
    DATE,
    at,
    client_of,
    depth_rows,
    event_rows,
    front_of,
    sink_at,
    stored,
    through,
    warehouse_at,
)
from tests.faults.warehouse_front import Insert, WarehouseFront

pytestmark = [pytest.mark.integration, pytest.mark.timeout(7200)]
CUTS = scaled(60, 200, 1000)
LATE_S = (scaled(0.05, 0.05, 1.0), scaled(1.0, 2.0, 30.0))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with warehouse_at(tmp_path_factory.mktemp("home")) as made:
        yield made


class Sender:
    """Delivers seqs in order as a delivery does: on a failure the same write again, or a new process that asks and re-batches."""

    def __init__(self, stream: str, settings: Settings, seed: int) -> None:
        self.stream = stream
        self.dice = random.Random(seed)
        self.failures = self.restarts = 0
        self._settings = settings
        self._stack = ExitStack()
        self._sink = self._start()
        self.seq = 0
        self.tried = 0
        """Greatest seq that any process ever sent: a new one begins at the last stored position, which follows seconds behind."""

    def _start(self) -> ClickHouseSink:
        while True:
            self._stack.close()
            sink = self._stack.enter_context(sink_at(self._settings))
            try:
                point = sink.resume(self.stream, DATE)
            except SinkUnavailable:
                continue
            self.seq = point.seq
            return sink

    def send(self) -> None:
        """One write of some hundred rows, until it is taken; `seq` moves."""
        count = self.dice.randrange(1, 400)
        while True:
            self.tried = max(self.tried, self.seq + count)
            batches = [depth_rows(self.stream, self.seq + 1, count), event_rows(self.stream, self.seq + 1, count)]
            try:
                self._sink.write(batches, at(self.seq + count), self.seq + count)
            except SinkUnavailable:
                self.failures += 1
                if self.dice.random() < 0.4:
                    self.restarts += 1
                    self._sink = self._start()
                    count = self.dice.randrange(1, 400)
                continue
            self.seq += count
            return

    def close(self) -> None:
        """Let go of the sink."""
        self._stack.close()


def test_no_cut_and_no_late_commit_doubles_or_loses_a_row(settings: Settings, measured: Measured) -> None:
    """Rows, distinct seqs and greatest seq are equal at the end, after every late insert has been forwarded."""
    stream = "iqfeed-depth-0"
    with front_of(settings) as front, client_of(settings) as client:
        sender = Sender(stream, through(front, settings), seed=15)
        dice = random.Random(51)
        kinds = ("before", "after", "late")
        _order(front, dice, kinds)
        while front.seen.cuts.total() < CUTS:
            sender.send()
        front.orders.cut = None
        sender.send()
        front.settle()
        sender.send()
        while sender.seq < sender.tried:
            sender.send()
        sender.close()
        assert min(front.seen.cuts[kind] for kind in kinds) > CUTS // 6
        assert sender.failures >= CUTS // 2
        assert sender.restarts > CUTS // 10
        assert stored(client, "depth_updates", stream) == (sender.seq, sender.seq, sender.seq)
        measured(**front.seen.cuts, failures=sender.failures, restarts=sender.restarts, rows=sender.seq, late_s_max=LATE_S[1])
        events = sender.seq // 3
        assert stored(client, "feed_events", stream)[:2] == (events, events)


def _order(front: WarehouseFront, dice: random.Random, kinds: tuple[str, ...]) -> None:
    def cut(_: Insert) -> str:
        return dice.choice(kinds) if dice.random() < 0.3 else ""

    front.orders.cut = cut
    front.orders.late_s = lambda: dice.uniform(*LATE_S)


def test_a_late_insert_that_wins_is_continued_and_not_repeated(settings: Settings) -> None:
    """The held insert commits first, between the question how far the table got and the retry: the retry is dropped by the server,
    which is noticed, and what it had more than the late one is sent.
    """
    stream = "iqfeed-depth-1"
    with front_of(settings) as front, client_of(settings) as client, sink_at(through(front, settings)) as sink:
        sink.resume(stream, DATE)
        held: list[bool] = []

        def hold_first(_: Insert) -> str:
            if not held:
                held.append(True)
                return "late"
            front.settle()  # the late one goes first, now that the retry has asked already
            return ""

        front.orders.cut, front.orders.late_s = hold_first, lambda: 0.0
        with pytest.raises(SinkUnavailable):
            sink.write([depth_rows(stream, 1, 100)], at(100), 100)
        sink.write([depth_rows(stream, 1, 250)], at(250), 250)
        assert stored(client, "depth_updates", stream) == (250, 250, 250)


def test_a_late_insert_of_a_dead_process_is_dropped(settings: Settings) -> None:
    """The new process knows nothing of it, and sends more rows in one block."""
    stream = "iqfeed-depth-2"
    with front_of(settings) as front, client_of(settings) as client:
        with sink_at(through(front, settings)) as sink:
            sink.resume(stream, DATE)
            sink.write([depth_rows(stream, 1, 10)], at(10), 10)
            # late enough that a busy machine asks before it
            front.orders.cut, front.orders.late_s = lambda _: "late", lambda: 5.0
            with pytest.raises(SinkUnavailable):
                sink.write([depth_rows(stream, 11, 50)], at(60), 60)
            front.orders.cut = None
        with sink_at(settings) as sink:
            assert sink.resume(stream, DATE).tables == {"depth_updates": (10, 0)}
            sink.write([depth_rows(stream, 11, 20)], at(30), 30)
            sink.write([depth_rows(stream, 31, 70)], at(100), 100)
        front.settle()
        assert stored(client, "depth_updates", stream) == (100, 100, 100)


WIPES = {
    "rows": "ALTER TABLE l2.depth_updates DELETE WHERE stream = '{stream}' SETTINGS mutations_sync = 1",
    "partition": "ALTER TABLE l2.depth_updates DROP PARTITION ('2025-07-25', '{stream}')",
}


@pytest.mark.parametrize("wiped", sorted(WIPES))
def test_rows_that_a_person_deleted_come_back_although_their_tokens_are_used(settings: Settings, wiped: str) -> None:
    """The same blocks from the same positions as before: the server drops each at first, and none is missing in the end."""
    stream = f"iqfeed-depth-{3 + sorted(WIPES).index(wiped)}"
    with client_of(settings) as client:
        for _ in range(3):
            with sink_at(settings) as sink:
                sink.resume(stream, DATE)
                for first in range(1, 1000, 100):
                    sink.write([depth_rows(stream, first, 100)], at(first + 99), first + 99)
            assert stored(client, "depth_updates", stream) == (1000, 1000, 1000)
            client.command(WIPES[wiped].format(stream=stream))
            assert stored(client, "depth_updates", stream)[0] == 0


def test_the_same_without_tokens_is_found(settings: Settings) -> None:
    """Control of the checks above: a table that keeps no tokens stores a late insert twice, and that shows."""
    stream = "iqfeed-depth-9"
    window = "ALTER TABLE l2.depth_updates MODIFY SETTING non_replicated_deduplication_window = "
    with front_of(settings) as front, client_of(settings) as client:
        client.command(window + "0")
        with sink_at(through(front, settings)) as sink:
            sink.resume(stream, DATE)
            front.orders.cut, front.orders.late_s = lambda _: "late", lambda: 0.5
            with pytest.raises(SinkUnavailable):
                sink.write([depth_rows(stream, 1, 50)], at(50), 50)
            front.orders.cut = None
            sink.write([depth_rows(stream, 1, 50)], at(50), 50)
        front.settle()
        client.command(window + "10000")
        assert stored(client, "depth_updates", stream) == (100, 50, 50)

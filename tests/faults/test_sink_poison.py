"""F23: rows that the warehouse will never take. They are found by halving, put aside with their reason, and delivered after the fix.

Scale: 3 poison rows among 30,000 (quick), 200,000 (ci), 1 in 10⁶ among 5,000,000 (full). The refusal is a real one of a real warehouse
(a constraint); the fix is that the constraint goes.
"""

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from l2_platform.clock import SystemClock
from l2_platform.errors import SinkRejected, SinkUnavailable
from l2_platform.settings import DeliverySettings, Settings
from l2_platform.sinks.quarantine import Quarantine
from tests.faults.conftest import Measured
from tests.faults.scale import scaled
from tests.faults.sinks import (
    DATE,
    POISON,
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
from tests.integration.homes import Home

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3600)]
ROWS = scaled(30_000, 200_000, 5_000_000)
BATCH = scaled(10_000, 50_000, 200_000)
EVERY = ROWS // 3 if ROWS < 1_000_000 else 1_000_000
FORBID = f"ALTER TABLE l2.depth_updates ADD CONSTRAINT no_poison CHECK order_id != {POISON}"
ALLOW = "ALTER TABLE l2.depth_updates DROP CONSTRAINT no_poison"


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with warehouse_at(tmp_path) as made, client_of(made) as client, sink_at(made):
        client.command(FORBID)
        yield made


def held_rows(settings: Settings) -> list[tuple[str, int]]:
    """(stream, seq) of what is held, as any process reads it."""
    quarantine = Quarantine(settings.quarantine_dir, "clickhouse", 1000, SystemClock())
    return sorted((row.stream, row.seq) for contents in quarantine.contents() for row in contents.held.values())


def test_poison_is_isolated_and_comes_back_after_the_fix(
    settings: Settings, tmp_path: Path, numba_cache: Path, measured: Measured
) -> None:
    """One try and log2(batch) + 1 more for each poison row; neighbours, the other table and the other stream lose nothing."""
    stream, other = "iqfeed-depth-0", "iqfeed-depth-1"
    poison = tuple(range(EVERY // 2, ROWS + 1, EVERY))
    worst = 0
    with front_of(settings) as front, client_of(settings) as client, sink_at(through(front, settings)) as sink:
        sink.resume(stream, DATE)
        sink.resume(other, DATE)
        for first in range(1, ROWS + 1, BATCH):
            before = len(front.seen.inserts)
            rows = depth_rows(stream, first, BATCH, poison)
            sink.write([rows, event_rows(stream, first, BATCH)], at(first + BATCH - 1), first + BATCH - 1)
            tries = sum(table == "depth_updates" for _, table in front.seen.inserts[before:])
            bad = sum(first <= seq < first + BATCH for seq in poison)
            assert tries <= 1 + bad * (math.ceil(math.log2(BATCH)) + 2)
            worst = max(worst, tries)
        sink.write([depth_rows(other, 1, 100)], at(100), 100)
        assert held_rows(settings) == [(stream, seq) for seq in poison]
        assert stored(client, "depth_updates", stream)[:2] == (ROWS - len(poison), ROWS - len(poison))
        assert stored(client, "depth_updates", other) == (100, 100, 100)
        assert stored(client, "feed_events", stream)[0] == ROWS // 3
        home = Home(tmp_path, numba_cache)
        listed = json.loads(home.ok("quarantine", "ls", "--json", "--rows"))
        assert [row["columns"]["order_id"] for row in listed] == [[POISON]] * len(poison)
        assert all(row["code"] == 469 and "no_poison" in row["reason"] for row in listed)
        assert home.run("quarantine", "retry").returncode == 1
        client.command(ALLOW)
        assert f"{len(poison)} of {len(poison)} rows" in home.ok("quarantine", "retry")
        assert home.ok("quarantine", "ls").strip() == "no row is held"
        assert stored(client, "depth_updates", stream) == (ROWS, ROWS, ROWS)
        sink.write([depth_rows(stream, ROWS + 1, 10)], at(ROWS + 10), ROWS + 10)
        assert stored(client, "depth_updates", stream) == (ROWS + 10, ROWS + 10, ROWS + 10)
    measured(rows=ROWS, batch=BATCH, poison=len(poison), tries_worst=worst)


def test_a_restart_in_the_middle_gives_the_same(settings: Settings) -> None:
    """The process ends between any two of its inserts; the next one asks, replays in other batches and holds the same rows once."""
    stream, poison = "iqfeed-depth-0", (5, 33, 34, 90)
    for cut_at in range(0, 60, scaled(12, 3, 1)):
        name = f"{stream}{cut_at}"
        with front_of(settings) as front:
            with sink_at(through(front, settings)) as sink:
                sink.resume(name, DATE)
                front.orders.cut = lambda _, seen=front.seen, last=cut_at: "before" if len(seen.inserts) > last else ""
                with suppress(SinkUnavailable):
                    sink.write([depth_rows(name, 1, 64, poison), event_rows(name, 1, 64)], at(64), 64)
            front.orders.cut = None
            with sink_at(through(front, settings)) as sink:
                sink.resume(name, DATE)
                sink.write([depth_rows(name, 1, 100, poison), event_rows(name, 1, 100)], at(100), 100)
        with client_of(settings) as client:
            assert [seq for of, seq in held_rows(settings) if of == name] == list(poison), cut_at
            assert stored(client, "depth_updates", name) == (96, 96, 100)
            assert stored(client, "feed_events", name)[:2] == (33, 33)


def test_too_much_poison_stops_the_stream_and_says_so(settings: Settings) -> None:
    few = settings.model_copy(update={"delivery": DeliverySettings(quarantine_rows_max=3)})
    with client_of(settings) as client, sink_at(few) as sink:
        sink.resume("iqfeed-depth-0", DATE)
        for _ in range(3):
            with pytest.raises(SinkRejected, match="3 rows of 2025-07-25 are in quarantine already"):
                sink.write([depth_rows("iqfeed-depth-0", 1, 50, (10, 20, 30, 40))], at(50), 50)
        assert len(held_rows(settings)) == 3
        assert stored(client, "depth_updates", "iqfeed-depth-0") == (36, 36, 39)
        client.command(ALLOW)
        sink.write([depth_rows("iqfeed-depth-0", 1, 50, (10, 20, 30, 40))], at(50), 50)
        assert stored(client, "depth_updates", "iqfeed-depth-0") == (47, 47, 50)


def test_a_torn_or_flipped_line_of_the_quarantine_is_told(settings: Settings) -> None:
    """A torn one is of an append that was not answered: its row is refused again. A flipped one is counted."""
    with sink_at(settings) as sink:
        sink.resume("iqfeed-depth-0", DATE)
        sink.write([depth_rows("iqfeed-depth-0", 1, 50, (10, 20))], at(50), 50)
    (file,) = (settings.quarantine_dir / "clickhouse").glob("*.jsonl")
    whole = file.read_bytes()
    first = whole.splitlines(keepends=True)[0]
    file.write_bytes(first + b'{"crc32c":1,"row":{"sta')
    with sink_at(settings) as sink:
        sink.resume("iqfeed-depth-0", DATE)
        sink.write([depth_rows("iqfeed-depth-0", 51, 50, (60,))], at(100), 100)
    assert held_rows(settings) == [("iqfeed-depth-0", 10), ("iqfeed-depth-0", 60)]
    file.write_bytes(whole.replace(b"no_poison", b"no_poisom", 1))
    (contents,) = Quarantine(settings.quarantine_dir, "clickhouse", 10, SystemClock()).contents()
    assert (len(contents.held), contents.damaged) == (1, 1)

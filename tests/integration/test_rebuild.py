"""Rebuild of recorded days against the embedded warehouse: the same rows as the live delivery's, and what differs is told and mended."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from l2_platform.clock import SystemClock
from l2_platform.delivery.checkpoint import CheckpointStore
from l2_platform.errors import DateBusy, InputError, SinkBlocked
from l2_platform.monitoring.heartbeat import Lease
from l2_platform.monitoring.leases import ALL_STREAMS, date_lease
from l2_platform.replay.rebuild import RebuildRequest, rebuild_date
from l2_platform.replay.rebuilt import StreamResult
from l2_platform.settings import (
    DeliverySettings,
    DiskSettings,
    RebuildSettings,
    Settings,
    WarehouseSettings,
    load_settings,
)
from l2_platform.warehouse.client import connect
from tests.integration.ports import free_base
from tests.integration.recorded_days import DATE, DEPTH, LEVEL1, NEXT, deliver, end_warehouse, record_day

pytestmark = pytest.mark.integration
TABLES = ("depth_updates", "quotes", "trades", "book_snapshots", "feed_events")
WHERE = "session_date = '2025-07-25'"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    made = load_settings(
        home=tmp_path_factory.mktemp("home"), warehouse=WarehouseSettings(idle_exit_s=900), ports={"base": free_base()},
        delivery=DeliverySettings(discover_s=0.01), rebuild=RebuildSettings(insert_rows=1000, diff_rows=1000, diff_keys=3),
    )  # fmt: skip
    record_day(made)
    deliver(made)
    yield made
    end_warehouse(made)


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[Client]:
    made = connect(settings)
    yield made
    made.close()


def rebuild(settings: Settings, *streams: str, symbols: tuple[str, ...] = ()) -> dict[str, StreamResult]:
    request = RebuildRequest(DATE, streams, symbols)
    return {result.stream: result for result in rebuild_date(request, settings, SystemClock())}


def rows(client: Client) -> dict[str, list[Any]]:
    """Every row of the date, in key order."""
    found: dict[str, list[Any]] = {}
    for table in TABLES:
        key = "stream, seq, ordinal" if table == "feed_events" else "stream, seq"
        found[table] = list(client.query(f"SELECT * FROM l2.{table} WHERE {WHERE} ORDER BY {key}").result_rows)
    return found


def scalar(client: Client, sql: str) -> Any:
    return client.query(sql).result_rows[0][0]


def staging_is_gone(client: Client) -> bool:
    return scalar(client, "SELECT count() FROM system.tables WHERE database = 'l2_staging'") == 0


def test_what_the_live_delivery_stored_is_equal_and_stays(settings: Settings, client: Client) -> None:
    before = rows(client)
    parts = scalar(client, "SELECT groupArray(name) FROM (SELECT name FROM system.parts WHERE active AND table = 'trades' ORDER BY name)")
    results = rebuild(settings)
    assert set(results) == {DEPTH, LEVEL1}
    for result in results.values():
        assert result.outcome == "equal"
        assert all(table.state == "equal" and table.hash_before == table.hash_after for table in result.tables)
        assert result.messages == result.seq_last > 3000
    counts = {table.table: table.rows_after for result in results.values() for table in result.tables if table.rows_after}
    assert all(counts[table] for table in TABLES)
    assert rows(client) == before
    assert staging_is_gone(client)
    same = scalar(client, "SELECT groupArray(name) FROM (SELECT name FROM system.parts WHERE active AND table = 'trades' ORDER BY name)")
    assert same == parts


def test_rows_that_were_lost_doubled_and_changed_are_named_and_mended(settings: Settings, client: Client) -> None:
    before = rows(client)
    mutate = "SETTINGS mutations_sync = 2"
    client.command(f"ALTER TABLE l2.depth_updates DELETE WHERE {WHERE} AND seq IN (10, 2000) {mutate}")
    client.command(f"ALTER TABLE l2.depth_updates UPDATE price = 7, size = 1 WHERE {WHERE} AND seq BETWEEN 100 AND 104 {mutate}")
    client.command(f"INSERT INTO l2.quotes SELECT * FROM l2.quotes WHERE {WHERE} AND seq = 50 SETTINGS insert_deduplicate = 0")
    client.command(
        f"INSERT INTO l2.trades SELECT * REPLACE (toUInt64(999999) AS seq) FROM l2.trades WHERE {WHERE} LIMIT 1 "
        "SETTINGS insert_deduplicate = 0"
    )
    found = rebuild(settings)
    tables = {(stream, table.table): table for stream, result in found.items() for table in result.tables}
    depth = tables[DEPTH, "depth_updates"]
    assert depth.state == "replaced"
    assert depth.rows_after == depth.rows_before + 2
    assert depth.diff is not None
    assert (depth.diff["only_before"], depth.diff["only_after"], depth.diff["changed"]) == (0, 2, 5)
    assert depth.diff["keys"]["only_after"] == ["10", "2000"]
    assert depth.diff["keys"]["changed"] == ["100", "101", "102"]
    assert depth.diff["columns"]["price"] == 5
    quotes, trades = tables[LEVEL1, "quotes"].diff, tables[LEVEL1, "trades"].diff
    assert quotes is not None
    assert (quotes["changed"], quotes["columns"]) == (1, {})
    assert trades is not None
    assert trades["keys"]["only_before"] == ["999999"]
    assert tables[DEPTH, "book_snapshots"].state == "equal"
    assert rows(client) == before
    assert staging_is_gone(client)
    assert all(result.outcome == "equal" for result in rebuild(settings).values())


def test_only_the_selected_symbols_are_made_anew(settings: Settings, client: Client) -> None:
    before = rows(client)
    update = "SETTINGS mutations_sync = 2"
    client.command(f"ALTER TABLE l2.depth_updates UPDATE size = 1 WHERE {WHERE} AND symbol IN ('SYM001', 'SYM002') {update}")
    wrong = rows(client)["depth_updates"]
    result = rebuild(settings, DEPTH, symbols=("SYM001",))[DEPTH]
    assert result.symbols == ["SYM001"]
    names = client.query("SELECT name FROM system.columns WHERE database = 'l2' AND table = 'depth_updates' ORDER BY position").result_rows
    symbol = [name for (name,) in names].index("symbol")
    whole: dict[str, list[Any]] = {row[symbol]: [] for row in before["depth_updates"]}
    for row in rows(client)["depth_updates"]:
        whole[row[symbol]].append(row)
    for name, kept in whole.items():
        assert kept == [row for row in (wrong if name == "SYM002" else before["depth_updates"]) if row[symbol] == name]
    assert rebuild(settings, DEPTH)[DEPTH].outcome == "rebuilt"
    assert rows(client) == before
    with pytest.raises(InputError, match="did you mean SYM001"):
        rebuild(settings, symbols=("SYM01",))


def test_a_wiped_date_comes_back_with_its_gaps_and_position(settings: Settings, client: Client) -> None:
    before = rows(client)
    gaps = "SELECT * EXCEPT (ts_written) FROM l2.gap_events WHERE session_date = '2025-07-25' ORDER BY stream, seq, ordinal"
    known = client.query(gaps).result_rows
    assert known
    for table in (*TABLES, "gap_events", "delivery_positions"):
        client.command(f"ALTER TABLE l2.{table} DELETE WHERE {WHERE} SETTINGS mutations_sync = 2")
    client.command(f"INSERT INTO l2.depth_updates (stream, session_date, seq, symbol) VALUES ('{DEPTH}', '2025-07-25', 1, 'SYM001')")
    with pytest.raises(InputError, match="only up to line 0 of"):
        rebuild(settings, DEPTH, symbols=("SYM001",))
    results = rebuild(settings)
    assert {result.outcome for result in results.values()} == {"rebuilt"}
    assert sum(result.gap_events_added for result in results.values()) == len(known)
    assert rows(client) == before
    assert client.query(gaps).result_rows == known
    ends = f"SELECT stream, max(seq) FROM l2.delivery_positions WHERE {WHERE} GROUP BY stream"
    positions: dict[str, int] = dict(client.query(ends).result_rows)
    assert positions == {stream: result.seq_last for stream, result in results.items()}
    assert sum(result.gap_events_added for result in rebuild(settings).values()) == 0


def test_a_delivery_that_starts_afterwards_adds_nothing(settings: Settings, client: Client) -> None:
    client.command(f"ALTER TABLE l2.quotes DELETE WHERE {WHERE} AND seq > 1000 SETTINGS mutations_sync = 2")
    rebuild(settings)
    before = rows(client)
    # as if nothing were known of what was delivered: it asks the tables
    for stream in (DEPTH, LEVEL1):
        (settings.checkpoint_dir / "clickhouse" / stream / "done.json").unlink()
    deliver(settings)
    assert rows(client) == before
    assert CheckpointStore(settings.checkpoint_dir / "clickhouse" / DEPTH, 1).done_through() == DATE


def test_dates_that_cannot_be_rebuilt_say_why(settings: Settings) -> None:
    near = "nothing on session date 2025-07-27; recorded dates near it: 2025-07-25, 2025-07-26"
    for date, message in ((NEXT + 1, near), (29990101, "future")):
        with pytest.raises(InputError, match=message):
            rebuild_date(RebuildRequest(date), settings, SystemClock())
    with pytest.raises(InputError, match="did you mean iqfeed-depth-0"):
        rebuild(settings, "iqfeed-depth-9")
    closed_day = settings.model_copy(update={"session": settings.session.model_copy(update={"calendar": "XNYS"})})
    with pytest.raises(InputError, match="2025-07-27 is a closed day of calendar XNYS"):
        rebuild_date(RebuildRequest(NEXT + 1), closed_day, SystemClock())
    off = settings.model_copy(update={"clickhouse": settings.clickhouse.model_copy(update={"enabled": False})})
    with pytest.raises(InputError, match="switched off"):
        rebuild(off)
    full = settings.model_copy(update={"disk": DiskSettings(reserve_bytes=1 << 49)})
    with pytest.raises(SinkBlocked, match="free some space"):
        rebuild(full)


class ClockAt(SystemClock):
    """Wall time is another."""

    def __init__(self, ns: int) -> None:
        self._ns = ns

    def now_ns(self) -> int:
        return self._ns


def test_a_date_that_is_still_live_says_when_it_ends(settings: Settings) -> None:
    inside = 1_753_459_200_000_000_000  # 2025-07-25 16:00 UTC
    with pytest.raises(InputError, match=r"still being recorded.*ends at 2025-07-26 00:00 UTC \(2025-07-25 20:00 New York\)"):
        rebuild_date(RebuildRequest(DATE), settings, ClockAt(inside))


def test_a_second_rebuild_and_a_delivery_at_work_are_named(settings: Settings) -> None:
    with date_lease(settings.run_dir, ALL_STREAMS, DATE, "close"), pytest.raises(DateBusy, match="close"):
        rebuild(settings)
    done = settings.checkpoint_dir / "clickhouse" / DEPTH / "done.json"
    text = done.read_text()
    done.write_text(json.dumps({"done_through": DATE - 1}))
    try:
        with Lease(settings.run_dir / "leases" / "deliver-clickhouse"), pytest.raises(DateBusy, match="has not finished session date"):
            rebuild(settings, DEPTH)
        # nobody delivers: no delivery may begin meanwhile
        assert rebuild(settings, DEPTH)[DEPTH].outcome == "equal"
    finally:
        done.write_text(text)


def test_damaged_journal_is_counted_and_the_rest_rebuilt(settings: Settings, client: Client, tmp_path: Path) -> None:
    path = settings.journal_dir / LEVEL1 / str(DATE) / "000001.l2j"
    data = path.read_bytes()
    before = rows(client)
    try:
        path.write_bytes(data[: len(data) // 2] + b"\xff" * 64 + data[len(data) // 2 + 64 :])
        result = rebuild(settings, LEVEL1)[LEVEL1]
        assert result.damaged >= 1
        assert result.outcome == "rebuilt"
    finally:
        path.write_bytes(data)
    assert rebuild(settings, LEVEL1)[LEVEL1].outcome == "rebuilt"
    assert rows(client) == before


def test_imports_of_several_dates_rebuild_with_the_books_of_the_day_before(settings: Settings, client: Client) -> None:
    from benchmarks.lines import GeneratedMarket
    from l2_platform.collectors.importing import deliver_import
    from l2_platform.journal.importing import write_finished_stream

    stream = "iqfeed-depth-import-0badcafe"
    market = GeneratedMarket(2, rate=2000)
    frames = (market.snapshot() + market.depth(2000)).block(frame_lines=100).frames()
    numbered, seq = [], 1
    for data, count, _, ts in frames:
        numbered.append((data, count, seq, ts))
        seq += count
    half = len(numbered) // 2
    dates = [(DATE, iter(numbered[:half])), (NEXT, iter(numbered[half:]))]
    write_finished_stream(settings.journal_dir, stream, dates, context={}, calendar="XNYS")
    deliver_import("clickhouse", stream, settings, SystemClock(), lambda *_: None)
    for date in (DATE, NEXT):
        (result,) = rebuild_date(RebuildRequest(date, (stream,)), settings, SystemClock())
        assert result.outcome == "equal"
        assert {table.table for table in result.tables if table.rows_after} >= {"depth_updates", "book_snapshots"}

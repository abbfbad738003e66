"""Bars by IQFeed's print rules, against the vendor's own bars and on generated trades; `universe` and `session_calendar`, materialized."""

import gzip
import random
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from clickhouse_connect.driver.client import Client

from l2_platform.clock import SystemClock
from l2_platform.definitions import build_definitions
from l2_platform.monitoring.symbols_file import demo_symbols, edit_symbols, with_added, with_removed, write_symbols
from l2_platform.warehouse.start import find_warehouse
from l2_platform.warehouse.universe import universe_at
from tests.integration.homes import Home
from tests.integration.stored import warehouse

pytestmark = pytest.mark.integration

NEW_YORK = ZoneInfo("America/New_York")
DAY = date(2026, 3, 6)
SYMBOL = "AAA"
COLUMNS = [
    "stream", "session_date", "seq", "symbol", "ts_event", "ts_recv", "source", "price", "size", "basis", "total_volume", "trade_date",
]  # fmt: skip
BASES = {"last": "C", "extended": "E", "other": "O", "settle": "S"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Home:
    return Home(tmp_path_factory.mktemp("bars"), numba_cache, {"L2_SESSION__CALENDAR": "XNYS"})


@pytest.fixture(scope="module")
def client(home: Home) -> Iterator[Client]:
    # one that stays: a warehouse that a command started would end while another process is busy
    server = home.start(sys.executable, "-m", "l2_platform.warehouse.server", log="warehouse")
    try:
        while find_warehouse(home.settings) is None:
            assert server.poll() is None, "the warehouse ended"
            SystemClock().sleep(0.1)
        with warehouse(home.settings) as found:
            yield found
    finally:
        server.terminate()
        server.wait()


def vendor_rows(path: Path) -> list[list[str]]:
    with gzip.open(path, "rt") as file:
        return [line.rstrip("\r\n").split(",") for line in file if not line.startswith("!")]


def second_of(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).timestamp())


def test_bars_of_real_ticks_equal_the_vendors_in_every_row(home: Home, client: Client, market_data: Path):
    home.ok("import", market_data / "iqfeed_ticks_2021-03-01_to_03.csv.gz", "--channel", "ticks", "--symbol", "XYZ")
    columns = "toUnixTimestamp(ts_begin), high, low, open, close, total_volume, volume"
    seconds = [
        (second_of(row[0]), *(Decimal(price) for price in row[1:5]), int(row[5]), int(row[6]))
        for row in vendor_rows(market_data / "iqfeed_bars_1s_2021-03-01_to_03.csv.gz")
    ]
    stored = client.query(f"SELECT {columns} FROM l2.bars_1s WHERE symbol = 'XYZ' ORDER BY ts_begin").result_rows
    assert len(stored) == 7949
    assert list(stored) == seconds

    fives: dict[int, list[tuple]] = defaultdict(list)
    for row in seconds:
        fives[row[0] // 5 * 5].append(row)
    expected = [
        (begin, max(r[1] for r in rows), min(r[2] for r in rows), rows[0][3], rows[-1][4], rows[-1][5], sum(r[6] for r in rows))
        for begin, rows in sorted(fives.items())
    ]
    stored = client.query(f"SELECT {columns} FROM l2.bars_5s WHERE symbol = 'XYZ' ORDER BY ts_begin").result_rows
    assert list(stored) == expected

    days = {
        row[0]: (*(Decimal(price) for price in row[1:5]), int(row[5]))
        for row in vendor_rows(market_data / "iqfeed_bars_daily_2021-02-22_to_03-26.csv.gz")
    }
    sql = "SELECT toString(trade_date), high, low, open, close, volume FROM l2.bars_daily WHERE symbol = 'XYZ'"
    stored = client.query(sql).result_rows
    assert {row[0]: row[1:] for row in stored} == {name: days[name] for name in ("2021-03-01", "2021-03-02", "2021-03-03")}


def generated_trades(count: int, seed: int = 3) -> list[tuple[int, datetime, str, Decimal, int, int]]:
    """(seq, time, basis, price, size, total volume): some on the edge of a second, several a second, long pauses."""
    rng = random.Random(seed)
    at, total, found = datetime(2026, 3, 6, 14, 29, 50, tzinfo=UTC), 0, []
    for seq in range(1, count + 1):
        at += timedelta(microseconds=rng.choice((0, 1, 999_999, 40_000, 1_000_000, 5_000_000, 61_000_000)))
        at = at.replace(microsecond=0) if rng.random() < 0.1 else at
        basis, size = rng.choice(("last", "last", "last", "extended", "other", "settle")), rng.randrange(1, 900)
        total += size if basis != "settle" else 0
        found.append((seq, at, basis, Decimal(rng.randrange(1, 10**12)).scaleb(-9), size, total))
    return found


def put(client: Client, trades: list[tuple[int, datetime, str, Decimal, int, int]], symbol: str = SYMBOL) -> None:
    rows = [
        ["iqfeed-level1-0", DAY, seq, symbol, at, at, "live", price, size, basis, total, DAY]
        for seq, at, basis, price, size, total in trades
    ]
    client.insert("trades", rows, column_names=COLUMNS, database="l2")


def bars_of(trades, length_s: int, shown: str, counted: str) -> list[tuple]:
    """(begin, open, high, low, close, volume, prints) by hand."""
    groups: dict[int, list] = defaultdict(list)
    for trade in trades:
        if BASES[trade[2]] in counted:
            groups[int(trade[1].timestamp()) // length_s * length_s].append(trade)
    found = []
    for begin, group in sorted(groups.items()):
        prices = [trade[3] for trade in group if BASES[trade[2]] in shown]
        if prices:
            found.append((begin, prices[0], max(prices), min(prices), prices[-1], sum(trade[4] for trade in group), len(group)))
    return found


def test_bars_of_generated_trades(client: Client):
    trades = generated_trades(3000)
    put(client, trades)
    for view, length_s in (("bars_1s", 1), ("bars_5s", 5), ("bars_1m", 60)):
        columns = "toUnixTimestamp(ts_begin), open, high, low, close, volume, trade_count"
        sql = f"SELECT {columns} FROM l2.{view} WHERE symbol = '{SYMBOL}' ORDER BY 1"
        assert list(client.query(sql).result_rows) == bars_of(trades, length_s, "CE", "CE"), view
    sql = f"SELECT open, high, low, close, volume, trade_count FROM l2.bars_daily WHERE symbol = '{SYMBOL}'"
    assert list(client.query(sql).result_rows) == [bars_of(trades, 10**9, "C", "CEO")[0][1:]]


def test_day_without_a_c_print_has_no_daily_bar(client: Client):
    put(client, [(900_002, datetime(2026, 3, 6, 15, tzinfo=UTC), "extended", Decimal(1), 5, 5)], "EXT")
    assert client.query("SELECT count() FROM l2.bars_daily WHERE symbol = 'EXT'").result_rows == [(0,)]
    assert client.query("SELECT count() FROM l2.bars_1s WHERE symbol = 'EXT'").result_rows == [(1,)]


def materialize(home: Home, *names: str, partition_key: str | None = None):
    definitions = build_definitions(home.settings, {"clock": SystemClock()})
    assets = [item for item in definitions.assets or [] if isinstance(item, dg.AssetsDefinition)]
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            assets, partition_key=partition_key, selection=list(names), instance=instance, resources=dict(definitions.resources or {})
        )
        facts = {event.asset_key.to_user_string(): event.materialization.metadata for event in result.get_asset_materialization_events()}
        return facts, {(check.asset_key.to_user_string(), check.check_name): check for check in result.get_asset_check_evaluations()}


def columns_of(client: Client, table: str) -> set[str]:
    sql = f"SELECT name FROM system.columns WHERE database = 'l2' AND table = '{table}'"
    return {name for (name,) in client.query(sql).result_rows}


def test_bar_assets_show_counts_schema_lineage_and_a_passing_check(home: Home, client: Client):
    put(client, [(950_000, datetime(2026, 3, 6, 16, tzinfo=UTC), "last", Decimal(7), 10, 10)])
    (home.settings.journal_dir / "iqfeed-level1-0" / "20260306").mkdir(parents=True, exist_ok=True)
    names = ("bars_1s", "bars_5s", "bars_1m", "bars_daily", "book_snapshots")
    facts, checks = materialize(home, *names, partition_key=DAY.isoformat())
    assert all(checks[view, "bars_are_sound"].passed for view in names[:4])
    for view in names[:4]:
        bars = client.query(f"SELECT count() FROM l2.{view} WHERE session_date = '{DAY}'").result_rows[0][0]
        assert facts[view]["dagster/partition_row_count"].value == bars > 0
        begin = "trade_date" if view == "bars_daily" else "ts_begin"
        sql = f"SELECT toString(min({begin})), toString(max({begin})) FROM l2.{view} WHERE session_date = '{DAY}'"
        told = [facts[view][name].value.removesuffix(" UTC") for name in ("first_bar", "last_bar")]
        assert told == list(client.query(sql).result_rows[0])
        lineage = facts[view]["dagster/column_lineage"].value.deps_by_column
        columns = {column.name for column in facts[view]["dagster/column_schema"].value.columns}
        assert set(lineage) == columns, "every column says what it is made of"
        assert {dep.column_name for deps in lineage.values() for dep in deps} <= columns_of(client, "trades")
    book = facts["book_snapshots"]["dagster/column_lineage"].value.deps_by_column
    assert set(book) == {column.name for column in facts["book_snapshots"]["dagster/column_schema"].value.columns}
    assert {dep.column_name for deps in book.values() for dep in deps} <= columns_of(client, "depth_updates")


def test_universe_can_be_asked_for_any_instant(home: Home, client: Client):
    path = home.settings.symbols_file
    write_symbols(path, demo_symbols(3))
    facts, _ = materialize(home, "universe")
    assert (facts["universe"]["symbols"].value, facts["universe"]["added"].value) == (3, "SYM000, SYM001, SYM002")
    first_ns = path.stat().st_mtime_ns
    again, _ = materialize(home, "universe")
    assert (again["universe"]["added"].value, again["universe"]["removed"].value) == ("none", "none")
    edit_symbols(path, lambda file: with_added(with_removed(file, ["SYM001"]), "tech", ["AAPL"]))
    facts, _ = materialize(home, "universe")
    assert (facts["universe"]["added"].value, facts["universe"]["removed"].value) == ("AAPL", "SYM001")
    second_ns = path.stat().st_mtime_ns
    assert universe_at(client, "l2", first_ns - 1) == []
    assert universe_at(client, "l2", first_ns) == ["SYM000", "SYM001", "SYM002"]
    assert universe_at(client, "l2", second_ns - 1) == ["SYM000", "SYM001", "SYM002"]
    assert universe_at(client, "l2", second_ns) == ["AAPL", "SYM000", "SYM002"]
    assert client.query("SELECT symbol, group_name FROM l2.universe ORDER BY symbol").result_rows == [
        ("AAPL", "tech"), ("SYM000", "demo"), ("SYM002", "demo"),
    ]  # fmt: skip
    assert client.query("SELECT count() FROM l2.universe_events").result_rows == [(5,)], "what did not change is not written again"


def test_every_version_of_the_symbols_is_recorded_however_fast_it_was_replaced(home: Home, client: Client):
    path = home.settings.symbols_file
    before = universe_at(client, "l2", path.stat().st_mtime_ns)
    stamps = []
    for symbol in ("MSFT", "IBM"):
        edit_symbols(path, lambda file, name=symbol: with_added(file, "fast", [name]))  # type: ignore[misc]
        stamps.append(path.stat().st_mtime_ns)
    edit_symbols(path, lambda file: with_removed(file, ["MSFT", "IBM"]))
    for _ in range(2):
        materialize(home, "universe")
    assert universe_at(client, "l2", stamps[0]) == sorted([*before, "MSFT"])
    assert universe_at(client, "l2", stamps[1]) == sorted([*before, "IBM", "MSFT"])
    assert universe_at(client, "l2", path.stat().st_mtime_ns) == before
    rows = client.query("SELECT symbol, wanted FROM l2.universe_events WHERE group_name = 'fast' ORDER BY ts, symbol").result_rows
    assert rows == [("MSFT", 1), ("IBM", 1), ("IBM", 0), ("MSFT", 0)], "each once, in order"


def test_session_calendar_knows_half_days_holidays_and_clock_changes(home: Home, client: Client):
    facts, _ = materialize(home, "session_calendar")
    metadata = facts["session_calendar"]
    assert metadata["sessions_ahead"].value > 240
    assert metadata["clock_changes_ahead"].value.count("h)") == 2
    assert "-11-2" in metadata["half_days_ahead"].value, "the day after Thanksgiving"
    assert "-12-25" in metadata["closed_days_ahead"].value
    again, _ = materialize(home, "session_calendar")
    assert again["session_calendar"]["rows_written"].value == 0
    ordered = "ts_pre < ts_open AND ts_open < ts_close AND ts_close < ts_after AND ts_after < ts_end"
    odd = client.query(f"SELECT count() FROM l2.session_calendar FINAL WHERE NOT ({ordered})")
    assert odd.result_rows == [(0,)]
    lengths = "SELECT DISTINCT dateDiff('minute', ts_open, ts_close), half_day FROM l2.session_calendar FINAL ORDER BY 1"
    assert client.query(lengths).result_rows == [(210, 1), (390, 0)]
    offsets = client.query("SELECT DISTINCT toHour(ts_open) + utc_offset_s / 3600 FROM l2.session_calendar FINAL").result_rows
    assert offsets == [(9.0,)], "09:30 exchange time all year round"

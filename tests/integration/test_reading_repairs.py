"""Reads of repaired dates: live rows and repairs as one, no print twice, bars of both together."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from clickhouse_connect.driver.client import Client

import l2_platform
from l2_platform.archive.export import export_date
from l2_platform.clock import SystemClock
from l2_platform.errors import InputError
from l2_platform.monitoring.changed_dates import note_change
from l2_platform.quality.repair import STREAM
from l2_platform.settings import Settings
from l2_platform.warehouse.bars import bar_facts, busiest
from tests.integration.homes import Home
from tests.integration.stored import LIVE, put_trades, warehouse

pytestmark = pytest.mark.integration
DAY, NEXT, WHOLE = "2026-11-18", "2026-11-19", "2026-11-17"
HISTORY = "iqfeed-ticks-history"
GAP = (70, 200)
"""Seconds of the day's 300 that came from a repair; SYMBOLS are in turns."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Settings:
    variables = {"L2_WAREHOUSE__IDLE_EXIT_S": "120", "L2_SESSION__CALENDAR": "XNYS"}
    return Home(tmp_path_factory.mktemp("home"), numba_cache, variables).settings


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[Client]:
    """`WHOLE` was received live, `DAY` is the same with a repaired gap; a repaired print was reported late and came live too."""
    with warehouse(settings) as found:
        put_trades(found, LIVE, WHOLE, 300)
        put_trades(found, LIVE, DAY, 300)
        put_trades(found, STREAM, DAY, 300)
        inside = f"seq > {GAP[0]} AND seq <= {GAP[1]}"
        settled = "SETTINGS mutations_sync = 2"
        lost = f"stream = '{LIVE}' AND session_date = '{DAY}' AND {inside} AND seq != 100"
        found.command(f"ALTER TABLE l2.trades DELETE WHERE {lost} {settled}")
        found.command(f"ALTER TABLE l2.trades DELETE WHERE stream = '{STREAM}' AND NOT ({inside}) {settled}")
        found.command(f"ALTER TABLE l2.trades UPDATE source = 'history' WHERE stream = '{STREAM}' {settled}")
        yield found


def test_live_rows_and_repairs_are_one(client: Client, settings: Settings) -> None:
    rows = l2_platform.read("trades", None, DAY, NEXT, settings=settings)
    assert rows["tick_id"].to_list() == list(range(300))
    by_source = dict(rows.group_by("source").len().iter_rows())
    assert by_source == {"live": 171, "history": 129}
    # the print that came live after all is the live one
    assert rows.filter(pl.col("tick_id") == 99)["source"].to_list() == ["live"]
    one = l2_platform.read("trades", "BBB", f"{DAY}T10:01:00", f"{DAY}T10:02:00", columns=["size"], settings=settings)
    assert one.columns == ["size"]
    assert len(one) == 20
    assert l2_platform.read("trades", None, DAY, NEXT, stream=LIVE, settings=settings)["source"].unique().to_list() == ["live"]
    assert len(l2_platform.read("trades", None, DAY, NEXT, stream=STREAM, settings=settings)) == 130


@pytest.mark.parametrize("view", ["bars_1s", "bars_5s", "bars_1m", "bars_daily"])
def test_bars_are_made_of_both(client: Client, settings: Settings, view: str) -> None:
    values = ["symbol", "open", "high", "low", "close", "volume", "trade_count"]
    repaired = l2_platform.read(view, None, DAY, NEXT, settings=settings)
    whole = l2_platform.read(view, None, WHOLE, DAY, settings=settings)
    assert repaired.select(values).equals(whole.select(values))
    assert repaired["stream"].unique().to_list() == [LIVE]
    assert repaired.schema == whole.schema


def test_bars_of_a_span_and_of_one_symbol(client: Client, settings: Settings) -> None:
    bars = l2_platform.read("bars_1m", "AAA", f"{DAY}T10:01:00", f"{DAY}T10:03:00", columns=["trade_count"], settings=settings)
    assert bars["trade_count"].to_list() == [20, 20]


def test_a_history_of_the_whole_date_needs_no_repairs(client: Client, settings: Settings) -> None:
    put_trades(client, HISTORY, "2026-11-16", 30)
    put_trades(client, STREAM, "2026-11-16", 30)
    rows = l2_platform.read("trades", None, "2026-11-16", WHOLE, settings=settings)
    assert rows["stream"].unique().to_list() == [HISTORY]
    put_trades(client, STREAM, "2026-11-13", 30)
    assert len(l2_platform.read("trades", None, "2026-11-13", "2026-11-14", settings=settings)) == 30


def test_prints_and_bars_in_sql_are_those_of_the_whole_day(client: Client) -> None:
    """Whoever asks the warehouse itself sees each print once, in the live stream of its symbol."""
    sql = f"SELECT tick_id, stream, source FROM l2.prints WHERE session_date = '{DAY}' ORDER BY tick_id"
    found = client.query(sql).result_rows
    assert [row[0] for row in found] == list(range(300))
    assert {row[1] for row in found} == {LIVE}
    assert [row[2] for row in found].count("history") == 129
    values = "symbol, open, high, low, close, volume, trade_count"
    for view in ("bars_1s", "bars_5s", "bars_1m", "bars_daily"):
        bars = [
            client.query(f"SELECT {values} FROM l2.{view} WHERE session_date = '{day}' AND stream = '{LIVE}' ORDER BY ALL").result_rows
            for day in (DAY, WHOLE)
        ]
        assert bars[0] == bars[1], view
        others = f"SELECT count() FROM l2.{view} WHERE session_date = '{DAY}' AND (stream != '{LIVE}' OR source != 'live')"
        assert client.query(others).result_rows == [(0,)], view


def test_a_date_costs_the_same_however_many_others_are_stored(client: Client) -> None:
    """What is asked of a date reaches every read of the views, also those behind joins; a symbol is found by the key."""

    def put(day: str) -> None:
        put_trades(client, LIVE, day, 18_000)
        put_trades(client, STREAM, day, 300)

    def costs(day: str) -> dict[str, int]:
        found = {}
        for view in ("prints", "bars_1s", "bars_5s", "bars_1m", "bars_daily"):
            for more in ("", " AND symbol = 'AAA'", f" AND stream = '{LIVE}'"):
                told = client.query(f"EXPLAIN ESTIMATE SELECT * FROM l2.{view} WHERE session_date = '{day}'{more}")
                found[view + more] = sum(row[told.column_names.index("rows")] for row in told.result_rows)
        return found

    put("2026-10-05")
    alone = costs("2026-10-05")
    for other in ("2026-10-06", "2026-10-07", "2026-10-08"):
        put(other)
    assert costs("2026-10-05") == alone
    assert 0 < alone["bars_1m AND symbol = 'AAA'"] < alone["bars_1m"] <= 4 * 18_300


def test_bars_of_a_date_count_live_streams_before_others(client: Client) -> None:
    day = date(2026, 11, 12)
    put_trades(client, LIVE, day.isoformat(), 60, symbols=("AAA",))
    for other in ("iqfeed-ticks-import-1a2b3c4d", STREAM):
        put_trades(client, other, day.isoformat(), 60, symbols=("AAA", "BBB"))
    facts = bar_facts(client, "l2", "bars_1m", day)
    # AAA: the live prints; BBB: the import, which has what the repair brought
    assert (facts.prints, facts.streams) == (90, ("iqfeed-level1-0", "iqfeed-ticks-import-1a2b3c4d"))
    assert [row[0] for row in busiest(client, "l2", "bars_1m", day, 5)] == ["AAA", "BBB"]


def test_from_the_archive_it_is_the_same(client: Client, settings: Settings) -> None:
    before = l2_platform.read("trades", None, DAY, NEXT, settings=settings)
    bars = l2_platform.read("bars_1m", None, DAY, NEXT, settings=settings)
    export_date(client, settings, SystemClock(), date.fromisoformat(DAY))
    assert l2_platform.read("trades", None, DAY, NEXT, archive_only=True, settings=settings).equals(before)
    assert l2_platform.read("bars_1m", None, DAY, NEXT, archive_only=True, settings=settings).equals(bars)
    # a repair more: nobody gets the old rows for the new ones
    client.command(f"ALTER TABLE l2.trades UPDATE size = size + 1 WHERE stream = '{STREAM}' AND seq != 100 SETTINGS mutations_sync = 2")
    note_change(settings.run_dir, 20261118, 1)
    with pytest.raises(InputError, match=r"was repaired, rebuilt or filled after it was archived: `l2 archive 2026-11-18`"):
        l2_platform.read("trades", None, DAY, NEXT, archive_only=True, settings=settings)
    export_date(client, settings, SystemClock(), date.fromisoformat(DAY), table="trades")
    with pytest.raises(InputError, match="was repaired, rebuilt or filled"):
        l2_platform.read("trades", None, DAY, NEXT, archive_only=True, settings=settings)
    export_date(client, settings, SystemClock(), date.fromisoformat(DAY))
    newest = l2_platform.read("trades", None, DAY, NEXT, archive_only=True, settings=settings)
    assert newest["size"].sum() == before["size"].sum() + 129
    before = newest
    # live trades in the archive only, repairs in the warehouse: no answer instead of a wrong one
    client.command(f"ALTER TABLE l2.trades DROP PARTITION ('{DAY}', '{LIVE}')")
    assert l2_platform.read("trades", None, DAY, NEXT, settings=settings).equals(before)
    with pytest.raises(InputError, match=r"has repaired gaps on 2026-11-18.*in one place"):
        l2_platform.read("bars_1m", None, DAY, NEXT, settings=settings)

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
from l2_platform.quality.repair import STREAM
from l2_platform.settings import Settings
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


def test_from_the_archive_trades_are_one_and_bars_say_what_to_do(client: Client, settings: Settings) -> None:
    before = l2_platform.read("trades", None, DAY, NEXT, settings=settings)
    export_date(client, settings, SystemClock(), date.fromisoformat(DAY))
    assert l2_platform.read("trades", None, DAY, NEXT, archive_only=True, settings=settings).equals(before)
    with pytest.raises(InputError, match=r"has repaired gaps on 2026-11-18.*read the trades instead"):
        l2_platform.read("bars_1m", None, DAY, NEXT, archive_only=True, settings=settings)

"""Bars of past dates from the simulated vendor: equal to the bars of its ticks, again, interrupted, rebuilt, archived and reconciled."""

import json
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from clickhouse_connect.driver.client import Client

import l2_platform
from l2_platform.archive.export import export_date
from l2_platform.archive.restore import restore_date
from l2_platform.clock import SystemClock
from l2_platform.collectors.backfill import BackfillResult, SymbolResult, backfill_date, journaled_symbols
from l2_platform.collectors.history import DAY_S, TICKS, bars
from l2_platform.definitions import build_definitions
from l2_platform.errors import InputError
from l2_platform.feeds.iqfeed.lookup import LookupConnection
from l2_platform.feeds.iqfeed.lookup_protocol import history_request
from l2_platform.feeds.iqfeed.lookup_rate import SharedRate
from l2_platform.quality.reconcile import reconcile_date
from l2_platform.settings import Settings
from l2_platform.warehouse.start import find_warehouse
from tests.integration.homes import Home
from tests.integration.stored import LIVE, put_trades, warehouse
from tests.integration.vendors import simulated_vendor

pytestmark = pytest.mark.integration
STREAM = "iqfeed-bars-history"
TODAY = datetime.fromtimestamp(SystemClock().now_ns() // 10**9, UTC).date()
SYMBOLS = ["SYM000", "SYM001"]


def number(day: date) -> int:
    return day.year * 10_000 + day.month * 100 + day.day


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[Home]:
    variables = {"L2_SIMULATOR__SYMBOLS": "30", "L2_SIMULATOR__RATE": "1"}
    made = Home(tmp_path_factory.mktemp("home"), numba_cache, variables)
    # one that stays: a warehouse that a command started would end while another process is busy
    server = made.start(sys.executable, "-m", "l2_platform.warehouse.server", log="warehouse")
    try:
        with simulated_vendor(made):
            while find_warehouse(made.settings) is None:
                assert server.poll() is None, "the warehouse ended"
                SystemClock().sleep(0.1)
            yield made
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def settings(home: Home) -> Settings:
    return home.settings


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[Client]:
    with warehouse(settings) as found:
        yield found


def fetch(settings: Settings, day: date, symbols: list[str], interval_s: int = 60) -> BackfillResult:
    return backfill_date(number(day), symbols, settings, SystemClock(), kind=bars(interval_s) if interval_s else TICKS)


def states(result: BackfillResult) -> dict[str, str]:
    return {item.symbol: item.state for item in result.symbols}


def rows(settings: Settings, day: date) -> pl.DataFrame:
    return l2_platform.read("history_bars", None, day, day + timedelta(days=1), settings=settings).sort("interval_s", "symbol", "ts_begin")


@pytest.mark.parametrize(("interval_s", "view"), [(1, "bars_1s"), (5, "bars_5s"), (60, "bars_1m")])
def test_bars_equal_those_of_the_ticks_of_the_date(settings: Settings, client: Client, interval_s: int, view: str) -> None:
    day = ago(3)
    fetch(settings, day, SYMBOLS, 0)
    fetch(settings, day, SYMBOLS, interval_s)
    values = "symbol, toUnixTimestamp(ts_begin) AS at, open, high, low, close, volume"
    values += ", total_volume" if view != "bars_1m" else ""
    made = client.query(f"SELECT {values} FROM l2.{view} WHERE session_date = '{day}' ORDER BY symbol, at").result_rows
    told = client.query(
        f"SELECT {values} FROM l2.history_bars WHERE session_date = '{day}' AND interval_s = {interval_s} ORDER BY symbol, at"
    ).result_rows
    assert len(told) > 50
    assert told == made


def test_daily_bars_equal_those_of_the_ticks_of_the_exchange_date(settings: Settings, client: Client) -> None:
    """Sessions of this market are UTC dates: two of them hold the ticks of a New York date."""
    day = ago(4)
    fetch(settings, day, SYMBOLS, DAY_S)
    for session in (day, ago(3)):
        fetch(settings, session, SYMBOLS, 0)
    place = "(session_date, seq)"
    made = client.query(f"""
        SELECT symbol, argMinIf(price, {place}, basis = 'last'), maxIf(price, basis = 'last'), minIf(price, basis = 'last'),
            argMaxIf(price, {place}, basis = 'last'), sum(size)
        FROM l2.trades WHERE trade_date = '{day}' AND basis IN ('last', 'extended', 'other') GROUP BY symbol ORDER BY symbol""").result_rows
    told = client.query(f"""
        SELECT symbol, open, high, low, close, volume FROM l2.history_bars
        WHERE interval_s = 86400 AND toDate(ts_begin, 'America/New_York') = '{day}' ORDER BY symbol""").result_rows
    assert [row[0] for row in told] == SYMBOLS
    assert told == made


def daily_lines(settings: Settings, word: str, points: int) -> list[tuple]:
    """(day, high, low, open, close, volume) of a reply, oldest first."""
    taken: list[bytes] = []
    rate = SharedRate(settings.lookup.requests_per_s, SystemClock())
    link = LookupConnection(settings.feed, settings.lookup, settings.ports.lookup, rate, SystemClock())
    try:
        link.fetch(lambda name: history_request(word, name, symbol="SYM000", points=points), taken.append)
    finally:
        link.close()
    fields = [line.split(",")[2:] for line in b"".join(taken).decode().splitlines()[:-1]]
    return [(date.fromisoformat(field[0]), *map(float, field[1:5]), int(field[5])) for field in fields]


@pytest.mark.parametrize(("word", "group", "least"), [("HWX", "week", 3), ("HMX", "month", 1)])
def test_bars_of_weeks_and_months_are_those_of_the_days(home: Home, settings: Settings, word: str, group: str, least: int) -> None:
    days = daily_lines(settings, "HDX", 100)
    assert 25 < len(days) <= 31
    groups: dict[tuple[int, ...], list[tuple]] = {}
    for day in days:
        key = day[0].isocalendar()[:2] if group == "week" else (day[0].year, day[0].month)
        groups.setdefault(key, []).append(day)
    made = [
        (part[-1][0], max(day[1] for day in part), min(day[2] for day in part), part[0][3], part[-1][4], sum(day[5] for day in part))
        for part in groups.values()
    ]  # fmt: skip
    told = daily_lines(settings, word, 100)
    # the newest one grows while it is asked for
    assert told[:-1] == made[:-1]
    assert len(told) == len(made) > least
    assert daily_lines(settings, word, 2)[:-1] == told[-2:-1], "the newest so many"


def test_bars_are_fetched_once_and_lengths_and_symbols_are_added(home: Home, settings: Settings) -> None:
    day = ago(400)
    too_old = home.run("backfill", str(day), "--symbols", "SYM000")
    assert (too_old.returncode, "its bars go further back (`--what bars`)" in too_old.stderr) == (2, True)
    first = json.loads(home.ok("backfill", str(day), "--what", "bars", "-s", "SYM000,NOPE", "--json"))
    assert {row["symbol"]: row["state"] for row in first} == {"SYM000": "fetched", "NOPE": "no_data"}
    before = rows(settings, day)
    assert before["interval_s"].unique().to_list() == [60]
    assert (before["source"].unique().to_list(), before["stream"].unique().to_list()) == (["history"], [STREAM])
    assert before["ts_begin"].min() >= datetime(day.year, day.month, day.day, tzinfo=UTC)
    assert len(before) == next(row["lines"] for row in first if row["symbol"] == "SYM000")
    again = fetch(settings, day, ["SYM000", "SYM001"])
    assert states(again) == {"SYM000": "already", "SYM001": "fetched"}
    daily = json.loads(home.ok("backfill", str(day), "--what", "bars", "--interval", "daily", "-s", "SYM000", "--json"))
    assert [(row["state"], row["lines"]) for row in daily] == [("fetched", 1)]
    after = rows(settings, day)
    assert after.filter((pl.col("symbol") == "SYM000") & (pl.col("interval_s") == 60)).equals(before)
    assert len(after) == len(before) + again.lines + 1
    assert after["seq"].n_unique() == len(after)
    assert fetch(settings, day, ["SYM000", "SYM001"]).rows == {"clickhouse": 0}
    assert rows(settings, day).equals(after)
    assert not (settings.jsonl_dir / "history" / STREAM).exists()


def test_interrupted_in_the_middle_it_goes_on_and_doubles_nothing(settings: Settings) -> None:
    day, names = ago(401), [f"SYM{place:03d}" for place in range(6)]

    def stop(_item: SymbolResult, done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backfill_date(number(day), names, settings, SystemClock(), stop, bars(60))
    kept = journaled_symbols(settings, number(day), bars(60))
    assert 2 <= len(kept) < len(names)
    assert journaled_symbols(settings, number(day), bars(DAY_S)) == set()
    result = fetch(settings, day, names)
    assert states(result) == {name: "already" if name in kept else "fetched" for name in names}
    found = rows(settings, day)
    assert found["symbol"].unique().sort().to_list() == names
    assert len(found) == len(found.unique(["symbol", "ts_begin"])) > 100


def test_recorded_symbols_have_bars_beside_their_ticks(settings: Settings, client: Client) -> None:
    day = ago(5)
    put_trades(client, LIVE, str(day), 10, symbols=("SYM003",))
    assert states(fetch(settings, day, ["SYM003"])) == {"SYM003": "fetched"}
    assert len(rows(settings, day)) > 10
    assert l2_platform.read("trades", "SYM003", day, settings=settings)["stream"].unique().to_list() == [LIVE]


def test_a_date_is_rebuilt_reconciled_and_restored(home: Home, settings: Settings, client: Client) -> None:
    day = ago(402)
    fetch(settings, day, SYMBOLS)
    fetch(settings, day, SYMBOLS, DAY_S)
    before = rows(settings, day)
    home.ok("rebuild", str(day), "--stream", STREAM)
    assert rows(settings, day).equals(before)
    assert reconcile_date(settings, number(day), SystemClock()).ok
    client.command(f"ALTER TABLE l2.history_bars UPDATE open = 7 WHERE session_date = '{day}' AND seq = 3 SETTINGS mutations_sync = 2")
    (wrong,) = [item for item in reconcile_date(settings, number(day), SystemClock()).entries if item.state == "different"]
    assert (wrong.table, wrong.differences.keys["changed"]) == ("history_bars", ["3"])
    assert reconcile_date(settings, number(day), SystemClock(), heal=True).ok
    assert rows(settings, day).equals(before)
    export_date(client, settings, SystemClock(), day)
    client.command(f"ALTER TABLE l2.history_bars DROP PARTITION ('{day}', '{STREAM}')")
    assert rows(settings, day).equals(before)
    assert {item.manifest.table: item.state for item in restore_date(client, settings, day)}["history_bars"] == "restored"
    assert rows(settings, day).equals(before)


def test_what_cannot_be(home: Home, settings: Settings) -> None:
    with pytest.raises(InputError, match="bars are asked for of 3650 days"):
        fetch(settings, ago(4000), SYMBOLS)
    off = settings.model_copy(update={"clickhouse": settings.clickhouse.model_copy(update={"enabled": False})})
    with pytest.raises(InputError, match="rows of ClickHouse only"):
        fetch(off, ago(3), SYMBOLS)
    for options, words in (
        (("--interval", "5"), "add --what bars"), (("--what", "bars", "--source", "archive"), "from the vendor only"),
        (("--what", "bars", "--interval", "7"), "--interval"),
    ):  # fmt: skip
        refused = home.run("backfill", str(ago(3)), *options)
        assert (refused.returncode, words in refused.stderr) == (2, True), refused.stderr


def test_the_job_fetches_bars(settings: Settings) -> None:
    job, day = build_definitions(settings).resolve_job_def("backfill_day"), ago(403)
    config = {"what": "bars", "interval": "daily", "symbols": ["SYM009", "NOPE"]}
    with dg.DagsterInstance.ephemeral() as instance:
        done = job.execute_in_process(
            partition_key=str(day), run_config={"ops": {"backfilled_day": {"config": config}}}, instance=instance
        )
        assert done.success
        (made,) = done.asset_materializations_for_node("backfilled_day")
    assert "| NOPE | no_data |" in made.metadata["results"].value
    assert "FROM l2.history_bars WHERE" in made.metadata["look"].value
    assert rows(settings, day).select("symbol", "interval_s").rows() == [("SYM009", DAY_S)]

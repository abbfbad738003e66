"""`l2 complete`: real ticks, and days whose losses are known, judged by the embedded warehouse."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from l2_platform.clock import SystemClock
from l2_platform.errors import InputError
from l2_platform.quality.completeness import judge_date
from l2_platform.quality.verdicts import DateVerdict, SymbolVerdict
from l2_platform.settings import Settings
from l2_platform.warehouse.start import read_record, record_path
from tests.integration.homes import Home
from tests.integration.recorded_days import end_warehouse
from tests.integration.stored import make_home, warehouse

pytestmark = pytest.mark.integration
LIVE, DEPTH = "iqfeed-level1-0", "iqfeed-depth-0"
DAY, HALF, EMPTY, BARS = "2025-07-25", "2025-07-03", "2025-07-24", "2025-07-23"
OPEN = {DAY: "2025-07-25 13:30:00", HALF: "2025-07-03 13:30:00", BARS: "2025-07-23 13:30:00"}
MINUTES = {DAY: 390, HALF: 210}
COLUMNS = "stream, session_date, seq, symbol, ts_event, ts_recv, source"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[Home]:
    made = make_home(tmp_path_factory.mktemp("home"), numba_cache)
    made.variables["L2_WAREHOUSE__IDLE_EXIT_S"] = "900"
    yield made
    end_warehouse(made.settings)


@pytest.fixture(scope="module")
def settings(home: Home) -> Settings:
    return home.settings


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[Client]:
    with warehouse(settings) as made:
        yield made


def number(day: str) -> int:
    return int(day.replace("-", ""))


def judged(settings: Settings, day: str) -> tuple[DateVerdict, dict[str, SymbolVerdict]]:
    verdict = judge_date(settings, number(day), SystemClock())
    assert verdict.outcome == "judged", verdict.message
    return verdict, {one.symbol: one for one in verdict.symbols}


def put(client: Client, day: str, symbol: str, *, minutes: int, first: int = 0, prints: bool = True, source: str = "live") -> None:
    """A quote and (with `prints`) ten prints of 100 in every minute from the open on; TickIDs and volume count."""
    stream = LIVE if source == "live" else "iqfeed-ticks-history"
    at = f"toDateTime64('{OPEN[day]}', 9, 'UTC') + toIntervalSecond(6 * n)"
    head = f"'{stream}', '{day}', {first} + n + 1, '{symbol}', {at}, {at} + toIntervalMillisecond(20), '{source}'"
    numbers = f"(SELECT number + {first} AS n FROM numbers({minutes * 10}))"
    if source == "live":
        client.command(f"""
            INSERT INTO l2.quotes ({COLUMNS}, bid, bid_size, bid_market_center, ask, ask_size, ask_market_center, total_volume, delay,
                contents, snapshot) SELECT {head}, 10, 1, 5, 11, 1, 5, -1, 0, 'ba', 0 FROM {numbers} WHERE n % 10 = 0""")
    if prints:
        client.command(f"""
            INSERT INTO l2.trades ({COLUMNS}, price, size, market_center, conditions, tick_id, aggressor, day_code, basis, total_volume,
                trade_date) SELECT {head}, 10, 100, 5 + n % 2, '01', intDiv(n, 2) + 1, 'buy', 1, 'last', 100 * (n + 1), '{day}'
            FROM {numbers}""")


def want(client: Client, day: str, *symbols: str) -> None:
    for symbol in symbols:
        client.command(f"""INSERT INTO l2.universe_events (symbol, group_name, wanted, version, ts, ts_written)
            VALUES ('{symbol}', 'demo', 1, 1, '{day} 04:00:00', '{day} 04:00:00')""")  # fmt: skip


def test_an_empty_day_is_missing_and_never_green(settings: Settings, client: Client) -> None:
    verdict, found = judged(settings, EMPTY)
    assert (found, verdict.ok, verdict.grade) == ({}, False, "missing")
    assert "no row, and no symbol was wanted" in verdict.message
    assert client.query("SELECT count() FROM l2.completeness").result_rows == [(0,)]


def test_a_half_day_that_is_whole_is_complete(settings: Settings, client: Client) -> None:
    put(client, HALF, "AAA", minutes=MINUTES[HALF])
    verdict, found = judged(settings, HALF)
    one = found["AAA"]
    assert (verdict.ok, one.grade, one.facts.expected_minutes[1:]) == (True, "complete", [210, 240]), one
    assert (one.facts.seen_minutes, one.facts.volume_missing, one.facts.tick_ids_missing) == ([0, 210, 0], 0, 0)
    assert (one.facts.tick_ids_expected, one.facts.volume_expected, one.facts.latency_p50_ms) == (2100, 210_000, 20.0)
    assert one.facts.rows_by_hour[9:14] == [330, 660, 660, 660, 0]
    assert "no universe is recorded" in verdict.message


def test_the_vendors_daily_bar_is_compared_with_the_prints(settings: Settings, client: Client) -> None:
    for symbol in ("SAME", "MORE", "ZERO"):
        put(client, BARS, symbol, minutes=390)
    # (symbol, length, day of the bar, volume): bars of a minute and of another day say nothing of the date
    bars = [("SAME", 86_400, BARS, 390_000), ("SAME", 60, BARS, 7), ("SAME", 86_400, EMPTY, 8), ("MORE", 86_400, BARS, 390_100)]
    for place, (symbol, length, day, volume) in enumerate(bars):
        values = f"'iqfeed-bars-history', '{BARS}', {place + 1}, '{symbol}', 'history', {length}, '{day} 04:00:00', now()"
        client.command(f"""INSERT INTO l2.history_bars (stream, session_date, seq, symbol, source, interval_s, ts_begin, ts_recv,
            open, high, low, close, volume, total_volume, trade_count)
            VALUES ({values}, 1, 1, 1, 1, {volume}, -1, 0)""")
    client.command("ALTER TABLE l2.trades UPDATE tick_id = 0 WHERE symbol = 'ZERO' SETTINGS mutations_sync = 2")
    _, found = judged(settings, BARS)
    assert {name: one.grade for name, one in found.items()} == {"SAME": "complete", "MORE": "degraded", "ZERO": "complete"}
    assert [one.facts.volume_bar for one in (found["SAME"], found["MORE"], found["ZERO"])] == [390_000, 390_100, -1]
    assert "the vendor's daily bar has a volume of 390,100, the prints 390,000" in found["MORE"].reasons
    # no id, no hole: the volume judges them
    zero = found["ZERO"].facts
    assert (zero.tick_ids_expected, zero.tick_ids_missing, zero.centres_not_counting, zero.volume_missing) == (0, 0, 2, 0)


def test_tick_ids_count_as_the_setting_says(settings: Settings, client: Client) -> None:
    client.command("ALTER TABLE l2.trades DELETE WHERE symbol = 'SAME' AND seq % 100 = 1 SETTINGS mutations_sync = 2")
    missing = {}
    for rule in ("per_market_center", "none"):
        changed = settings.model_copy(update={"feed": settings.feed.model_copy(update={"tick_id_rule": rule})})
        missing[rule] = judged(changed, BARS)[1]["SAME"].facts.tick_ids_missing
    assert missing == {"per_market_center": 39, "none": 0}


def test_losses_of_a_live_day_are_numbers_with_reasons(settings: Settings, client: Client) -> None:
    want(client, DAY, "AAA", "QUIET", "NEVER", "HOLE", "HEAL", "LATE")
    put(client, DAY, "AAA", minutes=390)
    put(client, DAY, "QUIET", minutes=390, prints=False)
    for symbol in ("HOLE", "HEAL"):
        put(client, DAY, symbol, minutes=100)
        put(client, DAY, symbol, minutes=280, first=1100)
    put(client, DAY, "HEAL", minutes=10, first=1000, source="history")
    put(client, DAY, "LATE", minutes=300, first=900)
    columns = "gap_id, stream, session_date, seq, ordinal, source, symbols, ts_from, ts_to, cause, evidence, state, version, ts_written"
    client.command(f"""INSERT INTO l2.gap_events ({columns}) VALUES
        ('one', '{LIVE}', '{DAY}', 1, 0, 'live', ['HOLE'], '{DAY} 15:10:00', '{DAY} 15:20:00', 'silence', '{{}}', 'closed', 1, now())""")
    client.command(f"""INSERT INTO l2.gap_events ({columns}, repair_state) VALUES
        ('two', '{LIVE}', '{DAY}', 1, 0, 'live', ['HEAL'], '{DAY} 15:10:00', '{DAY} 15:20:00', 'silence', '{{}}', 'closed', 1, now(),
         'repaired')""")
    verdict, found = judged(settings, DAY)
    assert {name: one.grade for name, one in found.items()} == {
        "AAA": "complete", "QUIET": "complete", "NEVER": "missing", "HOLE": "degraded", "HEAL": "repaired", "LATE": "degraded",
    }, [(one.symbol, one.reasons) for one in verdict.symbols]  # fmt: skip
    assert "no print" in found["QUIET"].reasons
    hole, heal, late = found["HOLE"], found["HEAL"], found["LATE"]
    assert (hole.unexplained_rows, hole.unexplained_s, hole.facts.volume_missing) == (100, 600.0, 10_000)
    assert (heal.unexplained_rows, heal.unexplained_s, heal.facts.tick_ids_lost, heal.facts.volume_lost) == (0, 0.0, 100, 10_000)
    assert late.unexplained_rows == 900
    assert late.facts.volume_missing == 90_000
    assert (verdict.ok, verdict.grade, verdict.unexplained_rows) == (False, "missing", 1000)
    stored = client.query("SELECT symbol, grade, unexplained_rows, volume_missing FROM l2.completeness WHERE session_date = '2025-07-25'")
    wanted = {(one.symbol, one.grade, one.unexplained_rows, one.facts.volume_missing) for one in verdict.symbols}
    assert {tuple(row) for row in stored.result_rows} == wanted


def test_half_a_day_is_degraded_also_when_no_gap_tells_of_it(settings: Settings, client: Client) -> None:
    client.command("ALTER TABLE l2.trades DELETE WHERE ts_recv > '2025-07-25 17:00:00' SETTINGS mutations_sync = 2")
    client.command("ALTER TABLE l2.quotes DELETE WHERE ts_recv > '2025-07-25 17:00:00' SETTINGS mutations_sync = 2")
    _, found = judged(settings, DAY)
    one = found["AAA"]
    assert (one.grade, one.facts.dark_s, one.facts.seen_minutes) == ("degraded", 180 * 60.0, [0, 210, 0])
    assert any("in 180 minutes of the session" in reason for reason in one.reasons)


def test_what_cannot_be_evaluated_says_so_and_is_not_stored(settings: Settings, client: Client, home: Home) -> None:
    rows = "SELECT count() FROM l2.completeness"
    before = client.query(rows).result_rows
    client.command("RENAME TABLE l2.book_snapshots TO l2.away")
    verdict = judge_date(settings, number(DAY), SystemClock())
    assert (verdict.outcome, verdict.ok, verdict.symbols) == ("not_evaluated", False, [])
    assert "book_snapshots" in verdict.message
    told = home.run("complete", DAY)
    assert (told.returncode, "not evaluated" in told.stdout) == (1, True)
    client.command("RENAME TABLE l2.away TO l2.book_snapshots")
    assert client.query(rows).result_rows == before
    with pytest.raises(InputError, match="closed day"):
        judge_date(settings, 20250726, SystemClock())
    with pytest.raises(InputError, match="not over"):
        judge_date(settings, 20391230, SystemClock())


def test_a_warehouse_that_stops_in_the_middle_ends_in_a_stated_result(
    settings: Settings, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = read_record(record_path(settings))
    assert record is not None
    from l2_platform.quality import completeness

    load = completeness.gaps_now

    def killed(*arguments: Any, **options: Any) -> Any:
        # the process dies between two of the queries
        os.kill(record.pid, signal.SIGKILL)
        return load(*arguments, **options)

    monkeypatch.setattr(completeness, "gaps_now", killed)
    verdict = judge_date(settings, number(DAY), SystemClock())
    assert (verdict.outcome, verdict.ok) == ("not_evaluated", False)
    assert "nothing was judged" in verdict.message


def test_real_ticks_are_complete_and_each_loss_is_counted(tmp_path: Path, numba_cache: Path, market_data: Path) -> None:
    home = make_home(tmp_path / "h", numba_cache)
    home.variables["L2_WAREHOUSE__IDLE_EXIT_S"] = "900"
    home.ok("import", market_data / "iqfeed_ticks_2021-03-01_to_03.csv.gz", "--channel", "ticks", "--symbol", "XYZ")
    settings = home.settings
    volumes = {"2021-03-01": 0, "2021-03-02": 0, "2021-03-03": 0}
    try:
        with warehouse(settings) as client:
            for day in volumes:
                verdict, found = judged(settings, day)
                one = found["XYZ"].facts
                assert verdict.ok, found["XYZ"].reasons
                assert (one.volume_missing, one.tick_ids_missing, one.centres_not_counting) == (0, 0, 0)
                sql = f"SELECT max(total_volume), count() FROM l2.trades WHERE session_date = '{day}'"
                assert (one.volume_expected, one.tick_ids_expected) == client.query(sql).result_rows[0]
            where = "session_date = '2021-03-02' AND seq % 1000 = 0"
            lost = client.query(f"SELECT count(), sum(size) FROM l2.trades WHERE {where}").result_rows[0]
            client.command(f"ALTER TABLE l2.trades DELETE WHERE {where} SETTINGS mutations_sync = 2")
            bad = judged(settings, "2021-03-02")[1]["XYZ"]
            assert (bad.grade, bad.unexplained_rows, bad.facts.volume_missing) == ("degraded", *lost)
            told = home.run("complete", "2021-03-02", "--symbol", "XYZ", "--json")
            assert told.returncode == 1
            assert json.loads(told.stdout)["symbols"][0]["tick_ids_missing"] == lost[0]
            assert home.run("complete", "2021-03-03").returncode == 0
            assert home.run("complete", "2021-03-03", "--symbol", "NOPE").returncode == 2
    finally:
        end_warehouse(settings)

"""Gaps older than the vendor's ticks: its minute bars become rows, once, and the ledger says what they are worth."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

import l2_platform
from l2_platform.collectors.backfill import backfill_date
from l2_platform.collectors.history import bars
from l2_platform.errors import DateBusy
from l2_platform.monitoring.changed_dates import changed_dates
from l2_platform.monitoring.leases import date_lease
from l2_platform.quality.audit import audit_date
from l2_platform.quality.completeness import judge_date
from l2_platform.quality.reconcile import reconcile_date
from l2_platform.quality.repair import repair_date
from tests.integration.homes import L2, Home
from tests.integration.repairs import CLOCK, NS, Market, repair_home
from tests.integration.stored import warehouse
from tests.integration.vendors import Tick, leaves, minutes_of, shake, vendor

pytestmark = pytest.mark.integration
BARS = bars(60).stream
ALL, LOST = sum(range(100, 340)), sum(range(181, 261))
"""Volume of a market's minute, and of its gap."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Home:
    made = repair_home(tmp_path_factory.mktemp("home"), numba_cache)
    made.variables["L2_LOOKUP__TICK_DAYS"] = "1"
    return made


@pytest.fixture(scope="module")
def shared(home: Home) -> Iterator[Client]:
    with warehouse(home.settings) as client:
        yield client


@pytest.fixture
def market(home: Home, shared: Client) -> Market:
    return Market(home.settings, shared, days_ago=8).put()


def sent(market: Market) -> dict[str, list[Tick]]:
    """What the vendor makes bars of: the market's minute and one an hour later."""
    later = {name: [replace(tick, ts=tick.ts + 3600 * NS) for tick in ticks] for name, ticks in market.ticks.items()}
    return {name: [*ticks, *later[name]] for name, ticks in market.ticks.items()}


def stored(market: Market) -> list[tuple[Any, ...]]:
    """(symbol, begin after the market's, s, volume, source, stream) of every row of its symbols."""
    sql = """
        SELECT symbol, toUnixTimestamp(ts_begin), volume, source, stream FROM l2.history_bars
        WHERE has({symbols:Array(String)}, symbol) ORDER BY symbol, ts_begin, seq"""
    rows = market.client.query(sql, parameters={"symbols": list(market.symbols)}).result_rows
    return [(name, at - market.start // NS, *rest) for name, at, *rest in rows]


def expected(market: Market) -> list[tuple[Any, ...]]:
    return [(name, at, ALL, "history", BARS) for name in market.symbols for at in (0, 3600)]


def test_older_than_the_vendors_ticks_gets_bars(market: Market) -> None:
    live = market.rows("live")
    with vendor(market.settings, minutes_of(sent(market))) as asked:
        result = market.repair()
        assert stored(market) == expected(market)
        again = market.repair()
    assert (result.state, result.rows_recovered) == ("partial", 3)
    assert "minute bars only; 3 bars of its minutes are rows of history_bars" in result.residual
    assert f"{3 * LOST:,} of their volume of {3 * ALL:,} have no stored print" in result.residual
    assert "240 prints are missing by the TickIDs" in result.residual
    # no row more, nothing asked for twice, the same answer
    assert stored(market) == expected(market)
    assert len(asked) == 3
    assert (again.state, again.rows_recovered, again.residual) == (result.state, 3, result.residual)
    assert (market.rows("live"), market.rows()) == (live, {name: [] for name in market.symbols})
    newest = market.versions()[-1]
    assert (newest.repair_source, newest.rows_recovered, newest.version) == ("iqfeed-history HIT", 3, 3)
    assert (newest.evidence["repair"]["stream"], newest.evidence["repair"]["final"]) == (BARS, True)
    assert market.date in changed_dates(market.settings.run_dir), "what was archived of the date is old now"


def test_bars_are_read_beside_those_of_prints_and_never_in_them(market: Market) -> None:
    with vendor(market.settings, minutes_of(sent(market))):
        market.repair()
    read = l2_platform.read("history_bars", list(market.symbols), market.day, settings=market.settings)
    assert (len(read), read["volume"].sum(), set(read["source"])) == (6, 6 * ALL, {"history"})
    made = l2_platform.read("bars_1m", list(market.symbols), market.day, settings=market.settings)
    assert (len(made), made["volume"].sum(), set(made["source"])) == (3, 3 * (ALL - LOST), {"live"})


def test_bars_that_a_backfill_brought_are_taken_and_the_other_way_round(market: Market) -> None:
    first, *others = market.symbols
    with vendor(market.settings, minutes_of(sent(market))) as asked:
        backfill_date(market.date, [first], market.settings, CLOCK, kind=bars(60))
        assert market.repair().rows_recovered == 3
        backfill_date(market.date, list(market.symbols), market.settings, CLOCK, kind=bars(60))
    assert sorted(line.split(",")[1] for line in asked) == [first, *others]
    assert stored(market) == expected(market)


def test_a_symbol_without_an_answer_is_asked_for_again(market: Market) -> None:
    good, missing = minutes_of(sent(market)), market.symbols[1]

    def answer(client: socket.socket, line: str) -> None:
        if f",{missing}," in line:
            client.shutdown(socket.SHUT_RDWR)
        else:
            good(client, line)

    with vendor(market.settings, answer):
        result = market.repair()
    assert (result.state, result.rows_recovered) == ("partial", 2)
    assert f"1 of 3 symbols got no answer ({missing}: " in result.residual
    assert market.versions()[-1].evidence["repair"]["final"] is False
    with vendor(market.settings, good) as asked:
        assert market.repair().rows_recovered == 3
    assert [line.split(",")[1] for line in asked] == [missing]
    assert stored(market) == expected(market)


def test_a_vendor_that_has_nothing_or_is_away_or_talks_nonsense(market: Market) -> None:
    assert (market.repair().state, stored(market)) == ("failed", [])
    with vendor(market.settings, leaves):
        assert market.repair().state == "failed"
    with vendor(market.settings, minutes_of({})):
        nothing = market.repair()
    assert (nothing.state, nothing.rows_recovered) == ("partial", 0)
    assert "the vendor has none of these minutes" in nothing.residual

    def nonsense(client: socket.socket, line: str) -> None:
        if not shake(client, line):
            name = line.split(",")[9]
            client.sendall(f"{name},LH,yesterday,1,x,1,1,1,1,0,\r\n{name},!ENDMSG!,\r\n".encode())

    with vendor(market.settings, nonsense):
        garbage = market.repair()
    assert (garbage.state, stored(market)) == ("failed", [])
    assert "none of the 1 lines of its reply can be read as a bar" in garbage.residual
    # of what was nonsense nothing is kept that hides what comes later
    with vendor(market.settings, minutes_of(sent(market))):
        assert market.repair().rows_recovered == 3
    assert stored(market) == expected(market)


def test_while_bars_of_the_date_are_brought_nothing_is_tried(market: Market) -> None:
    with date_lease(market.settings.run_dir, BARS, market.date, "backfill"), pytest.raises(DateBusy):
        market.repair()
    assert len(market.versions()) == 1
    (told,) = repair_date(market.settings, market.date, CLOCK, gap_ids=[market.gap_id], dry_run=True)
    assert told.message.startswith("HIT of 3 symbols of the whole session; the gap is ")


@pytest.mark.parametrize("place", ["first-reply", "journaled"])
def test_killed_and_made_again_it_is_the_same(home: Home, market: Market, place: str) -> None:
    good = minutes_of(sent(market))

    def slow(client: socket.socket, line: str) -> None:
        if not line.startswith("S,"):
            time.sleep(0.4)
        good(client, line)

    with vendor(market.settings, slow):
        process = home.start(str(L2), "gaps", "repair", market.gap_id, "--date", str(market.day), log="repair")
        try:
            folder, deadline = market.settings.run_dir / "backfill", time.monotonic() + 60
            reached = {
                "first-reply": lambda: bool(list(folder.rglob("*.reply"))),
                "journaled": lambda: market.symbols[0].encode() in market.journal(BARS),
            }[place]
            while not reached():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.002)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    with vendor(market.settings, good) as asked:
        result = market.repair()
    assert (result.state, result.rows_recovered, stored(market)) == ("partial", 3, expected(market))
    assert len(asked) < 3
    assert reconcile_date(market.settings, market.date, CLOCK, streams=[BARS]).ok


def test_no_check_turns_red_because_of_the_bars(market: Market) -> None:
    with vendor(market.settings, minutes_of(sent(market))):
        market.repair()
    found = reconcile_date(market.settings, market.date, CLOCK, streams=[BARS])
    assert (found.ok, {entry.table: entry.rows_store for entry in found.entries}["history_bars"] >= 6) == (True, True)
    verdict = judge_date(market.settings, market.date, CLOCK)
    (mine,) = [one for one in verdict.symbols if one.symbol == market.symbols[0]]
    assert (mine.grade, round(mine.facts.bars_s)) == ("degraded", 20)
    assert "of 20.0 s of gaps there are minute bars of the vendor in place of prints (history_bars)" in mine.reasons

    def wrong() -> set[str]:
        (check,) = audit_date(market.settings, market.day, CLOCK, ["bars_equal_history"]).checks
        assert check.outcome in {"passed", "failed", "not_evaluated"}, check.message
        return {one.symbol for one in check.findings} & set(market.symbols)

    # the gap's own minutes are known to lack prints; a print that is lost elsewhere is found
    assert wrong() == set()
    name = market.symbols[0]
    market.insert([(name, replace(market.ticks[name][0], ts=market.start + 3600 * NS, tick_id=777))], seq=5000)
    assert wrong() == {name}

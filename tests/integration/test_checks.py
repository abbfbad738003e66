"""Every check on a clean symbol, which it must leave alone, and on a planted one, which it must name with its time."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from l2_platform.clock import SystemClock
from l2_platform.quality.audit import audit_date
from l2_platform.quality.findings import AuditResult, Finding
from l2_platform.settings import QualitySettings, SessionSettings
from tests.integration.audit_rows import DAY, DEPTH, LEVEL1, SECONDS, put_symbol, second
from tests.integration.homes import Home
from tests.integration.stored import make_home, warehouse

pytestmark = pytest.mark.integration

CLEAN = ("AAA", "BBB", "CCC")
PLANTS: dict[str, tuple[str, str, float, float, dict[str, dict[str, str]]]] = {
    "crossed": ("book_not_crossed", "error", 600, 603, {"book_snapshots": {
        "bid_px": "if(number BETWEEN 600 AND 602, arrayMap(x -> x + the_tick * 5, bid_px), bid_px)"}}),
    "locked": ("book_not_crossed", "warn", 600, 800, {"book_snapshots": {
        "bid_px": "if(number BETWEEN 600 AND 799, ask_px, bid_px)"}}),
    "crossed_quote": ("quote_not_crossed", "error", 700, 702, {"quotes": {
        "bid": "if(number BETWEEN 700 AND 701, ask + the_tick, bid)"}}),
    "wide": ("spread_not_outlying", "warn", 900, 901, {"quotes": {"ask": "if(number BETWEEN 900 AND 901, bid + 20, ask)"}}),
    "frozen": ("quote_not_stale", "error", 300, 420, {"trades": {
        "bid": "if(number BETWEEN 300 AND 420, toDecimal64(99, 9), bid)",
        "ask": "if(number BETWEEN 300 AND 420, toDecimal64('99.02', 9), ask)"}}),
    "through": ("trade_not_through", "warn", 500, 500, {"trades": {"price": "if(number = 500, price + 2, price)"}}),
    "ten_times": ("trade_not_spiking", "error", 1000, 1000, {"trades": {"price": "if(number = 1000, price * 10, price)"}}),
    "five_percent": ("trade_not_spiking", "warn", 1000, 1001, {"trades": {
        "price": "if(number BETWEEN 1000 AND 1001, price + 5, price)"}}),
    "whole_block": ("trade_not_spiking", "error", 1010, 1040, {"trades": {
        "price": "if(number BETWEEN 1010 AND 1040, price * 10, price)"}}),
    "quote_spike": ("quote_not_spiking", "error", 1200, 1200, {"quotes": {
        "bid": "if(number = 1200, bid * 2, bid)", "ask": "if(number = 1200, ask * 2, ask)"}}),
    "swapped": ("times_rise", "warn", 800, 801, {"trades": {
        "ts_event": "ts_event + toIntervalSecond(multiIf(number = 800, 1, number = 801, -1, 0))"}}),
    "received_back": ("times_rise", "error", 797, 801, {"depth_updates": {
        "ts_recv": "ts_recv - toIntervalSecond(if(number = 800, 3, 0))",
        "ts_event": "ts_event - toIntervalSecond(if(number = 800, 3, 0))"}}),
    "wrong_zone": ("clocks_agree", "error", 200, 250, {"quotes": {
        "ts_event": "ts_event - toIntervalHour(if(number BETWEEN 200 AND 250, 4, 0))"}}),
    "ahead": ("clocks_agree", "warn", 200, 250, {"trades": {
        "ts_event": "ts_event + toIntervalMillisecond(if(number BETWEEN 200 AND 250, 300, 0))"}}),
    "dropped": ("counters_unbroken", "error", 899, 910, {"trades": {"where": "number NOT BETWEEN 900 AND 909"}}),
    "dropped_too": ("volume_reconciled", "error", 899, 910, {"trades": {"where": "number NOT BETWEEN 900 AND 909"}}),
    "halved": ("volume_reconciled", "error", 999, 1100, {"trades": {"size": "if(number BETWEEN 1000 AND 1099, intDiv(size, 2), size)"}}),
    "zero_price": ("values_in_range", "error", 100, 100, {"trades": {"price": "if(number = 100, toDecimal64(0, 9), price)"}}),
    "negative_quote": ("values_in_range", "error", 110, 110, {"quotes": {"bid": "if(number = 110, -bid, bid)"}}),
    "huge": ("values_in_range", "error", 120, 120, {"depth_updates": {"size": "if(number = 120, size * 100000000, size)"}}),
    "negative_level": ("values_in_range", "error", 130, 130, {"book_snapshots": {
        "bid_px": "if(number = 130, arrayMap(x -> -x, bid_px), bid_px)"}}),
    "no_time": ("rows_well_formed", "warn", 140, 140, {"trades": {"ts_event": "if(number = 140, NULL, ts_event)"}}),
    "ragged": ("rows_well_formed", "error", 150, 150, {"book_snapshots": {"bid_sz": "if(number = 150, [toInt64(1)], bid_sz)"}}),
    "tomorrow": ("calendar_kept", "error", 86_400 + 160, 86_400 + 170, {"quotes": {
        "ts_recv": "ts_recv + toIntervalDay(if(number BETWEEN 160 AND 170, 1, 0))",
        "ts_event": "ts_event + toIntervalDay(if(number BETWEEN 160 AND 170, 1, 0))"}}),
    "apart": ("book_equals_level1", "warn", 600, 900, {"book_snapshots": {
        "bid_px": "if(number BETWEEN 600 AND 899, arrayMap(x -> x - 3, bid_px), bid_px)"}}),
}  # fmt: skip
"""Symbol → check, severity, first and last second, what is planted."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Home:
    found = make_home(tmp_path_factory.mktemp("checks"), numba_cache)
    found.variables["L2_SESSION__CALENDAR"] = "always_open"
    return found


@pytest.fixture(scope="module")
def audited(home: Home) -> Iterator[AuditResult]:
    with warehouse(home.settings) as client:
        for place, symbol in enumerate(CLEAN):
            put_symbol(client, symbol, place)
        for place, (symbol, (*_, plants)) in enumerate(PLANTS.items(), len(CLEAN)):
            put_symbol(client, symbol, place, plants)
        # twice: the same row, the same key with another price, and a block of prints that comes again at later seqs
        put_symbol(client, "row_twice", 60)
        put_symbol(client, "row_twice", 60, {"depth_updates": {"where": "number = 400"}}, only=("depth_updates",))
        put_symbol(client, "key_twice", 61)
        put_symbol(client, "key_twice", 61, {"quotes": {"where": "number = 410", "bid": "bid - 1"}}, only=("quotes",))
        put_symbol(client, "block_twice", 62)
        again = {"trades": {"where": "number BETWEEN 500 AND 509", "seq": "seq + 2"}}
        put_symbol(client, "block_twice", 62, again, only=("trades",))
        put_others(client)
        yield audit_date(home.settings, DAY, SystemClock())


def put_others(client: Client) -> None:
    """What concerns a whole stream, two streams, two dates, or tables beside the market's."""
    quiet = {"quotes": {"where": "number NOT BETWEEN 1000 AND 1039"}}
    put_symbol(client, "paused", 70, quiet, only=("quotes",), streams=(OTHER, DEPTH))
    for symbol, price in (("AAA", 100), ("split", 50)):
        put_symbol(client, symbol, 0 if symbol == "AAA" else 71, price=price, day=BEFORE)
    put_symbol(client, "split", 71)
    put_symbol(client, "AAA", 0, only=("trades",), streams=(VENDOR, DEPTH), source="import")
    put_symbol(client, "dearer", 72)
    put_symbol(client, "dearer", 72, only=("trades",), streams=(VENDOR, DEPTH), source="import", price=101)
    for symbol, more, price in (("AAA", 0, 0), ("more_volume", 1, 0), ("higher", 0, 1)):
        if symbol != "AAA":
            put_symbol(client, symbol, 73 + price)
        client.command(BARS.format(symbol=symbol, more=more, price=price))
    client.command(DAILY.format(symbol="AAA", more=0))
    put_symbol(client, "daily_more", 80, only=("trades",))
    client.command(DAILY.format(symbol="daily_more", more=1))
    # prints without an id, and such among others of which some come twice
    put_symbol(client, "nameless", 78, {"trades": {"tick_id": "0"}}, only=("trades",))
    for again in ({}, {"where": "number BETWEEN 500 AND 509", "seq": "seq + 2"}):
        plant = {"tick_id": "if(number % 3 = 0, 0, number - intDiv(number, 3))"} | again
        put_symbol(client, "half_named", 79, {"trades": plant}, only=("trades",))
    for symbol, explanation, state, begin in (
        ("lost", "", "", 500), ("halted", "halt", "", 600), ("mended", "", "repaired", 700), ("quiet", "quiet", "", 800),
    ):  # fmt: skip
        client.command(GAP.format(
            symbol=symbol, explanation=explanation, state=state, cause="symbol_silence" if symbol == "quiet" else "disconnect",
            begin=second(begin), end=second(begin + 90),
        ))  # fmt: skip
    put_symbol(client, "halted", 76)
    put_symbol(client, "lost", 77)
    client.command(f"""INSERT INTO l2.feed_events (stream, session_date, seq, ordinal, symbol, ts_recv, source, kind, detail, raw)
        VALUES ('{LEVEL1}', '{DAY}', 7, 0, 'garbled', fromUnixTimestamp64Nano({second(77)}, 'UTC'), 'live', 'quarantine', '{{}}', 'x')""")
    client.command("""INSERT INTO l2.universe_events SELECT arrayJoin(['AAA', 'never']), 'g', 1, 1, toDateTime64('2026-01-01', 9, 'UTC'),
        now64(9)""")
    names = "session_date, stream, table, store, state, rows_journal, rows_store, missing, ts_written"
    client.command(f"""INSERT INTO l2.reconciliations ({names}) VALUES ('{DAY}', '{LEVEL1}', 'quotes', 'jsonl', 'equal', 9, 9, 0, now64(9)),
        ('{DAY}', '{LEVEL1}', 'trades', 'jsonl', 'different', 9, 7, 2, now64(9))""")


OTHER, VENDOR = "iqfeed-level1-1", "alphavantage-trades-import-00000001"
BEFORE = date(2026, 3, 5)
BARS = """INSERT INTO l2.history_bars (stream, session_date, seq, symbol, source, interval_s, ts_begin, ts_recv, open, high, low,
    close, volume,
        total_volume, trade_count)
    SELECT 'iqfeed-bars-history', session_date, rowNumberInAllBlocks() + 1, symbol, 'history', 60, ts_begin, ts_begin, open,
        high + {price}, low,
        close, volume + {more}, -1, trade_count
    FROM l2.bars_1m WHERE session_date = '2026-03-06' AND symbol = '{symbol}' AND source = 'live'"""
DAILY = """INSERT INTO l2.history_bars (stream, session_date, seq, symbol, source, interval_s, ts_begin, ts_recv, open, high, low,
    close, volume, total_volume, trade_count)
    SELECT 'iqfeed-bars-history', session_date, 100000 + length(symbol), symbol, 'history', 86400,
        toDateTime(trade_date, 'America/New_York'), now64(9), open, high, low, close, volume + {more}, -1, 0
    FROM l2.bars_daily WHERE session_date = '2026-03-06' AND symbol = '{symbol}' AND source = 'live'"""
GAP = """INSERT INTO l2.gap_events (gap_id, stream, session_date, seq, ordinal, source, symbols, ts_from, ts_to, cause, evidence,
    repair_source,
        rows_recovered, residual, explanation, repair_state, state, seq_before, version, ts_written)
    VALUES ('{symbol}', 'iqfeed-level1-0', '2026-03-06', 7, 1, 'live', ['{symbol}'], fromUnixTimestamp64Nano({begin}, 'UTC'),
        fromUnixTimestamp64Nano({end}, 'UTC'), '{cause}', '{{}}', '', 0, '', '{explanation}', '{state}', 'closed', 6, 1, now64(9,
        'UTC'))"""
OTHERS = {
    "silence_explained": ("", "error", 999, 1040), "no_overnight_jump": ("split", "warn", 0, 1),
    "sources_agree": ("dearer", "warn", 0, 1800),
    "bars_equal_history more": ("more_volume", "error", 0, 1800), "bars_equal_history higher": ("higher", "error", 0, 1800),
    "bars_equal_history daily": ("daily_more", "error", None, None),
    "gaps_explained": ("lost", "error", 500, 590), "halts_hold": ("halted", "error", 600, 690), "no_incidents": ("garbled", "warn", 77, 77),
    "symbols_there": ("never", "error", None, None), "stores_equal": ("", "error", None, None),
}  # fmt: skip
"""Check (and what else tells cases apart) → symbol, severity, first and last second."""


@pytest.mark.parametrize("case", OTHERS)
def test_what_concerns_more_than_rows_of_a_symbol_is_found(audited: AuditResult, case: str) -> None:
    symbol, severity, first, last = OTHERS[case]
    found = [item for item in findings_of(audited, case.split(maxsplit=1)[0]) if item.symbol == symbol]
    assert found, [check for check in audited.checks if check.name == case.split(maxsplit=1)[0]]
    assert {item.severity for item in found} == {severity}
    if first is not None:
        assert second(first) - 10**9 <= min(item.ts_from or 0 for item in found)
        assert max(item.ts_to or 0 for item in found) <= second(last) + 10**9


def test_only_what_is_wrong_is_found_beside_the_rows(audited: AuditResult) -> None:
    for name, symbols in {
        "gaps_explained": {"lost"}, "halts_hold": {"halted"}, "no_overnight_jump": {"split"},
        "bars_equal_history": {"more_volume", "higher", "daily_more"}, "symbols_there": {"never"}, "sources_agree": {"dearer"},
    }.items():  # fmt: skip
        assert {item.symbol for item in findings_of(audited, name)} == symbols, name
    silences = findings_of(audited, "silence_explained")
    assert [item.stream for item in silences] == [OTHER], "the other streams have no pause, the quiet symbol is explained"


def test_bars_are_the_same_in_ranges_of_symbols(home: Home, audited: AuditResult) -> None:
    settings = home.settings.model_copy(update={"quality": QualitySettings(join_rows=1000)})
    (ranged,) = audit_date(settings, DAY, SystemClock(), ["bars_equal_history"]).checks
    whole = next(check for check in audited.checks if check.name == ranged.name)
    assert (ranged.outcome, ranged.looked, ranged.flagged) == (whole.outcome, whole.looked, whole.flagged)
    assert ranged.looked > 0
    assert sorted(map(str, ranged.findings)) == sorted(map(str, whole.findings))


def test_a_calendar_with_hours_expects_every_minute_of_them(home: Home, audited: AuditResult) -> None:
    settings = home.settings.model_copy(update={"session": SessionSettings(calendar="XNYS")})
    found = findings_of(audit_date(settings, DAY, SystemClock(), ["calendar_kept"]), "calendar_kept")
    missing = sorted((item.ts_from or 0, item.ts_to or 0) for item in found if item.stream == DEPTH and not item.symbol)
    assert missing == [(second(-1800), second(0)), (second(1800), second(6 * 3600))], "from the open, to the close"


def test_coverage_is_that_of_the_dates_before(home: Home, audited: AuditResult) -> None:
    with warehouse(home.settings) as client:
        for number in (10, 11, 12, 13):
            day = date(2026, 3, number)
            for place, symbol in enumerate(("steady", "thinner", "gone")):
                plant = {"quotes": {"where": "number < 200"}} if symbol == "thinner" and number == 13 else {}
                if symbol != "gone" or number != 13:
                    put_symbol(client, symbol, place, plant, only=("quotes",), day=day)
            for at in ("14:00:00", "16:00:00"):
                put_symbol(client, "edge", 10 + int(at[:2]), only=("quotes",), day=day, at=at)
    settings = home.settings.model_copy(update={"quality": QualitySettings(coverage_days=3)})
    result = audit_date(settings, date(2026, 3, 13), SystemClock(), ["coverage_steady"])
    found = findings_of(result, "coverage_steady")
    assert {(item.symbol, item.severity) for item in found} == {("thinner", "warn"), ("gone", "error")}
    assert {item.ts_from for item in found} == {second(7 * 86_400)}


def findings_of(result: AuditResult, check: str) -> list[Finding]:
    return next(found for found in result.checks if found.name == check).findings


def test_clean_symbols_have_no_finding(audited: AuditResult) -> None:
    assert audited.stored
    assert [found for check in audited.checks for found in check.findings if found.symbol in CLEAN] == []
    looked = {check.name: check.looked for check in audited.checks}
    assert looked["book_not_crossed"] == (len(CLEAN) + len(PLANTS) + 3 + 6) * SECONDS, "every snapshot of every symbol"


def test_a_print_without_an_id_is_no_hole_and_no_double(audited: AuditResult) -> None:
    for check in ("counters_unbroken", "print_once", "volume_reconciled", "bars_equal_history"):
        assert not [item for item in findings_of(audited, check) if item.symbol == "nameless"], check
    assert not [item for item in findings_of(audited, "counters_unbroken") if item.symbol == "half_named"]


@pytest.mark.parametrize("symbol", PLANTS)
def test_a_plant_is_found_where_and_when_it_is(audited: AuditResult, symbol: str) -> None:
    check, severity, first, last, _ = PLANTS[symbol]
    found = [item for item in findings_of(audited, check) if item.symbol == symbol and item.severity == severity]
    assert found, [item for item in findings_of(audited, check) if item.symbol == symbol]
    assert second(first) - 10**9 <= min(item.ts_from or 0 for item in found)
    assert max(item.ts_to or 0 for item in found) <= second(last) + 2 * 10**9
    assert all(item.flagged > 0 and item.stream for item in found)


@pytest.mark.parametrize(
    ("symbol", "check", "at", "said", "flagged"),
    [
        ("row_twice", "key_once", 400, "same row", 1),
        ("key_twice", "key_once", 410, "same key, other content", 1),
        ("block_twice", "print_once", 500, "same print at another seq", 10),
        ("half_named", "print_once", 500, "same print at another seq", 7),
    ],
)
def test_what_is_there_twice_is_found(audited: AuditResult, symbol: str, check: str, at: int, said: str, flagged: int) -> None:
    found = [item for item in findings_of(audited, check) if item.symbol == symbol]
    assert [(item.severity, dict(item.detail), item.flagged) for item in found] == [("error", {"note": said}, flagged)]
    assert second(at) <= found[0].ts_from <= second(at + 1)

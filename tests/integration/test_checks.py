"""Every check on a clean symbol, which it must leave alone, and on a planted one, which it must name with its time."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from l2_platform.clock import SystemClock
from l2_platform.quality.audit import audit_date
from l2_platform.quality.findings import AuditResult, Finding
from tests.integration.audit_rows import DAY, SECONDS, put_symbol, second
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
}  # fmt: skip
"""Symbol → check, severity, first and last second, what is planted."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Home:
    return make_home(tmp_path_factory.mktemp("checks"), numba_cache)


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
        yield audit_date(home.settings, DAY, SystemClock())


def findings_of(result: AuditResult, check: str) -> list[Finding]:
    return next(found for found in result.checks if found.name == check).findings


def test_clean_symbols_have_no_finding(audited: AuditResult) -> None:
    assert audited.stored
    assert [found for check in audited.checks for found in check.findings if found.symbol in (*CLEAN, "")] == []
    looked = {check.name: check.looked for check in audited.checks}
    symbols = len(CLEAN) + len(PLANTS) + 3
    assert looked["book_not_crossed"] == symbols * SECONDS
    assert looked["key_once"] == symbols * SECONDS * 4 + 2 + 10, "every row of every table, those that are there twice too"


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
    ],
)
def test_what_is_there_twice_is_found(audited: AuditResult, symbol: str, check: str, at: int, said: str, flagged: int) -> None:
    found = [item for item in findings_of(audited, check) if item.symbol == symbol]
    assert [(item.severity, dict(item.detail), item.flagged) for item in found] == [("error", {"note": said}, flagged)]
    assert second(at) <= found[0].ts_from <= second(at + 1)

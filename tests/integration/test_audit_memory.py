"""A range of symbols that needs more memory than it may is cut, the others stay; where that does not suffice, or lasts, it is said."""

import gc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.query import QueryResult

from l2_platform.clock import SystemClock
from l2_platform.errors import WarehouseError
from l2_platform.quality.audit import audit_date, chosen
from l2_platform.quality.day import look_at
from l2_platform.quality.execution import Runner
from l2_platform.quality.findings import CheckResult, Finding
from l2_platform.settings import QualitySettings, Settings
from l2_platform.warehouse.client import connect
from tests.integration.audit_rows import DAY, SECONDS, names_of, put_symbol
from tests.integration.homes import Home
from tests.integration.stored import make_home, warehouse

pytestmark = pytest.mark.integration
MB = 1 << 20
COPIES, BARS = 200, 30
"""Symbols beside the first, and bars of a minute of each."""
SPIKE = {"trades": {"price": "if(number = 1000, price * 10, price)"}}
SMALL = {"trade_not_spiking": 16 * MB, "quote_not_stale": 16 * MB, "bars_equal_history": 16 * MB}
"""Check → memory of a statement that is too little for all symbols at once and plenty for some: by stream, and for the whole date."""
THREADS = 2
"""What a statement needs depends on its threads, which are as many as there are cores."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[Home]:
    """201 symbols with 1,800 quotes and prints each, a spike in every symbol, and the vendor's bars, of which those of one are wrong."""
    found = make_home(tmp_path_factory.mktemp("memory"), numba_cache)
    with warehouse(found.settings) as client:
        put_symbol(client, "SYM", 0, SPIKE, only=("quotes", "trades"))
        for table in ("quotes", "trades"):
            names = names_of(client, table)
            client.command(f"""
                INSERT INTO l2.{table} ({names}) SELECT {names} FROM (
                    SELECT origin.* REPLACE (seq + 10000000 * (toUInt64(copies.n) + 1) AS seq,
                                             concat('SYM', leftPad(toString(copies.n), 3, '0')) AS symbol)
                    FROM l2.{table} AS origin CROSS JOIN (SELECT number AS n FROM numbers({COPIES})) AS copies
                ) SETTINGS async_insert = 0""")
        client.command("""
            INSERT INTO l2.history_bars (stream, session_date, seq, symbol, source, interval_s, ts_begin, ts_recv, open, high, low, close,
                volume, total_volume, trade_count)
            SELECT 'iqfeed-bars-history', session_date, rowNumberInAllBlocks() + 1, symbol, 'history', 60, ts_begin, ts_begin, open, high,
                low, close, volume + (symbol = 'SYM077'), -1, trade_count
            FROM l2.bars_1m WHERE source = 'live' SETTINGS async_insert = 0""")
        yield found


def with_quality(home: Home, **quality: float) -> Settings:
    return home.settings.model_copy(update={"quality": QualitySettings(**quality)})


@pytest.fixture
def client(home: Home) -> Iterator[Client]:
    found = connect(home.settings)
    found.set_client_setting("max_threads", THREADS)
    yield found
    found.close()


def runner_of(home: Home, client: Client, clock: SystemClock | None = None, **quality: float) -> Runner:
    return Runner(client, look_at(client, with_quality(home, **quality), DAY), clock or SystemClock())


def assert_equal(parts: CheckResult, whole: CheckResult) -> None:
    assert (parts.outcome, parts.looked, parts.flagged, parts.found, parts.message) == (
        whole.outcome, whole.looked, whole.flagged, whole.found, "",
    )  # fmt: skip
    assert sorted(map(str, parts.findings)) == sorted(map(str, whole.findings))


@pytest.mark.parametrize("name", SMALL)
def test_parts_find_what_the_whole_finds(home: Home, client: Client, name: str) -> None:
    (check,) = chosen([name])
    plenty, small = runner_of(home, client), runner_of(home, client, memory_bytes_max=SMALL[name])
    whole, parts = plenty.run(check), small.run(check)
    assert plenty.refused == 0
    assert small.refused > 0, "it was enough at once: the limit of this test is too high"
    assert_equal(parts, whole)
    assert whole.looked >= (COPIES + 1) * SECONDS / 60
    assert whole.found == {"trade_not_spiking": COPIES + 1, "quote_not_stale": 0, "bars_equal_history": BARS}[name]


def test_a_date_far_under_the_bounds_of_rows_is_parted_too(home: Home, client: Client) -> None:
    # the whole date has few rows beside these bounds: a quarter of one is still all of it
    bounds = {"group_rows": 1_000_000_000, "join_rows": 100_000_000, "memory_bytes_max": SMALL["trade_not_spiking"]}
    runner = runner_of(home, client, **bounds)
    assert runner.run(*chosen(["trade_not_spiking"])).found == COPIES + 1
    assert runner.refused > 0


def test_what_was_answered_stays_when_a_range_is_refused(
    home: Home, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    (check,) = chosen(["trade_not_spiking"])
    whole = runner_of(home, client).run(check)
    runner = runner_of(home, client, group_rows=100_000)
    asked: list[tuple[str, str]] = []
    query = client.query

    def short_of_memory_once(sql: str, *, parameters: dict[str, Any], settings: dict[str, Any] | None = None) -> QueryResult:
        if settings is not None:
            asked.append((parameters["first"], parameters["last"]))
            if len(asked) == 3:
                settings = settings | {"max_memory_usage": 1}
        return query(sql, parameters=parameters, settings=settings)

    monkeypatch.setattr(client, "query", short_of_memory_once)
    assert_equal(runner.run(check), whole)
    assert (runner.asked, runner.refused) == (len(asked), 1)
    refused = asked.pop(2)
    assert asked == sorted(asked), "in order"
    assert all(one[1] < next_one[0] for one, next_one in pairwise(asked)), "no symbol is judged twice"
    assert len([one for one in asked if refused[0] <= one[0] <= refused[1]]) in {4, 5}


def test_a_warehouse_that_is_full_ends_a_check_soon_and_is_told(
    home: Home, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runner_of(home, client)
    query = client.query

    def over_the_bound(sql: str, *, parameters: dict[str, Any], settings: dict[str, Any] | None = None) -> QueryResult:
        if settings is None:
            return query(sql, parameters=parameters)
        # asks for 16 GB at once, which no one is given
        return query("SELECT length(range(toUInt64(2000000000)))", settings={"function_range_max_elements_in_block": 4_000_000_000})

    monkeypatch.setattr(client, "query", over_the_bound)
    with pytest.raises(WarehouseError, match="as a whole is at its bound, even for symbol SYM alone: audit the date again") as caught:
        runner.run(*chosen(["trade_not_spiking"]))
    assert "L2_WAREHOUSE__MEMORY_BYTES_MAX" in str(caught.value)
    assert runner.asked == runner.refused <= 6


class Slow(SystemClock):
    """A clock on which 100 s pass from one look to the next."""

    def __init__(self) -> None:
        self.looks = 0

    def monotonic_ns(self) -> int:
        self.looks += 1
        return self.looks * 100 * 10**9


def test_a_check_that_lasts_is_not_evaluated(home: Home) -> None:
    clock = Slow()
    (found,) = audit_date(with_quality(home, group_rows=1800, statement_s=20), DAY, clock, ["trade_not_spiking"]).checks
    assert (found.outcome, found.severity, found.looked, found.findings) == ("not_evaluated", "error", 0, [])
    assert "not judged within 240 s, 12 times L2_QUALITY__STATEMENT_S: of 2 statements 0 were refused" in found.message
    assert "set L2_QUALITY__STATEMENT_S higher" in found.message


class Counting(SystemClock):
    """A clock that counts the findings there are at each look, which is before each statement."""

    def __init__(self) -> None:
        self.held: list[int] = []

    def monotonic_ns(self) -> int:
        self.held.append(sum(type(thing) is Finding for thing in gc.get_objects()))
        return super().monotonic_ns()


def test_no_more_findings_are_held_than_are_kept(home: Home, client: Client) -> None:
    clock = Counting()
    found = runner_of(home, client, clock, group_rows=20_000, findings_max=3).run(*chosen(["trade_not_spiking"]))
    assert (found.found, len(found.findings)) == (COPIES + 1, 3)
    assert len(clock.held) > 10
    assert max(clock.held) - clock.held[0] <= 3


LEAST = {"trade_not_through": "even for symbol SYM alone", "calendar_kept": "in one piece only"}


@pytest.mark.parametrize(("name", "tried"), LEAST.items())
def test_what_needs_too_much_in_the_smallest_range_is_not_evaluated(home: Home, name: str, tried: str) -> None:
    (found,) = audit_date(with_quality(home, memory_bytes_max=MB), DAY, SystemClock(), [name]).checks
    assert (found.outcome, found.severity, found.looked, found.findings) == ("not_evaluated", "error", 0, [])
    assert tried in found.message
    assert "set L2_QUALITY__MEMORY_BYTES_MAX higher" in found.message

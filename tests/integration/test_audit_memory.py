"""A statement of a check that needs more memory than it may goes again in smaller ranges of symbols; where none suffices it is said."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from l2_platform.clock import SystemClock
from l2_platform.quality.audit import audit_date
from l2_platform.quality.findings import CheckResult
from l2_platform.settings import QualitySettings
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


def audited(home: Home, check: str, **quality: int) -> CheckResult:
    settings = home.settings.model_copy(update={"quality": QualitySettings(**quality)})
    result = audit_date(settings, DAY, SystemClock(), [check])
    assert result.outcome == result.checks[0].outcome
    return result.checks[0]


def refused(client: Client) -> int:
    """How many statements were ended since the warehouse began, since they needed more memory than they may."""
    rows = client.query("SELECT sum(value) FROM system.errors WHERE name = 'MEMORY_LIMIT_EXCEEDED'").result_rows
    return int(rows[0][0])


@pytest.mark.parametrize("check", SMALL)
def test_parts_find_what_the_whole_finds(home: Home, check: str) -> None:
    with warehouse(home.settings) as client:
        before = refused(client)
        whole = audited(home, check)
        assert refused(client) == before
        parts = audited(home, check, memory_bytes_max=SMALL[check])
        assert refused(client) > before, "it was enough at once: the limit of this test is too high"
    assert (parts.outcome, parts.looked, parts.flagged, parts.found, parts.message) == (
        whole.outcome, whole.looked, whole.flagged, whole.found, "",
    )  # fmt: skip
    assert sorted(map(str, parts.findings)) == sorted(map(str, whole.findings))
    assert whole.looked >= (COPIES + 1) * SECONDS / 60
    assert whole.found == {"trade_not_spiking": COPIES + 1, "quote_not_stale": 0, "bars_equal_history": BARS}[check]


def test_a_date_far_under_the_bounds_of_rows_is_parted_too(home: Home) -> None:
    # the whole date has few rows beside these bounds: a quarter of one is still all of it
    settings = {"group_rows": 1_000_000_000, "join_rows": 100_000_000, "memory_bytes_max": SMALL["trade_not_spiking"]}
    assert audited(home, "trade_not_spiking", **settings).found == COPIES + 1


LEAST = {"trade_not_through": "even in 201 ranges of symbols", "calendar_kept": "in one piece only"}


@pytest.mark.parametrize(("check", "tried"), LEAST.items())
def test_what_needs_too_much_in_the_smallest_range_is_not_evaluated(home: Home, check: str, tried: str) -> None:
    found = audited(home, check, memory_bytes_max=MB)
    assert (found.outcome, found.severity, found.looked, found.findings) == ("not_evaluated", "error", 0, [])
    assert tried in found.message
    assert "set L2_QUALITY__MEMORY_BYTES_MAX higher" in found.message

"""Stored rows for tests of reading: a home with a warehouse, and rows of streams and dates put straight into its tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clickhouse_connect.driver.client import Client

from l2_platform.settings import Settings
from l2_platform.warehouse.client import connect
from l2_platform.warehouse.schema import migrate
from tests.integration.homes import Home

LIVE = "iqfeed-level1-0"
SYMBOLS = ("AAA", "BBB", "CCC")


@contextmanager
def warehouse(settings: Settings) -> Iterator[Client]:
    """A client of the home's warehouse, with tables."""
    client = connect(settings)
    try:
        migrate(client, settings.clickhouse.database)
        yield client
    finally:
        client.close()


def make_home(path: Path, numba_cache: Path) -> Home:
    """A home whose warehouse ends soon after the test."""
    return Home(path, numba_cache, {"L2_WAREHOUSE__IDLE_EXIT_S": "30", "L2_SESSION__CALENDAR": "XNYS"})


def put_trades(client: Client, stream: str, day: str, rows: int, *, symbols: tuple[str, ...] = SYMBOLS, hour: int = 15) -> None:
    """`rows` trades, one a second from `hour`:00 UTC on, symbols in turn; prices with nine digits behind the point, some bids NULL."""
    source = "import" if "-import-" in stream else "history" if stream.endswith("-history") else "live"
    names = ", ".join(f"'{name}'" for name in symbols)
    client.command(f"""
        INSERT INTO l2.trades (stream, session_date, seq, symbol, ts_event, ts_recv, source, price, size, market_center, conditions,
            tick_id, aggressor, day_code, basis, total_volume, bid, ask, trade_date)
        SELECT '{stream}', '{day}', number + 1, [{names}][number % {len(symbols)} + 1],
            toDateTime64('{day} {hour}:00:00', 9, 'UTC') + toIntervalSecond(number) - toIntervalNanosecond(7),
            toDateTime64('{day} {hour}:00:00', 9, 'UTC') + toIntervalSecond(number) + toIntervalNanosecond(number), '{source}',
            toDecimal64('123.456789001', 9) + toDecimal64(number, 9) / 1000, number % 700 + 1, 5, '3D87', number, 'buy', 20, 'last',
            number * 10, if(number % 3 = 0, NULL, toDecimal64('123.45', 9)), toDecimal64('123.46', 9), '{day}'
        FROM numbers({rows}) SETTINGS async_insert = 0""")  # fmt: skip

"""Rows for tests of checks: a plain day of a symbol in all four market tables, and the same with something planted in it.

Half an hour from 15:00 UTC (10:00 in New York) of 2026-03-06, a quote, a print, a depth update and a snapshot each second, 10 ms apart.
A plant names expressions that replace columns; `number` (0 to 1799) is the second.
"""

from collections.abc import Mapping
from datetime import date

from clickhouse_connect.driver.client import Client

DAY = date(2026, 3, 6)
BEGIN_NS = 1_772_809_200_000_000_000
"""2026-03-06 15:00 UTC."""
SECONDS = 1800
LEVEL1, DEPTH = "iqfeed-level1-0", "iqfeed-depth-0"
TABLES = ("quotes", "trades", "depth_updates", "book_snapshots")
Plants = Mapping[str, Mapping[str, str]]
"""Table → column → expression over its columns and `number`; the column `where` keeps rows only."""
COLUMNS = {
    "quotes": """the_bid AS bid, 300 AS bid_size, 5 AS bid_market_center, the_ask AS ask, 400 AS ask_size, 5 AS ask_market_center,
        ts_event AS ts_bid, ts_event AS ts_ask, number * 100 AS total_volume, 0 AS delay, 'ba' AS contents, 0 AS snapshot""",
    "trades": """if(number % 2, the_bid, the_ask) AS price, 100 AS size, 5 AS market_center, '01' AS conditions, number + 1 AS tick_id,
        'none' AS aggressor, 1 AS day_code, 'last' AS basis, (number + 1) * 100 AS total_volume, the_bid AS bid, the_ask AS ask,
        session_date AS trade_date""",
    "depth_updates": """'update' AS kind, if(number % 2, 'bid', 'ask') AS side, if(number % 2, the_bid, the_ask) AS price, 100 AS size,
        number AS order_id, 'NSDQ' AS mmid, 1 AS priority, 1 AS order_count, 0 AS snapshot, 'good' AS trust""",
    "book_snapshots": """'good' AS trust, [the_bid, the_bid - the_tick] AS bid_px, [toInt64(100), 200] AS bid_sz,
        [toUInt32(1), 1] AS bid_ct,

        [the_ask, the_ask + the_tick] AS ask_px, [toInt64(100), 200] AS ask_sz, [toUInt32(1), 1] AS ask_ct, 300 AS total_bid_size,
        300 AS total_ask_size""",
}


def put_symbol(
    client: Client, symbol: str, place: int, plants: Plants | None = None, *, only: tuple[str, ...] = TABLES, day: date = DAY,
    streams: tuple[str, str] = (LEVEL1, DEPTH), price: int = 100, source: str = "live", database: str = "l2", at: str = "15:00:00",
) -> None:  # fmt: skip
    """The day of one symbol; `place` (0 to 99) keeps the seqs of symbols apart."""
    for number, table in enumerate(TABLES):
        if table not in only:
            continue
        planted = dict((plants or {}).get(table, {}))
        where = planted.pop("where", "1")
        replaced = ", ".join(f"({expression}) AS {column}" for column, expression in planted.items())
        stream = streams[0] if table in {"quotes", "trades"} else streams[1]
        client.command(f"""
            INSERT INTO {database}.{table} ({names_of(client, table, database)})
            SELECT {names_of(client, table, database)} FROM (
                SELECT * {f"REPLACE ({replaced})" if replaced else ""} FROM (
                    SELECT number, '{stream}' AS stream, toDate('{day}') AS session_date, number * 400 + {place * 4 + number} + 1 AS seq,
                        '{symbol}' AS symbol, toDateTime64('{day} {at}', 9, 'UTC') + toIntervalSecond(number)
                        + toIntervalMillisecond({number * 10}) AS ts_recv, ts_recv - toIntervalMillisecond(5) AS ts_event,
                        '{source}' AS source, toDecimal64('0.01', 9) AS the_tick,
                        toDecimal64({price}, 9) + the_tick * abs(toInt64(number % 40) - 20) AS the_bid, the_bid + the_tick * 2 AS the_ask,
                        {COLUMNS[table]}
                    FROM numbers({SECONDS})
                ) WHERE {where}
            ) SETTINGS async_insert = 0""")


def names_of(client: Client, table: str, database: str = "l2") -> str:
    """Columns that can be inserted."""
    sql = f"SELECT name FROM system.columns WHERE database = '{database}' AND table = '{table}' AND default_kind = '' ORDER BY position"
    return ", ".join(name for (name,) in client.query(sql).result_rows)


def second(number: float) -> int:
    """ns of a second of the day."""
    return BEGIN_NS + round(number * 1_000_000_000)

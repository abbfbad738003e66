"""Figure `audit`: every check over a day of generated rows in the embedded warehouse.

What does not belong here: whether checks find what is wrong (tests/integration/test_checks.py).
"""

from datetime import date

from clickhouse_connect.driver.client import Client

from benchmarks.figure import Context, Result, Row, Target, figure
from benchmarks.store import Highest, process_of, rows_of_query, warehouse
from l2_platform.quality.audit import audit_date

DAY = date(2026, 3, 6)
PARTS = {"depth_updates": 0.60, "quotes": 0.25, "book_snapshots": 0.10, "trades": 0.05}
"""Share of each table in the rows of a day."""
LIMIT_S = 300.0
"""Target for 100 million rows, s."""
OPEN_NS = 1_772_807_400_000_000_000
"""2026-03-06 14:30 UTC: the open in New York."""
SESSION_S = 23_400
"""Rows are spread over regular trading, s."""
CHUNK_ROWS = 2_000_000
"""Rows of one INSERT."""
COLUMNS = {
    "quotes": """the_bid AS bid, 300 AS bid_size, 5 AS bid_market_center, the_ask AS ask, 400 AS ask_size, 5 AS ask_market_center,
        ts_event AS ts_bid, ts_event AS ts_ask, turn * 100 AS total_volume, 0 AS delay, 'ba' AS contents, 0 AS snapshot""",
    "trades": """if(turn % 2, the_bid, the_ask) AS price, 100 AS size, 5 AS market_center, '01' AS conditions, turn + 1 AS tick_id,
        'none' AS aggressor, 1 AS day_code, 'last' AS basis, (turn + 1) * 100 AS total_volume, the_bid AS bid, the_ask AS ask,
        session_date AS trade_date""",
    "depth_updates": """'update' AS kind, if(turn % 2, 'bid', 'ask') AS side, if(turn % 2, the_bid, the_ask) AS price, 100 AS size,
        turn AS order_id, 'NSDQ' AS mmid, 1 AS priority, 1 AS order_count, 0 AS snapshot, 'good' AS trust""",
    "book_snapshots": """'good' AS trust, arrayMap(x -> the_bid - the_tick * x, range(10)) AS bid_px,
        arrayMap(x -> toInt64(100 + x), range(10)) AS bid_sz, arrayMap(x -> toUInt32(1), range(10)) AS bid_ct,
        arrayMap(x -> the_ask + the_tick * x, range(10)) AS ask_px, bid_sz AS ask_sz, bid_ct AS ask_ct, 1045 AS total_bid_size,
        1045 AS total_ask_size""",
}


@figure("audit", title="Audit of a day", unit="s", long=True, order=66)
def audit(ctx: Context) -> Result:
    """Every check of docs/quality.md over one session date of rows that the engine makes itself: 60 % depth updates, 25 % quotes, 10 %
    book snapshots of ten levels, 5 % prints, evenly spread over the symbols and the hours of regular trading, in one stream of depth and
    one of Level 1, with nothing wrong in them. Time of each check as the audit measures it; "memory" is the greatest resident size of
    the warehouse's process, looked at every 100 ms, the engine's caches included. Options: `rows` (100000000), `symbols` (5000).
    """
    wanted = int(ctx.options.get("rows", str(ctx.pick(20_000, 100_000_000))))
    symbols = int(ctx.options.get("symbols", str(ctx.pick(10, 5_000))))
    with warehouse(ctx) as (found_settings, _sink, client):
        session = found_settings.session.model_copy(update={"calendar": "XNYS"})
        settings = found_settings.model_copy(update={"session": session})
        total = 0
        for table, share in PARTS.items():
            total += _fill(client, table, round(wanted * share), symbols)
        filled = process_of(settings).memory_info().rss
        with Highest(process_of(settings)) as highest:
            began = ctx.clock.monotonic_ns()
            result = audit_date(settings, DAY, ctx.clock)
            seconds = (ctx.clock.monotonic_ns() - began) / 1e9
    rows: list[Row] = [
        {"check": found.name, "rows": found.looked, "outcome": found.outcome, "s": found.seconds} for found in result.checks
    ]
    lost = [f"{found.name}: {found.message}" for found in result.checks if found.outcome == "not_evaluated" and found.severity]
    if lost or not result.stored:
        raise AssertionError(f"not judged: {lost} {result.message}")
    rows.append({"check": "all", "rows": total, "outcome": result.outcome, "s": seconds})
    rows.append({"check": "memory before, MB", "rows": total, "outcome": "", "s": filled / 1e6})
    rows.append({"check": "memory, MB", "rows": total, "outcome": "", "s": highest.bytes / 1e6})
    whole = total >= 100_000_000
    target = Target(f"all checks over 100 M rows in ≤ {LIMIT_S:g} s", f"{seconds:,.1f} s for {total:,} rows", seconds <= LIMIT_S)
    return Result(rows=rows, targets=[target] if whole else [], limit="windows and groups of the engine on all cores")


def _fill(client: Client, table: str, rows: int, symbols: int) -> int:
    """`rows` rows, symbols in turn; how many there are."""
    names = ", ".join(name for (name,) in rows_of_query(
        client, "SELECT name FROM system.columns WHERE database = 'l2' AND table = {table:String} AND default_kind = ''", table=table
    ))  # fmt: skip
    stream = "iqfeed-level1-0" if table in {"quotes", "trades"} else "iqfeed-depth-0"
    step_ns = SESSION_S * 1_000_000_000 // max(rows // symbols, 1)
    for first in range(0, rows, CHUNK_ROWS):
        client.command(f"""
            INSERT INTO l2.{table} ({names}) SELECT {names} FROM (
                SELECT intDiv(number, {symbols}) AS turn, '{stream}' AS stream, toDate('{DAY}') AS session_date, number + 1 AS seq,
                    concat('SYM', leftPad(toString(number % {symbols}), 5, '0')) AS symbol,
                    {OPEN_NS} + turn * {step_ns} + (number % {symbols}) * {step_ns // symbols} AS at,
                    fromUnixTimestamp64Nano(toInt64(at), 'UTC') AS ts_recv,
                    ts_recv - toIntervalMillisecond(5) AS ts_event, 'live' AS source, toDecimal64('0.01', 9) AS the_tick,
                    toDecimal64(100, 9) + the_tick * abs(toInt64(intDiv(at, 1000000000) % 40) - 20) AS the_bid,
                    the_bid + the_tick * 2 AS the_ask, {COLUMNS[table]}
                FROM numbers({first}, {min(CHUNK_ROWS, rows - first)})
            ) SETTINGS async_insert = 0""")
    return rows

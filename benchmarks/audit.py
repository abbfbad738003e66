"""Figure `audit`: every check over a day of generated rows in the embedded warehouse.

What does not belong here: whether checks find what is wrong (tests/integration/test_checks.py).
"""

import shutil
from datetime import date

from clickhouse_connect.driver.client import Client

from benchmarks.figure import Context, NotMeasurable, Result, Row, Target, figure
from benchmarks.store import Highest, process_of, rows_of_query, warehouse
from l2_platform.quality.audit import audit_date

DAY, BEFORE = date(2026, 3, 6), [date(2026, 3, day) for day in (5, 4, 3)]
LEVEL1, DEPTH, VENDOR = "iqfeed-level1-0", "iqfeed-depth-0", "alphavantage-trades-import-00000001"
PARTS = {"depth_updates": 0.60, "quotes": 0.25, "book_snapshots": 0.10, "trades": 0.05}
"""Share of each table in the rows of a day."""
LIMIT_S = 300.0
"""Target for 100 million rows, s."""
OPEN_NS = 1_772_807_400_000_000_000
"""2026-03-06 14:30 UTC: the open in New York."""
SESSION_NS = 23_400 * 1_000_000_000
"""Rows are spread over regular trading, ns."""
CHUNK_ROWS = 4_000_000
"""Rows of one INSERT."""
ROW_BYTES = 30
"""Disk that is asked for, for each row of the date: with the dates before it is 6 at the end, measured at 10 million; the rest is for
merges and for what statements put on disk."""
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
    one of Level 1, with nothing wrong in them; beside them what other checks compare: quotes and prints of three dates before, the
    vendor's bars of a minute, a second vendor's prints of every hundredth symbol, halts, the universe, a comparison of the stores.
    Time of each check as the audit measures it; "memory" is the greatest resident size of the warehouse's process, looked at every
    100 ms, the engine's caches included. 100 million rows need 3 GB of disk for a while and some minutes to be made. Options: `rows`
    (100000000), `symbols` (5000).
    """
    wanted = int(ctx.options.get("rows", str(ctx.pick(20_000, 100_000_000))))
    symbols = int(ctx.options.get("symbols", str(ctx.pick(10, 5_000))))
    free = shutil.disk_usage(ctx.scratch).free
    if free < wanted * ROW_BYTES:
        need = f"{wanted * ROW_BYTES / 1e9:,.0f} GB"
        raise NotMeasurable(f"{wanted:,} rows need {need} on disk, {free / 1e9:,.0f} GB are free: --scratch names another folder")
    with warehouse(ctx) as (found_settings, _sink, client):
        session = found_settings.session.model_copy(update={"calendar": "XNYS"})
        settings = found_settings.model_copy(update={"session": session})
        began = ctx.clock.monotonic_ns()
        quotes = round(wanted * PARTS["quotes"])
        total = sum(_fill(client, table, DAY, round(wanted * share), quotes, symbols) for table, share in PARTS.items())
        _fill_beside(client, round(wanted * PARTS["trades"]), quotes, symbols)
        made_s = (ctx.clock.monotonic_ns() - began) / 1e9
        process = process_of(settings)
        filled = process.memory_info().rss
        with Highest(process) as highest:
            began = ctx.clock.monotonic_ns()
            result = audit_date(settings, DAY, ctx.clock)
            seconds = (ctx.clock.monotonic_ns() - began) / 1e9
        disk = rows_of_query(client, "SELECT sum(bytes_on_disk) FROM system.parts WHERE database = 'l2'")[0][0]
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
    blind = [found for found in result.checks if found.outcome == "not_evaluated"]
    return Result(
        rows=rows, targets=[target] if whole else [], limit="windows and groups of the engine on all cores",
        notes=[f"Rows made in {made_s:,.0f} s; {disk / 1e9:,.2f} GB of tables on disk at the end, parts that were merged included.",
               *(f"Not evaluated: {found.name}, {found.message}." for found in blind)],
    )  # fmt: skip


def _fill(client: Client, table: str, day: date, rows: int, quotes: int, symbols: int) -> int:
    """`rows` rows, symbols in turn; how many there are. The price moves with each of the day's `quotes`, so that all tables agree."""
    names = _names(client, table)
    stream = LEVEL1 if table in {"quotes", "trades"} else DEPTH
    step_ns, quote_ns = (SESSION_NS // max(count // symbols, 1) for count in (rows, quotes))
    open_ns = OPEN_NS - (DAY - day).days * 86_400 * 10**9
    for first in range(0, rows, CHUNK_ROWS):
        client.command(f"""
            INSERT INTO l2.{table} ({names}) SELECT {names} FROM (
                SELECT intDiv(number, {symbols}) AS turn, number % {symbols} AS place, '{stream}' AS stream,
                    toDate('{day}') AS session_date, number + 1 AS seq, concat('SYM', leftPad(toString(place), 5, '0')) AS symbol,
                    turn * {step_ns} + place * {step_ns // symbols} AS since,
                    fromUnixTimestamp64Nano(toInt64({open_ns} + since), 'UTC') AS ts_recv,
                    ts_recv - toIntervalMillisecond(5) AS ts_event, 'live' AS source, toDecimal64('0.01', 9) AS the_tick,
                    intDiv(greatest(toInt64(since) - toInt64(place * {quote_ns // symbols}), 0), {quote_ns}) AS moved,
                    toDecimal64(100, 9) + the_tick * abs(toInt64(moved % 40) - 20) AS the_bid,
                    the_bid + the_tick * 2 AS the_ask, {COLUMNS[table]}
                FROM numbers({first}, {min(CHUNK_ROWS, rows - first)})
            ) SETTINGS async_insert = 0, max_insert_threads = 2""")
    return rows


def _fill_beside(client: Client, prints: int, quotes: int, symbols: int) -> None:
    """What checks compare the date with."""
    for day in BEFORE:
        _fill(client, "trades", day, prints, quotes, symbols)
        _fill(client, "quotes", day, quotes, quotes, symbols)
    step_ns = SESSION_NS // max(prints // symbols, 1)
    trades, at = _names(client, "trades"), f"{OPEN_NS} + number * {step_ns // symbols} + {step_ns}"
    stores = ", ".join(f"('{table}', '{LEVEL1 if table in {'quotes', 'trades'} else DEPTH}')" for table in PARTS)
    for sql in (
        f"""INSERT INTO l2.trades ({trades}) SELECT {trades} FROM (
                SELECT * REPLACE ('{VENDOR}' AS stream, 'import' AS source)
                FROM (SELECT * FROM l2.trades WHERE session_date = '{DAY}' AND endsWith(symbol, '00')))""",
        f"""INSERT INTO l2.history_bars (stream, session_date, seq, symbol, source, interval_s, ts_begin, ts_recv, open, high, low, close,
                volume, total_volume, trade_count)
            SELECT 'iqfeed-bars-history', session_date, rowNumberInAllBlocks() + 1, symbol, 'history', 60, ts_begin, ts_begin, open, high,
                low, close, volume, -1, trade_count
            FROM l2.bars_1m WHERE session_date = '{DAY}' AND source = 'live'""",
        f"""INSERT INTO l2.gap_events (gap_id, stream, session_date, seq, ordinal, source, symbols, ts_from, ts_to, cause, evidence,
                repair_source, rows_recovered, residual, explanation, repair_state, state, seq_before, version, ts_written)
            SELECT toString(number), '{LEVEL1}', '{DAY}', 1, 1, 'live', [concat('SYM', leftPad(toString(number), 5, '0'))],
                fromUnixTimestamp64Nano(toInt64({at} + {step_ns // 10}), 'UTC'),
                fromUnixTimestamp64Nano(toInt64({at} + {step_ns // 10 * 9}), 'UTC'), 'symbol_silence', '{{}}', '', 0, '', 'halt', '',
                'closed', 1, 1, now64(9, 'UTC')
            FROM numbers({min(symbols, 50)})""",
        f"""INSERT INTO l2.universe_events SELECT concat('SYM', leftPad(toString(number), 5, '0')), 'all', 1, 1,
                toDateTime64('2026-01-01', 9, 'UTC'), now64(9) FROM numbers({symbols})""",
        f"""INSERT INTO l2.reconciliations (session_date, stream, table, store, state, rows_journal, rows_store, missing, ts_written)
            SELECT '{DAY}', place.2, place.1, 'jsonl', 'equal', 1, 1, 0, now64(9) FROM (SELECT arrayJoin([{stores}]) AS place)""",
        f"""INSERT INTO l2.feed_events (stream, session_date, seq, ordinal, symbol, ts_recv, source, kind, detail, raw)
            VALUES ('{LEVEL1}', '{DAY}', 1, 0, '', fromUnixTimestamp64Nano({OPEN_NS}, 'UTC'), 'live', 'connected', '{{}}', '')""",
    ):  # fmt: skip
        client.command(sql, settings={"async_insert": 0})


def _names(client: Client, table: str) -> str:
    """Columns that can be inserted."""
    return ", ".join(name for (name,) in rows_of_query(
        client, "SELECT name FROM system.columns WHERE database = 'l2' AND table = {table:String} AND default_kind = ''", table=table
    ))  # fmt: skip

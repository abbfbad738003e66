"""Rows that are there twice (7): the same key, the same key with another content, the same print at another place."""

from string import Template
from typing import Final

from l2_platform.quality.checks.rule import MARKET, Check, Statement, require_any_of

_KEYS: Final = """
SELECT {stream:String} AS stream, symbol, 0 AS level, count() AS looked, 0 AS flagged, 0 AS ts_from, 0 AS ts_to, 0 AS seq_from,
    0 AS seq_to,
       0. AS value, '' AS detail
FROM $database.$table WHERE $where GROUP BY symbol
UNION ALL
SELECT {stream:String}, any(symbol), 2, 0, sum(copies) - count(), min(ts_first), max(ts_last), min(seq), max(seq), toFloat64(max(copies)),
       if(max(contents) > 1, 'same key, other content', 'same row')
FROM (
    SELECT seq, any(symbol) AS symbol, count() AS copies, uniqExact(cityHash64($columns)) AS contents, min($moment) AS ts_first,
           max($moment) AS ts_last
    FROM $database.$table
    WHERE $where AND (SELECT count() > groupBitmap(seq) FROM $database.$table WHERE $where) GROUP BY seq HAVING copies > 1
)
GROUP BY symbol, intDiv(ts_first, {episode_ns:Int64})"""
"""A bitmap of dense numbers says at a bit a row whether any key is there twice; only then the rows are grouped by key."""
_COLUMNS: Final = {
    "trades": "symbol, ts_event, price, size, tick_id, total_volume",
    "quotes": "symbol, ts_event, bid, ask, bid_size, ask_size, contents",
    "depth_updates": "symbol, ts_event, kind, side, price, size, order_id, mmid",
    "book_snapshots": "symbol, ts_event, bid_px, bid_sz, ask_px, ask_sz",
}
_KEPT: Final = {name: f"${name}" for name in ("moment", "database", "where")}
KEYS: Final = {
    table: Template(_KEYS).substitute(_KEPT, table=table, columns=columns.replace("symbol", f"{table}.symbol"))
    for table, columns in _COLUMNS.items()
}
PRINTS: Final = """
SELECT {stream:String} AS stream, symbol, 0 AS level, count() AS looked, 0 AS flagged, 0 AS ts_from, 0 AS ts_to, 0 AS seq_from,
    0 AS seq_to,
       0. AS value, '' AS detail
FROM $database.trades WHERE $where GROUP BY symbol
UNION ALL
SELECT {stream:String}, symbol, 2, 0, sum(copies) - count(), min(ts_first), max(ts_last), min(seq_first), max(seq_last),
       toFloat64(max(copies)), if(max(contents) > 1, 'same TickID, other content', 'same print at another seq')
FROM (
    SELECT symbol, count() AS copies, uniqExact(cityHash64(price, size, ts_event)) AS contents, min($moment) AS ts_first,
           max($moment) AS ts_last, min(seq) AS seq_first, max(seq) AS seq_last
    FROM $database.trades
    WHERE $where AND tick_id > 0 AND (symbol, trade_date) IN (
        SELECT symbol, trade_date FROM $database.trades WHERE $where AND tick_id > 0 AND {tick_ids:UInt8}
        GROUP BY symbol, trade_date, if({tick_by_center:UInt8}, market_center, 0) HAVING count() > groupBitmap(tick_id)
    )
    GROUP BY symbol, trade_date, if({tick_by_center:UInt8}, market_center, 0), tick_id HAVING uniqExact(seq) > 1
)
GROUP BY symbol, intDiv(ts_first, {episode_ns:Int64})"""
"""The same TickID of a symbol, day and market centre at two seqs: a feed that sends a block again after a reconnect."""

CHECKS: Final = (
    Check(
        "key_once", 7, "trades", "Every (stream, session date, seq) is in a table once.",
        "practice; the key is docs/data.md", "error", (),
        tuple(Statement(table, KEYS[table], form="groups", by_symbols=False) for table in MARKET), require_any_of(*MARKET),
    ),
    Check(
        "print_once", 7, "trades",
        "A print (symbol, trade date, market centre, TickID) comes once in a stream: nothing overlaps at a reconnect.",
        "practice (count-at-timestamp rules of vendors); TickID rule of setting feed.tick_id_rule", "error", (),
        (Statement("trades", PRINTS, form="groups"),), require_any_of("trades"),
    ),
)  # fmt: skip

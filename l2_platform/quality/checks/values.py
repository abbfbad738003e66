"""Values that cannot be (17): prices and sizes out of range, rows without what they must have, columns that are not there."""

from string import Template
from typing import Final

from l2_platform.quality.checks.rule import MARKET, Check, Statement, require_any_of

_ROWS: Final = """
SELECT symbol, ts, ts AS ts_end, seq, $wrong AS level, abs(toFloat64($worst)) AS value, $episode AS run, '' AS detail
FROM (SELECT *, $moment AS ts FROM $database.$table WHERE $where)"""
_PRICE: Final = "({prices_positive:UInt8} AND $price <= 0) OR toFloat64($price) > {price_max:Float64}"
_KEPT: Final = {name: f"${name}" for name in ("moment", "episode", "database", "where")}


def _bad_price(price: str) -> str:
    return f"({Template(_PRICE).substitute(price=price)})"


RANGES: Final = {
    table: Template(_ROWS).substitute(_KEPT, table=table, wrong=wrong, worst=worst)
    for table, wrong, worst in (
        ("trades", f"multiIf({_bad_price('price')} OR size < 0 OR size > {{size_max:Int64}}, 2, 0)", "price"),
        ("quotes", f"if((bid IS NOT NULL AND bid != 0 AND {_bad_price('assumeNotNull(bid)')}) OR (ask IS NOT NULL AND ask != 0 AND "
                   f"{_bad_price('assumeNotNull(ask)')}) OR bid_size < -1 OR ask_size < -1"
                   " OR greatest(bid_size, ask_size) > {size_max:Int64},"
                   " 2, 0)", "ifNull(least(bid, ask), 0)"),
        ("depth_updates", f"if((kind IN ('add', 'price_level_order') AND {_bad_price('price')}) OR price < 0 AND {{prices_positive:UInt8}}"
                          " OR size < 0 OR size > {size_max:Int64}, 2, 0)", "price"),
        ("book_snapshots", "if(arrayExists(p -> {prices_positive:UInt8} AND p <= 0 OR toFloat64(p) > {price_max:Float64},"
                           " arrayConcat(bid_px, ask_px)) OR arrayExists(s -> s < 0, arrayConcat(bid_sz, ask_sz)), 2, 0)",
         "if(empty(bid_px), 0, bid_px[1])"),
    )
}  # fmt: skip
PRESENT: Final = {
    table: Template(_ROWS).substitute(_KEPT, table=table, worst="1", wrong=wrong)
    for table, wrong in (
        ("trades", "multiIf(symbol = '' OR abs(trade_date - session_date) > 4, 2, ts_event IS NULL, 1,"
                   " trade_date != toDate(assumeNotNull(ts_event), 'America/New_York'), 2, 0)"),
        ("quotes", "if(symbol = '' OR (bid IS NULL AND ask IS NULL AND snapshot = 0), if(symbol = '', 2, 1), 0)"),
        ("depth_updates", "if(symbol = '' OR (kind IN ('add', 'price_level_order') AND side = 'none'), 2, 0)"),
        ("book_snapshots", "if(symbol = '' OR length(bid_px) != length(bid_sz) OR length(ask_px) != length(ask_sz), 2, 0)"),
    )
}  # fmt: skip
_READ: Final = {
    "trades": "symbol seq ts_event ts_recv source price size market_center tick_id basis total_volume bid ask trade_date",
    "quotes": "symbol seq ts_event ts_recv source bid bid_size ask ask_size contents snapshot",
    "depth_updates": "symbol seq ts_event ts_recv source kind side price size order_id mmid snapshot trust",
    "book_snapshots": "symbol seq ts_event ts_recv source trust bid_px bid_sz ask_px ask_sz",
}
_WANTED: Final = ", ".join(f"'{table}.{name}'" for table, names in _READ.items() for name in names.split())
SCHEMA: Final = f"""
SELECT '' AS stream, '' AS symbol, if(there = 0, 2, 0) AS level, 1 AS looked, there = 0 AS flagged, 0 AS ts_from, 0 AS ts_to,
    0 AS seq_from,
       0 AS seq_to, 1. AS value, concat('no column ', wanted) AS detail
FROM (
    SELECT wanted, countIf(wanted = found) AS there FROM (SELECT arrayJoin([{_WANTED}]) AS wanted) AS wished
    LEFT JOIN (SELECT concat(table, '.', name) AS found FROM system.columns WHERE database = '$database') AS held ON wanted = found
    GROUP BY wanted
)"""  # noqa: S608 - names are ours

CHECKS: Final = (
    Check(
        "values_in_range", 17, "trades",
        "Prices are over zero and under a bound, sizes are not negative and under a bound (the vendor sends prints of size zero).",
        "Barndorff-Nielsen et al. 2009, P2 (zero prices)", "error", ("price_max", "size_max", "prices_positive"),
        tuple(Statement(table, RANGES[table]) for table in MARKET), require_any_of(*MARKET),
    ),
    Check(
        "rows_well_formed", 17, "trades",
        "A row has its symbol, a print its time and the trade date of that time, a level its size, and the tables the columns that are"
        " read.",
        "practice; the schema is docs/data.md", "error", (),
        (*(Statement(table, PRESENT[table]) for table in MARKET), Statement("", SCHEMA, form="groups")), require_any_of(*MARKET),
    ),
)  # fmt: skip

"""Crossed and locked books and quotes (1), weighted by how long they were so, and spreads that are outliers (6)."""

from string import Template
from typing import Final

from l2_platform.quality.checks.rule import Check, Statement, require_any_of, require_stream_of

_SO_LONG: Final = """
SELECT symbol, ts, least(next_ts, ts + $hold) AS ts_end, seq, state AS level, (ts_end - ts) / 1e9 AS value, run,
       if(state = 2, 'crossed', 'locked') AS detail
FROM (
    SELECT symbol, seq, ts, state, leadInFrame(ts, 1, {last_ts:Int64}) OVER ($after) AS next_ts, sum(state = 0) OVER ($so_far) AS run
    FROM (SELECT symbol, seq, $moment AS ts, multiIf(NOT ($usable) OR NOT $regular, 0, $bid > $ask, 2, $bid = $ask, 1, 0) AS state
          FROM $database.$table WHERE $where)
)"""
"""Rows in a row that are crossed (or locked) are one run; its value is how long it lasted, s."""
_KEPT: Final = {name: f"${name}" for name in ("after", "so_far", "moment", "regular", "database", "where")}
BOOK: Final = Template(_SO_LONG).substitute(
    _KEPT, table="book_snapshots", usable="trust = 'good' AND notEmpty(bid_px) AND notEmpty(ask_px)", bid="bid_px[1]", ask="ask_px[1]",
    hold="toInt64({snapshot_hold_s:Float64} * 1e9)",
)  # fmt: skip
QUOTES: Final = Template(_SO_LONG).substitute(
    _KEPT,
    table="quotes",
    usable="ifNull(bid, 0) > 0 AND ifNull(ask, 0) > 0",
    bid="bid",
    ask="ask",
    hold="86400000000000",
)
SPREADS: Final = """
SELECT symbol, ts, ts AS ts_end, seq, wide > {spread_times:Float64} AND spread > {spread_share:Float64} * mid AS level,
       spread / median AS wide, wide AS value, $episode AS run, '' AS detail
FROM (
    SELECT symbol, seq, $moment AS ts, toFloat64(assumeNotNull(ask)) - toFloat64(assumeNotNull(bid)) AS spread,
           (toFloat64(assumeNotNull(ask)) + toFloat64(assumeNotNull(bid))) / 2 AS mid
    FROM $database.quotes WHERE $where AND bid > 0 AND ask > bid AND $regular
) AS quoted
INNER JOIN (
    SELECT symbol, quantileTDigest(0.5)(toFloat64(assumeNotNull(ask)) - toFloat64(assumeNotNull(bid))) AS median
    FROM (SELECT symbol, bid, ask, $moment AS ts FROM $database.quotes WHERE $where AND bid > 0 AND ask > bid) WHERE $regular
    GROUP BY symbol
) AS usual USING (symbol)"""

CHECKS: Final = (
    Check(
        "book_not_crossed", 1, "book_snapshots",
        "The best bid of a good book is under the best ask in regular trading but for moments: crossed is an error, locked a warning.",
        "Barndorff-Nielsen et al. 2009, Q2; SEC Rule 610(e): venues avoid locked and crossed markets", "error",
        ("crossed_s", "locked_s", "snapshot_hold_s", "auction_margin_s"),
        (Statement("book_snapshots", BOOK, value="sum", warn="locked_s", error="crossed_s"),),
        require_stream_of("book_snapshots"),
    ),
    Check(
        "quote_not_crossed", 1, "quotes",
        "The bid of Level 1 is under its ask in regular trading but for moments: crossed is an error, locked a warning.",
        "Barndorff-Nielsen et al. 2009, Q2; SEC Rule 610(e)", "error", ("crossed_s", "locked_s", "auction_margin_s"),
        (Statement("quotes", QUOTES, value="sum", warn="locked_s", error="crossed_s"),),
        require_any_of("quotes"),
    ),
    Check(
        "spread_not_outlying", 6, "quotes",
        "A spread is no more than so many medians of the symbol's day, unless it is small beside the price.",
        "Barndorff-Nielsen et al. 2009, Q3 (50 medians)", "warn", ("spread_times", "spread_share", "auction_margin_s"),
        (Statement("quotes", SPREADS),),
        require_any_of("quotes"),
    ),
)  # fmt: skip

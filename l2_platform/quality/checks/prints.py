"""Prints against the quote that came with them: stale quotes (4), trades through (5)."""

from typing import Final

from l2_platform.quality.checks.rule import Check, Statement, require_any_of

STALE: Final = """
SELECT symbol, ts, ts AS ts_end, seq, is_outside * 2 AS level, 1 AS value, run, '' AS detail
FROM (
    SELECT symbol, seq, ts, is_outside, sum(is_new) OVER ($so_far) AS run
    FROM (
        SELECT symbol, seq, ts, price < bid OR price > ask AS is_outside,
               bid != lagInFrame(bid, 1, bid) OVER ($before) OR ask != lagInFrame(ask, 1, ask) OVER ($before) AS is_new
        FROM (SELECT symbol, seq, price, assumeNotNull(bid) AS bid, assumeNotNull(ask) AS ask, $moment AS ts
              FROM $database.trades WHERE $where AND basis = 'last' AND trades.bid > 0 AND trades.ask >= trades.bid)
        WHERE $regular
    )
)"""
"""A run: prints with the same quote. Outside of it are prints that the quote, had it moved, would hold."""
THROUGH: Final = """
SELECT symbol, ts, ts AS ts_end, seq, is_beyond AND NOT (price >= low AND price <= high) AS level,
       greatest(price - ask, bid - price) AS value, $episode AS run, if(is_beyond AND level = 0, 'late report', '') AS detail
FROM (
    SELECT symbol, seq, ts, price, bid, ask, intDiv(ts, 60000000000) AS minute,
           price > ask + margin OR price < bid - margin AS is_beyond,
           greatest({through_spreads:Float64} * (ask - bid), {through_min:Float64}) AS margin
    FROM (SELECT symbol, seq, toFloat64(trades.price) AS price, toFloat64(assumeNotNull(trades.bid)) AS bid,
                 toFloat64(assumeNotNull(trades.ask)) AS ask, $moment AS ts
          FROM $database.trades WHERE $where AND basis = 'last' AND trades.bid > 0 AND trades.ask >= trades.bid)
    WHERE $regular
) AS prints
LEFT JOIN (
    SELECT symbol, minute, min(lowest) OVER late AS low, max(highest) OVER late AS high
    FROM (
        SELECT symbol, minute, min(least_bid) AS lowest, max(greatest_ask) AS highest
        FROM (
            SELECT symbol, intDiv($moment, 60000000000) AS minute, toFloat64(min(assumeNotNull(bid))) AS least_bid,
                   toFloat64(max(assumeNotNull(ask))) AS greatest_ask
            FROM $database.trades WHERE $where AND bid > 0 AND ask >= bid GROUP BY symbol, minute
            UNION ALL
            SELECT symbol, intDiv($moment, 60000000000) AS minute, toFloat64(min(assumeNotNull(bid))) AS least_bid,
                   toFloat64(max(assumeNotNull(ask))) AS greatest_ask
            FROM $database.quotes WHERE $where AND bid > 0 AND ask >= bid GROUP BY symbol, minute
        )
        GROUP BY symbol, minute
    )
    WINDOW late AS (PARTITION BY symbol ORDER BY minute
                    RANGE BETWEEN $late_minutes PRECEDING AND CURRENT ROW)
) AS quoted ON prints.symbol = quoted.symbol AND prints.minute = quoted.minute"""
"""`low` and `high`: what was quoted in the hour before, and in the print's own minute (quotes may come a moment after the print); by
the prints, and by the quotes between them, of which a quiet symbol has many more."""

CHECKS: Final = (
    Check(
        "quote_not_stale", 4, "trades",
        "A quote that does not change for a while is not printed through: regular prints outside it would have moved it.",
        "practice; the quote that came with a print is the feed's own", "error", ("stale_prints", "stale_s", "auction_margin_s"),
        (Statement("trades", STALE, value="count", warn="stale_prints", error="stale_prints", span="stale_s"),),
        require_any_of("trades"),
    ),
    Check(
        "trade_not_through", 5, "trades",
        "A regular print is not beyond its quote by more than a spread, unless a quote of the hour before fits it (a late report).",
        "Barndorff-Nielsen et al. 2009, T4, with the backward matching of highfrequency; SEC Rule 611", "warn",
        ("through_min", "through_spreads", "through_late_s", "auction_margin_s"),
        (Statement("trades", THROUGH, needs=("quotes",)),),
        require_any_of("trades"),
    ),
)  # fmt: skip

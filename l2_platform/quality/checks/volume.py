"""Counters that the feed brings along: TickIDs without holes (2), running volume against sizes (9)."""

from typing import Final

from l2_platform.quality.checks.rule import Check, Statement, require_any_of
from l2_platform.quality.day import Day

TICK_IDS: Final = """
SELECT symbol, least(at, at_prior) AS ts, greatest(at, at_prior) AS ts_end, seq,
       if({tick_ids:UInt8} AND step > 1 AND span < 2 * held + 10, 2, 0) AS level, toFloat64(step - 1) AS value, $episode AS run,
       'prints missing' AS detail
FROM (
    SELECT symbol, seq, at, toInt64(tick_id) - toInt64(lagInFrame(tick_id, 1, tick_id) OVER w) AS step, lagInFrame(at, 1,
        at) OVER w AS at_prior,
           count() OVER p AS held, max(tick_id) OVER p - min(tick_id) OVER p + 1 AS span
    FROM (
        SELECT symbol, seq, trade_date, tick_id, if({tick_by_center:UInt8}, market_center, 0) AS center, $moment AS at
        FROM $database.trades
        WHERE (($where) OR ({is_live:UInt8} AND session_date = {day:Date} AND source = 'history' AND $symbols
                            AND symbol IN (SELECT symbol FROM $database.trades WHERE $where))) AND tick_id > 0
    )
    WINDOW w AS (PARTITION BY symbol, trade_date, center ORDER BY tick_id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW),
           p AS (PARTITION BY symbol, trade_date, center)
)"""
"""Prints that history brought belong to those of the live stream that has their symbol. Ids that are far apart (`span`) do not count
prints at all."""
VOLUME: Final = """
SELECT {stream:String} AS stream, symbol, if(abs(missing) > {volume_share:Float64} * total, 2, 0) AS level, prints AS looked,
       if(level = 0, 0, greatest(jumps, 1)) AS flagged, from_ns AS ts_from, to_ns AS ts_to, seq_low AS seq_from, seq_high AS seq_to,
       abs(missing) / greatest(total, 1) AS value,
       if(level = 0, '', concat('running total ', if(missing > 0, 'ahead of', 'behind'), ' the sum of sizes by ',
       toString(abs(missing)))) AS detail,
       difference - recovered AS missing
FROM (
    SELECT symbol, trade_date, count() AS prints, sum(jump) AS difference, countIf(jump != 0) AS jumps, max(total_volume) AS total,
           minIf(at_prior, jump != 0) AS from_ns, maxIf(at, jump != 0) AS to_ns, minIf(seq, jump != 0) AS seq_low,
           maxIf(seq, jump != 0) AS seq_high
    FROM (
        SELECT symbol, trade_date, seq, at, total_volume, lagInFrame(total_volume, 1, -1) OVER w AS before,
               if(before < 0, 0, total_volume - before - size) AS jump, lagInFrame(at, 1, at) OVER w AS at_prior
        FROM (SELECT symbol, trade_date, seq, total_volume, size, $moment AS at FROM $database.trades
              WHERE $where AND basis IN ('last', 'extended', 'other') AND total_volume >= 0)
        WINDOW w AS (PARTITION BY symbol, trade_date ORDER BY seq ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
    )
    GROUP BY symbol, trade_date
) AS sums
LEFT JOIN (
    SELECT symbol, trade_date, sum(size) AS recovered
    FROM (SELECT symbol, trade_date, market_center, tick_id,
                 if(tick_id = 0, toUnixTimestamp64Nano(ifNull(ts_event, ts_recv)), 0) AS nameless, size, total_volume FROM $database.trades
          WHERE {is_live:UInt8} AND session_date = {day:Date} AND source = 'history' AND basis IN ('last', 'extended', 'other')
          AND $symbols) AS brought
    INNER JOIN (
        SELECT symbol, trade_date, min(total_volume) AS low, max(total_volume) AS high FROM $database.trades
        WHERE $where AND basis IN ('last', 'extended', 'other') AND total_volume >= 0 GROUP BY symbol, trade_date
    ) AS bounds USING (symbol, trade_date)
    WHERE total_volume > low AND total_volume < high AND (symbol, trade_date, market_center, tick_id, nameless) NOT IN (
        SELECT symbol, trade_date, market_center, tick_id, if(tick_id = 0, toUnixTimestamp64Nano(ifNull(ts_event, ts_recv)), 0)
        FROM $database.trades
        WHERE $where AND symbol IN (SELECT symbol FROM $database.trades WHERE session_date = {day:Date} AND source = 'history')
    )
    GROUP BY symbol, trade_date
) AS filled USING (symbol, trade_date)"""
"""Between two prints of a symbol the running total rises by the size of the later one; what history brought is taken off.
Prints without a TickID (0) are told apart by their time."""


def _counts(day: Day) -> str:
    if day.settings.feed.tick_id_rule == "none":
        return "setting feed.tick_id_rule says that TickID counts nothing"
    return require_any_of("trades")(day)


CHECKS: Final = (
    Check(
        "counters_unbroken", 2, "trades",
        "TickIDs of a symbol, trade date and market centre have no holes; prints that history brought count with the live ones.",
        "measured on real IQFeed ticks: ids count 1, 2, 3 …; setting feed.tick_id_rule", "error", (),
        (Statement("trades", TICK_IDS, value="sum", sources=("live", "import")),), _counts,
    ),
    Check(
        "volume_reconciled", 9, "trades",
        "The sum of the sizes of C, E and O prints is what the feed's running total rose by; settlements (S) do not count.",
        "measured on real IQFeed ticks: equal in every row; no published tool does it", "error", ("volume_share",),
        (Statement("trades", VOLUME, form="groups", sources=("live", "import")),), require_any_of("trades"),
    ),
)  # fmt: skip

"""Prices that stand out and come back (6): labelled, since a filter that deletes would delete true jumps too."""

from string import Template
from typing import Final

from l2_platform.quality.checks.rule import Check, Statement, require_any_of

_SPIKES: Final = """
SELECT {stream:String} AS stream, symbol, if(flagged = 0, 0, if(value > {spike_error_share:Float64}, 2, 1)) AS level,
       length(prices) AS looked, length(bad) AS flagged,
       arrayMin(arrayMap(x -> stamps[x], bad)) AS ts_from, arrayMax(arrayMap(x -> stamps[x], bad)) AS ts_to,
       arrayMin(arrayMap(x -> seqs[x], bad)) AS seq_from, arrayMax(arrayMap(x -> seqs[x], bad)) AS seq_to,
       if(flagged = 0, 0., arrayMax(arrayMap(x -> abs(prices[x] / reference - 1), bad))) AS value, '' AS detail
FROM (
    SELECT symbol, prices, stamps, seqs, if(is_apart, before, own) AS reference,
           lagInFrame(own, 1, at_first) OVER w AS before, leadInFrame(own, 1, at_last) OVER w AS behind,
           lagInFrame(spread, 1, spread) OVER w AS spread_before, leadInFrame(spread, 1, spread) OVER w AS spread_behind,
           {spike_deviations:Float64} AS k, {spike_min:Float64} AS floor_of_all, {spike_share:Float64} AS share,
           k * spread + greatest(floor_of_all, share * own) AS near,
           k * spread_before + greatest(floor_of_all, share * before) AS near_before,
           k * spread_behind + greatest(floor_of_all, share * behind) AS near_behind,
           abs(own / before - 1) > {spike_error_share:Float64} AND abs(own / behind - 1) > {spike_error_share:Float64} AS is_apart,
           arrayFilter(x -> (is_apart OR abs(prices[x] - own) > near) AND abs(prices[x] - before) > near_before
                            AND abs(prices[x] - behind) > near_behind, arrayEnumerate(prices)) AS bad
    FROM (
        SELECT symbol, block, groupArray(price) AS prices, groupArray(ts) AS stamps, groupArray(seq) AS seqs,
               arrayReduce('median', prices) AS own, arrayReduce('median', arrayMap(x -> abs(x - own), prices)) AS spread,
               arrayReduce('median', arraySlice(prices, 1, 10)) AS at_first, arrayReduce('median', arraySlice(prices, -10)) AS at_last
        FROM (
            SELECT symbol, seq, ts, price, intDiv(row_number() OVER ($so_far) - 1, {spike_rows:UInt64}) AS block
            FROM (SELECT symbol, seq, $moment AS ts, $price AS price FROM $database.$table WHERE $where AND $usable) WHERE $regular
        )
        GROUP BY symbol, block
    )
    WINDOW w AS (PARTITION BY symbol ORDER BY block ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING)
)"""
"""A neighbourhood is a block of consecutive rows: one pass, where sliding windows would read every row fifty times. The deviation is the
median of the absolute ones, which half a block of bad prices does not move; a block whose own median is far from both neighbours is
all bad (`is_apart`). The first and the last block of a day have their own first and last rows for a neighbour: a jump that stays may
be within them."""
_KEPT: Final = {name: f"${name}" for name in ("so_far", "moment", "regular", "database", "where")}
TRADES: Final = Template(_SPIKES).substitute(
    _KEPT, table="trades", price="toFloat64(trades.price)", usable="basis = 'last' AND trades.price > 0"
)
MIDS: Final = Template(_SPIKES).substitute(
    _KEPT,
    table="quotes",
    price="(toFloat64(assumeNotNull(bid)) + toFloat64(assumeNotNull(ask))) / 2",
    usable="bid > 0 AND ask > 0",
)
_THRESHOLDS: Final = (
    "spike_share",
    "spike_error_share",
    "spike_deviations",
    "spike_min",
    "spike_rows",
    "auction_margin_s",
)

CHECKS: Final = (
    Check(
        "trade_not_spiking", 6, "trades",
        "A regular print is near the median of its neighbours, or of those before or after it: a true jump stays, a spike comes back.",
        "Brownlees and Gallo 2006 (deviation plus granularity), three-sided as in highfrequency", "error", _THRESHOLDS,
        (Statement("trades", TRADES, form="groups"),),
        require_any_of("trades"),
    ),
    Check(
        "quote_not_spiking", 6, "quotes",
        "The middle of a quote is near the median of its neighbours, or of those before or after it.",
        "Barndorff-Nielsen et al. 2009, Q4 (50 quotes, 10 deviations), three-sided", "error", _THRESHOLDS,
        (Statement("quotes", MIDS, form="groups"),),
        require_any_of("quotes"),
    ),
)  # fmt: skip

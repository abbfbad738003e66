"""Whether two accounts of the same thing agree: bars (10), vendors (14), book and Level 1 (15), stores (16)."""

from string import Template
from typing import Final

from l2_platform.quality.checks.rule import Check, Statement, require_stream_of
from l2_platform.quality.day import Day

BARS: Final = """
SELECT '' AS stream, symbol, if((v_open, v_high, v_low, v_close, v_volume) = (o, h, l, c, v), 0, 2) AS level, 1 AS looked,
    level > 0 AS flagged,
       begin AS ts_from, begin + interval_s * 1000000000 AS ts_to, 0 AS seq_from, 0 AS seq_to, toFloat64(abs(v_volume - v)) AS value,
       concat('bar of ', toString(interval_s), ' s: stored prints make ', toString((o, h, l, c, v)), ', the vendor says ',
              toString((v_open, v_high, v_low, v_close, v_volume))) AS detail
FROM (
    SELECT told.symbol AS symbol, told.interval_s AS interval_s, told.begin AS begin, any(told.open) AS v_open, any(told.high) AS v_high,
           any(told.low) AS v_low, any(told.close) AS v_close, any(told.volume) AS v_volume,
           argMinIf(price, (at, place), shown) AS o, maxIf(price, shown) AS h, minIf(price, shown) AS l, argMaxIf(price, (at, place),
           shown) AS c,
           sumIf(size, counted) AS v, any(told.interval_s = 86400) AS is_day
    FROM (SELECT toString(history_bars.symbol) AS symbol, splitByChar('-', toString(stream))[1] AS vendor, interval_s,
                 toUnixTimestamp64Nano(ts_begin) AS begin, open, high, low, close, volume
          FROM $database.history_bars WHERE session_date = {day:Date} AND interval_s = $length AND $symbols
            AND ($length = 86400 OR NOT arrayExists(
                lost -> lost.1 = vendor AND (empty(lost.2) OR has(lost.2, symbol)) AND lost.3 < begin + interval_s * 1000000000
                        AND lost.4 >= begin,
                (SELECT groupArray((splitByChar('-', toString(stream))[1], arrayMap(name -> toString(name), symbols),
                                    toUnixTimestamp64Nano(gaps.ts_from) - $margin,
                                    toUnixTimestamp64Nano(assumeNotNull(gaps.ts_to)) + $margin))
                 FROM $database.gaps
                 WHERE session_date = {day:Date} AND state = 'closed' AND repair_state = 'partial' AND endsWith(repair_source, ' HIT'))))
         ) AS told
    INNER JOIN (
        SELECT toString(trades.symbol) AS symbol, splitByChar('-', toString(stream))[1] AS vendor, price, size,
        toUnixTimestamp64Nano(assumeNotNull(ts_event)) AS at, seq AS place, $begin AS begin,
               basis = 'last' OR (basis = 'extended' AND $length != 86400) AS shown, shown OR (basis IN ('extended', 'other')
               AND $length = 86400)
                   AS counted
        FROM $database.trades WHERE session_date = {day:Date} AND ts_event IS NOT NULL AND basis IN ('last', 'extended', 'other')
          AND $symbols AND symbol IN (SELECT symbol FROM $database.history_bars WHERE session_date = {day:Date} AND interval_s = $length)
        ORDER BY source DESC
        LIMIT 1 BY symbol, vendor, trade_date, market_center, tick_id, if(tick_id = 0, (toString(stream), seq), ('', 0))
    ) AS held ON told.symbol = held.symbol AND told.vendor = held.vendor AND told.begin = held.begin
    GROUP BY symbol, interval_s, begin
)"""
"""The vendor's rule: OHLCV of C and E prints; of a day OHLC of C prints, volume with E and O. Prints of a live stream and those that
history brought make one bar, each print once (by its TickID, the live one first). Bars that a gap got instead of its prints, which the
vendor has no more, are not compared: the ledger tells what is missing there, and a day's bar that it is."""
GAP_MARGIN_NS: Final = 2_000_000_000
"""A print is received so long after its time at most: its bar may lie before the gap that lost it."""
LENGTHS_S: Final = (1, 5, 60, 86_400)
"""Lengths of vendor's bars that are compared, s."""
_MIDNIGHT: Final = "toDateTime(toDate(assumeNotNull(ts_event), 'America/New_York'), 'America/New_York')"


def _bars(length: int) -> str:
    begin = f"toInt64(toUnixTimestamp({_MIDNIGHT})) * 1000000000" if length == LENGTHS_S[-1] else f"at - at % {length}000000000"
    return Template(BARS).safe_substitute(length=str(length), begin=begin, margin=str(GAP_MARGIN_NS))


SOURCES: Final = """
SELECT '' AS stream, symbol, if(highest - lowest > {cross_source_share:Float64} * highest, 1, 0) AS level, 1 AS looked,
    level > 0 AS flagged,
       minute * 60000000000 AS ts_from, ts_from + 60000000000 AS ts_to, 0 AS seq_from, 0 AS seq_to, highest / lowest - 1 AS value,
       said AS detail
FROM (
    SELECT symbol, minute, max(price_last) AS highest, min(price_last) AS lowest, arrayStringConcat(arraySort(groupArray(vendor)), ',
        ') AS said
    FROM (
        SELECT symbol, splitByChar('-', toString(stream))[1] AS vendor, intDiv(toUnixTimestamp64Nano(assumeNotNull(ts_event)),
        60000000000) AS minute,
               toFloat64(argMax(price, ts_event)) AS price_last
        FROM $database.trades WHERE session_date = {day:Date} AND basis = 'last' AND ts_event IS NOT NULL AND price > 0
        GROUP BY symbol, vendor, minute
    )
    GROUP BY symbol, minute HAVING count() > 1
)"""
BOOKS: Final = """
SELECT {stream:String} AS stream, symbol, if(n >= {book_level1_least:Int64} AND wrong > {book_level1_share:Float64} * n, 1, 0) AS level,
       n AS looked, if(level = 0, 0, wrong) AS flagged, first_ns AS ts_from, last_ns AS ts_to, seq_low AS seq_from, seq_high AS seq_to,
       wrong / n AS value, 'books whose top no quote had' AS detail
FROM (
    SELECT symbol, block, count() AS n, countIf(hits = 0) AS wrong, minIf(ts, hits = 0) AS first_ns, maxIf(ts, hits = 0) AS last_ns,
           minIf(seq, hits = 0) AS seq_low, maxIf(seq, hits = 0) AS seq_high
    FROM (
        SELECT symbol, seq, ts, hits,
               intDiv(row_number() OVER (PARTITION BY symbol ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) - 1,
                      {book_level1_least:Int64}) AS block
        FROM (
            SELECT probes.symbol AS symbol, probes.seq AS seq, any(probes.ts) AS ts,
                   countIf(quoted.begin > 0 AND quoted.begin <= probes.ts + {book_level1_ms:Float64} * 1e6
                           AND quoted.till >= probes.ts - {book_level1_ms:Float64} * 1e6) AS hits
            FROM (
                SELECT symbol, bid, ask, begin, till, arrayJoin(range(
                           toUInt64(intDiv(begin - {book_level1_ms:Float64} * 1e6, 60000000000)),
                           toUInt64(intDiv(least(till, {close_ns:Int64}) + {book_level1_ms:Float64} * 1e6, 60000000000) + 1))) AS minute
                FROM (
                    SELECT symbol, bid, ask, begin,
                           leadInFrame(begin, 1, 9000000000000000000) OVER (PARTITION BY symbol ORDER BY place
                                                                            ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING) AS till
                    FROM (SELECT symbol, (stream, seq) AS place, assumeNotNull(bid) AS bid, assumeNotNull(ask) AS ask, $moment AS begin
                          FROM $database.quotes
                          WHERE session_date = {day:Date} AND source = 'live' AND $symbols AND quotes.bid IS NOT NULL
                            AND quotes.ask IS NOT NULL)
                )
            ) AS quoted
            RIGHT JOIN (
                SELECT symbol, max(place) AS seq, argMax(at, place) AS ts, argMax(bid_px[1], place) AS bid,
                       argMax(ask_px[1], place) AS ask, intDiv(max(at), 60000000000) AS minute
                FROM (SELECT symbol, book_snapshots.seq AS place, bid_px, ask_px, $moment AS at FROM $database.book_snapshots
                      WHERE $where AND trust = 'good' AND notEmpty(bid_px) AND notEmpty(ask_px))
                WHERE at >= {open_ns:Int64} AND at < {close_ns:Int64}
                GROUP BY symbol, intDiv(at, 5000000000)
            ) AS probes ON probes.symbol = quoted.symbol AND probes.minute = quoted.minute AND probes.bid = quoted.bid
                       AND probes.ask = quoted.ask
            GROUP BY symbol, seq
        )
    )
    GROUP BY symbol, block
)"""
"""One book in five seconds, in blocks of so many in a row: a quiet symbol has few in any stretch of time.
A quote fits when it had the same top and was there within the tolerance of the book's time.
Quotes are cut into minutes, since a price comes back all day; the few books, not the quotes, are kept in memory."""
STORES: Final = """
SELECT stream, '' AS symbol, if(last_state IN ('equal', 'healed', 'off'), 0, 2) AS level, rows_looked AS looked, if(level = 0, 0,
    off) AS flagged,
       0 AS ts_from, 0 AS ts_to, 0 AS seq_from, 0 AS seq_to, toFloat64(off) AS value, concat(store, ' ', table, ': ',
       last_state) AS detail
FROM (
    SELECT stream, table, store, argMax(state, ts_written) AS last_state, argMax(rows_journal, ts_written) AS rows_looked,
           argMax(missing + extra + doubled + changed, ts_written) AS off
    FROM $database.reconciliations WHERE session_date = {day:Date} GROUP BY stream, table, store
)"""


def _has_bars(day: Day) -> str:
    if not day.extra.get("history_bars"):
        return "no bars of the vendor's history are stored for this date"
    return require_stream_of("trades")(day)


def _vendors(day: Day) -> str:
    names = sorted({held.stream.split("-")[0] for held in day.tables.get("trades", ())})
    if len(names) > 1:
        return ""
    return f"prints of one vendor only ({names[0]}): there is nothing to compare them with" if names else "no row of trades on this date"


def _reconciled(day: Day) -> str:
    return "" if day.extra.get("reconciliations") else "the stores of this date were not compared: `l2 reconcile`"


def _both(day: Day) -> str:
    lacking = [table for table in ("book_snapshots", "quotes") if not day.streams(table, ("live",))]
    return f"no live row of {' and '.join(lacking)} on this date" if lacking else ""


CHECKS: Final = (
    Check(
        "bars_equal_history", 10, "trades",
        "Bars made of the stored prints are the vendor's bars of history, in every number (C and E prints; of a day C, volume with E"
        " and O); not where a gap got bars in place of its prints.",
        "measured on real IQFeed ticks: 7,949 of 7,949 bars of a second and all of a day are equal", "error", (),
        tuple(Statement("", _bars(length), form="groups", ranged_by="trades") for length in LENGTHS_S), _has_bars,
    ),
    Check(
        "sources_agree", 14, "trades",
        "The last regular price of a minute is the same at two vendors, but for a share of it.",
        "practice (a rotating sample from a second vendor)", "warn", ("cross_source_share",),
        (Statement("", SOURCES, form="groups"),), _vendors,
    ),
    Check(
        "book_equals_level1", 15, "book_snapshots",
        "The top of a good book is a quote that Level 1 had at about that time; a share of some books in a row may differ.",
        "practice (row identity of book and messages in research data)", "warn",
        ("book_level1_share", "book_level1_ms", "book_level1_least", "auction_margin_s"),
        (Statement("book_snapshots", BOOKS, form="groups", sources=("live",), needs=("quotes",)),), _both,
    ),
    Check(
        "stores_equal", 16, "trades",
        "JSONL, Kafka and the warehouse hold what the journal yields, by count, key and content.",
        "table `reconciliations`", "error", (), (Statement("", STORES, form="groups"),), _reconciled,
    ),
)  # fmt: skip

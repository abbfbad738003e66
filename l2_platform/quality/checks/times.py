"""Times (8): receive times rise with seq, event times too, and both clocks agree."""

from string import Template
from typing import Final

from l2_platform.quality.checks.rule import Check, Statement, require_any_of

_ORDER: Final = """
SELECT symbol, ts, ts AS ts_end, seq,
       multiIf({is_live:UInt8} AND back_recv > 0, 2, back_event > {reorder_ms:Float64} * 1e6, 1, 0) AS level,
       if(level = 2, back_recv, back_event) / 1e6 AS value, $episode AS run, if(level = 2, 'receive time', 'event time') AS detail
FROM (
    SELECT symbol, seq, $moment AS ts,
           lagInFrame(toUnixTimestamp64Nano(ts_recv), 1, 0) OVER ($before) - toUnixTimestamp64Nano(ts_recv) AS back_recv,
           if($judged, toUnixTimestamp64Nano(assumeNotNull(ts_event)), 0) AS event, lagInFrame(event, 1, 0) OVER ($before) AS prior,
           multiIf(event = 0 OR prior = 0, 0, event % 1000000000 = 0, prior - prior % 1000000000 - event, prior - event) AS back_event
    FROM $database.$table WHERE $where $rows
)"""
"""A time of a whole second may be the feed's clock, which only counts those."""
_KEPT: Final = {name: f"${name}" for name in ("before", "episode", "moment", "database", "where")}
# the event time of a quote that comes with a print is the print's
ORDERS: Final = {
    table: Template(_ORDER).substitute(_KEPT, table=table, judged=f"ts_event IS NOT NULL{judged}", rows=rows)
    for table, judged, rows in (
        ("trades", " AND basis IN ('last', 'extended')", ""), ("quotes", " AND NOT match(contents, '[CEOS]')", "AND snapshot = 0"),
        ("depth_updates", "", "AND snapshot = 0"),
    )
}  # fmt: skip
_LATENCY: Final = """
SELECT symbol, ts, ts AS ts_end, seq,
       multiIf(abs(late) > {zone_s:Float64} * 1e9, 2,
               late < -{latency_negative_ms:Float64} * 1e6 OR late > {latency_s_max:Float64} * 1e9, 1, 0) AS level,
       abs(late) / 1e9 AS value, $episode AS run,
       multiIf(level = 2, 'wrong date or zone', late < 0, 'received before its event', 'late') AS detail
FROM (
    SELECT symbol, seq, $moment AS ts, toUnixTimestamp64Nano(ts_recv) - toUnixTimestamp64Nano(assumeNotNull(ts_event)) AS late
    FROM $database.$table WHERE $where AND ts_event IS NOT NULL $rows
)"""
LATENCIES: Final = {
    table: Template(_LATENCY).substitute(_KEPT, table=table, rows=rows)
    for table, rows in (
        ("trades", "AND basis IN ('last', 'extended')"), ("quotes", "AND snapshot = 0"), ("depth_updates", "AND snapshot = 0"),
    )
}  # fmt: skip
DRIFT: Final = """
SELECT {stream:String} AS stream, '' AS symbol, abs(least_ms - usual_ms) > {drift_ms:Float64} AS level, held AS looked, held AS flagged,
       begin AS ts_from, till AS ts_to, 0 AS seq_from, 0 AS seq_to, abs(least_ms - usual_ms) AS value,
       'least latency of ten minutes, ms' AS detail
FROM (
    SELECT held, begin, till, least_ms, quantileExact(0.5)(least_ms) OVER () AS usual_ms
    FROM (
        SELECT intDiv(toUnixTimestamp64Nano(ts_recv), 600000000000) AS slice, count() AS held,
        min(toUnixTimestamp64Nano(ts_recv)) AS begin,
               max(toUnixTimestamp64Nano(ts_recv)) AS till,
               quantileTDigest(0.02)((toUnixTimestamp64Nano(ts_recv) - toUnixTimestamp64Nano(assumeNotNull(ts_event))) / 1e6) AS least_ms
        FROM $database.quotes WHERE $where AND ts_event IS NOT NULL AND snapshot = 0 GROUP BY slice HAVING held >= 100
    )
)"""

CHECKS: Final = (
    Check(
        "times_rise", 8, "trades",
        "Receive times of a symbol never go back with rising seq, event times by no more than a moment (C and E prints, quotes, depth).",
        "practice (BAD_TS flags of vendors); O prints may be reported late", "error", ("reorder_ms",),
        tuple(Statement(table, ORDERS[table]) for table in ORDERS), require_any_of(*ORDERS),
    ),
    Check(
        "clocks_agree", 8, "quotes",
        "Live rows are received after their event and soon, and the least latency of ten minutes stays that of the day; imports have"
        " none.",
        "FINRA Rule 6820: 50 ms between business clocks", "error", ("zone_s", "latency_negative_ms", "latency_s_max", "drift_ms"),
        (*(Statement(table, LATENCIES[table], sources=("live",)) for table in LATENCIES),
         Statement("quotes", DRIFT, form="groups", by_symbols=False, sources=("live",), warn="drift_ms")),
        lambda day: "" if any(day.streams(table, ("live",)) for table in LATENCIES) else "no live row: imports have no latency",
    ),
)  # fmt: skip

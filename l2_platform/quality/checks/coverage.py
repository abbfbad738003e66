"""Whether all is there that was there before, and when it should be: calendar (11), overnight jumps (13), coverage (17)."""

from string import Template
from typing import Final

from l2_platform.quality.checks.rule import Check, Statement, require_any_of, require_stream_of
from l2_platform.quality.day import Day

_OUTSIDE: Final = """
SELECT symbol, ts, ts AS ts_end, seq, multiIf(ts < {start_ns:Int64} OR ts >= {end_ns:Int64}, 2, ts < {trading_ns:Int64} AND is_update, 1,
           0) AS level,
       1 AS value, $episode AS run, if(level = 2, 'outside of the session', 'long before its trading begins') AS detail
FROM (SELECT symbol, seq, $update AS is_update, $moment AS ts FROM $database.$table WHERE $where)"""
"""A session owns the weekend or the holidays in front of it, for answers to watches; updates of a market that is closed are none."""
_KEPT: Final = {name: f"${name}" for name in ("moment", "episode", "regular", "database", "where")}
OUTSIDE: Final = {
    table: Template(_OUTSIDE).substitute(_KEPT, table=table, update=update)
    for table, update in (("trades", "1"), ("quotes", "snapshot = 0"), ("depth_updates", "snapshot = 0"))
}
_MINUTES: Final = """
SELECT {stream:String} AS stream, '' AS symbol, if(pause > 0 AND held > 5 * minutes, 2, 0) AS level, here AS looked, level > 0 AS flagged,
       (minute - pause) * 60000000000 AS ts_from, minute * 60000000000 AS ts_to, 0 AS seq_from, 0 AS seq_to, toFloat64(pause) AS value,
       'minutes without a row' AS detail
FROM (
    SELECT minute, here, minute - lagInFrame(minute, 1, $first - 1) OVER (ORDER BY minute ROWS BETWEEN 1 PRECEDING
        AND CURRENT ROW) - 1 AS pause,
           sum(here) OVER () AS held, count() OVER () AS minutes
    FROM (
        SELECT intDiv(ts, 60000000000) AS minute, count() AS here
        FROM (SELECT $moment AS ts FROM $database.$table WHERE $where) WHERE ts >= {minutes_from:Int64} AND ts < {minutes_to:Int64}
        GROUP BY minute
        UNION ALL SELECT intDiv({minutes_to:Int64}, 60000000000), 0
    )
)"""
"""Minutes of regular trading without any row of a stream that has five a minute; the last row of the union closes the day."""
MINUTES: Final = {
    table: Template(_MINUTES).substitute(_KEPT, table=table, first="intDiv({minutes_from:Int64}, 60000000000)")
    for table in ("quotes", "depth_updates")
}
WANTED: Final = """
SELECT '' AS stream, symbol, if(seen = 0, 2, 0) AS level, 1 AS looked, seen = 0 AS flagged, 0 AS ts_from, 0 AS ts_to, 0 AS seq_from,
    0 AS seq_to,
       1. AS value, 'wanted since before the session, and no row' AS detail
FROM (
    SELECT wanted.symbol AS symbol, countIf(held.symbol != '') AS seen
    FROM (SELECT toString(symbol) AS symbol FROM $database.universe_events WHERE toUnixTimestamp64Nano(ts) <= {start_ns:Int64}
          GROUP BY symbol HAVING argMax(wanted, (ts, version)) = 1) AS wanted
    LEFT JOIN (SELECT DISTINCT toString(symbol) AS symbol FROM $database.quotes WHERE session_date = {day:Date}
        AND source = 'live') AS held
           ON wanted.symbol = held.symbol
    GROUP BY symbol
)"""
OVERNIGHT: Final = """
SELECT '' AS stream, symbol, if(closed > 0 AND (ratio > {split_ratio:Float64} OR ratio < 1 / {split_ratio:Float64}), 1, 0) AS level,
       1 AS looked, level > 0 AS flagged, at AS ts_from, at AS ts_to, 0 AS seq_from, 0 AS seq_to, opened / closed AS ratio,
       ratio AS value,
       concat('first price ', toString(opened), ' after ', toString(closed)) AS detail
FROM (
    SELECT symbol, toFloat64(argMin(price, at_row)) AS opened, min(at_row) AS at
    FROM (SELECT symbol, price, $moment AS at_row FROM $database.trades WHERE session_date = {day:Date} AND basis = 'last' AND price > 0)
    GROUP BY symbol
) AS today
INNER JOIN (
    SELECT symbol, toFloat64(argMax(price, at_row)) AS closed
    FROM (SELECT symbol, price, $moment AS at_row FROM $database.trades WHERE session_date = {previous:Date} AND basis = 'last'
        AND price > 0)
    GROUP BY symbol
) AS before USING (symbol)"""
_COVERAGE: Final = """
SELECT '' AS stream, symbol, multiIf(usual < {coverage_rows:Float64}, 0, here = 0, 2,
    share < {coverage_low:Float64} OR share > {coverage_high:Float64}, 1, 0)
           AS level,
       here AS looked, level > 0 AS flagged, begin AS ts_from, begin + 3600000000000 AS ts_to, 0 AS seq_from, 0 AS seq_to,
       here / usual AS share,
       abs(log(greatest(share, 0.001))) AS value, concat('$table: ', toString(here), ' rows, usually ', toString(round(usual))) AS detail
FROM (
    SELECT symbol, hour, sumIf(n, session_date = {day:Date}) AS here, sumIf(n, session_date != {day:Date}) / {days:Float64} AS usual,
           {start_ns:Int64} + hour * 3600000000000 AS begin
    FROM (
        SELECT symbol, session_date, count() AS n,
               intDiv(toUnixTimestamp64Nano(ts_recv) - {start_ns:Int64} + dateDiff('day', session_date, {day:Date}) * 86400000000000
                      + (offset_then - offset_now) * 1000000000, 3600000000000) AS hour
        FROM (SELECT symbol, session_date, ts_recv, timezoneOffset(toTimeZone(ts_recv, 'America/New_York')) AS offset_then,
                     timezoneOffset(toDateTime({day:Date}, 'America/New_York') + 43200) AS offset_now
              FROM $database.$table WHERE session_date IN ({day:Date}, $dates) AND source = 'live')
        GROUP BY symbol, session_date, hour
    )
    GROUP BY symbol, hour
)
WHERE begin + 3600000000000 <= {usual_ns:Int64}
  AND begin >= (SELECT toUnixTimestamp64Nano(min(ts_recv)) FROM $database.$table WHERE session_date = {day:Date} AND source = 'live')
  AND begin + 3600000000000 <= (SELECT toUnixTimestamp64Nano(max(ts_recv)) FROM $database.$table WHERE session_date = {day:Date}
      AND source = 'live')
SETTINGS join_use_nulls = 0"""
"""Hours of the exchange's day that lie whole between the first and the last row, against the same hours of earlier dates; of a half-day
those before its close."""
COVERAGE: Final = {
    table: Template(_COVERAGE).safe_substitute(table=table) for table in ("trades", "quotes", "depth_updates")
}


def _earlier(day: Day) -> str:
    return require_stream_of("trades")(day) or ("" if day.earlier else "no earlier session date within 120 days is stored")


def _enough_dates(day: Day) -> str:
    least, there = day.settings.quality.coverage_days_min, len(day.earlier)
    if not any(day.streams(table, ("live",)) for table in COVERAGE):
        return "no live row on this date"
    return "" if there >= least else f"{there} earlier session dates are stored, {least} are needed (setting quality.coverage_days_min)"


def _wanted(day: Day) -> str:
    return "" if day.streams("quotes", ("live",)) else "no live quote on this date"


CHECKS: Final = (
    Check(
        "calendar_kept", 11, "quotes",
        "Rows lie within their session (no holiday, no other date, no update on a weekend in front of it), and a live stream has rows"
        " in every minute of regular trading.",
        "exchange_calendars: half-days and holidays of the exchange", "error", (),
        (*(Statement(table, OUTSIDE[table]) for table in OUTSIDE),
         *(Statement(table, MINUTES[table], form="groups", by_symbols=False, sources=("live",)) for table in MINUTES)),
        require_any_of(*OUTSIDE),
    ),
    Check(
        "symbols_there", 11, "quotes", "Every symbol that was wanted before the session began has a quote: a watch is answered with one.",
        "IQFeed: a watch is answered by a P line", "error", (), (Statement("", WANTED, form="groups"),), _wanted,
    ),
    Check(
        "no_overnight_jump", 13, "trades",
        "The first regular price is near the last one of the session date before: a split, a dividend or another symbol of the same"
        " name is not.",
        "practice (corporate action lists, point-in-time symbol maps)", "warn", ("split_ratio",),
        (Statement("", OVERNIGHT, form="groups"),), _earlier,
    ),
    Check(
        "coverage_steady", 17, "quotes",
        "A symbol has about as many rows in an hour of the day as on the session dates before; none at all is an error.",
        "practice (row counts against an N-day average)", "error",
        ("coverage_low", "coverage_high", "coverage_rows", "coverage_days", "coverage_days_min"),
        tuple(Statement("", COVERAGE[table], form="groups", needs=(table,)) for table in COVERAGE), _enough_dates,
    ),
)  # fmt: skip

"""What the ledger of gaps and the feed itself admit: gaps (2), silence (3), explanations (12), incidents (18)."""

from string import Template
from typing import Final

from l2_platform.quality.checks.rule import Check, Statement
from l2_platform.quality.day import Day

_LEDGER: Final = """
SELECT stream, symbol, multiIf(explanation != '' OR gap_id IN {halted:Array(String)} OR state = 'withdrawn'
                               OR repair_state IN ('repaired', 'nothing_to_repair'), 0, seconds > {gap_s:Float64}, 2, 1) AS level,
       1 AS looked, level > 0 AS flagged, toUnixTimestamp64Nano(ledger.ts_from) AS ts_from, toUnixTimestamp64Nano(till) AS ts_to,
       seq_before AS seq_from, seq AS seq_to, (ts_to - ts_from) / 1e9 AS seconds, seconds AS value,
       concat(cause, if(repair_state = '', '', concat(', repair ', repair_state))) AS detail
FROM (SELECT stream, arrayJoin(if(empty(symbols), [''], symbols)) AS symbol, gap_id, explanation, repair_state, state,
             gaps.ts_from AS ts_from,
             ifNull(gaps.ts_to, if({end_ns:Int64} > 0, fromUnixTimestamp64Nano({end_ns:Int64}, 'UTC'), gaps.ts_written)) AS till,
             seq_before, seq, cause
      FROM $database.gaps WHERE session_date = {day:Date} AND cause $causes ('silence', 'symbol_silence')) AS ledger"""
GAPS: Final = Template(_LEDGER).safe_substitute(causes="NOT IN")
SILENCES: Final = Template(_LEDGER).safe_substitute(causes="IN")
_PAUSES: Final = """
SELECT {stream:String} AS stream, '' AS symbol,
       if(pause >= 1 AND due > {silence_rows:Float64} AND pause > {silence_times:Float64} * around
          AND NOT arrayExists(g -> g.1 <= second AND g.2 >= second - pause - 1, explained), 2, 0) AS level,
       held AS looked, level > 0 AS flagged, (second - pause - 1) * 1000000000 AS ts_from, second * 1000000000 AS ts_to, 0 AS seq_from,
       0 AS seq_to, due AS value, 'rows were due' AS detail
FROM (
    SELECT second, held, pause, greatest(max(pause) OVER b, max(pause) OVER f) AS around,
           pause * sum(held) OVER a / greatest(max(second) OVER a - min(second) OVER a + 1 - pause, 1) AS due,
           (SELECT groupArray((toUnixTimestamp(gaps.ts_from), toUnixTimestamp(ifNull(gaps.ts_to, gaps.ts_written)))) FROM $database.gaps
            WHERE session_date = {day:Date} AND stream = {stream:String} AND explanation != '') AS explained
    FROM (
        SELECT second, held, second - lagInFrame(second, 1, second - 1) OVER (ORDER BY second ROWS BETWEEN 1 PRECEDING
        AND CURRENT ROW) - 1 AS pause
        FROM (SELECT intDiv(ts, 1000000000) AS second, count() AS held
              FROM (SELECT $moment AS ts FROM $database.$table WHERE $where AND snapshot = 0) WHERE $regular GROUP BY second)
    )
    WINDOW a AS (ORDER BY second ROWS BETWEEN 60 PRECEDING AND 60 FOLLOWING), b AS (ORDER BY second ROWS BETWEEN 60 PRECEDING
        AND 1 PRECEDING),
           f AS (ORDER BY second ROWS BETWEEN 1 FOLLOWING AND 60 FOLLOWING)
)"""
"""Seconds without a row: how many were due by the rate of the two minutes around, and how long the pauses there are otherwise."""
_KEPT: Final = {name: f"${name}" for name in ("moment", "regular", "database", "where")}
PAUSES: Final = {table: Template(_PAUSES).substitute(_KEPT, table=table) for table in ("quotes", "depth_updates")}
HALTS: Final = """
SELECT halts.stream AS stream, halts.symbol AS symbol, if(prints > 0, 2, 0) AS level, 1 AS looked, prints > 0 AS flagged,
    first_ns AS ts_from,
       last_ns AS ts_to, 0 AS seq_from, 0 AS seq_to, toFloat64(prints) AS value, concat('regular prints within: ', explanation) AS detail
FROM (
    SELECT gap_id, any(stream) AS stream, symbol, any(explanation) AS explanation, min(from_ns) AS first_ns, max(to_ns) AS last_ns,
           countIf(at > from_ns AND at < to_ns) AS prints
    FROM (
        SELECT gap_id, stream, arrayJoin(symbols) AS symbol, explanation, toUnixTimestamp64Nano(gaps.ts_from) AS from_ns,
               toUnixTimestamp64Nano(ifNull(gaps.ts_to, gaps.ts_written)) AS to_ns
        FROM $database.gaps WHERE session_date = {day:Date} AND explanation IN ('halt', 'luld')
    ) AS gap
    LEFT JOIN (
        SELECT symbol, $moment AS at FROM $database.trades
        WHERE session_date = {day:Date} AND basis = 'last'
          AND symbol IN (SELECT arrayJoin(symbols) FROM $database.gaps WHERE session_date = {day:Date} AND explanation IN ('halt',
          'luld'))
    ) AS printed ON gap.symbol = printed.symbol
    GROUP BY gap_id, symbol
) AS halts"""
ADMITTED: Final = """
SELECT {stream:String} AS stream, symbol, if(kind IN ('quarantine', 'error', 'server_disconnected', 'not_found'), 1, 0) AS level,
       count() AS looked, if(level = 0, 0, looked) AS flagged, min(toUnixTimestamp64Nano(ts_recv)) AS ts_from,
       max(toUnixTimestamp64Nano(ts_recv)) AS ts_to, min(seq) AS seq_from, max(seq) AS seq_to, toFloat64(count()) AS value, kind AS detail
FROM $database.feed_events WHERE $where GROUP BY symbol, kind"""


def _live(day: Day) -> str:
    return "" if any(day.streams(table, ("live",)) for table in day.tables) else "no live row: imports and history have no gaps of a link"


def _explained(day: Day) -> str:
    return _live(day) or ("" if day.rows("trades") else "no row of trades on this date")


CHECKS: Final = (
    Check(
        "gaps_explained", 2, "feed_events",
        "Every gap of a link, a process or the journal is explained, or was repaired; one that is longer than a moment is an error.",
        "the gap ledger (`gap_events`)", "error", ("gap_s",), (Statement("", GAPS, form="groups"),), _live, none_is_fine=True,
    ),
    Check(
        "silence_explained", 3, "feed_events",
        "Every silence that the ledger holds is explained or repaired, and a live stream has no pause that its rate and the pauses"
        " around do not allow.",
        "Poisson rate of the stream itself instead of a fixed timeout, which misfires on quiet symbols", "error",
        ("gap_s", "silence_rows", "silence_times", "auction_margin_s"),
        (Statement("", SILENCES, form="groups"),
         *(Statement(table, PAUSES[table], form="groups", by_symbols=False, sources=("live",)) for table in PAUSES)),
        _live,
    ),
    Check(
        "halts_hold", 12, "trades", "Where a halt explains a gap, the symbol has no regular print within it.",
        "LULD plan: no trading in a pause; status messages explain gaps", "error", (), (Statement("", HALTS, form="groups"),), _explained,
    ),
    Check(
        "no_incidents", 18, "feed_events",
        "The feed reported no error, no lost server and no unknown symbol, and no line was put into quarantine.",
        "practice (incident ledgers published with the data)", "warn", (),
        (Statement("feed_events", ADMITTED, form="groups", by_symbols=False),),
        lambda day: "" if day.rows("feed_events") else "no feed event on this date",
    ),
)  # fmt: skip

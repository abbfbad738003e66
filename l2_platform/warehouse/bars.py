"""What the bar views hold for one session date; the rules of a bar are in the views themselves (migrations).

What does not belong here: connections (client), facts of stored tables (queries).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from clickhouse_connect.driver.client import Client

BARS: Final[Mapping[str, str]] = {
    "bars_1s": "one second",
    "bars_5s": "five seconds",
    "bars_1m": "one minute",
    "bars_daily": "one exchange date",
}
"""View → length of a bar, the short ones first."""


_RANK: Final = "multiIf(source = 'live', 0, endsWith(stream, '-repair-history'), 2, 1)"
"""Live streams before whole ones of other sources before repairs that nothing is beside, as reads prefer them (docs/reading.md)."""


@dataclass(frozen=True, slots=True)
class BarFacts:
    """One bar view and session date."""

    bars: int
    symbols: int
    prints: int
    """Prints that are in a bar."""
    volume: int
    """Sum of the bars' volume, shares or contracts."""
    wrong: int
    """Bars whose open or close is not between low and high, or without volume: none can be when the trades are right."""
    streams: tuple[str, ...]
    first: str
    """Begin of the first bar, UTC (of daily bars: its exchange date); empty without bars."""
    last: str
    """Begin of the last one."""


def bar_facts(client: Client, database: str, view: str, session_date: date) -> BarFacts:
    """Measure one view and date, of each symbol the streams that reads prefer; raise ClickHouse errors as they are."""
    begin = "trade_date" if view == "bars_daily" else "ts_begin"
    sql = f"""
        SELECT count() AS bars, uniqExact(symbol) AS symbols, sum(trade_count) AS all_prints, sum(volume) AS all_volume,
               countIf(low > least(open, close) OR high < greatest(open, close) OR volume < 0) AS wrong,
               arraySort(groupUniqArray(toString(stream))) AS streams,
               toString(min({begin})) AS first, toString(max({begin})) AS last
        FROM {database}.{view} WHERE {_preferred(database)}"""  # noqa: S608 - names are ours
    row = next(iter(client.query(sql, parameters={"day": session_date}).named_results()))
    zone = "" if view == "bars_daily" else " UTC"
    first, last = (f"{row[name]}{zone}" if row["bars"] else "" for name in ("first", "last"))
    return BarFacts(
        int(row["bars"]), int(row["symbols"]), int(row["all_prints"]), int(row["all_volume"]), int(row["wrong"]),
        tuple(str(stream) for stream in row["streams"]), first, last,
    )  # fmt: skip


def busiest(client: Client, database: str, view: str, session_date: date, limit: int) -> list[tuple[str, int, int]]:
    """(symbol, bars, volume) of the symbols with most volume."""
    sql = f"""
        SELECT symbol, count() AS bars, sum(volume) AS total FROM {database}.{view}
        WHERE {_preferred(database)} GROUP BY symbol ORDER BY total DESC, symbol LIMIT {{limit:UInt32}}"""  # noqa: S608 - names are ours
    rows = client.query(sql, parameters={"day": session_date, "limit": limit}).result_rows
    return [(str(symbol), int(bars), int(volume)) for symbol, bars, volume in rows]


def _preferred(database: str) -> str:
    best = f"SELECT symbol, min({_RANK}) FROM {database}.trades WHERE session_date = {{day:Date}} GROUP BY symbol"  # noqa: S608 - names are ours
    return f"session_date = {{day:Date}} AND (symbol, {_RANK}) IN ({best})"

"""Live rows and the rows of repaired gaps as one: prints that came live after all are left out, bars are made of both together.

What does not belong here: which streams are taken (streams).
"""

from typing import Final

import polars as pl

from l2_platform.errors import WarehouseError

PRINT: Final = ("symbol", "ts_event", "market_center", "tick_id", "size")
"""What names a print in rows of the same feed, live or not."""


def without_twins(rows: pl.DataFrame) -> pl.DataFrame:
    """Trades without those of repairs that are there live too: a print that was reported late may come after its gap was repaired."""
    live = pl.col("source") == "live"
    repaired = rows.filter(~live)
    return pl.concat([rows.filter(live), repaired.join(rows.filter(live).select(PRINT), on=list(PRINT), how="anti")])


def merged_bars(definition: str, database: str) -> str:
    """A query like that of a bar view, `definition`, over live rows and repairs together: of (session date, symbol) in parameter
    `repaired` and streams in `merged`. The view's own rule counts; prints are in order of time; the stream is the live one.
    """
    trades = f"FROM {database}.trades"
    if definition.count(trades) != 1:
        raise WarehouseError(f"the view of bars is not made of {database}.trades: {definition[:200]}")
    same = ", ".join(PRINT)
    # replaced columns must not be asked for by name outside of where they are replaced: hence `was_live`
    both = f"""
        FROM (
            SELECT * REPLACE (
                max(if(was_live, toString(stream), '')) OVER (PARTITION BY session_date, symbol) AS stream, 'live' AS source,
                row_number() OVER (PARTITION BY session_date, symbol ORDER BY ts_event, seq) AS seq)
            FROM (
                SELECT *, source = 'live' AS was_live, max(source = 'live') OVER (PARTITION BY {same}) AS came_live
                FROM {database}.trades
                WHERE (session_date, symbol) IN {{repaired:Array(Tuple(Date, String))}} AND stream IN {{merged:Array(String)}})
            WHERE was_live OR NOT came_live) AS trades"""  # noqa: S608 - names are ours
    return definition.replace(trades, both)

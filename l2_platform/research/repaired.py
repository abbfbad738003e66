"""Live rows and the rows of repaired gaps as one: prints that came live after all are left out, as in view `prints` of the warehouse.

What does not belong here: which streams are taken (streams), bars (views over `prints`).
"""

from typing import Final

import polars as pl

PRINT: Final = ("symbol", "ts_event", "market_center", "tick_id", "size")
"""What names a print in rows of the same feed, live or not."""


def without_twins(rows: pl.DataFrame) -> pl.DataFrame:
    """Trades without those of repairs that are there live too: a print that was reported late may come after its gap was repaired."""
    live = pl.col("source") == "live"
    repaired = rows.filter(~live)
    return pl.concat([rows.filter(live), repaired.join(rows.filter(live).select(PRINT), on=list(PRINT), how="anti")])


"""The book of a symbol at any stored instant, as a Polars frame."""

from datetime import date
from decimal import Decimal
from typing import Any

import polars as pl

from l2_platform.collectors.importing import calendar_of_imports
from l2_platform.errors import InputError
from l2_platform.market.sessions import load_calendar
from l2_platform.monitoring.runtime import prepare_numba
from l2_platform.research.bounds import Bound, instant_of
from l2_platform.settings import Settings, load_settings

LEVELS_MAX = 50
PRICE = pl.Decimal(18, 9)
SCHEMA: dict[str, Any] = {
    "symbol": pl.String, "stream": pl.String, "session_date": pl.Date, "seq": pl.UInt64, "ts": pl.Datetime("ns", "UTC"),
    "trust": pl.String, "level": pl.UInt32, "bid_price": PRICE, "bid_size": pl.Int64, "bid_orders": pl.UInt32,
    "ask_price": PRICE, "ask_size": pl.Int64, "ask_orders": pl.UInt32,
}  # fmt: skip


def book(
    symbol: str, at: Bound, *, stream: str | None = None, levels: int = 10, settings: Settings | None = None
) -> pl.DataFrame:
    """The book of a symbol after every message up to and with `at`: one row a level, best first; null where a side is shorter.

    `at`: a datetime, or text like `2026-11-20T10:00:00` (New York time without an offset): receive time of live streams, the feed's own
    time of imports. `seq` and `ts` are of the last message of the stream that is in it, `trust` is building, good or suspect. `levels`:
    1 to 50. With a book index of the date (`l2 book index`) it takes milliseconds, without one seconds. InputError tells what there
    is when symbol, stream or instant name nothing.
    """
    settings = settings or load_settings()
    instant = instant_of(at, "at")
    if not 1 <= levels <= LEVELS_MAX:
        raise InputError(f"levels: {levels} is not from 1 to {LEVELS_MAX}")
    prepare_numba(settings.cache_dir / "numba")
    from l2_platform.replay.book_index import book_at  # compiled code: after its cache has a place

    name, session_date = _place(settings, symbol, instant, stream)
    view = book_at(settings, symbol, instant, name, session_date, levels=levels)
    rows = max(len(view.bids), len(view.asks))

    def side(index: int, source: list[tuple[int, int, int]]) -> list[Any]:
        return [source[row][index] if row < len(source) else None for row in range(rows)]

    def prices(source: list[tuple[int, int, int]]) -> list[Any]:
        return [None if price is None else Decimal(price).scaleb(-9) for price in side(0, source)]

    day = date(view.session_date // 10_000, view.session_date // 100 % 100, view.session_date % 100)
    columns: dict[str, list[Any]] = {
        "symbol": [symbol] * rows, "stream": [view.stream] * rows, "session_date": [day] * rows, "seq": [view.seq] * rows,
        "trust": [view.trust.name.lower()] * rows, "level": list(range(1, rows + 1)),
        "bid_price": prices(view.bids), "bid_size": side(1, view.bids), "bid_orders": side(2, view.bids),
        "ask_price": prices(view.asks), "ask_size": side(1, view.asks), "ask_orders": side(2, view.asks),
    }  # fmt: skip
    frame = pl.DataFrame(columns, schema={name: kind for name, kind in SCHEMA.items() if name in columns})
    when = pl.lit(view.ts, pl.Int64).cast(pl.Datetime("ns")).dt.replace_time_zone("UTC").alias("ts")
    return frame.with_columns(when).select(*SCHEMA)


def _place(settings: Settings, symbol: str, instant: int, stream: str | None) -> tuple[str, int]:
    """The stream and session date that own the instant, live or imported."""
    from l2_platform.replay.books import stream_of

    failure: InputError | None = None
    for calendar in dict.fromkeys((settings.calendar_name, calendar_of_imports(settings))):
        try:
            session_date = load_calendar(calendar, settings.session.roll_margin_s).session_date_of(instant)
            return stream_of(settings, symbol, session_date, stream)
        except InputError as error:
            failure = error
    assert failure is not None
    raise failure

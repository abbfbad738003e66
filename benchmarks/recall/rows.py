"""Kinds of faults in rows of any table: doubled ones, wrong times and dates, names that are not there."""

import polars as pl

from benchmarks.recall.market import SECOND, Day, Random
from benchmarks.recall.planting import (
    EVENT,
    RECV,
    Span,
    add,
    any_table,
    change,
    chosen,
    drawn,
    kind,
    of,
    span_of,
    stretch,
    these,
    whole,
    within,
)

TIMED = ("trades", "quotes", "depth_updates")
MS = 1_000_000
IN_ORDER = {"trades": pl.col("basis") == "last"}


@kind("rows_doubled", "1 to 200 rows of a table are there twice", "key_once")
def rows_doubled(day: Day, symbol: str, rng: Random) -> Span | None:
    table = any_table(rng)
    rows = chosen(day, table, symbol, rng, 1, 200)
    if rows is None:
        return None
    add(day, table, rows)
    return span_of(rows)


@kind("key_altered", "a row is there a second time under its key, with another size or price", "key_once")
def key_altered(day: Day, symbol: str, rng: Random) -> Span | None:
    table = any_table(rng)
    rows = chosen(day, table, symbol, rng, 1, 1)
    if rows is None:
        return None
    other = {"trades": pl.col("size") + 1, "depth_updates": pl.col("size") + 1, "quotes": pl.col("bid_size") + 100,
             "book_snapshots": pl.col("bid_sz").list.eval(pl.element() + 1)}[table]  # fmt: skip
    add(day, table, rows.with_columns(other))
    return span_of(rows)


@kind("times_swapped", "two rows one after the other have each other's event time, at least 2 ms apart", "times_rise")
def times_swapped(day: Day, symbol: str, rng: Random) -> Span | None:
    table = any_table(rng, *TIMED)
    rows = chosen(day, table, symbol, rng, 2, 2, IN_ORDER.get(table))
    if rows is None or rows[EVENT][1] - rows[EVENT][0] < 2 * MS:
        return None
    first, second = rows["seq"].to_list()
    stream = pl.col("stream") == rows["stream"][0]
    change(day, table, stream & (pl.col("seq") == first), ts_event=rows[EVENT][1])
    change(day, table, stream & (pl.col("seq") == second), ts_event=rows[EVENT][0])
    return span_of(rows)


@kind("received_backwards", "1 to 50 rows are received 10 ms to 5 s before the row in front of them", "times_rise")
def received_backwards(day: Day, symbol: str, rng: Random) -> Span | None:
    table = any_table(rng, *TIMED)
    rows = chosen(day, table, symbol, rng, 1, 50, IN_ORDER.get(table))
    if rows is None:
        return None
    begin, end = span_of(rows)
    own = day.tables[table].filter(of(symbol) & (pl.col("seq") < rows["seq"][0]))
    before = own.sort("seq").tail(1)[RECV][0]
    back = begin - before + int(drawn(rng, 0.01, 5) * SECOND)
    change(day, table, these(rows), ts_recv=pl.col(RECV) - back, ts_event=pl.col(EVENT) - back)
    return begin - back, end


@kind("zone_wrong", "event times of a table are 1 to 5 hours off, for 5 minutes to the whole day", "clocks_agree")
def zone_wrong(day: Day, symbol: str, rng: Random) -> Span | None:
    hours = int(rng.integers(1, 6)) * int(rng.choice([-1, 1]))
    return _shifted(day, symbol, rng, (300, 20_000), hours * 3600)


@kind("received_early", "rows of 1 to 60 minutes are received 0.1 to 10 s before their event", "clocks_agree")
def received_early(day: Day, symbol: str, rng: Random) -> Span | None:
    return _shifted(day, symbol, rng, (60, 3600), drawn(rng, 0.1, 10))


@kind("received_late", "rows of 1 to 60 minutes are received 90 to 1,200 s after their event", "clocks_agree")
def received_late(day: Day, symbol: str, rng: Random) -> Span | None:
    return _shifted(day, symbol, rng, (60, 3600), -drawn(rng, 90, 1200))


def _shifted(day: Day, symbol: str, rng: Random, seconds: tuple[float, float], by_s: float) -> Span | None:
    """Event times of a span are off."""
    table, span = any_table(rng, *TIMED), stretch(day, rng, *seconds)
    where = of(symbol) & within(span) & IN_ORDER.get(table, pl.lit(value=True))
    rows = day.tables[table].filter(where)
    if not len(rows):
        return None
    change(day, table, where, ts_event=pl.col(EVENT) + int(by_s * SECOND))
    return span_of(rows)


@kind("date_wrong", "1 to 50 rows have the times of another day, 1 to 3 days off", "calendar_kept")
def date_wrong(day: Day, symbol: str, rng: Random) -> Span | None:
    table = any_table(rng, *TIMED)
    rows = chosen(day, table, symbol, rng, 1, 50)
    if rows is None:
        return None
    shift = int(rng.integers(1, 4)) * int(rng.choice([-1, 1])) * 86_400 * SECOND
    return _moved(day, table, rows, shift)


@kind("after_the_end", "1 to 50 rows come 1 to 12 hours after the session's last trading (of a half-day: its early end)", "calendar_kept")
def after_the_end(day: Day, symbol: str, rng: Random) -> Span | None:
    table = any_table(rng, *TIMED)
    rows = chosen(day, table, symbol, rng, 1, 50)
    if rows is None:
        return None
    return _moved(day, table, rows, day.hours.after + int(drawn(rng, 3600, 12 * 3600) * SECOND) - span_of(rows)[0])


@kind("before_the_begin", "1 to 50 updates come 9 to 20 hours before trading begins: at night, or when all is closed", "calendar_kept")
def before_the_begin(day: Day, symbol: str, rng: Random) -> Span | None:
    table = any_table(rng, *TIMED)
    rows = chosen(day, table, symbol, rng, 1, 50)
    if rows is None:
        return None
    return _moved(day, table, rows, day.hours.pre - int(drawn(rng, 9 * 3600, 20 * 3600) * SECOND) - span_of(rows)[1])


def _moved(day: Day, table: str, rows: pl.DataFrame, shift: int) -> Span:
    """These rows at other times."""
    change(day, table, these(rows), ts_recv=pl.col(RECV) + shift, ts_event=pl.col(EVENT) + shift)
    begin, end = span_of(rows)
    return begin + shift, end + shift


@kind("trade_date_wrong", "1 to 50 prints have a trade date that is 1 to 30 days off", "rows_well_formed")
def trade_date_wrong(day: Day, symbol: str, rng: Random) -> Span | None:
    rows = chosen(day, "trades", symbol, rng, 1, 50)
    if rows is None:
        return None
    days = whole(rng, 1, 30) * int(rng.choice([-1, 1]))
    change(day, "trades", these(rows), trade_date=pl.col("trade_date").dt.offset_by(f"{days}d"))
    return span_of(rows)


@kind("symbol_empty", "1 to 50 rows have no symbol", "rows_well_formed", needs="-")
def symbol_empty(day: Day, symbol: str, rng: Random) -> Span | None:
    table = any_table(rng)
    rows = chosen(day, table, symbol, rng, 1, 50)
    if rows is None:
        return None
    change(day, table, these(rows), symbol="")
    return span_of(rows)


@kind("event_time_lost", "1 to 50 prints have no event time", "rows_well_formed")
def event_time_lost(day: Day, symbol: str, rng: Random) -> Span | None:
    rows = chosen(day, "trades", symbol, rng, 1, 50)
    if rows is None:
        return None
    change(day, "trades", these(rows), ts_event=pl.lit(None))
    return span_of(rows)

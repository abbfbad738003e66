"""Kinds of faults in quotes and books: crossed, locked, frozen, wide, apart from each other."""

import polars as pl

from benchmarks.recall.market import SECOND, TICK, Day, Random
from benchmarks.recall.planting import (
    RECV,
    Span,
    add,
    change,
    chosen,
    drawn,
    kind,
    of,
    seq_at,
    span_of,
    stretch,
    these,
    whole,
    within,
)


@kind("quote_spike", "1 to 10 quotes are 5 to 50 % off", "quote_not_spiking")
def quote_spike(day: Day, symbol: str, rng: Random) -> Span | None:
    rows = chosen(day, "quotes", symbol, rng, 1, 10)
    if rows is None:
        return None
    share = 1 + drawn(rng, 0.05, 0.5) * float(rng.choice([-1, 1]))
    moved = {name: (pl.col(name) * share / TICK).round().cast(pl.Int64) * TICK for name in ("bid", "ask")}
    change(day, "quotes", these(rows), **moved)
    return span_of(rows)


@kind("quote_crossed", "the quote is crossed by 1 to 20 ticks for 2 to 30 s", "quote_not_crossed")
def quote_crossed(day: Day, symbol: str, rng: Random) -> Span | None:
    return _lasting(day, symbol, rng, (2, 30), whole(rng, 1, 20))


@kind("quote_locked", "bid and ask of the quote are equal for 90 to 600 s", "quote_not_crossed")
def quote_locked(day: Day, symbol: str, rng: Random) -> Span | None:
    return _lasting(day, symbol, rng, (90, 600), 0)


def _lasting(day: Day, symbol: str, rng: Random, seconds: tuple[float, float], ticks: int) -> Span | None:
    """All quotes of a span, with one at its begin and a right one at its end."""
    span = stretch(day, rng, *seconds)
    quotes = day.tables["quotes"].filter(of(symbol))
    before = quotes.filter(pl.col(RECV) < span[0]).tail(1)
    last = quotes.filter(pl.col(RECV) <= span[1]).tail(1)
    if not len(before):
        return None
    crossed = pl.col("ask") + ticks * TICK
    change(day, "quotes", of(symbol) & within(span), bid=crossed)
    _at(day, before.with_columns(bid=crossed), span[0])
    _at(day, last, span[1])
    return span


def _at(day: Day, row: pl.DataFrame, ts: int, table: str = "quotes") -> None:
    """A row as another one, at another time."""
    seq = seq_at(day, table, row["stream"][0], ts) + 1
    late = row[RECV][0] - row["ts_event"][0]
    add(day, table, row.with_columns(seq=pl.lit(seq), ts_recv=pl.lit(ts), ts_event=pl.lit(ts - late)))


@kind("quote_frozen", "the quote, also that of the prints, stays the same for 5 to 60 minutes", "quote_not_stale", "book_equals_level1")
def quote_frozen(day: Day, symbol: str, rng: Random) -> Span | None:
    span = stretch(day, rng, 300, 3600)
    before = day.tables["quotes"].filter(of(symbol) & (pl.col(RECV) < span[0])).tail(1)
    there = day.tables["quotes"].filter(of(symbol) & within(span))
    if not len(before) or not len(there):
        return None
    for table in ("quotes", "trades"):
        change(day, table, of(symbol) & within(span), bid=int(before["bid"][0]), ask=int(before["ask"][0]))
    return span


@kind("spread_wide", "the spread of 1 to 20 quotes is 8 to 50 % of the price (a stub quote)", "spread_not_outlying")
def spread_wide(day: Day, symbol: str, rng: Random) -> Span | None:
    rows = chosen(day, "quotes", symbol, rng, 1, 20)
    if rows is None:
        return None
    half = drawn(rng, 0.08, 0.5) / 2
    change(
        day, "quotes", these(rows), bid=(pl.col("bid") * (1 - half) / TICK).floor().cast(pl.Int64) * TICK,
        ask=(pl.col("ask") * (1 + half) / TICK).ceil().cast(pl.Int64) * TICK,
    )  # fmt: skip
    return span_of(rows)


@kind("book_crossed", "the book is crossed by 1 to 20 ticks for 2 to 30 s, and changes every 0.1 to 1 s", "book_not_crossed")
def book_crossed(day: Day, symbol: str, rng: Random) -> Span | None:
    span = stretch(day, rng, 2, 30)
    books = day.tables["book_snapshots"].filter(of(symbol))
    before = books.filter(pl.col(RECV) < span[0]).tail(1)
    last = books.filter(pl.col(RECV) <= span[1]).tail(1)
    if not len(before) or {before["trust"][0], last["trust"][0]} != {"good"}:
        return None
    ticks = whole(rng, 1, 20)
    crossed = pl.col("ask_px").list.first() + ticks * TICK
    bids = pl.concat_list([crossed, pl.col("bid_px").list.slice(1)])
    change(day, "book_snapshots", of(symbol) & within(span), bid_px=bids)
    ts = span[0]
    while ts < span[1]:
        _at(day, before.with_columns(bid_px=bids), ts, "book_snapshots")
        ts += int(drawn(rng, 0.1, 1) * SECOND)
    _at(day, last, span[1], "book_snapshots")
    return span


@kind("book_apart", "the book is 1 to 100 ticks off the quote for 10 to 60 minutes", "book_equals_level1")
def book_apart(day: Day, symbol: str, rng: Random) -> Span | None:
    span = stretch(day, rng, 600, 3600)
    rows = day.tables["book_snapshots"].filter(of(symbol) & within(span))
    ticks = whole(rng, 1, 100) * TICK
    if not len(rows):
        return None
    moved = {name: pl.col(name).list.eval(pl.element() + ticks) for name in ("bid_px", "ask_px")}
    change(day, "book_snapshots", of(symbol) & within(span), **moved)
    return span


@kind("book_ragged", "a level of 1 to 5 books has a price and no size", "rows_well_formed")
def book_ragged(day: Day, symbol: str, rng: Random) -> Span | None:
    rows = chosen(day, "book_snapshots", symbol, rng, 1, 5)
    if rows is None:
        return None
    name = str(rng.choice(["bid_sz", "ask_sz"]))
    change(day, "book_snapshots", these(rows), **{name: pl.col(name).list.head(int(rng.integers(0, 5)))})
    return span_of(rows)


@kind("price_negative", "1 to 5 books or quotes have a price below zero", "values_in_range")
def price_negative(day: Day, symbol: str, rng: Random) -> Span | None:
    table = str(rng.choice(["quotes", "book_snapshots"]))
    rows = chosen(day, table, symbol, rng, 1, 5)
    if rows is None:
        return None
    if table == "quotes":
        change(day, table, these(rows), bid=-pl.col("bid"))
    else:
        is_bad = pl.int_range(pl.len()) == int(rng.integers(0, 5))
        change(day, table, these(rows), bid_px=pl.col("bid_px").list.eval(pl.when(is_bad).then(-pl.element()).otherwise(pl.element())))
    return span_of(rows)



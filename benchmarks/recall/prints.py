"""Kinds of faults in prints: lost ones, wrong sizes, wrong prices, prints that come again."""

import polars as pl

from benchmarks.recall.market import SECOND, TICK, Day, Random
from benchmarks.recall.planting import (
    RECV,
    Span,
    add,
    change,
    chosen,
    drawn,
    drop,
    kind,
    of,
    regular,
    seq_at,
    span_of,
    stretch,
    these,
    whole,
    within,
)

LAST = pl.col("basis") == "last"


@kind("prints_lost", "1 to 5 prints one after the other are not there", "counters_unbroken")
def prints_lost(day: Day, symbol: str, rng: Random) -> Span | None:
    rows = chosen(day, "trades", symbol, rng, 1, 5)
    return None if rows is None else _lost(day, rows)


@kind("seconds_of_prints_lost", "the prints of 1 to 300 s are not there", "counters_unbroken")
def seconds_of_prints_lost(day: Day, symbol: str, rng: Random) -> Span | None:
    rows = day.tables["trades"].filter(of(symbol) & within(stretch(day, rng, 1, 300)))
    return _lost(day, rows) if len(rows) else None


@kind("prints_thinned", "0.2 to 5 % of the prints of the day are not there, here and there", "counters_unbroken")
def prints_thinned(day: Day, symbol: str, rng: Random) -> Span | None:
    rows = day.tables["trades"].filter(of(symbol) & regular(day))
    rows = rows.filter(pl.Series(rng.random(len(rows)) < drawn(rng, 0.002, 0.05)))
    return _lost(day, rows) if len(rows) else None


@kind("venue_lost", "all prints of one market centre are gone, from a moment on to the end of the day", "volume_reconciled")
def venue_lost(day: Day, symbol: str, rng: Random) -> Span | None:
    span = (stretch(day, rng, 3600, 5 * 3600)[0], day.hours.after)
    centre = int(rng.choice(day.tables["trades"].filter(of(symbol))["market_center"].unique().sort().to_list()))
    rows = day.tables["trades"].filter(of(symbol) & (pl.col("market_center") == centre) & within(span))
    return _lost(day, rows) if len(rows) else None


def _lost(day: Day, rows: pl.DataFrame) -> Span:
    drop(day, "trades", these(rows))
    return span_of(rows)


@kind("sizes_halved", "the sizes of 20 to 2,000 prints are half of what they were", "volume_reconciled")
def sizes_halved(day: Day, symbol: str, rng: Random) -> Span | None:
    return _sized(day, symbol, rng, (20, 2000), pl.col("size") // 2)


@kind("sizes_doubled", "the sizes of 20 to 2,000 prints are twice what they were", "volume_reconciled")
def sizes_doubled(day: Day, symbol: str, rng: Random) -> Span | None:
    return _sized(day, symbol, rng, (20, 2000), pl.col("size") * 2)


@kind("size_altered", "the size of one print is 1 to 10,000 shares more", "volume_reconciled")
def size_altered(day: Day, symbol: str, rng: Random) -> Span | None:
    return _sized(day, symbol, rng, (1, 1), pl.col("size") + whole(rng, 1, 10_000))


@kind("size_negative", "the sizes of 1 to 5 prints or depth rows are below zero", "values_in_range")
def size_negative(day: Day, symbol: str, rng: Random) -> Span | None:
    table = str(rng.choice(["trades", "depth_updates"]))
    rows = chosen(day, table, symbol, rng, 1, 5)
    if rows is None:
        return None
    change(day, table, these(rows), size=-pl.col("size") - 1)
    return span_of(rows)


@kind("total_broken", "the running total jumps by 100 to 1,000,000 shares and stays so, or begins at 0 again", "volume_reconciled")
def total_broken(day: Day, symbol: str, rng: Random) -> Span | None:
    rows = chosen(day, "trades", symbol, rng, 1, 1)
    if rows is None:
        return None
    begin = span_of(rows)[0]
    after = of(symbol) & (pl.col("seq") >= rows["seq"][0])
    jump = -int(rows["total_volume"][0]) + int(rows["size"][0]) if rng.random() < 0.3 else whole(rng, 100, 1_000_000)
    change(day, "trades", after, total_volume=pl.col("total_volume") + jump)
    return begin, begin


def _sized(day: Day, symbol: str, rng: Random, counts: tuple[int, int], size: pl.Expr) -> Span | None:
    rows = chosen(day, "trades", symbol, rng, *counts)
    if rows is None:
        return None
    change(day, "trades", these(rows), size=size)
    return span_of(rows)


@kind("price_times_10", "1 to 20 prints are ten times too dear or too cheap", "trade_not_spiking")
def price_times_10(day: Day, symbol: str, rng: Random) -> Span | None:
    return _priced(day, symbol, rng, 20, pl.col("price") * 10 if rng.random() < 0.5 else pl.col("price") // 10)


@kind("price_in_cents", "1 to 20 prints are a hundred times too dear, or a hundredth (cents for dollars)", "trade_not_spiking")
def price_in_cents(day: Day, symbol: str, rng: Random) -> Span | None:
    return _priced(day, symbol, rng, 20, pl.col("price") * 100 if rng.random() < 0.5 else pl.col("price") // 100)


@kind("price_spike", "1 to 3 prints are 5 to 50 % off", "trade_not_spiking")
def price_spike(day: Day, symbol: str, rng: Random) -> Span | None:
    share = drawn(rng, 0.05, 0.5) * float(rng.choice([-1, 1]))
    return _priced(day, symbol, rng, 3, (pl.col("price") * (1 + share) / TICK).round().cast(pl.Int64) * TICK)


@kind("price_zero", "1 to 5 prints have no price", "values_in_range")
def price_zero(day: Day, symbol: str, rng: Random) -> Span | None:
    return _priced(day, symbol, rng, 5, pl.lit(0))


def _priced(day: Day, symbol: str, rng: Random, most: int, price: pl.Expr) -> Span | None:
    rows = chosen(day, "trades", symbol, rng, 1, most, LAST)
    if rows is None:
        return None
    change(day, "trades", these(rows), price=price)
    return span_of(rows)


@kind("through_quote", "1 to 5 prints are 1 to 3 % beyond every quote of the hour before", "trade_not_through")
def through_quote(day: Day, symbol: str, rng: Random) -> Span | None:
    rows = chosen(day, "trades", symbol, rng, 1, 5, LAST)
    if rows is None:
        return None
    begin, end = span_of(rows)
    quotes = day.tables["quotes"].filter(of(symbol) & within((begin - 3600 * SECOND, end + 60 * SECOND)))
    share = drawn(rng, 0.01, 0.03)
    up = rng.random() < 0.5
    edge = quotes["ask"].max() if up else quotes["bid"].min()
    assert isinstance(edge, int)
    change(day, "trades", these(rows), price=round(edge * (1 + share if up else 1 - share) / TICK) * TICK)
    return begin, end


@kind("prints_again", "a block of 1 to 200 prints comes again, 1 to 600 s later", "print_once")
def prints_again(day: Day, symbol: str, rng: Random) -> Span | None:
    rows = chosen(day, "trades", symbol, rng, 1, 200)
    if rows is None:
        return None
    begin, end = span_of(rows)
    later = end + int(drawn(rng, 1, 600) * SECOND)
    seq = seq_at(day, "trades", rows["stream"][0], later)
    again = rows.with_columns(seq=seq + 1 + pl.int_range(pl.len()), ts_recv=pl.lit(later) + pl.int_range(pl.len()) * 1000)
    add(day, "trades", again)
    return begin, later


@kind("print_in_halt", "the ledger explains 60 to 900 s as a halt, and there are regular prints in it", "halts_hold")
def print_in_halt(day: Day, symbol: str, rng: Random) -> Span | None:
    span = stretch(day, rng, 60, 900)
    if not len(day.tables["trades"].filter(of(symbol) & LAST & (pl.col(RECV) > span[0]) & (pl.col(RECV) < span[1]))):
        return None
    gap = {"gap_id": f"planted {symbol}", "stream": day.stream_of(symbol), "symbols": [symbol], "ts_from": span[0], "ts_to": span[1]}
    day.beside["gap_events"].append(gap | {"cause": "symbol_silence", "explanation": "halt", "repair_state": ""})
    return span


@kind("bar_altered", "a price of one of the vendor's bars is 1 to 100 ticks off, or its volume 1 to 1,000 shares", "bars_equal_history")
def bar_altered(day: Day, symbol: str, rng: Random) -> Span | None:
    bars = day.tables["history_bars"].filter(of(symbol))
    row = bars.row(int(rng.integers(len(bars))), named=True)
    name = str(rng.choice(["open", "high", "low", "close", "volume"]))
    step = whole(rng, 1, 1000) if name == "volume" else TICK * whole(rng, 1, 100)
    change(day, "history_bars", pl.col("seq") == row["seq"], **{name: pl.col(name) + step})
    return row["ts_begin"], row["ts_begin"] + row["interval_s"] * SECOND

"""Kinds of faults in what is there at all: lost symbols, hours and streams, other prices overnight, what the ledgers admit."""

import polars as pl

from benchmarks.recall.market import DEPTH, LEVEL1, SECOND, TABLES, Day, Random
from benchmarks.recall.planting import EVENT, Span, change, drawn, drop, kind, of, seq_at, stretch, whole, within

PRICES = {"trades": ("price", "bid", "ask"), "quotes": ("bid", "ask"), "depth_updates": ("price",)}


@kind("symbol_missing", "a symbol that is wanted has no row", "symbols_there")
def symbol_missing(day: Day, symbol: str, _rng: Random) -> Span | None:
    for table in TABLES:
        drop(day, table, of(symbol))
    return day.hours.pre, day.hours.after


@kind("symbol_stops", "a symbol has no row after a moment between 10:00 and 15:00", "coverage_steady")
def symbol_stops(day: Day, symbol: str, rng: Random) -> Span | None:
    begin = int(rng.integers(day.hours.open + 1800 * SECOND, day.hours.close - 3600 * SECOND))
    for table in TABLES:
        drop(day, table, of(symbol) & within((begin, day.hours.after)))
    return begin, day.hours.after


@kind("hours_thin", "85 to 98 % of the quotes and depth rows of 2 to 4 hours are not there", "coverage_steady")
def hours_thin(day: Day, symbol: str, rng: Random) -> Span | None:
    span, share = stretch(day, rng, 7200, 4 * 3600), drawn(rng, 0.02, 0.15)
    for table in ("quotes", "depth_updates"):
        kept = pl.Series(rng.random(len(day.tables[table])) < share)
        drop(day, table, of(symbol) & within(span) & ~pl.lit(kept))
    return span


@kind("split_overnight", "all prices are 3:2, 2, 3, 4, 5 or 10 times as high or low as the day before", "no_overnight_jump")
def split_overnight(day: Day, symbol: str, rng: Random) -> Span | None:
    ratio = float(rng.choice([1.5, 2, 3, 4, 5, 10])) ** int(rng.choice([-1, 1]))
    for table, names in PRICES.items():
        change(day, table, of(symbol), **{name: (pl.col(name) * ratio).cast(pl.Int64) for name in names})
    change(day, "book_snapshots", of(symbol), **{
        name: pl.col(name).list.eval((pl.element() * ratio).cast(pl.Int64)) for name in ("bid_px", "ask_px")
    })  # fmt: skip
    return day.hours.pre, day.hours.after


@kind("gap_unexplained", "the ledger has a gap of 0.2 to 600 s that nothing explains or repairs", "gaps_explained")
def gap_unexplained(day: Day, symbol: str, rng: Random) -> Span | None:
    return _gap(day, symbol, stretch(day, rng, 0.2, 600), str(rng.choice(["disconnect", "restart", "journal_loss", "missing_prints"])))


@kind("silence_unexplained", "the ledger has a silence of a symbol of 2 to 3,600 s that nothing explains", "silence_explained")
def silence_unexplained(day: Day, symbol: str, rng: Random) -> Span | None:
    return _gap(day, symbol, stretch(day, rng, 2, 3600), "symbol_silence")


def _gap(day: Day, symbol: str, span: Span, cause: str) -> Span:
    gap = {"gap_id": f"planted {symbol}", "stream": day.stream_of(symbol), "symbols": [symbol], "ts_from": span[0], "ts_to": span[1]}
    day.beside["gap_events"].append(gap | {"cause": cause, "explanation": "", "repair_state": ""})
    return span


@kind("line_garbled", "1 to 20 lines of a symbol are in quarantine", "no_incidents")
def line_garbled(day: Day, symbol: str, rng: Random) -> Span | None:
    span, stream = stretch(day, rng, 1, 60), day.stream_of(symbol)
    seq, step = seq_at(day, "quotes", stream, span[0]), (span[1] - span[0]) // 20
    for number in range(whole(rng, 1, 20)):
        row = {"stream": stream, "seq": seq + 1 + number, "symbol": symbol, "ts_recv": span[0] + number * step, "kind": "quarantine"}
        day.beside.setdefault("feed_events", []).append(row)
    return span


@kind("seconds_lost", "5 to 60 s of all rows of a stream of Level 1 and one of depth are not there", "silence_explained", scope="stream")
def seconds_lost(day: Day, stream: str, rng: Random) -> Span | None:
    return _dark(day, stream, stretch(day, rng, 5, 60))


@kind("minutes_lost", "2 to 30 minutes of them are not there", "calendar_kept", "silence_explained", scope="stream")
def minutes_lost(day: Day, stream: str, rng: Random) -> Span | None:
    return _dark(day, stream, stretch(day, rng, 120, 1800))


def _dark(day: Day, stream: str, span: Span) -> Span:
    for table in TABLES:
        drop(day, table, _stream(stream) & within(span))
    return span


@kind("clock_off", "the clock of a stream of Level 1 is 0.3 to 5 s off for 30 to 120 minutes", "clocks_agree", scope="stream")
def clock_off(day: Day, stream: str, rng: Random) -> Span | None:
    span, by = stretch(day, rng, 1800, 7200), int(drawn(rng, 0.3, 5) * SECOND) * int(rng.choice([-1, 1]))
    for table in ("quotes", "trades"):
        change(day, table, _stream(stream) & within(span), ts_event=pl.col(EVENT) + by)
    return span


def _stream(number: str) -> pl.Expr:
    return pl.col("stream").is_in([f"{LEVEL1}{number}", f"{DEPTH}{number}"])

"""A clean session date of several symbols: what a recorder would have stored of an ordinary day, made of a seed.

Everything an ordinary day has, has this one: quiet and busy symbols, more at the open and the close, hours before and after regular
trading, auction prints beside the quote, late reports, prints of size zero, jumps that stay, halts, quotes that are crossed for parts
of a second, books that are suspect for a while, latency that rises for seconds. Prices are integers of 1e-9, times ns UTC.
What does not belong here: what is wrong with a day (the plants), storing it (tables.py).
"""

from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from l2_platform.market.sessions import load_calendar
from l2_platform.quality.day import number_of

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Random = np.random.Generator
SECOND: Final = 1_000_000_000
TICK: Final = 10_000_000
"""A cent."""
LEVELS: Final = 5
SEQ_STEP: Final = 1000
"""Seqs lie so far apart, so that rows can be put between them."""
STREAMS: Final = 2
"""Streams of Level 1, and as many of depth."""
CENTRES: Final = np.array([5, 11, 19, 26])
LEVEL1, DEPTH = "iqfeed-level1-", "iqfeed-depth-"
TABLES: Final = ("trades", "quotes", "depth_updates", "book_snapshots")
STREAM_OF: Final = {"trades": LEVEL1, "quotes": LEVEL1, "depth_updates": DEPTH, "book_snapshots": DEPTH}


@dataclass(frozen=True, slots=True)
class Hours:
    """Times of a session, ns."""

    session_date: date
    pre: int
    open: int
    close: int
    after: int

    @classmethod
    def of(cls, session_date: date) -> "Hours":
        """Of the New York Stock Exchange."""
        windows = {window.name: window for window in load_calendar("XNYS").windows(number_of(session_date))}
        return cls(session_date, windows["pre"].start, windows["regular"].start, windows["regular"].end, windows["after"].end)


@dataclass(slots=True)
class Day:
    """Rows of a date by table, in the columns of the tables."""

    hours: Hours
    symbols: tuple[str, ...]
    tables: dict[str, pl.DataFrame]
    """Market tables; `at`, the order of arrival, is none of their columns."""
    beside: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Rows of gap_events, feed_events and universe_events."""

    def copy(self) -> "Day":
        """Frames are never changed in place, so that they may be shared."""
        return Day(self.hours, self.symbols, dict(self.tables), {name: list(rows) for name, rows in self.beside.items()})

    def stream_of(self, symbol: str, table: str = "quotes") -> str:
        """The stream that the symbol is in."""
        return f"{STREAM_OF[table]}{self.symbols.index(symbol) % STREAMS}"


def make_day(seed: int, session_date: date, symbols: int) -> Day:
    """The same arguments give the same day; a symbol has its character (price, rates, spread) on all days of a seed."""
    hours = Hours.of(session_date)
    names = tuple(f"SYM{number:03d}" for number in range(symbols))
    parts: dict[str, list[pl.DataFrame]] = {table: [] for table in TABLES}
    beside: dict[str, list[dict[str, Any]]] = {"gap_events": []}
    for number, name in enumerate(names):
        rng = np.random.default_rng([seed, session_date.toordinal(), number])
        maker = _Symbol(name, number, np.random.default_rng([seed, number]), rng, hours)
        for table, frame in maker.frames().items():
            parts[table].append(frame.with_columns(stream=pl.lit(f"{STREAM_OF[table]}{number % STREAMS}")))
        beside["gap_events"] += [row | {"stream": f"{LEVEL1}{number % STREAMS}"} for row in maker.gaps]
    rng = np.random.default_rng([seed, session_date.toordinal(), symbols, 1])
    tables = _received({table: pl.concat(frames) for table, frames in parts.items()}, rng, hours)
    universe = [{"symbol": name, "group_name": "all", "wanted": 1, "version": 1} for name in names]
    return Day(hours, names, tables | {"history_bars": bars_of(tables["trades"], hours)}, beside | {"universe_events": universe})


def _received(tables: dict[str, pl.DataFrame], rng: Random, hours: Hours) -> dict[str, pl.DataFrame]:
    """Rows of a stream arrive in the order of their events, some ms later, now and then a few hundred; seqs count them."""
    made: dict[str, list[pl.DataFrame]] = {table: [] for table in TABLES}
    for kind in (LEVEL1, DEPTH):
        mine = [table for table in TABLES if STREAM_OF[table] == kind]
        for number in range(STREAMS):
            rows = pl.concat([
                tables[table].filter(pl.col("stream") == f"{kind}{number}").select("at", "number", table=pl.lit(table)) for table in mine
            ]).sort("at", "table", "number")  # fmt: skip
            at = rows["at"].to_numpy()
            late = rng.lognormal(np.log(0.006), 0.5, len(at))
            for begin in rng.integers(hours.open, hours.close, 3):
                slow = (at >= begin) & (at < begin + rng.integers(2, 20) * SECOND)
                late[slow] += rng.uniform(0.1, 0.4)
            received = np.maximum.accumulate(at + (late * SECOND).astype(np.int64))
            rows = rows.with_columns(ts_recv=pl.Series(received), seq=SEQ_STEP * pl.int_range(1, len(at) + 1, dtype=pl.Int64))
            for table in mine:
                told = rows.filter(pl.col("table") == table).select("number", "ts_recv", "seq")
                own = tables[table].filter(pl.col("stream") == f"{kind}{number}")
                made[table].append(own.join(told, on="number", how="inner"))
    day = pl.lit(hours.session_date)
    return {
        table: pl.concat(frames).drop("at", "number").sort("stream", "seq").with_columns(session_date=day, source=pl.lit("live"))
        for table, frames in made.items()
    }


def bars_of(trades: pl.DataFrame, hours: Hours) -> pl.DataFrame:
    """The vendor's bars of a minute and of the day of these prints: C and E prints; of a day C, its volume with E and O."""
    trades = trades.filter(pl.col("basis").is_in(["last", "extended", "other"])).sort("symbol", "ts_event", "seq")
    shown = trades.filter(pl.col("basis") != "other").with_columns(begin=pl.col("ts_event") // (60 * SECOND) * (60 * SECOND))
    price = pl.col("price")
    four = {"open": price.first(), "high": price.max(), "low": price.min(), "close": price.last()}
    minutes = shown.group_by("symbol", "begin", maintain_order=True).agg(**four, volume=pl.col("size").sum())
    midnight = hours.pre - 4 * 3600 * SECOND
    prices = trades.filter(pl.col("basis") == "last").group_by("symbol", maintain_order=True).agg(**four)
    volumes = trades.group_by("symbol", maintain_order=True).agg(volume=pl.col("size").sum())
    days = prices.join(volumes, on="symbol").with_columns(begin=pl.lit(midnight, pl.Int64)).select(minutes.columns)
    both = pl.concat([minutes.with_columns(interval_s=pl.lit(60)), days.with_columns(interval_s=pl.lit(86_400))])
    return both.rename({"begin": "ts_begin"}).with_columns(
        stream=pl.lit("iqfeed-bars-history"), session_date=pl.lit(hours.session_date), seq=pl.int_range(1, pl.len() + 1, dtype=pl.Int64),
        source=pl.lit("history"), ts_recv=pl.lit(hours.after, pl.Int64), total_volume=pl.lit(-1, pl.Int64),
        trade_count=pl.lit(0, pl.Int64),
    )  # fmt: skip


class _Symbol:
    """One symbol on one date."""

    def __init__(self, name: str, place: int, traits: Random, rng: Random, hours: Hours) -> None:
        """`traits` tells its character, `rng` the day."""
        self.name, self._place, self._rng, self._hours = name, place, rng, hours
        self._price = float(np.exp(traits.uniform(np.log(8), np.log(400))))
        self._rate = float(np.exp(traits.uniform(np.log(0.06), np.log(0.5))))
        self._trade_share = float(traits.uniform(0.15, 0.4))
        self._volatility = float(traits.uniform(0.01, 0.03))
        self._spread = float(traits.uniform(1.2, 3.0) * max(1.0, self._price / 100))
        self._weights = traits.dirichlet(np.full(len(CENTRES), 4.0))
        self._rate_today = self._rate * float(rng.lognormal(0, 0.2))
        self._halt = self._choose_halt()
        self.gaps: list[dict[str, Any]] = []

    def frames(self) -> dict[str, pl.DataFrame]:
        """By table; `at` is when the feed sent it, `number` is unique in the table."""
        at, bid, ask = self._quotes()
        frames = {
            "quotes": self._quote_rows(at, bid, ask), "trades": self._trades(at, bid, ask),
            "depth_updates": self._depth(at, bid, ask), "book_snapshots": self._books(at, bid, ask),
        }  # fmt: skip
        if self._halt is not None:
            gap = {"cause": "symbol_silence", "explanation": "halt", "repair_state": "", "symbols": [self.name]}
            self.gaps.append(gap | {"gap_id": f"halt {self.name} {at[0]}", "ts_from": self._halt[0], "ts_to": self._halt[1]})
        base = self._place << 32
        return {
            table: frame.with_columns(symbol=pl.lit(self.name), number=pl.int_range(base, base + pl.len(), dtype=pl.Int64))
            for table, frame in frames.items()
        }

    def _choose_halt(self) -> tuple[int, int] | None:
        if self._rng.random() > 0.06:
            return None
        begin = int(self._rng.integers(self._hours.open + 1800 * SECOND, self._hours.close - 3600 * SECOND))
        return begin, begin + int(self._rng.integers(300, 600)) * SECOND

    def _times(self, rate: float) -> Ints:
        """Moments of a day, sorted and apart, in µs; more of them at the open and the close."""
        rng, hours = self._rng, self._hours
        length = (hours.close - hours.open) / SECOND
        count = rng.poisson(rate * length, 1)[0]
        place = rng.random(count)
        kind = rng.random(count)
        place = np.where(kind < 0.15, rng.beta(1, 8, count), np.where(kind > 0.85, rng.beta(8, 1, count), place))
        parts = [hours.open + place * (hours.close - hours.open)]
        for begin, end in ((hours.pre, hours.open), (hours.close, hours.after)):
            parts.append(begin + rng.random(rng.poisson(0.02 * rate * (end - begin) / SECOND)) * (end - begin))
        at = np.unique(np.concatenate(parts).astype(np.int64) // 1000 * 1000)
        if self._halt is not None:
            at = at[(at <= self._halt[0]) | (at >= self._halt[1])]
        return at

    def _quotes(self) -> tuple[Ints, Ints, Ints]:
        """When the quote changed, and to what: a walk, sometimes with a jump that stays."""
        rng = self._rng
        at = self._times(self._rate_today)
        steps = rng.standard_t(4, len(at)) * self._volatility / np.sqrt(2 * len(at))
        if rng.random() < 0.05:
            steps[rng.integers(len(at))] += rng.choice([-1, 1]) * rng.uniform(0.02, 0.08)
        level = self._price * np.exp(rng.normal(0, 0.02) + np.cumsum(steps))
        ticks = np.maximum(np.rint(level * 100), 100).astype(np.int64)
        width = rng.geometric(1 / self._spread, len(at))
        width = np.where(rng.random(len(at)) < 0.003, width * rng.integers(3, 10, len(at)), width)
        # ordinary spreads stay below 2 % of the price
        width = np.minimum(width, np.maximum(ticks // 50, 1))
        bid = ticks - width // 2
        return at, bid * TICK, (bid + width) * TICK

    def _quote_rows(self, at: Ints, bid: Ints, ask: Ints) -> pl.DataFrame:
        """With what is crossed or locked for a moment, and the answer to the watch in front."""
        rng = self._rng
        odd = np.flatnonzero((rng.random(len(at)) < 0.002) & (np.diff(at, append=at[-1]) > SECOND))
        begin = at[odd] + rng.integers(20_000, 300_000, len(odd)) * 1000
        back = begin + rng.integers(20_000, 500_000, len(odd)) * 1000
        top = ask[odd] + rng.integers(0, 3, len(odd)) * TICK
        times, bids, asks = [at[:1] - 1000, at, begin, back], [bid[:1], bid, top, bid[odd]], [ask[:1], ask, ask[odd], ask[odd]]
        frame = pl.DataFrame({"at": np.concatenate(times), "bid": np.concatenate(bids), "ask": np.concatenate(asks)})
        frame = frame.sort("at", maintain_order=True)
        count = len(frame)
        return frame.with_columns(
            ts_event=pl.col("at"), ts_bid=pl.col("at"), ts_ask=pl.col("at"), bid_size=pl.Series(100 * rng.geometric(0.3, count)),
            ask_size=pl.Series(100 * rng.geometric(0.3, count)), bid_market_center=pl.Series(rng.choice(CENTRES, count)),
            ask_market_center=pl.Series(rng.choice(CENTRES, count)), total_volume=pl.lit(-1, pl.Int64), delay=pl.lit(0),
            contents=pl.lit("ba"), snapshot=(pl.int_range(pl.len()) == 0).cast(pl.Int64),
        )  # fmt: skip

    def _trades(self, at_quotes: Ints, bid: Ints, ask: Ints) -> pl.DataFrame:
        rng, hours = self._rng, self._hours
        at = self._times(self._rate_today * self._trade_share)
        at = at[at > at_quotes[0]]
        place = np.searchsorted(at_quotes, at, "right") - 1
        kind = rng.random(len(at))
        # 6 % between bid and ask, of the rest as many at the one as at the other
        price = np.select([kind < 0.47, kind < 0.94], [bid[place], ask[place]], (bid[place] + ask[place]) // 2)
        regular = (at >= hours.open) & (at < hours.close)
        other = regular & (rng.random(len(at)) < 0.03)
        late = regular & ~other & (rng.random(len(at)) < 0.002)
        # reported later than it happened: the price of a quote of the half hour before
        old = np.searchsorted(at_quotes, at - rng.integers(1, 1800, len(at)) * SECOND, "right") - 1
        price = np.where(late & (old >= 0), bid[old], price)
        size = np.where(rng.random(len(at)) < 0.3, rng.integers(1, 100, len(at)), 100 * rng.geometric(0.4, len(at)))
        size[rng.random(len(at)) < 0.001] = 0
        first = int(np.searchsorted(at, hours.open))
        if first < len(at):
            # the auction: large, and not at the quote
            price[first] += TICK * int(rng.integers(-5, 6))
            size[first] = int(rng.integers(5_000, 50_000))
        centre = rng.choice(CENTRES, len(at), p=self._weights)
        count = np.zeros(len(at), np.int64)
        for one in CENTRES:
            count[centre == one] = np.arange(1, np.sum(centre == one) + 1)
        basis = np.where(other, "other", np.where(regular, "last", "extended"))
        back = np.where(other, rng.integers(0, 30, len(at)) * SECOND, 0)
        return pl.DataFrame({
            "at": at, "ts_event": at - back, "price": price, "size": size, "market_center": centre, "tick_id": count, "basis": basis,
            "total_volume": np.cumsum(size), "bid": bid[place], "ask": ask[place],
        }).with_columns(
            conditions=pl.lit("01"), aggressor=pl.lit("none"), day_code=pl.lit(hours.session_date.day),
            trade_date=pl.lit(hours.session_date),
        )  # fmt: skip

    def _depth(self, at_quotes: Ints, bid: Ints, ask: Ints) -> pl.DataFrame:
        rng = self._rng
        at = self._times(0.5 * self._rate_today)
        at = at[at > at_quotes[0]]
        place = np.searchsorted(at_quotes, at, "right") - 1
        is_bid = rng.random(len(at)) < 0.5
        away = rng.integers(0, 10, len(at)) * TICK
        return pl.DataFrame({
            "at": at, "ts_event": at, "kind": rng.choice(["add", "update", "delete"], len(at)), "side": np.where(is_bid, "bid", "ask"),
            "price": np.maximum(np.where(is_bid, bid[place] - away, ask[place] + away), TICK), "size": 100 * rng.geometric(0.3, len(at)),
            "order_id": rng.integers(1, 1 << 40, len(at)),
        }).with_columns(
            mmid=pl.lit("NSDQ"), priority=pl.lit(1), order_count=pl.lit(1), snapshot=pl.lit(0), trust=pl.lit("good")
        )  # fmt: skip

    def _books(self, at_quotes: Ints, bid: Ints, ask: Ints) -> pl.DataFrame:
        """After some of the quotes' changes; a few are crossed for a moment, and for a minute of some days they are suspect."""
        rng = self._rng
        kept = np.flatnonzero(rng.random(len(at_quotes)) < min(1.0, 0.15 / self._rate))
        at, top, low = at_quotes[kept] + rng.integers(0, 20_000, len(kept)) * 1000, bid[kept].copy(), ask[kept]
        at = np.maximum.accumulate(at)
        odd = rng.random(len(kept)) < 0.0005
        top[odd] = low[odd] + TICK
        trust = np.full(len(kept), "good", "U8")
        trust[:1] = "building"
        if rng.random() < 0.1:
            begin = rng.integers(self._hours.open, self._hours.close)
            doubtful = (at >= begin) & (at < begin + 60 * SECOND)
            trust[doubtful] = "suspect"
            top[doubtful] = low[doubtful] + 3 * TICK
        away = np.arange(LEVELS, dtype=np.int64) * TICK
        sizes = 100 * rng.geometric(0.3, (len(kept), 2 * LEVELS)).astype(np.int64)
        counts = np.ones((len(kept), LEVELS), np.int64)
        return pl.DataFrame({
            "at": at, "ts_event": at, "trust": trust, "bid_px": np.maximum(top[:, None] - away, TICK), "bid_sz": sizes[:, :LEVELS],
            "bid_ct": counts, "ask_px": low[:, None] + away, "ask_sz": sizes[:, LEVELS:], "ask_ct": counts,
            "total_bid_size": sizes[:, :LEVELS].sum(1), "total_ask_size": sizes[:, LEVELS:].sum(1),
        }).with_columns(pl.col("bid_px", "bid_sz", "bid_ct", "ask_px", "ask_sz", "ask_ct").arr.to_list())  # fmt: skip

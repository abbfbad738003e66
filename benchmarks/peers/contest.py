"""Other libraries' books on one file of events: `python contest.py BOOK EVENTS.npz ANSWERS.npz PASSES`, in the peers' environment.

Each book is used as its documentation shows it, fed in the form that it takes fastest, made ready before the clock starts. A pass
applies every event to a book that holds the levels of the beginning, and keeps the best price and size of both sides after each one.
Times are CPU times of the process, without the garbage collector, so that neighbours on the machine change them little.
Imports nothing of the project: it runs where the project is not installed.
"""

import gc
import sys
import time
from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from typing import Any

import numpy as np

Top = tuple[Any, Any]


class Events:
    """Arrays of the file: symbol, bid (side), tick, size (0 deletes the level); the first `head` rows build the books."""

    def __init__(self, path: str) -> None:
        with np.load(path) as file:
            self.symbol, self.bid, self.tick, self.size = (file[name] for name in ("symbol", "bid", "tick", "size"))
            self.head, self.symbols, self.tick_size = int(file["head"]), int(file["symbols"]), float(file["tick_size"])

    def rows(self) -> list[tuple[int, bool, int, int]]:
        """As tuples of plain Python values."""
        columns = (self.symbol, self.bid.astype(bool), self.tick, self.size)
        return list(zip(*(column.tolist() for column in columns), strict=True))


class Book(ABC):
    """What is timed: `load` builds the books of the beginning, `run` applies the rest and gives the tops."""

    def __init__(self, events: Events) -> None:
        self.events = events
        rows = events.rows()
        self.head, self.rest = rows[: events.head], rows[events.head :]

    def load(self) -> None:
        """New books, the head applied."""
        self.make()
        self.apply(self.head)

    def run(self) -> list[Top]:
        """The timed part."""
        return self.apply(self.rest)

    @abstractmethod
    def make(self) -> None:
        """New empty books."""

    @abstractmethod
    def apply(self, rows: Any) -> list[Top]:
        """Apply rows; (best bid, best ask) after each as (tick, size), or None for an empty side."""

    def answers(self, tops: list[Top]) -> np.ndarray:
        """Tick and size of the bid and of the ask after each event; 0, 0 for an empty side."""
        return np.array([(*(bid or (0, 0)), *(ask or (0, 0))) for bid, ask in tops], np.int64)


class Plain(Book):
    """A dict of sizes and a list of sorted prices a side: no library."""

    def make(self) -> None:
        self.books: list[Any] = [(({}, []), ({}, [])) for _ in range(self.events.symbols)]

    def apply(self, rows: Any) -> list[Top]:
        books, tops = self.books, []
        for symbol, bid, tick, size in rows:
            (bids, bid_ticks), (asks, ask_ticks) = books[symbol]
            sizes, ticks = (bids, bid_ticks) if bid else (asks, ask_ticks)
            if size:
                if tick not in sizes:
                    insort(ticks, tick)
                sizes[tick] = size
            else:
                del sizes[tick]
                del ticks[bisect_left(ticks, tick)]
            best_bid = bid_ticks[-1] if bid_ticks else None
            best_ask = ask_ticks[0] if ask_ticks else None
            tops.append(((best_bid, bids.get(best_bid)), (best_ask, asks.get(best_ask))))
        return tops

    def answers(self, tops: list[Top]) -> np.ndarray:
        return np.array([[value or 0 for side in top for value in side] for top in tops], np.int64)


class SortedContainers(Book):
    """sortedcontainers.SortedDict a side."""

    def make(self) -> None:
        from sortedcontainers import SortedDict

        self.books = [(SortedDict(), SortedDict()) for _ in range(self.events.symbols)]

    def apply(self, rows: Any) -> list[Top]:
        books, tops = self.books, []
        for symbol, bid, tick, size in rows:
            bids, asks = books[symbol]
            side = bids if bid else asks
            if size:
                side[tick] = size
            else:
                del side[tick]
            tops.append((bids.peekitem(-1) if bids else None, asks.peekitem(0) if asks else None))
        return tops


class OrderBookPackage(Book):
    """order_book.OrderBook: its sides are sorted dictionaries in C."""

    def make(self) -> None:
        from order_book import OrderBook

        self.books = [OrderBook() for _ in range(self.events.symbols)]

    def apply(self, rows: Any) -> list[Top]:
        books, tops = self.books, []
        for symbol, bid, tick, size in rows:
            book = books[symbol]
            bids, asks = book.bids, book.asks
            side = bids if bid else asks
            if size:
                side[tick] = size
            else:
                del side[tick]
            tops.append((bids.index(0) if len(bids) else None, asks.index(0) if len(asks) else None))
        return tops


class Nautilus(Book):
    """nautilus_trader OrderBook (L2_MBP) from deltas that are made before the clock starts."""

    def __init__(self, events: Events) -> None:
        from nautilus_trader.model.identifiers import InstrumentId
        from nautilus_trader.model.objects import Price, Quantity

        super().__init__(events)
        self.ids = [InstrumentId.from_str(f"S{number}.X") for number in range(events.symbols)]
        self.tick_raw, self.unit_raw = Price(0.01, 2).raw, Quantity(1, 0).raw
        self.head, self.rest = self.deltas(self.head), self.deltas(self.rest)

    def deltas(self, rows: Any) -> list[Any]:
        """(symbol, delta) of each row, by the fastest constructor."""
        from nautilus_trader.model.data import OrderBookDelta
        from nautilus_trader.model.enums import BookAction, OrderSide

        raw, update, delete = OrderBookDelta.from_raw, BookAction.UPDATE, BookAction.DELETE
        buy, sell, ids, tick_raw, unit_raw = OrderSide.BUY, OrderSide.SELL, self.ids, self.tick_raw, self.unit_raw
        made = []
        for symbol, bid, tick, size in rows:
            action, side = update if size else delete, buy if bid else sell
            delta = raw(ids[symbol], action, side, tick * tick_raw, 2, size * unit_raw, 0, tick, 0, 0, 0, 0)
            made.append((symbol, delta))
        return made

    def make(self) -> None:
        from nautilus_trader.model.book import OrderBook
        from nautilus_trader.model.enums import BookType

        self.books = [OrderBook(name, BookType.L2_MBP) for name in self.ids]

    def apply(self, rows: Any) -> list[Top]:
        books, tops = self.books, []
        for symbol, delta in rows:
            book = books[symbol]
            book.apply_delta(delta)
            tops.append(((book.best_bid_price(), book.best_bid_size()), (book.best_ask_price(), book.best_ask_size())))
        return tops

    def answers(self, tops: list[Top]) -> np.ndarray:
        rows = []
        for sides in tops:
            row = []
            for price, size in sides:
                row += [price.raw // self.tick_raw, size.raw // self.unit_raw] if price is not None else [0, 0]
            rows.append(row)
        return np.array(rows, np.int64)


class NautilusFromValues(Nautilus):
    """The same with the deltas made inside the timed part, as when they come from a feed."""

    def __init__(self, events: Events) -> None:
        super().__init__(events)
        self.values = events.rows()[events.head :]

    def run(self) -> list[Top]:
        return self.apply(self.deltas(self.values))


class Lrvx(Book):
    """lrvx.OrderBook.apply_delta with arrays made before the clock starts."""

    def __init__(self, events: Events) -> None:
        super().__init__(events)
        self.head, self.rest = self.arrays(self.head), self.arrays(self.rest)

    def arrays(self, rows: Any) -> list[Any]:
        """Each row as the four arrays of apply_delta."""
        empty = np.empty(0)
        made = []
        for symbol, bid, tick, size in rows:
            price, quantity = np.array([tick * self.events.tick_size]), np.array([float(size)])
            made.append((symbol, (price, quantity, empty, empty) if bid else (empty, empty, price, quantity)))
        return made

    def make(self) -> None:
        import lrvx

        self.books = [lrvx.OrderBook(self.events.tick_size) for _ in range(self.events.symbols)]

    def apply(self, rows: Any) -> list[Top]:
        books, tops = self.books, []
        for symbol, arrays in rows:
            book = books[symbol]
            book.apply_delta(*arrays)
            bid, ask = book.best_bid(), book.best_ask()
            tops.append(
                (
                    (bid, book.bid_at_price(bid)) if bid is not None else None,
                    (ask, book.ask_at_price(ask)) if ask is not None else None,
                )
            )
        return tops

    def answers(self, tops: list[Top]) -> np.ndarray:
        floats = np.array([(*(bid or (0, 0)), *(ask or (0, 0))) for bid, ask in tops])
        floats[:, [0, 2]] /= self.events.tick_size
        return np.rint(floats).astype(np.int64)


class Hftbacktest(Book):
    """hftbacktest: events as one array, a compiled strategy that reads the depth after every feed event (one asset)."""

    margin = 0

    def __init__(self, events: Events) -> None:
        import hftbacktest as hft
        from numba import njit

        self.events, self.hft = events, hft
        feed = np.zeros(len(events.tick), hft.event_dtype)
        side = np.where(events.bid, hft.BUY_EVENT, hft.SELL_EVENT)
        feed["ev"] = hft.EXCH_EVENT | hft.LOCAL_EVENT | hft.DEPTH_EVENT | side
        feed["exch_ts"] = feed["local_ts"] = 1_000_000 + 1_000 * np.arange(len(feed))
        feed["px"], feed["qty"] = events.tick * events.tick_size, events.size
        self.feed = feed

        @njit
        def read(backtest, tops, first, last):  # type: ignore[no-untyped-def]
            depth = backtest.depth(0)
            row = first
            while row < last and backtest.wait_next_feed(False, 1_000_000_000_000) == 2:
                bid, ask = depth.best_bid_tick, depth.best_ask_tick
                tops[row, 0] = bid
                tops[row, 1] = depth.bid_qty_at_tick(bid)
                tops[row, 2] = ask
                tops[row, 3] = depth.ask_qty_at_tick(ask)
                row += 1
            return row

        self.read = read

    def asset(self) -> Any:
        """The description of the one asset, without fees and latency."""
        made = self.hft.BacktestAsset().data([self.feed]).linear_asset(1.0).constant_order_latency(0, 0)
        made = made.risk_adverse_queue_model().no_partial_fill_exchange().trading_value_fee_model(0, 0)
        return made.tick_size(self.events.tick_size).lot_size(1.0).last_trades_capacity(0)

    def backtest(self) -> Any:
        """Depth in hash maps."""
        return self.hft.HashMapMarketDepthBacktest([self.asset()])

    def load(self) -> None:
        self.tops = np.zeros((len(self.feed), 4))
        self.made = self.backtest()
        self.read(self.made, self.tops, 0, self.events.head)

    def run(self) -> Any:
        self.read(self.made, self.tops, self.events.head, len(self.feed))
        return self.tops[self.events.head :]

    def answers(self, tops: Any) -> np.ndarray:
        known = np.where(np.isfinite(tops) & (np.abs(tops) < 1e15), tops, 0)
        # the run ends with the last event, which wait_next_feed no longer reports: -1 is not compared
        known[-1] = -1
        return known.astype(np.int64)


class HftbacktestRange(Hftbacktest):
    """The same with depth in a vector over the range of prices that occur (its fastest)."""

    def backtest(self) -> Any:
        low, high = float(self.events.tick.min() - 10), float(self.events.tick.max() + 10)
        made = self.asset().roi_lb(low * self.events.tick_size).roi_ub(high * self.events.tick_size)
        return self.hft.ROIVectorMarketDepthBacktest([made])


BOOKS: dict[str, type[Book]] = {
    "plain": Plain,
    "sortedcontainers": SortedContainers,
    "order-book": OrderBookPackage,
    "nautilus_trader": Nautilus,
    "nautilus_trader, deltas made": NautilusFromValues,
    "hftbacktest, hash map": Hftbacktest,
    "hftbacktest, price range": HftbacktestRange,
    "lrvx": Lrvx,
}


def main() -> None:
    """Run one book; write its seconds and answers."""
    name, events_path, answers_path, passes = sys.argv[1:5]
    book = BOOKS[name](Events(events_path))
    seconds = []
    tops: Any = []
    # The answers that are kept are no cycles: nobody pays for walking over them.
    gc.disable()
    # the first pass compiles and warms
    for turn in range(int(passes) + 1):
        book.load()
        started = time.process_time_ns()
        tops = book.run()
        taken = time.process_time_ns() - started
        if turn or int(passes) == 1:
            seconds.append(taken / 1e9)
    np.savez(answers_path, seconds=seconds, answers=book.answers(tops))


if __name__ == "__main__":
    main()

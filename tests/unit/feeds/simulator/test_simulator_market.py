"""The generated market: repeatable, never crossed, Level 1 equal to the top of Level 2."""

import numpy as np
import pytest

from l2_platform.feeds.iqfeed.simulator import flow_kernels as flow
from l2_platform.feeds.iqfeed.simulator.market import Market, symbol_names

START = 1_785_000_000_000_000_000


def steps(market: Market, messages: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    rows, quotes = [], []
    room = (np.zeros((batch + 64, flow.D_COLUMNS), np.int64), np.zeros((batch + 64, flow.L_COLUMNS), np.int64))
    made = 0
    while made < messages:
        n, k = market.generate(batch, (START, 0.0, START), *room)
        rows.append(room[0][:n].copy())
        quotes.append(room[1][:k].copy())
        made += n + k
    return np.concatenate(rows), np.concatenate(quotes)


class Books:
    """A tiny book per symbol from rows of any shape."""

    def __init__(self) -> None:
        self.orders: dict[tuple[int, int, int], tuple[int, int]] = {}

    def apply(self, row: np.ndarray, shape: str) -> None:
        kind, symbol, order, venue, side, price, size = (int(value) for value in row[:7])
        key = {"orders": order, "venues": venue, "levels": price}[shape]
        if kind in (flow.K_DELETE, flow.K_LEVEL_DELETE):
            del self.orders[symbol, side, key]
        else:
            assert size > 0
            self.orders[symbol, side, key] = (price, size)

    def top(self, symbol: int, side: int) -> tuple[int, int]:
        held = [row for (s, d, _), row in self.orders.items() if (s, d) == (symbol, side)]
        best = max(p for p, _ in held) if side == flow.BID_SIDE else min(p for p, _ in held)
        return best, sum(size for price, size in held if price == best)


@pytest.mark.parametrize("shape", ["orders", "venues", "levels"])
def test_level1_row_equals_top_of_level2_after_every_step(shape: str) -> None:
    market = Market(3, 5, shape, START)
    books = Books()
    for symbol in range(3):
        for row in market.snapshot(symbol):
            books.apply(row, shape)
    rows = np.zeros((64, flow.D_COLUMNS), np.int64)
    quotes = np.zeros((64, flow.L_COLUMNS), np.int64)
    for _ in range(3000):
        n, k = market.generate(1, (START, 0.0, START), rows, quotes)
        for row in rows[:n]:
            books.apply(row, shape)
        if k:
            quote = quotes[k - 1]
            symbol = int(quote[flow.L_SYMBOL])
            assert (quote[flow.L_BID], quote[flow.L_BID_SIZE]) == books.top(symbol, flow.BID_SIDE)
            assert (quote[flow.L_ASK], quote[flow.L_ASK_SIZE]) == books.top(symbol, flow.ASK_SIDE)
            assert quote[flow.L_BID] < quote[flow.L_ASK]
    again = Books()
    for symbol in range(3):
        for row in market.snapshot(symbol):
            again.apply(row, shape)
    assert again.orders == books.orders


@pytest.mark.parametrize("shape", ["orders", "mixed"])
def test_same_seed_gives_same_rows_whatever_the_batches(shape: str) -> None:
    first = steps(Market(20, 9, shape, START), 20_000, 7)
    second = steps(Market(20, 9, shape, START), 20_000, 4096)
    for one, two in zip(first, second, strict=True):
        size = min(len(one), len(two))
        assert np.array_equal(one[:size], two[:size])


def test_other_seed_gives_another_market() -> None:
    first, _ = steps(Market(20, 1, "orders", START), 2000, 500)
    second, _ = steps(Market(20, 2, "orders", START), 2000, 500)
    assert not np.array_equal(first[:1000], second[:1000])


def test_trades_count_tick_ids_and_volume() -> None:
    market = Market(4, 3, "orders", START)
    _, quotes = steps(market, 50_000, 1000)
    trades = quotes[quotes[:, flow.L_CONTENTS] & flow.IN_TRADE != 0]
    assert len(trades) > 1000
    for symbol in range(4):
        mine = trades[trades[:, flow.L_SYMBOL] == symbol]
        assert np.array_equal(mine[:, flow.L_VOLUME], np.cumsum(mine[:, flow.L_SIZE]))
        assert np.array_equal(mine[:, flow.L_COUNT], np.arange(1, len(mine) + 1))
        for center in np.unique(mine[:, flow.L_CENTER]):
            ticks = mine[mine[:, flow.L_CENTER] == center][:, flow.L_TICK]
            assert np.array_equal(ticks, np.arange(1, len(ticks) + 1))


def test_new_day_starts_counts_again() -> None:
    market = Market(2, 3, "orders", START)
    steps(market, 5000, 500)
    last = market.state.symbols[:, flow.L_LAST].copy()
    market.start_day()
    assert not market.state.symbols[:, flow.S_TICK : flow.S_TICK + flow.VENUE_COUNT].any()
    assert not market.state.symbols[:, flow.L_VOLUME].any()
    assert np.array_equal(market.state.symbols[:, flow.L_CLOSE], last)


def test_books_keep_their_depth_over_a_long_run() -> None:
    market = Market(10, 11, "orders", START)
    rows, _ = steps(market, 300_000, 8192)
    state = market.state
    count = state.symbols[:, flow.S_COUNT : flow.S_COUNT + 2]
    assert count.min() >= flow.SIDE_ORDERS_MIN
    assert count.max() <= flow.SIDE_ORDERS_MAX
    for symbol in range(10):
        for side in range(2):
            prices = state.orders[symbol, side, : count[symbol, side], flow.O_PRICE]
            assert len(np.unique(prices)) >= 6
    adds = rows[rows[:, flow.D_KIND] == flow.K_ADD]
    assert len(np.unique(adds[:, flow.D_ID])) == len(adds)


def test_ten_thousand_symbols_are_seeded() -> None:
    market = Market(10_000, 7, "mixed", START)
    assert market.names[-1] == "SYM9999"
    assert (market.state.symbols[:, flow.L_BID] < market.state.symbols[:, flow.L_ASK]).all()
    assert all(len(market.snapshot(symbol)) > 6 for symbol in (0, 1, 2, 9999))


def test_symbol_names_are_as_wide_as_the_count() -> None:
    assert symbol_names(50)[-1] == "SYM049"
    assert symbol_names(1001)[0] == "SYM0000"

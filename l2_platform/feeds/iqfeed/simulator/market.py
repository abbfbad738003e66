"""The market as an object: how it is set up from a seed, and the things that can be asked of it.

What does not belong here: what an order event does (`flow_kernels`), bytes, pace.
"""

import numpy as np
import numpy.typing as npt

from l2_platform.feeds.iqfeed.simulator import flow_kernels as flow


class Market:
    """The state of the market and the two things that can be asked of it: more steps, and a snapshot."""

    def __init__(self, symbols: int, seed: int, shape: str, ts: int) -> None:
        self.names = symbol_names(symbols)
        self.state = _new_state(symbols, seed, shape)
        self._snapshot_rows = np.zeros((2 * flow.SIDE_ORDERS_MAX, flow.D_COLUMNS), np.int64)
        flow.seed_books(self.state, ts, np.zeros((flow.SIDE_ORDERS_MAX, flow.D_COLUMNS), np.int64))
        self._set_previous_close(ts)

    def _set_previous_close(self, ts: int) -> None:
        quote = self.state.symbols
        close = (quote[:, flow.L_BID] + quote[:, flow.L_ASK]) // 2
        for column in (flow.L_PRICE, flow.L_CLOSE, flow.L_LAST, flow.L_EXT):
            quote[:, column] = close
        for column in (flow.L_SIZE, flow.L_LAST_SIZE, flow.L_EXT_SIZE):
            quote[:, column] = 100
        for column in (flow.L_TS, flow.L_LAST_TS, flow.L_EXT_TS):
            quote[:, column] = ts - 86_400_000_000_000
        for column in (flow.L_CENTER, flow.L_LAST_CENTER, flow.L_EXT_CENTER):
            quote[:, column] = flow.VENUES[0][1]
        quote[:, flow.L_AGGRESSOR] = 3

    def generate(
        self, messages: int, when: tuple[int, float, int], rows: flow.Int64, quotes: flow.Int64
    ) -> tuple[int, int]:
        """Fill `rows` and `quotes`; return how many of each; `when` is ts_first, ts_step, ts_last of the kernel."""
        ts_first, ts_step, ts_last = when
        n, k = flow.generate(self.state, messages, ts_first, float(ts_step), ts_last, rows, quotes)
        return int(n), int(k)

    @property
    def idle_steps(self) -> int:
        """Steps so far that fell to halted symbols."""
        return int(self.state.counters[flow.N_HALTED])

    def halt(self, symbol: int, *, on: bool) -> None:
        """Let nothing happen in a symbol any more, or go on."""
        self.state.symbols[symbol, flow.S_HALTED] = int(on)

    def snapshot(self, symbol: int) -> flow.Int64:
        """Level 2 rows that rebuild the book of a symbol; valid until the next call."""
        count = int(flow.snapshot(self.state, symbol, self._snapshot_rows))
        return self._snapshot_rows[:count]

    def start_day(self) -> None:
        """A new trading date: tick ids count from 1, volume from 0, open, high and low are unknown, the last price is the close."""
        quote = self.state.symbols
        quote[:, flow.S_TICK : flow.S_TICK + flow.VENUE_COUNT] = 0
        quote[:, flow.L_CLOSE] = quote[:, flow.L_LAST]
        for column in (flow.L_VOLUME, flow.L_COUNT, flow.L_NOTIONAL, flow.L_OPEN, flow.L_HIGH, flow.L_LOW):
            quote[:, column] = 0


def symbol_names(count: int) -> list[str]:
    """SYM000 …, as wide as the count needs and at least three digits."""
    width = max(3, len(str(count - 1)))
    return [f"SYM{number:0{width}d}" for number in range(count)]


def _new_state(symbols: int, seed: int, shape: str) -> flow.MarketState:
    random = np.random.Generator(np.random.PCG64(seed))
    anchor = np.exp(random.uniform(np.log(1_000), np.log(60_000), symbols)).astype(np.int64)
    table = np.zeros((symbols, flow.S_COLUMNS), np.int64)
    table[:, flow.S_REFERENCE] = table[:, flow.S_ANCHOR] = anchor
    table[:, flow.S_SHAPE] = _shapes(symbols, shape)
    table[:, flow.S_THRESHOLD], table[:, flow.S_ALIAS] = _alias_table(0.2 + random.pareto(2.5, symbols).clip(0, 12))
    return flow.MarketState(
        orders=np.zeros((symbols, 2, flow.SIDE_ORDERS_MAX, flow.O_COLUMNS), np.int64),
        symbols=table,
        random=np.array([(seed * 2_654_435_769 + 1) % 2**64], np.uint64),
        counters=np.array([flow.FIRST_ORDER_ID, 12_440_000_000, 0, 0], np.int64),
    )


def _shapes(symbols: int, shape: str) -> flow.Int64:
    if shape == "mixed":
        return (np.arange(symbols) % 3).astype(np.int64)
    number = {"orders": flow.SHAPE_ORDERS, "venues": flow.SHAPE_VENUES, "levels": flow.SHAPE_LEVELS}[shape]
    return np.full(symbols, number, np.int64)


def _alias_table(weights: npt.NDArray[np.float64]) -> tuple[flow.Int64, flow.Int64]:
    """Walker's alias method: one comparison picks a symbol with probability proportional to its weight."""
    count = len(weights)
    scaled = weights * (count / weights.sum())
    threshold = np.full(count, 2**32, np.int64)
    alias = np.arange(count, dtype=np.int64)
    small = [i for i in range(count) if scaled[i] < 1]
    large = [i for i in range(count) if scaled[i] >= 1]
    while small and large:
        low, high = small.pop(), large[-1]
        threshold[low] = int(scaled[low] * 2**32)
        alias[low] = high
        scaled[high] -= 1 - scaled[low]
        if scaled[high] < 1:
            small.append(large.pop())
    return threshold, alias

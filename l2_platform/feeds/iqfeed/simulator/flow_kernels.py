"""Order flow as compiled kernels over arrays: a seeded market whose trades consume resting orders.

Each side of each book is one array of orders, best first, oldest first within a price, so the top is element 0. A step of the
market is one order event of one symbol; it leaves rows for Level 2 (one per line) and Level 1 (one per line). The sequence of
steps depends on seed, shape and symbol count only, never on batches or time. What does not belong here: how a market is set up
(`market`), bytes (`line_kernels`), pace, sockets.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from l2_platform.market.compiled import Number, kernel

SIDE_ORDERS_MAX: Final = 64
"""Room for orders on one side of one book."""
SIDE_ORDERS_AIM: Final = 38
"""Adds and cancels balance around this many orders a side (about 20 price levels)."""
SIDE_ORDERS_MIN: Final = 10
"""Below this nothing is cancelled or consumed."""
BAND_TICKS: Final = 30
"""New orders rest within this many cents of the reference price."""
EVENT_ROWS_MAX: Final = 16
"""Most rows of one service that one step leaves."""
FILLS_MAX: Final = 4
"""Most resting orders that one aggressive order consumes."""

VENUES: Final = (("NSDQ", 5), ("ARCX", 11), ("BATX", 26), ("EDGX", 27), ("NYSE", 7), ("MEMX", 30))
"""Market maker id on Level 2 and market centre number on Level 1 of each venue."""
VENUE_COUNT: Final = len(VENUES)

SHAPE_ORDERS: Final = 0
SHAPE_VENUES: Final = 1
SHAPE_LEVELS: Final = 2

# Columns of a Level 2 row. KIND is the line's letter.
D_KIND, D_SYMBOL, D_ID, D_VENUE, D_SIDE, D_PRICE, D_SIZE, D_PRIORITY, D_COUNT, D_TS = range(10)
D_COLUMNS: Final = 10

# Columns of a Level 1 row, and of the state of a symbol that it is a copy of. Prices in cents, times in ns UTC, 0 = none.
(
    L_SYMBOL, L_CONTENTS, L_PRICE, L_SIZE, L_TS, L_CENTER, L_CONDITION, L_AGGRESSOR, L_TICK, L_VOLUME, L_COUNT,
    L_BID, L_BID_SIZE, L_BID_TS, L_BID_CENTER, L_ASK, L_ASK_SIZE, L_ASK_TS, L_ASK_CENTER,
    L_OPEN, L_HIGH, L_LOW, L_CLOSE, L_NOTIONAL,
    L_LAST, L_LAST_SIZE, L_LAST_TS, L_LAST_CENTER, L_EXT, L_EXT_SIZE, L_EXT_TS, L_EXT_CENTER,
) = range(32)  # fmt: skip
L_COLUMNS: Final = 32

# Bits of L_CONTENTS, in the order in which the letters are written: C E O b a o h l c s v.
IN_C, IN_E, IN_O, IN_BID, IN_ASK, IN_OPEN, IN_HIGH, IN_LOW = (1 << bit for bit in range(8))
IN_VOLUME: Final = 1 << 10
IN_TRADE: Final = 7

CONDITION_REGULAR: Final = 0
CONDITION_EXTENDED: Final = 1
CONDITION_ODD_LOT: Final = 2

BID_SIDE: Final = np.int64(0)
ASK_SIDE: Final = np.int64(1)

# Typed, since every plain constant that is passed on makes the compiler write another version of the callee.
K_ADD, K_UPDATE, K_DELETE, K_SUMMARY, K_LEVEL_SUMMARY, K_LEVEL_UPDATE, K_LEVEL_DELETE = (
    np.int64(ord(c)) for c in "3456789"
)
NONE: Final = np.int64(0)

# Slots of `counters`.
N_ORDER, N_PRIORITY, N_STEPS, N_HALTED = 0, 1, 2, 3

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]
FIRST_ORDER_ID: Final = 640_000_000_000


# Columns of a resting order.
O_ID, O_PRICE, O_SIZE, O_PRIORITY, O_VENUE, O_TS = range(6)
O_COLUMNS: Final = 6

# Columns of a symbol: its Level 1 row first, then what only the flow needs. REFERENCE is the price that the flow is drawn around,
# ANCHOR the one that it returns to (cents); TICK, VENUE_PRICE and VENUE_SIZE have a column per venue (the last two per side too).
S_REFERENCE, S_ANCHOR, S_SHAPE, S_COUNT = range(L_COLUMNS, L_COLUMNS + 4)
S_THRESHOLD: Final = S_COUNT + 2
S_ALIAS: Final = S_THRESHOLD + 1
S_TICK: Final = S_ALIAS + 1
S_VENUE_PRICE: Final = S_TICK + VENUE_COUNT
S_VENUE_SIZE: Final = S_VENUE_PRICE + 2 * VENUE_COUNT
S_HALTED: Final = S_VENUE_SIZE + 2 * VENUE_COUNT
"""1: trading is halted, nothing happens."""
S_COLUMNS: Final = S_HALTED + 1

CENTERS: Final = np.array([number for _, number in VENUES], np.int64)


class MarketState(NamedTuple):
    """Everything that a step reads and changes. Few arrays: kernels pass them all on, and each makes compiling slower."""

    orders: Any
    """int64[symbols, 2 sides (0 bid), SIDE_ORDERS_MAX, O_COLUMNS]: best first, oldest first within a price."""
    symbols: Any
    """int64[symbols, S_COLUMNS]."""
    random: Any
    """uint64[1]: state of the generator."""
    counters: Any
    """int64[4]: last order id, last priority, steps made, steps that fell to halted symbols."""


@njit("uint64(uint64[::1])", cache=True, nogil=True)  # one signature: constants would each make another
def draw(random: UInt64) -> Any:
    """Next 64 random bits (splitmix64)."""
    random[0] += np.uint64(0x9E3779B97F4A7C15)
    z = random[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit("int64(uint64[::1], int64)", cache=True, nogil=True)  # one signature: constants would each make another
def below(random: UInt64, limit: Number) -> Number:
    """A random integer from 0 to limit - 1."""
    return np.int64((draw(random) >> np.uint64(33)) * np.uint64(limit) >> np.uint64(31))


@kernel
def insert_order(
    m: MarketState,
    s: Number,
    side: Number,
    order_id: Number,
    price: Number,
    size: Number,
    priority: Number,
    venue: Number,
    ts: Number,
) -> None:
    """Put an order behind the last one of its price."""
    n = m.symbols[s, S_COUNT + side]
    at = 0
    if side == BID_SIDE:
        while at < n and m.orders[s, side, at, O_PRICE] >= price:
            at += 1
    else:
        while at < n and m.orders[s, side, at, O_PRICE] <= price:
            at += 1
    for i in range(n, at, -1):
        for column in range(O_COLUMNS):
            m.orders[s, side, i, column] = m.orders[s, side, i - 1, column]
    m.orders[s, side, at, O_ID] = order_id
    m.orders[s, side, at, O_PRICE] = price
    m.orders[s, side, at, O_SIZE] = size
    m.orders[s, side, at, O_PRIORITY] = priority
    m.orders[s, side, at, O_VENUE] = venue
    m.orders[s, side, at, O_TS] = ts
    m.symbols[s, S_COUNT + side] = n + 1


@kernel
def remove_order(m: MarketState, s: Number, side: Number, at: Number) -> None:
    """Take the order at a place out."""
    n = m.symbols[s, S_COUNT + side] - 1
    for i in range(at, n):
        for column in range(O_COLUMNS):
            m.orders[s, side, i, column] = m.orders[s, side, i + 1, column]
    m.symbols[s, S_COUNT + side] = n


@kernel
def new_price(m: MarketState, s: Number, side: Number) -> Number:
    """A price for a resting order, denser near the reference, never crossing or locking the book."""
    first = below(m.random, BAND_TICKS)
    second = below(m.random, BAND_TICKS)
    away = min(first, second)
    if side == BID_SIDE:
        price = m.symbols[s, S_REFERENCE] - 1 - away
        if m.symbols[s, S_COUNT + ASK_SIDE] > 0:
            price = min(price, m.orders[s, ASK_SIDE, 0, O_PRICE] - 1)
        return max(price, 1)
    price = m.symbols[s, S_REFERENCE] + away
    if m.symbols[s, S_COUNT + BID_SIDE] > 0:
        price = max(price, m.orders[s, BID_SIDE, 0, O_PRICE] + 1)
    return price


@kernel
def new_size(m: MarketState) -> Number:
    """A size in shares: mostly round lots, one in eight odd."""
    lots = 1 + below(m.random, 6) * below(m.random, 3)
    if below(m.random, 8) == 0:
        return lots * 100 - 1 - below(m.random, 99)
    return lots * 100


@njit(
    "int64(int64[:, ::1], int64, int64, int64, int64, int64, int64, int64, int64, int64, int64, int64)",
    cache=True,
    nogil=True,
)  # one signature: constants would each make another
def put_row(
    rows: Int64,
    n: Number,
    kind: Number,
    s: Number,
    order_id: Number,
    venue: Number,
    side: Number,
    price: Number,
    size: Number,
    priority: Number,
    count: Number,
    ts: Number,
) -> Number:
    """Write one Level 2 row; return the next free place."""
    row = rows[n]
    row[D_KIND] = kind
    row[D_SYMBOL] = s
    row[D_ID] = order_id
    row[D_VENUE] = venue
    row[D_SIDE] = side
    row[D_PRICE] = price
    row[D_SIZE] = size
    row[D_PRIORITY] = priority
    row[D_COUNT] = count
    row[D_TS] = ts
    return n + 1


@kernel
def level_at(m: MarketState, s: Number, side: Number, price: Number) -> tuple[Number, Number]:
    """Total size and order count of a price level."""
    size: Number = 0
    count = 0
    for i in range(m.symbols[s, S_COUNT + side]):
        here = m.orders[s, side, i, O_PRICE]
        if here == price:
            size += m.orders[s, side, i, O_SIZE]
            count += 1
        elif count > 0:
            break
    return size, count


@kernel
def tell_level(m: MarketState, s: Number, side: Number, price: Number, ts: Number, rows: Int64, n: Number) -> Number:
    """The row for a price level after a change: 8, or 9 when it is gone."""
    size, count = level_at(m, s, side, price)
    kind = K_LEVEL_UPDATE if count > 0 else K_LEVEL_DELETE
    return put_row(rows, n, kind, s, 0, 0, side, price, size, 0, count, ts)


@kernel
def venue_best(m: MarketState, s: Number, side: Number, venue: Number) -> tuple[Number, Number]:
    """Best price of a venue and its size there; 0, 0 when it has no order."""
    price: Number = 0
    size: Number = 0
    for i in range(m.symbols[s, S_COUNT + side]):
        if price != 0 and m.orders[s, side, i, O_PRICE] != price:
            break
        if m.orders[s, side, i, O_VENUE] == venue:
            price = m.orders[s, side, i, O_PRICE]
            size += m.orders[s, side, i, O_SIZE]
    return price, size


@kernel
def tell_venue(m: MarketState, s: Number, side: Number, venue: Number, ts: Number, rows: Int64, n: Number) -> Number:
    """The row for a venue when its best changed: 4, or 5 when it has none left."""
    price, size = venue_best(m, s, side, venue)
    if (
        price == m.symbols[s, S_VENUE_PRICE + side * VENUE_COUNT + venue]
        and size == m.symbols[s, S_VENUE_SIZE + side * VENUE_COUNT + venue]
    ):
        return n
    m.symbols[s, S_VENUE_PRICE + side * VENUE_COUNT + venue] = price
    m.symbols[s, S_VENUE_SIZE + side * VENUE_COUNT + venue] = size
    return put_row(rows, n, K_UPDATE if price > 0 else K_DELETE, s, 0, venue, side, price, size, 0, 0, ts)


@kernel
def tell_order(
    m: MarketState,
    s: Number,
    side: Number,
    kind: Number,
    order_id: Number,
    price: Number,
    old_price: Number,
    size: Number,
    priority: Number,
    venue: Number,
    ts: Number,
    rows: Int64,
    n: Number,
) -> Number:
    """The rows for a change of one order, in the shape of its symbol; `old_price` differs from `price` when the order moved."""
    shape = m.symbols[s, S_SHAPE]
    if shape == SHAPE_ORDERS:
        return put_row(rows, n, kind, s, order_id, venue, side, price, size, priority, 0, ts)
    if shape == SHAPE_VENUES:
        return tell_venue(m, s, side, venue, ts, rows, n)
    n = tell_level(m, s, side, old_price, ts, rows, n)
    if old_price != price:
        n = tell_level(m, s, side, price, ts, rows, n)
    return n


@kernel
def refresh_top(m: MarketState, s: Number, ts: Number) -> Number:
    """Copy the top of the book into the Level 1 state; return the contents bits of what changed."""
    q = m.symbols[s]
    changed = 0
    for side in range(2):
        price = m.orders[s, side, 0, O_PRICE]
        size = 0
        for i in range(m.symbols[s, S_COUNT + side]):
            if m.orders[s, side, i, O_PRICE] != price:
                break
            size += m.orders[s, side, i, O_SIZE]
        at = L_BID if side == BID_SIDE else L_ASK
        if q[at] != price or q[at + 1] != size:
            q[at] = price
            q[at + 1] = size
            q[at + 2] = ts
            q[at + 3] = CENTERS[m.orders[s, side, 0, O_VENUE]]
            changed |= IN_BID if side == BID_SIDE else IN_ASK
    return changed


@kernel
def print_trade(m: MarketState, s: Number, price: Number, size: Number, venue: Number, buy: bool, ts: Number) -> Number:
    """Write a trade into the Level 1 state; return its contents bits."""
    q = m.symbols[s]
    contents = IN_VOLUME
    condition = CONDITION_REGULAR
    if size % 100 != 0:
        contents |= IN_O
        condition = CONDITION_ODD_LOT
    elif below(m.random, 16) == 0:
        contents |= IN_E
        condition = CONDITION_EXTENDED
    else:
        contents |= IN_C
    m.symbols[s, S_TICK + venue] += 1
    q[L_PRICE] = price
    q[L_SIZE] = size
    q[L_TS] = ts
    q[L_CENTER] = CENTERS[venue]
    q[L_CONDITION] = condition
    q[L_AGGRESSOR] = 1 if buy else 2
    q[L_TICK] = m.symbols[s, S_TICK + venue]
    q[L_VOLUME] += size
    q[L_COUNT] += 1
    q[L_NOTIONAL] += price * size
    if contents & (IN_C | IN_E):
        q[L_EXT] = price
        q[L_EXT_SIZE] = size
        q[L_EXT_TS] = ts
        q[L_EXT_CENTER] = CENTERS[venue]
    if contents & IN_C:
        q[L_LAST] = price
        q[L_LAST_SIZE] = size
        q[L_LAST_TS] = ts
        q[L_LAST_CENTER] = CENTERS[venue]
        if q[L_OPEN] == 0:
            q[L_OPEN] = price
            contents |= IN_OPEN
        if price > q[L_HIGH]:
            q[L_HIGH] = price
            contents |= IN_HIGH
        if q[L_LOW] == 0 or price < q[L_LOW]:
            q[L_LOW] = price
            contents |= IN_LOW
    return contents


@kernel
def add_order(m: MarketState, s: Number, side: Number, ts: Number, rows: Int64, n: Number) -> Number:
    """A new resting order."""
    price = new_price(m, s, side)
    size = new_size(m)
    venue = below(m.random, VENUE_COUNT)
    m.counters[N_ORDER] += 1
    m.counters[N_PRIORITY] += 1
    order_id = m.counters[N_ORDER]
    priority = m.counters[N_PRIORITY]
    insert_order(m, s, side, order_id, price, size, priority, venue, ts)
    return tell_order(m, s, side, K_ADD, order_id, price, price, size, priority, venue, ts, rows, n)


@kernel
def cancel_order(m: MarketState, s: Number, side: Number, ts: Number, rows: Int64, n: Number) -> Number:
    """A random resting order goes."""
    at = below(m.random, m.symbols[s, S_COUNT + side])
    order_id = m.orders[s, side, at, O_ID]
    price = m.orders[s, side, at, O_PRICE]
    venue = m.orders[s, side, at, O_VENUE]
    remove_order(m, s, side, at)
    return tell_order(m, s, side, K_DELETE, order_id, price, price, NONE, NONE, venue, ts, rows, n)


@kernel
def modify_order(m: MarketState, s: Number, side: Number, ts: Number, rows: Int64, n: Number) -> Number:
    """A random order shrinks in place, or grows or moves to the back of a queue."""
    at = below(m.random, m.symbols[s, S_COUNT + side])
    order_id = m.orders[s, side, at, O_ID]
    price = m.orders[s, side, at, O_PRICE]
    size = m.orders[s, side, at, O_SIZE]
    venue = m.orders[s, side, at, O_VENUE]
    what = below(m.random, 20)
    if what < 12 and size > 100:
        size -= 100
        m.orders[s, side, at, O_SIZE] = size
        m.orders[s, side, at, O_TS] = ts
        return tell_order(
            m, s, side, K_UPDATE, order_id, price, price, size, m.orders[s, side, at, O_PRIORITY], venue, ts, rows, n
        )
    remove_order(m, s, side, at)
    old_price = price
    if what < 17:
        size += 100
    else:
        price = new_price(m, s, side)
    m.counters[N_PRIORITY] += 1
    priority = m.counters[N_PRIORITY]
    insert_order(m, s, side, order_id, price, size, priority, venue, ts)
    return tell_order(m, s, side, K_UPDATE, order_id, price, old_price, size, priority, venue, ts, rows, n)


@kernel
def trade(
    m: MarketState, s: Number, ts: Number, rows: Int64, n: Number, quotes: Int64, k: Number
) -> tuple[Number, Number]:
    """An aggressive order consumes the best resting orders; one Level 2 change and one Level 1 line per fill."""
    buy = below(m.random, 2) == 0
    if m.orders[s, ASK_SIDE, 0, O_PRICE] < m.symbols[s, S_REFERENCE] - 2:
        buy = True
    elif m.orders[s, BID_SIDE, 0, O_PRICE] > m.symbols[s, S_REFERENCE] + 2:
        buy = False
    side = ASK_SIDE if buy else BID_SIDE
    left = new_size(m)
    fills = 0
    while left > 0 and fills < FILLS_MAX and m.symbols[s, S_COUNT + side] > SIDE_ORDERS_MIN:
        order_id = m.orders[s, side, 0, O_ID]
        price = m.orders[s, side, 0, O_PRICE]
        venue = m.orders[s, side, 0, O_VENUE]
        priority = m.orders[s, side, 0, O_PRIORITY]
        resting = m.orders[s, side, 0, O_SIZE]
        fill = min(left, resting)
        rest = resting - fill
        kind = K_UPDATE
        if rest > 0:
            m.orders[s, side, 0, O_SIZE] = rest
            m.orders[s, side, 0, O_TS] = ts
        else:
            remove_order(m, s, side, 0)
            kind = K_DELETE
        n = tell_order(m, s, side, kind, order_id, price, price, rest, priority, venue, ts, rows, n)
        contents = print_trade(m, s, price, fill, venue, buy, ts)
        m.symbols[s, L_CONTENTS] = contents | refresh_top(m, s, ts)
        quotes[k] = m.symbols[s, :L_COLUMNS]
        k += 1
        left -= fill
        fills += 1
    return n, k


@kernel
def step(m: MarketState, ts: Number, rows: Int64, n: Number, quotes: Int64, k: Number) -> tuple[Number, Number]:
    """One event of one symbol: an add, a cancel, a change or a trade."""
    symbols = len(m.symbols)
    bits = draw(m.random)
    s = np.int64((bits & np.uint64(0xFFFFFFFF)) * np.uint64(symbols) >> np.uint64(32))
    if np.int64(bits >> np.uint64(32)) >= m.symbols[s, S_THRESHOLD]:
        s = m.symbols[s, S_ALIAS]
    if m.symbols[s, S_HALTED] != 0:
        m.counters[N_HALTED] += 1
        return n, k
    m.counters[N_STEPS] += 1
    if below(m.random, 96) == 0:
        # the reference wanders, and comes back the more the further it went
        pull = (m.symbols[s, S_ANCHOR] - m.symbols[s, S_REFERENCE]) * 64 // max(1, m.symbols[s, S_ANCHOR] // 4)
        m.symbols[s, S_REFERENCE] = max(
            BAND_TICKS + 2, m.symbols[s, S_REFERENCE] + (1 if below(m.random, 128) < 64 + pull else -1)
        )
    what = below(m.random, 100)
    if what < 9:
        return trade(m, s, ts, rows, n, quotes, k)
    side = below(m.random, 2)
    count = m.symbols[s, S_COUNT + side]
    if what < 30 and count > SIDE_ORDERS_MIN:
        n = modify_order(m, s, side, ts, rows, n)
    elif count <= SIDE_ORDERS_MIN or (
        count < SIDE_ORDERS_MAX - 1 and count < SIDE_ORDERS_AIM - 12 + below(m.random, 25)
    ):
        n = add_order(m, s, side, ts, rows, n)
    else:
        n = cancel_order(m, s, side, ts, rows, n)
    changed = refresh_top(m, s, ts)
    if changed != 0:
        m.symbols[s, L_CONTENTS] = changed
        quotes[k] = m.symbols[s, :L_COLUMNS]
        k += 1
    return n, k


@kernel
def generate(
    m: MarketState, messages: Number, ts_first: Number, ts_step: float, ts_last: Number, rows: Int64, quotes: Int64
) -> tuple[Number, Number]:
    """Make steps until `messages` rows exist or the room is used; return the Level 2 and Level 1 row counts.

    The i-th message of the batch is dated ts_first + i * ts_step, at most ts_last (ns UTC). A step is never cut, so a batch can
    end a few rows above `messages`. A step of a halted symbol counts as one message: the others go on as fast as before.
    """
    n = NONE
    k = NONE
    idle = NONE
    while n + k + idle < messages and n + EVENT_ROWS_MAX <= len(rows) and k + EVENT_ROWS_MAX <= len(quotes):
        ts = min(ts_last, ts_first + np.int64((n + k + idle) * ts_step))
        before = m.counters[N_HALTED]
        n, k = step(m, ts, rows, n, quotes, k)
        idle += m.counters[N_HALTED] - before
    return n, k


@kernel
def seed_books(m: MarketState, ts: Number, scratch: Int64) -> None:
    """Fill every book before the market opens; `scratch` takes the rows of one side, which nobody sees."""
    for s in range(len(m.symbols)):
        for side in range(2):
            n = NONE
            for _ in range(SIDE_ORDERS_AIM - 6 + below(m.random, 13)):
                n = add_order(m, s, side, ts, scratch, n)
        m.symbols[s, L_SYMBOL] = s
        refresh_top(m, s, ts)


@kernel
def snapshot(m: MarketState, s: Number, rows: Int64) -> Number:
    """Rows that rebuild the book of a symbol (6, or 7 for price levels), best first; return their count."""
    n = NONE
    for side in range(2):
        if m.symbols[s, S_SHAPE] == SHAPE_VENUES:
            for venue in range(VENUE_COUNT):
                price = m.symbols[s, S_VENUE_PRICE + side * VENUE_COUNT + venue]
                if price > 0:
                    ts = m.symbols[s, L_BID_TS]
                    n = put_row(
                        rows,
                        n,
                        K_SUMMARY,
                        s,
                        0,
                        venue,
                        side,
                        price,
                        m.symbols[s, S_VENUE_SIZE + side * VENUE_COUNT + venue],
                        0,
                        0,
                        ts,
                    )
            continue
        last: Number = -1
        for i in range(m.symbols[s, S_COUNT + side]):
            price = m.orders[s, side, i, O_PRICE]
            if m.symbols[s, S_SHAPE] == SHAPE_ORDERS:
                n = put_row(
                    rows, n, K_SUMMARY, s, m.orders[s, side, i, O_ID], 0, side, price, m.orders[s, side, i, O_SIZE],
                    m.orders[s, side, i, O_PRIORITY], 0, m.orders[s, side, i, O_TS],
                )  # fmt: skip
            elif price != last:
                size, count = level_at(m, s, side, price)
                n = put_row(rows, n, K_LEVEL_SUMMARY, s, 0, 0, side, price, size, 0, count, m.orders[s, side, i, O_TS])
                last = price
    return n

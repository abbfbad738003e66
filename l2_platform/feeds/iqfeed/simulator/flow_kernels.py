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

BID_SIDE: Final = 0
ASK_SIDE: Final = 1

K_ADD, K_UPDATE, K_DELETE, K_SUMMARY = ord("3"), ord("4"), ord("5"), ord("6")
K_LEVEL_SUMMARY, K_LEVEL_UPDATE, K_LEVEL_DELETE = ord("7"), ord("8"), ord("9")

# Slots of `counters`.
N_ORDER, N_PRIORITY, N_STEPS = 0, 1, 2

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]
FIRST_ORDER_ID: Final = 640_000_000_000


class MarketState(NamedTuple):
    """Everything that a step reads and changes; S symbols, two sides (0 bid, 1 ask), SIDE_ORDERS_MAX orders."""

    order_id: Any
    """int64[S, 2, orders]: unique over all symbols."""
    price: Any
    """int32[S, 2, orders]: cents."""
    size: Any
    """int32[S, 2, orders]: shares."""
    priority: Any
    """int64[S, 2, orders]: lower is ahead at the same price."""
    venue: Any
    """uint8[S, 2, orders]: index into VENUES."""
    ts: Any
    """int64[S, 2, orders]: last change of the order, ns UTC."""
    count: Any
    """int32[S, 2]: orders on the side."""
    reference: Any
    """int32[S]: price that the flow is drawn around, cents."""
    anchor: Any
    """int32[S]: level that the reference returns to, cents."""
    quote: Any
    """int64[S, L_COLUMNS]: the Level 1 state of each symbol."""
    tick: Any
    """int64[S, VENUE_COUNT]: last tick id of the day."""
    venue_price: Any
    """int32[S, 2, VENUE_COUNT]: best price of the venue as last told, 0 = no row (venue shape only)."""
    venue_size: Any
    """int32[S, 2, VENUE_COUNT]."""
    shape: Any
    """uint8[S]."""
    threshold: Any
    """uint64[S]: of the alias table that gives symbols different activity."""
    alias: Any
    """int32[S]."""
    center: Any
    """int64[VENUE_COUNT]: market centre numbers."""
    random: Any
    """uint64[1]: state of the generator."""
    counters: Any
    """int64[3]: last order id, last priority, steps made."""


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
    n = m.count[s, side]
    at = 0
    if side == BID_SIDE:
        while at < n and m.price[s, side, at] >= price:
            at += 1
    else:
        while at < n and m.price[s, side, at] <= price:
            at += 1
    for i in range(n, at, -1):
        m.order_id[s, side, i] = m.order_id[s, side, i - 1]
        m.price[s, side, i] = m.price[s, side, i - 1]
        m.size[s, side, i] = m.size[s, side, i - 1]
        m.priority[s, side, i] = m.priority[s, side, i - 1]
        m.venue[s, side, i] = m.venue[s, side, i - 1]
        m.ts[s, side, i] = m.ts[s, side, i - 1]
    m.order_id[s, side, at] = order_id
    m.price[s, side, at] = price
    m.size[s, side, at] = size
    m.priority[s, side, at] = priority
    m.venue[s, side, at] = venue
    m.ts[s, side, at] = ts
    m.count[s, side] = n + 1


@kernel
def remove_order(m: MarketState, s: Number, side: Number, at: Number) -> None:
    """Take the order at a place out."""
    n = m.count[s, side] - 1
    for i in range(at, n):
        m.order_id[s, side, i] = m.order_id[s, side, i + 1]
        m.price[s, side, i] = m.price[s, side, i + 1]
        m.size[s, side, i] = m.size[s, side, i + 1]
        m.priority[s, side, i] = m.priority[s, side, i + 1]
        m.venue[s, side, i] = m.venue[s, side, i + 1]
        m.ts[s, side, i] = m.ts[s, side, i + 1]
    m.count[s, side] = n


@kernel
def new_price(m: MarketState, s: Number, side: Number) -> Number:
    """A price for a resting order, denser near the reference, never crossing or locking the book."""
    first = below(m.random, BAND_TICKS)
    second = below(m.random, BAND_TICKS)
    away = min(first, second)
    if side == BID_SIDE:
        price = np.int64(m.reference[s]) - 1 - away
        if m.count[s, ASK_SIDE] > 0:
            price = min(price, np.int64(m.price[s, ASK_SIDE, 0]) - 1)
        return max(price, 1)
    price = np.int64(m.reference[s]) + away
    if m.count[s, BID_SIDE] > 0:
        price = max(price, np.int64(m.price[s, BID_SIDE, 0]) + 1)
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
    for i in range(m.count[s, side]):
        here = m.price[s, side, i]
        if here == price:
            size += m.size[s, side, i]
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
    for i in range(m.count[s, side]):
        if price != 0 and m.price[s, side, i] != price:
            break
        if m.venue[s, side, i] == venue:
            price = np.int64(m.price[s, side, i])
            size += m.size[s, side, i]
    return price, size


@kernel
def tell_venue(m: MarketState, s: Number, side: Number, venue: Number, ts: Number, rows: Int64, n: Number) -> Number:
    """The row for a venue when its best changed: 4, or 5 when it has none left."""
    price, size = venue_best(m, s, side, venue)
    if price == m.venue_price[s, side, venue] and size == m.venue_size[s, side, venue]:
        return n
    m.venue_price[s, side, venue] = price
    m.venue_size[s, side, venue] = size
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
    shape = m.shape[s]
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
    q = m.quote[s]
    changed = 0
    for side in range(2):
        price = np.int64(m.price[s, side, 0])
        size = 0
        for i in range(m.count[s, side]):
            if m.price[s, side, i] != price:
                break
            size += m.size[s, side, i]
        at = L_BID if side == BID_SIDE else L_ASK
        if q[at] != price or q[at + 1] != size:
            q[at] = price
            q[at + 1] = size
            q[at + 2] = ts
            q[at + 3] = m.center[m.venue[s, side, 0]]
            changed |= IN_BID if side == BID_SIDE else IN_ASK
    return changed


@kernel
def print_trade(m: MarketState, s: Number, price: Number, size: Number, venue: Number, buy: bool, ts: Number) -> Number:
    """Write a trade into the Level 1 state; return its contents bits."""
    q = m.quote[s]
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
    m.tick[s, venue] += 1
    q[L_PRICE] = price
    q[L_SIZE] = size
    q[L_TS] = ts
    q[L_CENTER] = m.center[venue]
    q[L_CONDITION] = condition
    q[L_AGGRESSOR] = 1 if buy else 2
    q[L_TICK] = m.tick[s, venue]
    q[L_VOLUME] += size
    q[L_COUNT] += 1
    q[L_NOTIONAL] += price * size
    if contents & (IN_C | IN_E):
        q[L_EXT] = price
        q[L_EXT_SIZE] = size
        q[L_EXT_TS] = ts
        q[L_EXT_CENTER] = m.center[venue]
    if contents & IN_C:
        q[L_LAST] = price
        q[L_LAST_SIZE] = size
        q[L_LAST_TS] = ts
        q[L_LAST_CENTER] = m.center[venue]
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
    at = below(m.random, m.count[s, side])
    order_id = np.int64(m.order_id[s, side, at])
    price = np.int64(m.price[s, side, at])
    venue = np.int64(m.venue[s, side, at])
    remove_order(m, s, side, at)
    return tell_order(m, s, side, K_DELETE, order_id, price, price, 0, 0, venue, ts, rows, n)


@kernel
def modify_order(m: MarketState, s: Number, side: Number, ts: Number, rows: Int64, n: Number) -> Number:
    """A random order shrinks in place, or grows or moves to the back of a queue."""
    at = below(m.random, m.count[s, side])
    order_id = np.int64(m.order_id[s, side, at])
    price = np.int64(m.price[s, side, at])
    size = np.int64(m.size[s, side, at])
    venue = np.int64(m.venue[s, side, at])
    what = below(m.random, 20)
    if what < 12 and size > 100:
        size -= 100
        m.size[s, side, at] = size
        m.ts[s, side, at] = ts
        return tell_order(
            m, s, side, K_UPDATE, order_id, price, price, size, m.priority[s, side, at], venue, ts, rows, n
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
    if m.price[s, ASK_SIDE, 0] < m.reference[s] - 2:
        buy = True
    elif m.price[s, BID_SIDE, 0] > m.reference[s] + 2:
        buy = False
    side = ASK_SIDE if buy else BID_SIDE
    left = new_size(m)
    fills = 0
    while left > 0 and fills < FILLS_MAX and m.count[s, side] > SIDE_ORDERS_MIN:
        order_id = np.int64(m.order_id[s, side, 0])
        price = np.int64(m.price[s, side, 0])
        venue = np.int64(m.venue[s, side, 0])
        priority = np.int64(m.priority[s, side, 0])
        resting = np.int64(m.size[s, side, 0])
        fill = min(left, resting)
        rest = resting - fill
        kind = K_UPDATE
        if rest > 0:
            m.size[s, side, 0] = rest
            m.ts[s, side, 0] = ts
        else:
            remove_order(m, s, side, 0)
            kind = K_DELETE
        n = tell_order(m, s, side, kind, order_id, price, price, rest, priority, venue, ts, rows, n)
        contents = print_trade(m, s, price, fill, venue, buy, ts)
        m.quote[s, L_CONTENTS] = contents | refresh_top(m, s, ts)
        quotes[k] = m.quote[s]
        k += 1
        left -= fill
        fills += 1
    return n, k


@kernel
def step(m: MarketState, ts: Number, rows: Int64, n: Number, quotes: Int64, k: Number) -> tuple[Number, Number]:
    """One event of one symbol: an add, a cancel, a change or a trade."""
    symbols = len(m.reference)
    bits = draw(m.random)
    s = np.int64((bits & np.uint64(0xFFFFFFFF)) * np.uint64(symbols) >> np.uint64(32))
    if (bits >> np.uint64(32)) >= m.threshold[s]:
        s = np.int64(m.alias[s])
    m.counters[N_STEPS] += 1
    if below(m.random, 96) == 0:
        # the reference wanders, and comes back the more the further it went
        pull = (m.anchor[s] - m.reference[s]) * 64 // max(1, m.anchor[s] // 4)
        m.reference[s] = max(BAND_TICKS + 2, m.reference[s] + (1 if below(m.random, 128) < 64 + pull else -1))
    what = below(m.random, 100)
    if what < 9:
        return trade(m, s, ts, rows, n, quotes, k)
    side = below(m.random, 2)
    count = m.count[s, side]
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
        m.quote[s, L_CONTENTS] = changed
        quotes[k] = m.quote[s]
        k += 1
    return n, k


@kernel
def generate(
    m: MarketState, messages: Number, ts_first: Number, ts_step: float, ts_last: Number, rows: Int64, quotes: Int64
) -> tuple[Number, Number]:
    """Make steps until `messages` rows exist or the room is used; return the Level 2 and Level 1 row counts.

    The i-th message of the batch is dated ts_first + i * ts_step, at most ts_last (ns UTC). A step is never cut, so a batch can
    end a few rows above `messages`.
    """
    n = 0
    k = 0
    while n + k < messages and n + EVENT_ROWS_MAX <= len(rows) and k + EVENT_ROWS_MAX <= len(quotes):
        ts = min(ts_last, ts_first + np.int64((n + k) * ts_step))
        n, k = step(m, ts, rows, n, quotes, k)
    return n, k


@kernel
def seed_books(m: MarketState, ts: Number, scratch: Int64) -> None:
    """Fill every book before the market opens; `scratch` takes the rows of one side, which nobody sees."""
    for s in range(len(m.reference)):
        for side in range(2):
            n = 0
            for _ in range(SIDE_ORDERS_AIM - 6 + below(m.random, 13)):
                n = add_order(m, s, side, ts, scratch, n)
        m.quote[s, L_SYMBOL] = s
        refresh_top(m, s, ts)


@kernel
def snapshot(m: MarketState, s: Number, rows: Int64) -> Number:
    """Rows that rebuild the book of a symbol (6, or 7 for price levels), best first; return their count."""
    n = 0
    for side in range(2):
        if m.shape[s] == SHAPE_VENUES:
            for venue in range(VENUE_COUNT):
                price = np.int64(m.venue_price[s, side, venue])
                if price > 0:
                    ts = m.quote[s, L_BID_TS]
                    n = put_row(
                        rows, n, K_SUMMARY, s, 0, venue, side, price, np.int64(m.venue_size[s, side, venue]), 0, 0, ts
                    )
            continue
        last: Number = -1
        for i in range(m.count[s, side]):
            price = np.int64(m.price[s, side, i])
            if m.shape[s] == SHAPE_ORDERS:
                n = put_row(
                    rows, n, K_SUMMARY, s, m.order_id[s, side, i], 0, side, price, np.int64(m.size[s, side, i]),
                    m.priority[s, side, i], 0, m.ts[s, side, i],
                )  # fmt: skip
            elif price != last:
                size, count = level_at(m, s, side, price)
                n = put_row(rows, n, K_LEVEL_SUMMARY, s, 0, 0, side, price, size, 0, count, m.ts[s, side, i])
                last = price
    return n

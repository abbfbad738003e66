
"""The compiled part of the book engine: rows of a DepthBatch change books, changes of the top become snapshot rows.

State is a handful of int64 arrays (made and grown by `state.py`), handed around as pointers. Nothing here allocates: a row that finds
no room is not begun, the kernel returns NEED_ROOM, and goes on with the same row after the arrays have grown.
"""

from typing import Final

import numpy as np

from l2_platform.market.compiled import Number, inline_kernel, kernel
from l2_platform.market.events import ASK, NULL_PRICE, NULL_TS, DepthKind, Int32, Int64, Trust, UInt8, UInt32, UInt64
from l2_platform.market.words import pointer_of

DONE: Final = 0
NEED_ROOM: Final = 1

# A book: eight words.
BOOK_WORDS: Final = 8
B_SHAPE: Final = 0
B_TRUST: Final = 1
B_FRESH: Final = 2
"""1 until the first row after a start, a reset or a clear."""
B_LAST: Final = 3
"""Journal time of the last recorded change, or NULL_TS."""
B_CROSS: Final = 4
"""0 normal, 1 locked, 2 crossed."""
B_CLEARED: Final = 5
"""While suspect: bit 0 bid cleared, bit 1 ask cleared."""

# A side of a book (bid = 0, ask = 1): four words, both sides in one cache line.
SIDE_WORDS: Final = 4
S_AT: Final = 0
"""First level in the pool, -1 = no block yet."""
S_ROOM: Final = 1
S_COUNT: Final = 2
S_EPOCH: Final = 3
"""Orders of an older epoch do not exist any more."""

# A level: price, size, count; best last.
LEVEL_WORDS: Final = 3
FIRST_ROOM: Final = 16

# An order: id, owner (symbol + 1, side, epoch), price, size; owner 0 = empty slot.
ORDER_WORDS: Final = 4

# Totals and cursors of the engine.
G_WORDS: Final = 48
G_ORDERS: Final = 0
"""Slots in use, those of older epochs too."""
G_POOL: Final = 1
"""Levels handed out from the end of the pool."""
G_TIME: Final = 2
"""Running maximum of ts_event, or NULL_TS."""
G_ROW: Final = 3
G_RECORDS: Final = 4
G_PAIR: Final = 5
G_BUILDING: Final = 6
"""1 when a book may be waiting for the next clock."""
G_FREE: Final = 8
"""Free blocks by size class, one word each: pool index + 1 of the first one; its first word names the next."""

SHAPE_NONE: Final = 0
SHAPE_ORDERS: Final = 1
SHAPE_VENUES: Final = 2
SHAPE_LEVELS: Final = 3

COUNTERS: Final = ("unknown_deletes", "negative_sizes", "crossed", "locked", "mixed_shapes", "clears")
C_UNKNOWN: Final = 0
C_NEGATIVE: Final = 1
C_CROSSED: Final = 2
C_LOCKED: Final = 3
C_MIXED: Final = 4
C_CLEARS: Final = 5
COUNTER_WORDS: Final = 6

MODE_THINNED: Final = 0
MODE_EVERY_LINE: Final = 1
MODE_EVERY_CHANGE: Final = 2

_BUILDING: Final = int(Trust.BUILDING)
_GOOD: Final = int(Trust.GOOD)
_SUSPECT: Final = int(Trust.SUSPECT)
_ASK: Final = ASK
_CLEAR: Final = int(DepthKind.CLEAR)
_DISCONNECTED: Final = int(DepthKind.DISCONNECTED)
_CLOCK: Final = int(DepthKind.CLOCK)
_SIDE_BIT: Final = 1 << 32
_EPOCH_MASK: Final = (1 << 32) - 1


@inline_kernel
def home_slot(identity: Number, owner: Number, mask: Number) -> Number:
    """Where the search for an order begins: `owner` is symbol + 1."""
    mixed = (np.uint64(identity) + np.uint64(owner) * np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(31)
    return np.int64(mixed & np.uint64(mask))


@inline_kernel
def find_order(orders: Int64, mask: Number, identity: Number, owner: Number) -> tuple[Number, bool]:
    """Slot of an order, or the empty slot where it belongs, and which of the two."""
    slot = home_slot(identity, owner, mask)
    while True:
        at = slot * ORDER_WORDS
        if orders[at + 1] == 0:
            return slot, False
        if orders[at] == identity and orders[at + 1] >> 33 == owner:
            return slot, True
        slot = (slot + 1) & mask


@inline_kernel
def remove_order(orders: Int64, mask: Number, slot: Number) -> None:
    """Empty a slot and close the gap, so that no search stops too early."""
    hole = slot
    probe = slot
    while True:
        probe = (probe + 1) & mask
        at = probe * ORDER_WORDS
        if orders[at + 1] == 0:
            break
        home = home_slot(orders[at], orders[at + 1] >> 33, mask)
        # It may move into the hole unless its home lies behind the hole, cyclically.
        if ((probe - home) & mask) >= ((probe - hole) & mask):
            to = hole * ORDER_WORDS
            for word in range(ORDER_WORDS):
                orders[to + word] = orders[at + word]
            hole = probe
    orders[hole * ORDER_WORDS + 1] = 0


@inline_kernel
def find_level(levels: Int64, sides: Int64, s: Number, sign: Number, price: Number) -> tuple[Number, bool]:
    """Index of a price, or where it belongs. `s` is the first word of the side, `sign` is 1 for bids, -1 for asks; best is last."""
    base = sides[s + S_AT] * LEVEL_WORDS
    high = sides[s + S_COUNT]
    key = price * sign
    # Most messages are about the best few levels.
    stop = max(high - 12, 0)
    while high > stop:
        held = levels[base + (high - 1) * LEVEL_WORDS] * sign
        if held <= key:
            if held == key:
                return high - 1, True
            return high, False
        high -= 1
    low = np.int64(0)
    while low < high:
        middle = (low + high) >> 1
        held = levels[base + middle * LEVEL_WORDS] * sign
        if held < key:
            low = middle + 1
        elif held > key:
            high = middle
        else:
            return middle, True
    return low, False


@inline_kernel
def size_class(room: Number) -> Number:
    """0 for FIRST_ROOM levels, one more for each doubling."""
    number = np.int64(0)
    while room > FIRST_ROOM:
        room >>= 1
        number += 1
    return number


@inline_kernel
def needs_room(sides: Int64, s: Number, totals: Int64, pool_levels: Number) -> Number:
    """Would one more level on this side find no block?"""
    if sides[s + S_COUNT] < sides[s + S_ROOM]:
        return False
    room = sides[s + S_ROOM] * 2 if sides[s + S_ROOM] > 0 else np.int64(FIRST_ROOM)
    # Twice: a line of two sides may need two blocks.
    return totals[G_POOL] + 2 * room > pool_levels


@inline_kernel
def grow_side(levels: Int64, sides: Int64, s: Number, totals: Int64) -> None:
    """Move a full side into a block of twice the size; `needs_room` said that there is one."""
    old_room = sides[s + S_ROOM]
    room = old_room * 2 if old_room > 0 else np.int64(FIRST_ROOM)
    free = G_FREE + size_class(room)
    if totals[free] > 0:
        block = totals[free] - 1
        totals[free] = levels[block * LEVEL_WORDS]
    else:
        block = totals[G_POOL]
        totals[G_POOL] = block + room
    if old_room > 0:
        old = sides[s + S_AT]
        for word in range(sides[s + S_COUNT] * LEVEL_WORDS):
            levels[block * LEVEL_WORDS + word] = levels[old * LEVEL_WORDS + word]
        free = G_FREE + size_class(old_room)
        levels[old * LEVEL_WORDS] = totals[free]
        totals[free] = old + 1
    sides[s + S_AT] = block
    sides[s + S_ROOM] = room


@inline_kernel
def insert_level(
    levels: Int64, sides: Int64, s: Number, totals: Int64, index: Number, price: Number, size: Number, count: Number
) -> None:
    """A new level at `index`; the better ones move up."""
    if sides[s + S_COUNT] == sides[s + S_ROOM]:
        grow_side(levels, sides, s, totals)
    base = sides[s + S_AT] * LEVEL_WORDS
    at = base + index * LEVEL_WORDS
    last = base + sides[s + S_COUNT] * LEVEL_WORDS - 1
    while last >= at:
        levels[last + LEVEL_WORDS] = levels[last]
        last -= 1
    levels[at] = price
    levels[at + 1] = size
    levels[at + 2] = count
    sides[s + S_COUNT] += 1


@inline_kernel
def remove_level(levels: Int64, sides: Int64, s: Number, index: Number) -> None:
    """The level at `index` goes; the better ones move down."""
    base = sides[s + S_AT] * LEVEL_WORDS
    stop = base + (sides[s + S_COUNT] - 1) * LEVEL_WORDS
    at = base + index * LEVEL_WORDS
    while at < stop:
        levels[at] = levels[at + LEVEL_WORDS]
        at += 1
    sides[s + S_COUNT] -= 1


@inline_kernel
def change_level(
    levels: Int64, sides: Int64, s: Number, totals: Int64, sign: Number, price: Number, size: Number, count: Number, top: Number
) -> Number:
    """Add `size` and `count` (either may be negative) at a price; a level without orders goes. Did the best `top` change?"""
    index, found = find_level(levels, sides, s, sign, price)
    if found:
        rank = sides[s + S_COUNT] - 1 - index
        at = (sides[s + S_AT] + index) * LEVEL_WORDS
        levels[at + 1] += size
        levels[at + 2] += count
        if levels[at + 2] <= 0:
            remove_level(levels, sides, s, index)
        return rank < top
    insert_level(levels, sides, s, totals, index, price, size, count)
    return sides[s + S_COUNT] - 1 - index < top


@inline_kernel
def set_level(
    levels: Int64, sides: Int64, s: Number, totals: Int64, sign: Number, price: Number, size: Number, count: Number, top: Number
) -> tuple[Number, bool]:
    """Replace size and count at a price (size 0 removes). Did the best `top` change, and was the price there?"""
    index, found = find_level(levels, sides, s, sign, price)
    if not found:
        if size == 0:
            return False, False
        insert_level(levels, sides, s, totals, index, price, size, count)
        return sides[s + S_COUNT] - 1 - index < top, False
    rank = sides[s + S_COUNT] - 1 - index
    at = (sides[s + S_AT] + index) * LEVEL_WORDS
    if size == 0:
        remove_level(levels, sides, s, index)
        return rank < top, True
    differs = levels[at + 1] != size or levels[at + 2] != count
    levels[at + 1] = size
    levels[at + 2] = count
    return differs and rank < top, True


@inline_kernel
def place_order(
    orders: Int64, mask: Number, levels: Int64, sides: Int64, totals: Int64, identity: Number, symbol: Number,
    side: Number, price: Number, size: Number, top: Number,
) -> tuple[Number, Number]:  # fmt: skip
    """Put, move or (size 0) remove an order or a venue's row. Did the best `top` of either side change, and was it there?"""
    slot, found = find_order(orders, mask, identity, symbol + 1)
    at = slot * ORDER_WORDS
    s = (2 * symbol + side) * SIDE_WORDS
    sign = 1 - 2 * side
    changed = False
    if found:
        old_side = (orders[at + 1] >> 32) & 1
        old = (2 * symbol + old_side) * SIDE_WORDS
        if (orders[at + 1] & _EPOCH_MASK) == sides[old + S_EPOCH]:
            old_price = orders[at + 2]
            old_size = orders[at + 3]
            if size == 0:
                changed = change_level(levels, sides, old, totals, 1 - 2 * old_side, old_price, -old_size, -1, top)
                remove_order(orders, mask, slot)
                totals[G_ORDERS] -= 1
                return changed, True
            if old_side == side and old_price == price:
                if size != old_size:
                    changed = change_level(levels, sides, s, totals, sign, price, size - old_size, 0, top)
                    orders[at + 3] = size
                return changed, True
            left = change_level(levels, sides, old, totals, 1 - 2 * old_side, old_price, -old_size, -1, top)
            changed = change_level(levels, sides, s, totals, sign, price, size, 1, top) or left
            orders[at + 1] = ((symbol + 1) << 33) | (side << 32) | sides[s + S_EPOCH]
            orders[at + 2] = price
            orders[at + 3] = size
            return changed, True
    if size == 0:
        return False, False
    if not found:
        totals[G_ORDERS] += 1
    orders[at] = identity
    orders[at + 1] = ((symbol + 1) << 33) | (side << 32) | sides[s + S_EPOCH]
    orders[at + 2] = price
    orders[at + 3] = size
    return change_level(levels, sides, s, totals, sign, price, size, 1, top), False


@inline_kernel
def clear_side(sides: Int64, s: Number) -> Number:
    """Forget one side, whatever its size, in constant time. Was there anything?"""
    held = sides[s + S_COUNT] > 0
    sides[s + S_COUNT] = 0
    sides[s + S_EPOCH] = (sides[s + S_EPOCH] + 1) & _EPOCH_MASK
    return held


@inline_kernel
def row_shape(kind: Number, order_id: Number, mmid: Number) -> Number:
    """Which shape of depth a row belongs to."""
    if kind >= 55 and kind <= 57:
        return SHAPE_LEVELS
    if kind == 90 or kind == 50:
        return SHAPE_VENUES
    if order_id != np.uint64(0):
        return SHAPE_ORDERS
    if kind == 48 and mmid == np.uint32(0):
        return SHAPE_LEVELS
    return SHAPE_VENUES


@inline_kernel
def watch_cross(books: Int64, b: Number, levels: Int64, sides: Int64, s: Number, counters: Int64, c: Number) -> None:
    """Count a book that becomes locked (best bid = best ask) or crossed (above it)."""
    state = 0
    ask = s + SIDE_WORDS
    if sides[s + S_COUNT] > 0 and sides[ask + S_COUNT] > 0:
        best_bid = levels[(sides[s + S_AT] + sides[s + S_COUNT] - 1) * LEVEL_WORDS]
        best_ask = levels[(sides[ask + S_AT] + sides[ask + S_COUNT] - 1) * LEVEL_WORDS]
        if best_bid > best_ask:
            state = 2
        elif best_bid == best_ask:
            state = 1
    if state != books[b + B_CROSS]:
        books[b + B_CROSS] = state
        if state == 2:
            counters[c + C_CROSSED] += 1
        elif state == 1:
            counters[c + C_LOCKED] += 1


@inline_kernel
def copy_top(
    levels: Int64, sides: Int64, s: Number, at: Number, top: Number, px: Int64, sz: Int64, ct: Int32
) -> None:
    """Best `top` levels of a side into flat arrays from `at` on, best first; NULL_PRICE and 0 where there is none."""
    held = min(sides[s + S_COUNT], top)
    place = (sides[s + S_AT] + sides[s + S_COUNT] - 1) * LEVEL_WORDS
    for rank in range(held):
        px[at + rank] = levels[place]
        sz[at + rank] = levels[place + 1]
        ct[at + rank] = levels[place + 2]
        place -= LEVEL_WORDS
    for rank in range(held, top):
        px[at + rank] = NULL_PRICE
        sz[at + rank] = 0
        ct[at + rank] = 0


@kernel
def apply_rows(
    kind: UInt8, symbol: Int32, side: UInt8, order_id: UInt64, mmid: UInt32, price: Int64, size: Int64, count: Int32,
    ts_event: Int64, ts_recv: Int64, pair_price: Int64, pair_size: Int64, trust: UInt8,
    books_array: Int64, sides_array: Int64, levels_array: Int64, orders_array: Int64, counters_array: Int64,
    totals_array: Int64,
    use_event_time: bool, interval_ns: int, top: int, mode: int, chosen: int,
    record_row: Int64, record_trust: UInt8, bid_px: Int64, bid_sz: Int64, bid_ct: Int32, ask_px: Int64, ask_sz: Int64, ask_ct: Int32,
) -> int:  # fmt: skip
    """Apply the rows from `totals[G_ROW]` on; snapshot rows go to the record columns (flat, `top` a row).

    DONE at the end; NEED_ROOM before a row that may not find room for an order, a level or a record.
    """
    books = pointer_of(books_array)
    sides = pointer_of(sides_array)
    levels = pointer_of(levels_array)
    orders = pointer_of(orders_array)
    counters = pointer_of(counters_array)
    totals = pointer_of(totals_array)
    flat_bid_px = pointer_of(bid_px)
    flat_bid_sz = pointer_of(bid_sz)
    flat_bid_ct = pointer_of(bid_ct)
    flat_ask_px = pointer_of(ask_px)
    flat_ask_sz = pointer_of(ask_sz)
    flat_ask_ct = pointer_of(ask_ct)
    slots = np.int64(len(orders_array) // ORDER_WORDS)
    mask = slots - 1
    orders_max = slots // 8 * 5
    pool_levels = np.int64(len(levels_array) // LEVEL_WORDS)
    books_held = len(books_array) // BOOK_WORDS
    for row in range(totals[G_ROW], len(kind)):
        k = np.int64(kind[row])
        name: Number = np.int64(symbol[row])
        changed: Number = False
        r_trust: Number = np.int64(_BUILDING)
        if totals[G_RECORDS] >= len(record_row):
            totals[G_ROW] = row
            return NEED_ROOM
        if use_event_time and ts_event[row] > totals[G_TIME]:
            totals[G_TIME] = ts_event[row]
        is_row = (k >= 50 and k <= 57) or k == 48 or k == 90
        if is_row and name >= 0:
            b = name * BOOK_WORDS
            s = 2 * name * SIDE_WORDS
            c = name * COUNTER_WORDS
            if (
                totals[G_ORDERS] + 2 > orders_max
                or needs_room(sides, s, totals, pool_levels)
                or needs_room(sides, s + SIDE_WORDS, totals, pool_levels)
            ):
                totals[G_ROW] = row
                return NEED_ROOM
            pair = totals[G_PAIR]
            if k == 90 or k == 50:
                totals[G_PAIR] = pair + 1
            shape = row_shape(k, order_id[row], mmid[row])
            is_delete = k == 53 or k == 57
            if books[b + B_SHAPE] == SHAPE_NONE and not is_delete:
                books[b + B_SHAPE] = shape
            if books[b + B_SHAPE] != shape and books[b + B_SHAPE] != SHAPE_NONE:
                counters[c + C_MIXED] += 1
                r_trust = books[b + B_TRUST]
            else:
                is_snapshot = k == 54 or k == 55 or k == 90
                if is_snapshot:
                    if books[b + B_TRUST] == _SUSPECT:
                        # A snapshot after a gap is the whole book: what was there before may be gone.
                        bid_held = clear_side(sides, s)
                        changed = clear_side(sides, s + SIDE_WORDS) or bid_held
                        books[b + B_TRUST] = _BUILDING
                        books[b + B_FRESH] = 0
                        totals[G_BUILDING] = 1
                    elif books[b + B_FRESH] == 1:
                        books[b + B_TRUST] = _BUILDING
                        books[b + B_FRESH] = 0
                        totals[G_BUILDING] = 1
                elif books[b + B_TRUST] == _BUILDING:
                    books[b + B_TRUST] = _GOOD
                    books[b + B_FRESH] = 0
                which = np.int64(1) if side[row] == _ASK else np.int64(0)
                was_there = False
                amount: Number = size[row]
                if amount < 0:
                    counters[c + C_NEGATIVE] += 1
                    amount = np.int64(0)
                if shape == SHAPE_LEVELS:
                    if is_delete:
                        amount = np.int64(0)
                    moved, was_there = set_level(
                        levels, sides, s + which * SIDE_WORDS, totals, 1 - 2 * which, price[row], amount,
                        np.int64(max(count[row], 0)), top,
                    )  # fmt: skip
                    changed = moved or changed
                elif k == 90 or k == 50:
                    venue = np.int64(mmid[row])
                    if price[row] == NULL_PRICE:
                        amount = np.int64(0)
                    moved, was_there = place_order(
                        orders, mask, levels, sides, totals, venue, name, np.int64(0), price[row], amount, top
                    )
                    changed = moved or changed
                    amount = pair_size[pair]
                    if amount < 0:
                        counters[c + C_NEGATIVE] += 1
                        amount = np.int64(0)
                    if pair_price[pair] == NULL_PRICE:
                        amount = np.int64(0)
                    moved, was_there = place_order(
                        orders, mask, levels, sides, totals, venue | _SIDE_BIT, name, np.int64(1), pair_price[pair],
                        amount, top,
                    )  # fmt: skip
                    changed = moved or changed
                else:
                    identity = np.int64(order_id[row])
                    if shape == SHAPE_VENUES:
                        identity = np.int64(mmid[row]) | (which << 32)
                    if is_delete:
                        amount = np.int64(0)
                    moved, was_there = place_order(
                        orders, mask, levels, sides, totals, identity, name, which, price[row], amount, top
                    )
                    changed = moved or changed
                if is_delete and not was_there:
                    counters[c + C_UNKNOWN] += 1
                if changed:
                    watch_cross(books, b, levels, sides, s, counters, c)
                r_trust = books[b + B_TRUST]
        elif k == _CLEAR and name >= 0:
            b = name * BOOK_WORDS
            which = np.int64(1) if side[row] == _ASK else np.int64(0)
            s = 2 * name * SIDE_WORDS
            changed = clear_side(sides, s + which * SIDE_WORDS)
            counters[name * COUNTER_WORDS + C_CLEARS] += 1
            if books[b + B_TRUST] == _SUSPECT:
                books[b + B_CLEARED] |= 1 << which
                if books[b + B_CLEARED] == 3:
                    books[b + B_TRUST] = _BUILDING
            else:
                books[b + B_TRUST] = _BUILDING
            books[b + B_FRESH] = 1
            if books[b + B_TRUST] == _BUILDING:
                books[b + B_CLEARED] = 0
            books[b + B_CROSS] = 0
            r_trust = books[b + B_TRUST]
        elif k == _CLOCK:
            if totals[G_BUILDING] == 1:
                totals[G_BUILDING] = 0
                for each in range(0, books_held * BOOK_WORDS, BOOK_WORDS):
                    if books[each + B_TRUST] == _BUILDING and books[each + B_FRESH] == 0:
                        books[each + B_TRUST] = _GOOD
        elif k == _DISCONNECTED:
            for each in range(0, books_held * BOOK_WORDS, BOOK_WORDS):
                if books[each + B_SHAPE] != SHAPE_NONE:
                    books[each + B_TRUST] = _SUSPECT
                    books[each + B_CLEARED] = 0
            r_trust = np.int64(_SUSPECT)
        elif name >= 0:
            r_trust = books[name * BOOK_WORDS + B_TRUST]
        trust[row] = r_trust
        shown: Number = name
        if mode == MODE_THINNED:
            if changed:
                now: Number = totals[G_TIME] if use_event_time else ts_recv[row]
                last = books[name * BOOK_WORDS + B_LAST]
                # A journal without any time so far is at time zero.
                if now == NULL_TS:
                    now = 0
                changed = interval_ns == 0 or last == NULL_TS or now >= last + interval_ns
                if changed:
                    books[name * BOOK_WORDS + B_LAST] = now
        elif mode == MODE_EVERY_LINE:
            changed = True
            shown = np.int64(chosen)
        else:
            changed = changed and name == chosen
        if changed:
            record = totals[G_RECORDS]
            totals[G_RECORDS] = record + 1
            record_row[record] = row
            record_trust[record] = books[shown * BOOK_WORDS + B_TRUST]
            s = 2 * shown * SIDE_WORDS
            copy_top(levels, sides, s, record * top, top, flat_bid_px, flat_bid_sz, flat_bid_ct)
            copy_top(levels, sides, s + SIDE_WORDS, record * top, top, flat_ask_px, flat_ask_sz, flat_ask_ct)
    totals[G_ROW] = len(kind)
    return DONE


@kernel
def rehash(old: Int64, new: Int64, sides: Int64) -> int:
    """Move the living orders of `old` into the empty table `new`; their number."""
    from_table = pointer_of(old)
    to_table = pointer_of(new)
    mask = np.int64(len(new) // ORDER_WORDS - 1)
    held = 0
    for at in range(0, len(old), ORDER_WORDS):
        owner = from_table[at + 1]
        if owner == 0:
            continue
        s = (2 * ((owner >> 33) - 1) + ((owner >> 32) & 1)) * SIDE_WORDS
        if (owner & _EPOCH_MASK) != sides[s + S_EPOCH]:
            continue
        slot, _ = find_order(to_table, mask, from_table[at], owner >> 33)
        for word in range(ORDER_WORDS):
            to_table[slot * ORDER_WORDS + word] = from_table[at + word]
        held += 1
    return held


@kernel
def copy_orders(orders: Int64, sides: Int64, out: Int64) -> int:
    """Copy the living orders, epochs left out, as they lie in the table; their number."""
    table = pointer_of(orders)
    held = 0
    for at in range(0, len(orders), ORDER_WORDS):
        owner = table[at + 1]
        if owner == 0:
            continue
        s = (2 * ((owner >> 33) - 1) + ((owner >> 32) & 1)) * SIDE_WORDS
        if (owner & _EPOCH_MASK) != sides[s + S_EPOCH]:
            continue
        to = held * ORDER_WORDS
        out[to] = table[at]
        out[to + 1] = owner & ~_EPOCH_MASK
        out[to + 2] = table[at + 2]
        out[to + 3] = table[at + 3]
        held += 1
    return held


@kernel
def copy_levels(levels: Int64, sides: Int64, count: int, out: Int64) -> None:
    """Copy the levels of the first `count` sides, one side after the other, best first."""
    to = 0
    for s in range(0, count * SIDE_WORDS, SIDE_WORDS):
        first = sides[s + S_AT]
        for level in range(first + sides[s + S_COUNT] - 1, first - 1, -1):
            for word in range(LEVEL_WORDS):
                out[to + word] = levels[level * LEVEL_WORDS + word]
            to += LEVEL_WORDS

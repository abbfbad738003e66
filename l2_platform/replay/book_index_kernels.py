"""The compiled part of the book index: rows of one symbol to a few bytes each, and back.

A row names its order (or venue) by how many others of the symbol came after it, so no id is stored; prices and sizes are differences
to what the same order or level had last. Decoded rows carry small numbers in place of the ids: books need to know which rows mean
the same order, not what it is called. What does not belong here: files, and what rows do to books.
"""

from typing import Final

import numpy as np

from l2_platform.market.compiled import Number, inline_kernel, kernel
from l2_platform.market.events import NULL_PRICE, Int32, Int64, UInt8, UInt32, UInt64

KINDS: Final = np.array([ord(letter) for letter in "345607892ZK"], np.uint8)
"""Message letters that change a book; a row's code holds the index."""
SIDE_BIT: Final = 16
ORDER_BIT: Final = 32
"""The key is an order id, not a venue."""
NO_PRICE_BIT: Final = 64
NO_PAIR_PRICE_BIT: Final = 128
_KIND_BITS: Final = 15
_DELETE: Final = 2
_LEVEL_SET: Final = 5
_LEVEL_DELETE: Final = 7
_PAIR: Final = 8
_CLEAR: Final = 10
"""Indexes in KINDS: 0, 1, 3, 4 have key, price, size; 2 a key; 5, 6 price, size, count; 7 a price; 8, 9 key and two sides; 10 nothing."""
STREAMS: Final = 4
"""Streams of a symbol beside its codes: references, prices, sizes, counts."""
VARINT_BYTES_MAX: Final = 10
_LOT: Final = 100


@inline_kernel
def put(out: UInt8, at: Number, value: Number) -> Number:
    """Write an unsigned number, seven bits a byte; where the next one goes."""
    rest = np.uint64(value)
    while rest >= np.uint64(128):
        out[at] = np.uint8((rest & np.uint64(127)) | np.uint64(128))
        rest >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(rest)
    return at + 1


@inline_kernel
def take(data: UInt8, at: Number) -> tuple[Number, Number]:
    """(number, where the next one begins); a number that the data cut off ends with them."""
    value = np.uint64(0)
    shift = np.uint64(0)
    while at < len(data):
        byte = np.uint64(data[at])
        at += 1
        value |= (byte & np.uint64(127)) << shift
        shift += np.uint64(7)
        if byte < np.uint64(128) or shift > np.uint64(63):
            break
    return value, at


@inline_kernel
def folded(value: Number) -> Number:
    """0, -1, 1, -2 … as 0, 1, 2, 3 …"""
    number = np.int64(value)
    return np.uint64((number << np.int64(1)) ^ (number >> np.int64(63)))


@inline_kernel
def unfolded(value: Number) -> Number:
    """Undo `folded`."""
    number = np.uint64(value)
    return np.int64(number >> np.uint64(1)) ^ -np.int64(number & np.uint64(1))


@inline_kernel
def size_code(difference: Number) -> Number:
    """Round lots are short."""
    number = np.int64(difference)
    if number % _LOT == 0:
        return folded(number // _LOT) << np.uint64(1)
    return (folded(number) << np.uint64(1)) | np.uint64(1)


@inline_kernel
def size_of(code: Number) -> Number:
    """Undo `size_code`."""
    number = np.uint64(code)
    if number & np.uint64(1):
        return unfolded(number >> np.uint64(1))
    return unfolded(number >> np.uint64(1)) * np.int64(_LOT)


@inline_kernel
def slot_of(key: Number, keys: UInt64, slots: Int32, held: Number) -> tuple[Number, Number]:
    """(slot of the key or -1, its place in the table)."""
    mask = np.uint64(len(keys) - 1)
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    place = np.int64(mixed & mask)
    while slots[place] >= 0 and slots[place] < held:
        if keys[place] == np.uint64(key):
            return np.int64(slots[place]), place
        place = (place + 1) & np.int64(mask)
    return np.int64(-1), place


@kernel
def price_unit(price: Int64, pair_price: Int64) -> Number:
    """Greatest number that divides all prices; 1 when there is none."""
    unit = np.int64(0)
    for each in range(len(price) + len(pair_price)):
        value = price[each] if each < len(price) else pair_price[each - len(price)]
        if value == NULL_PRICE:
            continue
        other = abs(value)
        if unit != 0 and other % unit == 0:
            continue
        while other != 0:
            unit, other = other, unit % other
    return max(unit, np.int64(1))


@kernel
def encode_rows(
    code: UInt8, key: UInt64, price: Int64, size: Int64, count: Int32, pair_price: Int64, pair_size: Int64, unit: int,
    keys: UInt64, slots: Int32, last: Int64, refs: UInt8, prices: UInt8, sizes: UInt8, counts: UInt8, ends: Int64,
) -> None:  # fmt: skip
    """Fill the four streams with the rows of a symbol; `ends` tells how long each is.

    `keys` and `slots` (all -1) have twice as many places as rows at least, a power of two; `last` has eight words a row: price, size,
    count and 1 once set, for bid and ask.
    """
    held = np.int64(0)
    pairs = np.int64(0)
    before = np.zeros(2, np.int64)
    at = np.zeros(STREAMS, np.int64)
    for row in range(len(code)):
        kind = np.int64(code[row] & np.uint8(_KIND_BITS))
        side = np.int64(1) if code[row] & np.uint8(SIDE_BIT) else np.int64(0)
        is_level = kind >= _LEVEL_SET and kind <= _LEVEL_DELETE
        if kind == _CLEAR:
            continue
        slot = np.int64(-1)
        if not is_level:
            if key[row] == np.uint64(0):
                at[0] = put(refs, at[0], np.uint64(0))
            else:
                slot, place = slot_of(key[row], keys, slots, held)
                if slot < 0:
                    at[0] = put(refs, at[0], np.uint64(1))
                    slot = held
                    keys[place] = key[row]
                    slots[place] = slot
                    last[8 * slot + 3] = 0
                    last[8 * slot + 7] = 0
                    held += 1
                else:
                    at[0] = put(refs, at[0], np.uint64(held - slot + 1))
            if kind == _DELETE:
                continue
        for half in range(2 if kind == _PAIR or kind == _PAIR + 1 else 1):
            which = side + half
            value = price[row] if half == 0 else pair_price[pairs]
            amount = size[row] if half == 0 else pair_size[pairs]
            memory = 8 * slot + 4 * which
            if value != NULL_PRICE:
                old = before[which]
                if slot >= 0 and last[memory + 3] == 1:
                    old = last[memory]
                at[1] = put(prices, at[1], folded(value // unit - old // unit))
                before[which] = value
            if is_level:
                name = np.uint64(value) * np.uint64(2) + np.uint64(which)
                slot, place = slot_of(name, keys, slots, held)
                if slot < 0:
                    slot = held
                    keys[place] = name
                    slots[place] = slot
                    last[8 * slot + 3] = 0
                    last[8 * slot + 7] = 0
                    held += 1
                memory = 8 * slot + 4 * which
            expected = np.int64(0)
            expected_count = np.int64(0)
            if slot >= 0 and last[memory + 3] == 1:
                expected = last[memory + 1]
                expected_count = last[memory + 2]
            if kind == _LEVEL_DELETE:
                amount = np.int64(0)
            else:
                at[2] = put(sizes, at[2], size_code(amount - expected))
            if kind == _LEVEL_SET or kind == _LEVEL_SET + 1:
                at[3] = put(counts, at[3], folded(np.int64(count[row]) - expected_count))
            if slot >= 0:
                if value != NULL_PRICE:
                    last[memory] = value
                elif last[memory + 3] == 0:
                    last[memory] = before[which]
                last[memory + 1] = amount
                last[memory + 2] = np.int64(count[row]) if is_level and kind != _LEVEL_DELETE else np.int64(0)
                last[memory + 3] = 1
        if kind == _PAIR or kind == _PAIR + 1:
            pairs += 1
    for stream in range(STREAMS):
        ends[stream] = at[stream]


@kernel
def decode_rows(
    code: UInt8, refs: UInt8, prices: UInt8, sizes: UInt8, counts: UInt8, unit: int, kinds: UInt8, letters: UInt8,
    keys: UInt64, slots: Int32, last: Int64, ask: int, bid: int,
    side: UInt8, order_id: UInt64, mmid: UInt32, price: Int64, size: Int64, count: Int32, pair_price: Int64, pair_size: Int64,
) -> Number:  # fmt: skip
    """Undo `encode_rows`: columns of a depth batch, with small numbers for order ids and venues; how many rows have two sides.

    -1 when the streams cannot be of these codes. `letters` is filled with the message letters `kinds`.
    """
    held = np.int64(0)
    pairs = np.int64(0)
    before = np.zeros(2, np.int64)
    at = np.zeros(STREAMS, np.int64)
    for row in range(len(code)):
        kind = np.int64(code[row] & np.uint8(_KIND_BITS))
        if kind > _CLEAR:
            return -1
        which = np.int64(1) if code[row] & np.uint8(SIDE_BIT) else np.int64(0)
        is_pair = kind == _PAIR or kind == _PAIR + 1
        if is_pair and (which == 1 or pairs >= len(pair_price)):
            return -1
        letters[row] = kinds[kind]
        side[row] = ask if which == 1 else bid
        order_id[row] = 0
        mmid[row] = 0
        price[row] = NULL_PRICE
        size[row] = 0
        count[row] = 0
        if kind == _CLEAR:
            continue
        is_level = kind >= _LEVEL_SET and kind <= _LEVEL_DELETE
        slot = np.int64(-1)
        if not is_level:
            reference, at[0] = take(refs, at[0])
            if reference == np.uint64(1):
                slot = held
                last[8 * slot + 3] = 0
                last[8 * slot + 7] = 0
                held += 1
            elif reference > np.uint64(1):
                if reference > np.uint64(held + 1):
                    return -1
                slot = held + 1 - np.int64(reference)
            if slot >= 0:
                if code[row] & np.uint8(ORDER_BIT):
                    order_id[row] = np.uint64(slot + 1)
                else:
                    mmid[row] = np.uint32(slot + 1)
            if kind == _DELETE:
                continue
        for half in range(2 if is_pair else 1):
            each = which + half
            memory = 8 * slot + 4 * each
            value = np.int64(NULL_PRICE)
            if not (code[row] & np.uint8(NO_PAIR_PRICE_BIT if half == 1 else NO_PRICE_BIT)):
                old = before[each]
                if slot >= 0 and last[memory + 3] == 1:
                    old = last[memory]
                difference, at[1] = take(prices, at[1])
                value = (old // unit + unfolded(difference)) * unit
                before[each] = value
            if is_level:
                name = np.uint64(value) * np.uint64(2) + np.uint64(each)
                slot, place = slot_of(name, keys, slots, held)
                if slot < 0:
                    slot = held
                    keys[place] = name
                    slots[place] = slot
                    last[8 * slot + 3] = 0
                    last[8 * slot + 7] = 0
                    held += 1
                memory = 8 * slot + 4 * each
            expected = np.int64(0)
            expected_count = np.int64(0)
            if slot >= 0 and last[memory + 3] == 1:
                expected = last[memory + 1]
                expected_count = last[memory + 2]
            amount = np.int64(0)
            orders = np.int64(0)
            if kind != _LEVEL_DELETE:
                change, at[2] = take(sizes, at[2])
                amount = expected + size_of(change)
            if kind == _LEVEL_SET or kind == _LEVEL_SET + 1:
                change, at[3] = take(counts, at[3])
                orders = expected_count + unfolded(change)
            if slot >= 0:
                if value != NULL_PRICE:
                    last[memory] = value
                elif last[memory + 3] == 0:
                    last[memory] = before[each]
                last[memory + 1] = amount
                last[memory + 2] = orders
                last[memory + 3] = 1
            if half == 1:
                pair_price[pairs] = value
                pair_size[pairs] = amount
            else:
                price[row] = value
                size[row] = amount
                count[row] = np.int32(orders)
        if is_pair:
            pairs += 1
    for stream, data_bytes in ((0, len(refs)), (1, len(prices)), (2, len(sizes)), (3, len(counts))):
        if at[stream] != data_bytes:
            return -1
    return pairs


@kernel
def put_all(values: Int64, out: UInt8) -> Number:
    """Write unsigned numbers one after the other; how many bytes."""
    at = np.int64(0)
    for value in values:
        at = put(out, at, np.uint64(value))
    return at


@kernel
def take_all(data: UInt8, out: Int64) -> Number:
    """Read as many numbers as `out` holds; how many bytes they were."""
    at = np.int64(0)
    for each in range(len(out)):
        value, at = take(data, at)
        out[each] = np.int64(value)
    return at

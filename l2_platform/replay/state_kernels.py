"""The last line of every living row of every book, as compiled loops over one open-addressed table and linked lists.

A row is an order, a venue's row or a price level; its owner is 2 × symbol + side. Rows of an owner hang together in the order in which
they came, so that a burst of them is one walk. What does not belong here: what a burst is for (`state`).
"""

from typing import Final

import numpy as np

from l2_platform.market.compiled import Number, inline_kernel, kernel
from l2_platform.market.events import ASK, Int32, Int64, UInt8, UInt32, UInt64

LINE_BYTES_MAX: Final = 192
"""A longer line of a book is not kept for bursts, bytes."""

# Words of `meta`.
M_FREE: Final = 0
"""First free row, -1 = none."""
M_HELD: Final = 1
"""Rows in use."""
M_LONG: Final = 2
"""Lines that were too long to be kept."""
M_WORDS: Final = 3


@inline_kernel
def slot_of(keys: Int64, owners: Int32, slots: Int32, key: Number, owner: Number) -> Number:
    """The slot that holds the row of (key, owner), or the free one where it would go."""
    mask = np.uint64(len(slots) - 1)
    mixed = (np.uint64(key) ^ (np.uint64(owner) << np.uint64(40))) * np.uint64(0x9E3779B97F4A7C15)
    at = (mixed >> np.uint64(20)) & mask
    while True:
        row = slots[at]
        if row < 0 or (keys[row] == key and owners[row] == owner):
            return np.int64(at)
        at = (at + np.uint64(1)) & mask


@inline_kernel
def home_of(keys: Int64, owners: Int32, slots: Int32, row: Number) -> Number:
    """Where the search for a row begins."""
    mask = np.uint64(len(slots) - 1)
    mixed = (np.uint64(keys[row]) ^ (np.uint64(owners[row]) << np.uint64(40))) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((mixed >> np.uint64(20)) & mask)


@inline_kernel
def take_out(
    keys: Int64, owners: Int32, slots: Int32, after: Int32, before: Int32, heads: Int32, tails: Int32, meta: Int64, at: Number
) -> None:
    """Remove the row in slot `at`: out of its list, and the slots behind it closed up."""
    row = slots[at]
    owner = owners[row]
    if before[row] >= 0:
        after[before[row]] = after[row]
    else:
        heads[owner] = after[row]
    if after[row] >= 0:
        before[after[row]] = before[row]
    else:
        tails[owner] = before[row]
    mask = len(slots) - 1
    hole = np.int64(at)
    here = (hole + 1) & mask
    while slots[here] >= 0:
        home = home_of(keys, owners, slots, slots[here])
        if ((here - home) & mask) >= ((here - hole) & mask):
            slots[hole] = slots[here]
            hole = here
        here = (here + 1) & mask
    slots[hole] = -1
    after[row] = meta[M_FREE]
    meta[M_FREE] = row
    meta[M_HELD] -= 1


@kernel
def keep_lines(
    data: UInt8, ends: Int64, first: int, stop: int, kind: UInt8, symbol: Int32, side: UInt8, order_id: UInt64, mmid: UInt32,
    price: Int64, size: Int64, keys: Int64, owners: Int32, slots: Int32, after: Int32, before: Int32, heads: Int32, tails: Int32,
    lengths: Int32, texts: UInt8, meta: Int64,
) -> Number:  # fmt: skip
    """Apply lines `first` to `stop - 1`; return the first that was not, for want of room (`stop`: all were)."""
    room = len(keys)
    for row in range(first, stop):
        letter = kind[row]
        if symbol[row] < 0:
            continue
        owner = 2 * symbol[row] + (1 if side[row] == ASK else 0)
        if letter == 75:
            place: Number = heads[owner]
            while place >= 0:
                following = after[place]
                at = slot_of(keys, owners, slots, keys[place], owner)
                take_out(keys, owners, slots, after, before, heads, tails, meta, at)
                place = following
            continue
        is_level = letter >= 55 and letter <= 57
        if not (is_level or letter == 48 or (letter >= 51 and letter <= 54)):
            continue
        key = price[row]
        if not is_level:
            key = np.int64(order_id[row]) if order_id[row] != np.uint64(0) else np.int64(mmid[row])
            if order_id[row] == np.uint64(0) and letter == 48 and mmid[row] == np.uint32(0):
                key = price[row]
        at = slot_of(keys, owners, slots, key, owner)
        place = slots[at]
        if letter == 53 or letter == 57 or size[row] <= 0:
            if place >= 0:
                take_out(keys, owners, slots, after, before, heads, tails, meta, at)
            continue
        begin = ends[row - 1] if row > 0 else np.int64(0)
        length = ends[row] - begin
        if length > LINE_BYTES_MAX:
            meta[M_LONG] += 1
            continue
        if place < 0:
            if meta[M_FREE] < 0 or 2 * (meta[M_HELD] + 1) > len(slots) or meta[M_HELD] >= room:
                return row
            place = np.int32(meta[M_FREE])
            meta[M_FREE] = after[place]
            meta[M_HELD] += 1
            slots[at] = place
            keys[place] = key
            owners[place] = owner
            after[place] = -1
            before[place] = tails[owner]
            if tails[owner] >= 0:
                after[tails[owner]] = place
            else:
                heads[owner] = place
            tails[owner] = place
        for i in range(length):
            texts[place * LINE_BYTES_MAX + i] = data[begin + i]
        # What it is in a burst: a row of orders or venues, or a level.
        texts[place * LINE_BYTES_MAX] = 55 if is_level else 54
        lengths[place] = length
    return stop


@kernel
def place_rows(keys: Int64, owners: Int32, slots: Int32, heads: Int32, after: Int32) -> None:
    """Fill an empty table of slots with every living row."""
    for owner in range(len(heads)):
        row = heads[owner]
        while row >= 0:
            slots[slot_of(keys, owners, slots, keys[row], owner)] = row
            row = after[row]


@kernel
def copy_burst(owner: int, heads: Int32, after: Int32, lengths: Int32, texts: UInt8, out: UInt8) -> Number:
    """The lines of an owner's rows, one after the other; bytes written, or the bytes needed as a negative number."""
    needed = np.int64(0)
    row = heads[owner]
    while row >= 0:
        needed += lengths[row]
        row = after[row]
    if needed > len(out):
        return -needed
    at = np.int64(0)
    row = heads[owner]
    while row >= 0:
        for i in range(lengths[row]):
            out[at + i] = texts[row * LINE_BYTES_MAX + i]
        at += lengths[row]
        row = after[row]
    return at


@kernel
def project_lines(data: UInt8, ends: Int64, places: Int64, out: UInt8, out_ends: Int64) -> Number:
    """Q and P lines with other columns: field `places[k]` (counted behind the letter, -1 = empty) as column k; other lines as they are.

    Return the bytes written; `out` must have room for `len(data)` and the fields and ends of every line.
    """
    commas = np.empty(512, np.int64)
    at = np.int64(0)
    begin = np.int64(0)
    for line in range(len(ends)):
        stop = ends[line]
        text_end = stop
        while text_end > begin and (data[text_end - 1] == 10 or data[text_end - 1] == 13):
            text_end -= 1
        letter = data[begin] if text_end > begin else np.uint8(0)
        if (letter == 81 or letter == 80) and text_end > begin + 1 and data[begin + 1] == 44:
            held = 0
            for i in range(begin, text_end):
                if data[i] == 44 and held < 512:
                    commas[held] = i
                    held += 1
            out[at] = letter
            out[at + 1] = 44
            at += 2
            for column in range(len(places)):
                place = places[column]
                if place >= 0 and place < held:
                    field_end = commas[place + 1] if place + 1 < held else text_end
                    for i in range(commas[place] + 1, field_end):
                        out[at] = data[i]
                        at += 1
                out[at] = 44
                at += 1
            out[at] = 13
            out[at + 1] = 10
            at += 2
        else:
            for i in range(begin, stop):
                out[at] = data[i]
                at += 1
        out_ends[line] = at
        begin = stop
    return at

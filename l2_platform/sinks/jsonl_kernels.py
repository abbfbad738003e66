"""Compiled writers of JSON lines: many records into one buffer, without an object per record.

Numbers are exact: prices as the shortest decimals, times with microseconds and New York's offset. Texts and digits are stored eight
bytes at a time; what a store leaves behind the end is overwritten by the next. What does not belong here: files.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from l2_platform.market.compiled import Number, inline_kernel, kernel
from l2_platform.market.events import NULL_PRICE, NULL_TS, Int32, Int64, UInt8, UInt64
from l2_platform.market.words import ZEROS_TEXT, load_word, trailing_zeros

STORE_BYTES: Final = 8
"""Stored at once: so much room must be behind the end of a text that is read or written."""


def padded(text: bytes) -> UInt8:
    """A text that may be copied by whole words: with room behind its end."""
    return np.frombuffer(text + bytes(STORE_BYTES), np.uint8)


def _text(text: str) -> UInt8:
    return padded(text.encode())


_BIDS: Final = _text('","bids":[')
_ASKS: Final = _text('],"asks":[')
_LEVEL_PRICE: Final = _text('{"price":')
_LEVEL_SIZE: Final = _text(',"size":')
_LEVEL_NUMBER: Final = _text(',"level":')
_TOTAL_BID: Final = _text('],"total_bid_size":')
_TOTAL_ASK: Final = _text(',"total_ask_size":')
_SPREAD: Final = _text(',"spread":')
_MID: Final = _text(',"mid_price":')
_NULL: Final = _text("null")
_BID: Final = _text('","bid":')
_BID_SIZE: Final = _text(',"bid_size":')
_ASK: Final = _text(',"ask":')
_ASK_SIZE: Final = _text(',"ask_size":')
_BID_CENTER: Final = _text(',"bid_market_center":')
_ASK_CENTER: Final = _text(',"ask_market_center":')
_VOLUME: Final = _text(',"total_volume":')
_SNAPSHOT: Final = _text(',"snapshot":')
_TRUE: Final = _text("true")
_FALSE: Final = _text("false")
_PRICE: Final = _text('","price":')
_CENTER: Final = _text(',"market_center":')
_CONDITIONS: Final = _text(',"conditions":"')
_TICK_ID: Final = _text('","tick_id":')
_AGGRESSOR: Final = _text(',"aggressor":"')
_AGGRESSORS: Final = _text("none   buy    sell   neither")
"""Names by aggressor, seven characters each."""
_BASIS: Final = _text('","basis":"')
_VOLUME_AFTER_TEXT: Final = _text('","total_volume":')
_BID_NEXT: Final = _text(',"bid":')

RECORD_BYTES: Final = 640
"""Room for a record without its levels, symbol and stream, bytes."""
LEVEL_BYTES: Final = 80
"""Room for one level, bytes."""
DAY_NS: Final = 86_400_000_000_000


class Frames(NamedTuple):
    """What surrounds every record of a batch: its head up to the timestamp by symbol, its tail up to the seq, the time zone."""

    heads: UInt8
    """`{"symbol":"AAPL","timestamp":"` of all symbols in a row, padded."""
    head_ends: Int64
    """Where each head ends in `heads`; one more than symbols, the first is 0."""
    tail: UInt8
    """`,"stream":"…","seq":`, padded."""
    transitions: Int64
    offsets: Int64


def _store_word(_context: Any, buffer: Any, _at: Any, _word: Any) -> Any:
    """Put a uint64 into a uint8 array at `at`; no bounds check."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(64).as_pointer())
        builder.store(arguments[2], pointer, align=1)
        return context.get_dummy_value()

    return types.void(buffer, types.int64, types.uint64), generate


def _leading_zeros(_context: Any, _word: Any) -> Any:
    """Zero bits above the highest set bit; 64 for 0."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


store_word: Any = intrinsic(_store_word)
leading_zeros: Any = intrinsic(_leading_zeros)


@inline_kernel
def put(out: UInt8, at: int, text: UInt8) -> Number:
    """Copy a padded text; gives where it ends."""
    length = len(text) - STORE_BYTES
    for place in range(0, length, STORE_BYTES):
        store_word(out, at + place, load_word(text, place))
    return at + length


@inline_kernel
def digits_of(value: Number) -> Number:
    """Eight digits of a uint64 below 100,000,000, the first in the lowest byte, without a loop: halves, quarters, single ones."""
    high = value // np.uint64(10_000)
    halves = high | ((value - high * np.uint64(10_000)) << np.uint64(32))
    tops = ((halves * np.uint64(10_486)) >> np.uint64(20)) & np.uint64(0x0000007F0000007F)
    quarters = tops | ((halves - tops * np.uint64(100)) << np.uint64(16))
    tens = ((quarters * np.uint64(103)) >> np.uint64(10)) & np.uint64(0x000F000F000F000F)
    return tens | ((quarters - tens * np.uint64(10)) << np.uint64(8))


@inline_kernel
def put_eight(out: UInt8, at: int, value: Number) -> Number:
    """A uint64 below 100,000,000 with all leading zeros."""
    store_word(out, at, digits_of(value) | ZEROS_TEXT)
    return at + 8


@inline_kernel
def put_short(out: UInt8, at: int, value: Number) -> Number:
    """A uint64 below 100,000,000 in decimal."""
    digits = digits_of(value)
    zeros = trailing_zeros(digits | np.uint64(1 << 56)) >> 3
    store_word(out, at, (digits | ZEROS_TEXT) >> np.uint64(8 * zeros))
    return at + 8 - zeros


@inline_kernel
def put_unsigned(out: UInt8, at: int, value: Number) -> Number:
    """A uint64 in decimal."""
    if value < np.uint64(10):
        out[at] = np.uint8(value) + 48
        return at + 1
    limit = np.uint64(100_000_000)
    if value < limit:
        return put_short(out, at, value)
    high = value // limit
    low = value - high * limit
    if high < limit:
        return put_eight(out, put_short(out, at, high), low)
    top = high // limit
    return put_eight(out, put_eight(out, put_short(out, at, top), high - top * limit), low)


@inline_kernel
def put_int(out: UInt8, at: int, value: int) -> Number:
    """An int64 in decimal."""
    if value < 0:
        out[at] = 45
        return put_unsigned(out, at + 1, np.uint64(0) - np.uint64(value))
    return put_unsigned(out, at, np.uint64(value))


@inline_kernel
def put_count(out: UInt8, at: int, value: int) -> Number:
    """A number that is never negative; null for -1 (none)."""
    return put(out, at, _NULL) if value < 0 else put_unsigned(out, at, np.uint64(value))


@inline_kernel
def put_fixed(out: UInt8, at: int, magnitude: Number, half: bool) -> Number:
    """`magnitude` × 1e-9, plus half of that unit when `half`, as the shortest exact decimal."""
    scale = np.uint64(1_000_000_000)
    ten = np.uint64(10)
    whole = magnitude // scale
    fraction = magnitude - whole * scale
    at = put_unsigned(out, at, whole)
    if fraction == np.uint64(0) and not half:
        return at
    out[at] = 46
    eight = fraction // ten
    ninth = fraction - eight * ten
    digits = digits_of(eight)
    store_word(out, at + 1, digits | ZEROS_TEXT)
    if ninth == np.uint64(0) and not half:
        return at + 9 - (leading_zeros(digits) >> 3)
    out[at + 9] = np.uint8(ninth) + 48
    out[at + 10] = 53
    return at + 11 if half else at + 10


@inline_kernel
def put_price(out: UInt8, at: int, price: int) -> Number:
    """A fixed-point price; null for NULL_PRICE."""
    if price == NULL_PRICE:
        return put(out, at, _NULL)
    if price < 0:
        out[at] = 45
        return put_fixed(out, at + 1, np.uint64(-price), False)
    return put_fixed(out, at, np.uint64(price), False)


@inline_kernel
def put_middle(out: UInt8, at: int, bid: int, ask: int) -> Number:
    """(bid + ask) / 2, exact, without leaving 64 bits."""
    middle = (bid >> 1) + (ask >> 1) + ((bid & 1) & (ask & 1))
    half = ((bid ^ ask) & 1) != 0
    if middle < 0:
        out[at] = 45
        # middle is rounded down: with a half, the magnitude is one unit smaller and a half
        magnitude = np.uint64(-middle - 1) if half else np.uint64(-middle)
        return put_fixed(out, at + 1, magnitude, half)
    return put_fixed(out, at, np.uint64(middle), half)


@inline_kernel
def put_two(out: UInt8, at: int, value: int) -> None:
    """Two digits."""
    out[at] = 48 + value // 10
    out[at + 1] = 48 + value % 10


@inline_kernel
def find_span(utc: int, frames: Frames, span: Int64) -> None:
    """Set `span` to (from, to, offset): UTC times in [from, to) have this offset."""
    low = 0
    high = len(frames.transitions)
    while high - low > 1:
        middle = (low + high) >> 1
        if frames.transitions[middle] <= utc:
            low = middle
        else:
            high = middle
    span[0] = frames.transitions[low]
    span[1] = frames.transitions[low + 1] if low + 1 < len(frames.transitions) else 2**62
    span[2] = frames.offsets[low]


@inline_kernel
def put_stamp(out: UInt8, at: int, utc: int, frames: Frames, span: Int64) -> Number:
    """`2025-07-24T11:15:46.185016-04:00`; microseconds are cut, not rounded. `span`: three of find_span, then the last date's parts."""
    if utc < span[0] or utc >= span[1]:
        find_span(utc, frames, span)
    offset = span[2]
    local = utc + offset
    days = local // DAY_NS
    rest = (local - days * DAY_NS) // 1000
    if days != span[3]:
        # civil date of a day number (proleptic Gregorian)
        shifted = days + 719_468
        era = shifted // 146_097
        of_era = shifted - era * 146_097
        of_400 = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
        of_year = of_era - (365 * of_400 + of_400 // 4 - of_400 // 100)
        month = (5 * of_year + 2) // 153
        span[4] = of_400 + era * 400 + (1 if month >= 10 else 0)
        span[5] = month + 3 if month < 10 else month - 9
        span[6] = of_year - (153 * month + 2) // 5 + 1
        span[3] = days
    put_two(out, at, span[4] // 100)
    put_two(out, at + 2, span[4] % 100)
    out[at + 4] = 45
    put_two(out, at + 5, span[5])
    out[at + 7] = 45
    put_two(out, at + 8, span[6])
    out[at + 10] = 84
    micros = rest % 1_000_000
    seconds = rest // 1_000_000
    put_two(out, at + 11, seconds // 3600)
    out[at + 13] = 58
    put_two(out, at + 14, seconds // 60 % 60)
    out[at + 16] = 58
    put_two(out, at + 17, seconds % 60)
    out[at + 19] = 46
    put_two(out, at + 20, micros // 10_000)
    put_two(out, at + 22, micros // 100 % 100)
    put_two(out, at + 24, micros % 100)
    out[at + 26] = 45 if offset < 0 else 43
    minutes = abs(offset) // 60_000_000_000
    put_two(out, at + 27, minutes // 60)
    out[at + 29] = 58
    put_two(out, at + 30, minutes % 60)
    return at + 32


@inline_kernel
def put_head(out: UInt8, at: int, symbol: int, ts_event: int, ts_recv: int, frames: Frames, span: Int64) -> Number:
    """The head of a record with its time: the venue's, or ours where it gave none."""
    begin = frames.head_ends[symbol]
    # a number that is none of the list must not walk back through memory
    length = max(frames.head_ends[symbol + 1] - begin, 0)
    for place in range(0, length, STORE_BYTES):
        store_word(out, at + place, load_word(frames.heads, begin + place))
    return put_stamp(out, at + length, ts_recv if ts_event == NULL_TS else ts_event, frames, span)


@inline_kernel
def put_tail(out: UInt8, at: int, seq: Number, frames: Frames) -> Number:
    """Stream, seq and the end of the line."""
    at = put_unsigned(out, put(out, at, frames.tail), seq)
    out[at] = 125
    out[at + 1] = 10
    return at + 2


@inline_kernel
def put_levels(out: UInt8, at: int, prices: Int64, sizes: Int64, row: int) -> tuple[Number, Number]:
    """The levels of one side, best first, up to the first empty one; where they end, and the sum of their sizes."""
    total = np.int64(0)
    for level in range(prices.shape[1]):
        if prices[row, level] == NULL_PRICE:
            break
        if level:
            out[at] = 44
            at += 1
        at = put_price(out, put(out, at, _LEVEL_PRICE), prices[row, level])
        at = put_int(out, put(out, at, _LEVEL_SIZE), sizes[row, level])
        at = put_unsigned(out, put(out, at, _LEVEL_NUMBER), np.uint64(level + 1))
        out[at] = 125
        at += 1
        total += sizes[row, level]
    return at, total


@kernel
def format_books(
    out: UInt8, ends: Int64, order: Int64, frames: Frames, symbol: Int32, seq: UInt64, ts_event: Int64, ts_recv: Int64,
    bid_px: Int64, bid_sz: Int64, ask_px: Int64, ask_sz: Int64,
) -> None:  # fmt: skip
    """L2 records of the rows in `order` into `out`; `ends[i]` is where the i-th record ends."""
    span = np.zeros(7, np.int64)
    span[3] = NULL_TS
    at = 0
    for index in range(len(order)):
        row = order[index]
        at = put_head(out, at, symbol[row], ts_event[row], ts_recv[row], frames, span)
        at, total_bid = put_levels(out, put(out, at, _BIDS), bid_px, bid_sz, row)
        at, total_ask = put_levels(out, put(out, at, _ASKS), ask_px, ask_sz, row)
        at = put_int(out, put(out, at, _TOTAL_BID), total_bid)
        at = put_int(out, put(out, at, _TOTAL_ASK), total_ask)
        bid = bid_px[row, 0]
        ask = ask_px[row, 0]
        at = put(out, at, _SPREAD)
        if bid == NULL_PRICE or ask == NULL_PRICE:
            at = put(out, put(out, put(out, at, _NULL), _MID), _NULL)
        else:
            at = put_price(out, at, ask - bid)
            at = put_middle(out, put(out, at, _MID), bid, ask)
        at = put_tail(out, at, seq[row], frames)
        ends[index] = at


@kernel
def format_quotes(
    out: UInt8, ends: Int64, order: Int64, frames: Frames, symbol: Int32, seq: UInt64, ts_event: Int64, ts_recv: Int64,
    bid: Int64, bid_size: Int64, bid_center: Int32, ask: Int64, ask_size: Int64, ask_center: Int32, volume: Int64, snapshot: UInt8,
) -> None:  # fmt: skip
    """L1 records of the rows in `order`, as format_books."""
    span = np.zeros(7, np.int64)
    span[3] = NULL_TS
    at = 0
    for index in range(len(order)):
        row = order[index]
        at = put_head(out, at, symbol[row], ts_event[row], ts_recv[row], frames, span)
        at = put_price(out, put(out, at, _BID), bid[row])
        at = put_count(out, put(out, at, _BID_SIZE), bid_size[row])
        at = put_price(out, put(out, at, _ASK), ask[row])
        at = put_count(out, put(out, at, _ASK_SIZE), ask_size[row])
        at = put_count(out, put(out, at, _BID_CENTER), bid_center[row])
        at = put_count(out, put(out, at, _ASK_CENTER), ask_center[row])
        at = put_count(out, put(out, at, _VOLUME), volume[row])
        at = put(out, at, _SNAPSHOT)
        at = put(out, at, _TRUE) if snapshot[row] else put(out, at, _FALSE)
        at = put_tail(out, at, seq[row], frames)
        ends[index] = at


@kernel
def format_trades(
    out: UInt8, ends: Int64, order: Int64, frames: Frames, symbol: Int32, seq: UInt64, ts_event: Int64, ts_recv: Int64,
    price: Int64, size: Int64, center: Int32, conditions: UInt64, tick_id: UInt64, aggressor: UInt8, basis: UInt8,
    volume: Int64, bid: Int64, ask: Int64,
) -> None:  # fmt: skip
    """Tick records of the rows in `order`, as format_books."""
    span = np.zeros(7, np.int64)
    span[3] = NULL_TS
    at = 0
    for index in range(len(order)):
        row = order[index]
        at = put_head(out, at, symbol[row], ts_event[row], ts_recv[row], frames, span)
        at = put_price(out, put(out, at, _PRICE), price[row])
        at = put_count(out, put(out, at, _LEVEL_SIZE), size[row])
        at = put_count(out, put(out, at, _CENTER), center[row])
        at = put(out, at, _CONDITIONS)
        rest = conditions[row]
        while rest != np.uint64(0):
            out[at] = np.uint8(rest & np.uint64(255))
            at += 1
            rest >>= np.uint64(8)
        at = put_unsigned(out, put(out, at, _TICK_ID), tick_id[row])
        at = put(out, at, _AGGRESSOR)
        name = 7 * min(int(aggressor[row]), 3)
        for place in range(name, name + 7):
            if _AGGRESSORS[place] != 32:
                out[at] = _AGGRESSORS[place]
                at += 1
        at = put(out, at, _BASIS)
        if basis[row]:
            out[at] = basis[row]
            at += 1
        at = put_count(out, put(out, at, _VOLUME_AFTER_TEXT), volume[row])
        at = put_price(out, put(out, at, _BID_NEXT), bid[row])
        at = put_price(out, put(out, at, _ASK), ask[row])
        at = put_tail(out, at, seq[row], frames)
        ends[index] = at

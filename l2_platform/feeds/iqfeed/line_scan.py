"""Where a line ends and where its commas are, 64 bytes at a time.

One comparison of 64 bytes with a byte gives a word with a bit for each; LLVM makes it of what the machine has (one instruction with
AVX-512, four with SSE2). What does not belong here: what stands between the commas.
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from l2_platform.market.compiled import Number, inline_kernel, plain_kernel
from l2_platform.market.events import Int64, UInt8
from l2_platform.market.words import bits_set, trailing_zeros

COMMAS_MAX: Final = 256
"""Commas of a line beyond these are counted, but their places are not kept."""
PLACES: Final = COMMAS_MAX + 80
"""Length of the array of places: those of one more word, and the empty field, fit behind the last."""
EMPTY_FIELD: Final = COMMAS_MAX + 76
"""Number of a field that is empty in every line."""
LEAD: Final = 16
"""Field parsers may read this many bytes before a field's end: a line must begin that far behind the buffer's beginning."""
_CHUNK: Final = 64


def _compare(operator: str) -> Any:
    def typed(_context: Any, text: Any, _at: Any, _byte: Any) -> Any:
        def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            vector = ir.VectorType(ir.IntType(8), _CHUNK)
            start = builder.gep(arguments[0], [arguments[1]])
            chunk = builder.load(builder.bitcast(start, vector.as_pointer()), align=1)
            one = builder.insert_element(
                ir.Constant(vector, ir.Undefined), arguments[2], ir.Constant(ir.IntType(32), 0)
            )
            places = ir.Constant(ir.VectorType(ir.IntType(32), _CHUNK), [0] * _CHUNK)
            same = builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), places)
            return builder.bitcast(builder.icmp_unsigned(operator, chunk, same), ir.IntType(64))

        return types.uint64(text, types.int64, types.uint8), generate

    return typed


equal_bytes: Any = intrinsic(_compare("=="))
"""Bit k: byte `at + k` of a pointer equals a byte; 64 bytes must be readable."""
smaller_bytes: Any = intrinsic(_compare("<"))
"""Bit k: byte `at + k` is smaller than a byte."""


@plain_kernel
def split_line_slowly(text: UInt8, start: int, limit: int, ends: Int64) -> tuple[Number, Number, bool]:
    """`split_line`, byte by byte: lines with control bytes in the middle, and near the end of the buffer."""
    commas: Number = np.int64(0)
    dirty = False
    stop = np.int64(start)
    while stop < limit:
        byte = text[stop]
        if byte == 44:
            ends[min(commas, COMMAS_MAX)] = stop
            commas += 1
        elif byte < 32:
            if byte == 10:
                break
            # A tab is text; a carriage return is fine only as the last byte, and is cut off by the caller.
            if byte != 9 and not (byte == 13 and (stop + 1 == limit or text[stop + 1] == 10)):
                dirty = True
        stop += 1
    return commas, stop, dirty


@inline_kernel
def split_line(text: UInt8, start: int, limit: int, readable: int, ends: Int64) -> tuple[Number, Number, bool]:
    """`(commas, stop, dirty)` of the line at `start`: stop is its line feed, or `limit`; the place of comma k is `ends[k]`.

    dirty: it holds a control byte that is no tab and not the carriage return before its end. `readable` is the buffer's length.
    """
    at = np.int64(start)
    commas: Number = np.int64(0)
    while at + _CHUNK <= readable:
        marks = equal_bytes(text, at, np.uint8(44))
        control = smaller_bytes(text, at, np.uint8(32))
        left = limit - at
        if left < _CHUNK:
            # What lies behind the limit is another frame: the limit itself counts as the line's end.
            control |= np.uint64(1) << np.uint64(left)
        if control != np.uint64(0):
            place = trailing_zeros(control)
            marks &= (np.uint64(1) << np.uint64(place)) - np.uint64(1)
        slot = min(commas, COMMAS_MAX)
        commas += bits_set(marks)
        while marks != np.uint64(0):
            ends[slot] = at + trailing_zeros(marks)
            marks &= marks - np.uint64(1)
            slot += 1
        if control != np.uint64(0):
            stop = at + place
            if stop >= limit or text[stop] == 10:
                return commas, stop, False
            if text[stop] == 13 and (stop + 1 == limit or text[stop + 1] == 10):
                return commas, stop + 1, False
            break
        at += _CHUNK
    return split_line_slowly(text, start, limit, ends)

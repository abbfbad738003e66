"""Eight bytes at a time: unaligned loads and bit tricks for kernels that parse bytes.

A word is little endian: its lowest byte is the first one in memory. Callers make sure that `at + 8 <= len(buffer)`. What does not
belong here: what the bytes mean.
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from l2_platform.market.compiled import Number, inline_kernel

ONES: Final = np.uint64(0x0101010101010101)
HIGH: Final = np.uint64(0x8080808080808080)
LOW7: Final = np.uint64(0x7F7F7F7F7F7F7F7F)
ZEROS_TEXT: Final = np.uint64(0x3030303030303030)
_SIXES: Final = np.uint64(0x0606060606060606)
_NIBBLES: Final = np.uint64(0xF0F0F0F0F0F0F0F0)


def _pointer_of(_context: Any, array: Any) -> Any:
    """Where the elements of a contiguous array are, to be indexed like it (no negative index, no len).

    Passing an array to a function counts references, atomically, twice a call: more than most small functions do. The array must
    be an argument of the kernel, so that it lives as long as the pointer.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    pointer: Any = types.CPointer
    return pointer(array.dtype)(array), generate


pointer_of: Any = intrinsic(_pointer_of)


def _load_word(_context: Any, buffer: Any, _at: Any) -> Any:
    """The eight bytes at `at` of a uint8 array or of its pointer, as a uint64; no bounds check."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = arguments[0]
        if isinstance(signature.args[0], types.Array):
            data = context.make_array(signature.args[0])(context, builder, data).data
        pointer = builder.gep(data, [arguments[1]])
        return builder.load(builder.bitcast(pointer, ir.IntType(64).as_pointer()), align=1)

    return types.uint64(buffer, types.int64), generate


load_word: Any = intrinsic(_load_word)


def _trailing_zeros(_context: Any, _word: Any) -> Any:
    """Zero bits below the lowest set bit; 64 for 0."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


trailing_zeros: Any = intrinsic(_trailing_zeros)


def _bits_set(_context: Any, _word: Any) -> Any:
    """Number of set bits."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


bits_set: Any = intrinsic(_bits_set)


@inline_kernel
def bytes_equal(word: Number, repeated: Number) -> Number:
    """0x80 in every byte of `word` that equals that of `repeated`, exactly."""
    different = word ^ repeated
    return ~(((different & LOW7) + LOW7) | different | LOW7)


@inline_kernel
def bytes_below_32(word: Number) -> Number:
    """Not 0 when a byte is a control byte; the lowest mark is exact."""
    return (word - np.uint64(0x2020202020202020)) & ~word & HIGH


@inline_kernel
def are_digits(digits: Number) -> Number:
    """Is every byte 0 to 9?"""
    return ((digits | (digits + _SIXES)) & _NIBBLES) == np.uint64(0)


@inline_kernel
def number_from_digits(digits: Number) -> Number:
    """Eight bytes 0 to 9, first the most significant, as an int64."""
    pairs = digits * np.uint64(10) + (digits >> np.uint64(8))
    mask = np.uint64(0x000000FF000000FF)
    high = (pairs & mask) * np.uint64(0x000F424000000064)
    low = ((pairs >> np.uint64(16)) & mask) * np.uint64(0x0000271000000001)
    return np.int64((high + low) >> np.uint64(32))

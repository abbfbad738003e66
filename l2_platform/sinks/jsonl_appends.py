"""The compiled loop that appends to many files: one system call after the other, without the GIL and without an object per file.

Addresses of functions of the C library are arguments, so that the compiled code can be cached; addresses of memory are those of
arguments and live as long as the call. What does not belong here: opening files, and what to do when one refuses (jsonl_files).
"""

import ctypes
from typing import Any, Final, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from l2_platform.market.compiled import kernel
from l2_platform.market.events import Int64, UInt8

DESCRIPTOR: Final = 0
"""Column of the table of files: the open descriptor; -1 when it is closed."""
SIZE: Final = 1
"""Bytes at the last commit; -1 when it may have any."""
BEFORE: Final = 2
"""Bytes found at the first append since the last commit."""
NOW: Final = 3
"""Bytes with what was appended since; -1 when nothing was."""
USED: Final = 4
"""When it was used last, in turns."""
COLUMNS: Final = 5

GROUP: Final = 0
"""Place in the state: the group in hand."""
AT: Final = 1
"""The byte of the text to be written next."""
ERRNO: Final = 2
"""Why a call failed."""
_EMPTY: Final = 3
"""An empty path; always 0."""
_STATUS: Final = 4
"""Where statx writes its 256 bytes."""
STATES: Final = _STATUS + 32

DONE: Final = 0
"""Outcome: all groups are written."""
FAILED: Final = 1
"""A write failed; the errno says why."""
CHANGED: Final = 2
"""A file was deleted or has another size than it was left with."""
UNSEEN: Final = 3
"""The system does not tell how a file is; to be called again when `BEFORE` and `NOW` are set."""

_AT_EMPTY_PATH: Final = 0x1000
_STATX_NLINK_SIZE: Final = 0x204
_NLINK: Final = 2 * _STATUS + 4
"""Place of the number of links in the state as uint32 (struct statx is the same on all machines)."""
_ST_SIZE: Final = _STATUS + 5
"""Place of the size in the state."""
_EIO: Final = 5


class Calls(NamedTuple):
    """Addresses in the C library; 0 for what it does not have."""

    write: int
    statx: int
    errno: int
    """The function that tells where this thread's errno is."""


def calls_of(libc: ctypes.CDLL) -> Calls:
    """Addresses that stay as long as the process."""

    def address(name: str) -> int:
        function = getattr(libc, name, None)
        return 0 if function is None else ctypes.cast(function, ctypes.c_void_p).value or 0

    return Calls(address("write"), address("statx"), address("__errno_location") or address("__error"))


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, ir.IntType(8).as_pointer())


def _function(builder: Any, address: Any, result: Any, arguments: tuple[Any, ...]) -> Any:
    return builder.inttoptr(address, ir.FunctionType(result, arguments).as_pointer())


_INT: Final = ir.IntType(32)
_LONG: Final = ir.IntType(64)
_BYTES: Final = ir.IntType(8).as_pointer()


def _call_write(_context: Any, _function_at: Any, _descriptor: Any, _data: Any, _count: Any) -> Any:
    """Bytes written, -1 for an error: ssize_t write(int, const void *, size_t)."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        function = _function(builder, arguments[0], _LONG, (_INT, _BYTES, _LONG))
        return builder.call(function, (builder.trunc(arguments[1], _INT), _pointer(builder, arguments[2]), arguments[3]))

    return types.int64(types.int64, types.int64, types.int64, types.int64), generate


def _call_statx(_context: Any, _function_at: Any, _descriptor: Any, _path: Any, _status: Any) -> Any:
    """Links and size of an open file: int statx(int, const char *, int, unsigned, struct statx *); the path is empty."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        function = _function(builder, arguments[0], _INT, (_INT, _BYTES, _INT, _INT, _BYTES))
        flags = (ir.Constant(_INT, _AT_EMPTY_PATH), ir.Constant(_INT, _STATX_NLINK_SIZE))
        descriptor = builder.trunc(arguments[1], _INT)
        return builder.call(function, (descriptor, _pointer(builder, arguments[2]), *flags, _pointer(builder, arguments[3])))

    return types.int32(types.int64, types.int64, types.int64, types.int64), generate


def _call_errno(_context: Any, _function_at: Any) -> Any:
    """Of this thread, after a call that failed."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load(builder.call(_function(builder, arguments[0], _INT.as_pointer(), ()), ()))

    return types.int32(types.int64), generate


call_write: Any = intrinsic(_call_write)
call_statx: Any = intrinsic(_call_statx)
call_errno: Any = intrinsic(_call_errno)


@kernel
def append_groups(calls: Calls, text: UInt8, ends: Int64, files: Int64, stop: int, table: Int64, state: Int64) -> int:
    """Append the groups from `state[GROUP]` to before `stop`, each to its file; files that are not open are left out.

    Each file is looked at before its first append since the last commit. The state tells how far it came, also in the middle of a
    group: with another call it goes on there.
    """
    for group in range(state[GROUP], stop):
        file = files[group]
        descriptor = table[file, DESCRIPTOR]
        end = ends[group]
        state[GROUP] = group
        if descriptor < 0:
            state[AT] = end
            continue
        if table[file, NOW] < 0:
            data = state.ctypes.data
            if calls.statx == 0 or call_statx(calls.statx, descriptor, data + 8 * _EMPTY, data + 8 * _STATUS) != 0:
                return UNSEEN
            size = state[_ST_SIZE]
            if state.view(np.uint32)[_NLINK] == 0 or (table[file, SIZE] >= 0 and table[file, SIZE] != size):
                return CHANGED
            table[file, BEFORE] = size
            table[file, NOW] = size
        while state[AT] < end:
            written = call_write(calls.write, descriptor, text.ctypes.data + state[AT], end - state[AT])
            if written <= 0:
                state[ERRNO] = call_errno(calls.errno) if written < 0 and calls.errno != 0 else _EIO
                return FAILED
            table[file, NOW] += written
            state[AT] += written
    return DONE

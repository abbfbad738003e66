"""`kernel`: the one way in which functions over arrays are compiled.

Kernels release the GIL and are cached on disk (the folder is chosen by `monitoring/runtime.py` before they are imported). What does not
belong here: kernels.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., object])
Number = Any
"""An int or a numpy integer: inside a kernel they are the same."""


def kernel(function: F) -> F:
    """Compile `function` for numba: cached, without the GIL; types as written for the checker."""
    return cast(F, njit(cache=True, nogil=True, error_model="numpy")(function))


def plain_kernel(function: F) -> F:
    """Like `kernel`, for rarely taken parts of other kernels: not cached by itself, since the caller's cache holds it."""
    return cast(F, njit(nogil=True, error_model="numpy")(function))


def inline_kernel(function: F) -> F:
    """Like `plain_kernel`, for parts that every event passes: always inlined (passing arrays costs more than the work)."""
    return cast(F, njit(nogil=True, error_model="numpy", forceinline=True)(function))

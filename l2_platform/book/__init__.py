"""The book engine. The package can be called: `l2_platform.book(symbol, at)` is the book of a symbol at an instant (research)."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """The name `book` means this package to the platform, and a question to who does research with it."""

    def __call__(self, symbol: str, at: Any, **options: Any) -> Any:
        """The book of `symbol` at `at` as a Polars frame: see `l2_platform.research.books.book`."""
        return import_module("l2_platform.research.books").book(symbol, at, **options)


sys.modules[__name__].__class__ = _CallablePackage

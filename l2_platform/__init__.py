"""Records Level 2, Level 1 and trade data, rebuilds order books and proves that nothing is missing.

For research: `l2_platform.read("trades", "SYM000", "2026-11-20", "2026-11-21")` and `l2_platform.book("SYM000", "2026-11-20T10:00")` give
Polars frames (docs/reading.md). Importing this package imports nothing else; both load what they need when they are called.

The flow, the layers and the rules are in docs/architecture.md; what every table and file means is in docs/data.md.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`read`, and `book`: the package of the book engine, which can also be called."""
    if name == "read":
        return import_module("l2_platform.research.reading").read
    if name == "book":
        return import_module("l2_platform.book")
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)

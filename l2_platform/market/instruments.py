"""Symbols of one stream, numbered in the order in which they appear.

Kernels work on the numbers; the table only grows, and it is part of a checkpoint, so that a number keeps its meaning after a restart.
"""

from collections.abc import Iterable

NAMES_MAX = 50_000
"""Most names that the lines of one stream may bring, unless a table is told otherwise."""


class SymbolTable:
    """Names and their numbers, both ways."""

    def __init__(self, names: Iterable[str] = (), *, names_max: int = NAMES_MAX) -> None:
        """`names_max`: how many names lines may bring; a line with a further one is bad. `intern` itself refuses nothing."""
        self.names_max = names_max
        self.names: list[str] = []
        self._number: dict[str, int] = {}
        for name in names:
            self.intern(name)

    def __len__(self) -> int:
        return len(self.names)

    def intern(self, name: str) -> int:
        """The number of `name`, given now if it is new."""
        number = self._number.get(name)
        if number is None:
            number = len(self.names)
            self.names.append(name)
            self._number[name] = number
        return number

    def number(self, name: str) -> int | None:
        """The number of `name`, or None when it was never seen."""
        return self._number.get(name)


def mmid_text(mmid: int) -> str:
    """Four-byte market maker or venue code as text; empty for 0."""
    return int(mmid).to_bytes(4, "little").rstrip(b"\0 ").decode("latin-1")

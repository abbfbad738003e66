"""Limits at work: how near every queue, buffer and count has come to its limit, for heartbeats and `l2 metrics`.

One object a limit, one `see` a batch or a second (never one an event). Imported by the collector: standard library only. What does
not belong here: acting at a limit (whoever owns the queue does), and what happens there in words (limits).
"""

from collections.abc import Iterable
from typing import Any


class Bound:
    """The value of one limited thing now, its high-water mark since the process started, and how often the limit was reached."""

    __slots__ = ("high", "limit", "name", "now", "reached", "setting", "unit")

    def __init__(self, name: str, limit: float, unit: str, setting: str) -> None:
        """`name` as the metric shows it, `unit` such as bytes, rows or s, `setting` the dotted path of the limit."""
        self.name = name
        self.limit = limit
        self.unit = unit
        self.setting = setting
        self.now: float = 0
        self.high: float = 0
        self.reached = 0
        """How often it came to its limit, from below."""

    def see(self, value: float) -> None:
        """Note the present value."""
        if value >= self.limit > self.now:
            self.reached += 1
        self.now = value
        self.high = max(self.high, value)

    def hit(self) -> None:
        """Note that the limit was enforced: something was cut, refused or left waiting."""
        self.reached += 1
        self.high = max(self.high, self.limit)

    def as_record(self) -> dict[str, Any]:
        """As a heartbeat carries it."""
        return {
            "now": self.now, "high": self.high, "limit": self.limit, "reached": self.reached, "unit": self.unit,
            "setting": self.setting,
        }  # fmt: skip


class Timing:
    """How long something took that is done again and again: count, sum, the longest, s."""

    __slots__ = ("count", "longest_s", "sum_s")

    def __init__(self) -> None:
        self.count = 0
        self.sum_s = 0.0
        self.longest_s = 0.0

    def add(self, seconds: float) -> None:
        """One more took `seconds`."""
        self.count += 1
        self.sum_s += seconds
        self.longest_s = max(self.longest_s, seconds)

    def as_record(self) -> dict[str, Any]:
        """As a heartbeat carries it."""
        return {"count": self.count, "sum_s": round(self.sum_s, 6), "longest_s": round(self.longest_s, 6)}


def bounds_record(bounds: Iterable[Bound]) -> dict[str, Any]:
    """The `bounds` entry of a heartbeat: name → record. Of two with one name: the higher marks, and the sum of `reached`."""
    found: dict[str, Any] = {}
    for bound in bounds:
        record = bound.as_record()
        other = found.get(bound.name)
        if other is not None:
            record["now"] = max(record["now"], other["now"])
            record["high"] = max(record["high"], other["high"])
            record["reached"] += other["reached"]
        found[bound.name] = record
    return found

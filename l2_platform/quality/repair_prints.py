"""Ticks of a reply against the prints that are stored: which lines of the reply are rows. Column work, no I/O but reading the reply.

A print is the same as a stored one when symbol, exchange date, market centre and TickID are. Where TickIDs turn out not to name
prints, only those strictly inside the gap count, and none that is stored already by time, market centre and size. What does not
belong here: where stored prints come from (repair_rows), what becomes of the lines (repair).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from l2_platform.feeds.iqfeed.reply_file import decode_reply
from l2_platform.market.events import Int32, Int64, Level1Kind, UInt64
from l2_platform.market.timezone import new_york_offsets

DAY_NS: Final = 86_400 * 10**9
SAME_NS: Final = 1_000_000
"""Live and history tell the time of a print within this, ns."""
MATCHED_MIN: Final = 0.9
"""Part of the stored prints within a reply's time that must be in it: fewer, and the ids are not the same ids."""
KEY: Final = np.dtype([("day", np.int64), ("center", np.int64), ("tick", np.uint64)])
Rows = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Prints:
    """Trade prints of one symbol, one element each."""

    ts: Int64
    """Time of the feed, ns UTC."""
    center: Int64
    tick_id: UInt64
    size: Int64

    def __len__(self) -> int:
        return len(self.ts)

    def keys(self) -> npt.NDArray[Any]:
        """Exchange date, market centre and TickID of each."""
        transitions, offsets = new_york_offsets()
        local = self.ts + offsets[np.searchsorted(transitions, self.ts, side="right") - 1]
        made = np.empty(len(self), KEY)
        made["day"], made["center"], made["tick"] = local // DAY_NS, self.center, self.tick_id
        return made

    def pick(self, rows: Any) -> "Prints":
        """Some of them."""
        return Prints(self.ts[rows], self.center[rows], self.tick_id[rows], self.size[rows])


def no_prints() -> Prints:
    """None."""
    return Prints(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(0, np.int64))


@dataclass(frozen=True, slots=True)
class Reply:
    """The ticks of one reply, and what else it held."""

    prints: Prints
    line: Int64
    """Number of the line of each print, from 1."""
    bad: int
    """Lines that are neither a tick nor the end."""


def read_reply(file: Path, symbol: str) -> Reply:
    """Decode a reply as the delivery will."""
    parts: list[Prints] = []
    numbers: list[Int64] = []
    bad = 0
    for batch in decode_reply(file, symbol):
        ticks = batch.kind == Level1Kind.HISTORY_TICK
        bad += int((~ticks & (batch.kind != Level1Kind.END)).sum())
        center: Int32 = batch.market_center[ticks]
        parts.append(Prints(batch.ts_trade[ticks], center.astype(np.int64), batch.tick_id[ticks], batch.size[ticks]))
        numbers.append(batch.seq[ticks].astype(np.int64))
    columns = [np.concatenate([getattr(part, name) for part in [no_prints(), *parts]]) for name in ("ts", "center", "tick_id", "size")]
    return Reply(Prints(*columns), np.concatenate([np.zeros(0, np.int64), *numbers]), bad)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which prints of a reply are rows."""

    rows: Rows
    by_id: bool
    """False: TickIDs do not name prints here, times decided."""


def choose(found: Prints, stored: Prints, window: tuple[int, int], gap: tuple[int, int]) -> Choice:
    """`stored`: prints of the symbol around `window` (ns, both ends included), of any capture; `gap`: its bounds, ns."""
    inside = (found.ts >= window[0]) & (found.ts <= window[1])
    if names_prints(found.pick(inside), stored):
        return Choice(inside & ~np.isin(found.keys(), stored.keys()), by_id=True)
    strictly = (found.ts > gap[0]) & (found.ts < gap[1])
    return Choice(strictly & ~_same(found, stored), by_id=False)


def names_prints(found: Prints, stored: Prints) -> bool:
    """Whether TickIDs of a reply name the same prints as those of what is stored, as far as both show it."""
    keys = found.keys()
    if len(np.unique(keys)) < len(keys) or bool((found.tick_id == 0).any()):
        return False
    if not len(found) or not len(stored):
        return True
    near = stored.pick((stored.ts >= found.ts.min()) & (stored.ts <= found.ts.max()))
    if not len(near):
        return True
    order = np.argsort(keys)
    place = np.searchsorted(keys, near.keys(), sorter=order)
    place = order[np.minimum(place, len(keys) - 1)]
    same = (keys[place] == near.keys()) & (np.abs(found.ts[place] - near.ts) <= SAME_NS) & (found.size[place] == near.size)
    return bool(same.mean() >= MATCHED_MIN)


def line_ranges(lines: Int64) -> list[list[int]]:
    """Ascending numbers as ranges, both ends included."""
    if not len(lines):
        return []
    cuts = np.flatnonzero(np.diff(lines) != 1)
    first, last = lines[np.r_[0, cuts + 1]], lines[np.r_[cuts, len(lines) - 1]]
    return [[int(begin), int(end)] for begin, end in zip(first, last, strict=True)]


def _same(found: Prints, stored: Prints) -> Rows:
    """Prints that are stored, each stored one for one of them: market centre and size are the same, and times within SAME_NS.

    Ids are not asked: this is for ids that are others live and in history.
    """
    same = np.zeros(len(found), np.bool_)
    waiting: dict[tuple[int, int], list[int]] = {}
    for place in np.argsort(-stored.ts, kind="stable").tolist():
        waiting.setdefault((int(stored.center[place]), int(stored.size[place])), []).append(int(stored.ts[place]))
    for place in np.argsort(found.ts, kind="stable").tolist():
        times, ts = waiting.get((int(found.center[place]), int(found.size[place])), []), int(found.ts[place])
        # the earliest one is the last of its list
        while times and times[-1] < ts - SAME_NS:
            times.pop()
        if times and times[-1] <= ts + SAME_NS:
            times.pop()
            same[place] = True
    return same

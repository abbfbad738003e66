"""Silence of single symbols, and of the whole stream while its heartbeat goes on: a probability from each one's own arrivals.

The pauses of a symbol in the running window of the session give a stretched exponential, exp(-(g/scale)^shape), by their mean and
mean square: bursty arrivals have a small shape, which makes long pauses less surprising, and none is believed to be evener than
SHAPE_MAX. What is known from n pauses only is surprising at most as far as n allows. The longest pauses bound what a heavy tail may
bring (tails). A silence opens when it is so improbable by both that all symbols together would bring a few false ones a year, and when
it is longer than three times anything seen. A symbol's silence is measured by a clock that stands still while the whole stream does:
what stops all symbols is one gap of the stream.

State machines of arrays: no I/O, no clock. What does not belong here: counters, rows.
"""

from dataclasses import dataclass
from math import gamma, lgamma
from typing import Any, Final

import numpy as np

from l2_platform.delivery.gap_kernels import (
    BACK,
    CALM,
    KEPT,
    KEPT_ALL,
    SETTLED,
    SILENT,
    Float64,
    add_length,
    add_pause,
    note_arrivals,
)
from l2_platform.delivery.tails import improbable, surprise
from l2_platform.market.events import Int32, Int64, UInt8, UInt64

NS: Final = 1_000_000_000
DAY_S: Final = 86_400.0
LONGER_THAN_SEEN: Final = 3.0
"""A silence must be so many times the longest pause of the window."""
STREAM: Final = 0
"""Slot of the whole stream; that of symbol s is s + 1."""
ARRAYS: Final = ("since", "seen", "seen_seq", "back", "state", "pauses", "gap_sum", "gap_square", "longest", "tail", "tail_count")
SUMS: Final = ("pauses", "gap_sum", "gap_square", "longest", "tail", "tail_count")
POOLS: Final = ("pool", "pool_count")
SHAPE_MAX: Final = 0.75
"""Poisson arrivals have 1: rates change during a day, so that no symbol is believed to be so even."""
SHAPE_MIN: Final = 0.2
_SHAPES: Final = np.linspace(SHAPE_MAX, SHAPE_MIN, 81)
_GAMMA_1: Final = np.array([gamma(1 + 1 / shape) for shape in _SHAPES])
_LOG_RATIOS: Final = np.array([lgamma(1 + 2 / shape) - 2 * lgamma(1 + 1 / shape) for shape in _SHAPES])
"""ln(E[x²] / E[x]²) of each shape, ascending."""


@dataclass(frozen=True, slots=True)
class SilenceRules:
    """When a silence is told."""

    false_alarms_per_day: float = 0.01
    """Silences a day, over all symbols of a stream, that would open although nothing is wrong."""
    shortest_s: float = 1.0
    """A shorter silence is none, s."""
    arrivals_min: float = 20.0
    """Nothing is known of a symbol before its estimate rests on so many pauses."""


class SilenceWatch:
    """The arrivals of every symbol of one (stream, session date)."""

    def __init__(self, rules: SilenceRules, windows: list[tuple[int, int]] | None) -> None:
        """`windows`: (start, end) of trading, ns, ascending; None: all the time is one window."""
        self._rules = rules
        self._windows = windows
        self._window = -1 if windows is not None else 0
        self.running = np.ones(1, np.int64)
        """Time in which the stream went on, ns: the clock of the symbols."""
        self.since = np.zeros(1, np.int64)
        """From here the present silence is measured, ns: the first line of the last burst; slot 0 by receive time, symbols by `running`; 0:
        not seen yet.
        """
        self.seen = np.zeros(1, np.int64)
        """Receive time of the last line, ns."""
        self.seen_seq = np.zeros(1, np.int64)
        self.back = np.zeros(1, np.int64)
        self.state = np.zeros(1, np.uint8)
        self.pauses = np.zeros(1, np.float64)
        self.gap_sum = np.zeros(1, np.float64)
        self.gap_square = np.zeros(1, np.float64)
        self.longest = np.zeros(1, np.float64)
        self.tail = np.zeros((1, KEPT), np.float32)
        """The longest pauses, ascending, in means of their time."""
        self.tail_count = np.zeros(1, np.float64)
        self.pool = np.zeros((1, KEPT_ALL), np.float32)
        """The same of all symbols together."""
        self.pool_count = np.zeros(1, np.float64)

    def grow(self, symbols: int) -> None:
        """Make room for so many symbols."""
        more = symbols + 1 - len(self.since)
        if more > 0:
            # half as much again, so that a growing stream is not copied at each new name
            more = max(more, len(self.since) // 2)
            for name in ARRAYS:
                old = getattr(self, name)
                setattr(self, name, np.concatenate([old, np.zeros((more, *old.shape[1:]), old.dtype)]))

    def note(self, classes: UInt8, symbol: Int32, ts: Int64, seq: UInt64, start: int, stop: int, *, counting: bool) -> None:
        """Lines [start, stop); `counting` False: a gap of the stream is open, and times between lines mean nothing."""
        note_arrivals(
            classes, symbol, ts, seq, start, stop, int(counting and self._window >= 0), self.running, self.since, self.seen,
            self.seen_seq, self.back, self.state, self.pauses, self.gap_sum, self.gap_square, self.longest,
            self.tail, self.tail_count, self.pool, self.pool_count,
        )  # fmt: skip

    def pause(self, ts_from: int, ts_to: int) -> None:
        """The whole stream was silent or lost, and that is told: it is no pause of it."""
        if 0 < self.since[STREAM] <= ts_from:
            self.since[STREAM] += max(ts_to - ts_from, 0)

    def forget(self, slot: int) -> None:
        """A symbol is not watched any more."""
        for name in ("since", "back", "state", *SUMS):
            getattr(self, name)[slot] = 0

    def await_all(self) -> None:
        """A collector started: what it does not watch any more is not missed."""
        self.since[1:] = 0

    def enter(self, now: int) -> bool:
        """Tell the time; whether it lies in a window. A new window knows nothing of the rates of the one before it."""
        if self._windows is None:
            return True
        found = next((place for place, (start, end) in enumerate(self._windows) if start <= now < end), -1)
        if found != self._window:
            self._window = found
            for name in (*SUMS, *POOLS):
                getattr(self, name)[:] = 0
            if found >= 0:
                self.since[1:][self.since[1:] > 0] = self.running[0]
                if self.since[STREAM] > 0:
                    self.since[STREAM] = max(int(self.since[STREAM]), self._windows[found][0])
        return found >= 0

    def quiet_stream(self, now: int) -> dict[str, Any] | None:
        """Whether the whole stream is improbably silent at `now`; the evidence."""
        slots = self._improbable(np.array([STREAM]), np.array([(now - self.since[STREAM]) / NS]))
        return self.evidence(STREAM, (now - int(self.since[STREAM])) / NS) if len(slots) else None

    def quiet_symbols(self, symbols: int) -> Int64:
        """Slots of the symbols that are improbably silent while the stream goes on; they are SILENT from now on."""
        slots = np.flatnonzero(self.gap_sum[1 : symbols + 1] > 0) + 1
        if not len(slots):
            return slots
        found = self._improbable(slots, (self.running[0] - self.since[slots]) / NS)
        self.state[found] = SILENT
        return found

    def returned(self, settled: int) -> Int64:
        """Slots of the symbols that came back at or before the time `settled`."""
        return np.flatnonzero((self.state == BACK) & (self.back <= settled))

    def calm(self, slot: int, silent_s: float, *, learn: bool) -> None:
        """A silence is over; `learn`: nothing was lost, so the symbol is like that."""
        self.state[slot], self.back[slot] = CALM, 0
        if learn:
            if self.pauses[slot] >= SETTLED:
                length = silent_s * float(self.pauses[slot] / self.gap_sum[slot])
                add_length(slot, length, self.tail, self.tail_count)
                if slot != STREAM:
                    add_length(0, length, self.pool, self.pool_count)
            add_pause(slot, silent_s, self.pauses, self.gap_sum, self.gap_square, self.longest)

    def evidence(self, slot: int, silent_s: float) -> dict[str, Any]:
        """What shows a silence, rounded so that it is the same on every machine."""
        slots, silent = np.array([slot]), np.array([silent_s])
        by_moments, shape = self._surprise(slots, silent)
        told = np.minimum(by_moments, np.maximum(*self._tails(slots, silent)))
        return {
            "silent_s": round(silent_s, 3), "typical_s": _short(self.gap_sum[slot] / self.pauses[slot]),
            "longest_s": _short(self.longest[slot]), "pauses": round(float(self.pauses[slot])), "shape": _short(shape[0]),
            "p": _short(np.exp(-told[0])),
        }  # fmt: skip

    def _improbable(self, slots: Int64, silent_s: Float64) -> Int64:
        """Those of the slots whose silences are too long for what is known of them."""
        sums, squares = self.gap_sum[slots], self.gap_square[slots]
        rules = self._rules
        possible = (
            (self.state[slots] == CALM) & (self.since[slots] > 0) & (silent_s >= rules.shortest_s)
            & (silent_s > LONGER_THAN_SEEN * self.longest[slots]) & (2 * sums * sums >= rules.arrivals_min * squares) & (sums > 0)
        )  # fmt: skip
        slots, silent_s = slots[possible], silent_s[possible]
        if not len(slots):
            return slots
        # Each pause of a symbol is one chance of a false alarm: a day has about DAY_S / mean of them.
        mean = np.minimum(self.gap_sum[slots] / self.pauses[slots], DAY_S)
        symbols = max(int(np.count_nonzero(self.gap_sum[1:] > 0)), 1)
        allowed = rules.false_alarms_per_day * mean / (symbols * DAY_S)
        needed = -np.log(allowed)
        found = self._surprise(slots, silent_s)[0] > needed
        slots, silent_s, needed = slots[found], silent_s[found], needed[found]
        return slots[improbable(*self._tails(slots, silent_s), needed)] if len(slots) else slots

    def _tails(self, slots: Int64, silent_s: Float64) -> tuple[Float64, Float64]:
        """The surprise by the tail of each one's own pauses, and by that of all symbols; the stream has its own only."""
        lengths = silent_s * self.pauses[slots] / self.gap_sum[slots]
        count = len(slots)
        others = surprise(np.repeat(self.pool, count, axis=0), np.repeat(self.pool_count, count), lengths)
        return surprise(self.tail[slots], self.tail_count[slots], lengths), np.where(slots == STREAM, 0.0, others)

    def _surprise(self, slots: Int64, silent_s: Float64) -> tuple[Float64, Float64]:
        """-ln of the chance that a pause is at least so long, and the shape of the pauses' distribution."""
        count, sums, squares = self.pauses[slots], self.gap_sum[slots], self.gap_square[slots]
        ratio = np.log(squares * count / (sums * sums))
        shape = np.interp(ratio, _LOG_RATIOS, _SHAPES)
        scale = sums / count / np.interp(ratio, _LOG_RATIOS, _GAMMA_1)
        known = 2 * sums * sums / squares
        return known * np.log1p((silent_s / scale) ** shape / known), shape

    def freeze(self, symbols: int) -> dict[str, Any]:
        """Everything needed to go on: copies of the arrays, and plain values."""
        arrays = {name: getattr(self, name)[: symbols + 1].copy() for name in ARRAYS}
        arrays |= {name: getattr(self, name).copy() for name in POOLS}
        return {"window": self._window, "running": int(self.running[0]), "arrays": arrays}

    def restore(self, state: dict[str, Any]) -> None:
        """Undo `freeze`."""
        self._window, self.running[0] = state["window"], state["running"]
        for name in (*ARRAYS, *POOLS):
            old = getattr(self, name)
            setattr(self, name, np.array(state["arrays"][name], old.dtype).reshape(-1, *old.shape[1:]))


def _short(value: float) -> float:
    return float(f"{value:.3g}")

"""Market time against the machine's: when a stored line is due, and how late lines were.

What does not belong here: waiting, lines.
"""

import math
from typing import Final

import numpy as np

from l2_platform.market.events import Int64

SPEED_MIN: Final = 0.01
SPEED_MAX: Final = 100_000.0
AS_FAST_AS_POSSIBLE: Final = math.inf
FAR: Final = 1 << 62


class Pacer:
    """Maps market time (ns since the epoch) to steady time (ns) at a speed; it can be paused, jump, and change its speed."""

    def __init__(self, speed: float, market_ns: int) -> None:
        """`speed`: times the original pace, inf = as fast as possible. Paused at `market_ns` until `resume`."""
        self.speed = speed
        self.paused = True
        self._market = market_ns
        self._steady = 0

    def position(self, steady_ns: int) -> int:
        """The market time that is reached at a steady time; what is due lies at or before it."""
        if self.paused:
            return self._market
        if self.speed == AS_FAST_AS_POSSIBLE:
            return FAR
        return self._market + int((steady_ns - self._steady) * self.speed)

    def due(self, market_ns: int) -> int:
        """The steady time at which a market time is reached."""
        if self.speed == AS_FAST_AS_POSSIBLE:
            return self._steady
        return self._steady + math.ceil((market_ns - self._market) / self.speed)

    def lateness(self, times: Int64, steady_ns: int) -> Int64:
        """How late lines of these market times are at a steady time, ns."""
        due = np.ceil((times - self._market) / self.speed).astype(np.int64) + self._steady
        return np.asarray(steady_ns - due, np.int64)

    def resume(self, steady_ns: int) -> None:
        """Time goes on from where it stands."""
        if self.paused:
            self._steady = steady_ns
            self.paused = False

    def pause(self, steady_ns: int) -> None:
        """Time stands still."""
        if not self.paused:
            self._market = min(self.position(steady_ns), FAR)
            self.paused = True

    def set_speed(self, speed: float, steady_ns: int, reached_ns: int) -> None:
        """Another speed from now on; `reached_ns` is the market time that was played (known better than the clock at speed inf)."""
        at = self._market if self.paused else min(self.position(steady_ns), FAR)
        self._market = reached_ns if at == FAR else at
        self._steady = steady_ns
        self.speed = speed

    def jump(self, market_ns: int, steady_ns: int) -> None:
        """Go on at another market time; a paused pacer stays paused."""
        self._market = market_ns
        self._steady = steady_ns


class LateCounts:
    """How late lines were, as counts: 1 µs steps up to 10 ms, 1 % steps above; the greatest exactly."""

    _FINE: Final = 10_000
    _COARSE: Final = 1_700
    _STEP: Final = math.log(1.01)

    def __init__(self) -> None:
        self._counts = np.zeros(self._FINE + self._COARSE, np.int64)
        self.lines = 0
        self.worst_ns = 0

    def add(self, late_ns: Int64) -> None:
        """Count lines; what was early (never by more than rounding) counts as in time."""
        if not len(late_ns):
            return
        micros = np.maximum(late_ns, 0) // 1000
        place = micros
        if int(micros[0]) >= self._FINE or int(micros.max()) >= self._FINE:
            coarse = self._FINE + (np.log(np.maximum(micros, 1) / self._FINE) / self._STEP).astype(np.int64)
            place = np.where(micros < self._FINE, micros, np.minimum(coarse, len(self._counts) - 1))
        np.add.at(self._counts, place, 1)
        self.lines += len(late_ns)
        self.worst_ns = max(self.worst_ns, int(late_ns.max()))

    def quantile_ms(self, share: float) -> float:
        """The lateness that this share of the lines did not exceed, ms."""
        if not self.lines:
            return 0.0
        place = int(np.searchsorted(np.cumsum(self._counts), math.ceil(share * self.lines)))
        micros = place + 1 if place < self._FINE else self._FINE * math.exp((place - self._FINE + 1) * self._STEP)
        return float(min(micros / 1000, max(self.worst_ns, 0) / 1e6))

    def as_record(self) -> dict[str, float]:
        """`p50_ms`, `p99_ms`, `max_ms`, and the number of lines."""
        return {
            "p50_ms": round(self.quantile_ms(0.5), 4), "p99_ms": round(self.quantile_ms(0.99), 4),
            "max_ms": round(self.worst_ns / 1e6, 4), "lines": self.lines,
        }  # fmt: skip

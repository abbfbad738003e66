"""When a failed write is tried again, and how a sink that is away is asked whether it is back: seldom, and by one stream for all.

What does not belong here: what a failure means for the rows (the sinks), what happens to them (follower).
"""

import random
from typing import Final

from l2_platform.clock import Clock
from l2_platform.errors import SinkBackpressure, SinkBlocked, SinkError, SinkMisconfigured, SinkRejected
from l2_platform.settings import DeliverySettings

NS: Final = 1_000_000_000
PROBE_S: Final = 1.0
"""Least time between two attempts, over all streams, while a sink counts as down, s; never more than `retry_cap_s`."""


def wait_s(error: SinkError, failures: int, settings: DeliverySettings) -> float:
    """How long to wait after the `failures`-th failure in a row, s: growing with jitter; at once long where time alone mends nothing."""
    wait: float = min(settings.retry_first_s * 2 ** min(failures - 1, 16), settings.retry_cap_s)
    if isinstance(error, SinkBlocked | SinkRejected) or (isinstance(error, SinkMisconfigured) and failures > 1):
        # a missing table is made again at the second attempt; all else of it takes a person
        wait = settings.retry_cap_s
    wait *= random.uniform(0.7, 1.0)  # noqa: S311  jitter, no secret
    if isinstance(error, SinkBackpressure):
        wait = max(wait, min(error.retry_after_s, settings.retry_cap_s))
    return wait


def trouble_of(error: SinkError) -> str:
    """The failure in a word, for people and alerts: refused, misconfigured, blocked, busy or unavailable."""
    if isinstance(error, SinkRejected):
        return "refused"
    if isinstance(error, SinkMisconfigured):
        return "misconfigured"
    if isinstance(error, SinkBlocked):
        return "blocked"
    return "busy" if isinstance(error, SinkBackpressure) else "unavailable"


class Breaker:
    """What the streams of one sink know together: after `breaker_failures` in a row it is down, then one attempt a second asks."""

    def __init__(self, settings: DeliverySettings, clock: Clock) -> None:
        self._limit = settings.breaker_failures
        self._probe_ns = int(min(PROBE_S, settings.retry_cap_s) * NS)
        self._clock = clock
        self._failures = 0
        self._probe_at = 0
        self._back_at = 0

    @property
    def is_open(self) -> bool:
        """The sink counts as down."""
        return self._failures >= self._limit

    def holds(self, now: int) -> bool:
        """No attempt may be made now (monotonic ns)."""
        return self.is_open and now < self._probe_at

    def attempt(self, now: int) -> None:
        """An attempt begins."""
        self._probe_at = now + self._probe_ns

    def failed(self) -> None:
        """It failed."""
        self._failures += 1
        self._probe_at = max(self._probe_at, self._clock.monotonic_ns())

    def worked(self) -> None:
        """It did not: every stream may go on at once."""
        if self.is_open:
            self._back_at = self._clock.monotonic_ns()
        self._failures = 0

    def came_back_after(self, failed_at: int) -> bool:
        """The sink was down and answered after this moment (monotonic ns)."""
        return self._back_at > failed_at

"""Is the link alive, and when to try again: rules on time alone, so that tests can turn the clock.

What does not belong here: reading a clock, sockets.
"""

from collections.abc import Callable
from enum import StrEnum


class Pulse(StrEnum):
    """What silence means so far."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    SILENT = "silent"


class Liveness:
    """Bytes keep a link alive, any bytes: the feed sends its time once a second even when no market is open."""

    def __init__(self, suspect_ns: int, silence_ns: int) -> None:
        self._suspect_ns = suspect_ns
        self._silence_ns = silence_ns
        self._heard_at_ns = 0
        self.pulse = Pulse.ALIVE

    def connected(self, now_ns: int) -> None:
        """A new link: its silence counts from here."""
        self._heard_at_ns = now_ns
        self.pulse = Pulse.ALIVE

    def heard(self, now_ns: int) -> bool:
        """Bytes came; True when the link was suspect before."""
        self._heard_at_ns = now_ns
        was_suspect = self.pulse is not Pulse.ALIVE
        self.pulse = Pulse.ALIVE
        return was_suspect

    def judge(self, now_ns: int) -> Pulse | None:
        """The new pulse when it changed, else None."""
        quiet_ns = now_ns - self._heard_at_ns
        pulse = Pulse.ALIVE
        if quiet_ns >= self._silence_ns:
            pulse = Pulse.SILENT
        elif quiet_ns >= self._suspect_ns:
            pulse = Pulse.SUSPECT
        if pulse is self.pulse:
            return None
        self.pulse = pulse
        return pulse


class Backoff:
    """Waits that double up to a cap, each shortened by up to half at random so that many clients do not come back at once."""

    def __init__(self, first_s: float, cap_s: float, random: Callable[[], float]) -> None:
        """`random` gives numbers from 0 up to 1."""
        self._first_s = first_s
        self._cap_s = cap_s
        self._random = random
        self._next_s = first_s

    def wait_s(self) -> float:
        """The wait before the next attempt, s."""
        wait_s = self._next_s * (1 - self._random() / 2)
        self._next_s = min(self._next_s * 2, self._cap_s)
        return wait_s

    def reset(self) -> None:
        """An attempt was good: the next wait is the first again."""
        self._next_s = self._first_s

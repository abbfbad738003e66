"""Which ended session date the daily close is asked for again, and when: so many dates back, so often, with growing distance. Pure.

A closed date whose rows changed since (repaired, rebuilt) is one of them, however old it is.

What does not belong here: looking (resources/closes.py), asking (sensors/closing.py), the close itself (`close.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from l2_platform.settings import CloseSettings

NS = 10**9


@dataclass(frozen=True, slots=True)
class Unclosed:
    """A session date that ended and is not closed, or changed since."""

    session_date: int
    """YYYYMMDD."""
    end_ns: int
    """When it ended, ns."""
    running: bool = False
    """A run of the daily close is queued or at work on it."""
    tries: int = 0
    """Runs that were asked for again."""
    last_ns: int = 0
    """When the last run of the daily close for it ended, ns; 0: there was none."""
    changed_ns: int = 0
    """It was closed, and its rows changed then, ns; 0: it was never closed."""

    @property
    def since_ns(self) -> int:
        """From when on it is to be closed, ns."""
        return max(self.end_ns, self.changed_ns)


def wait_s(tries: int, close: CloseSettings) -> float:
    """Distance of the next try from the end of the last one, s: doubled with each, up to a bound."""
    # far beyond the bound already; a power of 10,000 would not be a float
    doubled: float = close.again_first_s * 2.0 ** min(tries, 64)
    return min(doubled, close.again_cap_s)


def due_ns(date: Unclosed, close: CloseSettings) -> int | None:
    """When it is asked for again, ns; None when it was often enough. The first run is the schedule's, `close.margin_s` after the end."""
    if date.tries >= close.again_max:
        return None
    return max(date.last_ns, date.changed_ns, date.end_ns + int(close.margin_s * NS)) + int(wait_s(date.tries, close) * NS)


def next_close(now_ns: int, dates: Sequence[Unclosed], close: CloseSettings) -> Unclosed | None:
    """The date to ask for now: the newest that is due, and none while any is being closed."""
    if any(date.running for date in dates):
        return None
    due = [date for date in dates if (at := due_ns(date, close)) is not None and at <= now_ns]
    return max(due, key=lambda date: date.session_date, default=None)


def tell(date: Unclosed, close: CloseSettings) -> str:
    """What becomes of it, for people."""
    if date.running:
        return "a run of daily_close is at work"
    at = due_ns(date, close)
    if at is None:
        return f"{date.tries} more tries did not help" if date.tries else "it is not tried again (close.again_max is 0)"
    return f"try {date.tries + 1} of {close.again_max} follows at {datetime.fromtimestamp(at // NS, UTC):%Y-%m-%d %H:%M} UTC"

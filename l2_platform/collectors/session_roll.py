"""Which session date a stream records under, and when it moves to the next.

The date comes from our clock and the stream's calendar, never goes back, and waits while our clock and the feed's own clock
differ too much: a wrong clock must not file a day under another. Between two readings the feed's clock is carried on by time that
never steps, so a step of ours shows at once. What does not belong here: reading a clock, the journal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from l2_platform.errors import ConfigError

SessionEnds = Sequence[tuple[int, int]]
"""(session date as YYYYMMDD, end of the session in ns UTC), ascending."""
_DAY_NS = 86_400 * 1_000_000_000
_CLOCK_FRESH_NS = 5_000_000_000
"""A feed that has sent no clock for this long (it sends one a second) is not waited for at a session's end."""


@dataclass(frozen=True, slots=True)
class Roll:
    """Move to this session date."""

    session_date: int


@dataclass(frozen=True, slots=True)
class RollWaits:
    """The session has ended by our clock, but the feed's clock is `skew_s` behind (+) or ahead (-) of it."""

    skew_s: float


class SessionRoll:
    """The stream's session date and when it ends."""

    def __init__(self, calendar: str, skew_max_s: float, load: Callable[[int], SessionEnds]) -> None:
        """`load(now_ns)` gives the sessions from now on when the table at hand does not reach far enough."""
        self._calendar = calendar
        self._skew_max_ns = int(skew_max_s * 1e9)
        self._load = load
        self._table: SessionEnds = ()
        self.current = 0
        self._ends_ns = 0
        self.skew_ns: int | None = None
        self._feed_ns = 0
        self._read_at_ns = 0

    def use_table(self, table: SessionEnds) -> None:
        """Sessions as Dagster tells them; an empty table is ignored."""
        if table:
            self._table = sorted((int(date), int(end)) for date, end in table)

    def start(self, now_ns: int, recorded_date: int | None) -> int:
        """The session date to record under; never before `recorded_date`, the newest that the stream has."""
        date, end_ns = self._session_at(now_ns)
        if recorded_date is not None and recorded_date > date:
            date = recorded_date
            end_ns = next((end for other, end in self._sessions(now_ns) if other >= recorded_date), end_ns)
        self.current, self._ends_ns = date, end_ns
        return date

    def feed_clock(self, feed_ns: int, now_ns: int, monotonic_ns: int) -> None:
        """The feed said its time; `now_ns` and `monotonic_ns` are ours at that moment."""
        self.skew_ns = now_ns - feed_ns
        self._feed_ns, self._read_at_ns = feed_ns, monotonic_ns

    def is_skewed(self) -> bool:
        """Our clock and the feed's differ by more than may be."""
        return self.skew_ns is not None and abs(self.skew_ns) > self._skew_max_ns

    def link_lost(self) -> None:
        """No feed clock until the next link."""
        self.skew_ns = None

    def due(self, now_ns: int, monotonic_ns: int) -> Roll | RollWaits | None:
        """What to do about the session's end now; a live feed clock must have been read after that end."""
        if now_ns < self._ends_ns:
            return None
        if self.skew_ns is not None:
            silent_ns = monotonic_ns - self._read_at_ns
            skew_ns = now_ns - (self._feed_ns + silent_ns)
            if abs(skew_ns) > self._skew_max_ns:
                return RollWaits(skew_ns / 1e9)
            # by our clock of now the reading is `silent_ns` old, whatever our clock said when it came
            if now_ns - silent_ns < self._ends_ns and silent_ns < _CLOCK_FRESH_NS:
                return None
        date, end_ns = self._session_at(now_ns)
        if date <= self.current:
            self._ends_ns = max(self._ends_ns, end_ns)
            return None
        return Roll(date)

    def rolled(self, session_date: int, now_ns: int) -> None:
        """The journal moved to `session_date`."""
        self.current = session_date
        self._ends_ns = next((end for date, end in self._sessions(now_ns) if date >= session_date), now_ns + _DAY_NS)

    def _session_at(self, now_ns: int) -> tuple[int, int]:
        for date, end_ns in self._sessions(now_ns):
            if now_ns < end_ns:
                return date, end_ns
        raise ConfigError(
            f"the calendar {self._calendar} knows no session after now; give session.calendar another name"
        )

    def _sessions(self, now_ns: int) -> SessionEnds:
        if not self._table or now_ns >= self._table[-1][1]:
            self._table = self._load(now_ns)
        return self._table

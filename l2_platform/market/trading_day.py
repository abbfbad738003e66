"""When a collector records: the trading of each session with margins, without the hours that are kept free for maintenance.

Pure arithmetic over a calendar. What does not belong here: which session date an instant has (`sessions.py`), reading a clock.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from l2_platform.errors import ConfigError
from l2_platform.market.sessions import SessionCalendar

EXCHANGE_ZONE: Final = "America/New_York"
_ZONE: Final = ZoneInfo(EXCHANGE_ZONE)
_SECOND_NS: Final = 1_000_000_000

Span = tuple[int, int]
"""(start, stop) in ns UTC, stop not included."""


@dataclass(frozen=True, slots=True)
class DayPlan:
    """The rules of one instance."""

    start_margin_s: float = 1800.0
    """Recording begins this long before the first trading of a session, s."""
    stop_margin_s: float = 600.0
    """It ends this long after the last trading, s; at the session's end at the latest."""
    maintenance: str = ""
    """`HH:MM-HH:MM` in New York, every day: nothing is recorded; may go over midnight; empty: none."""


def recording_spans(calendar: SessionCalendar, first: int, last: int, plan: DayPlan) -> tuple[Span, ...]:
    """When to record the sessions from date `first` to `last`, both included and both sessions: ascending, none touches the next.

    A market that never closes gives one span. Within a session's own time: the start never reaches into the session before.
    """
    spans: list[Span] = []
    session_date = first
    while session_date <= last:
        windows = calendar.windows(session_date)
        start = windows[0].start - round(plan.start_margin_s * _SECOND_NS)
        stop = windows[-1].end + round(plan.stop_margin_s * _SECOND_NS)
        span = max(start, calendar.start_of(session_date)), min(stop, calendar.end_of(session_date))
        if spans and spans[-1][1] == span[0]:
            spans[-1] = spans[-1][0], span[1]
        else:
            spans.append(span)
        session_date = calendar.next_session(session_date)
    return tuple(_without(spans, tuple(_maintenance(plan.maintenance, spans))))


def is_recording(spans: Sequence[Span], at_ns: int) -> bool:
    """An instant lies in one of the spans."""
    return any(start <= at_ns < stop for start, stop in spans)


def next_change(spans: Sequence[Span], at_ns: int) -> int | None:
    """When recording next begins or ends after an instant, ns UTC; None when the spans say no more."""
    return min((edge for span in spans for edge in span if edge > at_ns), default=None)


def _without(spans: Iterable[Span], closed: Sequence[Span]) -> Iterator[Span]:
    for start, stop in spans:
        begin = start
        for shut, opens in closed:
            if opens <= begin or shut >= stop:
                continue
            if shut > begin:
                yield begin, shut
            begin = max(begin, opens)
        if begin < stop:
            yield begin, stop


def _maintenance(text: str, spans: Sequence[Span]) -> Iterator[Span]:
    """The maintenance hours of every day that the spans touch, in New York's time, ascending."""
    if not text or not spans:
        return
    try:
        begin, end = (time.fromisoformat(part) for part in text.split("-"))
    except ValueError:
        raise ConfigError(f"session.maintenance: {text!r} is not HH:MM-HH:MM") from None
    day = _new_york_date(spans[0][0]) - timedelta(days=1)
    last = _new_york_date(spans[-1][1])
    while day <= last:
        until = day + timedelta(days=1) if end <= begin else day
        yield _instant(day, begin), _instant(until, end)
        day += timedelta(days=1)


def _new_york_date(at_ns: int) -> date:
    return datetime.fromtimestamp(at_ns // _SECOND_NS, UTC).astimezone(_ZONE).date()


def _instant(day: date, at: time) -> int:
    return int(datetime.combine(day, at, _ZONE).timestamp()) * _SECOND_NS

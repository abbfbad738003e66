"""The time span of a read, from what people write: dates mean session dates, everything else an instant.

What does not belong here: rows.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from l2_platform.errors import InputError

NEW_YORK: Final = ZoneInfo("America/New_York")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
Bound = date | datetime | str
DAYS_BEFORE: Final = timedelta(days=1)
DAYS_AFTER: Final = timedelta(days=10)
"""How far the session date of an instant can lie from its UTC date: a session begins on the evening before, after a long holiday."""


@dataclass(frozen=True, slots=True)
class Span:
    """From `first` on and before `end`; each None = open, a date = session dates, an int = ns since the epoch."""

    first: date | int | None
    end: date | int | None

    def condition(self, moment: str) -> tuple[str, dict[str, object]]:
        """SQL for rows whose instant (ns) is `moment`, and its parameters; never empty."""
        parts, parameters = ["1"], dict[str, object]()
        for name, sign, bound in (("first", ">=", self.first), ("end", "<", self.end)):
            if bound is None:
                continue
            if isinstance(bound, date):
                parts.append(f"session_date {sign} {{{name}:Date32}}")
                parameters[name] = bound
                continue
            parts.append(f"{moment} {sign} {{{name}:Int64}}")
            parameters[name] = bound
            # Only the partitions that may have such rows are looked at.
            day = (EPOCH + timedelta(microseconds=bound // 1000)).date()
            near = day - DAYS_BEFORE if name == "first" else day + DAYS_AFTER
            parts.append(f"session_date {'>=' if name == 'first' else '<='} {{{name}_day:Date32}}")
            parameters[f"{name}_day"] = near
        return " AND ".join(parts), parameters

    def days(self) -> tuple[date | None, date | None]:
        """First and last session date that may have rows, both included."""
        first, last = self.first, self.end
        if isinstance(first, int):
            first = (EPOCH + timedelta(microseconds=first // 1000)).date() - DAYS_BEFORE
        if isinstance(last, int):
            last = (EPOCH + timedelta(microseconds=last // 1000)).date() + DAYS_AFTER
        elif last is not None:
            last -= timedelta(days=1)
        return first, last


def span_of(start: Bound | None, end: Bound | None) -> Span:
    """The half-open span of two bounds; InputError when one cannot be read or the span is empty."""
    first, last = bound_of(start, "start"), bound_of(end, "end")
    if type(first) is type(last) and first is not None and last is not None and last <= first:  # type: ignore[operator]  # of one type
        raise InputError(f"end {end} is not after start {start}: the span is half-open, start included and end not")
    return Span(first, last)


def bound_of(value: Bound | None, name: str) -> date | int | None:
    """A session date, or ns since the epoch; None stays None."""
    if value is None:
        return None
    if isinstance(value, str):
        value = _parsed(value.strip(), name)
    if isinstance(value, datetime):
        return ns_of(value)
    if isinstance(value, date):
        return value
    raise InputError(f"{name}: {type(value).__name__} is no time; give a datetime, a date, or text like 2026-11-20T09:30")


def instant_of(value: Bound, name: str) -> int:
    """Nanoseconds since the epoch; InputError for a date alone."""
    found = bound_of(value, name)
    if not isinstance(found, int):
        raise InputError(f"{name}: {value!r} is no instant; give a datetime, or text like 2026-11-20T10:00:00 (New York time)")
    return found


def ns_of(moment: datetime) -> int:
    """Nanoseconds since the epoch; a time without a zone is New York's."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=NEW_YORK)
    delta = moment.astimezone(UTC) - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000_000 + delta.microseconds * 1000


def _parsed(text: str, name: str) -> date | datetime:
    try:
        return date.fromisoformat(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"{name}: {text!r} is no time; write 2026-11-20 (session date) or 2026-11-20T09:30:00 (New York), or add an offset"
        ) from None

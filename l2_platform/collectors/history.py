"""What the vendor's history can be asked for: ticks, or bars of a length; each with its request, its stream and its span.

What does not belong here: sending requests (`fetching`), the journal and the sinks (`backfill`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from l2_platform.market.sessions import SessionCalendar

NS: Final = 1_000_000_000
NEW_YORK: Final = ZoneInfo("America/New_York")
DAY_S: Final = 86_400
BEGIN_LABEL: Final = 1
"""Bars are named by their begin."""


@dataclass(frozen=True, slots=True)
class History:
    """One kind of history."""

    stream: str
    word: str
    """The vendor's request."""
    interval_s: int = 0
    """Length of a bar, s; 86,400 = an exchange date; 0: ticks."""

    @property
    def text(self) -> str:
        """For messages."""
        if not self.interval_s:
            return "ticks"
        return "daily bars" if self.interval_s == DAY_S else f"bars of {self.interval_s} s"

    @property
    def parameters(self) -> dict[str, str | int]:
        """What the request has beside symbol and span."""
        return {"interval": self.interval_s, "kind": "s", "label": BEGIN_LABEL} if self.word == "HIT" else {}

    @property
    def fields(self) -> dict[str, Any]:
        """What the control frame in front of a reply says of it."""
        return {"request": self.word} | self.context

    @property
    def context(self) -> dict[str, Any]:
        """What segment headers say of it, so that one kind is not taken for another."""
        return {"interval_s": self.interval_s} if self.interval_s else {}

    def matches(self, context: Mapping[str, Any]) -> bool:
        """Whether a segment header is about this kind."""
        return int(context.get("interval_s", 0)) == self.interval_s

    def folder(self, session_date: int) -> str:
        """Where replies wait for the journal."""
        return f"{session_date}-bars-{self.interval_s}" if self.interval_s else str(session_date)

    def span(self, calendar: SessionCalendar, session_date: int) -> tuple[str, str]:
        """First and last second of the session, New York, as the request wants them; of daily bars the date itself."""
        if self.word == "HDT":
            return str(session_date), str(session_date)
        return _local(calendar.start_of(session_date)), _local(calendar.end_of(session_date) - NS)


TICKS: Final = History("iqfeed-ticks-history", "HTT")


def bars(interval_s: int) -> History:
    """Bars of a length, s."""
    return History("iqfeed-bars-history", "HDT" if interval_s == DAY_S else "HIT", interval_s)


def _local(ts: int) -> str:
    return datetime.fromtimestamp(ts // NS, NEW_YORK).strftime("%Y%m%d %H%M%S")

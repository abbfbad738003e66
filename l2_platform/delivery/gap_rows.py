"""Versions of gaps as rows of one (stream, session date): their names, their order, and which gaps were told lately.

Everybody who finds gaps writes here, in journal order, so that (seq, ordinal) never goes back: a sink is asked by them how far it got.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from l2_platform.market.events import NULL_TS

OPEN: Final = "open"
CLOSED: Final = "closed"
WITHDRAWN: Final = "withdrawn"
"""It was silent and went on: nothing was lost."""
RECENT_MAX: Final = 64
"""Gaps of the whole stream that are remembered."""


@dataclass(slots=True)
class Gap:
    """One version of a gap, as a row of `gap_events`."""

    gap_id: str
    cause: str
    ts_from: int
    ts_to: int
    state: str
    version: int
    seq_before: int
    symbols: list[str] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)
    seq: int = 0
    ordinal: int = 0


class GapRows:
    """Rows of `gap_events` until they are taken."""

    def __init__(self, stream: str, session_date: int) -> None:
        self.stream = stream
        self.session_date = session_date
        self.found = 0
        """Gaps opened since this was made."""
        self.recent: list[tuple[int, int, str]] = []
        """(from, to, id) of the newest gaps of the whole stream in which something was lost."""
        self.pauses: list[tuple[int, int]] = []
        """(from, to) of gaps and silences of the whole stream that ended and were not looked at yet."""
        self._seq = 0
        self._ordinal = 0
        self._rows: list[Gap] = []

    def take(self) -> list[Gap]:
        """The rows since the last call, in journal order."""
        rows, self._rows = self._rows, []
        return rows

    def take_pauses(self) -> list[tuple[int, int]]:
        """The pauses since the last call."""
        pauses, self.pauses = self.pauses, []
        return pauses

    def state(self) -> dict[str, Any]:
        """Everything needed to go on, JSON-able."""
        return {"seq": self._seq, "ordinal": self._ordinal, "recent": list(self.recent), "pauses": list(self.pauses)}

    def restore(self, state: dict[str, Any]) -> None:
        """Undo `state()`."""
        self._seq, self._ordinal = state["seq"], state["ordinal"]
        self.recent = [(int(since), int(until), str(gap_id)) for since, until, gap_id in state["recent"]]
        self.pauses = [(int(since), int(until)) for since, until in state["pauses"]]

    def add_open(self, cause: str, ts_from: int, seq: int, symbols: list[str], evidence: dict[str, Any], seq_before: int) -> Gap:
        """A gap that begins at `ts_from` and is not over; `seq`: where it is found."""
        return self._first(cause, ts_from, NULL_TS, OPEN, seq, symbols, evidence, seq_before)

    def add_closed(
        self, cause: str, ts_from: int, ts_to: int, seq: int, symbols: list[str], evidence: dict[str, Any], seq_before: int
    ) -> Gap:
        """A gap that is over when it is found."""
        gap = self._first(cause, ts_from, max(ts_to, ts_from), CLOSED, seq, symbols, evidence, seq_before)
        self._remember(gap)
        return gap

    def revise(self, old: Gap, seq: int, **changes: Any) -> Gap:
        """The next version of a gap."""
        number, ordinal = self._key(seq)
        gap = Gap(**(asdict(old) | changes | {"version": old.version + 1, "seq": number, "ordinal": ordinal}))
        self._rows.append(gap)
        return gap

    def close(self, old: Gap, ts_to: int, seq: int, state: str, evidence: dict[str, Any] | None = None) -> Gap:
        """The last version of an open gap."""
        told = old.evidence if evidence is None else evidence
        gap = self.revise(old, seq, ts_to=max(ts_to, old.ts_from), state=state, evidence=told)
        self._remember(gap)
        return gap

    def _remember(self, gap: Gap) -> None:
        if gap.symbols:
            return
        self.pauses.append((gap.ts_from, gap.ts_to))
        if gap.state == CLOSED:
            self.recent = [*self.recent, (gap.ts_from, gap.ts_to, gap.gap_id)][-RECENT_MAX:]

    def _first(
        self, cause: str, ts_from: int, ts_to: int, state: str, seq: int, symbols: list[str], evidence: dict[str, Any], seq_before: int
    ) -> Gap:
        number, ordinal = self._key(seq)
        # With a clock that was set back two gaps may begin at the same time: their places in the journal tell them apart.
        text = json.dumps([self.stream, self.session_date, cause, ts_from, symbols, number, ordinal])
        gap_id = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.found += 1
        gap = Gap(gap_id, cause, ts_from, ts_to, state, 1, seq_before, symbols, dict(evidence), number, ordinal)
        self._rows.append(gap)
        return gap

    def _key(self, seq: int) -> tuple[int, int]:
        if seq != self._seq:
            self._seq, self._ordinal = seq, 0
        self._ordinal += 1
        return self._seq, self._ordinal

"""Gaps of one stream, found from what its journal says: a small state machine without I/O and without a clock.

A gap is data that the feed did not deliver to us, with exact bounds: `ts_from` is the last byte before it, `ts_to` the first market
data after it. Causes: disconnect, silence, restart, stopped, journal_loss, damage, server_disconnected, late_subscription. A gap
opens with the evidence and closes when the stream is whole again; both are rows of `gap_events`, the newest version of a `gap_id`
is its state. What does not belong here: silence of single symbols, counters, repair.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from l2_platform.market.events import NULL_TS

OPEN = "open"
CLOSED = "closed"
WITHDRAWN = "withdrawn"
"""The link was silent and went on: nothing was lost."""


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


class GapTracker:
    """Feed it control frames, data and system lines of one (stream, session date) in journal order; take gap rows out."""

    def __init__(self, stream: str, session_date: int, session_start: int) -> None:
        """`session_start`: ns UTC from which the stream should have recorded; NULL_TS when nothing is expected."""
        self.stream = stream
        self.session_date = session_date
        self.session_start = session_start
        self.last_data = NULL_TS
        self.opened = 0
        """Gaps found by this tracker since it was made."""
        self.open: Gap | None = None
        self.subscribed_at = NULL_TS
        self._closing = False
        self._unwatched: dict[str, int] = {}
        self._seq = 0
        self._ordinal = 0
        self._rows: list[Gap] = []

    def take(self) -> list[Gap]:
        """The rows since the last call, in journal order."""
        rows, self._rows = self._rows, []
        return rows

    def state(self) -> dict[str, Any]:
        """Everything needed to go on, JSON-able."""
        return {
            "session_date": self.session_date, "session_start": self.session_start, "last_data": self.last_data,
            "open": asdict(self.open) if self.open else None, "subscribed_at": self.subscribed_at, "closing": self._closing,
            "unwatched": dict(self._unwatched), "seq": self._seq, "ordinal": self._ordinal,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Undo `state()`."""
        self.session_date, self.session_start = state["session_date"], state["session_start"]
        self.last_data, self.subscribed_at = state["last_data"], state["subscribed_at"]
        self.open = Gap(**state["open"]) if state["open"] else None
        self._closing, self._unwatched = state["closing"], dict(state["unwatched"])
        self._seq, self._ordinal = state["seq"], state["ordinal"]

    def on_data(self, ts_first: int, ts_last: int, seq: int) -> None:
        """Market data arrived: received from `ts_first` to `ts_last`, `seq` the first of it (the last depends on how one reads)."""
        if self._closing and self.open is not None:
            self._close(max(ts_first, self.subscribed_at), seq, CLOSED)
        self.last_data = max(self.last_data, ts_last)

    def on_server(self, connected: bool, ts: int, seq: int) -> None:
        """The feed's own upstream went away, or came back (`S,SERVER DISCONNECTED` / `S,SERVER CONNECTED`)."""
        if not connected:
            self._open("server_disconnected", ts, seq, {"line": "S,SERVER DISCONNECTED"})
        elif self.open is not None and self.open.cause == "server_disconnected":
            self._closing = True

    def on_damage(self, seq: int, reason: dict[str, Any]) -> None:
        """A range of the journal could not be read: a gap from the last data before it to the first after it."""
        since = self.last_data if self.last_data != NULL_TS else self.session_start
        if self.open is None and since != NULL_TS:
            self._open("damage", since, seq, reason)
        # What would have said that the stream is whole again may lie in the damage itself: the next data say so.
        self._closing = self.open is not None

    def end(self, ts: int, seq: int) -> None:
        """The date is over at `ts` (NULL_TS: unknown): what is still open ends there; what began after it lost nothing."""
        if self.open is not None:
            since = self.open.ts_from
            self._close(max(ts, since), seq, WITHDRAWN if NULL_TS != ts <= since else CLOSED)

    def on_control(self, event: str, fields: dict[str, Any], ts: int, seq: int) -> None:
        """A control frame."""
        last = int(fields.get("last_byte_ns") or self.last_data)
        match event:
            case "collector_start":
                self._started(fields, ts, seq)
            case "collector_stop":
                self._open("stopped", self._since(last, ts), seq, {"reason": fields.get("reason", "")})
            case "disconnect":
                cause = "silence" if fields.get("reason") == "silence" else "disconnect"
                self._open(cause, self._since(last, ts), seq, {"reason": fields.get("reason", "")})
            case "connect_failed" | "connect" if self.open is None and NULL_TS != self.session_start < ts:
                # No link, and nothing in this date says since when: it was down when the session began.
                self._open("disconnect", max(self.session_start, self.last_data), seq, {"reason": "down when the session began"})
            case "suspect":
                self._open("silence", self._since(last, ts), seq, {"provisional": True})
            case "resumed" if self.open is not None and self.open.evidence.get("provisional"):
                self._close(ts, seq, WITHDRAWN)
            case "session" if fields.get("last_byte_ns") and NULL_TS != self.session_start < last:
                # The date before went on for a moment after this one's begin: up to there nothing is missing.
                self.last_data = max(self.last_data, last)
            case "subscribed":
                self.subscribed_at = ts
                self._closing = self.open is not None
            case "journal_loss" if int(fields.get("bytes") or 0) > 0:
                # Without lost bytes it was a pause: the kernel's buffer and the feed held the rest, or a disconnect says otherwise.
                since, until = int(fields.get("from_ns") or last), int(fields.get("to_ns") or ts)
                self._emit_closed("journal_loss", since, until, seq, [], dict(fields))
            case "unwatch":
                self._unwatched.update({str(name): ts for name in fields.get("symbols", ())})
            case "watch" if self.subscribed_at != NULL_TS:
                self._watched([str(name) for name in fields.get("symbols", ())], ts, seq)
            case _:
                pass

    def _since(self, last: int, ts: int) -> int:
        return ts if last == NULL_TS or not last else last

    def _started(self, fields: dict[str, Any], ts: int, seq: int) -> None:
        last = fields.get("last_ts")
        if self.last_data == NULL_TS and last is None:
            if self.session_start != NULL_TS and ts > self.session_start:
                self._open("late_subscription", self.session_start, seq, {"started": ts})
            return
        evidence = {"clean": bool(fields.get("clean")), "lost_tail_bytes": fields.get("lost_tail_bytes", 0)}
        since = self.last_data
        if since == NULL_TS:
            # `last` may be of a note that was written without a link: this date has had nothing since its begin.
            since = int(last or ts) if self.session_start == NULL_TS else min(int(last or ts), self.session_start)
        self._open("stopped" if fields.get("clean") else "restart", since, seq, evidence)

    def _watched(self, symbols: list[str], ts: int, seq: int) -> None:
        """Symbols that were added while running: nothing of them is known from the session's start, or since they were dropped."""
        since: dict[int, list[str]] = {}
        for name in symbols:
            start = self._unwatched.pop(name, self.session_start)
            if start != NULL_TS and start < ts:
                since.setdefault(start, []).append(name)
        for start, names in sorted(since.items()):
            self._emit_closed("late_subscription", start, ts, seq, names, {"watched": ts})

    def _key(self, seq: int) -> tuple[int, int]:
        if seq != self._seq:
            self._seq, self._ordinal = seq, 0
        self._ordinal += 1
        return self._seq, self._ordinal

    def _identity(self, cause: str, ts_from: int, symbols: list[str], seq: int, ordinal: int) -> str:
        # With a clock that was set back two gaps may begin at the same time: their places in the journal tell them apart.
        text = json.dumps([self.stream, self.session_date, cause, ts_from, symbols, seq, ordinal])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _open(self, cause: str, ts_from: int, seq: int, evidence: dict[str, Any]) -> None:
        if self.open is not None:
            # The first evidence has the earliest bound; what follows only says more about the same gap.
            self._closing = False
            if self.open.evidence.get("provisional") and not evidence.get("provisional"):
                self._revise(evidence, seq)
            return
        self._closing = False
        number, ordinal = self._key(seq)
        gap_id = self._identity(cause, ts_from, [], number, ordinal)
        self.opened += 1
        self.open = Gap(gap_id, cause, ts_from, NULL_TS, OPEN, 1, seq, [], dict(evidence), number, ordinal)
        self._rows.append(self.open)

    def _revise(self, evidence: dict[str, Any], seq: int) -> None:
        assert self.open is not None
        number, ordinal = self._key(seq)
        old = self.open
        self.open = Gap(
            old.gap_id, old.cause, old.ts_from, NULL_TS, OPEN, old.version + 1, old.seq_before, old.symbols, evidence, number, ordinal
        )
        self._rows.append(self.open)

    def _close(self, ts_to: int, seq: int, state: str) -> None:
        assert self.open is not None
        old, self.open, self._closing = self.open, None, False
        number, ordinal = self._key(seq)
        closed = Gap(
            old.gap_id, old.cause, old.ts_from, max(ts_to, old.ts_from), state, old.version + 1, old.seq_before, old.symbols,
            old.evidence, number, ordinal,
        )  # fmt: skip
        self._rows.append(closed)

    def _emit_closed(self, cause: str, ts_from: int, ts_to: int, seq: int, symbols: list[str], evidence: dict[str, Any]) -> None:
        number, ordinal = self._key(seq)
        gap_id = self._identity(cause, ts_from, symbols, number, ordinal)
        self.opened += 1
        self._rows.append(Gap(gap_id, cause, ts_from, ts_to, CLOSED, 1, seq, symbols, evidence, number, ordinal))

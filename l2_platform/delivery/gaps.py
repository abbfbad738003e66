"""Gaps of one stream, found from what its journal says: a small state machine without I/O and without a clock.

A gap is data that the feed did not deliver to us, with exact bounds: `ts_from` is the last byte before it, `ts_to` the first market
data after it. Causes: disconnect, silence, restart, stopped, journal_loss, damage, server_disconnected, late_subscription. A gap
opens with the evidence and closes when the stream is whole again; both are rows of `gap_events`, the newest version of a `gap_id`
is its state. What does not belong here: silence of single symbols and counters (symbol_gaps), repair.
"""

from dataclasses import asdict
from typing import Any

from l2_platform.delivery.gap_rows import CLOSED, WITHDRAWN, Gap, GapRows
from l2_platform.market.events import NULL_TS


class GapTracker:
    """Feed it control frames, data and system lines of one (stream, session date) in journal order; take gap rows out."""

    def __init__(self, stream: str, session_date: int, session_start: int) -> None:
        """`session_start`: ns UTC from which the stream should have recorded; NULL_TS when nothing is expected."""
        self.rows = GapRows(stream, session_date)
        """Where the rows are; others may find gaps of the same stream."""
        self.session_start = session_start
        self.last_data = NULL_TS
        self.open: Gap | None = None
        self.subscribed_at = NULL_TS
        self._closing = False
        self._unwatched: dict[str, int] = {}

    @property
    def opened(self) -> int:
        """Gaps found since this tracker was made."""
        return self.rows.found

    def take(self) -> list[Gap]:
        """The rows since the last call, in journal order."""
        return self.rows.take()

    def state(self) -> dict[str, Any]:
        """Everything needed to go on, JSON-able."""
        return {
            "session_date": self.rows.session_date, "session_start": self.session_start, "last_data": self.last_data,
            "open": asdict(self.open) if self.open else None, "subscribed_at": self.subscribed_at, "closing": self._closing,
            "unwatched": dict(self._unwatched), "rows": self.rows.state(),
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Undo `state()`."""
        self.rows.session_date, self.session_start = state["session_date"], state["session_start"]
        self.last_data, self.subscribed_at = state["last_data"], state["subscribed_at"]
        self.open = Gap(**state["open"]) if state["open"] else None
        self._closing, self._unwatched = state["closing"], dict(state["unwatched"])
        self.rows.restore(state["rows"])

    def on_data(self, ts_first: int, ts_last: int, seq: int) -> None:
        """Market data arrived: received from `ts_first` to `ts_last`, `seq` the first of it (the last depends on how one reads)."""
        if self._closing and self.open is not None:
            self._close(max(ts_first, self.subscribed_at), seq, CLOSED)
        elif self.open is not None and self.open.evidence.get("heartbeat"):
            # What was lost meanwhile, if anything, the counters of each symbol tell.
            self._close(ts_first, seq, WITHDRAWN)
        self.last_data = max(self.last_data, ts_last)

    def on_quiet(self, seq: int, evidence: dict[str, Any]) -> None:
        """The feed's heartbeat goes on, and for improbably long no market data came with it."""
        if self.open is None and self.last_data != NULL_TS:
            self._open("silence", self.last_data, seq, {"provisional": True, "heartbeat": True, **evidence})

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
                self.rows.add_closed("journal_loss", since, until, seq, [], dict(fields), seq)
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
            self.rows.add_closed("late_subscription", start, ts, seq, names, {"watched": ts}, seq)

    def _open(self, cause: str, ts_from: int, seq: int, evidence: dict[str, Any]) -> None:
        self._closing = False
        if self.open is None:
            self.open = self.rows.add_open(cause, ts_from, seq, [], evidence, seq)
        elif self.open.evidence.get("provisional") and not evidence.get("provisional"):
            # The first evidence has the earliest bound; what follows only says more about the same gap.
            self.open = self.rows.revise(self.open, seq, evidence=dict(evidence))

    def _close(self, ts_to: int, seq: int, state: str) -> None:
        assert self.open is not None
        old, self.open, self._closing = self.open, None, False
        self.rows.close(old, ts_to, seq, state)

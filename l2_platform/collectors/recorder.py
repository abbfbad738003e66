"""The collector's side of the journal: bytes and control frames go in, and a disk that refuses is waited for, not given up.

While the journal cannot be written nothing is read from the feed: the one batch in hand is kept, the feed and the kernel hold
the rest. What does not belong here: the journal's format (`journal.writer`) and what frames mean.
"""

from collections.abc import Callable
from typing import Any

from l2_platform.clock import Clock
from l2_platform.collectors.plain_log import PlainLog
from l2_platform.errors import JournalUnwritable
from l2_platform.journal.writer import JournalWriter

_RETRY_S = 0.2
LAST_WORDS_NS = 3_000_000_000
"""How long a stop insists on a disk that refuses: for what is in hand, for the last frame, and for making all durable."""


class Recorder:
    """Appends to one journal stream; `pulse` is called between retries and returns False when the process must end."""

    def __init__(self, writer: JournalWriter, clock: Clock, log: PlainLog, pulse: Callable[[], bool]) -> None:
        self._writer = writer
        self._clock = clock
        self._log = log
        self._pulse = pulse
        self._context: dict[str, Any] = {}
        self.lines = 0
        self.bytes = 0
        self.last_recv_ns: int | None = None
        self.stalled_since_ns: int | None = None

    @property
    def writer(self) -> JournalWriter:
        """The journal below."""
        return self._writer

    def append(self, data: bytes | memoryview, lines: int, ts_recv: int, conn_id: int, flags: int) -> None:
        """Bytes of the feed, as received (admin logins masked); JournalUnwritable only when the process must end."""
        self._until_written(lambda: self._writer.append(data, lines, ts_recv, conn_id, flags), conn_id)
        self.lines += lines
        self.bytes += len(data)
        self.last_recv_ns = ts_recv

    def control(self, event: str, conn_id: int, **fields: Any) -> None:
        """A fact about the recording, at its place between the bytes."""
        ts = self._clock.now_ns()
        self._until_written(lambda: self._writer.control(event, ts, conn_id, **fields), conn_id)

    def roll(self, session_date: int) -> None:
        """Close this session date and open `session_date`, whose first frame tells decoders to begin with empty books."""
        self._until_written(lambda: self._writer.roll(session_date), 0)
        self.control("session", 0, session_date=session_date, reset=True, last_byte_ns=self.last_recv_ns)

    def context(self, **known: Any) -> None:
        """What a decoder must know that starts at a later segment (protocol, fields, clock, watches)."""
        self._context.update(known)
        self._writer.context(dict(self._context))

    def _until_written(self, write: Callable[[], object], conn_id: int) -> None:
        try:
            write()
        except JournalUnwritable as error:
            self._wait_for_disk(write, conn_id, error)

    def _wait_for_disk(self, write: Callable[[], object], conn_id: int, first: JournalUnwritable) -> None:
        since = self._clock.now_ns()
        self.stalled_since_ns = since
        self._log.error("journal_unwritable", error=first.message)
        written, insist_until = False, 0
        while True:
            self._clock.sleep(_RETRY_S)
            if not self._pulse() and not insist_until:
                insist_until = self._clock.monotonic_ns() + LAST_WORDS_NS
            try:
                if not written:
                    write()
                    written = True
                now = self._clock.now_ns()
                # bytes=0: what was in hand is written now; what the feed dropped meanwhile shows as a disconnect
                self._writer.control(
                    "journal_loss", now, conn_id, from_ns=since, to_ns=now, bytes=0, error=first.message
                )
            except JournalUnwritable:
                if insist_until and self._clock.monotonic_ns() >= insist_until:
                    raise
                continue
            self.stalled_since_ns = None
            self._log.info("journal_writable", waited_s=round((now - since) / 1e9, 1))
            return

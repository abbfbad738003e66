"""Ticks of many symbols from the vendor into files, several at once: one file a symbol, whole or not there.

A file that is there from a run that was ended is not fetched again, unless that run asked otherwise (another span, another protocol,
another port): what was asked is written beside the files. One symbol's failure is told and does not stop the others, but a
vendor that is away or refuses the login does. What does not belong here: the journal and the sinks (`backfill`).
"""

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from l2_platform.clock import Clock
from l2_platform.errors import FeedDisconnected, FeedError, FeedUnauthorized, L2Error
from l2_platform.feeds.iqfeed.lookup import LookupConnection
from l2_platform.feeds.iqfeed.lookup_protocol import Outcome, history_request
from l2_platform.feeds.iqfeed.lookup_rate import SharedRate
from l2_platform.monitoring.atomic import write_atomic
from l2_platform.settings import Settings

NS = 1_000_000_000
RATE_FILE = "lookup-rate"
REQUEST_FILE = "request"
"""What the replies of a folder answer."""
FRAME_BYTES = 256 << 10
FAILED_AT_START = 5
"""So many symbols that fail because the vendor is away, and none answered: the rest would too."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of one symbol."""

    symbol: str
    outcome: str
    """data, no_data, unknown_symbol or failed."""
    lines: int = 0
    file: Path | None = None
    """The reply's bytes, whole; None without data."""
    message: str = ""


def reply_frames(file: Path, ts: int, line_max: int) -> Iterator[tuple[bytes, int, int]]:
    """A reply's whole lines as frames for the journal: payload, lines, and `ts` (ns), when its last byte came."""
    with file.open("rb") as source:
        while chunk := source.read(FRAME_BYTES):
            chunk += source.readline(line_max) if not chunk.endswith(b"\n") else b""
            yield chunk, chunk.count(b"\n"), ts


class Fetcher:
    """Fetches one span for symbols; use it in a `with` block, which ends its threads and sockets."""

    def __init__(
        self, folder: Path, begin: str, end: str, settings: Settings, clock: Clock, *, word: str = "HTT",
        parameters: Mapping[str, str | int] | None = None, seconds: float | None = None,
    ) -> None:  # fmt: skip
        """`begin`, `end`: `CCYYMMDD HHMMSS`, New York; files go to `folder`. `word` and its `parameters`: HTT asks for ticks, others
        for bars. `seconds`: symbols that are not asked for by then fail; None = however long it takes.
        """
        self.folder = folder
        self._word = word
        self._parameters = {"begin": begin, "end": end, **(parameters or {})}
        self._settings = settings
        self._clock = clock
        self._deadline = None if seconds is None else clock.monotonic_ns() + int(seconds * NS)
        self._rate = SharedRate(settings.lookup.requests_per_s, clock, settings.run_dir / RATE_FILE)
        self._own = threading.local()
        self._connections: list[LookupConnection] = []
        self._threads = ThreadPoolExecutor(settings.lookup.sockets, thread_name_prefix="lookup")
        self._stopping = False

    def __enter__(self) -> "Fetcher":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._forget_others()
        return self

    def _forget_others(self) -> None:
        """Delete halves of replies, which nobody goes on from and a full disk has no room for, and replies to another request: for this
        one they have the wrong time or lines that cannot be read.
        """
        feed, note = self._settings.feed, self.folder / REQUEST_FILE
        asked = {"host": feed.host, "port": self._settings.ports.lookup, "protocol": feed.protocol, "word": self._word, **self._parameters}
        text = json.dumps(asked, sort_keys=True).encode()
        try:
            for path in self.folder.glob("*.part"):
                path.unlink()
            if note.exists() and note.read_bytes() == text:
                return
            for path in self.folder.glob("*.reply"):
                path.unlink()
            write_atomic(note, text, sync=True)
        except OSError as error:
            raise L2Error(f"{note}: cannot be written ({error.strerror or error}); make room, then run the same again") from error

    def __exit__(self, *_error: object) -> None:
        self._stopping = True
        self._threads.shutdown(cancel_futures=True)
        for connection in self._connections:
            connection.close()

    def file_of(self, symbol: str) -> Path:
        """Where the reply for a symbol goes."""
        return self.folder / f"{quote(symbol, safe='')}.reply"

    def fetch(self, symbols: Sequence[str]) -> Iterator[Fetched]:
        """Results as they come, in any order; L2Error when the vendor is away or the disk is full: what is fetched stays."""
        waiting = iter(symbols)
        running: set[Future[Fetched]] = set()
        away, answered = 0, False
        while True:
            for symbol in waiting:
                running.add(self._threads.submit(self._one, symbol))
                if len(running) >= 2 * self._settings.lookup.sockets:
                    break
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                result = future.result()
                away += result.outcome == "failed"
                answered |= result.outcome != "failed"
                yield result
            if not answered and away >= FAILED_AT_START:
                raise FeedDisconnected(f"the vendor answers nothing: {result.message}; run the same again when it does")

    def _one(self, symbol: str) -> Fetched:
        """One symbol, with its attempts."""
        target = self.file_of(symbol)
        if target.exists():
            return Fetched(symbol, "data", target.read_bytes().count(b"\n") - 1, target)
        message = ""
        for attempt in range(self._settings.lookup.attempts):
            if self._stopping or self._is_late():
                message = message or ("its time was over" if self._is_late() else "")
                break
            if attempt:
                self._clock.sleep(self._settings.lookup.retry_s)
            try:
                result = self._attempt(symbol, target)
            except FeedUnauthorized:
                raise
            except FeedError as error:
                message = error.message
                continue
            except OSError as error:
                raise L2Error(
                    f"{symbol}: cannot be kept: {error.strerror or error} ({target}); make room, then run the same again: "
                    "what is fetched is not fetched again"
                ) from error
            if result.outcome != Outcome.TOO_MANY:
                return result
            message = f"the vendor says: {result.message}"
        return Fetched(symbol, "failed", message=message or "stopped")

    def _is_late(self) -> bool:
        return self._deadline is not None and self._clock.monotonic_ns() > self._deadline

    def _attempt(self, symbol: str, target: Path) -> Fetched:
        part = target.with_suffix(".part")
        with part.open("wb") as file:
            reply = self._connection().fetch(self._request(symbol), file.write)
            file.flush()
            os.fsync(file.fileno())
        outcome = "failed" if reply.outcome is Outcome.REFUSED else reply.outcome
        if reply.outcome is not Outcome.DATA:
            part.unlink()
            message = f"the vendor says: {reply.message}" if reply.message else ""
            return Fetched(symbol, outcome, message=message)
        part.replace(target)
        return Fetched(symbol, "data", reply.lines, target)

    def _request(self, symbol: str) -> Callable[[str], str]:
        per_send = self._settings.lookup.per_send
        given: dict[str, str | int] = {"symbol": symbol, "per_send": per_send, **self._parameters}
        return lambda request_id: history_request(self._word, request_id, **given)

    def _connection(self) -> LookupConnection:
        """This thread's socket."""
        if not hasattr(self._own, "connection"):
            settings = self._settings
            self._own.connection = LookupConnection(settings.feed, settings.lookup, settings.ports.lookup, self._rate, self._clock)
            self._connections.append(self._own.connection)
        connection: LookupConnection = self._own.connection
        return connection

"""The right to change what is stored of a session date: one holder at a time for all streams, or one for each stream.

An `flock`, so the kernel gives it back when its holder dies, however it dies. Rebuild, close, archive and backfill take it; recording and
live delivery do not, since a date is changed only after they left it. What does not belong here: leases of workers (heartbeat.py).
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from l2_platform.errors import DateBusy, L2Error
from l2_platform.market.dates import date_text
from l2_platform.monitoring.heartbeat import process_start, process_start_ticks

ALL_STREAMS: Final = "all"
"""Given instead of a stream's name: the whole date."""


@contextmanager
def date_lease(run_dir: Path, stream_or_all: str, session_date: int, holder: str) -> Iterator[None]:
    """Hold `session_date` (YYYYMMDD) of one stream, or of `ALL_STREAMS`, while the block runs; never waits.

    Leases of different streams of a date go together; `ALL_STREAMS` excludes every other. `holder` says what is being done, for the
    message of whoever comes second (`rebuild`, `close`, `archive`). Raise DateBusy when another holder has it, in this process too,
    L2Error when the lock file cannot be made. The files stay; only the locks on them count.
    """
    with ExitStack() as stack:
        folder, whole = run_dir / "leases", stream_or_all == ALL_STREAMS
        paths = [(folder / f"date-{session_date}", fcntl.LOCK_EX if whole else fcntl.LOCK_SH)]
        if not whole:
            paths.append((folder / f"date-{session_date}.{stream_or_all}", fcntl.LOCK_EX))
        for path, mode in paths:
            fd = _open(path)
            stack.callback(os.close, fd)
            try:
                fcntl.flock(fd, mode | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _busy(folder, stream_or_all, session_date) from None
        _sign(fd, holder)
        stack.callback(_unsign, fd)
        yield


def date_holders(run_dir: Path, session_date: int) -> dict[str, str]:
    """Who holds the date now: stream (or `ALL_STREAMS`) → `what (process pid)`; for messages and pages, not for decisions."""
    found = {}
    for path in sorted((run_dir / "leases").glob(f"date-{session_date}*")):
        text = _living_holder(path)
        if text is not None:
            found[path.name.partition(".")[2] or ALL_STREAMS] = text
    return found


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise L2Error(f"cannot take the lease {path}: {error.strerror}; mend that, then try again") from error


def _busy(folder: Path, stream: str, session_date: int) -> DateBusy:
    holders = date_holders(folder.parent, session_date)
    if stream != ALL_STREAMS:
        holders = {name: text for name, text in holders.items() if name in {stream, ALL_STREAMS}}
    who = "; ".join(f"{text}, {'all streams' if name == ALL_STREAMS else name}" for name, text in holders.items())
    return DateBusy(
        f"session date {date_text(session_date)} is being changed by {who or 'another process'}: wait until it has ended (or end it), "
        "then try again. Nothing was changed",
        session_date=session_date, holders=holders,
    )  # fmt: skip


def _sign(fd: int, holder: str) -> None:
    """Write down who holds it. Only for messages; the lock counts, also on a full disk."""
    record = {"holder": holder, "pid": os.getpid(), "started": process_start(os.getpid())}
    with suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(record).encode() + b"\n", 0)


def _unsign(fd: int) -> None:
    with suppress(OSError):
        os.ftruncate(fd, 0)


def _living_holder(path: Path) -> str | None:
    """What the file says, when the process that wrote it still runs."""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        pid, started = int(record["pid"]), int(record["started"])
        return f"{record['holder']} (process {pid})" if process_start_ticks(pid) == started else None
    except (OSError, ValueError, KeyError, TypeError):
        return None

"""What a worker is wanted to do: a small JSON file that is replaced in one step; the worker follows it and echoes its generation.

Writers (`l2 up`, Dagster's sensor and jobs) change it through `edit_desired`, under one lock for all of an instance, so that none
undoes what another wrote a moment ago. Imported by the collector: standard library only.
"""

import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from l2_platform.errors import ConfigError, L2Error
from l2_platform.monitoring.atomic import write_atomic

LOCK_TRIES: Final = 100
LOCK_STEP_S: Final = 0.05
"""A writer waits this long for another, times LOCK_TRIES."""


@dataclass(frozen=True, slots=True)
class DesiredState:
    """The intent for one worker."""

    worker: str
    generation: int
    """Rises with every change."""
    enabled: bool
    streams: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    sessions: tuple[tuple[int, int], ...] = ()
    """(session date, its end in ns UTC), ascending."""
    calendar: str = "always_open"
    recording: tuple[tuple[int, int], ...] = ()
    """When the worker records: (start, stop) in ns UTC, ascending; empty: always."""
    symbols_mtime_ns: int = 0
    """Change time of the symbols file that `symbols` were taken from; 0: not known."""


def edit_desired(path: Path, change: Callable[[DesiredState | None], DesiredState | None]) -> DesiredState | None:
    """Apply `change` to what the file holds now and give the result, None when there is none; writers wait for each other.

    The generation is set here: it rises when anything but the time of the symbols file changed. ConfigError when the file cannot be
    understood, L2Error when another writer keeps the lock.
    """
    with _edit_lock(path.parent):
        before = read_desired(path)
        wanted = change(before)
        if wanted is None or wanted == before:
            return before
        if before is not None:
            same = replace(wanted, generation=before.generation, symbols_mtime_ns=before.symbols_mtime_ns) == before
            wanted = replace(wanted, generation=before.generation if same else before.generation + 1)
        if wanted != before:
            write_desired(path, wanted)
        return wanted


def write_desired(path: Path, state: DesiredState) -> None:
    """Replace the file, durably; without the lock: for an instance that nobody else writes to."""
    write_atomic(path, json.dumps(asdict(state), indent=1).encode(), sync=True)


def read_desired(path: Path) -> DesiredState | None:
    """The newest intent, None when there is none; ConfigError when the file cannot be understood."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        fields = json.loads(data)
        return DesiredState(
            str(fields["worker"]), int(fields["generation"]), {True: True, False: False}[fields["enabled"]],
            tuple(str(name) for name in fields["streams"]), tuple(str(name) for name in fields["symbols"]),
            tuple((int(date), int(end)) for date, end in fields["sessions"]), str(fields["calendar"]),
            tuple((int(start), int(stop)) for start, stop in fields.get("recording", ())),
            int(fields.get("symbols_mtime_ns", 0)),
        )  # fmt: skip
    except (ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path}: not a desired state ({error}); delete it and run `l2 up`") from None


@contextmanager
def _edit_lock(folder: Path) -> Iterator[None]:
    # a lock file of its own: the desired states are replaced, and a lock on an old one would protect nothing
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        for _ in range(LOCK_TRIES):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                threading.Event().wait(LOCK_STEP_S)
        else:
            raise L2Error(f"{folder}/.lock: another process holds it for {LOCK_TRIES * LOCK_STEP_S:g} s; end it, then try again")
        yield
    finally:
        os.close(fd)

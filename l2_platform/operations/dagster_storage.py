"""Can Dagster write its SQLite storage? A file that is locked by another program, gone or damaged is named, with what to do.

Readers of a locked file notice nothing (it keeps a log beside it), so that pages and daemons look healthy while every run fails: it has to
be asked for. What does not belong here: PostgreSQL, which answers for itself; pruning (resources/pruning.py).
"""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from l2_platform.settings import Settings

FILES: Final = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")
"""Under `dagster/`: runs, events, ticks."""
WAIT_S: Final = 1.0
"""Dagster's own writes are over sooner, s."""
LOCKS: Final = Path("/proc/locks")


def storage_trouble(settings: Settings) -> str:
    """Why Dagster cannot write what it keeps; empty when it can, or when its storage is not SQLite. At most `WAIT_S` for each file."""
    if settings.dagster.storage != "sqlite":
        return ""
    return next((trouble for name in FILES if (trouble := _trouble(settings.dagster_home / name))), "")


def _trouble(path: Path) -> str:
    if not path.exists():
        return f"{path} is gone: runs fail, recording goes on. Put it back, or `l2 down`, then `l2 up` (it begins empty)"
    try:
        # not made when it vanishes meanwhile
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=WAIT_S, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            return f"{path}: {error}; runs fail, recording goes on. Mend the disk or the file's rights, then `l2 up`"
        named = ", ".join(sorted(_holders(path))) or "another program"
        return f"{path} is locked by {named}: runs fail until it lets go, recording goes on. End it (job prune lets go by itself)"
    except sqlite3.DatabaseError as error:
        return f"{path} is damaged ({error}): runs fail, recording goes on. `l2 down`, put a copy back or move it away, then `l2 up`"
    return ""


def _holders(path: Path) -> Iterator[str]:
    """Processes of this machine that hold a lock for writing on a SQLite file or its index, as `name (pid N)`."""
    inodes = set()
    for suffix in ("", "-shm"):
        try:
            state = os.stat(f"{path}{suffix}")  # noqa: PTH116 - a suffix of a suffix
        except OSError:
            continue
        inodes.add(f"{os.major(state.st_dev):02x}:{os.minor(state.st_dev):02x}:{state.st_ino}")
    try:
        rows = [line.split() for line in LOCKS.read_text(encoding="ascii").splitlines()]
    except OSError:
        return
    for pid in {int(row[4]) for row in rows if len(row) >= 6 and row[3] == "WRITE" and row[5] in inodes and row[4].isdigit()}:
        try:
            yield f"{psutil.Process(pid).name()} (pid {pid})"
        except psutil.NoSuchProcess:
            continue

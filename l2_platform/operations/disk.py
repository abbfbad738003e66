"""What happens when the disk fills: first the JSONL files are given up, then everything stops cleanly; pure decision.

The journal is the last thing that may fail for want of space, so the rest makes room for it. JSONL comes back by itself
when there is room again: its rows are in the journal.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from l2_platform.settings import Settings

BACK_FACTOR = 1.5
"""JSONL starts again above reserve × this, so that it does not flap."""
STOP_FRACTION = 4
"""Everything stops below reserve ÷ this."""


class DiskState(StrEnum):
    """How far the instance has cut back."""

    OK = "ok"
    SHED = "shed"
    """deliver-jsonl is stopped."""
    STOPPED = "stopped"
    """Everything was stopped."""


@dataclass(frozen=True, slots=True)
class DiskRecord:
    """`run/disk.json`: the last decision and what it was based on."""

    state: DiskState
    free_bytes: int
    since_ns: int


def next_state(state: DiskState, free_bytes: int, reserve_bytes: int) -> DiskState:
    """What to be in, from the free space."""
    if free_bytes < reserve_bytes // STOP_FRACTION:
        return DiskState.STOPPED
    if free_bytes < reserve_bytes:
        return DiskState.SHED
    if state is DiskState.SHED and free_bytes < reserve_bytes * BACK_FACTOR:
        return DiskState.SHED
    return DiskState.OK


def free_bytes(home: Path) -> int:
    """Free space where the data is, for an ordinary user, bytes."""
    while not home.exists():
        home = home.parent
    return shutil.disk_usage(home).free


def record_path(settings: Settings) -> Path:
    """Where the decision is kept."""
    return settings.run_dir / "disk.json"


def write_record(settings: Settings, record: DiskRecord) -> None:
    """Keep a decision, atomically; a full disk must not stop the decision itself."""
    path = record_path(settings)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(record)), encoding="utf-8")
    fresh.replace(path)


def read_record(settings: Settings) -> DiskRecord | None:
    """The last decision, None when there was none or it cannot be read."""
    try:
        fields = json.loads(record_path(settings).read_text(encoding="utf-8"))
        return DiskRecord(DiskState(fields["state"]), int(fields["free_bytes"]), int(fields["since_ns"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None

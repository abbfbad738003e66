"""What happens when the disk fills: first the JSONL files are given up, then everything but the recording; pure decision.

The journal is the last thing that may fail for want of space, so the rest makes room for it, in this order: JSONL below the reserve;
Dagster, the other deliveries and the warehouse below a quarter of it; recording, by the collectors themselves, below a sixteenth. The
sealer goes on, since it makes room. What was given up comes back by itself when there is room again: its rows are in the journal.
"""

import json
import shutil
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from l2_platform.operations.plan import Part, Phase
from l2_platform.settings import Settings

BACK_FACTOR = 1.5
"""What was given up starts again above its bar × this, so that it does not flap."""
STOP_FRACTION = 4
"""Everything but the recording stops below reserve ÷ this."""
STOP_ORDER = (Phase.DAGSTER, Phase.DELIVER, Phase.STORE)
"""What writes for people first, then what feeds the tables, then the tables."""
JSONL = "deliver-jsonl"
SEALER = "sealer"


class DiskState(StrEnum):
    """How far the instance has cut back."""

    OK = "ok"
    SHED = "shed"
    """deliver-jsonl is stopped."""
    STOPPED = "stopped"
    """Everything but the recording and the sealer is stopped."""


@dataclass(frozen=True, slots=True)
class DiskRecord:
    """`run/disk.json`: the last decision and what it was based on."""

    state: DiskState
    free_bytes: int
    since_ns: int
    given_up: tuple[str, ...] = ()
    """Parts that ran and were stopped: they are started again when there is room."""


def next_state(state: DiskState, free_bytes: int, reserve_bytes: int) -> DiskState:
    """What to be in, from the free space."""
    stop = reserve_bytes // STOP_FRACTION
    if free_bytes < stop or (state is DiskState.STOPPED and free_bytes < stop * BACK_FACTOR):
        return DiskState.STOPPED
    if free_bytes < reserve_bytes or (state is not DiskState.OK and free_bytes < reserve_bytes * BACK_FACTOR):
        return DiskState.SHED
    return DiskState.OK


def not_wanted(state: DiskState, parts: Iterable[Part]) -> list[str]:
    """The parts that must not run in a state, in the order to stop them."""
    if state is DiskState.OK:
        return []
    chosen = [part for part in parts if part.phase in STOP_ORDER and part.name != SEALER]
    if state is DiskState.SHED:
        chosen = [part for part in chosen if part.name == JSONL]
    return [part.name for part in sorted(chosen, key=lambda part: STOP_ORDER.index(part.phase))]


def to_start(given_up: Collection[str], state: DiskState, parts: Iterable[Part]) -> list[str]:
    """What was given up and may run again, in the order to start it."""
    known = list(parts)
    stays = set(not_wanted(state, known))
    chosen = [part for part in known if part.name in given_up and part.name not in stays]
    return [part.name for part in sorted(chosen, key=lambda part: -STOP_ORDER.index(part.phase))]


def free_bytes(folder: Path) -> int:
    """Free space where a folder is (or will be), for an ordinary user, bytes."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def record_path(settings: Settings) -> Path:
    """Where the decision is kept."""
    return settings.run_dir / "disk.json"


def write_record(settings: Settings, record: DiskRecord) -> None:
    """Keep a decision, atomically; OSError on a full disk, which must not stop the decision itself."""
    path = record_path(settings)
    fresh = path.with_suffix(".new")
    try:
        fresh.write_text(json.dumps(asdict(record)), encoding="utf-8")
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def read_record(settings: Settings) -> DiskRecord | None:
    """The last decision, None when there was none or it cannot be read."""
    try:
        fields = json.loads(record_path(settings).read_text(encoding="utf-8"))
        given_up = tuple(str(name) for name in fields.get("given_up", ()))
        return DiskRecord(DiskState(fields["state"]), int(fields["free_bytes"]), int(fields["since_ns"]), given_up)
    except (OSError, ValueError, OverflowError, KeyError, TypeError):
        return None

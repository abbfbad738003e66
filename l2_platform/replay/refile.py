"""The JSONL files of one stream and session date once more from the journal: beside the old ones first, then each renamed over its own.

`jsonl/.rewrite/<stream>-<date>/` takes the new files; what is left there by a run that was ended goes with the next one. A file is
old or new, never half; the position of the files comes last. What does not belong here: which files are wrong.
"""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from l2_platform.clock import Clock
from l2_platform.delivery.delivery import make_quarantine
from l2_platform.errors import SinkBlocked
from l2_platform.replay.dates import without_delivery
from l2_platform.replay.projection import Projection
from l2_platform.replay.rebuild import STOP_FRACTION, end_seq
from l2_platform.settings import Settings
from l2_platform.sinks.jsonl import JsonlSink
from l2_platform.sinks.jsonl_names import folder_of

REWRITES = ".rewrite"


def rewrite_files(
    settings: Settings, clock: Clock, stream: str, session_date: int, old: Iterable[Path], advance: Callable[[int], None]
) -> int:
    """Write the files anew; how many there are now. `old`: files of the stream and date, removed unless they are written again.

    The caller holds the date's lease; `advance` is told messages as they are read. DateBusy while a delivery is at work on the date,
    SinkError when the disk does not take it: nothing was replaced then, or whole files were.
    """
    need = settings.disk.reserve_bytes // STOP_FRACTION
    free = shutil.disk_usage(settings.home).free
    if free < need:
        raise SinkBlocked(f"{free >> 20} MiB are free, {need >> 20} are kept for the recording: free some space. No file was changed")
    root = settings.jsonl_dir / REWRITES / f"{stream}-{session_date}"
    with without_delivery(settings, stream, session_date, end_seq(settings, stream, session_date), sink="jsonl"):
        shutil.rmtree(root, ignore_errors=True)
        try:
            _write(settings, clock, root, Projection(settings, clock, stream, session_date), advance)
            return _swap(settings.jsonl_dir, root, stream, session_date, old)
        finally:
            shutil.rmtree(root, ignore_errors=True)


def _write(settings: Settings, clock: Clock, root: Path, rows: Projection, advance: Callable[[int], None]) -> None:
    sink = JsonlSink(settings.jsonl, root, clock, make_quarantine("jsonl", settings, clock))
    sink.open()
    try:
        for step in rows:
            sink.write(step.batches, step.position, step.seq)
            advance(step.lines)
        sink.close_stream(rows.stream, rows.session_date)
    finally:
        sink.close()


def _swap(root: Path, new_root: Path, stream: str, session_date: int, old: Iterable[Path]) -> int:
    source, target = (folder_of(folder, stream, session_date) for folder in (new_root, root))
    new = sorted(source.glob("*.jsonl")) if source.is_dir() else []
    target.mkdir(parents=True, exist_ok=True)
    for path in new:
        path.replace(target / path.name)
    for path in {*old} - {target / path.name for path in new}:
        path.unlink(missing_ok=True)
    _sync(target)
    positions = root / ".positions"
    positions.mkdir(parents=True, exist_ok=True)
    for path in (new_root / ".positions").glob("*.json"):
        path.replace(positions / path.name)
    _sync(positions)
    return len(new)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

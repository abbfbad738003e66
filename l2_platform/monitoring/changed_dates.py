"""Session dates whose stored rows changed and that were not archived since: one file a change, so that none is lost or forgotten twice.

Written before rows change (a repair, a swap of a rebuild, a backfill) by whoever holds a lease of the date, removed by an archive that
began later and when nobody held one. What does not belong here: what is done about them (sensors, archive).
"""

import os
from pathlib import Path
from typing import Final

from l2_platform.errors import L2Error

FOLDER: Final = "changed"


def note_change(run_dir: Path, session_date: int, now_ns: int) -> None:
    """Rows of a session date (YYYYMMDD) are about to change; L2Error when that cannot be written down."""
    path = run_dir / FOLDER / f"{session_date:08d}.{now_ns}.{os.getpid()}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise L2Error(f"{path}: cannot be written ({error.strerror}), so nothing was changed; mend that, then try again") from error


def changes_of(run_dir: Path, session_date: int) -> list[Path]:
    """What was noted of a date; give it to `forget` when the archive has it."""
    return sorted((run_dir / FOLDER).glob(f"{session_date:08d}.*"))


def forget(changes: list[Path]) -> None:
    """These changes are in the archive; others of the date may have come since."""
    for path in changes:
        path.unlink(missing_ok=True)


def changed_dates(run_dir: Path) -> dict[int, int]:
    """Session date → when it was changed last, ns; dates that the archive is behind of."""
    found: dict[int, int] = {}
    for path in (run_dir / FOLDER).glob("*.*.*"):
        day, ts, _ = path.name.split(".")
        if day.isdigit() and ts.isdigit():
            found[int(day)] = max(found.get(int(day), 0), int(ts))
    return found

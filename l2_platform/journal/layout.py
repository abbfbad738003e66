"""Where the files of the journal are: names and listings only.

`<root>/<stream>/<YYYYMMDD>/<NNNNNN>.l2j` raw, `.l2z` sealed, `manifest.jsonl`; `torn-<segment>-<offset>.bin` keeps what was trimmed.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

RAW_SUFFIX: Final = ".l2j"
SEALED_SUFFIX: Final = ".l2z"
TEMPORARY_SUFFIX: Final = ".tmp"
SUSPECT_SUFFIX: Final = ".suspect"
MANIFEST_NAME: Final = "manifest.jsonl"
CLOSED_NAME: Final = "closed.json"
"""In a date folder of an import: its last segment, where that ends, and its last line."""
FIRST_YEAR: Final = 1990
LAST_YEAR: Final = 2100
"""Session dates lie in these years, both included."""
STAGING_NAME: Final = ".staging"
REPAIR_SUFFIX: Final = "-repair-history"
"""Ends the name of a history stream that holds only what live streams of the same date miss."""


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """One segment on disk; both forms exist for a moment while it is being sealed, then raw wins."""

    number: int
    raw: Path | None
    sealed: Path | None

    @property
    def path(self) -> Path:
        """The file to read."""
        path = self.raw or self.sealed
        if path is None:  # pragma: no cover - list_segments never makes one
            msg = f"segment {self.number} has no file"
            raise ValueError(msg)
        return path


def date_folder(root: Path, stream: str, session_date: int) -> Path:
    """Where the segments of one session date are."""
    return root / stream / f"{session_date:08d}"


def raw_path(folder: Path, segment: int) -> Path:
    """A segment as it is written."""
    return folder / f"{segment:06d}{RAW_SUFFIX}"


def sealed_path(folder: Path, segment: int) -> Path:
    """A segment after sealing."""
    return folder / f"{segment:06d}{SEALED_SUFFIX}"


def suspect_path(folder: Path, segment: int) -> Path:
    """Marks a segment whose fsync failed and whose tail is not yet written again."""
    return folder / f"{segment:06d}{SUSPECT_SUFFIX}"


def list_streams(root: Path) -> list[str]:
    """Streams that have a folder, sorted."""
    if not root.is_dir():
        return []
    return sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def list_dates(root: Path, stream: str) -> list[int]:
    """Session dates (YYYYMMDD) of a stream, oldest first; a stray folder whose name is no date of this age is none."""
    folder = root / stream
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if _is_date(path.name) and path.is_dir())


def _is_date(name: str) -> bool:
    if len(name) != 8 or not (name.isascii() and name.isdigit()):
        return False
    try:
        return FIRST_YEAR <= date.fromisoformat(name).year <= LAST_YEAR
    except ValueError:
        return False


def list_segments(folder: Path) -> list[SegmentFile]:
    """The segments of a date folder in order; missing numbers are simply not in the list."""
    found: dict[int, dict[str, Path]] = {}
    if folder.is_dir():
        for path in folder.iterdir():
            if path.suffix in {RAW_SUFFIX, SEALED_SUFFIX} and path.stem.isascii() and path.stem.isdigit():
                found.setdefault(int(path.stem), {})[path.suffix] = path
    return [
        SegmentFile(number, files.get(RAW_SUFFIX), files.get(SEALED_SUFFIX)) for number, files in sorted(found.items())
    ]


def is_repair(stream: str) -> bool:
    """Whether its rows stand beside live rows, never instead of them."""
    return stream.endswith(REPAIR_SUFFIX)


def source_of(stream: str) -> str:
    """`import`, `history` or `live`, from the stream's name."""
    if "-import-" in stream:
        return "import"
    return "history" if stream.endswith("-history") else "live"

"""Where archived rows are, and the manifest that says what they must be.

`archive/<table>/session_date=YYYY-MM-DD/stream=<stream>/part-NNNN-<hash>.parquet`, and `manifest.json` beside them: only the parts it
names count, and it is replaced in one step, so a folder always has one whole content. What does not belong here: reading or writing
rows.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

from l2_platform.errors import ArchiveError

MANIFEST_NAME: Final = "manifest.json"
TEMPORARY_PREFIX: Final = ".part-"
FORMAT: Final = 1
PART_NAME: Final = re.compile(r"part-\d{4}-[0-9a-f]{12}\.parquet")


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet file."""

    file: str
    rows: int
    size: int
    """Bytes on the disk."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is archived of one (table, session date, stream)."""

    table: str
    session_date: date
    stream: str
    source: str
    """live, import or history."""
    rows: int
    content_sha256: str
    """Over all columns in key order (`content.ContentHash`): the same rows give the same hash, however they are cut into parts."""
    columns: tuple[tuple[str, str], ...]
    """(name, ClickHouse type) in order."""
    parts: tuple[Part, ...]
    symbols: dict[str, int]
    """Rows of each symbol."""
    written_ns: int
    format: int = FORMAT

    @property
    def size(self) -> int:
        """All parts on the disk, bytes."""
        return sum(part.size for part in self.parts)

    def encode(self) -> bytes:
        """The file's content."""
        record = asdict(self) | {"session_date": self.session_date.isoformat()}
        return json.dumps(record, indent=1, sort_keys=True).encode() + b"\n"


def partition_folder(root: Path, table: str, session_date: date, stream: str) -> Path:
    """Folder of one (table, session date, stream)."""
    return root / table / f"session_date={session_date.isoformat()}" / f"stream={quote(stream, safe='')}"


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder, None when there is none; ArchiveError when it cannot be read or is of a later program."""
    path = folder / MANIFEST_NAME
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ArchiveError(f"{path}: the manifest cannot be read ({error}); archive the date again, or restore the file") from None
    if record.get("format") != FORMAT:
        raise ArchiveError(f"{path}: format {record.get('format')}, this program knows {FORMAT}: update the program")
    try:
        return Manifest(**{
            **record, "session_date": date.fromisoformat(record["session_date"]),
            "parts": tuple(Part(**part) for part in record["parts"]),
            "columns": tuple((str(name), str(kind)) for name, kind in record["columns"]),
        })  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise ArchiveError(f"{path}: the manifest is damaged ({error}); archive the date again, or restore the file") from None


def list_tables(root: Path) -> list[str]:
    """Tables that have a folder, sorted."""
    return sorted(path.name for path in root.iterdir() if path.is_dir() and path.name[0] != ".") if root.is_dir() else []


def list_archived(
    root: Path, table: str | None = None, first: date | None = None, last: date | None = None
) -> Iterator[Manifest]:
    """Manifests by table, session date and stream; `first` and `last` are session dates, both included."""
    for name in [table] if table is not None else list_tables(root):
        for folder in sorted((root / name).glob("session_date=*/stream=*")):
            day = _day_of(folder.parent.name)
            if day is None or (first and day < first) or (last and day > last):
                continue
            manifest = read_manifest(folder)
            if manifest is not None:
                yield manifest


def stream_of_folder(folder: Path) -> str:
    """The stream that a folder's name stands for."""
    return unquote(folder.name.removeprefix("stream="))


def _day_of(name: str) -> date | None:
    try:
        return date.fromisoformat(name.removeprefix("session_date="))
    except ValueError:
        return None

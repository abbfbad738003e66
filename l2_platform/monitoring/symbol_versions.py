"""Every version of the symbols file that was in force: a copy beside it, named after the time it was written; a bounded number.

Whoever changes the file and every collector that takes over a change keep it, so that two edits within seconds are two versions for whoever
records them later (asset `universe`). What does not belong here: the file's format (`symbols_file.py`), recording.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

VERSIONS_KEPT: Final = 200
SUFFIX: Final = ".toml"


def versions_folder(path: Path) -> Path:
    """Where the versions of a symbols file are."""
    return path.with_name(f".{path.name}.versions")


def keep_version(path: Path, kept: int = VERSIONS_KEPT) -> None:
    """Keep the file as it is now, and of all versions the newest `kept`; nothing to do when it is kept already.

    A disk that refuses keeps nobody from using the file: then this version is not told apart later.
    """
    with suppress(OSError):
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            text = file.read()
            if os.fstat(file.fileno()).st_mtime_ns != before.st_mtime_ns:
                return  # written in place meanwhile: the next look keeps it
        folder = versions_folder(path)
        target = folder / f"{before.st_mtime_ns:020d}{SUFFIX}"
        if target.exists():
            return
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{os.getpid()}.tmp"
        part.write_bytes(text)
        part.replace(target)
        for old in sorted(folder.glob(f"[0-9]*{SUFFIX}"))[:-kept]:
            old.unlink(missing_ok=True)


def versions_between(path: Path, after_ns: int, before_ns: int) -> list[tuple[int, str]]:
    """(time it was written in ns, text) of the kept versions written after the one and before the other time, oldest first."""
    found = []
    for file in sorted(versions_folder(path).glob(f"[0-9]*{SUFFIX}")):
        if file.stem.isdigit() and after_ns < int(file.stem) < before_ns:
            with suppress(OSError, UnicodeDecodeError):
                found.append((int(file.stem), file.read_text(encoding="utf-8")))
    return found

"""Where compiled kernels are cached, prepared before any of them is imported.

numba fails at import without a writable cache folder, fails at every start while a cache file is truncated, and does not notice that a
kernel called by a cached one has changed. So: a writable folder is chosen, damaged files are deleted (they are compiled again), and
the folder is named after the sources. What does not belong here: kernels.
"""

import hashlib
import os
import pickletools
import platform
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Final

CACHES_KEPT: Final = 3
"""Folders of former program versions that stay, so that a process of the old version can still compile."""
_KERNEL_FOLDERS: Final = frozenset({"market", "book", "iqfeed", "simulator", "sinks"})
"""Where modules with kernels, and what they are made of, are: a change there starts a new cache."""
_KERNEL_FILES: Final = ("*kernels.py", "canonical.py", "sums.py")
"""Modules with kernels in other folders."""
_PACKAGE: Final = Path(__file__).resolve().parents[1]


def prepare_numba(cache_dir: Path) -> Path:
    """Point numba's cache into `cache_dir` (or a folder for temporary files when that cannot be written); the folder used.

    Call it before importing kernels, in every process; processes may do so at the same time.
    """
    folder = _writable(cache_dir / _source_key())
    if folder is None:
        folder = _writable(Path(tempfile.gettempdir()) / f"l2-numba-{os.getuid()}" / _source_key())
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="l2-numba-"))
    delete_damaged(folder)
    _delete_old(folder)
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    if "numba" in sys.modules:
        import numba

        setattr(numba.config, "CACHE_DIR", str(folder))  # noqa: B010 - the module makes its names at run time
    return folder


def delete_damaged(folder: Path) -> list[Path]:
    """Delete the cache files that do not hold whole pickles (a crash or a full disk cut them); numba makes them anew."""
    deleted = []
    for path in sorted([*folder.rglob("*.nbi"), *folder.rglob("*.nbc")]):
        if not _is_whole(path, pickles=2 if path.suffix == ".nbi" else 1):
            path.unlink(missing_ok=True)
            deleted.append(path)
    return deleted


def _is_whole(path: Path, pickles: int) -> bool:
    try:
        with path.open("rb") as file:
            for _ in range(pickles):
                for _opcode in pickletools.genops(file):
                    pass
            return file.read(1) == b""
    except FileNotFoundError:
        return True
    except (OSError, ValueError, IndexError, KeyError, UnicodeDecodeError):
        return False


def _writable(folder: Path) -> Path | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            return None
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return None


def _source_key() -> str:
    digest = hashlib.sha256(f"{version('numba')} {version('numpy')} {platform.python_version()} {_PACKAGE}".encode())
    for path in _kernel_sources():
        state = path.stat()
        digest.update(f"{path.relative_to(_PACKAGE)} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:12]


def _kernel_sources() -> list[Path]:
    """Modules whose change must not be answered with code compiled before it."""
    return sorted(
        path for path in _PACKAGE.rglob("*.py")
        if path.parent.name in _KERNEL_FOLDERS or any(path.match(pattern) for pattern in _KERNEL_FILES)
    )  # fmt: skip


def _delete_old(folder: Path) -> None:
    try:
        os.utime(folder)
        siblings = sorted(
            (path for path in folder.parent.iterdir() if path.is_dir() and path != folder and len(path.name) == len(folder.name)),
            key=lambda path: path.stat().st_mtime,
            reverse=True,
        )
    except OSError:
        return
    for path in siblings[CACHES_KEPT:]:
        shutil.rmtree(path, ignore_errors=True)

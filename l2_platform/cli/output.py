"""What a person sees: tables and lines on a terminal, plain text in a pipe, JSON when asked.

Results go to stdout; progress and errors go to stderr, so that a pipe gets the result only.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

BYTES_UNITS = ("B", "KB", "MB", "GB", "TB")


def console(*, stderr: bool = False) -> "Console":
    """A rich console; no colour in a pipe, and wide enough there that no cell is cut."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 240
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=not stream.isatty())


def line(text: str = "") -> None:
    """One line to stdout, as it is."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """One line to stderr: progress, advice."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def ready_kernels(cache_dir: Path) -> None:
    """Prepare the kernel cache before kernels are imported; say so on a terminal when they must be compiled first."""
    from l2_platform.monitoring.runtime import prepare_numba

    folder = prepare_numba(cache_dir / "numba")
    if sys.stderr.isatty() and next(folder.rglob("*.nbi"), None) is None:
        note("compiling kernels, once for this version: up to a minute …")


def print_json(value: Any) -> None:
    """One JSON document to stdout; times in ISO format, decimals and paths as text."""
    line(json.dumps(value, default=_jsonable, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, numbers: Sequence[str] = ()) -> None:
    """A table to stdout; the columns named in `numbers` are aligned right. Tab separated columns in a pipe."""
    if not sys.stdout.isatty():
        line("\t".join(columns))
        for row in rows:
            line("\t".join(_text(cell) for cell in row))
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        drawn.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(cell if isinstance(cell, Text) else Text(_text(cell)) for cell in row))
    console().print(drawn)


def records(rows: Sequence[Mapping[str, Any]], *, as_json: bool, title: str = "", empty: str = "nothing found") -> None:
    """Rows of equal keys as a table, or as a JSON array; `empty` is said instead of an empty table."""
    if as_json:
        print_json([dict(row) for row in rows])
        return
    if not rows:
        line(empty)
        return
    columns = list(rows[0])
    numeric = [name for name in columns if all(isinstance(row[name], int | float | Decimal) for row in rows)]
    table(title, columns, [[row[name] for name in columns] for row in rows], numbers=numeric)


@contextmanager
def progress(title: str, *, unit: str = "rows", total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr while the block runs; call what it yields with the number of `unit` done since the last call.

    Nothing is drawn in a pipe.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit)]
    with Progress(
        *columns, TimeElapsedColumn(), console=console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.advance(task, done)


def text_from_bytes(size: float) -> str:
    """A size for people: `1.4 GB`."""
    for unit in BYTES_UNITS:
        if size < 1000 or unit == BYTES_UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError  # the last unit always returns


def text_from_seconds(seconds: float) -> str:
    """A duration for people: `850 ms`, `12 s`, `3 min`, `4.2 h`, `3.0 d`."""
    for limit, unit, divisor in ((1, "ms", 0.001), (120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            shown = seconds / divisor
            return f"{shown:.1f} {unit}" if unit == "h" else f"{shown:.0f} {unit}"
    return f"{seconds / 86_400:.1f} d"


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, list | tuple):
        return ", ".join(_text(item) for item in cell)
    return str(cell)


def _jsonable(value: Any) -> Any:
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, Decimal | Path):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if hasattr(value, "item"):
        return value.item()  # numpy scalars
    msg = f"{type(value).__name__} has no JSON form"
    raise TypeError(msg)

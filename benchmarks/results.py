"""Results as files: `<folder>/<figure>.json` with the numbers, the machine, the commit and the command that made them.

A file holds labels as they are, numbers measured once as floats, and spreads as `{"values": […], "better": …}`. What does not belong
here: pages and drawings (report.py, drawing.py).
"""

import dataclasses
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.figure import Figure, Result, Row, Spread, Value

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "benchmarks"
"""Where results of whole runs are kept, beside the page made of them."""


def save(folder: Path, figure: Figure, result: Result, facts: dict[str, Any]) -> Path:
    """Write one figure's result; `facts` (machine, date, commit, command, seconds) are stored as given."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{figure.name}.json"
    content = {
        "figure": figure.name,
        "title": figure.title,
        "unit": figure.unit,
        "baseline": figure.baseline,
        "order": figure.order,
        "text": figure.text,
        **facts,
        "rows": _stored_rows(result.rows),
        "more": {title: _stored_rows(rows) for title, rows in result.more.items()},
        "notes": list(result.notes),
        "limit": result.limit,
        "targets": [dataclasses.asdict(target) for target in result.targets],
        "plots": [dataclasses.asdict(plot) for plot in result.plots],
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def load(path: Path) -> dict[str, Any]:
    """One stored result, its rows with spreads again."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    content["rows"] = _restored_rows(content["rows"])
    content["more"] = {title: _restored_rows(rows) for title, rows in content["more"].items()}
    return content


def load_all(folder: Path) -> list[dict[str, Any]]:
    """Every stored result, in the order of the page."""
    found = [load(path) for path in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda content: (content["order"], content["figure"]))


def label_of(row: dict[str, Value]) -> str:
    """The words and whole numbers of a row: what it is about."""
    return ", ".join(
        f"{name} {value}" if isinstance(value, int) else value
        for name, value in row.items()
        if isinstance(value, str | int)
    )


def commit() -> tuple[str, bool]:
    """(short commit of the checkout, whether tracked files differ from it); ("unknown", True) outside a repository."""
    command = ["git", "-C", str(ROOT)]
    head = subprocess.run([*command, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode:
        return "unknown", True
    # results and the page themselves change with every run, so they do not count
    changed = subprocess.run(
        [*command, "status", "--porcelain", "--untracked-files=no", "--", "l2_platform", "benchmarks", "requirements.txt"],
        capture_output=True,
        text=True,
        check=False,
    )
    return head.stdout.strip(), bool(changed.stdout.strip())


def _stored_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [{name: _stored(value) for name, value in row.items()} for row in rows]


def _restored_rows(rows: list[dict[str, Any]]) -> list[Row]:
    return [{name: _restored(value) for name, value in row.items()} for row in rows]


def _stored(value: Value) -> Any:
    return {"values": list(value.values), "better": value.better} if isinstance(value, Spread) else value


def _restored(value: Any) -> Value:
    return Spread(tuple(value["values"]), value["better"]) if isinstance(value, dict) else value

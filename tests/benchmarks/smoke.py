"""Every figure by name, found without importing any, and its tiny run."""

import ast
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figure import Result, discover
from benchmarks.running import Plan, run_one

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def figure_names(*, long: bool) -> list[str]:
    """Names in `@figure("…")`; `long`: those that take minutes, else the others."""
    return sorted(name for path in FOLDER.rglob("*.py") for name, is_long in _registered(path) if is_long is long)


def _registered(path: Path) -> Iterator[tuple[str, bool]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "figure":
                is_long = any(word.arg == "long" and getattr(word.value, "value", False) for word in decorator.keywords)
                yield ast.literal_eval(decorator.args[0]), is_long


def run_smoke(name: str, out: Path) -> Result:
    """Run one figure as small as it goes."""
    return run_one(discover()[name], Plan("smoke", out))

"""Runs figures: a folder to work in, the kernel cache, the machine's limits, one process for each of several figures.

What does not belong here: reading the command line (__main__.py), what the files look like (results.py).
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks import machine, results, tables
from benchmarks.figure import Context, Figure, NotMeasurable, Result, Scale, discover
from l2_platform.clock import SystemClock

BUSY_LOOK_S = 1.0


@dataclass(slots=True)
class Plan:
    """How figures are run."""

    scale: Scale = "full"
    out: Path | None = None
    """Folder of result files; None keeps nothing."""
    options: dict[str, str] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)
    scratch: Path | None = None
    """Where to make the working folder."""


def chosen(names: Sequence[str], *, with_long: bool) -> list[Figure]:
    """The named figures; without names all but the long ones (`with_long`: all). SystemExit for an unknown name."""
    known = discover()
    if not names:
        return [figure for figure in known.values() if with_long or not figure.long]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"no figure is named {', '.join(unknown)}; there are: {', '.join(known)}")
    return [known[name] for name in names]


def run_one(figure: Figure, plan: Plan) -> Result:
    """Measure one figure in this process, store it, print it. NotMeasurable comes through."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="l2-bench-", dir=plan.scratch or disk_folder()) as name:
        folder = Path(name)
        limits = plan.limits or limits_of(plan.scale, folder)
        facts: dict[str, Any] = {
            "date": datetime.fromtimestamp(clock.now_ns() // 1_000_000_000, UTC).isoformat(),
            "scale": plan.scale,
            "machine": machine.facts(folder),
            "limits": limits,
            "busy_before": round(busy_cores(), 2),
            "command": command_of(figure.name, plan),
        }
        facts["commit"], facts["dirty"] = results.commit()
        (folder / "room").mkdir()
        ctx = Context(folder / "room", plan.scale, market_data(), clock, plan.options, limits)
        started = clock.monotonic_ns()
        result = figure.measure(ctx)
        facts["seconds"] = round((clock.monotonic_ns() - started) / 1e9, 1)
    show(figure, result, facts["seconds"])
    if plan.out is not None:
        results.save(plan.out, figure, result, facts)
    return result


def busy_cores() -> float:
    """Cores that other processes use while this one waits a moment."""
    return psutil.cpu_percent(BUSY_LOOK_S) / 100 * (os.cpu_count() or 1)


def run_many(figures: Sequence[Figure], plan: Plan) -> list[str]:
    """Measure each in a process of its own (none warms or fills the memory of another); the names that failed."""
    with tempfile.TemporaryDirectory(prefix="l2-bench-", dir=plan.scratch or disk_folder()) as name:
        limits = limits_of(plan.scale, Path(name))
    failed = []
    for figure in figures:
        command = [sys.executable, "-m", "benchmarks", "run", figure.name, "--limits", json.dumps(limits)]
        command += ["--smoke"] if plan.scale == "smoke" else []
        command += ["--out", str(plan.out)] if plan.out else ["--no-save"]
        command += ["--scratch", str(plan.scratch)] if plan.scratch else []
        for key, value in plan.options.items():
            command += ["--set", f"{key}={value}"]
        if subprocess.run(command, cwd=results.ROOT, check=False).returncode:
            failed.append(figure.name)
    return failed


def limits_of(scale: Scale, folder: Path) -> dict[str, float]:
    """The machine's limits, measured now."""
    room = folder / "limits"
    room.mkdir()
    measured = machine.measure_limits(Context(room, scale))
    shutil.rmtree(room)
    return measured


def command_of(name: str, plan: Plan) -> str:
    """The command that measures a figure again."""
    options = "".join(f" --set {key}={value}" for key, value in plan.options.items())
    return f"python -m benchmarks run {name}{options}{' --smoke' if plan.scale == 'smoke' else ''}"


def disk_folder() -> Path:
    """The folder for temporary files, or one on a disk when that is in memory."""
    folder = Path(tempfile.gettempdir())
    on_disk = Path("/var/tmp")
    return on_disk if machine.filesystem(folder) in {"tmpfs", "ramfs"} and on_disk.is_dir() else folder


def market_data() -> Path | None:
    """The folder with recorded market data: `MARKET_DATA`, else beside the checkout; None when it is not there."""
    named = os.environ.get("MARKET_DATA")
    folder = Path(named) if named else results.ROOT.parent / "shared" / "data"
    return folder if (folder / "README.md").is_file() else None


def show(figure: Figure, result: Result, seconds: float) -> None:
    """Print one figure."""
    print(f"\n{figure.title} [{figure.name}]: {seconds:.1f} s", flush=True)
    passes = tables.passes_of(list(result.rows))
    if passes:
        print(f"  median (lowest–highest), N = {passes}")
    for line in tables.plain(list(result.rows)):
        print(f"  {line}")
    for title, rows in result.more.items():
        print(f"  {title}")
        for line in tables.plain(list(rows)):
            print(f"    {line}")
    for target in result.targets:
        why = "" if target.reached or not target.why else f" ({target.why})"
        print(f"  {'reached' if target.reached else 'MISSED '}  {target.what}: {target.measured}{why}")
    for note in result.notes:
        print(f"  {note}")
    if result.limit:
        print(f"  limit: {result.limit}")
    sys.stdout.flush()


__all__ = ["NotMeasurable", "Plan", "chosen", "run_many", "run_one"]

"""Two revisions measured in turns (A B A B …), so that what the machine does meanwhile falls on both.

Each revision gets a worktree of its own with *this* checkout's benchmarks, and both run in this Python environment. What does not
belong here: measuring one revision (running.py).
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.figure import Row, Spread
from benchmarks.results import ROOT, label_of, load
from benchmarks.running import disk_folder

HOT_PATH = ("decode-depth", "decode-level1", "book", "journal-append", "journal-seal", "jsonl", "clickhouse")
"""What is compared when nothing is named."""
SEPARATE = "benchmarks"
UNMEASURED = json.dumps({"compared": 0.0})
"""Stands for the machine's limits, which say nothing about a ratio."""


def compare(
    revision: str, other: str | None, names: Sequence[str], *, rounds: int, threshold: float, smoke: bool = False
) -> int:
    """Print the ratios of `other` (None: this checkout with its uncommitted changes) to `revision`; 1 when something got slower.

    Slower: the ratio of the medians is worse than 1 - `threshold`, and the spreads of the two do not overlap.
    """
    before, after = commit_of(revision), commit_of(other) if other else commit_of_checkout()
    figures = list(names or HOT_PATH)
    with tempfile.TemporaryDirectory(prefix="l2-compare-", dir=disk_folder()) as name:
        folder = Path(name)
        with worktree(before, folder / "before") as old, worktree(after, folder / "after") as new:
            failed = measure_in_turns({"before": old, "after": new}, figures, folder, rounds, smoke=smoke)
        rows = [row for figure in figures if figure not in failed for row in ratios(folder, figure, rounds, threshold)]
    print(f"\n{before[:10]} ({revision}) → {after[:10]} ({other or 'this checkout'}), {rounds} rounds each, in turns")
    print("ratio: after ÷ before as speed, above 1 is faster; lowest–highest: of the rounds' own ratios\n")
    for line in tables.plain(rows):
        print(line)
    for figure in failed:
        print(f"not compared: {figure} fails on one of the two")
    slower = [row for row in rows if row["verdict"] == "SLOWER"]
    print(f"\n{len(slower)} of {len(rows)} got slower by more than {threshold:.0%}")
    return bool(slower or failed)


def measure_in_turns(trees: dict[str, Path], figures: Sequence[str], folder: Path, rounds: int, *, smoke: bool) -> list[str]:
    """Measure every figure in every tree, turn by turn; results in `<folder>/<round>/<tree>`; the figures that failed."""
    failed = []
    for figure in figures:
        for turn in range(rounds):
            # the order alternates, so that neither is always the one that finds a warm machine
            for side in ("before", "after") if turn % 2 == 0 else ("after", "before"):
                print(f"{figure}: round {turn + 1} of {rounds}, {side}", flush=True)
                command = [sys.executable, "-m", "benchmarks", "run", figure, "--out", str(folder / str(turn) / side)]
                command += ["--limits", UNMEASURED]
                command += ["--smoke"] if smoke else []
                environment = {**os.environ, "PYTHONPATH": str(trees[side])}
                done = subprocess.run(
                    command, cwd=trees[side], env=environment, capture_output=True, text=True, check=False
                )
                if done.returncode:
                    print(done.stdout[-500:], done.stderr[-2000:], sep="\n")
                    failed.append(figure)
            if figure in failed:
                break
    return list(dict.fromkeys(failed))


def ratios(folder: Path, figure: str, rounds: int, threshold: float) -> Iterator[Row]:
    """A row for every measured value that both have."""
    sides = {
        side: [load(folder / str(turn) / side / f"{figure}.json")["rows"] for turn in range(rounds)] for side in ("before", "after")
    }
    found = {side: [dict(_measured(rows)) for rows in turns] for side, turns in sides.items()}
    for key in found["before"][0]:
        if any(key not in turn for turns in found.values() for turn in turns):
            continue
        before, after = ([turn[key] for turn in found[side]] for side in ("before", "after"))
        yield {"figure": figure, "row": key[0], "value": key[1], **judged(before, after, threshold)}


def judged(before: Sequence[Spread], after: Sequence[Spread], threshold: float) -> dict[str, Any]:
    """Medians, ratio of speed, its spread over the rounds, and the verdict."""
    more = before[0].better == "more"
    pooled = [Spread(tuple(value for spread in side for value in spread.values)) for side in (before, after)]
    single = [_speed(old.median, new.median, more=more) for old, new in zip(before, after, strict=True)]
    ratio = _speed(pooled[0].median, pooled[1].median, more=more)
    worst, best = (pooled[1].high, pooled[0].low) if more else (pooled[0].high, pooled[1].low)
    apart = worst < best
    verdict = "SLOWER" if ratio < 1 - threshold and (apart or max(single) < 1 - threshold) else ""
    if ratio > 1 + threshold and min(single) > 1 + threshold:
        verdict = "faster"
    return {
        "before": pooled[0].median,
        "after": pooled[1].median,
        "ratio": ratio,
        "lowest–highest": f"{min(single):.2f}–{max(single):.2f}",
        "verdict": verdict,
    }


def _speed(old: float, new: float, *, more: bool) -> float:
    return new / old if more else old / new


def _measured(rows: Sequence[Row]) -> Iterator[tuple[tuple[str, str], Spread]]:
    for row in rows:
        for name, value in row.items():
            if isinstance(value, Spread):
                yield (label_of(row), name), value


@contextmanager
def worktree(commit: str, folder: Path) -> Iterator[Path]:
    """The files of a commit, with this checkout's benchmarks and the tests they use."""
    _git("worktree", "add", "--detach", "--quiet", str(folder), commit)
    try:
        shutil.rmtree(folder / SEPARATE, ignore_errors=True)
        shutil.copytree(ROOT / SEPARATE, folder / SEPARATE, ignore=shutil.ignore_patterns("__pycache__"))
        yield folder
    finally:
        _git("worktree", "remove", "--force", str(folder))


def commit_of(revision: str) -> str:
    """The full commit of a revision; SystemExit when there is none."""
    done = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"error: {revision} is no revision of this repository")
    return done.stdout.strip()


def commit_of_checkout() -> str:
    """HEAD, or a commit of it with the uncommitted changes of tracked files (nothing in the checkout is touched)."""
    made = _git("stash", "create").strip()
    return made or commit_of("HEAD")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout

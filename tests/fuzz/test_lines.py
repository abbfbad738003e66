"""Fuzzing of the compiled decoders (depth, Level 1 with any field selection, history replies) and of what follows them.

Injected: mutations of every kind of line, in frames of any cut, fragments and overlong lines among them. Checked: one row a line at its
place, bad rows with a reason, no byte read outside the buffer (guard pages: the process would end), symbols bounded, the books and
feed events take every batch. Scale: quick 3 × 20,000 lines, ci 3 × 150,000, full 3 × 2,000,000; ci and full also 3 × 50,000 / 500,000
lines with kernels compiled to check every array index.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.scale import FAULTS, scaled

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).parent / "corpus"
LINES = scaled(20_000, 150_000, 2_000_000)
CHECKED_LINES = scaled(0, 50_000, 500_000)
PROCESS_S = scaled(240, 600, 3600)


def decode(lines: int, cache: Path, **environment: str) -> str:
    command = [sys.executable, "-m", "tests.fuzz.lines", str(lines), os.environ.get("FUZZ_SEED", "1"), str(cache), str(CORPUS)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=PROCESS_S, check=False
    )
    assert done.returncode == 0, f"{done.returncode} (-11: a byte outside the buffer was touched)\n{done.stdout}{done.stderr}"
    assert done.stdout.count("'lines': ") == 3
    return done.stdout


def test_any_lines_become_rows_and_nothing_is_read_beyond_them(
    numba_cache: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("fuzz", decode(LINES, numba_cache))


@pytest.mark.skipif(FAULTS == "quick", reason="compiling every kernel a second time takes minutes: FAULTS=ci or full")
def test_no_index_is_out_of_bounds(numba_cache: Path, record_property: Callable[[str, object], None]) -> None:
    record_property("fuzz", decode(CHECKED_LINES, numba_cache.parent.with_name("numba-checked"), NUMBA_BOUNDSCHECK="1"))

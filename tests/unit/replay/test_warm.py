"""What the warm-up compiles is what a daily close uses: after it, no kernel meets types that it was not compiled for."""

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
from pathlib import Path
import tests.conftest
from l2_platform.delivery.warm import warm_kernels
from l2_platform.replay.warm import warm_index
from l2_platform.replay.book_index import BookHistory
from l2_platform.replay.book_index_build import build_index
from tests.property.depth_journals import DATE, STREAM, SYMBOLS, RandomJournal, settings_in
from numba.core.dispatcher import Dispatcher

def compiled():
    modules = [module for name, module in sys.modules.items() if name.startswith("l2_platform")]
    found = {item for module in modules for item in vars(module).values() if isinstance(item, Dispatcher)}
    return {f"{item.__module__}.{item.__name__}": list(item.signatures) for item in found}

warm_kernels(["depth"])
if "index" in sys.argv:
    warm_index()
before = compiled()
settings = settings_in(Path(sys.argv[1]))
journal = RandomJournal(settings, 3)
journal.frames(600)
journal.roll(DATE + 1)
build_index(settings, STREAM, DATE)
with BookHistory(settings) as history:
    for symbol in SYMBOLS:
        history.book_at(symbol, journal.ts, STREAM, DATE)
    assert history.slow == 0
after = compiled()
print(*sorted(name for name, signatures in after.items() if signatures != before.get(name)))
"""
ROOT = Path(__file__).parents[3]


def late(folder: Path, *arguments: str) -> list[str]:
    """Kernels that were compiled, or loaded, after the warm-up."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(folder), *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_warm_up_compiles_all_that_building_and_asking_an_index_need(tmp_path: Path) -> None:
    assert late(tmp_path, "index") == []


def test_without_it_the_kernels_of_the_index_are_compiled_by_the_first_close(tmp_path: Path) -> None:
    assert "l2_platform.replay.book_index_kernels.encode_rows" in late(tmp_path)

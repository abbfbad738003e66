"""Memory of the way from lines to rows does not grow with what passes through: garbage, short lines, new names, dates.

Injected: four times 80,000 lines, ordinary and hostile, each time through a new pipeline and reader in one process. Checked: after
the second time the process grows by 32 MiB at most. The long run over 10,000 symbols and half an hour is `benchmarks/memory.py`.
"""

import random
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GROWTH_MIB_MAX = 32
LINES = 80_000


def through(folder: Path, seed: int) -> None:
    """One import of random lines, read and decoded in steps as a delivery does it."""
    from l2_platform.delivery.pipeline import Pipeline
    from l2_platform.journal.importing import write_finished_stream
    from l2_platform.journal.reader import JournalReader

    rng = random.Random(seed)
    kinds = (
        lambda: b"3,N%06d,%d,,B,10.01,5,1,4,10:00:00.000001,2024-01-02,\r\n" % (rng.randrange(1_000_000), rng.randrange(50)),
        lambda: b"3,SYM%03d,%d,,A,10.05,5,1,4,10:00:00.000001,2024-01-02,\r\n" % (rng.randrange(50), rng.randrange(2000)),
        lambda: b"5,SYM%03d,%d,,A,10:00:00.000001,2024-01-02,\r\n" % (rng.randrange(50), rng.randrange(2000)),
        lambda: b"\xff\x00junk\r\n",
        lambda: b"\n",
    )
    stream = f"iqfeed-depth-import-{seed:08d}"
    frames = []
    for number in range(LINES // 1000):
        data = b"".join(rng.choices(kinds, (2, 6, 6, 1, 1))[0]() for _ in range(1000))
        frames.append((data, 1000, 1 + number * 1000, 1_704_207_600_000_000_000 + number))
    write_finished_stream(folder, stream, [(20240102, frames)], context={}, calendar="always_open")
    pipeline = Pipeline(stream, levels=10, interval_ms=100, names_max=2000)
    pipeline.begin_date(20240102, None)
    reader = JournalReader(folder, stream, 20240102, durable_path=None)
    rows = 0
    while items := reader.read(1 << 20, 20_000):
        rows += sum(len(table) for table in pipeline.process(items, 0))
    assert rows > LINES // 2
    assert len(pipeline.symbols) == 2000


def resident_mib() -> int:
    """Memory of this process now, MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 >> 20


def main(folder: Path) -> int:
    """Grow by no more than GROWTH_MIB_MAX after the first two rounds; exit code 1 otherwise."""
    after = []
    for seed in range(4):
        through(folder, seed)
        after.append(resident_mib())
    sys.stdout.write(f"{after} MiB\n")
    return int(after[3] - after[1] > GROWTH_MIB_MAX)


def test_hostile_lines_leave_nothing_behind(tmp_path: Path, numba_cache: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from l2_platform.monitoring.runtime import prepare_numba;"
        f"prepare_numba(Path({str(numba_cache)!r})); from tests.integration.test_memory import main;"
        f"sys.exit(main(Path({str(tmp_path)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

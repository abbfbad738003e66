"""`python -m tests.simulation SEED …` runs seeds again and tells all; `FIRST-LAST` runs a range and counts."""

import os
import sys
import tempfile
import time
from pathlib import Path

from l2_platform.monitoring.runtime import prepare_numba

prepare_numba(Path(tempfile.gettempdir()) / f"l2-platform-tests-{os.getuid()}" / "numba")


def main() -> int:
    """Run what the arguments name; 1 when a seed failed."""
    from tests.simulation.world import World, pin, run

    pin()
    failed = 0
    for argument in sys.argv[1:]:
        first, _, last = argument.partition("-")
        seeds = range(int(first), int(last or first) + 1)
        began, spent = time.perf_counter(), time.process_time()
        for seed in seeds:
            if last:
                result = run(seed)
            else:
                world = World(seed)
                world.log = []
                result = world.run()
                sys.stdout.write("\n".join(world.log) + "\n")
            failed += not result.ok
            if not result.ok or not last:
                sys.stdout.write(f"{result}\ndigest {result.digest}\n")
        wall, cpu = time.perf_counter() - began, time.process_time() - spent
        sys.stdout.write(f"{len(seeds)} seeds, {failed} failed, {wall:.1f} s, {cpu:.1f} s CPU, {len(seeds) / wall:.1f} seeds/s\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

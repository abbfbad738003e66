"""What must be done once before the workers start: kernels compiled, Dagster's storage made.

`python -m l2_platform.operations.kernels depth|level1|simulator` compiles one set.

Each set compiles in a process of its own, side by side; what is in the cache already takes a second. Without this step the
first start of each worker would spend up to a minute compiling, all of them at once, and so would the first daily close.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from l2_platform.clock import Clock
from l2_platform.errors import L2Error
from l2_platform.monitoring.runtime import prepare_numba
from l2_platform.settings import Settings, load_settings

WARM_S_MAX = 300.0
"""Longest time for all of it, s."""


def kernel_sets(settings: Settings) -> list[str]:
    """Which sets this instance needs."""
    sets = ["depth", "level1"] if settings.jsonl.enabled or settings.clickhouse.enabled else []
    return [*sets, "simulator"] if settings.feed.kind == "simulated" else sets


def warm(settings: Settings, environment: Mapping[str, str], clock: Clock) -> None:
    """Compile every set that is not in the cache, and bring Dagster's storage to this version, side by side.

    Dagster's processes must not find an empty storage: started together, each would make its tables, and the version table
    would end with two heads, which no start gets past. Raise L2Error with the last line of the log when one job fails.
    """
    settings.log_dir.mkdir(parents=True, exist_ok=True)
    jobs = {f"kernels-{name}": [sys.executable, "-m", __name__, name] for name in kernel_sets(settings)}
    if settings.dagster.enabled:
        jobs["dagster-migrate"] = [str(Path(sys.executable).parent / "dagster"), "instance", "migrate"]
    logs = {name: settings.log_dir / f"{name}.log" for name in jobs}
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in jobs.items():
            with logs[name].open("wb") as log:
                running[name] = subprocess.Popen(command, env=dict(environment), stdout=log, stderr=log)
        deadline = clock.monotonic_ns() + int(WARM_S_MAX * 1e9)
        for name, process in running.items():
            left_s = max(0.1, (deadline - clock.monotonic_ns()) / 1e9)
            if process.wait(timeout=left_s):
                raise L2Error(f"preparing failed ({name}): {last_line(logs[name])}; see {logs[name]}")
    except subprocess.TimeoutExpired:
        raise L2Error(f"preparing took more than {WARM_S_MAX:.0f} s; see {settings.log_dir}") from None
    finally:
        for process in running.values():
            if process.poll() is None:
                process.kill()
                process.wait()


def last_line(path: Path) -> str:
    """The last line of a log that is not empty; "nothing" when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            lines = [text for text in file.read().decode("utf-8", "replace").splitlines() if text.strip()]
    except OSError:
        return "nothing"
    return lines[-1].strip() if lines else "nothing"


def main(arguments: Sequence[str]) -> int:
    """Compile the named set in this process; the exit code."""
    try:
        prepare_numba(load_settings().cache_dir / "numba")
    except L2Error as error:
        sys.stderr.write(f"error: {error.message}\n")
        return error.exit_code
    name = arguments[0] if arguments else "depth"
    if name == "simulator":
        from l2_platform.feeds.iqfeed.simulator.live import warm_kernels as warm_simulator

        warm_simulator()
    else:
        from l2_platform.delivery.warm import warm_kernels as warm_delivery

        warm_delivery([name])
        if name == "depth":
            # in this process: it has the decoder already
            from l2_platform.replay.warm import warm_index

            warm_index()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Figure `control-room`: what Dagster costs beside the recording, and how long it takes until it is there.

What does not belong here: a tick of the supervisor (supervision.py), the workers' own start (startup.py).
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

from benchmarks.figure import Context, NotMeasurable, Result, Row, Spread, Target, figure
from benchmarks.stack import free_base

TOOLS = Path(sys.executable).parent
CHECKOUT = Path(__file__).resolve().parents[1]
PARTS = ("dagster-code", "dagster-webserver", "dagster-daemon")
VALIDATE_S, HEALTHY_S, IDLE_PERCENT, MEMORY_MB = 5.0, 30.0, 3.0, 450.0
"""Bars: `dagster definitions validate`, `l2 up` until all is healthy, CPU of one core, unique memory."""


@figure("control-room", title="The control room", unit="s", long=True, order=96)
def control_room(ctx: Context) -> Result:
    """`dagster definitions validate` in a fresh process; `l2 up` on a prepared home (installed, kernels compiled) until every part is
    healthy, Dagster included; then, two minutes after the start, CPU time and memory that only these processes have (USS) of code server,
    web server and daemon over the measured time, with the sensors and schedules on and nobody looking. SQLite always; PostgreSQL too when
    the DAGSTER_PG_ variables name one. Options: `seconds` (120), `passes` (5).
    """
    seconds = float(ctx.options.get("seconds", str(ctx.pick(1, 120))))
    passes = int(ctx.options.get("passes", str(ctx.pick(1, 5))))
    home = ctx.scratch / "control-room"
    validate = Spread.of([_validate(home) for _ in range(passes)], "less")
    if ctx.is_smoke:
        return Result(rows=[{"what": "definitions validate", "s": validate}])
    storages = ["sqlite", *(["postgres"] if os.environ.get("DAGSTER_PG_HOST") else [])]
    rows: list[Row] = [{"what": "definitions validate", "s": validate}]
    costs: list[Row] = []
    targets = [Target(f"definitions validate ≤ {VALIDATE_S:g} s", f"{validate.median:.1f} s (N={passes})", validate.median <= VALIDATE_S)]
    for storage in storages:
        ups, cost, cpu, memory = _measure(home.with_name(f"control-room-{storage}"), storage, passes, seconds)
        rows.append({"what": f"l2 up until healthy, {storage}", "s": ups})
        costs += cost
        targets += [
            Target(f"healthy ≤ {HEALTHY_S:g} s, {storage}", f"{ups.high:.1f} s (N={passes})", ups.high <= HEALTHY_S),
            Target(f"idle CPU of Dagster ≤ {IDLE_PERCENT:g} %, {storage}", f"{cpu:.1f} % of a core", cpu <= IDLE_PERCENT),
            Target(f"memory of Dagster ≤ {MEMORY_MB:g} MB, {storage}", f"{memory:.0f} MB", memory <= MEMORY_MB),
        ]
    return Result(
        rows=rows, more={"Cost while idle": costs}, targets=targets,
        limit="Imports of Python packages; the daemon's loops (sensors every 10 to 60 s, each tick some writes; the queue).",
    )  # fmt: skip


def _environment(home: Path, storage: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("L2_")}
    return inherited | {
        "L2_HOME": str(home), "L2_PORTS__BASE": str(free_base()), "L2_DAGSTER__STORAGE": storage, "L2_SIMULATOR__SYMBOLS": "20",
        "L2_SIMULATOR__RATE": "200", "DAGSTER_HOME": str(home / "dagster"),
    }  # fmt: skip


def _validate(home: Path) -> float:
    (home / "dagster").mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    subprocess.run(
        [str(TOOLS / "dagster"), "definitions", "validate"], env=_environment(home, "sqlite"), cwd=CHECKOUT, check=True,
        capture_output=True, timeout=300,
    )  # fmt: skip
    return time.monotonic() - started


def _measure(home: Path, storage: str, passes: int, seconds: float) -> tuple[Spread, list[Row], float, float]:
    """(seconds of each start, cost of each part, CPU % of all, MB of all)."""
    environment = _environment(home, storage)
    cache = os.environ.get("NUMBA_CACHE_DIR")
    if cache is not None:
        (home / "cache").mkdir(parents=True, exist_ok=True)
        (home / "cache" / "numba").symlink_to(Path(cache).parent, target_is_directory=True)
    ups = []
    try:
        # the first start compiles kernels and makes the storage's tables
        _l2(environment, "up")
        for _ in range(passes):
            _l2(environment, "down")
            started = time.monotonic()
            _l2(environment, "up")
            ups.append(time.monotonic() - started)
        time.sleep(min(seconds, 120))
        groups = {name: _processes(home, name) for name in PARTS}
        before = {name: _cpu_s(found) for name, found in groups.items()}
        began = time.monotonic()
        time.sleep(seconds)
        gone = time.monotonic() - began
        rows: list[Row] = []
        for name, found in groups.items():
            memory = sum(one.memory_full_info().uss for one in found if one.is_running()) / 1e6
            rows.append({"storage": storage, "part": name, "CPU %": 100 * (_cpu_s(found) - before[name]) / gone, "USS MB": memory})
    finally:
        subprocess.run([str(TOOLS / "l2"), "down"], env=environment, check=False, capture_output=True, timeout=180)
        shutil.rmtree(home, ignore_errors=True)
    cpu, memory = (sum(float(str(row[column])) for row in rows) for column in ("CPU %", "USS MB"))
    return Spread.of(ups, "less"), rows, cpu, memory


def _l2(environment: dict[str, str], *arguments: str) -> None:
    done = subprocess.run(
        [str(TOOLS / "l2"), *arguments], env=environment, check=False, capture_output=True, text=True, timeout=900
    )
    if done.returncode != 0:
        raise NotMeasurable(f"l2 {' '.join(arguments)}: {done.stderr.strip()[-500:]}")


def _processes(home: Path, name: str) -> list[psutil.Process]:
    """A part of Dagster and what it started."""
    marks = {"dagster-code": "api", "dagster-webserver": "dagster-webserver", "dagster-daemon": "dagster-daemon"}
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = [Path(word).name for word in process.info["cmdline"] or []]
        if (process.info["environ"] or {}).get("L2_HOME") == str(home) and marks[name] in words:
            found += [process, *process.children(recursive=True)]
    return list(dict.fromkeys(found))


def _cpu_s(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total

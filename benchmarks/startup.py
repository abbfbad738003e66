"""Figures `startup` and `recovery`: from a start, or a SIGKILL, to work; and that a starting collector never waits for a compiler."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.figure import Context, NotMeasurable, Result, Row, Spread, Target, figure
from benchmarks.load import Wish, stack_for
from benchmarks.stack import COLLECTORS, DELIVERIES, STILL, Stack
from l2_platform.monitoring.heartbeat import HeartbeatRecord, read_heartbeat

L2 = Path(sys.executable).parent / "l2"
WORKERS = (*COLLECTORS, *DELIVERIES, "warehouse")
UNWANTED = ("numba", "numpy.testing", "clickhouse_connect", "dagster", "chdb", "polars", "pandas")
"""Packages that a collector must not load."""
BARS_S = {"collector": 5.0, "deliver": 10.0, "warehouse": 30.0}
"""SIGKILL to live, s."""


@figure("startup", title="Start of each process", unit="s", long=True, order=70)
def startup(ctx: Context) -> Result:
    """From the start of a process to its first working state (collector: connected, all symbols watched; delivery: live), with compiled
    kernels in the cache. "Compiling" is what `l2 up` does once, on an empty cache, before it starts any worker. The collector loads
    no compiler at all: its modules are listed and checked.
    Options: `symbols` (50), `passes` (5).
    """
    symbols = int(ctx.options.get("symbols", str(ctx.pick(5, 50))))
    passes = int(ctx.options.get("passes", str(ctx.pick(1, 5))))
    rows: list[Row] = []
    with stack_for(ctx, "startup", Wish(symbols, 1, 0, traced=False)) as stack:
        compiling = (
            []
            if ctx.is_smoke
            else [_seconds(_compile_cold(ctx, stack, name)) for name in ("depth", "level1", "simulator")]
        )
        stack.compile()
        stack.write_symbols()
        for name in ("simulator", "warehouse", *DELIVERIES, *COLLECTORS):
            warm = []
            for number in range(passes):
                started = time.monotonic()
                stack.start(name)
                _until_working(stack, name)
                warm.append(time.monotonic() - started)
                if number + 1 < passes:
                    stack.stop(name)
            rows.append({"process": name, "warm s": Spread.of(warm, "less")})
        stack.stop_all()
        loaded = _collector_modules(stack)
    rows += [
        {"process": f"compiling {name}", "warm s": Spread.of([value], "less")}
        for name, value in zip(("depth", "level1", "simulator"), compiling, strict=False)
    ]
    compilers = [name for name in UNWANTED if name in loaded]
    target = Target(
        "no JIT compiler on the path of a starting collector",
        f"{len(loaded)} modules loaded, {', '.join(compilers) or 'none'} of {', '.join(UNWANTED)}",
        not compilers,
    )
    return Result(rows=rows, targets=[target], limit="Imports of Python packages; the warehouse opens its tables.")


@figure("recovery", title="Recovery after SIGKILL", unit="s", long=True, order=71)
def recovery(ctx: Context) -> Result:
    """An instance of `l2 up` (Dagster off) under 5,000 messages/s; each worker in turn gets SIGKILL. "Spawned": supervisord has a new
    process that beats; "working": it is live again (deliveries: with the books, less than a second behind). At the end every process
    is killed at once and `l2 up` is timed until all is healthy. Options: `rate` (5000), `symbols` (1000), `passes` (3).
    """
    wish = Wish(
        int(ctx.options.get("symbols", str(ctx.pick(5, 1_000)))),
        float(ctx.options.get("rate", str(ctx.pick(100, 5_000)))),
        0,
        traced=False,
    )
    passes = int(ctx.options.get("passes", str(ctx.pick(1, 3))))
    rows: list[Row] = []
    with stack_for(ctx, "recovery", wish) as stack:
        stack.variables |= {"L2_DAGSTER__ENABLED": "false", "L2_SIMULATOR__RATE": f"{wish.rate:g}"}
        stack.write_symbols()
        try:
            first = _up(stack)
            for name in WORKERS if not ctx.is_smoke else WORKERS[:1]:
                times = [_kill_and_wait(stack, name) for _ in range(passes)]
                row: Row = {"killed": name}
                rows.append(
                    row
                    | {
                        "spawned s": Spread.of([one for one, _ in times], "less"),
                        "working s": Spread.of([two for _, two in times], "less"),
                    }
                )
            _kill_everything(stack)
            again = _up(stack)
        finally:
            subprocess.run([str(L2), "down"], env=stack.environment, check=False, capture_output=True, timeout=180)
    rows += [
        {"killed": "nothing: first start", "working s": Spread.of([first], "less")},
        {"killed": "everything", "working s": Spread.of([again], "less")},
    ]
    return Result(
        rows=rows,
        targets=_bars(rows) if not ctx.is_smoke else [],
        limit="supervisord looks once a second; then imports, the checkpoint and the replay.",
    )


def _bars(rows: list[Row]) -> list[Target]:
    found = []
    for row in rows:
        bar = next((seconds for kind, seconds in BARS_S.items() if str(row["killed"]).startswith(kind)), 30.0)
        worst = row["working s"]
        assert isinstance(worst, Spread)
        found.append(Target(f"{row['killed']}: working ≤ {bar:g} s", f"{worst.high:.1f} s", worst.high <= bar))
    return found


def _seconds(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def _compile_cold(ctx: Context, stack: Stack, name: str) -> Callable[[], object]:
    """Compiles one set into an empty cache."""
    home = ctx.scratch / f"cold-{name}"
    environment = stack.environment | {"L2_HOME": str(home)}
    command = [sys.executable, "-m", "l2_platform.operations.kernels", name]
    return lambda: subprocess.run(command, env=environment, check=True, timeout=600, capture_output=True)


def _until_working(stack: Stack, name: str) -> None:
    if name in COLLECTORS:
        stack.until(f"{name} watches", lambda: stack.numbers(name).get("watched", 0) >= stack.symbols)
    else:
        stack.until_live(name)
    if name == "simulator":
        stack.set_rate(STILL)


def _collector_modules(stack: Stack) -> set[str]:
    code = "import sys, l2_platform.collectors.__main__; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=stack.environment, check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


def _up(stack: Stack) -> float:
    started = time.monotonic()
    done = subprocess.run(
        [str(L2), "up"], env=stack.environment, check=False, capture_output=True, text=True, timeout=600, cwd=stack.home
    )
    if done.returncode:
        raise NotMeasurable(f"l2 up ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-1500:]}")
    return time.monotonic() - started


def _beat(stack: Stack, name: str) -> HeartbeatRecord | None:
    return read_heartbeat(stack.settings.run_dir / "heartbeats" / f"{name}.json")


def _kill_and_wait(stack: Stack, name: str) -> tuple[float, float]:
    """(s until a new process beats, s until it works)."""
    old = _beat(stack, name)
    if old is None:
        raise NotMeasurable(f"{name} has no heartbeat")
    started = time.monotonic()
    os.kill(old.pid, signal.SIGKILL)
    spawned = 0.0
    while time.monotonic() - started < 120:
        beat = _beat(stack, name)
        if beat is not None and beat.pid != old.pid:
            spawned = spawned or time.monotonic() - started
            if beat.state == "live" and _caught_up(stack, name, beat):
                return spawned, time.monotonic() - started
        time.sleep(0.01)
    raise NotMeasurable(f"{name} did not work again within 120 s: {beat}")


def _caught_up(stack: Stack, name: str, beat: HeartbeatRecord) -> bool:
    if name in COLLECTORS:
        return int(beat.numbers.get("watched", 0)) >= stack.symbols
    if name in DELIVERIES:
        streams = beat.numbers.get("streams", {})
        return len(streams) >= len(COLLECTORS) and all(
            float(numbers["lag_s"]) < 1.0 and numbers["seq"] for numbers in streams.values()
        )
    return True


def _kill_everything(stack: Stack) -> None:
    """SIGKILL to supervisord and every worker, as a power loss would end them."""
    pids = [int((stack.settings.run_dir / "supervisord.pid").read_text())]
    pids += [
        beat.pid
        for path in (stack.settings.run_dir / "heartbeats").glob("*.json")
        if (beat := read_heartbeat(path)) is not None
    ]
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    time.sleep(1.0)

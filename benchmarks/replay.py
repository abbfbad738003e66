"""Figure `replay`: a stored day over IQFeed's protocol, how late its lines are and how fast they can go."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.figure import Context, Result, Row, Spread, Target, figure
from benchmarks.lines import SESSION_DATE, GeneratedMarket
from benchmarks.stack import free_base
from benchmarks.store import share_kernels
from l2_platform.errors import L2Error
from l2_platform.feeds.iqfeed.simulator.control import ask
from l2_platform.journal.writer import JournalWriter
from l2_platform.replay.warm import warm
from l2_platform.settings import Settings

STREAM = "iqfeed-depth-0"
RATE = 35_000
LATE_MS = 1.0


@figure("replay", title="Replay of a stored day", unit="ms late", long=True, order=66)
def replay(ctx: Context) -> Result:
    """A day of depth lines at about 57,000/s, 1,000 symbols, 1 ms a frame, in a journal; `l2 replay` serves it to a client that watches
    every symbol and reads as fast as it can, each in a process of its own. "Late" is how long after the moment that the recorded
    receive time and the speed give a line was handed to the client's socket, for every line. "Machine" is the same of a third process
    at the same time that does nothing but sleep until each ms: what the machine itself is late. At speed max the slowest client sets
    the pace. Options: `seconds` (20), `symbols` (1000), `passes` (3).
    """
    seconds = float(ctx.options.get("seconds", str(ctx.pick(0.5, 20.0))))
    symbols = int(ctx.options.get("symbols", str(ctx.pick(10, 1_000))))
    passes = int(ctx.options.get("passes", str(ctx.pick(1, 3))))
    market = GeneratedMarket(symbols, rate=2 * RATE)
    settings = Settings(home=ctx.scratch / "home", ports={"base": free_base()})
    share_kernels(settings)
    warm()
    kept = market.depth(int(RATE * seconds * 10))
    span_s = _record(settings, kept, ctx)
    rows: list[Row] = []
    worst: dict[str, float] = {}
    still: dict[str, float] = {}
    for speed, part in (("1", seconds / span_s), ("10", 1.0), ("max", 1.0)):
        results = [_play(settings, market.names, speed, part, span_s, ctx) for _ in range(passes)]
        late = {key: [float(result["late"][key]) for result in results] for key in ("p50_ms", "p99_ms", "max_ms")}
        rates = Spread.of(result["lines"] / result["played_s"] for result in results)
        row: Row = {"speed": speed, "lines": int(results[0]["lines"]), "lines/s": rates}
        if speed != "max":
            row |= {f"{key.removesuffix('_ms')} ms": Spread.of(values, "less") for key, values in late.items()}
            row |= {
                f"machine {key} ms": Spread.of((float(result["machine"][f"{key}_ms"]) for result in results), "less")
                for key in ("p99", "max")
            }
            worst[speed] = Spread.of(late["p99_ms"]).median
            still[speed] = Spread.of(result["machine"]["p99_ms"] for result in results).median
        rows.append(row)
    target = Target(
        f"99 % of the lines ≤ {LATE_MS:g} ms late at speed 1", f"{worst['1']:.3f} ms", worst["1"] <= LATE_MS,
        "" if worst["1"] <= LATE_MS else f"a process that only sleeps was {still['1']:.3f} ms late at the same time",
    )  # fmt: skip
    return Result(
        rows=rows, targets=[] if ctx.is_smoke else [target],
        notes=[f"{symbols:,} symbols; each row is the median of {passes} passes; client and sleeper share the machine."],
        limit="Speed 1 and 10: pauses of the machine itself (columns \"machine\") and the interpreter's work a frame (about 60 µs); "
        "max: the socket and the client.",
    )  # fmt: skip


def _record(settings: Settings, kept: Any, ctx: Context) -> float:
    """Write the lines as a collector would have; the seconds that they span."""
    durable = settings.run_dir / "durable" / STREAM
    writer = JournalWriter(
        settings.journal_dir, STREAM, settings.journal, ctx.clock, calendar="always_open", durable_path=durable
    )
    (settings.run_dir / "durable").mkdir(parents=True)
    writer.open(SESSION_DATE)
    frames = kept.block().frames()
    first = frames[0][3]
    writer.control("session", first, 0, session_date=SESSION_DATE, reset=True)
    for data, count, _, ts in frames:
        writer.append(data, count, ts, 1)
    writer.close()
    return float(frames[-1][3] - first) / 1e9


def _play(settings: Settings, names: list[str], speed: str, part: float, span_s: float, ctx: Context) -> dict[str, Any]:
    command = [sys.executable, "-c", "from l2_platform.cli import main; main()", "replay", str(SESSION_DATE), "--speed", speed]
    command += ["--port-base", str(settings.ports.base), "--start-paused", "--json"]
    if part < 1:
        begin = 1_753_452_000 + int(span_s * part)
        command += ["--to", f"2025-07-25T{begin // 3600 % 24:02d}:{begin // 60 % 60:02d}:{begin % 60:02d}+00:00"]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("L2_")}
    log = (ctx.scratch / "replay.log").open("ab")
    with log, subprocess.Popen(
        command, env=variables | {"L2_HOME": str(settings.home)}, stdout=subprocess.PIPE, stderr=log
    ) as process:  # fmt: skip
        try:
            with _beside("client", str(settings.ports.level2)) as client:
                _tell(client, " ".join(names))
                while not _watched(settings, len(names)):
                    _require_life(process, ctx.scratch / "replay.log")
                    ctx.clock.sleep(0.05)
                with _beside("witness") as witness:
                    started = ctx.clock.monotonic_ns()
                    ask(settings.ports.simulator_control, {"cmd": "resume"})
                    out, _ = process.communicate(timeout=600)
                    played_s = (ctx.clock.monotonic_ns() - started) / 1e9
                    machine = json.loads(witness.communicate(timeout=60)[0])
                client.wait(60)
        finally:
            process.kill()
    result: dict[str, Any] = json.loads(out)
    return result | {"played_s": played_s, "machine": machine}


@contextmanager
def _beside(*arguments: str) -> "Iterator[subprocess.Popen[str]]":
    """A small process beside; killed at the end if it is still there."""
    root = str(Path(__file__).resolve().parents[1])
    command = [sys.executable, "-m", "benchmarks.beside", *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": root}
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def _tell(process: "subprocess.Popen[str]", text: str) -> None:
    """Its whole input."""
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.close()


def _require_life(process: "subprocess.Popen[bytes]", log: Path) -> None:
    if process.poll() is not None:
        raise RuntimeError(log.read_text())


def _watched(settings: Settings, count: int) -> bool:
    try:
        return bool(ask(settings.ports.simulator_control, {"cmd": "status"})["watched"]["level2"] >= count)
    except L2Error:
        return False

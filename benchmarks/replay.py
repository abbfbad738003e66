"""Figure `replay`: a stored day over IQFeed's protocol, how late its lines are and how fast they can go."""

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.figure import Context, Result, Row, Spread, Target, figure
from benchmarks.lines import SESSION_DATE, GeneratedMarket
from benchmarks.stack import free_base
from l2_platform.feeds.iqfeed.simulator.control import ask
from l2_platform.journal.writer import JournalWriter
from l2_platform.replay.warm import warm
from l2_platform.settings import Settings

STREAM = "iqfeed-depth-0"
RATE = 35_000
LATE_MS = 1.0


@figure("replay", title="Replay of a stored day", unit="ms late", long=True, order=66)
def replay(ctx: Context) -> Result:
    """A day of depth lines at 35,000/s, 1,000 symbols, 1 ms a frame, in a journal; `l2 replay` in a process of its own serves it to a
    client that watches every symbol and reads as fast as it can, in this process. "Late" is how long after the moment that the
    recorded receive time and the speed give a line was handed to the client's socket, for every line. At speed max the slowest
    client sets the pace. Options: `seconds` (20), `symbols` (1000), `passes` (3).
    """
    seconds = float(ctx.options.get("seconds", str(ctx.pick(0.5, 20.0))))
    symbols = int(ctx.options.get("symbols", str(ctx.pick(10, 1_000))))
    passes = int(ctx.options.get("passes", str(ctx.pick(1, 3))))
    market = GeneratedMarket(symbols, rate=2 * RATE)
    settings = Settings(home=ctx.scratch / "home", ports={"base": free_base()})
    _share_kernels(settings)
    warm()
    kept = market.depth(int(RATE * seconds * 10))
    span_s = _record(settings, kept, ctx)
    rows: list[Row] = []
    worst: dict[str, float] = {}
    for speed, part in (("1", seconds / span_s), ("10", 1.0), ("max", 1.0)):
        results = [_play(settings, market.names, speed, part, span_s, ctx) for _ in range(passes)]
        late = {key: [float(result["late"][key]) for result in results] for key in ("p50_ms", "p99_ms", "max_ms")}
        rates = Spread.of(result["lines"] / result["played_s"] for result in results)
        row: Row = {"speed": speed, "lines": int(results[0]["lines"]), "lines/s": rates}
        if speed != "max":
            row |= {f"{key.removesuffix('_ms')} ms": Spread.of(values, "less") for key, values in late.items()}
            worst[speed] = Spread.of(late["p99_ms"]).median
        rows.append(row)
    target = Target(
        f"99 % of the lines ≤ {LATE_MS:g} ms late at speed 1", f"{worst['1']:.3f} ms", worst["1"] <= LATE_MS,
        "" if worst["1"] <= LATE_MS else "other work on the same cores",
    )  # fmt: skip
    return Result(
        rows=rows, targets=[] if ctx.is_smoke else [target],
        notes=[f"{symbols:,} symbols; each row is the median of {passes} passes; the client shares the machine."],
        limit="CPU: the interpreter's work a frame (about 60 µs) at speed 1 and 10; the socket and the client at max.",
    )  # fmt: skip


def _share_kernels(settings: Settings) -> None:
    """Use the kernels that this process uses."""
    folder = os.environ.get("NUMBA_CACHE_DIR")
    if folder:
        settings.cache_dir.mkdir(parents=True)
        (settings.cache_dir / "numba").symlink_to(Path(folder).parent, target_is_directory=True)


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
    with ExitStack() as ends, log, subprocess.Popen(
        command, env=variables | {"L2_HOME": str(settings.home)}, stdout=subprocess.PIPE, stderr=log
    ) as process:  # fmt: skip
        try:
            client = ends.enter_context(_await_port(settings.ports.level2, process, ctx, ctx.scratch / "replay.log"))
            watches = "".join(f"WOR,{name}\r\n" for name in names)
            client.sendall(f"S,SET PROTOCOL,6.2\r\nS,TIMESTAMPSOFF\r\n{watches}".encode())
            reader = threading.Thread(target=_drain, args=(client,), daemon=True)
            reader.start()
            while not _watched(settings, len(names)):
                ctx.clock.sleep(0.05)
            started = ctx.clock.monotonic_ns()
            ask(settings.ports.simulator_control, {"cmd": "resume"})
            out, _ = process.communicate(timeout=600)
            reader.join(30)
            played_s = (ctx.clock.monotonic_ns() - started) / 1e9
        finally:
            process.kill()
    result: dict[str, Any] = json.loads(out)
    return result | {"played_s": played_s}


def _watched(settings: Settings, count: int) -> bool:
    return bool(ask(settings.ports.simulator_control, {"cmd": "status"})["watched"]["level2"] >= count)


def _await_port(port: int, process: "subprocess.Popen[bytes]", ctx: Context, log: Path) -> socket.socket:
    for _ in range(2400):
        if process.poll() is not None:
            raise RuntimeError(log.read_text())
        try:
            return socket.create_connection(("127.0.0.1", port))
        except OSError:
            ctx.clock.sleep(0.1)
    raise RuntimeError("the replay did not open its ports")


def _drain(client: socket.socket) -> None:
    buffer = bytearray(1 << 20)
    while client.recv_into(buffer):
        pass

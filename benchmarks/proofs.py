"""Figure `proofs`: `l2 reconcile` and `l2 complete` over a stored day, as a person calls them, and over a quarter of it.

What does not belong here: whether they find what is wrong (recall/stores.py, tests/integration), the audit (audit.py).
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import psutil

from benchmarks.figure import Context, Result, Row, Spread, Target, figure
from benchmarks.lines import SESSION_DATE, GeneratedMarket
from benchmarks.store import Highest, process_of, share_kernels, warehouse
from l2_platform.feeds.iqfeed.layouts import layout_from_names
from l2_platform.journal.importing import write_finished_stream
from l2_platform.quality.reconcile import reconcile_date
from l2_platform.settings import Settings
from l2_platform.warehouse.queries import TABLES

STREAMS: Final = ("iqfeed-depth-0", "iqfeed-level1-0")
PARTS: Final = (4, 1)
"""The day is measured as a quarter and whole."""
FRAME_LINES: Final = 35
"""What a collector reads at once at 35,000 lines/s."""
FLAT_MB: Final = 64
MB: Final = 1e6


@figure("proofs", title="Reconciliation and completeness of a day", unit="M lines/s", long=True, order=66)
def proofs(ctx: Context) -> Result:
    """A day of the simulated market in a finished journal, depth and Level 1 as the market sends them, brought
    into tables and JSONL files by the program; then `l2 reconcile DATE` (journal decoded once more, tables and files compared with it,
    all equal) and `l2 complete DATE` (every symbol judged from the tables), each in a process of its own that is started, works and
    ends. "Lines": of the journal; "rows": those that the comparison hashed on each side in tables and files, and those of the market
    tables. Time of the work as the command tells it; CPU of the whole process, its start included, and of the warehouse's meanwhile; memory
    is the greatest resident size of either, looked at every 100 ms, the engine's caches included. A quarter of the day beside the
    whole shows whether memory grows with it. Options: `lines` (10000000), `symbols` (1000), `rate` (2000 lines/s), `passes` (3).
    """
    lines = int(ctx.options.get("lines", str(ctx.pick(4_000, 10_000_000))))
    symbols = int(ctx.options.get("symbols", str(ctx.pick(10, 1_000))))
    rate, passes = float(ctx.options.get("rate", "2000")), int(ctx.options.get("passes", str(ctx.pick(1, 3))))
    rows: list[Row] = []
    own: dict[str, list[float]] = {}
    for part in PARTS:
        inner = replace(ctx, scratch=ctx.scratch / f"part-{part}")
        inner.scratch.mkdir()
        with warehouse(inner) as (settings, _sink, client):
            held = store_day(settings, ctx, lines // part, symbols, rate)
            count = sum(int(client.query(f"SELECT count() FROM l2.{table}").result_rows[0][0]) for table in TABLES)
            for command in ("reconcile", "complete"):
                runs = [run_command(settings, command) for _ in range(passes)]
                worked = count if command == "complete" else sum(
                    int(entry["rows_journal"]) for entry in runs[0].told["entries"] if entry["state"] == "equal"
                )  # fmt: skip
                rows.append(row_of(command, held, worked, runs))
                own.setdefault(command, []).append(max(run.own_mb for run in runs))
    flat = [
        Target(
            f"`l2 {command}` flat: ≤ {FLAT_MB} MB more for {PARTS[0]} times the day", f"{few:,.0f} MB, then {whole:,.0f} MB",
            whole - few <= FLAT_MB,
        )
        for command, (few, whole) in own.items()
    ]  # fmt: skip
    return Result(
        rows=rows,
        targets=[] if ctx.is_smoke else flat,
        notes=[f"{symbols:,} symbols; the day has {lines:,} lines at {rate:,.0f} a second. Median of {passes} passes in files and tables "
               "that the system may hold in memory."],
        limit="reconcile: CPU of this process (decoding, books, hashes of rows, records of files); complete: the engine's aggregates.",
    )  # fmt: skip


@dataclass(slots=True)
class Run:
    """One process of the command."""

    seconds: float
    """Of the work, as it says."""
    own_s: float
    """CPU of the process, its start included."""
    engine_s: float
    """CPU of the warehouse meanwhile."""
    own_mb: float
    engine_mb: float
    told: dict[str, Any]


def row_of(command: str, lines: int, worked: int, runs: list[Run]) -> Row:
    """What its passes came to."""
    seconds = Spread.of((run.seconds for run in runs), "less")
    return {
        "command": f"l2 {command}", "lines": lines, "rows": worked, "s": seconds, "M lines/s": seconds.rate(lines / 1e6),
        "M rows/s": seconds.rate(worked / 1e6),
        "CPU s": Spread.of((run.own_s for run in runs), "less"), "warehouse CPU s": Spread.of((run.engine_s for run in runs), "less"),
        "memory MB": Spread.of((run.own_mb for run in runs), "less"),
        "warehouse MB": Spread.of((run.engine_mb for run in runs), "less"),
    }  # fmt: skip


def run_command(settings: Settings, command: str) -> Run:
    """Run `l2 COMMAND DATE --json` to its end; it must have compared, or judged, everything."""
    code = "from l2_platform.cli import main; main()"
    variables = {name: value for name, value in os.environ.items() if not name.startswith("L2_")} | {"L2_HOME": str(settings.home)}
    engine = process_of(settings)
    before = engine.cpu_times()
    with subprocess.Popen(
        [sys.executable, "-c", code, command, str(SESSION_DATE), "--json"], env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        # the system's own peak of a process begins with that of the one that started it
        with Highest(psutil.Process(process.pid)) as own, Highest(engine) as highest:
            out = process.stdout.read()
            said = process.stderr.read().decode()
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    after = engine.cpu_times()
    told: dict[str, Any] = json.loads(out or b"{}")
    is_whole = told.get("ok") if command == "reconcile" else told.get("outcome") == "judged" and told["symbols"]
    if not is_whole:
        raise AssertionError(f"l2 {command} ended with {process.returncode}: {said} {out[:2000].decode()}")
    engine_s = after.user + after.system - before.user - before.system
    return Run(told["seconds"], usage.ru_utime + usage.ru_stime, engine_s, own.bytes / MB, highest.bytes / MB, told)


def store_day(settings: Settings, ctx: Context, lines: int, symbols: int, rate: float) -> int:
    """Journal a day of at least so many lines and bring it into every store; its lines."""
    share_kernels(settings)
    for stream in STREAMS:
        market = GeneratedMarket(symbols, rate=rate)
        frames = frames_of(market, stream, lines)
        fields = list(layout_from_names(("Symbol", *market.layout.names)).fields)
        context = {"fields": fields, "connection": 1} if "level1" in stream else {}
        write_finished_stream(settings.journal_dir, stream, [(SESSION_DATE, frames)], context=context, calendar="always_open")
    filled = reconcile_date(settings, SESSION_DATE, ctx.clock, heal=True)
    if not filled.ok:
        raise AssertionError(f"the day could not be stored: {filled}")
    return filled.messages


def frames_of(market: GeneratedMarket, stream: str, lines: int) -> Iterator[tuple[bytes, int, int, int]]:
    """The frames of one of both streams, until both together have so many lines."""
    seq, held = 1, 0
    depth = "depth" in stream
    if depth:
        for frame in market.snapshot().block(frame_lines=1000).frames():
            yield frame
            seq += frame[1]
    for parts in market.seconds():
        mine = parts[0 if depth else 1]
        if len(mine):
            yield from mine.block(seq_first=seq, frame_lines=FRAME_LINES).frames()
            seq += len(mine)
        held += sum(map(len, parts))
        if held >= lines:
            return

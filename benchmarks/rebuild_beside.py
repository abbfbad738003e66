"""Figure `rebuild-beside`: what live recording and delivery notice of a rebuild on the same machine."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.figure import Context, Result, Row, Target, figure
from benchmarks.latency import summary
from benchmarks.load import Load, Wish, run_load
from benchmarks.rebuild import STREAM, write_journal
from benchmarks.stack import Stack

DATE = "2025-07-25"
STAGES = ("journal durable", "book", "queryable")


@figure("rebuild-beside", title="Rebuild beside live recording", unit="ms", baseline="the same load without a rebuild", long=True, order=65)
def rebuild_beside(ctx: Context) -> Result:
    """The open load of figure `latency`, once alone and once while `l2 rebuild` builds a stored date again and again in a process of its
    own, with the settings it has by default (it gives way: `rebuild.nice`, and no insert begins while the live delivery is behind by
    `rebuild.lag_s`). Options: `seconds` (60), `rate` (10000), `symbols` (1000), `lines` (1000000; of the stored date).
    """
    seconds = float(ctx.options.get("seconds", str(ctx.pick(2.0, 60.0))))
    rate = float(ctx.options.get("rate", str(ctx.pick(200, 10_000))))
    symbols = int(ctx.options.get("symbols", str(ctx.pick(10, 1_000))))
    lines = int(ctx.options.get("lines", str(ctx.pick(2_000, 1_000_000))))
    done: list[int] = []

    @contextmanager
    def rebuilding(stack: Stack) -> Iterator[None]:
        count = write_journal(stack.settings, STREAM, lines, min(symbols, 1_000))
        _rebuild(stack)  # the first one makes the rows: from then on the tables are full, and each rebuild compares as well
        with _Again(stack) as again:
            yield
        done.extend([count] * again.rounds)

    warm_s = ctx.pick(0.5, 5.0)
    alone = run_load(ctx, "alone", Wish(symbols, rate, seconds, warm_s))
    beside = run_load(ctx, "beside", Wish(symbols, rate, seconds, warm_s, beside=rebuilding))
    rows: list[Row] = [_row("alone", alone), _row("beside a rebuild", beside)]
    lost, doubled = beside.lost, beside.duplicated
    targets = [
        Target("0 lost, 0 duplicated beside a rebuild", f"{lost} lost, {doubled} duplicated", not lost and not doubled),
        Target("live delivery keeps up beside a rebuild", "yes" if beside.kept_up else "no", beside.kept_up),
    ]
    rebuilt = sum(done) / beside.seconds
    return Result(
        rows=rows, targets=[] if ctx.is_smoke else targets,
        notes=[f"N = {alone.records:,} and {beside.records:,} live records; {len(done)} rebuilds of {lines:,} lines ended beside them, "
               f"{rebuilt:,.0f} lines/s."],
        limit="CPU: two cores are shared by market, collectors, deliveries, warehouse and rebuild.",
    )  # fmt: skip


class _Again:
    """Rebuilds one after the other, in a thread of processes, until it is left."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.rounds = 0
        self._ended = False

    def __enter__(self) -> "_Again":
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join(600)

    def _run(self) -> None:
        while not self._ended:
            _rebuild(self.stack)
            self.rounds += 1


def _rebuild(stack: Stack) -> None:
    command = [sys.executable, "-c", "from l2_platform.cli import main; main()", "rebuild", DATE, "--stream", STREAM, "--json"]
    subprocess.run(command, env=stack.environment, capture_output=True, check=True, timeout=600)


def _row(name: str, load: Load) -> Row:
    row: Row = {"load": name, "records/s": load.rate}
    for stage in STAGES:
        found = summary(load, stage)
        row |= {f"{stage} p50": found["p50 ms"], f"{stage} p99": found["p99 ms"]}
    return row | {"cores": sum(load.cpu.values())}

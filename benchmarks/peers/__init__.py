"""The figure `peers`: other libraries' books on the same events, with the same answers checked.

`python -m benchmarks.peers` makes their environment and measures; without it the figure says what is missing. What does not belong
here: their code (contest.py), their installation (environment.py), our books in other shapes (benchmarks/book.py).
"""

import gzip
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.book import Updates, rows_of, updates_of
from benchmarks.figure import Context, Result, Row, Spread, figure
from benchmarks.lines import GeneratedMarket, read_recorded
from benchmarks.peers.contest import BOOKS
from benchmarks.peers.environment import NEWER, Peers, find_peers
from benchmarks.peers.events import Tape, tape_of
from l2_platform.market.events import DepthBatch

SMALL_BATCH = 64
CONTEST = Path(__file__).with_name("contest.py")
RECORDED = "aapl_2012-06-21_depth_by_price.iqfeed.txt.gz"
PASSES = 5
CONTEST_S = 900
ONE_ASSET = {"hftbacktest, hash map", "hftbacktest, price range"}
"""Their documented use is one asset a book with one array of events: not run with many symbols."""


@figure(
    "peers", title="Books of other libraries", unit="ns an event", baseline="each peer, same events, same run", order=25
)
def peers(ctx: Context) -> Result:
    """Price level events (set or delete one level) into the books of other Python libraries and into ours, one core, one after the
    other in one run. Every book starts with the same levels, and gives the best price and size of both sides after every event; all
    of these answers are compared with ours. Peers get their events in the form that they take fastest, made before the clock starts
    (benchmarks/peers/contest.py is the code); ours get decoded columns, keep each symbol's trust and counts, and record every change
    of the top. Times are CPU times of one thread. Decode against a plain Python loop is measured by `decode-depth` and `decode-level1`.
    """
    installed = find_peers()
    rows: list[Row] = []
    notes = [NEWER]
    for tape in tapes(ctx):
        path = ctx.scratch / "events.npz"
        tape.save(path)
        answers = tape.answers()
        own = _ours(ctx, tape)
        rows += own
        best = own[0]["ns an event"]
        assert isinstance(best, Spread)
        for name in BOOKS:
            package = name.split(",")[0]
            if tape.symbols > 1 and name in ONE_ASSET:
                continue
            python = _python_of(package, installed, ctx)
            if not python:
                continue
            row = _contest(ctx, python, name, path, answers)
            if isinstance(row, str):
                notes.append(f"{name} on {tape.name}: {row}")
                continue
            version = installed.versions.get(package, "") if installed else ""
            spread = row["ns an event"]
            assert isinstance(spread, Spread)
            rows.append({"events": tape.name, "book": f"{name} {version}".strip(), **row, "× ours": spread.over(best)})
    notes += _missing(installed)
    return Result(rows=rows, notes=notes, limit=_LIMIT)


_LIMIT = (
    "Peers: the call and the objects of Python for each event, not their data structures; hftbacktest takes arrays like ours, and drives"
    " two books and its clock for each event. Ours: the CPU of one core, mostly the misses of the cache on many symbols; in batches of"
    f" {SMALL_BATCH} rows the call from Python."
)


def tapes(ctx: Context) -> list[Tape]:
    """The events: generated for one symbol and for many, and a recorded hour where it is at hand."""
    made = []
    count = ctx.pick(2_000, 200_000)
    for symbols in ctx.pick((1,), (1, 1_000)):
        market = GeneratedMarket(symbols, "levels")
        updates = updates_of(market.snapshot(), market.depth(count))
        made.append(tape_of(f"generated, {symbols:,} symbol{'s' if symbols > 1 else ''}", updates))
    recorded = ctx.market_data / RECORDED if ctx.market_data else None
    if recorded is not None and recorded.exists():
        lines = read_recorded(gzip.decompress(recorded.read_bytes()))
        lines = lines.head(ctx.pick(2_000, len(lines)))
        made.append(tape_of("recorded hour of AAPL", updates_of(lines.head(1_000), lines.slice(1_000, len(lines)))))
    return made


def _ours(ctx: Context, tape: Tape) -> list[Row]:
    """Our engine: as a delivery uses it, and in other ways."""
    rows: list[Row] = []
    first: Spread | None = None
    small = Updates(tape.updates.symbols, tape.updates.start, tape.updates.before, _cut(tape.updates))
    for name, updates, levels in (
        ("this project, top 1, batches of 100,000", tape.updates, 1),
        (f"this project, top 1, batches of {SMALL_BATCH}", small, 1),
        ("this project, top 10, batches of 100,000", tape.updates, 10),
    ):
        nanoseconds = _cpu_seconds(ctx, updates, levels).times(1e9 / tape.timed, "less")
        first = first or nanoseconds
        rows.append(
            {
                "events": tape.name,
                "book": name,
                "ns an event": nanoseconds,
                "equal answers %": 100.0,
                "× ours": nanoseconds.over(first),
            }
        )
    return rows


def _cpu_seconds(ctx: Context, updates: Updates, levels: int) -> Spread:
    seconds = []
    for _turn in range(1 + ctx.pick(1, PASSES)):
        engine = updates.engine(0, levels)
        started = time.process_time_ns()
        for batch in updates.batches:
            engine.apply(batch, "recv")
        seconds.append((time.process_time_ns() - started) / 1e9)
    return Spread(tuple(seconds[1:]), "less")


def _cut(updates: Updates) -> list[DepthBatch]:
    return [
        rows_of(batch, first, min(first + SMALL_BATCH, len(batch)))
        for batch in updates.batches
        for first in range(0, len(batch), SMALL_BATCH)
    ]


def _python_of(package: str, installed: Peers | None, ctx: Context) -> str:
    """The interpreter that runs a book; empty when there is none. The plain book needs no package."""
    if installed is not None and (package in installed.versions or package == "plain"):
        return "" if ctx.is_smoke and package != "plain" else installed.python
    return sys.executable if package == "plain" else ""


def _contest(ctx: Context, python: str, name: str, events: Path, answers: np.ndarray) -> Row | str:
    """Seconds and share of equal answers of one book; a text when it did not run."""
    out = ctx.scratch / "answers.npz"
    out.unlink(missing_ok=True)
    command = [python, "-I", str(CONTEST), name, str(events), str(out), str(ctx.pick(1, PASSES))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CONTEST_S, check=False)
    except subprocess.TimeoutExpired:
        return f"did not end within {CONTEST_S} s"
    if done.returncode:
        return f"failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
    with np.load(out) as file:
        seconds, theirs = file["seconds"].tolist(), file["answers"]
    compared = theirs[:, 0] != -1
    equal = (theirs[compared] == answers[compared]).all(axis=1)
    return {
        "ns an event": Spread(tuple(1e9 * value / len(answers) for value in seconds), "less"),
        "equal answers %": 100.0 * float(equal.mean()),
    }


def _missing(installed: Peers | None) -> list[str]:
    if installed is None:
        return [
            "The peers' environment is not made: `python -m benchmarks.peers` makes it. Only the plain book was compared."
        ]
    return [f"{name} could not be installed: {reason}" for name, reason in installed.missing.items()]

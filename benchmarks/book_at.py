"""Figure `book-at`: the book of a symbol at a random instant of a stored day, from the book index and by reading the journal.

What does not belong here: keeping books (book.py).
"""

from collections.abc import Iterator

import numpy as np

from benchmarks.figure import Context, Result, Row, Spread, Target, figure
from benchmarks.lines import SESSION_DATE, SHAPES, GeneratedMarket, Lines
from l2_platform.journal.importing import write_finished_stream
from l2_platform.journal.layout import date_folder
from l2_platform.journal.sealer import seal_closed
from l2_platform.replay.book_index import BookHistory, rebuilt_book
from l2_platform.replay.book_index_build import build_index
from l2_platform.replay.book_views import views_at
from l2_platform.settings import JournalSettings, Settings

P99_MS_MAX = 20.0
SIZE_MAX = 10.0
"""Target, % of the sealed journal."""
PIECE_LINES = 250_000


@figure("book-at", title="Book at any instant of a day", unit="ms", baseline="reading the journal from its start", long=True, order=66)
def book_at(ctx: Context) -> Result:
    """A day of 1,000 symbols of the simulated market in 1 ms frames, sealed; random symbols at random instants, in random order. "Warm":
    one reader for all questions; "cold": a reader opened for each, as a command does. Every answer is compared, in all fields, with the
    book that reading the whole journal gives at that instant. "Rebuild": single questions answered by reading the journal from its start.
    One core. Options: `lines` (10000000), `shapes` (orders,venues,levels), `questions` (10000).
    """
    shapes = ctx.options.get("shapes", ctx.pick("venues", ",".join(SHAPES))).split(",")
    rows = [_measure(ctx, shape) for shape in shapes]
    worst = max(float(str(row["warm p99"])) for row in rows)
    largest = max(float(str(row["index, % of sealed"])) for row in rows)
    why = "one row costs 1.3 to 2 bytes however it is packed: which order, price, size; a sealed line 10 to 14"
    fast, small = worst <= P99_MS_MAX, largest <= SIZE_MAX
    targets = [
        Target(f"p99 ≤ {P99_MS_MAX:g} ms warm", f"{worst:.1f} ms", fast, "" if fast else "other work on the machine"),
        Target(f"index ≤ {SIZE_MAX:g} % of the sealed journal", f"{largest:.1f} %", small, "" if small else why),
    ]
    limit = "CPU: unpacking and decoding the 512 KiB of journal that hold the instant, for its exact line; then the rows of the symbol."
    notes = (f"{int(str(rows[0]['lines'])):,} lines of each shape; all of {int(str(rows[0]['questions'])):,} answers equal the rebuild.",)
    return Result(rows=rows, notes=notes, targets=[] if ctx.is_smoke else targets, limit=limit)


def _measure(ctx: Context, shape: str) -> Row:
    settings = Settings(home=ctx.scratch / shape)
    stream = f"iqfeed-depth-import-0000b00{SHAPES.index(shape)}"
    lines = int(ctx.options.get("lines", str(ctx.pick(20_000, 10_000_000))))
    count = int(ctx.options.get("questions", str(ctx.pick(50, 10_000))))
    market = GeneratedMarket(ctx.pick(10, 1_000), shape)
    settings.journal_dir.mkdir(parents=True)
    write_finished_stream(settings.journal_dir, stream, [(SESSION_DATE, _frames(market, lines))], context={}, calendar="always_open")
    seal_closed(settings.journal_dir, stream, JournalSettings())
    sealed = sum(path.stat().st_size for path in date_folder(settings.journal_dir, stream, SESSION_DATE).glob("*.l2z"))
    started = ctx.clock.monotonic_ns()
    built = build_index(settings, stream, SESSION_DATE)
    build_s = (ctx.clock.monotonic_ns() - started) / 1e9
    rng = np.random.default_rng(11)
    first, last = (ts for ts in _span(settings, stream))
    instants, names = np.sort(rng.integers(first, last, count)), rng.choice(market.names, count)
    questions = [(str(name), int(at)) for name, at in zip(names, instants, strict=True)]
    warm = _warm(ctx, settings, stream, questions)
    cold = _cold(ctx, settings, stream, questions)
    rebuild = Spread.of((_rebuild_ms(ctx, settings, stream, questions[at]) for at in rng.integers(0, count, ctx.pick(1, 3))), "less")
    return {
        "shape": shape, "lines": built.lines, "questions": count, "warm p50": float(np.percentile(warm, 50)),
        "warm p99": float(np.percentile(warm, 99)), "warm max": float(warm.max()), "cold p50": float(np.percentile(cold, 50)),
        "cold p99": float(np.percentile(cold, 99)), "rebuild": rebuild, "index, % of sealed": 100 * built.bytes / sealed,
        "index, B/line": built.bytes / built.lines, "build, M lines/s": built.lines / 1e6 / build_s,
    }  # fmt: skip


def _frames(market: GeneratedMarket, lines: int) -> Iterator[tuple[bytes, int, int, int]]:
    seq = 1

    def numbered(made: Lines) -> Iterator[tuple[bytes, int, int, int]]:
        nonlocal seq
        for data, count, _, ts in made.block().frames():
            yield data, count, seq, ts
            seq += count

    yield from numbered(market.snapshot())
    for done in range(0, lines, PIECE_LINES):
        yield from numbered(market.depth(min(PIECE_LINES, lines - done)))


def _span(settings: Settings, stream: str) -> tuple[int, int]:
    """From the first to the last instant of the day, as the feed tells them."""
    with BookHistory(settings) as history:
        return history.span(stream, SESSION_DATE)


def _warm(ctx: Context, settings: Settings, stream: str, questions: list[tuple[str, int]]) -> np.ndarray:
    """Milliseconds of each question, in random order; every answer is compared."""
    taken = np.empty(len(questions))
    found = {}
    with BookHistory(settings) as history:
        history.book_at(*questions[0], stream, SESSION_DATE)
        for place in np.random.default_rng(5).permutation(len(questions)):
            started = ctx.clock.monotonic_ns()
            found[int(place)] = history.book_at(*questions[int(place)], stream, SESSION_DATE)
            taken[place] = (ctx.clock.monotonic_ns() - started) / 1e6
        if history.slow:
            raise AssertionError("the index was not used")
    for place, view in enumerate(views_at(settings, stream, SESSION_DATE, questions)):
        if found[place] != view:
            msg = f"{questions[place]}: the index says {found[place]}, the journal {view}"
            raise AssertionError(msg)
    return taken


def _cold(ctx: Context, settings: Settings, stream: str, questions: list[tuple[str, int]]) -> np.ndarray:
    taken = []
    for question in questions[:: max(1, len(questions) // ctx.pick(3, 200))]:
        started = ctx.clock.monotonic_ns()
        with BookHistory(settings) as history:
            history.book_at(*question, stream, SESSION_DATE)
        taken.append((ctx.clock.monotonic_ns() - started) / 1e6)
    return np.array(taken)


def _rebuild_ms(ctx: Context, settings: Settings, stream: str, question: tuple[str, int]) -> float:
    started = ctx.clock.monotonic_ns()
    rebuilt_book(settings, *question, stream, SESSION_DATE)
    return (ctx.clock.monotonic_ns() - started) / 1e6

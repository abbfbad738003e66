"""Books from decoded depth: three shapes, from one symbol to 10,000, with the top recorded at 100 ms and after every change.

What does not belong here: reading bytes (decode.py), books of other libraries (peers).
"""

from dataclasses import dataclass

from benchmarks.figure import Context, Result, Row, Spread, Target, Value, figure
from benchmarks.lines import SHAPES, GeneratedMarket, Lines
from benchmarks.plain_book import PlainSide, apply_plainly, check_same
from l2_platform.book.engine import BookEngine
from l2_platform.feeds.iqfeed.decode_depth import DepthDecoder
from l2_platform.market.events import DepthBatch
from l2_platform.market.instruments import SymbolTable

LEVELS = 10
INTERVALS = (("100 ms", 100_000_000), ("every change", 0))
LEVEL_BYTES = 20
"""Price, size and count of a recorded level."""
READ_LINES = 100_000
"""About what a delivery reads at once (8 MiB)."""
PLAIN_ROWS = 50_000


@dataclass(slots=True)
class Updates:
    """Decoded updates, and the books before the first of them."""

    symbols: SymbolTable
    start: DepthBatch
    """The snapshot of every book."""
    before: bytes
    """An engine's dump after it."""
    batches: list[DepthBatch]

    @property
    def rows(self) -> int:
        """Updates in all batches."""
        return sum(len(batch) for batch in self.batches)

    def engine(self, interval_ns: int, levels: int = LEVELS) -> BookEngine:
        """A new engine with the books of the beginning."""
        made = BookEngine(self.symbols, levels, interval_ns)
        made.load(self.before)
        return made


def updates_of(snapshot: Lines, lines: Lines, read_lines: int = READ_LINES) -> Updates:
    """Decode both, and build the books of the first."""
    symbols = SymbolTable()
    decoder = DepthDecoder(symbols)
    engine = BookEngine(symbols, LEVELS, 0)
    start = decoder.decode(snapshot.block())
    engine.apply(start)
    decoded = decoder.decode(lines.block(seq_first=len(snapshot) + 1))
    if decoded.error.any():
        raise AssertionError("a generated line did not decode")
    edges = range(0, len(decoded), read_lines)
    batches = [rows_of(decoded, edge, min(edge + read_lines, len(decoded))) for edge in edges]
    return Updates(symbols, start, engine.dump(), batches)


def rows_of(batch: DepthBatch, first: int, last: int) -> DepthBatch:
    """Some rows as a batch of their own (lines without two-sided rows)."""
    whole = {"buffer", "trust", "pair_row", "pair_price", "pair_size", "pair_ts"}
    columns = {name: getattr(batch, name)[first:last] for name in batch.__dataclass_fields__ if name not in whole}
    return DepthBatch(buffer=batch.buffer, **columns)


def seconds_of(ctx: Context, updates: Updates, interval_ns: int, levels: int = LEVELS, passes: int = 5) -> tuple[Spread, int]:
    """Seconds of applying all updates, and how often the top was recorded."""
    engines: list[BookEngine] = []
    recorded = 0

    def prepare() -> None:
        engines[:] = [updates.engine(interval_ns, levels)]

    def work() -> None:
        nonlocal recorded
        recorded = sum(len(engines[0].apply(batch, "recv")) for batch in updates.batches)

    return ctx.repeat(work, prepare=prepare, passes=passes), recorded


@figure("book", title="Books", unit="M updates/s", baseline="dictionaries and sorted lists in Python", order=20)
def book(ctx: Context) -> Result:
    """Decoded updates of the simulated market into the books of the delivery, in batches of 100,000 lines: each row checked, applied,
    its book's trust kept, and the ten best levels of both sides copied out when due (columns "top 10"). Books are full before the
    first timed row (about 38 orders a side). "Plain Python" applies the same rows with the top after every change; both record the
    same rows with the same levels. One core.
    """
    count = ctx.pick(1_000, 500_000)
    rows: list[Row] = []
    for symbols in ctx.pick((1, 10), (1, 1_000, 10_000)):
        for shape in SHAPES:
            market = GeneratedMarket(symbols, shape)
            updates = updates_of(market.snapshot(), market.depth(count))
            row: Row = {"symbols": symbols, "shape": shape}
            for name, interval_ns in INTERVALS:
                seconds, recorded = seconds_of(ctx, updates, interval_ns)
                row[f"top 10 {name}, M/s"] = seconds.rate(updates.rows / 1e6)
                row[f"recorded {name}, %"] = 100.0 * recorded / updates.rows
            row["plain Python M/s"] = _plain_rate(ctx, updates)
            row["× plain"] = _median(row["top 10 every change, M/s"]) / _median(row["plain Python M/s"])
            rows.append(row)
    return Result(rows=rows, targets=_targets(rows), limit=_limit(rows, ctx), notes=_NOTES)


_NOTES = (
    "The baseline's records equal the engine's in every row, for every shape and number of symbols.",
    "The more symbols share the rate, the more of their changes lie 100 ms or more apart and are recorded.",
)


def _plain_rate(ctx: Context, updates: Updates) -> float:
    """M rows/s of the baseline over the first rows, whose answers are compared with the engine's."""
    first = rows_of(updates.batches[0], 0, ctx.pick(500, PLAIN_ROWS))
    books: dict[int, tuple[PlainSide, PlainSide]] = {}
    apply_plainly(books, updates.start, levels=0)
    started = ctx.clock.monotonic_ns()
    recorded = apply_plainly(books, first)
    seconds = (ctx.clock.monotonic_ns() - started) / 1e9
    check_same(recorded, updates.engine(0).apply(first, "recv"), first)
    return len(first) / seconds / 1e6


def _targets(rows: list[Row]) -> list[Target]:
    sizes = list(dict.fromkeys(row["symbols"] for row in rows))
    thousand = min(_median(row["top 10 100 ms, M/s"]) for row in rows if row["symbols"] == sizes[:2][-1])
    most = min(_median(row["top 10 every change, M/s"]) for row in rows if row["symbols"] == sizes[-1])
    return [
        Target("≥ 5 M updates/s at 1,000 symbols", f"{thousand:.1f} M/s in the slowest shape", thousand >= 5),
        Target("≥ 3 M updates/s at 10,000 symbols with top 10 after every message", f"{most:.1f} M/s in the slowest shape", most >= 3),
    ]


def _limit(rows: list[Row], ctx: Context) -> str:
    name = "top 10 every change, M/s"
    fastest, slowest = max(_median(row[name]) for row in rows), min(_median(row[name]) for row in rows)
    text = (
        f"The CPU of one core with few symbols; cache misses with many: each update touches an order, a level and a book that the last"
        f" one did not ({slowest:.1f} M/s against {fastest:.1f})."
    )
    if "copy_gb_s" in ctx.limits:
        written = max(
            _median(row[name]) * _median(row["recorded every change, %"]) / 100 * LEVELS * 2 * LEVEL_BYTES / 1000 for row in rows
        )
        text += f" Records are written at up to {written:.1f} GB/s, {100 * written / ctx.limits['copy_gb_s']:.0f} % of a memory copy."
    return text


def _median(value: Value) -> float:
    assert not isinstance(value, str)
    return value.median if isinstance(value, Spread) else float(value)

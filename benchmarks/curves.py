"""How cost grows: with the number of symbols, with the depth of a book, with the lines of a batch.

What does not belong here: cost by rate, which the whole path decides (path.py).
"""

from collections.abc import Sequence

import numpy as np

from benchmarks.book import INTERVALS, LEVEL_BYTES, Updates, seconds_of, updates_of
from benchmarks.figure import Context, Plot, Result, Row, Series, Spread, figure
from benchmarks.lines import SECOND_NS, START_NS, GeneratedMarket
from benchmarks.machine import caches
from l2_platform.book.engine import BookEngine
from l2_platform.feeds.iqfeed.decode_depth import DepthDecoder
from l2_platform.market.events import ASK, BID, DepthBatch, DepthKind
from l2_platform.market.instruments import SymbolTable

SYMBOLS = (1, 10, 100, 1_000, 3_000, 10_000)
DEPTHS = (1, 5, 10, 20, 50, 100, 200, 500)
BATCHES = (10, 35, 100, 1_000, 10_000, 100_000, 500_000)
PASSES = 3
DEPTH_SYMBOLS = 100
CENT = 10_000_000
"""In fixed point."""


@figure("curve-symbols", title="Cost by symbols", unit="ns a line", order=80)
def curve_symbols(ctx: Context) -> Result:
    """The same lines as in the figures of decode and books (order by order), for more and more symbols; one core."""
    rows: list[Row] = []
    for symbols in ctx.pick((1, 10), SYMBOLS):
        market = GeneratedMarket(symbols)
        snapshot, lines = market.snapshot(), market.depth(ctx.pick(1_000, 300_000))
        block = lines.block()
        decode = ctx.repeat(lambda block=block: DepthDecoder(SymbolTable()).decode(block), passes=PASSES)  # type: ignore[misc]
        updates = updates_of(snapshot, lines)
        row: Row = {"symbols": symbols, "decode, ns": _ns(decode, len(lines))}
        for name, interval_ns in INTERVALS:
            row[f"book {name}, ns"] = _ns(seconds_of(ctx, updates, interval_ns, passes=PASSES)[0], updates.rows)
        row["books, MB"] = updates.engine(0).memory_bytes() / 1e6
        rows.append(row)
    names = ("decode, ns", "book 100 ms, ns", "book every change, ns")
    first, last = _median(rows[0][names[2]]), _median(rows[-1][names[2]])
    limit = (
        f"Memory latency: from {rows[0]['symbols']} to {rows[-1]['symbols']:,} symbols the books grow to"
        f" {_median(rows[-1]['books, MB']):.0f} MB and an update from {first:.0f} to {last:.0f} ns; the same instructions run. Caches here:"
        f" {caches() or 'not told by the kernel'}."
    )
    return Result(rows=rows, plots=[_plot("symbols", "Cost of a line by symbols", "symbols", rows, names)], limit=limit)


@figure("curve-depth", title="Cost by depth of book", unit="ns an update", order=81)
def curve_depth(ctx: Context) -> Result:
    """Books of 100 symbols with D rows a side, each at a price of its own: half of the updates change the size of a random row, half
    take one out or put it back. Top 10 after every change. Both shapes keep prices in sorted arrays: a change deep in the book
    moves what lies above it. One core.
    """
    rows: list[Row] = []
    for depth in ctx.pick((1, 10), DEPTHS):
        row: Row = {"rows a side": depth}
        for shape in ("levels", "orders"):
            updates = _deep_updates(depth, ctx.pick(1_000, 300_000), by_order=shape == "orders")
            row[f"{shape}, ns"] = _ns(seconds_of(ctx, updates, 0, passes=PASSES)[0], updates.rows)
        rows.append(row)
    limit = "Up to about 50 rows the copy of the top; beyond, moving a sorted array of prices: memory bandwidth within the cache."
    names = ("levels, ns", "orders, ns")
    return Result(rows=rows, plots=[_plot("depth", "Cost of an update by depth", "rows a side", rows, names)], limit=limit)


@figure("curve-batch", title="Cost by lines a batch", unit="ns a line", order=82)
def curve_batch(ctx: Context) -> Result:
    """The same lines of 1,000 symbols (order by order), cut into batches of N lines; each batch is one call of the decoder and one of
    the book engine (top 10 after every change). One core.
    """
    market = GeneratedMarket(ctx.pick(10, 1_000))
    snapshot, lines = market.snapshot(), market.depth(ctx.pick(1_000, 500_000))
    rows: list[Row] = []
    for size in ctx.pick((10, 100), BATCHES):
        part = lines.head(min(len(lines), size * 20_000))
        blocks = [part.slice(at, min(at + size, len(part))).block(seq_first=at + 1) for at in range(0, len(part), size)]

        def decode(blocks: list = blocks) -> None:  # type: ignore[type-arg]
            decoder = DepthDecoder(SymbolTable())
            for block in blocks:
                decoder.decode(block)

        updates = updates_of(snapshot, part, read_lines=size)
        rows.append(
            {
                "lines a batch": size,
                "decode, ns": _ns(ctx.repeat(decode, passes=PASSES), len(part)),
                "book, ns": _ns(seconds_of(ctx, updates, 0, passes=PASSES)[0], updates.rows),
                "records of a batch, MB": size * 10 * 2 * LEVEL_BYTES / 1e6,
            }
        )
    names = ("decode, ns", "book, ns")
    fixed = _median(rows[0]["decode, ns"]) * float(str(rows[0]["lines a batch"])) / 1000
    limit = (
        f"Small batches: the call itself, about {fixed:.0f} µs for the decoder (arrays for the columns, arguments of a compiled call)."
        " Large ones: their columns and records leave the cache, and memory fresh from the kernel is touched for the first time."
    )
    return Result(rows=rows, plots=[_plot("batch", "Cost of a line by batch", "lines a batch", rows, names)], limit=limit)


def _deep_updates(depth: int, count: int, *, by_order: bool) -> Updates:
    """Full books, then updates of random rows of them."""
    random = np.random.default_rng(5)
    symbols = SymbolTable(f"SYM{number:03d}" for number in range(DEPTH_SYMBOLS))
    cells = DEPTH_SYMBOLS * 2 * depth
    full = _batch(np.arange(cells), np.full(cells, DepthKind.ADD if by_order else DepthKind.LEVEL_UPDATE), depth, 1)
    engine = BookEngine(symbols, 10, 0)
    engine.apply(full)
    chosen = np.repeat(random.integers(0, cells, count // 2), 2)
    change, put, take = (
        (DepthKind.UPDATE, DepthKind.ADD, DepthKind.DELETE)
        if by_order
        else (DepthKind.LEVEL_UPDATE, DepthKind.LEVEL_UPDATE, DepthKind.LEVEL_DELETE)
    )
    moves = np.repeat(random.random(count // 2) < 0.5, 2)
    kinds = np.where(moves, np.where(np.arange(len(chosen)) % 2, put, take), change)
    return Updates(symbols, full, engine.dump(), [_batch(chosen, kinds, depth, cells + 1)])


def _batch(cells: np.ndarray, kinds: np.ndarray, depth: int, seq: int) -> DepthBatch:
    """Rows about cells: a symbol, a side and a place each."""
    count = len(cells)
    place, side, symbol = cells % depth, cells // depth % 2, cells // depth // 2
    zeros = np.zeros(count, np.uint64)
    times = START_NS + np.arange(count) * (SECOND_NS // 35_000)
    return DepthBatch(
        buffer=np.zeros(0, np.uint8),
        seq=np.arange(seq, seq + count).astype(np.uint64),
        kind=kinds.astype(np.uint8),
        error=np.zeros(count, np.uint8),
        symbol=symbol.astype(np.int32),
        side=np.where(side, ASK, BID).astype(np.uint8),
        order_id=(cells + 1).astype(np.uint64) if kinds[0] in _BY_ORDER else zeros,
        mmid=np.zeros(count, np.uint32),
        price=(10_000 + np.where(side, 1 + place, -place)) * CENT,
        size=100 + np.arange(count) % 900,
        priority=zeros,
        count=np.ones(count, np.int32),
        ts_event=times,
        ts_recv=times,
        line_start=np.zeros(count, np.int64),
        line_len=np.zeros(count, np.int32),
    )


_BY_ORDER = (DepthKind.ADD, DepthKind.UPDATE, DepthKind.DELETE)


def _ns(seconds: Spread, lines: int) -> Spread:
    return seconds.times(1e9 / lines, "less")


def _median(value: object) -> float:
    return value.median if isinstance(value, Spread) else float(str(value))


def _plot(name: str, title: str, x_label: str, rows: Sequence[Row], names: Sequence[str]) -> Plot:
    x = [float(str(row[x_label])) for row in rows]
    series = []
    for column in names:
        spreads = [value for row in rows if isinstance(value := row[column], Spread)]
        middle, low, high = ([getattr(spread, part) for spread in spreads] for part in ("median", "low", "high"))
        series.append(Series(column.removesuffix(", ns"), x, middle, low, high))
    return Plot(name, title, x_label, "ns", series, log_x=True, log_y=True)

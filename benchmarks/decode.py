"""Decoding wire lines into typed columns: depth in each layout, Level 1 in two; a plain Python loop as baseline.

What does not belong here: what rows do to a book (book.py).
"""

from typing import Any

import numpy as np

from benchmarks import plain
from benchmarks.figure import Context, Result, Row, Spread, Target, figure
from benchmarks.lines import SESSION_DATE, SHAPES, Block, GeneratedMarket, Lines
from l2_platform.feeds.iqfeed.decode_depth import DepthDecoder
from l2_platform.feeds.iqfeed.decode_level1 import Level1Decoder
from l2_platform.feeds.iqfeed.layouts import Layout, layout_from_names
from l2_platform.market.events import NULL_TS
from l2_platform.market.instruments import SymbolTable
from l2_platform.settings import FeedSettings

SYMBOLS = 1_000
PLAIN_LINES = 100_000
"""Lines of the baseline: it takes seconds for what the decoder does in milliseconds."""
ISO_DATE = f"{SESSION_DATE // 10_000}-{SESSION_DATE // 100 % 100:02d}-{SESSION_DATE % 100:02d}"


@figure("decode-depth", title="Decode of depth lines", unit="M lines/s", baseline="a plain Python loop", order=10)
def decode_depth(ctx: Context) -> Result:
    """Lines of the simulated market over 1,000 symbols, framed as read every millisecond at 35,000 lines/s, through the decoder of
    the delivery: every line typed, validated, dated to ns UTC by the real rules of New York, its symbol interned. The plain Python
    loop (benchmarks/plain.py) makes the same columns of the same first lines; all columns are compared, row by row. One core.
    """
    count = ctx.pick(2_000, 1_000_000)
    rows: list[Row] = []
    for shape in SHAPES:
        market = GeneratedMarket(ctx.pick(10, SYMBOLS), shape)
        lines = market.depth(count)
        block = lines.block()
        seconds = ctx.repeat(lambda block=block: DepthDecoder(SymbolTable()).decode(block))  # type: ignore[misc]
        sample = lines.head(ctx.pick(500, PLAIN_LINES)).block()
        loop = ctx.repeat(lambda sample=sample: plain.decode_depth(sample), passes=3, warm=0)  # type: ignore[misc]
        _compare_depth(sample)
        rows.append(_row(shape, lines, seconds, sample.rows, loop))
    return Result(
        rows=rows,
        targets=_targets(rows, "depth", 8.0),
        limit=_limit(rows, ctx),
        notes=["Every column of the baseline equals the decoder's, row by row, in each layout."],
    )


@figure("decode-level1", title="Decode of Level 1 lines", unit="M lines/s", baseline="a plain Python loop", order=11)
def decode_level1(ctx: Context) -> Result:
    """Quote and trade lines over 1,000 symbols, in the columns of a fresh socket (protocol 6.2) and in those that the collector asks
    for (dates, TickID, bid and ask times). Times carry no date: the feed's clock gives it. One core.
    """
    count = ctx.pick(2_000, 500_000)
    rows: list[Row] = []
    wanted = tuple(name for name in FeedSettings().level1_fields if name != "Symbol")
    for name, fields in (("default fields", ()), ("selected fields", wanted)):
        market = GeneratedMarket(ctx.pick(10, SYMBOLS), fields=fields)
        lines = market.level1(count)
        layout = layout_from_names(("Symbol", *market.layout.names))
        block = lines.block()
        seconds = ctx.repeat(lambda block=block, layout=layout: _level1_decoder(layout).decode(block))  # type: ignore[misc]
        sample = lines.head(ctx.pick(500, PLAIN_LINES)).block()
        names = market.layout.names
        loop = ctx.repeat(lambda sample=sample, names=names: plain.decode_level1(sample, names, ISO_DATE), passes=3, warm=0)  # type: ignore[misc]
        _compare_level1(sample, layout, names)
        rows.append(_row(name, lines, seconds, sample.rows, loop))
    return Result(
        rows=rows,
        targets=_targets(rows, "Level 1", 2.0),
        limit=_limit(rows, ctx),
        notes=["Every column of the baseline equals the decoder's, row by row, in both layouts."],
    )


def _row(layout: str, lines: Lines, seconds: Spread, plain_lines: int, loop: Spread) -> Row:
    rate = seconds.rate(len(lines) / 1e6)
    plain_rate = loop.rate(plain_lines / 1e6)
    return {
        "layout": layout,
        "lines": len(lines),
        "M lines/s": rate,
        "ns a line": seconds.times(1e9 / len(lines), "less"),
        "GB/s read": rate.median * lines.line_bytes / 1000,
        "plain Python M/s": plain_rate.median,
        "× plain": rate.over(plain_rate),
    }


def _targets(rows: list[Row], what: str, least: float) -> list[Target]:
    slowest = min(_median(row["M lines/s"]) for row in rows)
    ratio = min(_median(row["× plain"]) for row in rows)
    return [
        Target(f"≥ {least:g} M {what} lines/s", f"{slowest:.1f} M/s in the slowest layout", slowest >= least),
        Target("≥ 5 × a plain Python loop with the same columns", f"{ratio:.0f} × in the slowest layout", ratio >= 5),
    ]


def _limit(rows: list[Row], ctx: Context) -> str:
    read = max(_median(row["GB/s read"]) for row in rows)
    text = "The CPU of one core: branches on fields of changing length."
    if "copy_gb_s" in ctx.limits:
        share = 100 * read / ctx.limits["copy_gb_s"]
        text += f" Memory is no limit: lines are read at {share:.0f} % of the speed at which one thread copies memory."
    return text


def _median(value: Any) -> float:
    return value.median if isinstance(value, Spread) else float(value)


def _level1_decoder(layout: Layout) -> Level1Decoder:
    decoder = Level1Decoder(SymbolTable())
    decoder.layout = layout
    # the connection of the lines, so that its first frame does not reset the layout
    decoder.restore({"fields": list(layout.fields), "connection": 1})
    return decoder


def _compare_depth(sample: Block) -> None:
    symbols = SymbolTable()
    batch = DepthDecoder(symbols).decode(sample)
    columns, names = plain.decode_depth(sample)
    _compare(batch, columns, symbols.names, names)


def _compare_level1(sample: Block, layout: Layout, fields: tuple[str, ...]) -> None:
    decoder = _level1_decoder(layout)
    batch = decoder.decode(sample)
    columns, names = plain.decode_level1(sample, fields, ISO_DATE)
    # a line without any time is dated by the feed's clock, which the loop does not keep
    undated = columns["ts_event"] == NULL_TS
    columns["ts_event"] = np.where(undated, batch.ts_event, columns["ts_event"])
    _compare(batch, columns, decoder.symbols.names, names)


def _compare(batch: Any, columns: dict[str, Any], ours: list[str], theirs: list[str]) -> None:
    if batch.error.any():
        raise AssertionError(f"{np.count_nonzero(batch.error)} generated lines did not decode")
    if ours != theirs:
        raise AssertionError("the symbols differ from the baseline's")
    for name, column in columns.items():
        if not np.array_equal(getattr(batch, name), column):
            row = int(np.flatnonzero(getattr(batch, name) != column)[0])
            raise AssertionError(f"{name} differs from the baseline's at {batch.line(row)!r}")

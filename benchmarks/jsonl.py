"""JSONL: formatting records, and formatting and writing them through the real sink.

What does not belong here: which rows become records (book.py), the delivery around the sink (path.py).
"""

import shutil
from itertools import count as numbers
from typing import Any

import orjson

from benchmarks.figure import Context, Result, Row, Spread, figure
from benchmarks.lines import SESSION_DATE, GeneratedMarket
from benchmarks.tables_of_lines import depth_tables, level1_tables
from l2_platform.journal.frame import Position
from l2_platform.market.events import NULL_PRICE, TableBatch
from l2_platform.market.prices import PRICE_SCALE
from l2_platform.settings import FeedSettings, JsonlSettings
from l2_platform.sinks.jsonl import JsonlSink

LINES_A_WRITE = (14_000, 100_000)
"""What 400 ms bring at 35,000 lines/s, and about what one read of a delivery holds that catches up."""
COMPARED = 5_000
"""Records of the baseline, whose values are compared."""


@figure("jsonl", title="JSONL", unit="records/s", baseline="orjson, one dictionary a record", order=40)
def jsonl(ctx: Context) -> Result:
    """Records of the simulated market: L2 after every change of the ten best levels (one file a symbol), L1 and trades. "Format" makes
    the bytes only; "write" is the real sink with its settings as they come: format, append to each symbol's file, sync of the file
    system each second and at the end. "Lines a write" is how much reaches the sink at once: with many symbols and small writes each
    file gets few records. The baseline makes one dictionary a record and calls orjson; both texts hold the same values. One core.
    """
    count = ctx.pick(1_000, 200_000)
    rows: list[Row] = []
    for symbols in ctx.pick((1, 10), (1, 1_000, 10_000)):
        market = GeneratedMarket(symbols)
        snapshot, lines = market.snapshot(), market.depth(count)
        for size in LINES_A_WRITE if symbols > 1 else LINES_A_WRITE[1:]:
            tables = depth_tables(snapshot, lines, interval_ns=0, lines_a_batch=size)
            rows.append(_row(ctx, "L2", symbols, size, _only(tables, "book_snapshots")))
    fields = tuple(name for name in FeedSettings().level1_fields if name != "Symbol")
    market = GeneratedMarket(ctx.pick(10, 1_000), fields=fields)
    level1 = level1_tables(market, market.level1(count), lines_a_batch=LINES_A_WRITE[1])
    for name, table in (("L1", "quotes"), ("trades", "trades")):
        rows.append(_row(ctx, name, len(market.names), LINES_A_WRITE[1], _only(level1, table)))
    return Result(rows=rows, notes=_notes(ctx), limit=_limit(rows, ctx))


def _row(ctx: Context, kind: str, symbols: int, lines_a_write: int, batches: list[TableBatch]) -> Row:
    records = sum(len(batch) for batch in batches)
    sizes: list[int] = []
    formatter = JsonlSink(JsonlSettings(), ctx.scratch / "none", ctx.clock)

    def form() -> None:
        sizes[:] = [len(data) for batch in batches for _, data in _records(formatter, batch)]

    formatted = ctx.repeat(form, passes=5)
    written = _written(ctx, batches)
    row: Row = {
        "records": kind,
        "symbols": symbols,
        "lines a write": lines_a_write,
        "bytes a record": sum(sizes) / records,
        "format, k/s": formatted.rate(records / 1e3),
        "write, k/s": written.rate(records / 1e3),
        "write, MB/s": written.rate(sum(sizes) / 1e6).median,
        "records a file and write": records / sum(len(set(batch.columns["symbol"].tolist())) for batch in batches),
    }
    if kind == "L2":
        row["orjson, k/s"] = _orjson_rate(ctx, formatter, batches[0])
        row["format × orjson"] = row["format, k/s"].median / row["orjson, k/s"]  # type: ignore[operator, union-attr]
    return row


def _written(ctx: Context, batches: list[TableBatch]) -> Spread:
    """Seconds until all records are in files and synced."""
    root, turn = ctx.scratch / "jsonl", numbers(1)
    held: list[JsonlSink] = []

    def prepare() -> None:
        if held:
            held.pop().close()
        shutil.rmtree(root, ignore_errors=True)
        sink = JsonlSink(JsonlSettings(), root / str(next(turn)), ctx.clock)
        sink.open()
        sink.resume(batches[0].stream, SESSION_DATE)
        held.append(sink)

    def work() -> None:
        for number, batch in enumerate(batches, 1):
            held[0].write([batch], Position(SESSION_DATE, 1, number), int(batch.columns["seq"][-1]))
        held[0].sync()

    seconds = ctx.repeat(work, prepare=prepare, passes=3)
    held.pop().close()
    shutil.rmtree(root)
    return seconds


def _orjson_rate(ctx: Context, formatter: JsonlSink, batch: TableBatch) -> float:
    """K records/s of the baseline; AssertionError when a value differs from the formatter's."""
    count = min(len(batch), ctx.pick(100, COMPARED))
    part = TableBatch(
        batch.table, batch.stream, batch.session_date, batch.source, batch.symbols,
        {name: column[:count] for name, column in batch.columns.items()},
    )  # fmt: skip
    ours = [
        orjson.loads(line) for _, data in _records(formatter, part) for line in bytes(data).splitlines()
    ]
    stamps = {record["seq"]: record["timestamp"] for record in ours}
    started = ctx.clock.monotonic_ns()
    texts = _dictionaries_as_text(part, stamps)
    seconds = (ctx.clock.monotonic_ns() - started) / 1e9
    theirs = sorted((orjson.loads(text) for text in texts), key=lambda record: record["seq"])
    if sorted(ours, key=lambda record: record["seq"]) != theirs:
        raise AssertionError("the records differ from the baseline's")
    return count / seconds / 1e3


def _dictionaries_as_text(batch: TableBatch, stamps: dict[int, str]) -> list[bytes]:
    """The L2 records of a batch by orjson; `stamps` are the texts of their times (not timed: a favour to the baseline)."""
    columns = batch.columns
    lists = [columns[name].tolist() for name in ("seq", "symbol", "bid_px", "bid_sz", "ask_px", "ask_sz")]
    texts = []
    for seq, symbol, bid_px, bid_sz, ask_px, ask_sz in zip(*lists, strict=True):
        bids = _levels(bid_px, bid_sz)
        asks = _levels(ask_px, ask_sz)
        record: dict[str, Any] = {
            "symbol": batch.symbols[symbol],
            "timestamp": stamps[seq],
            "bids": bids,
            "asks": asks,
            "total_bid_size": sum(level["size"] for level in bids),
            "total_ask_size": sum(level["size"] for level in asks),
            "spread": None,
            "mid_price": None,
            "stream": batch.stream,
            "seq": seq,
        }
        if bids and asks:
            record["spread"] = (ask_px[0] - bid_px[0]) / PRICE_SCALE
            record["mid_price"] = (ask_px[0] + bid_px[0]) / 2 / PRICE_SCALE
        texts.append(orjson.dumps(record))
    return texts


def _levels(prices: list[int], sizes: list[int]) -> list[dict[str, Any]]:
    return [
        {"price": price / PRICE_SCALE, "size": size, "level": number}
        for number, (price, size) in enumerate(zip(prices, sizes, strict=True), 1)
        if price != NULL_PRICE
    ]


def _records(sink: JsonlSink, batch: TableBatch) -> Any:
    return sink._records(batch, 0)  # noqa: SLF001 - the sink's own formatting, without its files


def _only(tables: list[list[TableBatch]], name: str) -> list[TableBatch]:
    return [table for batch in tables for table in batch if table.table == name]


def _notes(ctx: Context) -> list[str]:
    settings = JsonlSettings()
    notes = [f"{settings.open_files_max} files are kept open (jsonl.open_files_max): with more symbols than that, files are opened again."]
    if "disk_mb_s" in ctx.limits:
        notes.append(f"The disk took {ctx.limits['disk_mb_s']:,.0f} MB/s sequentially at the start of the run.")
    return notes


def _limit(rows: list[Row], ctx: Context) -> str:
    formats = [row["format, k/s"].median for row in rows if isinstance(row["format, k/s"], Spread) and row["records"] == "L2"]
    writes = [row["write, k/s"].median for row in rows if isinstance(row["write, k/s"], Spread) and row["records"] == "L2"]
    text = (
        f"Formatting: the CPU of one core ({min(formats):,.0f}–{max(formats):,.0f} k L2 records/s). Writing: the number of files that a"
        f" write touches, one append (and one open, above the limit of open files) each ({min(writes):,.0f}–{max(writes):,.0f} k/s)."
    )
    if "disk_mb_s" in ctx.limits:
        most = max(float(str(row["write, MB/s"])) for row in rows)
        text += f" The disk is used at up to {100 * most / ctx.limits['disk_mb_s']:.0f} %."
    return text

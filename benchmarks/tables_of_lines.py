"""Rows of the tables, made of generated lines by the delivery's own code: what sinks are measured with.

What does not belong here: timing, sinks.
"""

from typing import Literal

from benchmarks.book import rows_of
from benchmarks.lines import SESSION_DATE, GeneratedMarket, Lines
from l2_platform.book.engine import BookEngine
from l2_platform.delivery.rows import RowBuilder
from l2_platform.feeds.iqfeed.decode_depth import DepthDecoder
from l2_platform.feeds.iqfeed.decode_level1 import Level1Decoder
from l2_platform.feeds.iqfeed.layouts import layout_from_names
from l2_platform.market.events import TableBatch
from l2_platform.market.instruments import SymbolTable

JournalTime = Literal["recv", "event"]
"""Which time thins the snapshots."""
DEPTH_STREAM = "iqfeed-depth-0"
LEVEL1_STREAM = "iqfeed-level1-0"


def depth_tables(
    snapshot: Lines, lines: Lines, *, interval_ns: int, lines_a_batch: int, stream: str = DEPTH_STREAM, levels: int = 10,
    journal_ts: JournalTime = "recv",
) -> list[list[TableBatch]]:  # fmt: skip
    """For each batch of lines its depth_updates and book_snapshots; the books are those after `snapshot`, which makes no rows."""
    symbols = SymbolTable()
    decoder = DepthDecoder(symbols)
    engine = BookEngine(symbols, levels, interval_ns)
    builder = RowBuilder(stream, SESSION_DATE, "live", symbols.names)
    if len(snapshot):
        engine.apply(decoder.decode(snapshot.block()))
    decoded = decoder.decode(lines.block(seq_first=len(snapshot) + 1))
    batches = []
    for start in range(0, len(decoded), lines_a_batch):
        part = rows_of(decoded, start, min(start + lines_a_batch, len(decoded)))
        tables = [builder.book_snapshots(engine.apply(part, journal_ts))]
        tables.insert(0, builder.depth_updates(part))
        batches.append([table for table in tables if table is not None])
    return batches


def level1_tables(
    market: GeneratedMarket, lines: Lines, *, lines_a_batch: int, stream: str = LEVEL1_STREAM
) -> list[list[TableBatch]]:
    """For each batch of lines its quotes and trades."""
    decoder = Level1Decoder(SymbolTable())
    layout = layout_from_names(("Symbol", *market.layout.names))
    decoder.restore({"fields": list(layout.fields), "connection": 1})
    builder = RowBuilder(stream, SESSION_DATE, "live", decoder.symbols.names)
    batches = []
    seq = 1
    for start in range(0, len(lines), lines_a_batch):
        part = lines.slice(start, min(start + lines_a_batch, len(lines)))
        batch = decoder.decode(part.block(seq_first=seq))
        seq += len(part)
        tables = [builder.quotes(batch), builder.trades(batch)]
        batches.append([table for table in tables if table is not None])
    return batches

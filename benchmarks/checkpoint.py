"""Saving and loading a delivery's checkpoint, by the number of symbols.

What does not belong here: recovery of a whole process (startup.py).
"""

from benchmarks.figure import Context, Result, Row, figure
from benchmarks.lines import SESSION_DATE, GeneratedMarket
from l2_platform.delivery.checkpoint import CheckpointStore
from l2_platform.delivery.pipeline import Pipeline
from l2_platform.journal.frame import Position
from l2_platform.journal.importing import write_finished_stream
from l2_platform.journal.reader import JournalReader
from l2_platform.settings import DeliverySettings

STREAM = "iqfeed-depth-import-00000000"
READ_BYTES = 8 << 20


@figure("checkpoint", title="Checkpoints", unit="ms", order=70)
def checkpoint(ctx: Context) -> Result:
    """A delivery's whole state (positions, decoder, books of about 76 orders a symbol), written with its content hash and synced, and
    read back into a new pipeline. One is saved every 30 s or 2,000,000 lines, beside the writes. One core.
    """
    rows: list[Row] = []
    for symbols in ctx.pick((10,), (50, 1_000, 10_000)):
        pipeline = _pipeline_with_books(ctx, symbols)
        store = CheckpointStore(ctx.scratch / f"checkpoints-{symbols}", 1)
        position = Position(SESSION_DATE, 1, 1)
        size = 0

        def save(pipeline: Pipeline = pipeline, store: CheckpointStore = store, position: Position = position) -> None:
            nonlocal size
            size = store.save(position, pipeline.seq, pipeline.dump())

        def load(store: CheckpointStore = store, position: Position = position) -> None:
            found = store.newest(position)
            if found is None:
                raise AssertionError("the checkpoint that was just saved is not found")
            Pipeline(STREAM, levels=10, interval_ms=100).load(found.state)

        saved = ctx.repeat(save).times(1e3, "less")
        loaded = ctx.repeat(load).times(1e3, "less")
        rows.append({"symbols": symbols, "save, ms": saved, "load, ms": loaded, "MB": size / 1e6})
    last = rows[-1]["save, ms"]
    share = last.median / (DeliverySettings().checkpoint_s * 1000) * 100 if not isinstance(last, str | int | float) else 0.0
    limit = f"Packing and hashing on one core; {share:.1f} % of the time between two checkpoints with {rows[-1]['symbols']:,} symbols."
    return Result(rows=rows, limit=limit)


def _pipeline_with_books(ctx: Context, symbols: int) -> Pipeline:
    lines = GeneratedMarket(symbols).snapshot()
    root = ctx.scratch / f"journal-{symbols}"
    root.mkdir()
    frames = lines.block(frame_lines=3_000).frames()
    write_finished_stream(root, STREAM, [(SESSION_DATE, frames)], context={}, calendar="always_open")
    pipeline = Pipeline(STREAM, levels=10, interval_ms=100)
    pipeline.begin_date(SESSION_DATE, None)
    reader = JournalReader(root, STREAM, SESSION_DATE, durable_path=None)
    while items := reader.read(READ_BYTES):
        pipeline.advance(items)
    return pipeline

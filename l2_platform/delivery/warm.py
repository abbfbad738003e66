"""Compiles every kernel by running a few lines of each shape through the real pipeline, so that no worker waits at its start."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from l2_platform.clock import SystemClock
from l2_platform.delivery.pipeline import Pipeline
from l2_platform.delivery.silence import SilenceRules
from l2_platform.journal.frame import Position
from l2_platform.journal.importing import write_finished_stream
from l2_platform.journal.reader import JournalReader
from l2_platform.settings import JsonlSettings
from l2_platform.sinks.jsonl import JsonlSink
from l2_platform.sinks.native import NativeEncoder

_DATE = 20240102
LINES = {
    "depth": (
        b"T,20240102 10:00:00\r\n3,A,1,,B,10.0100,5,1,4,10:00:00.000001,2024-01-02,\r\n"
        b"4,A,1,,B,10.0200,4,1,4,10:00:00.000002,2024-01-02,\r\n6,V,,NSDQ,A,10.0300,5,,4,10:00:00.000003,2024-01-02,\r\n"
        b"8,L,A,10.0300,5,1,4,10:00:00.000003,2024-01-02,\r\n5,A,1,,B,10:00:00.000004,2024-01-02,\r\n"
    ),
    "level1": (
        b"P,A,10.0000,5,10:00:00.000001,5,5,9.9900,1,10.0100,1,,,,,Cbacv,01,1,2,\r\n"
        b"Q,A,10.0000,5,10:00:00.000002,5,10,9.9900,1,10.0100,1,,,,,Cba,01,1,2,\r\n"
    ),
    "ticks": b"2024-01-02 10:00:00.000001,10.0000,5,5,9.9900,10.0100,1,C,5,01,0,2,\r\n",
}


def warm_kernels(channels: Iterable[str] = tuple(LINES)) -> None:
    """Run channels once, from journal to rows to both sinks' bytes; depth, level1 and ticks have kernels of their own."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for channel in channels:
            data = LINES[channel]
            stream = f"iqfeed-{channel}-import-00000000"
            frames = [(data, data.count(b"\n"), 1, 1_704_207_600_000_000_000)]
            write_finished_stream(root, stream, [(_DATE, frames)], context={}, calendar="always_open")
            pipeline = Pipeline(stream, levels=10, interval_ms=100, default_symbol="A")
            pipeline.begin_date(_DATE, None)
            batches = pipeline.process(JournalReader(root, stream, _DATE, durable_path=None).read(1 << 20), 0)
            pipeline.dump()
            sink = JsonlSink(JsonlSettings(), root / "jsonl", SystemClock())
            sink.open()
            sink.write(batches, Position(_DATE, 1, len(data)), pipeline.seq)
            sink.close()
            for batch in batches:
                NativeEncoder().encode(batch, 0, len(batch))
            restored = Pipeline(stream, levels=10, interval_ms=100, default_symbol="A")
            restored.load(pipeline.dump())
            if channel != "ticks":
                live = Pipeline(f"iqfeed-{channel}-0", levels=10, interval_ms=100, silence=SilenceRules())
                live.begin_date(_DATE, None)
                live.process(JournalReader(root, stream, _DATE, durable_path=None).read(1 << 20), 0)

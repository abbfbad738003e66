"""`python -m benchmarks.traced MODULE ARGUMENTS`: run a worker as it is, and note what its parts cost and when rows passed them.

Timers are put around the methods of the real classes; at the end everything goes to the file that BENCH_TRACE names. A part's time is
its own, without the parts inside it; wall time counts waiting, CPU time does not. What does not belong here: judging the numbers.
"""

import importlib
import os
import runpy
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from l2_platform.clock import SystemClock

PARTS: Final = {
    "l2_platform.collectors": (
        ("l2_platform.feeds.iqfeed.connection", "Connection", "read", "socket"),
        ("l2_platform.collectors.recorder", "Recorder", "append", "journal append"),
        ("l2_platform.collectors.link", "Link", "step", "protocol"),
        ("l2_platform.journal.syscalls", "Syscalls", "fdatasync", "fsync"),
    ),
    "l2_platform.delivery": (
        ("l2_platform.journal.reader", "JournalReader", "read", "tail read"),
        ("l2_platform.journal.reader", "JournalReader", "waiting", "tail poll"),
        ("l2_platform.feeds.iqfeed.decode_depth", "DepthDecoder", "decode", "decode"),
        ("l2_platform.feeds.iqfeed.decode_level1", "Level1Decoder", "decode", "decode"),
        ("l2_platform.book.engine", "BookEngine", "apply", "book"),
        ("l2_platform.delivery.pipeline", "Pipeline", "process", "rows"),
        ("l2_platform.delivery.pipeline", "Pipeline", "dump", "checkpoint image"),
        ("l2_platform.delivery.gathering", "Gathering", "take", "gather"),
        ("l2_platform.delivery.checkpoint", "CheckpointStore", "save", "checkpoint file"),
        ("l2_platform.sinks.native", "NativeEncoder", "encode", "encode"),
        ("l2_platform.warehouse.http", "PlainClient", "insert", "insert"),
        ("l2_platform.sinks.clickhouse", "ClickHouseSink", "write", "sink, rest"),
        ("l2_platform.sinks.jsonl_files", "AppendFiles", "append", "JSONL append"),
        ("l2_platform.sinks.jsonl", "JsonlSink", "write", "JSONL format"),
        ("l2_platform.sinks.jsonl", "JsonlSink", "sync", "JSONL sync"),
    ),
}  # fmt: skip
"""Worker → (module, class, method, part)."""


class Trace:
    """Times of parts, and marks (stream, mark) → (ns since the epoch, seq)."""

    def __init__(self) -> None:
        self.parts: dict[tuple[str, int], list[float]] = {}
        """(part, second since the epoch) → calls, wall s, CPU s."""
        self.marks: dict[str, list[tuple[int, int]]] = {}
        self._own = threading.local()
        self._lock = threading.Lock()
        self._clock = SystemClock()

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with a timer around it."""

        def run(*args: Any, **kwargs: Any) -> Any:
            inside: list[list[float]] = self._own.__dict__.setdefault("inside", [])
            frame = [0.0, 0.0]
            inside.append(frame)
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
                inside.pop()
                if inside:
                    inside[-1][0] += wall
                    inside[-1][1] += cpu
                with self._lock:
                    total = self.parts.setdefault((part, self._clock.now_ns() // 1_000_000_000), [0.0, 0.0, 0.0])
                    total[0] += 1
                    total[1] += wall - frame[0]
                    total[2] += cpu - frame[1]

        return run

    def mark(self, name: str, seq: int) -> None:
        """Everything up to `seq` passed `name` now."""
        self.marks.setdefault(name, []).append((self._clock.now_ns(), seq))

    def save(self, path: str) -> None:
        """Write it all."""
        arrays = {f"mark {name}": np.array(values, np.int64).reshape(-1, 2) for name, values in self.marks.items()}
        for part in sorted({part for part, _ in self.parts}):
            arrays[f"part {part}"] = np.array(
                [[second, *sums] for (name, second), sums in sorted(self.parts.items()) if name == part]
            )
        np.savez(path, **arrays)  # type: ignore[arg-type]  # the stub takes names for options


def install(worker: str, trace: Trace) -> None:
    """Put the timers and marks around the worker's parts; a part that does not exist (any more) is left out."""
    for module, owner, method, part in PARTS[worker]:
        found = getattr(importlib.import_module(module), owner, None)
        if found is not None and hasattr(found, method):
            setattr(found, method, trace.timed(part, getattr(found, method)))
    if worker == "l2_platform.collectors":
        _mark_durable(trace)
    else:
        _mark_delivery(trace)


def _mark_durable(trace: Trace) -> None:
    from l2_platform.journal.writer import JournalWriter

    publish = JournalWriter._publish_now  # noqa: SLF001  the moment itself is private

    def published(self: Any, *args: Any, **kwargs: Any) -> Any:
        answer = publish(self, *args, **kwargs)
        trace.mark(f"durable {self._stream}", self._durable.seq)
        return answer

    setattr(JournalWriter, "_publish_now", published)  # noqa: B010  a checker would call it a mistake


def _mark_delivery(trace: Trace) -> None:
    from l2_platform.delivery.follower import Follower
    from l2_platform.delivery.pipeline import Pipeline

    process, deliver = Pipeline.process, Follower._deliver  # noqa: SLF001  the moment itself is private

    def processed(self: Any, *args: Any, **kwargs: Any) -> Any:
        answer = process(self, *args, **kwargs)
        trace.mark(f"book {self.stream}", self.seq)
        return answer

    def delivered(self: Any, pending: Any) -> Any:
        trace.mark(f"begin {self.stream}", pending.seq)
        answer = deliver(self, pending)
        trace.mark(f"stored {self.stream}", pending.seq)
        return answer

    setattr(Pipeline, "process", processed)  # noqa: B010
    setattr(Follower, "_deliver", delivered)  # noqa: B010


def main() -> None:
    """Run the worker to its end, then save."""
    from l2_platform.monitoring.runtime import prepare_numba
    from l2_platform.settings import load_settings

    worker = sys.argv[1]
    if worker == "l2_platform.delivery":
        prepare_numba(load_settings().cache_dir / "numba")
    trace = Trace()
    install(worker, trace)
    sys.argv = sys.argv[1:]
    try:
        runpy.run_module(worker, run_name="__main__", alter_sys=False)
    finally:
        trace.save(os.environ["BENCH_TRACE"])


if __name__ == "__main__":
    main()

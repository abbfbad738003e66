"""From the traces of a run to the latency of each message at each stage, counted from the time at which it should have been sent.

The simulated market stamps each line with its place in an open-loop schedule; that stamp is `ts_event` in the tables. A message has
passed a stage when the stage's first mark at or above its seq was made. What does not belong here: running processes (stack.py).
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.figure import NotMeasurable
from benchmarks.stack import DEPTH, LEVEL1, Stack

Int64 = npt.NDArray[np.int64]
STAGES: Final = ("received", "journal durable", "book", "JSONL", "queryable")
"""In the order in which a message passes them; JSONL and ClickHouse stand side by side."""
SAMPLES_MAX: Final = 4_000_000
_ROW: Final = np.dtype([("seq", "<u8"), ("event", "<i8"), ("recv", "<i8")])


@dataclass(frozen=True, slots=True)
class Passage:
    """Latencies of the sampled messages, ns, one array per stage, and their times of sending."""

    sent: Int64
    stages: dict[str, Int64]

    def summary(self, stage: str) -> dict[str, float]:
        """mean, p50, p99, p99.9 and max, ms."""
        values = self.stages[stage] / 1e6
        p50, p99, p999 = np.percentile(values, [50, 99, 99.9])
        named = {"mean ms": values.mean(), "p50 ms": p50, "p99 ms": p99, "p99.9 ms": p999, "max ms": values.max()}
        return {name: float(value) for name, value in named.items()}


def load_trace(stack: Stack, name: str) -> dict[str, npt.NDArray[Any]]:
    """What a traced process wrote at its end."""
    with np.load(stack.trace_file(name)) as file:
        return {key: file[key] for key in file.files}


def measure_passage(stack: Stack, begin_ns: int, end_ns: int) -> Passage:
    """Latencies of the messages that should have been sent in a window; the workers must have stopped, the warehouse not."""
    parts = [
        _of_stream(stack, stream, table, begin_ns, end_ns)
        for stream, table in ((DEPTH, "depth_updates"), (LEVEL1, "quotes"))
    ]
    sent = np.concatenate([part.sent for part in parts])
    if not len(sent):
        raise NotMeasurable("no message was sent in the measured window")
    stages = [stage for stage in STAGES if all(stage in part.stages for part in parts)]
    return Passage(sent, {stage: np.concatenate([part.stages[stage] for part in parts]) for stage in stages})


def _of_stream(stack: Stack, stream: str, table: str, begin_ns: int, end_ns: int) -> Passage:
    begin, end = (f"fromUnixTimestamp64Nano({at})" for at in (begin_ns, end_ns))
    window = f"stream = '{stream}' AND snapshot = 0 AND ts_event >= {begin} AND ts_event < {end}"
    (held,) = stack.rows(f"SELECT count() FROM l2.{table} WHERE {window}")[0]
    every = 1 + int(held) // SAMPLES_MAX
    rows = stack.columns(
        f"SELECT seq, toUnixTimestamp64Nano(assumeNotNull(ts_event)), toUnixTimestamp64Nano(ts_recv) FROM l2.{table}"
        f" WHERE {window} AND seq % {every} = 0 ORDER BY seq",
        _ROW,
    )
    seq, sent = rows["seq"].astype(np.int64), rows["event"]
    stages: dict[str, Int64] = {"received": rows["recv"] - sent}
    sources = {
        "journal durable": (f"collector-{stream}", f"mark durable {stream}"),
        "book": ("deliver-clickhouse", f"mark book {stream}"),
        "JSONL": ("deliver-jsonl", f"mark stored {stream}"),
        "queryable": ("deliver-clickhouse", f"mark stored {stream}"),
    }
    for stage, (process, mark) in sources.items():
        if process in stack.commands:
            marks = load_trace(stack, process)[mark]
            stages[stage] = _first_at_or_above(marks, seq) - sent
    return Passage(sent, stages)


def _first_at_or_above(marks: Int64, seq: Int64) -> Int64:
    """Time of the first mark that covers each seq."""
    place = np.searchsorted(marks[:, 1], seq, side="left")
    if len(seq) and int(place.max()) >= len(marks):
        raise NotMeasurable(f"seq {int(seq.max())} never passed; the last mark is at {int(marks[-1, 1])}")
    passed: Int64 = marks[place, 0]
    return passed


def part_seconds(
    stack: Stack, names: tuple[str, ...], begin_ns: int, end_ns: int
) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Process → part → (calls, wall s, CPU s) in the whole seconds of a window, the costly ones first."""
    found = {}
    for name in names:
        parts = {}
        for key, table in load_trace(stack, name).items():
            if key.startswith("part "):
                inside = (table[:, 0] >= begin_ns // 1_000_000_000) & (table[:, 0] < end_ns // 1_000_000_000)
                calls, wall, cpu = table[inside, 1:].sum(axis=0).tolist()
                parts[key.removeprefix("part ")] = (calls, wall, cpu)
        found[name] = dict(sorted(parts.items(), key=lambda item: -item[1][2]))
    return found


def check_complete(stack: Stack, made: dict[str, int], since_ns: int) -> tuple[int, int]:
    """(lost, duplicated): the market's own counts since it stood still against the rows; the seqs of each table against each other."""
    lost = duplicated = 0
    for stream, sent in made.items():
        tables = ("depth_updates",) if stream == DEPTH else ("quotes", "trades")
        window = f"stream = '{stream}' AND ts_event >= fromUnixTimestamp64Nano({since_ns})"
        live = {"trades": window}
        union = " UNION ALL ".join(
            f"SELECT seq FROM l2.{table} WHERE {live.get(table, window + ' AND snapshot = 0')}" for table in tables
        )
        ((distinct,),) = stack.rows(f"SELECT uniqExact(seq) FROM ({union})")
        for table in (*tables, "book_snapshots") if stream == DEPTH else tables:
            ((rows, seqs),) = stack.rows(f"SELECT count(), uniqExact(seq) FROM l2.{table} WHERE stream = '{stream}'")
            duplicated += int(rows) - int(seqs)
        lost += sent - int(distinct)
    return lost, duplicated

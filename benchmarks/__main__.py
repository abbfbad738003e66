"""`make bench`: lines a second of decode and book, and the cost of a checkpoint, one core, on generated order-by-order depth.

The lines are adds, updates and deletes of living orders around a drifting price, in random symbol order; the first pass compiles
and warms, the table shows the best and the median of the later ones. Numbers depend on the machine: compare ratios of one run.
"""

import argparse
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from l2_platform.clock import SystemClock
from l2_platform.market.events import UInt8
from l2_platform.monitoring.runtime import prepare_numba

PASSES = 5
ORDERS_PER_SYMBOL = 40
SEED = 7
TS_RECV_NS = 1_753_452_000_000_000_000
"""2025-07-25 14:00 UTC."""


@dataclass(slots=True)
class GeneratedBlock:
    """Lines as one frame of a journal block."""

    buffer: UInt8
    rows: int

    @property
    def frame_start(self) -> np.ndarray:
        """Offsets of the one frame and its end."""
        return np.array([0, len(self.buffer)], np.int64)

    @property
    def frame_seq(self) -> np.ndarray:
        """First seq."""
        return np.array([1], np.uint64)

    @property
    def frame_count(self) -> np.ndarray:
        """Lines in the frame."""
        return np.array([self.rows], np.int64)

    @property
    def frame_ts(self) -> np.ndarray:
        """Receive time, ns."""
        return np.array([TS_RECV_NS], np.int64)

    @property
    def frame_flags(self) -> np.ndarray:
        """Whole lines."""
        return np.zeros(1, np.uint8)

    @property
    def frame_conn(self) -> np.ndarray:
        """One connection."""
        return np.ones(1, np.uint32)

    @property
    def session_date(self) -> int:
        """YYYYMMDD of the lines."""
        return 20250725


def generate(rows: int, symbols: int) -> GeneratedBlock:
    """`rows` valid lines of protocol 6.2: `3,SYM,order id,,side,price,size,priority,decimals,time,date,`."""
    random = np.random.default_rng(SEED)
    living: list[list[tuple[int, str]]] = [[] for _ in range(symbols)]
    next_id = 1
    lines = []
    chosen = random.integers(0, symbols, rows).tolist()
    dice = random.random(rows).tolist()
    steps = random.integers(0, 50, rows).tolist()
    for row in range(rows):
        number, orders = chosen[row], living[chosen[row]]
        stamp = f"10:{row * 50 // rows:02d}:{row % 60:02d}.{row % 1_000_000:06d},2025-07-25,"
        pick = int(dice[row] * 7919) % len(orders) if orders else 0
        if len(orders) < ORDERS_PER_SYMBOL // 2 or (dice[row] < 0.4 and len(orders) < ORDERS_PER_SYMBOL):
            side = "B" if steps[row] % 2 else "A"
            orders.append((next_id, side))
            kind, order = "3", next_id
            next_id += 1
        elif dice[row] < 0.7:
            kind, (order, side) = "4", orders[pick]
        else:
            order, side = orders.pop(pick)
            lines.append(f"5,SYM{number:04d},{order},,{side},{stamp}")
            continue
        cents = 10_000 + (-steps[row] if side == "B" else steps[row] + 1)
        price = f"{cents / 100:.4f}"
        lines.append(f"{kind},SYM{number:04d},{order},,{side},{price},{100 + steps[row]},{order},4,{stamp}")
    data = "\r\n".join(lines) + "\r\n"
    return GeneratedBlock(np.frombuffer(data.encode("ascii"), np.uint8).copy(), rows)


def measure(rows: int, symbols: int) -> list[tuple[str, list[float]]]:
    """Seconds of each stage for each pass after the first."""
    from l2_platform.book.engine import BookEngine
    from l2_platform.feeds.iqfeed.decode_depth import DepthDecoder
    from l2_platform.market.instruments import SymbolTable

    clock = SystemClock()
    block = generate(rows, symbols)
    seconds: dict[str, list[float]] = {
        "decode": [],
        "book, top 10 at 100 ms": [],
        "book, top 10 after every change": [],
    }
    for turn in range(PASSES + 1):
        table = SymbolTable()
        started = clock.monotonic_ns()
        batch = DepthDecoder(table).decode(block)
        taken = {"decode": clock.monotonic_ns() - started}
        bad = int(np.count_nonzero(batch.error))
        if bad:
            msg = f"{bad} generated lines did not decode"
            raise RuntimeError(msg)
        for name, interval_ns in (("book, top 10 at 100 ms", 100_000_000), ("book, top 10 after every change", 0)):
            engine = BookEngine(table, levels=10, interval_ns=interval_ns)
            started = clock.monotonic_ns()
            engine.apply(batch, "event")
            taken[name] = clock.monotonic_ns() - started
        if turn:
            for name, nanoseconds in taken.items():
                seconds[name].append(nanoseconds / 1e9)
    return list(seconds.items())


def measure_checkpoint(rows: int, symbols: int) -> tuple[int, float, float]:
    """(bytes, seconds to save, seconds to load) of a delivery's checkpoint after `rows` lines; medians of the passes."""
    from l2_platform.delivery.checkpoint import CheckpointStore
    from l2_platform.delivery.pipeline import Pipeline
    from l2_platform.journal.frame import Position
    from l2_platform.journal.importing import write_finished_stream
    from l2_platform.journal.reader import JournalReader

    clock = SystemClock()
    stream, session_date = "iqfeed-depth-import-00000000", 20250725
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        data = generate(rows, symbols).buffer.tobytes()
        frames = [(data, rows, 1, TS_RECV_NS)]
        write_finished_stream(root, stream, [(session_date, frames)], context={}, calendar="always_open")
        pipeline = Pipeline(stream, levels=10, interval_ms=100)
        pipeline.begin_date(session_date, None)
        reader = JournalReader(root, stream, session_date, durable_path=None)
        while items := reader.read(8 << 20):
            pipeline.advance(items)
        store = CheckpointStore(root / "checkpoints", 1)
        size, saves, loads = 0, [], []
        for turn in range(PASSES):
            started = clock.monotonic_ns()
            size = store.save(Position(session_date, 1, turn), rows, pipeline.dump())
            saves.append((clock.monotonic_ns() - started) / 1e9)
            started = clock.monotonic_ns()
            found = store.newest(Position(session_date, 1, turn))
            if found is None:
                msg = "the checkpoint that was just saved is not found"
                raise RuntimeError(msg)
            Pipeline(stream, levels=10, interval_ms=100).load(found.state)
            loads.append((clock.monotonic_ns() - started) / 1e9)
    return size, statistics.median(saves), statistics.median(loads)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="lines (default 1,000,000)")
    parser.add_argument("--symbols", type=int, nargs="+", default=[50, 1000, 10_000], help="symbols, several runs")
    options = parser.parse_args()
    prepare_numba(Path(tempfile.gettempdir()) / "l2-bench-numba")
    print(f"{'stage':<34}{'symbols':>8}{'best M/s':>10}{'median M/s':>12}")
    for symbols in options.symbols:
        for name, seconds in measure(options.rows, symbols):
            best, median = (options.rows / value / 1e6 for value in (min(seconds), statistics.median(seconds)))
            print(f"{name:<34}{symbols:>8}{best:>10.2f}{median:>12.2f}")
    print(f"\n{'checkpoint of a delivery':<34}{'symbols':>8}{'MB':>10}{'save ms':>12}{'load ms':>12}")
    for symbols in options.symbols:
        size, save, load = measure_checkpoint(options.rows, symbols)
        print(f"{'':<34}{symbols:>8}{size / 1e6:>10.2f}{save * 1e3:>12.1f}{load * 1e3:>12.1f}")


if __name__ == "__main__":
    main()

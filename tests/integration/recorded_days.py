"""Real days for tests that rebuild and close them: the simulated market's lines, journaled by the recorder's writer, delivered live."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.lines import SESSION_DATE, GeneratedMarket, Lines
from l2_platform.clock import SystemClock
from l2_platform.delivery.delivery import make_follower, make_sink
from l2_platform.feeds.iqfeed.layouts import layout_from_names
from l2_platform.journal.sealer import seal_closed
from l2_platform.journal.writer import JournalWriter
from l2_platform.settings import DeliverySettings, Settings, WarehouseSettings, load_settings
from l2_platform.warehouse.start import read_record, record_path
from tests.integration.ports import free_base

DATE, NEXT = SESSION_DATE, SESSION_DATE + 1
DEPTH, LEVEL1 = "iqfeed-depth-0", "iqfeed-level1-0"
FRAME_LINES = 200


@contextmanager
def recorded_home(home: Path, numba_cache: Path, **more: Any) -> Iterator[Settings]:
    """Settings (`more`: groups of them) of a home without a day yet; its warehouse ends with it."""
    made = load_settings(
        home=home, warehouse=WarehouseSettings(idle_exit_s=900), ports={"base": free_base()},
        delivery=DeliverySettings(discover_s=0.01), **more,
    )  # fmt: skip
    made.cache_dir.mkdir(parents=True)
    # the kernels of this test run: compiling them once more takes a minute
    (made.cache_dir / "numba").symlink_to(numba_cache.parent, target_is_directory=True)
    try:
        yield made
    finally:
        end_warehouse(made)


def record_day(settings: Settings, *, lines: int = 3000, symbols: int = 4, rolled: bool = True) -> None:
    """DATE of a depth and a Level 1 stream; `rolled`: the recorder went on to NEXT. It has ended, in order."""
    market = GeneratedMarket(symbols, rate=2000)
    fields = list(layout_from_names(("Symbol", *market.layout.names)).fields)
    _record(settings, DEPTH, market.snapshot() + market.depth(lines), {}, rolled=rolled)
    _record(settings, LEVEL1, market.level1(lines), {"fields": fields, "connection": 1}, rolled=rolled)


def end_warehouse(settings: Settings) -> None:
    """End the warehouse that a command of the test had started; nothing happens when there is none."""
    record = read_record(record_path(settings))
    if record is not None:
        process = psutil.Process(record.pid)
        process.terminate()
        process.wait(30)


def _record(settings: Settings, stream: str, lines: Lines, context: dict[str, object], *, rolled: bool) -> None:
    durable = settings.run_dir / "durable" / stream
    writer = JournalWriter(
        settings.journal_dir, stream, settings.journal, SystemClock(), calendar="always_open", durable_path=durable
    )
    writer.context(context)
    writer.open(DATE)
    frames = lines.block(frame_lines=FRAME_LINES).frames()
    ts = frames[0][3]
    writer.control("session", ts, 1, session_date=DATE, reset=True)
    writer.control("connect", ts, 1, host="127.0.0.1", port=1, attempt=1)
    for number, (data, count, _, ts) in enumerate(frames):
        if number == len(frames) // 2:
            writer.control("disconnect", ts, 1, reason="fin", last_byte_ns=ts)
            writer.control("connect", ts, 1, host="127.0.0.1", port=1, attempt=1)
            writer.append(b"4,not,a,line\r\n", 1, ts, 1)
        writer.append(data, count, ts, 1)
    if rolled:
        writer.roll(NEXT)
        writer.control("session", ts + 10**9, 1, session_date=NEXT, reset=True)
        data, count, _, _ = frames[-1]
        writer.append(data, count, ts + 2 * 10**9, 1)
    writer.close()


def deliver(settings: Settings, sinks: Iterable[str] = ("clickhouse",), streams: Iterable[str] = (DEPTH, LEVEL1)) -> None:
    """What the delivery processes do, until there is nothing more to do."""
    clock = SystemClock()
    for name in sinks:
        sink = make_sink(name, settings)
        sink.open()
        for stream in streams:
            follower = make_follower(stream, sink, settings, clock)
            idle = 0
            while idle < 20:
                # a sink that is away for a moment is tried again
                idle = 0 if follower.step() or follower.error else idle + 1
                clock.sleep(0.005 if idle or follower.error else 0)
            follower.checkpoint()
        sink.close()


def seal(settings: Settings) -> None:
    """What the sealer does."""
    for stream in (DEPTH, LEVEL1):
        seal_closed(settings.journal_dir, stream, settings.journal)

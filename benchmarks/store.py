"""A warehouse of its own for a figure: a home in the scratch folder, the real process, ended afterwards.

What does not belong here: what is inserted, what is measured.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from clickhouse_connect.driver.client import Client

from benchmarks.figure import Context
from l2_platform.settings import Settings, WarehouseSettings, load_settings
from l2_platform.sinks.clickhouse import ClickHouseSink
from l2_platform.warehouse.client import connect
from l2_platform.warehouse.start import read_record, record_path

IDLE_EXIT_S = 600.0


@contextmanager
def warehouse(ctx: Context) -> Iterator[tuple[Settings, ClickHouseSink, Client]]:
    """Settings of a home in the scratch folder, an open sink into its warehouse, and a client; all ended at the end."""
    settings = load_settings(home=ctx.scratch / "home", warehouse=WarehouseSettings(idle_exit_s=IDLE_EXIT_S))
    sink = ClickHouseSink(settings, ctx.clock)
    try:
        sink.open()
        client = connect(settings)
        try:
            yield settings, sink, client
        finally:
            client.close()
    finally:
        sink.close()
        record = read_record(record_path(settings))
        if record is not None:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(record.pid)
                process.terminate()
                process.wait(60)


def share_kernels(settings: Settings) -> None:
    """Let processes of this home use the kernels that this process compiled."""
    folder = os.environ.get("NUMBA_CACHE_DIR")
    if folder:
        settings.cache_dir.mkdir(parents=True, exist_ok=True)
        (settings.cache_dir / "numba").symlink_to(Path(folder).parent, target_is_directory=True)


def process_of(settings: Settings) -> psutil.Process:
    """The warehouse's process."""
    record = read_record(record_path(settings))
    assert record is not None
    return psutil.Process(record.pid)


def rows_of_query(client: Client, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    return [tuple(row) for row in client.query(sql, parameters=parameters).result_rows]


class Highest:
    """Greatest resident size of a process while the block runs, bytes; looked at every 100 ms, to its end if that comes first."""

    def __init__(self, process: psutil.Process) -> None:
        self.bytes = 0
        self._process = process
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Highest":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        with suppress(psutil.NoSuchProcess):
            while not self._ended.wait(0.1):
                self.bytes = max(self.bytes, self._process.memory_info().rss)

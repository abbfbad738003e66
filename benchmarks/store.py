"""A warehouse of its own for a figure: a home in the scratch folder, the real process, ended afterwards.

What does not belong here: what is inserted, what is measured.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


def process_of(settings: Settings) -> psutil.Process:
    """The warehouse's process."""
    record = read_record(record_path(settings))
    assert record is not None
    return psutil.Process(record.pid)


def rows_of_query(client: Client, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    return [tuple(row) for row in client.query(sql, parameters=parameters).result_rows]

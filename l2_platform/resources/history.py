"""How runs fill session dates that were never recorded: the vendor's history, the archive, or a captured file."""

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg

from l2_platform.clock import SystemClock
from l2_platform.errors import InputError
from l2_platform.monitoring.runtime import prepare_numba
from l2_platform.settings import Settings

Row = dict[str, Any]
"""session_date, what (symbol, or table and stream), state, rows, message."""


class HistoryResource(dg.ConfigurableResource[list[Row]]):
    """Services of `l2 backfill`, imported when they are asked for: they load compiled code."""

    settings: dg.ResourceDependency[Settings]

    def from_vendor(self, day: date, symbols: Sequence[str], log: Callable[[str], None], *, bars_s: int = 0) -> list[Row]:
        """Fetch, journal and deliver; one row a symbol, failed ones included. `bars_s`: bars of this length instead of ticks, s."""
        prepare_numba(self.settings.cache_dir / "numba")
        from l2_platform.collectors.backfill import SymbolResult, backfill_date
        from l2_platform.collectors.history import TICKS, bars

        def tell(item: SymbolResult, done: int, total: int) -> None:
            if item.message or done % 100 == 0 or done == total:
                log(f"{done} of {total}: {item.symbol} {item.state} {item.message}".rstrip())

        number, kind = day.year * 10_000 + day.month * 100 + day.day, bars(bars_s) if bars_s else TICKS
        result = backfill_date(number, symbols, self.settings, SystemClock(), tell, kind)
        return [
            {"what": item.symbol, "state": item.state, "rows": item.lines, "message": item.message,
             "failed": item in result.failed} for item in result.symbols
        ]  # fmt: skip

    def from_archive(self, day: date, log: Callable[[str], None]) -> list[Row]:
        """Restore what the warehouse has not; one row a table and stream."""
        from l2_platform.archive.restore import FAILED, restore_date
        from l2_platform.warehouse.client import connect
        from l2_platform.warehouse.schema import migrate

        client = connect(self.settings)
        try:
            migrate(client, self.settings.clickhouse.database)
            restored = restore_date(client, self.settings, day)
        finally:
            client.close()
        for item in restored:
            log(f"{item.manifest.table} {item.manifest.stream}: {item.state} {item.message}".rstrip())
        return [
            {"what": f"{item.manifest.table} of {item.manifest.stream}", "state": item.state, "rows": item.manifest.rows,
             "message": item.message, "failed": item.state == FAILED} for item in restored
        ]  # fmt: skip

    def from_capture(self, day: date, file: str, channel: str, symbol: str | None) -> list[Row]:
        """Import a file; one row."""
        if not file:
            raise InputError("source capture needs `file`, the path of the captured file on this machine")
        prepare_numba(self.settings.cache_dir / "numba")
        from l2_platform.collectors.backfill import import_capture

        number = day.year * 10_000 + day.month * 100 + day.day
        result = import_capture(Path(file), channel, number, symbol, self.settings, SystemClock(), lambda *_: None)
        state = "already" if result.already else "imported"
        return [{"what": result.stream, "state": state, "rows": result.lines, "message": "", "failed": False}]

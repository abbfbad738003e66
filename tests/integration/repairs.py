"""Minutes of a market with a gap in the middle: what was received live is stored, what was lost is known, a vendor has it all."""

from datetime import UTC, datetime
from pathlib import Path

from clickhouse_connect.driver.client import Client

from l2_platform.clock import SystemClock
from l2_platform.quality.ledger import LedgerGap, load_versions
from l2_platform.quality.repair import STREAM, RepairResult, repair_date
from l2_platform.settings import Settings
from tests.integration.homes import Home
from tests.integration.stored import LIVE
from tests.integration.vendors import Tick

CLOCK = SystemClock()
NS = 10**9
SECONDS = 60
"""Length of a market; its gap lasts from the 20th to the 40th."""
SYMBOLS = ("AAA", "BBB", "CCC")


def repair_home(path: Path, numba_cache: Path) -> Home:
    """A home in which nothing waits for long."""
    variables = {
        "L2_WAREHOUSE__IDLE_EXIT_S": "60", "L2_LOOKUP__SOCKETS": "2", "L2_LOOKUP__RETRY_S": "0.02", "L2_LOOKUP__ATTEMPTS": "2",
        "L2_REPAIR__SILENCE_S": "0.5", "L2_REPAIR__REPLY_S_MAX": "1", "L2_REPAIR__SETTLE_S": "0", "L2_FEED__CONNECT_TIMEOUT_S": "1",
    }  # fmt: skip
    return Home(path, numba_cache, variables)


_GAPS = iter(range(1, 10_000))
_TODAY = CLOCK.now_ns() // (86_400 * NS) * 86_400 * NS
"""The same for all markets of a process, also when midnight passes: dates of their own stay so."""


class Market:
    """Prints of a minute some time before now, a gap in the middle, live rows of the rest, and the ledger's row."""

    def __init__(
        self, settings: Settings, client: Client, *, ids_from: int = 1, symbols: tuple[str, ...] = SYMBOLS, days_ago: int = 0
    ) -> None:
        number = next(_GAPS)
        self.settings, self.client, self.gap_id = settings, client, f"gap{number:04d}"
        # each market in a minute of its own, far enough from midnight of both zones
        noon = _TODAY - (12 + 24 * days_ago) * 3600 * NS
        self.start = noon + 120 * NS * number
        self.gap = self.start + 20 * NS + 3000, self.start + 40 * NS + 5000
        self.day = datetime.fromtimestamp(self.start // NS, UTC).date()
        self.date = self.day.year * 10_000 + self.day.month * 100 + self.day.day
        self.symbols = tuple(f"{name}{number}" for name in symbols)
        self.ticks = {
            name: [
                Tick(self.start + at * NS // 4 + 1000 * place, 5 + at % 2, ids_from + at // 2, 100 + at)
                for at in range(4 * SECONDS)
            ]
            for place, name in enumerate(self.symbols)
        }  # fmt: skip
        self.lost = {name: [tick for tick in ticks if self.gap[0] < tick.ts < self.gap[1]] for name, ticks in self.ticks.items()}

    def put(self, *, gap: bool = True, symbols: str = "[]", stream: str = LIVE, shift: int = 0) -> "Market":
        """Store what was received live (`shift`: added to its TickIDs), and the gap."""
        rows = []
        for name, ticks in self.ticks.items():
            rows += [(name, tick) for tick in ticks if tick not in self.lost[name]]
        self.insert(rows, shift=shift)
        if gap:
            self.put_gap(symbols=symbols, stream=stream)
        return self

    def insert(self, rows: list[tuple[str, Tick]], *, shift: int = 0, seq: int = 1) -> None:
        values = ", ".join(
            f"('{LIVE}', '{self.day}', {self.start + number + seq}, '{name}', fromUnixTimestamp64Nano({tick.ts}, 'UTC'),"
            f" fromUnixTimestamp64Nano({tick.ts + 20_000_000}, 'UTC'), 'live', {tick.price}, {tick.size}, {tick.center}, '01',"
            f" {tick.tick_id + shift}, 'buy', 18, 'last', 1, 96.06, 96.08, '{self.day}')"
            for number, (name, tick) in enumerate(rows)
        )
        self.client.command(
            "INSERT INTO l2.trades (stream, session_date, seq, symbol, ts_event, ts_recv, source, price, size, market_center, conditions,"
            f" tick_id, aggressor, day_code, basis, total_volume, bid, ask, trade_date) VALUES {values}"
        )

    def put_gap(
        self, *, symbols: str = "[]", stream: str = LIVE, explanation: str = "", state: str = "closed",
        evidence: str = '{"reason":"reset"}',
    ) -> None:  # fmt: skip
        named = str(list(self.symbols)) if symbols == "[]" else symbols
        self.client.command(f"""
            INSERT INTO l2.gap_events (gap_id, stream, session_date, seq, ordinal, source, symbols, ts_from, ts_to, cause, evidence,
                repair_source, rows_recovered, residual, explanation, state, seq_before, version, ts_written)
            VALUES ('{self.gap_id}', '{stream}', '{self.day}', 7, 1, 'live', {named}, fromUnixTimestamp64Nano({self.gap[0]}, 'UTC'),
                fromUnixTimestamp64Nano({self.gap[1]}, 'UTC'), 'disconnect', '{evidence}', '', 0, '', '{explanation}',
                '{state}', 6, 1, now64(9, 'UTC'))""")

    def repair(self, settings: Settings | None = None) -> RepairResult:
        (result,) = repair_date(settings or self.settings, self.date, CLOCK, gap_ids=[self.gap_id])
        return result

    def rows(self, source: str = "history") -> dict[str, list[tuple[int, int, int, int]]]:
        """(ts, market centre, TickID, size) of the stored rows of each symbol, in order."""
        sql = """
            SELECT symbol, toUnixTimestamp64Nano(assumeNotNull(ts_event)), market_center, tick_id, size FROM l2.trades
            WHERE source = {source:String} AND has({symbols:Array(String)}, symbol) ORDER BY symbol, ts_event, seq"""
        found = self.client.query(sql, parameters={"source": source, "symbols": list(self.symbols)}).result_rows
        return {name: [tuple(row[1:]) for row in found if row[0] == name] for name in self.symbols}

    def expected(self) -> dict[str, list[tuple[int, int, int, int]]]:
        return {name: [(tick.ts, tick.center, tick.tick_id, tick.size) for tick in ticks] for name, ticks in self.lost.items()}

    def versions(self) -> list[LedgerGap]:
        return load_versions(self.client, "l2", self.gap_id)

    def journal(self, stream: str = STREAM) -> bytes:
        folder = self.settings.journal_dir / stream / str(self.date)
        return b"".join(path.read_bytes() for path in sorted(folder.glob("*.l2j")))

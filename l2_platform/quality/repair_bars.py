"""The vendor's minute bars of a gap that is older than its ticks: rows of `history_bars`, as `l2 backfill --what bars` brings them.

A repair asks for the bars of the whole session, so bars of a date are one stream with one row a bar, whoever asked for them and how
often: gaps of the same date, a backfill before or after. Prints stay missing; views of bars are made of prints and stay as they are.
What does not belong here: ticks (repair, repair_prints), what a repair comes to (repair_plan).
"""

from collections.abc import Callable, Sequence
from typing import Final

from clickhouse_connect.driver.client import Client

from l2_platform.clock import Clock
from l2_platform.collectors.backfill import SymbolResult, backfill_date
from l2_platform.collectors.history import bars
from l2_platform.quality.ledger import LedgerGap
from l2_platform.quality.repair_plan import BAR_S, BarsFound
from l2_platform.settings import Settings

BARS: Final = bars(BAR_S)
MINUTE_NS: Final = BAR_S * 1_000_000_000


def fetch_bars(
    settings: Settings, session_date: int, symbols: Sequence[str], clock: Clock, progress: Callable[[int, int], object]
) -> dict[str, str]:
    """Bring the bars of the date's session into the journal and the warehouse, those that are not there yet.

    Symbol → why it has none, for symbols that failed. Errors are those of `backfill_date`.
    """
    def tell(_item: SymbolResult, done: int, total: int) -> None:
        progress(done, total)

    result = backfill_date(session_date, symbols, settings, clock, tell, BARS, settings.repair.gap_s_max)
    return {item.symbol: f"{item.symbol}: {item.message or item.state.replace('_', ' ')}" for item in result.failed}


def bars_found(
    client: Client, settings: Settings, gap: LedgerGap, symbols: Sequence[str], window: tuple[int, int]
) -> BarsFound:
    """What is stored of the minutes of a window (ns), beside the prints that the gap's stream has there, repairs included."""
    database = settings.clickhouse.database
    sql = f"""
        SELECT count(), sum(told), sum(greatest(told - held, 0)) FROM (
            SELECT toString(symbol) AS name, intDiv(toUnixTimestamp64Nano(ts_begin), {MINUTE_NS}) AS minute,
                   greatest(volume, 0) AS told
            FROM {database}.history_bars
            WHERE stream = {{bars:String}} AND session_date = {{day:Date}} AND interval_s = {BAR_S}
              AND has({{symbols:Array(String)}}, symbol) AND minute BETWEEN {{first:Int64}} AND {{last:Int64}}) AS bar
        LEFT JOIN (
            SELECT toString(symbol) AS name, intDiv(toUnixTimestamp64Nano(assumeNotNull(ts_event)), {MINUTE_NS}) AS minute,
                   sum(size) AS held
            FROM {database}.prints
            WHERE stream = {{stream:String}} AND session_date = {{day:Date}} AND basis IN ('last', 'extended') AND ts_event IS NOT NULL
              AND has({{symbols:Array(String)}}, symbol) AND minute BETWEEN {{first:Int64}} AND {{last:Int64}}
            GROUP BY name, minute) AS printed
        USING (name, minute)"""  # noqa: S608 - name is ours
    first, last = (ts // MINUTE_NS for ts in window)
    given = {"bars": BARS.stream, "stream": gap.stream, "day": gap.session_date, "first": first, "last": last}
    sums = [0, 0, 0]
    size = settings.repair.symbols_max
    for start in range(0, len(symbols), size):
        names = list(symbols[start : start + size])
        row = client.query(sql, parameters={**given, "symbols": names}).result_rows[0]
        sums = [total + int(value or 0) for total, value in zip(sums, row, strict=True)]
    return BarsFound(*sums)


def unreadable(client: Client, settings: Settings, gap: LedgerGap) -> int:
    """Lines of the date's replies that are no bars; such a line names no symbol."""
    sql = f"""
        SELECT count() FROM {settings.clickhouse.database}.feed_events
        WHERE stream = {{stream:String}} AND session_date = {{day:Date}} AND kind = 'quarantine'"""  # noqa: S608 - name is ours
    return int(client.query(sql, parameters={"stream": BARS.stream, "day": gap.session_date}).result_rows[0][0])

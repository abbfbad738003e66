"""What a repair asks the warehouse and the journal: symbols of a gap, prints that are stored, whether the live rows have arrived.

What does not belong here: choosing (repair_plan, repair_prints), changing anything.
"""

import json
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
from clickhouse_connect.driver.client import Client

from l2_platform.clock import Clock
from l2_platform.errors import JournalError, SinkUnavailable
from l2_platform.journal.durable import read_durable
from l2_platform.journal.headers import segment_context
from l2_platform.market.dates import date_text
from l2_platform.monitoring.symbols_file import load_symbols, symbols_of_stream
from l2_platform.quality.ledger import LedgerGap
from l2_platform.quality.repair_prints import Prints
from l2_platform.replay.dates import delivered_through, stored_seq
from l2_platform.replay.rebuild import end_seq
from l2_platform.settings import Settings

NS: Final = 1_000_000_000
LOOK_S: Final = 0.1
NEAR: Final = timedelta(days=10)
"""How far the session date of a print can lie from the gap's, over a long holiday."""
AROUND_NS: Final = 5 * NS
"""Stored prints are looked for this far outside the window: live and history may tell times differently."""
DENSE_MIN: Final = 0.5
"""Prints for each id that was given out: fewer, and ids do not count prints."""


def symbols_of(client: Client, settings: Settings, gap: LedgerGap) -> list[str]:
    """The symbols that miss data: the gap's own, else every symbol that its stream watched when it ended."""
    if gap.symbols:
        return sorted(gap.symbols)
    number = _number(gap)
    context = segment_context(settings.journal_dir, gap.stream, number) or {}
    watched = {str(name) for name in context.get("watches", ())}
    sql = f"""
        SELECT kind, detail FROM {settings.clickhouse.database}.feed_events
        WHERE stream = {{stream:String}} AND session_date = {{day:Date}} AND kind IN ('subscribing', 'watch', 'unwatch')
          AND toUnixTimestamp64Nano(ts_recv) <= {{until:Int64}} ORDER BY seq, ordinal"""  # noqa: S608 - name is ours
    parameters = {"stream": gap.stream, "day": gap.session_date, "until": gap.ts_to}
    for kind, detail in client.query(sql, parameters=parameters).result_rows:
        names = {str(name) for name in json.loads(detail).get("symbols", ())}
        watched = watched - names if kind == "unwatch" else watched | names
    if watched:
        return sorted(watched)
    wanted = load_symbols(settings.symbols_file, limit=settings.symbols.limit).symbols
    return sorted(symbols_of_stream(wanted, gap.stream, settings.streams))


def stored_prints(
    client: Client, settings: Settings, gap: LedgerGap, symbols: Sequence[str], window: tuple[int, int]
) -> dict[str, Prints]:
    """Prints of each symbol around a window (ns), live ones and those that history brought; every symbol has an entry."""
    sql = f"""
        SELECT indexOf({{symbols:Array(String)}}, symbol) AS place, toUnixTimestamp64Nano(assumeNotNull(ts_event)) AS at,
               toInt64(market_center) AS center, tick_id, size
        FROM {settings.clickhouse.database}.trades WHERE {_WHERE} ORDER BY place, at"""  # noqa: S608 - name is ours
    parameters = _parameters(gap, symbols, (window[0] - AROUND_NS, window[1] + AROUND_NS))
    table = client.query_arrow(sql, parameters=parameters)
    place, ts, center, tick_id, size = (column.to_numpy() for column in table.columns)
    edges = np.searchsorted(place, np.arange(1, len(symbols) + 2))
    whole = Prints(ts.astype(np.int64), center.astype(np.int64), tick_id.astype(np.uint64), size.astype(np.int64))
    return {name: whole.pick(slice(edges[number], edges[number + 1])) for number, name in enumerate(symbols)}


def missing_ids(
    client: Client, settings: Settings, gap: LedgerGap, symbols: Sequence[str], window: tuple[int, int]
) -> int:
    """TickIDs without a stored print inside a window (ns), of symbols whose ids count their prints; others tell nothing."""
    sql = f"""
        SELECT sum(if(ids >= {DENSE_MIN} * span, span - ids, 0)) FROM (
            SELECT symbol, sum(ids) AS ids, sum(span) AS span FROM (
                SELECT symbol, uniqExact(tick_id) AS ids, max(tick_id) - min(tick_id) + 1 AS span
                FROM {settings.clickhouse.database}.trades WHERE {_WHERE} AND tick_id > 0 GROUP BY symbol, trade_date, market_center)
            GROUP BY symbol)"""  # noqa: S608 - name is ours
    size = settings.repair.symbols_max
    found = 0
    for start in range(0, len(symbols), size):
        parameters = _parameters(gap, symbols[start : start + size], window)
        found += int(client.query(sql, parameters=parameters).result_rows[0][0] or 0)
    return found


def rows_of(client: Client, settings: Settings, stream: str, session_date: date) -> int:
    """Trades that are stored of a stream and date."""
    sql = f"SELECT count() FROM {settings.clickhouse.database}.trades WHERE stream = {{stream:String}} AND session_date = {{day:Date}}"  # noqa: S608 - name is ours
    return int(client.query(sql, parameters={"stream": stream, "day": session_date}).result_rows[0][0])


_WHERE: Final = (
    "session_date BETWEEN {first:Date} AND {last:Date} AND source IN ('live', 'history') AND has({symbols:Array(String)}, symbol)"
    " AND ts_event IS NOT NULL AND toUnixTimestamp64Nano(assumeNotNull(ts_event)) BETWEEN {begin:Int64} AND {end:Int64}"
)


def _parameters(gap: LedgerGap, symbols: Sequence[str], window: tuple[int, int]) -> dict[str, Any]:
    return {
        "symbols": list(symbols), "begin": window[0], "end": window[1], "first": gap.session_date - NEAR, "last": gap.session_date + NEAR,
    }


def wait_for_live_rows(client: Client, settings: Settings, clock: Clock, gap: LedgerGap, until_ns: int) -> None:
    """Return when every row that the gap's stream received up to `until_ns` is in the warehouse.

    SinkUnavailable when the delivery is still behind after `repair.delivered_s`: what it has not stored would look missing.
    """
    clock.sleep(max(0.0, (until_ns - clock.now_ns()) / NS))
    number = _number(gap)
    wanted = _end_of_live(settings, gap.stream, number)
    deadline = clock.monotonic_ns() + int(settings.repair.delivered_s * NS)
    while (have := _delivered(client, settings, gap.stream, number)) < wanted:
        if clock.monotonic_ns() > deadline:
            raise SinkUnavailable(
                f"deliver-clickhouse has stored {have:,} of {wanted:,} lines of {gap.stream}: nothing was fetched, since what it has yet "
                "to store would look missing. Look at `l2 status`; the repair is tried again"
            )
        clock.sleep(LOOK_S)


def _end_of_live(settings: Settings, stream: str, session_date: int) -> int:
    """The last durable line of the date."""
    durable = read_durable(settings.run_dir / "durable" / stream)
    if durable is not None and durable.position.session_date == session_date:
        return durable.seq
    try:
        return end_seq(settings, stream, session_date)
    except JournalError:
        # a damaged header: what can be told is what the delivery itself found
        return 0


def _delivered(client: Client, settings: Settings, stream: str, session_date: int) -> int:
    """The last line of the date that the warehouse has."""
    beat = stored_seq(settings, "clickhouse", stream, session_date) or 0
    sql = f"SELECT max(seq) FROM {settings.clickhouse.database}.delivery_positions WHERE stream = {{stream:String}} AND session_date = {{day:Date}}"  # noqa: E501, S608 - name is ours
    rows = client.query(sql, parameters={"stream": stream, "day": date_text(session_date)}).result_rows
    told = int(rows[0][0]) if rows else 0
    if delivered_through(settings, "clickhouse", stream) >= session_date:
        return max(beat, told, _end_of_live(settings, stream, session_date))
    return max(beat, told)


def _number(gap: LedgerGap) -> int:
    day = gap.session_date
    return day.year * 10_000 + day.month * 100 + day.day

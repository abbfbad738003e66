"""What a repair asks the warehouse and the journal: symbols of a gap, prints that are stored, whether the live rows have arrived.

What does not belong here: choosing (repair_plan, repair_prints), changing anything.
"""

import json
from collections.abc import Sequence
from datetime import date
from typing import Any, Final

import numpy as np
from clickhouse_connect.driver.client import Client

from l2_platform.clock import Clock
from l2_platform.errors import JournalError, SinkUnavailable
from l2_platform.journal.durable import read_durable
from l2_platform.journal.headers import segment_context
from l2_platform.market.dates import date_text, day_of
from l2_platform.market.sessions import load_calendar
from l2_platform.monitoring.symbols_file import load_symbols, symbols_of_stream
from l2_platform.quality.ledger import LedgerGap
from l2_platform.quality.repair_prints import Prints
from l2_platform.replay.dates import delivered_through, stored_seq
from l2_platform.replay.rebuild import end_seq
from l2_platform.settings import Settings

NS: Final = 1_000_000_000
LOOK_S: Final = 0.1
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
    parameters = _parameters(settings, gap, symbols, (window[0] - AROUND_NS, window[1] + AROUND_NS))
    table = client.query_arrow(sql, parameters=parameters)
    place, ts, center, tick_id, size = (column.to_numpy() for column in table.columns)
    edges = np.searchsorted(place, np.arange(1, len(symbols) + 2))
    whole = Prints(ts.astype(np.int64), center.astype(np.int64), tick_id.astype(np.uint64), size.astype(np.int64))
    return {name: whole.pick(slice(edges[number], edges[number + 1])) for number, name in enumerate(symbols)}


def missing_ids(
    client: Client, settings: Settings, gap: LedgerGap, symbols: Sequence[str], window: tuple[int, int]
) -> tuple[int, int]:
    """(TickIDs without a stored print inside a window (ns) of symbols whose ids count their prints, days and centres of those symbols).

    Where ids do not count prints they tell nothing, and are not among the second number.
    Whether they count is seen outside the window: inside it they may all be missing. What is missing lies between the highest id before
    the window and the lowest one after it; where the day has none on one side, up to the outermost id inside.
    """
    rule = settings.feed.tick_id_rule
    if rule == "none":
        return 0, 0
    center = "market_center" if rule == "per_market_center" else "0"
    sql = f"""
        SELECT sum(greatest(high - low - 1 - toInt64(bitmapCardinality(bitmapSubsetInRange(ids, toUInt64(low + 1), toUInt64(high)))), 0)),
               count()
        FROM (
            SELECT groupBitmapState(tick_id) AS ids, toInt64(maxIf(tick_id, at < {{begin:Int64}})) AS below,
                   toInt64(minIf(tick_id, at > {{end:Int64}})) AS above, toInt64(maxIf(tick_id, at <= {{end:Int64}})) AS last_inside,
                   toInt64(minIf(tick_id, at >= {{begin:Int64}})) AS first_inside,
                   if(below > 0, below, first_inside - 1) AS low, if(above > 0, above, last_inside + 1) AS high,
                   countIf(at < {{begin:Int64}}) + countIf(at > {{end:Int64}}) AS outside,
                   if(below > 0, below - toInt64(minIf(tick_id, at < {{begin:Int64}})) + 1, 0)
                       + if(above > 0, toInt64(maxIf(tick_id, at > {{end:Int64}})) - above + 1, 0) AS outside_span,
                   if(outside > 0, outside, count()) AS seen, if(outside > 0, outside_span, last_inside - first_inside + 1) AS span
            FROM (
                SELECT symbol, trade_date, {center} AS center, tick_id, toUnixTimestamp64Nano(assumeNotNull(ts_event)) AS at
                FROM {settings.clickhouse.database}.trades
                WHERE {_OF_SYMBOLS} AND tick_id > 0
                  AND trade_date BETWEEN {_day("begin")} AND {_day("end")})
            GROUP BY symbol, trade_date, center)
        WHERE high > low AND seen >= {DENSE_MIN} * span"""  # noqa: S608 - names are ours
    size = settings.repair.symbols_max
    found = counted = 0
    for start in range(0, len(symbols), size):
        parameters = _parameters(settings, gap, symbols[start : start + size], window)
        missing, groups = client.query(sql, parameters=parameters).result_rows[0]
        found, counted = found + int(missing or 0), counted + int(groups)
    return found, counted


def brought(client: Client, settings: Settings, gap: LedgerGap, symbols: Sequence[str], window: tuple[int, int]) -> int:
    """Stored prints inside a window (ns) that came from history, whoever asked for them."""
    sql = f"SELECT count() FROM {settings.clickhouse.database}.trades WHERE {_WHERE} AND source = 'history'"  # noqa: S608 - name is ours
    size = settings.repair.symbols_max
    parts = (symbols[start : start + size] for start in range(0, len(symbols), size))
    return sum(int(client.query(sql, parameters=_parameters(settings, gap, part, window)).result_rows[0][0]) for part in parts)


def rows_of(client: Client, settings: Settings, stream: str, session_date: date) -> int:
    """Trades that are stored of a stream and date."""
    sql = f"SELECT count() FROM {settings.clickhouse.database}.trades WHERE stream = {{stream:String}} AND session_date = {{day:Date}}"  # noqa: S608 - name is ours
    return int(client.query(sql, parameters={"stream": stream, "day": session_date}).result_rows[0][0])


def _day(bound: str) -> str:
    return f"toDate(fromUnixTimestamp64Nano({{{bound}:Int64}}, 'America/New_York'))"


_OF_SYMBOLS: Final = (
    "session_date BETWEEN {first:Date} AND {last:Date} AND source IN ('live', 'history') AND symbol IN {symbols:Array(String)}"
    " AND ts_event IS NOT NULL"
)
_WHERE: Final = f"{_OF_SYMBOLS} AND toUnixTimestamp64Nano(assumeNotNull(ts_event)) BETWEEN {{begin:Int64}} AND {{end:Int64}}"


def _parameters(settings: Settings, gap: LedgerGap, symbols: Sequence[str], window: tuple[int, int]) -> dict[str, Any]:
    """A print of a session may be told with the next one, or the one before: not further away."""
    calendar = load_calendar(settings.calendar_name, settings.session.roll_margin_s)
    first, last = calendar.previous_session(_number(gap)), calendar.next_session(_number(gap))
    return {"symbols": list(symbols), "begin": window[0], "end": window[1], "first": day_of(first), "last": day_of(last)}


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

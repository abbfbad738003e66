"""What the pictures of the daily report are made of: minutes with rows by symbol and hour, spread and latency over the session.

One statement a picture, aggregated in the warehouse. What does not belong here: drawing (report_svg).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from l2_platform.market.sessions import Window
from l2_platform.quality.report_facts import Course, Heat

Ask = Callable[[str, Mapping[str, Any]], Sequence[Sequence[Any]]]
HOUR_NS: Final = 3600 * 10**9
HOURS_MAX: Final = 48
BARS: Final = 96
"""Bars of a course at most."""
STEPS_S: Final = (60, 300, 600, 900, 1800, 3600)
HEAT_TABLES: Final = ("depth_updates", "quotes", "trades")
"""Book snapshots are made from depth updates: they would say nothing more."""
_SECONDS: Final = "toUnixTimestamp(if(source = 'live', ts_recv, ifNull(ts_event, ts_recv)))"
_LATENCY: Final = "(toUnixTimestamp64Nano(ts_recv) - toUnixTimestamp64Nano(assumeNotNull(ts_event))) / 1e6"


def read_heat(ask: Ask, database: str, windows: Sequence[Window], names: Sequence[str], most: int) -> Heat:
    """Minutes of each hour in which a symbol has a row; `names` first, then those with the fewest rows, `most` in all."""
    counted = " UNION ALL ".join(
        f"SELECT symbol, count() AS n FROM {database}.{table} WHERE session_date = {{day:Date}} AND symbol != '' GROUP BY symbol"  # noqa: S608 - names are ours
        for table in HEAT_TABLES
    )
    of = int(ask(f"SELECT uniqExact(symbol) FROM ({counted})", {})[0][0])  # noqa: S608 - as above
    sql = f"SELECT symbol FROM ({counted}) WHERE symbol NOT IN {{names:Array(String)}} GROUP BY symbol ORDER BY sum(n), symbol LIMIT {{most:UInt32}}"  # noqa: S608, E501 - as above
    chosen = list(names[:most])
    chosen += (
        [str(symbol) for (symbol,) in ask(sql, {"names": chosen, "most": most - len(chosen)})]
        if len(chosen) < most
        else []
    )
    begin = windows[0].start // HOUR_NS * HOUR_NS
    hours = min(-(-(windows[-1].end - begin) // HOUR_NS), HOURS_MAX)
    rows = " UNION ALL ".join(
        f"SELECT symbol, intDiv({_SECONDS} - {{begin:Int64}}, 60) AS minute FROM {database}.{table}"  # noqa: S608 - names are ours
        " WHERE session_date = {day:Date} AND symbol IN {chosen:Array(String)} GROUP BY symbol, minute"
        for table in HEAT_TABLES
    )
    sql = f"SELECT symbol, intDiv(minute, 60) AS hour, uniqExact(minute) FROM ({rows}) WHERE minute >= 0 AND hour < {{hours:Int64}} GROUP BY symbol, hour"  # noqa: S608, E501 - as above
    minutes = {symbol: [0] * hours for symbol in chosen}
    for symbol, hour, count in ask(sql, {"begin": begin // 10**9, "chosen": chosen, "hours": hours}) if chosen else []:
        minutes[str(symbol)][int(hour)] = int(count)
    return Heat([begin + hour * HOUR_NS for hour in range(hours)], chosen, [minutes[symbol] for symbol in chosen], of)


def read_course(ask: Ask, database: str, windows: Sequence[Window]) -> Course:
    """Median spread of valid quotes (both sides, not crossed), and the latency of live quotes and prints."""
    start, end = windows[0].start // 10**9, -(-windows[-1].end // 10**9)
    step = next((step for step in STEPS_S if (end - start) / step <= BARS), STEPS_S[-1])
    bars = -(-(end - start) // step)
    given = {"start": start, "step": step, "bars": bars}
    bar = f"intDiv({_SECONDS} - {{start:Int64}}, {{step:Int64}}) AS bar"
    inside = "session_date = {day:Date} AND bar >= 0 AND bar < {bars:Int64}"
    valid = "snapshot = 0 AND bid > 0 AND ask >= bid"
    spread = "20000 * toFloat64(assumeNotNull(ask) - assumeNotNull(bid)) / toFloat64(assumeNotNull(ask) + assumeNotNull(bid))"
    sql = f"SELECT {bar}, quantileTDigest(0.5)({spread}) FROM {database}.quotes WHERE {inside} AND {valid} GROUP BY bar"  # noqa: S608 - names are ours
    spreads = {int(number): float(value) for number, value in ask(sql, given)}
    timed = "source = 'live' AND ts_event IS NOT NULL"
    rows = f"""SELECT {bar}, {_LATENCY} AS ms FROM {database}.quotes WHERE {inside} AND {timed} AND snapshot = 0
        UNION ALL SELECT {bar}, {_LATENCY} AS ms FROM {database}.trades WHERE {inside} AND {timed}"""  # noqa: S608 - names are ours
    found = ask(f"SELECT bar, quantilesTDigest(0.5, 0.99)(ms) FROM ({rows}) GROUP BY bar", given)  # noqa: S608 - as above
    latencies = {int(number): (float(values[0]), float(values[1])) for number, values in found}
    nothing: tuple[float | None, float | None] = (None, None)
    pairs = [latencies.get(number, nothing) for number in range(bars)]
    return Course(
        start * 10**9, step, [spreads.get(number) for number in range(bars)], [pair[0] for pair in pairs], [pair[1] for pair in pairs],
    )  # fmt: skip

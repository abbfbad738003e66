"""What the warehouse knows of every symbol of a date: a few aggregate queries, one row a symbol each, whatever the date holds.

The recording of a date is what its live streams brought, or where there is none what was imported; history is what came afterwards.
What does not belong here: gaps (time_facts), grades (verdicts).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from clickhouse_connect.driver.client import Client

from l2_platform.market.sessions import Window
from l2_platform.quality.verdicts import WINDOWS, SymbolFacts
from l2_platform.settings import Settings
from l2_platform.warehouse.queries import TABLES

MARKET: Final = ("depth_updates", "quotes", "trades", "book_snapshots")
MOMENT: Final = "if(source = 'live', ts_recv, ifNull(ts_event, ts_recv))"
"""When a row happened: received, or for imports and history (received later) the event's own time."""
NEW_YORK: Final = ZoneInfo("America/New_York")
VOLUME: Final = "basis IN ('last', 'extended', 'other')"
MINUTE_NS: Final = 60_000_000_000


@dataclass(slots=True)
class Day:
    """The symbols of a date and what was measured of each."""

    symbols: dict[str, SymbolFacts]
    channels: list[str]
    """Kinds of streams that the recording has."""
    minutes: set[int]
    """Minutes (since the epoch) in which any symbol had a row."""
    nameless: int = 0
    """Lines in quarantine of which nobody knows the symbol."""
    live: bool = False
    """It was recorded as it happened; False: imported, or nothing is there."""
    from_one: bool = False
    """TickIDs count from 1 on this date: what lies before the first one is missing, too."""
    no_halts: str = ""
    """Why halts explain no gap that did not end; empty = they were read, or nobody had to ask."""

    def of(self, symbol: str) -> SymbolFacts:
        """The facts of a symbol, made when it is new."""
        return self.symbols.setdefault(symbol, SymbolFacts(symbol))


class DayQueries:
    """Asks one date; ClickHouse errors go through."""

    def __init__(self, client: Client, database: str, day: date, windows: Sequence[Window], settings: Settings) -> None:
        self._client, self._database, self._windows, self._bounds = client, database, windows, settings.completeness
        self._day, self._tick_id_rule = day, settings.feed.tick_id_rule
        self._parameters: dict[str, Any] = {"day": day}
        self._recorded = "source = 'live'"

    def run(self, expected: Sequence[str]) -> Day:
        """Everything; `expected`: symbols that are there whatever the tables say."""
        day = Day({}, [], set())
        for symbol in expected:
            day.of(symbol).expected = True
        self._sources(day)
        self._rows(day)
        self._minutes(day)
        self._tick_ids(day)
        self._volumes(day)
        self._daily_bars(day)
        self._book_times(day)
        self._latencies(day)
        self._quarantined(day)
        self._usual(day)
        minutes = [_minutes(window, self._windows) for window in WINDOWS]
        for facts in day.symbols.values():
            facts.expected_minutes = list(minutes)
        return day

    def _ask(self, sql: str, **parameters: Any) -> Iterator[Mapping[str, Any]]:
        settings = {"max_execution_time": self._bounds.query_s}
        result = self._client.query(sql, parameters={**self._parameters, **parameters}, settings=settings)
        return iter(result.named_results())

    def _place(self, table: str) -> str:
        return f"{self._database}.{table}"

    def _sources(self, day: Day) -> None:
        parts = " UNION ALL ".join(
            f"SELECT DISTINCT source, stream FROM {self._place(table)} WHERE session_date = {{day:Date}}" for table in TABLES  # noqa: S608 - names are ours
        )
        found = {(str(row["source"]), str(row["stream"])) for row in self._ask(f"SELECT DISTINCT source, stream FROM ({parts})")}  # noqa: S608
        day.live = any(source == "live" for source, _ in found)
        if found and not day.live:
            self._recorded = "source = 'import'"
        day.channels = sorted({stream.split("-")[1] for source, stream in found if source in self._recorded})

    def _rows(self, day: Day) -> None:
        """Rows, minutes and hours. Minutes of an hour are a bitmap: a group each minute and symbol would be millions of groups."""
        parts = " UNION ALL ".join(
            f"""SELECT symbol, intDiv(toUnixTimestamp64Nano({MOMENT}), {60 * MINUTE_NS}) AS hour, countIf({self._recorded}) AS own,
                       countIf(source = 'history') AS old, {"own" if table == "trades" else "toUInt64(0)"} AS prints,
                       groupBitmapStateIf(toUInt32(intDiv(toUnixTimestamp64Nano({MOMENT}), {MINUTE_NS})), {self._recorded}) AS minutes
                FROM {self._place(table)} WHERE session_date = {{day:Date}} GROUP BY symbol, hour"""  # noqa: S608 - names are ours
            for table in MARKET
        )
        counts = ", ".join(f"sum({_inside(window, self._windows)}) AS seen_{window}" for window in WINDOWS)
        sql = f"""
            SELECT symbol, sum(mine) AS all_own, sum(past) AS all_old, sum(printed) AS all_prints, {counts},
                   groupArray(toHour(toDateTime(hour * 3600, 'America/New_York'))) AS hours, groupArray(mine) AS hour_rows
            FROM (
                SELECT symbol, hour, sum(own) AS mine, sum(old) AS past, sum(prints) AS printed, groupBitmapMergeState(minutes) AS seen
                FROM ({parts}) GROUP BY symbol, hour)
            GROUP BY symbol"""  # noqa: S608 - names are ours
        for row in self._ask(sql):
            if not row["symbol"]:
                continue
            facts = day.of(str(row["symbol"]))
            facts.rows, facts.rows_history, facts.trades = int(row["all_own"]), int(row["all_old"]), int(row["all_prints"])
            facts.seen_minutes = [int(row[f"seen_{window}"]) for window in WINDOWS]
            for hour, rows in zip(row["hours"], row["hour_rows"], strict=True):
                facts.rows_by_hour[int(hour)] += int(rows)

    def _minutes(self, day: Day) -> None:
        """Minutes in which anything was recorded."""
        parts = " UNION ALL ".join(
            f"""SELECT DISTINCT intDiv(toUnixTimestamp64Nano({MOMENT}), {MINUTE_NS}) AS minute FROM {self._place(table)}
                WHERE session_date = {{day:Date}} AND {self._recorded}"""  # noqa: S608 - names are ours
            for table in MARKET
        )
        day.minutes.update(int(row["minute"]) for row in self._ask(f"SELECT DISTINCT minute FROM ({parts})"))  # noqa: S608 - names are ours

    def _tick_ids(self, day: Day) -> None:
        """A centre counts when the range of its ids is about as large as their number; others are not judged by them. 0 is no id.

        By setting `feed.tick_id_rule` a symbol's ids count over all centres, or nothing counts.
        """
        if self._tick_id_rule == "none":
            return
        center = "market_center" if self._tick_id_rule == "per_market_center" else "0"
        sql = f"""
            SELECT symbol, countIf(NOT counting) AS odd, countIf(counting AND first = 1) AS ones, countIf(counting) AS centres,
                   sumIf(last - first + 1, counting) AS span, sumIf(before, counting) AS before_first,
                   sumIf(own, counting) AS seen_own, sumIf(known, counting) AS seen_all
            FROM (
                SELECT symbol, {center} AS center, groupBitmapIf(tick_id, tick_id > 0 AND {self._recorded}) AS own,
                       groupBitmapIf(tick_id, tick_id > 0) AS known, minIf(tick_id, tick_id > 0) AS first, max(tick_id) AS last,
                       known > 0 AND last - first + 1 <= {{sparse:Float64}} * known AS counting,
                       if(first - 1 <= last - first + 1, first - 1, 0) AS before
                FROM {self._place("trades")}
                WHERE session_date = {{day:Date}} AND trade_date = {{day:Date}} AND {VOLUME}
                GROUP BY symbol, center)
            GROUP BY symbol"""  # noqa: S608 - names are ours
        rows = list(self._ask(sql, sparse=self._bounds.tick_sparse))
        day.from_one = 2 * sum(int(row["ones"]) for row in rows) >= sum(int(row["centres"]) for row in rows) > 0
        for row in rows:
            facts = day.of(str(row["symbol"]))
            facts.centres_not_counting = int(row["odd"])
            facts.tick_ids_expected = int(row["span"]) + (int(row["before_first"]) if day.from_one else 0)
            facts.tick_ids_lost = facts.tick_ids_expected - int(row["seen_own"])
            facts.tick_ids_missing = facts.tick_ids_expected - int(row["seen_all"])

    def _volumes(self, day: Day) -> None:
        """Prints against the feed's running total; where history came, each print counts once."""
        where = f"session_date = {{day:Date}} AND trade_date = {{day:Date}} AND {VOLUME}"
        place = self._place("trades")
        sql = f"""
            SELECT symbol, max(total_volume) AS total, sumIf(size, {self._recorded}) AS own, countIf(source = 'history') AS old
            FROM {place} WHERE {where} GROUP BY symbol"""  # noqa: S608 - names are ours
        repaired = []
        for row in self._ask(sql):
            facts = day.of(str(row["symbol"]))
            facts.volume_expected, facts.volume_seen = int(row["total"]), int(row["own"])
            if row["old"]:
                repaired.append(facts.symbol)
        lost = {name: day.of(name).volume_expected - day.of(name).volume_seen for name in repaired}
        sql = f"""
            SELECT symbol, sum(one) AS volume FROM (
                SELECT symbol, any(size) AS one FROM {place}
                WHERE {where} AND symbol IN (SELECT symbol FROM {place} WHERE {where} AND source = 'history')
                GROUP BY symbol, market_center, tick_id, if(tick_id = 0, stream, ''), if(tick_id = 0, seq, 0))
            GROUP BY symbol"""  # noqa: S608 - names are ours
        for row in self._ask(sql) if repaired else ():
            day.of(str(row["symbol"])).volume_seen = int(row["volume"])
        for facts in day.symbols.values():
            if facts.volume_expected >= 0:
                facts.volume_missing = facts.volume_expected - facts.volume_seen
                facts.volume_lost = lost.get(facts.symbol, facts.volume_missing)

    def _daily_bars(self, day: Day) -> None:
        """The vendor's daily bars of the date, stored (`l2 backfill --what bars --interval daily`) or among imported replies.

        Their lines are date, high, low, open, close, volume, … A session that reaches over midnight in New York has no daily bar.
        """
        ends = (datetime.fromtimestamp(ts // 10**9, NEW_YORK).date() for window in self._windows for ts in (window.start, window.end - 1))
        if any(day_of_end != self._day for day_of_end in ends):
            return
        volume = "extract(raw, concat('(?:^|,)', toString({day:Date}), ',(?:[0-9.]+,){4}([0-9]+),'))"
        sql = f"""
            SELECT symbol, argMax(told, at) AS volume FROM (
                SELECT toString(symbol) AS symbol, toInt64OrNull({volume}) AS told, ts_recv AS at
                FROM {self._place("feed_events")}
                WHERE session_date BETWEEN {{day:Date}} AND {{day:Date}} + 10 AND kind = 'history_bar' AND symbol != '' AND {volume} != ''
                UNION ALL
                SELECT toString(symbol), toNullable(volume), ts_recv FROM {self._place("history_bars")}
                WHERE session_date BETWEEN {{day:Date}} - 10 AND {{day:Date}} + 10 AND interval_s = 86400 AND volume >= 0
                  AND toDate(ts_begin, 'America/New_York') = {{day:Date}})
            GROUP BY symbol"""  # noqa: S608 - names are ours
        for row in self._ask(sql):
            if row["volume"] is not None:
                day.of(str(row["symbol"])).volume_bar = int(row["volume"])

    def _book_times(self, day: Day) -> None:
        """How long the stored book had each trust inside the windows, which follow each other: from a row to the next one of the symbol."""
        held = (
            "greatest(0, least(toUnixTimestamp64Nano(next), {last:Int64}) - greatest(toUnixTimestamp64Nano(ts_recv), {first:Int64}))"
        )
        sums = ", ".join(f"sumIf({held}, trust = '{trust}') / 1e9 AS {trust}_s" for trust in ("good", "suspect", "building"))
        sql = f"""
            SELECT symbol, {sums} FROM (
                SELECT symbol, trust, ts_recv,
                       leadInFrame(ts_recv, 1, ts_recv) OVER (PARTITION BY stream, symbol ORDER BY seq
                           ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING) AS next
                FROM {self._place("book_snapshots")} WHERE session_date = {{day:Date}} AND {self._recorded})
            GROUP BY symbol"""  # noqa: S608 - names are ours
        for row in self._ask(sql, first=self._windows[0].start, last=self._windows[-1].end):
            facts = day.of(str(row["symbol"]))
            facts.book_good_s, facts.book_suspect_s, facts.book_building_s = (
                round(float(row[f"{trust}_s"]), 6) for trust in ("good", "suspect", "building")
            )

    def _latencies(self, day: Day) -> None:
        parts = " UNION ALL ".join(
            f"""SELECT symbol, (toUnixTimestamp64Nano(ts_recv) - toUnixTimestamp64Nano(assumeNotNull(ts_event))) / 1e6 AS ms
                FROM {self._place(table)}
                WHERE session_date = {{day:Date}} AND source = 'live' AND ts_event IS NOT NULL AND seq % {{every:UInt32}} = 0
                  {"AND snapshot = 0" if TABLES[table].has_snapshot_flag else ""}"""  # noqa: S608 - names are ours
            for table in ("depth_updates", "quotes", "trades")
        )
        sql = f"SELECT symbol, quantilesTDigest(0.5, 0.99)(ms) AS found FROM ({parts}) GROUP BY symbol"  # noqa: S608 - names are ours
        for row in self._ask(sql, every=self._bounds.latency_every):
            facts = day.of(str(row["symbol"]))
            facts.latency_p50_ms, facts.latency_p99_ms = (round(float(value), 6) for value in row["found"])

    def _quarantined(self, day: Day) -> None:
        sql = f"""
            SELECT symbol, count() AS bad FROM {self._place("feed_events")}
            WHERE session_date = {{day:Date}} AND kind = 'quarantine' GROUP BY symbol"""  # noqa: S608 - names are ours
        for row in self._ask(sql):
            if row["symbol"] and str(row["symbol"]) in day.symbols:
                day.of(str(row["symbol"])).quarantined += int(row["bad"])
            else:
                day.nameless += int(row["bad"])

    def _usual(self, day: Day) -> None:
        """Means of the verdicts before: the rows of those dates are not read again."""
        newest = f"""
            SELECT session_date, symbol, argMax(rows_by_hour, ts_written) AS hours FROM {self._place("completeness")}
            WHERE session_date < {{day:Date}} AND session_date IN (
                SELECT DISTINCT session_date FROM {self._place("completeness")}
                WHERE session_date < {{day:Date}} ORDER BY session_date DESC LIMIT {{days:UInt32}})
            GROUP BY session_date, symbol"""  # noqa: S608 - names are ours
        sql = f"SELECT symbol, count() AS days, avgForEach(hours) AS mean FROM ({newest}) GROUP BY symbol"  # noqa: S608 - names are ours
        for row in self._ask(sql, days=self._bounds.usual_days):
            symbol = str(row["symbol"])
            if symbol in day.symbols:
                facts = day.of(symbol)
                facts.days_usual, facts.usual_by_hour = int(row["days"]), [float(mean) for mean in row["mean"]]


def _inside(name: str, windows: Sequence[Window]) -> str:
    """How many of an hour's minutes begin inside a window; 0 where the session has no such window."""
    found = next((window for window in windows if window.name == name), None)
    if found is None:
        return "0"
    return f"bitmapCardinality(bitmapSubsetInRange(seen, toUInt32({found.start // MINUTE_NS}), toUInt32({found.end // MINUTE_NS})))"


def _minutes(name: str, windows: Sequence[Window]) -> int:
    return sum((window.end - window.start) // MINUTE_NS for window in windows if window.name == name)

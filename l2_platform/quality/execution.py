"""Running one check: its statements over every stream and range of symbols, pushed down to the warehouse with bounded memory.

Only sums and the worst groups come back, never the rows of a day. What does not belong here: rules (checks), which checks run on a
date and what becomes of their results (audit).
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from string import Template
from typing import Any, Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from l2_platform.errors import WarehouseError
from l2_platform.quality.checks.rule import FRAGMENTS, Check, Statement
from l2_platform.quality.day import Day, Held, Hours
from l2_platform.quality.findings import CheckResult, Finding
from l2_platform.settings import QualitySettings

MINUTE_NS: Final = 60_000_000_000
OVER_MEMORY: Final = "MEMORY_LIMIT_EXCEEDED"
SPLIT: Final = 4
"""Into so many parts a range is cut that needs too much memory."""
LEVELS: Final = {1: "warn", 2: "error"}
GROUPED: Final = """
SELECT {stream:String} AS stream, symbol, if(level = 0 OR worth < if(level = 1, {least_warn:Float64}, {least_error:Float64})
           OR ts_to - ts_from < {least_span:Int64}, 0, level) AS found_level,
       looked, looked AS hits, ts_from, ts_to, seq_from, seq_to, worth, said
FROM (
    SELECT symbol, level, if(level = 0, -1, toInt64(run)) AS episode, count() AS looked, min(ts) AS ts_from, max(ts_end) AS ts_to,
           min(seq) AS seq_from, max(seq) AS seq_to, toFloat64($aggregate) AS worth, any(detail) AS said
    FROM ($sql) GROUP BY symbol, level, episode
)"""
"""Rows of a rule → groups: one a symbol of what is fine, one a stretch of what is not."""
FOUND: Final = """
SELECT stream, symbol, $level AS shown, looked, $flagged AS hit, ts_from, ts_to, seq_from, seq_to, $value AS worth, $detail AS said,
       sum(looked) OVER () AS all_looked, sum(if(shown > 0, hit, 0)) OVER () AS all_flagged, countIf(shown > 0) OVER () AS all_found
FROM ($sql) ORDER BY shown DESC, worth DESC, stream, symbol, ts_from LIMIT {findings_max:UInt64}"""
"""Groups → the worst of them, and sums over all."""
COLUMNS: Final = {
    "rows": {"level": "found_level", "flagged": "hits", "value": "worth", "detail": "said"},
    "groups": {"level": "level", "flagged": "flagged", "value": "value", "detail": "detail"},
}
AGGREGATES: Final = {"max": "max(value)", "sum": "sum(value)", "count": "count()"}


@dataclass(slots=True)
class Runner:
    """Runs checks on one day."""

    client: Client
    day: Day
    counts: dict[tuple[str, str], Sequence[Sequence[Any]]] = field(default_factory=dict)
    """(table, stream; empty: all) → each symbol with its rows, in order."""

    def run(self, check: Check) -> CheckResult:
        """Run it; raise ClickHouse errors, and WarehouseError with advice where its memory does not suffice."""
        result = CheckResult(check.name)
        reason = check.unfit(self.day)
        if reason:
            result.outcome, result.message = "not_evaluated", reason
            return result
        for statement in check.statements:
            self._judge(check, statement, result)
        kept = self.day.settings.quality.findings_max
        result.findings.sort(key=lambda found: (found.severity != "error", -found.value))
        del result.findings[kept:]
        if not result.looked and not check.none_is_fine:
            result.outcome, result.message = "not_evaluated", "no row of the date is one that it judges"
        if result.found:
            result.outcome, result.severity = "failed", result.findings[0].severity
        return result

    def _judge(self, check: Check, statement: Statement, result: CheckResult) -> None:
        """Run a statement; where it needs more memory than it may, again in smaller ranges, down to a symbol each."""
        parts = 1
        while True:
            found = CheckResult(check.name)
            fillings = list(self._fillings(statement, parts))
            try:
                for text, values in fillings:
                    self._add(check, statement, found, text, values)
                break
            except DatabaseError as error:
                if OVER_MEMORY not in str(error):
                    raise
                parts = self._finer(statement, parts, len(fillings))
                if not parts:
                    raise WarehouseError(self._advice(len(fillings), error)) from None
        result.looked, result.flagged, result.found = (
            result.looked + found.looked, result.flagged + found.flagged, result.found + found.found,
        )  # fmt: skip
        result.findings += found.findings

    def _finer(self, statement: Statement, parts: int, count: int) -> int:
        """So many parts that there are more than `count` ranges; 0 when no symbol can be parted from another."""
        quality = self.day.settings.quality
        # beyond it every symbol is a range of its own; a date with few rows needs many parts until its ranges are smaller at all
        while parts <= max(quality.group_rows, quality.join_rows):
            parts *= SPLIT
            if sum(1 for _ in self._fillings(statement, parts)) > count:
                return parts
        return 0

    def _advice(self, count: int, error: DatabaseError) -> str:
        """What to do when `count` ranges are the most there are."""
        allowed = self.day.settings.quality.memory_bytes_max
        tried = f"even in {count:,} ranges of symbols" if count > 1 else "and it goes in one piece only"
        return (
            f"{OVER_MEMORY}: a statement may use {allowed:,} bytes and needs more, {tried}: set L2_QUALITY__MEMORY_BYTES_MAX higher"
            f" (and L2_WAREHOUSE__MEMORY_BYTES_MAX, when the warehouse as a whole is at its bound), then audit the date again; {error}"
        )

    def _fillings(self, statement: Statement, parts: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Text and values of each run of a statement; ranges hold a `parts`-th of the rows that they may."""
        quality = self.day.settings.quality
        if not statement.table:
            table = statement.ranged_by
            ranges = self._ranges(table, "", self.day.rows(table), quality.join_rows // parts) if table else [("", "")]
            for first, last in ranges:
                values = self._values(statement, None) | {"first": first, "last": last}
                yield self._text(statement, ranged=len(ranges) > 1), values
            return
        for held in self.day.streams(statement.table, statement.sources):
            ranges = [("", "")]
            if statement.by_symbols:
                ranges = self._ranges(statement.table, held.stream, held.rows, quality.group_rows // parts)
            for first, last in ranges:
                values = self._values(statement, held) | {"first": first, "last": last}
                yield self._text(statement, ranged=len(ranges) > 1), values

    def _ranges(self, table: str, stream: str, rows: int, most: int) -> list[tuple[str, str]]:
        """Ranges of symbols of at most `most` of the table's `rows`; `stream` empty: of all streams together."""
        key = (table, stream)
        if rows <= most:
            return [("", "")]
        if key not in self.counts:
            sql = f"""
                SELECT toString(symbol) AS name, count() FROM {self._database}.{table}
                WHERE session_date = {{day:Date}} AND ({{stream:String}} = '' OR stream = {{stream:String}})
                GROUP BY name ORDER BY name"""  # noqa: S608 - names are ours
            parameters = {"day": self.day.session_date, "stream": stream}
            self.counts[key] = self.client.query(sql, parameters=parameters).result_rows
        return ranges_of(self.counts[key], most)

    def _text(self, statement: Statement, *, ranged: bool) -> str:
        where = "session_date = {day:Date}"
        if statement.table:
            where += " AND stream = {stream:String}"
        symbols = "symbol >= {first:String} AND symbol <= {last:String}" if ranged else "1"
        late = math.ceil(self.day.settings.quality.through_late_s / 60)
        names = {
            "database": self._database,
            "where": f"{where} AND {symbols}",
            "symbols": symbols,
            "late_minutes": str(late),
            "dates": ", ".join(f"toDate('{earlier.isoformat()}')" for earlier in self.day.earlier) or "{day:Date}",
        }
        sql = Template(statement.sql).substitute(FRAGMENTS, **names)
        if statement.form == "rows":
            sql = Template(GROUPED).substitute(sql=sql, aggregate=AGGREGATES[statement.value])
        return Template(FOUND).substitute(COLUMNS[statement.form], sql=sql)

    def _values(self, statement: Statement, held: Held | None) -> dict[str, Any]:
        quality, feed = self.day.settings.quality, self.day.settings.feed
        hours = self.day.hours(held.source if held is not None else "live")
        margin = 0 if hours.always_open else round(quality.auction_margin_s * 1e9)
        numbers = {
            name: int(value) if isinstance(value, bool) else value for name, value in quality.model_dump().items()
        }
        least = {
            f"least_{level}": float(getattr(quality, name)) if name else 0.0
            for level, name in (("warn", statement.warn), ("error", statement.error))
        }
        return numbers | least | {
            "day": self.day.session_date, "stream": held.stream if held is not None else "",
            "last_ts": held.last_ns if held is not None else 0, "is_live": int(held is not None and held.source == "live"),
            "open_ns": hours.open_ns + margin if hours.open_ns else 0, "close_ns": hours.close_ns - margin if hours.open_ns else 0,
            "start_ns": hours.start_ns, "end_ns": hours.end_ns, "trading_ns": hours.trading_ns, "usual_ns": hours.usual_ns,
            "episode_ns": round(quality.episode_s * 1e9),
            "previous": self.day.earlier[0] if self.day.earlier else self.day.session_date, "days": float(max(len(self.day.earlier), 1)),
            **minutes_of(hours, held), "least_span": round(getattr(quality, statement.span) * 1e9) if statement.span else 0,
            "halted": self.day.halted,
            "tick_ids": int(feed.tick_id_rule != "none"), "tick_by_center": int(feed.tick_id_rule == "per_market_center"),
        }  # fmt: skip

    def _add(self, check: Check, statement: Statement, result: CheckResult, text: str, values: dict[str, Any]) -> None:
        quality = self.day.settings.quality
        rows = self.client.query(text, parameters=values, settings=limits(quality)).result_rows
        if not rows:
            return
        result.looked += int(rows[0][11])
        result.flagged += int(rows[0][12])
        result.found += int(rows[0][13])
        for stream, symbol, level, looked, hit, ts_from, ts_to, seq_from, seq_to, worth, said, *_ in rows:
            if level == 0:
                break
            # a rule whose worst is a warning never makes an error
            severity = LEVELS[min(int(level), 2)] if check.severity == "error" else "warn"
            limit = (
                (statement.error if level > 1 else statement.warn) or check.thresholds[0] if check.thresholds else ""
            )
            result.findings.append(Finding(
                check.name, str(stream), str(symbol), int(ts_from) or None, int(ts_to) or None, severity, float(worth),
                float(getattr(quality, limit)) if limit else 0.0, detail_of(str(said)), int(seq_from), int(seq_to), int(looked), int(hit),
            ))  # fmt: skip

    @property
    def _database(self) -> str:
        return self.day.settings.clickhouse.database


def minutes_of(hours: Hours, held: Held | None) -> dict[str, int]:
    """From which to which whole minute rows are expected; where the market never closes: between the first and the last."""
    if held is None or not hours.open_ns:
        return {"minutes_from": 0, "minutes_to": 0}
    first, last = (held.first_ns, held.last_ns) if hours.always_open else (hours.open_ns, hours.close_ns)
    return {"minutes_from": first - first % MINUTE_NS, "minutes_to": last - last % MINUTE_NS}


def detail_of(text: str) -> Mapping[str, Any]:
    """A rule's detail: a JSON object, or a word or two."""
    if text.startswith("{"):
        found = json.loads(text)
        return found if isinstance(found, dict) else {"note": text}
    return {"note": text} if text else {}


def ranges_of(counts: Any, most: int) -> list[tuple[str, str]]:
    """First and last symbol of ranges of at most `most` rows (a larger symbol is one of its own), from (symbol, rows) in order."""
    ranges: list[tuple[str, str]] = []
    held = 0
    for symbol, rows in counts:
        if ranges and held + rows <= most:
            ranges[-1] = (ranges[-1][0], str(symbol))
            held += rows
        else:
            ranges.append((str(symbol), str(symbol)))
            held = rows
    return ranges


def limits(quality: QualitySettings) -> dict[str, Any]:
    """What one statement may use; beyond half of the memory it sorts and groups on disk."""
    half = quality.memory_bytes_max // 2
    return {
        "max_memory_usage": quality.memory_bytes_max, "max_bytes_before_external_group_by": half, "max_bytes_before_external_sort": half,
        "max_execution_time": int(quality.statement_s), "optimize_aggregation_in_order": 1, "optimize_read_in_window_order": 1,
    }  # fmt: skip

"""Running one check: its statements over every stream and range of symbols, pushed down to the warehouse with bounded memory.

Only sums and the worst groups come back, never the rows of a day. What does not belong here: rules (checks), which checks run on a
date and what becomes of their results (audit).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Template
from typing import Any, Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from l2_platform.clock import Clock
from l2_platform.errors import WarehouseError
from l2_platform.quality.checks.rule import FRAGMENTS, Check, Statement
from l2_platform.quality.day import Day, Held, Hours
from l2_platform.quality.findings import CheckResult, Finding
from l2_platform.settings import QualitySettings

MINUTE_NS: Final = 60_000_000_000
OVER_MEMORY: Final = "MEMORY_LIMIT_EXCEEDED"
WHOLE: Final = "(total)"
"""Of these errors it tells those of the warehouse as a whole."""
SPLIT: Final = 4
"""Into about so many parts a range is cut that needs too much memory."""
TIMES: Final = 12
"""So many times as long as a statement a check may take."""
Symbols = tuple[str, str]
"""The first and the last of a range."""
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
    clock: Clock
    asked: int = 0
    """Statements that the warehouse was asked."""
    refused: int = 0
    """Those of them that it ended, since they needed more memory than there was for them."""
    counts: dict[tuple[str, str], Sequence[Sequence[Any]]] = field(default_factory=dict)
    """(table, stream; empty: all) → each symbol with its rows, in order."""

    def run(self, check: Check) -> CheckResult:
        """Run it; raise ClickHouse errors, and WarehouseError with advice where its memory or time does not suffice."""
        result = CheckResult(check.name)
        reason = check.unfit(self.day)
        if reason:
            result.outcome, result.message = "not_evaluated", reason
            return result
        until_ns = self.clock.monotonic_ns() + round(self._allowed_s * 1e9)
        for statement in check.statements:
            for held in self.day.streams(statement.table, statement.sources) if statement.table else [None]:
                self._judge(check, statement, held, result, until_ns)
        if not result.looked and not check.none_is_fine:
            result.outcome, result.message = "not_evaluated", "no row of the date is one that it judges"
        if result.found:
            result.outcome, result.severity = "failed", result.findings[0].severity
        return result

    def _judge(self, check: Check, statement: Statement, held: Held | None, result: CheckResult, until_ns: int) -> None:
        """Run a statement over a stream, or over the date; a range that needs too much memory goes again in parts, the others stay."""
        waiting = self._ranges(statement, held)[::-1]
        while waiting:
            if self.clock.monotonic_ns() > until_ns:
                raise WarehouseError(self._late())
            symbols = waiting.pop()
            self.asked += 1
            try:
                self._add(check, statement, held, symbols, result)
            except DatabaseError as error:
                if OVER_MEMORY not in str(error):
                    raise
                self.refused += 1
                parts = self._parts(statement, held, symbols)
                if len(parts) < 2:
                    raise WarehouseError(self._advice(parts, error)) from None
                waiting += parts[::-1]

    @property
    def _allowed_s(self) -> float:
        return TIMES * self.day.settings.quality.statement_s

    def _late(self) -> str:
        """What to do when the check took too long."""
        return (
            f"not judged within {self._allowed_s:,.0f} s, {TIMES} times L2_QUALITY__STATEMENT_S: of {self.asked:,} statements"
            f" {self.refused:,} were refused for memory; audit the date again when the warehouse does less, or set"
            " L2_QUALITY__STATEMENT_S higher (and L2_QUALITY__MEMORY_BYTES_MAX, when many were refused)"
        )

    def _advice(self, alone: Sequence[Symbols], error: DatabaseError) -> str:
        """What to do when a range cannot be cut: it is `alone`, one symbol, or the statement goes in one piece only."""
        allowed = self.day.settings.quality.memory_bytes_max
        tried = f"even for symbol {alone[0][0]} alone" if alone else "and it goes in one piece only"
        if WHOLE in str(error):
            return (
                f"{OVER_MEMORY}: the warehouse as a whole is at its bound, {tried}: audit the date again when it does less, or set"
                f" L2_WAREHOUSE__MEMORY_BYTES_MAX higher; {error}"
            )
        return (
            f"{OVER_MEMORY}: a statement may use {allowed:,} bytes and needs more, {tried}: set L2_QUALITY__MEMORY_BYTES_MAX higher,"
            f" then audit the date again; {error}"
        )

    def _ranges(self, statement: Statement, held: Held | None) -> list[Symbols | None]:
        """Ranges of symbols that a statement runs for, of at most as many rows as it may look at; None: of all symbols."""
        quality = self.day.settings.quality
        most = quality.group_rows if held is not None else quality.join_rows
        table = table_of(statement)
        if not table or (held.rows if held is not None else self.day.rows(table)) <= most:
            return [None]
        ranges = ranges_of(self._counts(table, held), most)
        return [*ranges] if len(ranges) > 1 else [None]

    def _parts(self, statement: Statement, held: Held | None, symbols: Symbols | None) -> list[Symbols]:
        """The parts of a range, at least two; one when it is a single symbol, none when the statement goes in one piece only."""
        table = table_of(statement)
        if not table:
            return []
        counts = self._counts(table, held)
        if symbols is not None:
            counts = [count for count in counts if symbols[0] <= count[0] <= symbols[1]]
        return ranges_of(counts, sum(rows for _, rows in counts) // SPLIT)

    def _counts(self, table: str, held: Held | None) -> Sequence[Sequence[Any]]:
        """Symbols and their rows in a table, in order: of a stream, or of all streams together."""
        stream = held.stream if held is not None else ""
        key = (table, stream)
        if key not in self.counts:
            sql = f"""
                SELECT toString(symbol) AS name, count() FROM {self._database}.{table}
                WHERE session_date = {{day:Date}} AND ({{stream:String}} = '' OR stream = {{stream:String}})
                GROUP BY name ORDER BY name"""  # noqa: S608 - names are ours
            parameters = {"day": self.day.session_date, "stream": stream}
            self.counts[key] = self.client.query(sql, parameters=parameters).result_rows
        return self.counts[key]

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

    def _add(self, check: Check, statement: Statement, held: Held | None, symbols: Symbols | None, result: CheckResult) -> None:
        """Run a statement over a range and add what it found; of all findings the worst are kept."""
        quality = self.day.settings.quality
        first, last = symbols or ("", "")
        values = self._values(statement, held) | {"first": first, "last": last}
        text = self._text(statement, ranged=symbols is not None)
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
        result.findings.sort(key=lambda found: (found.severity != "error", -found.value))
        del result.findings[quality.findings_max :]

    @property
    def _database(self) -> str:
        return self.day.settings.clickhouse.database


def table_of(statement: Statement) -> str:
    """The table whose rows its ranges of symbols are made by; empty when it goes in one piece only."""
    return (statement.table if statement.by_symbols else "") if statement.table else statement.ranged_by


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


def ranges_of(counts: Any, most: int) -> list[Symbols]:
    """First and last symbol of ranges of at most `most` rows (a larger symbol is one of its own), from (symbol, rows) in order."""
    ranges: list[Symbols] = []
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

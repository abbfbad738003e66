"""What a check is: a rule declared as data. Running one is `execution`, the declarations are the modules beside this one.

A rule is one or more SQL statements over stored rows of one session date; it labels, and never deletes or changes a row. The text
of a statement is filled twice: `$name` by the program (names of tables, expressions that many rules share), `{name:Type}` by the
warehouse (values). What does not belong here: running statements, storing what they found.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from l2_platform.quality.day import Day

Severity = Literal["warn", "error"]
Form = Literal["rows", "groups"]
MARKET: Final = ("trades", "quotes", "depth_updates", "book_snapshots")
"""Tables that are judged row by row."""
FRAGMENTS: Final = {
    "moment": "toUnixTimestamp64Nano(if(source = 'live', ts_recv, ifNull(ts_event, ts_recv)))",
    "regular": "(ts >= {open_ns:Int64} AND ts < {close_ns:Int64})",
    "episode": "intDiv(ts, {episode_ns:Int64})",
    "before": "PARTITION BY symbol ORDER BY seq ROWS BETWEEN 1 PRECEDING AND CURRENT ROW",
    "after": "PARTITION BY symbol ORDER BY seq ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING",
    "so_far": "PARTITION BY symbol ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
}
"""`$name` → SQL: when a row happened (ns; received, or for imports and history the event's own time), whether that is in regular
trading without the auctions' margins, the stretch of time that findings are gathered in, and window frames."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One SELECT of a rule.

    `rows`: one row a stored row with columns symbol, ts, ts_end, seq, level (0 fine, 1 warn, 2 error), value, run, detail; flagged rows
    of a symbol with equal level and run become one finding. `groups`: what was found already, one row a group of stored rows with
    columns stream, symbol, level, looked, flagged, ts_from, ts_to, seq_from, seq_to, value, detail. Times are ns.
    """

    table: str
    """The table that is judged: the statement runs for each of its streams, in ranges of symbols; empty: once for the date."""
    sql: str
    form: Form = "rows"
    by_symbols: bool = True
    """It may run for a range of symbols at a time."""
    ranged_by: str = ""
    """Without `table`: it runs for ranges of symbols that have `quality.join_rows` rows in this table, in all streams together."""
    sources: tuple[str, ...] = ("live", "import", "history")
    """Streams it judges."""
    value: Literal["max", "sum", "count"] = "max"
    """How the values of flagged rows become the value of a finding."""
    warn: str = ""
    """Setting of the group `quality`: least value of a finding of level 1; empty: every flagged row counts."""
    error: str = ""
    """The same for level 2."""
    span: str = ""
    """Setting: least time between the first and the last flagged row of a finding, s."""
    needs: tuple[str, ...] = ()
    """Further tables that it reads."""


def nothing_missing(_day: Day) -> str:
    """For rules that can always be judged."""
    return ""


@dataclass(frozen=True, slots=True)
class Check:
    """One declared rule."""

    name: str
    """What is true when nothing is found."""
    number: int
    """Its number in docs/quality.md, 1 to 18."""
    table: str
    """Table whose health it tells."""
    meaning: str
    """The rule in one sentence."""
    provenance: str
    """Where it comes from: paper, venue rule, practice."""
    severity: Severity
    """The worst that it can find."""
    thresholds: tuple[str, ...]
    """Settings of the group `quality` that it uses."""
    statements: tuple[Statement, ...]
    unfit: Callable[[Day], str] = nothing_missing
    """Why there is nothing that it could judge on this date; empty: there is."""
    none_is_fine: bool = False
    """No row to judge is what it hopes for; otherwise it is then not evaluated."""


def require_stream_of(*tables: str) -> Callable[[Day], str]:
    """`unfit` of a rule that needs rows in each of these tables."""

    def reason(day: Day) -> str:
        empty = [table for table in tables if not day.rows(table)]
        return f"no row of {' and '.join(empty)} on this date" if empty else ""

    return reason


def require_any_of(*tables: str) -> Callable[[Day], str]:
    """`unfit` of a rule that needs rows in one of these tables."""

    def reason(day: Day) -> str:
        return "" if any(day.rows(table) for table in tables) else f"no row of {' or '.join(tables)} on this date"

    return reason

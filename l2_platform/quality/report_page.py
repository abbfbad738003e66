"""The daily report as a page: one HTML file that needs nothing else, light, and short enough for one or two sheets of paper.

What does not belong here: judging (report_verdict), reading (report_queries).
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from l2_platform import __version__
from l2_platform.quality.ledger import LedgerGap
from l2_platform.quality.report_facts import Closed, DayFacts, Part, Recorded
from l2_platform.quality.report_svg import COLOURS, Mark, heat_svg, latency_svg, spread_svg, timeline_svg
from l2_platform.quality.report_verdict import FIXED, Verdict, counted, counts_of, is_unexplained, lost_s, quotes_lost

BYTES_UNITS: Final = ("B", "KB", "MB", "GB", "TB")


def render(facts: DayFacts, verdict: Verdict, rows: int) -> str:
    """The page; `rows`: how many lines a table of it has at most."""
    clock = clock_of(facts.zone)
    pictures = {
        "heat": _drawn(facts.heat, lambda heat: heat_svg(heat, clock)),
        "spread": _drawn(facts.course, lambda course: spread_svg(course, clock)),
        "latency": _drawn(facts.course, lambda course: latency_svg(course, clock)),
        "timeline": _drawn(facts.gaps, lambda gaps: _timeline(facts, gaps, clock)),
    }
    return _template().render(
        facts=facts, verdict=verdict, version=__version__, made=_moment(facts.now_ns, facts.zone), zone=facts.zone,
        tables=table_rows(facts), gaps=_gap_rows(facts, clock, rows), counts=gap_counts(facts), repairs=repairs(facts),
        audit=facts.audit, rows=rows, counts_of=counts_of, pictures=pictures, colours=COLOURS, clock=clock,
    )  # fmt: skip


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("l2_platform.quality", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["size"] = bytes_text
    return environment.get_template("report_page.html")


def clock_of(zone: str) -> Callable[[int], str]:
    """Time of day as `09:30` in that zone, of ns UTC."""
    place = ZoneInfo(zone)
    return lambda ts: datetime.fromtimestamp(ts // 10**9, place).strftime("%H:%M")


def bytes_text(size: float) -> str:
    """A size for people: `1.4 GB`."""
    unit = 0
    while size >= 1000 and unit < len(BYTES_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {BYTES_UNITS[unit]}" if unit == 0 else f"{size:.1f} {BYTES_UNITS[unit]}"


def seconds_text(seconds: float) -> str:
    """A length of time: `0.4 s`, `90.0 s`, `2 h 05 min`."""
    if seconds < 600:
        return f"{seconds:,.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _moment(ts: int, zone: str) -> str:
    return datetime.fromtimestamp(ts // 10**9, UTC).astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")


def _drawn(part: Part[Any], draw: Callable[[Any], Any]) -> Any:
    return draw(part.value) if part.known else part.text


def table_rows(facts: DayFacts) -> list[dict[str, Any]]:
    """One row a table: rows now, at the close and on the date before, symbols, bytes, first and last row."""
    recorded, closed = facts.recorded.value or Recorded(), facts.closed.value
    clock = ZoneInfo(facts.zone)
    found = []
    for table in dict.fromkeys([*(item.table for item in recorded.rows), *recorded.unread]):
        items = [item for item in recorded.rows if item.table == table]
        bounds = (min(item.first_ns for item in items), max(item.last_ns for item in items)) if items else ()
        found.append({
            "table": table, "rows": sum(item.rows for item in items), "streams": len(items),
            "symbols": max((item.symbols for item in items), default=0), "unread": recorded.unread.get(table, ""),
            "before": closed.rows_before.get(table) if closed else None, "bytes": _bytes_of(closed, table),
            "bounds": [datetime.fromtimestamp(ts / 1e9, clock).strftime("%H:%M:%S") for ts in bounds],
        })  # fmt: skip
    return found


def _bytes_of(closed: Closed | None, table: str) -> int | None:
    return sum(row.table_bytes for row in closed.rows if row.table == table) if closed else None


def gap_counts(facts: DayFacts) -> dict[str, float]:
    """Numbers of gaps and their time; empty when the ledger could not be read."""
    if facts.gaps.value is None:
        return {}
    lengths = [(gap, length_s(gap, facts)) for gap in facts.gaps.value]
    return {
        "all": len(lengths), "short": sum(seconds > facts.bounds.warn_s for _, seconds in lengths),
        "long": sum(seconds > facts.bounds.error_s for _, seconds in lengths),
        "unexplained": sum(is_unexplained(gap) for gap, _ in lengths),
        "explained": sum(bool(gap.explanation) for gap, _ in lengths),
        "repaired": sum(gap.repair_state in FIXED for gap, _ in lengths),
        "rows_recovered": sum(gap.rows_recovered for gap, _ in lengths),
    }  # fmt: skip


def length_s(gap: LedgerGap, facts: DayFacts) -> float:
    """Length of a gap, s; an open one lasts to the end of the session, or until now."""
    return gap.seconds(min(facts.now_ns, facts.windows[-1].end))


def _gap_rows(facts: DayFacts, clock: Callable[[int], str], most: int) -> dict[str, Any]:
    """Gaps of more than a second: those without an explanation first, then by length."""
    gaps = [
        gap
        for gap in facts.gaps.value or []
        if length_s(gap, facts) > facts.bounds.warn_s or gap.cause == "missing_prints"
    ]
    gaps.sort(key=lambda gap: (not is_unexplained(gap), -length_s(gap, facts), gap.ts_from))
    shown = [_gap_row(gap, facts, clock) for gap in gaps[:most]]
    return {"shown": shown, "more": len(gaps) - len(shown)}


def _gap_row(gap: LedgerGap, facts: DayFacts, clock: Callable[[int], str]) -> dict[str, Any]:
    seconds, state = length_s(gap, facts), gap_state(gap)
    why = gap.explanation.replace("_", " ") or ("unexplained" if state == "unexplained" else "")
    return {
        "from": clock(gap.ts_from), "length": seconds_text(seconds), "long": seconds > facts.bounds.error_s, "stream": gap.stream,
        "symbols": _symbols(gap), "cause": gap.cause.replace("_", " "), "state": state, "why": why,
        "repair": gap.repair_state.replace("_", " ") or "not tried", "residual": gap.residual, "open": gap.state == "open",
    }  # fmt: skip


def _symbols(gap: LedgerGap) -> str:
    if not gap.symbols:
        return "all"
    return ", ".join(gap.symbols[:2]) + (f" and {len(gap.symbols) - 2} more" if len(gap.symbols) > 2 else "")


def gap_state(gap: LedgerGap) -> str:
    """unexplained, repaired or explained: its colour."""
    return "unexplained" if is_unexplained(gap) else "explained" if gap.explanation else "repaired"


def _timeline(facts: DayFacts, gaps: list[LedgerGap], clock: Callable[[int], str]) -> Any:
    if not gaps:
        return "no gap is recorded"
    marks = [
        Mark(
            gap.stream, gap.ts_from, facts.now_ns if gap.ts_to is None else gap.ts_to, gap_state(gap),
            f"{clock(gap.ts_from)}, {seconds_text(length_s(gap, facts))}: {gap.cause}, {gap.explanation or gap_state(gap)}",
        )
        for gap in gaps
    ]  # fmt: skip
    return timeline_svg(marks, facts.windows[0].start, facts.windows[-1].end, clock)


def repairs(facts: DayFacts) -> list[str]:
    """What was mended, a sentence each."""
    found = []
    counts = gap_counts(facts)
    if counts and (counts["repaired"] or counts["rows_recovered"]):
        found.append(
            f"{counted(counts['repaired'], 'gap')} from history, {counted(counts['rows_recovered'], 'row')} recovered"
        )
    if gone := quotes_lost(facts):
        seconds = sum(lost_s(gap, facts) for gap in gone)
        found.append(
            f"quotes of {seconds_text(seconds)} stay lost: history has the prints of {counted(len(gone), 'gap')}, and no quotes"
        )
    states = [gap.repair_state for gap in facts.gaps.value or [] if gap.repair_state and gap.repair_state not in FIXED]
    found += [f"{counted(states.count(state), 'gap')} {text}" for state, text in _NOT_MENDED.items() if state in states]
    if facts.closed.value is not None:
        rebuilt = {row.stream: row.reason for row in facts.closed.value.rows if row.rebuilt}
        found += [
            f"stream {stream} was rebuilt from the journal at the close: {reason}" for stream, reason in rebuilt.items()
        ]
    for entry in facts.stores.value or []:
        if entry.state == "healed":
            found.append(
                f"{entry.store} {entry.table} of {entry.stream}: {entry.differences:,} differences, rebuilt, equal to the journal now"
            )
    return found


_NOT_MENDED: Final = {
    "partial": "repaired in part",
    "failed": "not repaired: the attempt failed",
}

"""Rows of a figure as a table for a terminal or a page: median (lowest–highest) of what was measured several times.

What does not belong here: what is in the rows (figures), where the tables go (report.py, __main__.py).
"""

from collections.abc import Iterable, Sequence

from benchmarks.figure import Row, Spread, Value


def number(value: float) -> str:
    """Three digits that count, thousands separated: 12.3, 1,230, 0.0123."""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100 or value == int(value):
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1:
        return f"{value:.2f}"
    return f"{value:.2f}" if size >= 0.1 else f"{value:.2g}"


def cell(value: Value | None) -> str:
    """One value as text; `12.3 (11.9–12.6)` for a spread."""
    if value is None:
        return ""
    if isinstance(value, Spread):
        if len(value.values) == 1:
            return number(value.median)
        return f"{number(value.median)} ({number(value.low)}–{number(value.high)})"
    if isinstance(value, float):
        return number(value)
    return f"{value:,}" if isinstance(value, int) else value


def columns_of(rows: Iterable[Row]) -> list[str]:
    """Every column that some row has, in the order they appear."""
    return list(dict.fromkeys(name for row in rows for name in row))


def passes_of(rows: Iterable[Row]) -> str:
    """"7" or "3–7": how often the spreads were measured; empty when there is none."""
    counts = {len(value.values) for row in rows for value in row.values() if isinstance(value, Spread)}
    if not counts:
        return ""
    return str(min(counts)) if len(counts) == 1 else f"{min(counts)}–{max(counts)}"


def markdown(rows: Sequence[Row]) -> list[str]:
    """A table for a page, numbers to the right."""
    names = columns_of(rows)
    words = {name for name in names if any(isinstance(row.get(name), str) for row in rows)}
    lines = [
        "| " + " | ".join(names) + " |",
        "|" + "|".join("---" if name in words else "---:" for name in names) + "|",
    ]
    lines += ["| " + " | ".join(cell(row.get(name)).replace("|", "\\|") for name in names) + " |" for row in rows]
    return lines


def plain(rows: Sequence[Row]) -> list[str]:
    """A table for a terminal, columns aligned."""
    names = columns_of(rows)
    texts = [names, *([cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[place]) for line in texts) for place in range(len(names))]
    words = [any(isinstance(row.get(name), str) for row in rows) for name in names]
    return [
        "  ".join(
            text.ljust(width) if left else text.rjust(width)
            for text, width, left in zip(line, widths, words, strict=True)
        ).rstrip()
        for line in texts
    ]

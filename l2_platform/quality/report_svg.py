"""The pictures of the daily report as SVG text: heat map, courses, timeline. Numbers in, markup out; no script, no address.

Text from the feed (symbols) is escaped here. What does not belong here: where the numbers come from, the page around them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

from l2_platform.quality.report_facts import Course, Heat

WIDTH: Final = 720
LEFT: Final = 96
NO_ROW, OUTSIDE = "#f6c9c4", "#f3f4f6"
SHADES: Final = ("#e3edf9", "#bcd6f2", "#86b4e4", "#4a8bd0", "#1f63ab")
"""Up to 12, 24, 36, 48, 60 minutes of an hour."""
LINES: Final = ("#1f63ab", "#b4540a")
COLOURS: Final = {"unexplained": "#b3261e", "repaired": "#1f63ab", "explained": "#8a94a6"}
"""State of a gap → colour."""
LANES_MAX: Final = 12
MARKS_MAX: Final = 500
ClockText = Callable[[int], str]
"""ns UTC → `09:30` in the zone of the page."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A stretch of time in a lane of a timeline."""

    lane: str
    from_ns: int
    to_ns: int
    state: str
    """Key of COLOURS."""
    title: str


def heat_svg(heat: Heat, clock: ClockText) -> Markup:
    """One row a symbol, one column an hour; the more minutes have a row, the darker; red: an hour without any row between two with."""
    cell, line = (WIDTH - LEFT) / max(len(heat.begins), 1), 13
    parts = []
    for place, begin in enumerate(heat.begins):
        if place % max(1, len(heat.begins) // 12) == 0:
            parts.append(_text(LEFT + place * cell, 9, clock(begin)))
    for row, (symbol, minutes) in enumerate(zip(heat.symbols, heat.minutes, strict=True)):
        top = 14 + row * line
        parts.append(_text(LEFT - 4, top + 9, symbol[:14], anchor="end"))
        seen = [place for place, count in enumerate(minutes) if count]
        for place, count in enumerate(minutes):
            between = bool(seen) and seen[0] < place < seen[-1]
            colour = _shade(count) if count else NO_ROW if between or not seen else OUTSIDE
            title = f"{symbol} {clock(heat.begins[place])}: {count} minutes with rows"
            parts.append(_box(LEFT + place * cell, top, cell - 1, line - 1, colour, title))
    height = 16 + len(heat.symbols) * line
    return _svg(WIDTH, height, "minutes with rows, by symbol and hour", parts)


def _shade(minutes: int) -> str:
    return SHADES[min(len(SHADES) - 1, max(0, (min(minutes, 60) - 1) // 12))]


def spread_svg(course: Course, clock: ClockText) -> Markup:
    """Median spread over the session, basis points."""
    return _lines(course, [course.spread_bp], "median spread, basis points", clock)


def latency_svg(course: Course, clock: ClockText) -> Markup:
    """Latency over the session: median and 99th percentile, ms."""
    return _lines(
        course, [course.latency_p50_ms, course.latency_p99_ms], "latency, ms: median (blue) and 99th percentile", clock
    )


def _lines(course: Course, series: Sequence[Sequence[float | None]], title: str, clock: ClockText) -> Markup:
    width, height, left, bottom = 356, 104, 44, 88
    values = [value for numbers in series for value in numbers if value is not None]
    low, high = min(0.0, *values, 0.0), max(values, default=0.0)
    span = (high - low) or 1.0
    bars = max(len(course.spread_bp), 1)
    parts = [
        _text(left, 9, title),
        _text(left - 4, 22, _number(high), anchor="end"),
        _text(left - 4, bottom, _number(low), anchor="end"),
    ]
    parts.append(Markup('<path d="M{0} 16V{1}H{2}" fill="none" stroke="#c9ced8"/>').format(left, bottom, width))
    for place in range(0, bars, max(1, bars // 4)):
        at = clock(course.start_ns + place * course.step_s * 10**9)
        parts += [_text(left + place * (width - left) / bars, height - 4, at)]
    for numbers, colour in zip(series, LINES, strict=False):
        path, drawn = "", False
        for place, value in enumerate(numbers):
            if value is None:
                drawn = False
                continue
            across = left + (place + 0.5) * (width - left) / bars
            # a short stroke of its own, so that a bar between two empty ones is seen
            path += f"{'L' if drawn else 'M'}{across:.1f} {bottom - (value - low) / span * (bottom - 18):.1f}{'' if drawn else 'h1'}"
            drawn = True
        parts.append(Markup('<path d="{0}" fill="none" stroke="{1}" stroke-width="1.4"/>').format(path, colour))
    if not values:
        parts.append(_text(left + 8, 52, "no value"))
    return _svg(width, height, title, parts)


def timeline_svg(marks: Sequence[Mark], start_ns: int, end_ns: int, clock: ClockText) -> Markup:
    """Gaps over the session, one lane a stream; what is longer than a bar is wide has its true width."""
    lanes = sorted({mark.lane for mark in marks})[:LANES_MAX]
    line, span = 16, max(end_ns - start_ns, 1)
    parts = [
        _text(LEFT + part * (WIDTH - LEFT) / 6, 9, clock(start_ns + part * span // 6)) for part in range(6)
    ]  # fmt: skip
    for number, lane in enumerate(lanes):
        top = 14 + number * line
        parts.append(_text(LEFT - 4, top + 10, lane if len(lane) <= 17 else f"…{lane[-16:]}", anchor="end"))
        parts.append(_box(LEFT, top, WIDTH - LEFT, line - 3, OUTSIDE, lane))
        for mark in [mark for mark in marks if mark.lane == lane][:MARKS_MAX]:
            begin, end = (min(max(ts, start_ns), end_ns) - start_ns for ts in (mark.from_ns, mark.to_ns))
            across, width = begin / span * (WIDTH - LEFT), max((end - begin) / span * (WIDTH - LEFT), 1.5)
            colour = COLOURS[mark.state]
            parts.append(_box(LEFT + min(across, WIDTH - LEFT - 1.5), top, width, line - 3, colour, mark.title))
    return _svg(WIDTH, 16 + max(len(lanes), 1) * line, "gaps over the session", parts)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _text(across: float, down: float, text: str, *, anchor: str = "start") -> Markup:
    place = Markup('<text x="{0}" y="{1}" text-anchor="{2}">{3}</text>')
    return place.format(f"{across:.1f}", f"{down:.1f}", anchor, text)


def _box(across: float, down: float, width: float, height: float, colour: str, title: str) -> Markup:
    box = Markup('<rect x="{0}" y="{1}" width="{2}" height="{3}" fill="{4}"><title>{5}</title></rect>')
    return box.format(f"{across:.1f}", f"{down:.1f}", f"{width:.1f}", f"{height:.1f}", colour, title)


def _svg(width: int, height: int, title: str, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg viewBox="0 0 {0} {1}" role="img" aria-label="{2}">').format(width, height, escape(title))
    return head + Markup("").join(parts) + Markup("</svg>")

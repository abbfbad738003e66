"""Small pictures and tables for the UI: bar plots and heat maps as inline PNG, made here in a few lines, and Markdown tables.

They live in the event log, and the UI shows Markdown at once only up to about a thousand characters: a plot stays
under that. What does not belong here: where the numbers come from.
"""

import base64
import struct
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np

WIDTH, HEIGHT = 600, 100
BAR: Final = (67, 97, 238)
BACKGROUND: Final = (246, 248, 252)
GRID: Final = (214, 220, 232)
NOTHING: Final = (207, 34, 46)
LITTLE: Final = (168, 184, 245)
CELL_WIDTH: Final = 24
CELL_HEIGHT: Final = 8
"""Of a heat map, pixels; the last line of a cell is empty. A width that is a multiple of 4 is whole bytes."""
CELLS_MAX: Final = 480
"""Cells of a heat map: so many fit into what the UI shows at once, whatever is in them."""
HALF: Final = 0.5
AT_ONCE_CHARS: Final = 980
"""Of Markdown in metadata: what is longer, the UI hides behind a button."""
CUT_MIN: Final = 20
CUT_STEP: Final = 5


def bar_plot_png(values: Sequence[int]) -> bytes:
    """Bars from 0 to the greatest value, left to right, with grid lines at quarters, in three colours."""
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[[HEIGHT // 4, HEIGHT // 2, 3 * HEIGHT // 4], :] = 2
    top = max(values, default=0)
    for number, value in enumerate(values):
        left, right = number * WIDTH // len(values), (number + 1) * WIDTH // len(values)
        gap = 1 if right - left > 3 else 0
        height = round(value / top * (HEIGHT - 4)) if top else 0
        # a bar that holds anything is seen
        height = max(height, 1) if value else 0
        pixels[HEIGHT - height :, left : max(right - gap, left + 1)] = 1
    pixels[HEIGHT - 1, :] = np.where(pixels[HEIGHT - 1, :] == 1, 1, 2)
    # Two bits a pixel, each row as the difference to the one above: rows of a bar plot hardly differ.
    packed = (pixels.reshape(HEIGHT, WIDTH // 4, 4) << np.array([6, 4, 2, 0], np.uint8)).sum(axis=2, dtype=np.uint8)
    above = np.vstack([np.zeros((1, WIDTH // 4), np.uint8), packed[:-1]])
    rows = b"".join(b"\2" + row.tobytes() for row in packed - above)
    return _png(WIDTH, HEIGHT, (BACKGROUND, BAR, GRID), rows)


def heat_map_png(shares: Sequence[Sequence[float | None]]) -> bytes:
    """Cells of a share: at least half, less, nothing (0), empty (None). Rows are equally long; at most `CELLS_MAX` cells."""
    lines = []
    for row in shares:
        # two bits a pixel, four equal ones a byte
        colours = np.array([_level(share) * 0x55 for share in row], np.uint8).repeat(CELL_WIDTH // 4)
        lines.append(b"\0" + colours.tobytes())
        # the same again, then the line between rows
        lines += [b"\2" + bytes(len(colours))] * (CELL_HEIGHT - 2)
        lines.append(b"\0" + bytes(len(colours)))
    columns = max((len(row) for row in shares), default=0)
    return _png(columns * CELL_WIDTH, len(lines), (BACKGROUND, NOTHING, LITTLE, BAR), b"".join(lines))


def _level(share: float | None) -> int:
    """Place in the palette."""
    if share is None:
        return 0
    return 1 if share <= 0 else 2 if share < HALF else 3


def _png(width: int, height: int, palette: Sequence[tuple[int, int, int]], lines: bytes) -> bytes:
    """A picture of two bits a pixel; `lines`: filtered, each behind the number of its filter."""
    header = struct.pack(">IIBBBBB", width, height, 2, 3, 0, 0, 0)
    colours = bytes(part for colour in palette for part in colour)
    chunks = ((b"IHDR", header), (b"PLTE", colours), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def rate_plot(start_ns: int, step_s: int, rows: Sequence[int]) -> str:
    """Markdown: rows per second over time, with what the axes mean; times in UTC."""
    if not rows:
        return "no rows"
    image = base64.b64encode(bar_plot_png(rows)).decode("ascii")
    end_ns = start_ns + len(rows) * step_s * 10**9
    peak = max(rows) / step_s
    return (
        f"{clock_text(start_ns)} – {clock_text(end_ns)} UTC, one bar = {_duration(step_s)}, "
        f"highest bar = {peak:,.1f} rows/s\n\n![rows per second](data:image/png;base64,{image})"
    )


def heat_plot(shares: Sequence[Sequence[float | None]], axes: str) -> str:
    """Markdown: a heat map of shares of the usual rows; `axes` says what rows and columns are."""
    if not any(shares):
        return "nothing to show"
    image = base64.b64encode(heat_map_png(shares)).decode("ascii")
    legend = "dark = at least half of the usual rows, light = fewer, red = none, empty = none usual"
    return f"{axes}; {legend}\n\n![heat map](data:image/png;base64,{image})"


def _duration(step_s: int) -> str:
    return f"{step_s // 3600} h" if step_s >= 3600 else f"{step_s // 60} min" if step_s >= 60 else f"{step_s} s"


def clock_text(ts_ns: int) -> str:
    """Time of day, UTC."""
    return datetime.fromtimestamp(ts_ns // 10**9, UTC).strftime("%H:%M:%S")


def time_text(ts_ns: int) -> str:
    """Date and time in UTC with microseconds."""
    whole, rest = divmod(ts_ns, 10**9)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%d %H:%M:%S}.{rest // 1000:06d} UTC"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; numbers with thousands separators."""
    lines = [_line(header), _line(["---"] * len(header)), *(_line([_text(cell) for cell in row]) for row in rows)]
    return "\n".join(lines)


def table_at_once(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """The same, its last cells cut so far that the UI shows it at once: whoever shows it says the whole texts elsewhere."""
    texts = [[_text(cell) for cell in row] for row in rows]
    longest = max((len(row[-1]) for row in texts), default=0)
    for most in range(longest, CUT_MIN, -CUT_STEP):
        cut = [[*row[:-1], row[-1] if len(row[-1]) <= most else f"{row[-1][: most - 2]} …"] for row in texts]
        table = markdown_table(header, cut)
        if len(table) <= AT_ONCE_CHARS:
            return table
    return markdown_table(header, [[*row[:-1], row[-1][:CUT_MIN]] for row in texts])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _text(cell: object) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:,.2f}"
    if isinstance(cell, int) and not isinstance(cell, bool):
        return f"{cell:,}"
    # either would end the cell, and with it the table
    return " ".join(str(cell).replace("|", "/").split())


def bytes_text(size: int) -> str:
    """A size that people read."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"

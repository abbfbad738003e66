import base64
import struct
import zlib

import numpy as np
import pytest

from l2_platform.assets.plots import (
    AT_ONCE_CHARS,
    CELL_HEIGHT,
    CELL_WIDTH,
    CELLS_MAX,
    HEIGHT,
    WIDTH,
    bar_plot_png,
    bytes_text,
    heat_map_png,
    heat_plot,
    markdown_table,
    rate_plot,
    table_at_once,
    time_text,
)

START = 1_753_437_600 * 10**9


def pixels(png):
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at = 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length)[0] == zlib.crc32(kind + data)
        if kind == b"IDAT":
            lines = np.frombuffer(zlib.decompress(data), np.uint8).reshape(HEIGHT, WIDTH // 4 + 1)
            assert (lines[:, 0] == 2).all(), "every row is a difference to the one above"
            packed = np.cumsum(lines[:, 1:], axis=0, dtype=np.uint8)
            return np.stack([packed >> shift & 3 for shift in (6, 4, 2, 0)], axis=2).reshape(HEIGHT, WIDTH)
        at += 12 + length
    return np.zeros((0, 0), np.uint8)


def test_bar_plot_heights_follow_values():
    rows = pixels(bar_plot_png([0, 5, 10]))
    heights = [int((rows[:, WIDTH // 6 + third * WIDTH // 3] == 1).sum()) for third in range(3)]
    assert heights == [0, (HEIGHT - 4) // 2, HEIGHT - 4]


def test_bar_plot_of_nothing_and_of_many_bars_is_a_whole_picture():
    for values in ([], [0], list(range(2000))):
        assert len(pixels(bar_plot_png(values))) == HEIGHT


def cells(png):
    """Colours in the middle of each cell, by the bytes of the file alone."""
    width, height, bits, kind = struct.unpack_from(">IIBB", png, 16)
    assert (bits, kind, png[12:16]) == (2, 3, b"IHDR")
    (length,) = struct.unpack_from(">I", png, png.index(b"IDAT") - 4)
    at = png.index(b"IDAT") + 4
    lines = np.frombuffer(zlib.decompress(png[at : at + length]), np.uint8).reshape(height, width // 4 + 1)
    above, shown = np.zeros(width // 4, np.uint8), []
    for line in lines:
        # filter 0: as it is; 2: the difference to the line above
        above = line[1:] + (above if line[0] == 2 else 0)
        shown.append(above)
    assert not np.any(shown[CELL_HEIGHT - 1 :: CELL_HEIGHT]), "an empty line between rows"
    packed = np.array(shown)[CELL_HEIGHT - 2 :: CELL_HEIGHT, CELL_WIDTH // 8 :: CELL_WIDTH // 4]
    assert set(np.unique(packed)) <= {0, 0x55, 0xAA, 0xFF}, "a byte is of one colour"
    return (packed & 3).tolist()


def test_heat_map_shows_a_share_in_each_cell():
    assert cells(heat_map_png([[None, 0.0, 0.01, 0.49], [0.5, 1.0, 30.0, None]])) == [[0, 1, 2, 2], [3, 3, 3, 0]]
    assert heat_plot([], "rows") == "nothing to show"


@pytest.mark.parametrize("columns", [1, 10, 16, 24])
def test_heat_map_of_any_day_stays_inline_in_the_ui(columns):
    levels = [None, 0.0, 0.2, 0.9]
    noise = np.random.default_rng(7).integers(0, 4, (min(30, CELLS_MAX // columns), columns)).tolist()
    axes = "one row = one symbol (coverage_rows), one column = one hour, 04:00 to 20:00 New York"
    text = heat_plot([[levels[level] for level in row] for row in noise], axes)
    assert len(text) < 1_000
    assert cells(base64.b64decode(text.rpartition("base64,")[2].rstrip(")"))) == noise


def test_rate_plot_is_small_and_says_what_it_shows():
    text = rate_plot(START, 60, [30, 600, 60])
    assert "10:00:00 – 10:03:00 UTC, one bar = 1 min, highest bar = 10.0 rows/s" in text
    assert base64.b64decode(text.rpartition("base64,")[2].rstrip(")")).startswith(b"\x89PNG")


def test_rate_plot_without_rows_says_so():
    assert rate_plot(START, 60, []) == "no rows"


def test_markdown_table_formats_numbers_and_missing_values():
    table = markdown_table(("a", "b"), [(1234567, None), (1.5, "x")])
    assert table.splitlines() == ["| a | b |", "| --- | --- |", "| 1,234,567 | – |", "| 1.50 | x |"]


def test_a_cell_of_any_text_stays_one_cell():
    table = markdown_table(("a", "b"), [("one|two", "first\nsecond\r\n  third"), ("", "|")])
    assert table.splitlines()[2:] == ["| one/two | first second third |", "|  | / |"]


def test_sizes_and_times_are_readable():
    assert [bytes_text(size) for size in (0, 1023, 1536, 5 << 30, 3 << 40)] == ["0 B", "1,023 B", "1.5 KiB", "5.0 GiB", "3.0 TiB"]
    assert time_text(START + 123_456_789) == "2025-07-25 10:00:00.123456 UTC"


def test_rate_plot_of_any_day_stays_inline_in_the_ui():
    noise = np.random.default_rng(5).integers(0, 5_000, 60).tolist()
    assert len(rate_plot(START, 1800, noise)) < 1_000


@pytest.mark.parametrize("chars", [10, 200, 5000])
def test_a_table_for_the_first_look_is_cut_until_the_ui_shows_it(chars: int) -> None:
    rows = [(f"promise_{number}", "NOT KEPT", "x" * chars) for number in range(3)]
    rows += [(f"promise_{number}", "kept", "All is well.") for number in range(3, 8)]
    table = table_at_once(("promise", "now", "seen"), rows)
    assert len(table) <= AT_ONCE_CHARS
    lines = table.splitlines()
    assert len(lines) == 10
    assert [line.split("|")[1].strip() for line in lines[2:]] == [row[0] for row in rows]
    assert lines[-1].endswith("All is well. |"), "only what is long is cut"
    assert ("…" in table) == (chars > 200)

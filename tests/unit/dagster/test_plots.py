import base64
import struct
import zlib

import numpy as np

from l2_platform.assets.plots import HEIGHT, WIDTH, bar_plot_png, bytes_text, markdown_table, rate_plot, time_text

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


def test_rate_plot_is_small_and_says_what_it_shows():
    text = rate_plot(START, 60, [30, 600, 60])
    assert "10:00:00 – 10:03:00 UTC, one bar = 1 min, highest bar = 10.0 rows/s" in text
    assert base64.b64decode(text.rpartition("base64,")[2].rstrip(")")).startswith(b"\x89PNG")


def test_rate_plot_without_rows_says_so():
    assert rate_plot(START, 60, []) == "no rows"


def test_markdown_table_formats_numbers_and_missing_values():
    table = markdown_table(("a", "b"), [(1234567, None), (1.5, "x")])
    assert table.splitlines() == ["| a | b |", "| --- | --- |", "| 1,234,567 | – |", "| 1.50 | x |"]


def test_sizes_and_times_are_readable():
    assert [bytes_text(size) for size in (0, 1023, 1536, 5 << 30, 3 << 40)] == ["0 B", "1,023 B", "1.5 KiB", "5.0 GiB", "3.0 TiB"]
    assert time_text(START + 123_456_789) == "2025-07-25 10:00:00.123456 UTC"


def test_rate_plot_of_any_day_stays_inline_in_the_ui():
    noise = np.random.default_rng(5).integers(0, 5_000, 60).tolist()
    assert len(rate_plot(START, 1800, noise)) < 1_000

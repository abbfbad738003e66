"""Wire lines, byte for byte."""

from typing import Any

import numpy as np
import pytest

from l2_platform.feeds.iqfeed.simulator import flow_kernels as flow
from l2_platform.feeds.iqfeed.simulator import line_kernels as lines
from l2_platform.feeds.iqfeed.simulator.history import TradeHistory, bar_rows, daily_bar_rows, tick_lines
from l2_platform.feeds.iqfeed.simulator.layouts import DEFAULT_NAMES, FIELDS, TAIL_NAMES, Layout
from l2_platform.feeds.iqfeed.simulator.live import name_table, new_york_offset

NOW = 1_785_340_800_000_000_000  # 2026-07-29 16:00:00 UTC, 12:00 in New York
OFFSET = -4 * 3600 * 10**9
NAMES, NAME_LEN = name_table(["AAA", "SYM0001"])
VENUES = np.array([list(mmid.encode()) for mmid, _ in flow.VENUES], np.uint8)


def depth(*rows: list[Any]) -> list[str]:
    table = np.array(rows, np.int64)
    out = np.zeros(1000, np.uint8)
    ends, symbols = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int32)
    size = lines.format_depth(table, len(table), NAMES, NAME_LEN, VENUES, OFFSET, out, ends, symbols)
    assert ends[-1] == size
    return out[:size].tobytes().decode().split("\r\n")[:-1]


def test_depth_lines_have_the_layouts_of_protocol_6_2() -> None:
    ts = NOW + 123_456_789
    assert depth(
        [flow.K_ADD, 1, 640, 0, 0, 12345, 200, 99, 0, ts],
        [flow.K_DELETE, 1, 640, 0, 1, 12345, 0, 0, 0, ts],
        [flow.K_UPDATE, 0, 0, 1, 1, 5, 7, 0, 0, ts],
        [flow.K_DELETE, 0, 0, 1, 0, 5, 0, 0, 0, ts],
        [flow.K_LEVEL_UPDATE, 0, 0, 0, 0, 100, 300, 0, 4, ts],
        [flow.K_LEVEL_DELETE, 0, 0, 0, 1, 100, 0, 0, 0, ts],
    ) == [
        "3,SYM0001,640,,B,123.4500,200,99,4,12:00:00.123456,2026-07-29,",
        "5,SYM0001,640,,A,12:00:00.123456,2026-07-29,",
        "4,AAA,,ARCX,A,0.0500,7,,4,12:00:00.123456,2026-07-29,",
        "5,AAA,,ARCX,B,,2026-07-29,",
        "8,AAA,B,1.0000,300,4,4,12:00:00.123456,2026-07-29,",
        "9,AAA,A,1.0000,12:00:00.123456,2026-07-29,",
    ]


def quote() -> np.ndarray:
    row = np.zeros((1, flow.L_COLUMNS), np.int64)
    row[0, flow.L_CONTENTS] = flow.IN_C | flow.IN_BID | flow.IN_VOLUME
    row[0, [flow.L_PRICE, flow.L_SIZE, flow.L_TS, flow.L_CENTER, flow.L_TICK]] = 18835, 100, NOW, 19, 77
    row[0, [flow.L_BID, flow.L_BID_SIZE, flow.L_ASK, flow.L_ASK_SIZE]] = 18825, 300, 18836, 400
    row[0, [flow.L_VOLUME, flow.L_CLOSE, flow.L_AGGRESSOR, flow.L_CONDITION]] = 5000, 18797, 2, flow.CONDITION_REGULAR
    return row


def level1(layout: Layout, letter: str = "Q") -> str:
    kinds, columns = layout.codes()
    out = np.zeros(layout.line_bytes_max, np.uint8)
    ends, symbols, trades = np.zeros(1, np.int64), np.zeros(1, np.int32), np.zeros(1, np.uint8)
    size = lines.format_level1(
        quote(), 1, ord(letter), kinds, columns, NAMES, NAME_LEN, OFFSET, out, ends, symbols, trades
    )
    assert trades[0] == 1
    return out[:size].tobytes().decode()


def test_level1_default_layout_is_that_of_the_protocol() -> None:
    assert level1(Layout(DEFAULT_NAMES + TAIL_NAMES)) == (
        "Q,AAA,188.3500,100,12:00:00.000000,19,5000,188.2500,300,188.3600,400,,,,187.9700,Cbv,01,2,29,\r\n"
    )


def test_every_known_field_can_be_selected_together() -> None:
    text = level1(Layout(tuple(FIELDS)), "P")
    assert text.startswith("P,AAA,")
    assert text.count(",") == 2 + len(FIELDS)


def test_select_keeps_watched_lines_and_trades_only() -> None:
    data = b"a\r\nbb\r\nccc\r\n"
    ends, symbols = np.array([3, 7, 12], np.int64), np.array([0, 1, 1], np.int32)
    trades = np.array([0, 0, 1], np.uint8)
    out = np.zeros(len(data), np.uint8)
    for watch, kept in (([1, 0], b"a\r\n"), ([0, 1], b"bb\r\nccc\r\n"), ([0, 2], b"ccc\r\n"), ([0, 0], b"")):
        size = lines.select_lines(
            np.frombuffer(data, np.uint8), 3, ends, symbols, trades, np.array(watch, np.uint8), out
        )
        assert out[:size].tobytes() == kept


def test_history_ring_keeps_the_newest_trades_and_makes_bars() -> None:
    history = TradeHistory(3)
    row = quote()
    for number in range(5):
        row[0, flow.L_PRICE] = 100 + number
        history.keep(row, 1, OFFSET)
    trades = history.trades(0)
    assert trades[:, lines.T_PRICE].tolist() == [102, 103, 104]
    assert tick_lines(trades[:1], b"X,LH,", tail=True).decode() == (
        "X,LH,2026-07-29 12:00:00.000000,1.0200,100,5000,188.2500,188.3600,77,C,19,01,2,29,\r\n"
    )
    (bar,) = bar_rows(trades, 60)
    assert bar.tolist() == [NOW + OFFSET, 104, 102, 102, 104, 5000, 300]


def test_daily_bars_have_prices_of_c_prints_and_volume_of_all() -> None:
    contents = [flow.IN_E, flow.IN_C, flow.IN_O, flow.IN_C, flow.IN_E, flow.IN_O, flow.IN_E]
    trades = np.zeros((7, lines.T_COLUMNS), np.int64)
    trades[:, lines.T_CONTENTS] = contents
    trades[:, lines.T_PRICE] = [500, 300, 900, 310, 100, 50, 700]
    trades[:, lines.T_SIZE] = [1, 2, 4, 8, 16, 32, 64]
    trades[:, lines.T_TS] = 10 * lines.DAY_NS + np.arange(7)
    trades[6, lines.T_TS] += lines.DAY_NS
    (bar,) = daily_bar_rows(trades)
    assert bar.tolist() == [10 * lines.DAY_NS, 310, 300, 300, 310, 0, 63]


@pytest.mark.parametrize(("ts", "hours"), [(NOW, -4), (NOW + 180 * 86_400 * 10**9, -5)])
def test_new_york_offset_follows_daylight_saving(ts: int, hours: int) -> None:
    assert new_york_offset(ts) == hours * 3600 * 10**9

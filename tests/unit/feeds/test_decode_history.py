"""History replies: the real file against an independent parse, and every layout that a reply may have."""

import gzip
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from l2_platform.feeds.iqfeed.decode_history import HistoryDecoder
from l2_platform.market.events import NULL_PRICE, BarBatch, DecodeError, Level1Batch, Level1Kind
from l2_platform.market.instruments import SymbolTable
from l2_platform.market.prices import decimal_from_price

NEW_YORK = ZoneInfo("America/New_York")


def block_of(data: bytes) -> SimpleNamespace:
    """One frame that holds `data`."""
    return SimpleNamespace(
        buffer=np.frombuffer(data, np.uint8),
        frame_start=np.array([0, len(data)]),
        frame_seq=np.array([1], np.uint64),
        frame_count=np.array([data.count(b"\n")], np.uint32),
        frame_ts=np.array([1_700_000_000_000_000_000]),
        frame_flags=np.zeros(1, np.uint8),
        frame_conn=np.ones(1, np.uint32),
        session_date=20210301,
    )


def decode(*lines: str) -> Level1Batch:
    data = "".join(f"{line}\r\n" for line in lines).encode()
    return HistoryDecoder(SymbolTable(), "XYZ").decode(block_of(data))


def utc_ns(text: str) -> int:
    stamp = datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).astimezone(UTC)
    return (stamp - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def packed(text: str) -> int:
    return int.from_bytes(text.encode(), "little")


def test_real_reply_equals_independent_parse(market_data: Path) -> None:
    path = market_data / "iqfeed_ticks_2021-03-01_to_03.csv.gz"
    data = gzip.decompress(path.read_bytes())
    batch = HistoryDecoder(SymbolTable(), "XYZ").decode(block_of(data))
    lines = data.decode().split("\r\n")[:-1]
    ticks = batch.kind == Level1Kind.HISTORY_TICK
    assert int(ticks.sum()) == 32_627
    assert batch.kind[-1] == Level1Kind.END
    assert not batch.error.any()
    assert len(batch) == len(lines)
    for row, line in enumerate(lines[:-1]):
        stamp, price, size, volume, bid, ask, tick, basis, center, conditions, aggressor, day, _ = line.split(",")
        assert batch.ts_event[row] == utc_ns(stamp)
        assert decimal_from_price(int(batch.price[row])) == Decimal(price)
        assert decimal_from_price(int(batch.bid[row])) == Decimal(bid)
        assert decimal_from_price(int(batch.ask[row])) == Decimal(ask)
        assert (batch.size[row], batch.total_volume[row], batch.tick_id[row]) == (int(size), int(volume), int(tick))
        assert (chr(batch.basis[row]), batch.market_center[row]) == (basis, int(center))
        assert batch.conditions[row] == packed(conditions)
        assert (batch.aggressor[row], batch.day_code[row]) == (int(aggressor), int(day))


@pytest.mark.parametrize("prefix", ["", "REQ,", "LH,", "REQ,LH,"])
@pytest.mark.parametrize("tail", ["19,143A,2,17", "19,143A,2,17,", "19,143A", "19,143A,"])
@pytest.mark.parametrize("stamp", ["2018-04-17 17:51:22.123456", "2018-04-17 17:51:22.123", "2018-04-17 17:51:22"])
def test_tick_in_every_layout_decodes(prefix: str, tail: str, stamp: str) -> None:
    batch = decode(f"{prefix}{stamp},96.0700,1061909,0,0.0000,0.0000,4145784264,O,{tail}")
    assert batch.kind[0] == Level1Kind.HISTORY_TICK
    assert batch.ts_event[0] == utc_ns(stamp)
    assert batch.price[0] == 96_070_000_000
    assert batch.size[0] == 1_061_909
    assert batch.tick_id[0] == 4_145_784_264
    assert chr(batch.basis[0]) == "O"
    assert batch.market_center[0] == 19
    assert batch.conditions[0] == packed("143A")
    assert batch.day_code[0] == (17 if tail.startswith("19,143A,2") else 0)


def test_basis_last_layout_of_5x_decodes() -> None:
    batch = decode("REQ,2013-05-02 09:40:00,32.1200,100,15690111,32.1100,32.1300,136972,0,0,C,")
    assert batch.kind[0] == Level1Kind.HISTORY_TICK
    assert (batch.price[0], batch.size[0], batch.total_volume[0]) == (32_120_000_000, 100, 15_690_111)
    assert (batch.bid[0], batch.ask[0], batch.tick_id[0]) == (32_110_000_000, 32_130_000_000, 136_972)
    assert chr(batch.basis[0]) == "C"
    assert batch.market_center[0] == -1


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("!ENDMSG!,", Level1Kind.END),
        ("REQ,!ENDMSG!,", Level1Kind.END),
        ("E,!NO_DATA!,,", Level1Kind.ERROR),
        ("REQ,E,!NO_DATA!,,", Level1Kind.ERROR),
        ("S,CURRENT PROTOCOL,6.2", Level1Kind.SYSTEM),
        ("LH,2024-05-10 05:32:00,184.7600,184.7500,184.7500,184.7600,32048,250,0,", Level1Kind.HISTORY_BAR),
        ("I,LH,2023-06-28 00:00:00,4411.50,4411.25,4411.25,4411.50,42885,55,0,", Level1Kind.HISTORY_BAR),
        ("2021-03-26,1.4700,1.3100,1.4600,1.3600,4713611,0,", Level1Kind.HISTORY_BAR),
        ("hello", Level1Kind.OTHER),
    ],
)
def test_other_reply_lines_are_recognised(line: str, kind: Level1Kind) -> None:
    assert decode(line).kind[0] == kind


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("2021-02-30 04:00:00,1.5,1,1,1.5,1.5,1,E,11,17,0,1,", DecodeError.TIME),
        ("REQ,DATE 09:40:00,32.12,100,15690111,32.11,32.12,136972,0,0,C,", DecodeError.TIME),
        ("2021-03-01 04:00:00,x,1,1,1.5,1.5,1,E,11,17,0,1,", DecodeError.PRICE),
        ("2021-03-01 04:00:00,1.5,,1,1.5,1.5,1,E,11,17,0,1,", DecodeError.NUMBER),
        ("2021-03-01 04:00:00,1.5,1,1,1.5,1.5,1,Q,11,17,0,1,", DecodeError.CONTENTS),
        ("2021-03-01 04:00:00,1.5,1,1,1.5", DecodeError.FIELDS),
        ("2021-03-01 04:00:00,1.5,1,1,1.5,1.5,1,E,11,17\0,0,1,", DecodeError.ENCODING),
    ],
)
def test_broken_line_is_bad_and_neighbours_stay(line: str, error: DecodeError) -> None:
    good = "2021-03-01 04:00:00.028010,1.5200,1000,1000,1.5600,1.5700,1,E,11,1747,0,1,"
    batch = decode(good, line, good)
    assert batch.kind.tolist() == [Level1Kind.HISTORY_TICK, Level1Kind.BAD, Level1Kind.HISTORY_TICK]
    assert batch.error[1] == error
    assert batch.line(1) == line.encode()


def test_hour_that_happens_twice_follows_the_order_of_ticks() -> None:
    tick = "2021-11-07 {},1.5,1,1,1.5,1.5,1,E,11,17,0,7,"
    batch = decode(*(tick.format(time) for time in ("01:10:00", "01:59:59", "01:00:00", "01:20:00", "02:00:00")))
    assert np.diff(batch.ts_event).tolist() == [2_999_000_000_000, 1_000_000_000, 1_200_000_000_000, 2_400_000_000_000]


def bars(interval_s: int, *lines: str) -> BarBatch:
    decoder = HistoryDecoder(SymbolTable())
    decoder.begin_reply("XYZ", interval_s=interval_s)
    batch = decoder.decode(block_of("".join(f"{line}\r\n" for line in lines).encode()))
    assert isinstance(batch, BarBatch)
    assert batch.interval_s == interval_s
    return batch


@pytest.mark.parametrize(
    ("name", "interval_s", "count"),
    [("iqfeed_bars_1s_2021-03-01_to_03.csv.gz", 1, 7949), ("iqfeed_bars_daily_2021-02-22_to_03-26.csv.gz", 86_400, 25)],
)
def test_real_bars_equal_an_independent_parse_in_every_row(market_data: Path, name: str, interval_s: int, count: int) -> None:
    lines = gzip.decompress((market_data / name).read_bytes()).decode().split("\r\n")[:-1]
    batch = bars(interval_s, *lines)
    rows = [line.split(",") for line in lines if not line.startswith("!")]
    assert len(rows) == count
    assert batch.kind.tolist() == [Level1Kind.END if line.startswith("!") else Level1Kind.HISTORY_BAR for line in lines]
    for row, (stamp, high, low, first, last, *volumes, _) in enumerate(rows):
        assert batch.ts_event[row] == utc_ns(stamp)
        told = [decimal_from_price(int(price)) for price in batch.ohlc[row]]
        assert told == [Decimal(price) for price in (first, high, low, last)]
        numbers = (batch.total_volume[row], batch.size[row], batch.trade_count[row])
        daily = (-1, int(volumes[0]), -1)
        assert numbers == (daily if interval_s == 86_400 else tuple(int(volume) for volume in volumes))


@pytest.mark.parametrize("prefix", ["", "REQ,", "LH,", "REQ,LH,"])
def test_bars_of_every_layout_have_their_values_in_place(prefix: str) -> None:
    (minute,) = bars(60, f"{prefix}2024-05-10 05:32:00,184.7600,184.7300,184.7400,184.7500,32048,250,3,").ohlc.tolist()
    assert minute == [184_740_000_000, 184_760_000_000, 184_730_000_000, 184_750_000_000]
    day = bars(86_400, f"{prefix}2023-05-25,288.8400,272.8500,287.9100,280.9900,878367,0,")
    assert day.ohlc.tolist() == [[287_910_000_000, 288_840_000_000, 272_850_000_000, 280_990_000_000]]
    assert (day.size[0], day.total_volume[0], day.trade_count[0]) == (878_367, -1, -1)
    assert day.ts_event[0] == utc_ns("2023-05-25 00:00:00")


@pytest.mark.parametrize(
    ("interval_s", "line", "error"),
    [
        (60, "2023-05-25,288.8400,272.8500,287.9100,280.9900,878367,0,", DecodeError.TIME),
        (86_400, "2021-03-01 04:00:00,1.5,1.4,1.4,1.5,10,10,0,", DecodeError.TIME),
        (60, "2021-03-01 04:00:00,1.5,1,1,1.5,1.5,1,E,11,17,0,1,", DecodeError.FIELDS),
        (60, "2021-03-01 04:00:00,1.5,1.4,1.4,1.5,10,", DecodeError.FIELDS),
        (60, "2021-03-01 04:00:00,1.5,,1.4,1.5,10,10,0,", DecodeError.PRICE),
        (60, "2021-03-01 04:00:00,1.5,1.4,1.4,1.5,10,x,0,", DecodeError.NUMBER),
    ],
)
def test_a_line_that_is_no_bar_as_asked_is_bad_and_neighbours_stay(interval_s: int, line: str, error: DecodeError) -> None:
    good = "2021-03-01,1.5,1.4,1.4,1.5,10,0," if interval_s == 86_400 else "2021-03-01 04:01:00,1.5,1.4,1.4,1.5,10,10,0,"
    batch = bars(interval_s, good, line, good)
    assert batch.kind.tolist() == [Level1Kind.HISTORY_BAR, Level1Kind.BAD, Level1Kind.HISTORY_BAR]
    assert batch.error[1] == error
    assert (batch.ohlc[[0, 2]] != NULL_PRICE).all()


def test_bars_that_nobody_asked_for_are_only_recognised() -> None:
    batch = decode("2021-03-01 04:01:00,1.5,1.4,1.4,1.5,10,10,0,")
    assert not isinstance(batch, BarBatch)
    assert (batch.kind[0], batch.size[0], batch.total_volume[0]) == (Level1Kind.HISTORY_BAR, -1, -1)


def test_state_restored_decodes_alike() -> None:
    first = HistoryDecoder(SymbolTable(), "XYZ")
    first.decode(block_of(b"2021-11-07 01:59:59,1.5,1,1,1.5,1.5,1,E,11,17,0,7,\r\n"))
    second = HistoryDecoder(SymbolTable())
    second.restore(first.state())
    tick = b"2021-11-07 01:00:00,1.5,1,1,1.5,1.5,1,E,11,17,0,7,\r\n"
    assert first.decode(block_of(tick)).ts_event[0] == second.decode(block_of(tick)).ts_event[0]
    assert second.symbol == "XYZ"
    second.begin_reply("XYZ", interval_s=60)
    third = HistoryDecoder(SymbolTable())
    third.restore(second.state())
    assert isinstance(third.decode(block_of(b"2021-11-07 01:59:00,1.5,1.4,1.4,1.5,10,10,0,\r\n")), BarBatch)

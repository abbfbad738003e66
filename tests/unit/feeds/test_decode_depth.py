"""Depth lines as rows: every layout, what is missing, what is broken, and the times of a feed without offsets."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from l2_platform.feeds.iqfeed.decode_depth import DepthDecoder
from l2_platform.market.events import ASK, BID, NO_SYMBOL, NULL_PRICE, NULL_TS, DecodeError, DepthKind
from l2_platform.market.instruments import SymbolTable, mmid_text
from tests.oracle.blocks import block_of

NEW_YORK = ZoneInfo("America/New_York")


def decoded(*lines, end="\r\n", **kwargs):
    symbols = SymbolTable()
    data = "".join(f"{line}{end}" for line in lines).encode("latin-1")
    return symbols, DepthDecoder(symbols).decode(block_of(data, **kwargs))


def ns_of(text, zone=NEW_YORK, fold=0):
    at = datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)
    return int(at.replace(microsecond=0).timestamp()) * 10**9 + at.microsecond * 1000


def test_an_order_line_has_every_field():
    symbols, batch = decoded(
        "3,@ESZ21,649948133402,,B,4536.25,3,12440218202,2,20:32:47.333543,2021-10-24,", ts_recv=5, seq_first=17
    )
    assert symbols.names == ["@ESZ21"]
    assert (batch.seq[0], batch.kind[0], batch.side[0], batch.ts_recv[0]) == (17, DepthKind.ADD, BID, 5)
    assert (batch.order_id[0], batch.price[0], batch.size[0], batch.priority[0]) == (
        649948133402,
        4536_250000000,
        3,
        12440218202,
    )
    assert batch.ts_event[0] == ns_of("2021-10-24T20:32:47.333543")
    assert batch.line(0) == b"3,@ESZ21,649948133402,,B,4536.25,3,12440218202,2,20:32:47.333543,2021-10-24,"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_real_lines_of_each_kind(end):
    symbols, batch = decoded(
        "6,QQQ,,AMEX,A,408.8400,100,,4,17:52:38.059128,2022-04-01,",
        "4,SPY,,NSDQ,B,451.4400,300,,4,11:33:27.030724,2022-04-01,",
        "5,TSLA,,CHXE,B,,2022-04-01,",
        "5,@ESZ21,648907593934,,A,20:32:47.333543,2021-10-24,",
        "7,@ESM19,B,2938.25,65,11,2,20:31:04.876740,2019-04-23,",
        "9,@ESM19,A,2938.25,20:31:04.876740,2019-04-23",
        "0,@ESM19,12345678,MD01,A,2938.,65,10,2,20:31:04.876740,2019-04-23,",
        "S,CLEAR DEPTH,@ESZ22,B,",
        "S,SERVER DISCONNECTED",
        "S,CURRENT PROTOCOL,6.2",
        "T,20191018 12:49:55",
        "E,some error, with commas",
        "n,NOPE",
        "q,QQQ",
        "M,MD02,Market depth 2",
        "O,x",
        end=end,
    )
    assert not batch.error.any()
    assert [chr(kind) for kind in batch.kind] == list("6455790KXSTEnqM?")
    assert [symbols.names[number] if number >= 0 else "" for number in batch.symbol] == [
        "QQQ", "SPY", "TSLA", "@ESZ21", "@ESM19", "@ESM19", "@ESM19", "@ESZ22", "", "", "", "", "NOPE", "QQQ", "", "",
    ]  # fmt: skip
    assert [mmid_text(mmid) for mmid in batch.mmid[:3]] == ["AMEX", "NSDQ", "CHXE"]
    assert batch.ts_event[2] == NULL_TS
    assert (batch.count[4], batch.price[5], batch.price[6]) == (11, 2938_250000000, 2938_000000000)
    assert batch.side[7] == BID
    assert batch.ts_event[10] == ns_of("2019-10-18T12:49:55")


def test_a_line_of_two_sides_is_one_row_and_two_in_tables():
    _, batch = decoded(
        "T,20191018 12:49:50",
        "Z,@ES#,MD01,2982.25,2982.5,99,238,12:49:52.696621,2019-10-18,52,12:49:52.541104,T,T,F,",
        "2,@ES#,MD01,2982.25,2982.5,99,238,12:49:52.696622,2019-10-18,52,12:49:52.541105,F,T,F,",
    )
    assert batch.kind.tolist() == [ord("T"), DepthKind.PAIR_SUMMARY, DepthKind.PAIR_UPDATE]
    assert batch.pair_row.tolist() == [1, 2]
    assert batch.price.tolist()[1:] == [2982_250000000, NULL_PRICE]
    assert batch.pair_price.tolist() == [2982_500000000] * 2
    assert batch.pair_ts[0] == ns_of("2019-10-18T12:49:52.541104")
    table = batch.without_pairs()
    assert table.kind.tolist() == [ord("T"), ord("6"), ord("6"), ord("5"), ord("4")]
    assert table.seq.tolist() == [1, 2, 2, 3, 3]
    assert table.side.tolist()[1:] == [BID, ASK, BID, ASK]
    assert table.size.tolist()[1:] == [99, 238, 0, 238]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("", DecodeError.FIELDS),
        ("hello", DecodeError.FIELDS),
        (",,,", DecodeError.FIELDS),
        ("3,AAPL,1,,B,1.0", DecodeError.FIELDS),
        ("3,AAPL,,,B,1.0,5,,4,12:00:00,2024-03-08,", DecodeError.FIELDS),
        ("5,AAPL,,,B,12:00:00,2024-03-08,", DecodeError.FIELDS),
        ("3,AAPL,1x,,B,1.0,5,,4,12:00:00,2024-03-08,", DecodeError.NUMBER),
        ("3,AAPL,18446744073709551616,,B,1.0,5,,4,12:00:00,2024-03-08,", DecodeError.NUMBER),
        ("3,AAPL,1,,B,1.0,,,4,12:00:00,2024-03-08,", DecodeError.NUMBER),
        ("8,AAPL,B,1.0,5,99999999999,2,12:00:00,2024-03-08,", DecodeError.NUMBER),
        ("3,AAPL,1,,B,,5,,4,12:00:00,2024-03-08,", DecodeError.PRICE),
        ("3,AAPL,1,,B,1.2.3,5,,4,12:00:00,2024-03-08,", DecodeError.PRICE),
        ("3,AAPL,1,,B,99999999999,5,,4,12:00:00,2024-03-08,", DecodeError.PRICE),
        ("3,AAPL,1,,X,1.0,5,,4,12:00:00,2024-03-08,", DecodeError.SIDE),
        ("S,CLEAR DEPTH,AAPL,", DecodeError.SIDE),
        ("3,AAPL,1,,B,1.0,5,,4,25:00:00,2024-03-08,", DecodeError.TIME),
        ("3,AAPL,1,,B,1.0,5,,4,12:00:00,2024-02-30,", DecodeError.TIME),
        ("T,2024030 12:00:00", DecodeError.TIME),
        ("3,,1,,B,1.0,5,,4,12:00:00,2024-03-08,", DecodeError.SYMBOL),
        (f"3,{'A' * 65},1,,B,1.0,5,,4,12:00:00,2024-03-08,", DecodeError.SYMBOL),
        ("4,AAPL,,NSDAQ,B,1.0,5,,4,12:00:00,2024-03-08,", DecodeError.SYMBOL),
        ("3,AA\0L,1,,B,1.0,5,,4,12:00:00,2024-03-08,", DecodeError.ENCODING),
        ("3,AAPL,1,,B,1.0,5,,4,12:00:00\r,2024-03-08,", DecodeError.ENCODING),
    ],
)
def test_a_broken_line_is_one_bad_row_between_good_ones(line, error):
    good = "3,AAPL,1,,B,1.0,5,,4,12:00:00,2024-03-08,"
    symbols, batch = decoded(good, line, good)
    assert batch.error.tolist() == [0, error, 0]
    assert batch.kind.tolist() == [DepthKind.ADD, DepthKind.BAD, DepthKind.ADD]
    assert (batch.symbol[1], batch.price[1], batch.ts_event[1]) == (NO_SYMBOL, NULL_PRICE, NULL_TS)
    assert batch.line(1) == line.encode("latin-1")
    assert symbols.names == ["AAPL"]


def test_fragments_and_lines_that_are_too_long_are_one_row_each():
    good = b"3,AAPL,1,,B,1.0,5,,4,12:00:00,2024-03-08,\n"
    batch = DepthDecoder(SymbolTable()).decode(
        block_of(good, b"3,AAPL,2", good, b"x\ny\n", good, flags=(0, 1, 0, 2, 0))
    )
    assert batch.error.tolist() == [0, DecodeError.FRAGMENT, 0, DecodeError.OVERSIZE, 0]
    assert batch.seq.tolist() == [1, 2, 3, 4, 5]
    assert batch.line(1) == b"3,AAPL,2"


def test_more_columns_and_a_last_line_without_end_are_fine():
    _, batch = decoded("3,AAPL,1,,B,1.0,5,,4,12:00:00,2024-03-08" + ",x" * 40, "5,AAPL,1,,B", end="")
    assert len(batch) == 1
    symbols = SymbolTable()
    batch = DepthDecoder(symbols).decode(
        block_of(b"3,AAPL,1,,B,1.0,5,,4,12:00:00,2024-03-08" + b",x" * 40 + b"\n5,AAPL,1,,B")
    )
    assert not batch.error.any()
    assert batch.size.tolist() == [5, 0]


def test_sentinel_and_missing_times_are_no_time():
    line = "4,X,,NSDQ,B,1,1,,4,{}"
    _, batch = decoded(
        *(line.format(tail) for tail in (",2024-03-08,", "99:99:99.999999,2024-03-08,", "12:00:00,,", ""))
    )
    assert batch.ts_event.tolist() == [NULL_TS] * 4
    assert not batch.error.any()


def test_a_time_without_date_takes_the_day_of_the_feeds_clock():
    line = "4,X,,NSDQ,B,1,1,,4,{},"
    _, batch = decoded(
        "T,20240308 23:59:59",
        line.format("23:59:58"),
        line.format("00:00:01"),
        "T,20240309 00:00:02",
        line.format("23:59:59"),
    )
    assert [int(batch.ts_event[row]) for row in (1, 2, 4)] == [
        ns_of(text) for text in ("2024-03-08T23:59:58", "2024-03-09T00:00:01", "2024-03-08T23:59:59")
    ]


@pytest.mark.parametrize(
    "date", ["2024-03-09", "2024-03-10", "2024-03-11", "2024-07-01", "2024-11-02", "2024-11-03", "2024-11-04"]
)
def test_new_york_times_around_both_clock_changes(date):
    hours = [hour for hour in range(24) if (date, hour) not in {("2024-03-10", 2), ("2024-11-03", 1)}]
    _, batch = decoded(*(f"4,X,,NSDQ,B,1,1,,4,{hour:02d}:30:00.123456,{date}," for hour in hours))
    assert batch.ts_event.tolist() == [ns_of(f"{date}T{hour:02d}:30:00.123456") for hour in hours]


def test_the_hour_that_happens_twice_is_told_by_receipt_or_by_order():
    line = "4,X,,NSDQ,B,1,1,,4,{},2024-11-03,"
    first, second = ns_of("2024-11-03T01:30:00"), ns_of("2024-11-03T01:30:00", fold=1)
    assert second - first == 3600 * 10**9
    for receipt in (first, second):
        _, batch = decoded(line.format("01:30:00"), ts_recv=receipt + 10**9)
        assert batch.ts_event[0] == receipt
    late = ns_of("2025-01-01T00:00:00", UTC)
    _, batch = decoded(
        line.format("00:59:00"), line.format("01:30:00"), line.format("01:59:59"), line.format("01:00:01"), ts_recv=late
    )
    assert np.diff(batch.ts_event).tolist() == [31 * 60 * 10**9, 1799 * 10**9, 2 * 10**9]


def test_thousands_of_symbols_get_numbers_in_their_order():
    names = [f"S{number}" + "X" * (number % 12) for number in range(9000)]
    symbols, batch = decoded(*(f"q,{name}" for name in names), *(f"q,{name}" for name in reversed(names)))
    assert symbols.names == names
    assert batch.symbol.tolist() == [*range(9000), *reversed(range(9000))]


def test_many_lines_of_two_sides_make_room_for_them_alone():
    decoder = DepthDecoder(SymbolTable())
    lines = [f"2,MSFT,MM{number:02d},10.0,10.1,1,2,10:00:00.000000,2024-01-02,52,10:00:00.000000,T,T," for number in range(40)]
    room = len(decoder._index.hashes)
    for _ in range(30):
        batch = decoder.decode(block_of("\r\n".join(lines).encode()))
        assert len(batch.pair_row) == 40
    assert len(decoder._index.hashes) == room


def test_symbols_numbered_elsewhere_keep_their_numbers():
    symbols = SymbolTable(["B", "A"])
    decoder = DepthDecoder(symbols)
    decoder.decode(block_of(b"q,C\n"))
    symbols.intern("D")
    assert decoder.decode(block_of(b"q,E\nq,A\nq,D\nq,C\n")).symbol.tolist() == [4, 1, 3, 2]


def test_nothing_gives_nothing():
    assert len(DepthDecoder(SymbolTable()).decode(block_of())) == 0
    assert len(DepthDecoder(SymbolTable()).decode(block_of(b""))) == 0

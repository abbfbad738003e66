"""Level 1 lines: kinds, layouts, dates of times, errors, and the same rows for any split of the stream."""

import csv
import random
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from l2_platform.feeds.iqfeed.decode_level1 import Level1Decoder
from l2_platform.feeds.iqfeed.layouts import parse_correction, parse_fundamental
from l2_platform.market.events import (
    CONTENT_LETTERS,
    CONTENT_TRADE,
    NO_SYMBOL,
    NULL_PRICE,
    NULL_TS,
    DecodeError,
    Level1Batch,
    Level1Kind,
)
from l2_platform.market.instruments import SymbolTable

NEW_YORK = ZoneInfo("America/New_York")
NAMES = (
    "S,CURRENT UPDATE FIELDNAMES,Symbol,Most Recent Trade,Most Recent Trade Size,Most Recent Trade Time,Most Recent Trade Date,"
    "Most Recent Trade Market Center,Most Recent Trade Conditions,Most Recent Trade Aggressor,Most Recent Trade Day Code,TickID,"
    "Bid,Bid Size,Bid Time,Bid Market Center,Ask,Ask Size,Ask Time,Ask Market Center,Total Volume,Number of Trades Today,Delay,"
    "Message Contents,VWAP,"
)
FULL_TRADE = (
    "Q,AAPL,188.35,40,09:59:59.256494,07/25/2025,11,873D17,2,25,18446744073709551615,188.25,100,09:59:58.000001,5,188.36,200,"
    "09:59:57.000001,19,37629453,1234,0,Cba,188.1,"
)
PLAIN = "Q,{symbol},322.7500,40,{time},11,37629453,322.6800,100,322.8700,100,312.6000,318.4000,312.1900,308.9500,{contents},873D17,2,17"


def ns(text: str) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=NEW_YORK)
    return int(moment.replace(microsecond=0).timestamp()) * 10**9 + moment.microsecond * 1000


RECV = ns("2025-07-25 10:00:01")


def block_of(
    data: bytes, *, conn: int = 1, ts: int = RECV, seq: int = 1, flags: int = 0, date: int = 20250725
) -> SimpleNamespace:
    return SimpleNamespace(
        buffer=np.frombuffer(data, np.uint8),
        frame_start=np.array([0, len(data)]),
        frame_seq=np.array([seq], np.uint64),
        frame_count=np.array([1 if flags else data.count(b"\n")], np.uint32),
        frame_ts=np.array([ts]),
        frame_flags=np.array([flags], np.uint8),
        frame_conn=np.array([conn], np.uint32),
        session_date=date,
    )


def bytes_of(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


def decode(*lines: str, decoder: Level1Decoder | None = None, **block: int) -> Level1Batch:
    return (decoder or Level1Decoder(SymbolTable())).decode(block_of(bytes_of(*lines), **block))


def columns_of(batches: Sequence[Level1Batch]) -> dict[str, list[int]]:
    names = [name for name in Level1Batch.__dataclass_fields__ if name not in {"buffer", "line_start"}]
    return {name: np.concatenate([getattr(batch, name) for batch in batches]).tolist() for name in names}


def packed(text: str) -> int:
    return int.from_bytes(text.encode(), "little")


def bits(letters: str) -> int:
    return sum(1 << CONTENT_LETTERS.index(letter) for letter in letters)


def test_default_layout_trade() -> None:
    batch = decode("T,20250725 10:00:00", PLAIN.format(symbol="AAPL", time="09:59:59.256494", contents="Cba"))
    assert batch.kind.tolist() == [Level1Kind.CLOCK, Level1Kind.QUOTE]
    assert batch.ts_event.tolist() == [ns("2025-07-25 10:00:00"), ns("2025-07-25 09:59:59.256494")]
    assert batch.contents[1] == bits("Cba")
    assert (batch.price[1], batch.size[1], batch.total_volume[1]) == (322_750_000_000, 40, 37_629_453)
    assert (batch.bid[1], batch.bid_size[1], batch.ask[1], batch.ask_size[1]) == (
        322_680_000_000,
        100,
        322_870_000_000,
        100,
    )
    assert (batch.market_center[1], batch.conditions[1]) == (11, packed("873D17"))
    assert (batch.aggressor[1], batch.day_code[1], chr(batch.basis[1])) == (2, 17, "C")
    assert (batch.ts_bid[1], batch.ts_ask[1], batch.tick_id[1]) == (NULL_TS, NULL_TS, 0)


def test_older_layout_ends_after_conditions() -> None:
    line = "Q,AAPL,188.3500,52500,19:59:14.503633,19,0,188.2500,100,188.3600,100,,,,187.9700,Ova,8801"
    batch = decode("T,20250725 19:59:15", line, line + ",")
    assert batch.kind.tolist()[1:] == [Level1Kind.QUOTE] * 2
    assert (chr(batch.basis[1]), batch.aggressor[1], batch.day_code[1]) == ("O", 0, 0)


def test_snapshot_is_never_a_trade() -> None:
    batch = decode("P,AAPL,188.3500,52500,19:59:14.503633,19,0,188.2500,100,188.3600,100,,,,187.9700,Cbacv,8801,2,17")
    assert batch.kind[0] == Level1Kind.SUMMARY
    assert batch.basis[0] == 0


def test_quote_without_trade_letter_is_no_trade() -> None:
    batch = decode("T,20250725 10:00:00", PLAIN.format(symbol="AAPL", time="09:59:59", contents="ba"))
    assert not batch.contents[1] & CONTENT_TRADE
    assert batch.basis[1] == 0
    assert batch.ts_event[1] == ns("2025-07-25 10:00:00")


def test_layout_follows_the_acknowledgement_inside_the_stream() -> None:
    batch = decode(
        "T,20250725 10:00:00", PLAIN.format(symbol="AAPL", time="09:59:59", contents="Cv"), NAMES, FULL_TRADE
    )
    assert batch.kind.tolist() == [Level1Kind.CLOCK, Level1Kind.QUOTE, Level1Kind.SYSTEM, Level1Kind.QUOTE]
    assert batch.tick_id[3] == 2**64 - 1
    assert (batch.trade_count[3], batch.delay[3]) == (1234, 0)
    assert (batch.bid_market_center[3], batch.ask_market_center[3]) == (5, 19)
    assert batch.ts_trade[3] == ns("2025-07-25 09:59:59.256494")
    assert batch.ts_bid[3] == ns("2025-07-25 09:59:58.000001")
    assert batch.ts_ask[3] == ns("2025-07-25 09:59:57.000001")


def test_new_connection_speaks_the_default_layout_again() -> None:
    decoder = Level1Decoder(SymbolTable())
    decode("T,20250725 10:00:00", NAMES, FULL_TRADE, decoder=decoder)
    batch = decode(PLAIN.format(symbol="AAPL", time="09:59:59", contents="Cv"), decoder=decoder, conn=2)
    assert batch.kind[0] == Level1Kind.QUOTE


def test_quote_event_time_is_the_newer_side() -> None:
    batch = decode("T,20250725 10:00:00", NAMES, FULL_TRADE.replace("Cba", "ba"))
    assert batch.ts_event[2] == ns("2025-07-25 09:59:58.000001")


@pytest.mark.parametrize(
    ("clock", "time", "expected"),
    [
        ("20250725 00:00:01", "23:59:59.9", "2025-07-24 23:59:59.900000"),
        ("20250725 23:59:59", "00:00:00.5", "2025-07-26 00:00:00.500000"),
        ("20250725 12:00:00", "11:59:59", "2025-07-25 11:59:59"),
        ("20250309 03:00:00", "01:59:59", "2025-03-09 01:59:59"),
        ("20251102 03:00:00", "02:59:59", "2025-11-02 02:59:59"),
        ("20240229 12:00:00", "12:00:00", "2024-02-29 12:00:00"),
    ],
)
def test_time_without_date_lies_nearest_to_the_clock(clock: str, time: str, expected: str) -> None:
    batch = decode(f"T,{clock}", PLAIN.format(symbol="AAPL", time=time, contents="Cv"))
    assert batch.ts_event[1] == ns(expected)


def test_repeated_time_is_never_in_the_future() -> None:
    summary = "P,AAPL,188.3500,52500,19:59:14,19,0,188.2500,100,188.3600,100,,,,187.9700,Cbacv,8801,2,17"
    batch = decode("T,20250725 09:00:00", summary)
    assert batch.ts_trade[1] == ns("2025-07-24 19:59:14")


def test_before_any_clock_receipt_or_session_date_stand_in() -> None:
    line = PLAIN.format(symbol="AAPL", time="09:59:59", contents="Cv")
    assert decode(line).ts_event[0] == ns("2025-07-25 09:59:59")
    late = decode(line, ts=ns("2026-01-05 09:00:00"))
    assert late.ts_event[0] == ns("2025-07-25 09:59:59")
    evening = decode(line.replace("09:59:59", "19:59:59"), ts=ns("2026-01-05 09:00:00"))
    assert evening.ts_event[0] == ns("2025-07-25 19:59:59")


@pytest.mark.parametrize("sentinel", ["99:99:99", "99:99:99.999999", ""])
def test_sentinel_time_is_null(sentinel: str) -> None:
    batch = decode("T,20250725 10:00:00", PLAIN.format(symbol="AAPL", time=sentinel, contents="ba"))
    assert batch.error[1] == 0
    assert batch.ts_trade[1] == NULL_TS


def test_corrections_in_both_layouts() -> None:
    live = "C,SPY,I,O,07/16/2025,,619.0500,15000,859256116,198944,24,"
    delete = "C,GLD,X,,,,309.3200,52000,859326789,,24,"
    older = "C,AAPL,I,03/30/2021,19:59:14.503633,183.3600,13,101123,8801,17"
    batch = decode(live, delete, older)
    assert batch.kind.tolist() == [Level1Kind.CORRECTION] * 3
    assert batch.price.tolist() == [619_050_000_000, 309_320_000_000, 183_360_000_000]
    assert batch.size.tolist() == [15_000, 52_000, 13]
    assert batch.tick_id.tolist() == [859_256_116, 859_326_789, 101_123]
    assert batch.market_center.tolist() == [24, 24, 17]
    assert batch.basis.tolist() == [ord("O"), 0, 0]
    assert batch.conditions.tolist() == [packed("198944"), 0, packed("8801")]
    assert batch.ts_event.tolist() == [NULL_TS, NULL_TS, ns("2021-03-30 19:59:14.503633")]
    assert parse_correction(live.encode())["trade_type"] == "O"
    assert parse_correction(delete.encode())["action"] == "delete"
    assert parse_correction(older.encode()) | {"trade_type": ""} == parse_correction(older.encode())
    assert parse_correction(older.encode())["price"] == "183.3600"


def test_other_lines_are_rows_with_their_kind() -> None:
    lines = {
        "F,MSFT,5,65.6,": Level1Kind.FUNDAMENTAL, "R,MSFT,X,1.23,100,13:00:00,1.24,200,13:00:01,0,1,2,": Level1Kind.REGIONAL,
        "N,1,2,MSFT,20000102 152001,Cool, news,": Level1Kind.NEWS, "n,MSFT": Level1Kind.NOT_FOUND,
        "N,1,2,A:B,20000102 152001,Two,": Level1Kind.NEWS, "S,SERVER CONNECTED": Level1Kind.SYSTEM,
        "E,what": Level1Kind.ERROR, "W,1": Level1Kind.OTHER, "": Level1Kind.OTHER,
    }  # fmt: skip
    batch = decode(*lines)
    assert batch.kind.tolist() == list(lines.values())
    assert batch.symbol.tolist() == [0, 0, 0, 0] + [NO_SYMBOL] * 5


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("Q,AAPL,188.35", DecodeError.FIELDS),
        ("Q", DecodeError.FIELDS),
        (PLAIN.format(symbol="", time="10:00:00", contents="C"), DecodeError.SYMBOL),
        (PLAIN.format(symbol="A" * 65, time="10:00:00", contents="C"), DecodeError.SYMBOL),
        (PLAIN.format(symbol="A", time="10:60:00", contents="C"), DecodeError.TIME),
        (PLAIN.format(symbol="A", time="10:00:00", contents="CE"), DecodeError.CONTENTS),
        (PLAIN.format(symbol="A", time="10:00:00", contents="z"), DecodeError.CONTENTS),
        (PLAIN.format(symbol="A", time="10:00:00", contents="C").replace(",40,", ",4x,"), DecodeError.NUMBER),
        (PLAIN.format(symbol="A", time="10:00:00", contents="C").replace(",40,", ",,"), DecodeError.NUMBER),
        (PLAIN.format(symbol="A", time="10:00:00", contents="C").replace("322.7500", ""), DecodeError.PRICE),
        (PLAIN.format(symbol="A", time="10:00:00", contents="C").replace("322.6800", "1.2.3"), DecodeError.PRICE),
        (PLAIN.format(symbol="A", time="10:00:00", contents="C").replace("873D17", "XY"), DecodeError.NUMBER),
        (PLAIN.format(symbol="A\0", time="10:00:00", contents="C"), DecodeError.ENCODING),
        ("T,20251325 10:00:00", DecodeError.TIME),
        ("T,", DecodeError.TIME),
        ("C,SPY,I,O", DecodeError.FIELDS),
    ],
)
def test_broken_line_is_bad_and_neighbours_stay(line: str, error: DecodeError) -> None:
    good = PLAIN.format(symbol="AAPL", time="09:59:59", contents="Cv")
    batch = decode("T,20250725 10:00:00", good, line, good)
    assert batch.error.tolist() == [0, 0, error, 0]
    assert batch.kind.tolist() == [Level1Kind.CLOCK, Level1Kind.QUOTE, Level1Kind.BAD, Level1Kind.QUOTE]
    assert batch.price[2] == NULL_PRICE
    assert batch.line(2) == line.encode()
    assert batch.ts_event[1] == batch.ts_event[3]


@pytest.mark.parametrize(("flag", "error"), [(1, DecodeError.FRAGMENT), (2, DecodeError.OVERSIZE)])
def test_cut_lines_are_one_bad_row(flag: int, error: DecodeError) -> None:
    batch = Level1Decoder(SymbolTable()).decode(block_of(b"Q,AAPL,188.", flags=flag, seq=77))
    assert (batch.seq.tolist(), batch.kind.tolist(), batch.error.tolist()) == ([77], [Level1Kind.BAD], [error])
    assert batch.line(0) == b"Q,AAPL,188."


def test_any_split_into_blocks_decodes_alike() -> None:
    chance = random.Random(5)
    lines = ["T,20250725 10:00:00"]
    for number in range(300):
        lines.append(
            PLAIN.format(
                symbol=f"S{number % 7}", time=f"09:5{number % 10}:00", contents=chance.choice(["Cv", "ba", "z"])
            )
        )
        if number == 100:
            lines.append(NAMES)
        if number > 100:
            lines[-1] = FULL_TRADE.replace("AAPL", f"S{number}")
        if number % 50 == 0:
            lines.append(f"T,20250725 10:0{number // 50}:00")
    whole = decode(*lines)
    decoder = Level1Decoder(SymbolTable())
    parts, at = [], 0
    while at < len(lines):
        size = chance.randrange(1, 30)
        parts.append(decode(*lines[at : at + size], decoder=decoder, seq=at + 1))
        at += size
        # A checkpoint between any two blocks changes nothing.
        state, symbols = decoder.state(), decoder.symbols
        decoder = Level1Decoder(symbols)
        decoder.restore(state)
    assert columns_of(parts) == columns_of([whole])


def test_segment_context_restores_layout_and_clock() -> None:
    decoder = Level1Decoder(SymbolTable())
    decoder.restore(
        {"protocol": "6.2", "fields": NAMES.split(",")[2:], "clock": "T,20250726 00:00:01", "watches": ["AAPL"]}
    )
    batch = decode(FULL_TRADE.replace("09:59:58.000001", "23:59:58"), decoder=decoder)
    assert batch.kind[0] == Level1Kind.QUOTE
    assert batch.ts_bid[0] == ns("2025-07-25 23:59:58")


def test_more_symbols_than_the_first_table_holds() -> None:
    lines = [PLAIN.format(symbol=f"SYM{number}", time="09:59:59", contents="Cv") for number in range(5000)]
    decoder = Level1Decoder(SymbolTable())
    batch = decode("T,20250725 10:00:00", *lines, decoder=decoder)
    assert [decoder.symbols.names[number] for number in batch.symbol[1:]] == [f"SYM{number}" for number in range(5000)]


def test_hour_that_happens_twice_follows_the_receipt() -> None:
    first, second = ns("2025-11-02 01:30:00"), ns("2025-11-02 01:30:00") + 3600 * 10**9
    line = PLAIN.format(symbol="AAPL", time="01:30:00", contents="Cv")
    assert decode("T,20251102 01:30:00", line, ts=first, date=20251102).ts_event.tolist() == [first, first]
    assert decode("T,20251102 01:30:00", line, ts=second, date=20251102).ts_event.tolist() == [second, second]


def test_published_lines_decode(market_data: Path) -> None:
    path = market_data / "iqfeed_wire_samples.tsv"
    with path.open(encoding="utf-8") as file:
        samples = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    batch = decode("T,20250725 10:00:00", *(row["line"] for row in samples))
    assert len(batch) == len(samples) + 1
    good = {
        row["line"]: int(kind)
        for row, kind in zip(samples, batch.kind[1:], strict=True)
        if row["feed"].startswith("L1")
    }
    for line, kind in good.items():
        # Two lines were sent in layouts that somebody had selected and that the line itself does not tell.
        known = "FXCM" not in line and "04/01/2021" not in line
        assert (kind == ord(line[0])) == known, line


def test_fundamentals_in_both_layouts_agree() -> None:
    new = (
        "F,MSFT,5,65.6,28624000,97.9500,67.1400,97.9500,83.8300,,,,,,1.49,,0.06,06,MICROSOFT, INC,MSFT,76.800,1.27,,159851.0,64527.0,"
        "03/31/2018,76073.0,7683198,0.50 02/18/2003,0.50 03/29/1999,14,4,7372,24.82,1,21,05/10/2018,05/18/2017,05/10/2018,"
        "02/09/2018,85.5400,,,,,511210,,,,09:00:00,17:00:00,USD,125000,HMUZ,0.1,01/01/2016,TEST,1,"
    )
    old = (
        "F,MSFT,5,65.6,28624000,97.9500,67.1400,97.9500,83.8300,,,,,,,,,,,1.49,,0.06,06,,MICROSOFT,MSFT,76.800,1.27,,159851.0,64527.0,"
        "03/31/2018,76073.0,7683198,,0.50 02/18/2003,0.50 03/29/1999,,,14,4,7372,24.82,1,21,05/10/2018,05/18/2017,05/10/2018,"
        "02/09/2018,85.5400,,,,,511210,,,,"
    )
    first, second = parse_fundamental(new.encode()), parse_fundamental(old.encode())
    assert first["Company Name"] == "MICROSOFT, INC"
    assert first["Security SubType"] == "1"
    assert second["Company Name"] == "MICROSOFT"
    assert second["Precision"] == "4"
    assert second["NAICS"] == "511210"
    assert {name: text for name, text in first.items() if name in second and name != "Company Name"} == {
        name: text for name, text in second.items() if name != "Company Name"
    }

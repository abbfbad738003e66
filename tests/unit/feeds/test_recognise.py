"""What a captured file is, and every reason for which it is refused."""

import gzip
import random
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from l2_platform.errors import InputError
from l2_platform.feeds.iqfeed.recognise import Recognised, check_channel, recognise, session_dates_of_lines
from l2_platform.market.dates import date_text
from l2_platform.market.events import NULL_TS

FILE = Path("capture.txt")
QUOTE = "Q,AAPL,188.3500,100,{},19,0,188.2500,100,188.3600,100,,,,187.9700,Cbav,8801,2,17"
SUMMARY = "P,AAPL,188.3500,52500,19:59:14.503633,19,0,188.2500,100,188.3600,100,,,,187.9700,Cbacv,8801,2,17"
UPDATE = "4,SPY,,NSDQ,B,451.4400,300,,4,{},{},"
SNAPSHOT = "6,SPY,,NSDQ,B,451.4400,300,,4,{},{},"
TICK = "{},1.5200,1000,1000,1.5600,1.5700,1,E,11,1747,0,1,"


def buffer_of(*lines: str) -> np.ndarray:
    return np.frombuffer("".join(f"{line}\r\n" for line in lines).encode("latin-1"), np.uint8)


def look(channel: str, *lines: str, session_date: int | None = None) -> Recognised:
    return recognise(buffer_of(*lines), FILE, channel, session_date)


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("America/New_York")).timestamp()) * 10**9


def recorded(folder: Path, name: str) -> np.ndarray:
    return np.frombuffer(gzip.decompress((folder / name).read_bytes()), np.uint8)


def test_recorded_ticks(market_data: Path) -> None:
    found = recognise(recorded(market_data, "iqfeed_ticks_2021-03-01_to_03.csv.gz"), FILE, "ticks", None, "XYZ")
    assert (found.channel, found.symbols, len(found.utc_ns)) == ("ticks", ["XYZ"], 32_628)
    assert found.utc_ns[0] // 10**9 * 10**9 == ns("2021-03-01 04:00:00")
    assert found.utc_ns[-1] // 10**9 * 10**9 == ns("2021-03-03 19:58:32")
    assert (np.diff(found.utc_ns) >= 0).all()


@pytest.mark.parametrize("shape", ["order", "price", "venue"])
def test_recorded_depth(market_data: Path, shape: str) -> None:
    found = recognise(recorded(market_data, f"aapl_2012-06-21_depth_by_{shape}.iqfeed.txt.gz"), FILE, "depth", 20120621)
    assert found.symbols == ["AAPL"]
    assert found.dated


def test_lines_before_the_first_clock_take_its_date_and_snapshots_never_move_it() -> None:
    found = look(
        "depth",
        SNAPSHOT.format("17:52:38.059128", "2022-04-05"),
        UPDATE.format("11:33:27", "2022-04-01"),
        SNAPSHOT.format("17:52:38.059128", "2022-04-05"),
        "T,20220401 11:34:00",
        UPDATE.format("", "2022-04-01"),
        UPDATE.format("09:30:00", "2022-03-31"),
        "5,TSLA,,CHXE,B,,2022-04-01,",
    )
    first, second = ns("2022-04-01 11:33:27"), ns("2022-04-01 11:34:00")
    assert found.utc_ns.tolist() == [first, first, first, second, second, second, second]


def test_one_broken_date_moves_nothing() -> None:
    times = ["09:30:00", "09:30:01", "09:30:02", "09:30:03"]
    lines = [UPDATE.format(time, "2022-04-01") for time in times]
    lines.insert(2, UPDATE.format("09:30:01", "2099-04-01"))
    found = look("depth", *lines)
    assert found.utc_ns[-1] == ns("2022-04-01 09:30:03")
    assert (found.utc_ns <= ns("2022-04-01 09:30:03")).all()


def test_level1_without_any_date_asks_for_one() -> None:
    with pytest.raises(InputError, match=r"capture\.txt: no line carries a date.*--date YYYYMMDD"):
        look("level1", QUOTE.format("09:30:00"), SUMMARY)
    found = look("level1", QUOTE.format("09:30:00"), SUMMARY, session_date=20250725)
    assert not found.dated
    assert found.context == {}


def test_level1_clock_dates_lines_before_it() -> None:
    found = look("level1", SUMMARY, QUOTE.format("09:29:59"), "T,20250725 09:30:00", QUOTE.format("09:30:01"))
    assert set(found.utc_ns.tolist()) == {ns("2025-07-25 09:30:00")}
    assert found.context["clock"][1] == ns("2025-07-25 09:30:00")
    assert found.symbols == ["AAPL"]


def test_level1_trade_date_column_dates_lines() -> None:
    names = (
        "S,CURRENT UPDATE FIELDNAMES,Symbol,Most Recent Trade,Most Recent Trade Size,Most Recent Trade Time,"
        "Most Recent Trade Date,Message Contents,"
    )
    found = look(
        "level1",
        "S,CURRENT PROTOCOL,6.2,",
        names,
        "P,AAPL,1,1,15:00:00,07/24/2025,Cv,",
        "Q,AAPL,1,1,10:00:00,07/25/2025,ba,",
        "Q,AAPL,1,1,11:00:00,07/25/2025,Cv,",
    )
    assert found.protocol == "6.2"
    assert set(found.utc_ns.tolist()) == {ns("2025-07-25 11:00:00")}


@pytest.mark.parametrize(
    ("channel", "line", "right"),
    [
        ("level1", UPDATE.format("09:30:00", "2022-04-01"), "depth"),
        ("ticks", UPDATE.format("09:30:00", "2022-04-01"), "depth"),
        ("depth", QUOTE.format("09:30:00"), "level1"),
        ("ticks", QUOTE.format("09:30:00"), "level1"),
        ("depth", TICK.format("2021-03-01 04:00:00.028010"), "ticks"),
        ("level1", "I,LH," + TICK.format("2021-03-01 04:00:00"), "ticks"),
    ],
)
def test_wrong_channel_names_line_and_the_right_one(channel: str, line: str, right: str) -> None:
    with pytest.raises(
        InputError, match=rf"capture\.txt: line 2: .* is a {right} line, not {channel}; use --channel {right}"
    ):
        look(channel, "S,SERVER CONNECTED", line, line)
    with pytest.raises(InputError, match=f"use --channel {right}"):
        check_channel([line.encode()], channel)
    check_channel([line.encode()], right)


@pytest.mark.parametrize(("given", "line"), [(20220402, 2), (20220331, 1), (20210401, 1), (20230401, 2)])
def test_date_against_the_lines_is_refused(given: int, line: int) -> None:
    lines = [UPDATE.format("09:30:00", "2022-04-01"), UPDATE.format("09:30:01", "2022-04-01")]
    with pytest.raises(InputError, match=rf"capture\.txt: line {line}: its date 2022-04-01 contradicts --date {date_text(given)}"):
        look("depth", *lines, session_date=given)


def test_evening_lines_may_belong_to_the_next_session() -> None:
    lines = [UPDATE.format("20:30:00", "2022-04-01"), UPDATE.format("20:30:01", "2022-04-01")]
    assert look("depth", *lines, session_date=20220404).dated


def test_ticks_newest_first_are_refused() -> None:
    days = ["2021-03-03", "2021-03-02", "2021-03-01", "2021-02-26"]
    with pytest.raises(InputError, match=r"line 2: timestamp 2021-03-02 04:00:00 goes back.*oldest first"):
        look("ticks", *(TICK.format(f"{day} 04:00:00") for day in days))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the file is empty"),
        (b"\r\n \r\n", "the file is empty"),
        (random.Random(1).randbytes(4096), "this is not text"),
        (b"hello\nworld\n", "line 1: 'hello' is no IQFeed depth line"),
        (b"T,20250725 09:30:00\r\n", "nothing to import"),
    ],
)
def test_rubbish_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says):
        recognise(np.frombuffer(data, np.uint8), FILE, "depth")


def test_last_line_without_newline_counts() -> None:
    data = buffer_of(UPDATE.format("09:30:00", "2022-04-01"), UPDATE.format("09:30:01", "2022-04-01"))[:-2]
    assert len(recognise(data, FILE, "depth").utc_ns) == 2
    assert len(session_dates_of_lines(data, "depth")) == 2


def test_times_of_lines_without_a_time_are_null() -> None:
    told = session_dates_of_lines(
        buffer_of("S,KEYOK", SNAPSHOT.format("09:30:00", "2022-04-01"), "T,20220401 09:30:00"), "depth"
    )
    assert told.tolist() == [NULL_TS, NULL_TS, ns("2022-04-01 09:30:00")]

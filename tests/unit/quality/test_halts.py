"""Halts in the exchange's layout: times, what is not over, and errors that name file, line and field."""

from pathlib import Path

import pytest

from l2_platform.errors import InputError
from l2_platform.quality.halts import HaltsUnreachable, load_halts, read_halts
from l2_platform.settings import GapSettings

HEADER = (
    "Halt Date,Halt Time,Issue Symbol,Issue Name,Market,Reason Codes,Pause Threshold Price,Resumption Date,Resumption Quote Time,"
    "Resumption Trade Time\n"
)
LINE = '11/20/2026,09:45:12.5,SYM001,"Simulated, Inc.",NASDAQ,LUDP,12.34,11/20/2026,09:45:12,09:50:12\n'


def test_times_are_new_york_and_quoted_names_may_hold_commas() -> None:
    (halt,) = read_halts((HEADER + LINE).encode(), "halts.csv")
    assert (halt.symbol, halt.reason, halt.market) == ("SYM001", "LUDP", "NASDAQ")
    assert halt.ts_from == 1_795_185_912_500_000_000  # 14:45:12.5 UTC
    assert halt.ts_to == 1_795_186_212_000_000_000


def test_a_halt_without_a_trade_time_is_not_over() -> None:
    (halt,) = read_halts((HEADER + "2026-07-20,10:00:00,ABC,,NYSE,T1,,2026-07-20,10:30:00,\n\n").encode(), "h")
    assert halt.ts_to is None
    assert halt.ts_from == 1_784_556_000_000_000_000  # summer time: 14:00 UTC


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: no column 'Halt Date'"),
        (HEADER.replace("Reason Codes", "Why"), "line 1: no column 'Reason Codes'"),
        (HEADER + LINE + LINE.replace("11/20/2026,09:45:12.5", "13/45/2026,09:45:12"), "line 3, Halt Date: '13/45/2026' is no date"),
        (HEADER + LINE.replace("09:45:12.5", "9.45"), "line 2, Halt Time: '9.45' is no time"),
        (HEADER + LINE.replace("09:50:12", "25:00:00"), "line 2, Resumption Trade Time: '25:00:00' is no time"),
        (HEADER + LINE.replace("09:50:12", "09:40:00"), "line 2, Resumption Trade Time: it lies before the halt"),
        (HEADER + LINE.replace("SYM001", "SYM 1"), "line 2, Issue Symbol: 'SYM 1' is no symbol"),
        (HEADER + "11/20/2026,09:45:12,SYM001\n", "line 2: 3 fields, the header has 10"),
        (HEADER + LINE.replace('Inc."', "Inc."), "line 2: "),
    ],
    ids=["empty", "column", "date", "time", "hour", "order", "symbol", "short", "quote"],
)
def test_errors_name_file_line_and_field(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_halts(text.encode(), "halts.csv")
    assert said in caught.value.message
    assert caught.value.message.startswith("halts.csv, ")


def test_files_are_bounded_and_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "halts.csv"
    path.write_text(HEADER + LINE * 20)
    assert len(load_halts(GapSettings(halts=str(path)))) == 20
    assert load_halts(GapSettings()) == []
    with pytest.raises(InputError, match="more than 1,024 bytes"):
        load_halts(GapSettings(halts=str(path), halts_bytes_max=1024))
    with pytest.raises(InputError, match="No such file"):
        load_halts(GapSettings(halts=str(tmp_path / "none.csv")))
    with pytest.raises(InputError, match="byte 0 is not UTF-8"):
        read_halts(b"\xff\xfe", "h")


def test_an_address_that_does_not_answer_may_be_asked_again() -> None:
    with pytest.raises(HaltsUnreachable, match="until it answers"):
        load_halts(GapSettings(halts="http://127.0.0.1:9/halts.csv", halts_timeout_s=2))

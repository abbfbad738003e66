"""Level 1 lines are read in two ways, by their commas and field by field; any line gives the same row, or the same error, both ways.

The first line of a block is always read field by field (what lies before it may not be looked at), the others by their commas.
"""

import random
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pytest

from l2_platform.feeds.iqfeed.decode_level1 import Level1Decoder, field_places
from l2_platform.feeds.iqfeed.layouts import DEFAULT_FIELDS, DEFAULT_LAYOUT, IGNORED, layout_from_names
from l2_platform.market.events import Level1Batch
from l2_platform.market.instruments import SymbolTable
from l2_platform.settings import FeedSettings

SELECTED = ("Symbol", *FeedSettings().level1_fields)
WHOLE = (
    "", "0", "5", "100", "007", "-3", "-", "+1", "1x", " 1", "255", "256", "12345678", "123456789", "2147483647", "2147483648",
    "1234567890123456", "12345678901234567", "9" * 18, "9" * 19, "18446744073709551615", "18446744073709551616",
)  # fmt: skip
PRICES = (
    "", "188.35", ".5", "-0.25", "2938.", "1.2.3", ".", "-", "1e5", "12345678", "123456789", "1234567890", "1234567.8900", "999999999.12",
    "1234567890.", "1234567890.1", "9223372035.5", "9223372036.9", "000000000012", "00000000.123", "0.000000001", "0.0000000001",
)  # fmt: skip
TIMES = (
    "", "10:00:00", "09:59:59.256494", "23:59:59.999999", "24:00:00.000000", "10:60:00.000000", "10:00:60.000000", "99:99:99.999999",
    "99:99:98.000000", "10-00-00.000000", "10:00:00.00000x", "10:00:00,5", "1:00:00", "10:00:00.123456789", "10:00:00.",
)  # fmt: skip
DATES = ("", "07/25/2025", "07/24/2025", "2025-07-25", "20250725", "13/01/2025", "9999-99-99", "7/25/2025")
CONDITIONS = ("", "01", "873D17", "abcdef09", "123456789", "GG", "/0", ":1", "@A", "`a", "g", "\xff1")
CONTENTS = ("", "b", "ba", "Cv", "Ova", "Cbasohlv", "CE", "z", "\xe9")


def field(chance: random.Random, name: str) -> str:
    if name == "Symbol":
        return chance.choice(["AAPL", "A", "LONGSYMBOL", "@ESU25", "B" * 65, f"S{chance.randrange(9)}"])
    if name in {"Most Recent Trade", "Bid", "Ask"}:
        return f"{chance.randrange(10**7) / 10**4:.4f}" if chance.random() < 0.9 else chance.choice(PRICES)
    for word, odd, usual in (
        ("Time", TIMES, "10:00:01.000001"), ("Date", DATES, "07/25/2025"), ("Contents", CONTENTS, "Cv"),
        ("Conditions", CONDITIONS, "873D17"),
    ):  # fmt: skip
        if word in name:
            return usual if chance.random() < 0.9 else chance.choice(odd)
    return str(chance.randrange(3)) if chance.random() < 0.9 else chance.choice(WHOLE)


def block_of(lines: list[str]) -> SimpleNamespace:
    data = "".join(f"{line}\r\n" for line in lines).encode("latin-1")
    return SimpleNamespace(
        buffer=np.frombuffer(data, np.uint8), frame_start=np.array([0, len(data)]), frame_seq=np.array([1], np.uint64),
        frame_count=np.array([len(lines)], np.uint32), frame_ts=np.array([1_753_452_000_000_000_000]),
        frame_flags=np.zeros(1, np.uint8), frame_conn=np.ones(1, np.uint32), session_date=20250725,
    )  # fmt: skip


def rows_of(batches: list[Level1Batch]) -> dict[str, list[int]]:
    names = [name for name in Level1Batch.__dataclass_fields__ if name not in {"buffer", "line_start", "seq"}]
    return {name: np.concatenate([getattr(batch, name) for batch in batches]).tolist() for name in names}


@pytest.mark.parametrize("seed", range(20))
def test_a_line_alone_reads_as_among_others(seed: int) -> None:
    chance = random.Random(seed)
    names = DEFAULT_FIELDS if seed % 2 else SELECTED
    lines = ["T,20250725 10:00:00"] + ([] if seed % 2 else ["S,CURRENT UPDATE FIELDNAMES," + ",".join(names)])
    for _ in range(150):
        line = chance.choice("QQQP") + "," + ",".join(field(chance, name) for name in names) + chance.choice(["", ","])
        dice = chance.random()
        if dice < 0.03:
            line = line[: chance.randrange(len(line))]
        elif dice < 0.06:
            place = chance.randrange(len(line))
            line = line[:place] + chance.choice(["\t", "\r", "\0", ",", ",,,", "x"]) + line[place:]
        elif dice < 0.07:
            line += "," * chance.randrange(400)
        lines.append(line)
    together = Level1Decoder(SymbolTable()).decode(block_of(lines))
    decoder = Level1Decoder(SymbolTable())
    alone = [decoder.decode(block_of([line])) for line in lines]
    assert rows_of([together]) == rows_of(alone)
    assert 0 < np.count_nonzero(together.error) < len(lines)


def test_layouts_that_name_a_column_twice_are_read_in_order() -> None:
    assert field_places(DEFAULT_LAYOUT)[IGNORED]
    assert not field_places(layout_from_names(["Symbol", "Bid Time", "Bid TimeMS"]))[IGNORED]
    assert not field_places(layout_from_names(["Symbol", *["Junk"] * 300]))[IGNORED]


def test_prices_of_any_length_equal_decimal_arithmetic() -> None:
    chance = random.Random(11)
    texts = [text for text in PRICES if text]
    for _ in range(3000):
        digits = "".join(chance.choices("0123456789", k=chance.randrange(1, 14)))
        place = chance.randrange(len(digits) + 1)
        texts.append(
            chance.choice(["", "", "", "-"]) + digits[:place] + chance.choice([".", "", "..", "x"]) + digits[place:]
        )
    lines = [f"Q,AAPL,{text},100,10:00:00,5,100,,,,,,,,,Cv," for text in texts]
    batch = Level1Decoder(SymbolTable()).decode(block_of(["T,20250725 10:00:00", *lines]))
    for text, price, error in zip(texts, batch.price[1:].tolist(), batch.error[1:].tolist(), strict=True):
        unsigned = text.removeprefix("-")
        whole, _, fraction = unsigned.partition(".")
        good = (
            unsigned.replace(".", "", 1).isdigit()
            and not fraction[9:].strip("0")
            and int(whole or "0") <= 9_223_372_035
        )
        assert (error == 0) == good, text
        if good:
            assert price == int(Decimal(text) * 10**9), text

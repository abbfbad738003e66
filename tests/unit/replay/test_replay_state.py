"""What is known at an instant equals what a plain book of dictionaries would hold."""

import random

import numpy as np
import pytest

from l2_platform.feeds.iqfeed.decode_depth import DepthDecoder
from l2_platform.feeds.iqfeed.decode_level1 import Level1Decoder
from l2_platform.feeds.iqfeed.simulator.layouts import Layout
from l2_platform.feeds.iqfeed.simulator.source import LineBatch
from l2_platform.journal.frame import Position
from l2_platform.journal.items import Block
from l2_platform.market.instruments import SymbolTable
from l2_platform.replay.lines import Piece
from l2_platform.replay.player import in_columns
from l2_platform.replay.state import DepthState, Level1State

TAIL = "09:30:00.000000,2024-01-02,\r\n"


def piece_of(lines: list[str], decoder: DepthDecoder | Level1Decoder, channel: str) -> Piece:
    text = "".join(lines).encode()
    block = Block(
        np.frombuffer(text, np.uint8), np.array([0, len(text)]), np.array([1], np.uint64), np.array([len(lines)], np.uint32),
        np.array([1_704_205_800_000_000_000]), np.zeros(1, np.uint8), np.ones(1, np.uint32), Position(20240102, 1, 0), 20240102,
    )  # fmt: skip
    batch = decoder.decode(block)
    ends = np.append(batch.line_start[1:], len(text)).astype(np.int64)
    marks = np.zeros(len(ends), np.uint8)
    return Piece(0, channel, block.buffer, ends, batch.ts_recv, marks, np.ones(len(ends), np.uint8), batch)


def depth_lines(seed: int, count: int, shape: str) -> list[str]:
    chance = random.Random(seed)
    living: set[tuple[str, str, str]] = set()
    lines = []
    for number in range(count):
        symbol, side = f"S{chance.randrange(5)}", chance.choice("AB")
        if chance.random() < 0.01:
            lines.append(f"S,CLEAR DEPTH,{symbol},{side},\r\n")
            living = {row for row in living if row[:2] != (symbol, side)}
            continue
        same = [row for row in sorted(living) if row[0] == symbol and row[1] == side]
        fresh = {
            "orders": str(number + 1), "venues": chance.choice(["NSDQ", "ARCX", "BATX", "EDGX"]),
            "levels": f"{100 + chance.randrange(40)}.5000",
        }  # fmt: skip
        key = chance.choice(same)[2] if same and chance.random() < 0.6 else fresh[shape]
        if (symbol, side, key) in living and chance.random() < 0.4:
            living.discard((symbol, side, key))
            gone = {"orders": f"5,{symbol},{key},,{side},", "venues": f"5,{symbol},,{key},{side},", "levels": f"9,{symbol},{side},{key},"}
            lines.append(gone[shape] + TAIL)
            continue
        letter = "4" if (symbol, side, key) in living else "3"
        living.add((symbol, side, key))
        size = chance.randrange(1, 900)
        made = {
            "orders": f"{letter},{symbol},{key},,{side},{100 + number % 9}.2500,{size},{number},4,",
            "venues": f"4,{symbol},,{key},{side},{100 + number % 9}.2500,{size},,4,",
            "levels": f"8,{symbol},{side},{key},{size},3,4,",
        }
        lines.append(made[shape] + TAIL)
    return lines


def plain_burst(lines: list[str], symbol: str) -> list[str]:
    """The rows of a symbol in the order in which they came to stay, bids first."""
    rows: dict[str, dict[str, str]] = {"B": {}, "A": {}}
    for line in lines:
        field = line.split(",")
        if field[0] == "S":
            if field[2] == symbol:
                rows[field[3]].clear()
            continue
        if field[1] != symbol:
            continue
        level = field[0] in "789"
        side, key = (field[2], field[3]) if level else (field[4], field[2] or field[3])
        if field[0] in "59":
            rows[side].pop(key, None)
        else:
            rows[side][key] = ("7" if level else "6") + line[1:]
    return [*rows["B"].values(), *rows["A"].values()]


@pytest.mark.parametrize("shape", ["orders", "venues", "levels"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_burst_is_the_plain_book_after_any_bites(shape, seed):
    lines = depth_lines(seed, 6000, shape)
    table = SymbolTable()
    piece = piece_of(lines, DepthDecoder(table), "depth")
    state = DepthState()
    chance = random.Random(seed)
    at = 0
    while at < len(lines):
        stop = min(len(lines), at + chance.randrange(1, 700))
        state.apply(piece, at, stop)
        at = stop
        for name in table.names:
            assert state.burst(table.number(name)).decode().splitlines(keepends=True) == plain_burst(lines[:at], name)
    assert state.shape(0) == ("level" if shape == "levels" else "order")
    assert state.rows == sum(len(plain_burst(lines, name)) for name in table.names)
    state.forget()
    assert all(state.burst(number) == b"" for number in range(len(table)))
    state.apply(piece, 0, len(lines))
    for name in table.names:
        assert state.burst(table.number(name)).decode().splitlines(keepends=True) == plain_burst(lines, name)


def test_many_orders_make_the_tables_grow():
    lines = [f"3,S0,{number},,B,10.0000,1,{number},4,{TAIL}" for number in range(1, 30_000)]
    piece = piece_of(lines, DepthDecoder(SymbolTable()), "depth")
    state = DepthState()
    state.apply(piece, 0, len(lines))
    assert state.rows == len(lines)
    assert state.burst(0).decode() == "".join("6" + line[1:] for line in lines)
    roomy = DepthState(len(lines))
    roomy.apply(piece, 0, len(lines))
    assert roomy.burst(0) == state.burst(0)


def test_shape_is_open_before_the_first_line_and_unknown_numbers_are_empty():
    state = DepthState()
    assert state.shape(99) == "any"
    assert state.burst(99) == b""


QUOTE = "Q,{},10.5,100,09:30:00.000000,19,500,10.4,{},10.6,300,,,,10.0,Cba,01,2,2,\r\n"


def test_newest_quote_comes_back_as_summary_in_the_columns_asked_for():
    lines = [QUOTE.format("AAA", 1), "F,AAA,first,\r\n", QUOTE.format("BBB", 2), QUOTE.format("AAA", 3), "F,AAA,second,\r\n"]
    table = SymbolTable()
    decoder = Level1Decoder(table)
    fields = decoder.layout.fields
    state = Level1State(fields)
    state.apply(piece_of(lines, decoder, "level1"), 0, len(lines))
    assert state.summary(0) == (fields, b"P" + QUOTE.format("AAA", 3)[1:].encode())
    assert state.fundamental(0) == b"F,AAA,second,\r\n"
    assert state.fundamental(1) == b""
    assert state.summary(7) == (fields, b"")
    line = state.summary(1)[1]
    one = LineBatch(line, np.array([len(line)]), np.zeros(1, np.int32), np.ones(1, np.uint8))
    chosen = in_columns(one, fields, Layout(("Ask Size", "VWAP", "Bid Size", "Message Contents")))
    assert chosen.data == b"P,BBB,300,,2,Cba,\r\n"
    assert in_columns(one, fields, Layout(fields[1:])).data == line


def test_lines_other_than_quotes_keep_their_bytes_in_any_columns():
    data = b"R,AAA,1,2,\r\nQ,AAA,5\r\nC,AAA,X\n"
    ends = np.array([12, 21, len(data)])
    batch = LineBatch(data, ends, np.zeros(3, np.int32), np.ones(3, np.uint8))
    made = in_columns(batch, ("Symbol", "Bid", "Ask"), Layout(("Ask", "Bid")))
    assert made.data == b"R,AAA,1,2,\r\nQ,AAA,,5,\r\nC,AAA,X\n"
    assert made.ends.tolist() == [12, 23, 31]

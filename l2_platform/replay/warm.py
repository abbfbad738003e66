"""Every kernel of a replay and of the book index, run once on a few lines: none is compiled or loaded while somebody waits for it.

Nothing else belongs here.
"""

import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from l2_platform.feeds.iqfeed.decode_depth import DepthDecoder
from l2_platform.feeds.iqfeed.decode_level1 import Level1Decoder
from l2_platform.feeds.iqfeed.simulator.layouts import Layout
from l2_platform.feeds.iqfeed.simulator.live import warm_kernels
from l2_platform.journal.frame import Position
from l2_platform.journal.importing import write_finished_stream
from l2_platform.journal.items import Block
from l2_platform.market.instruments import SymbolTable
from l2_platform.replay.book_index import BookHistory
from l2_platform.replay.book_index_build import build_index
from l2_platform.replay.digest import line_batch
from l2_platform.replay.lines import Piece
from l2_platform.replay.player import in_columns
from l2_platform.replay.state import DepthState, Level1State
from l2_platform.replay.state_kernels import place_rows
from l2_platform.replay.tape import Slice
from l2_platform.settings import Settings

_DEPTH: Final = (
    b"6,AAA,1,,B,10.0000,100,1,4,09:30:00.000000,2024-01-02,\r\n5,AAA,1,,B,09:30:00.000000,2024-01-02,\r\n"
    b"3,AAA,2,,A,11.0000,100,1,4,09:30:00.000000,2024-01-02,\r\nS,CLEAR DEPTH,AAA,B,\r\n"
)
_LEVEL1: Final = b"P,AAA,10.0,100,09:30:00.000000,19,0,10.0,100,11.0,100,,,,10.0,Cbacv,01,2,2\r\n"


def warm() -> None:
    """Compile, or load from the cache, everything that playing needs."""
    warm_kernels()
    none = np.full(2, -1, np.int32)
    place_rows(np.zeros(2, np.int64), np.zeros(2, np.int32), none.copy(), none, none)
    table = SymbolTable()
    for channel, text in (("depth", _DEPTH), ("level1", _LEVEL1)):
        block = _block(text)
        batch = DepthDecoder(table).decode(block) if channel == "depth" else Level1Decoder(table).decode(block)
        ends = np.append(batch.line_start[1:], len(block.buffer)).astype(np.int64)
        count = len(ends)
        piece = Piece(
            0, channel, block.buffer, ends, batch.ts_recv, np.zeros(count, np.uint8), np.ones(count, np.uint8), batch
        )
        lines = line_batch(Slice(piece, 0, count), 0, count)
        lines.select(np.ones(len(table), np.uint8))
        if channel == "depth":
            books = DepthState()
            books.apply(piece, 0, count)
            books.burst(0)
        else:
            quotes = Level1State(("Symbol",))
            quotes.apply(piece, 0, count)
            in_columns(lines, ("Symbol", "Bid"), Layout(("Bid", "Ask")))


def warm_index() -> None:
    """Compile, or load from the cache, everything that building the book index of a date and asking it need."""
    date, stream, ts = 20240102, "iqfeed-depth-import-00000000", 1_704_205_800_000_000_000
    with tempfile.TemporaryDirectory() as name:
        settings = Settings(home=Path(name))
        frames = [(_DEPTH, _DEPTH.count(b"\n"), 1, ts)]
        write_finished_stream(settings.journal_dir, stream, [(date, frames)], context={}, calendar="always_open")
        build_index(settings, stream, date)
        with BookHistory(settings) as history:
            history.book_at("AAA", ts, stream, date)


def _block(text: bytes) -> Block:
    count = text.count(b"\n")
    return Block(
        np.frombuffer(text, np.uint8), np.array([0, len(text)]), np.array([1], np.uint64), np.array([count], np.uint32),
        np.array([1_704_205_800_000_000_000]), np.zeros(1, np.uint8), np.ones(1, np.uint32), Position(20240102, 1, 0), 20240102,
    )  # fmt: skip

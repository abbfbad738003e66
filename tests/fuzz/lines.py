"""Fuzzing of the compiled decoders: many mutated lines a call, guided by what comes out of them.

Kernels have no lines to trace. What stands for coverage is the outcome of a line: its kind, its error, which of its columns hold a
value. A line with a new outcome joins the lines that are mutated. The bytes lie between two pages that nobody may touch, so that a
kernel that reads one byte too far ends the process: run it in a process of its own (`python -m tests.fuzz.lines`).
"""

# ruff: noqa: E501  lines of the feed and words of formats are given whole

import argparse
import ctypes
import mmap
import random
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from l2_platform.monitoring.runtime import prepare_numba

MARGIN = mmap.PAGESIZE
LINES_A_CALL = 4000
POOL_MAX = 4000
LIBC = ctypes.CDLL(None, use_errno=True)
PROT_NONE, PROT_BOTH = 0, 3

CHANNELS = ("depth", "level1", "ticks")
WORDS = (
    b"", b"-", b".", b"-.", b"9" * 19, b"18446744073709551616", b"9223372036.854775807", b"9223372037", b"0.0000000001", b"1e5", b"99:99:99.999999",
    b"24:00:00", b"23:59:60", b"2024-02-30", b"2024-11-03 01:30:00", b"0000-00-00", b"9999-12-31", b"\x00", b"\xff", b"\r", b"B", b"A", b"C", b"A" * 64, b"A" * 65, b",,,,,,,,,,,,,",
    b"S,CURRENT UPDATE FIELDNAMES,Symbol,", b"Bid,", b"Ask Time,", b"Most Recent Trade Date,", b"TickID,", b"T,", b"Q,", b"6,", b"Z,",
)  # fmt: skip
FIELDNAMES = (
    b"Most Recent Trade", b"Most Recent Trade Size", b"Most Recent Trade Time", b"Most Recent Trade Date", b"Most Recent Trade Market Center",
    b"Most Recent Trade Conditions", b"Most Recent Trade Aggressor", b"Most Recent Trade Day Code", b"TickID", b"Bid", b"Bid Size", b"Bid Time",
    b"Bid Market Center", b"Ask", b"Ask Size", b"Ask Time", b"Ask Market Center", b"Total Volume", b"Number of Trades Today", b"Delay",
    b"Message Contents", b"Last", b"Nonsense", b"",
)  # fmt: skip


@dataclass
class Lines:
    """A journal block over guarded memory: a frame for every few lines."""

    buffer: np.ndarray
    frame_start: np.ndarray
    frame_seq: np.ndarray
    frame_count: np.ndarray
    frame_ts: np.ndarray
    frame_flags: np.ndarray
    frame_conn: np.ndarray
    session_date: int = 20240102


class Guarded:
    """Memory whose first and last page may not be touched; bytes are placed against either end."""

    def __init__(self, room: int) -> None:
        self._room = -(-room // MARGIN) * MARGIN
        self._map = mmap.mmap(-1, self._room + 2 * MARGIN)
        self._bytes = np.frombuffer(self._map, np.uint8)
        address = self._bytes.ctypes.data
        for page in (address, address + MARGIN + self._room):
            if LIBC.mprotect(ctypes.c_void_p(page), MARGIN, PROT_NONE):
                raise OSError(ctypes.get_errno(), "mprotect")

    def place(self, data: bytes, *, at_end: bool) -> np.ndarray:
        """A read-only array of the bytes that ends, or begins, where memory does."""
        begin = MARGIN + (self._room - len(data) if at_end else 0)
        view = self._bytes[begin : begin + len(data)]
        view.flags.writeable = True
        view[:] = np.frombuffer(data, np.uint8)
        view.flags.writeable = False
        return view


class Mutations:
    """Changed lines, fast: a few edits of one line, the fields of two mixed."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def one(self, pool: list[bytes]) -> bytes:
        """A new line."""
        rng = self._rng
        line = bytearray(pool[int(rng.random() * len(pool))])
        for _ in range(1 + int(rng.random() * 3)):
            kind = int(rng.random() * 7)
            at = int(rng.random() * (len(line) + 1))
            if kind == 0 and at < len(line):
                line[at] = int(rng.random() * 256)
            elif kind == 1:
                del line[at : at + 1 + int(rng.random() * 6)]
            elif kind == 2:
                line[at:at] = WORDS[int(rng.random() * len(WORDS))]
            elif kind == 3 and at < len(line):
                line[at] = 48 + int(rng.random() * 10)
            elif kind == 4:
                other = pool[int(rng.random() * len(pool))]
                line[at:] = other[int(rng.random() * (len(other) + 1)) :]
            else:
                cells = bytes(line).split(b",")
                cell = int(rng.random() * len(cells))
                other_cells = pool[int(rng.random() * len(pool))].split(b",")
                cells[cell] = WORDS[int(rng.random() * len(WORDS))] if kind == 5 else other_cells[int(rng.random() * len(other_cells))]
                line = bytearray(b",".join(cells))
        return bytes(line[:600]).replace(b"\n", b"")

    def layout(self) -> bytes:
        """An acknowledgement of any selection of fields, so that the same lines are read by another layout."""
        names = self._rng.sample(FIELDNAMES, self._rng.randrange(len(FIELDNAMES)))
        return b",".join([b"S,CURRENT UPDATE FIELDNAMES,Symbol", *names]) + b","


def block_of(lines: list[bytes], rng: random.Random, memory: Guarded) -> Lines:
    """Lines in frames of 1 to 40, LF or CRLF; one frame in twenty is a fragment or an overlong line."""
    frames: list[bytes] = []
    counts: list[int] = []
    flags: list[int] = []
    at = 0
    while at < len(lines):
        if rng.random() < 0.05:
            frames.append(lines[at])
            counts.append(1)
            flags.append(rng.choice((1, 2, 3)))
            at += 1
            continue
        some = lines[at : at + 1 + int(rng.random() * 40)]
        end = b"\r\n" if rng.random() < 0.7 else b"\n"
        frames.append(end.join(some) + end)
        counts.append(len(some))
        flags.append(0)
        at += len(some)
    starts = np.concatenate(([0], np.cumsum([len(frame) for frame in frames]))).astype(np.int64)
    seqs = np.concatenate(([1], 1 + np.cumsum(counts)[:-1])).astype(np.uint64)
    stamps = 1_704_207_600_000_000_000 + np.arange(len(frames), dtype=np.int64) * 1_000_000
    connections = np.sort(np.array([rng.randrange(3) for _ in frames], np.uint32))
    buffer = memory.place(b"".join(frames), at_end=rng.random() < 0.8)
    return Lines(buffer, starts, seqs, np.array(counts, np.uint32), stamps, np.array(flags, np.uint8), connections)


def outcomes(batch: Any) -> np.ndarray:
    """One number a row that says what became of the line: kind, error, and which columns hold something."""
    rows = len(batch)
    code = batch.kind.astype(np.uint64) | batch.error.astype(np.uint64) << np.uint64(8)
    place = 13
    skipped = {"buffer", "seq", "kind", "error", "ts_recv", "line_start", "line_len"}
    for name in [part.name for part in fields(batch) if part.name not in skipped]:
        column = getattr(batch, name)
        if isinstance(column, np.ndarray) and len(column) == rows and column.dtype.kind in "iu":
            info = np.iinfo(column.dtype)
            code = code | (((column != 0) & (column != info.min) & (column != info.max)).astype(np.uint64) << np.uint64(place))
            place += 1
    return code


def check(block: Lines, batch: Any, lines: list[bytes]) -> None:
    """One row a line, numbered in order, at its place, and the batch inside its own bounds."""
    assert len(batch) == len(lines), (len(batch), len(lines))
    assert (batch.seq == np.arange(1, len(lines) + 1, dtype=np.uint64)).all()
    assert (batch.line_len >= 0).all()
    assert (batch.line_start >= 0).all()
    assert (batch.line_start + batch.line_len <= len(block.buffer)).all()
    assert ((batch.error != 0) == (batch.kind == 0)).all()
    for row in range(0, len(lines), 97):
        assert batch.line(row).rstrip(b"\r\n") == lines[row].rstrip(b"\r\n"), (row, lines[row])


def decoder_of(channel: str, names_max: int) -> tuple[Any, Any]:
    """A fresh decoder and its symbols."""
    from l2_platform.feeds.iqfeed.decode_depth import DepthDecoder
    from l2_platform.feeds.iqfeed.decode_history import HistoryDecoder
    from l2_platform.feeds.iqfeed.decode_level1 import Level1Decoder
    from l2_platform.market.instruments import SymbolTable

    symbols = SymbolTable(names_max=names_max)
    made = {"depth": DepthDecoder, "level1": Level1Decoder, "ticks": lambda table: HistoryDecoder(table, "A")}[channel]
    return made(symbols), symbols


def run(channel: str, cases: int, seed: int, corpus: Path) -> tuple[dict[str, int], list[bytes]]:
    """Decode `cases` mutated lines; what was done, and one line of each outcome. AssertionError with the block's lines in reach when a rule is broken."""
    from l2_platform.book.engine import BookEngine
    from l2_platform.delivery.rows import RowBuilder

    rng = random.Random(seed)
    mutations = Mutations(rng)
    pool = (corpus / f"{channel}.lines").read_bytes().splitlines()
    first = list(pool)
    memory = Guarded((LINES_A_CALL + len(pool)) * 700)
    seen: set[int] = set()
    kept: list[bytes] = []
    names_max = 1000
    decoder, symbols = decoder_of(channel, names_max)
    books = BookEngine(symbols, levels=5, interval_ns=0) if channel == "depth" else None
    done = calls = 0
    while done < cases:
        lines = first if not done else [mutations.one(pool) for _ in range(min(LINES_A_CALL, cases - done))]
        if channel == "level1":
            lines = [mutations.layout() if rng.random() < 0.002 else line for line in lines]
        block = block_of(lines, rng, memory)
        batch = decoder.decode(block)
        check(block, batch, lines)
        assert len(symbols) <= names_max + 1
        codes = outcomes(batch)
        for row in np.unique(codes, return_index=True)[1].tolist():
            if int(codes[row]) not in seen and len(pool) < POOL_MAX:
                seen.add(int(codes[row]))
                pool.append(lines[row])
                kept.append(lines[row])
        if books is not None:
            books.apply(batch, "recv")
        RowBuilder("s", 20240102, "live", symbols.names).line_events(batch)
        done += len(lines)
        calls += 1
        if calls % 5 == 0:
            decoder, symbols = decoder_of(channel, names_max)
            books = BookEngine(symbols, levels=5, interval_ns=0) if channel == "depth" else None
    return {"lines": done, "outcomes": len(seen)}, kept


def main() -> int:
    """`python -m tests.fuzz.lines LINES SEED CACHE CORPUS`: so many of each channel; exit code 0, or what the defect gives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lines", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("cache", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--keep", type=Path, help="write one line of each outcome into this folder")
    given = parser.parse_args()
    prepare_numba(given.cache)
    for channel in CHANNELS:
        done, kept = run(channel, given.lines, given.seed, given.corpus)
        if given.keep is not None:
            given.keep.mkdir(parents=True, exist_ok=True)
            smallest_first = sorted(set(kept), key=lambda line: (len(line), line))
            (given.keep / f"{channel}.lines").write_bytes(b"".join(line + b"\n" for line in smallest_first))
        sys.stdout.write(f"{channel}: {done}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

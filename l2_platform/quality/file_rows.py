"""What a JSONL record says, as a hash: of the journal's columns, and of the records in the files.

A record holds less than its table's row: time in µs (the venue's, or ours where it gave none), no trust, no orders per level. The
chain of a record is seq, symbol, then the words of its kind (file_kernels). What does not belong here: writing files (sinks/jsonl).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from l2_platform.market.events import NULL_PRICE, Int64, TableBatch, UInt64
from l2_platform.quality.canonical import SEED, TextWords, fold, level_words, text_word
from l2_platform.quality.file_kernels import (
    BOOK_TEXTS,
    BOOK_WORDS,
    QUOTE_TEXTS,
    QUOTE_WORDS,
    TRADE_TEXTS,
    TRADE_WORDS,
    book_words,
    count_lines,
    literals,
    read_records,
)
from l2_platform.quality.sums import times_of
from l2_platform.sinks.jsonl_names import KINDS, folder_of, parse_file_name

TABLES: Final = tuple(KINDS)
"""Tables that have files: books, quotes, trades; the place is the kind's number."""
_TEXTS: Final = (BOOK_TEXTS, QUOTE_TEXTS, TRADE_TEXTS)
_WORDS: Final = (BOOK_WORDS, QUOTE_WORDS, TRADE_WORDS)
_BAD_LINES: Final = 100
_TAIL_BYTES: Final = 1024


@dataclass(slots=True)
class Records:
    """Records of one read."""

    seq: UInt64
    times: Int64
    """ns; whole µs."""
    hashes: UInt64
    bad: list[int] = field(default_factory=list)
    """Numbers of the first lines that are no records, from 1, in the file."""
    bad_count: int = 0


def records_of(batch: TableBatch, texts: TextWords) -> Records:
    """The records that the rows of a batch must have become; rows of no symbol have none."""
    named = np.flatnonzero(np.asarray(batch.columns["symbol"]) >= 0)
    columns = {name: values[named] for name, values in batch.columns.items() if isinstance(values, np.ndarray)}
    times = np.empty(len(named), np.int64)
    times_of(_int64(columns["ts_event"]), _int64(columns["ts_recv"]), times)
    times //= 1000
    kind = TABLES.index(batch.table)
    words = np.empty((len(named), _WORDS[kind]), np.uint64)
    words[:, 0] = times.view(np.uint64)
    (_fill_books, _fill_quotes, _fill_trades)[kind](words, columns)
    seq = np.ascontiguousarray(columns["seq"], np.uint64)
    symbols = texts.of_symbols(columns["symbol"], batch.symbols)
    return Records(seq, times * 1000, _chained(seq, symbols, words))


def _chained(seq: UInt64, symbols: UInt64, words: UInt64) -> UInt64:
    hashes: UInt64 = np.full(len(seq), SEED, np.uint64)
    for column in (seq, symbols, *words.T):
        fold(hashes, np.ascontiguousarray(column))
    return hashes


def _fill_books(words: UInt64, columns: dict[str, Any]) -> None:
    sides: list[Int64] = []
    for side in ("bid", "ask"):
        prices = _int64(columns[f"{side}_px"])
        for name in ("px", "sz"):
            column = np.empty(len(words), np.uint64)
            level_words(column, _int64(columns[f"{side}_{name}"]), prices)
            words[:, 1 + 2 * len(sides) + (name == "sz")] = column
        sides.append(prices[:, 0] if prices.shape[1] else np.full(len(words), NULL_PRICE))
    words[:, 5] = _words(columns["total_bid_size"])
    words[:, 6] = _words(columns["total_ask_size"])
    book_words(words, *sides)


def _fill_quotes(words: UInt64, columns: dict[str, Any]) -> None:
    names = ("bid", "bid_size", "ask", "ask_size", "bid_market_center", "ask_market_center", "total_volume")
    for place, name in enumerate(names, 1):
        words[:, place] = _words(columns[name]) if name in {"bid", "ask"} else _counts(columns[name])
    words[:, 8] = columns["snapshot"] != 0


def _fill_trades(words: UInt64, columns: dict[str, Any]) -> None:
    words[:, 1] = _words(columns["price"])
    words[:, 2] = _counts(columns["size"])
    words[:, 3] = _counts(columns["market_center"])
    words[:, 4] = columns["conditions"]
    words[:, 5] = columns["tick_id"]
    words[:, 6] = np.minimum(columns["aggressor"], 3)
    words[:, 7] = columns["basis"]
    words[:, 8] = _counts(columns["total_volume"])
    words[:, 9] = _words(columns["bid"])
    words[:, 10] = _words(columns["ask"])


def _int64(values: Any) -> Int64:
    return np.ascontiguousarray(values, np.int64)


def _words(values: Any) -> UInt64:
    return _int64(values).view(np.uint64)


def _counts(values: Any) -> UInt64:
    """Numbers that a record shows as null when they are negative."""
    return np.maximum(_int64(values), -1).view(np.uint64)


@dataclass(frozen=True, slots=True)
class RecordFile:
    """One file of a stream and date."""

    path: Path
    symbol: str
    kind: int
    """Place in TABLES."""


def files_of(root: Path, stream: str, session_date: int, streams: Sequence[str], symbols: frozenset[str]) -> list[RecordFile]:
    """Files that hold, or should hold, records of a stream and date, by name.

    A file belongs to the stream that its last lines name. One that names none of `streams` (those of the date) belongs to the one
    that knows its symbol, else to the first: so every file is looked at.
    """
    folder = folder_of(root, stream, session_date)
    beside = [name for name in streams if folder_of(root, name, session_date) == folder]
    found = []
    for path in sorted(folder.glob(f"*_{session_date}.jsonl")) if folder.is_dir() else []:
        try:
            symbol, kind, _ = parse_file_name(path.name)
            number = list(KINDS.values()).index(kind)
        except ValueError:
            continue
        owner = stream_of(path)
        mine = owner == stream if owner in beside else symbol in symbols or (not beside or beside[0] == stream)
        if mine:
            found.append(RecordFile(path, symbol, number))
    return found


def stream_of(path: Path) -> str | None:
    """The stream that the last whole line of a file names; None when it names none."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        tail = file.read()
    end = tail.rfind(b"}\n")
    begin = tail.rfind(b',"stream":', 0, end)
    if begin < 0:
        return None
    try:
        return str(json.loads(b"{" + tail[begin + 1 : end + 1])["stream"])
    except (ValueError, KeyError, TypeError):
        return None


def read_file(file: RecordFile, stream: str, block_bytes: int) -> Iterator[Records]:
    """The records of a file, a block at a time; a torn last line and a line longer than a block are lines that are no records."""
    head = f'{{"symbol":{json.dumps(file.symbol)},"timestamp":"'.encode()
    tail = f',"stream":{json.dumps(stream)},"seq":'.encode()
    known = literals(head, tail, *_TEXTS[file.kind])
    symbol = np.uint64(text_word(file.symbol))
    lines, rest, skipping = 0, b"", False
    with file.path.open("rb") as source:
        while block := source.read(block_bytes):
            end = block.rfind(b"\n") + 1
            if not end:
                # a line without an end in sight: no record of ours is that long
                skipping = skipping or len(rest) + len(block) > block_bytes
                rest = b"" if skipping else rest + block
                continue
            data, rest = rest + block[:end], block[end:]
            if skipping:
                data, skipping = b"\n" + data[data.index(b"\n") + 1 :], False
            found = _parse(np.frombuffer(data, np.uint8), file.kind, known, symbol, lines)
            lines += found.bad_count + len(found.seq)
            yield found
    if rest or skipping:
        none = np.zeros(0, np.int64)
        yield Records(none.view(np.uint64), none, none.view(np.uint64), [lines + 1], 1)


def _parse(data: Any, kind: int, known: Any, symbol: Any, lines_before: int) -> Records:
    count = count_lines(data)
    seq = np.empty(count + 1, np.uint64)
    words = np.zeros((count + 1, _WORDS[kind]), np.uint64)
    bad = np.zeros(_BAD_LINES, np.int64)
    rows, wrong = read_records(kind, data, known, seq, words, bad)
    seq, words = seq[:rows], words[:rows]
    times = np.ascontiguousarray(words[:, 0]).view(np.int64) * 1000
    hashes = _chained(seq, np.full(rows, symbol, np.uint64), words)
    return Records(seq, times, hashes, [lines_before + line + 1 for line in bad[: min(wrong, _BAD_LINES)].tolist()], wrong)

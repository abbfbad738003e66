"""One hash for a row, whoever computes it: over columns, in SQL, and over the records of a file."""

import random
from pathlib import Path
from typing import Any

import chdb
import numpy as np
import pytest

from l2_platform.clock import SystemClock
from l2_platform.journal.frame import Position
from l2_platform.market.events import NULL_PRICE, NULL_TS, TableBatch
from l2_platform.quality.canonical import TextWords, row_hash_sql, row_hashes, text_word
from l2_platform.quality.file_rows import TABLES, RecordFile, Records, files_of, read_file, records_of, stream_of
from l2_platform.quality.sums import Sums, minute_sql, times_of
from l2_platform.settings import JsonlSettings
from l2_platform.sinks.jsonl import JsonlSink
from l2_platform.sinks.jsonl_names import KINDS
from l2_platform.sinks.native import LAYOUTS, NativeEncoder
from l2_platform.warehouse.queries import TABLES as SHAPES

STREAM, DATE, ROWS = "iqfeed-test-0", 20250724, 400
TS = 1_753_370_146_185_016_999
NAMES = ["AAPL", "@ES#", ".DJI", "Ünï\"q\\", "BRK.B"]
PRICES = [NULL_PRICE, 0, 1, -1, 999_999_999, 1_000_000_000, 188_250_000_000, -37_630_000_000, 10**17, -(10**17)]
TIMES = [NULL_TS, 0, -1, TS, TS + 86_400 * 10**9, TS - 400 * 86_400 * 10**9]


def made(table: str, seed: int = 1) -> TableBatch:
    """Rows with every odd value: nulls, negatives, empty sides, all letters of the enumerations."""
    chance = random.Random(f"{table}{seed}")
    columns: dict[str, Any] = {"seq": np.arange(7, 7 + ROWS, dtype=np.uint64)}

    def some(values: list[int], dtype: Any = np.int64) -> Any:
        return np.array(chance.choices(values, k=ROWS), dtype)

    for name, kind in LAYOUTS[table].columns:
        if kind.startswith("Enum8"):
            columns[name] = some([int(part.rstrip(")").split("=")[1]) for part in kind.split(",")], np.uint8)
        elif name == "symbol":
            columns[name] = some([-1, 0, 1, 2, 3, 4], np.int32)
        elif kind.endswith("(18, 9)") or kind == "Nullable(Decimal(18, 9))":
            columns[name] = some(PRICES)
        elif "DateTime64" in kind:
            columns[name] = some(TIMES if kind.startswith("Nullable") else TIMES[1:])
        elif kind == "Date":
            columns[name] = some(TIMES[:1] + TIMES[3:])
        elif kind == "Array(String)" or name in {"detail", "raw"} or (name == "kind" and table == "feed_events"):
            columns[name] = chance.choices(["", "x", "{\"a\":1}", "é"], k=ROWS)
        elif kind == "LowCardinality(String)":
            letters = b"873D17A2"[: 4 if name == "mmid" else 8]
            texts = [0, int.from_bytes(b"01", "little"), int.from_bytes(letters, "little")]
            codes = [0, 5, 1023] if name == "contents" else texts
            columns[name] = some(codes, np.uint32 if name != "conditions" else np.uint64)
        elif name != "seq" and "Array" not in kind:
            signed = kind.startswith("Int")
            size = {"Int64": np.int64, "Int32": np.int32, "UInt64": np.uint64, "UInt32": np.uint32, "UInt8": np.uint8}[kind]
            columns[name] = some([0, 1, -1, -5, 2**31 - 1] if signed else [0, 1, 2, 255], size)
    if table == "book_snapshots":
        columns |= levels_of(chance)
    return TableBatch(table, STREAM, DATE, "live", NAMES, columns)


def levels_of(chance: random.Random) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for side in ("bid", "ask"):
        depth = np.array(chance.choices(range(4), k=ROWS))
        filled = np.arange(3)[None, :] < depth[:, None]
        price = np.array([chance.choices(PRICES[1:], k=3) for _ in range(ROWS)])
        size = np.array([chance.choices([0, 1, 100, 2**40], k=3) for _ in range(ROWS)])
        columns[f"{side}_px"] = np.where(filled, price, NULL_PRICE)
        columns[f"{side}_sz"] = np.where(filled, size, 0)
        columns[f"{side}_ct"] = np.where(filled, 3, 0).astype(np.int32)
        columns[f"total_{side}_size"] = columns[f"{side}_sz"].sum(axis=1)
    return columns


TABLES_HASHED = [table for table in LAYOUTS if table != "gap_events"]


@pytest.mark.parametrize("table", TABLES_HASHED)
def test_columns_and_sql_give_the_same_hash_and_minute(table: str, tmp_path: Path) -> None:
    batch = made(table)
    path = tmp_path / "rows.native"
    path.write_bytes(NativeEncoder().encode(batch, 0, ROWS))
    time = SHAPES[table].time
    sql = f"SELECT {row_hash_sql(table)}, {minute_sql(DATE, time)} FROM file('{path}', Native)"
    answer = [line.split("\t") for line in str(chdb.query(sql, "TSV")).splitlines()]
    hashes = row_hashes(batch, TextWords())
    assert [int(row[0]) for row in answer] == hashes.tolist()
    assert len(set(hashes.tolist())) == ROWS
    sums = Sums(DATE, 100)
    times = np.empty(ROWS, np.int64)
    times_of(batch.columns[time], batch.columns["ts_recv"], times)
    sums.add(batch.columns["seq"], times, hashes)
    minutes = np.bincount([int(row[1]) for row in answer], minlength=len(sums.minutes))
    assert sums.minutes[:, 0].tolist() == minutes.tolist()
    assert (sums.rows, sums.seq_first, sums.seq_last) == (ROWS, 7, 6 + ROWS)


@pytest.mark.parametrize("table", TABLES_HASHED)
def test_every_column_takes_part(table: str) -> None:
    before = row_hashes(made(table), TextWords())
    for name in made(table).columns:
        batch = made(table)
        column = batch.columns[name]
        if isinstance(column, list):
            column[0] = "something else"
        elif column.ndim == 2:
            row = int(np.flatnonzero(batch.columns[f"{name[:4]}px"][:, 0] != NULL_PRICE)[0])
            column[row, 0] += 5
        elif name == "symbol":
            column[0] = 1 - column[0]
        elif name == "trade_date":
            column[0] = TS + 3 * 86_400 * 10**9
        else:
            column[0] += 1
        assert (row_hashes(batch, TextWords()) != before).sum() == 1, name


def written(root: Path, table: str, seed: int = 1) -> tuple[TableBatch, list[RecordFile]]:
    batch = made(table, seed)
    # times before year 0 or prices beyond a double middle are no records of a market
    sink = JsonlSink(JsonlSettings(levels=3), root, SystemClock())
    sink.open()
    keep = np.asarray(batch.columns["symbol"]) >= 0
    batch.columns = {name: values[keep] for name, values in batch.columns.items() if isinstance(values, np.ndarray)}
    sink.write([batch], Position(DATE, 1, 1), 10_000)
    sink.close_stream(STREAM, DATE)
    return batch, files_of(root, STREAM, DATE, [STREAM], frozenset(NAMES))


def all_of(files: list[RecordFile], block_bytes: int = 1 << 20) -> Records:
    parts = [part for file in files for part in read_file(file, STREAM, block_bytes)]
    order = np.argsort(np.concatenate([part.seq for part in parts]))
    seq, times, hashes = (np.concatenate([getattr(part, name) for part in parts])[order] for name in ("seq", "times", "hashes"))
    return Records(seq, times, hashes, bad_count=sum(part.bad_count for part in parts))


@pytest.mark.parametrize("table", TABLES)
def test_columns_and_files_give_the_same_hash(table: str, tmp_path: Path) -> None:
    batch, files = written(tmp_path, table)
    assert sorted(file.symbol for file in files) == sorted(NAMES)
    wanted = records_of(batch, TextWords())
    for block_bytes in (1 << 20, 3000):
        found = all_of(files, block_bytes)
        assert found.bad_count == 0
        assert found.seq.tolist() == wanted.seq.tolist()
        assert found.times.tolist() == wanted.times.tolist()
        assert found.hashes.tolist() == wanted.hashes.tolist()


@pytest.mark.parametrize("table", TABLES)
def test_any_changed_character_of_a_file_is_noticed(table: str, tmp_path: Path) -> None:
    _, files = written(tmp_path, table)
    file = files[0]
    text = file.path.read_bytes()
    end = text.index(b"\n") + 1
    before = all_of([file]).hashes.tolist()
    for place in range(end):
        new = bytes([text[place] ^ 1])
        file.path.write_bytes(text[:place] + new + text[place + 1 :])
        found = all_of([file])
        assert found.bad_count or found.hashes.tolist() != before, text[max(0, place - 20) : place + 20]


def test_torn_long_and_foreign_lines_are_told(tmp_path: Path) -> None:
    _, files = written(tmp_path, "trades")
    file = files[0]
    text = file.path.read_bytes()
    count = text.count(b"\n")
    file.path.write_bytes(text[:-5])
    parts = list(read_file(file, STREAM, 1 << 20))
    assert (sum(len(part.seq) for part in parts), parts[-1].bad) == (count - 1, [count])
    file.path.write_bytes(b"x" * 9000 + b"\n" + text + b"{}\n")
    parts = list(read_file(file, STREAM, 4000))
    assert sum(len(part.seq) for part in parts) == count
    assert [line for part in parts for line in part.bad] == [1, count + 2]
    assert sum(part.bad_count for part in read_file(file, "iqfeed-test-1", 1 << 20)) == count + 2


def test_a_file_belongs_to_the_stream_that_it_names(tmp_path: Path) -> None:
    _, files = written(tmp_path, "quotes")
    streams = ["iqfeed-test-0", "iqfeed-test-1"]
    files[0].path.write_bytes(files[0].path.read_bytes().replace(b"iqfeed-test-0", b"iqfeed-test-1"))
    files[1].path.write_bytes(b"nothing of ours\n")
    assert [stream_of(file.path) for file in files[:3]] == ["iqfeed-test-1", None, "iqfeed-test-0"]
    mine = files_of(tmp_path, "iqfeed-test-0", DATE, streams, frozenset({files[2].symbol}))
    theirs = files_of(tmp_path, "iqfeed-test-1", DATE, streams, frozenset({files[1].symbol}))
    assert {file.path for file in theirs} == {files[0].path, files[1].path}
    assert files[2].path in {file.path for file in mine}
    assert len({file.path for file in (*mine, *theirs)}) == len(files)


def test_texts_are_hashed_as_the_engine_does() -> None:
    answer = str(chdb.query("SELECT halfMD5('abc'), halfMD5(''), halfMD5('Ünï')", "TSV")).split()
    assert [int(number) for number in answer] == [text_word("abc"), text_word(""), text_word("Ünï")]
    assert set(KINDS) == set(TABLES)

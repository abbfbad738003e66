"""JSONL files that vanish, change or cannot be named: noticed, written again, put aside."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from l2_platform.clock import SystemClock
from l2_platform.errors import SinkRejected, SinkUnavailable
from l2_platform.journal.frame import Position
from l2_platform.market.events import TableBatch
from l2_platform.settings import JsonlSettings
from l2_platform.sinks import jsonl
from l2_platform.sinks.jsonl import JsonlSink
from l2_platform.sinks.quarantine import Quarantine
from tests.unit.sinks.test_jsonl import DATE, STREAM, quote_batch


def quotes(first: int, count: int) -> TableBatch:
    seqs = list(range(first, first + count))
    return quote_batch(seqs, [seq % 5 for seq in seqs])


def quarantine_at(home: Path) -> Quarantine:
    return Quarantine(home / "quarantine", "jsonl", 10, SystemClock())


@pytest.mark.parametrize("damage", ["deleted", "shortened", "all"])
def test_files_that_were_deleted_or_cut_are_written_again(tmp_path: Path, damage: str) -> None:
    root = tmp_path / "jsonl"
    sink = JsonlSink(JsonlSettings(), root, SystemClock())
    sink.open()
    sink.resume(STREAM, DATE)
    sink.write([quotes(1, 40)], Position(DATE, 1, 40), 40)
    sink.close()
    files = {path: path.read_bytes() for path in root.rglob("*_l1_*.jsonl")}
    first = min(files)
    if damage == "shortened":
        first.write_bytes(files[first].splitlines(keepends=True)[0])
    for path in files if damage == "all" else [first] if damage == "deleted" else []:
        path.unlink()
    sink = JsonlSink(JsonlSettings(), root, SystemClock())
    sink.open()
    point = sink.resume(STREAM, DATE)
    assert (point.seq, point.position, sink.rewritten) == (0, None, 1)
    assert not list(root.rglob("*_l1_*.jsonl"))
    sink.write([quotes(1, 40)], Position(DATE, 1, 40), 40)
    sink.close()
    assert {path: path.read_bytes() for path in root.rglob("*_l1_*.jsonl")} == files


def test_a_file_deleted_under_a_running_sink_is_noticed_at_the_next_line_and_at_the_end(tmp_path: Path) -> None:
    sink = JsonlSink(JsonlSettings(), tmp_path, SystemClock())
    sink.open()
    sink.resume(STREAM, DATE)
    sink.write([quotes(1, 40)], Position(DATE, 1, 40), 40)
    whole = sorted(tmp_path.rglob("*_l1_*.jsonl"))
    whole[0].unlink()
    with pytest.raises(SinkUnavailable, match="another program") as caught:
        sink.write([quotes(41, 40)], Position(DATE, 1, 80), 80)
    assert caught.value.facts["resume"]
    assert sink.resume(STREAM, DATE).seq == 0
    sink.write([quotes(1, 80)], Position(DATE, 1, 80), 80)
    whole[0].unlink()
    with pytest.raises(SinkUnavailable, match="missing"):
        sink.close_stream(STREAM, DATE)


def test_a_symbol_that_cannot_name_a_file_goes_to_quarantine_and_back(tmp_path: Path) -> None:
    sink = JsonlSink(JsonlSettings(), tmp_path / "jsonl", SystemClock(), quarantine_at(tmp_path))
    sink.open()
    sink.resume(STREAM, DATE)
    batch = replace(quotes(1, 6), symbols=["GOOD", "X" * 300, "FINE"])
    batch.columns["symbol"] = np.array([0, 1, 2, 0, 1, 2], np.int32)
    sink.write([batch], Position(DATE, 1, 60), 6)
    lines = [json.loads(line) for path in tmp_path.rglob("*_l1_*.jsonl") for line in path.read_text().splitlines()]
    assert sorted(line["seq"] for line in lines) == [1, 3, 4, 6]
    held = next(iter(quarantine_at(tmp_path).contents())).held
    assert sorted(seq for _, seq, _ in held) == [2, 5]
    row = held["quotes", 2, 0]
    assert (row.reason.partition(":")[2], row.journal_to, row.batch().symbols) == (" File name too long", (DATE, 1, 60), ["X" * 300])
    sink.close()
    sink = JsonlSink(JsonlSettings(), tmp_path / "jsonl", SystemClock(), quarantine_at(tmp_path))
    sink.open()
    assert sink.resume(STREAM, DATE).seq == 6
    sink.close()
    for row in held.values():
        sink.redeliver(row)
    point = sink.resume(STREAM, DATE)
    assert (point.seq, sink.rewritten) == (1, 0)
    sink.write([replace(batch, symbols=["GOOD", "SHORT", "FINE"])], Position(DATE, 1, 60), 6)
    lines = [json.loads(line) for path in tmp_path.rglob("*_l1_*.jsonl") for line in path.read_text().splitlines()]
    assert sorted(line["seq"] for line in lines) == [1, 2, 3, 4, 5, 6]


def test_rows_that_cannot_be_put_aside_leave_no_part_of_a_write(tmp_path: Path) -> None:
    sink = JsonlSink(JsonlSettings(), tmp_path / "jsonl", SystemClock(), quarantine_at(tmp_path))
    sink.open()
    sink.resume(STREAM, DATE)
    batch = replace(quotes(1, 6), symbols=["GOOD", "X" * 300, "FINE"])
    batch.columns["symbol"] = np.array([0, 1, 2, 0, 1, 2], np.int32)
    (tmp_path / "quarantine").write_text("a file where a folder must be")
    with pytest.raises(SinkUnavailable, match="put a refused row"):
        sink.write([batch], Position(DATE, 1, 60), 6)
    assert not list(tmp_path.rglob("*_l1_*.jsonl"))
    (tmp_path / "quarantine").unlink()
    sink.write([batch], Position(DATE, 1, 60), 6)
    lines = [json.loads(line) for path in tmp_path.rglob("*_l1_*.jsonl") for line in path.read_text().splitlines()]
    assert sorted(line["seq"] for line in lines) == [1, 3, 4, 6]


def test_rows_of_no_symbol_are_put_aside(tmp_path: Path) -> None:
    sink = JsonlSink(JsonlSettings(), tmp_path / "jsonl", SystemClock(), quarantine_at(tmp_path))
    sink.open()
    sink.resume(STREAM, DATE)
    batch = replace(quotes(1, 6), symbols=[f"S{number:05d}" for number in range(200)])
    batch.columns["symbol"] = np.array([0, -1, 199, -1, 0, 199], np.int32)
    sink.write([batch], Position(DATE, 1, 60), 6)
    lines = [json.loads(line) for path in tmp_path.rglob("*_l1_*.jsonl") for line in path.read_text().splitlines()]
    assert sorted((line["seq"], line["symbol"]) for line in lines) == [(1, "S00000"), (3, "S00199"), (5, "S00000"), (6, "S00199")]
    held = next(iter(quarantine_at(tmp_path).contents())).held
    assert sorted(seq for _, seq, _ in held) == [2, 4]
    assert "no symbol" in held["quotes", 2, 0].reason


def test_without_a_quarantine_rows_of_no_symbol_stop_the_stream(tmp_path: Path) -> None:
    sink = JsonlSink(JsonlSettings(), tmp_path, SystemClock())
    sink.open()
    sink.resume(STREAM, DATE)
    batch = quotes(1, 2)
    batch.columns["symbol"] = np.array([0, -1], np.int32)
    with pytest.raises(SinkRejected, match="no symbol"):
        sink.write([batch], Position(DATE, 1, 60), 2)
    assert not list(tmp_path.rglob("*_l1_*.jsonl"))


def test_a_refused_row_counts_once_however_a_write_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "ROWS_FORMATTED", 4)
    sink = JsonlSink(JsonlSettings(), tmp_path / "jsonl", SystemClock(), quarantine_at(tmp_path))
    sink.open()
    sink.resume(STREAM, DATE)
    batch = replace(quotes(1, 10), symbols=["X" * 300])
    batch.columns["symbol"] = np.zeros(10, np.int32)
    sink.write([batch], Position(DATE, 1, 100), 10)
    (path,) = (tmp_path / "quarantine" / "jsonl").iterdir()
    assert len(path.read_text().splitlines()) == 10

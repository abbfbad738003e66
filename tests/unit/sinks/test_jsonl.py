"""JSONL files: exact records, safe names, and exactly once through kills, torn tails and full disks."""

import json
import multiprocessing
import os
import random
import resource
import signal
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from l2_platform.clock import SystemClock
from l2_platform.errors import SinkUnavailable
from l2_platform.journal.frame import Position
from l2_platform.market.events import NULL_PRICE, NULL_TS, TableBatch
from l2_platform.settings import JsonlSettings
from l2_platform.sinks.jsonl import JsonlSink
from l2_platform.sinks.jsonl_names import file_name, folder_of, parse_file_name
from l2_platform.sinks.sink import ResumePoint

STREAM = "iqfeed-depth-0"
DATE = 20250724
NAMES = ["AAPL", "@ES#", ".DJI", "A/B", "BRK.B", *(f"SYM{number:03d}" for number in range(15))]
TS = 1_753_370_146_185_016_999
"""2025-07-24T11:15:46.185016999-04:00."""


def at(offset: int) -> Position:
    return Position(DATE, 1, offset)


def sink_at(root: Path, **settings: float) -> JsonlSink:
    sink = JsonlSink(JsonlSettings(**settings), root, SystemClock())  # type: ignore[arg-type]
    sink.open()
    return sink


def book_batch(
    seq: list[int],
    symbol: list[int],
    bids: list[list[tuple[int, int]]],
    asks: list[list[tuple[int, int]]],
    ts: int = TS,
) -> TableBatch:
    """Books whose sides are lists of (price, size), padded with empty levels."""
    rows = len(seq)
    columns = {}
    for side, levels in (("bid", bids), ("ask", asks)):
        columns[f"{side}_px"] = np.full((rows, 10), NULL_PRICE)
        columns[f"{side}_sz"] = np.zeros((rows, 10), np.int64)
        for row, pairs in enumerate(levels):
            for level, (price, size) in enumerate(pairs):
                columns[f"{side}_px"][row, level] = price
                columns[f"{side}_sz"][row, level] = size
    columns |= {
        "seq": np.array(seq, np.uint64),
        "symbol": np.array(symbol, np.int32),
        "ts_event": np.full(rows, ts),
        "ts_recv": np.full(rows, TS + 1_000_000),
    }
    return TableBatch("book_snapshots", STREAM, DATE, "live", NAMES, columns)


def quote_batch(seq: list[int], symbol: list[int]) -> TableBatch:
    rows = len(seq)
    numbers = np.array(seq, np.int64)
    columns = {
        "seq": np.array(seq, np.uint64),
        "symbol": np.array(symbol, np.int32),
        "ts_event": np.full(rows, TS),
        "ts_recv": np.full(rows, TS),
        "bid": 188_250_000_000 + numbers * 10_000_000,
        "bid_size": numbers,
        "bid_market_center": np.full(rows, 11, np.int32),
        "ask": np.where(numbers % 7 == 0, NULL_PRICE, 188_360_000_000),
        "ask_size": np.full(rows, -1),
        "ask_market_center": np.full(rows, -1, np.int32),
        "total_volume": numbers * 100,
        "snapshot": (numbers % 2).astype(np.uint8),
    }
    return TableBatch("quotes", STREAM, DATE, "live", NAMES, columns)


def trade_batch(seq: list[int], symbol: list[int]) -> TableBatch:
    rows = len(seq)
    columns = {
        "seq": np.array(seq, np.uint64),
        "symbol": np.array(symbol, np.int32),
        "ts_event": np.full(rows, TS),
        "ts_recv": np.full(rows, TS),
        "price": np.full(rows, 188_350_000_000),
        "size": np.full(rows, 100),
        "market_center": np.full(rows, 19, np.int32),
        "conditions": np.full(rows, int.from_bytes(b"873D17", "little"), np.uint64),
        "tick_id": np.full(rows, 2**64 - 1, np.uint64),
        "aggressor": np.full(rows, 1, np.uint8),
        "basis": np.full(rows, ord("C"), np.uint8),
        "total_volume": np.full(rows, 37_629_453),
        "bid": np.full(rows, 188_250_000_000),
        "ask": np.full(rows, NULL_PRICE),
    }
    return TableBatch("trades", STREAM, DATE, "live", NAMES, columns)


def batches_of(first: int) -> list[TableBatch]:
    """The rows of ten seqs in three tables, the same for the same `first`."""
    chance = random.Random(first)
    seq = list(range(first, first + 10))
    symbol = [chance.randrange(len(NAMES)) for _ in seq]
    sides = [
        [(chance.randrange(1, 10**12), chance.randrange(1, 999)) for _ in range(chance.randrange(11))] for _ in seq
    ]
    return [book_batch(seq, symbol, sides, sides[::-1]), quote_batch(seq, symbol), trade_batch(seq[::3], symbol[::3])]


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.jsonl"))}


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line, parse_float=Decimal) for line in path.read_text(encoding="utf-8").splitlines()]


def test_l2_record_is_the_documented_one(tmp_path: Path) -> None:
    sink = sink_at(tmp_path)
    batch = book_batch(
        [41],
        [0],
        [[(215_110_000_000, 194), (215_100_000_000, 2857)]],
        [[(215_160_000_000, 545), (216_000_000_000, 2102)]],
    )
    sink.write([batch], at(10), 41)
    sink.close()
    line = (tmp_path / "live" / str(DATE) / f"AAPL_l2_{DATE}.jsonl").read_text()
    assert line == (
        '{"symbol":"AAPL","timestamp":"2025-07-24T11:15:46.185016-04:00",'
        '"bids":[{"price":215.11,"size":194,"level":1},{"price":215.1,"size":2857,"level":2}],'
        '"asks":[{"price":215.16,"size":545,"level":1},{"price":216,"size":2102,"level":2}],'
        '"total_bid_size":3051,"total_ask_size":2647,"spread":0.05,"mid_price":215.135,'
        '"stream":"iqfeed-depth-0","seq":41}\n'
    )


def test_one_sided_book_has_no_spread_and_falls_back_to_receive_time(tmp_path: Path) -> None:
    sink = sink_at(tmp_path)
    sink.write([book_batch([1, 2], [0, 0], [[], [(1, 1)]], [[(5, 2)], []], ts=NULL_TS)], at(10), 2)
    sink.close()
    for record in records(tmp_path / "live" / str(DATE) / f"AAPL_l2_{DATE}.jsonl"):
        assert record["spread"] is None
        assert record["mid_price"] is None
        assert record["timestamp"] == "2025-07-24T11:15:46.186016-04:00"


@pytest.mark.parametrize(
    ("bid", "ask"),
    [
        (1, 2),
        (-1, 0),
        (-3, -2),
        (-5, 4),
        (2**63 - 2, 2**63 - 1),
        (-(2**63) + 1, -(2**63) + 2),
        (0, 0),
        (3_500_000_000, 10**18),
    ],
)
def test_prices_are_exact_decimals(tmp_path: Path, bid: int, ask: int) -> None:
    sink = sink_at(tmp_path)
    sink.write([book_batch([1], [0], [[(bid, 1)]], [[(ask, 1)]])], at(10), 1)
    sink.close()
    [record] = records(tmp_path / "live" / str(DATE) / f"AAPL_l2_{DATE}.jsonl")
    unit = Decimal("1e-9")
    assert Decimal(record["bids"][0]["price"]) == bid * unit  # type: ignore[index]
    assert Decimal(record["spread"]) == (ask - bid) * unit  # type: ignore[arg-type]
    assert Decimal(record["mid_price"]) == (ask + bid) * unit / 2  # type: ignore[arg-type]


def shortest(units: int, places: int) -> str:
    """Units of 10^-places as the shortest decimal."""
    digits = f"{abs(units):0{places + 1}}"
    text = f"{digits[:-places]}.{digits[-places:]}".rstrip("0").rstrip(".")
    return f"-{text}" if units < 0 else text


def test_numbers_of_every_length_are_the_shortest_decimals(tmp_path: Path) -> None:
    chance = random.Random(5)
    numbers = [10**power + step for power in range(20) for step in (-1, 0, 1)] + [2**64 - 1, 2**63 - 1, 2**63 - 2]
    numbers += [chance.randrange(10 ** chance.randrange(1, 20)) * 10 ** chance.randrange(5) % 2**64 for _ in range(2000)]
    signed = [number % 2**63 * chance.choice((1, -1)) for number in numbers]
    following = [min(value + chance.randrange(4), 2**63 - 1) for value in signed]
    seq, symbol = list(range(1, len(numbers) + 1)), [0] * len(numbers)
    trades = trade_batch(seq, symbol)
    trades.columns |= {"tick_id": np.array(numbers, np.uint64), "price": np.array(signed)}
    books = book_batch(seq, symbol, [[(value, 1)] for value in signed], [[(value, 1)] for value in following])
    sink = sink_at(tmp_path)
    sink.write([trades, books], at(10), len(numbers))
    sink.close()
    ticks, l2 = ((tmp_path / "live" / str(DATE) / f"AAPL_{kind}_{DATE}.jsonl").read_text().splitlines() for kind in ("ticks", "l2"))
    for line, number, price in zip(ticks, numbers, signed, strict=True):
        assert f'"price":{shortest(price, 9)},' in line
        assert f'"tick_id":{number},' in line
    for line, bid, ask in zip(l2, signed, following, strict=True):
        assert f'"spread":{shortest(ask - bid, 9)},"mid_price":{shortest(5 * (bid + ask), 10)},' in line


@pytest.mark.parametrize("month", [1, 3, 7, 11])
def test_timestamps_equal_the_standard_library(tmp_path: Path, month: int) -> None:
    sink = sink_at(tmp_path)
    chance = random.Random(month)
    stamps = [
        int(datetime(2024, month, day, hour, 59, 59, tzinfo=UTC).timestamp()) * 10**9 + chance.randrange(10**9)
        for day in range(1, 30, 2)
        for hour in range(0, 24, 3)
    ]
    batch = book_batch(list(range(1, len(stamps) + 1)), [0] * len(stamps), [[]] * len(stamps), [[]] * len(stamps))
    batch.columns["ts_event"] = np.array(stamps)
    sink.write([batch], at(10), len(stamps))
    sink.close()
    zone = ZoneInfo("America/New_York")
    for stamp, record in zip(stamps, records(tmp_path / "live" / str(DATE) / f"AAPL_l2_{DATE}.jsonl"), strict=True):
        expected = datetime.fromtimestamp(stamp // 10**9, zone).replace(microsecond=stamp % 10**9 // 1000)
        assert record["timestamp"] == expected.isoformat(timespec="microseconds")


def test_l1_and_ticks_records(tmp_path: Path) -> None:
    sink = sink_at(tmp_path)
    trades = trade_batch([7], [0])
    texts = trade_batch([8], [0])
    texts.columns["conditions"] = ["873D17"]
    sink.write([quote_batch([7], [0]), trades], at(10), 7)
    sink.write([texts], at(11), 8)
    sink.close()
    folder = tmp_path / "live" / str(DATE)
    assert records(folder / f"AAPL_l1_{DATE}.jsonl") == [
        {
            "symbol": "AAPL", "timestamp": "2025-07-24T11:15:46.185016-04:00", "bid": Decimal("188.32"), "bid_size": 7,
            "ask": None, "ask_size": None, "bid_market_center": 11, "ask_market_center": None, "total_volume": 700,
            "snapshot": True, "stream": STREAM, "seq": 7,
        }
    ]  # fmt: skip
    first, second = records(folder / f"AAPL_ticks_{DATE}.jsonl")
    assert first == {
        "symbol": "AAPL", "timestamp": "2025-07-24T11:15:46.185016-04:00", "price": Decimal("188.35"), "size": 100,
        "market_center": 19, "conditions": "873D17", "tick_id": 2**64 - 1, "aggressor": "buy", "basis": "C",
        "total_volume": 37_629_453, "bid": Decimal("188.25"), "ask": None, "stream": STREAM, "seq": 7,
    }  # fmt: skip
    assert second == first | {"seq": 8}


@pytest.mark.parametrize("symbol", ["AAPL", "@ES#", ".DJI", "A/B", "BRK.B", "A_B", "TST$Y", "50%", "..", 'Q"x', "É"])
def test_file_names_are_safe_and_reversible(symbol: str) -> None:
    name = file_name(symbol, "l2", DATE)
    assert parse_file_name(name) == (symbol, "l2", DATE)
    assert "/" not in name
    assert not name.startswith(".")


def test_folders_by_source() -> None:
    root = Path("root")
    assert folder_of(root, STREAM, DATE) == root / "live" / "20250724"
    stream = "iqfeed-depth-import-0011aabb"
    assert folder_of(root, stream, DATE) == root / "import" / stream / "20250724"
    assert folder_of(root, "iqfeed-level1-history", DATE) == root / "history" / "iqfeed-level1-history" / "20250724"


def test_rows_of_a_symbol_keep_their_order_over_few_descriptors(tmp_path: Path) -> None:
    sink = sink_at(tmp_path, open_files_max=16)
    for first in range(1, 400, 10):
        sink.write(batches_of(first), at(first), first + 9)
    sink.close()
    seqs = []
    for path in tmp_path.rglob("*_l2_*.jsonl"):
        own = [record["seq"] for record in records(path)]
        assert own == sorted(own)  # type: ignore[type-var]
        seqs += own
    assert sorted(seqs) == list(range(1, 401))  # type: ignore[type-var]


def test_other_tables_are_ignored_and_an_empty_batch_moves_the_position(tmp_path: Path) -> None:
    sink = sink_at(tmp_path)
    batch = TableBatch("depth_updates", STREAM, DATE, "live", NAMES, {"seq": np.zeros(0, np.uint64)})
    sink.write([batch], at(99), 12)
    sink.close()
    assert not contents(tmp_path)
    assert sink_at(tmp_path).resume(STREAM, DATE).seq == 12


def test_resume_cuts_what_came_after_the_last_sync(tmp_path: Path) -> None:
    sink = sink_at(tmp_path, sync_s=3600)
    sink.write(batches_of(1), at(10), 10)
    sink.sync()
    before = contents(tmp_path)
    sink.write(batches_of(11), at(20), 20)
    other = sink_at(tmp_path)
    assert other.resume(STREAM, DATE) == ResumePoint(
        10, {"book_snapshots": (10, 0), "quotes": (10, 0), "trades": (10, 0)}, at(10)
    )
    assert contents(tmp_path) == before


@pytest.mark.parametrize("tail", [b'{"symbol":"AAPL","timest', b"\0" * 5000, b'{"symbol":"AAPL"}\n', b"x\n\n"])
def test_resume_cuts_a_torn_tail(tmp_path: Path, tail: bytes) -> None:
    sink = sink_at(tmp_path)
    sink.write(batches_of(1), at(10), 10)
    sink.close()
    before = contents(tmp_path)
    for name in before:
        with (tmp_path / name).open("ab") as file:
            file.write(tail)
    sink_at(tmp_path).resume(STREAM, DATE)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("record", [None, b"", b"{}", b'{"seq":'])
def test_resume_without_position_starts_from_nothing(tmp_path: Path, record: bytes | None) -> None:
    sink = sink_at(tmp_path)
    sink.write(batches_of(1), at(10), 10)
    sink.close()
    [path] = (tmp_path / ".positions").glob("*.json")
    if record is None:
        path.unlink()
    else:
        path.write_bytes(record)
    assert sink_at(tmp_path).resume(STREAM, DATE).seq == 0
    assert not contents(tmp_path)


def test_rows_written_before_are_skipped(tmp_path: Path) -> None:
    sink = sink_at(tmp_path)
    sink.write(batches_of(1), at(10), 10)
    before = contents(tmp_path)
    sink.write(batches_of(1), at(10), 10)
    assert contents(tmp_path) == before


def test_failed_write_leaves_files_as_they_were_and_can_be_repeated(tmp_path: Path) -> None:
    sink = sink_at(tmp_path / "limited")
    whole = sink_at(tmp_path / "whole")
    for target in (sink, whole):
        target.write(batches_of(1), at(10), 10)
    before = contents(tmp_path / "limited")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The disk is full in the middle of a record: the kernel takes a part of the bytes, then refuses.
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(len(data) for data in before.values()) + 100, limits[1]))
    try:
        with pytest.raises(SinkUnavailable, match="cannot write"):
            sink.write(batches_of(11), at(20), 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(tmp_path / "limited") == before
    for target in (sink, whole):
        target.write(batches_of(11), at(20), 20)
    assert contents(tmp_path / "limited") == contents(tmp_path / "whole")


def run_to_the_end(root: Path, last: int) -> None:
    """What a delivery does: ask where the sink is, write from there on."""
    sink = sink_at(root, sync_s=0.004, open_files_max=16)
    for first in range(sink.resume(STREAM, DATE).seq + 1, last, 10):
        sink.write(batches_of(first), at(first + 9), first + 9)
    sink.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_kills_at_any_moment_change_nothing(tmp_path: Path) -> None:
    last = 20_000
    run_to_the_end(tmp_path / "whole", last)
    chance = random.Random(3)
    kills = 0
    torn = tmp_path / "torn"
    for _ in range(24):
        child = multiprocessing.get_context("fork").Process(target=run_to_the_end, args=(torn, last))
        child.start()
        time.sleep(chance.uniform(0.005, 0.06))
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        kills += child.exitcode == -signal.SIGKILL
    assert kills >= 20
    run_to_the_end(torn, last)
    assert contents(torn) == contents(tmp_path / "whole")

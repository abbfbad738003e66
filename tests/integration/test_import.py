"""`l2 import`, `l2 book`, `l2 sql` in a fresh home with nothing running, as a new user has it; on real bytes and on generated ones."""

import gzip
import json
import random
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from tests.integration.homes import Home
from tests.oracle.book_oracle import BookOracle

NEW_YORK = ZoneInfo("America/New_York")
EMPTY = {"ask": 9_999_999_999, "bid": -9_999_999_999}

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Home:
    return Home(tmp_path_factory.mktemp("home"), numba_cache)


def levels_of(frame: pl.DataFrame, side: str, level: int) -> tuple[np.ndarray, np.ndarray]:
    """(price × 10,000, size) of a level, empty ones as the truth files write them."""
    price = frame[f"{side}_px_{level}"]
    cents = (price.fill_null(0) * 10_000).round().cast(pl.Int64).to_numpy()
    return np.where(price.is_null().to_numpy(), EMPTY[side], cents), frame[f"{side}_sz_{level}"].fill_null(0).to_numpy()


@pytest.mark.parametrize("shape", ["order", "price", "venue"])
def test_real_hour_gives_the_vendors_book_on_every_row(home: Home, market_data: Path, tmp_path: Path, shape: str) -> None:
    wire = market_data / f"aapl_2012-06-21_depth_by_{shape}.iqfeed.txt.gz"
    record = json.loads(home.ok("import", wire, "--feed", "iqfeed", "--channel", "depth", "--json"))
    assert record["session_dates"] == [20120621]
    out = tmp_path / "book.parquet"
    levels = 1 if shape == "venue" else 50
    home.ok("book", "export", "AAPL", "--date", "2012-06-21", "--levels", str(levels), "--out", out, "--stream", record["stream"])
    frame = pl.read_parquet(out)
    assert frame["line"].to_list() == list(range(1, record["lines"] + 1))

    index = pl.read_csv(market_data / f"aapl_2012-06-21_depth_by_{shape}.index.csv.gz").filter(pl.col("msg") >= 0)
    at = frame[(index["line_end"] - 1).to_list()]
    truth = np.loadtxt(market_data / "aapl_2012-06-21_truth_level1.csv.gz", np.int64, delimiter=",")
    assert len(index) == len(truth) == 91_997
    for column, values in enumerate((*levels_of(at, "ask", 1), *levels_of(at, "bid", 1))):
        assert np.array_equal(values, truth[:, column])
    if levels == 50:
        deep = np.loadtxt(market_data / "aapl_2012-06-21_truth_50levels_first672.csv.gz", np.int64, delimiter=",")
        first = at.head(672)
        for level in range(1, 51):
            values = np.stack([*levels_of(first, "ask", level), *levels_of(first, "bid", level)], axis=1)
            assert np.array_equal(values, deep[:, 4 * (level - 1) : 4 * level]), f"level {level}"


def test_real_ticks_are_exact(home: Home, market_data: Path) -> None:
    wire = market_data / "iqfeed_ticks_2021-03-01_to_03.csv.gz"
    record = json.loads(home.ok("import", wire, "--feed", "iqfeed", "--channel", "ticks", "--symbol", "XYZ", "--json"))
    assert record["session_dates"] == [20210301, 20210302, 20210303]
    out = home.path / "trades.parquet"
    home.ok(
        "sql", "SELECT seq, toString(price) AS price, size, toUnixTimestamp64Nano(assumeNotNull(ts_event)) AS ts, tick_id, "
        "total_volume FROM trades WHERE symbol = 'XYZ' ORDER BY seq", "--format", "parquet", "--out", out,
    )  # fmt: skip
    stored = pl.read_parquet(out).rows()
    with gzip.open(wire, "rt") as file:
        lines = [line.split(",") for line in file if not line.startswith("!ENDMSG!")]
    assert len(stored) == len(lines) == 32_627
    for number, (row, line) in enumerate(zip(stored, lines, strict=True), 1):
        moment = datetime.fromisoformat(line[0]).replace(tzinfo=NEW_YORK)
        ts = int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
        assert (row[0], Decimal(row[1]), row[2], row[3], row[4], row[5]) == (
            number, Decimal(line[1]), int(line[2]), ts, int(line[6]), int(line[3]),
        )  # fmt: skip


def test_minute_bars_of_real_ticks_are_the_vendors(home: Home, market_data: Path) -> None:
    wire = market_data / "iqfeed_ticks_2021-03-01_to_03.csv.gz"
    home.ok("import", wire, "--channel", "ticks", "--symbol", "XYZ")
    out = home.path / "bars.parquet"
    home.ok(
        "sql", "SELECT toUnixTimestamp(ts_begin) AS minute, toFloat64(open) AS open, toFloat64(high) AS high, toFloat64(low) AS low, "
        "toFloat64(close) AS close, volume FROM bars_1m WHERE symbol = 'XYZ' ORDER BY minute", "--format", "parquet", "--out", out,
    )  # fmt: skip
    names = ["time", "high", "low", "open", "close", "total", "volume"]
    with gzip.open(market_data / "iqfeed_bars_1s_2021-03-01_to_03.csv.gz", "rt") as file:
        lines = [line.split(",")[:7] for line in file if not line.startswith("!")]
    vendor = (
        pl.DataFrame(lines, schema=names, orient="row")
        .with_columns(
            pl.col("time").str.to_datetime().dt.replace_time_zone("America/New_York").dt.epoch("s").alias("second"),
            pl.col("high", "low", "open", "close").cast(pl.Float64), pl.col("volume").cast(pl.Int64),
        )
        .group_by((pl.col("second") // 60 * 60).alias("minute"), maintain_order=True)
        .agg(pl.first("open"), pl.max("high"), pl.min("low"), pl.last("close"), pl.sum("volume"))
        .sort("minute")
    )  # fmt: skip
    stored = pl.read_parquet(out).with_columns(pl.col("minute").cast(pl.Int64))
    assert len(vendor) > 1000
    assert stored.rows() == vendor.rows()


def generated_lines(seed: int, count: int) -> list[str]:
    """Order flow of two symbols: adds, moves, deletes, unknown deletes, one bad line, one clock line."""
    rng = random.Random(seed)
    live: dict[str, dict[int, str]] = {"AAA": {}, "BBB": {}}
    lines = ["T,20240102 09:30:00"]
    for number in range(1, count):
        symbol = rng.choice(("AAA", "BBB"))
        orders = live[symbol]
        stamp = f"10:{number // 6000 % 60:02d}:{number // 100 % 60:02d}.{number % 100:02d}0000,2024-01-02,"
        kind = rng.random()
        if number == count // 2:
            lines.append(f"3,{symbol},77,,B,not a price,5,1,2,{stamp}")
        elif kind < 0.55 or not orders:
            side = rng.choice("AB")
            orders[number] = side
            price = 100 + rng.randint(1, 40) / 100 * (1 if side == "A" else -1)
            lines.append(f"3,{symbol},{number},,{side},{price:.4f},{rng.randint(1, 900)},{number},4,{stamp}")
        elif kind < 0.75:
            order, side = rng.choice(sorted(orders.items()))
            price = 100 + rng.randint(1, 40) / 100 * (1 if side == "A" else -1)
            lines.append(f"4,{symbol},{order},,{side},{price:.4f},{rng.randint(1, 900)},{number},4,{stamp}")
        elif kind < 0.97:
            order = rng.choice(sorted(orders))
            lines.append(f"5,{symbol},{order},,{orders.pop(order)},{stamp}")
        else:
            lines.append(f"5,{symbol},{10**12 + number},,A,{stamp}")
    return lines


def ladder(oracle: BookOracle, side: str) -> list[tuple[int, int, int]]:
    book = oracle.books.get("AAA")
    return [(int(price * 10**9), size, count) for price, size, count in book.ladder(side)] if book else []


def test_generated_flow_equals_the_oracle_in_export_tables_and_files(numba_cache: Path, tmp_path: Path) -> None:
    home = Home(tmp_path, numba_cache, {"L2_JSONL__L2_INTERVAL_MS": "0"})
    lines = generated_lines(11, 3000)
    wire = tmp_path / "flow.txt"
    wire.write_text("\r\n".join(lines) + "\r\n")
    record = json.loads(home.ok("import", wire, "--channel", "depth", "--json"))
    assert record["lines"] == 3000

    out = tmp_path / "aaa.jsonl"
    home.ok("book", "export", "AAA", "--levels", "3", "--out", out)
    oracle = BookOracle()
    exported = [json.loads(text) for text in out.read_text().splitlines()]
    assert len(exported) == len(lines)
    tops: list[tuple[int, object]] = []
    seen: object = ([], [])
    for number, (line, row) in enumerate(zip(lines, exported, strict=True), 1):
        if "not a price" not in line:
            oracle.line(number, number, line)
        for side, letter in (("bid", "B"), ("ask", "A")):
            expected = ladder(oracle, letter)[:3]
            got = [
                (round(row[f"{side}_px_{level}"] * 1e9), row[f"{side}_sz_{level}"], row[f"{side}_ct_{level}"])
                for level in (1, 2, 3)
                if row[f"{side}_px_{level}"] is not None
            ]
            assert got == expected, f"line {number}"
        top = (ladder(oracle, "B")[:10], ladder(oracle, "A")[:10])
        if top != seen:
            tops.append((number, top))
            seen = top

    # Every change of the top ten is one record, in the file and in the table.
    (file,) = (home.path / "jsonl" / "import").rglob("AAA_l2_20240102.jsonl")
    records = [json.loads(text) for text in file.read_text().splitlines()]
    stored = home.sql("SELECT seq, total_bid_size FROM book_snapshots WHERE symbol = 'AAA' ORDER BY seq")
    assert [entry["seq"] for entry in records] == [row["seq"] for row in stored] == [number for number, _ in tops]
    (bad,) = home.sql("SELECT seq, raw FROM feed_events WHERE kind = 'quarantine'")
    assert bad["seq"] == 1501
    assert bad["raw"] == lines[1500]

    counts = "SELECT (SELECT count() FROM depth_updates) AS depth, (SELECT count() FROM book_snapshots) AS books"
    before = home.sql(counts)
    again = json.loads(home.ok("import", wire, "--channel", "depth", "--json"))
    assert again["already_imported"]
    assert home.sql(counts) == before
    assert [json.loads(text) for text in file.read_text().splitlines()] == records


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, ("--channel", "depth"), "no such file"),
        (b"", ("--channel", "depth"), "empty"),
        (bytes(range(256)) * 40, ("--channel", "depth"), "not text"),
        (b"Q,AAPL,1.5,1,10:00:00.000000,5,1,1,1,1,1,,,,,Cba,01,0,2,\r\n", ("--channel", "depth"), "level1"),
        (b"3,A,1,,B,1.5,1,1,2,10:00:00.000000,2024-01-02,\r\n", ("--channel", "level1", "--date", "2024-01-02"), "depth"),
        (b"3,A,1,,B,1.5,1,1,2,10:00:00.000000,2024-01-02,\r\n", ("--channel", "depth", "--date", "2024-01-03"), "its date 2024-01-02"),
        (b"Q,AAPL,1.5,1,10:00:00.000000,5,1,1,1,1,1,,,,,Cba,01,0,2,\r\n", ("--channel", "level1"), "--date"),
        (gzip.compress(b"3,A,1,,B,1.5,1,1,2,10:00:00.000000,2024-01-02,\r\n" * 500)[:-20], ("--channel", "depth"), "gzip"),
        (b"3,A,1,,B,1.5,1,1,2,10:00:00.000000,2024-01-02,\r\n", ("--channel", "nonsense"), "--channel"),
        (b"3,A,1,,B,1.5,1,1,2,10:00:00.000000,2024-01-02,\r\n", ("--channel", "depth", "--date", "tomorrow"), "--date"),
        (b"2021-03-01 04:00:00.028010,1.5200,1000,1000,1.5600,1.5700,1,E,11,1747,0,1,\n", ("--channel", "ticks"), "--symbol"),
    ],
)
def test_bad_input_is_one_clear_line_and_imports_nothing(
    home: Home, tmp_path: Path, content: bytes | None, arguments: tuple[str, ...], message: str
) -> None:
    file = tmp_path / "input.txt"
    if content is not None:
        file.write_bytes(content)
    before = sorted(path.name for path in (home.path / "journal").glob("*"))
    result = home.run("import", file, *arguments)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 3
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in (home.path / "journal").glob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("book", "NOSUCH"), "NOSUCH"),
        (("book", "AAA", "--date", "1999-01-04"), "1999"),
        (("book", "AAA", "--at", "noon"), "--at"),
        (("book", "AAA", "--at", "2024-01-02T23:30:00"), ""),
        (("book", "export", "AAA", "--out", "/nonexistent/x.parquet"), "/nonexistent"),
        (("book", "export", "AAA", "--out", "x.txt"), ".parquet"),
        (("sql", "SELEC 1"), "Syntax"),
        (("sql", "SELECT * FROM no_such_table"), "no_such_table"),
    ],
)
def test_questions_that_cannot_be_answered_say_why(
    home: Home, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    wire = tmp_path / "flow.txt"
    wire.write_text("\r\n".join(generated_lines(3, 200)) + "\r\n")
    home.ok("import", wire, "--channel", "depth")
    result = home.run(*arguments)
    assert result.returncode in (1, 2), result.stdout
    assert message.lower() in result.stderr.lower()
    assert "Traceback" not in result.stderr

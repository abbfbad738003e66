"""A recorded hour of a real stock in all three shapes of depth: the book equals the vendor's after every message."""

import csv
import gzip
from typing import Any

import numpy as np
import pytest

from l2_platform.book.engine import BookEngine
from l2_platform.feeds.iqfeed.decode_depth import DepthDecoder
from l2_platform.market.events import NULL_PRICE
from l2_platform.market.instruments import SymbolTable
from tests.oracle.blocks import block_of, rows_of

DAY = "aapl_2012-06-21"
TRUTH_UNIT = 100_000
"""The truth files count prices in 1/10,000."""
EMPTY = 9_999_999_999


def lines_and_index(folder, shape):
    data = gzip.decompress((folder / f"{DAY}_depth_by_{shape}.iqfeed.txt.gz").read_bytes())
    with gzip.open(folder / f"{DAY}_depth_by_{shape}.index.csv.gz", "rt") as file:
        ends = [int(row["line_end"]) for row in csv.DictReader(file) if int(row["msg"]) >= 0]
    return data, np.array(ends) - 1


def table_of(path):
    with gzip.open(path, "rt") as file:
        return np.loadtxt(file, delimiter=",", dtype=np.int64)


def side_by_side(snapshots, rows):
    """Columns ask price, ask size, bid price, bid size for each level, as in the truth files; 0 for an empty level's price."""
    parts = [snapshots.ask_px[rows], snapshots.ask_sz[rows], snapshots.bid_px[rows], snapshots.bid_sz[rows]]
    for price in (parts[0], parts[2]):
        held = price != NULL_PRICE
        assert not (price[held] % TRUTH_UNIT).any()
        price[held] //= TRUTH_UNIT
        price[~held] = 0
    return np.stack(parts, axis=2).reshape(len(rows), -1)


@pytest.mark.parametrize("shape", ["order", "price", "venue"])
def test_every_message_leaves_the_vendors_book(market_data, shape):
    data, ends = lines_and_index(market_data, shape)
    symbols = SymbolTable()
    batch = DepthDecoder(symbols).decode(block_of(data))
    assert not batch.error.any()
    engine = BookEngine(symbols)
    snapshots = engine.apply_all(batch, symbols.number("AAPL"), 50)
    assert len(snapshots) == len(batch)
    assert len(ends) == 91_997
    np.testing.assert_array_equal(
        side_by_side(snapshots, ends)[:, :4], table_of(market_data / f"{DAY}_truth_level1.csv.gz")
    )
    if shape != "venue":
        truth = table_of(market_data / f"{DAY}_truth_50levels_first672.csv.gz")
        truth[np.abs(truth) == EMPTY] = 0
        np.testing.assert_array_equal(side_by_side(snapshots, ends[:672]), truth)
    assert engine.counters["unknown_deletes"] == 0
    assert engine.counters["mixed_shapes"] == 0


def test_orders_and_price_levels_agree_on_every_level(market_data):
    books = {}
    for shape in ("order", "price"):
        data, _ = lines_and_index(market_data, shape)
        symbols = SymbolTable()
        engine = BookEngine(symbols)
        engine.apply(DepthDecoder(symbols).decode(block_of(data)))
        books[shape] = engine.top(0)
    for orders, levels in zip(books["order"], books["price"], strict=True):
        np.testing.assert_array_equal(orders, levels)
    assert len(books["order"][0]) > 100


def test_a_stop_and_a_load_anywhere_in_the_hour_change_nothing(market_data):
    data, _ = lines_and_index(market_data, "order")
    symbols = SymbolTable()
    batch = DepthDecoder(symbols).decode(block_of(data))
    whole = BookEngine(symbols)
    expected = whole.apply(batch, "event").seq
    seqs: list[Any] = []
    engine = BookEngine(symbols)
    for first, last in ((0, 97), (97, 30_011), (30_011, 30_012), (30_012, len(batch))):
        resumed = BookEngine(symbols)
        resumed.load(engine.dump())
        engine = resumed
        seqs.extend(engine.apply(rows_of(batch, first, last), "event").seq)
    np.testing.assert_array_equal(seqs, expected)
    assert engine.content_hash() == whole.content_hash()

"""The engine against an independent book, message by message, on random streams of every shape."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from l2_platform.book.engine import BookEngine
from l2_platform.feeds.iqfeed.decode_depth import DepthDecoder
from l2_platform.market.events import NULL_PRICE
from l2_platform.market.instruments import SymbolTable
from tests.oracle.blocks import DECODED, block_of, rows_of
from tests.oracle.book_oracle import BookOracle

TAIL = ",,2,12:00:00.000000,2024-03-08,"
PRICES = st.sampled_from([f"{100 + step / 4:.4f}" for step in range(9)])
SIDES = st.sampled_from("AB")
SIZES = st.sampled_from([1, 1, 2, 3, 5, 100, 0, -4])
IDS = st.sampled_from(["7", "8", "900000000001", "18446744073709551615", "11"])
VENUES = st.sampled_from(["NSDQ", "ARCX", "MD01"])
ORDER = st.builds(
    "{},O{},{},,{},{},{}{}".format,
    st.sampled_from("3334460"),
    st.integers(0, 1),
    IDS,
    SIDES,
    PRICES,
    SIZES,
    st.just(TAIL),
)
ORDER_DELETE = st.builds("5,O{},{},,{},12:00:00,2024-03-08,".format, st.integers(0, 1), IDS, SIDES)
VENUE = st.builds("{},V,,{},{},{},{}{}".format, st.sampled_from("4446"), VENUES, SIDES, PRICES, SIZES, st.just(TAIL))
VENUE_DELETE = st.builds("5,V,,{},{},,2024-03-08,".format, VENUES, SIDES)
PAIR = st.builds(
    "{},W,{},{},{},{},{},12:00:00.5,2024-03-08,52,12:00:00.4,{},{},F,".format,
    st.sampled_from("2Z"), VENUES, PRICES, PRICES, SIZES, SIZES, st.sampled_from("TTF"), st.sampled_from("TTF"),
)  # fmt: skip
LEVEL = st.builds(
    "{},L,{},{},{},{},2,12:00:00,2024-03-08,".format, st.sampled_from("8887"), SIDES, PRICES, SIZES, st.integers(0, 3)
)
LEVEL_DELETE = st.builds("9,L,{},{},12:00:00,2024-03-08,".format, SIDES, PRICES)
MIXED = st.sampled_from(
    ["8,V,A,100.0000,5,1,2,12:00:00,2024-03-08,", "4,O0,,NSDQ,B,100.0000,5" + TAIL, "0,L,,,B,101.0000,4" + TAIL]
)
SYSTEM = st.sampled_from(
    ["T,20240308 12:00:00", "S,SERVER DISCONNECTED,", "S,SERVER CONNECTED,", "q,V", "nonsense", "3,O0,x,,B,1,1", *(
        f"S,CLEAR DEPTH,{symbol},{side}," for symbol in ("O0", "V", "L", "W") for side in "AB"
    )]
)  # fmt: skip
LINE = st.one_of(ORDER, ORDER, ORDER_DELETE, VENUE, VENUE_DELETE, PAIR, LEVEL, LEVEL, LEVEL_DELETE, MIXED, SYSTEM)
LINES = st.one_of(st.lists(LINE, max_size=8), st.lists(LINE, min_size=30, max_size=80))
BAD = {"nonsense", "3,O0,x,,B,1,1"}
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def decoded(lines, names=()):
    symbols = SymbolTable(names)
    frames = [f"{line}\r\n".encode() for line in lines]
    return symbols, DepthDecoder(symbols).decode(block_of(*frames, step_ns=30_000_000))


def assert_same_snapshots(left, right):
    for name in (
        "seq",
        "symbol",
        "trust",
        "bid_px",
        "bid_sz",
        "bid_ct",
        "ask_px",
        "ask_sz",
        "ask_ct",
        "ts_recv",
        "ts_event",
    ):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)


def ladder_of(rows):
    return [(price * 10**9, size, count) for price, size, count in rows]


@QUICK
@given(LINES)
def test_book_trust_and_counters_equal_the_oracle_after_every_message(lines):
    symbols, batch = decoded(lines)
    engine = BookEngine(symbols, levels=3, interval_ns=0)
    oracle = BookOracle(top=3)
    for row, line in enumerate(lines):
        engine.apply(rows_of(batch, row, row + 1))
        if line not in BAD:
            oracle.line(row + 1, 0, line)
        for name, book in oracle.books.items():
            number = symbols.number(name)
            bids, asks = engine.top(number)
            assert [tuple(level) for level in bids.tolist()] == ladder_of(book.ladder("B")), (name, line)
            assert [tuple(level) for level in asks.tolist()] == ladder_of(book.ladder("A")), (name, line)
            assert int(engine.trust(number)) == book.trust, (name, line)
    expected = {
        "unknown_deletes": "unknown",
        "negative_sizes": "negative",
        "mixed_shapes": "mixed",
        "crossed": "crossed",
        "locked": "locked",
    }
    for counter, attribute in expected.items():
        assert engine.counters[counter] == sum(getattr(book, attribute) for book in oracle.books.values()), counter


@QUICK
@given(LINES, st.sampled_from([0, 60_000_000, 100_000_000]))
def test_recorded_changes_equal_the_oracle(lines, interval_ns):
    symbols, batch = decoded(lines)
    snapshots = BookEngine(symbols, levels=2, interval_ns=interval_ns).apply(batch)
    oracle = BookOracle(top=2, interval_ns=interval_ns)
    for row, line in enumerate(lines):
        if line not in BAD:
            oracle.line(row + 1, int(batch.ts_recv[row]), line)
    assert len(snapshots) == len(oracle.recorded)
    for row, (seq, name, trust, (bids, asks)) in enumerate(oracle.recorded):
        assert int(snapshots.seq[row]) == seq
        assert symbols.names[snapshots.symbol[row]] == name
        assert int(snapshots.trust[row]) == trust
        for ladder, side in ((bids, "bid"), (asks, "ask")):
            shown = [
                (int(price), int(size), int(count))
                for price, size, count in zip(
                    *(getattr(snapshots, f"{side}_{part}")[row] for part in ("px", "sz", "ct")), strict=True
                )
                if price != NULL_PRICE
            ]
            assert shown == ladder_of(ladder)


@QUICK
@given(LINES, st.data())
def test_any_split_of_the_frames_gives_the_same_rows_and_books(lines, data):
    frames = [f"{line}\n".encode() for line in lines]
    whole_symbols = SymbolTable()
    whole = DepthDecoder(whole_symbols).decode(block_of(*frames, step_ns=10_000_000))
    engine = BookEngine(whole_symbols, levels=3)
    expected = engine.apply(whole)
    symbols = SymbolTable()
    decoder = DepthDecoder(symbols)
    other = BookEngine(symbols, levels=3)
    cuts = sorted({0, len(frames), *data.draw(st.lists(st.integers(0, len(frames)), max_size=5))})
    rows: dict[str, list[Any]] = {name: [] for name in DECODED}
    recorded = []
    for first, last in pairwise(cuts):
        part = decoder.decode(
            block_of(*frames[first:last], seq_first=first + 1, ts_recv=int(whole.ts_recv[first]), step_ns=10_000_000)
        )
        saved = decoder.state()
        decoder = DepthDecoder(symbols)
        decoder.restore(saved)
        recorded.extend(other.apply(part).seq.tolist())
        for name in DECODED:
            rows[name].extend(getattr(part, name).tolist())
    for name in DECODED:
        assert rows[name] == getattr(whole, name).tolist(), name
    assert recorded == expected.seq.tolist()
    assert symbols.names == whole_symbols.names
    assert other.content_hash() == engine.content_hash()


@QUICK
@given(LINES, st.data())
def test_a_dump_in_the_middle_changes_nothing(lines, data):
    symbols, batch = decoded(lines)
    cut = data.draw(st.integers(0, len(lines)))
    straight = BookEngine(symbols, levels=3, interval_ns=50_000_000)
    straight.apply(rows_of(batch, 0, cut))
    stopped = BookEngine(SymbolTable(symbols.names), levels=3, interval_ns=50_000_000)
    stopped.load(straight.dump())
    assert stopped.content_hash() == straight.content_hash()
    assert_same_snapshots(
        straight.apply(rows_of(batch, cut, len(lines)), "event"),
        stopped.apply(rows_of(batch, cut, len(lines)), "event"),
    )
    assert stopped.content_hash() == straight.content_hash()
    assert stopped.findings() == straight.findings()


@QUICK
@given(LINES)
def test_replaying_twice_gives_the_same_book(lines):
    symbols, batch = decoded(lines)
    engine = BookEngine(symbols)
    first = engine.apply(batch)
    content = engine.content_hash()
    engine.reset()
    second = engine.apply(batch)
    assert_same_snapshots(first, second)
    assert engine.content_hash() == content


@QUICK
@given(st.lists(ORDER, max_size=30), st.lists(st.one_of(ORDER, ORDER_DELETE), max_size=30))
def test_a_snapshot_and_the_updates_after_it_rebuild_the_book(before, after):
    symbols, batch = decoded(before + after, names=("O0", "O1"))
    engine = BookEngine(symbols)
    engine.apply(batch)
    oracle = BookOracle()
    for number, line in enumerate(before):
        oracle.line(number + 1, 0, line)
    snapshot = [
        f"6,{name},{order},,{side},{float(price):.4f},{size}{TAIL}"
        for name, book in oracle.books.items()
        for order, (side, price, size) in book.rows.items()
    ]
    symbols, rebuilt = decoded(snapshot + after, names=("O0", "O1"))
    other = BookEngine(symbols)
    other.apply(rebuilt)
    for number in (0, 1):
        for left, right in zip(engine.top(number), other.top(number), strict=True):
            np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("seed", range(3))
def test_many_symbols_levels_and_orders_outgrow_their_places(seed):
    """Books grow past every first size and the order table past its own, while the oracle keeps the truth."""
    random = np.random.default_rng(seed)
    symbols = SymbolTable()
    engine = BookEngine(symbols, levels=5, interval_ns=0)
    oracle = BookOracle(top=5)
    decoder = DepthDecoder(symbols)
    lines = []
    for _ in range(6000):
        order = int(random.integers(1, 4000))
        name = f"S{random.integers(0, 4)}"
        if random.random() < 0.8:
            side = "A" if order % 2 else "B"
            lines.append(f"3,{name},{order},,{side},{random.integers(1, 400)}.25,{random.integers(1, 9)}{TAIL}")
        elif random.random() < 0.98:
            lines.append(f"5,{name},{order},,{'A' if order % 2 else 'B'},12:00:00,2024-03-08,")
        else:
            lines.append(f"S,CLEAR DEPTH,{name},A,")
    engine.apply(decoder.decode(block_of("".join(f"{line}\n" for line in lines).encode())))
    for line in lines:
        fields = line.split(",")
        oracle.dispatch(fields[0], [*fields, *[""] * 8])
    for name, book in oracle.books.items():
        bids, asks = engine.top(symbols.number(name))
        assert [tuple(level) for level in bids.tolist()] == ladder_of(book.ladder("B"))
        assert [tuple(level) for level in asks.tolist()] == ladder_of(book.ladder("A"))
    assert max(len(engine.top(number)[0]) for number in range(4)) > 150

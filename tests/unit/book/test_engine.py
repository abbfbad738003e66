"""What single messages do to books, trust, thinning, counters and checkpoints."""

import numpy as np
import pytest

from l2_platform.book.engine import BookEngine
from l2_platform.errors import BookError
from l2_platform.feeds.iqfeed.decode_depth import DepthDecoder
from l2_platform.market.events import NULL_PRICE, Trust
from l2_platform.market.instruments import SymbolTable
from tests.oracle.blocks import block_of

TAIL = ",,2,12:00:00,2024-03-08,"


class Stream:
    """A decoder and an engine that take lines as text."""

    def __init__(self, levels=10, interval_ns=0):
        self.symbols = SymbolTable()
        self.decoder = DepthDecoder(self.symbols)
        self.engine = BookEngine(self.symbols, levels=levels, interval_ns=interval_ns)
        self.seq = 1

    def send(self, *lines, step_ns=0, ts_recv=0, journal_ts="recv"):
        frames = [f"{line}\n".encode() for line in lines]
        batch = self.decoder.decode(block_of(*frames, seq_first=self.seq, ts_recv=ts_recv, step_ns=step_ns))
        self.seq += len(batch)
        return self.engine.apply(batch, journal_ts), batch

    def book(self, name="X"):
        return [
            [(price // 10**9, size, count) for price, size, count in side.tolist()]
            for side in self.engine.top(self.symbols.number(name))
        ]

    def trust(self, name="X"):
        return self.engine.trust(self.symbols.number(name))


def order(kind, number, side, price, size, name="X"):
    return f"{kind},{name},{number},,{side},{price},{size}{TAIL}"


def venue(kind, mmid, side, price, size, name="X"):
    return f"{kind},{name},,{mmid},{side},{price},{size}{TAIL}"


def test_orders_at_one_price_add_up_and_a_moved_order_leaves_its_old_level():
    stream = Stream()
    stream.send(order(3, 1, "B", 100, 5), order(3, 2, "B", 100, 7), order(3, 3, "A", 102, 1))
    assert stream.book() == [[(100, 12, 2)], [(102, 1, 1)]]
    stream.send(order(4, 1, "B", 101, 4))
    assert stream.book() == [[(101, 4, 1), (100, 7, 1)], [(102, 1, 1)]]
    stream.send(order(4, 2, "A", 103, 9), order(4, 3, "A", 102, 0))
    assert stream.book() == [[(101, 4, 1)], [(103, 9, 1)]]


def test_a_second_watch_burst_counts_nothing_twice():
    stream = Stream()
    burst = [order(6, 1, "B", 100, 5), order(6, 2, "A", 101, 7)]
    stream.send(*burst, order(4, 1, "B", 100, 6))
    _, batch = stream.send(order(6, 1, "B", 100, 6), order(6, 2, "A", 101, 7))
    assert stream.book() == [[(100, 6, 1)], [(101, 7, 1)]]
    assert batch.trust.tolist() == [Trust.GOOD, Trust.GOOD]


def test_a_venue_has_one_row_a_side_and_a_delete_names_venue_and_side():
    stream = Stream()
    stream.send(venue(6, "NSDQ", "B", 100, 5), venue(6, "ARCX", "B", 100, 3), venue(6, "NSDQ", "A", 101, 2))
    stream.send(venue(4, "NSDQ", "B", 99, 4))
    assert stream.book() == [[(100, 3, 1), (99, 4, 1)], [(101, 2, 1)]]
    stream.send("5,X,,NSDQ,B,,2024-03-08,")
    assert stream.book() == [[(100, 3, 1)], [(101, 2, 1)]]


def test_old_two_sided_lines_set_and_drop_each_side():
    stream = Stream()
    stream.send(
        "Z,X,MD01,100.,102.,5,6,12:00:00,2024-03-08,52,12:00:00,T,T,F,",
        "2,X,MD02,101,102,1,2,12:00:00,2024-03-08,52,12:00:00,T,T,T,",
    )
    assert stream.book() == [[(101, 1, 1), (100, 5, 1)], [(102, 8, 2)]]
    stream.send("2,X,MD01,100,102,5,6,12:00:00,2024-03-08,52,12:00:00,F,T,F,")
    assert stream.book() == [[(101, 1, 1)], [(102, 8, 2)]]


def test_rows_of_another_shape_are_counted_and_ignored():
    stream = Stream()
    stream.send(order(3, 1, "B", 100, 5), "8,X,B,100,50,9,2,12:00:00,2024-03-08,", venue(4, "NSDQ", "B", 99, 4))
    assert stream.book() == [[(100, 5, 1)], []]
    assert stream.engine.findings() == {"X": {"mixed_shapes": 2}}
    assert stream.engine.shape(0) == "orders"


def test_deletes_of_unknown_orders_and_negative_sizes_are_counted():
    stream = Stream()
    stream.send(
        "5,X,7,,B,12:00:00,2024-03-08,",
        order(3, 1, "B", 100, -5),
        order(3, 1, "B", 100, 5),
        "5,X,7,,A,12:00:00,2024-03-08,",
    )
    assert stream.engine.findings() == {"X": {"unknown_deletes": 2, "negative_sizes": 1}}
    assert stream.book() == [[(100, 5, 1)], []]


def test_crossed_and_locked_are_counted_when_they_begin():
    stream = Stream()
    stream.send(
        order(3, 1, "B", 100, 5),
        order(3, 2, "A", 100, 5),
        order(4, 2, "A", 99, 5),
        order(3, 3, "A", 98, 5),
        order(4, 1, "B", 90, 5),
    )
    assert stream.engine.findings() == {"X": {"locked": 1, "crossed": 1}}


def test_a_snapshot_builds_until_the_first_update_or_the_next_clock():
    stream = Stream()
    _, batch = stream.send(order(6, 1, "B", 100, 5), order(6, 2, "A", 101, 5), order(4, 1, "B", 100, 6))
    assert batch.trust.tolist() == [Trust.BUILDING, Trust.BUILDING, Trust.GOOD]
    stream.send(order(6, 1, "B", 100, 5, name="Y"))
    assert stream.trust("Y") == Trust.BUILDING
    stream.send("T,20240308 12:00:00")
    assert stream.trust("Y") == Trust.GOOD


def test_without_a_snapshot_the_first_message_is_good():
    _, batch = Stream().send(order(3, 1, "B", 100, 5))
    assert batch.trust.tolist() == [Trust.GOOD]


def test_after_a_lost_server_both_sides_must_be_cleared():
    stream = Stream()
    stream.send(order(3, 1, "B", 100, 5), order(3, 2, "A", 101, 5), "S,SERVER DISCONNECTED,")
    assert stream.trust() == Trust.SUSPECT
    stream.send(order(3, 3, "A", 102, 5), "S,CLEAR DEPTH,X,B,")
    assert stream.trust() == Trust.SUSPECT
    stream.send("S,CLEAR DEPTH,X,A,")
    assert stream.book() == [[], []]
    assert stream.trust() == Trust.BUILDING
    stream.send(order(6, 1, "B", 99, 5), "T,20240308 12:00:01")
    assert stream.trust() == Trust.GOOD
    assert stream.book() == [[(99, 5, 1)], []]


def test_a_snapshot_of_a_suspect_book_replaces_it():
    stream = Stream()
    stream.send(order(3, 1, "B", 100, 5), order(3, 2, "B", 101, 5))
    stream.engine.mark_suspect()
    assert stream.trust() == Trust.SUSPECT
    stream.send(order(6, 1, "B", 100, 5), order(4, 1, "B", 100, 4))
    assert stream.book() == [[(100, 4, 1)], []]
    assert stream.trust() == Trust.GOOD


def test_a_reconnect_empties_books_and_keeps_what_was_counted():
    stream = Stream(interval_ns=1000)
    stream.send(order(3, 1, "B", 100, 5), order(3, 1, "B", 100, -1), ts_recv=10)
    stream.engine.reset_for_reconnect()
    assert stream.book() == [[], []]
    assert stream.trust() == Trust.BUILDING
    assert stream.engine.counters["negative_sizes"] == 1
    recorded, _ = stream.send(order(6, 9, "B", 100, 5), ts_recv=1009)
    assert len(recorded) == 0
    stream.engine.reset()
    assert not any(stream.engine.counters.values())
    recorded, _ = stream.send("8,X,B,100,5,1,2,12:00:00,2024-03-08,", ts_recv=1010)
    assert len(recorded) == 1


def test_changes_are_thinned_from_the_front_of_each_symbol():
    stream = Stream(interval_ns=100)
    recorded, _ = stream.send(
        *(order(3, number, "B", 100 + number, 5) for number in range(1, 9)),
        order(3, 1, "B", 5, 5, name="Y"),
        step_ns=30,
    )
    # at 0, 120 and 240 ns, the symbol Y for itself
    assert recorded.seq.tolist() == [1, 5, 9]
    assert recorded.symbol.tolist() == [0, 0, 1]


def test_time_of_an_import_is_the_running_maximum_of_its_events():
    stream = Stream(interval_ns=2_000_000_000)
    line = "3,X,{},,B,{},5,,2,12:00:{:02d},2024-03-08,"
    recorded, _ = stream.send(
        *(line.format(i + 1, 100 + i, second) for i, second in enumerate((5, 6, 4, 7, 9))), journal_ts="event"
    )
    assert recorded.seq.tolist() == [1, 4, 5]


def test_a_change_below_the_top_is_not_recorded():
    stream = Stream(levels=2)
    recorded, _ = stream.send(
        *(order(3, number, "B", 100 - number, 5) for number in range(1, 5)), order(4, 4, "B", 96, 6)
    )
    assert recorded.seq.tolist() == [1, 2]
    recorded, _ = stream.send("5,X,1,,B,12:00:00,2024-03-08,", "5,X,2,,B,12:00:00,2024-03-08,")
    assert recorded.bid_px[0].tolist() == [98 * 10**9, 97 * 10**9]
    recorded, _ = stream.send("S,CLEAR DEPTH,X,B,")
    assert recorded.bid_px[0].tolist() == [NULL_PRICE, NULL_PRICE]


def test_export_has_a_row_for_every_line_or_for_every_change():
    stream = Stream()
    lines = [
        order(3, 1, "B", 100, 5),
        order(3, 1, "B", 7, 5, name="Y"),
        "T,20240308 12:00:00",
        order(4, 1, "B", 100, 5),
        order(4, 1, "B", 100, 6),
    ]
    batch = stream.decoder.decode(block_of("\n".join(lines).encode()))
    every = stream.engine.apply_all(batch, stream.symbols.number("X"), 1, changes_only=False)
    assert every.seq.tolist() == [1, 2, 3, 4, 5]
    assert every.bid_sz[:, 0].tolist() == [5, 5, 5, 5, 6]
    assert set(every.symbol.tolist()) == {0}
    other = BookEngine(stream.symbols)
    assert other.apply_all(batch, 0, 1, changes_only=True).seq.tolist() == [1, 5]


def test_an_empty_batch_is_fine():
    recorded, batch = Stream().send()
    assert len(recorded) == len(batch) == 0
    assert recorded.bid_px.shape == (0, 10)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"L2BK\x63\x00xx", b"L2BK\x01\x00xx"])
def test_what_is_no_book_image_is_refused(data):
    with pytest.raises(BookError):
        BookEngine(SymbolTable()).load(data)


def test_an_image_of_other_symbol_numbers_is_refused():
    stream = Stream()
    stream.send(order(3, 1, "B", 100, 5))
    with pytest.raises(BookError, match="different checkpoints"):
        BookEngine(SymbolTable(["Q"])).load(stream.engine.dump())


def test_content_does_not_depend_on_the_layout_of_the_tables():
    left, right = Stream(), Stream()
    lines = [
        order(3, number, "B" if number % 2 else "A", 50 + number % 40, 1 + number % 7) for number in range(1, 5000)
    ]
    left.send(*lines)
    right.send(*(order(3, number, "B", 10, 1) for number in range(9000, 19_000)))
    right.engine.reset()
    right.send(*lines)
    assert left.engine.memory_bytes() < right.engine.memory_bytes()
    assert left.engine.content_hash() == right.engine.content_hash()
    right.send(order(4, 17, "B", 1, 1))
    assert left.engine.content_hash() != right.engine.content_hash()


def test_wrong_arguments_are_refused():
    with pytest.raises(BookError):
        BookEngine(SymbolTable(), levels=0)
    assert BookEngine(SymbolTable()).trust(5) == Trust.BUILDING
    assert BookEngine(SymbolTable()).shape(5) == "none"
    np.testing.assert_array_equal(BookEngine(SymbolTable()).top(3)[0], np.zeros((0, 3)))

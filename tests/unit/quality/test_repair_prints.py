"""Which prints of a reply are rows, against a plain model; what the decoder makes of the ranges, however the bytes are cut."""

import itertools
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from l2_platform.feeds.iqfeed.decode_history import HistoryDecoder
from l2_platform.market.events import Level1Kind
from l2_platform.market.instruments import SymbolTable
from l2_platform.quality.repair_prints import Prints, choose, line_ranges, names_prints, read_reply
from tests.oracle.blocks import block_of

NS = 10**9
START = 1_795_176_000 * NS


def prints(rows: list[tuple[int, int, int, int]]) -> Prints:
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    return Prints(
        np.array(columns[0], np.int64), np.array(columns[1], np.int64), np.array(columns[2], np.uint64), np.array(columns[3], np.int64)
    )


@st.composite
def markets(draw):
    """Prints of some centres, ids counting from anywhere, and the bounds of a gap."""
    count = draw(st.integers(0, 60))
    times = sorted(draw(st.lists(st.integers(0, 60 * 10**6), min_size=count, max_size=count)))
    first = draw(st.integers(1, 2**40))
    numbers: dict[int, int] = {}
    rows = []
    for at in times:
        center = draw(st.integers(1, 4))
        numbers[center] = numbers.get(center, first) + 1
        rows.append((START + at * 1000, center, numbers[center], draw(st.integers(1, 9))))
    bounds = sorted(draw(st.tuples(st.integers(5, 55), st.integers(5, 55))))
    gap = START + bounds[0] * NS, START + bounds[1] * NS
    return rows, gap


@given(markets(), st.data())
def test_what_live_has_is_never_chosen_and_all_else_of_the_window_is(market, data) -> None:
    rows, gap = market
    lost = {row for row in rows if gap[0] < row[0] < gap[1]}
    lost |= set(data.draw(st.lists(st.sampled_from(rows), max_size=5))) if rows else set()
    stored = [row for row in rows if row not in lost]
    window = gap[0] - 2 * NS, gap[1] + 2 * NS - 1
    reply = [row for row in rows if window[0] <= row[0] <= window[1]]
    choice = choose(prints(reply), prints(stored), window, gap)
    assert choice.by_id
    assert [row for row, kept in zip(reply, choice.rows, strict=True) if kept] == [row for row in reply if row in lost]
    # what was chosen is stored now: asked for again, nothing is left
    again = choose(prints(reply), prints(sorted({*stored, *(row for row in reply if row in lost)})), window, gap)
    assert not again.rows.any()


@given(markets(), st.integers(1, 10**6))
def test_where_ids_do_not_name_prints_only_the_inside_of_the_gap_counts(market, shift: int) -> None:
    rows, gap = market
    stored = [(ts, center, tick + shift, size) for ts, center, tick, size in rows if not gap[0] < ts < gap[1]]
    window = gap[0] - 2 * NS, gap[1] + 2 * NS - 1
    reply = [row for row in rows if window[0] <= row[0] <= window[1]]
    # ids of 0 never name anything
    nameless = [(ts, center, 0, size) for ts, center, _, size in reply]
    for found in (reply, nameless):
        choice = choose(prints(found), prints(stored), window, gap)
        kept = [row for row, chosen in zip(found, choice.rows, strict=True) if chosen]
        if not choice.by_id:
            assert kept == [row for row in found if gap[0] < row[0] < gap[1]]
        assert not {(row[0], row[1], row[2]) for row in kept} & {row[:3] for row in stored}
    if nameless:
        assert not choose(prints(nameless), prints(stored), window, gap).by_id


def test_ids_begin_anew_with_the_exchange_date() -> None:
    midnight = int(datetime(2026, 11, 20, 5, tzinfo=UTC).timestamp()) * NS
    before, after = (midnight - NS, 5, 7, 100), (midnight + NS, 5, 7, 100)
    choice = choose(prints([before, after]), prints([before]), (midnight - 5 * NS, midnight + 5 * NS), (midnight, midnight + 3 * NS))
    assert (choice.by_id, choice.rows.tolist()) == (True, [False, True])


def test_ids_twice_in_a_reply_name_nothing() -> None:
    assert not names_prints(prints([(START, 5, 7, 1), (START + 1, 5, 7, 1)]), prints([]))
    assert names_prints(prints([(START, 5, 7, 1), (START + 1, 6, 7, 1)]), prints([]))


def line(number: int, at: int) -> bytes:
    when = datetime.fromtimestamp(START // NS - 5 * 3600 + at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"H1,LH,{when}.000001,96.0700,100,100,96.06,96.08,{number},C,19,01,1,18,\r\n".encode()


def test_a_reply_is_read_with_the_numbers_of_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "AAA.reply"
    bar, end = b"H1,LH,2026-11-20 07:00:00,9,8,8,9,10,10,0,\r\n", b"H1,!ENDMSG!,\r\n"
    file.write_bytes(line(1, 0) + b"H1,LH,broken,\r\n" + line(2, 1) + bar + end)
    reply = read_reply(file, "AAA")
    assert (reply.line.tolist(), reply.prints.tick_id.tolist(), reply.bad) == ([1, 3], [1, 2], 2)
    assert reply.prints.ts.tolist() == [START + 1000, START + NS + 1000]


@given(st.sets(st.integers(1, 40)), st.lists(st.integers(1, 40), max_size=6), st.integers(0, 10**6))
def test_the_decoder_keeps_the_ranges_however_the_bytes_are_cut(kept: set[int], cuts: list[int], base: int) -> None:
    lines = [line(number, number) for number in range(1, 41)]
    ranges = line_ranges(np.array(sorted(kept), np.int64))
    assert {number for first, last in ranges for number in range(first, last + 1)} == kept
    decoder, rows = HistoryDecoder(SymbolTable()), []
    decoder.begin_reply("AAA", base, ranges)
    edges = [0, *sorted(set(cuts)), 40]
    for begin, end in itertools.pairwise(edges):
        if begin == end:
            continue
        batch = decoder.decode(block_of(b"".join(lines[begin:end]), seq_first=base + begin + 1))
        rows += [int(seq) - base for seq, kind in zip(batch.seq, batch.kind, strict=True) if kind == Level1Kind.HISTORY_TICK]
        # a checkpoint in between changes nothing
        state, decoder = decoder.state(), HistoryDecoder(decoder.symbols)
        decoder.restore(state)
    assert set(rows) == kept
    decoder.begin_reply("AAA", base)
    assert (decoder.decode(block_of(b"".join(lines), seq_first=base + 1)).kind == Level1Kind.HISTORY_TICK).all()

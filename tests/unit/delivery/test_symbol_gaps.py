"""Silence and counters of single symbols: what opens a gap, with which bounds, and what becomes of it."""

import numpy as np
import pytest

from l2_platform.delivery.gap_rows import CLOSED, OPEN, WITHDRAWN, Gap
from l2_platform.market.events import NULL_TS
from tests.unit.delivery.symbol_lines import MS, S, Tape, Watch, in_cuts

T0 = 1_795_000_000 * S


def busy_tape(seconds: int, *, symbols: int = 4, every_ms: int = 100) -> Tape:
    """Each symbol prints about ten times a second, at times of its own."""
    source = np.random.default_rng(7)
    tape = Tape()
    for symbol in range(symbols):
        tape.quote(T0 + symbol, symbol, summary=True)
        times = T0 + np.cumsum(source.exponential(every_ms * MS, seconds * 2000 // every_ms)).astype(np.int64)
        for ts in times[times < T0 + seconds * S]:
            tape.print_(int(ts), symbol, int(source.integers(1, 500)), int(source.choice([5, 11, 26])))
    return tape


def without(tape: Tape, symbol: int, start: int, stop: int) -> Tape:
    """The same market, its lines of one symbol in [start, stop) not received."""
    return Tape(rows=[row for row in tape.rows if not (row[1] == symbol and start <= row[-1] < stop)])


def of(rows: list[Gap], cause: str) -> list[Gap]:
    return [row for row in rows if row.cause == cause]


def times(tape: Tape, symbol: int) -> list[int]:
    return sorted(row[-1] for row in tape.rows if row[1] == symbol)


def test_lost_lines_of_one_symbol_are_a_gap_with_exact_bounds_and_numbers() -> None:
    whole = busy_tape(120)
    start, stop = T0 + 60 * S, T0 + 90 * S
    tape = without(whole, 2, start, stop)
    lost = [row for row in whole.rows if row[1] == 2 and start <= row[-1] < stop]
    rows = in_cuts(Watch(4), tape, [])
    opened, closed = rows
    seen = times(tape, 2)
    last, first = max(ts for ts in seen if ts < start), min(ts for ts in seen if ts >= stop)
    assert (opened.cause, opened.state, opened.symbols, opened.ts_from) == ("symbol_silence", OPEN, ["SYM002"], last)
    assert opened.evidence["p"] < 1e-6
    assert (closed.gap_id, closed.state, closed.version, closed.ts_from, closed.ts_to) == (opened.gap_id, CLOSED, 2, last, first)
    assert closed.evidence["counters"] == "broken"
    assert closed.evidence["volume_missing"] == sum(row[3] for row in lost)
    assert closed.evidence["prints_missing"] == len(lost)
    # found while it lasts, and closed within a second of its end
    sorted_rows = sorted(row[-1] for row in tape.rows)
    assert sorted_rows[opened.seq - 1] < stop
    assert sorted_rows[closed.seq - 1] - first < S


def test_a_symbol_that_pauses_with_its_counters_intact_is_withdrawn() -> None:
    tape = Tape()
    source = np.random.default_rng(3)
    for symbol in range(3):
        for ts in T0 + np.cumsum(source.exponential(100 * MS, 1200)).astype(np.int64):
            if symbol != 1 or not T0 + 60 * S <= ts < T0 + 90 * S:
                tape.print_(int(ts), symbol)
    opened, closed = in_cuts(Watch(3), tape, [])
    assert (opened.state, closed.state, closed.evidence["counters"]) == (OPEN, WITHDRAWN, "intact")
    assert "volume_missing" not in closed.evidence


def never_quiet(seconds: float, *, stops: int = -1, after_s: float = 10) -> Tape:
    """Three symbols with a quote every 3 ms, which one (or with 3 every one) stops; the feed's clock goes on."""
    tape = Tape()
    for number in range(round(seconds * S / (3 * MS))):
        ts = T0 + number * 3 * MS
        for symbol in range(3):
            if ts < T0 + after_s * S or stops not in {symbol, 3}:
                tape.quote(ts + symbol, symbol)
        if number % 333 == 0:
            tape.clock(ts + 3)
    return tape


def test_a_symbol_that_is_never_quiet_is_missed_within_seconds() -> None:
    assert in_cuts(Watch(3), never_quiet(20), []) == []
    tape = never_quiet(20, stops=1)
    opened, _ = in_cuts(Watch(3), tape, [])
    assert (opened.cause, opened.state, opened.symbols) == ("symbol_silence", OPEN, ["SYM001"])
    # its last line, not the first one of its last burst
    assert opened.ts_from == times(tape, 1)[-1]
    assert sorted(row[-1] for row in tape.rows)[opened.seq - 1] < T0 + 13 * S


def test_a_stream_that_is_never_quiet_is_missed_while_its_clock_goes_on() -> None:
    tape = never_quiet(25, stops=3)
    opened, _ = in_cuts(Watch(3), tape, [])
    assert (opened.cause, opened.state, opened.symbols) == ("silence", OPEN, [])
    assert opened.ts_from == max(ts for symbol in range(3) for ts in times(tape, symbol))


def test_dropped_prints_without_silence_are_told_with_their_bounds() -> None:
    """Some prints of each symbol are missing; quotes before and after say between which lines."""
    tape = Tape()
    for number in range(100):
        tape.print_(T0 + number * 100 * MS, 0, 100)
        tape.quote(T0 + number * 100 * MS + 10 * MS, 0)
        if number == 50:
            tape.print_(T0 + number * 100 * MS + 20 * MS, 0, 700, 11, lost=True)
            tape.print_(T0 + number * 100 * MS + 30 * MS, 0, 5, 11, lost=True)
    (gap,) = in_cuts(Watch(1), tape, [])
    assert (gap.cause, gap.state, gap.symbols) == ("missing_prints", CLOSED, ["SYM000"])
    assert (gap.ts_from, gap.ts_to) == (T0 + 5010 * MS, T0 + 5100 * MS)
    assert gap.evidence == {"volume_missing": 705, "prints_missing": 2}
    assert gap.seq_before == 102


def test_a_lost_venue_is_found_by_the_totals_and_named_by_ids() -> None:
    tape = Tape()
    source = np.random.default_rng(5)
    for ts in T0 + np.cumsum(source.exponential(20 * MS, 3000)).astype(np.int64):
        center = int(source.choice([5, 11]))
        tape.print_(int(ts), 0, 10, center, lost=center == 11 and T0 + 20 * S < ts < T0 + 25 * S)
    gaps = in_cuts(Watch(1), tape, [])
    assert {gap.cause for gap in gaps} == {"missing_prints"}
    lost = tape.ticks[0, 5] + tape.ticks[0, 11] - len(tape.rows)
    assert sum(gap.evidence["prints_missing"] for gap in gaps) == lost
    assert T0 + 19 * S < min(gap.ts_from for gap in gaps) <= max(gap.ts_to for gap in gaps) < T0 + 26 * S


@pytest.mark.parametrize("dense", [True, False])
def test_ids_judge_where_no_volume_is_told_and_only_when_they_are_dense(dense: bool) -> None:
    tape = Tape()
    for number in range(800):
        tape.print_(T0 + number * 50 * MS, 0, 10, lost=number in {700, 701, 702})
    step = 1 if dense else 17
    tape.rows = [(*row[:4], -1, -1, row[6], 10**9 + row[7] * step, row[8]) for row in tape.rows]
    gaps = in_cuts(Watch(1), tape, [])
    if not dense:
        assert gaps == []
        return
    (gap,) = gaps
    assert gap.evidence == {"tick_ids_missing": 3}
    assert (gap.ts_from, gap.ts_to) == (T0 + 699 * 50 * MS, T0 + 703 * 50 * MS)


def test_totals_that_run_ahead_of_their_print_lose_nothing() -> None:
    tape = Tape()
    for number in range(200):
        at = T0 + number * 50 * MS
        tape.print_(at, 0, 100)
        kind, symbol, _, size, volume, trades, center, _, _ = tape.rows.pop()
        tape.rows.append((kind, symbol, 8, size, volume, trades, center, 0, at - 5 * MS))  # the quote line first
        tape.rows.append((kind, symbol, 1, size, volume, trades, center, number + 1, at))
    assert in_cuts(Watch(1), tape, []) == []


def test_a_busted_trade_a_new_day_and_doubled_lines_lose_nothing() -> None:
    tape = Tape()
    for number in range(100):
        tape.print_(T0 + number * 100 * MS, 0, 100)
        if number == 30:
            tape.volume[0] -= 2500
        if number == 60:
            tape.volume[0] = tape.trades[0] = tape.ticks[0, 5] = 0
        if number == 80:
            tape.rows.append((*tape.rows[-1][:-1], tape.rows[-1][-1] + MS))
    assert in_cuts(Watch(1), tape, []) == []


def test_what_a_gap_of_the_stream_tells_is_not_told_again_for_each_symbol() -> None:
    whole = busy_tape(100)
    watch = Watch(4)
    start, stop = T0 + 50 * S, T0 + 60 * S
    before = [row for row in whole.rows if row[-1] < start]
    after = [row for row in whole.rows if row[-1] >= stop]
    tape = Tape(rows=before + after)
    watch.lines(tape.batch(0, len(before)))
    watch.control("disconnect", start + MS, len(before), reason="fin", last_byte_ns=start)
    watch.control("connect", stop - 2 * MS, len(before))
    watch.control("subscribed", stop - MS, len(before))
    watch.lines(tape.batch(len(before)))
    watch.end(NULL_TS, len(tape.rows))
    assert [(gap.cause, gap.state) for gap in watch.take()] == [("disconnect", OPEN), ("disconnect", CLOSED)]


def test_no_market_data_while_the_heartbeat_goes_on_is_one_silence_of_the_stream() -> None:
    tape = busy_tape(60)
    last = max(row[-1] for row in tape.rows)
    for second in range(30):
        tape.clock(last + (second + 1) * S)
    for symbol in range(4):
        tape.quote(last + 31 * S + symbol, symbol)
    opened, closed = in_cuts(Watch(4), tape, [])
    assert (opened.cause, opened.ts_from, opened.symbols, opened.evidence["heartbeat"]) == ("silence", last, [], True)
    assert (closed.state, closed.ts_to) == (WITHDRAWN, last + 31 * S)


def test_symbols_that_stop_when_trading_stops_are_not_silent() -> None:
    tape = busy_tape(60)
    close = T0 + 50 * S
    tape.rows = [row for row in tape.rows if row[-1] < close or row[1] == 0]
    for second in range(600):
        tape.clock(close + second * S)
        tape.quote(close + second * S, 0)
    assert of(in_cuts(Watch(4, windows=[(T0, close)]), tape, []), "symbol_silence") == []
    assert of(in_cuts(Watch(4), tape, []), "symbol_silence") != []


def test_a_symbol_that_is_dropped_is_not_missed() -> None:
    whole = busy_tape(100)
    half = T0 + 50 * S
    tape = Tape(rows=[row for row in whole.rows if row[-1] < half or row[1] != 3])
    cut = sum(row[-1] < half for row in tape.rows)
    watch = Watch(4)
    watch.lines(tape.batch(0, cut))
    watch.control("unwatch", half, cut, symbols=["SYM003"])
    watch.lines(tape.batch(cut))
    watch.end(NULL_TS, len(tape.rows))
    assert watch.take() == []


def test_a_silence_that_lasts_to_the_end_of_the_date_ends_there() -> None:
    tape = busy_tape(100)
    tape.rows = [row for row in tape.rows if row[-1] < T0 + 50 * S or row[1] != 3]
    watch = Watch(4)
    watch.lines(tape.batch())
    watch.end(T0 + 200 * S, len(tape.rows))
    opened, closed = watch.take()
    assert (opened.state, closed.state, closed.ts_to) == (OPEN, CLOSED, T0 + 200 * S)
    assert closed.evidence["until"] == "end of the date"


def test_losses_of_many_symbols_at_once_share_rows() -> None:
    tape = Tape()
    for symbol in range(300):
        for number in range(4):
            tape.print_(T0 + number * S + symbol * 1000, symbol, 10)
        tape.print_(T0 + 4 * S, symbol, 50, lost=True)
        for number in range(4):
            tape.print_(T0 + (5 + number) * S + symbol * 1000, symbol, 10)
    gaps = in_cuts(Watch(300), tape, [])
    assert [len(gap.symbols) for gap in gaps] == [1] * 99 + [201]
    assert gaps[-1].evidence["volume_missing"] == 201 * 50
    assert len(gaps[-1].evidence["each"]) == 20

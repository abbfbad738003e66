"""Gaps of single symbols depend on the journal alone, quiet symbols do not alarm, and what is lost is told within its bounds."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l2_platform.delivery.gap_rows import OPEN
from l2_platform.delivery.silence import SilenceRules, SilenceWatch
from tests.unit.delivery.symbol_lines import MS, S, Tape, Watch, in_cuts

T0 = 1_795_000_000 * S
DAYS = 20
SYMBOLS = 100
DAY_S = 6.5 * 3600
Times = npt.NDArray[np.float64]


@st.composite
def tapes(draw: st.DrawFn) -> tuple[Tape, list[int], list[int]]:
    """A minute of some symbols with holes in it, places to cut the reading, and those at which it restarts."""
    source = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tape = Tape()
    for symbol in range(draw(st.integers(1, 4))):
        hole = T0 + draw(st.integers(0, 60_000)) * MS
        hidden, forgotten = draw(st.integers(0, 30_000)) * MS, draw(st.booleans())
        for ts in T0 + np.cumsum(source.exponential(200 * MS, 300)).astype(np.int64):
            inside = hole <= ts < hole + hidden
            if source.random() < 0.5:
                tape.quote(int(ts), symbol, lost=inside, summary=bool(source.random() < 0.02))
            elif not inside or forgotten:
                tape.print_(int(ts), symbol, int(source.integers(1, 900)), int(source.choice([5, 11])), lost=inside)
    for second in range(70):
        tape.clock(T0 + second * S + 7)
    cuts = draw(st.lists(st.integers(1, len(tape.rows) - 1), max_size=12, unique=True))
    return tape, cuts, draw(st.lists(st.sampled_from(cuts), max_size=4)) if cuts else []


@settings(max_examples=60, deadline=None)
@given(tapes())
def test_rows_do_not_depend_on_reads_and_restarts(made: tuple[Tape, list[int], list[int]]) -> None:
    tape, cuts, restarts = made
    rows = in_cuts(Watch(4), tape, [])
    assert in_cuts(Watch(4), tape, cuts, restarts) == rows
    places = [(row.seq, row.ordinal) for row in rows]
    assert places == sorted(set(places))
    for row in rows:
        assert row.state == OPEN or row.ts_to >= row.ts_from


def poisson(source: np.random.Generator, mean: float) -> Times:
    return np.cumsum(source.exponential(mean, int(DAY_S / mean * 1.3) + 50))


def bursty(source: np.random.Generator, mean: float) -> Times:
    """Pauses of a Weibull distribution of shape 0.5: a tenth of them is longer than 2.6 means, and a hundredth than 10."""
    return np.cumsum(source.weibull(0.5, int(DAY_S / mean * 1.6) + 200) * mean / 2)


def busy_at_the_edges(source: np.random.Generator, mean: float) -> Times:
    """Four times as much at open and close as at noon."""
    at = source.uniform(0, 1, int(2 * DAY_S / mean) + 50)
    return np.sort(at[source.uniform(0, 1, len(at)) < 0.25 + 3 * (at - 0.5) ** 2]) * DAY_S


def silences(day: int, arrivals: Callable[[np.random.Generator, float], Times]) -> tuple[int, int]:
    """Silences that open on a clean day, and its lines; symbols have one line in 2 s to one in 15 min on average.

    A look a second: the shortest silence that can open here lasts more than a minute.
    """
    source = np.random.default_rng([day, 11])
    parts = [arrivals(source, float(mean)) for mean in np.exp(source.uniform(np.log(2), np.log(900), SYMBOLS))]
    ts = np.concatenate(parts)
    symbols = np.repeat(np.arange(SYMBOLS, dtype=np.int32), [len(part) for part in parts])
    order = np.argsort(ts, kind="stable")
    order = order[ts[order] < DAY_S]
    ts_ns, symbols = T0 + (ts[order] * S).astype(np.int64), symbols[order]
    watch = SilenceWatch(SilenceRules(), None)
    watch.grow(SYMBOLS)
    classes, seq = np.full(len(ts_ns), 2, np.uint8), np.arange(len(ts_ns)).astype(np.uint64)
    opened = start = 0
    for row in [*(np.flatnonzero(np.diff(ts_ns // S)) + 1).tolist(), len(ts_ns)]:
        watch.note(classes, symbols, ts_ns, seq, start, row, counting=True)
        opened += len(watch.quiet_symbols(SYMBOLS))
        start = row
    return opened, len(ts_ns)


@pytest.mark.parametrize(
    ("arrivals", "most"), [(poisson, 0), (bursty, 4), (busy_at_the_edges, 0)], ids=["poisson", "bursty", "busy-at-the-edges"]
)
def test_quiet_symbols_do_not_alarm_on_clean_days(arrivals: Callable[[np.random.Generator, float], Times], most: int) -> None:
    """20 days of 100 symbols: none of 2,000 symbol days (less than one in 660 at 95 %); of bursty ones at most one in 500."""
    found = [silences(day, arrivals) for day in range(DAYS)]
    assert sum(lines for _, lines in found) > DAYS * 100_000
    assert sum(opened for opened, _ in found) <= most

"""Bounds of a read, and which stream it takes."""

from datetime import UTC, date, datetime

import pytest

from l2_platform.errors import InputError
from l2_platform.research.bounds import bound_of, instant_of, ns_of, span_of
from l2_platform.research.streams import Candidate, choose

DAY = date(2026, 11, 20)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, None), ("2026-11-20", DAY), (DAY, DAY), ("20261120", DAY), ("2026-11-20T09:30", 1_795_185_000 * 10**9),
        ("2026-11-20T14:30:00.000001+00:00", 1_795_185_000 * 10**9 + 1000), (datetime(2026, 11, 20, 9, 30), 1_795_185_000 * 10**9),  # noqa: DTZ001 - without a zone on purpose
        (datetime(2026, 11, 20, 14, 30, tzinfo=UTC), 1_795_185_000 * 10**9), ("2026-07-01 09:30", 1_782_912_600 * 10**9),
    ],
)  # fmt: skip
def test_dates_are_sessions_and_times_are_new_yorks(value, wanted):
    assert bound_of(value, "start") == wanted


@pytest.mark.parametrize("value", ["soon", "2026-13-01", "", 5, "2026-11-20T25:00"])
def test_what_is_no_time_is_told(value):
    with pytest.raises(InputError, match="start"):
        bound_of(value, "start")


def test_an_instant_is_no_date_and_a_span_is_not_empty():
    with pytest.raises(InputError, match="is no instant"):
        instant_of("2026-11-20", "at")
    with pytest.raises(InputError, match="half-open"):
        span_of("2026-11-20", DAY)
    assert span_of(DAY, "2026-11-21").days() == (DAY, DAY)
    assert ns_of(datetime(1970, 1, 1, tzinfo=UTC)) == 0


def candidate(stream: str, source: str, symbol: str = "A") -> Candidate:
    return Candidate(DAY, symbol, stream, source, 10, False)


def test_live_comes_first_and_several_others_are_a_question():
    live, history, imported = candidate("l1", "live"), candidate("h", "history"), candidate("i", "import")
    assert choose([imported, live, history]) == [live]
    assert choose([candidate("h", "history", "B"), live]) == [live, candidate("h", "history", "B")]
    with pytest.raises(InputError, match=r"A on 2026-11-20: several streams have the rows: 'h' \(10 rows\), 'i' \(10 rows\)"):
        choose([history, imported])
    with pytest.raises(InputError, match="several streams"):
        choose([live, candidate("l2", "live")])

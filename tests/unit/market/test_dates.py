"""Numbers of session dates as people read them."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2_platform.market.dates import date_text, day_of


@given(st.dates())
def test_a_number_is_told_as_its_day(day: date) -> None:
    number = day.year * 10_000 + day.month * 100 + day.day
    assert (date_text(number), day_of(number)) == (day.isoformat(), day)


def test_what_is_no_day_can_still_be_told() -> None:
    assert date_text(20251399) == "2025-13-99"
    with pytest.raises(ValueError, match="month"):
        day_of(20251399)

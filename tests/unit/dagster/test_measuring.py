import json

import pytest

from l2_platform.sensors.measuring import SETTLE_NS, dates_to_measure

NOW = 1_790_000_000 * 10**9
DAYS = ["2026-09-20", "2026-09-21"]


def test_new_date_is_measured_once_it_has_settled_and_only_once():
    wanted, cursor = dates_to_measure(NOW, DAYS[0], DAYS[:1], None)
    assert wanted == []
    assert dates_to_measure(NOW + SETTLE_NS - 1, DAYS[0], DAYS[:1], cursor)[0] == []
    wanted, cursor = dates_to_measure(NOW + SETTLE_NS, DAYS[0], DAYS[:1], cursor)
    assert wanted == [("2026-09-20:first", "2026-09-20")]
    assert dates_to_measure(NOW + 2 * SETTLE_NS, DAYS[0], DAYS[:1], cursor)[0] == []


def test_next_date_asks_for_the_ended_one_too():
    cursor = json.dumps({"seen": DAYS[0], "since": NOW, "measured": DAYS[0]})
    _, cursor = dates_to_measure(NOW, DAYS[1], DAYS, cursor)
    wanted, _ = dates_to_measure(NOW + SETTLE_NS, DAYS[1], DAYS, cursor)
    assert wanted == [("2026-09-21:first", "2026-09-21"), ("2026-09-20:last", "2026-09-20")]


def test_date_without_bytes_asks_for_nothing():
    assert dates_to_measure(NOW, DAYS[1], DAYS[:1], None)[0] == []


@pytest.mark.parametrize("cursor", ["rubbish", "[]", ""])
def test_unreadable_cursor_starts_afresh(cursor):
    _, cursor = dates_to_measure(NOW, DAYS[0], DAYS, cursor)
    assert json.loads(cursor)["seen"] == DAYS[0]

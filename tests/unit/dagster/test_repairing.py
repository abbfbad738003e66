"""What the sensor asks for: one run a date, once for the same gaps in the same state."""

from dataclasses import replace
from datetime import date

from l2_platform.quality.ledger import LedgerGap
from l2_platform.sensors.repairing import requests
from l2_platform.settings import RepairSettings

NS = 10**9
NOW = 1_795_176_000 * NS
GAP = LedgerGap(
    "aaaa", "iqfeed-level1-0", date(2026, 11, 20), 1, 0, "live", (), NOW - 100 * NS, NOW - 10 * NS, "disconnect", {}, "", 0, "", "", "",
    "closed", 1, 2, NOW - 9 * NS,
)  # fmt: skip


# every other wait of the group is another number, so that none can stand for it
SETTINGS = RepairSettings(retry_first_s=90, retry_cap_s=7000, look_s=20, settle_s=7, margin_s=5, delivered_s=40)
TURN = 90 * NS
BEGIN = NOW - NOW % TURN


def key_of(gaps: list[LedgerGap], now_ns: int, settings: RepairSettings = SETTINGS) -> str:
    """The run key of a list of gaps of one date."""
    (key,) = requests(gaps, now_ns, settings).values()
    return key


def test_each_date_has_a_run_of_its_own() -> None:
    other = replace(GAP, session_date=date(2026, 11, 19))
    wanted = requests([GAP, other, replace(GAP, gap_id="bbbb")], NOW, SETTINGS)
    assert list(wanted) == ["2026-11-20", "2026-11-19"]
    assert len(set(wanted.values())) == 2
    # by its gaps, and by its date
    assert key_of([GAP], NOW) not in wanted.values()
    assert key_of([GAP], NOW) != key_of([other], NOW)
    assert requests([], NOW, SETTINGS) == {}


def test_the_same_gaps_in_the_same_state_are_asked_for_once_in_a_turn() -> None:
    both = [GAP, replace(GAP, gap_id="bbbb")]
    first = key_of(both, BEGIN)
    assert key_of(both, BEGIN + TURN - 1) == first
    assert key_of(both[::-1], BEGIN + 1) == first, "the order in which the ledger tells them is nothing"
    assert key_of(both, BEGIN + TURN) != first
    assert key_of(both, BEGIN - 1) != first, "a second apart, and in two turns"


def test_a_turn_is_as_long_as_the_first_wait_after_a_failure() -> None:
    longer = SETTINGS.model_copy(update={"retry_first_s": 450.0})
    begin = NOW - NOW % (450 * NS)
    keys = [{key_of([GAP], begin + number * TURN, settings) for number in range(5)} for settings in (SETTINGS, longer)]
    assert [len(found) for found in keys] == [5, 1]


def test_another_state_is_asked_for_at_once() -> None:
    first = key_of([GAP], NOW)
    assert key_of([replace(GAP, version=GAP.version + 1)], NOW) != first
    assert key_of([replace(GAP, gap_id="bbbb")], NOW) != first

"""What the sensor asks for: one run a date, once for the same gaps in the same state."""

from dataclasses import replace
from datetime import date

from l2_platform.quality.ledger import LedgerGap
from l2_platform.sensors.repairing import requests

NS = 10**9
NOW = 1_795_176_000 * NS
GAP = LedgerGap(
    "aaaa", "iqfeed-level1-0", date(2026, 11, 20), 1, 0, "live", (), NOW - 100 * NS, NOW - 10 * NS, "disconnect", {}, "", 0, "", "", "",
    "closed", 1, 2, NOW - 9 * NS,
)  # fmt: skip


def test_one_run_a_date_and_once_for_the_same_gaps() -> None:
    other = replace(GAP, gap_id="bbbb", session_date=date(2026, 11, 19))
    first = requests([GAP, other, replace(GAP, gap_id="cccc")], NOW, 3600)
    assert list(first) == ["2026-11-20", "2026-11-19"]
    assert requests([replace(GAP, gap_id="cccc"), GAP], NOW + NS, 3600)["2026-11-20"] == first["2026-11-20"]
    changed = requests([GAP], NOW, 3600), requests([replace(GAP, version=3)], NOW, 3600), requests([GAP], NOW + 3600 * NS, 3600)
    assert len({first["2026-11-20"], *(found["2026-11-20"] for found in changed)}) == 4
    assert requests([], NOW, 3600) == {}

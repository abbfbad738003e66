"""What explains a gap, and what never does."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from l2_platform.market.sessions import Session, SessionCalendar
from l2_platform.quality.halts import Halt
from l2_platform.quality.ledger import LedgerGap
from l2_platform.quality.silence import explanation_of, halted_now
from l2_platform.settings import GapSettings, Settings

S = 1_000_000_000
HOUR = 3600 * S
DAY = 24 * HOUR
BASE = 1_795_132_800 * S
"""2026-11-20 00:00 UTC."""
SETTINGS = GapSettings()


def session(number: int, day: int, close_h: float) -> Session:
    start = BASE + day * DAY
    return Session(number, start + 9 * HOUR, start + int(14.5 * HOUR), start + int(close_h * HOUR), start + int((close_h + 4) * HOUR))


CALENDAR = SessionCalendar([session(20261119, -1, 21), session(20261120, 0, 21), session(20261123, 3, 18), session(20261124, 4, 21)])
GAP = LedgerGap(
    "a", "iqfeed-level1-0", date(2026, 11, 20), 1, 1, "live", ("SYM1",), BASE + 15 * HOUR, BASE + 16 * HOUR, "symbol_silence", {}, "", 0,
    "", "", "", "closed", 0, 2, 0,
)  # fmt: skip
HALT = Halt("SYM1", BASE + 15 * HOUR + 30 * S, BASE + 16 * HOUR - 30 * S, "T1", "NASDAQ")


def why(gap: LedgerGap, halts: list[Halt] | None = None, day: int = 20261120) -> str:
    return explanation_of(gap, day, CALENDAR, halts or [], SETTINGS)


def test_silence_without_a_reason_stays_unexplained() -> None:
    assert why(GAP) == ""
    assert why(GAP, [replace(HALT, symbol="SYM2")]) == ""


def test_a_halt_explains_the_silence_that_lies_in_it() -> None:
    assert why(GAP, [HALT]) == "halt"
    assert why(GAP, [replace(HALT, ts_to=None)]) == "halt"
    assert why(GAP, [replace(HALT, ts_to=HALT.ts_from + 600 * S)]) == ""
    both = [replace(HALT, ts_to=BASE + 15 * HOUR + 1800 * S), replace(HALT, ts_from=BASE + 15 * HOUR + 1830 * S)]
    assert why(GAP, both) == "halt"
    assert why(replace(GAP, symbols=("SYM1", "SYM2")), [HALT]) == ""
    assert why(replace(GAP, ts_from=GAP.ts_from - 120 * S), [HALT]) == ""


@pytest.mark.parametrize("name", ["volume_missing", "prints_missing", "tick_ids_missing"])
def test_what_counters_prove_is_never_explained_away(name: str) -> None:
    assert why(replace(GAP, evidence={name: 5}), [HALT]) == ""


def test_a_halt_that_is_not_over_explains_nothing_behind_its_session_date() -> None:
    today, old = replace(HALT, ts_to=None), replace(HALT, ts_from=HALT.ts_from - DAY, ts_to=None)
    assert why(GAP, [old]) == ""
    assert why(GAP, [replace(old, ts_from=0)]) == ""
    assert why(GAP, [old, today]) == "halt"
    assert why(GAP, [replace(old, ts_to=HALT.ts_to)]) == "halt"
    # 22:00 in New York: the session of the 20th has begun
    assert why(GAP, [replace(today, ts_from=BASE + 3 * HOUR)]) == "halt"
    before = replace(GAP, session_date=date(2026, 11, 19), ts_from=GAP.ts_from - DAY, ts_to=CALENDAR.end_of(20261119))
    assert why(before, [old], 20261119) == "halt"


def test_a_halt_of_one_symbol_does_not_explain_a_lost_link() -> None:
    assert why(replace(GAP, cause="disconnect", symbols=()), [HALT]) == ""


def test_the_calendar_explains_gaps_outside_trading() -> None:
    night = replace(GAP, cause="disconnect", symbols=(), ts_from=BASE + 26 * HOUR, ts_to=BASE + 30 * HOUR)
    assert why(night) == "closed"
    assert why(replace(night, ts_from=BASE + 2 * HOUR, ts_to=BASE + 9 * HOUR)) == "closed"
    assert why(replace(night, ts_from=BASE + 24 * HOUR)) == ""
    half = replace(night, ts_from=BASE + 3 * DAY + 22 * HOUR, ts_to=BASE + 3 * DAY + 23 * HOUR)
    assert why(half, day=20261123) == "half_day"
    assert why(GAP, day=20261121) == "holiday"
    assert why(replace(GAP, ts_to=None), day=20261121) == ""


def test_silence_around_the_open_and_close_is_the_auction() -> None:
    around = replace(GAP, ts_from=BASE + int(14.5 * HOUR) - 60 * S, ts_to=BASE + int(14.5 * HOUR) + 20 * S)
    assert why(around) == "auction"
    assert why(replace(around, ts_to=around.ts_to + 200 * S if around.ts_to else None)) == ""
    assert why(replace(around, cause="disconnect")) == ""


OPEN = replace(GAP, ts_to=None, state="open")
NOW = OPEN.ts_from + 600 * S
HEADER = "Halt Date,Halt Time,Issue Symbol,Reason Codes,Resumption Date,Resumption Trade Time\n"


def halted(folder: Path, text: str, *gaps: LedgerGap, now_ns: int = NOW) -> tuple[set[str], str]:
    """Which of these gaps a file of halts covers; GAP begins at 10:00 in New York."""
    (folder / "halts.csv").write_text(HEADER + text)
    found = halted_now(Settings(home=folder, gaps=GapSettings(halts="halts.csv")), gaps or (OPEN,), now_ns)
    return set(found.gap_ids), found.message


def test_a_halt_in_force_covers_an_open_silence(tmp_path: Path) -> None:
    assert halted(tmp_path, "11/20/2026,10:00:30,SYM1,T1,,\n") == ({"a"}, "")
    assert halted(tmp_path, "11/20/2026,10:00:30,SYM2,T1,,\n") == (set(), "")
    # trading resumed after five minutes: a minute later the silence is one again
    over = "11/20/2026,10:00:30,SYM1,T1,11/20/2026,10:05:00\n"
    assert halted(tmp_path, over, now_ns=OPEN.ts_from + 359 * S) == ({"a"}, "")
    assert halted(tmp_path, over, now_ns=OPEN.ts_from + 361 * S) == (set(), "")
    # nobody told of its end, a week ago
    assert halted(tmp_path, "11/13/2026,10:00:30,SYM1,T1,,\n") == (set(), "")
    # it began long before the halt
    assert halted(tmp_path, "11/20/2026,10:01:30,SYM1,T1,,\n") == (set(), "")


def test_a_halt_in_force_covers_no_loss_no_link_and_nothing_that_is_over(tmp_path: Path) -> None:
    lost, link = replace(OPEN, evidence={"prints_missing": 3}), replace(OPEN, cause="disconnect", symbols=())
    both = replace(OPEN, symbols=("SYM1", "SYM2"))
    assert halted(tmp_path, "11/20/2026,10:00:30,SYM1,T1,,\n", lost, link, both, GAP) == (set(), "")


def test_halts_that_cannot_be_had_cover_nothing_and_nobody_asks_for_them_in_vain(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, gaps=GapSettings(halts="http://127.0.0.1:9/halts.csv", halts_timeout_s=2))
    found = halted_now(settings, [OPEN], NOW)
    assert not found.gap_ids
    assert "127.0.0.1:9" in found.message
    assert halted_now(settings, [GAP], NOW).message == ""
    assert "no date" in halted(tmp_path, "x,10:00:30,SYM1,T1,,\n")[1]

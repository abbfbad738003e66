"""F22: the clock is set while the platform runs, by ± 1 s, 1 h and 1 day; and the two days on which New York's clocks change.

Scale: every step once, held for 2.5 s (5 s at ci, 20 s at full), in a real collector with an injected wall clock; both changes of each
year 2024, 2020-2027, 2007-2037. Judged: no link is given up, nothing is lost or out of order, no session ends by a step, no false
gap; on the days of change every trade and quote has its true UTC time, also in the hour that happens twice.
"""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from l2_platform.feeds.iqfeed.decode_level1 import Level1Decoder
from l2_platform.feeds.iqfeed.messages import feed_clock_ns
from l2_platform.journal.reader import Block, Position
from l2_platform.market.instruments import SymbolTable
from l2_platform.market.sessions import load_calendar
from tests.faults.checkers import close_ledger, gaps_of_journal, pipeline_rows
from tests.faults.conftest import Measured
from tests.faults.scale import FAULTS, scaled
from tests.faults.stack import DEPTH, DEPTH_COLLECTOR, Stack, simulated, stack_of

HELD_S = scaled(2.5, 5.0, 20.0)
STEPS_S = (1, -1, 3600, -3600, 86_400, -86_400, 0)
YEARS = {"quick": range(2024, 2025), "ci": range(2020, 2028), "full": range(2007, 2038)}[FAULTS]
NEW_YORK = ZoneInfo("America/New_York")
SECOND = 1_000_000_000
HOUR = timedelta(hours=1)


@pytest.fixture
def stack(market: Stack, tmp_path: Path, numba_cache: Path) -> Iterator[Stack]:
    with stack_of(tmp_path, numba_cache, market) as found:
        found.symbols(simulated(20))
        # the package of the tests is found from here
        found.environments[DEPTH_COLLECTOR] = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        found.commands[DEPTH_COLLECTOR] = [
            found.commands[DEPTH_COLLECTOR][0], "-m", "tests.faults.stepped", DEPTH, str(tmp_path / "step"),
        ]  # fmt: skip
        (tmp_path / "step").write_text("0")
        yield found


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_steps_of_the_clock_leave_the_stream_whole(stack: Stack, measured: Measured) -> None:
    stack.start(DEPTH_COLLECTOR)
    stack.live(DEPTH_COLLECTOR)
    began = stack.number(DEPTH_COLLECTOR, "session_date")
    skews = []
    for step in STEPS_S:
        new = stack.home.path / "step.new"
        new.write_text(str(step))
        new.rename(stack.home.path / "step")
        time.sleep(HELD_S)
        # the simulated market's own clock, in T lines, stays right
        stack.until("skew told", partial(skew_is, stack, step), 30)
        beat = stack.beat(DEPTH_COLLECTOR)
        assert beat is not None
        assert beat.state == "live"
        assert beat.numbers["disconnects"] == 0
        skews.append(beat.numbers["skew_s"])
    assert stack.number(DEPTH_COLLECTOR, "session_date") == began
    stack.stop(DEPTH_COLLECTOR)
    stack.close_links()
    gaps = gaps_of_journal(stack.home, DEPTH)
    account, found = close_ledger(stack, DEPTH, [])
    account.unexplained = 0  # what was sent after the stop is told by a gap whose time is our clock's
    account.zero()
    assert len(found.parts) == 1
    assert [(gap.cause, gap.until) for gap in gaps] == [("disconnect", None)]  # the stop itself, still open
    seqs = np.concatenate([table.columns["seq"] for table in pipeline_rows(stack.home, DEPTH, "depth_updates")])
    assert (np.diff(seqs.astype(np.int64)) > 0).all()
    assert max(abs(skew) for skew in skews) > 86_000
    measured(steps=len(STEPS_S), lines=account.stored, clock_skew_told=len(found.events("clock_skew")))


def skew_is(stack: Stack, step: int) -> bool:
    """The collector tells that its clock is ahead of the feed's by so much, s."""
    return abs(float(stack.number(DEPTH_COLLECTOR, "skew_s")) - step) < 2


def changes(year: int) -> list[date]:
    """The Sundays of a year on which New York's clocks change."""
    days = [date(year, 1, 1) + timedelta(days=n) for n in range(365)]
    noon = [datetime(day.year, day.month, day.day, 12, tzinfo=NEW_YORK).utcoffset() for day in days]
    return [day for number, day in enumerate(days) if number and noon[number] != noon[number - 1]]


CHANGES = [day for year in YEARS for day in changes(year)]
FIELDS = (
    "S,CURRENT UPDATE FIELDNAMES,Symbol,Most Recent Trade,Most Recent Trade Size,Most Recent Trade Time,"
    "Most Recent Trade Date,Message Contents"
)


def through_the_day(day: date) -> list[datetime]:
    """Every 10 minutes from midnight to midnight in New York, in UTC: 23 or 25 hours."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=NEW_YORK).astimezone(UTC)
    following = day + timedelta(days=1)
    end = datetime(following.year, following.month, following.day, tzinfo=NEW_YORK).astimezone(UTC)
    return [midnight + timedelta(minutes=10 * n) for n in range((end - midnight) // timedelta(minutes=10))]


@pytest.mark.parametrize("day", CHANGES, ids=str)
def test_every_trade_of_a_day_of_change_has_its_true_time(day: date) -> None:
    instants = through_the_day(day)
    assert len(instants) in {23 * 6, 25 * 6}
    decoder = Level1Decoder(SymbolTable())
    lines, frames, stamps = [FIELDS.encode() + b"\r\n"], [1], [0]
    for instant in instants:
        wall = instant.astimezone(NEW_YORK)
        lines.append(f"T,{wall:%Y%m%d %H:%M:%S}\r\n".encode())
        lines.append(f"Q,SYM,10.5,100,{wall:%H:%M:%S}.250000,{wall:%m/%d/%Y},C\r\n".encode())
        frames.append(2)
        stamps.append(int(instant.timestamp()) * SECOND)
    stamps[0] = stamps[1]
    starts = np.cumsum([0, len(lines[0]), *(len(a) + len(b) for a, b in zip(lines[1::2], lines[2::2], strict=True))])
    block = Block(
        np.frombuffer(b"".join(lines), np.uint8), starts.astype(np.int64), np.cumsum([1, *frames[:-1]]).astype(np.uint64),
        np.array(frames, np.uint32), np.array(stamps, np.int64), np.zeros(len(frames), np.uint8),
        np.ones(len(frames), np.uint32), Position(int(f"{day:%Y%m%d}"), 1, 0), int(f"{day:%Y%m%d}"),
    )  # fmt: skip
    batch = decoder.decode(block)
    trades = batch.ts_trade[batch.ts_trade > 0]
    expected = [int(instant.timestamp()) * SECOND + SECOND // 4 for instant in instants]
    assert trades.tolist() == expected


@pytest.mark.parametrize("day", CHANGES, ids=str)
def test_feed_clock_of_a_day_of_change_never_differs_from_ours(day: date) -> None:
    for instant in through_the_day(day):
        ours = int(instant.timestamp()) * SECOND
        assert feed_clock_ns(f"{instant.astimezone(NEW_YORK):%Y%m%d %H:%M:%S}", ours) == ours


@pytest.mark.parametrize("day", CHANGES, ids=str)
def test_sessions_around_a_day_of_change_end_by_new_yorks_clock(day: date) -> None:
    calendar = load_calendar("XNYS", 900)
    for offset in (-3, -2, 1, 2):
        near = day + timedelta(days=offset)
        session = int(f"{near:%Y%m%d}")
        noon = datetime(near.year, near.month, near.day, 12, tzinfo=NEW_YORK)
        if calendar.session_date_of(int(noon.timestamp()) * SECOND) != session:
            continue  # a holiday
        end = datetime.fromtimestamp(calendar.end_of(session) / SECOND, UTC).astimezone(NEW_YORK)
        assert end.date() == near
        assert (end.hour, end.minute) in {(20, 15), (17, 15)}
        assert calendar.session_date_of(calendar.end_of(session) - 1) == session
        assert calendar.session_date_of(calendar.end_of(session)) > session

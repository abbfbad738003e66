"""What explains a gap: a halt, an auction, a holiday, hours without trading. A loss that counters prove is never explained away.

What does not belong here: finding gaps (delivery), reading halts (halts).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from l2_platform.clock import Clock
from l2_platform.errors import InputError, L2Error, WarehouseError
from l2_platform.market.sessions import SessionCalendar, Window, load_calendar
from l2_platform.quality.day import is_half_day, number_of
from l2_platform.quality.halts import NS, Halt, load_halts
from l2_platform.quality.ledger import GAPS_MAX, LedgerGap, append_version, load_gaps
from l2_platform.settings import GapSettings, Settings
from l2_platform.warehouse.client import connect
from l2_platform.warehouse.schema import migrate

log = logging.getLogger(__name__)

SYMBOL_SILENCE: Final = "symbol_silence"
LOSSES: Final = ("volume_missing", "prints_missing", "tick_ids_missing")
"""Evidence of counters that something was lost."""


def explain_date(settings: Settings, session_date: int, clock: Clock) -> list[LedgerGap]:
    """Look for what explains the gaps of a date (YYYYMMDD) that are over, and append it to the ledger; the gaps explained now.

    Running it again changes nothing that is explained. Raise InputError for halts that cannot be read, WarehouseError.
    """
    return _explain(settings, session_date, clock, load_halts(settings))


@dataclass(frozen=True, slots=True)
class Explained:
    """What an unattended look for explanations came to."""

    gaps: list[LedgerGap]
    """Explained now."""
    message: str
    """Why halts explain nothing now; empty = they were read, or none are configured."""


def explain_unattended(settings: Settings, session_date: int, clock: Clock) -> Explained:
    """The same before somebody judges or repairs the date: halts that cannot be had now are told, and the calendar explains all the same.

    Raise WarehouseError.
    """
    try:
        halts, message = load_halts(settings), ""
    except L2Error as error:
        halts, message = [], error.message
        log.warning("halts_not_read error=%s", message)
    return Explained(_explain(settings, session_date, clock, halts), message)


@dataclass(frozen=True, slots=True)
class OpenHalts:
    """Which open silences of symbols the halts in force cover."""

    gap_ids: frozenset[str]
    message: str
    """Why halts cover nothing now; empty = they were read, or nobody had to ask."""


def halted_now(settings: Settings, gaps: Sequence[LedgerGap], now_ns: int) -> OpenHalts:
    """Which of these gaps are open silences that halts in force at `now_ns` (ns, UTC) cover; the halts are asked for at most once.

    A silence lasts until now, or until its session date ended. Nothing is written: an open gap is the delivery's, and its end may still
    show a loss. Halts that cannot be had cover nothing; why not is told, nothing is raised.
    """
    silent = [gap for gap in gaps if gap.ts_to is None and not gap.explanation and _is_silence(gap)]
    if not silent:
        return OpenHalts(frozenset(), "")
    try:
        halts = load_halts(settings)
    except L2Error as error:
        log.warning("halts_not_read error=%s", error.message)
        return OpenHalts(frozenset(), error.message)
    calendar = load_calendar(settings.calendar_name, settings.session.roll_margin_s)
    edge = round(settings.gaps.halt_edge_s * NS)
    covered = (
        gap for gap in silent
        if all(_halted(name, gap.ts_from, _until(gap, calendar, now_ns), halts, calendar, edge) for name in gap.symbols)
    )  # fmt: skip
    return OpenHalts(frozenset(gap.gap_id for gap in covered), "")


def gaps_now(
    settings: Settings, client: Client, session_date: date, now_ns: int, limit: int = GAPS_MAX
) -> tuple[list[LedgerGap], str]:
    """The gaps of a date in which something was lost as they count at `now_ns` (ns, UTC), oldest first; of more than `limit` the newest.

    An open silence that a halt in force covers (`halted_now`) has `halt` as its explanation here, and nowhere in the ledger. Whoever
    counts what is lost on a date asks here. Beside the gaps why halts cover nothing, empty when they were read or nobody had to ask.
    Raise ClickHouseError.
    """
    found = load_gaps(client, settings.clickhouse.database, session_date, limit=limit)
    halted = halted_now(settings, found, now_ns)
    return [replace(gap, explanation="halt") if gap.gap_id in halted.gap_ids else gap for gap in found], halted.message


def _until(gap: LedgerGap, calendar: SessionCalendar, now_ns: int) -> int:
    """How long an open silence lasts by now, ns: what follows its session is another one's."""
    number = number_of(gap.session_date)
    return min(now_ns, calendar.end_of(number)) if calendar.is_session(number) else now_ns


def _is_silence(gap: LedgerGap) -> bool:
    """A silence of single symbols in which no counter shows a loss: all that halts may explain."""
    return gap.cause == SYMBOL_SILENCE and bool(gap.symbols) and not any(gap.evidence.get(name) for name in LOSSES)


def _explain(settings: Settings, session_date: int, clock: Clock, halts: Sequence[Halt]) -> list[LedgerGap]:
    calendar = load_calendar(settings.calendar_name, settings.session.roll_margin_s)
    day = date(session_date // 10_000, session_date // 100 % 100, session_date % 100)
    database = settings.clickhouse.database
    client = connect(settings)
    try:
        migrate(client, database)
        return [
            append_version(client, database, gap.gap_id, clock, explanation=why)
            for gap in load_gaps(client, database, day, withdrawn=True)
            if not gap.explanation and (why := explanation_of(gap, session_date, calendar, halts, settings.gaps))
        ]
    except ClickHouseError as error:
        raise WarehouseError(f"the ledger of gaps cannot be read or written: {str(error)[:300]}") from None
    finally:
        client.close()


def explanation_of(
    gap: LedgerGap, session_date: int, calendar: SessionCalendar, halts: Sequence[Halt], settings: GapSettings
) -> str:
    """halt, auction, holiday, half_day or closed; empty when nothing explains the gap, or when it is not over yet.

    The calendar explains gaps of any kind that lie outside trading; halts and auctions explain only silence of symbols.
    """
    if gap.ts_to is None or any(gap.evidence.get(name) for name in LOSSES):
        return ""
    if not calendar.is_session(session_date):
        return "holiday"
    windows = calendar.windows(session_date)
    if gap.ts_to <= windows[0].start or gap.ts_from >= windows[-1].end:
        return "half_day" if gap.ts_from >= windows[-1].end and is_half_day(session_date, calendar) else "closed"
    if not _is_silence(gap):
        return ""
    edge = round(settings.halt_edge_s * NS)
    if all(_halted(name, gap.ts_from, gap.ts_to, halts, calendar, edge) for name in gap.symbols):
        return "halt"
    return "auction" if _in_auction(gap.ts_from, gap.ts_to, windows, round(settings.auction_s * NS)) else ""


def _halted(symbol: str, ts_from: int, ts_to: int, halts: Sequence[Halt], calendar: SessionCalendar, edge: int) -> bool:
    """The silence lies in a halt of the symbol, or in halts that follow each other, at most `edge` outside."""
    reached = ts_from + edge
    for halt in sorted((halt for halt in halts if halt.symbol == symbol), key=lambda halt: halt.ts_from):
        end = _end_of(halt, calendar)
        if halt.ts_from <= reached and end + edge > ts_from:
            if end + edge >= ts_to:
                return True
            reached = max(reached, end + edge)
    return False


def _end_of(halt: Halt, calendar: SessionCalendar) -> int:
    """When trading was resumed, ns; a halt that is not over lasts until the end of its session date at most.

    Lists keep rows of old halts without a resumption: such a row must not explain every silence that follows. A halt that goes on has a
    row of the later date.
    """
    if halt.ts_to is not None:
        return halt.ts_to
    try:
        return calendar.end_of(calendar.session_date_of(halt.ts_from))
    except InputError:
        # the calendar does not know its time: nothing was recorded then
        return halt.ts_from


def _in_auction(ts_from: int, ts_to: int, windows: Sequence[Window], around: int) -> bool:
    """The silence lies around the open or the close of regular trading."""
    edges = [edge for window in windows if window.name == "regular" for edge in (window.start, window.end)]
    return any(edge - around <= ts_from and ts_to <= edge + around for edge in edges)

"""What a person asked to be played, checked: date, streams, symbols, part of the day, speed. InputError says what there is instead.

What does not belong here: playing.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from l2_platform.delivery.pipeline import channel_of, source_of
from l2_platform.errors import InputError
from l2_platform.journal.headers import segment_header
from l2_platform.journal.inventory import inventory
from l2_platform.journal.layout import date_folder, list_dates, list_segments, list_streams
from l2_platform.market.dates import date_text
from l2_platform.market.instruments import SymbolTable
from l2_platform.market.sessions import load_calendar
from l2_platform.replay.lines import CHANNELS, Part, PartReader, Piece
from l2_platform.replay.pace import AS_FAST_AS_POSSIBLE, SPEED_MAX, SPEED_MIN
from l2_platform.settings import Settings

NEW_YORK = ZoneInfo("America/New_York")
SCAN_BYTES = 64 << 20
"""So much of each stream is looked through for its symbols before playing begins; the others are told by segment headers."""
SPEED_ADVICE = f"--speed must be `max` or a number from {SPEED_MIN:g} to {SPEED_MAX:,.0f}"


@dataclass(frozen=True, slots=True)
class Day:
    """Streams of a session date, and what they hold."""

    parts: list[Part]
    first_ns: int
    """Receive time of the first line (imports: the feed's own time), ns."""
    last_ns: int
    lines: int
    """Stored lines of all streams, other than market lines too."""


def speed_from_text(text: str) -> float:
    """`1`, `0.5`, `10` or `max`."""
    if text.strip().lower() == "max":
        return AS_FAST_AS_POSSIBLE
    try:
        speed = float(text)
    except ValueError:
        raise InputError(f"{SPEED_ADVICE}, not {text!r}") from None
    if not SPEED_MIN <= speed <= SPEED_MAX:
        raise InputError(f"{SPEED_ADVICE}, not {text}")
    return speed


def choose_parts(settings: Settings, session_date: int, streams: Iterable[str] = ()) -> list[Part]:
    """The streams to play: those that are named, or every live one of the date, or its only import of each channel."""
    root = settings.journal_dir
    held = {name: list_dates(root, name) for name in list_streams(root) if channel_of_name(name) in CHANNELS}
    if not held:
        raise InputError("the journal holds nothing that can be played: start recording (`l2 up`) or import a file (`l2 import --help`)")
    named = list(streams)
    for name in named:
        if name not in held:
            near = difflib.get_close_matches(name, held, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(f"no stream {name!r} of depth or Level 1 in the journal{hint} There are: {', '.join(held)}")
        if session_date not in held[name]:
            raise InputError(f"{name} has no session date {date_text(session_date)}; {_newest(held[name])}")
    if named:
        return [Part(name, session_date) for name in dict.fromkeys(named)]
    found = [name for name, dates in held.items() if session_date in dates]
    if not found:
        raise InputError(_no_date(settings, session_date, sorted({date for dates in held.values() for date in dates})))
    live = [name for name in found if source_of(name) == "live"]
    for channel in CHANNELS:
        others = [name for name in found if channel_of(name) == channel]
        if not live and len(others) > 1:
            raise InputError(f"{date_text(session_date)} has several imports of {channel}: {', '.join(others)}; name one with --stream")
    return [Part(name, session_date) for name in live or found]


def channel_of_name(stream: str) -> str:
    """The channel in a stream's name; empty when the folder is no stream's."""
    return channel_of(stream) if stream.count("-") >= 2 else ""


def _newest(dates: list[int]) -> str:
    return f"it has {', '.join(map(date_text, dates[-5:]))}" if dates else "it has no date yet"


def _no_date(settings: Settings, session_date: int, known: list[int]) -> str:
    calendar = load_calendar(settings.calendar_name, settings.session.roll_margin_s)
    tail = f"the newest recorded dates are {', '.join(map(date_text, known[-5:])) or 'none'}"
    if not calendar.is_session(session_date):
        why = f"is no session of {settings.calendar_name} (weekend, holiday or out of range)"
        return f"{date_text(session_date)} {why}, nothing is recorded; {tail}"
    return f"nothing is recorded on session date {date_text(session_date)}; {tail}"


def survey(settings: Settings, parts: list[Part]) -> Day:
    """First and last time and the lines of a day; InputError when there are none. Reads segments that are not sealed yet."""
    firsts, lasts, lines = [], [], 0
    for part in parts:
        if source_of(part.stream) == "live":
            durable = settings.run_dir / "durable" / part.stream
            rows = list(inventory(settings.journal_dir, part.stream, [part.session_date], durable))
            firsts += [row.first_ts for row in rows if row.first_ts is not None]
            lasts += [row.last_ts for row in rows if row.last_ts is not None]
            lines += sum(row.last_seq - row.first_seq + 1 for row in rows if row.last_seq)
        else:
            first, last, count = _span_of_import(settings, part)
            lines += count
            if count:
                firsts.append(first)
                lasts.append(last)
    if not firsts or not lines:
        names = ", ".join(part.stream for part in parts)
        raise InputError(f"session date {date_text(parts[0].session_date)} of {names} holds no line: there is nothing to play")
    return Day(parts, min(firsts), max(lasts), lines)


def _span_of_import(settings: Settings, part: Part) -> tuple[int, int, int]:
    """Feed times of the first and the last line, and the lines: an import is read through, its receive times tell nothing."""
    reader = PartReader(settings, part, 0, SymbolTable(names_max=settings.symbols.names_max))
    first = last = lines = 0
    while items := reader.read(settings.replay.step_bytes * 16):
        for item in items:
            if isinstance(item, Piece):
                first = first or int(item.times[0])
                last = int(item.times[-1])
                lines += len(item)
    return first, last, lines


def known_names(settings: Settings, parts: list[Part]) -> tuple[list[str], bool]:
    """Symbols of a day in the order of their appearance, and whether these are all: told by headers and the first part of the lines."""
    table = SymbolTable(names_max=settings.symbols.names_max)
    whole = True
    for part in parts:
        for file in list_segments(date_folder(settings.journal_dir, part.stream, part.session_date)):
            header = segment_header(file)
            context = header.context if header is not None else {}
            for name in (*context.get("watches", ()), *context.get("symbols", ())):
                table.intern(str(name))
        reader = PartReader(settings, part, 0, table)
        left = SCAN_BYTES
        while left > 0 and (items := reader.read(min(left, settings.replay.step_bytes * 16))):
            left -= sum(item.data.nbytes for item in items if isinstance(item, Piece))
        whole = whole and reader.finished
    return list(table.names), whole


def check_symbols(settings: Settings, parts: list[Part], symbols: tuple[str, ...], known: list[str], *, whole: bool) -> None:
    """InputError when a symbol has no line; a day whose names are not all known is looked through for it."""
    for symbol in symbols:
        if symbol in known or (not whole and any(_has_symbol(settings, part, symbol) for part in parts)):
            continue
        near = difflib.get_close_matches(symbol, known, n=3) or known[:5]
        names = ", ".join(part.stream for part in parts)
        raise InputError(
            f"no line of {symbol!r} on {date_text(parts[0].session_date)} in {names}; symbols are case-sensitive, there are e.g. "
            f"{', '.join(near)}"
        )


def _has_symbol(settings: Settings, part: Part, symbol: str) -> bool:
    wanted = re.compile(rb"(?m)^\w," + re.escape(symbol.encode("latin-1", "replace")) + rb",")
    reader = PartReader(settings, part, 0, SymbolTable(names_max=settings.symbols.names_max))
    while items := reader.read(settings.replay.step_bytes * 16):
        if any(isinstance(item, Piece) and wanted.search(item.data.tobytes()) for item in items):
            return True
    return False


def instant_of(text: str, option: str, day: Day) -> int:
    """Market time (ns) of `10:30:00[.ffffff]`, New York time of the session, or of a whole instant; InputError outside of the day."""
    match = re.fullmatch(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?", text.strip())
    if match is None:
        found = _whole_instant(text, option)
    else:
        hour, minute, second = (int(part or 0) for part in match.groups()[:3])
        fraction = int((match.group(4) or "").ljust(9, "0"))
        if hour > 23 or minute > 59 or second > 59:
            raise InputError(f"{option} {text!r} is no time of day; write it as 10:30:00 (New York)")
        # the wall time that lies in the recorded part, or next to it
        first_day = datetime.fromtimestamp(day.first_ns // 10**9, NEW_YORK).date()
        days = [first_day + timedelta(days=number) for number in (-1, 0, 1, 2)]
        walls = [datetime(one.year, one.month, one.day, hour, minute, second, tzinfo=NEW_YORK) for one in days]
        moments = [int(wall.timestamp()) * 10**9 + fraction for wall in walls]
        inside = [moment for moment in moments if day.first_ns - 10**9 <= moment <= day.last_ns + 10**9]
        middle = (day.first_ns + day.last_ns) // 2
        found = inside[0] if inside else min(moments, key=lambda moment: abs(moment - middle))
    if not day.first_ns - 10**9 <= found <= day.last_ns + 10**9:
        first, last = (text_of(ts) for ts in (day.first_ns, day.last_ns))
        raise InputError(f"{option} {text}: nothing is recorded then; the recording goes from {first} to {last} New York time")
    return found


def _whole_instant(text: str, option: str) -> int:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InputError(f"{option} {text!r} is no time; write it as 10:30:00 (New York) or 2026-11-20T10:30:00") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=NEW_YORK)
    since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


def text_of(ts: int) -> str:
    """`2026-11-20 10:30:00`, New York time."""
    return datetime.fromtimestamp(ts // 10**9, NEW_YORK).strftime("%Y-%m-%d %H:%M:%S")


def clock_text(ts: int) -> str:
    """`10:30:00`, New York time."""
    return datetime.fromtimestamp(ts // 10**9, NEW_YORK).strftime("%H:%M:%S")



"""What a captured file is: its channel, its protocol, the time of each line, the symbols in it; and why it cannot be used.

The file is read with the decoders that will read it later, so both see the same. Every refusal is an InputError that names file,
line and field and says what to do; single broken lines are no reason to refuse (they go to quarantine). What does not belong here:
sessions and the journal (collectors/importing).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np

from l2_platform.errors import InputError
from l2_platform.feeds.iqfeed.decode_depth import DepthDecoder
from l2_platform.feeds.iqfeed.decode_history import HistoryDecoder
from l2_platform.feeds.iqfeed.decode_level1 import Level1Decoder
from l2_platform.feeds.iqfeed.history_kernels import is_date
from l2_platform.feeds.iqfeed.layouts import ACKNOWLEDGED_FIELDS, protocol_from_line
from l2_platform.feeds.iqfeed.level1_clock import TRADE_CLOCK
from l2_platform.feeds.iqfeed.quote_kernels import field_end
from l2_platform.market.compiled import kernel
from l2_platform.market.dates import date_text
from l2_platform.market.events import (
    CONTENT_TRADE,
    NULL_TS,
    DepthBatch,
    DepthKind,
    Int64,
    Level1Batch,
    Level1Kind,
    UInt8,
)
from l2_platform.market.instruments import SymbolTable
from l2_platform.market.timezone import NEW_YORK

CHUNK_BYTES: Final = 8 << 20
SAMPLE_BYTES: Final = 1 << 16
CONTROL_SHARE_MAX: Final = 0.01
"""A file with more control bytes than this in its first part is no text."""
EVENING_HOUR: Final = 17
"""From this hour on (New York) a line may belong to the next session."""
SESSION_DAYS_MAX: Final = 4
"""Most days between an evening and the session date that it belongs to (a long weekend)."""
JUMP_NS: Final = 12 * 3_600_000_000_000
"""A clock that is this far ahead of the next one is a broken line's."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

CHANNELS: Final = ("depth", "level1", "ticks")
NEUTRAL: Final = 0
DEPTH: Final = 1
LEVEL1: Final = 2
TICKS: Final = 3
UNKNOWN: Final = 4
_DATED_DEPTH: Final = (
    DepthKind.PRICE_LEVEL_ORDER, DepthKind.ADD, DepthKind.UPDATE, DepthKind.DELETE, DepthKind.LEVEL_UPDATE,
    DepthKind.LEVEL_DELETE, DepthKind.CLOCK,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recognised:
    """What was found out about a file."""

    channel: str
    """depth, level1 or ticks."""
    protocol: str | None
    """As the feed acknowledged it in the file; else told from the lines, None where they do not say."""
    symbols: list[str]
    """In the order of their appearance."""
    utc_ns: Int64
    """One per line: the newest time that the file had told by then, ns UTC, never going back."""
    dated: bool
    """Whether lines told their dates; otherwise `utc_ns` is the given date's noon."""
    context: dict[str, Any] = field(default_factory=dict)
    """For the decoder: `clock`, so that lines before the first clock are dated by it."""


def recognise(
    buffer: UInt8, file: Path, channel: str, session_date: int | None = None, symbol: str | None = None
) -> Recognised:
    """Look through a whole file (plain text); InputError when it is not `channel`, or cannot be dated, or contradicts the date."""
    check_text(buffer, file)
    classes, has_tag = _classes(buffer)
    _check_classes(buffer, file, channel, classes)
    symbols = SymbolTable()
    times, protocol, context = _line_times(buffer, channel, symbols, symbol, len(classes))
    if protocol is None and channel == "ticks":
        protocol = "6.2" if has_tag else None
    bearing = np.flatnonzero(times != NULL_TS)
    if channel == "ticks":
        _check_oldest_first(file, bearing, times)
    bearing = bearing[_trusted(times[bearing])]
    if len(bearing) == 0:
        if session_date is None:
            raise InputError(
                f"{file}: no line carries a date ({_what_dates(channel)}); give the session date with --date YYYYMMDD",
                file=str(file), field="date",
            )  # fmt: skip
        noon = datetime.strptime(f"{session_date} 12", "%Y%m%d %H").replace(tzinfo=NEW_YORK)
        return Recognised(channel, protocol, symbols.names, np.full(len(classes), _ns_of(noon)), False)
    kept = np.full(len(times), NULL_TS)
    kept[bearing] = times[bearing]
    utc_ns = np.maximum.accumulate(kept)
    utc_ns[: bearing[0]] = utc_ns[bearing[0]]
    if session_date is not None:
        _check_date(file, session_date, bearing, utc_ns, channel)
    return Recognised(channel, protocol, symbols.names, utc_ns, True, context)


def check_text(buffer: UInt8, file: Path) -> None:
    """Refuse an empty file and one that is no text."""
    sample = np.asarray(buffer[:SAMPLE_BYTES])
    printing = sample > 32
    if not len(sample) or (not printing.any() and len(buffer) <= SAMPLE_BYTES):
        raise InputError(f"{file}: the file is empty", file=str(file))
    control = (sample < 32) & (sample != 9) & (sample != 10) & (sample != 13)
    if control.mean() > CONTROL_SHARE_MAX:
        line = 1 + int((sample[: int(np.argmax(control))] == 10).sum())
        raise InputError(
            f"{file}: line {line}: byte 0x{int(sample[np.argmax(control)]):02x}: this is not text; give the feed's lines as they "
            "were received (gzip is fine)",
            file=str(file), line=line,
        )  # fmt: skip


def check_channel(lines: Sequence[bytes], channel: str, file: Path = Path("input")) -> None:
    """Refuse lines that are not of `channel` (depth, level1 or ticks)."""
    buffer = np.frombuffer(b"".join(line.rstrip(b"\r\n") + b"\n" for line in lines), np.uint8)
    check_text(buffer, file)
    _check_classes(buffer, file, channel, _classes(buffer)[0])


def session_dates_of_lines(buffer: UInt8, channel: str, symbol: str | None = None) -> Int64:
    """For each line the time that it tells (UTC ns), NULL_TS where it tells none: T lines, and dated lines that are no snapshot."""
    return _line_times(buffer, channel, SymbolTable(), symbol, len(_classes(buffer)[0]))[0]


def _classes(buffer: UInt8) -> tuple[UInt8, bool]:
    lines = int(sum(int((part == 10).sum()) for part in _parts(buffer)))
    if len(buffer) and buffer[-1] != 10:
        lines += 1
    classes = np.empty(lines, np.uint8)
    tagged = classify_lines(buffer, classes)
    return classes, bool(tagged)


def _parts(buffer: UInt8) -> Iterator[UInt8]:
    for start in range(0, len(buffer), CHUNK_BYTES):
        yield buffer[start : start + CHUNK_BYTES]


@kernel
def classify_lines(buffer: UInt8, classes: UInt8) -> bool:
    """The class of each line by its first fields; whether a history line carries the LH tag."""
    at = 0
    size = len(buffer)
    tagged = False
    for line in range(len(classes)):
        end = at
        while end < size and buffer[end] != 10:
            end += 1
        stop = end - 1 if end > at and buffer[end - 1] == 13 else end
        kind = NEUTRAL if stop == at else UNKNOWN
        start = at
        for number in range(3):
            if start >= stop:
                break
            limit = field_end(buffer, start, stop)
            if is_date(buffer, start, limit):
                kind = TICKS
            if number < 2 and limit - start == 2 and buffer[start] == 76 and buffer[start + 1] == 72:
                tagged = True
            if limit - start == 8 and buffer[start] == 33 and buffer[start + 1] == 69:
                kind = TICKS
            start = limit + 1
        if kind == UNKNOWN and (stop - at == 1 or buffer[at + 1] == 44):
            letter = buffer[at]
            # 0 2 3 4 5 6 7 8 9 Z q M / Q P F R N C / S T E n O
            if (48 <= letter <= 57 and letter != 49) or letter == 90 or letter == 113 or letter == 77:
                kind = DEPTH
            elif letter == 81 or letter == 80 or letter == 70 or letter == 82 or letter == 78 or letter == 67:
                kind = LEVEL1
            elif letter == 83 or letter == 84 or letter == 69 or letter == 110 or letter == 79:
                kind = NEUTRAL
        classes[line] = kind
        at = end + 1
    return tagged


def _check_classes(buffer: UInt8, file: Path, channel: str, classes: UInt8) -> None:
    counts = np.bincount(classes, minlength=5)
    own = 1 + CHANNELS.index(channel)
    others = [number for number in (DEPTH, LEVEL1, TICKS) if number != own]
    other = max(others, key=lambda number: int(counts[number]))
    if counts[other] > counts[own]:
        number, text = _first(buffer, classes, other)
        name = CHANNELS[other - 1]
        raise InputError(
            f"{file}: line {number}: {text!r} is a {name} line, not {channel}; use --channel {name}",
            file=str(file), line=number, field="message type",
        )  # fmt: skip
    if counts[own] < counts[UNKNOWN]:
        number, text = _first(buffer, classes, UNKNOWN)
        raise InputError(
            f"{file}: line {number}: {text!r} is no IQFeed {channel} line (first field); give the feed's lines as received",
            file=str(file), line=number, field="message type",
        )  # fmt: skip
    if not counts[own]:
        raise InputError(
            f"{file}: there is no {channel} line in it, only system lines; nothing to import", file=str(file)
        )


def _first(buffer: UInt8, classes: UInt8, wanted: int) -> tuple[int, str]:
    """Number and text (its beginning) of the first line of a class."""
    number = int(np.argmax(classes == wanted))
    seen, offset = 0, 0
    for part in _parts(buffer):
        ends = np.flatnonzero(part == 10)
        if seen + len(ends) >= number:
            begin = offset + (int(ends[number - seen - 1]) + 1 if number > seen else 0)
            text = bytes(buffer[begin : begin + 60]).split(b"\n")[0].rstrip(b"\r")
            return number + 1, text.decode("latin-1")
        seen += len(ends)
        offset += len(part)
    return number + 1, ""


@dataclass(slots=True)
class _Lines:
    """A part of the file in the shape of a journal block: one frame, lines numbered from 1 in the file."""

    buffer: UInt8
    frame_start: Int64
    frame_seq: Any
    frame_count: Any
    frame_ts: Int64
    frame_flags: UInt8
    frame_conn: Any
    session_date: int = 0


def _blocks(buffer: UInt8) -> Iterator[_Lines]:
    begin, line = 0, 1
    while begin < len(buffer):
        part = np.asarray(buffer[begin : begin + CHUNK_BYTES])
        ends = np.flatnonzero(part == 10)
        if begin + len(part) < len(buffer) and len(ends):
            part = part[: int(ends[-1]) + 1]
        count = len(ends)
        begin += len(part)
        if begin == len(buffer) and part[-1] != 10:
            part = np.append(part, np.uint8(10))
            part.setflags(write=False)  # as every other part: kernels are compiled for read-only bytes
            count += 1
        yield _Lines(
            part, np.array([0, len(part)]), np.array([line], np.uint64), np.array([count], np.uint32), np.zeros(1, np.int64),
            np.zeros(1, np.uint8), np.zeros(1, np.uint32),
        )  # fmt: skip
        line += count


def _line_times(
    buffer: UInt8, channel: str, symbols: SymbolTable, symbol: str | None, lines: int
) -> tuple[Int64, str | None, dict[str, Any]]:
    """Times told by the lines, the protocol, and the decoder's context at the first of them."""
    times = np.full(lines, NULL_TS)
    at = 0
    protocol: str | None = None
    context: dict[str, Any] = {}
    depth, level1, history = DepthDecoder(symbols), Level1Decoder(symbols), HistoryDecoder(symbols, symbol)
    for block in _blocks(buffer):
        if channel == "depth":
            batch: DepthBatch | Level1Batch = depth.decode(block)
            told = np.isin(batch.kind, _DATED_DEPTH) & (batch.error == 0)
            ts = batch.ts_event
        elif channel == "level1":
            dated_before = level1.layout.has_trade_date
            batch = level1.decode(block)
            told, ts = _level1_times(batch, dated_before, level1.layout.has_trade_date)
        else:
            batch = history.decode(block)
            told = np.isin(batch.kind, (Level1Kind.HISTORY_TICK, Level1Kind.HISTORY_BAR))
            ts = batch.ts_event
        protocol = protocol or _protocol(batch)
        here = np.where(told, ts, NULL_TS)
        times[at : at + len(here)] = here
        at += len(here)
        if channel == "level1" and not context and told.any():
            first = int(ts[np.argmax(told)])
            local = datetime.fromtimestamp(first // 10**9, NEW_YORK)
            offset = int((local.utcoffset() or timedelta()).total_seconds()) * 10**9
            context = {"clock": [first + offset, first, TRADE_CLOCK]}
    return times, protocol, context


def _level1_times(batch: Level1Batch, dated_before: bool, dated_after: bool) -> tuple[Any, Int64]:
    """Rows that tell a time: T lines, and trade prints while the layout has a trade date."""
    trades = (batch.kind == Level1Kind.QUOTE) & (batch.contents & CONTENT_TRADE != 0)
    dated = np.full(len(batch), dated_before)
    for row in np.flatnonzero(batch.kind == Level1Kind.SYSTEM):
        if batch.line(int(row)).startswith(ACKNOWLEDGED_FIELDS):
            dated[row:] = dated_after
    clocks = batch.kind == Level1Kind.CLOCK
    return clocks | (trades & dated & (batch.ts_trade != NULL_TS)), np.where(clocks, batch.ts_event, batch.ts_trade)


def _protocol(batch: DepthBatch | Level1Batch) -> str | None:
    for row in np.flatnonzero(batch.kind == ord("S")):
        protocol = protocol_from_line(batch.line(int(row)))
        if protocol:
            return protocol
    return None


def _trusted(times: Int64) -> Any:
    """Which clock-bearing lines to believe: not those far ahead of all of the next three (some of which may be old orders' dates).

    At the end, where fewer follow, a line may be ahead of what was before by a long weekend.
    """
    ahead = np.full(len(times) + 3, NULL_TS)
    ahead[: len(times)] = times
    following = np.maximum.reduce([ahead[1:-2], ahead[2:-1], ahead[3:]])
    trusted = times - JUMP_NS <= following
    for place in range(max(1, len(times) - 3), len(times)):
        trusted[place] |= (
            times[place] <= times[:place][trusted[:place]].max(initial=NULL_TS) + 2 * SESSION_DAYS_MAX * JUMP_NS
        )
    if len(times) and not trusted.any():
        trusted[0] = True
    return trusted


def _check_oldest_first(file: Path, bearing: Any, times: Int64) -> None:
    stamps = times[bearing]
    back = np.flatnonzero(stamps < np.maximum.accumulate(stamps) - JUMP_NS)
    if len(back) * 2 > len(stamps):
        line = int(bearing[back[0]]) + 1
        raise InputError(
            f"{file}: line {line}: timestamp {_local(int(times[line - 1])):%Y-%m-%d %H:%M:%S} goes back by more than half a day: "
            "replies must be oldest first (ask with direction 1), or be turned round",
            file=str(file), line=line, field="timestamp",
        )  # fmt: skip


def _check_date(file: Path, session_date: int, bearing: Any, utc_ns: Int64, channel: str) -> None:
    """Refuse a given date that the lines' own dates contradict."""
    newest = int(bearing[-1])
    places = [int(bearing[0]), newest] if channel == "ticks" else [newest]
    for place in places:
        local = _local(int(utc_ns[place]))
        ahead = (datetime.strptime(str(session_date), "%Y%m%d").date() - local.date()).days  # noqa: DTZ007 - a date only
        if ahead == 0 or (0 < ahead <= SESSION_DAYS_MAX and local.hour >= EVENING_HOUR):
            continue
        line = place + 1 if ahead > 0 else 1 + int(np.argmax(utc_ns > _end_of(session_date)))
        day = f"{_local(int(utc_ns[line - 1])):%Y-%m-%d}"
        raise InputError(
            f"{file}: line {line}: its date {day} contradicts --date {date_text(session_date)}; leave --date out, the lines carry "
            "their dates",
            file=str(file), line=line, field="date",
        )  # fmt: skip


def _end_of(session_date: int) -> int:
    end = datetime.strptime(str(session_date), "%Y%m%d").replace(tzinfo=NEW_YORK) + timedelta(days=1)
    return _ns_of(end) - 1


def _local(ns: int) -> datetime:
    return datetime.fromtimestamp(ns // 10**9, NEW_YORK)


def _ns_of(moment: datetime) -> int:
    return (moment.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1) * 1000


def _what_dates(channel: str) -> str:
    return {
        "depth": "the date field of the lines is empty and there is no T line",
        "level1": "there is no T line, and the layout has no Most Recent Trade Date",
        "ticks": "no timestamp could be read",
    }[channel]

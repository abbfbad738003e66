"""Trading halts from a file or an address, in the layouts in which the exchange publishes them: one halt a line, comma separated, or RSS.

Columns by their names, in any order: Halt Date, Halt Time, Issue Symbol, Issue Name, Market, Reason Codes, Pause Threshold Price,
Resumption Date, Resumption Quote Time, Resumption Trade Time. Dates are MM/DD/YYYY or YYYY-MM-DD, times HH:MM:SS with up to nine
digits behind a point, both New York. Empty resumption: the halt is not over. What does not belong here: what a halt explains (silence).
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from l2_platform.errors import InputError, L2Error
from l2_platform.quality.halts_fetch import fetch
from l2_platform.quality.halts_rss import rss_rows
from l2_platform.settings import Settings

NS: Final = 1_000_000_000
ZONE: Final = ZoneInfo("America/New_York")
NEEDED: Final = ("Halt Date", "Halt Time", "Issue Symbol", "Reason Codes", "Resumption Date", "Resumption Trade Time")
SYMBOL: Final = re.compile(r"[A-Z0-9.@#$^/+=_-]{1,32}")
TIME: Final = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})(?:\.(\d{1,9}))?")
DATES: Final = (
    re.compile(r"(?P<month>\d{1,2})/(?P<day>\d{1,2})/(?P<year>\d{4})"),
    re.compile(r"(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})"),
)


@dataclass(frozen=True, slots=True)
class Halt:
    """One halt; times are ns since the epoch, UTC."""

    symbol: str
    ts_from: int
    ts_to: int | None
    """Trading resumes; None: it is not known when, and the halt counts until its session date ends."""
    reason: str
    """The exchange's code, e.g. LUDP, T1, M."""
    market: str


class HaltsUnreachable(L2Error):
    """The address of the halts does not answer; asking again may help."""

    retryable = True


def load_halts(settings: Settings) -> list[Halt]:
    """The halts that `gaps.halts` names, of a simulated market without it those that the market itself publishes; else none.

    Raise InputError (file, line, field) or HaltsUnreachable.
    """
    place = settings.gaps.halts
    if re.match(r"https?://", place):
        data = _download(place, settings)
    else:
        own = not place and settings.feed.kind == "simulated"
        path = settings.simulated_halts if own else settings.home / place
        if not place and not (own and path.exists()):
            return []
        place = str(path)
        try:
            with path.open("rb") as file:
                data = file.read(settings.gaps.halts_bytes_max + 1)
        except OSError as error:
            raise InputError(f"{place}: {error.strerror or error}; `L2_GAPS__HALTS` names the file of halts") from None
    if len(data) > settings.gaps.halts_bytes_max:
        raise InputError(f"{place}: more than {settings.gaps.halts_bytes_max:,} bytes (`L2_GAPS__HALTS_BYTES_MAX`)")
    return read_halts(data, place)


def read_halts(data: bytes, name: str) -> list[Halt]:
    """The halts of a file's bytes, in its order: RSS when it begins as XML does; raise InputError that names file, line and field."""
    rows = rss_rows(data, name) if data.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<") else _csv_rows(data, name)
    return [_halt(row, f"{name}, line {line}") for line, row in rows]


def _csv_rows(data: bytes, name: str) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, fields by column) of each line that is not empty."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: byte {error.start} is not UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [field.strip() for field in next(reader, [])]
        missing = [column for column in NEEDED if column not in header]
        if missing or len(set(header)) != len(header):
            what = f"no column {missing[0]!r}" if missing else "a column twice"
            raise InputError(f"{name}, line 1: {what}; there must be {', '.join(NEEDED)}")
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if len(fields) != len(header):
                raise InputError(f"{name}, line {reader.line_num}: {len(fields)} fields, the header has {len(header)}")
            yield reader.line_num, {column: field.strip() for column, field in zip(header, fields, strict=True)}
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: {error}") from None


def _halt(row: Mapping[str, str], where: str) -> Halt:
    symbol = row["Issue Symbol"].upper()
    if not SYMBOL.fullmatch(symbol):
        raise InputError(f"{where}, Issue Symbol: {row['Issue Symbol'][:40]!r} is no symbol")
    begin = _moment(row, "Halt Date", "Halt Time", where)
    end = None
    if row["Resumption Trade Time"]:
        # a time for quotes alone does not end the halt
        end = _moment(row, "Resumption Date", "Resumption Trade Time", where)
    if end is not None and end < begin:
        raise InputError(f"{where}, Resumption Trade Time: it lies before the halt")
    return Halt(symbol, begin, end, row["Reason Codes"][:32], row.get("Market", "")[:32])


def _moment(row: Mapping[str, str], date_column: str, time_column: str, where: str) -> int:
    found = next((match for pattern in DATES if (match := pattern.fullmatch(row[date_column]))), None)
    try:
        day = datetime(int(found["year"]), int(found["month"]), int(found["day"]), tzinfo=ZONE) if found else None
    except ValueError:
        day = None
    if day is None:
        raise InputError(f"{where}, {date_column}: {row[date_column][:40]!r} is no date; write MM/DD/YYYY")
    match = TIME.fullmatch(row[time_column])
    hour, minute, second = (int(part) for part in match.groups()[:3]) if match else (99, 0, 0)
    if match is None or hour > 23 or minute > 59 or second > 59:
        raise InputError(f"{where}, {time_column}: {row[time_column][:40]!r} is no time; write HH:MM:SS")
    at = day.replace(hour=hour, minute=minute, second=second).astimezone(UTC)
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1) * NS + int((match[4] or "").ljust(9, "0"))


def _download(address: str, settings: Settings) -> bytes:
    """At most one byte more than allowed; the whole answer must come within `gaps.halts_timeout_s`."""
    try:
        return fetch(address, settings.gaps.halts_bytes_max + 1, settings.gaps.halts_timeout_s)
    except OSError as error:
        raise HaltsUnreachable(f"{address}: {error}; nothing is explained by halts until it answers") from None

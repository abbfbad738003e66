"""Trading halts from a file or an address, in the layout in which the exchange publishes them: one halt a line, comma separated.

Columns by their names, in any order: Halt Date, Halt Time, Issue Symbol, Issue Name, Market, Reason Codes, Pause Threshold Price,
Resumption Date, Resumption Quote Time, Resumption Trade Time. Dates are MM/DD/YYYY or YYYY-MM-DD, times HH:MM:SS with up to nine
digits behind a point, both New York. Empty resumption: the halt is not over. What does not belong here: what a halt explains (silence).
"""

import csv
import io
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from l2_platform.errors import InputError, L2Error
from l2_platform.settings import GapSettings

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
    """Trading resumes; None: it is not known when."""
    reason: str
    """The exchange's code, e.g. LUDP, T1, M."""
    market: str


class HaltsUnreachable(L2Error):
    """The address of the halts does not answer; asking again may help."""

    retryable = True


def load_halts(settings: GapSettings) -> list[Halt]:
    """The halts that `gaps.halts` names; none when it is empty. Raise InputError (file, line, field) or HaltsUnreachable."""
    place = settings.halts
    if not place:
        return []
    if re.match(r"https?://", place):
        data = _download(place, settings)
    else:
        try:
            with Path(place).open("rb") as file:
                data = file.read(settings.halts_bytes_max + 1)
        except OSError as error:
            raise InputError(f"{place}: {error.strerror or error}; `L2_GAPS__HALTS` names the file of halts") from None
    if len(data) > settings.halts_bytes_max:
        raise InputError(f"{place}: more than {settings.halts_bytes_max:,} bytes (`L2_GAPS__HALTS_BYTES_MAX`)")
    return read_halts(data, place)


def read_halts(data: bytes, name: str) -> list[Halt]:
    """The halts of a file's bytes, in its order; raise InputError that names file, line and field."""
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
        return list(_halts(reader, header, name))
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: {error}") from None


def _halts(reader: Iterator[list[str]], header: list[str], name: str) -> Iterator[Halt]:
    for fields in reader:
        line = int(getattr(reader, "line_num", 0))
        if not any(field.strip() for field in fields):
            continue
        if len(fields) != len(header):
            raise InputError(f"{name}, line {line}: {len(fields)} fields, the header has {len(header)}")
        row = {column: field.strip() for column, field in zip(header, fields, strict=True)}
        symbol = row["Issue Symbol"].upper()
        if not SYMBOL.fullmatch(symbol):
            raise InputError(f"{name}, line {line}, Issue Symbol: {row['Issue Symbol'][:40]!r} is no symbol")
        begin = _moment(row, "Halt Date", "Halt Time", f"{name}, line {line}")
        end = None
        if row["Resumption Trade Time"]:
            # a time for quotes alone does not end the halt
            end = _moment(row, "Resumption Date", "Resumption Trade Time", f"{name}, line {line}")
        if end is not None and end < begin:
            raise InputError(f"{name}, line {line}, Resumption Trade Time: it lies before the halt")
        yield Halt(symbol, begin, end, row["Reason Codes"][:32], row.get("Market", "")[:32])


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


def _download(address: str, settings: GapSettings) -> bytes:
    request = urllib.request.Request(address, headers={"User-Agent": "l2_platform"})  # noqa: S310 - http or https only
    try:
        with urllib.request.urlopen(request, timeout=settings.halts_timeout_s) as answer:  # noqa: S310
            return bytes(answer.read(settings.halts_bytes_max + 1))
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise HaltsUnreachable(f"{address}: {error}; nothing is explained by halts until it answers") from None

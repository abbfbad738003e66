"""A captured wire file, or a history reply, into the journal and every sink, as if it had just arrived.

The whole file is checked first; its segments appear by one rename; then each sink is brought to the stream's end. A file has one
stream, named after its content, so that importing it twice changes nothing. `seq` is the line number. Unlike the rest of this
package this module is used by a command, not by a recorder, and may take its time to start.
"""

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from l2_platform.clock import Clock
from l2_platform.delivery.delivery import enabled_sinks, make_follower, make_sink
from l2_platform.errors import InputError, L2Error, SinkUnavailable
from l2_platform.feeds.iqfeed.recognise import Recognised, recognise
from l2_platform.journal.frame import FrameFlag
from l2_platform.journal.importing import write_finished_stream
from l2_platform.journal.reader import list_dates, list_streams, segment_context
from l2_platform.market.dates import date_text
from l2_platform.market.sessions import load_calendar
from l2_platform.monitoring.heartbeat import Lease
from l2_platform.settings import Settings

CHANNELS = ("depth", "level1", "ticks")
FRAME_BYTES = 256 << 10
IMPORT_CALENDAR = "XNYS"
NEW_YORK = ZoneInfo("America/New_York")
_CHUNK = 8 << 20

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it, and how much there is."""


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What a person asked for."""

    file: Path
    channel: str
    session_date: int | None
    """YYYYMMDD; needed only where the lines carry no date."""
    symbol: str | None
    """Of files whose lines carry none (history replies)."""


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What came of it."""

    file: Path
    stream: str
    session_dates: list[int]
    lines: int
    rows: dict[str, int]
    """Rows handed to each sink now; 0 where it had them already."""
    already: bool
    """The journal had this file before."""


def import_file(request: ImportRequest, settings: Settings, clock: Clock, progress: Progress) -> ImportResult:
    """Check, journal, deliver; InputError (and nothing imported) for a file that cannot be used."""
    if request.channel not in CHANNELS:
        raise InputError(f"--channel {request.channel!r}: use one of {', '.join(CHANNELS)}")
    if request.symbol is not None and request.channel != "ticks":
        raise InputError(f"--symbol is for history replies (--channel ticks); the lines of a {request.channel} file name their symbols")
    check_file(request.file)
    if request.channel == "ticks" and not request.symbol:
        raise InputError(f"{request.file}: the lines of a history reply name no symbol; give it with --symbol")
    digest = _digest(request)
    stream = f"iqfeed-{request.channel}-import-{digest[:8]}"
    lease = Lease(settings.run_dir / "leases" / f"import-{stream}")
    lease.acquire(wait=True)
    try:
        already = stream in list_streams(settings.journal_dir)
        lines = 0
        if already:
            _check_same(request, stream, digest, settings)
        else:
            lines = _journal(request, stream, digest, settings, clock, progress)
        rows = {name: deliver_import(name, stream, settings, clock, progress) for name in enabled_sinks(settings)}
        return ImportResult(request.file, stream, list_dates(settings.journal_dir, stream), lines, rows, already)
    finally:
        # A copy of the file in the same command would wait for this very process.
        lease.release()


def check_file(file: Path) -> None:
    """InputError when there is no plain file."""
    if not file.exists():
        raise InputError(f"{file}: no such file; nothing was imported")
    if not file.is_file():
        raise InputError(f"{file}: not a plain file (it is read twice: write a pipe's output to a file first); nothing was imported")


def _first_context(stream: str, settings: Settings) -> dict[str, Any]:
    dates = list_dates(settings.journal_dir, stream)
    return (segment_context(settings.journal_dir, stream, dates[0]) if dates else None) or {}


def _check_same(request: ImportRequest, stream: str, digest: str, settings: Settings) -> None:
    """A file has one stream: InputError when it is asked for with another meaning than it has in the journal."""
    dates = list_dates(settings.journal_dir, stream)
    context = _first_context(stream, settings)
    if context.get("sha256", digest) != digest:
        raise InputError(
            f"{request.file}: the journal has another file ({context.get('file')}) as {stream}: the first eight digits of their "
            "SHA-256 are the same; add an empty line to the end of this file and import it again"
        )
    instead = ""
    if request.symbol not in (None, context.get("default_symbol")):
        instead = f"as symbol {context.get('default_symbol')}, not {request.symbol}"
    elif request.session_date is not None and request.session_date not in dates:
        instead = f"on {', '.join(map(date_text, dates))}, not {date_text(request.session_date)}"
    if instead:
        raise InputError(
            f"{request.file}: it is in the journal already ({stream}) {instead}; nothing was changed. To import it anew, delete "
            f"{settings.journal_dir / stream} and what was delivered of it first"
        )


def deliver_import(sink_name: str, stream: str, settings: Settings, clock: Clock, progress: Progress) -> int:
    """Bring one sink to the end of an import; the rows it took."""
    symbol = _first_context(stream, settings).get("default_symbol")
    sink = make_sink(sink_name, settings)
    sink.open()
    try:
        follower = make_follower(stream, sink, settings, clock, symbol)
        waited_since = clock.monotonic_ns()
        while not follower.caught_up():
            if follower.step():
                waited_since = clock.monotonic_ns()
                progress(f"→ {sink_name}", follower.rows, 0)
            elif (clock.monotonic_ns() - waited_since) / 1e9 > settings.clickhouse.timeout_s:
                raise SinkUnavailable(
                    f"{sink_name} does not take the rows: {follower.error or 'no answer'}; the file is in the journal, "
                    "run the same command again when the sink works"
                )
            else:
                clock.sleep(0.05 if follower.error else 0.01)
        return follower.rows
    finally:
        sink.close()


def _check_sinks(file: Path, settings: Settings) -> None:
    """A sink that cannot be reached is told before anything is written: a file is imported whole or not at all."""
    for name in enabled_sinks(settings):
        sink = make_sink(name, settings)
        try:
            sink.open()
        except L2Error as error:
            raise SinkUnavailable(f"{file}: not imported, {name} cannot take rows now: {error.message}") from None
        finally:
            sink.close()


def _digest(request: ImportRequest) -> str:
    """SHA-256 of the file as it is (packed, when it is)."""
    digest = hashlib.sha256()
    try:
        with request.file.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{request.file}: cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def _journal(
    request: ImportRequest, stream: str, digest: str, settings: Settings, clock: Clock, progress: Progress
) -> int:
    scratch = settings.cache_dir / f"import-{stream}.txt"
    scratch.parent.mkdir(parents=True, exist_ok=True)
    try:
        plain = _plain(request.file, scratch, settings.imports.file_bytes_max)
        if plain.stat().st_size == 0:
            raise InputError(f"{request.file}: the file is empty")
        buffer = np.memmap(plain, np.uint8, "r")
        _check_lines(buffer, request.file, settings.imports.lines_max)
        found = recognise(buffer, request.file, request.channel, request.session_date, request.symbol)
        ends = _line_ends(buffer)
        try:
            dates = _session_dates(request, found, settings, len(ends))
        except InputError as error:
            raise InputError(
                f"{request.file}: {error.message}; are the dates of its lines right? If so, give the session date with --date"
            ) from None
        context = dict(found.context) | {
            "symbols": sorted(found.symbols), "file": request.file.name, "sha256": digest, "default_symbol": request.symbol,
        }  # fmt: skip
        _check_sinks(request.file, settings)
        now = clock.now_ns()
        line_max = settings.journal.line_bytes_max

        def groups() -> Iterator[tuple[int, Iterator[tuple[bytes, int, int, int, int]]]]:
            starts = np.flatnonzero(np.concatenate(([True], dates[1:] != dates[:-1])))
            for index, first in enumerate(starts):
                last = int(starts[index + 1]) if index + 1 < len(starts) else len(ends)
                yield int(dates[first]), _frames(buffer, ends, int(first), last, now, line_max, progress)

        write_finished_stream(
            settings.journal_dir, stream, groups(), context=context, calendar=calendar_of_imports(settings), settings=settings.journal
        )
        return len(ends)
    except OSError as error:
        raise L2Error(
            f"{request.file}: not imported: {error.strerror or error} ({error.filename or scratch})"
        ) from error
    finally:
        scratch.unlink(missing_ok=True)


def calendar_of_imports(settings: Settings) -> str:
    """Captured files are of a real market unless the settings say otherwise."""
    return IMPORT_CALENDAR if settings.session.calendar == "auto" else settings.session.calendar


def _plain(source: Path, scratch: Path, bytes_max: int) -> Path:
    """The file itself, or its decompressed copy when it is gzip; InputError when it is larger than `bytes_max`."""
    with source.open("rb") as file:
        packed_file = file.read(2) == b"\x1f\x8b"
    if not packed_file:
        _check_size(source, source.stat().st_size, bytes_max)
        return source
    try:
        with gzip.open(source, "rb") as packed, scratch.open("wb") as plain:
            while chunk := packed.read(_CHUNK):
                plain.write(chunk)
                _check_size(source, plain.tell(), bytes_max)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{source}: the gzip file is cut off or damaged ({error}); nothing was imported, get the whole file"
        ) from None
    return scratch


def _check_size(file: Path, size: int, bytes_max: int) -> None:
    if size > bytes_max:
        raise InputError(
            f"{file}: it is larger than {bytes_max} bytes (imports.file_bytes_max); nothing was imported, split it between two lines"
        )


def _check_lines(buffer: np.ndarray, file: Path, lines_max: int) -> None:
    """What is kept per line would not fit into memory: refused before anything is kept."""
    lines = 0
    for start in range(0, len(buffer), _CHUNK):
        lines += int(np.count_nonzero(buffer[start : start + _CHUNK] == ord("\n")))
        if lines > lines_max:
            raise InputError(
                f"{file}: it has more than {lines_max} lines (imports.lines_max); nothing was imported, split it between two lines"
            )


def _line_ends(buffer: np.ndarray) -> np.ndarray:
    """Offsets one past the end of each line; the last line may lack its newline."""
    parts = [
        np.flatnonzero(buffer[start : start + _CHUNK] == ord("\n")) + start + 1
        for start in range(0, len(buffer), _CHUNK)
    ]
    ends = np.concatenate(parts)
    if not len(ends) or ends[-1] != len(buffer):
        ends = np.append(ends, len(buffer))
    return ends


def _session_dates(request: ImportRequest, found: Recognised, settings: Settings, lines: int) -> np.ndarray:
    """YYYYMMDD of every line: `--date` where given, else the session that owns the line's own time, which never goes back."""
    if request.session_date is not None and (not found.dated or _one_local_day(found)):
        return np.full(lines, request.session_date, np.int64)
    calendar = load_calendar(calendar_of_imports(settings), settings.session.roll_margin_s)
    hours = found.utc_ns // 3_600_000_000_000
    changes = np.flatnonzero(np.concatenate(([True], hours[1:] != hours[:-1])))
    dates = np.empty(lines, np.int64)
    for index, first in enumerate(changes):
        last = int(changes[index + 1]) if index + 1 < len(changes) else lines
        begin = calendar.session_date_of(int(found.utc_ns[first]))
        end = calendar.session_date_of(int(found.utc_ns[last - 1]))
        if begin == end:
            dates[first:last] = begin
        else:
            dates[first:last] = [calendar.session_date_of(int(ts)) for ts in found.utc_ns[first:last]]
    return np.maximum.accumulate(dates)


def _one_local_day(found: Recognised) -> bool:
    """All lines are of one calendar day in New York: that day is what `--date` named, be it a session or not."""
    first, last = (datetime.fromtimestamp(int(ts) // 1_000_000_000, NEW_YORK).date() for ts in found.utc_ns[[0, -1]])
    return first == last


def _frames(
    buffer: np.ndarray, ends: np.ndarray, first: int, last: int, ts_recv: int, line_max: int, progress: Progress
) -> Iterator[tuple[bytes, int, int, int, int]]:
    """(payload, count, seq_first, ts_recv, flags) of lines first..last; an overlong line is cut and stands alone."""
    line = first
    while line < last:
        start = int(ends[line - 1]) if line else 0
        stop = int(np.searchsorted(ends, start + FRAME_BYTES, side="right"))
        stop = min(max(stop, line + 1), last)
        lengths = np.diff(ends[line:stop], prepend=start)
        long = np.flatnonzero(lengths > line_max)
        if len(long) and long[0] == 0:
            payload = buffer[start : start + line_max].tobytes()
            yield payload, 1, line + 1, ts_recv, int(FrameFlag.OVERSIZE)
            line += 1
            continue
        if len(long):
            stop = line + int(long[0])
        payload = buffer[start : int(ends[stop - 1])].tobytes()
        if not payload.endswith(b"\n"):
            payload += b"\n"
        yield payload, stop - line, line + 1, ts_recv, 0
        line = stop
        progress("→ journal", line, len(ends))

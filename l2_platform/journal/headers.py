"""What segments say of themselves and of each other: headers, decoder contexts, and where a session date ends.

What does not belong here: frames (`reader.py`).
"""

import json
from pathlib import Path
from typing import Any, Final

from l2_platform.errors import JournalCorrupt
from l2_platform.journal.durable import read_durable
from l2_platform.journal.frame import Position, Previous, SegmentHeader, decode_segment_header
from l2_platform.journal.layout import CLOSED_NAME, SegmentFile, date_folder, list_dates, list_segments
from l2_platform.journal.source import SegmentSource, open_source

_HEADER_GUESS: Final = 1 << 16
_HEADER_BYTES_MAX: Final = 64 << 20


def header_of(source: SegmentSource, name: str) -> tuple[SegmentHeader, int]:
    """The header of an open segment and its length in bytes; JournalCorrupt when it is damaged."""
    try:
        return decode_segment_header(source.read(0, _HEADER_GUESS), name)
    except JournalCorrupt:
        return decode_segment_header(source.read(0, _HEADER_BYTES_MAX), name)


def segment_header(file: SegmentFile) -> SegmentHeader | None:
    """The header of a segment, or None when it is damaged; JournalTooNew when a later program wrote it."""
    for path in (file.raw, file.sealed, file.path.with_suffix(".l2z")):
        if path is None:
            continue
        try:
            source = open_source(path)
        except FileNotFoundError:
            continue
        try:
            return header_of(source, file.path.name)[0]
        except JournalCorrupt:
            continue
        finally:
            source.close()
    return None


def segment_context(root: Path, stream: str, session_date: int, position: Position | None = None) -> dict[str, Any] | None:
    """The decoder context of the newest header at or before `position` (of the first header when None); None when there is none."""
    files = list_segments(date_folder(root, stream, session_date))
    if position is None:
        candidates = files[:1]
    else:
        candidates = [file for file in reversed(files) if file.number <= max(position.segment, 1)]
    for file in candidates:
        header = segment_header(file)
        if header is not None:
            return dict(header.context)
    return None


def end_of_date(root: Path, stream: str, session_date: int, durable_path: Path | None = None) -> Previous | None:
    """The last segment of a date, its end and its last line, as others tell it: the closing file of an import, the next date's
    first header, the durable record. None when nobody tells; JournalCorrupt when the closing file is damaged.
    """
    name = date_folder(root, stream, session_date) / CLOSED_NAME
    try:
        closed = json.loads(name.read_bytes())
        return Previous(session_date, int(closed["segment"]), int(closed["end"]), int(closed["last_seq"]))
    except FileNotFoundError:
        pass
    except (ValueError, OverflowError, KeyError, TypeError):
        raise JournalCorrupt(f"{CLOSED_NAME} is damaged: it should tell where the date ends", file=CLOSED_NAME) from None
    later = next((date for date in list_dates(root, stream) if date > session_date), None)
    if later is not None:
        files = list_segments(date_folder(root, stream, later))
        header = segment_header(files[0]) if files else None
        if header is not None and header.previous is not None and header.previous.session_date == session_date:
            return header.previous
    durable = read_durable(durable_path) if durable_path is not None else None
    if durable is not None and durable.position.session_date == session_date:
        return Previous(*durable.position, durable.seq)
    return None

"""`manifest.jsonl` of a date folder: one line per sealed segment, each with the hash of the line before it.

A line that is changed, taken out, put in or moved breaks the chain. When a segment was sealed again, its last line counts.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from l2_platform.journal.layout import MANIFEST_NAME
from l2_platform.journal.syscalls import Syscalls

FIRST_HASH: Final = "0" * 64


@dataclass(frozen=True, slots=True)
class Entry:
    """What one sealed segment is."""

    stream: str
    session_date: int
    segment: int
    file: str
    bytes: int
    sha256: str
    raw_bytes: int
    raw_sha256: str
    frames: int
    first_seq: int
    last_seq: int
    first_ts: int | None
    last_ts: int | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The lines of a date, and which of them do not fit the chain."""

    entries: dict[int, Entry]
    """By segment."""
    last_hash: str
    broken: tuple[str, ...]
    """One sentence each."""
    whole_bytes: int
    """Length of the file up to its last whole line."""


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a date folder; empty when there is none."""
    try:
        data = (folder / MANIFEST_NAME).read_bytes()
    except FileNotFoundError:
        return Manifest({}, FIRST_HASH, (), 0)
    whole = data.rfind(b"\n") + 1
    entries: dict[int, Entry] = {}
    broken: list[str] = []
    last = FIRST_HASH
    for number, line in enumerate(data[:whole].splitlines(), 1):
        try:
            fields = json.loads(line)
            before, own = fields.pop("prev"), fields.pop("hash")
            entry = Entry(**fields)
        except (ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError):
            broken.append(f"{MANIFEST_NAME} line {number} cannot be read")
            continue
        if own != _hash(entry, before):
            broken.append(f"{MANIFEST_NAME} line {number} (segment {entry.segment}) was changed")
        if before != last:
            broken.append(f"{MANIFEST_NAME} line {number} (segment {entry.segment}) does not follow the line before it")
        last = own
        entries[entry.segment] = entry
    return Manifest(entries, last, tuple(broken), whole)


def append_entry(folder: Path, entry: Entry, calls: Syscalls) -> None:
    """Add a line, durably; a line that a crash cut off is removed first. OSError as it comes."""
    manifest = read_manifest(folder)
    fields = asdict(entry) | {"prev": manifest.last_hash, "hash": _hash(entry, manifest.last_hash)}
    fd = calls.open(folder / MANIFEST_NAME, os.O_RDWR | os.O_CREAT)
    try:
        calls.ftruncate(fd, manifest.whole_bytes)
        calls.write_all(fd, [json.dumps(fields, separators=(",", ":")).encode() + b"\n"], manifest.whole_bytes)
        calls.fdatasync(fd)
    finally:
        calls.close(fd)
    calls.sync_folder(folder)


def _hash(entry: Entry, before: str) -> str:
    text = json.dumps([before, asdict(entry)], separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()

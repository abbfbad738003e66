"""Small journals whose every line follows from its seq, so that whatever is read back can be judged without the writer."""

import itertools
import random
from dataclasses import dataclass
from pathlib import Path

from l2_platform.journal.layout import date_folder
from l2_platform.journal.reader import Block, Control, Damage, JournalReader
from l2_platform.journal.sealer import seal_closed
from l2_platform.journal.syscalls import Syscalls
from l2_platform.journal.writer import JournalWriter
from l2_platform.settings import JournalSettings

DATE = 20240102
NEXT = 20240103
NAME = "iqfeed-depth-0"
BLOCK_BYTES = 4096
Item = Block | Control | Damage


class NoSync(Syscalls):
    """A disk that is always in time."""

    def fdatasync(self, fd: int) -> None:
        """Nothing to wait for."""

    def fsync(self, fd: int) -> None:
        """Nothing to wait for."""


class Ticks:
    """One ns a look."""

    def __init__(self) -> None:
        self._next = itertools.count(1)

    def now_ns(self) -> int:
        """The next ns."""
        return next(self._next)

    def monotonic_ns(self) -> int:
        """The next ns."""
        return next(self._next)

    def sleep(self, seconds: float) -> None:
        """No time passes."""


def line_of(seq: int) -> bytes:
    """The line with that seq."""
    return b"%d,%s\r\n" % (seq, b"%x" % (seq * 2654435761 % (1 << 40)) * (seq % 7))


def lines_of(first: int, count: int) -> bytes:
    """Lines first … first + count - 1."""
    return b"".join(line_of(seq) for seq in range(first, first + count))


def writer_in(home: Path, calls: Syscalls | None = None, **options: float) -> JournalWriter:
    """A writer on the journal of a home, not yet open."""
    return JournalWriter(
        home / "journal", NAME, JournalSettings(**options), Ticks(), calendar="always_open", durable_path=home / "durable",
        calls=calls or NoSync(),
    )  # fmt: skip


def abandon(writer: JournalWriter) -> None:
    """What SIGKILL leaves: descriptors closed by the kernel, nothing flushed, nothing said."""
    writer._stop.set()
    with writer._changed:
        writer._changed.notify_all()
    if writer._thread is not None:
        writer._thread.join()
    writer._give_back()


def read_items(home: Path, session_date: int = DATE, *, live: bool = False, max_bytes: int = 1 << 20) -> list[Item]:
    """Everything that a reader gives of a date."""
    reader = JournalReader(home / "journal", NAME, session_date, durable_path=home / "durable" if live else None)
    found: list[Item] = []
    while items := reader.read(max_bytes):
        found += items
    reader.close()
    return found


def seqs_of(items: list[Item]) -> list[int]:
    """The seq of every line, in the order read; a line that is not what its seq says is an error."""
    found: list[int] = []
    for item in items:
        if not isinstance(item, Block):
            continue
        data = item.buffer.tobytes()
        for index, first in enumerate(item.frame_seq.tolist()):
            count = int(item.frame_count[index])
            payload = data[item.frame_start[index] : item.frame_start[index + 1]]
            assert payload == lines_of(first, count), f"lines {first}-{first + count - 1} are not what was written"
            found.extend(range(first, first + count))
    return found


def named_lost(items: list[Item]) -> set[int]:
    """The lines that the reader says are lost."""
    damage = [item for item in items if isinstance(item, Damage)]
    return {seq for item in damage if item.seq_from for seq in range(item.seq_from, item.seq_to + 1)}


@dataclass(frozen=True, slots=True)
class Written:
    """A journal with three segments of DATE, and one of NEXT that was never closed."""

    home: Path
    frames: dict[int, list[tuple[int, int, int, int]]]
    """Segment of DATE (0: of NEXT) → (first byte, end, first seq, last seq) of each data frame, uncompressed."""
    last: dict[int, int]
    """Last seq of each date."""

    def folder(self, session_date: int = DATE) -> Path:
        """Where its segments are."""
        return date_folder(self.home / "journal", NAME, session_date)


def write_journal(home: Path, *, sealed: bool, seed: int = 5) -> Written:
    """Write one; the writer of NEXT dies without a word, everything is durable and the durable record says so."""
    writer = writer_in(home, segment_bytes_max=1 << 16)
    writer.open(DATE)
    frames: dict[int, list[tuple[int, int, int, int]]] = {}
    number = random.Random(seed)
    last: dict[int, int] = {}
    for session_date in (DATE, NEXT):
        if session_date == NEXT:
            last[DATE] = writer.last_seq
            writer.roll(NEXT)
        writer.control("session", 1, 0, session_date=session_date, reset=True)
        while writer.last_seq < (300 if session_date == NEXT else 1) or (session_date == DATE and writer.written.segment < 3):
            count = number.randrange(1, 60)
            first = writer.last_seq + 1
            data = lines_of(first, count)
            writer.append(data, count, 5, 1)
            segment, end = writer.written.segment, writer.written.offset
            begin = end - len(data) - 40
            frames.setdefault(0 if session_date == NEXT else segment, []).append((begin, end, first, first + count - 1))
            if first % 5 == 0:
                writer.control("resumed", 5, 1, last_byte_ns=1)
    last[NEXT] = writer.last_seq
    writer.sync()
    abandon(writer)
    if sealed:
        seal_closed(home / "journal", NAME, JournalSettings(block_bytes=BLOCK_BYTES), calls=NoSync())
    return Written(home, frames, last)

"""A journal in a folder: opens writers on it and reads it back as plain values."""

from pathlib import Path
from typing import Any

from l2_platform.journal.reader import Block, Control, Damage, JournalReader
from l2_platform.journal.syscalls import Syscalls
from l2_platform.journal.writer import JournalWriter
from l2_platform.settings import JournalSettings

DATE = 20240102
NEXT = 20240103
NAME = "iqfeed-depth-0"


class SteppingClock:
    """Time that only moves when told, except that sleeping moves it."""

    def __init__(self, now: int = 1_704_200_000_000_000_000) -> None:
        self.now = now

    def now_ns(self) -> int:
        return self.now

    def monotonic_ns(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)


class Stream:
    """One stream under a temporary home."""

    def __init__(self, home: Path, name: str = NAME) -> None:
        self.home = home
        self.root = home / "journal"
        self.name = name
        self.durable_path = home / "run" / "durable" / name
        self.clock = SteppingClock()
        self.writers: list[JournalWriter] = []

    def folder(self, date: int = DATE) -> Path:
        return self.root / self.name / str(date)

    def writer(self, calls: Syscalls | None = None, **settings: Any) -> JournalWriter:
        made = JournalWriter(
            self.root, self.name, JournalSettings(**settings), self.clock, calendar="XNYS", durable_path=self.durable_path,
            calls=calls,
        )  # fmt: skip
        self.writers.append(made)
        return made

    def opened(self, date: int = DATE, calls: Syscalls | None = None, **settings: Any) -> JournalWriter:
        made = self.writer(calls, **settings)
        made.open(date)
        return made

    def abandon(self, writer: JournalWriter) -> None:
        """What SIGKILL leaves: descriptors closed by the kernel, nothing flushed, nothing said."""
        writer._stop.set()
        with writer._changed:
            writer._changed.notify_all()
        if writer._thread is not None:
            writer._thread.join()
        writer._give_back()
        self.writers.remove(writer)

    def end(self) -> None:
        for writer in list(self.writers):
            self.abandon(writer)

    def items(self, date: int = DATE, *, live: bool = False, max_bytes: int = 1 << 20) -> list[Any]:
        reader = JournalReader(self.root, self.name, date, durable_path=self.durable_path if live else None)
        found: list[Any] = []
        while items := reader.read(max_bytes):
            found += items
        reader.close()
        return found

    def lines(self, date: int = DATE, *, live: bool = False, max_bytes: int = 1 << 20) -> dict[int, bytes]:
        return lines_of(self.items(date, live=live, max_bytes=max_bytes))


def lines_of(items: list[Any]) -> dict[int, bytes]:
    """seq → line, with its line end; every seq at most once."""
    found: dict[int, bytes] = {}
    for item in items:
        if not isinstance(item, Block):
            continue
        data = item.buffer.tobytes()
        for index, first in enumerate(item.frame_seq.tolist()):
            payload = data[item.frame_start[index] : item.frame_start[index + 1]]
            lines = [payload] if item.frame_flags[index] else payload.splitlines(keepends=True)
            assert len(lines) == item.frame_count[index]
            for seq, line in enumerate(lines, first):
                assert seq not in found
                found[seq] = line
    return found


def controls_of(items: list[Any]) -> list[str]:
    return [item.event for item in items if isinstance(item, Control)]


def damage_of(items: list[Any]) -> list[Damage]:
    return [item for item in items if isinstance(item, Damage)]

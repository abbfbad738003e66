"""The ledger: every byte that the kernel took from us, per connection, on disk, for tests to compare with.

`<service>-<connection>.bin` holds the bytes; `<service>-<connection>.jsonl` tells when the connection began and ended and, every few
ms, how many bytes had been accepted by then. Connection numbers continue over restarts, so nothing is overwritten. What does not
belong here: deciding what is sent.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

MARK_NS: Final = 2_000_000
"""Least time between two marks, ns."""


class LedgerFile:
    """The record of one connection."""

    def __init__(self, ledger: "Ledger", stem: Path, ts: int, **facts: Any) -> None:
        self._ledger = ledger
        self._data: IO[bytes] = stem.with_suffix(".bin").open("ab", buffering=1 << 18)
        self._index: IO[str] = stem.with_suffix(".jsonl").open("a", encoding="utf-8")
        self._offset = 0
        self._marked = 0
        self._full = False
        self._write(event="connect", ts=ts, **facts)

    def sent(self, accepted: bytes | memoryview, ts: int) -> None:
        """Note bytes that the kernel accepted at `ts` (ns)."""
        if self._full:
            return
        if not self._ledger.take(len(accepted)):
            self._full = True
            self._mark(ts)
            self._write(event="full", ts=ts, offset=self._offset)
            self.flush()
            return
        self._data.write(accepted)
        self._offset += len(accepted)
        if ts - self._marked >= MARK_NS:
            self._mark(ts)

    def flush(self) -> None:
        """Hand what is buffered to the operating system."""
        self._data.flush()
        self._index.flush()

    def close(self, reason: str, ts: int) -> None:
        """End the record."""
        self._mark(ts)
        self._write(event="disconnect", ts=ts, offset=self._offset, reason=reason)
        self._data.close()
        self._index.close()

    def _mark(self, ts: int) -> None:
        self._marked = ts
        self._write(offset=self._offset, ts=ts)

    def _write(self, **fields: Any) -> None:
        self._index.write(json.dumps(fields) + "\n")


class Ledger:
    """All records of one simulated market, bounded in bytes; 0 bytes = no ledger."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self.folder = folder
        self.enabled = bytes_max > 0
        self._left = bytes_max
        self._next = 1
        self._open: dict[int, LedgerFile] = {}
        if self.enabled:
            folder.mkdir(parents=True, exist_ok=True)
            numbers = [int(path.stem.rsplit("-", 1)[1]) for path in folder.glob("*.bin")]
            self._next = max(numbers, default=0) + 1
            self._left -= sum(path.stat().st_size for path in folder.glob("*.bin"))

    def number(self) -> int:
        """A connection number that was never used in this folder."""
        number = self._next
        self._next += 1
        return number

    def open(self, service: str, number: int, ts: int, peer: str) -> LedgerFile | None:
        """Begin the record of a connection; None when the ledger is off."""
        if not self.enabled:
            return None
        return LedgerFile(self, self.folder / f"{service}-{number}", ts, service=service, connection=number, peer=peer)

    def take(self, count: int) -> bool:
        """Reserve room for bytes; False when the ledger is full."""
        if count > self._left:
            return False
        self._left -= count
        return True


@dataclass(slots=True)
class LedgerConnection:
    """What was sent on one connection."""

    service: str
    number: int
    connected_ns: int
    disconnected_ns: int | None = None
    """None while it is open, or when the market was killed."""
    reason: str | None = None
    complete: bool = True
    """False when the ledger was full before the connection ended."""
    data: bytes = b""
    marks: list[tuple[int, int]] = field(default_factory=list)
    """(bytes accepted so far, ts in ns), ascending."""


def read_ledger(folder: Path) -> list[LedgerConnection]:
    """Every connection of a ledger, in the order of their numbers; records of a killed market end where its buffers ended."""
    return sorted(_read(folder), key=lambda connection: connection.number)


def _read(folder: Path) -> Iterator[LedgerConnection]:
    for path in folder.glob("*.bin"):
        service, number = path.stem.rsplit("-", 1)
        connection = LedgerConnection(service, int(number), 0, data=path.read_bytes())
        for entry in _entries(path.with_suffix(".jsonl")):
            event = entry.get("event")
            if event == "connect":
                connection.connected_ns = entry["ts"]
            elif event == "disconnect":
                connection.disconnected_ns, connection.reason = entry["ts"], entry["reason"]
            elif event == "full":
                connection.complete = False
            else:
                connection.marks.append((entry["offset"], entry["ts"]))
        yield connection


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return  # the last line of a killed market

"""A recorded wire file as a source: its lines again, at the pace of their own times.

Only lines about a symbol are played; the recording's clock and system lines are not (CLEAR DEPTH is). What does not belong here:
stored days of the journal (`replay/player.py`).
"""

import functools
import gzip
import re
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from l2_platform.errors import InputError
from l2_platform.feeds.iqfeed.simulator.history import TradeHistory
from l2_platform.feeds.iqfeed.simulator.layouts import DEFAULT_NAMES, TAIL_NAMES, Layout
from l2_platform.feeds.iqfeed.simulator.source import TURN_S, DepthListener, Level1Listener, LineBatch

DEPTH_LETTERS: Final = frozenset("03456789")
LEVEL1_LETTERS: Final = frozenset("QPFRC")
CHUNK_LINES: Final = 16_384
"""Most lines of one batch."""
DAY_NS: Final = 86_400_000_000_000
TIME: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.(\d+))?")


class Playback:
    """The lines of a file, their symbols and their times."""

    tells_time = False
    answers_no_depth = True

    def __init__(self, path: Path, channel: str, speed: float, start_ns: int, bytes_max: int = 1 << 30) -> None:
        """InputError when the file is no recording of the channel, or unpacks to more than `bytes_max`."""
        self.names: list[str] = []
        self.history = TradeHistory(1)
        self.channel = channel
        self.speed = speed
        self.played = 0
        self._path = path
        self._numbers: dict[str, int] = {}
        self._kinds: list[str] = []
        self._first_summary: dict[int, bytes] = {}
        self._layout = Layout(DEFAULT_NAMES + TAIL_NAMES)
        self._started_ns: int | None = None
        self._until = start_ns
        self._load(_read_lines(path, bytes_max))

    @property
    def until(self) -> int:
        """Everything up to this time was published, ns."""
        return self._until

    def patience_s(self) -> float:
        """A few ms: what is due gathers meanwhile."""
        return TURN_S

    def commands(self) -> Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]:
        """None."""
        return {}

    def advance(self, now_ns: int, depth: DepthListener, level1: Level1Listener) -> bool:
        """Publish what is due; playing begins when the first client watches, and waits while nobody does at the start."""
        self._until = now_ns
        watched = depth.has_watchers() if self.channel == "depth" else level1.has_watchers()
        if self._started_ns is None:
            if not watched:
                return False
            self._started_ns = now_ns
        listener = depth if self.channel == "depth" else level1
        if self.played >= len(self._ends) or (self.speed == 0 and listener.is_backed_up()):
            return False
        stop = len(self._ends)
        if self.speed > 0:
            position = int((now_ns - self._started_ns) * self.speed)
            stop = int(np.searchsorted(self._times, self._times[0] + position, side="right"))
        stop = min(stop, self.played + CHUNK_LINES)
        if stop > self.played:
            batch = self._batch(self.played, stop)
            self.played = stop
            if self.channel == "depth":
                depth.publish(batch)
            else:
                level1.publish(lambda _: batch)
        return self.speed == 0 and self.played < len(self._ends)

    def depth_kind(self, symbol: int) -> str:
        """`order` or `level`, as the file's lines are; empty when the file is no depth file."""
        return self._kinds[symbol] if self.channel == "depth" else ""

    def depth_snapshot(self, symbol: int) -> bytes:  # noqa: ARG002  (the contract has it)
        """None: a recording is played from its start, and who comes later comes late."""
        return b""

    def level1_summary(self, symbol: int, layout: Layout) -> bytes:  # noqa: ARG002  (a recording has one layout)
        """The file's first P line of the symbol."""
        return self._first_summary.get(symbol, b"")

    def fundamental(self, symbol: int) -> bytes:
        """An F line with the name only."""
        return (f"F,{self.names[symbol]}," + "," * 56 + "\r\n").encode("latin-1")

    def regional(self, symbol: int) -> bytes:  # noqa: ARG002  (the contract has it)
        """Nothing: R lines come from the file."""
        return b""

    def correction(self, symbol: int, *, kind: str, layout: str) -> bytes:  # noqa: ARG002  (the contract has it)
        """Nothing: C lines come from the file."""
        return b""

    def status(self) -> dict[str, object]:
        """Numbers for people."""
        return {
            "source": str(self._path), "channel": self.channel, "speed": self.speed, "symbols": len(self.names),
            "lines": len(self._ends), "played": self.played, "started": self._started_ns is not None,
        }  # fmt: skip

    def _batch(self, first: int, stop: int) -> LineBatch:
        begin = int(self._ends[first - 1]) if first else 0
        data = self._data[begin : int(self._ends[stop - 1])]
        trades = np.ones(stop - first, np.uint8)
        return LineBatch(data, self._ends[first:stop] - begin, self._symbols[first:stop], trades)

    def _load(self, raw: list[bytes]) -> None:
        kept: list[bytes] = []
        symbols: list[int] = []
        times: list[int] = []
        latest = 0
        for line in raw:
            fields = line.decode("latin-1").rstrip("\r\n").split(",")
            number = self._symbol_of(fields, line)
            if number is None:
                continue
            latest = max(latest, self._time_of(fields, latest))
            kept.append(line.rstrip(b"\r\n") + b"\r\n")
            symbols.append(number)
            times.append(latest)
        if not kept:
            raise InputError(
                f"{self._path} holds no {self.channel} line of IQFeed's protocol 6; try the other --channel"
            )
        self._data = b"".join(kept)
        self._ends = np.cumsum([len(line) for line in kept], dtype=np.int64)
        self._symbols = np.array(symbols, np.int32)
        self._times = np.array(times, np.int64)
        # lines before the first known time belong to it
        self._times[self._times == 0] = self._times[self._times > 0].min(initial=latest or 1)

    def _symbol_of(self, fields: list[str], line: bytes) -> int | None:
        letters = DEPTH_LETTERS if self.channel == "depth" else LEVEL1_LETTERS
        if fields[0] == "S" and fields[1:2] == ["CURRENT UPDATE FIELDNAMES"]:
            self._layout = Layout(tuple(name for name in fields[3:] if name))
            return None
        cleared = self.channel == "depth" and fields[:2] == ["S", "CLEAR DEPTH"] and len(fields) > 3
        if cleared:
            return self._numbers.get(fields[2])
        if fields[0] not in letters or len(fields) < 4:
            return None
        number = self._numbers.setdefault(fields[1], len(self.names))
        if number == len(self.names):
            self.names.append(fields[1])
            self._kinds.append("level" if fields[0] in "789" else "order")
        if fields[0] == "P":
            self._first_summary.setdefault(number, line.rstrip(b"\r\n") + b"\r\n")
        return number

    def _time_of(self, fields: list[str], latest: int) -> int:
        """Time of a line, ns of wall time; 0 when it tells none."""
        if self.channel == "depth":
            at = {"5": 5, "7": 7, "8": 7, "9": 4}.get(fields[0], 9)
            return _wall_ns(fields[at + 1 : at + 2], fields[at : at + 1], "%Y-%m-%d")
        if fields[0] not in "QP":
            return 0
        return max(
            (self._level1_time(fields, family, latest) for family in ("Most Recent Trade", "Bid", "Ask")), default=0
        )

    def _level1_time(self, fields: list[str], family: str, latest: int) -> int:
        names = self._layout.names
        if f"{family} Time" not in names:
            return 0
        time = fields[2 + names.index(f"{family} Time") :][:1]
        if family == "Most Recent Trade" and "Most Recent Trade Date" in names:
            return _wall_ns(fields[2 + names.index("Most Recent Trade Date") :][:1], time, "%m/%d/%Y")
        of_day = _wall_ns(["2000-01-01"], time, "%Y-%m-%d") % DAY_NS
        return latest // DAY_NS * DAY_NS + of_day if of_day else 0


def _wall_ns(date: list[str], time: list[str], date_format: str) -> int:
    """Wall time in ns, 0 when there is none; only differences are used."""
    match = TIME.fullmatch(time[0]) if date and time else None
    if match is None:
        return 0
    hour, minute, second, fraction = match.groups()
    seconds = int(hour) * 3600 + int(minute) * 60 + int(second)
    return _day_ns(date[0], date_format) + seconds * 1_000_000_000 + int((fraction or "0").ljust(9, "0")[:9])


@functools.lru_cache(maxsize=4096)
def _day_ns(date: str, date_format: str) -> int:
    try:
        moment = datetime.strptime(date, date_format).replace(tzinfo=UTC)
    except ValueError:
        return 0
    return int(moment.timestamp()) * 1_000_000_000


def _read_lines(path: Path, bytes_max: int) -> list[bytes]:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as plain:
            data = plain.read(bytes_max + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except (EOFError, zlib.error) as error:
        raise InputError(f"{path} is a damaged gzip file: {error}") from None
    if len(data) > bytes_max:
        raise InputError(f"{path} is larger than {bytes_max} bytes (simulator.recording_bytes_max): play a part of it")
    return data.splitlines(keepends=True)

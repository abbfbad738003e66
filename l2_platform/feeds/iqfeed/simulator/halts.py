"""Halts of trading in the simulated market: on command and by seed, published in the layouts of the exchange.

While a symbol is halted nothing happens in it: no print, no quote, no change of its book. The file is replaced at each change and goes
on over restarts. What does not belong here: the order flow (`flow_kernels`), who reads what is published.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol
from xml.sax.saxutils import escape

import numpy as np

from l2_platform.errors import InputError
from l2_platform.feeds.iqfeed.simulator.past import NEW_YORK
from l2_platform.settings import SimulatorSettings

NS: Final = 1_000_000_000
HOUR_NS: Final = 3600 * NS
COLUMNS: Final = (
    "Halt Date", "Halt Time", "Issue Symbol", "Issue Name", "Market", "Reason Codes", "Pause Threshold Price", "Resumption Date",
    "Resumption Quote Time", "Resumption Trade Time",
)  # fmt: skip
SECONDS_MAX: Final = 1_000_000
"""Longest halt on command, s."""
Row = dict[str, str]


class HaltSwitch(Protocol):
    """Stops a symbol, or lets it go on."""

    def __call__(self, symbol: int, *, on: bool) -> None:
        """Called once for each change."""
        ...


class Halts:
    """Which symbols are halted, until when, and what is published of it."""

    def __init__(
        self, settings: SimulatorSettings, names: Sequence[str], switch: HaltSwitch, start_ns: int, file: Path | None
    ) -> None:
        """`file`: replaced at each change; what it holds from an earlier run stays, and is over."""
        self._settings = settings
        self._numbers = {name: number for number, name in enumerate(names)}
        self._names = names
        self._switch = switch
        self._file = file
        self._now = start_ns
        self._ends: dict[int, int | None] = {}
        """Halted symbol → when it goes on, ns; None = on command."""
        self._open: dict[int, Row] = {}
        self._hour = start_ns // HOUR_NS
        self._planned = [entry for entry in self._plan(self._hour) if entry[0] >= start_ns]
        self.rows: list[Row] = _read(file)
        """What is published, oldest first."""
        if any(not row["Resumption Trade Time"] for row in self.rows):
            for row in self.rows:
                if not row["Resumption Trade Time"]:
                    _resume(row, start_ns)
            self._publish()

    def commands(self) -> Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]:
        """`halt` (symbol, seconds, reason) and `resume` (symbol)."""
        return {"halt": self._on_halt, "resume": self._on_resume}

    def names_now(self) -> list[str]:
        """Symbols that are halted."""
        return [self._names[symbol] for symbol in sorted(self._ends)]

    def advance(self, now_ns: int) -> None:
        """The market's time is `now_ns`: begin and end what is due."""
        self._now = now_ns
        if now_ns // HOUR_NS > self._hour:
            self._hour = now_ns // HOUR_NS
            self._planned += self._plan(self._hour)
        while self._planned and self._planned[0][0] <= now_ns:
            begin, symbol = self._planned.pop(0)
            self._begin(symbol, begin, begin + round(self._settings.halt_s * NS), "LUDP")
        for symbol in [symbol for symbol, end in self._ends.items() if end is not None and end <= now_ns]:
            self._end(symbol)

    def _plan(self, hour: int) -> list[tuple[int, int]]:
        """(begin, symbol) of the halts of an hour since the epoch: always the same for the same seed."""
        if not self._settings.halts_per_hour:
            return []
        random = np.random.Generator(np.random.PCG64([self._settings.seed, hour]))
        count = int(random.poisson(self._settings.halts_per_hour))
        begins = np.sort(random.integers(hour * HOUR_NS, (hour + 1) * HOUR_NS, count))
        symbols = random.integers(0, len(self._names), count)
        return [(int(begin), int(symbol)) for begin, symbol in zip(begins, symbols, strict=True)]

    def _begin(self, symbol: int, begin: int, end: int | None, reason: str) -> None:
        if symbol in self._ends:
            return
        day, time = _new_york(begin)
        row = dict.fromkeys(COLUMNS, "") | {
            "Halt Date": day, "Halt Time": time, "Issue Symbol": self._names[symbol], "Issue Name": f"Simulated Instrument {symbol}",
            "Market": "NASDAQ", "Reason Codes": reason,
        }  # fmt: skip
        self._ends[symbol], self._open[symbol] = end, row
        self.rows = [*self.rows, row][-self._settings.halts_max :]
        self._switch(symbol, on=True)
        self._publish()

    def _end(self, symbol: int) -> None:
        del self._ends[symbol]
        _resume(self._open.pop(symbol), self._now)
        self._switch(symbol, on=False)
        self._publish()

    def _publish(self) -> None:
        if self._file is None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        new = self._file.with_suffix(".new")
        new.write_text(as_csv(self.rows), encoding="utf-8")
        new.replace(self._file)

    def _on_halt(self, command: dict[str, Any]) -> dict[str, Any]:
        symbol, seconds = self._symbol(command), command.get("seconds")
        if symbol in self._ends:
            raise InputError(f"{self._names[symbol]} is halted already")
        if seconds is not None and not 0 < float(seconds) < SECONDS_MAX:
            raise InputError(f"seconds must be above 0 and below {SECONDS_MAX:,}, not {float(seconds):g}")
        reason = str(command.get("reason", "T1"))
        if not (reason.isascii() and reason.isalnum() and len(reason) <= 8):
            raise InputError("reason must be a code of up to 8 letters and digits, as T1 or LUDP")
        self._begin(symbol, self._now, None if seconds is None else self._now + round(float(seconds) * NS), reason)
        return {"halted": self.names_now()}

    def _on_resume(self, command: dict[str, Any]) -> dict[str, Any]:
        symbol = self._symbol(command)
        if symbol not in self._ends:
            raise InputError(f"{self._names[symbol]} is not halted")
        self._end(symbol)
        return {"halted": self.names_now()}

    def _symbol(self, command: dict[str, Any]) -> int:
        name = str(command["symbol"]).upper()
        if name not in self._numbers:
            raise InputError(f"unknown symbol {name}")
        return self._numbers[name]


def as_csv(rows: Sequence[Row]) -> str:
    """As the exchange's files are."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def as_rss(rows: Sequence[Row]) -> str:
    """As the exchange's RSS feed is, newest first; times of the channel are those of the newest halt."""
    newest = rows[-1]["Halt Date"] if rows else ""
    items = "".join(
        f"<item><title>{escape(row['Issue Symbol'])}</title>"
        + "".join(f"<ndaq:{_element(column)}>{escape(row[column])}</ndaq:{_element(column)}>" for column in COLUMNS)
        + "</item>\n"
        for row in reversed(rows)
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<rss version="2.0" xmlns:ndaq="http://www.nasdaqtrader.com/"><channel>\n'
        f"<title>Simulated market</title><description>Trade Halts {newest}</description><ttl>1</ttl>"
        f"<ndaq:numItems>{len(rows)}</ndaq:numItems>\n{items}</channel></rss>\n"
    )


PAGES: Final[Mapping[str, tuple[str, Callable[[Sequence[Row]], str]]]] = {
    "/halts.csv": ("text/csv; charset=utf-8", as_csv),
    "/rss.aspx?feed=tradehalts": ("application/rss+xml; charset=utf-8", as_rss),
}
"""Path of a request → kind of the answer, and who writes it."""


def _element(column: str) -> str:
    return "ReasonCode" if column == "Reason Codes" else column.replace(" ", "")


def _resume(row: Row, ts: int) -> None:
    day, time = _new_york(ts)
    row.update({"Resumption Date": day, "Resumption Quote Time": time, "Resumption Trade Time": time})


def _new_york(ts: int) -> tuple[str, str]:
    """Date and time as the exchange writes them, whole ms."""
    whole, rest = divmod(ts, NS)
    at = datetime.fromtimestamp(whole, UTC).astimezone(NEW_YORK)
    return f"{at:%m/%d/%Y}", f"{at:%H:%M:%S}.{rest // 1_000_000:03d}"


def _read(file: Path | None) -> list[Row]:
    """What an earlier run published; a file that is none of ours is replaced."""
    if file is None or not file.is_file():
        return []
    with file.open(encoding="utf-8", errors="replace", newline="") as lines:
        reader = csv.DictReader(lines)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            return []
        return [{column: row[column] or "" for column in COLUMNS} for row in reader]

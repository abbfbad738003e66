"""Lookup (port 9100): ticks and bars of the trades that this market printed, and a small symbol search.

Protocol and name are per socket; request ids come back as the first field. What does not belong here: where trades are kept
(`history`).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np

from l2_platform.clock import Clock
from l2_platform.feeds.iqfeed.simulator import line_kernels as lines
from l2_platform.feeds.iqfeed.simulator.history import bar_rows, daily_bar_rows, local_times, long_bar_rows, tick_lines
from l2_platform.feeds.iqfeed.simulator.network import Connection
from l2_platform.feeds.iqfeed.simulator.past import DAYS_MAX, TICK_DAYS, new_york_offset
from l2_platform.feeds.iqfeed.simulator.source import Source
from l2_platform.feeds.iqfeed.simulator.streaming import tell
from l2_platform.feeds.iqfeed.simulator.upstream import OLDEST, PROTOCOLS, Upstream

CREDITS_MAX: Final = 50
"""Requests that may come at once."""
INTERVAL_S_MAX: Final = 7 * 86_400
"""Longest bar, s."""
CREDIT_NS: Final = 20_000_000
"""One request more becomes possible after this time: 50 a second."""

LONG: Final = frozenset({"HDX", "HWX", "HMX"})
"""Requests for so many newest bars of days, weeks, months: of the printed ones and the past days before."""
MARKETS: Final = (("5", "NASDAQ", "Nasdaq", "5", "NASDAQ"), ("7", "NYSE", "New York Stock Exchange", "7", "NYSE"))
PARAMETERS: Final = {
    "HTX": "symbol points dir id send",
    "HTD": "symbol days points from to dir id send",
    "HTT": "symbol begin end points from to dir id send",
    "HIX": "symbol interval points dir id send type label",
    "HID": "symbol interval days points from to dir id send type label",
    "HIT": "symbol interval begin end points from to dir id send type label",
    "HDX": "symbol points dir id send partial",
    "HDT": "symbol begin end points dir id send partial",
    "HWX": "symbol points dir id send partial",
    "HMX": "symbol points dir id send partial",
    "SBF": "field text by filter id",
    "SLM": "id",
    "SST": "id",
}
"""Parameters of each request in order."""


@dataclass(slots=True)
class LookupSession:
    """What a lookup socket said about itself."""

    protocol: tuple[int, int] = OLDEST
    name: str = ""


class TokenBucket:
    """Requests allowed per time, over all lookup sockets as the account's limit is."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._credits = float(CREDITS_MAX)
        self._at = clock.monotonic_ns()

    def take(self) -> bool:
        """Use one credit; False when none is left."""
        now = self._clock.monotonic_ns()
        self._credits = min(float(CREDITS_MAX), self._credits + (now - self._at) / CREDIT_NS)
        self._at = now
        if self._credits < 1:
            return False
        self._credits -= 1
        return True


class LookupService:
    """Lookup clients."""

    name = "lookup"

    def __init__(self, source: Source, upstream: Upstream, clock: Clock) -> None:
        self._source = source
        self._upstream = upstream
        self._clock = clock
        self._bucket = TokenBucket(clock)
        self._sessions: dict[Connection, LookupSession] = {}
        self._numbers = {name: number for number, name in enumerate(source.names)}
        self.hang = False
        """Requests are taken and never answered."""

    def opened(self, connection: Connection) -> None:
        """Lookup is silent until asked."""
        self._sessions[connection] = LookupSession()

    def closed(self, connection: Connection) -> None:
        """Forget a client."""
        self._sessions.pop(connection, None)

    def received(self, connection: Connection, line: str) -> None:
        """Answer a request."""
        session = self._sessions[connection]
        if self.hang or not line:
            return
        if line.startswith("S,"):
            self._system(connection, session, line[2:].rstrip(","))
            return
        word, *values = line.split(",")
        names = PARAMETERS.get(word, "").split()
        if not names:
            tell(connection, "E,!SYNTAX_ERROR!,,", "!ENDMSG!,")
            return
        given = dict(zip(names, values, strict=False))
        prefix = f"{given['id']}," if given.get("id") else ""
        if self._upstream.refuse_login:
            tell(connection, f"{prefix}E,Unauthorized user ID.,", f"{prefix}!ENDMSG!,")
            return
        if not self._bucket.take():
            tell(connection, f"{prefix}E,Too many simultaneous history requests.,", f"{prefix}!ENDMSG!,")
            return
        try:
            body = self._answer(word, given, prefix, session.protocol)
        except (ValueError, KeyError, OverflowError):
            tell(connection, f"{prefix}E,Invalid number of parameters.,", f"{prefix}!ENDMSG!,")
            return
        if not body:
            tell(connection, f"{prefix}E,!NO_DATA!,,", f"{prefix}!ENDMSG!,")
            return
        connection.send(body + f"{prefix}!ENDMSG!,\r\n".encode("latin-1"))

    def _system(self, connection: Connection, session: LookupSession, text: str) -> None:
        word, _, rest = text.partition(",")
        if word == "SET PROTOCOL" and rest in PROTOCOLS:
            session.protocol = PROTOCOLS[rest]
            tell(connection, f"S,CURRENT PROTOCOL,{rest},")
        elif word == "SET PROTOCOL":
            tell(connection, f"E,{rest} is not a valid protocol.,")
        elif word == "SET CLIENT NAME":
            session.name = rest
        else:
            tell(connection, "E,!SYNTAX_ERROR!,,")

    def _answer(self, word: str, given: dict[str, str], prefix: str, protocol: tuple[int, int]) -> bytes:
        if word[0] == "S":
            return self._reference(word, given, prefix + ("LS," if protocol >= (6, 2) else ""))
        if not given.get("symbol"):
            raise ValueError("symbol")
        number = self._numbers.get(given["symbol"].upper())
        if number is None:
            return b""
        trades = self._in_range(self._trades(word, number, given), given)
        head = prefix + ("LH," if protocol >= (6, 2) else "")
        if word.startswith("HT"):
            return tick_lines(_ordered(trades, given), head.encode("latin-1"), tail=protocol >= (6, 1))
        if word in {"HWX", "HMX"}:
            bars = _ordered(long_bar_rows(trades, monthly=word == "HMX"), given)
            return "".join(head + _daily_line([int(value) for value in bar]) for bar in bars).encode("latin-1")
        if word in {"HDX", "HDT"}:
            bars = daily_bar_rows(trades)
            write: Callable[[list[int]], str] = _daily_line
        else:
            interval = int(given["interval"])
            if given.get("type", "s") not in {"", "s"}:
                raise ValueError("type")
            if not 1 <= interval <= INTERVAL_S_MAX:
                raise ValueError("interval")
            bars, write = bar_rows(trades, interval), _bar_line(interval, given.get("label") == "1")
        bars = _ordered(bars, given)
        return "".join(head + write([int(value) for value in bar]) for bar in bars).encode("latin-1")

    def _trades(self, word: str, number: int, given: dict[str, str]) -> lines.Int64:
        """What was printed, and before it the days of the past that are asked for and kept."""
        printed, past = self._source.history.trades(number), self._source.history.past
        if past is None or not (given.get("begin") or given.get("days") or word in LONG):
            return printed
        today = self._today()
        days = DAYS_MAX if word in LONG else int(given.get("days") or 0)
        first = _local_ns(given["begin"]) // lines.DAY_NS if given.get("begin") else today - days + 1
        last = _local_ns(given["end"]) // lines.DAY_NS if given.get("end") else today
        if word.startswith("HT"):
            first = max(first, today - TICK_DAYS)
        return np.concatenate([past.between(number, first, last), printed])

    def _today(self) -> int:
        """New York's date, days since the epoch."""
        now = self._clock.now_ns()
        return (now + new_york_offset(now)) // lines.DAY_NS

    def _in_range(self, trades: lines.Int64, given: dict[str, str]) -> lines.Int64:
        if not len(trades):
            return trades
        local = local_times(trades)
        keep = np.ones(len(trades), bool)
        if given.get("begin"):
            keep &= local >= _local_ns(given["begin"])
        if given.get("end"):
            whole_day = lines.DAY_NS if " " not in given["end"] else lines.SECOND_NS
            keep &= local < _local_ns(given["end"]) + whole_day
        if given.get("days"):
            # A recording has days of its own.
            today = self._today() if self._source.history.past is not None else int(local[-1]) // lines.DAY_NS
            keep &= local // lines.DAY_NS > today - int(given["days"])
        of_day = local % lines.DAY_NS // lines.SECOND_NS
        if given.get("from"):
            keep &= of_day >= _second_of_day(given["from"])
        if given.get("to"):
            keep &= of_day <= _second_of_day(given["to"])
        return trades[keep]

    def _reference(self, word: str, given: dict[str, str], head: str) -> bytes:
        if word == "SLM":
            rows = [",".join(market) for market in MARKETS]
        elif word == "SST":
            rows = ["1,EQUITY,Equity"]
        else:
            text = given.get("text", "").upper()
            described = [(name, f"SIMULATED INSTRUMENT {number}") for name, number in self._numbers.items()]
            by_name = given.get("field", "s") == "s"
            rows = [f"{name},5,1,{about}" for name, about in described if text in (name if by_name else about)]
        return "".join(f"{head}{row},\r\n" for row in rows).encode("latin-1")


def _ordered(rows: lines.Int64, given: dict[str, str]) -> lines.Int64:
    """Newest first unless dir is 1; at most `points`, the newest ones."""
    points = int(given["points"]) if given.get("points") else len(rows)
    newest = rows[max(0, len(rows) - points) :]
    return newest if given.get("dir") == "1" else newest[::-1]


def _price(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}00"


def _bar_line(interval: int, begin: bool) -> Callable[[list[int]], str]:
    def write(bar: list[int]) -> str:
        label = bar[0] // lines.SECOND_NS + (0 if begin else interval)
        when = datetime.fromtimestamp(label, UTC).strftime("%Y-%m-%d %H:%M:%S")  # wall time held as if it were UTC
        prices = ",".join(_price(value) for value in bar[1:5])
        return f"{when},{prices},{bar[5]},{bar[6]},0,\r\n"

    return write


def _daily_line(bar: list[int]) -> str:
    when = datetime.fromtimestamp(bar[0] // lines.SECOND_NS, UTC).strftime("%Y-%m-%d")
    prices = ",".join(_price(value) for value in bar[1:5])
    return f"{when},{prices},{bar[6]},0,\r\n"


def _local_ns(text: str) -> int:
    if not re.fullmatch(r"\d{8}( \d{6})?", text):
        raise ValueError(text)
    moment = datetime.strptime(text, "%Y%m%d %H%M%S" if " " in text else "%Y%m%d").replace(tzinfo=UTC)
    return int(moment.timestamp()) * lines.SECOND_NS


def _second_of_day(text: str) -> int:
    if not re.fullmatch(r"\d{6}", text):
        raise ValueError(text)
    return int(text[:2]) * 3600 + int(text[2:4]) * 60 + int(text[4:])

"""What the lines of an account say about the disputed and unverified facts of the protocol: counting, no I/O.

Each fact ends as a `Finding`: what was asked, what was seen, and how much was looked at. What does not belong here: sockets
(`probe`), and any use of the answers: a person compares them with the settings.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from l2_platform.feeds.iqfeed import messages

NOT_SEEN = "not seen"
_CORRECTION_TYPES = {"", "C", "E", "O"}
_SHAPE_OF_TYPE = {"7": "levels", "8": "levels", "9": "levels", "2": "legacy", "Z": "legacy"}
_SNAPSHOT_TYPES = {"6", "7", "Z"}
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact: `answer` is short, `detail` has the numbers behind it."""

    fact: str
    answer: str
    detail: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class ClockFacts:
    """`T` lines: their rate and how far our clock is from the feed's."""

    def __init__(self) -> None:
        self._first_ns: int | None = None
        self._last_ns = 0
        self._count = 0
        self._skews: list[float] = []

    def see(self, text: str, now_ns: int) -> None:
        """A `T` line was read at `now_ns`."""
        feed_ns = messages.feed_clock_ns(text, now_ns)
        self._first_ns = now_ns if self._first_ns is None else self._first_ns
        self._last_ns = now_ns
        self._count += 1
        if feed_ns is not None:
            self._skews.append((now_ns - feed_ns) / _NANOSECONDS)

    def findings(self, port: str) -> list[Finding]:
        """Rate and skew."""
        if self._count < 2 or self._first_ns is None:
            return [Finding(f"clock lines on {port}", NOT_SEEN, {"lines": self._count})]
        rate = (self._count - 1) / max(1e-9, (self._last_ns - self._first_ns) / _NANOSECONDS)
        found = [Finding(f"clock lines on {port}", f"{rate:.2f} a second", {"lines": self._count})]
        if self._skews:
            low, high = min(self._skews), max(self._skews)
            answer = f"ours is {'ahead' if low > 0 else 'behind'} by {abs(low):.2f} s"
            found.append(
                Finding(f"clock skew on {port}", answer, {"seconds_min": round(low, 3), "seconds_max": round(high, 3)})
            )
        return found


class Level1Facts:
    """Trades, corrections and times of Level 1 lines, laid out as acknowledged."""

    def __init__(self) -> None:
        self.names: Sequence[str] = ()
        self._letters: Counter[str] = Counter()
        self._ids: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._ids_per_symbol: dict[str, list[int]] = defaultdict(list)
        self._corrections: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._dates: Counter[str] = Counter()
        self._trades = 0
        self._trailing_comma: Counter[bool] = Counter()

    def see(self, line: str) -> None:
        """One line without its end."""
        letter = line[:1]
        self._letters[letter] += 1
        self._trailing_comma[line.endswith(",")] += 1
        fields = line.split(",")
        if letter == "C":
            self._correction(line, fields)
        elif letter == "Q" and self.names:
            self._update(dict(zip(self.names, fields[1:], strict=False)))

    def _correction(self, line: str, fields: list[str]) -> None:
        kind = "unknown"
        if len(fields) > 4 and fields[2] in {"I", "X"}:
            kind = (
                "with trade type"
                if fields[3] in _CORRECTION_TYPES and (not fields[4] or "/" in fields[4])
                else "without trade type"
            )
        self._corrections[kind] += 1
        self._examples.setdefault(kind, line)

    def _update(self, row: dict[str, str]) -> None:
        if not set(row.get("Message Contents", "")) & set("CEO"):
            return
        self._trades += 1
        date = row.get("Most Recent Trade Date", "")
        self._dates["MM/DD/YYYY" if date.count("/") == 2 else date or "empty"] += 1
        number = row.get("TickID", "")
        if number.isascii() and number.isdigit():
            symbol = row["Symbol"]
            self._ids[symbol, row.get("Most Recent Trade Market Center", "")].append(int(number))
            self._ids_per_symbol[symbol].append(int(number))

    def findings(self) -> list[Finding]:
        """TickID rule, corrections, dates, kinds of lines."""
        return [
            self._tick_id_rule(),
            Finding(
                "layout of trade corrections",
                ", ".join(self._corrections) or NOT_SEEN,
                {"lines": dict(self._corrections), "examples": self._examples},
            ),
            Finding("trade dates on Level 1", ", ".join(self._dates) or NOT_SEEN, {"trades": self._trades}),
            Finding(
                "kinds of Level 1 lines", ", ".join(sorted(self._letters)) or NOT_SEEN, {"lines": dict(self._letters)}
            ),
            Finding(
                "trailing comma on Level 1",
                {frozenset({True}): "always", frozenset({False}): "never", frozenset(): NOT_SEEN}.get(
                    frozenset(self._trailing_comma), "sometimes"
                ),
            ),
        ]

    def _tick_id_rule(self) -> Finding:
        by_center = _steps_of_one(self._ids.values())
        by_symbol = _steps_of_one(self._ids_per_symbol.values())
        detail = {
            "trades": self._trades,
            "steps_of_one_per_market_center": by_center,
            "steps_of_one_per_symbol": by_symbol,
        }
        if by_center is None or by_symbol is None:
            return Finding("TickID rule", NOT_SEEN, detail)
        # one market centre per symbol makes both rules true: then the wider one cannot be told apart
        rules = [name for name, share in (("per_symbol", by_symbol), ("per_market_center", by_center)) if share > 0.99]
        return Finding("TickID rule", " or ".join(rules) or "none", detail)


def _steps_of_one(groups: Iterable[list[int]]) -> float | None:
    steps = [after - before for ids in groups for before, after in pairwise(ids)]
    return round(sum(step == 1 for step in steps) / len(steps), 4) if steps else None


@dataclass(slots=True)
class _Depth:
    """What was seen of one symbol."""

    types: Counter[str] = field(default_factory=Counter)
    order_ids: int = 0
    venues: int = 0
    snapshot_rows: int = 0
    first_ns: int | None = None
    last_snapshot_ns: int = 0
    ended_by: str = ""
    reburst: int = 0


class Level2Facts:
    """Shapes of depth and how snapshots end, per symbol."""

    def __init__(self) -> None:
        self._symbols: dict[str, _Depth] = {}
        self._dates: Counter[str] = Counter()
        self._empty_times = 0
        self._sentinels = 0
        self._delete_with_venue = 0
        self._deletes = 0

    def see(self, line: str, now_ns: int) -> None:
        """One line without its end, read at `now_ns`."""
        fields = line.split(",")
        letter = fields[0]
        if letter == "T":
            self._snapshots_ended_by("clock line")
            return
        if len(fields) < 2 or letter in {"S", "E", "n"}:
            return
        depth = self._symbols.setdefault(fields[1], _Depth())
        depth.types[letter] += 1
        depth.first_ns = depth.first_ns or now_ns
        if letter in {"0", "3", "4", "5", "6"} and len(fields) > 4:
            depth.order_ids += bool(fields[2])
            depth.venues += bool(fields[3])
        if letter == "5" and len(fields) > 4:
            self._deletes += 1
            self._delete_with_venue += bool(fields[3])
        if letter in _SNAPSHOT_TYPES:
            depth.reburst += bool(depth.ended_by)
            depth.snapshot_rows += not depth.ended_by
            depth.last_snapshot_ns = now_ns
        elif letter != "q" and depth.snapshot_rows and not depth.ended_by:
            depth.ended_by = "update"
        self._times(letter, fields)

    def _times(self, letter: str, fields: list[str]) -> None:
        at = {"0": 9, "3": 9, "4": 9, "6": 9, "5": 5, "7": 8, "8": 8, "9": 4}.get(letter)
        if at is None or len(fields) <= at + 1:
            return
        self._empty_times += not fields[at]
        self._sentinels += fields[at].startswith("99:99")
        date = fields[at + 1]
        self._dates["YYYY-MM-DD" if date.count("-") == 2 else date or "empty"] += 1

    def _snapshots_ended_by(self, what: str) -> None:
        for depth in self._symbols.values():
            if depth.snapshot_rows and not depth.ended_by:
                depth.ended_by = what

    def shape(self, symbol: str) -> str:
        """`orders`, `venues`, `levels`, `legacy`, `none` (a `q`), or `mixed (…)`."""
        depth = self._symbols.get(symbol)
        if depth is None:
            return NOT_SEEN
        shapes = {_SHAPE_OF_TYPE[letter] for letter in depth.types if letter in _SHAPE_OF_TYPE}
        if depth.order_ids:
            shapes.add("orders")
        if depth.venues and not depth.order_ids:
            shapes.add("venues")
        if not shapes:
            return "none" if "q" in depth.types else "unknown"
        return shapes.pop() if len(shapes) == 1 else f"mixed ({', '.join(sorted(shapes))})"

    def findings(self) -> list[Finding]:
        """Shape per symbol, end of snapshot, dates, deletes."""
        shapes = {symbol: self.shape(symbol) for symbol in sorted(self._symbols)}
        ends = Counter(depth.ended_by or "nothing yet" for depth in self._symbols.values() if depth.snapshot_rows)
        rows = {symbol: depth.snapshot_rows for symbol, depth in sorted(self._symbols.items())}
        spread = {
            symbol: round((depth.last_snapshot_ns - depth.first_ns) / 1e6, 1)
            for symbol, depth in sorted(self._symbols.items())
            if depth.first_ns and depth.last_snapshot_ns and not depth.reburst
        }
        deletes = f"{self._delete_with_venue} of {self._deletes} carry a venue" if self._deletes else NOT_SEEN
        return [
            Finding("shapes of depth", ", ".join(sorted(set(shapes.values()))) or NOT_SEEN, {"symbols": shapes}),
            Finding(
                "end of a depth snapshot",
                ", ".join(f"{what}: {count}" for what, count in ends.items()) or NOT_SEEN,
                {"snapshot_rows": rows, "first_to_last_row_ms": spread},
            ),
            Finding("rows sent again as snapshot", str(sum(depth.reburst for depth in self._symbols.values()))),
            Finding(
                "dates on Level 2",
                ", ".join(self._dates) or NOT_SEEN,
                {"empty_times": self._empty_times, "times_99": self._sentinels},
            ),
            Finding("venue in order deletes", deletes),
        ]

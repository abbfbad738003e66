"""One playing of some streams of a day: tape, pace, what is known so far, and the account of what was given to the audience.

The audience is the services of a simulated IQConnect, or a Kafka topic. What does not belong here: either of them.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any, Final, Protocol

from l2_platform.clock import Clock
from l2_platform.market.instruments import SymbolTable
from l2_platform.replay import lines
from l2_platform.replay.digest import LineDigest
from l2_platform.replay.lines import Chosen, Event, Part, PartReader, Piece
from l2_platform.replay.pace import AS_FAST_AS_POSSIBLE, FAR, LateCounts, Pacer
from l2_platform.replay.state import DepthState, Level1State
from l2_platform.replay.tape import Slice, Tape
from l2_platform.settings import Settings

TURNS: Final = frozenset({lines.LINK_DOWN, lines.LINK_UP, lines.FIELDS})
"""Lines after which others are read differently."""
BITE_LINES: Final = 1024
"""What is known follows so many lines after each turn: about a tenth of a ms."""
BACKLOG_LINES: Final = 32_768
"""More than that are applied at once."""
DAMAGE_KEPT: Final = 100
"""Damaged places that are told one by one."""


class Audience(Protocol):
    """Who gets what is played."""

    def take(self, found: Slice, digest: LineDigest) -> None:
        """Pass on a slice, and count its lines in the digest."""
        ...

    def link(self, channel: str, *, up: bool) -> None:
        """The recorded link of a channel was lost, or is back."""
        ...


class Performance:
    """The parts of a day, played once from `begin` to `end` (market times, ns, both included)."""

    def __init__(
        self, settings: Settings, parts: list[Part], symbols: tuple[str, ...], names: list[str], pacer: Pacer, begin: int, end: int,
        clock: Clock, lines_ahead: int = 0,
    ) -> None:  # fmt: skip
        """`symbols`: only these (empty: all); `names`: symbols that are known to come; `lines_ahead`: about as many lines come."""
        self.parts = parts
        self.channels = {part.channel for part in parts}
        self.pacer = pacer
        self.begin, self.end = begin, end
        self.audience: Audience | None = None
        self._settings = settings
        self._clock = clock
        self.table = SymbolTable(names, names_max=settings.symbols.names_max)
        self.chosen = Chosen(self.table, symbols)
        self.names_grew = False
        self.digests = [LineDigest() for _ in parts]
        self.late = LateCounts()
        self.damage: list[str] = []
        self.damaged = 0
        self.jumped = False
        """There was a seek: the digest is of what was played, in the order in which it was played."""
        self.rounds = 0
        """How often everything was played whole; more than once only in a loop."""
        self.whole: list[LineDigest] = []
        """Digests of the newest whole round of a loop; empty before its end."""
        self._lines_before = 0
        """Lines of former rounds."""
        self.reached = begin
        """Market time of the newest played line, ns."""
        self._up = [True] * len(parts)
        self._backlog: deque[tuple[Piece, int, int]] = deque()
        """Played lines that did not change yet what is known: (piece, first, stop)."""
        self._behind = 0
        """Lines in it."""
        self.tape = self._tape()
        self.depth: dict[int, DepthState] = {}
        self.level1: dict[int, Level1State] = {}
        for reader in self._readers:
            if reader.part.channel == "depth":
                self.depth[reader.track] = DepthState(lines_ahead)
            else:
                self.level1[reader.track] = Level1State(reader.first_fields)

    def _tape(self) -> Tape:
        replay = self._settings.replay
        self._readers = [PartReader(self._settings, part, track, self.table) for track, part in enumerate(self.parts)]
        fast = self.pacer.speed == AS_FAST_AS_POSSIBLE
        return Tape(self._readers, replay.ahead_bytes, replay.step_bytes * (4 if fast else 1))

    @property
    def lines(self) -> int:
        """Market lines that were played, in all rounds."""
        return self._lines_before + sum(digest.lines for digest in self.digests)

    def market_time(self, steady_ns: int) -> int:
        """What the clock of the played day says, ns."""
        reached = self.pacer.position(steady_ns)
        return self.reached if reached == FAR else min(max(reached, self.begin), max(self.end, self.begin))

    def play(self, until: int, lines_max: int) -> bool:
        """Give the audience what is due at a market time; True when more is due."""
        left = lines_max
        for item in self.tape.play(min(until, self.end), lines_max):
            self._grow()
            if isinstance(item, Event):
                self._event(item, quiet=False)
                continue
            for part in _cut(item):
                if isinstance(part, int):
                    self._turn(item.piece, part, quiet=False)
                    continue
                assert self.audience is not None
                self.audience.take(part, self.digests[item.piece.track])
                self._played(part)
            left -= item.stop - item.first
            if self.pacer.speed != AS_FAST_AS_POSSIBLE:
                self.late.add(self.pacer.lateness(item.piece.times[item.first : item.stop], self._clock.monotonic_ns()))
        self._catch_up(BITE_LINES if self._behind < BACKLOG_LINES else self._behind)
        return left <= 0

    def over(self) -> bool:
        """Everything up to the end was played."""
        if self.tape.finished:
            return True
        following = None if self.tape.starved else self.tape.next_time()
        return following is not None and following > self.end

    def skip(self, until: int, lines_max: int) -> bool:
        """Take note of lines before a market time without giving them to anybody; True when there are more."""
        left = lines_max
        for item in self.tape.play(until - 1, lines_max):
            self._grow()
            if isinstance(item, Event):
                self._event(item, quiet=True)
                continue
            for part in _cut(item):
                if isinstance(part, int):
                    self._turn(item.piece, part, quiet=True)
                else:
                    self._played(part)
            left -= item.stop - item.first
        self.settle()
        if left <= 0 or self.tape.starved:
            self.tape.wait(0.01)
            return True
        return False

    def rewind(self) -> None:
        """Begin the day again: nothing is known."""
        self.tape.close()
        self._backlog.clear()
        self._behind = 0
        for book in self.depth.values():
            book.forget()
        for quotes in self.level1.values():
            quotes.begin()
        self.jumped = True
        self.reached = self.begin
        self.tape = self._tape()

    def end_round(self) -> None:
        """Everything was played and is to be played again: count the round, begin new digests."""
        self.rounds += 1
        self._lines_before = self.lines
        if not self.jumped:
            self.whole = self.digests
        self.digests = [LineDigest() for _ in self.parts]

    def settle(self) -> None:
        """Bring what is known up to the newest played line."""
        self._catch_up(self._behind)

    def _turn(self, piece: Piece, row: int, *, quiet: bool) -> None:
        """A line after which others are read differently: the link's state, or the columns."""
        mark = int(piece.marks[row])
        self._played(Slice(piece, row, row + 1))
        self.settle()
        self.digests[piece.track].talk += not quiet
        if mark != lines.FIELDS:
            self._link(piece.track, up=mark == lines.LINK_UP, quiet=quiet)
            return
        names = [name.strip() for name in piece.line(row).decode("latin-1").split(",")[2:]]
        fields = tuple(name for name in names if name)
        self.level1[piece.track].fields = fields if "Symbol" in fields else ("Symbol", *fields)

    def record(self, steady_ns: int) -> dict[str, Any]:
        """Numbers for people and programs; times in ns."""
        return {
            "session_date": self.parts[0].session_date, "streams": [part.stream for part in self.parts],
            "speed": "max" if self.pacer.speed == AS_FAST_AS_POSSIBLE else self.pacer.speed, "paused": self.pacer.paused,
            "market_ns": self.market_time(steady_ns), "begin_ns": self.begin, "end_ns": self.end, "lines": self.lines,
            "symbols": sum(self.chosen.mask.tolist()), "late": self.late.as_record(), "damaged": self.damaged, "rounds": self.rounds,
        }  # fmt: skip

    def _grow(self) -> None:
        if self.chosen.grow():
            self.names_grew = True

    def _played(self, item: Slice) -> None:
        """Remember lines that what is known must follow."""
        if item.stop <= item.first:
            return
        piece, first, stop = self._backlog[-1] if self._backlog else (None, 0, 0)
        if piece is item.piece and stop == item.first:
            self._backlog[-1] = (item.piece, first, item.stop)
        else:
            self._backlog.append((item.piece, item.first, item.stop))
        self._behind += item.stop - item.first
        self.reached = max(self.reached, int(item.piece.times[item.stop - 1]))

    def _catch_up(self, lines_max: int) -> None:
        """Apply some of the backlog: small bites between two frames delay neither."""
        left = lines_max
        while left > 0 and self._backlog:
            piece, first, stop = self._backlog.popleft()
            reach = min(stop, first + left)
            self._apply(piece, first, reach)
            left -= reach - first
            self._behind -= reach - first
            if reach < stop:
                self._backlog.appendleft((piece, reach, stop))

    def _apply(self, piece: Piece, first: int, stop: int) -> None:
        if piece.channel == "depth":
            self.depth[piece.track].apply(piece, first, stop)
        else:
            self.level1[piece.track].apply(piece, first, stop)

    def _event(self, event: Event, *, quiet: bool) -> None:
        if event.kind == "damage":
            self.damaged += 1
            if len(self.damage) < DAMAGE_KEPT:
                self.damage.append(event.detail)
            return
        self.settle()
        if event.kind == "disconnect":
            self._link(event.track, up=False, quiet=quiet)
            return
        if event.kind == "connect" and self.digests[event.track].lines:
            # also when the recorder was killed before it could say that the link was lost
            self._link(event.track, up=False, quiet=quiet)
        if event.channel == "depth":
            # what follows begins with bursts of its own
            self.depth[event.track].forget()
        elif event.kind == "connect":
            self.level1[event.track].reconnected()
        else:
            self.level1[event.track].forget()

    def _link(self, track: int, *, up: bool, quiet: bool) -> None:
        if self._up[track] == up:
            return
        self._up[track] = up
        if self.audience is not None and not quiet:
            self.audience.link(self.parts[track].channel, up=up)


def _cut(item: Slice) -> Iterator[Slice | int]:
    """A slice in pieces: the lines that change how others are read one by one (as row numbers), and what lies between them."""
    at = item.first
    for row in item.specials():
        if item.piece.marks[row] in TURNS:
            if row > at:
                yield Slice(item.piece, at, row)
            yield row
            at = row + 1
    if item.stop > at:
        yield Slice(item.piece, at, item.stop)

"""A stored day as the source of a simulated IQConnect: its lines again, as they were received, at their own pace.

The services ask it for what is known when a client comes late. It plays market lines and the feed's clock; greetings and answers are
the server's own, and a break of the recorded link is told as `S,SERVER DISCONNECTED` and `S,SERVER CONNECTED`. What does not belong
here: sockets, signals and progress (`serving`).
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from l2_platform.clock import Clock
from l2_platform.feeds.iqfeed.simulator.history import TradeHistory
from l2_platform.feeds.iqfeed.simulator.layouts import Layout
from l2_platform.feeds.iqfeed.simulator.level1 import Level1Service
from l2_platform.feeds.iqfeed.simulator.level2 import Level2Service
from l2_platform.feeds.iqfeed.simulator.source import DepthListener, Level1Listener, LineBatch
from l2_platform.feeds.iqfeed.simulator.streaming import StreamingService
from l2_platform.market.events import UInt8
from l2_platform.replay import lines
from l2_platform.replay.digest import LineDigest, line_batch, runs
from l2_platform.replay.pace import AS_FAST_AS_POSSIBLE
from l2_platform.replay.performance import Performance
from l2_platform.replay.state import places_in
from l2_platform.replay.state_kernels import project_lines
from l2_platform.replay.tape import Slice

log = logging.getLogger(__name__)

IDLE_S: Final = 0.05
"""Wait for sockets while nothing is due."""
NEAR_NS: Final = 1_500_000
"""What is due within this is waited for without looking at the sockets."""
LINES_A_TURN: Final = 65_536


@dataclass(slots=True)
class Wish:
    """When playing begins."""

    clients: int = 1
    """So many clients must watch something."""
    settle_ns: int = 1_000_000_000
    """And none may have watched anything new for this long."""
    paused: bool = False
    """Or: not before the command `resume`."""
    loop: bool = False
    """At its end the day begins again, until somebody stops it."""


class DayPlayer:
    """Serves a performance of a stored day over the services of a simulated IQConnect."""

    tells_time = True
    answers_no_depth = False

    def __init__(self, show: Performance, clock: Clock, wish: Wish, spin_ns: int, stall_ns: int) -> None:
        self.show = show
        self.names = show.chosen.names
        self.history = TradeHistory(1)
        self.started = False
        self.skipping_to: int | None = None
        """A seek is under way: up to here lines change what is known and are not sent."""
        self._begins_again = False
        """It is that of a loop at its end, which nobody asked for."""
        self._clock = clock
        self._wish = wish
        self._spin_ns = spin_ns
        self._stall_ns = stall_ns
        self._services: tuple[Level2Service, Level1Service] | None = None
        self._watched: tuple[int, int] = (0, 0)
        self._watched_at = 0
        self.cut = 0
        """Clients that were cut because they did not read."""
        self._seen: set[int] = set()
        self._counted = -1
        self._moved: tuple[int, int] = (0, 0)
        """Bytes that clients took, and when that last changed: at speed max a client that stands still is cut."""

    def attach(self, level2: Level2Service, level1: Level1Service) -> None:
        """The services that send what is played."""
        self._services = level2, level1
        self.show.audience = self

    # ── the source of a simulated IQConnect ──

    @property
    def until(self) -> int:
        """The market time that was reached, ns."""
        return self.show.market_time(self._clock.monotonic_ns())

    def patience_s(self) -> float:
        """Until shortly before the next line is due."""
        if self.skipping_to is not None:
            return 0.0
        if not self.started or self.show.pacer.paused or (self.show.over() and not self._wish.loop):
            return IDLE_S
        if self.show.tape.starved:
            return 0.001
        if self.show.pacer.speed == AS_FAST_AS_POSSIBLE:
            return 0.001 if self._is_backed_up() else 0.0
        following = self.show.tape.next_time()
        left = self.show.pacer.due(following) - self._clock.monotonic_ns() if following is not None else 0
        # the selector rounds up to whole ms
        return 0.0 if left < NEAR_NS else min(IDLE_S, (left - NEAR_NS // 2) // 1_000_000 / 1000)

    def advance(self, now_ns: int, depth: DepthListener, level1: Level1Listener) -> bool:  # noqa: ARG002  (it plays on steady time)
        """Play what is due; True when more is due already."""
        self._learn()
        self._count()
        if self.skipping_to is not None:
            return self._skip()
        if not self.started:
            self._start_when_ready()
            return False
        if self.show.pacer.paused or self.show.tape.starved:
            return False
        if self.show.over():
            return self._wish.loop and self._begin_again()
        if self.show.pacer.speed == AS_FAST_AS_POSSIBLE:
            if self._is_backed_up():
                self._cut_who_stands_still()
                return False
            return self.show.play(self.show.tape.window() or 0, LINES_A_TURN)
        self._await_next()
        return self.show.play(self.show.pacer.position(self._clock.monotonic_ns()), LINES_A_TURN)

    def depth_kind(self, symbol: int) -> str:
        """As the lines tell it; empty when no depth is played."""
        if "depth" not in self.show.channels:
            return ""
        self.show.settle()
        shapes = {book.shape(symbol) for book in self.show.depth.values()} - {"any"}
        return min(shapes, default="any")

    def depth_snapshot(self, symbol: int) -> bytes:
        """The book as of now, each row as its last line."""
        self.show.settle()
        return b"".join(book.burst(symbol) for book in self.show.depth.values())

    def level1_summary(self, symbol: int, layout: Layout) -> bytes:
        """The newest Q or P line as a P line."""
        self.show.settle()
        known = (quotes.summary(symbol) for quotes in self.show.level1.values())
        fields, line = next((found for found in known if found[1]), ((), b""))
        if not line:
            return b""
        one = LineBatch(line, np.array([len(line)]), np.zeros(1, np.int32), np.ones(1, np.uint8))
        return in_columns(one, fields, layout).data

    def fundamental(self, symbol: int) -> bytes:
        """The recorded F line, once it was played."""
        self.show.settle()
        return next((line for quotes in self.show.level1.values() if (line := quotes.fundamental(symbol))), b"")

    def regional(self, symbol: int) -> bytes:
        """The newest recorded R line."""
        self.show.settle()
        return next((line for quotes in self.show.level1.values() if (line := quotes.regional(symbol))), b"")

    def correction(self, symbol: int, *, kind: str, layout: str) -> bytes:  # noqa: ARG002  (the contract has it)
        """Nothing: C lines come from the recording."""
        return b""

    def status(self) -> dict[str, object]:
        """Numbers for people."""
        return {"source": "replay", "state": self.state, **self.show.record(self._clock.monotonic_ns())}

    def commands(self) -> Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]:
        """pause, resume, speed, seek."""
        from l2_platform.replay.remote import commands_of

        return commands_of(self)

    @property
    def state(self) -> str:
        """`waiting` for clients, `seeking`, `paused`, `playing` or `finished`."""
        if self.skipping_to is not None and not self._begins_again:
            return "seeking"
        if not self.started:
            return "waiting"
        if self.show.over() and not self._wish.loop:
            return "finished"
        return "paused" if self.show.pacer.paused else "playing"

    # ── the audience of a performance ──

    @property
    def served(self) -> int:
        """Level 1 and Level 2 clients that were there so far."""
        return len(self._seen)

    def clients(self) -> int:
        """Streaming clients that watch something now."""
        return sum(service.watching() for service in self._services or ())

    def steady_ns(self) -> int:
        """Steady time, ns."""
        return self._clock.monotonic_ns()

    def take(self, found: Slice, digest: LineDigest) -> None:
        """Send a slice, and count it."""
        service = self._service(found.piece.channel)
        chosen = self.show.chosen
        self._learn()
        for first, stop, special in runs(found):
            if special:
                self._special(service, found, first, digest)
                continue
            batch = line_batch(found, first, stop)
            digest.add(batch, None if chosen.everything else chosen.mask)
            if not service.has_watchers():
                continue
            if isinstance(service, Level2Service):
                service.publish(batch)
            else:
                service.publish(partial(in_columns, batch, self.show.level1[found.piece.track].fields))

    def link(self, channel: str, *, up: bool) -> None:
        """The recorded link was lost, or is back."""
        service = self._service(channel)
        if up:
            for connection in list(service.sessions):
                connection.send(b"S,SERVER CONNECTED\r\n")
        else:
            service.disconnected()

    def refresh(self) -> None:
        """After a seek: what is known now, to everybody who watches."""
        for service in self._services or ():
            for connection, session in list(service.sessions.items()):
                for number in sorted(session.asked):
                    service.refresh(connection, session, number)

    def _special(self, service: StreamingService, found: Slice, row: int, digest: LineDigest) -> None:
        mark, line = int(found.piece.marks[row]), found.piece.line(row)
        digest.add_special(mark, line, everything=self.show.chosen.everything)
        if mark == lines.CLOCK:
            service.relay_clock(line)
        elif mark == lines.COMMON and self.show.chosen.everything:
            service.relay(line)

    def _count(self) -> None:
        now = sum(len(service.sessions) for service in self._services or ())
        if now == self._counted:
            return
        self._counted = now
        for service in self._services or ():
            self._seen.update(connection.number for connection in service.sessions)

    def _learn(self) -> None:
        if self.show.names_grew:
            self.show.names_grew = False
            for service in self._services or ():
                service.learn(self.names)

    # ── time ──

    def start(self) -> None:
        """Begin, or go on, to play now."""
        self.started = True
        self.show.pacer.resume(self._clock.monotonic_ns())

    def hold(self) -> None:
        """Stand still until `start`; one that has not begun waits for `start`, too."""
        self._wish.paused = True
        self.show.pacer.pause(self._clock.monotonic_ns())
        if self.show.pacer.speed == AS_FAST_AS_POSSIBLE:
            self.show.pacer.jump(self.show.reached, self._clock.monotonic_ns())

    def _start_when_ready(self) -> None:
        now = self._clock.monotonic_ns()
        services = self._services or ()
        watched = (sum(service.watching() for service in services), sum(len(s.asked) for one in services for s in one.sessions.values()))
        if watched != self._watched:
            self._watched, self._watched_at = watched, now
        ready = watched[0] >= self._wish.clients and now - self._watched_at >= self._wish.settle_ns
        if ready and not self._wish.paused and not self.show.tape.starved:
            self.start()

    def _await_next(self) -> None:
        """Wait for a line that is due very soon: sleep, and watch the clock for the last part."""
        following = self.show.tape.next_time()
        if following is None:
            return
        due = self.show.pacer.due(following)
        left = due - self._clock.monotonic_ns()
        if left > NEAR_NS:
            return
        if left > self._spin_ns:
            self._clock.sleep((left - self._spin_ns) / 1e9)
        while self._clock.monotonic_ns() < due:
            pass

    def seek(self, market_ns: int) -> None:
        """Go to a market time: back from the beginning of the day, or forward from here; clients get what is known there."""
        if market_ns <= max(self.until, self.show.reached):
            self.show.rewind()
        self.show.jumped = True
        self.skipping_to = market_ns
        self._begins_again = False

    def _begin_again(self) -> bool:
        """The next round of a loop: once clients took what was played, the day from its beginning, with the books of that time."""
        if self._is_backed_up():
            self._cut_who_stands_still()
            return False
        self.show.end_round()
        self.seek(self.show.begin)
        self.show.jumped = False
        self._begins_again = True
        return True

    def _skip(self) -> bool:
        assert self.skipping_to is not None
        if self.show.skip(self.skipping_to, LINES_A_TURN):
            return True
        now = self._clock.monotonic_ns()
        self.show.pacer.jump(self.skipping_to, now)
        self.skipping_to, self._begins_again = None, False
        self.show.reached = max(self.show.reached, self.show.begin)
        self.refresh()
        return False

    # ── slow clients ──

    def _is_backed_up(self) -> bool:
        return any(service.is_backed_up() for service in self._services or ())

    def _cut_who_stands_still(self) -> None:
        now = self._clock.monotonic_ns()
        waiting = [c for service in self._services or () for c in service.sessions if c.is_paused]
        taken = sum(connection.bytes_out for connection in waiting)
        if taken != self._moved[0] or not waiting:
            self._moved = taken, now
        elif now - self._moved[1] >= self._stall_ns:
            for connection in waiting:
                log.warning("client_cut connection=%d reason=does not read, %d bytes wait", connection.number, connection.queued)
                connection.close("does not read")
                self.cut += 1

    def _service(self, channel: str) -> Level2Service | Level1Service:
        assert self._services is not None
        return self._services[0 if channel == "depth" else 1]


def in_columns(batch: LineBatch, fields: tuple[str, ...], layout: Layout) -> LineBatch:
    """Level 1 lines with the columns that a client asked for; `fields` are those of the lines, Symbol first."""
    wanted = ("Symbol", *layout.names)
    if wanted == fields:
        return batch
    data = np.frombuffer(batch.data, np.uint8)
    out: UInt8 = np.empty(len(data) + len(batch.ends) * (len(wanted) + 8), np.uint8)
    ends = np.empty(len(batch.ends), np.int64)
    size = project_lines(data, np.ascontiguousarray(batch.ends), places_in(wanted, fields), out, ends)
    return LineBatch(out[:size].tobytes(), ends, batch.symbols, batch.trades)


"""Which symbols are wanted and which watches this connection has sent: the difference, in batches, at a bounded pace.

Time is a parameter (monotonic ns). What does not belong here: the commands' text (`feeds.iqfeed.messages`) and the socket.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

_SECOND_NS = 1_000_000_000
_LIMIT_RETRY_FIRST_NS = 30 * _SECOND_NS
_LIMIT_RETRY_CAP_NS = 900 * _SECOND_NS
_LIMIT_ANSWER_NS = 2 * _SECOND_NS
_LIMIT_PROBE_SYMBOLS = 10
"""Symbols tried at once after the account's limit was met: each refusal costs a line."""

Why = Literal["start", "reconnect", "server", "session", "change", "retry", "periodic"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Watches (or their end) that go out in one send; `refresh` when their state is wanted again though they may stand."""

    symbols: tuple[str, ...]
    watch: bool
    refresh: bool
    why: Why


class Subscription:
    """Wanted against sent. One object lives as long as the process; `connected` begins anew for each connection."""

    def __init__(
        self, *, rollout_steps: Sequence[int] = (), rollout_pause_ns: int = 0, batch_max: int = 500, rewatch_ns: int = 0
    ) -> None:
        self.wanted: dict[str, None] = {}
        self.sent: dict[str, None] = {}
        self.refused: dict[str, None] = {}
        self.not_found: set[str] = set()
        self._rollout = sorted(rollout_steps)
        self._rollout_pause_ns = rollout_pause_ns
        self._paused_until_ns = 0
        self._batch_max = batch_max
        self._rewatch_ns = rewatch_ns
        self._live = False
        self._sweep: deque[str] = deque()
        self._sweep_why: Why = "start"
        self._sweep_open = False
        self._first_sweep = True
        self._added: dict[str, None] = {}
        self._removed: dict[str, None] = {}
        self._held_until_ns: int | None = None
        self._hold_ns = _LIMIT_RETRY_FIRST_NS
        self._probing = False
        self._round: deque[str] = deque()
        self._round_at_ns = 0

    def want(self, symbols: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Set what is wanted: (added, removed). Names that the feed did not know are tried again; others are not touched."""
        wanted = dict.fromkeys(symbols)
        added = tuple(symbol for symbol in wanted if symbol not in self.wanted)
        removed = tuple(symbol for symbol in self.wanted if symbol not in wanted)
        again = [symbol for symbol in self.wanted if symbol in self.not_found and symbol in wanted]
        self.wanted = wanted
        self.not_found.clear()
        for symbol in removed:
            self._added.pop(symbol, None)
            self.refused.pop(symbol, None)
            if self.sent.pop(symbol, 0) is None:
                self._removed[symbol] = None
        if self._live:
            self._added.update(dict.fromkeys((*added, *again)))
            for symbol in added:
                self._removed.pop(symbol, None)
        if removed:
            self._held_until_ns = 0 if self._held_until_ns is not None else None
        return added, removed

    def connected(self, now_ns: int) -> None:
        """A new connection is ready for watches: none is sent on it."""
        self.sent.clear()
        self._added.clear()
        self._removed.clear()
        self.refused.clear()
        self._held_until_ns = None
        self._hold_ns = _LIMIT_RETRY_FIRST_NS
        self._probing = False
        self._live = True
        self._begin_sweep("start" if self._first_sweep else "reconnect", now_ns)

    def disconnected(self) -> None:
        """The connection is gone, and its watches with it."""
        self._live = False
        self._sweep.clear()
        self._sweep_open = False
        self._round.clear()
        self.sent.clear()

    def send_all_again(self, why: Why, now_ns: int) -> None:
        """Every wanted symbol is watched anew on the same connection: the state of each is wanted again."""
        if self._live:
            self._begin_sweep(why, now_ns)

    def limit_reached(self, symbol: str, now_ns: int) -> None:
        """The feed refused `symbol`: nothing is added until a later try, or until something is unwatched."""
        self.sent.pop(symbol, None)
        if symbol in self.wanted:
            self.refused[symbol] = None
        if self._probing or not self._held(now_ns):
            self._probing = False
            self._held_until_ns = now_ns + self._hold_ns
            self._hold_ns = min(self._hold_ns * 2, _LIMIT_RETRY_CAP_NS)

    def unknown(self, symbol: str) -> None:
        """The feed does not know `symbol`: not tried again before the wanted symbols change."""
        self.sent.pop(symbol, None)
        self.refused.pop(symbol, None)
        if symbol in self.wanted:
            self.not_found.add(symbol)

    def next_batch(self, now_ns: int) -> Batch | None:
        """What to send now, or None."""
        if not self._live:
            return None
        if self._removed:
            return Batch(self._take(self._removed), watch=False, refresh=False, why="change")
        if self._added and not self._held(now_ns):
            return self._watch(self._take(self._added), "change")
        if self._sweep:
            return self._next_of_sweep(now_ns)
        if self.refused and not self._held(now_ns):
            symbols = tuple(self.refused)[:_LIMIT_PROBE_SYMBOLS]
            for symbol in symbols:
                del self.refused[symbol]
            # the answer to this try decides about the next
            self._probing = True
            self._held_until_ns = now_ns + _LIMIT_ANSWER_NS
            return self._watch(symbols, "retry")
        return self._periodic(now_ns)

    def take_completed(self) -> bool:
        """True once after each sweep over everything wanted."""
        if self._sweep_open and not self._sweep:
            self._sweep_open = False
            self._first_sweep = False
            return True
        return False

    @property
    def complete(self) -> bool:
        """Every wanted watch was sent on this connection (refused and unknown ones were at least tried)."""
        return self._live and not self._sweep_open

    def _begin_sweep(self, why: Why, now_ns: int) -> None:
        self._sweep = deque(symbol for symbol in self.wanted if symbol not in self.not_found)
        self._sweep_why = why
        self._sweep_open = True
        self._paused_until_ns = 0
        self._round.clear()
        self._round_at_ns = now_ns

    def _take(self, source: dict[str, None]) -> tuple[str, ...]:
        symbols = tuple(source)[: self._batch_max]
        for symbol in symbols:
            del source[symbol]
        return symbols

    def _watch(self, symbols: tuple[str, ...], why: Why, *, refresh: bool = False) -> Batch:
        self.sent.update(dict.fromkeys(symbols))
        return Batch(symbols, watch=True, refresh=refresh, why=why)

    def _next_of_sweep(self, now_ns: int) -> Batch | None:
        if now_ns < self._paused_until_ns:
            return None
        if self._held(now_ns):
            # what stands may be sent again; what does not stand would only be refused
            self.refused.update(
                dict.fromkeys(symbol for symbol in self._sweep if symbol not in self.sent and symbol in self.wanted)
            )
            self._sweep = deque(symbol for symbol in self._sweep if symbol in self.sent)
        room = self._batch_max
        if self._first_sweep and self._rollout:
            room = min(room, max(1, self._rollout[0] - len(self.sent)))
        symbols: list[str] = []
        while self._sweep and len(symbols) < room:
            symbol = self._sweep.popleft()
            if symbol in self.wanted and symbol not in self._added:
                symbols.append(symbol)
        if not symbols:
            return None
        batch = self._watch(tuple(symbols), self._sweep_why, refresh=self._sweep_why in {"server", "session"})
        if self._first_sweep and self._rollout and len(self.sent) >= self._rollout[0]:
            self._rollout.pop(0)
            self._paused_until_ns = now_ns + self._rollout_pause_ns
        return batch

    def _held(self, now_ns: int) -> bool:
        return self._held_until_ns is not None and now_ns < self._held_until_ns

    def _periodic(self, now_ns: int) -> Batch | None:
        """The round over everything sent, spread evenly over `rewatch_ns`, at most one batch a second."""
        if not self._rewatch_ns or not self.sent or now_ns - self._round_at_ns < _SECOND_NS:
            return None
        due = int(len(self.sent) * (now_ns - self._round_at_ns) / self._rewatch_ns)
        if not due:
            return None
        if not self._round:
            self._round = deque(self.sent)
        self._round_at_ns = now_ns
        symbols = [self._round.popleft() for _ in range(min(due, len(self._round), self._batch_max))]
        return self._watch(tuple(symbol for symbol in symbols if symbol in self.sent), "periodic", refresh=True)

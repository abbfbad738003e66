"""Ask a real (or simulated) IQConnect which of the protocol's disputed and unverified facts hold there.

Small conversations on sockets of their own, then some minutes of listening; the account's watches are given back with each socket.
What does not belong here: judging lines (`probe_facts`), showing or keeping the report (the command line).
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from l2_platform.clock import Clock
from l2_platform.errors import FeedError, InputError
from l2_platform.feeds.iqfeed import messages
from l2_platform.feeds.iqfeed.connection import Connection, ConnectionOptions
from l2_platform.feeds.iqfeed.probe_facts import NOT_SEEN, ClockFacts, Finding, Level1Facts, Level2Facts
from l2_platform.feeds.iqfeed.protocol import FeedSession, Phase, SessionOptions, open_session

PROTOCOLS = ("6.2", "6.1", "6.0", "5.2", "5.1", "4.9")
_WAIT_S = 0.02
_STATS_S = 2.5
_ANSWER_S = 1.5
_NEVER = "SYMBOL.THAT.DOES.NOT.EXIST"


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """Where to ask, how, and about which symbols."""

    host: str
    level1_port: int
    level2_port: int
    admin_port: int
    options: SessionOptions
    symbols: tuple[str, ...]
    seconds: float


@dataclass(slots=True)
class ProbeReport:
    """What was found; times in ns UTC."""

    host: str
    symbols: tuple[str, ...]
    started_ns: int
    seconds: float
    findings: list[Finding] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "host": self.host,
            "symbols": list(self.symbols),
            "started_ns": self.started_ns,
            "seconds": self.seconds,
            "findings": [finding.as_dict() for finding in self.findings],
        }


class _Talk:
    """One socket with its conversation; every line is handed to `see` as text with the time of its read."""

    def __init__(
        self, connection: Connection, session: FeedSession, clock: Clock, see: Callable[[str, int], None]
    ) -> None:
        self._connection = connection
        self.session = session
        self._clock = clock
        self._see = see
        self.events: list[messages.Event] = []

    def turn(self) -> None:
        """Read once, look, answer."""
        pieces = self._connection.read()
        now_ns = self._clock.now_ns()
        for piece in pieces:
            data = bytes(piece.data)
            self.session.receive(data)
            for line in data.decode("latin-1").splitlines():
                self._see(line, now_ns)
        self.session.tick(self._clock.monotonic_ns())
        while (event := self.session.next_event()) is not None:
            self.events.append(event)
        self._connection.send(self.session.data_to_send())

    def say(self, line: bytes) -> None:
        """Send a command that is not part of the conversation's own."""
        self._connection.send(line)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Turn until `until` holds (True) or the time is over (False)."""
        end = self._clock.monotonic_ns() + int(seconds * 1e9)
        while self._clock.monotonic_ns() < end:
            self.turn()
            if until():
                return True
        return until()

    def found(self, kind: type[messages.Event]) -> list[Any]:
        """The events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]


def _nothing(line: str, now_ns: int) -> None:
    del line, now_ns


class Probe:
    """One run over all questions; `progress` is told each step's name."""

    def __init__(self, target: ProbeTarget, clock: Clock, progress: Callable[[str], None]) -> None:
        self._target = target
        self._clock = clock
        self._progress = progress

    def run(self) -> ProbeReport:
        """Ask everything; FeedDisconnected when the feed cannot be reached at all."""
        target = self._target
        report = ProbeReport(target.host, target.symbols, self._clock.now_ns(), target.seconds)
        for name, ask in (
            ("protocol versions", self._protocols),
            ("field selection", self._field_selection),
            ("account", self._account),
            ("answers to refused watches", self._refusals),
            ("legacy and price-level watches", self._other_watches),
            ("listening", self._listen),
        ):
            self._progress(name)
            try:
                report.findings += ask()
            except FeedError as error:
                if not report.findings:
                    raise
                report.findings.append(Finding(name, "could not be asked", {"error": error.message}))
        return report

    @contextmanager
    def _talk(
        self, channel: str, options: SessionOptions | None = None, see: Callable[[str, int], None] = _nothing
    ) -> Iterator[_Talk]:
        target = self._target
        port = {"level1": target.level1_port, "depth": target.level2_port, "admin": target.admin_port}[channel]
        wait = ConnectionOptions(read_timeout_s=_WAIT_S)
        with closing(Connection.open(target.host, port, wait, self._clock)) as connection:
            session = open_session(channel, options or target.options)
            talk = _Talk(connection, session, self._clock, see)
            session.start(self._clock.monotonic_ns())
            yield talk

    def _live(self, talk: _Talk) -> bool:
        options = self._target.options
        talk.run(
            (options.handshake_ns + 3 * options.field_ack_ns) / 1e9,
            lambda: talk.session.phase in {Phase.LIVE, Phase.FAILED},
        )
        return talk.session.phase is Phase.LIVE

    def _protocols(self) -> list[Finding]:
        answers = {}
        for version in PROTOCOLS:
            with self._talk("depth", replace(self._target.options, protocol=version)) as talk:
                answers[version] = "accepted" if self._live(talk) else "refused"
                for refused in talk.found(messages.ProtocolRefused):
                    answers[version] = f"refused: {refused.reason}"
        accepted = [version for version, answer in answers.items() if answer == "accepted"]
        return [Finding("protocol versions accepted", ", ".join(accepted) or "none", {"answers": answers})]

    def _field_selection(self) -> list[Finding]:
        answers = {}
        for form, naming in (("without Symbol", "never"), ("with Symbol", "always")):
            with self._talk("level1", replace(self._target.options, name_symbol=naming)) as talk:
                self._live(talk)
                acked = bool(talk.found(messages.FieldsAcked))
                rejected = [event.text for event in talk.found(messages.ErrorLine)]
                answers[form] = {"acknowledged": acked, "errors": rejected}
        working = [form for form, answer in answers.items() if answer["acknowledged"]]
        return [Finding("field selection", " and ".join(working) or "neither form works", answers)]

    def _account(self) -> list[Finding]:
        customer: list[messages.CustomerInfo] = []
        with self._talk("level1") as talk:
            self._live(talk)
            customer = talk.found(messages.CustomerInfo)
        stats: list[messages.Stats] = []
        lines: list[str] = []
        with self._talk(
            "admin", replace(self._target.options, product_id=""), lambda line, _: lines.append(line)
        ) as talk:
            talk.run(_STATS_S, lambda: len(talk.found(messages.Stats)) >= 2)
            stats = talk.found(messages.Stats)
            acked = bool(talk.found(messages.ProtocolAcked))
        limits = {
            "CUST": customer[-1].symbols_max if customer else None,
            "STATS": stats[-1].symbols_max if stats else None,
        }
        told = sorted({limit for limit in limits.values() if limit})
        login = ("connected" if stats[-1].connected else "not connected") if stats else NOT_SEEN
        return [
            Finding("symbol limit", " or ".join(map(str, told)) or NOT_SEEN, limits),
            Finding("service", customer[-1].service if customer else NOT_SEEN),
            Finding("login", login),
            Finding("SET PROTOCOL on the admin port", "answered" if acked else "not answered"),
        ]

    def _refusals(self) -> list[Finding]:
        answers = {}
        for channel in ("level1", "depth"):
            with self._talk(channel) as talk:
                if self._live(talk):
                    talk.session.watch([_NEVER])
                    talk.run(_ANSWER_S)
                answers[channel] = "n" if talk.found(messages.SymbolNotFound) else NOT_SEEN
        same = set(answers.values()) == {"n"}
        return [Finding("answer to an unknown symbol", "n on both ports" if same else str(answers), answers)]

    def _other_watches(self) -> list[Finding]:
        found = []
        symbols = self._target.symbols
        for fact, lines in (
            ("legacy w on Level 2", [messages.command("w" + symbol) for symbol in symbols]),
            ("WOR on Level 2", [messages.command("WOR", symbol) for symbol in symbols]),
            ("WPL on Level 2", [messages.command("WPL", symbol) for symbol in symbols]),
        ):
            facts = Level2Facts()
            with self._talk("depth", see=facts.see) as talk:
                if self._live(talk):
                    talk.say(b"".join(lines))
                    talk.run(_ANSWER_S)
                errors = [event.text for event in talk.found(messages.ErrorLine)]
            shapes = {symbol: facts.shape(symbol) for symbol in symbols}
            answer = "refused" if errors else ", ".join(sorted(set(shapes.values())))
            found.append(Finding(fact, answer, {"symbols": shapes, "errors": errors[:3]}))
        return found

    def _listen(self) -> list[Finding]:
        level1, level2 = Level1Facts(), Level2Facts()
        clocks = {"Level 1": ClockFacts(), "Level 2": ClockFacts()}
        limits: list[str] = []
        with (
            self._talk("level1", see=lambda line, _: level1.see(line)) as first,
            self._talk("depth", see=level2.see) as second,
        ):
            talks = (("Level 1", first), ("Level 2", second))
            for _, talk in talks:
                if self._live(talk):
                    talk.session.watch(self._target.symbols)
            end = self._clock.monotonic_ns() + int(self._target.seconds * 1e9)
            while self._clock.monotonic_ns() < end:
                for name, talk in talks:
                    talk.turn()
                    limits += self._take(talk, clocks[name], level1)
        found = level1.findings() + level2.findings()
        for name, clock_facts in clocks.items():
            found += clock_facts.findings(name)
        return [*found, Finding("watches refused for the limit", str(len(limits)), {"symbols": limits[:20]})]

    def _take(self, talk: _Talk, clock_facts: ClockFacts, level1: Level1Facts) -> list[str]:
        """Use up the events of one turn; the symbols refused for the limit."""
        refused = []
        now_ns = self._clock.now_ns()
        for event in talk.events:
            if isinstance(event, messages.FeedClock):
                clock_facts.see(event.text, now_ns)
            elif isinstance(event, messages.FieldsAcked):
                level1.names = event.names
            elif isinstance(event, messages.SymbolLimit):
                refused.append(event.symbol)
        talk.events.clear()
        return refused


def run_probe(target: ProbeTarget, clock: Clock, progress: Callable[[str], None]) -> ProbeReport:
    """Ask the feed of `target` everything; takes `target.seconds` and about 20 s more."""
    if not target.symbols:
        raise InputError("the probe needs at least one symbol: --symbols AAPL,MSFT")
    return Probe(target, clock, progress).run()

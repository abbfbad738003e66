"""Clean days and planted ones, audited one after the other in one warehouse.

What does not belong here: the figure's table (the package), kinds, what counts as found (judging.py).
"""

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
from clickhouse_connect.driver.client import Client

from benchmarks.figure import Context
from benchmarks.recall import absent, prints, quoted, rows
from benchmarks.recall.judging import Share, alarms, finder, judged
from benchmarks.recall.market import SECOND, STREAMS, Day, Random, make_day
from benchmarks.recall.planting import KINDS, Kind, Plant
from benchmarks.recall.tables import put, remove
from benchmarks.store import warehouse
from l2_platform.clock import Clock
from l2_platform.quality.audit import audit_date
from l2_platform.quality.findings import AuditResult
from l2_platform.settings import Settings

MODULES: Final = (prints, quoted, rows, absent)
"""Whose import registers the kinds."""
APART: Final = 900 * SECOND
"""Faults of whole streams are so far from each other, that each is found on its own."""
FINDINGS_MAX: Final = 20_000
"""A planted day has more wrong than any real one: the worst thousand of a check would be those of a few plants."""


@dataclass(slots=True)
class Tally:
    """What came of all audits."""

    planted: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    finders: dict[str, Counter[str]] = field(default_factory=dict)
    missed: list[Plant] = field(default_factory=list)
    false: list[tuple[date, str, str]] = field(default_factory=list)
    """(date, check, symbol) of a clean day."""
    cells: int = 0
    """Check × symbol × day of the clean days."""
    audits: int = 0
    rows: int = 0

    def note(self, plants: Sequence[Plant], result: AuditResult) -> None:
        """A planted day."""
        self.audits += 1
        for plant in plants:
            name = plant.kind.name
            self.planted[name] += 1
            check = finder(plant, result)
            if check:
                self.found[name] += 1
                self.finders.setdefault(name, Counter())[check] += 1
            else:
                self.missed.append(plant)

    def note_clean(self, day: Day, result: AuditResult) -> None:
        """A clean one."""
        self.audits += 1
        flagged = alarms(result)
        self.false += [(day.hours.session_date, check, symbol) for check, symbol in sorted(flagged)]
        # what concerns a stream, not a symbol, is one more
        self.cells += judged(result) * (len(day.symbols) + 1)

    def add(self, other: "Tally") -> None:
        """Those of other dates."""
        self.planted += other.planted
        self.found += other.found
        for name, finders in other.finders.items():
            self.finders.setdefault(name, Counter()).update(finders)
        self.missed += other.missed
        self.false += other.false
        self.cells += other.cells
        self.audits += other.audits
        self.rows += other.rows

    def of(self, name: str) -> Share:
        """Recall of a kind."""
        return Share(self.found[name], self.planted[name])

    @property
    def alarm_rate(self) -> Share:
        """False alarms."""
        return Share(len(self.false), self.cells)


@dataclass(slots=True)
class Course:
    """Audits in one warehouse."""

    settings: Settings
    client: Client
    clock: Clock
    seed: int
    tally: Tally = field(default_factory=Tally)
    said: Callable[[str], object] = lambda _: None

    def __post_init__(self) -> None:
        quality = self.settings.quality.model_copy(update={"findings_max": FINDINGS_MAX})
        session = self.settings.session.model_copy(update={"calendar": "XNYS"})
        self.settings = self.settings.model_copy(update={"session": session, "quality": quality})

    def store_history(self, dates: Sequence[date], symbols: int) -> None:
        """Dates that are not judged: what is usual."""
        for session_date in dates:
            put(self.client, make_day(self.seed, session_date, symbols), ("trades", "quotes", "depth_updates"))

    def judge(self, session_date: date, symbols: int, rounds: int) -> None:
        """Planted `rounds` times into symbols and once into streams, then clean."""
        day = make_day(self.seed, session_date, symbols)
        for turn in range(rounds):
            self.judge_planted(day, kinds_of("symbol"), turn)
        self.judge_planted(day, kinds_of("stream"), 999)
        self.judge_clean(day)

    def judge_clean(self, day: Day) -> None:
        """Audit it as it is; it stays in the warehouse."""
        self.tally.note_clean(day, self._audit(day))

    def judge_planted(self, day: Day, kinds: Sequence[Kind], turn: int) -> None:
        """Plant one of each, audit with the checks that may find them, and take the day out again."""
        planted = day.copy()
        plants = list(plant_all(planted, kinds, self.seed, turn))
        self.tally.note(plants, self._audit(planted, sorted({check for kind in kinds for check in kind.checks})))
        remove(self.client, day.hours.session_date)

    def _audit(self, day: Day, only: Sequence[str] = ()) -> AuditResult:
        put(self.client, day)
        self.tally.rows += sum(len(frame) for frame in day.tables.values())
        result = audit_date(self.settings, day.hours.session_date, self.clock, only)
        lost = [f"{check.name}: {check.message}" for check in result.checks if check.outcome == "not_evaluated" and check.severity]
        if lost:
            raise AssertionError(f"not judged: {lost}")
        self.said(f"{day.hours.session_date} audit {self.tally.audits + 1}")
        return result


@dataclass(frozen=True, slots=True)
class Part:
    """Dates that one process judges."""

    scratch: Path
    history: Sequence[date]
    dates: Sequence[date]
    symbols: int
    rounds: int
    seed: int


def run_part(part: Part) -> Tally:
    """Judge its dates in a warehouse of its own."""
    part.scratch.mkdir(parents=True)
    ctx = Context(part.scratch)
    with warehouse(ctx) as (settings, _sink, client):
        course = Course(settings, client, ctx.clock, part.seed)
        course.store_history(part.history, part.symbols)
        for session_date in part.dates:
            course.judge(session_date, part.symbols, part.rounds)
    return course.tally


def plant_all(day: Day, kinds: Sequence[Kind], seed: int, turn: int) -> Iterator[Plant]:
    """Each kind in a symbol of its own; faults of streams in each stream, at times that are apart."""
    free = list(day.symbols)
    random_of(seed, day, turn).shuffle(free)
    for kind in kinds:
        if kind.scope == "symbol":
            rng = random_of(seed, day, turn, kind.name)
            for symbol in free:
                span = kind.plant(day, symbol, rng)
                if span is not None:
                    yield Plant(kind, symbol, span)
                    free.remove(symbol)
                    break
    taken: list[list[tuple[int, int]]] = [[] for _ in range(STREAMS)]
    for kind in kinds:
        if kind.scope == "stream":
            rng = random_of(seed, day, turn, kind.name)
            for number, spans in enumerate(taken):
                while True:
                    trial = day.copy()
                    span = kind.plant(trial, str(number), rng)
                    assert span is not None
                    if all(span[1] + APART < begin or end + APART < span[0] for begin, end in spans):
                        break
                day.tables = trial.tables
                spans.append(span)
                yield Plant(kind, str(number), span)


def random_of(seed: int, day: Day, turn: int, kind: str = "") -> Random:
    """For what is planted: each kind has numbers of its own, which no other kind changes."""
    return np.random.default_rng([seed, day.hours.session_date.toordinal(), turn, 99, zlib.crc32(kind.encode())])


def kinds_of(scope: str) -> list[Kind]:
    """All of a scope, by name."""
    return [KINDS[name] for name in sorted(KINDS) if KINDS[name].scope == scope]

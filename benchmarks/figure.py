"""What a figure is: a registered function that measures one thing and returns rows, plots, targets and what limits it.

A figure is one function in one file of this folder:

    @figure("decode-depth", title="Decode depth lines", unit="M lines/s", baseline="a plain Python loop")
    def decode_depth(ctx: Context) -> Result:
        '''What is measured and how; this text is printed on the page of results.'''
        seconds = ctx.repeat(lambda: decoder.decode(block))
        return Result(rows=[{"layout": "order", "M lines/s": seconds.rate(rows / 1e6)}], limit="one core: …")

Conventions that the report and the comparison rely on: in a row, `str` and `int` values are *labels* (they name the row), a `Spread` is
*measured several times* and a `float` *once*. Only spreads are compared between revisions. What does not belong here: how results
are stored, printed or drawn (results.py, report.py, drawing.py).
"""

import importlib
import pkgutil
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from l2_platform.clock import Clock, SystemClock

Scale = Literal["smoke", "full"]
Better = Literal["more", "less"]
T = TypeVar("T")

PASSES = 7
"""Timed passes of a repeated measurement at full scale, after one that compiles and warms."""


@dataclass(frozen=True, slots=True)
class Spread:
    """One quantity measured several times."""

    values: tuple[float, ...]
    """In the order they were measured; at least one."""
    better: Better = "more"
    """Which direction is an improvement."""

    @classmethod
    def of(cls, values: Iterable[float], better: Better = "more") -> "Spread":
        """From any numbers."""
        return cls(tuple(float(value) for value in values), better)

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The smallest."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The greatest."""
        return max(self.values)

    def rate(self, amount: float) -> "Spread":
        """`amount` a second, when these are seconds."""
        return Spread(tuple(amount / value for value in self.values), "more")

    def times(self, factor: float, better: Better | None = None) -> "Spread":
        """Each value × `factor`."""
        return Spread(tuple(value * factor for value in self.values), better or self.better)

    def over(self, other: "Spread") -> float:
        """Ratio of the medians, this ÷ other."""
        return self.median / other.median


Value = str | int | float | Spread
Row = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Target:
    """One number to hold, and whether it was held in this run."""

    what: str
    """As it is promised: "≥ 8 M depth lines/s"."""
    measured: str
    """What came out, with its unit."""
    reached: bool
    why: str = ""
    """When missed: the measured limit that stands in the way."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line (or one stack of bars) of a plot."""

    label: str
    x: Sequence[float | str]
    y: Sequence[float]
    low: Sequence[float] = ()
    """With `high`: the band of the spread around `y`; empty for none."""
    high: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing of numbers; saved with the figure and drawn by `report`."""

    name: str
    """Short, unique within the figure: the file is `<figure>-<name>.svg`."""
    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    kind: Literal["lines", "bars", "stack"] = "lines"
    """`bars`: series beside each other for each x; `stack`: on top of each other."""
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What a figure measured."""

    rows: Sequence[Row]
    notes: Sequence[str] = ()
    """Sentences under the table: what the reader must know to judge the numbers."""
    plots: Sequence[Plot] = ()
    targets: Sequence[Target] = ()
    more: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    """Further tables by their titles; not compared between revisions."""
    limit: str = ""
    """What limits it (CPU, memory bandwidth, disk, engine) and how far from that limit it is."""


class NotMeasurable(Exception):
    """The figure cannot run here (a tool or data is missing); the message says what is needed."""


@dataclass(slots=True)
class Context:
    """What a figure gets: time, room, size and data."""

    scratch: Path
    """An empty folder on a real disk, deleted afterwards."""
    scale: Scale = "full"
    """`smoke`: the smallest run that still goes through all of the code, in about a second."""
    market_data: Path | None = None
    """The folder with recorded market data, when it is there."""
    clock: Clock = field(default_factory=SystemClock)
    options: dict[str, str] = field(default_factory=dict)
    """From `--set key=value`; a figure says in its docstring which ones it knows."""
    limits: dict[str, float] = field(default_factory=dict)
    """Of this machine, from benchmarks/machine.py: `copy_gb_s`, `disk_mb_s`, `fsync_ms`; empty when not measured."""

    @property
    def is_smoke(self) -> bool:
        """Whether this is the tiny run."""
        return self.scale == "smoke"

    def pick(self, smoke: T, full: T) -> T:
        """The value for this scale."""
        return smoke if self.is_smoke else full

    def repeat(
        self,
        work: Callable[[], Any],
        *,
        passes: int = PASSES,
        prepare: Callable[[], Any] | None = None,
        warm: int = 1,
    ) -> Spread:
        """Seconds of `work`, `passes` times after `warm` untimed ones (smoke: once); `prepare` runs untimed before each."""
        seconds = []
        passes = 1 if self.is_smoke else passes
        for turn in range(warm + passes):
            if prepare is not None:
                prepare()
            started = self.clock.monotonic_ns()
            work()
            taken = (self.clock.monotonic_ns() - started) / 1e9
            if turn >= warm:
                seconds.append(max(taken, 1e-9))
        return Spread(tuple(seconds), "less")


@dataclass(frozen=True, slots=True)
class Figure:
    """A registered measurement."""

    name: str
    title: str
    measure: Callable[[Context], Result]
    unit: str
    baseline: str
    """What it is compared with in the same run; empty when nothing is."""
    long: bool
    """Takes minutes: left out unless named or `--long`."""
    order: int
    """Place on the page; equal ones by name."""
    text: str
    """The docstring: what is measured, and how."""


FIGURES: dict[str, Figure] = {}
"""Every figure by name, filled by importing the modules of this folder (`discover`)."""


def figure(
    name: str, *, title: str, unit: str = "", baseline: str = "", long: bool = False, order: int = 50
) -> Callable[[Callable[[Context], Result]], Callable[[Context], Result]]:
    """Register a function as the figure `name` (lower case, words joined by `-`)."""

    def register(measure: Callable[[Context], Result]) -> Callable[[Context], Result]:
        if name in FIGURES and FIGURES[name].measure.__module__ != measure.__module__:
            msg = f"two figures are named {name}"
            raise ValueError(msg)
        text = " ".join((measure.__doc__ or "").split())
        FIGURES[name] = Figure(name, title, measure, unit, baseline, long, order, text)
        return measure

    return register


def discover() -> dict[str, Figure]:
    """Import every module of this folder (packages by their `__init__`); the figures in the order of the page."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if not module.name.startswith("_"):
            importlib.import_module(f"benchmarks.{module.name}")
    return dict(sorted(FIGURES.items(), key=lambda item: (item[1].order, item[0])))

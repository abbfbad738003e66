"""One run of the whole path under an open-loop load: market, collectors, deliveries and warehouse as processes of their own.

The load runs `warm_s` before the measured seconds begin. Before and after it the market stands still, so that what it made in
between can be counted against the rows. What does not belong here: which loads a figure wants.
"""

import os
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.figure import Context
from benchmarks.passage import Passage, check_complete, measure_passage, part_seconds
from benchmarks.stack import COLLECTORS, STILL, Stack

LAG_LINES_S: Final = 1.0
"""A delivery that is further behind than this at the end, in seconds of the load, does not keep up."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A load."""

    symbols: int
    rate: float
    """Messages a second of depth and Level 1 together."""
    seconds: float
    warm_s: float = 5.0
    variables: dict[str, str] = field(default_factory=dict)
    """Settings of the processes."""
    traced: bool = True
    memory_every_s: float = 1.0
    beside: Callable[[Stack], AbstractContextManager[object]] = nullcontext
    """Other work during the measured seconds, which it begins and ends."""


@dataclass(slots=True)
class Load:
    """What came of it."""

    wish: Wish
    records: int = 0
    """Lines that reached every sink within the measured seconds."""
    seconds: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    """Process → cores."""
    parts: dict[str, dict[str, tuple[float, float, float]]] = field(default_factory=dict)
    """Process → part → (calls, wall s, CPU s)."""
    rss_mb: list[dict[str, float]] = field(default_factory=list)
    """Memory of each process from time to time, beginning with the measured seconds."""
    behind_ms: float = 0.0
    """How late the market was at the end."""
    lag: dict[str, float] = field(default_factory=dict)
    """Delivery → seconds of load that it was behind at the end."""
    drained_s: float = 0.0
    lost: int = 0
    duplicated: int = 0
    passage: Passage | None = None

    @property
    def rate(self) -> float:
        """Records a second that reached every sink."""
        return self.records / self.seconds

    @property
    def kept_up(self) -> bool:
        """Nothing was left behind."""
        return max(self.lag.values(), default=0.0) <= LAG_LINES_S


def stack_for(ctx: Context, name: str, wish: Wish) -> Stack:
    """A stack in the scratch folder with the kernel cache of this process."""
    cache = os.environ.get("NUMBA_CACHE_DIR")
    home = ctx.scratch / name
    variables = {"L2_SIMULATOR__CLIENT_QUEUE_BYTES_MAX": str(1 << 30), **wish.variables}
    stack = Stack(home, symbols=wish.symbols, rate=STILL + 1, variables=variables, traced=wish.traced)
    if cache is not None:
        (home / "cache").mkdir(parents=True, exist_ok=True)
        (home / "cache" / "numba").symlink_to(Path(cache).parent, target_is_directory=True)
    return stack


def run_load(ctx: Context, name: str, wish: Wish) -> Load:
    """Run it from a cold start to an orderly end; everything is deleted afterwards."""
    load = Load(wish)
    with stack_for(ctx, name, wish) as stack:
        stack.compile()
        stack.start_all()
        stack.until_still()
        still_ns, made = ctx.clock.now_ns(), stack.made()
        stack.set_rate(wish.rate)
        time.sleep(wish.warm_s)
        with wish.beside(stack):
            begin_ns = _measure(ctx, stack, load)
            end_ns = ctx.clock.now_ns()
        load.behind_ms = float(stack.market()["behind_ms"])
        stack.until_still()
        made = {stream: count - made[stream] for stream, count in stack.made().items()}
        stack.stop(*COLLECTORS)
        load.drained_s = stack.until_drained(600)
        stack.stop(*stack.deliveries)
        load.lost, load.duplicated = check_complete(stack, made, still_ns)
        if wish.traced:
            load.passage = measure_passage(stack, begin_ns, end_ns)
            load.parts = part_seconds(stack, (*COLLECTORS, *stack.deliveries), begin_ns, end_ns)
        stack.stop_all()
    shutil.rmtree(ctx.scratch / name, ignore_errors=True)
    return load


def _measure(ctx: Context, stack: Stack, load: Load) -> int:
    """The measured seconds; when they began."""
    wish = load.wish
    begin_ns, cpu = ctx.clock.now_ns(), stack.cpu_s()
    before = {name: stack.delivered(name) for name in stack.deliveries}
    while (left := wish.seconds - (ctx.clock.now_ns() - begin_ns) / 1e9) > 0:
        load.rss_mb.append(stack.rss_mb())
        time.sleep(min(wish.memory_every_s, left))
    load.seconds = (ctx.clock.now_ns() - begin_ns) / 1e9
    after = {name: stack.delivered(name) for name in stack.deliveries}
    load.records = min(after[name] - before[name] for name in stack.deliveries)
    load.cpu = {name: (value - cpu[name]) / load.seconds for name, value in stack.cpu_s().items()}
    load.lag = {name: max(0.0, (stack.received() - after[name]) / wish.rate) for name in stack.deliveries}
    load.rss_mb.append(stack.rss_mb())
    return begin_ns

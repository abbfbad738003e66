"""`python -m tests.faults.soak --minutes 30`: everything runs, and something breaks every few seconds, at random and by a seed.

Real processes at a stated rate: kills, drops, half-open links, stalls, garbage, pieces, doubles, slow, cut and refused sinks, hangs,
changes of symbols. No process is killed in the last third, so that its memory says something. In the end the ledger is closed over
journal, tables and files, memory has a slope, descriptors and threads are back. What does not belong here: the single faults (their
own files), the checks (`checkers`, `sums`).
"""

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import NUMBA_CACHE
from tests.faults.checkers import Account, close_ledger, gaps_of_warehouse, journaled
from tests.faults.proxy import FaultProxy
from tests.faults.stack import (
    COLLECTORS,
    DELIVERIES,
    DEPTH,
    DEPTH_COLLECTOR,
    LEVEL1,
    LEVEL1_COLLECTOR,
    Stack,
    Usage,
    freeze,
    proxied,
    simulated,
    stack_of,
)
from tests.faults.sums import stored_depth, stored_files, stored_level1

WORKERS = (*COLLECTORS, *DELIVERIES, "warehouse")
SLOPE_MB_PER_HOUR_MAX = 64.0
GROWTH_BYTES = 256 << 20
ENGINE_THREADS_MAX = 400
"""The engine's pool follows the most that ran at once (requests, merges, cleaning) and never shrinks below 1,000 idle ones."""
WARM_S = 20.0
CHANNELS = {DEPTH_COLLECTOR: "depth", LEVEL1_COLLECTOR: "level1"}


@dataclass
class Soak:
    """One run; `faults` counts what was done."""

    stack: Stack
    proxies: dict[str, FaultProxy]
    chance: random.Random
    symbols: int
    say: Callable[[str], None]
    faults: Counter[str] = field(default_factory=Counter)
    samples: dict[tuple[str, int], list[tuple[float, Usage]]] = field(default_factory=dict)
    """(worker, pid) → what it used, by time."""

    def sample(self) -> None:
        """Note what each worker uses now."""
        now = time.monotonic()
        for name in WORKERS:
            pid = self.stack.processes[name].pid
            self.samples.setdefault((name, pid), []).append((now, self.stack.usage(name)))

    def wait(self, seconds: float) -> None:
        """Let it run, and look once a second."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(1.0, left))
            self.sample()

    def break_something(self, kills: bool) -> str:
        """One fault, chosen at random; what it was."""
        choices: list[Callable[[], None]] = [
            self.drop, self.cut, self.half_open, self.stall, self.garbage, self.pieces, self.slow_sink, self.cut_sink,
            self.refuse_sink, self.hang, self.change_symbols, self.upstream,
        ]  # fmt: skip
        if kills:
            choices += [self.kill] * 4
        chosen = self.chance.choice(choices)
        self.faults[chosen.__name__] += 1
        chosen()
        return chosen.__name__

    def kill(self) -> None:
        """SIGKILL a worker and start it again."""
        self.stack.kill(self.chance.choice(WORKERS))

    def drop(self) -> None:
        """The feed ends a link."""
        self.stack.market("drop", channel=self._channel(), how=self.chance.choice(("fin", "rst", "mid_line")))

    def cut(self) -> None:
        """The network ends a link."""
        self.proxies[self.chance.choice(COLLECTORS)].drop(self.chance.choice(("fin", "rst")))

    def half_open(self) -> None:
        """A link falls silent until it is given up."""
        self._silent(6.0)

    def stall(self) -> None:
        """A link falls silent and goes on."""
        self._silent(1.0 + self.chance.random())

    def garbage(self) -> None:
        """Lines of random bytes, one of them longer than a line may be."""
        self.stack.market("garbage", channel=self._channel(), lines=self.chance.randint(1, 20), bytes=self.chance.choice((9, 200, 70_000)))

    def pieces(self) -> None:
        """Writes in small pieces, and lines twice."""
        channel = self._channel()
        self.stack.market("split", channel=channel, bytes=self.chance.randint(3, 500))
        self.stack.market("duplicate", channel=channel, lines=50)
        self.wait(1)
        self.stack.market("split", channel=channel, bytes=0)

    def slow_sink(self) -> None:
        """The warehouse answers late and takes little."""
        faults = self.proxies["deliver-clickhouse"].up
        faults.latency_s, faults.bytes_per_s = 0.3, 200_000
        self.wait(4)
        faults.latency_s, faults.bytes_per_s = 0.0, 0.0

    def cut_sink(self) -> None:
        """Inserts are done and nobody hears of it."""
        self.proxies["deliver-clickhouse"].cut_before_reply(self.chance.randint(1, 3))

    def refuse_sink(self) -> None:
        """The warehouse cannot be reached."""
        proxy = self.proxies["deliver-clickhouse"]
        proxy.refuse()
        proxy.drop("rst")
        self.wait(3)
        proxy.refuse(False)

    def hang(self) -> None:
        """A worker stops for some seconds."""
        name = self.chance.choice(WORKERS)
        freeze(self.stack, name)
        self.wait(self.chance.uniform(0.5, 5))
        self.stack.signal(name, signal.SIGCONT)

    def change_symbols(self) -> None:
        """Some symbols leave, some come."""
        names = simulated(self.symbols)
        self.stack.symbols(sorted(self.chance.sample(names, self.chance.randint(self.symbols // 2, self.symbols))))

    def upstream(self) -> None:
        """The feed loses its own source for a moment."""
        self.stack.market("server_disconnected")
        self.wait(1)
        self.stack.market("server_connected")

    def _channel(self) -> str:
        return self.chance.choice(tuple(CHANNELS.values()))

    def _silent(self, seconds: float) -> None:
        faults = self.proxies[self.chance.choice(COLLECTORS)]
        faults.up.stalled = faults.down.stalled = True
        self.wait(seconds)
        faults.up.stalled = faults.down.stalled = False

    def slopes(self) -> dict[str, tuple[float, float]]:
        """Worker → (minutes, MB an hour) of its last life, warm-up left out."""
        found = {}
        for name in WORKERS:
            life = self.samples.get((name, self.stack.processes[name].pid), [])
            points = [(at, usage.rss_bytes / 1e6) for at, usage in life if at - life[0][0] >= WARM_S]
            if len(points) >= 3:
                found[name] = (points[-1][0] - points[0][0]) / 60, slope(points) * 3600
        return found


def slope(points: list[tuple[float, float]]) -> float:
    """Least squares, unit per second."""
    middle = sum(at for at, _ in points) / len(points)
    mean = sum(value for _, value in points) / len(points)
    spread = sum((at - middle) ** 2 for at, _ in points)
    return sum((at - middle) * (value - mean) for at, value in points) / spread if spread else 0.0


def run(soak: Soak, seconds: float, every_s: float) -> None:
    """Break things for so long."""
    begun, told = time.monotonic(), 0.0
    while (gone := time.monotonic() - begun) < seconds:
        soak.wait(soak.chance.uniform(0.5, 1.5) * every_s)
        what = soak.break_something(kills=gone < seconds * 2 / 3)
        if gone - told >= min(60, seconds / 5):
            told = gone
            lines = {name: soak.stack.number(name, "lines") for name in COLLECTORS}
            lag = {name: soak.stack.number(name, "lag_lines") for name in DELIVERIES}
            soak.say(f"{gone / 60:5.1f} min  {sum(soak.faults.values()):4} faults, last {what}; lines {lines}, lag {lag}")


def settle(soak: Soak) -> dict[str, Usage]:
    """Wait until everything is live again and at rest; what is used then."""
    stack = soak.stack
    for proxy in soak.proxies.values():
        proxy.up.stalled = proxy.down.stalled = False
    stack.live(*COLLECTORS, *DELIVERIES, seconds=300)

    def caught_up() -> bool:
        return sum(stack.number(name, "lag_lines") or 0 for name in DELIVERIES) < 10_000

    stack.until("deliveries caught up", caught_up, 900)
    soak.wait(5)
    return {name: stack.usage(name) for name in WORKERS}


def close(soak: Soak) -> list[Account]:
    """Stop everything in order and account for every line."""
    stack, home = soak.stack, soak.stack.home
    for name in COLLECTORS:
        stack.stop(name)
    stack.close_links()
    found = {stream: journaled(home, stream) for stream in (DEPTH, LEVEL1)}

    def drained() -> bool:
        told = [stack.number(name, "streams") or {} for name in DELIVERIES]
        return all(all(streams.get(stream, {}).get("seq", 0) >= one.last_seq for stream, one in found.items()) for streams in told)

    stack.until("deliveries at the journal's end", drained, 900)
    for name in DELIVERIES:
        stack.stop(name)
    accounts = [close_ledger(stack, stream, gaps_of_warehouse(home, stream))[0] for stream in (DEPTH, LEVEL1)]
    accounts.append(stored_depth(home, DEPTH, found[DEPTH].parts))
    accounts += stored_level1(home, LEVEL1, found[LEVEL1].parts)
    return [*accounts, *stored_files(home)]


def wrong(
    soak: Soak, before: dict[str, Usage], after: dict[str, Usage], slopes: dict[str, tuple[float, float]],
    accounts: list[Account],
) -> list[str]:  # fmt: skip
    """Everything that is not as it must be, in words; prints the table."""
    found = []
    soak.say("\nfaults: " + ", ".join(f"{name} {count}" for name, count in sorted(soak.faults.items())))
    soak.say(f"{'':16}{'sent':>12}{'stored':>12}{'missing':>9}{'extra':>7}{'dup':>5}{'disorder':>10}{'unexplained':>13}")
    for one in accounts:
        five = (one.missing, one.extra, one.duplicate, one.disorder, one.unexplained)
        soak.say(f"{one.name:16}{one.sent:12,}{one.stored:12,}{five[0]:9}{five[1]:7}{five[2]:5}{five[3]:10}{five[4]:13}")
        if any(five):
            found.append(f"{one}")
    for name in WORKERS:
        minutes, per_hour = slopes.get(name, (0.0, 0.0))
        a, b = before[name], after[name]
        soak.say(
            f"{name:28} memory {a.rss_bytes >> 20} → {b.rss_bytes >> 20} MiB, {per_hour:+.1f} MB/h over {minutes:.1f} min; "
            f"descriptors {a.descriptors} → {b.descriptors}; threads {a.threads} → {b.threads}"
        )
        if b.rss_bytes - a.rss_bytes > GROWTH_BYTES:
            found.append(f"{name} grew by {(b.rss_bytes - a.rss_bytes) >> 20} MiB")
        # a few minutes are too short for a slope that means anything
        if minutes >= 5 and name in COLLECTORS and per_hour > SLOPE_MB_PER_HOUR_MAX:
            found.append(f"{name} grows by {per_hour:.0f} MB/h")
        # the engine keeps its idle threads for the next peak, and holds three descriptors for each
        pooled = max(0, b.threads - a.threads) if name == "warehouse" else 0
        if b.threads > (ENGINE_THREADS_MAX if pooled else a.threads + 2):
            found.append(f"{name} keeps threads")
        if b.descriptors > a.descriptors + 3 * pooled + (64 if name == "warehouse" else 8):
            found.append(f"{name} keeps descriptors")
    return found


def soaked(
    folder: Path, *, minutes: float, rate: float, symbols: int, every_s: float, seed: int, say: Callable[[str], None]
) -> list[str]:
    """Run it in `folder`; everything that is wrong."""
    settings = {"simulator__symbols": symbols, "simulator__rate": rate, "jsonl__l2_interval_ms": 100, "feed__reconnect_cap_s": 2}
    with stack_of(folder, NUMBA_CACHE, **settings) as stack, ExitStack() as proxies:
        stack.symbols(simulated(symbols))
        for name in ("simulator", "warehouse"):
            stack.start(name)
            stack.live(name)
        names = (*COLLECTORS, "deliver-clickhouse")
        soak = Soak(stack, {n: proxies.enter_context(proxied(stack, n)) for n in names}, random.Random(seed), symbols, say)
        stack.start(*COLLECTORS, *DELIVERIES)
        before = settle(soak)
        say(f"seed {seed}: {minutes:g} min at {rate:g} a second over {symbols} symbols, a fault every {every_s:g} s")
        run(soak, minutes * 60, every_s)
        after, slopes = settle(soak), soak.slopes()
        return wrong(soak, before, after, slopes, close(soak))


def main() -> int:
    """Run as asked on the command line; 0 when nothing is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=5000, help="messages a second of both services")
    parser.add_argument("--symbols", type=int, default=200)
    parser.add_argument("--every", type=float, default=10, help="seconds between two faults, on average")
    parser.add_argument("--seed", type=int, default=None, help="default: by the time")
    chosen = parser.parse_args()
    seed = chosen.seed if chosen.seed is not None else time.monotonic_ns() % 1_000_000

    def say(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory(prefix="l2-soak-") as folder:
        found = soaked(
            Path(folder), minutes=chosen.minutes, rate=chosen.rate, symbols=chosen.symbols, every_s=chosen.every, seed=seed, say=say
        )
    say("\n".join(f"WRONG: {text}" for text in found) or "nothing is wrong")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())

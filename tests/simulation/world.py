"""One run: a collector (and its standby), a delivery, a sealer, a market and a warehouse, with overlapping faults that a seed chooses.

Everything between socket and insert is the product's own code. The director (the caller's thread) starts and restarts processes,
begins and ends faults, cuts the power, and asks the oracle at the end. `run(seed)` twice gives the same trace.
"""

import atexit
import hashlib
import io
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from l2_platform.collectors.collector import Collector
from l2_platform.collectors.outside import Outside
from l2_platform.delivery.checkpoint import CheckpointStore
from l2_platform.delivery.delivery import make_pipeline
from l2_platform.delivery.follower import Follower, JournalSource
from l2_platform.errors import L2Error, SinkError
from l2_platform.journal.durable import read_durable
from l2_platform.journal.sealer import seal_closed
from l2_platform.settings import Settings
from l2_platform.sinks.clickhouse import ClickHouseSink
from tests.simulation.disk import Disk, SimCalls, SimLocks
from tests.simulation.network import Market, SimNetwork
from tests.simulation.oracle import Oracle, Violation
from tests.simulation.schedule import NS, InTurn, Process, RunawayError, Schedule, SimClock, SimThreads
from tests.simulation.warehouse import SimClient, Warehouse

STREAM = "iqfeed-depth-0"
NOON = 1_704_204_000 * NS
"""2024-01-02 14:00 UTC."""
MIDNIGHT = 1_704_240_000 * NS
FAULTS_FROM_S, FAULTS_TO_S = 2.0, 12.0
UNSYNCED_MAX = 12_000
HEAL_S = 60.0
"""Everything is well again within this time after the last fault, or the run is a failure."""


@lru_cache(maxsize=1)
def scratch() -> Path:
    """A folder in memory for this process."""
    shared = Path("/dev/shm")
    made = tempfile.mkdtemp(prefix=f"l2-simulation-{os.getpid()}-", dir=shared if shared.is_dir() else None)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


@lru_cache(maxsize=1)
def settings() -> Settings:
    chosen = Settings(
        home=scratch() / "home", streams=(STREAM,),
        feed={"silence_s": 3.0, "suspect_s": 1.5, "reconnect_cap_s": 4.0, "connect_timeout_s": 2.0, "host": "feed"},
        simulator={"symbols": 4}, session={"calendar": "always_open"},
        journal={"segment_s_max": 2.5, "line_bytes_max": 1024, "recv_bytes": 4096, "block_bytes": 4096, "compression_level": 1},
        delivery={"checkpoint_s": 2.0, "retry_cap_s": 2.0, "flush_ms": 150}, disk={"check_s": 2.0, "reserve_bytes": 1 << 20},
        log={"level": "ERROR"},
    )  # fmt: skip
    # Below what a user may set: so that small runs reach it.
    return chosen.model_copy(update={"journal": chosen.journal.model_copy(update={"unsynced_bytes_max": UNSYNCED_MAX})})


class SimOutside(Outside):
    """The machine around one collector."""

    def __init__(self, world: "World", process: Process) -> None:
        self.calls = self.own_calls = SimCalls(world.disk, process)
        self.threads = SimThreads(world.schedule, process)
        self.network = SimNetwork(world.market, process.name)
        self.locks = self.own_locks = SimLocks(world.schedule, process)
        self.pid = 4000
        self.log_stream = io.StringIO()
        self._world = world

    def free_bytes(self, folder: Path) -> int:
        return self._world.disk.free

    def random(self) -> float:
        return self._world.chance("backoff").random()

    def on_stop_signals(self, stop: Callable[[str], None]) -> None:
        self.stop = stop


class OwnTask(Executor):
    """Runs what is submitted in a task of the process, beside the caller."""

    def __init__(self, schedule: Schedule, process: Process) -> None:
        self._schedule, self._process = schedule, process

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()

        def work() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except Exception as error:  # noqa: BLE001  as a pool does
                future.set_exception(error)

        self._schedule.start(self._process, work, "write")
        return future


@dataclass
class Worker:
    """A process that is started again when it ends."""

    name: str
    start: Callable[["Worker"], None]
    process: Process = field(default_factory=lambda: Process("none"))
    calls: SimCalls | None = None
    locks: SimLocks | None = None
    collector: Collector | None = None
    follower: Follower | None = None
    starts: int = 0
    restart_at: int = 0
    wanted: bool = True
    exits: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """What a run was; `digest` is over every I/O of it in order."""

    seed: int
    digest: str
    faults: tuple[str, ...]
    messages: int
    violations: tuple[Violation, ...]
    virtual_s: float
    steps: int

    @property
    def ok(self) -> bool:
        return not self.violations

    def __str__(self) -> str:
        told = "\n".join(f"  {violation}" for violation in self.violations) or "  nothing wrong"
        return f"seed {self.seed}: {', '.join(self.faults)}\n{told}\nagain: python -m tests.simulation {self.seed}"


class World:
    """One run."""

    def __init__(self, seed: int, *, always: tuple[str, ...] = ()) -> None:
        """`always`: faults that this run has in any case, besides those that the seed chooses."""
        self.seed = seed
        self._chances: dict[str, random.Random] = {}
        rng = self.chance("world")
        self._hash = hashlib.sha256()
        self.log: list[str] | None = None
        self.schedule = Schedule(self.chance("schedule"))
        near_midnight = rng.random() < 0.3
        begin = MIDNIGHT - rng.randint(3, 14) * NS if near_midnight else NOON + rng.randrange(NS)
        self.clock = SimClock(self.schedule, begin)
        self.root = settings().home
        self.disk = Disk(self.root, self.schedule, self.chance("disk"), self.trace)
        self.market = Market(self.schedule, self.clock, self.chance("market"), self.trace)
        self.warehouse = Warehouse(self.schedule, self.chance("warehouse"), self.trace)
        self.oracle = Oracle(self.root, STREAM, settings(), self.market, self.warehouse, self.disk)
        self.workers: dict[str, Worker] = {}
        self.faults: list[str] = []
        self.power_is_off = False
        self._actions: list[tuple[int, int, Callable[[], None]]] = []
        self._always = always
        random.seed(seed)

    def chance(self, name: str) -> random.Random:
        """An independent source of chance for one part."""
        return self._chances.setdefault(name, random.Random(f"{self.seed}/{name}"))

    def trace(self, *parts: object) -> None:
        line = f"{self.schedule.now} {' '.join(map(str, parts))}"
        self._hash.update(line.encode())
        if self.log is not None:
            self.log.append(line)

    # ── the run ──

    def run(self) -> Result:
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)
        (self.root / "run" / "durable").mkdir(parents=True)
        feed = Process("market")
        try:
            self.schedule.start(feed, self.market.run, "market")
            self._add("collector", self._start_collector)
            self._add("deliver", self._start_delivery)
            self._add("sealer", self._start_sealer)
            self._plan()
            self._until(int(FAULTS_TO_S * NS))
            self._heal()
            self._end()
        except RunawayError as error:
            self.oracle.say("liveness", str(error))
            self.schedule.runaway = ""
            self.schedule.steps = 0
        finally:
            self.market.running = False
            for worker in self.workers.values():
                self._bury(worker)
            while not (feed.ended and self.warehouse.ended):
                self.schedule.sleep(NS)
        for name, defect in self.schedule.errors:
            self.oracle.say("defect", f"{name}: {defect!r}")
        try:
            self.oracle.judge()
        except Exception as error:  # noqa: BLE001  a journal that cannot be read is a finding too
            self.oracle.say("judge", repr(error))
        return Result(
            self.seed, self._hash.hexdigest(), tuple(self.faults), len(self.market.messages), tuple(self.oracle.violations),
            self.schedule.now / NS, self.schedule.steps,
        )  # fmt: skip

    def _until(self, at: int, done: Callable[[], bool] = lambda: False) -> bool:
        """Look after everything until then, or until `done`."""
        while self.schedule.now < at and not done():
            due = self._actions[0][0] if self._actions else at
            self.schedule.sleep(max(1, min(due, at, self.schedule.now + 20_000_000) - self.schedule.now))
            while self._actions and self._actions[0][0] <= self.schedule.now:
                self._actions.pop(0)[2]()
            if self.power_is_off:
                self._power_returns()
            for worker in self.workers.values():
                self._look_after(worker)
                if worker.collector is not None:
                    self.oracle.check_bounds(worker.collector)
        return done()

    def _heal(self) -> None:
        """No more faults: within a bounded time a new message reaches the warehouse."""
        for _, _, action in self._actions:
            action()
        self._actions.clear()
        if self.power_is_off:
            self._power_returns()
        for worker in self.workers.values():
            worker.process.paused_until = 0
            if worker.calls is not None:
                worker.calls.die_at = 0
        self.oracle.healed_at = self.schedule.now
        first = len(self.market.messages) + 1
        limit = self.schedule.now + int(HEAL_S * NS)
        if not self._until(limit, lambda: self.oracle.stored_since(first)):
            self.oracle.say("liveness", f"no new message in the warehouse {HEAL_S:g} s after the faults ended; {self._states()}")
        self._until(self.schedule.now + NS)

    def _states(self) -> str:
        follower = self.workers["deliver"].follower
        return f"collector exits {self.workers['collector'].exits}, delivery says {follower.error if follower else None!r}"

    def _end(self) -> None:
        """An orderly stop: everything that was read is in the journal, and everything in the journal is in the warehouse."""
        self.market.running = False
        self._until(self.schedule.now + NS // 2)
        for worker in self.workers.values():
            if worker.collector is not None:
                worker.wanted = False
                worker.collector.stop("test")
        ended = lambda: all(worker.process.ended for worker in self.workers.values() if worker.collector is not None)  # noqa: E731
        if not self._until(self.schedule.now + 20 * NS, ended):
            self.oracle.say("liveness", "the collector does not stop")
        if not self._until(self.schedule.now + 30 * NS, self._drained):
            self.oracle.say("liveness", f"the delivery does not end: {self._states()}")
        self.oracle.stopped = True

    def _drained(self) -> bool:
        durable = read_durable(self.root / "run" / "durable" / STREAM)
        follower = self.workers["deliver"].follower
        return follower is not None and durable is not None and follower.position == durable.position

    # ── processes ──

    def _add(self, name: str, start: Callable[[Worker], None]) -> None:
        worker = self.workers[name] = Worker(name, start)
        self._begin(worker)

    def _begin(self, worker: Worker) -> None:
        worker.starts += 1
        worker.process = Process(f"{worker.name}-{worker.starts}")
        worker.restart_at = 0
        self.trace("start", worker.process.name)
        worker.start(worker)

    def _look_after(self, worker: Worker) -> None:
        """What a process manager does."""
        if not worker.process.ended or not worker.wanted:
            return
        if not worker.restart_at:
            self._bury(worker)
            worker.restart_at = self.schedule.now + self.chance("restart").randint(200, 1500) * 1_000_000
        elif self.schedule.now >= worker.restart_at:
            self._begin(worker)

    def _bury(self, worker: Worker) -> None:
        self.schedule.bury(worker.process)
        for held in (worker.calls, worker.locks):
            if held is not None:
                held.release()
        worker.calls = worker.locks = worker.follower = None
        worker.collector = worker.collector if worker.wanted else None

    def _start_collector(self, worker: Worker) -> None:
        outside = SimOutside(self, worker.process)
        worker.calls, worker.locks = outside.own_calls, outside.own_locks
        collector = worker.collector = Collector(settings(), STREAM, managed=True, clock=self.clock, outside=outside)

        def work() -> None:
            try:
                code = collector.run()
            except L2Error as error:
                code = error.exit_code
                self.trace("collector failed", error.message)
            worker.exits.append(code)
            self.trace("exit", worker.process.name, code)
            if code:
                self.oracle.died(worker.name)
            self.schedule.doom(worker.process)  # threads end with their process

        self.schedule.start(worker.process, work, worker.process.name)

    def _start_delivery(self, worker: Worker) -> None:
        calls = worker.calls = SimCalls(self.disk, worker.process)
        own = settings()
        beside = OwnTask(self.schedule, worker.process) if self.chance("delivery").random() < 0.5 else None

        def work() -> None:
            sink = ClickHouseSink(own, self.clock, reach=lambda: SimClient(self.warehouse), threads=InTurn)
            sink.open()
            follower = Follower(
                STREAM, sink, JournalSource(own.journal_dir, own.run_dir / "durable" / STREAM),
                CheckpointStore(own.checkpoint_dir / "clickhouse" / STREAM, 2, calls),
                lambda: make_pipeline(STREAM, own, symbol_gaps=True), settings=own.delivery, clock=self.clock, writer=beside, saver=beside,
            )  # fmt: skip
            worker.follower = follower
            while True:
                worked = follower.step()
                self.clock.sleep(0.005 if worked else own.delivery.flush_ms / 1000)

        self.schedule.start(worker.process, work, worker.process.name)

    def _start_sealer(self, worker: Worker) -> None:
        calls = worker.calls = SimCalls(self.disk, worker.process)

        def work() -> None:
            while True:
                self.clock.sleep(2.0)
                try:
                    for entry in seal_closed(settings().journal_dir, STREAM, settings().journal, calls=calls):
                        self.trace("sealed", entry.session_date, entry.segment, entry.sha256)
                except (L2Error, SinkError) as error:
                    self.trace("not sealed", error.message)

        self.schedule.start(worker.process, work, worker.process.name)

    # ── faults ──

    def _plan(self) -> None:
        from tests.simulation.faults import FAULTS

        rng = self.chance("plan")
        names = [*self._always, *rng.choices(sorted(FAULTS), k=max(rng.randint(2, 6) - len(self._always), 0))]
        for name in names:
            at = rng.randint(int(FAULTS_FROM_S * NS), int((FAULTS_TO_S - 1) * NS))
            lasts = rng.randint(NS // 5, int(5 * NS))
            self.faults.append(f"{name}@{at / NS:.3f}s/{lasts / NS:.1f}s")
            begin, end = FAULTS[name]
            self._at(at, partial(begin, self, rng))
            if end is not None:
                self._at(min(at + lasts, int(FAULTS_TO_S * NS) - 1), partial(end, self, rng))

    def _at(self, when: int, action: Callable[[], None]) -> None:
        self._actions.append((when, len(self._actions), action))
        self._actions.sort(key=lambda entry: entry[:2])

    def kill(self, worker: Worker) -> None:
        """SIGKILL now."""
        self.trace("kill", worker.process.name)
        self.schedule.doom(worker.process)
        self.oracle.died(worker.name)

    def cut_power(self) -> None:
        """Everybody dies at this instant; the director does the rest."""
        if self.power_is_off:
            return
        self.trace("power cut")
        self.power_is_off = True
        for worker in self.workers.values():
            self.schedule.doom(worker.process)

    def _power_returns(self) -> None:
        for worker in self.workers.values():
            self._bury(worker)
        self.oracle.power_cut()
        self.disk.crash()
        self.oracle.power_returned()
        self.power_is_off = False
        for worker in self.workers.values():
            if worker.wanted:
                worker.restart_at = self.schedule.now + self.chance("restart").randint(200, 1500) * 1_000_000
        self.trace("power is back")


def run(seed: int, *, always: tuple[str, ...] = ()) -> Result:
    """One seed, from nothing to the verdict."""
    return World(seed, always=always).run()


def pin(processors: set[int] | None = None) -> set[int]:
    """Keep this process on one processor (handing the baton on is ten times faster there), or on those given; where it was before."""
    if not hasattr(os, "sched_setaffinity"):
        return set()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors or {sorted(before)[os.getpid() % len(before)]})
    return before

"""One thread at a time, in an order that a seed decides, over a clock that jumps to the next thing due.

Tasks are OS threads that hand a baton on: product code blocks as it always does (sleep, system call, condition, socket), and each
such place is where another task may run or where a process can die. Nothing else lets go of the baton, so a run is deterministic.
"""

import heapq
import itertools
import random
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from l2_platform.journal.threads import Condition, Event, Thread, Threads

NS = 1_000_000_000
MONOTONIC_FROM = 1_000 * NS
STEPS_MAX = 400_000
"""More switches than this in one run are a loop that waits for nothing."""


class KilledError(BaseException):
    """The process of this task is dead: nothing of it may have an effect any more."""


class RunawayError(Exception):
    """The run makes no progress, or somebody spins."""


class Process:
    """Tasks that die together; `paused_until` holds them all (SIGSTOP)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.paused_until = 0
        self.tasks: list[Task] = []

    @property
    def ended(self) -> bool:
        return all(task.done for task in self.tasks)


class Task:
    """One thread of a process."""

    def __init__(self, process: Process, name: str) -> None:
        self.process = process
        self.name = name
        self.baton = threading.Lock()
        self.baton.acquire()
        self.ticket = 0
        self.done = False
        self.error: BaseException | None = None


class Schedule:
    """Whose turn it is, and what time it is (`now`, ns from 0)."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.now = 0
        self.steps = 0
        self.errors: list[tuple[str, BaseException]] = []
        self._heap: list[tuple[int, float, int, Task, int]] = []
        self._numbers = itertools.count()
        self._director = Process("director")
        self.director = Task(self._director, "director")
        self.current = self.director
        self.runaway = ""

    def start(self, process: Process, target: Callable[[], object], name: str) -> Task:
        """A new task, runnable now."""
        task = Task(process, name)
        process.tasks.append(task)
        threading.Thread(target=self._run, args=(task, target), name=name, daemon=True).start()
        self.wake(task)
        return task

    def block(self, until: int | None) -> None:
        """Let others run until the time comes (None: until somebody wakes this task)."""
        task = self.current
        if task.process.dead:
            raise KilledError
        task.ticket += 1
        if until is not None:
            self._push(until, task)
        following = self._next()
        if following is not task:
            self.current = following
            following.baton.release()
            task.baton.acquire()
        if task.process.dead:
            raise KilledError
        if self.runaway and task is self.director:
            raise RunawayError(self.runaway)

    def wake(self, task: Task) -> None:
        """Make a blocked task runnable now."""
        self._push(self.now, task)

    def sleep(self, ns: int) -> None:
        self.block(self.now + max(ns, 1))

    def doom(self, process: Process) -> None:
        """From now on nothing that the process does has an effect."""
        process.dead = True
        process.paused_until = 0
        for task in process.tasks:
            if not task.done and task is not self.current:
                self.wake(task)

    def bury(self, process: Process) -> None:
        """Kill, and wait until every task of it has unwound; for the director."""
        self.doom(process)
        while not process.ended:
            self.sleep(1)

    def _push(self, at: int, task: Task) -> None:
        heapq.heappush(self._heap, (at, self.rng.random(), next(self._numbers), task, task.ticket))

    def _next(self) -> Task:
        self.steps += 1
        if self.steps > STEPS_MAX and not self.runaway:
            self.runaway = f"more than {STEPS_MAX} switches: {self.current.name} is the last"
            return self.director
        while self._heap:
            at, _, _, task, ticket = heapq.heappop(self._heap)
            if task.done or ticket != task.ticket:
                continue
            if task.process.paused_until > max(at, self.now):
                self._push(task.process.paused_until, task)
                continue
            self.now = max(self.now, at)
            return task
        self.runaway = "everybody waits for ever"
        return self.director

    def _run(self, task: Task, target: Callable[[], object]) -> None:
        task.baton.acquire()
        try:
            if not task.process.dead:
                target()
        except KilledError:
            pass
        except BaseException as error:  # noqa: BLE001  what ends a task is judged by the oracle
            task.error = error
            self.errors.append((task.name, error))
        task.done = True
        following = self._next()
        self.current = following
        following.baton.release()


class SimClock:
    """The machine's clocks: wall time can step, monotonic time cannot."""

    def __init__(self, schedule: Schedule, wall_from: int) -> None:
        self._schedule = schedule
        self._wall_from = wall_from
        self.stepped = 0

    def now_ns(self) -> int:
        return self._wall_from + self._schedule.now + self.stepped

    def wall_of(self, at: int) -> int:
        """Wall time of a moment of the run, as the rest of the world has it."""
        return self._wall_from + at

    def true_ns(self) -> int:
        """The same of now."""
        return self.wall_of(self._schedule.now)

    def monotonic_ns(self) -> int:
        return MONOTONIC_FROM + self._schedule.now

    def sleep(self, seconds: float) -> None:
        self._schedule.sleep(int(seconds * NS))


class SimCondition:
    """A re-entrant lock with waiters."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._owner: Task | None = None
        self._depth = 0
        self._blocked: list[Task] = []
        self._waiting: list[Task] = []

    def __enter__(self) -> bool:
        me = self._schedule.current
        if me.process.dead:
            raise KilledError
        while self._owner not in {None, me}:
            self._blocked.append(me)
            self._schedule.block(None)
        self._owner, self._depth = me, self._depth + 1
        return True

    def __exit__(self, *_: object) -> None:
        if self._owner is self._schedule.current:
            self._depth -= 1
            if not self._depth:
                self._let_go()

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        schedule = self._schedule
        me = schedule.current
        until = None if timeout is None else schedule.now + int(timeout * NS)
        while not predicate():
            if until is not None and schedule.now >= until:
                return False
            depth, self._depth = self._depth, 0
            self._let_go()
            self._waiting.append(me)
            schedule.block(until)
            if me in self._waiting:
                self._waiting.remove(me)
            self.__enter__()
            self._depth = depth
        return True

    def notify_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            self._schedule.wake(task)

    def _let_go(self) -> None:
        self._owner = None
        if self._blocked:
            place = self._schedule.rng.randrange(len(self._blocked))
            self._schedule.wake(self._blocked.pop(place))


class SimEvent:
    """A flag."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._up = False
        self._waiting: list[Task] = []

    def set(self) -> None:
        self._up = True
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            self._schedule.wake(task)

    def clear(self) -> None:
        self._up = False

    def is_set(self) -> bool:
        return self._up

    def wait(self, timeout: float | None = None) -> bool:
        schedule = self._schedule
        until = None if timeout is None else schedule.now + int(timeout * NS)
        if until is not None and until <= schedule.now:
            schedule.sleep(1)
        while not self._up and (until is None or schedule.now < until):
            me = schedule.current
            self._waiting.append(me)
            schedule.block(until)
            if me in self._waiting:
                self._waiting.remove(me)
        return self._up


class _Started:
    def __init__(self, schedule: Schedule, task: Task) -> None:
        self._schedule = schedule
        self._task = task

    def join(self) -> None:
        while not self._task.done:
            self._schedule.sleep(1_000)


class SimThreads(Threads):
    """The threads of one process."""

    def __init__(self, schedule: Schedule, process: Process) -> None:
        self._schedule = schedule
        self._process = process

    def condition(self) -> Condition:
        return SimCondition(self._schedule)

    def event(self) -> Event:
        return SimEvent(self._schedule)

    def start(self, target: Callable[[], None], name: str) -> Thread:
        return _Started(self._schedule, self._schedule.start(self._process, target, name))


class InTurn(Executor):
    """Runs what is submitted at once, in the caller's task."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  as a pool does
            future.set_exception(error)
        return future

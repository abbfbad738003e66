"""A change of the recorded symbols in steps, each judged before the next; a step that does not work out is taken back.

The symbols file is the only thing that is written; collectors follow it within a second. A step is good when every collector is live,
watches what is wanted, nothing is refused or unknown, and deliveries keep up, for a while. What does not belong here: the symbols
file's format (`monitoring/symbols_file.py`), Dagster.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from l2_platform.clock import Clock
from l2_platform.errors import InputError, L2Error, LeaseHeld
from l2_platform.monitoring.heartbeat import Lease, read_heartbeat
from l2_platform.monitoring.symbols_file import SymbolGroup, SymbolsFile, check_symbols, edit_symbols, symbols_of_stream
from l2_platform.operations.intents import followers, is_recording_now, read_intents, read_symbols
from l2_platform.settings import Settings

LOOK_S: Final = 0.5
FRESH_S: Final = 5.0
"""A heartbeat that proves something is at most this old, s."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a person wants."""

    group: str = ""
    """Where added symbols go; made when it is new."""
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    enable_groups: tuple[str, ...] = ()
    disable_groups: tuple[str, ...] = ()
    steps: tuple[int, ...] = (10, 100, 1000)
    """Added symbols go out until so many of them are recorded, then the next step; the rest follows in the last one."""


@dataclass(frozen=True, slots=True)
class Gate:
    """When a step is good."""

    enabled: bool = True
    wait_s: float = 60.0
    """A step that is not good within this is taken back, s."""
    steady_s: float = 5.0
    """It must be good for so long without a break, s."""
    lag_s_max: float = 30.0
    """Deliveries may be so far behind, s."""
    gaps_max: int = 0
    """Streams that may have an open gap."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step that was good."""

    number: int
    version: int
    """Of the symbols file after it."""
    symbols: int
    """Enabled symbols after it."""
    waited_s: float


class RolloutFailed(L2Error):
    """A step was not good and was taken back; the message says why."""


Told = Callable[[str], None]


class Rollout:
    """Applies one change; nothing else of the instance is touched."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._known: dict[str, int] = {}
        """Collector → symbols that the feed did not know or refused before the change: they are not this change's fault."""

    def run(self, change: Change, gate: Gate, told: Told) -> list[StepResult]:
        """Apply `change`; InputError or ConfigError before anything is changed, RolloutFailed after everything was taken back."""
        lease = Lease(self._settings.run_dir / "leases" / "roll-symbols")
        try:
            lease.acquire()
        except LeaseHeld:
            raise LeaseHeld("another roll_symbols is at work; wait until it ends, then try again") from None
        try:
            return self._run(change, gate, told)
        finally:
            lease.release()

    def _run(self, change: Change, gate: Gate, told: Told) -> list[StepResult]:
        before = read_symbols(self._settings)
        versions = list(plan_steps(before, change))
        limits = self._settings.symbols
        for file in versions:
            check_symbols(file, str(self._settings.symbols_file), limit=limits.limit, name_bytes_max=limits.name_bytes_max)
        if gate.enabled:
            self._must_be_good(before, gate)
        done: list[StepResult] = []
        with self._taken_back_unless_done(before, told) as progress:
            for number, file in enumerate(versions, 1):
                progress.version = self._write(file, progress.version)
                told(f"step {number} of {len(versions)}: version {progress.version}, {len(file.symbols)} symbols enabled")
                waited_s = self._wait_good(file, gate, told) if gate.enabled else 0.0
                done.append(StepResult(number, progress.version, len(file.symbols), round(waited_s, 1)))
            progress.done = True
        return done

    def _write(self, file: SymbolsFile, expected: int) -> int:
        limits = self._settings.symbols

        def change(now: SymbolsFile) -> SymbolsFile:
            if now.version != expected:
                raise InputError(f"the symbols file was changed by somebody else meanwhile (version {now.version}, not {expected})")
            return replace(file, version=now.version)

        path = self._settings.symbols_file
        return edit_symbols(
            path, change, limit=limits.limit, name_bytes_max=limits.name_bytes_max, kept=limits.versions_kept
        ).version

    @contextmanager
    def _taken_back_unless_done(self, before: SymbolsFile, told: Told) -> Iterator["_Progress"]:
        """Whatever ends the block early (a gate, a person who ends the run), the symbols are those of before."""
        progress = _Progress(before.version)
        try:
            yield progress
        except RolloutFailed as error:
            raise RolloutFailed(f"{error.message}. {self._take_back(before, progress, told)}") from error
        finally:
            self._take_back(before, progress, told)

    def _take_back(self, before: SymbolsFile, progress: "_Progress", told: Told) -> str:
        if progress.done or progress.version == before.version:
            return "Nothing was changed."
        progress.done = True
        try:
            version = self._write(before, progress.version)
        except L2Error as error:
            text = f"NOT taken back: {error.message}. Edit {self._settings.symbols_file} by hand."
        else:
            text = f"Taken back: version {version} has the symbols of version {before.version} again."
        told(text)
        return text

    # ── the gate ──

    def _must_be_good(self, before: SymbolsFile, gate: Gate) -> None:
        for worker in followers(self._settings):
            record = read_heartbeat(self._settings.run_dir / "heartbeats" / f"{worker}.json")
            self._known[worker] = _unwatchable(record.numbers) if record else 0
        wrong = self._what_is_wrong(before, gate)
        if wrong:
            raise InputError(
                f"nothing was changed: the instance is not well before the change: {'; '.join(wrong)}. Mend that first, or set "
                "gate_enabled to false to change the symbols without looking."
            )

    def _wait_good(self, file: SymbolsFile, gate: Gate, told: Told) -> float:
        begun = self._clock.monotonic_ns()
        good_since: int | None = None
        last: list[str] = []
        while True:
            now = self._clock.monotonic_ns()
            wrong = self._what_is_wrong(file, gate)
            good_since = None if wrong else good_since or now
            if good_since is not None and now - good_since >= gate.steady_s * 1e9:
                return (now - begun) / 1e9
            if wrong and wrong != last:
                told(f"waiting: {'; '.join(wrong)}")
            last = wrong
            if now - begun > (gate.wait_s + gate.steady_s) * 1e9:
                raise RolloutFailed(f"the step was not good within {gate.wait_s:g} s: {'; '.join(wrong) or 'not steady'}")
            self._clock.sleep(LOOK_S)

    def _what_is_wrong(self, file: SymbolsFile, gate: Gate) -> list[str]:
        """Why the instance does not record `file` well now; empty when it does."""
        wrong: list[str] = []
        now_ns = self._clock.now_ns()
        states = read_intents(self._settings).states
        open_gaps: set[str] = set()
        for worker in followers(self._settings):
            record = read_heartbeat(self._settings.run_dir / "heartbeats" / f"{worker}.json")
            if record is None or not record.alive() or record.age_s(now_ns) > FRESH_S:
                wrong.append(f"{worker} gives no sign of life")
                continue
            if worker.startswith("collector-"):
                if not is_recording_now(states.get(worker), now_ns):
                    wrong.append(f"{worker} does not record now (stopped, or its session is closed)")
                elif record.state != "live":
                    wrong.append(f"{worker} is {record.state}")
                else:
                    share = symbols_of_stream(file.symbols, worker.removeprefix("collector-"), self._settings.streams)
                    wrong += _subscription_trouble(worker, record.numbers, len(share), self._known.get(worker, 0))
            else:
                wrong += _delivery_trouble(worker, record.state, record.numbers, gate, open_gaps)
        if len(open_gaps) > gate.gaps_max:
            wrong.append(f"open gaps in {', '.join(sorted(open_gaps))}")
        return wrong


@dataclass(slots=True)
class _Progress:
    version: int
    done: bool = False


def plan_steps(before: SymbolsFile, change: Change) -> Iterator[SymbolsFile]:
    """The symbols file after each step; InputError when the change makes no sense. Removing and switching come first, in one step."""
    add = tuple(dict.fromkeys(change.add))
    _check(before, change, add)
    gone = set(change.remove)
    switched = {**dict.fromkeys(change.enable_groups, True), **dict.fromkeys(change.disable_groups, False)}
    groups = tuple(
        SymbolGroup(old.name, tuple(symbol for symbol in old.symbols if symbol not in gone), switched.get(old.name, old.enabled))
        for old in before.groups
    )
    file = SymbolsFile(before.version, groups)
    if groups != before.groups:
        yield file
    sizes = sorted({size for size in change.steps if 0 < size < len(add)} | {len(add)}) if add else []
    for size in sizes:
        yield _with(file, change.group, add[:size])


def _check(before: SymbolsFile, change: Change, add: Sequence[str]) -> None:
    if not (add or change.remove or change.enable_groups or change.disable_groups):
        raise InputError("nothing to do: give symbols to add or remove, or groups to enable or disable")
    names = [group.name for group in before.groups]
    for name in (*change.enable_groups, *change.disable_groups):
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.3)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(f"there is no group {name!r}{hint} Groups: {', '.join(names) or 'none'}")
    both = sorted(set(change.enable_groups) & set(change.disable_groups))
    if both:
        raise InputError(f"group {both[0]} is to be enabled and disabled; keep one")
    both = sorted(set(add) & set(change.remove))
    if both:
        raise InputError(f"symbol {both[0]} is to be added and removed; keep one")
    known = {symbol: group.name for group in before.groups for symbol in group.symbols}
    missing = [symbol for symbol in change.remove if symbol not in known]
    if missing:
        raise InputError(f"{_some(missing)}: in no group, cannot be removed; nothing was changed")
    present = [symbol for symbol in add if symbol in known]
    if present:
        raise InputError(f"{present[0]} is already in group {known[present[0]]}; leave it out, or enable that group")
    if add and not change.group:
        raise InputError("name the group that the symbols are added to (group)")
    into = before.group(change.group)
    off = into is not None and not into.enabled and change.group not in change.enable_groups
    if add and (off or change.group in change.disable_groups):
        raise InputError(f"group {change.group} is disabled: symbols added to it would not be recorded; enable it too")
    if any(size < 1 for size in change.steps):
        raise InputError("steps are numbers of symbols, from 1")


def _with(file: SymbolsFile, name: str, symbols: Sequence[str]) -> SymbolsFile:
    old = file.group(name)
    if old is None:
        return replace(file, groups=(*file.groups, SymbolGroup(name, tuple(symbols))))
    fresh = replace(old, symbols=(*old.symbols, *symbols))
    return replace(file, groups=tuple(fresh if group.name == name else group for group in file.groups))


def _unwatchable(numbers: Mapping[str, Any]) -> int:
    return int(numbers.get("not_found") or 0) + int(numbers.get("refused") or 0)


def _subscription_trouble(worker: str, numbers: Mapping[str, Any], wanted: int, known: int) -> Iterator[str]:
    if "-admin-" in worker:
        return  # it records no symbols
    new = _unwatchable(numbers) > known
    watched, told = numbers.get("watched"), numbers.get("wanted")
    problem = str(numbers.get("intent_problem") or "")
    if problem:
        yield f"{worker} cannot use the symbols file: {problem}"
    elif new and numbers.get("not_found"):
        yield f"{worker}: the feed does not know {_some([str(name) for name in numbers.get('not_found_names') or ()])}"
    elif new:
        yield f"{worker}: the feed refused {numbers['refused']} symbols (the account's limit is {numbers.get('account_symbols_max')})"
    elif told != wanted or (watched or 0) + _unwatchable(numbers) != wanted:
        yield f"{worker} watches {watched} of {wanted} symbols"
    if numbers.get("stalled_since_ns"):
        yield f"{worker}: the disk takes no bytes"


def _delivery_trouble(
    worker: str, state: str, numbers: Mapping[str, Any], gate: Gate, open_gaps: set[str]
) -> Iterator[str]:
    if state != "live":
        yield f"{worker} is {state}"
        return
    for stream, facts in (numbers.get("streams") or {}).items():
        if facts.get("gap_open"):
            open_gaps.add(stream)
        if float(facts.get("lag_s") or 0) > gate.lag_s_max:
            yield f"{worker} is {facts['lag_s']:.0f} s behind in {stream} ({gate.lag_s_max:g} are allowed)"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")



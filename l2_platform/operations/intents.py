"""What each worker is wanted to do, derived from settings, symbols file and calendar, and written for it.

`l2 up` and Dagster's sensor call the same functions, so that an instance without Dagster has the same intents. An operator's stop
(`enabled`) is kept by every derivation. What does not belong here: following an intent (workers), judging (sensors).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from l2_platform.errors import ConfigError, L2Error
from l2_platform.market.sessions import SessionCalendar, load_calendar
from l2_platform.market.trading_day import DayPlan, is_recording, recording_spans
from l2_platform.monitoring.desired import DesiredState, edit_desired, read_desired
from l2_platform.monitoring.symbol_versions import keep_version
from l2_platform.monitoring.symbols_file import SymbolsFile, load_symbols, symbols_of_stream
from l2_platform.operations.plan import Phase, plan_parts
from l2_platform.settings import Settings

SESSIONS_AHEAD: Final = 30
"""Sessions that a collector is told of: so long it needs nobody."""
SESSIONS_LEFT: Final = 15
"""With fewer left the table is written anew."""


@dataclass(frozen=True, slots=True)
class Intents:
    """The desired states of an instance as they are now."""

    states: Mapping[str, DesiredState]
    """By worker; a worker without one is wanted to run."""
    problems: Mapping[str, str]
    """Worker → why its desired state could not be derived or written; what it had stays in force."""


def desired_path(settings: Settings, worker: str) -> Path:
    """`run/desired/<worker>.json`."""
    return settings.run_dir / "desired" / f"{worker}.json"


def day_plan(settings: Settings) -> DayPlan:
    """The margins and the maintenance hours of the settings."""
    session = settings.session
    return DayPlan(session.start_margin_s, session.stop_margin_s, session.maintenance)


def followers(settings: Settings) -> list[str]:
    """Workers that follow a desired state by themselves and echo its generation: collectors and deliveries."""
    return [part.name for part in plan_parts(settings) if part.name.startswith(("collector-", "deliver-"))]


def processes(settings: Settings) -> list[str]:
    """Every process that has an intent: all but Dagster and the watchdog."""
    return [part.name for part in plan_parts(settings) if part.phase not in {Phase.DAGSTER, Phase.WATCH}]


def derive(
    settings: Settings, worker: str, before: DesiredState | None, symbols: SymbolsFile, symbols_mtime_ns: int, now_ns: int
) -> DesiredState:
    """The desired state of a worker now; the generation is that of `before` (1 at first), whoever writes it raises it."""
    generation, enabled = (before.generation, before.enabled) if before else (1, True)
    if not worker.startswith("collector-"):
        return DesiredState(worker, generation, enabled, calendar=settings.calendar_name)
    stream = worker.removeprefix("collector-")
    calendar = load_calendar(settings.calendar_name, settings.session.roll_margin_s)
    sessions = session_table(calendar, now_ns, before.sessions if before else ())
    return DesiredState(
        worker, generation, enabled, (stream,), symbols_of_stream(symbols.symbols, stream, settings.streams), sessions,
        settings.calendar_name, recording_spans(calendar, sessions[0][0], sessions[-1][0], day_plan(settings)), symbols_mtime_ns,
    )  # fmt: skip


def session_table(
    calendar: SessionCalendar, now_ns: int, before: tuple[tuple[int, int], ...] = ()
) -> tuple[tuple[int, int], ...]:
    """The next sessions: (session date, its end in ns), the present one first; `before` as it is while it holds and reaches far."""
    left = [row for row in before if row[1] > now_ns]
    if len(left) >= SESSIONS_LEFT and before == _table(calendar, before[0][0], len(before)):
        return before
    return _table(calendar, calendar.session_date_of(now_ns), SESSIONS_AHEAD)


def _table(calendar: SessionCalendar, first: int, count: int) -> tuple[tuple[int, int], ...]:
    table: list[tuple[int, int]] = []
    session_date = first
    for _ in range(count):
        if not calendar.is_session(session_date):
            return tuple(table)
        table.append((session_date, calendar.end_of(session_date)))
        session_date = calendar.next_session(session_date)
    return tuple(table)


def refresh_intents(settings: Settings, now_ns: int) -> Intents:
    """Derive and write what changed; raises nothing for one worker's sake: its problem is told."""
    states: dict[str, DesiredState] = {}
    problems: dict[str, str] = {}
    follow = set(followers(settings))
    try:
        mtime_ns = symbols_mtime_ns(settings)
        symbols = read_symbols(settings)
        keep_version(settings.symbols_file, settings.symbols.versions_kept)
        reason = ""
    except ConfigError as error:
        symbols, mtime_ns, reason = SymbolsFile(1, ()), 0, error.message
    for worker in processes(settings):
        path = desired_path(settings, worker)
        try:
            if worker in follow and not (reason and worker.startswith("collector-")):
                found = edit_desired(
                    path, lambda before, name=worker: derive(settings, name, before, symbols, mtime_ns, now_ns)  # type: ignore[misc]
                )
            else:
                found = read_desired(path)
        except (L2Error, OSError) as error:
            problems[worker] = error.message if isinstance(error, L2Error) else f"{path}: {error.strerror}"
            continue
        if found is not None:
            states[worker] = found
        if reason and worker.startswith("collector-"):
            problems[worker] = reason
    return Intents(states, problems)


def read_intents(settings: Settings) -> Intents:
    """The desired states as they are on disk; writes nothing."""
    states: dict[str, DesiredState] = {}
    problems: dict[str, str] = {}
    for worker in processes(settings):
        try:
            found = read_desired(desired_path(settings, worker))
        except ConfigError as error:
            problems[worker] = error.message
        else:
            states.update({worker: found} if found is not None else {})
    return Intents(states, problems)


def set_enabled(settings: Settings, worker: str, *, enabled: bool, now_ns: int) -> DesiredState:
    """Write whether a worker is wanted to run, with the rest derived anew where that can be read; L2Error when it cannot be written."""
    mtime_ns = symbols_mtime_ns(settings)
    try:
        symbols = read_symbols(settings) if worker.startswith("collector-") else SymbolsFile(1, ())
    except ConfigError:
        symbols = None

    def change(before: DesiredState | None) -> DesiredState:
        if symbols is None:
            # an operator's word counts also while the symbols file is broken
            return replace(before or DesiredState(worker, 1, enabled), enabled=enabled)
        return replace(derive(settings, worker, before, symbols, mtime_ns, now_ns), enabled=enabled)

    found = edit_desired(desired_path(settings, worker), change)
    assert found is not None
    return found


def forget_stops_of_services(settings: Settings) -> None:
    """`l2 up` starts every process: a stop of one that does not stand by on its own ends with it."""
    for worker in set(processes(settings)) - set(followers(settings)):
        desired_path(settings, worker).unlink(missing_ok=True)


def is_recording_now(state: DesiredState | None, now_ns: int) -> bool:
    """The worker's desired state wants it to record at this moment."""
    return state is None or (state.enabled and (not state.recording or is_recording(state.recording, now_ns)))


def read_symbols(settings: Settings) -> SymbolsFile:
    """The symbols file within the limits of the settings; ConfigError says what is wrong."""
    limits = settings.symbols
    return load_symbols(settings.symbols_file, limit=limits.limit, name_bytes_max=limits.name_bytes_max)


def symbols_mtime_ns(settings: Settings) -> int:
    """When the symbols file was last changed, ns; 0 when there is none. Look before reading: a later edit then shows."""
    try:
        return settings.symbols_file.stat().st_mtime_ns
    except OSError:
        return 0

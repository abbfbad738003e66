"""What an instance needs on disk before its processes start: folders, symbols file, desired states, Dagster's files."""

import shutil
from dataclasses import replace
from pathlib import Path

from l2_platform.clock import Clock
from l2_platform.errors import ConfigError
from l2_platform.market.sessions import SessionCalendar, load_calendar
from l2_platform.monitoring.desired import DesiredState, read_desired, write_desired
from l2_platform.monitoring.symbols_file import demo_symbols, load_symbols, symbols_of_stream, write_symbols
from l2_platform.operations.plan import LOOPBACK
from l2_platform.settings import Settings

SESSIONS_AHEAD = 10
"""Rows of the session table that a collector gets; Dagster renews it long before it runs out."""
CHECKOUT = Path(__file__).resolve().parents[2]
DAGSTER_YAML = {"sqlite": CHECKOUT / "dagster.yaml", "postgres": CHECKOUT / "deploy" / "dagster.postgres.yaml"}


def prepare_home(settings: Settings, clock: Clock) -> None:
    """Make what is missing; files that a person or Dagster wrote stay as they are."""
    for folder in (
        settings.journal_dir, settings.run_dir, settings.log_dir, settings.cache_dir / "numba", settings.dagster_home,
    ):  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
    settings.run_dir.chmod(0o700)
    _write_symbols(settings)
    write_desired_states(settings, clock)
    if settings.dagster.enabled:
        _write_dagster_files(settings)


def write_desired_states(settings: Settings, clock: Clock) -> None:
    """Desired state of each collector, from symbols file and calendar; the generation rises only when something changed."""
    file = load_symbols(
        settings.symbols_file, limit=settings.symbols.limit, name_bytes_max=settings.symbols.name_bytes_max
    )
    calendar = load_calendar(settings.calendar_name, settings.session.roll_margin_s)
    sessions = session_table(calendar, clock.now_ns())
    for stream in settings.streams:
        worker = f"collector-{stream}"
        path = settings.run_dir / "desired" / f"{worker}.json"
        symbols = symbols_of_stream(file.symbols, stream, settings.streams)
        before = read_desired(path)
        wanted = DesiredState(
            worker=worker,
            generation=before.generation if before else 1,
            # an operator's stop outlives a restart
            enabled=before.enabled if before else True,
            streams=(stream,),
            symbols=symbols,
            sessions=sessions,
            calendar=settings.calendar_name,
        )
        if before is not None and wanted != before:
            wanted = replace(wanted, generation=before.generation + 1)
        if wanted != before:
            write_desired(path, wanted)


def session_table(calendar: SessionCalendar, now_ns: int) -> tuple[tuple[int, int], ...]:
    """The next sessions: (session date, its end in ns), the present one first."""
    table = []
    at_ns = now_ns
    for _ in range(SESSIONS_AHEAD):
        session_date = calendar.session_date_of(at_ns)
        end_ns = calendar.end_of(session_date)
        table.append((session_date, end_ns))
        at_ns = end_ns
    return tuple(table)


def _write_symbols(settings: Settings) -> None:
    if settings.symbols_file.is_file():
        return
    if settings.feed.kind != "simulated" or settings.symbols.file is not None:
        raise ConfigError(
            f"symbols: {settings.symbols_file} does not exist; write it (see docs/operations.md), or set L2_SYMBOLS__FILE"
        )
    write_symbols(settings.symbols_file, demo_symbols(settings.simulator.symbols))


def _write_dagster_files(settings: Settings) -> None:
    """`dagster.yaml` is the repository's, kept up to date; the workspace names this instance's code server."""
    source = DAGSTER_YAML[settings.dagster.storage]
    if not source.is_file():
        raise ConfigError(
            f"{source} is missing; run from a checkout of the repository, or set L2_DAGSTER__ENABLED=false"
        )
    shutil.copyfile(source, settings.dagster_home / "dagster.yaml")
    workspace = (
        "load_from:\n"
        "  - grpc_server:\n"
        f"      host: {LOOPBACK}\n"
        f"      port: {settings.ports.code_server}\n"
        "      location_name: l2_platform\n"
    )
    (settings.run_dir / "workspace.yaml").write_text(workspace, encoding="utf-8")

"""What an instance needs on disk before its processes start: folders, symbols file, desired states, Dagster's files."""

import shutil
from pathlib import Path

from l2_platform.clock import Clock
from l2_platform.errors import ConfigError
from l2_platform.monitoring.symbols_file import demo_symbols, write_symbols
from l2_platform.operations.intents import forget_stops_of_services, refresh_intents
from l2_platform.operations.plan import LOOPBACK
from l2_platform.settings import Settings

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
    """Desired state of each worker, from symbols file and calendar; L2Error when one cannot be written."""
    forget_stops_of_services(settings)
    for worker, problem in refresh_intents(settings, clock.now_ns()).problems.items():
        raise ConfigError(f"{worker}: {problem}")


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

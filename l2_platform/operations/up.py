"""`l2 up`: from nothing, from half, or from a crash to everything running and healthy; a second call changes nothing.

Order: look (what runs?) → stop orphans → doctor → home and files → kernels → process manager → wait until each part is healthy.
What does not belong here: how it looks on a terminal (cli).
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from l2_platform.clock import Clock
from l2_platform.errors import ConfigError, L2Error, LeaseHeld
from l2_platform.monitoring.heartbeat import Lease
from l2_platform.operations import disk, doctor
from l2_platform.operations.health import Vitals, examine
from l2_platform.operations.orphans import find_orphans, stop_orphans
from l2_platform.operations.plan import Part, plan_parts
from l2_platform.operations.preparation import prepare_home
from l2_platform.operations.supervisord import Supervisor, render_config
from l2_platform.settings import Settings

POLL_S = 0.25
WARM_S_MAX = 300
"""Longest time for compiling the kernels, s."""


class Reporter(Protocol):
    """Who is told how the start goes."""

    def step(self, text: str) -> None:
        """A new step begins."""
        ...

    def waiting(self, vitals: Sequence[Vitals]) -> None:
        """State of every part while waiting; called some times a second."""
        ...


@dataclass(frozen=True, slots=True)
class UpResult:
    """What `up` found and did."""

    vitals: list[Vitals]
    started: bool
    """False when everything ran already."""
    other_settings: bool
    """It runs, with settings other than the present ones."""


def up(settings: Settings, clock: Clock, reporter: Reporter) -> UpResult:
    """Bring everything up; L2Error with one line that names what failed and where its log is."""
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    lease = Lease(settings.run_dir / "leases" / "up")
    try:
        lease.acquire(wait=False)
    except LeaseHeld:
        raise LeaseHeld("another `l2 up` or `l2 down` is at work on this home; wait until it ends") from None
    try:
        return _up(settings, clock, reporter)
    finally:
        lease.release()


def _up(settings: Settings, clock: Clock, reporter: Reporter) -> UpResult:
    parts = plan_parts(settings)
    supervisor = Supervisor(settings, clock)
    if supervisor.answers():
        other = _fingerprint_path(settings).is_file() and _fingerprint_path(settings).read_text() != fingerprint(
            settings
        )
        return _complete(supervisor, parts, settings, clock, reporter, other_settings=other)
    orphans = find_orphans(settings)
    if orphans:
        reporter.step(f"adopting {len(orphans)} processes of a killed process manager")
        stop_orphans(orphans, clock, settings.supervision.stop_s, reporter.step)
    reporter.step("checking this machine")
    bad = [finding for finding in doctor.quick(settings, clock) if finding.level is doctor.Level.FAIL]
    if bad:
        raise ConfigError("; ".join(f"{finding.name}: {finding.text}; {finding.advice}" for finding in bad))
    disk.record_path(settings).unlink(missing_ok=True)
    prepare_home(settings, clock)
    environment = part_environment(settings)
    reporter.step("preparing kernels (compiled once, about a minute the first time)")
    _warm(settings, environment)
    reporter.step("starting the process manager")
    directory = Path.cwd()
    supervisor.config_path.write_text(render_config(settings, parts, directory), encoding="utf-8")
    _fingerprint_path(settings).write_text(fingerprint(settings), encoding="utf-8")
    supervisor.start_daemon(environment, directory)
    reporter.step("waiting until every part is healthy")
    vitals = wait_healthy(supervisor, parts, settings, clock, reporter)
    return UpResult(vitals, started=True, other_settings=False)


def _complete(
    supervisor: Supervisor, parts: Sequence[Part], settings: Settings, clock: Clock, reporter: Reporter,
    *, other_settings: bool,
) -> UpResult:  # fmt: skip
    """A process manager runs: start what is missing and wait; nothing to do in the usual case."""
    processes = supervisor.processes()
    running = [part for part in parts if part.name in processes]
    vitals = [examine(part, processes[part.name], settings, clock) for part in running]
    if all(item.healthy for item in vitals):
        return UpResult(vitals, started=False, other_settings=other_settings)
    for part in running:
        if not processes[part.name].running:
            reporter.step(f"starting {part.name}")
            supervisor.start(part.name)
    reporter.step("waiting until every part is healthy")
    return UpResult(
        wait_healthy(supervisor, running, settings, clock, reporter), started=True, other_settings=other_settings
    )


def wait_healthy(
    supervisor: Supervisor, parts: Sequence[Part], settings: Settings, clock: Clock, reporter: Reporter
) -> list[Vitals]:
    """Wait until every part is healthy, at most `supervision.start_s`; L2Error names the first that is not."""
    deadline = clock.monotonic_ns() + int(settings.supervision.start_s * 1e9)
    while True:
        processes = supervisor.processes()
        vitals = [examine(part, processes.get(part.name), settings, clock) for part in parts]
        reporter.waiting(vitals)
        if all(item.healthy for item in vitals):
            return vitals
        if clock.monotonic_ns() > deadline:
            bad = [item for item in vitals if not item.healthy]
            named = "; ".join(f"{item.name}: {item.reason}" for item in bad)
            said = last_line(settings.log_dir / f"{bad[0].name}.log")
            raise L2Error(
                f"not healthy after {settings.supervision.start_s:.0f} s: {named}. "
                f"{bad[0].name} last said: {said} (`l2 logs {bad[0].name}`; what runs goes on, `l2 down` stops it)"
            )
        clock.sleep(POLL_S)


def part_environment(settings: Settings) -> dict[str, str]:
    """Environment of every part: ours, with absolute paths; secrets travel here and nowhere else."""
    return {
        **os.environ,
        "L2_HOME": str(settings.home),
        "NUMBA_CACHE_DIR": str(settings.cache_dir / "numba"),
        "DAGSTER_HOME": str(settings.dagster_home),
        "PYTHONUNBUFFERED": "1",
        # Dagster's console output in a log file wants no colour
        "NO_COLOR": "1",
    }


def fingerprint(settings: Settings) -> str:
    """A hash of every setting, to see that what runs was started with others; secrets count by their value, unreadably."""
    secrets = "".join(
        secret.get_secret_value()
        for secret in (settings.feed.login, settings.feed.password, settings.clickhouse.password)
    )
    return hashlib.sha256((settings.model_dump_json() + secrets).encode()).hexdigest()


def last_line(path: Path) -> str:
    """The last line of a log that is not empty; "nothing" when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            lines = [text for text in file.read().decode("utf-8", "replace").splitlines() if text.strip()]
    except OSError:
        return "nothing"
    return lines[-1].strip() if lines else "nothing"


def _fingerprint_path(settings: Settings) -> Path:
    return settings.run_dir / "settings.sha256"


def _warm(settings: Settings, environment: Mapping[str, str]) -> None:
    settings.log_dir.mkdir(parents=True, exist_ok=True)
    log_path = settings.log_dir / "kernels.log"
    command = [sys.executable, "-m", "l2_platform.delivery", "--warm"]
    try:
        with log_path.open("wb") as log:
            done = subprocess.run(
                command, env=dict(environment), stdout=log, stderr=log, timeout=WARM_S_MAX, check=False
            )
    except subprocess.TimeoutExpired:
        raise L2Error(f"preparing kernels took more than {WARM_S_MAX} s; see {log_path}") from None
    if done.returncode:
        raise L2Error(f"preparing kernels failed: {last_line(log_path)}; see {log_path}")

"""`l2 up`: from nothing, from half, or from a crash to everything running and healthy; a second call changes nothing.

Order: look (what runs?) → stop orphans → doctor → home and files → kernels → process manager → wait until each part is healthy.
What does not belong here: how it looks on a terminal (cli).
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from l2_platform.clock import Clock
from l2_platform.errors import ConfigError, L2Error, LeaseHeld
from l2_platform.monitoring.heartbeat import Lease
from l2_platform.operations import disk, doctor
from l2_platform.operations.health import Vitals, examine
from l2_platform.operations.kernels import last_line, warm
from l2_platform.operations.orphans import find_orphans, find_started_by_hand, stop_orphans_in_order
from l2_platform.operations.plan import Part, Phase, plan_parts
from l2_platform.operations.preparation import prepare_home
from l2_platform.operations.supervisord import Supervisor, render_config
from l2_platform.settings import Settings

POLL_S = 0.25
ORPHANS_GONE_S = 3.0
"""Longest wait for killed leftovers to disappear, s."""
FEED_WAIT_S = 20.0
"""Longest time that collectors wait for the simulated market, s."""


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
        stop_orphans_in_order(settings, orphans, clock, reporter.step)
    by_hand = find_started_by_hand(settings)
    # what was killed a moment ago may take its time to go
    deadline = clock.monotonic_ns() + int(ORPHANS_GONE_S * 1e9)
    while orphans and by_hand and clock.monotonic_ns() < deadline:
        clock.sleep(POLL_S)
        by_hand = find_started_by_hand(settings)
    if by_hand:
        named = ", ".join(f"{name} (pid {pid})" for name, pid in by_hand.items())
        raise LeaseHeld(f"{named} runs already, started by hand; end it with Ctrl-C or `kill`, then `l2 up`")
    reporter.step("checking this machine")
    bad = [finding for finding in doctor.quick(settings, clock) if finding.level is doctor.Level.FAIL]
    if bad:
        raise ConfigError("; ".join(f"{finding.name}: {finding.text}; {finding.advice}" for finding in bad))
    disk.record_path(settings).unlink(missing_ok=True)
    prepare_home(settings, clock)
    environment = part_environment(settings)
    reporter.step("preparing kernels (compiled once, about a minute the first time)")
    warm(settings, environment, clock)
    reporter.step("starting the process manager")
    directory = Path.cwd()
    supervisor.config_path.write_text(render_config(settings, parts, directory), encoding="utf-8")
    _fingerprint_path(settings).write_text(fingerprint(settings), encoding="utf-8")
    supervisor.start_daemon(environment, directory)
    reporter.step("waiting until every part is healthy")
    _start_collectors(supervisor, parts, settings, clock)
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


def _start_collectors(supervisor: Supervisor, parts: Sequence[Part], settings: Settings, clock: Clock) -> None:
    """Start the collectors once the simulated market is there; they start in any case, and retry by themselves."""
    feeds = [part for part in parts if part.phase is Phase.FEED]
    deadline = clock.monotonic_ns() + int(FEED_WAIT_S * 1e9)
    while feeds and clock.monotonic_ns() < deadline:
        processes = supervisor.processes()
        feeds = [part for part in feeds if not examine(part, processes.get(part.name), settings, clock).healthy]
        clock.sleep(POLL_S)
    for part in parts:
        if part.waits_for_feed:
            supervisor.start(part.name)


def wait_healthy(
    supervisor: Supervisor, parts: Sequence[Part], settings: Settings, clock: Clock, reporter: Reporter
) -> list[Vitals]:
    """Wait until every part is healthy, at most `supervision.start_s`; L2Error names the first that is not."""
    deadline = clock.monotonic_ns() + int(settings.supervision.start_s * 1e9)
    seen: dict[str, Vitals] = {}
    while True:
        processes = supervisor.processes()
        # what is healthy is not asked again and again, only once more at the end
        for part in parts:
            if part.name not in seen or not seen[part.name].healthy:
                seen[part.name] = examine(part, processes.get(part.name), settings, clock)
        if all(item.healthy for item in seen.values()):
            seen = {part.name: examine(part, processes.get(part.name), settings, clock) for part in parts}
        vitals = list(seen.values())
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
        doctor.PG_PORT: doctor.PG_PORT_USUAL,
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


def _fingerprint_path(settings: Settings) -> Path:
    return settings.run_dir / "settings.sha256"

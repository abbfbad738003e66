"""`l2 status`: every part, stream and address of an instance at one moment, as plain data."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import psutil

from l2_platform.clock import Clock
from l2_platform.errors import L2Error
from l2_platform.journal.durable import read_durable
from l2_platform.journal.layout import list_streams
from l2_platform.operations import disk
from l2_platform.operations.health import examine
from l2_platform.operations.orphans import find_orphans, find_started_by_hand
from l2_platform.operations.plan import addresses, plan_parts
from l2_platform.operations.supervisord import Supervisor
from l2_platform.settings import Settings

CPU_SAMPLE_S = 0.2


class Overall(StrEnum):
    """The whole instance in one word."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    NOT_RUNNING = "not running"

    @property
    def exit_code(self) -> int:
        """0 healthy, 1 degraded, 3 not running."""
        return {Overall.HEALTHY: 0, Overall.DEGRADED: 1, Overall.NOT_RUNNING: 3}[self]


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One process."""

    name: str
    state: str
    healthy: bool
    reason: str
    pid: int
    uptime_s: float | None
    cpu_percent: float | None
    rss_bytes: int | None
    heartbeat_age_s: float | None
    generation: int | None
    numbers: dict[str, Any]
    """What the worker counts: lines, lag, gaps, as its heartbeat gives them."""


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One capture."""

    stream: str
    session_date: int
    last_seq: int
    durable_age_s: float | None
    """Since the last durable frame was received, s; None when nothing was."""


@dataclass(frozen=True, slots=True)
class Status:
    """Everything."""

    overall: Overall
    reasons: list[str]
    home: str
    parts: list[PartStatus]
    streams: list[StreamStatus]
    addresses: dict[str, str]
    disk_free_bytes: int
    disk_reserve_bytes: int
    disk_state: str
    quarantined: int
    """Refused rows that wait for a fix; -1 when that cannot be read."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def read_status(settings: Settings, clock: Clock) -> Status:
    """Look at everything; takes about `CPU_SAMPLE_S`, raises nothing for what does not run."""
    supervisor = Supervisor(settings, clock)
    reasons: list[str] = []
    hint = ""
    parts: list[PartStatus] = []
    try:
        running = supervisor.processes()
    except L2Error:
        running = None
        left = find_orphans(settings)
        if left:
            reasons.append(f"the process manager is gone, {', '.join(left)} still run; `l2 up` adopts them")
        else:
            by_hand = ", ".join(f"{name} (pid {pid})" for name, pid in find_started_by_hand(settings).items())
            hint = f"only what was started by hand runs: {by_hand}" if by_hand else ""
    if running is not None:
        parts = list(_parts(settings, clock, supervisor))
        reasons += [f"{part.name}: {part.reason}" for part in parts if not part.healthy]
    record = disk.read_record(settings)
    state = record.state if record else disk.DiskState.OK
    if state is not disk.DiskState.OK:
        reasons.append(
            f"disk: {'JSONL is' if state is disk.DiskState.SHED else 'files, tables and Dagster are'} stopped for want of space"
        )
    if running is None and not reasons:
        overall = Overall.NOT_RUNNING
    elif running is None:
        overall = Overall.DEGRADED
    else:
        overall = Overall.DEGRADED if reasons else Overall.HEALTHY
    if hint:
        reasons.append(hint)
    return Status(
        overall, reasons, str(settings.home), parts, list(_streams(settings, clock)), addresses(settings),
        disk.free_bytes(settings.home), settings.disk.reserve_bytes, state.value, _quarantined(settings, clock),
    )  # fmt: skip


def _quarantined(settings: Settings, clock: Clock) -> int:
    folders = [folder for folder in settings.quarantine_dir.glob("*") if folder.is_dir()]
    if not folders:
        return 0
    from l2_platform.sinks.quarantine import Quarantine  # numpy comes with it

    bound = settings.delivery.quarantine_rows_max
    try:
        return sum(Quarantine(settings.quarantine_dir, folder.name, bound, clock).waiting() for folder in folders)
    except (L2Error, OSError):
        return -1  # it cannot be read; whoever writes there says why


def _parts(settings: Settings, clock: Clock, supervisor: Supervisor) -> Iterator[PartStatus]:
    plan = plan_parts(settings)
    processes = supervisor.processes()
    vitals = [examine(part, processes.get(part.name), settings, clock) for part in plan]
    found: dict[int, psutil.Process] = {}
    for item in vitals:
        if item.pid:
            try:
                found[item.pid] = psutil.Process(item.pid)
                found[item.pid].cpu_percent()
            except psutil.Error:
                found.pop(item.pid, None)
    clock.sleep(CPU_SAMPLE_S)
    now_ns = clock.now_ns()
    for item in vitals:
        cpu, rss = _usage(found.get(item.pid))
        beat = item.heartbeat
        uptime = now_ns / 1e9 - item.process.started_s if item.process and item.pid else None
        yield PartStatus(
            item.name, item.state, item.healthy, item.reason, item.pid, uptime, cpu, rss,
            beat.age_s(now_ns) if beat else None, beat.generation if beat else None, dict(beat.numbers) if beat else {},
        )  # fmt: skip


def _usage(process: psutil.Process | None) -> tuple[float | None, int | None]:
    if process is None:
        return None, None
    try:
        return process.cpu_percent(), int(process.memory_info().rss)
    except psutil.Error:
        return None, None


def _streams(settings: Settings, clock: Clock) -> Iterator[StreamStatus]:
    if not settings.journal_dir.is_dir():
        return
    for stream in list_streams(settings.journal_dir):
        durable = read_durable(settings.run_dir / "durable" / stream)
        if durable is None:
            continue
        age_s = (clock.now_ns() - durable.ts_recv) / 1e9 if durable.ts_recv else math.nan
        yield StreamStatus(
            stream, durable.position.session_date, durable.seq, None if math.isnan(age_s) else round(age_s, 3)
        )

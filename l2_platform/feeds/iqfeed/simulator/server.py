"""Start and stop of the simulated market as a process: signals, lease, heartbeat.

What does not belong here: anything about the market; its modules are imported after the kernel cache was prepared.
"""

import logging
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from l2_platform.clock import Clock, SystemClock
from l2_platform.errors import InputError
from l2_platform.monitoring.bounds import bounds_record
from l2_platform.monitoring.heartbeat import Heartbeat, Lease
from l2_platform.settings import Settings

if TYPE_CHECKING:
    from l2_platform.feeds.iqfeed.simulator.loop import Simulator
    from l2_platform.feeds.iqfeed.simulator.source import Source

log = logging.getLogger(__name__)

WORKER = "simulator"


@dataclass(frozen=True)
class Recording:
    """A wire file to play instead of the generated market."""

    path: Path
    channel: str
    """depth or level1."""
    speed: float = 1.0
    """Times the pace of the recording; 0 = as fast as clients read."""


def build(
    settings: Settings, *, clock: Clock | None = None, flat: bool = False, recording: Recording | None = None
) -> "Simulator":
    """A simulator with its ports open; call `turn` in a loop, then `close`. ConfigError when a port is taken."""
    from l2_platform.feeds.iqfeed.simulator.loop import Simulator

    clock = clock or SystemClock()
    return Simulator(settings, _source(settings, clock, flat=flat, recording=recording), clock)


def run(
    settings: Settings,
    *,
    flat: bool = False,
    recording: Recording | None = None,
    wait: bool = False,
    stop: threading.Event | None = None,
) -> int:
    """Run until SIGTERM, SIGINT, the control command `stop`, or `stop` is set; return the exit code.

    Every exit is clean and takes less than a second; LeaseHeld when another copy runs in this home (unless `wait`).
    """
    from l2_platform.monitoring.runtime import prepare_numba

    prepare_numba(settings.cache_dir / "numba")
    stop = stop or threading.Event()
    if threading.current_thread() is threading.main_thread():

        def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  (the signature of a handler)
            stop.set()

        signal.signal(signal.SIGTERM, on_signal)
        signal.signal(signal.SIGINT, on_signal)
    clock = SystemClock()
    lease = Lease(settings.run_dir / "leases" / WORKER)
    lease.acquire(wait=wait)
    heartbeat = Heartbeat(settings.run_dir / "heartbeats" / f"{WORKER}.json", WORKER, clock)
    try:
        heartbeat.beat("syncing")
        simulator = build(settings, clock=clock, flat=flat, recording=recording)
        try:
            _serve(simulator, heartbeat, clock, stop, int(settings.supervision.heartbeat_s * 1e9))
        finally:
            simulator.close()
        heartbeat.beat("stopped")
    finally:
        lease.release()
    return 0


def _serve(simulator: "Simulator", heartbeat: Heartbeat, clock: Clock, stop: threading.Event, every_ns: int) -> None:
    log.info("simulator_ready symbols=%d", len(simulator.source.names))
    next_beat = 0
    while not stop.is_set() and not simulator.stopping:
        simulator.turn()
        now = clock.monotonic_ns()
        if now >= next_beat:
            next_beat = now + every_ns
            numbers: dict[str, Any] = {
                name: value for name, value in simulator.source.status().items() if isinstance(value, int | float)
            }
            bounds = bounds_record(simulator.network.bounds)
            heartbeat.beat("live", clients=len(simulator.network.connections), bounds=bounds, **numbers)


def _source(settings: Settings, clock: Clock, *, flat: bool, recording: Recording | None) -> "Source":
    from l2_platform.feeds.iqfeed.simulator.live import LiveMarket, warm_kernels
    from l2_platform.feeds.iqfeed.simulator.playback import Playback

    warm_kernels()  # compile before the market's time begins, not while clients wait
    if recording is None:
        return LiveMarket(settings.simulator, clock.now_ns(), flat=flat, halts_file=settings.simulated_halts)
    if recording.channel not in {"depth", "level1"}:
        raise InputError(f"--channel must be depth or level1, not {recording.channel!r}")
    if recording.speed < 0:
        raise InputError("--speed must be 0 (as fast as clients read) or more")
    bytes_max = settings.simulator.recording_bytes_max
    return Playback(recording.path, recording.channel, recording.speed, clock.now_ns(), bytes_max)

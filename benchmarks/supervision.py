"""What supervision costs: a tick of the sensor with twenty workers, and the events of a day.

What does not belong here: how fast a killed worker is back (startup.py).
"""

import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import dagster as dg

from benchmarks.figure import Context, Result, Row, Spread, Target, figure
from l2_platform.assets.liveness import Pulse, Spec
from l2_platform.clock import Clock, SystemClock
from l2_platform.definitions import build_definitions
from l2_platform.monitoring.heartbeat import Heartbeat, Lease
from l2_platform.monitoring.symbols_file import demo_symbols, write_symbols
from l2_platform.sensors.supervisor_decision import decide
from l2_platform.settings import Settings

TICK_S = 15
COLLECTORS = 16
"""With two deliveries, sealer and warehouse these are twenty workers."""
DAY_S = 86_400
EVENTS_MAX = 60_000
TICK_S_MAX = 1.0
STORAGE = Path(__file__).resolve().parents[1] / "dagster.yaml"


class TickClock(SystemClock):
    """Fifteen seconds a tick, from the machine's time on."""

    def __init__(self) -> None:
        self.ticks = 0

    def now_ns(self) -> int:
        """Wall time of the tick at hand, ns."""
        return super().now_ns() + self.ticks * TICK_S * 10**9


@figure("supervision", title="Supervision", unit="ms", order=95)
def supervision(ctx: Context) -> Result:
    """One tick of sensor `collector_supervisor`: desired states derived from the symbols file and compared, heartbeats, leases and crash
    loops read, everything judged and decided, and its events written to Dagster's event log (SQLite) as the daemon does it. Sixteen
    collectors of 10,000 symbols in all, two deliveries, sealer and warehouse, each with a heartbeat of its usual size that changes from
    tick to tick; ticks are 15 s apart by the clock they see. The events of a day are counted by running the decision over every tick of
    one, quiet, and with every worker changing its state at every tick.
    """
    spent = _ticks(ctx, ctx.pick(3, 240), ctx.pick(50, 10_000))
    look, write = Spread.of([one for one, _ in spent], "less").times(1e3), Spread.of([two for _, two in spent], "less").times(1e3)
    whole = sorted(one + two for one, two in spent[1:])
    p95 = whole[min(len(whole) - 1, int(0.95 * len(whole)))]
    rows: list[Row] = [
        {"part": "look and decide", "median, ms": look.median, "greatest, ms": look.high},
        {"part": "write events", "median, ms": write.median, "greatest, ms": write.high},
        {"part": "whole tick, p95", "median, ms": statistics.median(whole) * 1e3, "greatest, ms": p95 * 1e3},
    ]
    ticks = ctx.pick(40, DAY_S // TICK_S)
    days: list[Row] = [{"day": name, "events": _events(ticks, flapping=flapping)} for name, flapping in (("quiet", 0), ("flapping", 1))]
    most = max(int(str(row["events"])) for row in days)
    targets = [
        Target("supervisor tick p95 ≤ 1 s with 20 workers", f"{p95:.2f} s (N={len(whole)})", p95 <= TICK_S_MAX),
        Target("≤ 60,000 runless events a day with 20 workers", f"{most:,} events", most <= EVENTS_MAX),
    ]
    return Result(
        rows=rows, more={"Events of a day of 20 workers": days}, targets=targets,
        limit="Writing events: one transaction each. The first tick writes every check at once and is left out of the p95.",
    )  # fmt: skip


def _ticks(ctx: Context, count: int, symbols: int) -> list[tuple[float, float]]:
    """Seconds of (look and decide, write events) of each tick."""
    clock = TickClock()
    streams = tuple(f"iqfeed-{channel}-{number}" for number in range(COLLECTORS // 2) for channel in ("depth", "level1"))
    settings = Settings(home=ctx.scratch / "home", streams=streams, feed={"kind": "iqfeed"}, session={"calendar": "always_open"})
    write_symbols(settings.symbols_file, demo_symbols(symbols))
    definitions = build_definitions(settings, {"clock": clock})
    sensor = next(item for item in definitions.sensors or [] if item.name == "collector_supervisor")
    assert isinstance(sensor, dg.SensorDefinition)
    workers = [f"collector-{stream}" for stream in streams] + ["deliver-clickhouse", "deliver-jsonl", "sealer", "warehouse"]
    leases = [Lease(settings.run_dir / "leases" / worker) for worker in workers]
    for lease in leases:
        lease.acquire()
    spent, cursor = [], None
    with _instance(ctx) as instance:
        for clock.ticks in range(count):
            _beat(settings, workers, clock)
            begun = clock.monotonic_ns()
            with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
                result = sensor.evaluate_tick(context)
            looked = clock.monotonic_ns()
            cursor = result.cursor
            for event in result.asset_events:
                instance.report_runless_asset_event(event)
            spent.append(((looked - begun) / 1e9, (clock.monotonic_ns() - looked) / 1e9))
    for lease in leases:
        lease.release()
    return spent


def _instance(ctx: Context) -> dg.DagsterInstance:
    """Dagster's storage on disk, as `l2 up` sets it up; in memory for the tiny run."""
    if ctx.is_smoke:
        return dg.DagsterInstance.ephemeral()
    folder = ctx.scratch / "dagster"
    folder.mkdir()
    shutil.copy(STORAGE, folder / "dagster.yaml")
    return dg.DagsterInstance.from_config(str(folder))


def _beat(settings: Settings, workers: list[str], clock: Clock) -> None:
    numbers = {name: clock.now_ns() % 10**6 for name in ("lines", "bytes", "rows", "last_seq", "attempts", "watched", "wanted")}
    streams = {stream: {"seq": 1, "lag_s": 0.1, "lag_lines": 5, "gap_open": 0, "gaps": 1} for stream in settings.streams}
    for worker in workers:
        beat = Heartbeat(settings.run_dir / "heartbeats" / f"{worker}.json", worker, clock)
        more = {"streams": streams} if worker.startswith("deliver-") else {}
        beat.beat("live", generation=1, last_byte_ns=clock.now_ns(), **numbers, **more)


def _events(ticks: int, *, flapping: int) -> int:
    """Events of so many ticks, scaled to a day; `flapping`: every worker changes every check at every tick."""
    names = [f"w{number}" for number in range(20)]
    spec = Spec("w", follows=True, collects=True, generation=3)
    specs = {name: replace(spec, worker=name) for name in names}
    good, bad = Pulse("live", 1, True, 0.5, 3, {"lines": 1}), Pulse("suspect", 1, True, 0.5, 2, {"stalled_since_ns": 1})
    begin, count, cursor = 1_790_000_000 * 10**9, 0, None
    for tick in range(ticks):
        pulse = bad if flapping and tick % 2 else good
        _, events, cursor = decide(begin + tick * TICK_S * 10**9, specs, dict.fromkeys(names, pulse), cursor)
        count += len(events)
    return count

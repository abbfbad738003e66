"""Figure `repair`: how long after a gap its rows can be queried, with everything running and nobody asking.

What does not belong here: whether the rows are right (tests/faults/test_repair.py).
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from clickhouse_connect.driver.client import Client

from benchmarks.control_room import CHECKOUT, TOOLS, _environment, _l2
from benchmarks.figure import Context, NotMeasurable, Plot, Result, Row, Series, Spread, Target, figure
from l2_platform.clock import SystemClock
from l2_platform.feeds.iqfeed.simulator.control import ask
from l2_platform.monitoring.heartbeat import read_heartbeat
from l2_platform.quality.ledger import LedgerGap, load_gaps, load_versions
from l2_platform.settings import PortSettings, Settings
from l2_platform.warehouse.client import connect

NS = 1_000_000_000
STREAM = "iqfeed-level1-0"
WHOLE_S, FOUND_S = 60.0, 1.0
"""Bars: median from the end of a gap to rows that can be queried; longest from its end to its row in the ledger."""
WAIT_S = 300.0
LOOK_S = 0.02
T = TypeVar("T")


@figure("repair", title="Repair of a gap", unit="s", long=True, order=98)
def repair(ctx: Context) -> Result:
    """`l2 up` with Dagster, the simulated market with 20 symbols; again and again the Level 1 collector is killed (SIGKILL) while the
    market refuses new links for the length of the cut, so that it is back only then. Nobody asks for anything: the process manager
    starts the collector, the delivery finds the gap, the sensor sees it, the job repairs it. Timed from the gap's end (its `ts_to`, the
    first byte after it): until it is closed in the ledger, as polled, and until the ledger says `repaired`, which is written after the
    rows can be queried. Options: `cuts` (10), `cut_s` (90).
    """
    cuts, cut_s = int(ctx.options.get("cuts", str(ctx.pick(1, 10)))), float(ctx.options.get("cut_s", str(ctx.pick(3, 90))))
    home = ctx.scratch / "repair"
    environment = _environment(home, "sqlite") | {"L2_FEED__RECONNECT_CAP_S": "2"}
    cache = os.environ.get("NUMBA_CACHE_DIR")
    if cache is not None:
        (home / "cache").mkdir(parents=True, exist_ok=True)
        (home / "cache" / "numba").symlink_to(Path(cache).parent, target_is_directory=True)
    settings = Settings(home=home, ports=PortSettings(base=int(environment["L2_PORTS__BASE"])))
    try:
        _l2(environment, "up")
        client = connect(settings)
        try:
            timed = [_cut(settings, client, cut_s) for _ in range(cuts)]
        finally:
            client.close()
    finally:
        subprocess.run([str(TOOLS / "l2"), "down"], env=environment, check=False, capture_output=True, timeout=180, cwd=CHECKOUT)
        shutil.rmtree(home, ignore_errors=True)
    found, whole = (Spread.of([one[place] for one in timed], "less") for place in (0, 1))
    each: list[Row] = [{"cut": number, "found s": one[0], "repaired s": one[1], "rows": one[2]} for number, one in enumerate(timed, 1)]
    rows: list[Row] = [{"until": "closed in the ledger", "s": found}, {"until": "repaired, rows can be queried", "s": whole}]
    numbers = [float(number) for number in range(1, cuts + 1)]
    return Result(
        rows=rows,
        more={"Each cut": each},
        plots=[Plot("cuts", f"Cuts of {cut_s:g} s", "cut", "s", [Series("repaired", numbers, whole.values)])],
        targets=[
            Target(f"gap found ≤ {FOUND_S:g} s after it ends", f"{found.high:.2f} s at most (N={cuts})", found.high <= FOUND_S),
            Target(f"repaired ≤ {WHOLE_S:g} s after it ends, median", f"{whole.median:.1f} s (N={cuts})", whole.median <= WHOLE_S),
        ],
        limit="`repair.settle_s` and margin (5 s), the sensor's interval (10 s), and the start of a run's process.",
    )  # fmt: skip


def _cut(settings: Settings, client: Client, cut_s: float) -> tuple[float, float, int]:
    """Seconds until it was found and until it was repaired, and the rows that came."""
    beat = settings.run_dir / "heartbeats" / f"collector-{STREAM}.json"
    _until("the collector is live", lambda: (record := read_heartbeat(beat)) is not None and record.alive() and record.state == "live")
    time.sleep(3)
    record, clock = read_heartbeat(beat), SystemClock()
    assert record is not None
    before = {gap.gap_id for gap in load_gaps(client, settings.clickhouse.database, stream=STREAM) if gap.state == "closed"}
    ask(settings.ports.simulator_control, {"cmd": "refuse", "channel": "level1", "seconds": cut_s})
    os.kill(record.pid, signal.SIGKILL)

    def closed() -> LedgerGap | None:
        gaps = load_gaps(client, settings.clickhouse.database, stream=STREAM)
        return next((gap for gap in gaps if gap.state == "closed" and gap.gap_id not in before), None)

    gap = _until("the gap is closed in the ledger", closed, WAIT_S + cut_s)
    end = gap.ts_to or 0
    found_s = (clock.now_ns() - end) / NS

    def repaired() -> LedgerGap | None:
        newest = load_versions(client, settings.clickhouse.database, gap.gap_id)[-1]
        if newest.repair_state in {"failed", "partial"}:
            raise NotMeasurable(f"the repair is {newest.repair_state}: {newest.residual}")
        return newest if newest.repair_state else None

    whole = _until("the gap is repaired", repaired)
    return found_s, (whole.ts_written - end) / NS, whole.rows_recovered


def _until(what: str, look: Callable[[], T | None], seconds: float = WAIT_S) -> T:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise NotMeasurable(f"not within {seconds:g} s: {what}")
        time.sleep(LOOK_S)
    return found

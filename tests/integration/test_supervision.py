"""Supervision with real processes: each trouble is told with what to do and heals, and recording goes on."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from l2_platform.assets import liveness
from l2_platform.monitoring.desired import read_desired
from l2_platform.monitoring.heartbeat import holder_of
from l2_platform.operations.intents import desired_path
from l2_platform.resources import worker_control
from l2_platform.sensors import supervisor_decision
from tests.faults.stack import DEPTH, DEPTH_COLLECTOR, LEVEL1, LEVEL1_COLLECTOR
from tests.integration.supervision import RECORDING_ONLY, Supervised, supervised

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]
DEPTH_ASSET, LEVEL1_ASSET = f"collectors/{DEPTH}", f"collectors/{LEVEL1}"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[Supervised]:
    # the process manager and the watchdog have their time on a busy machine too
    slow = {"dead": 60.0, "stale": 60.0, "hung": 60.0, "never started": 60.0}
    with pytest.MonkeyPatch.context() as patch, supervised(tmp_path_factory.mktemp("s"), numba_cache, **RECORDING_ONLY) as found:
        patch.setattr(supervisor_decision, "PATIENCE_S", dict.fromkeys(supervisor_decision.PATIENCE_S, 2.0) | slow)
        patch.setattr(liveness, "KILLED_SHOWS_S", 15.0)
        patch.setattr(worker_control, "APPLY_S", 1.0)
        found.all_well()
        yield found


def lines(one: Supervised, worker: str) -> int:
    beat = one.beat(worker)
    return int(beat.numbers.get("lines") or 0) if beat is not None else 0


def heals(one: Supervised, worker: str, before: int) -> None:
    one.until(f"a new {worker}", lambda: one.pid(worker) != before)
    one.all_well()


def test_killed_collector_comes_back_without_a_run(one: Supervised) -> None:
    asked = len(one.requests)
    before = one.signal(DEPTH_COLLECTOR, signal.SIGKILL)
    one.tick()
    seen = one.now(DEPTH_ASSET)
    assert seen is not None
    if seen.state == "dead":
        assert seen.error
        assert f"job control_collector, action restart, worker {DEPTH_COLLECTOR}" in seen.message
    heals(one, DEPTH_COLLECTOR, before)
    assert len(one.requests) == asked


def test_change_that_is_not_applied_is_rolled(one: Supervised) -> None:
    path = desired_path(one.settings, LEVEL1_COLLECTOR)
    state, before, pid = path.stat(), read_desired(path), one.pid(LEVEL1_COLLECTOR)
    assert before is not None
    wanted = before.generation + 5
    # written in place with the old times: the worker cannot see it
    path.write_text(path.read_text().replace(f'"generation": {before.generation},', f'"generation": {wanted},'))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    seen = one.shows(LEVEL1_ASSET, "not applied", check="spec_applied")
    assert seen.error
    assert f"Wanted is generation {wanted}, applied is {before.generation}" in seen.message
    one.until("a roll was requested", lambda: one.requests and one.requests[-1].tags["l2/reason"] == "not applied")
    assert one.requests[-1].run_key is not None
    assert one.requests[-1].run_key.startswith(f"{LEVEL1_COLLECTOR}:{wanted}:")
    assert one.runs[-1]
    heals(one, LEVEL1_COLLECTOR, pid)
    beat = one.beat(LEVEL1_COLLECTOR)
    assert beat is not None
    assert beat.generation == wanted


def test_lost_lease_is_red_and_the_worker_restarted(one: Supervised) -> None:
    lease, pid = one.settings.run_dir / "leases" / "sealer", one.pid("sealer")
    lease.unlink()
    lease.touch()
    seen = one.shows("services/sealer", "lost lease")
    assert seen.error
    assert "run/leases" in seen.message
    heals(one, "sealer", pid)
    assert holder_of(lease) == one.pid("sealer")


def test_what_an_operator_stops_is_left_and_says_so(one: Supervised) -> None:
    asked = len(one.requests)
    assert one.control("stop", DEPTH_COLLECTOR, "sealer")
    for asset in (DEPTH_ASSET, "services/sealer"):
        seen = one.shows(asset, "stopped on purpose")
        assert not seen.passed
        assert not seen.error
        assert "action start" in seen.message
    for _ in range(10):
        one.tick()
    assert len(one.requests) == asked
    assert one.control("start", DEPTH_COLLECTOR, "sealer")
    one.all_well()


def test_dead_process_manager_is_red_and_recording_goes_on(one: Supervised) -> None:
    asked, pid = len(one.requests), one.supervisor().pid()
    os.kill(pid, signal.SIGKILL)
    seen = one.shows("services/process_manager", "dead")
    assert seen.error
    assert "`l2 up`" in seen.message
    before = lines(one, DEPTH_COLLECTOR)
    one.until("recording goes on", lambda: lines(one, DEPTH_COLLECTOR) > before)
    for _ in range(10):
        one.tick()
    assert len(one.requests) == asked
    one.home.ok("up")
    one.shows("services/process_manager", "running")
    one.all_well()

"""The process manager with real processes: start, restart, stop, and what is left when it is killed."""

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from l2_platform.clock import SystemClock
from l2_platform.errors import L2Error
from l2_platform.operations.orphans import find_orphans, stop_orphans
from l2_platform.operations.plan import Health, Part, Phase
from l2_platform.operations.supervisord import Supervisor, render_config
from l2_platform.settings import Settings

pytestmark = pytest.mark.integration
READY = "import os, pathlib, signal, time; mark = pathlib.Path(f'ready-{os.getpid()}').touch; "
SLEEP = (sys.executable, "-c", READY + "mark(); time.sleep(600)")
STUBBORN = (sys.executable, "-c", READY + "signal.signal(signal.SIGTERM, signal.SIG_IGN); mark(); time.sleep(600)")
PARTS = [
    Part("sleeper", SLEEP, Phase.FEED, Health.HEARTBEAT),
    Part("stubborn", STUBBORN, Phase.DELIVER, Health.HEARTBEAT, stop_s=1),
]


def wait(condition, seconds: float = 20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    return pytest.fail("waited in vain")


@pytest.fixture
def settings(tmp_path):
    made = Settings(home=tmp_path)
    made.log_dir.mkdir()
    made.run_dir.mkdir()
    return made


@pytest.fixture
def supervisor(settings):
    made = Supervisor(settings, SystemClock())
    made.config_path.write_text(render_config(settings, PARTS, settings.home))
    made.start_daemon(dict(os.environ), settings.home)
    yield made
    if made.answers():
        made.shut_down()
        wait(lambda: not made.answers())
    for process in find_orphans(settings).values():
        process.kill()


def pids(supervisor):
    return {name: process.pid for name, process in supervisor.processes().items()}


def all_running(supervisor):
    """pids once both programs have begun: a signal between fork and exec would be lost, or come before it is ignored."""
    found = pids(supervisor)
    ready = [pid for pid in found.values() if pid and (Path(psutil.Process(pid).cwd()) / f"ready-{pid}").exists()]
    return found if len(ready) == len(PARTS) else None


def test_nothing_answers_before_the_start(settings):
    supervisor = Supervisor(settings, SystemClock())
    assert not supervisor.answers()
    with pytest.raises(L2Error, match="l2 up"):
        supervisor.processes()


def test_killed_program_is_started_again(supervisor):
    before = wait(lambda: all_running(supervisor))
    os.kill(before["sleeper"], signal.SIGKILL)
    after = wait(lambda: (found := pids(supervisor))["sleeper"] not in {0, before["sleeper"]} and found)
    assert after["stubborn"] == before["stubborn"]


def test_stopped_program_stays_stopped_and_starts_on_demand(supervisor):
    wait(lambda: all_running(supervisor))
    supervisor.stop("sleeper")
    assert supervisor.wait_stopped(["sleeper"], 20) == []
    supervisor.stop("sleeper")
    assert not supervisor.processes()["sleeper"].running
    supervisor.start("sleeper")
    supervisor.start("sleeper")
    wait(lambda: pids(supervisor)["sleeper"])


def test_program_that_ignores_the_signal_is_killed(supervisor):
    wait(lambda: all_running(supervisor))
    supervisor.stop("stubborn")
    assert supervisor.wait_stopped(["stubborn"], 20) == []


def test_children_of_a_killed_process_manager_are_found_and_stopped(supervisor, settings):
    running = wait(lambda: all_running(supervisor))
    assert {process.pid for process in find_orphans(settings).values()} == set(running.values())
    os.kill(supervisor.pid(), signal.SIGKILL)
    wait(lambda: not supervisor.answers())
    told: list[str] = []
    stop_orphans(find_orphans(settings), SystemClock(), 1, told.append)
    assert any("killing stubborn" in text for text in told)
    wait(lambda: not find_orphans(settings))
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in running.values())


def test_socket_left_by_a_kill_does_not_hinder_the_next_start(supervisor, settings):
    os.kill(supervisor.pid(), signal.SIGKILL)
    wait(lambda: not supervisor.answers())
    stop_orphans(find_orphans(settings), SystemClock(), 1, lambda _: None)
    supervisor.start_daemon(dict(os.environ), settings.home)
    wait(lambda: all_running(supervisor))


def test_a_home_of_somebody_else_has_no_orphans(tmp_path):
    assert find_orphans(Settings(home=Path(tmp_path))) == {}

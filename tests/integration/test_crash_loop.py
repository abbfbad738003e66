"""A process that ends at once, under a real process manager and a real watchdog: held back, tried, healed; and a manager that is gone."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from l2_platform.clock import SystemClock
from l2_platform.operations.crash_loops import clear_loop, read_loop
from l2_platform.operations.plan import Health, Part, Phase
from l2_platform.operations.supervisord import Supervisor, manager_trouble, render_config
from l2_platform.operations.watchdog import Watchdog
from l2_platform.settings import Settings

pytestmark = pytest.mark.integration
CODE = """
import pathlib, sys, time
pathlib.Path("starts").open("a").write("x")
if pathlib.Path("broken").exists():
    sys.exit(2)
time.sleep(600)
"""
LIMITS = {"crash_s": 4, "crash_starts_max": 3, "crash_first_s": 3, "crash_cap_s": 6}


class Bench:
    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home, supervision=LIMITS)  # type: ignore[arg-type]
        self.settings.run_dir.mkdir()
        self.settings.log_dir.mkdir()
        self.supervisor = Supervisor(self.settings, SystemClock())
        script = home / "worker.py"
        script.write_text(CODE)
        part = Part("sealer", (sys.executable, "-S", str(script)), Phase.DELIVER, Health.HEARTBEAT)
        self.supervisor.config_path.write_text(render_config(self.settings, [part], home))
        self.supervisor.start_daemon(dict(os.environ), home)
        self.watchdog = Watchdog(self.settings, SystemClock())

    def until(self, what: str, reached: Callable[[], object]) -> None:
        deadline = time.monotonic() + 120
        while not reached():
            assert time.monotonic() < deadline, what
            self.watchdog.look(self.supervisor.processes())
            time.sleep(0.3)

    def starts(self) -> int:
        return (self.settings.home / "starts").stat().st_size

    def held(self) -> bool:
        return read_loop(self.settings, "sealer") is not None


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    if made.supervisor.answers():
        made.supervisor.shut_down()


def test_loop_is_held_back_tried_and_healed(bench: Bench) -> None:
    broken = bench.settings.home / "broken"
    bench.until("it runs", lambda: bench.supervisor.processes()["sealer"].running)
    broken.touch()
    bench.supervisor.kill("sealer")
    bench.until("held back", bench.held)
    before, loop = bench.starts(), read_loop(bench.settings, "sealer")
    assert loop is not None
    assert loop.crashes >= 3
    bench.until("tried again", lambda: bench.starts() > before)
    bench.until("held back again", lambda: not bench.supervisor.processes()["sealer"].running)
    broken.unlink()
    bench.until("healed", lambda: not bench.held())
    assert bench.supervisor.processes()["sealer"].running


def test_cleared_loop_is_left_to_whoever_cleared_it(bench: Bench) -> None:
    (bench.settings.home / "broken").touch()
    bench.supervisor.kill("sealer")
    bench.until("held back", bench.held)
    (bench.settings.home / "broken").unlink()
    clear_loop(bench.settings, "sealer")
    bench.watchdog.look(bench.supervisor.processes())
    bench.supervisor.start("sealer")
    pid = bench.supervisor.processes()["sealer"].pid
    until = time.monotonic() + 6
    bench.until("it lives on", lambda: time.monotonic() > until)
    assert bench.supervisor.processes()["sealer"].pid == pid
    assert not bench.held()


def test_manager_that_hangs_and_one_that_is_dead_are_told_apart(bench: Bench) -> None:
    assert manager_trouble(bench.settings) == ""
    manager = psutil.Process(bench.supervisor.pid())
    manager.suspend()
    assert "hangs" in manager_trouble(bench.settings, 0.3)
    manager.resume()
    child = bench.supervisor.processes()["sealer"].pid
    manager.send_signal(signal.SIGKILL)
    manager.wait(30)
    try:
        assert "dead" in manager_trouble(bench.settings)
    finally:
        os.kill(child, signal.SIGKILL)
    (bench.settings.run_dir / "supervisord.sock").unlink()
    assert "does not run" in manager_trouble(bench.settings)

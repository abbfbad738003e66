"""`l2 up` and `l2 down` with real processes: idempotent, recovering, clean."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.integration.ports import free_base

# a first start compiles kernels, and other tests use the same cores
pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]
L2 = str(Path(sys.executable).parent / "l2")


class Instance:
    """One home, run by the command line alone."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.base = free_base()
        self.environment = {
            **os.environ, "L2_HOME": str(home), "L2_PORTS__BASE": str(self.base), "L2_SIMULATOR__SYMBOLS": "5",
            "L2_SIMULATOR__RATE": "100", "L2_DISK__RESERVE_BYTES": "1000000", "L2_SUPERVISION__START_S": "300",
        }  # fmt: skip

    def l2(self, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [L2, *arguments],
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def status(self) -> dict:
        return json.loads(self.l2("status", "--json").stdout)

    def pids(self) -> dict[str, int]:
        return {part["name"]: part["pid"] for part in self.status()["parts"]}

    def supervisor_pid(self) -> int:
        return int((self.home / "run" / "supervisord.pid").read_text())

    def wait(self, condition, what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return
            time.sleep(0.2)
        pytest.fail(f"waited {seconds} s for {what}: {self.l2('status').stdout}")


@pytest.fixture(scope="module")
def instance(tmp_path_factory):
    # a short path: unix sockets have room for 107 bytes
    one = Instance(tmp_path_factory.mktemp("up"))
    try:
        first = one.l2("up")
        assert first.returncode == 0, first.stderr
        yield one
    finally:
        one.l2("down")


def test_everything_is_healthy_after_up(instance):
    status = instance.status()
    assert status["overall"] == "healthy", status["reasons"]
    assert {part["name"] for part in status["parts"]} >= {
        "warehouse",
        "deliver-jsonl",
        "collector-iqfeed-depth-0",
        "dagster-webserver",
    }
    assert instance.l2("status").returncode == 0


def test_second_up_changes_nothing(instance):
    before = instance.pids()
    again = instance.l2("up")
    assert again.returncode == 0
    assert "already up" in again.stdout
    assert str(instance.base) in again.stdout
    assert instance.pids() == before


def test_up_with_other_settings_says_so(instance):
    environment = {**instance.environment, "L2_JSONL__LEVELS": "5"}
    done = subprocess.run(
        [L2, "up"], env=environment, cwd=instance.home, capture_output=True, text=True, timeout=100, check=False
    )
    assert "other settings" in done.stdout


def test_killed_worker_comes_back(instance):
    before = instance.pids()
    os.kill(before["deliver-jsonl"], signal.SIGKILL)
    instance.wait(
        lambda: instance.pids().get("deliver-jsonl") not in {0, before["deliver-jsonl"]}, "a new deliver-jsonl"
    )
    instance.wait(lambda: instance.status()["overall"] == "healthy", "a healthy instance")
    after = instance.pids()
    assert {name: pid for name, pid in after.items() if name != "deliver-jsonl"} == {
        name: pid for name, pid in before.items() if name != "deliver-jsonl"
    }


def test_taken_port_is_one_clear_line(tmp_path):
    other = Instance(tmp_path)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", other.base + 2))
        listener.listen()
        done = other.l2("up")
    assert done.returncode == 2
    assert f"port {other.base + 2} (warehouse) is taken by" in done.stderr
    assert not (other.home / "run" / "supervisord.pid").exists()


def test_killed_process_manager_is_adopted_without_a_double(instance):
    before = instance.pids()
    os.kill(instance.supervisor_pid(), signal.SIGKILL)
    instance.wait(lambda: not psutil.pid_exists(instance.supervisor_pid()), "the end of the process manager")
    assert instance.l2("status").returncode == 1
    again = instance.l2("up")
    assert again.returncode == 0, again.stderr
    assert not [
        pid
        for pid in before.values()
        if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    ]
    assert instance.status()["overall"] == "healthy"


def test_down_stops_all_and_leaves_nothing(instance):
    pids = instance.pids()
    done = instance.l2("down", timeout=60)
    assert done.returncode == 0, done.stderr
    assert "stopped" in done.stdout
    assert not [pid for pid in pids.values() if psutil.pid_exists(pid)]
    assert instance.l2("status").returncode == 3
    assert instance.l2("down").stdout.strip() == "nothing was running"

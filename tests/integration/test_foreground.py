"""`l2 run`, as systemd and containers start it, and the files that start it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from l2_platform.operations.foreground import ServiceManager
from tests.integration.homes import Home

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
L2 = str(Path(sys.executable).parent / "l2")
UNIT = ROOT / "deploy" / "systemd" / "l2.service"


class Listener:
    """The side of systemd: a datagram socket that keeps what it is told."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.heard: list[str] = []

    def until(self, word: str, process: "subprocess.Popen[bytes]", seconds: float = 200) -> None:
        deadline = time.monotonic() + seconds
        self.socket.settimeout(1)
        while time.monotonic() < deadline:
            try:
                self.heard += self.socket.recv(65536).decode().splitlines()
            except TimeoutError:
                assert process.poll() in {None, 0}, f"ended with {process.returncode}; heard {self.heard[-5:]}"
            if word in self.heard:
                return
        pytest.fail(f"not told {word} within {seconds} s; heard {[text for text in self.heard if text != 'WATCHDOG=1']}")


@pytest.fixture
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("fg")


@pytest.fixture
def environment(home, numba_cache):
    variables = {
        "L2_SIMULATOR__SYMBOLS": "5", "L2_SIMULATOR__RATE": "100", "L2_DISK__RESERVE_BYTES": "1000000",
        "L2_DAGSTER__ENABLED": "false", "NOTIFY_SOCKET": str(home / "notify"),
    }  # fmt: skip
    return Home(home, numba_cache, variables).environment


@pytest.fixture
def listener(home):
    listener = Listener(home / "notify")
    yield listener
    listener.socket.close()


@pytest.fixture
def running(home, environment, listener):
    with (home / "out").open("wb") as out, subprocess.Popen([L2, "run"], env=environment, stderr=out, stdout=out) as process:
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(90)


def workers(home):
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("L2_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def test_says_when_it_is_ready_brings_a_killed_process_manager_back_and_drains_when_asked_to_end(
    home, environment, listener, running
):
    listener.until("READY=1", running)
    listener.until("WATCHDOG=1", running)
    status = subprocess.run([L2, "status"], env=environment, capture_output=True, text=True, check=False)
    assert status.returncode == 0, status.stdout
    second = subprocess.run([L2, "run"], env=environment, capture_output=True, text=True, check=False)
    assert second.returncode == 75
    assert "runs already" in second.stderr
    os.kill(int((home / "run" / "supervisord.pid").read_text()), signal.SIGKILL)
    listener.until("STATUS=everything is up again", running)
    assert subprocess.run([L2, "status"], env=environment, capture_output=True, check=False).returncode == 0
    running.send_signal(signal.SIGTERM)
    assert running.wait(90) == 0, (home / "out").read_text()
    listener.until("STOPPING=1", running)
    assert workers(home) == []
    said = (home / "out").read_text()
    assert "Bringing everything back (1 of at most 5 times in a row)" in said
    verified = subprocess.run([L2, "journal", "verify"], env=environment, capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_ends_in_the_middle_of_a_start(home, environment, running):
    deadline = time.monotonic() + 120
    while not (home / "run" / "supervisord.pid").exists():
        assert time.monotonic() < deadline, (home / "out").read_text()
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    assert running.wait(90) == 0, (home / "out").read_text()
    assert workers(home) == []


def test_nobody_listens(tmp_path):
    ServiceManager("").tell("READY=1")
    ServiceManager(str(tmp_path / "gone")).tell("READY=1")


def test_tells_a_socket_of_the_abstract_namespace():
    name = f"l2-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name)
        ServiceManager("@" + name).tell("READY=1", "STATUS=up")
        assert listening.recv(100) == b"READY=1\nSTATUS=up"


def test_unit_is_valid_and_shuts_everything_that_is_not_needed(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine")
    text = UNIT.read_text()
    # the checkout's own command in place of the installed one
    unit = tmp_path / "l2.service"
    unit.write_text(text.replace("/opt/l2_platform/.venv/bin/l2", L2))
    verified = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (verified.returncode, [line for line in verified.stderr.splitlines() if "l2.service" in line]) == (0, [])
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", str(unit)], capture_output=True, text=True, check=False
    )
    assert judged.returncode == 0, judged.stdout


def test_container_runs_the_same_command_on_loopback_only():
    service = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]["l2"]
    assert service["network_mode"] == "host"
    assert "ports" not in service
    assert (service["read_only"], service["cap_drop"], service["restart"]) == (True, ["ALL"], "unless-stopped")
    image = (ROOT / "deploy" / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["l2"]\nCMD ["run"]' in image
    assert "USER l2\n" in image

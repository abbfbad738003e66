"""Workers that run without the process manager: they are seen, and `l2 up` does not start beside them."""

import os

import pytest

from l2_platform import cli
from l2_platform.clock import SystemClock
from l2_platform.monitoring.heartbeat import Heartbeat
from l2_platform.operations.orphans import find_started_by_hand
from l2_platform.settings import Settings


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home in which this very process is the sealer."""
    monkeypatch.setenv("L2_HOME", str(tmp_path))
    (tmp_path / "run" / "heartbeats").mkdir(parents=True)
    Heartbeat(tmp_path / "run" / "heartbeats" / "sealer.json", "sealer", SystemClock()).beat("live")
    return tmp_path


def test_a_living_worker_is_seen(home):
    assert find_started_by_hand(Settings(home=home)) == {"sealer": os.getpid()}


def test_the_heartbeat_of_a_dead_worker_is_not(home):
    path = home / "run" / "heartbeats" / "sealer.json"
    path.write_text(path.read_text().replace(f'"pid":{os.getpid()}', '"pid":1'))
    assert find_started_by_hand(Settings(home=home)) == {}


def test_up_names_it_and_starts_nothing(home, capsys):
    assert cli.run(["up"]) == 75
    said = capsys.readouterr().err
    assert said.startswith(f"error: sealer (pid {os.getpid()}) runs already, started by hand; ")
    assert said.count("\n") == 1
    assert not (home / "journal").exists()


def test_status_names_it(home, capsys):
    assert cli.run(["status"]) == 3
    assert f"sealer (pid {os.getpid()})" in capsys.readouterr().out

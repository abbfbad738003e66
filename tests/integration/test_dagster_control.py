"""Job `control_collector` against a real process manager and a tiny worker that beats and obeys its desired state."""

import subprocess
import sys
from dataclasses import dataclass

import dagster as dg
import pytest

from l2_platform.clock import SystemClock
from l2_platform.definitions import build_definitions
from l2_platform.monitoring.desired import DesiredState, read_desired, write_desired
from l2_platform.monitoring.heartbeat import read_heartbeat
from l2_platform.operations.plan import Health, Part, Phase
from l2_platform.operations.supervisord import Supervisor, render_config
from l2_platform.settings import Settings

pytestmark = pytest.mark.integration

COLLECTOR, DELIVERY, SEALER = "collector-iqfeed-depth-0", "deliver-jsonl", "sealer"
CLOCK = SystemClock()
WORKER = """
import signal, sys
from pathlib import Path
from l2_platform.clock import SystemClock
from l2_platform.monitoring.desired import read_desired
from l2_platform.monitoring.heartbeat import Heartbeat

run, name = Path(sys.argv[1]), sys.argv[2]
clock, stopping = SystemClock(), []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
beat = Heartbeat(run / "heartbeats" / f"{name}.json", name, clock)
while not stopping:
    desired = None if (run / "deaf").exists() else read_desired(run / "desired" / f"{name}.json")
    state = "live" if desired is None or desired.enabled else "standby"
    if (run / "broken").exists():
        state = "crashloop"
    beat.beat(state, generation=desired.generation if desired else 0, lines=1)
    clock.sleep(0.1)
beat.beat("stopped")
"""


@dataclass
class Instance:
    settings: Settings
    supervisor: Supervisor
    definitions: dg.Definitions

    def run(self, action, *workers, **more):
        job = next(item for item in self.definitions.jobs or [] if item.name == "control_collector")
        config = dg.RunConfig(ops={"control": {"config": {"workers": list(workers), "action": action, **more}}})
        with dg.DagsterInstance.ephemeral() as instance:
            return job.execute_in_process(
                run_config=config, instance=instance, raise_on_error=False,
                resources={"process_manager": (self.definitions.resources or {})["process_manager"]},
            )  # fmt: skip

    def desired(self, worker):
        return read_desired(self.settings.run_dir / "desired" / f"{worker}.json")

    def beat(self, worker):
        return read_heartbeat(self.settings.run_dir / "heartbeats" / f"{worker}.json")


@pytest.fixture(scope="module")
def instance(tmp_path_factory):
    home = tmp_path_factory.mktemp("h")
    settings = Settings(home=home, supervision={"stop_s": 10})
    script = home / "worker.py"
    script.write_text(WORKER)
    settings.log_dir.mkdir()
    run = settings.run_dir
    run.mkdir()
    state = DesiredState(COLLECTOR, 1, True, ("iqfeed-depth-0",), ("SYM000",), (), "always_open")
    write_desired(run / "desired" / f"{COLLECTOR}.json", state)
    parts = [
        Part(name, (sys.executable, str(script), str(run), name), phase, Health.HEARTBEAT)
        for name, phase in ((COLLECTOR, Phase.COLLECT), (DELIVERY, Phase.DELIVER), (SEALER, Phase.DELIVER))
    ]
    supervisor = Supervisor(settings, CLOCK)
    supervisor.config_path.write_text(render_config(settings, parts, home))
    command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(supervisor.config_path)]
    with (home / "supervisord.out").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        while not supervisor.answers():
            assert process.poll() is None, (home / "supervisord.out").read_text()
            CLOCK.sleep(0.1)
        for part in parts:
            supervisor.start(part.name)
        try:
            yield Instance(settings, supervisor, build_definitions(settings))
        finally:
            process.terminate()
            process.wait(60)


def test_collector_stop_is_standby_of_the_same_process_and_start_ends_it(instance):
    assert instance.run("start", COLLECTOR).success
    pid = instance.beat(COLLECTOR).pid
    assert instance.run("stop", COLLECTOR).success
    resting = instance.beat(COLLECTOR)
    assert (resting.state, resting.pid) == ("standby", pid)
    desired = read_desired(instance.settings.run_dir / "desired" / f"{COLLECTOR}.json")
    assert not desired.enabled
    assert resting.generation == desired.generation
    assert instance.run("start", COLLECTOR).success
    assert (instance.beat(COLLECTOR).state, instance.beat(COLLECTOR).pid) == ("live", pid)


def test_asking_again_changes_nothing(instance):
    assert instance.run("start", COLLECTOR).success
    before = read_desired(instance.settings.run_dir / "desired" / f"{COLLECTOR}.json")
    assert instance.run("start", COLLECTOR).success
    assert read_desired(instance.settings.run_dir / "desired" / f"{COLLECTOR}.json") == before


def test_service_stop_ends_the_process_for_good_and_start_brings_a_new_one(instance):
    assert instance.run("start", SEALER).success
    assert instance.run("stop", SEALER).success
    assert not instance.supervisor.processes()[SEALER].running
    assert (instance.beat(SEALER).state, instance.beat(SEALER).alive()) == ("stopped", False)
    assert not instance.desired(SEALER).enabled
    assert instance.run("start", SEALER).success
    assert instance.beat(SEALER).alive()
    assert instance.desired(SEALER).enabled


def test_delivery_stop_is_standby_over_a_kill(instance):
    assert instance.run("start", DELIVERY).success
    assert instance.run("stop", DELIVERY).success
    pid = instance.beat(DELIVERY).pid
    instance.supervisor.kill(DELIVERY)
    while (beat := instance.beat(DELIVERY)) is None or beat.pid == pid:
        CLOCK.sleep(0.1)
    assert instance.beat(DELIVERY).state == "standby"
    assert instance.run("start", DELIVERY).success
    assert instance.beat(DELIVERY).state == "live"


def test_request_of_supervision_does_nothing_once_the_intent_changed(instance):
    assert instance.run("start", COLLECTOR).success
    asked = instance.desired(COLLECTOR).generation
    assert instance.run("stop", COLLECTOR).success
    assert instance.run("restart", COLLECTOR, generation=asked).success
    assert not instance.desired(COLLECTOR).enabled
    assert instance.beat(COLLECTOR).state == "standby"
    assert instance.run("start", COLLECTOR).success
    before = instance.beat(COLLECTOR).pid
    assert instance.run("restart", COLLECTOR, generation=instance.desired(COLLECTOR).generation).success
    assert instance.beat(COLLECTOR).pid != before


def test_roll_applies_live_and_restarts_only_what_does_not_follow(instance, monkeypatch):
    monkeypatch.setattr("l2_platform.resources.worker_control.APPLY_S", 1.0)
    assert instance.run("start", COLLECTOR).success
    pid = instance.beat(COLLECTOR).pid
    assert instance.run("roll", COLLECTOR).success
    assert instance.beat(COLLECTOR).pid == pid
    deaf = instance.settings.run_dir / "deaf"
    deaf.touch()
    while instance.beat(COLLECTOR).generation:
        CLOCK.sleep(0.1)
    monkeypatch.setattr("l2_platform.resources.worker_control.START_S", 2.0)
    try:
        assert not instance.run("roll", COLLECTOR).success
    finally:
        deaf.unlink()
    assert instance.beat(COLLECTOR).pid != pid
    assert instance.run("roll", COLLECTOR).success


def test_restart_gives_every_named_worker_a_fresh_process(instance):
    assert instance.run("start", COLLECTOR, DELIVERY).success
    before = {name: instance.beat(name).pid for name in (COLLECTOR, DELIVERY)}
    assert instance.run("restart", COLLECTOR, DELIVERY).success
    assert all(instance.beat(name).pid != pid and instance.beat(name).alive() for name, pid in before.items())


def test_start_after_kill_while_disabled_enables_too(instance):
    assert instance.run("stop", COLLECTOR).success
    instance.supervisor.kill(COLLECTOR)
    assert instance.run("start", COLLECTOR).success
    assert instance.beat(COLLECTOR).state == "live"


def failure_text(result):
    return next(event.step_failure_data.error.to_string() for event in result.all_node_events if event.is_step_failure)


@pytest.mark.parametrize(
    ("worker", "words"),
    [("deliver-json", "did you mean deliver-jsonl"), ("warehouse", "no such program"), ("", "Workers: ")],
)
def test_wrong_worker_fails_and_says_what_exists(instance, worker, words):
    result = instance.run("start", worker)
    assert not result.success
    assert words in failure_text(result)


def test_worker_that_does_not_reach_the_state_fails_with_what_was_seen(instance, monkeypatch):
    assert instance.run("stop", DELIVERY).success  # whatever the tests before left running
    monkeypatch.setattr("l2_platform.resources.worker_control.START_S", 1.5)
    broken = instance.settings.run_dir / "broken"
    broken.touch()
    try:
        result = instance.run("start", DELIVERY)
    finally:
        broken.unlink()
    assert not result.success
    text = failure_text(result)
    assert "start was asked for and not seen" in text
    assert "state crashloop" in text
    assert instance.run("clear", DELIVERY).success


def test_no_process_manager_fails_with_what_to_do(tmp_path):
    settings = Settings(home=tmp_path)
    result = Instance(settings, Supervisor(settings, CLOCK), build_definitions(settings)).run("start", COLLECTOR)
    assert not result.success
    assert "l2 up" in failure_text(result)

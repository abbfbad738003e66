"""Job `replay_day`: a real child process, its metadata, and its failures in words."""

import threading
import time
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest

from l2_platform.assets.replay import build_replay_job
from l2_platform.replay.child import ReplayWish, run_child
from l2_platform.resources.journal import JournalResource
from l2_platform.settings import Settings
from tests.integration.stored_days import DATE, DEPTH, LEVEL1, depth_day, level1_day, settings_in, write_stream

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture
def day(tmp_path: Path, numba_cache: Path) -> Settings:
    settings = settings_in(tmp_path)
    settings.cache_dir.mkdir()
    (settings.cache_dir / "numba").symlink_to(numba_cache.parent, target_is_directory=True)
    write_stream(settings, DEPTH, depth_day())
    write_stream(settings, LEVEL1, level1_day())
    return settings


def run_job(settings: Settings, **config: Any) -> dg.ExecuteInProcessResult:
    wish = {"date": str(DATE), "port_base": settings.ports.base, "clients": 0, "speed": "max", **config}
    with dg.DagsterInstance.ephemeral() as instance:
        return build_replay_job().execute_in_process(
            run_config={"ops": {"replay": {"config": wish}}}, instance=instance, raise_on_error=False,
            resources={"journal": JournalResource(settings=settings)},
        )  # fmt: skip


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    return next(event.step_failure_data.error.to_string() for event in result.all_node_events if event.is_step_failure)


def test_run_plays_the_day_and_shows_its_numbers(day: Settings) -> None:
    result = run_job(day)
    assert result.success
    output = next(event for event in result.all_node_events if event.event_type_value == "STEP_OUTPUT")
    told = output.event_specific_data.metadata
    assert told["lines"].value == 400 + 202
    assert {row.data["stream"] for row in told["digests"].records} == {DEPTH, LEVEL1}
    assert told["damaged_places"].value == 0
    assert {"late_p50_ms", "late_p99_ms", "late_max_ms", "clients", "seconds"} <= told.keys()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"date": "2020-01-03"}, "nothing is recorded"),
        ({"symbols": ["NOPE"]}, "no line of 'NOPE'"),
        ({"target": "kafka"}, "needs a topic"),
    ],
)
def test_wrong_config_fails_with_what_to_do(day: Settings, config: dict[str, Any], words: str) -> None:
    result = run_job(day, **config)
    assert not result.success
    assert words in failure_of(result)


def test_child_ends_when_its_parent_is_interrupted(day: Settings) -> None:
    seen: list[str] = []

    def interrupted(text: str) -> None:
        seen.append(text)

    wish = ReplayWish(str(DATE), "iqfeed", speed="0.1", port_base=day.ports.base, clients=0)
    failure: list[BaseException] = []

    def parent() -> None:
        try:
            run_child(day, wish, interrupted)
        except Exception as error:  # noqa: BLE001  what the job would show
            failure.append(error)

    thread = threading.Thread(target=parent)
    thread.start()
    deadline = time.monotonic() + 120
    while not any("Level 1 on" in text for text in seen):
        assert time.monotonic() < deadline, seen
        time.sleep(0.1)
    (child,) = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE and "replay" in one.cmdline()]
    child.terminate()
    thread.join(60)
    assert not thread.is_alive()
    assert not child.is_running()
    assert "stopped by SIGTERM" in str(failure[0])

"""The process around the followers: its heartbeat."""

import threading
from pathlib import Path

import pytest

from l2_platform.clock import SystemClock
from l2_platform.delivery.delivery import Delivery
from l2_platform.settings import Settings, SupervisionSettings


def test_the_heart_beats_on_after_a_beat_that_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    delivery = Delivery("jsonl", Settings(home=tmp_path, supervision=SupervisionSettings(heartbeat_s=0.01)), SystemClock())
    beat = tmp_path / "run" / "heartbeats" / "deliver-jsonl.json"
    unreadable = tmp_path / "quarantine" / "jsonl" / "iqfeed-depth-0-20240102.jsonl"
    unreadable.mkdir(parents=True)
    pulse = threading.Thread(target=delivery._pulse, daemon=True)
    pulse.start()
    told = ""
    for _ in range(500):
        told += capsys.readouterr().err
        if told:
            break
        SystemClock().sleep(0.01)
    SystemClock().sleep(0.1)
    unreadable.rmdir()
    for _ in range(500):
        if beat.exists():
            break
        SystemClock().sleep(0.01)
    assert pulse.is_alive()
    assert beat.exists()
    delivery._ended.set()
    pulse.join()
    assert (told + capsys.readouterr().err).count("no heartbeat") == 1

"""The process around the followers: its heartbeat."""

import random
import threading
from pathlib import Path

import pytest

from l2_platform.clock import SystemClock
from l2_platform.delivery.delivery import Delivery
from l2_platform.journal.writer import JournalWriter
from l2_platform.settings import JournalSettings, Settings, SupervisionSettings
from tests.unit.delivery.journals import DATE, LiveJournal, NoSync
from tests.unit.delivery.test_pipeline import depth_line


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


class _Recorded(LiveJournal):
    """A live stream where a delivery looks for it."""

    def __init__(self, settings: Settings, stream: str) -> None:
        super().__init__(settings.run_dir / "unused", stream)
        self.writer.close()
        self.writer = JournalWriter(
            settings.journal_dir, stream, JournalSettings(), SystemClock(), calendar="always_open",
            durable_path=settings.run_dir / "durable" / stream, calls=NoSync(),
        )  # fmt: skip
        self.writer.open(DATE)


def test_a_stream_whose_writes_fail_leaves_the_others_the_time_of_a_stop(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, supervision=SupervisionSettings(stop_s=4))
    (settings.run_dir / "durable").mkdir(parents=True)
    folder = settings.jsonl_dir / "live" / str(DATE)
    (settings.jsonl_dir / ".positions" / f"iqfeed-depth-0-{DATE}.json").mkdir(parents=True)
    journals = [_Recorded(settings, f"iqfeed-depth-{number}") for number in range(2)]
    rng = random.Random(1)
    for journal, names in zip(journals, ("AAA", "ZZZ"), strict=True):
        journal.started()
        journal.lines(*(depth_line(rng, place).replace(",BBB,", ",AAA,").replace(",CCC,", ",AAA,").replace(",AAA,", f",{names},")
                        for place in range(90)))  # fmt: skip
        journal.close()
    delivery = Delivery("jsonl", settings, SystemClock())
    delivery._round()
    delivery._drain()
    assert delivery._followers["iqfeed-depth-0"].failures
    assert (folder / f"ZZZ_l2_{DATE}.jsonl").stat().st_size > 0
    assert not delivery._followers["iqfeed-depth-1"].behind

import threading

import pytest

from l2_platform.clock import SystemClock
from l2_platform.journal import sealer
from l2_platform.journal.sealer import run_sealer
from l2_platform.monitoring.heartbeat import is_held, read_heartbeat
from l2_platform.settings import JournalSettings, Settings
from tests.unit.journal.stream import DATE, NEXT, Stream


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_worker_seals_says_so_and_ends(tmp_path, monkeypatch):
    # The test's own process must not become slow for good.
    monkeypatch.setattr(sealer, "NICENESS", 0)
    settings = Settings(home=tmp_path, journal=JournalSettings(seal_s=0.05))
    stream = Stream(tmp_path)
    writer = stream.opened()
    writer.append(b"a\n", 1, 10, 1)
    writer.roll(NEXT)
    stop = threading.Event()
    thread = threading.Thread(target=run_sealer, args=(settings, stop, SystemClock()))
    thread.start()
    path = tmp_path / "run" / "heartbeats" / "sealer.json"
    patience = threading.Event()
    for _ in range(1000):
        record = read_heartbeat(path)
        if record is not None and record.numbers["segments"] == 1:
            break
        patience.wait(0.01)
    assert is_held(tmp_path / "run" / "leases" / "sealer")
    stop.set()
    thread.join()
    record = read_heartbeat(path)
    assert record is not None
    assert (record.state, record.numbers["segments"]) == ("stopped", 1)
    assert not is_held(tmp_path / "run" / "leases" / "sealer")
    assert stream.lines(DATE) == {1: b"a\n"}
    assert [path.suffix for path in stream.folder().iterdir()].count(".l2z") == 1
    stream.end()

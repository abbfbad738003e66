import os
import signal
import subprocess
import sys
import threading

import pytest

from l2_platform.clock import SystemClock
from l2_platform.errors import LeaseHeld
from l2_platform.monitoring.heartbeat import (
    Heartbeat,
    HeartbeatRecord,
    Lease,
    is_held,
    process_start,
    process_start_ticks,
    read_heartbeat,
)

HOLD = """
import sys
from pathlib import Path
from l2_platform.monitoring.heartbeat import Lease
Lease(Path(sys.argv[1])).acquire(wait=True)
print("held", flush=True)
sys.stdin.read()
"""


def holder(path):
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def wait_held(process):
    assert process.stdout.readline() == "held\n"


def end(process):
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_lease_excludes_another_process_and_falls_free_when_it_is_killed(tmp_path):
    path = tmp_path / "leases" / "w"
    path.parent.mkdir()
    first = holder(path)
    wait_held(first)
    with pytest.raises(LeaseHeld, match=str(first.pid)) as error:
        Lease(path).acquire()
    assert error.value.exit_code == 75
    assert is_held(path)
    waiter = holder(path)
    first.send_signal(signal.SIGKILL)
    wait_held(waiter)
    end(first)
    end(waiter)
    with Lease(path) as lease:
        assert lease.held
    assert not is_held(path)


def test_lease_is_exclusive_within_a_process_too(tmp_path):
    lease = Lease(tmp_path / "w")
    assert lease.acquire()
    assert lease.acquire()
    with pytest.raises(LeaseHeld):
        Lease(tmp_path / "w").acquire()
    lease.release()
    lease.release()
    assert Lease(tmp_path / "w").acquire()


def test_waiting_ends_when_asked_to_stop(tmp_path):
    lease = Lease(tmp_path / "w")
    lease.acquire()
    stop = threading.Event()
    answers = []
    thread = threading.Thread(target=lambda: answers.append(Lease(tmp_path / "w").acquire(wait=True, stop=stop)))
    thread.start()
    stop.set()
    thread.join()
    assert answers == [False]
    lease.release()


def test_waiting_with_a_stop_takes_over(tmp_path):
    lease = Lease(tmp_path / "w")
    lease.acquire()
    other = Lease(tmp_path / "w")
    thread = threading.Thread(target=lambda: other.acquire(wait=True, stop=threading.Event()))
    thread.start()
    lease.release()
    thread.join()
    assert other.held
    other.release()


def test_heartbeat_reads_back(tmp_path):
    path = tmp_path / "heartbeats" / "w.json"
    assert read_heartbeat(path) is None
    heartbeat = Heartbeat(path, "w", SystemClock())
    heartbeat.beat("live", generation=4, lines=7, streams={"a": 1})
    heartbeat.beat("draining", lines=8)
    record = read_heartbeat(path)
    assert record is not None
    assert (record.worker, record.pid, record.state, record.generation) == ("w", os.getpid(), "draining", 4)
    assert record.numbers == {"lines": 8}
    assert record.alive()
    assert record.age_s(record.ts + 1_500_000_000) == 1.5
    assert list(path.parent.iterdir()) == [path]


def test_heartbeat_survives_a_folder_that_cannot_be_written(tmp_path):
    path = tmp_path / "file" / "w.json"
    path.parent.write_text("not a folder")
    Heartbeat(path, "w", SystemClock()).beat("live")
    assert read_heartbeat(path) is None


def test_torn_heartbeat_is_none(tmp_path):
    path = tmp_path / "w.json"
    for text in ("", "{", "[]", '{"worker": "w"}'):
        path.write_text(text)
        assert read_heartbeat(path) is None


def test_reused_pid_is_not_taken_for_the_worker(tmp_path):
    record = HeartbeatRecord("w", os.getpid(), process_start(os.getpid()) + 1, 0, "live", 0)
    assert not record.alive()


def test_dead_and_zombie_processes_have_no_start():
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process_start_ticks(process.pid) is None
    process.wait()
    assert process_start(process.pid) == 0


def test_imports_stay_small():
    code = (
        "import sys, l2_platform.monitoring.heartbeat, l2_platform.monitoring.desired, l2_platform.journal.writer\n"
        "bad = {'numpy', 'structlog', 'numba', 'pandas', 'rich', 'zstandard'} & set(sys.modules)\n"
        "sys.exit(str(bad) if bad else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

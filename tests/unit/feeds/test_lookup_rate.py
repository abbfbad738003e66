"""The vendor's limit in every sliding window: as arithmetic, over threads, over processes, and when somebody dies with the lock."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2_platform.clock import SystemClock
from l2_platform.errors import L2Error
from l2_platform.feeds.iqfeed.lookup_rate import RateWindow, SharedRate

CHILD = """
import sys
from pathlib import Path
from l2_platform.clock import SystemClock
from l2_platform.feeds.iqfeed.lookup_rate import SharedRate
clock = SystemClock()
rate = SharedRate(20, clock, Path(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    rate.send(lambda: print(clock.monotonic_ns(), flush=True))
"""


def most_in_a_window(times: list[int], window_ns: int) -> int:
    times = sorted(times)
    return max(sum(begin <= at < begin + window_ns for at in times) for begin in times)


@given(st.lists(st.integers(0, 1500), min_size=1, max_size=80), st.integers(1, 8))
def test_no_window_holds_more_than_the_limit(steps: list[int], count: int) -> None:
    window = RateWindow(count, 1000)
    now, sent = 0, []
    for step in steps:
        now += step
        waits = 0
        while wait := window.wait_ns(now):
            now, waits = now + wait, waits + 1
            assert waits < 5
        window.mark(now)
        sent.append(now)
    assert most_in_a_window(sent, 1000) <= count


def test_times_of_before_a_reboot_do_not_hold_anybody() -> None:
    window = RateWindow(2, 1000)
    window.sent = [10_000, 10_001]
    assert window.wait_ns(50) == 0


def test_threads_and_processes_share_one_limit(tmp_path: Path) -> None:
    file, clock = tmp_path / "rate", SystemClock()
    children = [
        subprocess.Popen([sys.executable, "-c", CHILD, str(file), "25"], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    rate, mine = SharedRate(20, clock, file), []

    def ask() -> None:
        for _ in range(5):
            rate.send(lambda: mine.append(clock.monotonic_ns()))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = [*mine, *(int(line) for child in children for line in child.communicate()[0].split())]
    assert len(times) == 65
    assert most_in_a_window(times, 10**9) <= 20


def test_a_process_that_is_killed_leaves_the_way_free(tmp_path: Path) -> None:
    file = tmp_path / "rate"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(file), "100000"], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    sent: list[int] = []
    SharedRate(20, SystemClock(), file).send(lambda: sent.append(1))
    assert sent == [1]


def test_a_folder_that_refuses_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(L2Error, match="cannot be shared"):
        SharedRate(20, SystemClock(), tmp_path / "file" / "rate").send(lambda: None)

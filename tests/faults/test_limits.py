"""Limits of a process: descriptors, memory, threads, file size. The one that meets its limit says so and is started again; others go on.

Scale: the same at every scale; one run for each limit.
"""

import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.kill_runs import (
    STREAM,
    Recordings,
    copied,
    delivered,
    ended,
    record_files,
    record_journal,
    until,
    variables,
)
from tests.faults.scripted_feed import ScriptedFeed
from tests.faults.zygote import Worker, Zygote
from tests.integration.ports import free_base

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def zygote(numba_cache: Path) -> Iterator[Zygote]:
    """Forks the workers."""
    with Zygote("collector", "jsonl", cache=numba_cache) as made:
        yield made


@pytest.fixture
def recordings(zygote: Zygote, tmp_path: Path) -> Iterator[Recordings]:
    """A home and its feed."""
    base = free_base()
    with ScriptedFeed(base + 20, pause_s=0.004) as feed:
        yield Recordings(zygote, tmp_path / "home", feed, base)


def limit(worker: Worker, kind: int, soft: int) -> tuple[int, int]:
    """Set a limit of a worker; what it was."""
    before = resource.prlimit(worker.pid, kind)
    resource.prlimit(worker.pid, kind, (soft, before[1]))
    return before


def test_no_descriptor_is_left_for_the_next_segment(recordings: Recordings) -> None:
    """F30, RLIMIT_NOFILE: the collector stalls and says why, nothing is lost, with descriptors it goes on by itself."""
    worker = recordings.start(rolls=False)
    recordings.feed_some(worker, 300)
    before = limit(worker, resource.RLIMIT_NOFILE, 3)
    until("it says why", lambda: "Too many open files" in recordings.log(), 20)
    assert worker.alive()
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, before)
    recordings.feed_some(worker, 1_500)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0, recordings.log()
    recordings.account()


def test_a_start_with_too_few_descriptors_says_so(recordings: Recordings) -> None:
    """F30, RLIMIT_NOFILE at a start: no traceback, and another start records."""
    worker = recordings.start(traced=True, rolls=False)
    limit(worker, resource.RLIMIT_NOFILE, 4)
    worker.go()
    assert worker.wait() == 1
    assert "Traceback" not in recordings.log()
    assert "Too many open files" in recordings.log()
    recordings.finish()


def test_a_file_may_not_grow(recordings: Recordings) -> None:
    """F30, RLIMIT_FSIZE: EFBIG is an error of the disk like any other: stalled, told, gone on."""
    worker = recordings.start(rolls=False)
    recordings.feed_some(worker, 300)
    before = limit(worker, resource.RLIMIT_FSIZE, 4096)
    until("it says why", lambda: "File too large" in recordings.log(), 20)
    assert worker.alive()
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, before)
    recordings.feed_some(worker, 1_500)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0, recordings.log()
    recordings.account()


MEMORY_LEFT = 40 << 20
"""Five stacks, bytes."""


def test_memory_or_threads_run_out_in_one_worker_only(zygote: Zygote, recordings: Recordings, tmp_path: Path) -> None:
    """F30, RLIMIT_AS and RLIMIT_NPROC on a delivery: it fails or waits, the recording beside it goes on, a restart puts all right."""
    recorder = recordings.start(rolls=False)
    recorded = record_journal(tmp_path / "recorded")
    calm = copied(recorded, tmp_path / "calm")
    base = free_base()
    arguments = ("jsonl",)
    assert ended(zygote.fork("jsonl", variables(calm, base), calm / "log", arguments=arguments), lambda: delivered(calm, recorded)) == 0
    for name, kind in (("memory", resource.RLIMIT_AS), ("threads", resource.RLIMIT_NPROC)):
        home = copied(recorded, tmp_path / name)
        worker = zygote.fork("jsonl", variables(home, base), home / "log", traced=True, arguments=arguments)
        used = int(Path(f"/proc/{worker.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        # With less than a stack and some, a thread of Python can die at its first step, and whoever started it waits for ever (only the
        # watchdog helps then): the work is to run out of memory, not the start.
        limit(worker, kind, used + MEMORY_LEFT if kind == resource.RLIMIT_AS else 0)
        sent = recordings.feed.sent
        worker.go()
        until("it ended, or works all the same", lambda worker=worker, home=home: not worker.alive() or delivered(home, recorded))  # type: ignore[misc]
        worker.signal(signal.SIGKILL)
        worker.wait()
        recordings.feed_some(recorder, 300)
        assert recordings.feed.sent > sent
        assert recorder.alive()
        again = zygote.fork("jsonl", variables(home, base), home / "log", arguments=arguments)
        assert ended(again, lambda home=home: delivered(home, recorded)) == 0, (home / "log").read_text()[-2000:]  # type: ignore[misc]
        assert record_files(home) == record_files(calm)
    recorder.signal(signal.SIGTERM)
    assert recorder.wait() == 0
    recordings.account()
    assert STREAM in {path.name for path in (recordings.home / "journal").iterdir()}

"""The disk answers with errors, at the 1st, 2nd, … n-th call: nothing is told as durable that is not, and recording goes on.

strace makes the calls of a real collector fail: EIO and ENOSPC at fdatasync, fsync, write, open, rename, unlink and truncate, EINTR and
short writes; once, or from then on for a while. Scale (injections): quick 24, ci 120, full every call of a run times every error.
"""

import random
import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from l2_platform.journal.durable import read_durable
from l2_platform.journal.frame import SegmentHeader, decode_segment_header
from l2_platform.journal.layout import date_folder, list_segments
from tests.faults.kill_runs import STREAM, Recordings, until
from tests.faults.scale import scaled
from tests.faults.scripted_feed import ScriptedFeed
from tests.faults.zygote import Injection, Zygote, count_calls, needs_strace
from tests.integration.ports import free_base

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(4 * 3600)]

COUNT = scaled(24, 120, 0)
LINES = 1_200
ERRORS = {
    "fdatasync": ("error=EIO", "error=ENOSPC", "error=EINTR"), "fsync": ("error=EIO", "error=ENOSPC"),
    "pwritev2": ("error=EIO", "error=ENOSPC", "error=EINTR", "retval=0"), "ftruncate": ("error=EIO",),
}  # fmt: skip
"""Calls that only the journal makes in a collector (and its lease, which needs none of them)."""
NAMED = {"openat": ("error=ENOSPC", "error=EMFILE", "error=EIO"), "rename": ("error=EIO", "error=ENOSPC"), "mkdir": ("error=ENOSPC",)}
"""Calls that are made to fail for the journal's own files and folders only."""


@pytest.fixture(scope="module")
def zygote(numba_cache: Path) -> Iterator[Zygote]:
    """Forks the collectors."""
    needs_strace()
    with Zygote("collector", cache=numba_cache) as made:
        yield made


class DurableWatch:
    """Looks at the durable record all the time: it never goes back, and never tells more than the files hold. A context manager."""

    def __init__(self, recordings: Recordings) -> None:
        self._recordings = recordings
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.wrong: list[str] = []
        self.seen = 0

    def __enter__(self) -> "DurableWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        last = (0, 0)
        while not self._ended.wait(0.002):
            durable = read_durable(self._recordings.home / "run" / "durable" / STREAM)
            if durable is None:
                continue
            position = durable.position
            now = position.session_date, durable.seq
            if now < last:
                self.wrong.append(f"the durable record went from {last} back to {now}")
            path = date_folder(self._recordings.home / "journal", STREAM, position.session_date) / f"{position.segment:06d}.l2j"
            if not path.exists() or path.stat().st_size < position.offset:
                self.wrong.append(f"told as durable up to {position}, which is not there")
            last = now
            self.seen += 1


def points(log: Path, home: Path) -> list[Injection]:
    """Every call of the counted run that touches the journal, with every error that it may answer; some of them lasting.

    Paths are those of the home that the run was counted in.
    """
    _, most = count_calls(log)
    found = []
    for call, errors in ERRORS.items():
        for number in range(1, most[call] + 1):
            found += [Injection(call, number, error) for error in errors]
            if call == "fdatasync":
                # a second failure meets the replacement of the segment
                found.append(Injection(call, number, "error=EIO", on=f"..{number + 2}"))
    stream = home / "journal" / STREAM
    paths = [stream, *(path for date in sorted(stream.iterdir()) for path in (date, *sorted(date.iterdir())))]
    for path in paths:
        temporary = path.with_name(path.name + ".tmp")
        for call, errors in NAMED.items():
            if (call == "mkdir") == path.is_dir() or call == "openat":
                target = temporary if path.is_file() else path
                found += [Injection(call, number, error, path=target) for error in errors for number in (1, 2)]
    return found


def header(path: Path) -> SegmentHeader:
    """Of a raw segment."""
    return decode_segment_header(path.read_bytes(), path.name)[0]


def test_any_call_may_fail_and_nothing_is_told_that_is_not(zygote: Zygote, tmp_path: Path) -> None:
    """F19: errors at the n-th call within the journal of a real collector; I7 is watched from outside all the time."""
    base = free_base()
    with ScriptedFeed(base + 20, pause_s=0.004) as feed:
        counted = Recordings(zygote, tmp_path / "counted", feed, base)
        worker = counted.start(traced=True)
        worker.trace("-o", tmp_path / "calls", "-e", f"trace={','.join(ERRORS)}")
        counted.feed_some(worker, LINES)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        every = points(tmp_path / "calls", counted.home)
        chosen = random.Random(20240102).sample(every, COUNT or len(every))
        for number, place in enumerate(chosen):
            home = tmp_path / str(number)
            path = home / place.path.relative_to(counted.home) if place.path is not None else None
            one(zygote, home, feed, base, replace(place, path=path))


def one(zygote: Zygote, home: Path, feed: ScriptedFeed, base: int, point: Injection) -> None:
    """A run with this fault, then one without; the account of both."""
    recordings = Recordings(zygote, home, feed, base)
    with DurableWatch(recordings) as watch:
        worker = recordings.start(traced=True)
        worker.inject(point)
        recordings.feed_some(worker, LINES)
        story = f"{point}: {recordings.log()}"
        assert worker.alive(), story
        live = recordings.home / "run" / "durable" / STREAM
        before = read_durable(live)
        until(f"durable again after {point}", lambda: (now := read_durable(live)) is not None and now != before, 10)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0, story
    assert watch.wrong == [], story
    assert watch.seen
    recordings.finish()
    shutil.rmtree(home)


def test_a_segment_whose_sync_failed_is_never_synced_again(zygote: Zygote, tmp_path: Path) -> None:
    """F19: after EIO the frames that were not durable stand in a new segment that says where the old one ends."""
    base = free_base()
    with ScriptedFeed(base + 20, pause_s=0.004) as feed:
        recordings = Recordings(zygote, tmp_path / "home", feed, base)
        worker = recordings.start(traced=True, rolls=False)
        worker.trace("-o", tmp_path / "log", "-y", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=6")
        recordings.feed_some(worker, LINES)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        failed = [line.partition("<")[2].partition(">")[0] for line in (tmp_path / "log").read_text().splitlines() if "EIO" in line]
        assert len(failed) == 1
        rest = (tmp_path / "log").read_text().partition("EIO")[2]
        assert failed[0] not in rest, "synced again"
        files = list_segments(Path(failed[0]).parent)
        after = next(file for file in files if file.number == int(Path(failed[0]).stem) + 1)
        supersedes = header(after.path).supersedes
        assert supersedes is not None
        assert supersedes[0] == int(Path(failed[0]).stem)
        recordings.finish()

"""F28: a collector hangs (SIGSTOP): the watchdog kills it, a second copy takes over by the lease, the old one never writes again.

Scale: 1, 3, 20 takeovers with `hung_s` 3 (15 at full). On one machine the lease and the journal's lock are locks of the kernel: a process
that hangs keeps them, so nobody writes beside it, and only its death gives them away. Judged: every byte after a takeover was
written by the new process, no number is used twice, what was sent meanwhile lies in a gap; and that neither a lease file that was
deleted nor a writer of its own lets a second process into the journal.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from l2_platform.clock import SystemClock
from l2_platform.errors import LeaseHeld
from l2_platform.journal.writer import JournalWriter
from l2_platform.operations.supervisord import Process
from l2_platform.operations.watchdog import LOOK_S, Watchdog
from tests.faults.checkers import Journaled, close_ledger, gaps_of_journal, journaled, recovers
from tests.faults.conftest import Measured
from tests.faults.scale import scaled
from tests.faults.stack import DEPTH, DEPTH_COLLECTOR, Stack, freeze, simulated, stack_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]
TAKEOVERS = scaled(1, 3, 20)
HUNG_S = scaled(3, 3, 15)
SPARE = "spare"


@pytest.fixture
def stack(market: Stack, tmp_path: Path, numba_cache: Path) -> Iterator[Stack]:
    with stack_of(tmp_path, numba_cache, market, supervision__hung_s=HUNG_S, supervision__start_s=60) as found:
        found.commands[SPARE] = found.commands[DEPTH_COLLECTOR]
        found.symbols(simulated(20))
        yield found


def start_with_a_spare(stack: Stack) -> None:
    stack.start(DEPTH_COLLECTOR)
    stack.live(DEPTH_COLLECTOR)
    stack.start(SPARE)


def take_over(stack: Stack) -> None:
    """The spare is the collector now, and a new spare waits."""
    stack.processes[DEPTH_COLLECTOR] = stack.processes.pop(SPARE)
    stack.live(DEPTH_COLLECTOR, seconds=60)
    stack.start(SPARE)


def watch(stack: Stack, watchdog: Watchdog, pid: int, seconds: float) -> float:
    """Look as the watchdog does, once a second, until the process is dead; how long that took, s."""
    running = {DEPTH_COLLECTOR: Process(DEPTH_COLLECTOR, "RUNNING", pid, int(psutil.Process(pid).create_time()), "")}
    begun = time.monotonic()
    process = stack.processes.pop(DEPTH_COLLECTOR)
    while process.poll() is None:
        assert time.monotonic() - begun < seconds, "not killed"
        watchdog.look(running)
        time.sleep(LOOK_S / 4)
    assert process.returncode == -signal.SIGKILL
    return time.monotonic() - begun


def writers(found: Journaled) -> list[int]:
    """The process of each start that the journal tells of, in order."""
    return [control.fields["pid"] for control in found.events("collector_start")]


def test_hung_collector_is_killed_and_the_next_takes_over(stack: Stack, measured: Measured) -> None:
    watchdog = Watchdog(stack.home.settings, SystemClock())
    start_with_a_spare(stack)
    pids, killed_after, back_after = [stack.processes[DEPTH_COLLECTOR].pid], [], []
    for _ in range(TAKEOVERS):
        time.sleep(1)
        pid = freeze(stack, DEPTH_COLLECTOR)
        size = journal_bytes(stack)
        killed_after.append(watch(stack, watchdog, pid, 10 * HUNG_S))
        assert journal_bytes(stack) >= size
        begun = time.monotonic()
        take_over(stack)
        recovers(stack, DEPTH_COLLECTOR, 60)
        back_after.append(time.monotonic() - begun)
        pids.append(stack.processes[DEPTH_COLLECTOR].pid)
    stack.end(SPARE)
    stack.stop(DEPTH_COLLECTOR)
    stack.close_links()
    gaps = gaps_of_journal(stack.home, DEPTH)
    account, found = close_ledger(stack, DEPTH, gaps)
    account.zero()
    assert writers(found) == pids
    assert [gap.cause for gap in gaps if gap.state == "closed"] == ["restart"] * TAKEOVERS
    measured(
        takeovers=TAKEOVERS, killed_after_s_max=max(killed_after), back_after_s_max=max(back_after), lines=account.sent,
        hung_s=HUNG_S,
    )  # fmt: skip


def test_hung_collector_that_goes_on_is_still_the_only_writer(stack: Stack, measured: Measured) -> None:
    start_with_a_spare(stack)
    for _ in range(TAKEOVERS):
        pid = freeze(stack, DEPTH_COLLECTOR)
        size = journal_bytes(stack)
        time.sleep(1)
        assert journal_bytes(stack) == size, "somebody writes beside the one that hangs"
        assert stack.processes[SPARE].poll() is None
        os.kill(pid, signal.SIGCONT)
        recovers(stack, DEPTH_COLLECTOR, 60)
    stack.end(SPARE)
    stack.stop(DEPTH_COLLECTOR)
    stack.close_links()
    account, found = close_ledger(stack, DEPTH, gaps_of_journal(stack.home, DEPTH))
    account.zero()
    assert len(writers(found)) == 1
    measured(times=TAKEOVERS, lines=account.sent)


def test_deleted_lease_lets_nobody_into_the_journal(stack: Stack) -> None:
    start_with_a_spare(stack)
    pid = freeze(stack, DEPTH_COLLECTOR)
    size = journal_bytes(stack)
    for lease in (stack.home.path / "run" / "leases").iterdir():
        lease.unlink()
    stack.end(SPARE)
    # a new process makes a lease file of its own and has it; the journal's own lock still says no
    intruder = stack.home.start(*stack.commands[SPARE], log="intruder")
    assert intruder.wait(30) == LeaseHeld.exit_code
    assert journal_bytes(stack) == size
    settings = stack.home.settings
    writer = JournalWriter(
        settings.journal_dir, DEPTH, settings.journal, SystemClock(), calendar="XNYS",
        durable_path=settings.run_dir / "durable" / DEPTH,
    )  # fmt: skip
    with pytest.raises(LeaseHeld):
        writer.open(stack_date(stack))
    os.kill(pid, signal.SIGCONT)
    recovers(stack, DEPTH_COLLECTOR, 60)
    stack.stop(DEPTH_COLLECTOR)
    assert len(writers(journaled(stack.home, DEPTH))) == 1


def stack_date(stack: Stack) -> int:
    beat = stack.beat(DEPTH_COLLECTOR)
    assert beat is not None
    return int(beat.numbers["session_date"])


def journal_bytes(stack: Stack) -> int:
    """Bytes of the stream's segments on disk."""
    return sum(path.stat().st_size for path in (stack.home.path / "journal" / DEPTH).glob("*/*.l2j"))

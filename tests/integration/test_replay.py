"""A recorded day, served again over IQFeed's protocol: to a second recorder, to plain clients, with every kind of wrong wish."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults.checkers import _rows_of, close_ledger, pipeline_rows
from tests.faults.stack import COLLECTORS, DEPTH, LEVEL1, Stack, simulated, stack_of
from tests.integration.homes import L2, Home
from tests.integration.ports import free_base

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SYMBOLS = 12
SECONDS = 4.0


@dataclass
class Recorded:
    """A home with a recorded day."""

    home: Home
    date: int

    def digest(self, stream: str) -> dict[str, Any]:
        return json.loads(self.home.ok("journal", "digest", stream, "--json"))[0]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, numba_cache) -> Iterator[Recorded]:
    folder = tmp_path_factory.mktemp("day")
    with stack_of(folder, numba_cache, simulator__symbols=SYMBOLS, simulator__rate=2000, simulator__shape="mixed") as stack:
        stack.symbols(simulated(SYMBOLS))
        stack.start("simulator")
        stack.live("simulator")
        stack.start(*COLLECTORS)
        stack.live(*COLLECTORS)
        time.sleep(SECONDS)
        for name in (*COLLECTORS, "simulator"):
            stack.stop(name)
        dates = sorted(int(path.name) for path in (folder / "journal" / DEPTH).iterdir())
        yield Recorded(stack.home, dates[-1])


class Replay:
    """`l2 replay` of a recorded day, in a process of its own, on the ports of another home."""

    def __init__(self, day: Recorded, base: int, *options: str) -> None:
        self.day = day
        self.base = base
        command = [str(L2), "replay", str(day.date), "--port-base", str(base), "--json", *options]
        self.process = subprocess.Popen(
            command, env=day.home.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=day.home.path
        )

    def end(self, seconds: float = 120) -> dict[str, Any]:
        """Wait for the end; the result and `code`, `said`."""
        out, said = self.process.communicate(timeout=seconds)
        result = json.loads(out) if out.strip() else {}
        return result | {"code": self.process.returncode, "said": said}

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def second(tmp_path, numba_cache) -> Iterator[Stack]:
    with stack_of(tmp_path, numba_cache, feed__rewatch_s=0) as stack:
        stack.symbols(simulated(SYMBOLS))
        yield stack


def rows_of(home: Home, stream: str, table: str) -> list[tuple[tuple[str, str], ...]]:
    """Rows without what belongs to the receiving: its own numbers and times."""
    return [
        tuple((name, str(value)) for name, value in sorted(row.items()) if name not in {"seq", "ts_recv"})
        for batch in pipeline_rows(home, stream, table)
        # numbers of symbols are in the order in which a recording met them
        for row in ({**row, "symbol": batch.symbols[row["symbol"]]} for row in _rows_of(batch))
    ]


def test_second_recorder_gets_every_line_once_in_order(recorded: Recorded, second: Stack) -> None:
    second.ledger = recorded.home.path / "simulator" / "ledger"
    replay = Replay(recorded, second.home.base, "--speed", "4", "--start-paused")
    try:
        second.start(*COLLECTORS)
        second.live(*COLLECTORS)
        recorded.home.ok("replay", "resume", "--port-base", str(second.home.base))
        result = replay.end()
    finally:
        replay.close()
    assert result["code"] == 0, result
    assert result["complete"]
    assert result["lines"] > 2000
    assert result["late"]["lines"] >= result["lines"]
    for stream in (DEPTH, LEVEL1):
        second.stop(f"collector-{stream}")
        original = recorded.digest(stream)
        again = json.loads(second.home.ok("journal", "digest", stream, "--json"))[0]
        assert again["lines"] == original["lines"] == result["streams"][stream]["lines"]
        assert again["sha256"] == original["sha256"] == result["streams"][stream]["sha256"]
        account, _ = close_ledger(second, stream, [])
        account.zero()
        assert account.sent == account.stored
    for stream, tables in ((DEPTH, ("depth_updates", "book_snapshots")), (LEVEL1, ("quotes", "trades"))):
        for table in tables:
            rows = rows_of(recorded.home, stream, table)
            assert len(rows) > 100
            assert rows_of(second.home, stream, table) == rows


def test_port_in_use_and_no_replay_to_command(recorded: Recorded) -> None:
    base = free_base()
    with socket.create_server(("127.0.0.1", base + 20)):
        result = recorded.home.run("replay", str(recorded.date), "--port-base", str(base))
    assert result.returncode == 2
    assert f"port {base + 20} (level2) cannot be opened" in result.stderr
    assert "--port-base" in result.stderr
    result = recorded.home.run("replay", "pause", "--port-base", str(base))
    assert result.returncode == 2
    assert "no replay answers" in result.stderr


def test_termination_in_the_middle_says_how_far_it_came(recorded: Recorded) -> None:
    base = free_base()
    replay = Replay(recorded, base, "--clients", "0", "--speed", "0.2")
    try:
        deadline = time.monotonic() + 120
        while recorded.home.run("replay", "status", "--port-base", str(base)).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        replay.process.terminate()
        result = replay.end(20)
    finally:
        replay.close()
    assert result["code"] == 130
    assert not result["complete"]
    assert "stopped by SIGTERM before the end" in result["said"]

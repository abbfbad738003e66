"""A recorded day, served again over IQFeed's protocol: to a second recorder, to plain clients, with every kind of wrong wish."""

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults.stack import COLLECTORS, DEPTH, LEVEL1, Stack, simulated, stack_of
from tests.integration.homes import L2, Home

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


def test_second_recorder_gets_every_line_once_in_order(recorded: Recorded, second: Stack) -> None:
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
    for stream in (DEPTH, LEVEL1):
        name = f"collector-{stream}"
        second.stop(name)
        original = recorded.digest(stream)
        again = json.loads(second.home.ok("journal", "digest", stream, "--json"))[0]
        assert again["lines"] == original["lines"] == result["streams"][stream]["lines"]
        assert again["sha256"] == original["sha256"] == result["streams"][stream]["sha256"]

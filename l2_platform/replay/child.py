"""`l2 replay` as a child process of somebody else (a Dagster run): started, listened to, ended with its parent's wish.

What does not belong here: Dagster.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from l2_platform.errors import InputError, L2Error
from l2_platform.settings import Settings

ENOUGH_S: Final = 20.0
"""How long a child may take to end after SIGTERM before it is killed, s."""
WORDS_KEPT: Final = 50
"""Last lines that the child said, for the message of a failure."""
WRONG_INPUT: Final = 2
DAMAGED: Final = 1


@dataclass(frozen=True, slots=True)
class ReplayWish:
    """What to play, as `l2 replay` takes it."""

    date: str
    target: str
    """`iqfeed` or `kafka`."""
    symbols: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    speed: str = "1"
    begin: str = ""
    end: str = ""
    port_base: int = 0
    """0: as the settings say."""
    clients: int = 1
    topic: str = ""

    def arguments(self) -> list[str]:
        """The command line after `l2`."""
        if self.target == "kafka" and not self.topic:
            raise InputError("target kafka needs a topic: set `topic`")
        pairs = [("--speed", self.speed), ("--from", self.begin), ("--to", self.end), ("--symbols", ",".join(self.symbols))]
        pairs += [("--stream", name) for name in self.streams]
        if self.target == "kafka":
            pairs.append(("--to-kafka", self.topic))
        else:
            pairs += [("--clients", str(self.clients)), ("--port-base", str(self.port_base or ""))]
        given = [f"{name}={value}" for name, value in pairs if value]
        return ["replay", "serve", "--json", *given, "--", self.date]


def run_child(settings: Settings, wish: ReplayWish, say: Callable[[str], None]) -> dict[str, Any]:
    """Run it to its end and return its result; `say` gets its progress, a line each 5 s at most.

    InputError for a wrong wish, L2Error for every other failure. Whatever ends the caller (a cancelled run too) ends the child:
    SIGTERM, and SIGKILL when that does not help within 20 s.
    """
    command = [sys.executable, "-c", "from l2_platform.cli import main; main()", *wish.arguments()]
    environment = os.environ | {"L2_HOME": str(settings.home), "L2_REPLAY__REPORT_S": "5"}
    words: list[str] = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        listener = threading.Thread(target=_listen, args=(child, words, say), daemon=True)
        listener.start()
        try:
            assert child.stdout is not None
            out = child.stdout.read()
            code = child.wait()
        finally:
            _end(child)
            listener.join(ENOUGH_S)
    last = words[-1].removeprefix("error: ") if words else "it said nothing"
    if code == WRONG_INPUT:
        raise InputError(last)
    if not out.strip():
        raise L2Error(f"the replay ended with exit code {code}: {last}")
    result: dict[str, Any] = json.loads(out)
    if code not in {0, DAMAGED}:
        raise L2Error(f"the replay ended before its end (exit code {code}): {last}", lines=result.get("lines"))
    return result


def _listen(child: "subprocess.Popen[str]", words: list[str], say: Callable[[str], None]) -> None:
    assert child.stderr is not None
    for line in child.stderr:
        text = line.rstrip()
        if text:
            words.append(text)
            del words[:-WORDS_KEPT]
            say(text)


def _end(child: "subprocess.Popen[str]") -> None:
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(ENOUGH_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()

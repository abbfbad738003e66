"""Starts workers in no time: one process has everything imported and every kernel loaded, and forks a worker on demand.

The worker runs the same `main` as `python -m …` does. When it is to be traced it stops itself first, so that strace sees all of its
system calls. What belongs here: starting, tracing, waiting. What does not: what is right.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

WAIT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Injection:
    """What strace does to the n-th call of `call`: of the first thread only, or of whichever thread comes to its n-th first."""

    call: str
    number: int
    action: str = "signal=SIGKILL"
    first_thread: bool = False
    path: Path | None = None
    """Only calls that concern this file or folder."""
    on: str = ""
    """`+`: this one and all that follow."""


def needs_strace() -> None:
    """Skip the test when strace is missing or may not trace."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    tried = subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], check=False, capture_output=True)
    if tried.returncode != 0:
        pytest.skip("needs strace that may trace processes")


def unshare() -> list[str]:
    """The command that gives a process mounts of its own; skips the test where that is not allowed."""
    command = ["unshare", "--mount", "--propagation", "private", *([] if os.getuid() == 0 else ["--map-root-user"])]
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("needs unshare that may make mounts of its own")
    return command


class Worker:
    """A forked worker, perhaps with a strace beside it."""

    def __init__(self, zygote: "Zygote", pid: int) -> None:
        self.pid = pid
        self._zygote = zygote
        self._tracer: subprocess.Popen[bytes] | None = None
        self._status: int | None = None

    def trace(self, *options: str | Path, children: bool = True) -> None:
        """Attach strace to the stopped worker and let it go on."""
        command = ["strace", "-qq", *(["-f"] if children else []), *map(str, options), "-p", str(self.pid)]
        self._tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + WAIT_S
        while "TracerPid:\t0" in Path(f"/proc/{self.pid}/status").read_text():
            assert self._tracer.poll() is None, "strace ended"
            assert time.monotonic() < end, "strace does not attach"
            time.sleep(0.001)
        self.go()

    def go(self) -> None:
        """Let a stopped worker run."""
        os.kill(self.pid, signal.SIGCONT)

    def inject(self, injection: Injection) -> None:
        """Attach strace with this fault and let the worker go on."""
        what = f"inject={injection.call}:{injection.action}:when={injection.number}{injection.on}"
        where = ["-P", injection.path] if injection.path is not None else []
        self.trace(
            "-o", "/dev/null", *where, "-e", f"trace={injection.call}", "-e", what, children=not injection.first_thread
        )

    def signal(self, number: int) -> None:
        """Send a signal; nothing when it has ended."""
        if self.alive():
            os.kill(self.pid, number)

    def alive(self) -> bool:
        """It runs."""
        if self._status is None:
            self._status = self._zygote.status(self.pid)
        return self._status is None

    def wait(self, seconds: float = WAIT_S) -> int:
        """Its exit code, negative for a signal; fails when it does not end in time."""
        end = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                pytest.fail(f"worker {self.pid} did not end within {seconds} s")
            time.sleep(0.002)
        if self._tracer is not None:
            self._tracer.wait()
        assert self._status is not None
        return os.waitstatus_to_exitcode(self._status)


class Zygote:
    """The process that forks workers; a context manager."""

    def __init__(self, *roles: str, cache: Path, own_mounts: bool = False) -> None:
        """`own_mounts`: it and its workers see file systems that nobody else sees, and that are gone when it ends."""
        self._roles = roles
        self._cache = cache
        self._prefix = unshare() if own_mounts else []
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Zygote":
        command = [*self._prefix, sys.executable, "-m", "tests.faults.zygote", str(self._cache), *self._roles]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._ask({"ready": 1}) == 1
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(WAIT_S)
        self._process.stdout.close()

    def fork(
        self, role: str, environment: dict[str, str], log: Path, *, traced: bool = False, arguments: tuple[str, ...] = ()
    ) -> Worker:
        """A worker of that role; stopped before its first own call when `traced`."""
        pid = self._ask({"fork": role, "env": environment, "log": str(log), "traced": traced, "arguments": arguments})
        assert pid is not None
        worker = Worker(self, pid)
        if traced:
            end = time.monotonic() + WAIT_S
            while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
                assert time.monotonic() < end
                time.sleep(0.001)
        return worker

    def seen(self, path: Path) -> Path:
        """How a path of the workers is reached from here."""
        assert self._process is not None
        return Path(f"/proc/{self._process.pid}/root") / path.relative_to("/")

    def mount(self, folder: Path, options: str) -> None:
        """A file system in memory on a folder, e.g. `size=2m`, or other options for one that is there (`remount,size=4m`)."""
        assert self._ask({"mount": str(folder), "options": options}) == 0

    def status(self, pid: int) -> int | None:
        """The wait status of a worker that ended, else None."""
        return self._ask({"status": pid})

    def _ask(self, question: dict[str, object]) -> int | None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer: int | None = json.loads(self._process.stdout.readline())
        return answer


def count_calls(log: Path) -> tuple[Counter[str], Counter[str]]:
    """From the output of `strace -f`: calls of the first thread, and the most of any one thread, by name."""
    threads: dict[str, Counter[str]] = {}
    for line in log.read_text(errors="replace").splitlines():
        thread, _, rest = line.partition(" ")
        name = rest.strip().partition("(")[0]
        if name.isidentifier() and "resumed" not in rest:
            threads.setdefault(thread, Counter())[name] += 1
    first = next(iter(threads.values()), Counter())
    most: Counter[str] = Counter()
    for calls in threads.values():
        most |= calls
    return first, most


def kill_points(log: Path) -> list[Injection]:
    """Every call of a counted run as a place to die: the n-th of the first thread, and the n-th of whichever thread is there first."""
    first, most = count_calls(log)
    points = [Injection(name, number, first_thread=True) for name, count in sorted(first.items()) for number in range(1, count + 1)]
    others = {name: count for name, count in most.items() if count > first[name] or first[name] == 0}
    return points + [Injection(name, number) for name, count in sorted(others.items()) for number in range(1, count + 1)]


def _serve() -> None:
    """Answer one question a line until the end of input."""
    mains = _load(Path(sys.argv[1]), sys.argv[2:])
    ended: dict[int, int] = {}
    for line in sys.stdin:
        question = json.loads(line)
        answer: int | None = 1
        if "fork" in question:
            answer = os.fork()
            if answer == 0:
                _run(question, mains)
            ended.pop(answer, None)  # the number of one that ended long ago
        elif "mount" in question:
            command = ["mount", "-t", "tmpfs", "-o", question["options"], "tmpfs", question["mount"]]
            answer = subprocess.run(command, check=False, stdout=sys.stderr).returncode
        elif "status" in question:
            with contextlib.suppress(ChildProcessError):
                while (found := os.waitpid(-1, os.WNOHANG))[0]:
                    ended[found[0]] = found[1]
            answer = ended.get(question["status"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


Main = Callable[[list[str]], int]


def _load(cache: Path, roles: list[str]) -> dict[str, Main]:
    mains: dict[str, Main] = {}
    if "collector" in roles:
        from l2_platform.collectors.__main__ import main as collect

        mains["collector"] = collect
    if "sealer" in roles:
        from l2_platform.journal.sealer import main as seal

        mains["sealer"] = lambda _: seal()
    if {"jsonl", "clickhouse"} & set(roles):
        from l2_platform.monitoring.runtime import prepare_numba

        prepare_numba(cache)
        import l2_platform.delivery.delivery  # noqa: F401  loaded before the fork
        from l2_platform.delivery.__main__ import main as deliver
        from l2_platform.delivery.warm import warm_kernels

        warm_kernels(("depth",))
        mains["jsonl"] = mains["clickhouse"] = deliver
    return mains


def _run(question: dict[str, Any], mains: dict[str, Main]) -> None:
    """The child: become the worker, never come back."""
    code = 1
    try:
        os.environ.clear()
        os.environ.update(question["env"])
        log = os.open(question["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, null), (1, log), (2, log)):
            os.dup2(source, target)
        os.chdir(os.environ["L2_HOME"])
        if question["traced"]:
            os.kill(os.getpid(), signal.SIGSTOP)
        code = mains[question["fork"]](question["arguments"])
    except BaseException:  # noqa: BLE001  whatever it was, the child must not become a second zygote
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()

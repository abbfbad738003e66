"""The process manager: its configuration file, starting it, and talking to it over its XML-RPC unix socket.

supervisord keeps processes alive and nothing else: what runs is decided in `plan.py`, whether it works in `health.py`.
Two traits of it shape the file: a program that ends during `startsecs` counts as failed and is given up for good (so
`startsecs = 0`), and killing supervisord leaves its children alive (so `orphans.py`).
"""

import http.client
import os
import resource
import shlex
import socket
import subprocess
import sys
import xmlrpc.client
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

from l2_platform.clock import Clock
from l2_platform.errors import ConfigError, L2Error
from l2_platform.operations.plan import Part
from l2_platform.settings import Settings

ANSWER_S = 1.0
"""A process manager that is alive answers within this, s."""
SOCKET_PATH_BYTES_MAX = 107
"""A unix socket's path may not be longer (Linux), bytes."""
OPEN_FILES_WANTED = 16_384
"""Soft limit of open files that every part gets when the hard limit allows it."""


@dataclass(frozen=True, slots=True)
class Process:
    """What the process manager knows about one program."""

    name: str
    state: str
    """STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL or UNKNOWN."""
    pid: int
    """0 when it does not run."""
    started_s: int
    """Start of this process, s since the epoch."""
    description: str

    @property
    def running(self) -> bool:
        """There is a process."""
        return self.pid != 0


def socket_path(settings: Settings) -> Path:
    """Where the process manager listens; ConfigError when `home` is too deep for a unix socket."""
    path = settings.run_dir / "supervisord.sock"
    # supervisord binds a temporary name with its pid first
    if len(os.fsencode(path)) + 8 > SOCKET_PATH_BYTES_MAX:
        raise ConfigError(f"home: {settings.home} is too long for a unix socket; set L2_HOME to a shorter path")
    return path


def manager_trouble(settings: Settings, timeout_s: float = ANSWER_S) -> str:
    """Why the process manager does not answer on its socket; empty when it does. Takes `timeout_s` at most."""
    path = socket_path(settings)
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(timeout_s)
        try:
            asking.connect(str(path))
            asking.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return "" if asking.recv(1) else "The process manager closed the connection without an answer."
        except FileNotFoundError:
            return "The process manager does not run: there is no run/supervisord.sock."
        except TimeoutError:
            return f"The process manager hangs: it gives no answer within {timeout_s:g} s; kill the pid in run/supervisord.pid."
        except OSError as error:
            return f"The process manager is dead ({error.strerror or error})."


def render_config(settings: Settings, parts: Sequence[Part], directory: Path) -> str:
    """The whole configuration file; holds no secret, programs inherit the environment of supervisord."""
    run = settings.run_dir
    lines = [
        "; written by `l2 up` at every start",
        "[unix_http_server]",
        f"file={_escaped(socket_path(settings))}",
        "chmod=0700",
        "",
        "[supervisord]",
        f"logfile={_escaped(settings.log_dir / 'supervisord.log')}",
        f"logfile_maxbytes={settings.log.file_bytes_max}",
        f"logfile_backups={settings.log.files_kept}",
        f"pidfile={_escaped(run / 'supervisord.pid')}",
        f"childlogdir={_escaped(settings.log_dir)}",
        f"minfds={open_files_limit()}",
        "minprocs=200",
        "",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
    ]
    for part in parts:
        lines += ["", *_program(part, settings, directory)]
    return "\n".join(lines) + "\n"


def open_files_limit() -> int:
    """Open files that supervisord asks for itself and its children: what we want, or the hard limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return OPEN_FILES_WANTED if hard == resource.RLIM_INFINITY else min(OPEN_FILES_WANTED, hard)


def _program(part: Part, settings: Settings, directory: Path) -> list[str]:
    group = "true" if part.whole_group else "false"
    return [
        f"[program:{part.name}]",
        f"command={_escaped(shlex.join(part.command))}",
        f"directory={_escaped(directory)}",
        f"priority={part.priority}",
        f"autostart={'false' if part.waits_for_feed else 'true'}",
        "autorestart=true",
        "startsecs=0",
        "startretries=1000000",
        "stopsignal=TERM",
        f"stopwaitsecs={part.stop_s}",
        f"stopasgroup={group}",
        f"killasgroup={group}",
        "redirect_stderr=true",
        f"stdout_logfile={_escaped(settings.log_dir / (part.name + '.log'))}",
        f"stdout_logfile_maxbytes={settings.log.file_bytes_max}",
        f"stdout_logfile_backups={settings.log.files_kept}",
    ]


def _escaped(value: object) -> str:
    return str(value).replace("%", "%%")


class Supervisor:
    """Client of one instance's supervisord; every call raises L2Error when it does not answer."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._socket = socket_path(settings)

    @property
    def config_path(self) -> Path:
        """`run/supervisord.conf`."""
        return self._settings.run_dir / "supervisord.conf"

    def answers(self) -> bool:
        """True when supervisord runs and answers."""
        try:
            self._call("getState")
        except L2Error:
            return False
        return True

    def pid(self) -> int:
        """Process id of supervisord itself."""
        return int(self._call("getPID"))

    def processes(self) -> dict[str, Process]:
        """Every program by name."""
        return {
            item["name"]: Process(
                item["name"], item["statename"], int(item["pid"]), int(item["start"]), str(item["description"])
            )
            for item in self._call("getAllProcessInfo")
        }

    def start(self, name: str) -> None:
        """Start a program; no error when it runs already."""
        self._call("startProcess", name, False, tolerated=("ALREADY_STARTED",))

    def stop(self, name: str) -> None:
        """Begin to stop a program (SIGTERM, later SIGKILL); returns at once, no error when it does not run."""
        self._call("stopProcess", name, False, tolerated=("NOT_RUNNING",))

    def wait_stopped(self, names: Sequence[str], timeout_s: float) -> list[str]:
        """Wait until none of them runs; the names that still do after `timeout_s`."""
        deadline = self._clock.monotonic_ns() + int(timeout_s * 1e9)
        while True:
            now = self.processes()
            left = [name for name in names if name in now and (now[name].running or now[name].state == "STOPPING")]
            if not left or self._clock.monotonic_ns() > deadline:
                return left
            self._clock.sleep(0.1)

    def kill(self, name: str) -> None:
        """SIGKILL a program."""
        self._call("signalProcess", name, "KILL", tolerated=("NOT_RUNNING",))

    def shut_down(self) -> None:
        """End supervisord; it stops what still runs first."""
        self._call("shutdown")

    def start_daemon(self, environment: dict[str, str], directory: Path) -> None:
        """Start supervisord detached from this terminal and wait until it answers."""
        self._settings.run_dir.mkdir(parents=True, exist_ok=True)
        # A socket left by a killed supervisord makes no difference: it unlinks and binds again.
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.config_path)]
        done = subprocess.run(
            command, env=environment, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            start_new_session=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise L2Error(f"the process manager did not start: {said[-1] if said else 'no message'}")
        for _ in range(100):
            if self.answers():
                return
            self._clock.sleep(0.1)
        raise L2Error(f"the process manager does not answer; see {self._settings.log_dir / 'supervisord.log'}")

    def _call(self, method: str, *arguments: Any, tolerated: Sequence[str] = ()) -> Any:
        if not self._socket.exists():
            raise L2Error("nothing runs here; start with `l2 up`")
        transport = SupervisorTransport(serverurl=f"unix://{self._socket}")
        proxy = xmlrpc.client.ServerProxy("http://supervisor", transport=transport)
        try:
            return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if any(word in fault.faultString for word in tolerated):
                return None
            raise L2Error(f"process manager: {method} {' '.join(map(str, arguments))}: {fault.faultString}") from None
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise L2Error(f"the process manager does not answer ({error}); `l2 up` starts it again") from None
        finally:
            transport.close()

"""Find the running warehouse, or start one that ends by itself: `ensure_warehouse`.

Whoever owns the lease `run/leases/warehouse` is the warehouse; `run/warehouse.json` tells where it listens. Several commands that
start one at the same time agree: one process gets the lease, the others end, and every command waits for the record. What does not
belong here: the client library (client), the server itself (server).
"""

import json
import os
import secrets
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from l2_platform.clock import Clock, SystemClock
from l2_platform.errors import WarehouseError
from l2_platform.monitoring.heartbeat import process_start_ticks
from l2_platform.settings import Settings, field_paths, variable_of

HOST: Final = "127.0.0.1"
PING_S: Final = 5.0
POLL_S: Final = 0.05
LEASE_HELD: Final = 75
"""Exit code of a server that found another one."""


@dataclass(frozen=True, slots=True)
class WarehouseRecord:
    """`run/warehouse.json`: where the running warehouse listens."""

    pid: int
    started_ticks: int
    """Start time of the process, clock ticks since boot: tells a reused pid."""
    port: int
    started: int
    """ns since the epoch."""
    idle: bool
    """It ends by itself when nobody asks."""


def record_path(settings: Settings) -> Path:
    """Where the record is."""
    return settings.run_dir / "warehouse.json"


def log_path(settings: Settings) -> Path:
    """Log of a warehouse that a command started."""
    return settings.log_dir / "warehouse.log"


def write_record(path: Path, record: WarehouseRecord) -> None:
    """Publish, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(asdict(record)), encoding="utf-8")
    fresh.replace(path)


def read_record(path: Path) -> WarehouseRecord | None:
    """The record of a living warehouse, or None."""
    try:
        record = WarehouseRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, OverflowError, TypeError):
        return None
    return record if process_start_ticks(record.pid) == record.started_ticks else None


def warehouse_password(settings: Settings) -> str:
    """The password of the warehouse: the setting, else the generated one (`run/warehouse.password`, mode 600, made now if needed)."""
    given = settings.clickhouse.password.get_secret_value()
    if given or not settings.clickhouse.embedded:
        return given
    path = settings.run_dir / "warehouse.password"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(24))
        with suppress(FileExistsError):
            # the first writer wins; everybody reads the same
            path.hardlink_to(fresh)
        fresh.unlink()
    return path.read_text(encoding="ascii").strip()


def is_answering(port: int, timeout_s: float = PING_S) -> bool:
    """A warehouse answers /ping on this port."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/ping", timeout=timeout_s) as answer:
            return bool(answer.read() == b"Ok.\n")
    except (urllib.error.URLError, OSError, ValueError):
        return False


def find_warehouse(settings: Settings) -> tuple[str, int] | None:
    """Address of the running warehouse of this home, or None."""
    record = read_record(record_path(settings))
    if record is not None and is_answering(record.port):
        return HOST, record.port
    return None


def is_managed(settings: Settings) -> bool:
    """A process manager runs this home: it starts the warehouse, commands only wait for it."""
    try:
        pid = int((settings.run_dir / "supervisord.pid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return False
    return process_start_ticks(pid) is not None


def ensure_warehouse(settings: Settings, clock: Clock | None = None) -> tuple[str, int]:
    """Address of the warehouse; starts one (it ends when idle) unless one runs. Raise WarehouseError that tells where the log is."""
    clock = clock or SystemClock()
    deadline = clock.monotonic_ns() + int(settings.warehouse.start_s * 1e9)
    child: int | None = None
    while True:
        found = find_warehouse(settings)
        if found is not None:
            return found
        if child is None and not is_managed(settings):
            child = _spawn(settings)
        status = None if child is None else _exit_code(child)
        if status is not None and status != 0:
            if status != LEASE_HELD:
                raise WarehouseError(f"the warehouse did not start (exit {status}): {_last_line(settings)}; log: {log_path(settings)}")
            # Another one has the lease: it is starting, or just ending; look again, and start ours when it is gone.
            child = None
            clock.sleep(POLL_S * 4)
        elif status == 0:
            child = None
        if clock.monotonic_ns() > deadline:
            raise WarehouseError(f"the warehouse did not answer within {settings.warehouse.start_s:g} s; log: {log_path(settings)}")
        clock.sleep(POLL_S)


def _spawn(settings: Settings) -> int:
    """Start a server that outlives this process; its pid."""
    path = log_path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "l2_platform.warehouse.server", "--idle-exit", f"{settings.warehouse.idle_exit_s:g}"]
    appending = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, str(path), appending, 0o600)]
    # In a session of its own: Ctrl-C in the command's terminal must not reach it.
    return os.posix_spawn(
        sys.executable, command, _environment(settings), file_actions=[*files, (os.POSIX_SPAWN_DUP2, 1, 2)], setsid=True
    )


def _exit_code(child: int) -> int | None:
    """How the child ended; None while it runs."""
    pid, status = os.waitpid(child, os.WNOHANG)
    return None if pid == 0 else os.waitstatus_to_exitcode(status)


def _environment(settings: Settings) -> dict[str, str]:
    """The child's variables: ours, and the settings that the server reads (some may have been given as arguments)."""
    found = {"L2_HOME": str(settings.home)}
    for path in field_paths():
        section, _, name = path.partition(".")
        if section in {"warehouse", "clickhouse", "supervision", "log"}:
            value = getattr(getattr(settings, section), name)
            found[variable_of(path)] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    # A secret is handed on as it is: the child must not be given its file too.
    inherited = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in found}
    return {**inherited, **found}


def _last_line(settings: Settings) -> str:
    try:
        lines = log_path(settings).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "no log"
    return lines[-1][:500] if lines else "empty log"

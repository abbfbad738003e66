"""Which processes an instance runs, in which order, and how each shows that it is healthy; pure, from settings alone.

What does not belong here: starting or asking them (`supervisord.py`, `health.py`).
"""

import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from l2_platform.settings import Settings

LOOPBACK = "127.0.0.1"


class Health(StrEnum):
    """How a part shows that it works."""

    HEARTBEAT = "heartbeat"
    """`run/heartbeats/<name>.json` is fresh and its state is a working one."""
    WAREHOUSE = "warehouse"
    """The HTTP interface answers /ping."""
    PORT = "port"
    """Its TCP port accepts a connection."""
    WEBSERVER = "webserver"
    """Dagster's web server answers, and its code location loaded."""
    DAEMON = "daemon"
    """The web server reports every required Dagster daemon healthy."""


class Phase(StrEnum):
    """Groups that stop together; the order of the members is the order of stopping."""

    WATCH = "watch"
    DAGSTER = "dagster"
    COLLECT = "collect"
    FEED = "feed"
    DELIVER = "deliver"
    STORE = "store"


STOP_ORDER: tuple[Phase, ...] = tuple(Phase)
"""The watchdog first, so that it restarts nothing; the journal is drained into the sinks before the warehouse goes."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the instance."""

    name: str
    """Worker name, also the name of its log and heartbeat."""
    command: tuple[str, ...]
    phase: Phase
    health: Health
    ports: tuple[int, ...] = ()
    """TCP ports on 127.0.0.1 that it listens on; the first is the one that is asked."""
    stop_s: int = 10
    """SIGTERM to SIGKILL, s."""
    whole_group: bool = False
    """Signal the whole process group: only for Dagster, whose runs are children of the code server."""

    @property
    def waits_for_feed(self) -> bool:
        """Started by `l2 up` once the simulated market is there: an earlier start would only meet refused connections."""
        return self.phase is Phase.COLLECT

    @property
    def priority(self) -> int:
        """Order of supervisord: it starts in ascending and stops in descending order."""
        return 10 * (len(STOP_ORDER) - STOP_ORDER.index(self.phase))


def plan_parts(settings: Settings) -> list[Part]:
    """Every process of `l2 up`, in the order of starting."""
    parts = [*_storage_parts(settings), *_feed_parts(settings)]
    if settings.dagster.enabled:
        parts += _dagster_parts(settings)
    parts.append(_worker("watchdog", "operations.watchdog", phase=Phase.WATCH))
    return sorted(parts, key=lambda part: part.priority)


def addresses(settings: Settings) -> dict[str, str]:
    """What a person can open or connect to: name → address."""
    ports = settings.ports
    found = {}
    if settings.dagster.enabled:
        found["Dagster"] = f"http://{LOOPBACK}:{ports.dagster}"
    if settings.clickhouse.embedded:
        port = settings.clickhouse.port or ports.warehouse
        found["warehouse"] = f"http://{LOOPBACK}:{port} (ClickHouse HTTP, user {settings.clickhouse.user})"
    else:
        found["ClickHouse"] = f"{settings.clickhouse.host}:{settings.clickhouse.port or ports.warehouse}"
    if settings.jsonl.enabled:
        found["files"] = str(settings.jsonl_dir / "live")
    found["journal"] = str(settings.journal_dir)
    host = LOOPBACK if settings.feed.kind == "simulated" else settings.feed.host
    kind = "simulated IQConnect" if settings.feed.kind == "simulated" else "IQConnect"
    found["feed"] = f"{host}: Level 1 {ports.level1}, Level 2 {ports.level2}, admin {ports.admin} ({kind})"
    return found


def _worker(name: str, module: str, *arguments: str, phase: Phase, stop_s: int = 10) -> Part:
    command = (sys.executable, "-m", f"l2_platform.{module}", *arguments)
    return Part(name, command, phase, Health.HEARTBEAT, stop_s=stop_s)


def _storage_parts(settings: Settings) -> list[Part]:
    parts = []
    stop_s = int(settings.supervision.stop_s)
    if settings.clickhouse.embedded and settings.clickhouse.enabled:
        command = (sys.executable, "-m", "l2_platform.warehouse.server")
        port = settings.clickhouse.port or settings.ports.warehouse
        parts.append(Part("warehouse", command, Phase.STORE, Health.WAREHOUSE, ports=(port,), stop_s=20))
    if settings.clickhouse.enabled:
        parts.append(
            _worker("deliver-clickhouse", "delivery", "clickhouse", "--wait", phase=Phase.DELIVER, stop_s=stop_s)
        )
    if settings.jsonl.enabled:
        parts.append(_worker("deliver-jsonl", "delivery", "jsonl", "--wait", phase=Phase.DELIVER, stop_s=stop_s))
    parts.append(_worker("sealer", "journal.sealer", phase=Phase.DELIVER))
    return parts


def _feed_parts(settings: Settings) -> list[Part]:
    parts = []
    ports = settings.ports
    if settings.feed.kind == "simulated":
        command = (str(Path(sys.executable).parent / "l2"), "simulate", "--wait")
        listens = (ports.simulator_control, ports.level1, ports.lookup, ports.level2, ports.admin)
        parts.append(Part("simulator", command, Phase.FEED, Health.HEARTBEAT, ports=listens))
    parts += [
        _worker(f"collector-{stream}", "collectors", stream, "--wait", phase=Phase.COLLECT)
        for stream in settings.streams
    ]
    return parts


def _dagster_parts(settings: Settings) -> list[Part]:
    tools = Path(sys.executable).parent
    workspace = str(settings.run_dir / "workspace.yaml")
    code, web = settings.ports.code_server, settings.ports.dagster
    location = ("api", "grpc", "-m", "l2_platform.definitions", "-h", LOOPBACK, "-p", str(code))
    # No file of the tree is named to the web server, so that it never reads code itself.
    return [
        Part(
            "dagster-code", (str(tools / "dagster"), *location), Phase.DAGSTER, Health.PORT, ports=(code,), stop_s=8,
            whole_group=True,
        ),
        Part(
            "dagster-webserver",
            # connections to PostgreSQL that it keeps are dead after a restart there, and the first click on each would fail
            (str(tools / "dagster-webserver"), "-h", LOOPBACK, "-p", str(web), "-w", workspace, "--db-pool-recycle", "1"),
            Phase.DAGSTER, Health.WEBSERVER, ports=(web,), stop_s=8,
        ),
        Part(
            "dagster-daemon", (str(tools / "dagster-daemon"), "run", "-w", workspace), Phase.DAGSTER, Health.DAEMON,
            stop_s=8,
        ),
    ]  # fmt: skip

"""Is a part healthy? Asked from outside, the way its users would: heartbeat file, TCP port, HTTP answer."""

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any

from l2_platform.clock import Clock
from l2_platform.monitoring.heartbeat import HeartbeatRecord, read_heartbeat
from l2_platform.operations.crash_loops import read_loop
from l2_platform.operations.dagster_storage import storage_trouble
from l2_platform.operations.plan import LOOPBACK, Health, Part
from l2_platform.operations.supervisord import Process
from l2_platform.settings import Settings

WORKING_STATES = frozenset({"standby", "live", "draining", "idle", "running", "ok"})
"""Heartbeat states of a worker that does what it should; `syncing` is on the way there."""
FRESH_S = 5.0
"""A heartbeat older than this is no sign of life, s."""
ASK_TIMEOUT_S = 3.0
"""Longest wait for an answer of a part, s."""

_DAGSTER_QUERY = (
    "{ instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } "
    "workspaceOrError { ... on Workspace { locationEntries { name loadStatus locationOrLoadError { __typename "
    "... on PythonError { message } } } } } }"
)


@dataclass(frozen=True, slots=True)
class Vitals:
    """One part at one moment."""

    name: str
    healthy: bool
    state: str
    """What a person reads: the worker's own state, or the process manager's."""
    reason: str
    """Why it is not healthy; empty when it is."""
    pid: int
    process: Process | None
    heartbeat: HeartbeatRecord | None


def examine(part: Part, process: Process | None, settings: Settings, clock: Clock) -> Vitals:
    """Ask one part; `process` is what the process manager says about it, None when it knows no such program."""
    heartbeat = read_heartbeat(settings.run_dir / "heartbeats" / f"{part.name}.json")
    if process is None or not process.running:
        state = process.state.lower() if process else "not started"
        loop = read_loop(settings, part.name)
        reason = state if loop is None else f"crash loop, ended {loop.crashes} times soon after its start; see its log"
        return Vitals(part.name, False, state if loop is None else "crashloop", reason, 0, process, heartbeat)
    reason = _ask(part, process, heartbeat, settings, clock)
    state = heartbeat.state if heartbeat and heartbeat.pid == process.pid else "running"
    return Vitals(part.name, not reason, state, reason, process.pid, process, heartbeat)


def _ask(part: Part, process: Process, heartbeat: HeartbeatRecord | None, settings: Settings, clock: Clock) -> str:
    if part.health is Health.HEARTBEAT:
        return _heartbeat_reason(process, heartbeat, clock.now_ns())
    if part.health is Health.WAREHOUSE:
        return "" if _get(part.ports[0], "/ping").startswith("Ok") else f"port {part.ports[0]} does not answer /ping"
    if part.health is Health.PORT:
        return "" if port_answers(part.ports[0]) else f"port {part.ports[0]} does not answer"
    return _dagster_reason(part, settings)


def _heartbeat_reason(process: Process, heartbeat: HeartbeatRecord | None, now_ns: int) -> str:
    if heartbeat is None or heartbeat.pid != process.pid:
        return "starting"
    age_s = heartbeat.age_s(now_ns)
    if age_s > FRESH_S:
        return f"no heartbeat for {age_s:.0f} s"
    return "" if heartbeat.state in WORKING_STATES else heartbeat.state


def _dagster_reason(part: Part, settings: Settings) -> str:
    port = settings.ports.dagster
    if part.health is Health.DAEMON and (trouble := storage_trouble(settings)):
        # the web server answers from what it has read: it does not tell
        return trouble
    if part.health is Health.WEBSERVER and not _get(port, "/server_info"):
        return f"port {port} does not answer"
    answer = _graphql(port, _DAGSTER_QUERY)
    if answer is None:
        return "no answer from the web server"
    if part.health is Health.DAEMON:
        statuses = answer["instance"]["daemonHealth"]["allDaemonStatuses"]
        bad = [item["daemonType"].lower() for item in statuses if item["required"] and not item["healthy"]]
        return f"daemons not healthy: {', '.join(bad)}" if bad else ""
    for entry in answer["workspaceOrError"].get("locationEntries", []):
        loaded = entry["locationOrLoadError"]
        if entry["loadStatus"] != "LOADED" or loaded is None:
            return "code location is loading"
        if loaded["__typename"] == "PythonError":
            return f"code location failed: {loaded['message'].strip().splitlines()[0]}"
    return ""


def port_answers(port: int) -> bool:
    """True when something on this machine accepts a connection there."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=ASK_TIMEOUT_S):
            return True
    except OSError:
        return False


def _get(port: int, path: str) -> str:
    return _request(port, "GET", path, None)


def _graphql(port: int, query: str) -> Any:
    text = _request(port, "POST", "/graphql", json.dumps({"query": query}))
    try:
        return json.loads(text)["data"]
    except (ValueError, OverflowError, KeyError, TypeError):
        return None


def _request(port: int, method: str, path: str, body: str | None) -> str:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=ASK_TIMEOUT_S)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        text = response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return ""
    else:
        return text if response.status == 200 else ""
    finally:
        connection.close()

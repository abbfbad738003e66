"""A whole instance (`l2 up`, Dagster included) for the pages and for the kills of Dagster; and questions to Dagster over GraphQL.

What does not belong here: what is right (the tests), driving a browser (`browser.py`).
"""

import http.client
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psutil

from l2_platform.clock import SystemClock
from l2_platform.market.sessions import load_calendar
from l2_platform.operations.orphans import find_orphans
from l2_platform.operations.supervisord import socket_path
from tests.integration.homes import Home
from tests.integration.recorded_days import end_warehouse

DAGSTER_PARTS = ("dagster-code", "dagster-webserver", "dagster-daemon")
PRINTS = 600
"""Prints of the date that is imported, one a second."""
RED = """{ assetNodes { assetKey { path } assetChecksOrError { ... on AssetChecks { checks { name
    executionForLatestMaterialization { status evaluation { severity description } } } } } } }"""
LAUNCH = """mutation Launch($parameters: ExecutionParams!) { launchRun(executionParams: $parameters) { __typename
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } ... on RunConfigValidationInvalid { errors { message } } } }"""


class ControlRoom:
    """One running instance."""

    def __init__(self, home: Home) -> None:
        self.home = home

    @property
    def url(self) -> str:
        """Where the UI is."""
        return f"http://127.0.0.1:{self.home.settings.ports.dagster}"

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of a GraphQL answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.home.settings.ports.dagster, timeout=60)
        try:
            body = json.dumps({"query": query, "variables": variables})
            connection.request("POST", "/graphql", body, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    def status(self) -> dict[str, Any]:
        """`l2 status --json`."""
        found: dict[str, Any] = json.loads(self.home.run("status", "--json").stdout)
        return found

    def pids(self) -> dict[str, int]:
        """Part → pid."""
        return {part["name"]: int(part["pid"]) for part in self.status()["parts"]}

    def until(self, what: str, reached: Callable[[], Any], seconds: float = 180) -> Any:
        """The first true answer; errors of an absent server count as no."""
        deadline = time.monotonic() + seconds
        said = ""
        while time.monotonic() < deadline:
            try:
                if found := reached():
                    return found
            except (OSError, http.client.HTTPException, ValueError) as error:
                said = repr(error)
            time.sleep(0.2)
        raise AssertionError(f"not within {seconds:g} s: {what} {said}\n{self.home.run('status').stdout}")

    def until_healthy(self, seconds: float = 180) -> dict[str, Any]:
        """Wait until `l2 status` says healthy; what it said."""

        def healthy() -> dict[str, Any] | None:
            status = self.status()
            return status if status["overall"] == "healthy" else None

        found: dict[str, Any] = self.until("healthy", healthy, seconds)
        return found

    def evaluations(self) -> dict[tuple[str, str], dict[str, Any]]:
        """(asset, check) → its last evaluation; without those never evaluated."""
        return {
            ("/".join(node["assetKey"]["path"]), check["name"]): check["executionForLatestMaterialization"]
            for node in self.ask(RED)["assetNodes"]
            for check in node["assetChecksOrError"].get("checks", [])
            if check["executionForLatestMaterialization"]
        }

    def launch(self, job: str, config: dict[str, Any], tags: dict[str, str] | None = None) -> str:
        """Start a run as the UI does; its id."""
        parameters = {
            "selector": {"repositoryName": "__repository__", "repositoryLocationName": "l2_platform", "pipelineName": job},
            "runConfigData": config, "mode": "default",
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in (tags or {}).items()]},
        }  # fmt: skip
        answer = self.ask(LAUNCH, parameters=parameters)["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        found: str = answer["run"]["runId"]
        return found

    def run_status(self, run: str) -> str:
        """SUCCESS, FAILURE, STARTED and so on."""
        found: str = self.ask(f'{{ runOrError(runId: "{run}") {{ ... on Run {{ status }} }} }}')["runOrError"]["status"]
        return found

    def until_ended(self, run: str, seconds: float = 240) -> str:
        """Wait until the run has ended; how."""
        ends = {"SUCCESS", "FAILURE", "CANCELED"}
        self.until(f"the end of run {run}", lambda: self.run_status(run) in ends, seconds)
        return self.run_status(run)

    def runs_of(self, job: str) -> list[dict[str, Any]]:
        """Every run of a job."""
        answer = self.ask(f'{{ runsOrError(filter: {{pipelineName: "{job}"}}) {{ ... on Runs {{ results {{ runId status }} }} }} }}')
        found: list[dict[str, Any]] = answer["runsOrError"]["results"]
        return found

    def kill(self, *names: str) -> None:
        """SIGKILL these parts, and what they started."""
        pids = self.pids()
        for name in names:
            process = psutil.Process(pids[name])
            for one in (process, *process.children(recursive=True)):
                one.kill()

    def kill_everything(self) -> int:
        """SIGKILL the process manager and every process it ever started, as a power loss would; how many."""
        mark = f"unix://{socket_path(self.home.settings)}"
        manager = int((self.home.path / "run" / "supervisord.pid").read_text())
        found = [psutil.Process(manager)]
        for process in psutil.process_iter():
            try:
                if process.environ().get("SUPERVISOR_SERVER_URL") == mark:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        for process in found:
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        psutil.wait_procs(found, timeout=20)
        assert not find_orphans(self.home.settings)
        return len(found)


@contextmanager
def control_room(folder: Path, numba_cache: Path, base: int | None = None, **variables: str) -> Iterator[ControlRoom]:
    """`l2 up` in a home of its own, `l2 down` in the end. `base`: the port base, when it must be a certain one."""
    chosen = {
        "L2_SIMULATOR__SYMBOLS": "6", "L2_SIMULATOR__RATE": "150", "L2_DISK__RESERVE_BYTES": "1000000",
        "L2_SUPERVISION__START_S": "300", **variables,
    }  # fmt: skip
    home = Home(folder, numba_cache, chosen) if base is None else Home(folder, numba_cache, chosen, base)
    room = ControlRoom(home)
    try:
        home.ok("up", timeout=600)
        yield room
    finally:
        home.run("down", timeout=180)


def measure_today(room: ControlRoom) -> None:
    """Wait until the session date of the simulated market is measured; the sensor does it for a new date, here it is asked for."""
    today = datetime.fromtimestamp(SystemClock().now_ns() / 1e9, UTC).strftime("%Y-%m-%d")
    assert room.until_ended(room.launch("measure_day", {}, {"dagster/partition": today}), 400) == "SUCCESS"


def import_yesterday(folder: Path, numba_cache: Path) -> str:
    """Prints of New York's last date before today, which imports go by, in a home where nothing runs: a date that is over; its key."""
    today = datetime.fromtimestamp(SystemClock().now_ns() / 1e9, UTC)
    day = date.fromisoformat(str(load_calendar("XNYS").previous_session(int(f"{today:%Y%m%d}"))))
    file = folder / "prints.csv"
    file.write_text(
        "".join(
            f"{day:%Y-%m-%d} 10:{second // 60:02}:{second % 60:02}.000000,1.52,100,{100 * second + 100},1.51,1.53,{second + 1},C,11,3D87,0,"
            f"{day.day},\n"
            for second in range(PRINTS)
        )
    )
    home = Home(folder, numba_cache)
    home.ok("import", file, "--channel", "ticks", "--symbol", "SYM000")
    end_warehouse(home.settings)
    return f"{day:%Y-%m-%d}"

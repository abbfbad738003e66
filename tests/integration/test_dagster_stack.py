"""Code server, web server and daemon as real processes: the UI shows what the definitions promise."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from l2_platform.clock import SystemClock
from l2_platform.monitoring.heartbeat import Heartbeat
from l2_platform.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
CHROMIUM = Path("/usr/bin/chromium")
CLOCK = SystemClock()

CHECKS = """{ assetNodes { assetKey { path } groupName assetChecksOrError { ... on AssetChecks { checks { name
    executionForLatestMaterialization { status evaluation { severity description } } } } } } }"""
SENSORS = """{ sensorsOrError(repositorySelector: {repositoryName: "__repository__", repositoryLocationName: "l2_platform"}) {
    ... on Sensors { results { name sensorState { status ticks(limit: 1) { status } } } } } }"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ask(port, query):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/graphql", json.dumps({"query": query}), {"Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())["data"]
    finally:
        connection.close()


def wait_for(look, what, seconds=90):
    deadline = CLOCK.monotonic_ns() + seconds * 10**9
    while CLOCK.monotonic_ns() < deadline:
        try:
            found = look()
        except (OSError, http.client.HTTPException, KeyError, TypeError, ValueError):
            found = None
        if found:
            return found
        CLOCK.sleep(0.3)
    pytest.fail(f"not seen within {seconds} s: {what}")


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    home = tmp_path_factory.mktemp("stack")
    settings = Settings(home=home)
    dagster_home = home / "dagster"
    dagster_home.mkdir()
    shutil.copy(ROOT / "dagster.yaml", dagster_home)
    code, web = free_port(), free_port()
    workspace = home / "workspace.yaml"
    workspace.write_text(f"load_from:\n  - grpc_server: {{host: 127.0.0.1, port: {code}, location_name: l2_platform}}\n")
    environment = {**os.environ, "L2_HOME": str(home), "DAGSTER_HOME": str(dagster_home)}
    tools = Path(sys.executable).parent
    commands = [
        ["dagster", "api", "grpc", "-m", "l2_platform.definitions", "-h", "127.0.0.1", "-p", str(code)],
        ["dagster-webserver", "-h", "127.0.0.1", "-p", str(web), "-w", str(workspace)],
        ["dagster-daemon", "run", "-w", str(workspace)],
    ]
    beat = Heartbeat(settings.run_dir / "heartbeats" / "collector-iqfeed-depth-0.json", "collector-iqfeed-depth-0", CLOCK)
    beat.beat("live", generation=1, lines=1000, rate=35.5)
    with (home / "dagster.log").open("wb") as log:
        # As `l2 up` does: processes that meet an empty storage make its tables all at once, and the web server then never starts.
        subprocess.run(
            [str(tools / "dagster"), "instance", "migrate"], env=environment, cwd=ROOT, stdout=log, stderr=log, check=True
        )
        processes = [
            subprocess.Popen([str(tools / name), *rest], env=environment, cwd=ROOT, stdout=log, stderr=log)
            for name, *rest in commands
        ]
        try:
            yield settings, web
        finally:
            for process in reversed(processes):
                process.terminate()
            for process in processes:
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def test_stack_shows_assets_and_sensor_reports_checks(stack):
    _, web = stack
    wait_for(lambda: ask(web, "{ version }"), "web server")
    nodes = wait_for(lambda: ask(web, "{ assetNodes { assetKey { path } } }")["assetNodes"], "code location")
    assert {"/".join(node["assetKey"]["path"]) for node in nodes} >= {"journal", "trades", "warehouse", "collectors/iqfeed-depth-0"}

    def reported():
        for node in ask(web, CHECKS)["assetNodes"]:
            if node["assetKey"]["path"] == ["collectors", "iqfeed-depth-0"]:
                return node["assetChecksOrError"]["checks"][0]["executionForLatestMaterialization"]
        return None

    execution = wait_for(reported, "the sensor's check evaluation")
    assert execution["evaluation"]["description"]
    sensors = {item["name"]: item["sensorState"]["status"] for item in ask(web, SENSORS)["sensorsOrError"]["results"]}
    assert sensors == dict.fromkeys(
        (
            "collector_supervisor", "new_session_date", "symbols_changed", "notify_run_failures", "notify_check_failures",
            "unclosed_dates", "repair_closed_gaps", "prove_closed_dates",
        ), "RUNNING",
    )


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs chromium")
def test_asset_catalog_renders_in_a_browser(stack, tmp_path):
    _, web = stack
    wait_for(lambda: ask(web, "{ assetNodes { assetKey { path } } }")["assetNodes"], "code location")
    picture = Path(os.environ.get("SCREENSHOT_DIR", tmp_path)) / "catalog.png"
    command = [
        str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1500,1000",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=15000", f"--screenshot={picture}",
        f"http://127.0.0.1:{web}/assets",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert picture.stat().st_size > 20_000

"""The web UI as its user sees it: a real browser, a whole instance, every main screen; a broken promise is red and turns green again."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages.browser import CHROMIUM, Browser
from tests.pages.control_room import ControlRoom, control_room, import_yesterday, measure_today
from tests.pages.screens import ERRORS, LOCATION, MORE, SCREENS, Screen

pytestmark = [
    pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1200),
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]  # fmt: skip
DEFAULTS = {
    "control_collector": ("action: start", "- simulator"), "roll_symbols": ("group: demo", "- SYM050"),
}  # fmt: skip
"""What the launchpad of a job shows before anything is typed."""
MADE = ("platform_health", "universe")
"""What sensors make soon after the start."""
WORKER, ASSET = "collector-iqfeed-admin-0", "collectors/iqfeed-admin-0"
COLOURS = "[...document.querySelectorAll('span, div, a')].filter(e => e.innerText === 'Materialized').map(e => getComputedStyle(e).color)"
"""Colours of the states in the catalog: rgb(…)."""
STATES = "{ sensorsOrError(repositorySelector: {%s}) { ... on Sensors { results { name sensorState { status } } } } schedulesOrError(%s) {\
    ... on Schedules { results { name scheduleState { status } } } } }"


def is_made(room: ControlRoom, name: str) -> bool:
    query = '{ assetOrError(assetKey: {path: ["%s"]}) { ... on Asset { assetMaterializations(limit: 1) { runId } } } }'
    return bool(room.ask(query % name)["assetOrError"].get("assetMaterializations"))


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[ControlRoom]:
    folder = tmp_path_factory.mktemp("pages")
    before = import_yesterday(folder, numba_cache)
    with control_room(folder, numba_cache) as found:
        proofs = found.launch("daily_proofs", {}, {"dagster/partition": before})
        measure_today(found)
        assert found.until_ended(proofs, 400) == "SUCCESS"
        # an open page does not show what came after it was loaded
        found.until("the first verdict and universe", lambda: all(is_made(found, name) for name in MADE), 360)
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as found:
        yield found


@pytest.mark.parametrize("screen", [*SCREENS, *MORE], ids=lambda screen: screen.name)
def test_screen_shows_what_it_promises(room: ControlRoom, browser: Browser, screen: Screen) -> None:
    browser.errors.clear()
    browser.go(room.url + screen.path)
    text = browser.wait_for(*screen.words, seconds=360)
    room.until(f"without scrolling: {screen.at_once}", lambda: all(browser.is_seen(words) for words in screen.at_once), 30)
    assert not [words for words in ERRORS if words in text]
    assert not browser.errors


@pytest.mark.parametrize("job", DEFAULTS)
def test_launchpad_is_filled_in(room: ControlRoom, browser: Browser, job: str) -> None:
    browser.go(f"{room.url}{LOCATION}/jobs/{job}/playground")
    browser.wait_for("Launch Run", "No errors", *DEFAULTS[job])


def test_everything_is_on_without_a_click(room: ControlRoom) -> None:
    selector = 'repositoryName: "__repository__", repositoryLocationName: "l2_platform"'
    answer = room.ask(STATES % (selector, f"repositorySelector: {{{selector}}}"))
    states = {one["name"]: one["sensorState"]["status"] for one in answer["sensorsOrError"]["results"]}
    states |= {one["name"]: one["scheduleState"]["status"] for one in answer["schedulesOrError"]["results"]}
    assert states
    assert set(states.values()) == {"RUNNING"}, states


def test_a_hanging_worker_is_red_on_the_first_screen_and_green_again(room: ControlRoom, browser: Browser) -> None:
    # without the watchdog a stopped process stays: nobody kills it, and what is shown is what the heartbeats say
    stopped = [room.pids()[name] for name in ("watchdog", WORKER)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        room.until("a failed check", lambda: _alive(room) == "FAILED")
        browser.go(f"{room.url}/assets")
        browser.wait_for(ASSET.split("/")[1], "Materialized", seconds=180)
        room.until("something red in the catalog", lambda: any(_is_red(one) for one in browser.run(COLOURS)))
        browser.go(f"{room.url}/assets/{ASSET}?view=checks")
        browser.wait_for("Failed", "gives no sign of life", "job control_collector, action restart", seconds=180)
    finally:
        for pid in reversed(stopped):
            os.kill(pid, signal.SIGCONT)
    room.until("a check that passes again", lambda: _alive(room) == "SUCCEEDED")
    browser.go(f"{room.url}/assets/{ASSET}?view=checks")
    browser.wait_for("alive", "Succeeded", "Passed", seconds=180)


def _is_red(colour: str) -> bool:
    red, green, blue = (float(part) for part in re.findall(r"[\d.]+", colour)[:3])
    return red > 1.5 * max(green, blue)


def _alive(room: ControlRoom) -> str:
    return str(room.evaluations().get((ASSET, "alive"), {}).get("status"))

"""The daily report in a real browser: what a person reads, that it asks for nothing, and that it fits on paper."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from l2_platform.clock import SystemClock
from l2_platform.quality.report import DayReport, write_report
from l2_platform.settings import Settings
from tests.integration.recorded_days import end_warehouse
from tests.integration.reported_days import BAD, CLEAN, put_bad, put_clean
from tests.integration.stored import make_home, warehouse
from tests.pages.browser import CHROMIUM, Browser

pytestmark = [pytest.mark.integration, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")]
EMPTY = 20260304
HEADINGS = ("What needs a person", "What was recorded", "What is missing, and why", "What was repaired", "Is it right?", "Coverage")
WORDS_MAX = 900
"""A person reads some 250 words a minute, and reads tables by their first columns."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[Settings]:
    home = make_home(tmp_path_factory.mktemp("home"), numba_cache)
    home.variables["L2_WAREHOUSE__IDLE_EXIT_S"] = "900"
    with warehouse(home.settings) as client:
        put_clean(client)
        put_bad(client)
        yield home.settings
    end_warehouse(home.settings)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser((1000, 1400)) as found:
        yield found


def number_of(day: object) -> int:
    return int(str(day).replace("-", ""))


def opened(browser: Browser, made: DayReport) -> str:
    """Its text, after it was found to need nothing else and to fit on two sheets."""
    browser.requests.clear()
    browser.console.clear()
    browser.errors.clear()
    address = made.path.as_uri()
    browser.go(address)
    text = browser.wait_for(str(made.session_date), *HEADINGS)
    assert set(browser.requests) <= {address, "data:,"}, "no address but its own"
    assert (browser.errors, browser.console) == ([], [])
    assert browser.run("document.scripts.length") == 0
    # nothing is wider than the window, so nothing is cut on paper
    assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.pdf(made.path.with_suffix(".pdf")) in {1, 2}
    return text


def colour(browser: Browser, selector: str) -> list[int]:
    found = browser.run(f"getComputedStyle(document.querySelector({selector!r})).borderLeftColor")
    return [int(part) for part in re.findall(r"\d+", found)[:3]]


def test_a_clean_day_is_green_and_short(settings: Settings, browser: Browser) -> None:
    made = write_report(settings, number_of(CLEAN), SystemClock())
    text = opened(browser, made)
    lines = text.splitlines()
    assert lines[0] == f"{CLEAN} · complete"
    assert "Unexplained loss 0 s, 0 rows" in text
    assert "Nothing." in text
    red, green, _ = colour(browser, "header")
    assert green > red
    assert len(text.split()) < WORDS_MAX / 2
    assert browser.run("document.querySelectorAll('svg').length") == 4


def test_a_bad_day_tells_first_what_needs_a_person(settings: Settings, browser: Browser) -> None:
    made = write_report(settings, number_of(BAD), SystemClock())
    text = opened(browser, made)
    assert text.splitlines()[0] == f"{BAD} · missing"
    red, green, _ = colour(browser, "header")
    assert red > green
    assert text.index("1 gap did not end") < text.index("What was recorded")
    assert "<b>&EVIL" in text
    for words in ("450 of 900 TickIDs are missing", "no row of it in any table", "impossible", "depth has no history", "book_not_crossed"):
        assert words in text
    assert len(text.split()) < WORDS_MAX
    tips = browser.run("[...document.querySelectorAll('svg title')].map(e => e.textContent)")
    assert any(tip.startswith("<b>&EVIL 11:00: 15 minutes") for tip in tips), tips[:40]


def test_a_date_that_nobody_looked_at_is_not_green(settings: Settings, browser: Browser) -> None:
    made = write_report(settings, EMPTY, SystemClock())
    text = opened(browser, made)
    assert text.splitlines()[0] == "2026-03-04 · missing"
    assert "Completeness: not evaluated: completeness was not judged: `l2 complete 2026-03-04`" in text
    red, green, _ = colour(browser, "header")
    assert red > green

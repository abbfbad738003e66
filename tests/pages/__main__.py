"""`python -m tests.pages [FOLDER]`: take the pictures of the main screens (docs/screenshots), from an instance of its own.

It runs the simulated market for some minutes, measures the day, and takes one picture a screen. `--url` uses an instance that runs
already and changes nothing in it.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from l2_platform.clock import SystemClock
from l2_platform.quality.report import write_report
from tests.conftest import NUMBA_CACHE
from tests.integration.recorded_days import end_warehouse
from tests.integration.reported_days import BAD, put_bad, put_clean
from tests.integration.stored import make_home, warehouse
from tests.pages.browser import Browser
from tests.pages.control_room import ControlRoom, control_room, measure_today
from tests.pages.screens import SCREENS

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
BYTES_MAX = 250_000
REPORT_SIZE = (1000, 1400)
DRAWN_S = 2.0
"""Words come before lines and plots, s."""


def take_pictures(url: str, folder: Path) -> list[str]:
    """One PNG a screen; what is wrong with them."""
    folder.mkdir(parents=True, exist_ok=True)
    wrong = []
    with Browser() as browser:
        for screen in SCREENS:
            browser.go(url + screen.path)
            try:
                browser.wait_for(*screen.words)
            except AssertionError as error:
                wrong.append(f"{screen.name}: {error}")
            time.sleep(DRAWN_S)
            file = folder / f"{screen.name}.png"
            browser.picture(file)
            if file.stat().st_size > BYTES_MAX:
                wrong.append(f"{file} has {file.stat().st_size} bytes, more than {BYTES_MAX}")
            sys.stdout.write(f"{file} {file.stat().st_size // 1000} kB\n")
    return wrong


def picture_of_report(folder: Path) -> None:
    """`report.png`: the daily report of a date in which much went wrong."""
    with tempfile.TemporaryDirectory(prefix="l2-report-") as place:
        home = make_home(Path(place) / "h", NUMBA_CACHE)
        try:
            with warehouse(home.settings) as client:
                put_clean(client)
                put_bad(client)
                made = write_report(home.settings, int(f"{BAD:%Y%m%d}"), SystemClock())
        finally:
            end_warehouse(home.settings)
        with Browser(REPORT_SIZE) as browser:
            browser.go(made.path.as_uri())
            browser.wait_for("Coverage")
            browser.picture(folder / "report.png")


def fill(room: ControlRoom, minutes: float) -> None:
    """Rows of some minutes, and a measured day."""
    time.sleep(minutes * 60)
    measure_today(room)


def main() -> int:
    """Exit code 0 when every screen shows what it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("--url", default="", help="an instance that runs already, e.g. http://127.0.0.1:3000")
    parser.add_argument("--minutes", type=float, default=3.0, help="how long the market runs first (3)")
    chosen = parser.parse_args()
    if chosen.url:
        wrong = take_pictures(chosen.url, chosen.folder)
    else:
        market = {"L2_SIMULATOR__SYMBOLS": "50", "L2_SIMULATOR__RATE": "500"}
        with (
            tempfile.TemporaryDirectory(prefix="l2-pages-") as folder,
            control_room(Path(folder), NUMBA_CACHE, **market) as room,
        ):
            fill(room, chosen.minutes)
            wrong = take_pictures(room.url, chosen.folder)
        picture_of_report(chosen.folder)
    sys.stdout.writelines(f"wrong: {line}\n" for line in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

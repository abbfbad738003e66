"""Each kind of planted fault is found by a check that is made for it, and a clean day has no finding: benchmarks/recall, once each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.recall import FIRST, dates_from
from benchmarks.recall.judging import Share
from benchmarks.recall.planting import KINDS
from benchmarks.recall.rounds import Course, Tally
from l2_platform.clock import SystemClock
from tests.integration.recorded_days import end_warehouse
from tests.integration.stored import make_home, warehouse

pytestmark = pytest.mark.integration
SYMBOLS = 1 + sum(kind.scope == "symbol" for kind in KINDS.values())


@pytest.fixture(scope="module")
def tally(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[Tally]:
    home = make_home(tmp_path_factory.mktemp("recall"), numba_cache)
    # it is idle while days are made
    home.variables["L2_WAREHOUSE__IDLE_EXIT_S"] = "600"
    # one date in front is enough to be usual: the figure has more
    quality = home.settings.quality.model_copy(update={"coverage_days_min": 1})
    settings = home.settings.model_copy(update={"quality": quality})
    before, session_date = dates_from(FIRST, 2)
    with warehouse(home.settings) as client:
        course = Course(settings, client, SystemClock(), seed=5)
        course.store_history([before], SYMBOLS)
        course.judge(session_date, SYMBOLS, 1)
        yield course.tally
    end_warehouse(home.settings)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_planted_fault_is_found(tally: Tally, name: str) -> None:
    assert tally.planted[name] == (2 if KINDS[name].scope == "stream" else 1)
    assert [plant for plant in tally.missed if plant.kind.name == name] == []


def test_a_clean_day_has_no_finding(tally: Tally) -> None:
    assert tally.false == []
    assert tally.cells > 20 * SYMBOLS


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"), [(0, 0, 0.0, 1.0), (0, 10, 0.0, 0.2775), (9, 10, 0.5958, 0.9821), (1000, 1000, 0.99617, 1.0)]
)
def test_an_interval_is_that_of_wilson(hits: int, count: int, low: float, high: float) -> None:
    assert Share(hits, count).interval == pytest.approx((low, high), abs=1e-4)

"""Every figure still runs, and says what its page must say. No number is judged here."""

import pytest

from benchmarks.figure import FIGURES
from benchmarks.results import load
from tests.benchmarks.smoke import figure_names, run_smoke

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("name", figure_names(long=False))
def test_figure_runs(name, tmp_path, numba_cache):
    result = run_smoke(name, tmp_path / "out")
    assert result.rows
    assert len(FIGURES[name].text) > 40, "the docstring tells what is measured"
    content = load(tmp_path / "out" / f"{name}.json")
    assert content["rows"] == [dict(row) for row in result.rows]
    assert content["machine"]["cores"]
    assert content["scale"] == "smoke"

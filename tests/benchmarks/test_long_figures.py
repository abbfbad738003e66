"""The figures that take minutes still run, in their tiny form."""

import pytest

from tests.benchmarks.smoke import figure_names, run_smoke

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("name", figure_names(long=True))
def test_long_figure_runs(name, tmp_path, numba_cache):
    assert run_smoke(name, tmp_path, tmp_path / "out").rows

"""The figures that take minutes still run, in their tiny form: part of FAULTS=ci and full, since they start the whole path."""

import pytest

from tests.benchmarks.smoke import figure_names, run_smoke
from tests.faults.scale import FAULTS

pytestmark = [pytest.mark.integration, pytest.mark.skipif(FAULTS == "quick", reason="part of FAULTS=ci and full")]


@pytest.mark.parametrize("name", figure_names(long=True))
def test_long_figure_runs(name, tmp_path, numba_cache):
    assert run_smoke(name, tmp_path / "out").rows

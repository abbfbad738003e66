"""The simulation is tested by bugs that are planted in the product's code: each is found, and the code without it passes the same seeds."""

import pytest

from tests.simulation.planted import PLANTS, Plant
from tests.simulation.world import pin, run


@pytest.fixture(autouse=True, scope="module")
def _one_processor():
    before = pin()
    yield
    pin(before)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_planted_bug_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch):
    """Within the seeds that the plant names (most need one to five)."""
    with monkeypatch.context() as patch:
        plant.put(patch)
        found = next((result for seed in range(plant.seeds) if not (result := run(seed, always=plant.faults)).ok), None)
    assert found is not None, f"not found in {plant.seeds} seeds"
    for seed in range(found.seed + 1):
        clean = run(seed, always=plant.faults)
        assert clean.ok, clean

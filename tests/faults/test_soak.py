"""A short soak (`make soak` is the long one): 40 s of random faults, then the ledger closed over journal, tables and files.

Scale: not part of quick; ci and full 40 s at 1,500 a second over 30 symbols, a fault every 3 s, seeds 1 (ci) and 1 to 5 (full).
"""

from pathlib import Path

import pytest

from tests.faults.scale import FAULTS, scaled
from tests.faults.soak import soaked

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(FAULTS == "quick", reason="part of FAULTS=ci and full"),
]


@pytest.mark.parametrize("seed", range(1, scaled(1, 1, 5) + 1))
def test_random_faults_leave_nothing_wrong(tmp_path: Path, seed: int) -> None:
    told: list[str] = []
    wrong = soaked(tmp_path, minutes=0.67, rate=1500, symbols=30, every_s=3, seed=seed, say=told.append)
    assert not wrong, "\n".join([*told, *wrong])

"""Fixtures for all tests: the kernel cache, and the folder with recorded market data."""

import os
import tempfile
from pathlib import Path

import pytest

from l2_platform.monitoring.runtime import prepare_numba

# Before any test module imports a kernel; kept between runs, since compiling takes longer than the tests.
NUMBA_CACHE = prepare_numba(Path(tempfile.gettempdir()) / f"l2-platform-tests-{os.getuid()}" / "numba")


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name bytes by their argument: a compressed value holds the time it was made, and each process collects its own."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def numba_cache() -> Path:
    """Where kernels are cached in this run."""
    return NUMBA_CACHE


@pytest.fixture(scope="session")
def market_data() -> Path:
    """The folder with recorded market data: `MARKET_DATA`, else beside the checkout."""
    named = os.environ.get("MARKET_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "README.md").is_file():
        pytest.skip(f"no market data in {folder}; set MARKET_DATA to run this test")
    return folder

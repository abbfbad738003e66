from pathlib import Path

import pytest

from tests.unit.journal.stream import Stream


@pytest.fixture
def stream(tmp_path: Path):
    made = Stream(tmp_path)
    yield made
    made.end()

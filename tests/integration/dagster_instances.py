"""Dagster instances with this project's dagster.yaml, in the process of a test. What does not belong here: whole stacks (supervision)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

ROOT = Path(__file__).parents[2]


@contextmanager
def dagster_instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """An instance with its storage in an existing folder."""
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(home)) as found:
        yield found

"""What scenarios share: a simulated market for each file, and the numbers of a run (printed, and kept in the junit file)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.scale import FAULTS
from tests.faults.stack import Stack, stack_of

Measured = Callable[..., None]


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Measured:
    """Call it with numbers by name; N belongs to every one of them."""

    def tell(**numbers: Any) -> None:
        for name, value in numbers.items():
            record_property(name, round(value, 3) if isinstance(value, float) else value)

    return tell


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A running simulated market; settings from the module's MARKET, e.g. `{"simulator__rate": 2000}`."""
    chosen = {"simulator__symbols": 20, "simulator__rate": 1500} | getattr(request.module, "MARKET", {})
    with stack_of(tmp_path_factory.mktemp("market"), numba_cache, **chosen) as found:
        found.start("simulator")
        found.live("simulator")
        yield found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the scenarios told, one line each."""
    told = [
        (report.nodeid, report.user_properties)
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call" and report.user_properties
    ]
    if told:
        terminalreporter.section(f"measured at FAULTS={FAULTS}")
    for nodeid, numbers in told:
        terminalreporter.write_line(f"{nodeid}: " + ", ".join(f"{name}={value}" for name, value in numbers))

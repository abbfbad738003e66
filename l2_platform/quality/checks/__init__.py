"""The declared checks, in the order of docs/quality.md."""

from typing import Final

from l2_platform.quality.checks import (
    agreement,
    coverage,
    crossed,
    duplicates,
    incidents,
    prints,
    spikes,
    times,
    values,
    volume,
)
from l2_platform.quality.checks.rule import Check

_MODULES: Final = (crossed, volume, incidents, prints, spikes, duplicates, times, agreement, coverage, values)
CHECKS: Final[tuple[Check, ...]] = tuple(
    sorted((check for module in _MODULES for check in module.CHECKS), key=lambda check: check.number)
)
"""Every rule; those of one number judge the same thing in different tables or ways."""

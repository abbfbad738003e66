"""The declared checks, in the order of docs/quality.md."""

from typing import Final

from l2_platform.quality.checks import crossed, duplicates, prints, spikes, times
from l2_platform.quality.checks.rule import Check

CHECKS: Final[tuple[Check, ...]] = tuple(
    sorted(
        (check for module in (crossed, prints, spikes, duplicates, times) for check in module.CHECKS),
        key=lambda check: check.number,
    )
)
"""Every rule; those of one number judge the same thing in different tables or ways."""

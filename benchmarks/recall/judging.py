"""Whether a plant was found, and how sure a share is.

What does not belong here: plants, audits.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from benchmarks.recall.market import SECOND
from benchmarks.recall.planting import Plant
from l2_platform.quality.findings import AuditResult, Finding

NEAR: Final = SECOND
"""A finding may be so far beside the plant, ns."""
Z95: Final = 1.959964


def finder(plant: Plant, result: AuditResult) -> str:
    """The check that named the plant, its symbol (or stream) and its time; empty: none did."""
    return next((finding.check for check in result.checks for finding in check.findings if names(finding, plant)), "")


def names(finding: Finding, plant: Plant) -> bool:
    """Whether a finding is about a plant."""
    if finding.check not in plant.kind.checks:
        return False
    if plant.kind.scope == "stream":
        if finding.symbol or not finding.stream.endswith(f"-{plant.target}"):
            return False
    elif finding.symbol != ("" if plant.kind.needs == "-" else plant.target):
        return False
    if finding.ts_from is None or finding.ts_to is None:
        return True
    return finding.ts_from <= plant.span[1] + NEAR and finding.ts_to >= plant.span[0] - NEAR


def alarms(result: AuditResult) -> set[tuple[str, str]]:
    """(check, symbol; empty: a stream) of what an audit flagged."""
    return {(finding.check, finding.symbol) for check in result.checks for finding in check.findings}


def judged(result: AuditResult) -> int:
    """Checks that said something."""
    return sum(check.outcome != "not_evaluated" for check in result.checks)


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many."""

    hits: int
    count: int

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.hits / max(self.count, 1)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, 95 %."""
        if not self.count:
            return 0.0, 1.0
        square, half = Z95**2 / self.count, Z95 / (2 * self.count)
        middle = (self.share + square / 2) / (1 + square)
        reach = half * math.sqrt(4 * self.count * self.share * (1 - self.share) + Z95**2) / (1 + square)
        return max(0.0, middle - reach), min(1.0, middle + reach)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.share:.2f} % ({100 * low:.2f} to {100 * high:.2f} %)"


def total(shares: Iterable[Share]) -> Share:
    """All of them together."""
    listed = list(shares)
    return Share(sum(share.hits for share in listed), sum(share.count for share in listed))

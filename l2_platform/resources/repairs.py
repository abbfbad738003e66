"""How runs repair the gaps of a session date: the service, and what the ledger says of the date afterwards."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import dagster as dg

from l2_platform.clock import SystemClock
from l2_platform.monitoring.runtime import prepare_numba
from l2_platform.settings import Settings

if TYPE_CHECKING:
    from l2_platform.quality.ledger import LedgerGap
    from l2_platform.quality.repair import RepairResult

PROGRESS_EVERY = 500
"""Symbols between two lines of a run's log."""


class RepairsResource(dg.ConfigurableResource["RepairsResource"]):
    """Imported when it is asked for: a repair loads compiled code."""

    settings: dg.ResourceDependency[Settings]

    def repair(
        self, session_date: int, gap_ids: list[str], everything: bool, say: Callable[[str], object]
    ) -> "tuple[list[RepairResult], list[LedgerGap]]":
        """(what became of each gap, every gap of the date that concerns repairs); see `quality.repair.repair_date`."""
        prepare_numba(self.settings.cache_dir / "numba")
        from l2_platform.quality.repair import gaps_to_judge, repair_date

        def tell(gap: str, done: int, total: int) -> None:
            if done % PROGRESS_EVERY == 0 or done == total:
                say(f"gap {gap}: {done:,} of {total:,} symbols")

        results = repair_date(
            self.settings, session_date, SystemClock(), gap_ids=gap_ids, everything=everything, progress=tell, said=say
        )
        return results, gaps_to_judge(self.settings, session_date)

"""How assets change what is stored of session dates: rebuild and close, with progress lines that are few enough for an event log."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import dagster as dg

from l2_platform.clock import Clock, SystemClock
from l2_platform.monitoring.runtime import prepare_numba
from l2_platform.settings import Settings

if TYPE_CHECKING:
    from l2_platform.operations.close import CloseReport
    from l2_platform.replay.rebuilt import StreamResult

LINE_S: Final = 5.0
"""Least time between two progress lines, s."""


class ProgressLines:
    """Turns the progress of a rebuild into a line at most every `LINE_S` seconds."""

    def __init__(self, say: Callable[[str], object], clock: Clock) -> None:
        self._say, self._clock = say, clock
        self._stream, self._done = "", 0
        self._began = self._next = clock.monotonic_ns()

    def __call__(self, stream: str, what: str, count: int, total: int) -> None:
        """As `replay.rebuild.Progress`."""
        now = self._clock.monotonic_ns()
        if stream != self._stream:
            self._stream, self._done, self._began = stream, 0, now
        self._done += count
        if now < self._next:
            return
        self._next = now + int(LINE_S * 1e9)
        rate = self._done / max((now - self._began) / 1e9, 1e-3)
        of = f" of {total:,}" if total else ""
        self._say(f"{stream}: {what}, {self._done:,}{of} messages, {rate:,.0f}/s")


class SessionDatesResource(dg.ConfigurableResource["SessionDatesResource"]):
    """The services behind assets `rebuilt_tables` and `closed_day`."""

    settings: dg.ResourceDependency[Settings]

    def rebuild(
        self, session_date: int, streams: Sequence[str], symbols: Sequence[str], say: Callable[[str], object]
    ) -> "list[StreamResult]":
        """Rebuild a date; see `replay.rebuild.rebuild_date`. This process gives way to recording from here on."""
        prepare_numba(self.settings.cache_dir / "numba")
        # Kernels may only be imported once their cache has its place, and this process is started for much else.
        from l2_platform.replay.rebuild import RebuildRequest, give_way, rebuild_date

        give_way(self.settings)
        clock = SystemClock()
        request = RebuildRequest(session_date, tuple(streams), tuple(symbols))
        return rebuild_date(request, self.settings, clock, ProgressLines(say, clock))

    def close(self, session_date: int, say: Callable[[str], object]) -> "CloseReport":
        """Close a date; see `operations.close.close_date`."""
        prepare_numba(self.settings.cache_dir / "numba")
        from l2_platform.operations.close import close_date
        from l2_platform.replay.rebuild import give_way

        give_way(self.settings)
        return close_date(self.settings, SystemClock(), session_date, say)

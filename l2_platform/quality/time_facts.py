"""The time that a symbol misses: gaps of the ledger and minutes in which nobody had a row, within the windows of the session.

Pure: spans are pairs of ns, sorted where they come out. What does not belong here: reading the ledger, grades.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from l2_platform.market.sessions import Window
from l2_platform.quality.ledger import LedgerGap
from l2_platform.quality.verdicts import SymbolFacts
from l2_platform.settings import CompletenessSettings

Span = tuple[int, int]
MINUTE_NS: Final = 60_000_000_000
REPAIRED: Final = frozenset({"repaired", "nothing_to_repair"})


def union(spans: Iterable[Span]) -> list[Span]:
    """Spans that do not touch each other, with the same instants."""
    found: list[Span] = []
    for start, end in sorted(span for span in spans if span[1] > span[0]):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


def common(left: Sequence[Span], right: Sequence[Span]) -> list[Span]:
    """Instants that both have; both must come from `union`."""
    found = []
    i = j = 0
    while i < len(left) and j < len(right):
        start, end = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if start < end:
            found.append((start, end))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return found


def without(left: Sequence[Span], right: Sequence[Span]) -> list[Span]:
    """Instants of `left` that `right` does not have; both must come from `union`."""
    found = []
    for start, end in left:
        at = start
        for other_start, other_end in right:
            if other_end <= at or other_start >= end:
                continue
            if other_start > at:
                found.append((at, other_start))
            at = max(at, other_end)
        if at < end:
            found.append((at, end))
    return found


def seconds(spans: Iterable[Span]) -> float:
    """Their length, s."""
    return round(sum(end - start for start, end in spans) / 1e9, 6)


def dark_spans(minutes: set[int], windows: Sequence[Window], now_ns: int) -> list[Span]:
    """Minutes of the windows, so far as they are over, in which no symbol had a row."""
    spans = []
    for window in windows:
        expected = range(window.start // MINUTE_NS, min(window.end, now_ns) // MINUTE_NS)
        spans += [(minute * MINUTE_NS, (minute + 1) * MINUTE_NS) for minute in expected if minute not in minutes]
    return common(union(spans), union((window.start, window.end) for window in windows))


class TimeLost:
    """Gaps and dark minutes of a date, laid over each symbol."""

    def __init__(
        self, gaps: Sequence[LedgerGap], windows: Sequence[Window], dark: Sequence[Span], bounds: CompletenessSettings, now_ns: int
    ) -> None:
        """`dark`: from `dark_spans`; gaps up to `gap_s` do not count unless they are more than `gap_short_s` together; an open gap lasts
        until `now_ns`.
        """
        self._windows = union((window.start, window.end) for window in windows)
        self._dark = dark
        self._bounds = bounds
        counted = [gap for gap in gaps if gap.state != "withdrawn"]
        self._now = now_ns
        self._of_all = [gap for gap in counted if not gap.symbols]
        self._of_one: dict[str, list[LedgerGap]] = {}
        for gap in counted:
            for symbol in gap.symbols:
                self._of_one.setdefault(symbol, []).append(gap)
        self._usual = self._measure(self._of_all)

    def fill(self, facts: SymbolFacts) -> None:
        """Set the times of a symbol."""
        own = self._of_one.get(facts.symbol)
        measured = self._usual if own is None else self._measure([*self._of_all, *own])
        facts.gaps, facts.gap_s, facts.explained_s, facts.repaired_s, told_s, facts.bars_s, facts.dark_s = measured
        facts.unexplained_s = round(told_s + facts.dark_s, 6)

    def _measure(self, gaps: Sequence[LedgerGap]) -> tuple[int, float, float, float, float, float, float]:
        """Number, time, explained, repaired and unexplained time, that of bars in it, dark time that no gap tells of."""
        spans = {gap.gap_id: self._inside(gap) for gap in gaps}
        short = {gap.gap_id for gap in gaps if gap.seconds(self._now) <= self._bounds.gap_s}
        if seconds(union(span for name in short for span in spans[name])) <= self._bounds.gap_short_s:
            gaps = [gap for gap in gaps if gap.gap_id not in short]
            spans = {gap.gap_id: spans[gap.gap_id] for gap in gaps}
        explained = union(span for gap in gaps if gap.explanation for span in spans[gap.gap_id])
        lost = union(
            span for gap in gaps if not gap.explanation and gap.repair_state not in REPAIRED for span in spans[gap.gap_id]
        )
        barred = union(span for gap in gaps if gap.has_bars for span in spans[gap.gap_id])
        repaired = union(span for gap in gaps if not gap.explanation and gap.repair_state in REPAIRED for span in spans[gap.gap_id])
        whole = union(span for found in spans.values() for span in found)
        told = without(lost, explained)
        return (
            sum(bool(found) for found in spans.values()), seconds(whole), seconds(explained),
            seconds(without(without(repaired, told), explained)), seconds(told),
            seconds(common(union(told), barred)), seconds(without(self._dark, whole)),
        )  # fmt: skip

    def _inside(self, gap: LedgerGap) -> list[Span]:
        end = self._now if gap.ts_to is None else gap.ts_to
        return common(union([(gap.ts_from, end)]), self._windows)

"""Which frames of a damaged segment are in their place, told from their line numbers alone.

A chunk that was copied or moved inside a file brings frames that are whole but belong elsewhere. Taking the first of them at its word
would make everything behind it look repeated. What does not belong here: reading (`reader.py`).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from l2_platform.journal.frame import Frame, FrameKind


def in_place(frames: Iterable[Frame], last: int) -> set[int]:
    """Starts of the longest row of frames whose numbers only rise, the first of them behind line `last`.

    `frames` come in the order of the file. n log n in their number.
    """
    starts: list[int] = []
    before: list[int] = []
    ends: list[int] = []
    """Of each length, the smallest number that a row of it can end with."""
    tops: list[int] = []
    for frame in frames:
        if frame.seq_before < last:
            continue
        # A line has one place, any number of control frames may stand behind it.
        data = frame.kind == FrameKind.DATA
        number = 2 * frame.seq_last + (0 if data else 1)
        length = bisect_left(ends, number) if data else bisect_right(ends, number)
        before.append(tops[length - 1] if length else -1)
        starts.append(frame.start)
        index = len(starts) - 1
        if length == len(ends):
            ends.append(number)
            tops.append(index)
        else:
            ends[length] = number
            tops[length] = index
    kept: set[int] = set()
    index = tops[-1] if tops else -1
    while index >= 0:
        kept.add(starts[index])
        index = before[index]
    return kept

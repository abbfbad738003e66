"""Which stream a read takes for each session date and symbol: live before others, and never two for the same.

Pure: what there is comes in as rows. What does not belong here: asking the warehouse or the archive.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final

from l2_platform.errors import InputError

SHOWN: Final = 5


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """A symbol of a stream on a session date, and where its rows are."""

    session_date: date
    symbol: str
    stream: str
    source: str
    """live, import or history."""
    rows: int
    archived: bool
    """In the archive only."""


def choose(candidates: Iterable[Candidate]) -> list[Candidate]:
    """One candidate for each (session date, symbol): the live one, else the only one.

    InputError that lists the streams when there is no such one; `stream=` then says which is meant.
    """
    groups: dict[tuple[date, str], list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        groups[candidate.session_date, candidate.symbol].append(candidate)
    chosen, unclear = [], []
    for group in groups.values():
        live = [candidate for candidate in group if candidate.source == "live"]
        best = live or group
        if len(best) == 1:
            chosen.append(best[0])
        else:
            unclear.append(best)
    if unclear:
        raise InputError(_question(unclear))
    return sorted(chosen)


def _question(unclear: list[list[Candidate]]) -> str:
    names: dict[str, int] = defaultdict(int)
    for group in unclear:
        for candidate in group:
            names[candidate.stream] += candidate.rows
    first = min(min(group) for group in unclear)
    listed = ", ".join(f"{name!r} ({rows:,} rows)" for name, rows in sorted(names.items()))
    more = f" and {len(unclear) - 1:,} more" if len(unclear) > 1 else ""
    return (
        f"{first.symbol} on {first.session_date}{more}: several streams have the rows: {listed}; say which one with stream=…"
    )


def near(names: Iterable[str]) -> str:
    """A short list for a message."""
    listed = sorted(names)
    rest = f" and {len(listed) - SHOWN:,} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + rest

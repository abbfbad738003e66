"""Which stream a read takes for each session date and symbol: live before others, with what repairs brought beside it.

Never two for the same otherwise: a repair stream holds only what the live streams of its date miss.

Pure: what there is comes in as rows. What does not belong here: asking the warehouse or the archive.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final

from l2_platform.errors import InputError
from l2_platform.journal.layout import is_repair

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
    """One candidate for each (session date, symbol): the live one with the repairs of its gaps, else the only one.

    InputError that lists the streams when there is no such one; `stream=` then says which is meant.
    """
    groups: dict[tuple[date, str], list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        groups[candidate.session_date, candidate.symbol].append(candidate)
    chosen, unclear = [], []
    for group in groups.values():
        repairs = [candidate for candidate in group if is_repair(candidate.stream)]
        whole = [candidate for candidate in group if not is_repair(candidate.stream)]
        live = [candidate for candidate in whole if candidate.source == "live"]
        best = live or whole
        if len(best) <= 1:
            # a history of the whole date has what a repair brought
            chosen += best + (repairs if live or not best else [])
        else:
            unclear.append(best)
    if unclear:
        raise InputError(_question(unclear))
    return sorted(chosen)


def repaired(chosen: Iterable[Candidate]) -> set[tuple[date, str]]:
    """(session date, symbol) of which live rows and repairs were chosen together."""
    sides: dict[tuple[date, str], set[bool]] = defaultdict(set)
    for candidate in chosen:
        sides[candidate.session_date, candidate.symbol].add(is_repair(candidate.stream))
    return {key for key, found in sides.items() if len(found) == 2}


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

"""The digest of market lines: the same for a stored stream and for what a client of its replay received.

SHA-256 over the bytes of every market line of a stream, line ends included, in order. Clock lines and the talk of a link (greetings,
acknowledgements, answers) are left out, since every link has its own; so is the torn rest of a line. What does not belong here: reading.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from l2_platform.feeds.iqfeed.simulator.source import LineBatch
from l2_platform.market.events import UInt8
from l2_platform.market.instruments import SymbolTable
from l2_platform.replay.lines import COMMON, FIELDS, LINK_DOWN, LINK_UP, TALK, TORN, Chosen, Part, PartReader, Piece
from l2_platform.replay.tape import Slice
from l2_platform.settings import Settings

TALKING: Final = frozenset({TALK, LINK_DOWN, LINK_UP, FIELDS})


@dataclass(slots=True)
class LineDigest:
    """Digest and counts of one stream's lines."""

    hash: Any = field(default_factory=hashlib.sha256)
    lines: int = 0
    """Market lines in it."""
    talk: int = 0
    """Lines of the recorded link's own talk, left out."""
    torn: int = 0
    """Rests of cut lines, left out."""

    def add(self, batch: LineBatch, mask: UInt8 | None) -> None:
        """Market lines of symbols; `mask` says by symbol number which count (None: all)."""
        if mask is None:
            self.hash.update(batch.data)
            self.lines += len(batch.ends)
        else:
            self.hash.update(batch.select(mask))
            self.lines += int(mask[batch.symbols].sum())

    def add_special(self, mark: int, line: bytes, *, everything: bool) -> None:
        """A line that is no market line of a symbol; those of no symbol count when every symbol does."""
        if mark == COMMON and everything:
            self.hash.update(line)
            self.lines += 1
        self.talk += mark in TALKING
        self.torn += mark == TORN

    def text(self) -> str:
        """Hex."""
        return str(self.hash.hexdigest())


def line_batch(found: Slice, first: int, stop: int) -> LineBatch:
    """Lines of a slice as services take them; none of them special."""
    piece = found.piece
    begin = piece.begin(first)
    data = piece.data[begin : int(piece.ends[stop - 1])].tobytes()
    symbols = np.ascontiguousarray(piece.batch.symbol[first:stop], np.int32)
    return LineBatch(data, piece.ends[first:stop] - begin, symbols, piece.trades[first:stop])


def runs(found: Slice) -> list[tuple[int, int, bool]]:
    """(first, stop, special) of a slice: runs of market lines, and the special lines between them one by one."""
    parts = []
    at = found.first
    for row in found.specials():
        if row > at:
            parts.append((at, row, False))
        parts.append((row, row + 1, True))
        at = row + 1
    if found.stop > at:
        parts.append((at, found.stop, False))
    return parts


def digest_of(
    settings: Settings, part: Part, symbols: tuple[str, ...] = (), span: tuple[int, int] | None = None
) -> tuple[LineDigest, list[str]]:
    """The digest of a stored stream of a date, and the damage met; `span`: market times (ns) from and to, both included."""
    table = SymbolTable(names_max=settings.symbols.names_max)
    chosen = Chosen(table, symbols)
    reader = PartReader(settings, part, 0, table)
    digest = LineDigest()
    damage: list[str] = []
    while items := reader.read(settings.replay.step_bytes * 4):
        chosen.grow()
        for item in items:
            if not isinstance(item, Piece):
                damage += [item.detail] if item.kind == "damage" else []
                continue
            first, stop = 0, len(item)
            if span is not None:
                first = int(np.searchsorted(item.times, span[0], side="left"))
                stop = int(np.searchsorted(item.times, span[1], side="right"))
            if first < stop:
                add_slice(digest, Slice(item, first, stop), chosen)
    return digest, damage


def add_slice(digest: LineDigest, found: Slice, chosen: Chosen) -> None:
    """Count a slice."""
    mask = None if chosen.everything else chosen.mask
    for first, stop, special in runs(found):
        if special:
            digest.add_special(int(found.piece.marks[first]), found.piece.line(first), everything=chosen.everything)
        else:
            digest.add(line_batch(found, first, stop), mask)

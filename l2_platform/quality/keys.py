"""Which keys differ between the rows of the journal and those of a store, when their sums do; a range of keys at a time.

What does not belong here: where rows come from, sums.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from l2_platform.market.events import TableBatch, UInt64
from l2_platform.quality.reconciled import KeyDifferences

ORDINAL_BITS: Final = 20
"""A key is seq × 2^20 + ordinal."""


def keys_of(batch: TableBatch) -> UInt64:
    """Key of each row."""
    seq = np.ascontiguousarray(batch.columns["seq"], np.uint64)
    keys = seq << np.uint64(ORDINAL_BITS)
    if "ordinal" in batch.columns:
        keys = keys | np.ascontiguousarray(batch.columns["ordinal"], np.uint64)
    return keys


def key_text(key: int) -> str:
    """`seq`, with the ordinal where it is not 0."""
    seq, ordinal = divmod(key, 1 << ORDINAL_BITS)
    return f"{seq}.{ordinal}" if ordinal else str(seq)


@dataclass(frozen=True, slots=True)
class Rows:
    """Keys and hashes of some rows, in any order."""

    keys: UInt64
    hashes: UInt64


def joined(parts: list[Rows]) -> Rows:
    """As one."""
    if not parts:
        none = np.zeros(0, np.uint64)
        return Rows(none, none)
    return Rows(np.concatenate([part.keys for part in parts]), np.concatenate([part.hashes for part in parts]))


def compare(journal: Rows, store: Rows, keys_max: int) -> KeyDifferences:
    """By key: rows of one key are equal when their number and the sum of their hashes are."""
    mine, theirs = _summed(journal), _summed(store)
    missing = np.setdiff1d(mine[0], theirs[0], assume_unique=True)
    extra = np.setdiff1d(theirs[0], mine[0], assume_unique=True)
    both, left, right = np.intersect1d(mine[0], theirs[0], assume_unique=True, return_indices=True)
    more = theirs[1][right] > mine[1][left]
    # the same row again: its hash is in the sum so many times more
    times = (theirs[1][right] // np.maximum(mine[1][left], 1)).astype(np.uint64)
    again = more & (theirs[2][right] == mine[2][left] * times) & (theirs[1][right] % np.maximum(mine[1][left], 1) == 0)
    other = ((theirs[1][right] != mine[1][left]) | (theirs[2][right] != mine[2][left])) & ~again
    found = {"missing": missing, "extra": extra, "doubled": both[again], "changed": both[other]}
    named = {kind: [key_text(key) for key in keys[:keys_max].tolist()] for kind, keys in found.items()}
    return KeyDifferences(**{kind: len(keys) for kind, keys in found.items()}, keys=named)


def _summed(rows: Rows) -> tuple[UInt64, UInt64, UInt64]:
    """Different keys in order, their rows, the wrapping sum of their hashes."""
    order = np.argsort(rows.keys, kind="stable")
    keys, hashes = rows.keys[order], rows.hashes[order]
    if not len(keys):
        return keys, keys, keys
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    counts = np.diff(starts, append=len(keys)).astype(np.uint64)
    return keys[starts], counts, np.add.reduceat(hashes, starts)

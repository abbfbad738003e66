"""How long pauses may become that nobody has seen yet: a power tail through the longest pauses, as heavy as those allow.

Moments say little about a heavy tail: its long pauses are not in them yet. The longest pauses are, measured in means of their time, so
that a busy open and a quiet noon compare. In a tail that is a power their logarithms over the smallest of them are exponential (Hill),
and the chance of a pause beyond x is then (k/n)·(1 + ln(x/x₀)/Σ)^-k, what is not known of the power included; for all that falls faster
it is cautious. What does not belong here: how the rest of the pauses looks (silence), gathering them (gap_kernels).
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from l2_platform.delivery.gap_kernels import Float32, Float64

SHARE: Final = 0.03
"""The tail are so many of the pauses that were seen, at most those that are kept …"""
LEAST: Final = 5
"""… and at least these; there is none before."""
OWN: Final = 30.0
"""By its own tail alone a silence may be so many times as probable as is allowed: few symbols have a power tail."""
YOUNG: Final = 1e5
"""The same while its own tail is young, where the pauses of all symbols together, of which there are soon many, …"""
ALL: Final = 10.0
"""… make the silence at most so many times as probable as is allowed."""


def surprise(longest: Float32, count: Float64, silent: Float64) -> Float64:
    """-ln of the chance that a pause is at least as long as `silent`; 0 while nothing is known.

    `longest` (rows × kept): the longest pauses, ascending, 0 = none; `count`: pauses seen; lengths in means.
    """
    kept = longest.shape[1]
    size = np.clip(count * SHARE, LEAST, kept).astype(np.int64)
    smallest = longest[np.arange(len(longest)), kept - size].astype(np.float64)
    known = (smallest > 0) & (silent > smallest)
    start = np.where(known, smallest, 1.0)
    inside = known[:, None] & (np.arange(kept) > (kept - size)[:, None])
    spread = np.log(np.where(inside, longest, start[:, None]) / start[:, None]).sum(1)
    beyond = np.log(np.where(known, silent, 1.0) / start) / np.maximum(spread, 1e-9)
    chance = np.log(np.maximum(count, 1.0) / (size - 1)) + (size - 1) * np.log1p(beyond)
    return np.where(known, chance, 0.0)


def improbable(own: Float64, others: Float64, needed: Float64) -> npt.NDArray[np.bool_]:
    """Which silences are too long for the tails: by the symbol's own, or by that of all symbols while its own is young.

    `own`, `others`: surprises; `needed`: the surprise that is asked for.
    """
    by_its_own: npt.NDArray[np.bool_] = own > needed - np.log(OWN)
    by_all: npt.NDArray[np.bool_] = (others > needed - np.log(ALL)) & (own > needed - np.log(YOUNG))
    return by_its_own | by_all

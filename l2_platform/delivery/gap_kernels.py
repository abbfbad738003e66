"""What each line says about silence and counters of its symbol, line by line over a batch.

Sums are taken in the order of the lines, so that it does not matter how they are cut into reads. What does not belong here: what is
concluded from them (`silence`, `counters`).
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from l2_platform.market.compiled import Number, kernel
from l2_platform.market.events import Int32, Int64, UInt8, UInt64

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
IGNORED: Final = 0
SEEN: Final = 1
"""The line shows that the symbol is there, and says nothing about its rate: answers to a watch."""
ARRIVAL: Final = 2
CALM: Final = 0
SILENT: Final = 1
"""A silence is open."""
BACK: Final = 2
"""A line ended it; what it brought is judged a moment later."""
MEMORY: Final = 200.0
"""The estimate of a symbol's rate reaches back over so many of its typical silences."""
KEPT: Final = 16
"""Longest pauses that are kept of each symbol."""
KEPT_ALL: Final = 64
"""The same of all symbols together."""
SETTLED: Final = 10.0
"""From so many pauses on a symbol's mean says how long another pause is."""
IDS_UNUSED: Final = 0
IDS_PER_SYMBOL: Final = 1
IDS_PER_CENTER: Final = 2
CENTERS_MAX: Final = 64
"""Market centres of one stream and date whose ids are counted."""
PAUSE_S_MIN: Final = 0.02
"""Lines of a symbol that come so soon after the first one of a burst belong to it, s."""
STALL_NS: Final = 250_000_000
"""Time without any line after which the clock of the symbols stands still, ns."""
_NS: Final = 1e-9


@kernel
def add_length(row: Number, length: Number, kept: Float32, count: Float64) -> None:
    """One more pause, in means of its time, of a row of the longest ones, ascending: in its place there, the smallest goes."""
    count[row] += 1.0
    if length <= kept[row, 0]:
        return
    place = 0
    while place + 1 < kept.shape[1] and kept[row, place + 1] < length:
        kept[row, place] = kept[row, place + 1]
        place += 1
    kept[row, place] = np.float32(length)


@kernel
def add_pause(slot: Number, x: Number, pauses: Float64, gap_sum: Float64, gap_square: Float64, longest: Float64) -> None:
    """One more pause of a symbol, s."""
    if gap_sum[slot] > 0.0:
        reach = MEMORY * gap_square[slot] / (2.0 * gap_sum[slot])
        weight = reach / (reach + x)
        pauses[slot] *= weight
        gap_sum[slot] *= weight
        gap_square[slot] *= weight
    pauses[slot] += 1.0
    gap_sum[slot] += x
    gap_square[slot] += x * x
    longest[slot] = max(longest[slot], x)


@kernel
def note_arrivals(
    classes: UInt8,
    symbol: Int32,
    ts: Int64,
    seq: UInt64,
    start: Number,
    stop: Number,
    counting: Number,
    running: Int64,
    since: Int64,
    seen: Int64,
    seen_seq: Int64,
    back: Int64,
    state: UInt8,
    pauses: Float64,
    gap_sum: Float64,
    gap_square: Float64,
    longest: Float64,
    tail: Float32,
    tail_count: Float64,
    pool: Float32,
    pool_count: Float64,
) -> None:
    """Lines [start, stop): the pauses between the arrivals of each symbol, in s, and of slot 0, the whole stream.

    `classes` is IGNORED, SEEN or ARRIVAL for each line. Lines less than PAUSE_S_MIN behind the one that `since` tells are one burst with
    it: the next line after it is a pause away from where the burst began, so that a symbol which is never quiet for so long has pauses
    too. A pause x enters the sums of 1, x and x² with everything before it weighted less, by how long it is beside the typical one.

    Symbols are timed by `running`, a clock that stands still while the whole stream does (after STALL_NS), so that a stall of the
    collector or a lull of the market is no pause of each of them. Slot 0 is timed by the receive time.
    """
    for row in range(start, stop):
        if classes[row] == IGNORED:
            continue
        last = max(since[0], seen[0])
        if since[0] > 0 and ts[row] > last:
            running[0] += min(ts[row] - last, STALL_NS)
        for side in range(2):
            slot = 0 if side == 0 else symbol[row] + 1
            now = ts[row] if side == 0 else running[0]
            if state[slot] != CALM:
                if state[slot] == SILENT:
                    state[slot] = BACK
                    back[slot] = ts[row]
            elif counting and classes[row] == ARRIVAL and since[slot] > 0 and now > since[slot]:
                x = (now - since[slot]) * _NS
                if x >= PAUSE_S_MIN:
                    if pauses[slot] >= SETTLED:
                        length = x * pauses[slot] / gap_sum[slot]
                        add_length(slot, length, tail, tail_count)
                        if side == 1:
                            add_length(0, length, pool, pool_count)
                    add_pause(slot, x, pauses, gap_sum, gap_square, longest)
                else:
                    now = since[slot]
            since[slot] = max(since[slot], now)
            seen[slot] = max(seen[slot], ts[row])
            seen_seq[slot] = np.int64(seq[row])


@kernel
def note_counters(
    classes: UInt8,
    prints: UInt8,
    symbol: Int32,
    ts: Int64,
    seq: UInt64,
    size: Int64,
    volume: Int64,
    trades: Int64,
    center: Int32,
    tick: UInt64,
    start: Number,
    stop: Number,
    told: Int64,
    summed: Int64,
    told_trades: Int64,
    counted: Int64,
    even_ts: Int64,
    even_seq: Int64,
    odd_from: Int64,
    odd_from_seq: Int64,
    odd_ts: Int64,
    ids_missing: Int64,
    ids_from: Int64,
    ids_ts: Int64,
    rule: Number,
    center_slot: Int32,
    last_tick: Int64,
    last_tick_ts: Int64,
    totals: Int64,
) -> None:
    """Lines [start, stop) of a Level 1 stream: the feed's running totals beside the sums of the prints that came.

    `odd_ts` of a symbol is when they began to differ (0: they agree), `odd_from` the last line before that at which they agreed.
    `totals` counts the steps of TickIDs, those of exactly 1, and the market centres seen; `rule` says whose ids follow each other.
    """
    for row in range(start, stop):
        if classes[row] == IGNORED:
            continue
        s = symbol[row]
        if volume[row] >= 0:
            if summed[s] < 0 or (prints[row] and size[row] < 0):
                summed[s] = volume[row]
            elif prints[row]:
                summed[s] += size[row]
            told[s] = volume[row]
        if trades[row] >= 0:
            if counted[s] < 0:
                counted[s] = trades[row]
            elif prints[row]:
                counted[s] += 1
            told_trades[s] = trades[row]
        if told[s] == summed[s]:
            odd_ts[s] = 0
            even_ts[s] = ts[row]
            even_seq[s] = np.int64(seq[row])
        elif odd_ts[s] == 0:
            odd_ts[s] = ts[row]
            odd_from[s] = even_ts[s]
            odd_from_seq[s] = even_seq[s]
        if not prints[row] or rule == IDS_UNUSED:
            continue
        code = center[row] if rule == IDS_PER_CENTER else 0
        if code < 0 or code >= len(center_slot):
            continue
        if center_slot[code] < 0:
            if totals[2] >= CENTERS_MAX:
                continue
            center_slot[code] = np.int32(totals[2])
            totals[2] += 1
        slot = center_slot[code]
        before = last_tick[s, slot]
        number = np.int64(tick[row])
        if before > 0 and number > 0:
            totals[0] += 1
            if number == before + 1:
                totals[1] += 1
            elif number > before:
                if ids_missing[s] == 0:
                    ids_from[s] = last_tick_ts[s, slot]
                    ids_ts[s] = ts[row]
                ids_missing[s] += number - before - 1
        # 0 is no id: the next one that counts is compared with the last one that did
        if number > 0:
            last_tick[s, slot] = number
            last_tick_ts[s, slot] = ts[row]

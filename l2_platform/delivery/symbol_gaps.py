"""Gaps of single symbols, and silence of a stream whose heartbeat goes on: who looks, when, and what becomes a row.

It looks at the first line of each quarter of a second of journal time, so that rows depend on the journal alone, never on how it is
read. A silent symbol is judged half a second after it is back: counters intact, nothing was lost and the gap is withdrawn; counters
broken, the gap is closed with what is missing; without counters it is closed. Prints that are missing without a silence are a gap of
their own, unless they lie in a gap of the whole stream, which is told already.
"""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from l2_platform.delivery.counters import CounterWatch, Shortfall
from l2_platform.delivery.gap_kernels import ARRIVAL, SEEN
from l2_platform.delivery.gap_rows import CLOSED, WITHDRAWN, Gap
from l2_platform.delivery.gap_state import SymbolGapsImage
from l2_platform.delivery.gaps import GapTracker
from l2_platform.delivery.silence import NS, STREAM, SilenceRules, SilenceWatch
from l2_platform.market.events import NULL_TS, DepthBatch, Level1Batch, Level1Kind, UInt8
from l2_platform.market.instruments import SymbolTable

LOOK_NS: Final = 250_000_000
"""Time between two looks, ns."""
SETTLE_NS: Final = 500_000_000
"""Counters that differ are given so long to agree again, ns."""
ROWS_MAX: Final = 100
"""Symbols of one look that get a row each for their missing prints; further ones share one."""
NAMED_MAX: Final = 20
"""Symbols whose numbers the shared row tells."""
SILENCE: Final = "symbol_silence"
MISSING: Final = "missing_prints"

_LEVEL1_CLASSES: Final = np.zeros(256, np.uint8)
_LEVEL1_CLASSES[Level1Kind.QUOTE] = ARRIVAL
_LEVEL1_CLASSES[Level1Kind.SUMMARY] = SEEN
_DEPTH_CLASSES: Final = np.zeros(256, np.uint8)
_DEPTH_CLASSES[[ord(letter) for letter in "034589"]] = ARRIVAL
_DEPTH_CLASSES[[ord(letter) for letter in "67K"]] = SEEN


class SymbolGaps:
    """Silence and counters of the symbols of one (stream, session date); writes into the tracker's rows."""

    def __init__(
        self,
        tracker: GapTracker,
        symbols: SymbolTable,
        rules: SilenceRules,
        *,
        windows: list[tuple[int, int]] | None = None,
        tick_id_rule: str = "per_market_center",
    ) -> None:
        """`windows`: trading of the date, (start, end) in ns; None: always."""
        self._tracker = tracker
        self._rows = tracker.rows
        self._symbols = symbols
        self._look = 0
        """Number of the quarter of a second of the last look."""
        self._silence = SilenceWatch(rules, windows)
        self._counters = CounterWatch(tick_id_rule)
        self._open: dict[int, Gap] = {}
        """Slot of a silent symbol → its gap."""

    @property
    def silent(self) -> int:
        """Symbols that are silent now."""
        return len(self._open)

    def looks(self, ts_recv: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Rows of a batch in front of which to look."""
        if not len(ts_recv):
            return np.zeros(0, np.int64)
        # a clock that steps back brings no look
        cells = np.maximum(np.maximum.accumulate(ts_recv // LOOK_NS), self._look)
        before = np.concatenate([[self._look], cells[:-1]])
        return np.flatnonzero(cells > before)

    def classes(self, batch: DepthBatch | Level1Batch) -> UInt8:
        """For each line whether it shows its symbol to be there, and counts for its rate."""
        table = _DEPTH_CLASSES if isinstance(batch, DepthBatch) else _LEVEL1_CLASSES
        return np.where(batch.symbol >= 0, table[batch.kind], 0).astype(np.uint8)

    def note(self, batch: DepthBatch | Level1Batch, classes: UInt8, start: int, stop: int) -> None:
        """Lines [start, stop), after the tracker knows of them."""
        if start == stop:
            return
        for since, until in self._rows.take_pauses():
            self._silence.pause(since, until)
        self._silence.grow(len(self._symbols))
        whole = self._tracker.open is None
        self._silence.note(classes, batch.symbol, batch.ts_recv, batch.seq, start, stop, counting=whole)
        if isinstance(batch, Level1Batch):
            self._counters.grow(len(self._symbols))
            self._counters.note(classes, batch, start, stop)

    def look(self, ts: int, seq: int, *, market: bool) -> None:
        """In front of a line received at `ts`; `market`: it is market data itself."""
        self._look = ts // LOOK_NS
        inside = self._silence.enter(ts)
        self._judge_returned(ts - SETTLE_NS, seq)
        self._judge_counters(ts - SETTLE_NS, seq)
        if not inside or self._tracker.open is not None:
            return
        if not market and (evidence := self._silence.quiet_stream(ts)) is not None:
            self._tracker.on_quiet(seq, evidence)
            return
        for slot in self._silence.quiet_symbols(min(len(self._symbols), len(self._silence.since) - 1)):
            self._begin(int(slot), seq)

    def on_control(self, event: str, fields: dict[str, Any], ts: int, seq: int) -> None:
        """A control frame, after the tracker knows of it."""
        if event == "collector_start":
            self._silence.await_all()
        elif event == "unwatch":
            self._dropped([str(name) for name in fields.get("symbols", ())], ts, seq)

    def end(self, ts: int, seq: int) -> None:
        """The date is over at `ts` (NULL_TS: unknown): silences that are open end there."""
        last = int(self._silence.seen[STREAM]) if ts == NULL_TS else ts
        self._judge_returned(np.iinfo(np.int64).max, seq)
        self._judge_counters(np.iinfo(np.int64).max, seq)
        for slot, gap in sorted(self._open.items()):
            self._rows.close(gap, last, seq, CLOSED, gap.evidence | {"until": "end of the date"})
            self._silence.calm(slot, 0.0, learn=False)
        self._open = {}

    def _begin(self, slot: int, seq: int) -> None:
        silence = self._silence
        silent_s = int(silence.running[0] - silence.since[slot]) / NS
        evidence = silence.evidence(slot, silent_s)
        names, before = [self._symbols.names[slot - 1]], int(silence.seen_seq[slot])
        self._open[slot] = self._rows.add_open(SILENCE, int(silence.seen[slot]), seq, names, evidence, before)

    def _judge_returned(self, settled: int, seq: int) -> None:
        """Silent symbols that came back: was anything lost?"""
        for number in self._silence.returned(settled):
            slot = int(number)
            gap, back = self._open.pop(slot), int(self._silence.back[slot])
            said = self._counters.says(slot - 1)
            evidence = gap.evidence | {"counters": said}
            state = WITHDRAWN if said == "intact" else CLOSED
            if said == "broken" and (short := self._counters.judge(slot - 1)) is not None:
                evidence |= short.evidence
                if (told := self._told(gap.ts_from, back)) is not None:
                    # what is missing lies in a gap of the whole stream
                    evidence, state = evidence | {"told_by": told}, WITHDRAWN
            self._rows.close(gap, back, seq, state, evidence)
            self._silence.calm(slot, float(gap.evidence["silent_s"]), learn=said != "broken")

    def _judge_counters(self, settled: int, seq: int) -> None:
        found = []
        for symbol in self._counters.lasting(settled):
            short = self._counters.judge(int(symbol))
            if short is not None and self._told(short.ts_from, short.ts_to) is None:
                found.append(short)
        single = found if len(found) <= ROWS_MAX else found[: ROWS_MAX - 1]
        for short in single:
            self._missing([short], seq)
        if len(found) > len(single):
            self._missing(found[len(single) :], seq)

    def _missing(self, shorts: list[Shortfall], seq: int) -> None:
        """One gap for what the counters of these symbols miss."""
        names = [self._symbols.names[short.symbol] for short in shorts]
        evidence: dict[str, Any] = {}
        for short in shorts:
            for name, value in short.evidence.items():
                evidence[name] = evidence.get(name, 0) + value
        if len(shorts) > 1:
            evidence["each"] = {name: short.evidence for name, short in zip(names[:NAMED_MAX], shorts, strict=False)}
        since, until = min(short.ts_from for short in shorts), max(short.ts_to for short in shorts)
        self._rows.add_closed(MISSING, since, until, seq, names, evidence, min(short.seq_before for short in shorts))

    def _told(self, ts_from: int, ts_to: int) -> str | None:
        """A gap of the whole stream, open or over, that touches these times."""
        if (gap := self._tracker.open) is not None and ts_to >= gap.ts_from:
            return gap.gap_id
        return next((gap_id for since, until, gap_id in reversed(self._rows.recent) if since <= ts_to and until >= ts_from), None)

    def _dropped(self, names: Iterable[str], ts: int, seq: int) -> None:
        for name in names:
            number = self._symbols.number(name)
            if number is None or number + 1 >= len(self._silence.since):
                continue
            if (gap := self._open.pop(number + 1, None)) is not None:
                self._rows.close(gap, ts, seq, CLOSED, gap.evidence | {"until": "no longer watched"})
            self._silence.forget(number + 1)
            self._counters.forget(number)

    def freeze(self) -> SymbolGapsImage:
        """Everything needed to go on; packed later."""
        count = len(self._symbols)
        return SymbolGapsImage(self._look, dict(self._open), self._silence.freeze(count), self._counters.freeze(count))

    def restore(self, state: dict[str, Any]) -> None:
        """Undo a packed `freeze`."""
        image = SymbolGapsImage.unpack(state)
        self._look, self._open = image.look, dict(image.open)
        self._silence.restore(image.silence)
        self._counters.restore(image.counters)

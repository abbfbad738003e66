"""The generated market as a source: paced by the clock, open loop, written as lines.

What is due is made, however late; a slow machine shows as `behind_ms`, never as fewer messages. What does not belong here: the
order flow itself (`flow_kernels`), sockets.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from l2_platform.feeds.iqfeed.simulator import flow_kernels as flow
from l2_platform.feeds.iqfeed.simulator import line_kernels as lines
from l2_platform.feeds.iqfeed.simulator.halts import Halts
from l2_platform.feeds.iqfeed.simulator.history import TradeHistory, tick_lines
from l2_platform.feeds.iqfeed.simulator.layouts import DEFAULT_NAMES, Layout
from l2_platform.feeds.iqfeed.simulator.market import Market
from l2_platform.feeds.iqfeed.simulator.past import NEW_YORK, PastTrades, new_york_offset
from l2_platform.feeds.iqfeed.simulator.source import TURN_S, DepthListener, Level1Listener, LineBatch
from l2_platform.settings import SimulatorSettings

CHUNK_MESSAGES: Final = 16_384
"""Most messages of one batch."""
SUMMARY_CONTENTS: Final = flow.IN_C | flow.IN_BID | flow.IN_ASK | 1 << 8 | flow.IN_VOLUME
"""Message Contents of a P line: Cbacv."""


def volume_shape(ts: int) -> float:
    """Share of the average rate at a time: busy around 00:00 UTC, where the always-open session rolls, quiet at noon; mean 1."""
    away = abs(2 * (ts % lines.DAY_NS) / lines.DAY_NS - 1)
    return 0.6 + 1.2 * away * away


class LiveMarket:
    """A market, its pace and its lines."""

    tells_time = False
    answers_no_depth = True

    def __init__(
        self, settings: SimulatorSettings, start_ns: int, *, flat: bool = False, halts_file: Path | None = None
    ) -> None:
        """`halts_file`: where the market publishes its halts; None = nowhere."""
        self.market = Market(settings.symbols, settings.seed, settings.shape, start_ns)
        self.names = self.market.names
        self.halts = Halts(settings, self.names, self.market.halt, start_ns, halts_file)
        self._offset = new_york_offset(start_ns)
        self._day = (start_ns + self._offset) // lines.DAY_NS
        anchors = self.market.state.symbols[:, flow.S_ANCHOR].copy()
        self.history = TradeHistory(settings.trades_max, PastTrades(settings.seed, anchors, self._day))
        self.rate = settings.rate
        self.flat = flat
        self.depth_messages = 0
        self.level1_messages = 0
        self.without_depth: set[int] = set()
        self._until = start_ns
        self._carried = 0.0
        self._behind_ns = 0
        self._second = start_ns // lines.SECOND_NS
        self._rows = np.zeros((CHUNK_MESSAGES + 2 * flow.EVENT_ROWS_MAX, flow.D_COLUMNS), np.int64)
        self._quotes = np.zeros((CHUNK_MESSAGES + 2 * flow.EVENT_ROWS_MAX, flow.L_COLUMNS), np.int64)
        self._out = np.zeros(len(self._rows) * lines.DEPTH_LINE_BYTES_MAX, np.uint8)
        self._name_bytes, self._name_len = name_table(self.names)
        self._venues = np.array([list(mmid.encode()) for mmid, _ in flow.VENUES], np.uint8)

    def set_rate(self, rate: float, *, flat: bool) -> None:
        """Messages a second from now on, on average; `flat` drops the shape of the day."""
        self.rate = rate
        self.flat = flat

    def patience_s(self) -> float:
        """A few ms: what is due gathers meanwhile."""
        return TURN_S

    def commands(self) -> Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]:
        """Trading of a symbol is halted and resumed; the rate of the order flow is asked for by the control port itself."""
        return self.halts.commands()

    def advance(self, now_ns: int, depth: DepthListener, level1: Level1Listener) -> bool:
        """Make and publish what is due; at most one batch a call, never over a second's end (a `T` line belongs there)."""
        self._start_second()
        until = min(now_ns, (self._until // lines.SECOND_NS + 1) * lines.SECOND_NS)
        rate = self.rate if self.flat else self.rate * volume_shape(self._until)
        until = min(until, self._until + int(CHUNK_MESSAGES / rate * 1e9) + 1)
        due = self._carried + rate * (until - self._until) / 1e9
        messages = min(int(due), CHUNK_MESSAGES)
        made = self._make(messages, until, depth, level1) if messages > 0 else 0
        self._carried = due - made
        self._until = max(self._until, until)
        self.halts.advance(self._until)
        self._behind_ns = now_ns - self._until
        return self._until < now_ns

    @property
    def until(self) -> int:
        """Everything up to this time was made, ns."""
        return self._until

    def _start_second(self) -> None:
        second = self._until // lines.SECOND_NS
        if second == self._second:
            return
        self._second = second
        self._offset = new_york_offset(self._until)
        day = (self._until + self._offset) // lines.DAY_NS
        if day != self._day:
            self._day = day
            self.market.start_day()

    def _make(self, messages: int, until: int, depth: DepthListener, level1: Level1Listener) -> int:
        step, idle = (until - self._until) / messages, self.market.idle_steps
        n, k = self.market.generate(messages, (self._until + int(step), step, until), self._rows, self._quotes)
        self.depth_messages += n
        self.level1_messages += k
        self.history.keep(self._quotes, k, self._offset)
        if n and depth.has_watchers():
            depth.publish(self._depth_lines(self._rows, n))
        if k and level1.has_watchers():
            level1.publish(lambda layout: self._level1_lines(self._quotes, k, "Q", layout))
        return n + k + self.market.idle_steps - idle

    def _depth_lines(self, rows: lines.Int64, count: int) -> LineBatch:
        ends = np.empty(count, np.int64)
        symbols = np.empty(count, np.int32)
        size = lines.format_depth(
            rows, count, self._name_bytes, self._name_len, self._venues, self._offset, self._out, ends, symbols
        )
        return LineBatch(self._out[:size].tobytes(), ends, symbols, np.zeros(count, np.uint8))

    def _level1_lines(self, rows: lines.Int64, count: int, letter: str, layout: Layout) -> LineBatch:
        kinds, columns = layout.codes()
        out = np.empty(count * layout.line_bytes_max, np.uint8)
        ends = np.empty(count, np.int64)
        symbols = np.empty(count, np.int32)
        trades = np.empty(count, np.uint8)
        size = lines.format_level1(
            rows,
            count,
            ord(letter),
            kinds,
            columns,
            self._name_bytes,
            self._name_len,
            self._offset,
            out,
            ends,
            symbols,
            trades,
        )
        return LineBatch(out[:size].tobytes(), ends, symbols, trades)

    def depth_kind(self, symbol: int) -> str:
        """`order`, `level`, or empty when depth of the symbol was switched off."""
        if symbol in self.without_depth:
            return ""
        return "level" if self.market.state.symbols[symbol, flow.S_SHAPE] == flow.SHAPE_LEVELS else "order"

    def depth_snapshot(self, symbol: int) -> bytes:
        """The burst of 6 or 7 lines."""
        rows = self.market.snapshot(symbol)
        return self._depth_lines(rows, len(rows)).data if len(rows) else b""

    def level1_summary(self, symbol: int, layout: Layout) -> bytes:
        """The P line."""
        row = self.market.state.symbols[symbol : symbol + 1, : flow.L_COLUMNS].copy()
        row[0, flow.L_CONTENTS] = SUMMARY_CONTENTS
        return self._level1_lines(row, 1, "P", layout).data

    def fundamental(self, symbol: int) -> bytes:
        """The F line of protocol 6.1 and later (57 fields)."""
        anchor = int(self.market.state.symbols[symbol, flow.S_ANCHOR])
        high, low = anchor * 5 // 4, anchor * 3 // 4
        fields = [""] * 57
        fields[0] = self.names[symbol]
        fields[1], fields[3], fields[17] = "5", "1000000", f"SIMULATED INSTRUMENT {symbol}"
        fields[4] = fields[6] = f"{high // 100}.{high % 100:02d}00"
        fields[5] = fields[7] = f"{low // 100}.{low % 100:02d}00"
        fields[29], fields[30], fields[33], fields[34] = "14", "4", "1", "5"
        fields[50], fields[53] = "USD", "0.01"
        return ("F," + ",".join(fields) + ",\r\n").encode()

    def regional(self, symbol: int) -> bytes:
        """The R line of the best bid's venue."""
        q = [int(value) for value in self.market.state.symbols[symbol]]
        bid, ask = self._price(q[flow.L_BID]), self._price(q[flow.L_ASK])
        bid_time, ask_time = self._time(q[flow.L_BID_TS]), self._time(q[flow.L_ASK_TS])
        return (
            f"R,{self.names[symbol]},,{bid},{q[flow.L_BID_SIZE]},{bid_time},{ask},{q[flow.L_ASK_SIZE]},{ask_time},"
            f"14,4,{q[flow.L_BID_CENTER]},\r\n"
        ).encode()

    def correction(self, symbol: int, *, kind: str, layout: str) -> bytes:
        """A correction of the last trade in one of the two layouts that are known; empty before the first trade."""
        q = [int(value) for value in self.market.state.symbols[symbol]]
        if q[flow.L_TICK] == 0:
            return b""
        date = datetime.fromtimestamp(q[flow.L_TS] // lines.SECOND_NS, NEW_YORK).strftime("%m/%d/%Y")
        condition = ("01", "17", "3D87")[q[flow.L_CONDITION]]
        price, size, tick, center = self._price(q[flow.L_PRICE]), q[flow.L_SIZE], q[flow.L_TICK], q[flow.L_CENTER]
        when = self._time(q[flow.L_TS])
        name = self.names[symbol]
        if layout == "2021":
            text = f"C,{name},{kind},{date},{when},{price},{size},{tick},{condition},{center}"
        elif kind == "X":
            text = f"C,{name},X,,,,{price},{size},{tick},,{center},"
        else:
            text = f"C,{name},I,{'CEO'[q[flow.L_CONDITION]]},{date},{when},{price},{size},{tick},{condition},{center},"
        return (text + "\r\n").encode()

    def status(self) -> dict[str, object]:
        """Numbers for people."""
        return {
            "source": "market", "symbols": len(self.names), "rate": self.rate, "flat": self.flat,
            "depth_messages": self.depth_messages, "level1_messages": self.level1_messages,
            "behind_ms": round(self._behind_ns / 1e6, 3), "halted": self.halts.names_now(),
        }  # fmt: skip

    @staticmethod
    def _price(cents: int) -> str:
        return f"{cents // 100}.{cents % 100:02d}00"

    @staticmethod
    def _time(ts: int) -> str:
        whole, rest = divmod(ts, lines.SECOND_NS)
        return datetime.fromtimestamp(whole, NEW_YORK).strftime("%H:%M:%S.") + f"{rest // 1000:06d}"


class _Discard:
    """Takes lines in every way that the services do, and drops them."""

    def has_watchers(self) -> bool:
        return True

    def is_backed_up(self) -> bool:
        return False

    def take(self, batch: LineBatch) -> None:
        batch.select(np.ones(2, np.uint8))


class _DiscardDepth(_Discard):
    def publish(self, batch: LineBatch) -> None:
        self.take(batch)


class _DiscardLevel1(_Discard):
    def publish(self, make: Callable[[Layout], LineBatch]) -> None:
        self.take(make(Layout(DEFAULT_NAMES)))


def warm_kernels() -> None:
    """Compile, or load from the cache, every kernel that serving needs (about 30 s the first time, well below 1 s later)."""
    scratch = LiveMarket(SimulatorSettings(symbols=2, shape="mixed", rate=1000), lines.DAY_NS, flat=True)
    scratch.advance(lines.DAY_NS + lines.SECOND_NS, _DiscardDepth(), _DiscardLevel1())
    scratch.depth_snapshot(0)
    scratch.level1_summary(0, Layout(DEFAULT_NAMES))
    tick_lines(scratch.history.trades(0), b"x,", tail=True)


def name_table(names: list[str]) -> tuple[lines.UInt8, lines.Int64]:
    """Names as a byte matrix and their lengths."""
    encoded = [name.encode("latin-1") for name in names]
    width = max((len(name) for name in encoded), default=1)
    table = np.zeros((len(names), width), np.uint8)
    for number, name in enumerate(encoded):
        table[number, : len(name)] = list(name)
    return table, np.array([len(name) for name in encoded], np.int64)

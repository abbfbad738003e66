"""The vocabulary: columnar batches of market events, as arrays of equal length (structure of arrays).

An event is a row. No per-event object exists on the hot path. Every batch keeps the order of the wire: `seq` never decreases.
Prices are fixed point (`prices.py`), times are ns since the epoch in UTC, `NULL_TS` means none. What does not belong here: how
bytes become rows (feeds), how rows become books (book) or files and tables (sinks).
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

NULL_TS: Final = np.iinfo(np.int64).min
"""No time: the feed sent an empty or sentinel (99:99:99) time."""
NULL_PRICE: Final = np.iinfo(np.int64).min
"""No price: the feed sent an empty field."""
NO_SYMBOL: Final = -1
"""The line belongs to no instrument."""

BID: Final = ord("B")
ASK: Final = ord("A")

Int8 = npt.NDArray[np.int8]
UInt8 = npt.NDArray[np.uint8]
UInt16 = npt.NDArray[np.uint16]
Int32 = npt.NDArray[np.int32]
UInt32 = npt.NDArray[np.uint32]
Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]


class DepthKind(IntEnum):
    """What a line of a depth stream is; the feed's own message letter where it has one."""

    BAD = 0
    """Could not be decoded: quarantine; `error` says why."""
    PRICE_LEVEL_ORDER = ord("0")
    ADD = ord("3")
    UPDATE = ord("4")
    DELETE = ord("5")
    SUMMARY = ord("6")
    """A row of an order or venue snapshot."""
    PAIR_SUMMARY = ord("Z")
    """Protocol 6.1 and older, snapshot: both sides of a venue; the row holds the bid, `pair_*` the ask."""
    PAIR_UPDATE = ord("2")
    """Protocol 6.1 and older, update: both sides of a venue; the row holds the bid, `pair_*` the ask."""
    LEVEL_SUMMARY = ord("7")
    LEVEL_UPDATE = ord("8")
    LEVEL_DELETE = ord("9")
    CLEAR = ord("K")
    """S,CLEAR DEPTH: forget one side of one symbol."""
    DISCONNECTED = ord("X")
    """S,SERVER DISCONNECTED: every book of the connection is stale."""
    CLOCK = ord("T")
    """The feed's clock; `ts_event` is its time."""
    SYSTEM = ord("S")
    """Any other system line."""
    ERROR = ord("E")
    NOT_FOUND = ord("n")
    NO_DEPTH = ord("q")
    """The symbol is valid and has no depth yet."""
    MAKER = ord("M")
    """Name of a market maker."""
    OTHER = ord("?")
    """A letter that we do not know: kept in the journal, counted."""


class Trust(IntEnum):
    """How far a book can be believed after a message."""

    BUILDING = 0
    GOOD = 1
    SUSPECT = 2


class DecodeError(IntEnum):
    """Why a line is in quarantine."""

    NONE = 0
    FIELDS = 1
    """Too few fields for its type."""
    NUMBER = 2
    """A number field does not hold a number, or it is out of range."""
    PRICE = 3
    TIME = 4
    """Time or date is malformed (a sentinel is fine)."""
    SIDE = 5
    SYMBOL = 6
    """Empty or longer than the limit."""
    FRAGMENT = 7
    """The rest of a line that a disconnect cut off."""
    OVERSIZE = 8
    """Longer than the line limit."""
    ENCODING = 9
    """NUL or another control byte inside the line."""
    CONTENTS = 10
    """Message Contents or basis holds an unknown letter combination."""


@dataclass(slots=True)
class DepthBatch:
    """Decoded lines of a depth stream, one row a line (all lines: T, S and bad ones too), in wire order.

    `symbol` indexes the stream's SymbolTable, NO_SYMBOL where a line has none. `mmid` holds four bytes, little endian, 0 = none.
    `count` is the order count of a price level (0 where the feed gives none). `line_start`/`line_len` locate the line in `buffer`.
    """

    buffer: UInt8
    seq: UInt64
    kind: UInt8
    error: UInt8
    symbol: Int32
    side: UInt8
    order_id: UInt64
    mmid: UInt32
    price: Int64
    size: Int64
    priority: UInt64
    count: Int32
    ts_event: Int64
    ts_recv: Int64
    line_start: Int64
    line_len: Int32
    trust: UInt8 = field(default_factory=lambda: np.zeros(0, np.uint8))
    """Filled by the book engine: the Trust of the row's book after the row."""
    pair_row: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    """Rows of kind PAIR_SUMMARY and PAIR_UPDATE, ascending; a side that the line drops has NULL_PRICE."""
    pair_price: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    """Their ask price."""
    pair_size: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    """Their ask size."""
    pair_ts: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    """The time of their ask."""

    def __len__(self) -> int:
        return len(self.seq)

    def line(self, row: int) -> bytes:
        """The bytes of a row's line, without its end."""
        start = int(self.line_start[row])
        return self.buffer[start : start + int(self.line_len[row])].tobytes()

    def without_pairs(self) -> "DepthBatch":
        """The batch with every two-sided row as two rows of the same seq, bid first: SUMMARY or UPDATE, or DELETE for a dropped side.

        Itself when there are none. For tables, whose rows have one side.
        """
        if not len(self.pair_row):
            return self
        repeats = np.ones(len(self), np.int64)
        repeats[self.pair_row] = 2
        source = np.repeat(np.arange(len(self)), repeats)
        columns = {
            name: (values if name == "buffer" else values[source] if len(values) else values)
            for name in self.__dataclass_fields__
            if not name.startswith("pair_")
            for values in (getattr(self, name),)
        }
        split = DepthBatch(**columns)
        bid = self.pair_row + np.arange(len(self.pair_row))
        split.kind[bid] = np.where(self.kind[self.pair_row] == DepthKind.PAIR_SUMMARY, DepthKind.SUMMARY, DepthKind.UPDATE)
        ask = bid + 1
        split.kind[ask] = split.kind[bid]
        split.side[ask] = ASK
        split.price[ask] = self.pair_price
        split.size[ask] = self.pair_size
        split.ts_event[ask] = self.pair_ts
        both = np.concatenate([bid, ask])
        split.kind[both[split.price[both] == NULL_PRICE]] = DepthKind.DELETE
        return split


@dataclass(slots=True)
class SnapshotBatch:
    """Top of the book after some messages: rows × levels, best first; NULL_PRICE and 0 where a level is empty."""

    seq: UInt64
    symbol: Int32
    ts_event: Int64
    ts_recv: Int64
    trust: UInt8
    bid_px: Int64
    bid_sz: Int64
    bid_ct: Int32
    ask_px: Int64
    ask_sz: Int64
    ask_ct: Int32

    def __len__(self) -> int:
        return len(self.seq)


class Level1Kind(IntEnum):
    """What a line of a Level 1 stream, or of a history reply, is."""

    BAD = 0
    QUOTE = ord("Q")
    """An update: quote, trade print, or both, as `contents` says."""
    SUMMARY = ord("P")
    """A snapshot answer: never a trade."""
    FUNDAMENTAL = ord("F")
    REGIONAL = ord("R")
    NEWS = ord("N")
    CORRECTION = ord("C")
    CLOCK = ord("T")
    SYSTEM = ord("S")
    ERROR = ord("E")
    NOT_FOUND = ord("n")
    HISTORY_TICK = ord("H")
    """A line of a history tick reply: always a trade."""
    HISTORY_BAR = ord("I")
    """A line of an interval or daily reply; a row only where the reply's control frame told its interval (BarBatch)."""
    HISTORY_KNOWN = ord("h")
    """A line of a history tick reply whose print another capture has: kept in the journal, no row."""
    END = ord("!")
    """!ENDMSG! of a history reply."""
    OTHER = ord("?")


CONTENT_LETTERS: Final = "CEOabohlcsv"
"""Message Contents letters; bit i of `contents` is letter i."""
CONTENT_TRADE: Final = 0b111
"""C, E or O: the line is a trade print."""
CONTENT_QUOTE: Final = 0b11000
"""a or b: the line changes the quote."""


@dataclass(slots=True)
class Level1Batch:
    """Decoded lines of a Level 1 or history stream, one row a line, in wire order.

    A row is a trade when kind is QUOTE and `contents & CONTENT_TRADE`, or kind is HISTORY_TICK. `basis` is ord of C, E or O, else 0.
    `conditions` holds up to eight hex characters, little endian. Market centres: -1 = none. Sizes and volumes: -1 = none.
    `ts_trade`, `ts_bid`, `ts_ask` are the line's own times; `ts_event` is the one that the line is about.
    """

    buffer: UInt8
    seq: UInt64
    kind: UInt8
    error: UInt8
    symbol: Int32
    contents: UInt32
    basis: UInt8
    price: Int64
    size: Int64
    total_volume: Int64
    market_center: Int32
    conditions: UInt64
    aggressor: UInt8
    day_code: UInt8
    tick_id: UInt64
    trade_count: Int64
    bid: Int64
    bid_size: Int64
    bid_market_center: Int32
    ask: Int64
    ask_size: Int64
    ask_market_center: Int32
    delay: Int32
    ts_trade: Int64
    ts_bid: Int64
    ts_ask: Int64
    ts_event: Int64
    ts_recv: Int64
    line_start: Int64
    line_len: Int32

    def __len__(self) -> int:
        return len(self.seq)

    def line(self, row: int) -> bytes:
        """The bytes of a row's line, without its end."""
        start = int(self.line_start[row])
        return self.buffer[start : start + int(self.line_len[row])].tobytes()


@dataclass(slots=True)
class BarBatch(Level1Batch):
    """Lines of a reply of bars. Of rows of kind HISTORY_BAR `ts_event` is the begin, `size` the volume of the bar, `total_volume` that
    of the day so far (-1: daily bars have none), `trade_count` the prints (-1 none, and mostly 0: the vendor does not count them).
    """

    interval_s: int
    """Length of every bar, s; 86,400 = a day."""
    ohlc: Int64
    """Rows × (open, high, low, close); only rows of kind HISTORY_BAR have them."""


@dataclass(slots=True)
class TableBatch:
    """Rows for one table of one (stream, session date), sorted by `seq`; what sinks take.

    `columns` maps column names of the table (docs/data.md) to arrays of equal length; `symbol` is an Int32 array into `symbols`
    (a list that only grows); level columns are rows × levels; text columns are lists of str. stream, session_date and source are
    constants of the batch.
    """

    table: str
    stream: str
    session_date: int
    """YYYYMMDD."""
    source: str
    """live, import or history."""
    symbols: list[str]
    columns: dict[str, Any]

    def __len__(self) -> int:
        return len(self.columns["seq"])

"""The baseline of decoding: plain Python loops that make the same typed columns, ns timestamps included.

Written as one would write them with care: `split`, integers instead of floats, and the UTC offset looked up once for each hour of a
day. What does not belong here: lines that are no market data (the baseline reads valid ones only).
"""

from array import array
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from benchmarks.lines import Block
from l2_platform.market.events import CONTENT_LETTERS, NULL_PRICE, NULL_TS

NEW_YORK = ZoneInfo("America/New_York")
DEPTH_COLUMNS = {
    "seq": "Q", "kind": "B", "symbol": "i", "side": "B", "order_id": "Q", "mmid": "I", "price": "q", "size": "q",
    "priority": "Q", "count": "i", "ts_event": "q", "ts_recv": "q",
}  # fmt: skip
"""Columns of a depth row and the type codes of their arrays."""
LEVEL1_COLUMNS = {
    "seq": "Q", "kind": "B", "symbol": "i", "contents": "I", "price": "q", "size": "q", "total_volume": "q", "market_center": "i",
    "conditions": "Q", "aggressor": "B", "day_code": "B", "tick_id": "Q", "trade_count": "q", "bid": "q", "bid_size": "q",
    "bid_market_center": "i", "ask": "q", "ask_size": "q", "ask_market_center": "i", "delay": "i", "ts_trade": "q", "ts_bid": "q",
    "ts_ask": "q", "ts_event": "q", "ts_recv": "q",
}  # fmt: skip
"""Columns of a Level 1 row, likewise."""
_LETTERS = {letter: 1 << bit for bit, letter in enumerate(CONTENT_LETTERS)}


class WallClock:
    """New York wall times as ns since the epoch."""

    def __init__(self) -> None:
        self._hours: dict[tuple[str, str], int] = {}

    def ns(self, date: str, time: str) -> int:
        """`2025-07-25`, `10:00:00.000028` → ns; NULL_TS without a time."""
        if not time:
            return NULL_TS
        key = date, time[:2]
        begin = self._hours.get(key)
        if begin is None:
            local = datetime.fromisoformat(date).replace(hour=int(time[:2]), tzinfo=NEW_YORK)
            begin = self._hours[key] = int(local.astimezone(UTC).timestamp()) * 1_000_000_000
        return begin + (int(time[3:5]) * 60 + int(time[6:8])) * 1_000_000_000 + int(time[9:15]) * 1000


def price_of(text: str) -> int:
    """Fixed point, 1e-9; NULL_PRICE for an empty text."""
    if not text:
        return NULL_PRICE
    whole, _, fraction = text.partition(".")
    return int(whole) * 1_000_000_000 + int(fraction.ljust(9, "0"))


def decode_depth(block: Block) -> tuple[dict[str, Any], list[str]]:
    """Columns by name, and the symbols by number, of order, venue and price level lines."""
    clock = WallClock()
    numbers: dict[str, int] = {}
    out = {name: array(code) for name, code in DEPTH_COLUMNS.items()}
    adds = [out[name].append for name in DEPTH_COLUMNS]
    for seq, ts_recv, line in lines_of(block):
        fields = line.split(",")
        letter = fields[0]
        symbol = numbers.setdefault(fields[1], len(numbers))
        order_id = mmid = size = priority = count = 0
        price = NULL_PRICE
        if letter in "346":
            _, _, order, venue, side, price_text, size_text, rank, _, time, date, *_ = fields
            order_id = int(order) if order else 0
            mmid = int.from_bytes(venue.encode(), "little")
            price, size = price_of(price_text), int(size_text)
            priority = int(rank) if rank else 0
        elif letter == "5":
            _, _, order, venue, side, time, date, *_ = fields
            order_id = int(order) if order else 0
            mmid = int.from_bytes(venue.encode(), "little")
        elif letter in "78":
            _, _, side, price_text, size_text, orders, _, time, date, *_ = fields
            price, size, count = price_of(price_text), int(size_text), int(orders)
        else:
            _, _, side, price_text, time, date, *_ = fields
            price = price_of(price_text)
        row = (
            seq, ord(letter), symbol, ord(side), order_id, mmid, price, size, priority, count, clock.ns(date, time), ts_recv,
        )  # fmt: skip
        for add, value in zip(adds, row, strict=True):
            add(value)
    return _columns(out), list(numbers)


def decode_level1(block: Block, fields: tuple[str, ...], date: str) -> tuple[dict[str, Any], list[str]]:
    """Columns by name, and the symbols, of Q lines whose fields after Symbol are `fields`; times without a date are of `date`."""
    clock = WallClock()
    numbers: dict[str, int] = {}
    out = {name: array(code) for name, code in LEVEL1_COLUMNS.items()}
    adds = [out[name].append for name in LEVEL1_COLUMNS]
    for seq, ts_recv, line in lines_of(block):
        values = line.split(",")
        get = dict(zip(fields, values[2:], strict=False)).get
        symbol = numbers.setdefault(values[1], len(numbers))
        contents = sum(_LETTERS[letter] for letter in get("Message Contents", ""))
        month = get("Most Recent Trade Date", "")
        day = f"{month[6:]}-{month[:2]}-{month[3:5]}" if month else date
        ts_trade = clock.ns(day, get("Most Recent Trade Time", "") or get("Most Recent Trade TimeMS", ""))
        ts_bid = clock.ns(date, get("Bid Time", "") or get("Bid TimeMS", ""))
        ts_ask = clock.ns(date, get("Ask Time", "") or get("Ask TimeMS", ""))
        ts_event = ts_trade if contents & 7 and ts_trade != NULL_TS else max(ts_bid, ts_ask)
        row = (
            seq, ord("Q"), symbol, contents, price_of(get("Most Recent Trade", "")), _int(get("Most Recent Trade Size")),
            _int(get("Total Volume")), _int(get("Most Recent Trade Market Center")),
            int.from_bytes(get("Most Recent Trade Conditions", "").encode(), "little"),
            int(get("Most Recent Trade Aggressor") or 0), int(get("Most Recent Trade Day Code") or 0), int(get("TickID") or 0),
            _int(get("Number of Trades Today")), price_of(get("Bid", "")), _int(get("Bid Size")), _int(get("Bid Market Center")),
            price_of(get("Ask", "")), _int(get("Ask Size")), _int(get("Ask Market Center")), _int(get("Delay")),
            ts_trade, ts_bid, ts_ask, ts_event, ts_recv,
        )  # fmt: skip
        for add, value in zip(adds, row, strict=True):
            add(value)
    return _columns(out), list(numbers)


def lines_of(block: Block) -> Iterator[tuple[int, int, str]]:
    """(seq, ts_recv, text) of each line."""
    text = block.buffer.tobytes().decode("latin-1")
    edges, stamps, seqs = block.frame_start.tolist(), block.frame_ts.tolist(), block.frame_seq.tolist()
    for frame, ts_recv in enumerate(stamps):
        for seq, line in enumerate(text[edges[frame] : edges[frame + 1]].splitlines(), seqs[frame]):
            yield seq, ts_recv, line


def _int(text: str | None) -> int:
    return int(text) if text else -1


def _columns(out: dict[str, Any]) -> dict[str, Any]:
    return {name: np.frombuffer(column, column.typecode) for name, column in out.items()}

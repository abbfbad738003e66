"""From decoded batches to the rows of the tables: which lines go where, and under which column names (docs/data.md).

Pure column work: masks and gathers, no loop over rows except for the rare lines that end in `feed_events`.
"""

import json
from typing import Any

import numpy as np

from l2_platform.delivery.gap_rows import Gap
from l2_platform.feeds.iqfeed.layouts import parse_correction
from l2_platform.market.events import (
    CONTENT_QUOTE,
    CONTENT_TRADE,
    NULL_PRICE,
    BarBatch,
    DecodeError,
    DepthBatch,
    DepthKind,
    Level1Batch,
    Level1Kind,
    SnapshotBatch,
    TableBatch,
)

RAW_BYTES_MAX = 65_536
"""Longest text kept in `feed_events.raw` unless the settings say otherwise, bytes; the journal has all of it."""

DEPTH_ROW_KINDS = np.zeros(256, np.bool_)
DEPTH_ROW_KINDS[[ord(letter) for letter in "03456789K"]] = True
SNAPSHOT_KINDS = np.zeros(256, np.bool_)
SNAPSHOT_KINDS[[DepthKind.SUMMARY, DepthKind.LEVEL_SUMMARY]] = True

DEPTH_EVENTS = {
    DepthKind.BAD: "quarantine", DepthKind.SYSTEM: "system", DepthKind.DISCONNECTED: "server_disconnected", DepthKind.ERROR: "error",
    DepthKind.NOT_FOUND: "not_found", DepthKind.NO_DEPTH: "no_depth", DepthKind.MAKER: "maker", DepthKind.OTHER: "unknown_line",
}  # fmt: skip
LEVEL1_EVENTS = {
    Level1Kind.BAD: "quarantine", Level1Kind.SYSTEM: "system", Level1Kind.ERROR: "error", Level1Kind.NOT_FOUND: "not_found",
    Level1Kind.FUNDAMENTAL: "fundamental", Level1Kind.REGIONAL: "regional", Level1Kind.NEWS: "news",
    Level1Kind.CORRECTION: "correction", Level1Kind.HISTORY_BAR: "history_bar", Level1Kind.OTHER: "unknown_line",
}  # fmt: skip


def _letters(kinds: dict[Any, str]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    table = np.zeros(256, np.bool_)
    table[[int(kind) for kind in kinds]] = True
    return table


DEPTH_EVENT_KINDS = _letters(DEPTH_EVENTS)
LEVEL1_EVENT_KINDS = _letters(LEVEL1_EVENTS)


class RowBuilder:
    """Builds TableBatches for one (stream, session date)."""

    def __init__(
        self, stream: str, session_date: int, source: str, symbols: list[str], raw_bytes_max: int = RAW_BYTES_MAX
    ) -> None:
        self.stream, self.session_date, self.source, self.symbols = stream, session_date, source, symbols
        self._raw_bytes_max = raw_bytes_max

    def table(self, name: str, columns: dict[str, Any]) -> TableBatch:
        """One batch of this stream and date."""
        return TableBatch(name, self.stream, self.session_date, self.source, self.symbols, columns)

    def depth_updates(self, batch: DepthBatch) -> TableBatch | None:
        """Every message that may change a book."""
        mask = DEPTH_ROW_KINDS[batch.kind]
        if not mask.any():
            return None
        pick: Any = slice(None) if mask.all() else np.flatnonzero(mask)
        price = batch.price[pick]
        return self.table(
            "depth_updates",
            {
                "seq": batch.seq[pick], "symbol": batch.symbol[pick], "ts_event": batch.ts_event[pick],
                "ts_recv": batch.ts_recv[pick], "kind": batch.kind[pick], "side": batch.side[pick],
                "price": np.where(price == NULL_PRICE, 0, price), "size": batch.size[pick], "order_id": batch.order_id[pick],
                "mmid": batch.mmid[pick], "priority": batch.priority[pick], "order_count": batch.count[pick],
                "snapshot": SNAPSHOT_KINDS[batch.kind[pick]].astype(np.uint8), "trust": batch.trust[pick],
            },
        )  # fmt: skip

    def book_snapshots(self, batch: SnapshotBatch) -> TableBatch | None:
        """The recorded tops of the books."""
        if not len(batch):
            return None
        return self.table(
            "book_snapshots",
            {
                "seq": batch.seq, "symbol": batch.symbol, "ts_event": batch.ts_event, "ts_recv": batch.ts_recv,
                "trust": batch.trust, "bid_px": batch.bid_px, "bid_sz": batch.bid_sz, "bid_ct": batch.bid_ct,
                "ask_px": batch.ask_px, "ask_sz": batch.ask_sz, "ask_ct": batch.ask_ct,
                "total_bid_size": batch.bid_sz.sum(axis=1), "total_ask_size": batch.ask_sz.sum(axis=1),
            },
        )  # fmt: skip

    def quotes(self, batch: Level1Batch) -> TableBatch | None:
        """Updates that change the quote, and every snapshot answer (`snapshot` = 1)."""
        summary = batch.kind == Level1Kind.SUMMARY
        mask = summary | ((batch.kind == Level1Kind.QUOTE) & ((batch.contents & CONTENT_QUOTE) != 0))
        if not mask.any():
            return None
        pick = np.flatnonzero(mask)
        names = (
            "seq", "symbol", "ts_event", "ts_recv", "bid", "bid_size", "bid_market_center", "ask", "ask_size",
            "ask_market_center", "ts_bid", "ts_ask", "total_volume", "delay", "contents",
        )  # fmt: skip
        columns = {name: getattr(batch, name)[pick] for name in names}
        columns["snapshot"] = summary[pick].astype(np.uint8)
        return self.table("quotes", columns)

    def trades(self, batch: Level1Batch) -> TableBatch | None:
        """Prints: updates whose contents hold C, E or O, and the lines of history replies."""
        live = (batch.kind == Level1Kind.QUOTE) & ((batch.contents & CONTENT_TRADE) != 0)
        mask = live | (batch.kind == Level1Kind.HISTORY_TICK)
        if not mask.any():
            return None
        pick = np.flatnonzero(mask)
        names = (
            "seq", "symbol", "ts_recv", "price", "size", "market_center", "conditions", "tick_id", "aggressor", "day_code",
            "basis", "total_volume", "bid", "ask",
        )  # fmt: skip
        columns = {name: getattr(batch, name)[pick] for name in names}
        columns["ts_event"] = batch.ts_trade[pick]
        columns["trade_date"] = batch.ts_trade[pick]
        return self.table("trades", columns)

    def history_bars(self, batch: BarBatch) -> TableBatch | None:
        """Bars of a history reply."""
        pick = np.flatnonzero(batch.kind == Level1Kind.HISTORY_BAR)
        if not len(pick):
            return None
        columns: dict[str, Any] = {
            "seq": batch.seq[pick], "symbol": batch.symbol[pick], "interval_s": np.full(len(pick), batch.interval_s, np.uint32),
            "ts_begin": batch.ts_event[pick], "ts_recv": batch.ts_recv[pick],
        }  # fmt: skip
        columns |= {name: batch.ohlc[pick, place] for place, name in enumerate(("open", "high", "low", "close"))}
        columns |= {
            "volume": batch.size[pick], "total_volume": batch.total_volume[pick],
            "trade_count": np.maximum(batch.trade_count[pick], 0),
        }  # fmt: skip
        return self.table("history_bars", columns)

    def line_events(self, batch: DepthBatch | Level1Batch) -> list[dict[str, Any]]:
        """The rare lines that are no market data, as rows of `feed_events`; the feed's clock lines are left out."""
        depth = isinstance(batch, DepthBatch)
        table = DEPTH_EVENT_KINDS if depth else LEVEL1_EVENT_KINDS
        told = table[batch.kind]
        if isinstance(batch, BarBatch):
            told &= batch.kind != Level1Kind.HISTORY_BAR  # they have a table
        rows = []
        for row in np.flatnonzero(told):
            kind = DEPTH_EVENTS[DepthKind(batch.kind[row])] if depth else LEVEL1_EVENTS[Level1Kind(batch.kind[row])]
            line = batch.line(int(row))
            detail: dict[str, Any] = {}
            if kind == "quarantine":
                detail = {"reason": DecodeError(int(batch.error[row])).name.lower(), "bytes": len(line)}
            elif kind == "correction":
                detail = parse_correction(line)
            rows.append(
                {
                    "seq": int(batch.seq[row]), "ordinal": 0, "symbol": int(batch.symbol[row]), "kind": kind,
                    "ts_event": int(batch.ts_event[row]), "ts_recv": int(batch.ts_recv[row]), "detail": _json(detail),
                    "raw": line[: self._raw_bytes_max].decode("latin-1"),
                }
            )  # fmt: skip
        return rows

    def feed_events(self, rows: list[dict[str, Any]]) -> TableBatch | None:
        """Rows of `line_events` and of control frames, sorted by (seq, ordinal)."""
        if not rows:
            return None
        rows = sorted(rows, key=lambda row: (row["seq"], row["ordinal"]))
        columns: dict[str, Any] = {
            "seq": np.array([row["seq"] for row in rows], np.uint64),
            "ordinal": np.array([row["ordinal"] for row in rows], np.uint32),
            "symbol": np.array([row["symbol"] for row in rows], np.int32),
            "ts_event": np.array([row["ts_event"] for row in rows], np.int64),
            "ts_recv": np.array([row["ts_recv"] for row in rows], np.int64),
        }
        columns.update({name: [row[name] for row in rows] for name in ("kind", "detail", "raw")})
        return self.table("feed_events", columns)

    def gap_events(self, gaps: list[Gap], ts_written: int) -> TableBatch | None:
        """Versions of gaps, append-only."""
        if not gaps:
            return None
        count = len(gaps)
        return self.table(
            "gap_events",
            {
                "seq": np.array([gap.seq for gap in gaps], np.uint64),
                "ordinal": np.array([gap.ordinal for gap in gaps], np.uint32),
                "gap_id": [gap.gap_id for gap in gaps],
                "symbols": [gap.symbols for gap in gaps],
                "ts_from": np.array([gap.ts_from for gap in gaps], np.int64),
                "ts_to": np.array([gap.ts_to for gap in gaps], np.int64),
                "cause": [gap.cause for gap in gaps],
                "evidence": [_json(gap.evidence) for gap in gaps],
                "repair_source": [""] * count,
                "rows_recovered": np.zeros(count, np.uint64),
                "residual": [""] * count,
                "explanation": [""] * count,
                "repair_state": [""] * count,
                "state": [gap.state for gap in gaps],
                "seq_before": np.array([gap.seq_before for gap in gaps], np.uint64),
                "version": np.array([gap.version for gap in gaps], np.uint32),
                "ts_written": np.full(count, ts_written, np.int64),
            },
        )


def after(batch: TableBatch, floor: tuple[int, int]) -> TableBatch | None:
    """The rows above a position (seq, ordinal) that the sink already has; None when there is none."""
    columns = batch.columns
    seq = np.asarray(columns["seq"])
    if not len(seq) or int(seq[0]) > floor[0]:
        return batch
    mask = seq > floor[0]
    if "ordinal" in columns:
        mask |= (seq == floor[0]) & (columns["ordinal"] > floor[1])
    pick = np.flatnonzero(mask)
    if not len(pick):
        return None
    kept = {
        name: [column[int(row)] for row in pick] if isinstance(column, list) else column[pick] for name, column in columns.items()
    }
    return TableBatch(batch.table, batch.stream, batch.session_date, batch.source, batch.symbols, kept)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, default=str)

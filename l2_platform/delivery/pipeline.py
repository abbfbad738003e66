"""One stream's way from journal items to rows: decode, book, gaps, rows; the same code for live, import, rebuild and queries.

A pipeline is fed in journal order and is deterministic: the same items give the same rows, however they are cut into reads. It does
no I/O and reads no clock. Its whole state can be dumped and loaded (checkpoints). Books carry over from date to date unless the
journal says `session` with `reset` (live streams do at every roll, so that each of their dates stands alone).
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np

from l2_platform.book.engine import BookEngine
from l2_platform.book.state import BookImage
from l2_platform.delivery.gap_state import SymbolGapsImage
from l2_platform.delivery.gap_watch import watch_lines
from l2_platform.delivery.gaps import GapTracker
from l2_platform.delivery.gathering import merge
from l2_platform.delivery.rows import RAW_BYTES_MAX, RowBuilder
from l2_platform.delivery.silence import SilenceRules
from l2_platform.delivery.symbol_gaps import SymbolGaps
from l2_platform.feeds.iqfeed.decode_depth import DepthDecoder
from l2_platform.feeds.iqfeed.decode_history import HistoryDecoder
from l2_platform.feeds.iqfeed.decode_level1 import Level1Decoder
from l2_platform.journal.frame import FrameFlag
from l2_platform.journal.reader import Block, Control, Damage
from l2_platform.market.events import NO_SYMBOL, NULL_TS, BarBatch, DepthBatch, TableBatch
from l2_platform.market.instruments import NAMES_MAX, SymbolTable

STATE_VERSION = 4
HISTORY_REPLY = "history_reply"
"""Control event in front of each reply of a history stream; its `symbol` is that of the lines behind it, `kept` which of them are rows,
`interval_s` (channel bars) how long their bars are, s."""
_STATS_SYMBOLS_MAX = 4
_STATS_STATUS = 12
Item = Block | Control | Damage


def channel_of(stream: str) -> str:
    """depth, level1, ticks, bars or admin: the second part of a stream's name."""
    return stream.split("-")[1]


def source_of(stream: str) -> str:
    """Where a stream's bytes came from: live, import or history."""
    if "-import-" in stream:
        return "import"
    return "history" if stream.endswith("-history") else "live"


def action_on_books(item: Control | Damage) -> Literal["reset", "mark_suspect", "mark_building"] | None:
    """What a control frame or damage does to every book of the stream, as the engine calls it; None: nothing."""
    if isinstance(item, Damage) or item.event == "disconnect":
        return "mark_suspect"
    if item.event == "session" and item.fields.get("reset"):
        return "reset"
    # A socket cannot resend: what the books were before is worthless until the new connection's snapshots.
    return "mark_building" if item.event in {"connect", "collector_start"} else None


class Pipeline:
    """Decoder, books and gap tracker of one stream."""

    def __init__(
        self,
        stream: str,
        *,
        levels: int,
        interval_ms: int,
        session_start: Callable[[int], int] | None = None,
        session_end: Callable[[int], int] | None = None,
        default_symbol: str | None = None,
        names_max: int = NAMES_MAX,
        raw_bytes_max: int = RAW_BYTES_MAX,
        silence: SilenceRules | None = None,
        windows: Callable[[int], list[tuple[int, int]]] | None = None,
        tick_id_rule: str = "per_market_center",
    ) -> None:
        """`session_start`, `session_end`: session date → ns from and to which the stream should record (NULL_TS: not at all);
        `default_symbol`: of lines that carry none; `names_max`: see SymbolTable; `raw_bytes_max`: of the text of a feed event;
        `silence`: also look for gaps of single symbols of a live stream, by these rules, in the trading `windows` of a date (None:
        always), with TickIDs that count by `tick_id_rule`.
        """
        self._silence, self._windows, self._tick_id_rule = silence, windows, tick_id_rule
        self._raw_bytes_max = raw_bytes_max
        self.stream = stream
        self.channel = channel_of(stream)
        self.source = source_of(stream)
        self.symbols = SymbolTable(names_max=names_max)
        self.seq = 0
        """Last seq seen of the current date."""
        self.lines = 0
        """Lines decoded since the start of this process."""
        self.session_date = 0
        self._session_start = session_start
        self._session_end = session_end
        # The admin port carries no market data: what its link does is told by feed events alone.
        self._finds_gaps = self.source == "live" and self.channel != "admin"
        self._ordinal = 0
        self._last_status = ""
        self.gaps = GapTracker(stream, 0, NULL_TS)
        self.symbol_gaps: SymbolGaps | None = None
        self.engine: BookEngine | None = None
        self.decoder: DepthDecoder | Level1Decoder | HistoryDecoder | None = None
        if self.channel == "depth":
            self.engine = BookEngine(self.symbols, levels=levels, interval_ns=interval_ms * 1_000_000)
            self.decoder = DepthDecoder(self.symbols)
        elif self.channel == "level1":
            self.decoder = Level1Decoder(self.symbols)
        elif self.channel in {"ticks", "bars"}:
            self.decoder = HistoryDecoder(self.symbols, default_symbol)

    def begin_date(self, session_date: int, context: dict[str, Any] | None) -> None:
        """Go to a date of the journal; `context` is what its first segment header says of the decoder."""
        if session_date == self.session_date:
            return
        first = self.session_date == 0
        self.session_date, self.seq, self._ordinal, self._last_status = session_date, 0, 0, ""
        start = self._session_start(session_date) if self._session_start and self._finds_gaps else NULL_TS
        self._begin_gaps(session_date, start)
        # A live date is read with what its own first header says, so that it stands alone; an import's dates follow each other.
        if isinstance(self.decoder, Level1Decoder) and (self.source == "live" or (context and first)):
            self.decoder.restore(context or {})
        elif isinstance(self.decoder, DepthDecoder) and self.source == "live":
            self.decoder.restore({})

    def _begin_gaps(self, session_date: int, start: int) -> None:
        self.gaps = GapTracker(self.stream, session_date, start)
        if self._silence is not None and self._finds_gaps and self.decoder is not None:
            windows = self._windows(session_date) if self._windows else None
            self.symbol_gaps = SymbolGaps(self.gaps, self.symbols, self._silence, windows=windows, tick_id_rule=self._tick_id_rule)

    def end_date(self, ts_written: int) -> list[TableBatch]:
        """Rows that the end of the date brings: a gap that is still open ends with the session; the next date tells the rest."""
        end = self._session_end(self.session_date) if self._session_end and self._finds_gaps else NULL_TS
        if self.symbol_gaps is not None:
            self.symbol_gaps.end(end, self.seq)
        self.gaps.end(end, self.seq)
        builder = self._builder()
        table = builder.gap_events(self.gaps.take(), ts_written)
        return [table] if table is not None else []

    def process(self, items: list[Item], ts_written: int) -> list[TableBatch]:
        """Rows of the items, at most one batch a table, in seq order. All items belong to the current date."""
        builder = self._builder()
        tables: list[TableBatch | None] = []
        events: list[dict[str, Any]] = []
        for item in items:
            if isinstance(item, Block):
                tables.extend(self._block(builder, item, events))
            elif isinstance(item, Control):
                events.append(self._control(item))
            else:
                self._damage(item, events)
        tables.append(builder.feed_events(events))
        tables.append(builder.gap_events(self.gaps.take(), ts_written))
        return merge([table for table in tables if table is not None])

    def advance(self, items: list[Item]) -> None:
        """Like `process`, without rows: only the books move."""
        for batch in self.decoded(items):
            assert self.engine is not None
            self.engine.apply(batch, "recv" if self.source == "live" else "event")
            self.seq = int(batch.seq[-1])

    def decoded(self, items: list[Item]) -> Iterator[DepthBatch]:
        """The batches of a depth stream's items; controls act on the books between them, applying a batch is the caller's."""
        for item in items:
            if isinstance(item, Block):
                assert isinstance(self.decoder, DepthDecoder)
                batch = self.decoder.decode(item)
                if len(batch):
                    yield batch
            elif isinstance(item, Control):
                self._control(item)
            else:
                self._books("mark_suspect")

    def _block(self, builder: RowBuilder, block: Block, events: list[dict[str, Any]]) -> list[TableBatch | None]:
        self._ordinal = 0
        if self.decoder is None:
            self._admin(block, events)
            return []
        batch = self.decoder.decode(block)
        if not len(batch):
            return []
        self.seq = int(batch.seq[-1])
        self.lines += len(batch)
        rows: list[TableBatch | None] = []
        if isinstance(batch, DepthBatch):
            assert self.engine is not None
            snapshots = self.engine.apply(batch, "recv" if self.source == "live" else "event")
            rows = [builder.depth_updates(batch.without_pairs()), builder.book_snapshots(snapshots)]
        else:
            rows = [builder.quotes(batch), builder.trades(batch)]
            if isinstance(batch, BarBatch):
                rows.append(builder.history_bars(batch))
        if self._finds_gaps:
            watch_lines(self.gaps, self.symbol_gaps, batch)
        events.extend(builder.line_events(batch))
        return rows

    def _control(self, control: Control) -> dict[str, Any]:
        self._ordinal = self._ordinal + 1 if control.seq == self.seq else 1
        self.seq = control.seq
        if (action := action_on_books(control)) is not None:
            self._books(action)
        elif control.event == HISTORY_REPLY and isinstance(self.decoder, HistoryDecoder):
            symbol, kept = str(control.fields.get("symbol", "")) or None, control.fields.get("kept")
            interval_s = int(control.fields.get("interval_s", 0)) if self.channel == "bars" else 0
            self.decoder.begin_reply(symbol, control.seq, kept, interval_s)
        if self._finds_gaps:
            self.gaps.on_control(control.event, control.fields, control.ts_recv, control.seq)
            if self.symbol_gaps is not None:
                self.symbol_gaps.on_control(control.event, control.fields, control.ts_recv, control.seq)
        return self._event(control.event, control.ts_recv, control.fields)

    def _books(self, action: str) -> None:
        if self.engine is not None:
            getattr(self.engine, action)()

    def _event(self, kind: str, ts: int, detail: dict[str, Any], raw: str = "") -> dict[str, Any]:
        return {
            "seq": self.seq, "ordinal": self._ordinal, "symbol": NO_SYMBOL, "kind": kind, "ts_event": NULL_TS, "ts_recv": ts,
            "detail": json.dumps(detail, separators=(",", ":"), sort_keys=True), "raw": raw,
        }  # fmt: skip

    def _damage(self, damage: Damage, events: list[dict[str, Any]]) -> None:
        self._ordinal += 1
        reason = {"reason": damage.reason, "from": list(damage.position_from), "to": list(damage.position_to)}
        since = self.gaps.last_data
        events.append(self._event("journal_damage", max(since, 0), reason))
        if self._finds_gaps:
            self.gaps.on_damage(self.seq, reason)
        if damage.seq_to > self.seq:
            # The lost lines are told: whoever goes on from here must not find them missing a second time.
            self.seq, self._ordinal = damage.seq_to, 0
        self._books("mark_suspect")

    def _admin(self, block: Block, events: list[dict[str, Any]]) -> None:
        """The admin port: one row when the connection state changes, one for every line that is no statistic."""
        for frame in range(len(block.frame_seq)):
            data = block.buffer[int(block.frame_start[frame]) : int(block.frame_start[frame + 1])].tobytes()
            seq, ts = int(block.frame_seq[frame]), int(block.frame_ts[frame])
            # A cut or overlong line is one line, whatever bytes are in it.
            whole = int(block.frame_flags[frame]) & (FrameFlag.FRAGMENT | FrameFlag.OVERSIZE)
            for line in [data] if whole else data.removesuffix(b"\n").split(b"\n"):
                self.seq, self._ordinal = seq, 0
                seq += 1
                self.lines += 1
                self._admin_line(line.rstrip(b"\r\n"), ts, events)

    def _admin_line(self, line: bytes, ts: int, events: list[dict[str, Any]]) -> None:
        if not line or line.startswith(b"S,CLIENTSTATS"):
            return
        text = line[: self._raw_bytes_max].decode("latin-1")
        fields = text.split(",")
        if not line.startswith(b"S,STATS,") or len(fields) <= _STATS_STATUS:
            events.append(self._event("system", ts, {}, text))
        elif fields[_STATS_STATUS] != self._last_status:
            self._last_status = fields[_STATS_STATUS]
            events.append(self._event("feed_status", ts, {"status": self._last_status, "symbols_max": fields[_STATS_SYMBOLS_MAX]}, text))

    def _builder(self) -> RowBuilder:
        return RowBuilder(self.stream, self.session_date, self.source, self.symbols.names, self._raw_bytes_max)

    def no_rows(self) -> TableBatch:
        """A batch without rows of the current date: it tells a sink whose position is meant."""
        builder = self._builder()
        return builder.table("feed_events", {"seq": np.zeros(0, np.uint64)})

    def dump(self) -> dict[str, Any]:
        """State for a checkpoint: JSON-able but for `books` (bytes)."""
        state = self.freeze()
        books: BookImage | None = state["books"]
        found: SymbolGapsImage | None = state["symbol_gaps"]
        return state | {"books": books.pack() if books is not None else b"", "symbol_gaps": found.pack() if found is not None else None}

    def freeze(self) -> dict[str, Any]:
        """The same with `books` (a BookImage, None without books) and `symbol_gaps` not packed yet: it holds up the reading a
        fraction as long.
        """
        return {
            "version": STATE_VERSION, "stream": self.stream, "session_date": self.session_date, "seq": self.seq,
            "ordinal": self._ordinal, "last_status": self._last_status, "symbols": list(self.symbols.names),
            "decoder": self.decoder.state() if self.decoder is not None else None, "gaps": self.gaps.state(),
            "symbol_gaps": self.symbol_gaps.freeze() if self.symbol_gaps is not None else None,
            "books": self.engine.freeze() if self.engine is not None else None,
        }  # fmt: skip

    def load(self, state: dict[str, Any]) -> None:
        """Undo `dump` on a new pipeline."""
        self.session_date, self.seq = state["session_date"], state["seq"]
        self._ordinal, self._last_status = state["ordinal"], state["last_status"]
        for name in state["symbols"]:
            self.symbols.intern(name)
        if self.decoder is not None and state["decoder"] is not None:
            self.decoder.restore(state["decoder"])
        self._begin_gaps(self.session_date, NULL_TS)
        self.gaps.restore(state["gaps"])
        if self.symbol_gaps is not None:
            self.symbol_gaps.restore(state["symbol_gaps"])
        if self.engine is not None:
            self.engine.load(state["books"])

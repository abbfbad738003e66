"""The judge of a run: what the market sent and the disk promised, against what journal and warehouse hold in the end.

It keeps its own ledger outside the program (`Market`, `Wire`): every message made, every byte that a read handed to the collector, every
frame that was told to be durable. What it needs to know of formats it reads itself; only the rows of other tables than
`depth_updates` are compared with a second, undisturbed pass of the pipeline over the final journal.
"""

import itertools
import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2_platform.collectors.collector import Collector
from l2_platform.delivery.delivery import make_pipeline
from l2_platform.journal.durable import read_durable
from l2_platform.journal.reader import Block, Control, Damage, JournalReader, list_dates, segment_context
from l2_platform.journal.verify import verify
from l2_platform.settings import Settings
from l2_platform.sinks.native import NativeEncoder
from tests.simulation.disk import Disk
from tests.simulation.network import Market, Message, Wire
from tests.simulation.schedule import NS
from tests.simulation.warehouse import POISON, Warehouse, days_of, read_block

LINE = re.compile(rb"3,SYM\d{3},(\d+),,[AB],[^\r\n]*\r")
BOUND_NS = 50_000_000
DAY_NS = 86_400 * NS
SYNC_NS = NS
"""Bytes read longer ago than this are durable on a healthy disk."""
ATTEMPTS_MAX, REQUESTS_MAX = 8, 16
"""In any second: connects to the feed, requests to a warehouse that is down."""


@dataclass(frozen=True)
class Violation:
    """A promise that was broken."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(frozen=True, slots=True)
class Frame:
    """A data frame as the final journal has it."""

    date: int
    seq: int
    count: int
    ts: int
    flags: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """The newest version of a gap."""

    cause: str
    since: int
    until: int | None
    state: str
    symbols: tuple[str, ...]
    days: int
    seq_before: int


class Oracle:
    """Collects violations."""

    def __init__(
        self, root: Path, stream: str, settings: Settings, market: Market, warehouse: Warehouse, disk: Disk
    ) -> None:
        self.violations: list[Violation] = []
        self.clock_stepped = False
        self.healed_at = 0
        self.stopped = False
        self.power_cuts = 0
        self._survived_ns = 0
        self._root, self._stream, self._settings = root, stream, settings
        self._journal = settings.journal_dir
        self._durable = settings.run_dir / "durable" / stream
        self._market, self._warehouse, self._disk = market, warehouse, disk
        self._promised: dict[tuple[int, int], int] = {}
        self._least: dict[int, int] = {}
        """Per wire that was cut short: bytes that must be in the journal whatever happened."""

    def say(self, kind: str, text: str) -> None:
        if len(self.violations) < 20:
            self.violations.append(Violation(kind, text))

    # ── while it runs ──

    def stored_since(self, number: int) -> bool:
        rows = self._warehouse.tables.get("depth_updates", ())
        return any(row["order_id"] >= number for row in rows[-200:])

    def check_bounds(self, collector: Collector) -> None:
        """What is not durable yet is kept in memory: no more than the setting says, and one frame."""
        if collector._recorder is None:
            return
        writer = collector._recorder.writer
        written, durable = writer.written, writer.durable
        journal = self._settings.journal
        if written[:2] == durable[:2] and written.offset - durable.offset > journal.unsynced_bytes_max + journal.recv_bytes + 1000:
            self.say("bound", f"{written.offset - durable.offset} bytes wait for the disk, {journal.unsynced_bytes_max} may")

    def died(self, name: str) -> None:
        """A process was killed: what it wrote is with the kernel, but for the read in its hands."""
        self._disk.trouble()
        if not name.startswith(("collector", "standby")):
            return
        for wire in self._market.wires:
            if wire.owner.startswith(f"{name}-") and not wire.closed and wire.number not in self._least:
                before = wire.reads[-2][1] if len(wire.reads) > 1 else 0
                self._least[wire.number] = wire.received.rfind(b"\n", 0, before) + 1
                wire.closed = True
        self._promised |= self._frames_now(durable_only=False)

    def power_cut(self) -> None:
        """Before the disk forgets: only what was told to be durable is promised from here on."""
        self.power_cuts += 1
        self._check_promises("written before a kill and gone while the machine was up")
        self._promised = self._frames_now(durable_only=True)
        self._check_nothing_ahead()
        disk = self._disk
        bound = disk.schedule.now - SYNC_NS if disk.calm else disk.trouble_began - SYNC_NS
        for wire in self._market.wires:
            read = max((size for at, size in wire.reads if at <= bound), default=0)
            whole = wire.received.rfind(b"\n", 0, read) + 1
            self._least[wire.number] = min(self._least.get(wire.number, whole), whole)
            wire.closed = True

    def power_returned(self) -> None:
        self._check_promises("was told to be durable and did not survive the power cut")
        durable = read_durable(self._durable)
        self._survived_ns = durable.published_ns if durable is not None else 0

    def _check_promises(self, what: str) -> None:
        have = self._frames_now(durable_only=False)
        lost = [key for key, crc in self._promised.items() if have.get(key) != crc]
        if lost:
            self.say("durable", f"{len(lost)} frames, first {min(lost)}: {what}")

    def _frames_now(self, *, durable_only: bool) -> dict[tuple[int, int], int]:
        found = {}
        for date in list_dates(self._journal, self._stream):
            reader = JournalReader(self._journal, self._stream, date, durable_path=self._durable if durable_only else None)
            while items := reader.read(1 << 20):
                for item in items:
                    if isinstance(item, Block):
                        for frame in _frames(item):
                            found[frame.date, frame.seq] = zlib.crc32(frame.payload)
            reader.close()
        return found

    def _check_nothing_ahead(self) -> None:
        durable = read_durable(self._durable)
        if durable is None or durable.published_ns == self._survived_ns:
            return  # nobody has written since the power came back
        day = days_of(durable.position.session_date)
        rows = [row["seq"] for row in self._warehouse.tables.get("depth_updates", ()) if row["session_date"] == day]
        if rows and max(rows) > durable.seq:
            self.say("ahead", f"the warehouse has line {max(rows)}, durable is {durable.seq}")

    # ── the verdict ──

    def judge(self) -> None:
        """Everything that can only be said at the end."""
        items: list[Any] = []
        for date in list_dates(self._journal, self._stream):
            reader = JournalReader(self._journal, self._stream, date)
            while more := reader.read(1 << 20):
                items += more
            reader.close()
        self._check_promises("is not in the final journal")
        for item in items:
            # Behind what was told to be durable a power cut may leave holes; they are gaps like others.
            if isinstance(item, Damage) and not (self.power_cuts and "damaged bytes" in item.reason):
                self.say("damage", item.reason)
        frames = [frame for item in items if isinstance(item, Block) for frame in _frames(item)]
        self._check_seqs(frames)
        if not any(isinstance(item, Damage) for item in items):
            self._check_bytes(items)
        for date in list_dates(self._journal, self._stream):
            for finding in verify(self._journal, self._stream, date):
                if not (self.power_cuts and "damaged bytes" in finding.detail):
                    self.say("verify", str(finding))
        self._check_pace()
        if self.stopped:
            self._check_rows(frames)
            self._check_gaps(frames)

    def _check_seqs(self, frames: list[Frame]) -> None:
        following: dict[int, int] = {}
        for frame in frames:
            if frame.seq < following.get(frame.date, 1) or (frame.seq > following.get(frame.date, 1) and not self.power_cuts):
                self.say("seq", f"{frame.date}: line {frame.seq} where {following.get(frame.date, 1)} was due")
            following[frame.date] = frame.seq + frame.count
            lines = 1 if frame.flags else frame.payload.count(b"\n")
            if lines != frame.count:
                self.say("framing", f"frame {frame.date}/{frame.seq} says {frame.count} lines and holds {lines}")
            if not frame.flags and not frame.payload.endswith(b"\n"):
                self.say("framing", f"frame {frame.date}/{frame.seq} ends in the middle of a line")

    def _check_bytes(self, items: list[Any]) -> None:
        """Each connection's bytes in the journal are the bytes that were read, from the first to where they may end."""
        groups: list[bytearray] = []
        for item in items:
            if isinstance(item, Control) and item.event == "connect":
                groups.append(bytearray())
            elif isinstance(item, Block):
                if not groups:
                    self.say("bytes", "data before any connection")
                    groups.append(bytearray())
                groups[-1] += item.buffer.tobytes()
        waiting = [wire for wire in self._market.wires if wire.received]
        for group in groups:
            if not group:
                continue
            while waiting and not self._fits(waiting[0], bytes(group)):
                self._must_not_miss(waiting.pop(0), b"")
            if not waiting:
                self.say("bytes", f"{bytes(group[:60])!r}… is what no connection handed over")
                return
            waiting.pop(0)
        for wire in waiting:
            self._must_not_miss(wire, b"")

    def _fits(self, wire: Wire, group: bytes) -> bool:
        return wire.received.startswith(group) and len(group) >= self._least.get(wire.number, len(wire.received))

    def _must_not_miss(self, wire: Wire, group: bytes) -> None:
        least = self._least.get(wire.number, len(wire.received))
        if len(group) < least:
            self.say("lost", f"connection {wire.number}: {least} bytes must be in the journal, and are not (as they were read)")

    def _check_pace(self) -> None:
        for name, times, limit in (
            ("connects to the feed", self._market.attempts, ATTEMPTS_MAX),
            ("requests to a warehouse that is down", self._warehouse.refused, REQUESTS_MAX),
        ):
            for first, last in zip(times, times[limit:], strict=False):
                if last - first < NS:
                    self.say("pace", f"{limit + 1} {name} within a second at {first / NS:.3f} s")
                    break

    def _check_rows(self, frames: list[Frame]) -> None:
        """Every table holds exactly the rows of the journal, each once, in order."""
        expected: dict[str, list[tuple[Any, ...]]] = {}
        dates = list_dates(self._journal, self._stream)
        for date in dates:
            pipeline = make_pipeline(self._stream, self._settings, symbol_gaps=True)
            pipeline.begin_date(date, segment_context(self._journal, self._stream, date))
            reader = JournalReader(self._journal, self._stream, date)
            encoder = NativeEncoder()
            while items := reader.read(1 << 20):
                for batch in pipeline.process(items, 0):
                    if len(batch):
                        expected.setdefault(batch.table, []).extend(_plain(read_block(encoder.encode(batch, 0, len(batch)))))
            reader.close()
            for batch in pipeline.end_date(0) if date != dates[-1] else []:
                expected.setdefault(batch.table, []).extend(_plain(read_block(encoder.encode(batch, 0, len(batch)))))
        for table in {*expected, *self._warehouse.tables} - {"delivery_positions"}:
            have = self._not_refused(_plain(self._warehouse.tables.get(table, [])), table)
            want = self._not_refused(expected.get(table, []), table)
            have.sort(key=lambda row: row[0][1])  # dates may be finished while the next begins; the order within one counts
            if have != want:
                self.say("rows", f"{table}: {_difference(have, want)}")
        sent = [
            (days_of(frame.date), frame.seq + place, int(match[1]))
            for frame in frames if not frame.flags
            for place, line in enumerate(frame.payload.split(b"\n")) if (match := LINE.fullmatch(line))
        ]  # fmt: skip
        stored = [(row["session_date"], row["seq"], row["order_id"]) for row in self._warehouse.tables.get("depth_updates", [])]
        stored.sort(key=lambda row: row[0])
        if self._warehouse.poison:
            stored, sent = ([row for row in rows if row[2] % POISON] for rows in (stored, sent))
        if stored != sent:
            self.say("ledger", f"messages: {_difference(stored, sent)}")
        self._check_times()

    def _not_refused(self, rows: list[tuple[Any, ...]], table: str) -> list[tuple[Any, ...]]:
        """Without the rows that the warehouse never takes: they are held by the sink."""
        if not self._warehouse.poison or table != "depth_updates":
            return rows
        return [row for row in rows if dict(row)["order_id"] % POISON]

    def _check_times(self) -> None:
        """Each row has the message's own time, and lies in the session date of that time (but for the moments around midnight)."""
        made = {message.number: message.wall for message in self._market.messages}
        for row in self._warehouse.tables.get("depth_updates", []):
            wall = made.get(row["order_id"], 0)
            if row["ts_event"] is None or abs(row["ts_event"] - wall) > 2000:
                self.say("time", f"message {row['order_id']} was made at {wall} and stored with {row['ts_event']}")
                return
            near = min(wall % DAY_NS, DAY_NS - wall % DAY_NS) < 8 * NS
            if not near and not self.clock_stepped and row["session_date"] != wall // DAY_NS:
                self.say("date", f"message {row['order_id']} of day {wall // DAY_NS} is filed under {row['session_date']}")
                return

    def _check_gaps(self, frames: list[Frame]) -> None:
        heard: dict[int, tuple[int, int, int]] = {}
        for frame in frames:
            if not frame.flags:
                for place, line in enumerate(frame.payload.split(b"\n")):
                    if match := LINE.fullmatch(line):
                        heard[int(match[1])] = days_of(frame.date), frame.seq + place, frame.ts
        gaps = self._gaps()
        missing = [message for message in self._market.messages if message.number not in heard]
        for message in missing:
            if not self._explained(message, gaps, heard):
                self.say("unexplained", f"message {message.number} at {message.at / NS:.3f} s is neither stored nor in a gap")
                break
        if self.clock_stepped:
            return
        for gap in gaps:
            inside = [
                ts for _, _, ts in heard.values() if gap.until is not None and gap.since + BOUND_NS < ts < gap.until - BOUND_NS
            ]
            # After a pause nobody knows when the bytes came that waited: such a gap begins where the pause did.
            held = any(gap.since - 6 * NS <= self._market.clock.wall_of(at) <= (gap.until or 0) for at in self._disk.troubles)
            # A restart in a new date knows only that the date has had nothing: what came late into the old one lies behind midnight.
            rolled = gap.cause in {"restart", "stopped"} and gap.since % DAY_NS == 0
            if gap.state == "closed" and not gap.symbols and len(inside) > 1 and not held and not rolled:
                self.say("gap", f"{len(inside)} messages were received inside a gap ({gap.cause})")

    def _explained(self, message: Message, gaps: list[Gap], heard: dict[int, tuple[int, int, int]]) -> bool:
        if not self.clock_stepped:
            return any(
                gap.since - BOUND_NS <= when and (gap.until is None or when <= gap.until + BOUND_NS)
                for when in (message.wall, message.due)
                for gap in gaps if not gap.symbols
            )  # fmt: skip
        # With a clock that steps only the order of lines says where the hole is.
        before = max((place[:2] for number, place in heard.items() if number < message.number), default=(0, 0))
        after = min((place[:2] for number, place in heard.items() if number > message.number), default=(1 << 40, 0))
        return any(before <= (gap.days, gap.seq_before) <= after for gap in gaps)

    def _gaps(self) -> list[Gap]:
        newest: dict[str, dict[str, Any]] = {}
        for row in self._warehouse.tables.get("gap_events", []):
            if row["version"] >= newest.get(row["gap_id"], row)["version"]:
                newest[row["gap_id"]] = row
        return [
            Gap(
                row["cause"], row["ts_from"], row["ts_to"], row["state"], row["symbols"], row["session_date"], row["seq_before"],
            )
            for row in newest.values() if row["state"] != "withdrawn"
        ]  # fmt: skip


def _frames(block: Block) -> list[Frame]:
    data = block.buffer.tobytes()
    return [
        Frame(block.session_date, int(seq), int(count), int(ts), int(flags), data[begin:end])
        for seq, count, ts, flags, (begin, end) in zip(
            block.frame_seq, block.frame_count, block.frame_ts, block.frame_flags, itertools.pairwise(block.frame_start.tolist()),
            strict=True,
        )
    ]  # fmt: skip


def _plain(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Comparable rows: when they were written does not count."""
    return [(("day", row["session_date"]), *((name, value) for name, value in row.items() if name != "ts_written")) for row in rows]


def _difference(have: list[Any], want: list[Any]) -> str:
    at = next((place for place, pair in enumerate(zip(have, want, strict=False)) if pair[0] != pair[1]), min(len(have), len(want)))
    shown = [json.dumps(rows[at], default=str)[:400] if at < len(rows) else "nothing" for rows in (have, want)]
    return f"{len(have)} stored, {len(want)} wanted; at {at} stored {shown[0]}, wanted {shown[1]}"

"""What must hold after any fault, judged from outside: the market's own ledger against what is stored.

Five quantities, each 0 at rest: missing (acknowledged and not stored), extra (stored and never sent), duplicate (stored twice),
disorder (of one symbol, stored against its order), unexplained (sent, not received, in no recorded gap). Whole rows are compared,
not ids. Beside them: bounds of gaps, bounds of memory, descriptors and threads, time to recover, truth of the status. Lines are
read here in plain Python, with nothing of the platform's decoders. What does not belong here: causing anything.
"""

import itertools
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from l2_platform.delivery.pipeline import Pipeline
from l2_platform.feeds.iqfeed.simulator.ledger import LedgerConnection, read_ledger
from l2_platform.journal.reader import Block, Control, Damage, JournalReader, list_dates
from l2_platform.market.events import NULL_TS
from tests.faults.stack import Stack, Usage
from tests.integration.homes import Home

TOLERANCE_NS = 50_000_000
"""How far the bounds of a gap may be off."""
AWAY_NS = 40_000_000
"""A recorder that does not read for this long does not know when what it reads next had come."""
MEMORY_GROWTH_BYTES = 256 << 20
Row = tuple[Any, ...]


# ── what was received ─────────────────────────────────────────────────────────


@dataclass(slots=True)
class Received:
    """One connection as the journal has it."""

    data: bytearray = field(default_factory=bytearray)
    first_seq: int = 0
    first_ts: int = 0
    last_ts: int = 0
    frames: "array[int]" = field(default_factory=lambda: array("q"))
    """Four numbers a frame: bytes received with it, ts in ns, seq of its first line, flags; an array, since there are millions."""
    connected_ts: int = 0

    def stamps(self) -> "array[int]":
        """When each frame was received, ns."""
        return self.frames[1::4]

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """(seq, line) of every whole line; the rest of a cut line and the parts of an overlong one have numbers, but are none."""
        begin = 0
        for at in range(0, len(self.frames), 4):
            end, _, seq, flags = self.frames[at : at + 4]
            if not flags:
                yield from enumerate(bytes(self.data[begin:end]).split(b"\n")[:-1], seq)
            begin = end


@dataclass(slots=True)
class Journaled:
    """One stream's journal: its connections in order, its controls, what of it cannot be read, the jumps of its numbers."""

    connections: list[Received] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    disorder: int = 0
    """Frames whose first seq does not follow the frame before."""
    last_seq: int = 0

    @property
    def parts(self) -> list[Received]:
        """The connections on which anything was received."""
        return [one for one in self.connections if one.data]

    def events(self, name: str) -> list[Control]:
        """The controls of this name."""
        return [control for control in self.controls if control.event == name]


def journal_items(home: Home, stream: str) -> Iterator[tuple[int, JournalReader, list[Any]]]:
    """(session date, reader, items) of everything durable of a stream, in order."""
    settings = home.settings
    for date in list_dates(settings.journal_dir, stream):
        reader = JournalReader(settings.journal_dir, stream, date, durable_path=settings.run_dir / "durable" / stream)
        while items := reader.read(1 << 22):
            yield date, reader, items


def journaled(home: Home, stream: str) -> Journaled:
    """What the journal has of a stream."""
    found = Journaled()
    conn, expected, day = None, 1, 0
    for date, _, items in journal_items(home, stream):
        if date != day:
            day, expected = date, 1
        for item in items:
            if isinstance(item, Damage):
                found.damage.append(item)
            elif isinstance(item, Control):
                found.controls.append(item)
                if item.event == "connect":
                    found.connections.append(Received(connected_ts=item.ts_recv))
                    conn = item.conn_id
            else:
                expected = _frames(found, item, conn, expected)
    found.last_seq = expected - 1
    return found


def _frames(found: Journaled, block: Block, conn: int | None, expected: int) -> int:
    part = found.connections[-1]
    for frame in range(len(block.frame_seq)):
        assert int(block.frame_conn[frame]) == conn, "bytes of a connection that was never told"
        seq, ts = int(block.frame_seq[frame]), int(block.frame_ts[frame])
        found.disorder += seq != expected
        expected = seq + int(block.frame_count[frame])
        if not part.data:
            part.first_seq, part.first_ts = seq, ts
        part.data += block.buffer[int(block.frame_start[frame]) : int(block.frame_start[frame + 1])].tobytes()
        part.last_ts = ts
        part.frames.extend((len(part.data), ts, seq, int(block.frame_flags[frame])))
    return expected


# ── gaps ──────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class GapRow:
    """The newest version of a recorded gap; `until` is None while it is open."""

    cause: str
    since: int
    until: int | None
    state: str
    symbols: tuple[str, ...] = ()


def gaps_of_journal(home: Home, stream: str) -> list[GapRow]:
    """The gaps that the journal of a stream tells of, by the platform's own rules, withdrawn ones included."""
    newest: dict[str, GapRow] = {}
    for table in pipeline_rows(home, stream, "gap_events"):
        for row in _rows_of(table):
            until = None if row["ts_to"] in {NULL_TS, None} else int(row["ts_to"])
            newest[row["gap_id"]] = GapRow(row["cause"], int(row["ts_from"]), until, row["state"], tuple(row["symbols"]))
    return list(newest.values())


def gaps_of_warehouse(home: Home, stream: str) -> list[GapRow]:
    """The same, from the table `gaps`."""
    found = home.sql(
        "SELECT cause, toString(toUnixTimestamp64Nano(ts_from)) AS t0, toString(toUnixTimestamp64Nano(ts_to)) AS t1, "
        f"toString(state) AS state, symbols FROM gaps WHERE stream = '{stream}' ORDER BY ts_from"
    )
    return [
        GapRow(row["cause"], int(row["t0"]), int(row["t1"]) if row["t1"] else None, row["state"], tuple(row["symbols"]))
        for row in found
    ]


def pipeline_rows(home: Home, stream: str, *names: str) -> list[Any]:
    """The batches of these tables that the platform makes of a stream's journal (all tables when none is named)."""
    pipeline = Pipeline(stream, levels=5, interval_ms=0)
    found = []
    for date, _, items in journal_items(home, stream):
        pipeline.begin_date(date, None)
        found += [table for table in pipeline.process(items, 0) if not names or table.table in names]
    return found


def _rows_of(table: Any) -> Iterator[dict[str, Any]]:
    columns = table.columns
    for number in range(len(columns["seq"])):
        yield {name: column[number] for name, column in columns.items()}


def feed_events(home: Home, stream: str, kind: str | None = None) -> list[dict[str, Any]]:
    """The rows of `feed_events` that a stream's journal gives, in order."""
    rows = itertools.chain.from_iterable(_rows_of(table) for table in pipeline_rows(home, stream, "feed_events"))
    return [row for row in rows if kind is None or row["kind"] == kind]


# ── sent against received ─────────────────────────────────────────────────────


@dataclass(slots=True)
class Account:
    """The five quantities of one stream or table, with its N."""

    name: str
    sent: int = 0
    stored: int = 0
    missing: int = 0
    extra: int = 0
    duplicate: int = 0
    disorder: int = 0
    unexplained: int = 0
    wrong: list[str] = field(default_factory=list)
    """The first things that are wrong, in words."""

    def zero(self) -> "Account":
        """All five are 0; fails with what is wrong."""
        five = (self.missing, self.extra, self.duplicate, self.disorder, self.unexplained)
        assert not any(five), f"{self}"
        return self

    def note(self, text: str) -> None:
        """Keep the first words."""
        if len(self.wrong) < 5:
            self.wrong.append(text)


def pair_connections(parts: Sequence[Received], sent: Sequence[LedgerConnection]) -> list[tuple[LedgerConnection, Received]]:
    """Each ledger connection with what was received of it (an empty part when nothing was): one follows the other in time."""
    left = list(parts)
    pairs = []
    for number, connection in enumerate(sent):
        until = sent[number + 1].connected_ns if number + 1 < len(sent) else 1 << 62
        fits = bool(left) and left[0].first_ts >= connection.connected_ns and left[0].first_ts < until
        pairs.append((connection, left.pop(0) if fits else Received()))
    assert not left, f"{len(left)} connections were received that the market never had"
    return pairs


def ledger_of(stack: Stack, stream: str) -> list[LedgerConnection]:
    """The connections of a stream as the market's ledger has them, in order."""
    service = {"depth": "level2", "level1": "level1", "admin": "admin"}[stream.split("-")[1]]
    found = read_ledger(stack.ledger)
    return [one for one in found if one.service == service and one.data and one.connected_ns >= stack.since_ns]


def close_ledger(stack: Stack, stream: str, gaps: Sequence[GapRow]) -> tuple[Account, Journaled]:
    """What was received is the beginning of what was sent, the rest of each connection lies in a recorded gap."""
    found = journaled(stack.home, stream)
    sent = ledger_of(stack, stream)
    account = Account(stream, disorder=found.disorder, missing=len(found.damage))
    for connection, part in pair_connections(found.parts, sent):
        account.sent += connection.data.count(b"\n")
        account.stored += part.data.count(b"\n")
        if not connection.complete:
            account.note(f"the ledger of connection {connection.number} is full")
            account.unexplained += 1
        if not connection.data.startswith(bytes(part.data)):
            account.extra += 1
            at = next(i for i, (a, b) in enumerate(itertools.zip_longest(part.data, connection.data)) if a != b)
            account.note(f"connection {connection.number} differs from byte {at} on")
            continue
        rest = sent_after(connection, len(part.data))
        if rest is not None and not inside_a_gap(rest, gaps):
            account.unexplained += connection.data.count(b"\n", len(part.data)) or 1
            account.note(f"{len(connection.data) - len(part.data)} bytes sent at {rest} are in no gap of {gaps}")
    return account, found


def sent_after(connection: LedgerConnection, offset: int) -> tuple[int, int] | None:
    """When the first and the last byte from `offset` on were sent, ns; None when nothing was."""
    later = [ts for end, ts in connection.marks if end > offset]
    return (later[0], later[-1]) if len(connection.data) > offset and later else None


def inside_a_gap(span: tuple[int, int], gaps: Sequence[GapRow]) -> bool:
    """The span lies in one recorded gap of the whole stream, give or take 50 ms; a withdrawn gap is none."""
    return any(
        gap.since - TOLERANCE_NS <= span[0] and (gap.until is None or span[1] <= gap.until + TOLERANCE_NS)
        for gap in gaps
        if gap.state != "withdrawn" and not gap.symbols
    )


def gap_errors_ns(found: Journaled, gaps: Sequence[GapRow]) -> list[tuple[int, int]]:
    """Per closed gap between two connections: how far its bounds are from the last byte before and the first frame after, ns.

    A recorder that was away (a busy machine) cannot know when what it read next had come: the gap then begins where it went away,
    and what lies behind must follow a pause and come within a second.
    """
    errors = []
    for gap in gaps:
        if gap.until is None or gap.state == "withdrawn" or gap.symbols:
            continue
        part = max((one for one in found.connections if one.connected_ts <= gap.since + TOLERANCE_NS), key=_connected, default=None)
        after = min((ts for one in found.parts for ts in one.stamps() if ts >= gap.until - TOLERANCE_NS), default=None)
        if part is None or after is None:
            continue
        stamps = part.stamps()
        before = max((ts for ts in stamps if ts <= gap.since + TOLERANCE_NS), default=part.connected_ts)
        late = [ts for ts in stamps if ts > gap.since + TOLERANCE_NS]
        if late and not (late[0] - before >= AWAY_NS and late[-1] - late[0] <= 1_000_000_000):
            before = part.last_ts
        errors.append((gap.since - before, gap.until - after))
    return errors


def _connected(part: Received) -> int:
    return part.connected_ts


# ── rows ──────────────────────────────────────────────────────────────────────


def compare_rows(
    name: str, expected: Sequence[Row], stored: Sequence[Row], symbol: Callable[[Row], str] | None = None
) -> Account:
    """Whole rows against whole rows; the first field of a row is its seq, `stored` is in the order of storage."""
    want, have = Counter(expected), Counter(stored)
    account = Account(name, len(expected), len(stored))
    missing = want - have
    account.missing = sum(missing.values())
    account.extra = sum(count for row, count in have.items() if row not in want)
    account.duplicate = sum(count - max(want[row], 1) for row, count in have.items() if count > max(want[row], 1))
    for row in itertools.islice(missing, 2):
        account.note(f"missing {row}")
    for row in itertools.islice((row for row in have if have[row] > want[row]), 2):
        account.note(f"too often {row}")
    last: dict[str, int] = {}
    for row in stored:
        key = symbol(row) if symbol else ""
        account.disorder += row[0] < last.get(key, 0)
        last[key] = row[0]
    return account


def numbered(parts: Iterable[Received]) -> Iterator[tuple[int, list[str]]]:
    """(seq, fields) of every whole line received."""
    for part in parts:
        for seq, line in part.lines():
            yield seq, line.decode("latin-1").rstrip("\r").split(",")


def expected_depth(parts: Iterable[Received]) -> list[Row]:
    """Rows of `depth_updates` that these lines must give, for streams of orders."""
    expected: list[Row] = []
    for seq, fields in numbered(parts):
        if fields[0] in {"3", "4", "6"} and len(fields) >= 11:
            expected.append((seq, fields[0], fields[1], fields[2], fields[4], float(fields[5]), int(fields[6])))
        elif fields[0] == "5" and len(fields) >= 7:
            expected.append((seq, "5", fields[1], fields[2], fields[4], None, None))
    return expected


def check_depth_rows(home: Home, stream: str, parts: Sequence[Received]) -> Account:
    """`depth_updates` against the received lines."""
    letters = {"add": "3", "update": "4", "delete": "5", "summary": "6"}
    rows = home.sql(
        "SELECT seq, toString(kind) AS kind, symbol, toString(order_id) AS id, side, toString(price) AS price, size "
        f"FROM depth_updates WHERE stream = '{stream}' AND kind != 'clear' ORDER BY seq"
    )
    stored: list[Row] = [
        (row["seq"], letters[row["kind"]], row["symbol"], row["id"], row["side"][0].upper(),
         float(row["price"]) if row["kind"] != "delete" else None, row["size"] if row["kind"] != "delete" else None)
        for row in rows
    ]  # fmt: skip
    return compare_rows("depth_updates", expected_depth(parts), stored)


def expected_level1(parts: Iterable[Received]) -> tuple[list[Row], list[Row]]:
    """Rows of `trades` and of `quotes` that these lines must give."""
    names: list[str] = []
    trades: list[Row] = []
    quotes: list[Row] = []
    for seq, fields in numbered(parts):
        if fields[:2] == ["S", "CURRENT UPDATE FIELDNAMES"]:
            names = ["type", *fields[2:]]
        elif fields[0] in {"Q", "P"}:
            value = dict(zip(names, fields, strict=False))
            contents = value["Message Contents"]
            if fields[0] == "Q" and set(contents) & set("CEO"):
                trades.append((seq, fields[1], int(value["Most Recent Trade Size"]), float(value["Most Recent Trade"])))
            if fields[0] == "P" or set(contents) & set("ab"):
                quotes.append((seq, fields[1], int(value["Bid Size"]), int(value["Ask Size"]), int(fields[0] == "P")))
    return trades, quotes


def check_level1_rows(home: Home, stream: str, parts: Sequence[Received]) -> tuple[Account, Account]:
    """`trades` and `quotes` against the received lines."""
    trades = home.sql(f"SELECT seq, symbol, size, toString(price) AS price FROM trades WHERE stream = '{stream}' ORDER BY seq")
    quotes = home.sql(f"SELECT seq, symbol, bid_size, ask_size, snapshot FROM quotes WHERE stream = '{stream}' ORDER BY seq")
    expected_trades, expected_quotes = expected_level1(parts)
    stored_trades: list[Row] = [(row["seq"], row["symbol"], row["size"], float(row["price"])) for row in trades]
    stored_quotes: list[Row] = [
        (row["seq"], row["symbol"], row["bid_size"], row["ask_size"], row["snapshot"]) for row in quotes
    ]
    return compare_rows("trades", expected_trades, stored_trades), compare_rows("quotes", expected_quotes, stored_quotes)


def check_files(home: Home) -> list[Account]:
    """Every live row of the three tables is one line of its symbol's file, in order, and nothing else is.

    Only live ones: a repair may add rows from history to `trades` while a test goes on, has files of its own for them
    (`jsonl/history`), and brings both to one end only when it ends.
    """
    accounts = []
    for kind, table in (("l2", "book_snapshots"), ("l1", "quotes"), ("ticks", "trades")):
        rows = home.sql(f"SELECT symbol, seq FROM {table} WHERE source = 'live' ORDER BY session_date, seq")
        expected: list[Row] = [(row["seq"], row["symbol"]) for row in rows]
        written: list[Row] = []
        for file in sorted((home.path / "jsonl" / "live").rglob(f"*_{kind}_*.jsonl")):
            for line in file.read_text().splitlines():
                record = json.loads(line)
                written.append((record["seq"], record["symbol"]))
        accounts.append(compare_rows(f"{kind} files", expected, written, symbol=lambda row: str(row[1])))
    return accounts


# ── bounds, recovery, status ──────────────────────────────────────────────────


def within_memory(before: Usage, after: Usage, growth_bytes: int = MEMORY_GROWTH_BYTES) -> None:
    """Resident memory grew by no more than this."""
    grown = after.rss_bytes - before.rss_bytes
    assert grown <= growth_bytes, f"grew by {grown >> 20} MiB, allowed {growth_bytes >> 20}"


def nothing_left_behind(before: Usage, after: Usage, *, descriptors: int = 2, threads: int = 1) -> None:
    """Descriptors and threads are back to the start, give or take what is opened and closed all the time."""
    assert after.descriptors <= before.descriptors + descriptors, f"{before.descriptors} → {after.descriptors} descriptors"
    assert after.threads <= before.threads + threads, f"{before.threads} → {after.threads} threads"


def recovers(stack: Stack, name: str, seconds: float, *, more_than: int | None = None) -> None:
    """It is live again and receives within `seconds`, a generous bound: what is judged is that it comes back by itself."""
    stack.live(name, seconds=seconds)
    before = stack.number(name, "lines") if more_than is None else more_than
    stack.until(f"{name} receives", lambda: (stack.number(name, "lines") or 0) > before, seconds)


def tells_the_truth(stack: Stack, name: str, **expected: Any) -> None:
    """The numbers of its heartbeat become these."""

    def same() -> bool:
        beat = stack.beat(name)
        return beat is not None and all(beat.numbers.get(key) == value for key, value in expected.items())

    stack.until(f"{name} tells {expected}", same, 30)

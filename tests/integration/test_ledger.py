"""The whole path, killed at every joint: what the market sent against what is stored, by the market's own ledger.

Everything is a real process: simulated market, collectors, warehouse, both deliveries. Each of ours is killed with SIGKILL, links are
dropped. In the end every line that the ledger says was sent is either a row with exactly its content, once and in order, or was sent
inside a recorded gap. The lines are read here in plain Python, with nothing of the platform's decoders.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from l2_platform.feeds.iqfeed.simulator.control import ask
from l2_platform.feeds.iqfeed.simulator.ledger import LedgerConnection, read_ledger
from l2_platform.journal.reader import Block, Control, JournalReader, list_dates
from l2_platform.monitoring.heartbeat import read_heartbeat
from tests.integration.homes import L2, Home

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

TOLERANCE_NS = 50_000_000
DEPTH, LEVEL1 = "iqfeed-depth-0", "iqfeed-level1-0"


class Stack:
    """The processes of one home; `kill` is SIGKILL and an immediate restart, as the process manager does it."""

    def __init__(self, home: Home) -> None:
        self.home = home
        module = [sys.executable, "-m"]
        self.commands = {
            "simulator": [str(L2), "simulate"],
            "warehouse": [*module, "l2_platform.warehouse.server"],
            "collector-iqfeed-depth-0": [*module, "l2_platform.collectors", DEPTH, "--wait"],
            "collector-iqfeed-level1-0": [*module, "l2_platform.collectors", LEVEL1, "--wait"],
            "deliver-clickhouse": [*module, "l2_platform.delivery", "clickhouse", "--wait"],
            "deliver-jsonl": [*module, "l2_platform.delivery", "jsonl", "--wait"],
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        self.processes[name] = self.home.start(*self.commands[name], log=name)

    def kill(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait(30)
        self.start(name)

    def beat(self, name: str) -> Any:
        """The heartbeat of the present process, None while it has none."""
        record = read_heartbeat(self.home.path / "run" / "heartbeats" / f"{name}.json")
        return record if record and record.pid == self.processes[name].pid else None

    def until(self, what: str, reached: Callable[[], Any], seconds: float = 180) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := reached()):
            for name, process in self.processes.items():
                assert process.poll() is None, f"{name} ended:\n{(self.home.path / f'{name}.out').read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
            time.sleep(0.1)
        return found

    def live(self, *names: str) -> None:
        def all_live() -> bool:
            return all((beat := self.beat(name)) is not None and beat.state == "live" for name in names)

        self.until(f"{', '.join(names)} live", all_live)

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.terminate()
        assert process.wait(60) == 0, f"{name}:\n{(self.home.path / f'{name}.out').read_text()[-3000:]}"


@pytest.fixture
def stack(tmp_path: Path, numba_cache: Path) -> Iterator[Stack]:
    variables = {
        "L2_SIMULATOR__SYMBOLS": "15", "L2_SIMULATOR__RATE": "1200", "L2_SIMULATOR__LEDGER_BYTES_MAX": str(1 << 30),
        "L2_DELIVERY__CHECKPOINT_S": "1", "L2_JSONL__SYNC_S": "0.3", "L2_JSONL__L2_INTERVAL_MS": "0",
        "L2_FEED__SILENCE_S": "4", "L2_FEED__SUSPECT_S": "2",
    }  # fmt: skip
    # No session may end while the test runs: the simulated market's rolls at 00:00 UTC, New York's an hour or more later.
    last_hour = time.gmtime().tm_hour == 23
    variables["L2_SESSION__CALENDAR"] = "XNYS" if last_hour else "always_open"
    found = Stack(Home(tmp_path, numba_cache, variables))
    yield found
    for process in found.processes.values():
        process.kill()
        process.wait()


def received(home: Home, stream: str) -> tuple[dict[int, bytes], dict[int, int]]:
    """Bytes per connection as journaled, in order of the connections, and the first seq of each."""
    settings = home.settings
    data: dict[int, bytearray] = {}
    first: dict[int, int] = {}
    key, last = 0, None
    for date in list_dates(settings.journal_dir, stream):
        reader = JournalReader(settings.journal_dir, stream, date, durable_path=settings.run_dir / "durable" / stream)
        while items := reader.read(1 << 22):
            for item in items:
                if isinstance(item, Control):
                    if item.event == "connect":
                        key, last = key + 1, item.conn_id
                    continue
                assert isinstance(item, Block), item
                for frame in range(len(item.frame_seq)):
                    assert last is None or int(item.frame_conn[frame]) == last
                    start, stop = int(item.frame_start[frame]), int(item.frame_start[frame + 1])
                    first.setdefault(key, int(item.frame_seq[frame]))
                    data.setdefault(key, bytearray()).extend(item.buffer[start:stop].tobytes())
    return {number: bytes(part) for number, part in data.items()}, first


def sent_after(connection: LedgerConnection, offset: int) -> tuple[int, int] | None:
    """When the first and the last byte from `offset` on were sent, ns; None when nothing was."""
    later = [ts for end, ts in connection.marks if end > offset]
    return (later[0], later[-1]) if len(connection.data) > offset and later else None


def check_connections(home: Home, stream: str, service: str, gaps: list[dict[str, Any]]) -> tuple[dict[int, bytes], dict[int, int]]:
    """What was received is the beginning of what was sent; the rest was sent inside a recorded gap."""
    parts, first = received(home, stream)
    connections = [one for one in read_ledger(home.path / "simulator" / "ledger") if one.service == service and one.data]
    assert len(parts) == len(connections)
    for part, connection in zip(parts.values(), connections, strict=True):
        assert connection.data.startswith(part)
        rest = sent_after(connection, len(part))
        if rest is not None:
            inside = [gap for gap in gaps if gap["t0"] - TOLERANCE_NS <= rest[0] and rest[1] <= gap["t1"] + TOLERANCE_NS]
            assert inside, f"{stream}: {len(connection.data) - len(part)} bytes sent at {rest} are in no gap of {gaps}"
    return parts, first


def test_every_line_sent_is_a_row_or_inside_a_recorded_gap(stack: Stack) -> None:
    home = stack.home
    home.settings.symbols_file.write_text(
        "version = 1\n\n[groups.demo]\nenabled = true\nsymbols = " + json.dumps([f"SYM{number:03d}" for number in range(15)]) + "\n"
    )
    stack.start("simulator")
    stack.live("simulator")
    stack.start("warehouse")
    stack.live("warehouse")
    workers = [name for name in stack.commands if name not in {"simulator", "warehouse"}]
    for name in workers:
        stack.start(name)
    stack.live(*workers)
    port = home.settings.ports.simulator_control
    time.sleep(2)
    for name in ("collector-iqfeed-depth-0", "deliver-clickhouse", "collector-iqfeed-level1-0", "warehouse", "deliver-jsonl"):
        stack.kill(name)
        time.sleep(1.5)
    stack.live(*workers)
    for how in ("fin", "rst", "mid_line"):
        for channel in ("depth", "level1"):
            assert ask(port, {"cmd": "drop", "channel": channel, "how": how})["ok"]
        time.sleep(2)
    assert ask(port, {"cmd": "garbage", "channel": "depth", "lines": 5})["ok"]
    assert ask(port, {"cmd": "half_open", "channel": "depth"})["ok"]
    stack.until("reconnect after silence", lambda: (beat := stack.beat("collector-iqfeed-depth-0")) and beat.numbers["disconnects"] >= 1)
    time.sleep(6)
    stack.live(*workers)
    for name in ("collector-iqfeed-depth-0", "collector-iqfeed-level1-0"):
        stack.stop(name)
    last = {stream: max(first) for stream, first in ((DEPTH, [0]), (LEVEL1, [0]))}
    for stream in last:
        parts, first = received(home, stream)
        last[stream] = max(first.values()) + parts[max(parts)].count(b"\n") - 1

    def drained() -> bool:
        beats = [stack.beat(name) for name in ("deliver-clickhouse", "deliver-jsonl")]
        return all(
            beat and beat.numbers["streams"].get(stream, {}).get("seq", 0) >= seq for beat in beats for stream, seq in last.items()
        )

    stack.until("deliveries at the journal's end", drained)
    for name in ("deliver-clickhouse", "deliver-jsonl", "warehouse", "simulator"):
        stack.stop(name)

    found = home.sql(
        "SELECT stream, cause, toString(toUnixTimestamp64Nano(ts_from)) AS t0, "
        "toString(toUnixTimestamp64Nano(ifNull(ts_to, now64(9)))) AS t1 FROM gaps WHERE state != 'withdrawn'"
    )
    gaps = {
        stream: [{"t0": int(gap["t0"]), "t1": int(gap["t1"]), "cause": gap["cause"]} for gap in found if gap["stream"] == stream]
        for stream in (DEPTH, LEVEL1)
    }
    assert {"restart", "disconnect", "silence"} <= {gap["cause"] for gap in gaps[DEPTH]}

    depth_parts, depth_first = check_connections(home, DEPTH, "level2", gaps[DEPTH])
    level1_parts, level1_first = check_connections(home, LEVEL1, "level1", gaps[LEVEL1])
    check_depth_rows(home, depth_parts, depth_first)
    check_level1_rows(home, level1_parts, level1_first)
    check_files(home)


def numbered(parts: dict[int, bytes], first: dict[int, int]) -> Iterator[tuple[int, list[str]]]:
    """(seq, fields) of every received line; the rest of a cut line counts as one."""
    for number, data in parts.items():
        lines = data.split(b"\n")
        for offset, line in enumerate(lines if lines[-1] else lines[:-1]):
            whole = offset < len(lines) - 1
            yield first[number] + offset, line.decode("latin-1").rstrip("\r").split(",") if whole else ["fragment"]


def check_depth_rows(home: Home, parts: dict[int, bytes], first: dict[int, int]) -> None:
    letters = {"add": "3", "update": "4", "delete": "5", "summary": "6"}
    rows = home.sql(
        f"SELECT seq, toString(kind) AS kind, symbol, toString(order_id) AS id, side, toString(price) AS price, size "
        f"FROM depth_updates WHERE stream = '{DEPTH}' AND kind != 'clear' ORDER BY seq"
    )
    stored = [
        (row["seq"], letters[row["kind"]], row["symbol"], row["id"], row["side"][0].upper().replace("B", "B"),
         float(row["price"]) if row["kind"] != "delete" else None, row["size"] if row["kind"] != "delete" else None)
        for row in rows
    ]  # fmt: skip
    expected = []
    for seq, fields in numbered(parts, first):
        if fields[0] in {"3", "4", "6"} and len(fields) >= 11:
            expected.append((seq, fields[0], fields[1], fields[2], fields[4], float(fields[5]), int(fields[6])))
        elif fields[0] == "5" and len(fields) >= 7:
            expected.append((seq, "5", fields[1], fields[2], fields[4], None, None))
    assert len(expected) > 5000
    assert len(stored) == len(expected)
    assert stored == expected


def check_level1_rows(home: Home, parts: dict[int, bytes], first: dict[int, int]) -> None:
    trades = home.sql(f"SELECT seq, symbol, size, toString(price) AS price FROM trades WHERE stream = '{LEVEL1}' ORDER BY seq")
    quotes = home.sql(f"SELECT seq, symbol, bid_size, ask_size, snapshot FROM quotes WHERE stream = '{LEVEL1}' ORDER BY seq")
    names: list[str] = []
    expected_trades, expected_quotes = [], []
    for seq, fields in numbered(parts, first):
        if fields[:2] == ["S", "CURRENT UPDATE FIELDNAMES"]:
            names = ["type", *fields[2:]]
        elif fields[0] in {"Q", "P"}:
            value = dict(zip(names, fields, strict=False))
            contents = value["Message Contents"]
            if fields[0] == "Q" and set(contents) & set("CEO"):
                size, price = int(value["Most Recent Trade Size"]), float(value["Most Recent Trade"])
                expected_trades.append((seq, fields[1], size, price))
            if fields[0] == "P" or set(contents) & set("ab"):
                expected_quotes.append((seq, fields[1], int(value["Bid Size"]), int(value["Ask Size"]), int(fields[0] == "P")))
    assert len(expected_trades) > 100
    assert [(row["seq"], row["symbol"], row["size"], float(row["price"])) for row in trades] == expected_trades
    assert [
        (row["seq"], row["symbol"], row["bid_size"], row["ask_size"], row["snapshot"]) for row in quotes
    ] == expected_quotes


def check_files(home: Home) -> None:
    """Every row of the three tables is one line of its symbol's file, in order, and nothing else is."""
    for kind, table in (("l2", "book_snapshots"), ("l1", "quotes"), ("ticks", "trades")):
        stored: dict[str, list[int]] = {}
        for row in home.sql(f"SELECT symbol, seq FROM {table} ORDER BY session_date, seq"):
            stored.setdefault(row["symbol"], []).append(row["seq"])
        written: dict[str, list[int]] = {}
        for file in sorted((home.path / "jsonl" / "live").rglob(f"*_{kind}_*.jsonl")):
            for line in file.read_text().splitlines():
                record = json.loads(line)
                written.setdefault(record["symbol"], []).append(record["seq"])
        assert written == stored, kind

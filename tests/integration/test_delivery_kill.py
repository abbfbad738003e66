"""Delivery and warehouse killed with SIGKILL at random moments: in the end rows, lines and books are those of a run without kills.

The journal is written by the collector's own writer while the kills happen. The numbers are small here; `TEST_KILLS`,
`TEST_SYMBOLS` and `TEST_ROUNDS` raise them, and `TEST_RECORDED=1` takes the recorded hour, each line once for every symbol, instead
of generated flow (docs/decisions/0004 has the figures of a long run).
"""

import gzip
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from l2_platform.clock import SystemClock
from l2_platform.journal.writer import JournalWriter
from l2_platform.monitoring.heartbeat import read_heartbeat
from tests.integration.homes import Home

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

KILLS = int(os.environ.get("TEST_KILLS", "8"))
SYMBOLS = int(os.environ.get("TEST_SYMBOLS", "40"))
CLOCK = SystemClock()
ROUNDS = int(os.environ.get("TEST_ROUNDS", str(400 + 250 * KILLS)))
STREAM = "iqfeed-depth-0"
DATE = 20240102
TABLES = {
    "depth_updates": "stream, session_date, seq, symbol, ts_event, ts_recv, kind, side, price, size, order_id, mmid, trust, snapshot",
    "book_snapshots": "seq, symbol, ts_event, trust, bid_px, bid_sz, bid_ct, ask_px, ask_sz, ask_ct, total_bid_size",
    "feed_events": "seq, ordinal, kind, symbol, detail, raw",
    "gap_events": "seq, ordinal, gap_id, cause, ts_from, ts_to, state, version",
}


def flow(seed: int, rounds: int) -> Iterator[bytes]:
    """Rounds of order flow, each for every symbol: chunks of whole lines."""
    rng = random.Random(seed)
    live: list[list[tuple[int, str]]] = [[] for _ in range(SYMBOLS)]
    number = 0
    for step in range(rounds):
        lines = []
        for symbol, orders in enumerate(live):
            number += 1
            stamp = f"10:{step // 600 % 60:02d}:{step // 10 % 60:02d}.{step % 10}00000,2024-01-02,"
            choice = rng.random()
            if choice < 0.6 or not orders:
                side = rng.choice("AB")
                price = 50 + symbol + rng.randint(1, 60) / 100 * (1 if side == "A" else -1)
                orders.append((number, side))
                lines.append(f"3,S{symbol:03d},{number},,{side},{price:.4f},{rng.randint(1, 500)},{number},4,{stamp}")
            else:
                order, side = orders.pop(rng.randrange(len(orders)))
                lines.append(f"5,S{symbol:03d},{order},,{side},{stamp}")
        if step % 97 == 0:
            lines.append("3,BROKEN,line")
        yield ("\r\n".join(lines) + "\r\n").encode()


def recorded(folder: Path) -> Iterator[bytes]:
    """The recorded hour, order by order: chunks of one line of it for every symbol."""
    with gzip.open(folder / "aapl_2012-06-21_depth_by_order.iqfeed.txt.gz", "rb") as file:
        for line in islice(file, ROUNDS):
            yield b"".join(line.replace(b",AAPL,", b",S%03d," % symbol, 1) for symbol in range(SYMBOLS))


class Rig:
    """A home with its warehouse and one delivery of each kind, all restartable."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.commands = {
            "warehouse": [sys.executable, "-m", "l2_platform.warehouse.server"],
            "deliver-clickhouse": [sys.executable, "-m", "l2_platform.delivery", "clickhouse", "--wait"],
            "deliver-jsonl": [sys.executable, "-m", "l2_platform.delivery", "jsonl", "--wait"],
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        self.processes[name] = self.home.start(*self.commands[name], log=name)

    def kill(self, name: str) -> None:
        process = self.processes[name]
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        self.start(name)

    def wait_for(self, seq: int, seconds: float) -> None:
        """Until both deliveries have the stream's last line; processes that ended are a failure."""
        deadline = time.monotonic() + seconds
        waiting = ["deliver-clickhouse", "deliver-jsonl"]
        while waiting:
            for name in list(waiting):
                assert self.processes[name].poll() is None, (self.home.path / f"{name}.out").read_text()[-3000:]
                record = read_heartbeat(self.home.path / "run" / "heartbeats" / f"{name}.json")
                numbers = record.numbers.get("streams", {}).get(STREAM, {}) if record else {}
                mine = record is not None and record.pid == self.processes[name].pid
                if mine and numbers.get("seq", 0) >= seq and not numbers.get("failures"):
                    waiting.remove(name)
            assert time.monotonic() < deadline, f"{waiting} did not reach {seq}: {record}"
            time.sleep(0.1)

    def stop(self) -> None:
        for name in ("deliver-clickhouse", "deliver-jsonl", "warehouse"):
            process = self.processes.pop(name)
            process.terminate()
            assert process.wait(60) == 0, (self.home.path / f"{name}.out").read_text()[-3000:]


def content(home: Home) -> dict[str, str]:
    """A hash per table over all columns in key order, and one per file."""
    found = {}
    for table, columns in TABLES.items():
        order = "seq, ordinal, version" if table == "gap_events" else "seq, ordinal" if table == "feed_events" else "seq"
        query = (
            f"SELECT count() AS rows, toString(groupBitXor(cityHash64(tuple(number, {columns})))) AS hash FROM "
            f"(SELECT *, rowNumberInAllBlocks() AS number FROM (SELECT * FROM {table} WHERE stream = '{STREAM}' ORDER BY {order}))"
        )
        (row,) = home.sql(query)
        found[table] = f"{row['rows']} {row['hash']}"
    for file in sorted((home.path / "jsonl").rglob("*.jsonl")):
        found[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def test_random_sigkills_leave_the_same_rows_lines_and_books(
    tmp_path: Path, numba_cache: Path, request: pytest.FixtureRequest
) -> None:
    quick = {"L2_DELIVERY__CHECKPOINT_S": "0.3", "L2_DELIVERY__FLUSH_MS": "20", "L2_JSONL__SYNC_S": "0.2", "L2_FEED__KIND": "iqfeed"}
    home = Home(tmp_path / "killed", numba_cache, quick)
    settings = home.settings
    durable = settings.run_dir / "durable" / STREAM
    writer = JournalWriter(
        settings.journal_dir, STREAM, settings.journal, CLOCK, calendar="XNYS", durable_path=durable
    )
    writer.open(DATE)
    rig = Rig(home)
    for name in rig.commands:
        rig.start(name)
    rng = random.Random(20240102)
    now = CLOCK.now_ns()
    writer.control("session", now, 0, session_date=DATE, reset=True)
    writer.control("collector_start", now, 0, pid=1, clean=True, last_ts=None, lost_tail_bytes=0)
    real = os.environ.get("TEST_RECORDED") == "1"
    chunks = recorded(request.getfixturevalue("market_data")) if real else flow(5, ROUNDS)
    seq = 0

    def write(count: int) -> None:
        nonlocal seq
        for _ in range(count):
            chunk = next(chunks, None)
            if chunk is None:
                return
            lines = chunk.count(b"\n")
            seq = writer.append(chunk, lines, CLOCK.now_ns(), 1) + lines - 1

    write(200)
    rig.wait_for(seq, 600)
    for number in range(KILLS):
        if number % 4 == 2:
            writer.control("disconnect", CLOCK.now_ns(), 1, reason="fin", last_byte_ns=CLOCK.now_ns())
            writer.control("connect", CLOCK.now_ns(), 2, host="127.0.0.1", port=1, attempt=1)
            writer.control("subscribed", CLOCK.now_ns(), 2, symbols=SYMBOLS)
        until = time.monotonic() + rng.uniform(0.1, 2.5)
        while time.monotonic() < until:
            write(5)
            time.sleep(0.02)
        rig.kill(rng.choice(sorted(rig.commands)))
    write(10**9)
    writer.control("collector_stop", CLOCK.now_ns(), 1, reason="sigterm")
    writer.close()
    rig.wait_for(seq, 600)
    rig.stop()
    killed = content(home)

    calm = Home(tmp_path / "calm", numba_cache, quick)
    (calm.path / "journal").symlink_to(settings.journal_dir)
    (calm.path / "run").mkdir()
    (calm.path / "run" / "durable").symlink_to(settings.run_dir / "durable")
    other = Rig(calm)
    for name in other.commands:
        other.start(name)
    other.wait_for(seq, 600)
    other.stop()
    expected = content(calm)
    assert expected["depth_updates"].split()[0] != "0"
    assert killed == expected
    (counted,) = home.sql("SELECT count() AS rows, uniqExact(seq) AS seqs, max(seq) AS last FROM depth_updates")
    assert counted["rows"] == counted["seqs"]
    broken = 0 if real else (ROUNDS + 96) // 97
    assert counted["last"] - counted["rows"] == broken

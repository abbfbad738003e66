"""Gaps of single symbols from the feed's socket to the ledger: a watch that dies, lines that are lost, and what the commands tell."""

import csv
import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from l2_platform.clock import SystemClock
from tests.faults.checkers import TOLERANCE_NS, Received, journaled, ledger_of, pair_connections
from tests.faults.stack import LEVEL1, LEVEL1_COLLECTOR, Stack, simulated, stack_of

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]
WORKERS = (LEVEL1_COLLECTOR, "deliver-clickhouse")
SILENT = "SYM003"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, numba_cache: Path) -> Iterator[Stack]:
    """A market that lost a watch of one symbol for some seconds, and later a hundred lines of all of them."""
    # so few pauses know little of longer ones: at the default a silence of this market is told after a minute only
    chosen = {
        "simulator__symbols": 10, "simulator__rate": 1500, "feed__rewatch_s": 20, "gaps__halts": "halts.csv",
        "gaps__false_alarms_per_day": 1,
    }  # fmt: skip
    with stack_of(tmp_path_factory.mktemp("home"), numba_cache, **chosen) as found:
        found.symbols(simulated(10))
        for name in ("simulator", "warehouse"):
            found.start(name)
            found.live(name)
        found.start(*WORKERS)
        found.live(*WORKERS)
        time.sleep(8)
        _silence(found)
        found.until("it is over", lambda: [gap for gap in gaps(found, "symbol_silence") if gap["state"] != "open"], 180)
        found.market("lose", channel="level1", lines=100)
        found.until("losses are told", lambda: gaps(found, "missing_prints"), 180)
        time.sleep(5)
        found.stop(LEVEL1_COLLECTOR)
        time.sleep(2)
        yield found


def _silence(found: Stack) -> None:
    """Let a watch die until its silence is told: each is renewed once in `rewatch_s`, and one that dies right before lacks a moment."""
    for _ in range(10):
        found.market("silent_symbol", symbol=SILENT, channel="level1")
        for _ in range(60):
            if gaps(found, "symbol_silence"):
                return
            time.sleep(0.25)
    pytest.fail("the silence was never told")


def gaps(stack: Stack, cause: str) -> list[dict[str, Any]]:
    text = (
        "SELECT gap_id, symbols, state, evidence, toString(toUnixTimestamp64Nano(ts_from)) AS since, "
        "toString(toUnixTimestamp64Nano(ts_to)) AS until, "
        f"explanation FROM gaps WHERE stream = '{LEVEL1}' AND cause = '{cause}' ORDER BY ts_from"
    )
    return stack.rows(text)


def test_a_watch_that_died_is_a_silence_of_its_symbol_with_what_was_lost(stack: Stack) -> None:
    (gap,) = [gap for gap in gaps(stack, "symbol_silence") if gap["symbols"] == [SILENT]]
    evidence = json.loads(gap["evidence"])
    assert gap["state"] == "closed"
    assert evidence["counters"] == "broken"
    assert evidence["prints_missing"] > 0
    # nothing came between its bounds
    inside = stack.rows(
        f"SELECT toString(count()) AS n FROM trades WHERE stream = '{LEVEL1}' AND symbol = '{SILENT}' "
        f"AND toUnixTimestamp64Nano(ts_recv) > {gap['since']} AND toUnixTimestamp64Nano(ts_recv) < {gap['until']}"
    )
    assert inside == [{"n": "0"}]


def test_what_the_ledger_says_is_missing_is_exactly_what_the_totals_miss(stack: Stack) -> None:
    """Sum of the stored sizes + missing volume of the ledger = the feed's own total, for every symbol."""
    missing: dict[str, int] = {}
    for cause in ("symbol_silence", "missing_prints"):
        for gap in gaps(stack, cause):
            evidence = json.loads(gap["evidence"])
            if gap["state"] == "closed" and "volume_missing" in evidence:
                assert len(gap["symbols"]) == 1
                (name,) = gap["symbols"]
                missing[name] = missing.get(name, 0) + int(evidence["volume_missing"])
    rows = stack.rows(
        "SELECT symbol, toString(argMax(total_volume, seq) - argMin(total_volume - size, seq) - sum(size)) AS lost FROM trades "
        f"WHERE stream = '{LEVEL1}' GROUP BY symbol"
    )
    assert {row["symbol"]: int(row["lost"]) for row in rows if int(row["lost"])} == missing
    assert SILENT in missing
    assert len(missing) > 3


def test_a_halt_explains_a_silence_but_not_a_loss(stack: Stack) -> None:
    day = _date(stack)
    header = "Halt Date,Halt Time,Issue Symbol,Reason Codes,Resumption Date,Resumption Trade Time\n"
    begin = datetime.fromtimestamp(SystemClock().now_ns() / 1e9, ZoneInfo("America/New_York")) - timedelta(hours=1)
    row = f"{begin:%m/%d/%Y},{begin:%H:%M:%S},{SILENT},T1,,\n"
    (stack.home.path / "halts.csv").write_text(header + row)
    stack.home.ok("gaps", "explain", "--date", day)
    assert [gap["explanation"] for gap in gaps(stack, "symbol_silence") if gap["symbols"] == [SILENT]] == [""]
    (stack.home.path / "halts.csv").write_text(header + row.replace("T1,,", "T1,x,25:61"))
    done = stack.home.run("gaps", "explain", "--date", day)
    assert done.returncode == 2
    assert "halts.csv, line 2, Resumption Date: 'x' is no date" in done.stderr.replace("\n", " ")


def test_a_gap_is_told_in_words_and_the_ledger_is_exported(stack: Stack, tmp_path: Path) -> None:
    day = _date(stack)
    (gap,) = [gap for gap in gaps(stack, "symbol_silence") if gap["symbols"] == [SILENT]]
    text = stack.home.ok("gaps", "explain", gap["gap_id"])
    parts = ("improbably long", SILENT, "the counters show a loss", "prints are missing", "version 1", "version 2", "nothing was tried")
    for part in parts:
        assert part in text, text
    assert len(json.loads(stack.home.ok("gaps", "explain", gap["gap_id"], "--json"))) == 2
    assert stack.home.run("gaps", "explain", "ffff").returncode == 2
    assert stack.home.run("gaps", "explain").returncode == 2
    listed = json.loads(stack.home.ok("gaps", "--date", day, "--json"))
    assert {row["alert"] for row in listed if row["gap_id"] == gap["gap_id"]} == {"warn"}
    counts = set()
    for kind in ("csv", "jsonl", "parquet"):
        file = tmp_path / f"gaps.{kind}"
        stack.home.ok("gaps", "export", "--format", kind, "--date", day, str(file))
        if kind == "csv":
            rows: Any = list(csv.DictReader(file.read_text().splitlines()))
        elif kind == "jsonl":
            rows = [json.loads(line) for line in file.read_text().splitlines()]
        else:
            rows = pl.read_parquet(file).to_dicts()
        counts.add(len(rows))
        found = next(row for row in rows if row["gap_id"] == gap["gap_id"])
        assert (int(found["ts_from"]), found["symbols"], found["state"]) == (int(gap["since"]), SILENT, "closed")
    assert counts == {len(listed)}


def _date(stack: Stack) -> str:
    return str(stack.rows(f"SELECT max(toString(session_date)) AS day FROM gaps WHERE stream = '{LEVEL1}'")[0]["day"])


def test_bounds_of_losses_are_those_of_the_feeds_own_record(stack: Stack) -> None:
    """What the market sent, kept by the market: each loss lies between two lines that follow each other there, and the bounds are when
    these two were received.
    """
    found = journaled(stack.home, LEVEL1)
    sent, losses = ledger_of(stack, LEVEL1), 0
    missing = [gap for gap in gaps(stack, "missing_prints") if gap["state"] == "closed" and gap["symbols"] != [SILENT]]
    for connection, part in pair_connections(found.parts, sent):
        assert connection.data.startswith(bytes(part.data))
        stamps = _stamps(part)
        for name, before, after in _holes(connection.data, part):
            (gap,) = [gap for gap in missing if gap["symbols"] == [name] and abs(int(gap["since"]) - stamps[before]) <= TOLERANCE_NS]
            assert abs(int(gap["until"]) - stamps[after]) <= TOLERANCE_NS
            losses += 1
    assert losses == len(missing) > 3


def _stamps(part: Received) -> dict[int, int]:
    """Number of a line on its connection → when it was received, ns."""
    found, number, begin = {}, 0, 0
    for at in range(0, len(part.frames), 4):
        end, ts = part.frames[at], part.frames[at + 1]
        for _ in range(part.data.count(b"\n", begin, end)):
            found[number] = ts
            number += 1
        begin = end
    return found


def _holes(data: bytes, part: Received) -> list[tuple[str, int, int]]:
    """(symbol, number of the line before, and of the line after) where the total volume goes further than the sizes of the prints."""
    received = part.data.count(b"\n")
    volumes: dict[str, tuple[int, int]] = {}
    holes = []
    columns: list[str] = []
    for number, line in enumerate(data.split(b"\n")[:received]):
        fields = line.decode("latin-1").rstrip("\r").split(",")
        if fields[:2] == ["S", "CURRENT UPDATE FIELDNAMES"]:
            columns = ["", *fields[2:]]
        if fields[0] not in {"Q", "P"} or not columns:
            continue
        row = dict(zip(columns, fields, strict=False))
        name, total = row["Symbol"], int(row["Total Volume"])
        print_size = int(row["Most Recent Trade Size"]) if fields[0] == "Q" and set(row["Message Contents"]) & set("CEO") else 0
        before = volumes.get(name)
        # the silence of the other test is told by a cause of its own
        if before is not None and total - print_size > before[0] and name != SILENT:
            holes.append((name, before[1], number))
        volumes[name] = (total, number)
    return holes
